"""Key requests: API keys as their managers make, show, change, rotate and delete them.

Who may: a key with the permission to manage keys, and only keys that have no more than itself.  Both are
looked up again in the transaction that makes the change, so two changes at once cannot get around them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import msgspec
from msgspec import UNSET

from warehouse.actors.control.account_requests import account_id_of
from warehouse.actors.control.context import MasterContext, now_ms
from warehouse.actors.control.key_secrets import KeySecrets
from warehouse.actors.control.key_wishes import (
    changed_key,
    check_imported,
    key_info,
    new_key,
    require_within,
)
from warehouse.actors.control.live_keys import LiveKeys
from warehouse.actors.control.routes import Routes
from warehouse.actors.control.sessions import KEY_CHANGED, ClientSession, Sessions
from warehouse.auth.keys import generate_api_key
from warehouse.auth.rights import Permission, Rights
from warehouse.catalog.identities import KEYS_MAX, ApiKeyRow
from warehouse.catalog.interface import Transaction
from warehouse.catalog.records import BucketRow
from warehouse.errors import BadRequest, NoSuchApiKey, NoSuchBucket, NotAuthenticated
from warehouse.transport.messages import (
    CreateKey,
    DeleteKey,
    Done,
    EditKey,
    ImportKey,
    KeyCreated,
    KeyInfo,
    Keys,
    KeyShown,
    KeyWish,
    ListKeys,
    RotateKey,
    ShowKey,
)
from warehouse.transport.messages.paging import first_that_fit, fitting_sizes
from warehouse.transport.zeromq.peers import Peer

PAGE_MAX = 200  # keys in one answer
GRANTS_MAX = 4096  # of the keys in one answer: each is put into words, and the loop waits
KEYS_RESERVED = KEYS_MAX // 4  # for those who manage keys of the whole store, and not of some buckets
OVERLAP_S_MAX = 30 * 86_400.0
ANSWER_S = 0.25  # how long an answer takes to leave

T = TypeVar("T")


class KeyHandlers:
    def __init__(
        self, context: MasterContext, sessions: Sessions, *, keys: LiveKeys, secrets: KeySecrets
    ) -> None:
        self._catalog = context.catalog
        self._sessions = sessions
        self._keys = keys
        self._secrets = secrets

    def routes(self) -> Routes:
        return (
            Routes()
            .later(CreateKey, self.create)
            .later(ImportKey, self.import_)
            .now(ShowKey, self.show)
            .now(ListKeys, self.list_keys)
            .later(EditKey, self.edit)
            .later(RotateKey, self.rotate)
            .later(DeleteKey, self.delete)
        )

    # --- new keys ---------------------------------------------------------------------------------

    async def create(self, peer: Peer, request: CreateKey) -> KeyCreated:
        key = generate_api_key()
        row = await self._add(peer, request, key.key_id, key.secret)
        return KeyCreated(key=row, secret=key.secret)

    async def import_(self, peer: Peer, request: ImportKey) -> KeyShown:
        check_imported(request.key_id, request.secret)
        return KeyShown(key=await self._add(peer, request, request.key_id, request.secret))

    async def _add(self, peer: Peer, wish: KeyWish, key_id: str, secret: str) -> KeyInfo:
        session = self._manager(peer)
        row = new_key(
            wish,
            key_id,
            account_id=account_id_of(self._catalog, wish.account) or session.account_id,
            find=partial(self._find, session.rights),
            now_ms=now_ms(),
        )
        row = msgspec.structs.replace(row, sealed=self._secrets.seal(key_id, secret))

        def write(transaction: Transaction) -> ApiKeyRow:
            giver = _giver(transaction, session)
            require_within(giver, row, transaction.bucket_name)
            return transaction.add_api_key(row, reserve=0 if giver.grants is None else KEYS_RESERVED)

        return self._info(session, await self._write(session, key_id, write, is_growth=True))

    # --- what there is ----------------------------------------------------------------------------

    def show(self, peer: Peer, request: ShowKey) -> KeyShown:
        session = self._sessions.session_of(peer)
        key_id = request.key_id or session.key_id
        if key_id != session.key_id:
            session = self._manager(peer)
        row = self._catalog.api_key(key_id)
        if row is None:
            raise NoSuchApiKey(f"there is no API key with the id {key_id!r}")
        return KeyShown(key=self._info(session, row))

    def list_keys(self, peer: Peer, request: ListKeys) -> Keys:
        session = self._manager(peer)
        limit = min(request.limit, PAGE_MAX) if request.limit > 0 else PAGE_MAX
        rows = self._catalog.api_keys_after(request.after, limit)
        count = fitting_sizes((len(row.grants or ()) for row in rows), GRANTS_MAX)
        shown = first_that_fit([self._info(session, row) for row in rows[:count]])
        is_last = len(shown) == len(rows) < limit
        return Keys(keys=shown, next_after="" if is_last or not shown else shown[-1].key_id)

    # --- changes ----------------------------------------------------------------------------------

    async def edit(self, peer: Peer, request: EditKey) -> KeyShown:
        session, at_ms = self._manager(peer), now_ms()
        account_id = None if request.account is UNSET else account_id_of(self._catalog, request.account)
        find = partial(self._find, session.rights)
        before = self._catalog.api_key(request.key_id)
        if before is None:
            raise NoSuchApiKey(f"there is no API key with the id {request.key_id!r}")
        # Buckets are looked up here, by the loop's connection to the catalog: a bucket keeps its id.
        wished = changed_key(before, request, account_id=account_id, find=find, now_ms=at_ms)

        def change(row: ApiKeyRow) -> ApiKeyRow:
            names = [name for name in row.__struct_fields__ if getattr(wished, name) != getattr(before, name)]
            return msgspec.structs.replace(row, **{name: getattr(wished, name) for name in names})

        return KeyShown(key=self._info(session, await self._change(session, request.key_id, change)))

    async def rotate(self, peer: Peer, request: RotateKey) -> KeyCreated:
        session, at_ms = self._manager(peer), now_ms()
        if not 0 <= request.overlap_s <= OVERLAP_S_MAX:
            raise BadRequest(
                f"an overlap takes 0 to {OVERLAP_S_MAX / 86400:.0f} days, not {request.overlap_s / 86400:g}"
            )
        secret = generate_api_key().secret
        sealed = self._secrets.seal(request.key_id, secret)
        until_ms = at_ms + int(request.overlap_s * 1000)

        def change(row: ApiKeyRow) -> ApiKeyRow:
            has_overlap = until_ms > at_ms
            return msgspec.structs.replace(
                row,
                sealed=sealed,
                hashed=None,
                previous_sealed=row.sealed if has_overlap else None,
                previous_hashed=row.hashed if has_overlap else None,
                previous_until_ms=until_ms if has_overlap else None,
            )

        row = await self._change(session, request.key_id, change)
        return KeyCreated(key=self._info(session, row), secret=secret)

    async def delete(self, peer: Peer, request: DeleteKey) -> Done:
        session, at_ms = self._manager(peer), now_ms()

        def write(transaction: Transaction) -> None:
            row = transaction.api_key(request.key_id)
            require_within(_giver(transaction, session), row, transaction.bucket_name)
            transaction.delete_api_key(request.key_id, now_ms=at_ms)

        await self._write(session, request.key_id, write)
        return Done()

    async def _change(
        self, session: ClientSession, key_id: str, change: Callable[[ApiKeyRow], ApiKeyRow]
    ) -> ApiKeyRow:
        at_ms = now_ms()

        def write(transaction: Transaction) -> ApiKeyRow:
            giver, before = _giver(transaction, session), transaction.api_key(key_id)
            for row in (before, change(before)):
                require_within(giver, row, transaction.bucket_name)
            return transaction.change_api_key(key_id, change, now_ms=at_ms)

        return await self._write(session, key_id, write)

    async def _write(
        self,
        session: ClientSession,
        key_id: str,
        work: Callable[[Transaction], T],
        *,
        is_growth: bool = False,
    ) -> T:
        """As `LiveKeys.write`; whoever changes their own key is answered before their connection ends."""
        if key_id != session.key_id:
            return await self._keys.write(key_id, work, is_growth=is_growth)
        session.answer_until = math.inf
        try:
            return await self._keys.write(key_id, work, is_growth=is_growth)
        finally:
            session.answer_until = time.monotonic() + ANSWER_S

    # --- what all of them need --------------------------------------------------------------------

    def _manager(self, peer: Peer) -> ClientSession:
        return self._sessions.require(peer, Permission.MANAGE_KEYS)

    def _find(self, rights: Rights, name: str) -> BucketRow | None:
        try:
            bucket = self._catalog.bucket(name)
        except NoSuchBucket:
            return None
        return bucket if rights.sees(bucket) else None

    def _info(self, session: ClientSession, row: ApiKeyRow) -> KeyInfo:
        account = self._catalog.account(row.account_id)
        return key_info(
            row,
            account="" if account is None else account.name,
            name_of=partial(self._name_of, session.rights),
            last_used_ms=self._keys.last_used_ms(row),
            now_ms=now_ms(),
        )

    def _name_of(self, rights: Rights, bucket_id: int) -> str | None:
        try:
            bucket = self._catalog.bucket_by_id(bucket_id)
        except NoSuchBucket:
            return None
        return bucket.name if rights.sees(bucket) else None


def _giver(transaction: Transaction, session: ClientSession) -> ApiKeyRow:
    """The key of the asker, as this transaction finds it.

    Raises:
        NotAuthenticated: it was changed, and may manage keys no more, or there is none.
    """
    try:
        row = transaction.api_key(session.key_id)
    except NoSuchApiKey:
        raise NotAuthenticated(KEY_CHANGED) from None
    if row.epoch != session.epoch or not row.may_manage_keys(now_ms()):
        raise NotAuthenticated(KEY_CHANGED)
    return row
