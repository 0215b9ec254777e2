"""Askers: which API key asks, and its connection to the store.

An API key that has signed something is an *asker* from then on.  The first signature goes to the master,
which answers with a signing key and an access token.  Later signatures of that day and region are checked
here, and what they ask for goes over the asker's own connection, with the rights that the key has at the
moment.

    signature right, key known       no question
    day or region new, or wrong      the master is asked: the secret may have been replaced
    token expires                    the latest signature is shown again, which proves the same
    key disabled, deleted, rotated   the connection ends, and the next signature is a first one again

The master answers late to what is wrong.  So nobody waits here for the answer to somebody else's signature.
"""

from __future__ import annotations

import hmac
import logging
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType

import trio

from warehouse.client.control import Control
from warehouse.client.store import Store, connected
from warehouse.conf.profile import Profile
from warehouse.errors import Overloaded, RequestRefused, SignatureMismatch, StoreError, Unavailable
from warehouse.gateway.link import GatewayLink
from warehouse.s3.signing_keys import sign_v4
from warehouse.transport.messages import CheckSignature, LoggedIn, SignatureChecked
from warehouse.transport.zeromq.link import Link

log = logging.getLogger(__name__)

ASKERS_MAX = 2000
SIGNING_KEYS_MAX = 32  # days and regions of one API key
IDLE_S = 900.0  # the connection of a key that asks for nothing ends
SWEEP_S = 30.0
CHECKS_MAX = 1024  # signatures on their way to the master
CHECKS_OF_KEY_MAX = 64
CALL_S = 30.0  # of one request to the master

Scope = tuple[str, str]  # day and region


class Asker:
    """One API key at this gateway; its connection stays at least until every `with asker` has ended.

    Attributes:
        store: the store, with the rights of the key.
        ended: set when the key does not work any more, or nobody has asked for long.
    """

    def __init__(self, checked: SignatureChecked, proof: CheckSignature) -> None:
        self.key_id = proof.key_id
        self.account_id = checked.account_id
        self.store: Store
        self.ended = trio.Event()
        self.user_count = 0
        self.idle_since_s = trio.current_time()
        self._signing_keys: OrderedDict[Scope, bytes] = OrderedDict()
        self.learn(checked, proof)

    def __enter__(self) -> Asker:
        self.user_count += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.user_count -= 1
        if not self.user_count:
            self.idle_since_s = trio.current_time()

    def learn(self, checked: SignatureChecked, proof: CheckSignature) -> None:
        """Take over what the master has said about a signature."""
        self.proof = proof
        if checked.signing_key:
            self._signing_keys[proof.date, proof.region] = checked.signing_key
            if len(self._signing_keys) > SIGNING_KEYS_MAX:
                self._signing_keys.popitem(last=False)

    def signing_key(self, date: str, region: str) -> bytes:
        """With which chunks of a body are signed; of a scope that a signature was shown for."""
        return self._signing_keys[date, region]

    def has_signed(self, shown: CheckSignature) -> bool:
        """Is that a signature of this key, as far as it is known here?"""
        signing_key = self._signing_keys.get((shown.date, shown.region))
        if signing_key is None or shown.scheme != "v4":
            return False
        expected = sign_v4(signing_key, shown.string_to_sign)
        if not hmac.compare_digest(expected.encode(), shown.signature.encode()):
            return False
        if shown.date >= self.proof.date:  # the master takes no signatures of old days
            self.proof = shown
        return True


