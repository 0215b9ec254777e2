"""Account requests: accounts as those who manage keys make, show, change and delete them.

An account says whose keys and buckets belong together.  It gives no rights.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable

import msgspec
from msgspec import UNSET

from warehouse.actors.control.context import MasterContext, now_ms
from warehouse.actors.control.routes import Routes
from warehouse.actors.control.sessions import Sessions
from warehouse.auth.rights import Permission
from warehouse.catalog.identities import AccountRow
from warehouse.catalog.interface import Catalog, Transaction
from warehouse.errors import BadRequest, NoSuchAccount
from warehouse.transport.messages import (
    AccountInfo,
    Accounts,
    AccountShown,
    CreateAccount,
    DeleteAccount,
    Done,
    EditAccount,
    GiveBucket,
    ListAccounts,
)
from warehouse.transport.zeromq.peers import Peer

ACCOUNTS_MAX = 500  # in one answer
EMAIL_LENGTH_MAX = 254
_EMAIL = re.compile(r"[^\s@]+@[^\s@]+")


class AccountHandlers:
    def __init__(self, context: MasterContext, sessions: Sessions) -> None:
        self._catalog = context.catalog
        self._changes = context.changes
        self._writer = context.writer
        self._sessions = sessions

    def routes(self) -> Routes:
        return (
            Routes()
            .later(CreateAccount, self.create)
            .now(ListAccounts, self.list_accounts)
            .later(EditAccount, self.edit)
            .later(DeleteAccount, self.delete)
            .later(GiveBucket, self.give)
        )

    async def create(self, peer: Peer, request: CreateAccount) -> AccountShown:
        self._sessions.require(peer, Permission.MANAGE_KEYS)
        row = AccountRow(secrets.token_hex(16), request.name, _email(request.email), now_ms())
        await self._write(peer, lambda t: t.add_account(row), is_growth=True)
        self._changes.account_changed()
        return AccountShown(account=_info(row))

    def list_accounts(self, peer: Peer, request: ListAccounts) -> Accounts:
        self._sessions.require(peer, Permission.MANAGE_KEYS)
        rows = self._catalog.accounts()
        if request.after:
            ids = [row.id for row in rows]
            rows = rows[ids.index(request.after) + 1 :] if request.after in ids else []
        shown = rows[:ACCOUNTS_MAX]
        return Accounts(
            accounts=[_info(row) for row in shown],
            next_after=shown[-1].id if len(shown) < len(rows) else "",
        )

    async def edit(self, peer: Peer, request: EditAccount) -> AccountShown:
        self._sessions.require(peer, Permission.MANAGE_KEYS)
        row = account_of(self._catalog, request.account)
        after = msgspec.structs.replace(
            row,
            name=row.name if request.name is UNSET else request.name,
            email=row.email if request.email is UNSET else _email(request.email),
        )
        await self._write(peer, lambda t: t.change_account(row.id, name=after.name, email=after.email))
        self._changes.account_changed()
        return AccountShown(account=_info(after))

    async def delete(self, peer: Peer, request: DeleteAccount) -> Done:
        self._sessions.require(peer, Permission.MANAGE_KEYS)
        row = account_of(self._catalog, request.account)
        await self._write(peer, lambda t: t.delete_account(row.id))
        self._changes.account_changed()
        return Done()

    async def give(self, peer: Peer, request: GiveBucket) -> Done:
        self._sessions.require(peer, Permission.MANAGE_KEYS)
        bucket = self._sessions.bucket_for(peer, Permission.MANAGE_BUCKETS, request.bucket)
        row = account_of(self._catalog, request.account)
        await self._write(peer, lambda t: t.set_bucket_owner(bucket.id, row.id))
        self._changes.bucket_changed(bucket)
        return Done()

    async def _write(
        self, peer: Peer, work: Callable[[Transaction], None], *, is_growth: bool = False
    ) -> None:
        await self._writer.write(self._sessions.guarded(peer, work), is_growth=is_growth)


def account_of(catalog: Catalog, name: str) -> AccountRow:
    """The account of this id or name.

    Raises:
        NoSuchAccount: there is none.
    """
    row = catalog.account(name) or catalog.account_by_name(name)
    if row is None:
        raise NoSuchAccount(f"there is no account {name[:200]!r}")
    return row


def account_id_of(catalog: Catalog, name: str) -> str:
    """As `account_of`; "" for ""."""
    return account_of(catalog, name).id if name else ""


def _info(row: AccountRow) -> AccountInfo:
    return AccountInfo(account_id=row.id, name=row.name, email=row.email, created_ms=row.created_ms)


def _email(email: str | None) -> str | None:
    """An e-mail address is for people: it is kept as it is, when it looks like one."""
    if email is None:
        return None
    if len(email) > EMAIL_LENGTH_MAX or not email.isprintable() or not _EMAIL.fullmatch(email):
        raise BadRequest(
            f"an e-mail address has one @ and at most {EMAIL_LENGTH_MAX} characters without spaces,"
            f" not {email[:300]!r}"
        )
    return email