class Askers:
    """
    Args:
        nursery: owns the connections.
    """

    def __init__(self, link: GatewayLink, nursery: trio.Nursery) -> None:
        self._link = link
        self._nursery = nursery
        self._known: dict[str, Asker] = {}
        self._checking: Counter[str] = Counter()  # signatures on their way to the master, by key id
        self._opening: dict[str, _Turn] = {}  # connections that come into being, by key id

    def __len__(self) -> int:
        return len(self._known)

    @asynccontextmanager
    async def asker(self, shown: CheckSignature) -> AsyncIterator[Asker]:
        """Who has signed that; the connection stays at least until the block ends.

        Raises:
            NoSuchApiKey, KeyCannotSign, SignatureMismatch: nobody whom the store knows.
            Overloaded: as `GatewayLink.check`, or this gateway has as many askers as it can.
            LinkDown, DeadlineExceeded: the store does not answer.
        """
        with self.known(shown) or await self._first(shown) as asker:
            yield asker

    def known(self, shown: CheckSignature) -> Asker | None:
        """Who has signed that; None: the master has to be asked."""
        asker = self._known.get(shown.key_id)
        return None if asker is None or asker.ended.is_set() or not asker.has_signed(shown) else asker

    async def _first(self, shown: CheckSignature) -> Asker:
        """Show a signature to the master."""
        if not shown.signature.isascii():
            raise SignatureMismatch("a signature is ASCII")
        checked = await self._check(shown)
        async with self._turn(shown.key_id):
            asker = self._known.get(shown.key_id)
            if asker is not None and not asker.ended.is_set():
                asker.learn(checked, shown)
                return asker
            return await self._open(checked, shown)

    @asynccontextmanager
    async def _turn(self, key_id: str) -> AsyncIterator[None]:
        """One after the other, for one key."""
        turn = self._opening.setdefault(key_id, _Turn())
        turn.count += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.count -= 1
            if not turn.count:
                del self._opening[key_id]

    async def _check(self, shown: CheckSignature) -> SignatureChecked:
        if self._checking[shown.key_id] >= CHECKS_OF_KEY_MAX or self._checking.total() >= CHECKS_MAX:
            raise Overloaded("many signatures are being checked at this moment: try again")
        self._checking[shown.key_id] += 1
        try:
            return await self._link.check(shown)
        finally:
            self._checking[shown.key_id] -= 1
            if not self._checking[shown.key_id]:
                del self._checking[shown.key_id]

    async def _open(self, checked: SignatureChecked, shown: CheckSignature) -> Asker:
        if len(self._known) >= ASKERS_MAX and not self._end_idle(trio.current_time()):
            raise Overloaded("this gateway serves as many API keys as it can: try again, or another gateway")
        opened: Asker | StoreError = await self._nursery.start(self._keep, checked, shown)
        if isinstance(opened, StoreError):
            raise opened
        return opened

    async def _keep(
        self,
        checked: SignatureChecked,
        shown: CheckSignature,
        *,
        task_status: trio.TaskStatus[Asker | StoreError] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Keep the connection of one key, from its first signature to its end."""
        asker = Asker(checked, shown)
        is_open = False
        tokens = _Tokens(self._link, asker, checked)
        place = self._link.place
        profile = Profile(place.master, place.server_key, asker.key_id, "", self._link.authority)
        try:
            async with connected(Control(profile, timeout_s=CALL_S, log_in=tokens.buy)) as store:
                asker.store = store
                self._known[asker.key_id] = asker
                is_open = True
                task_status.started(asker)
                await asker.ended.wait()
        except StoreError as error:
            if not is_open:
                task_status.started(error)
            log.info("the connection of a key ended", extra={"key_id": asker.key_id, "cause": error.message})
        except Exception:  # one key's connection is no reason to end the gateway
            log.exception("the connection of a key broke", extra={"key_id": asker.key_id})
            if not is_open:
                task_status.started(Unavailable("the gateway could not connect; its log says why"))
        finally:
            asker.ended.set()
            if self._known.get(asker.key_id) is asker:
                del self._known[asker.key_id]

    async def run(self) -> None:
        """End connections that nobody uses, until cancelled."""
        while True:
            await trio.sleep(SWEEP_S)
            self._end_idle(trio.current_time() - IDLE_S)

    def _end_idle(self, before_s: float) -> bool:
        """End the askers that nobody uses, and that were used last before then; is there room now?"""
        for asker in list(self._known.values()):
            if not asker.user_count and asker.idle_since_s <= before_s:
                asker.ended.set()
                del self._known[asker.key_id]
        return len(self._known) < ASKERS_MAX


class _Turn:
    """Those who wait for the connection of one key."""

    def __init__(self) -> None:
        self.lock = trio.Lock()
        self.count = 0


class _Tokens:
    """Buys the tokens of one asker: the first one is here, for the next ones a signature is shown again."""

    def __init__(self, link: GatewayLink, asker: Asker, checked: SignatureChecked) -> None:
        self._link = link
        self._asker = asker
        self._first: SignatureChecked | None = checked

    async def buy(self, link: Link) -> LoggedIn:
        checked, self._first = self._first, None
        if checked is None:
            proof = self._asker.proof
            try:
                checked = await self._link.check(proof)
            except RequestRefused:
                self._asker.ended.set()  # the key does not work any more, or has another secret
                raise
            self._asker.learn(checked, proof)
        return LoggedIn(token=checked.token, expires_in_s=checked.expires_in_s)
