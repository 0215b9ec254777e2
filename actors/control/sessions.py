"""Sessions: who is at the other end of a connection, and what it may do.

A client logs in with an API key (`Login`), gets an access token, and presents it on each of its connections
(`Attach`).  From then on `peer.session` of that connection is a `ClientSession`.  It has no rights of its
own: its key has, and what becomes of the key counts at once (`live_keys.py`).  A volume actor has its
`DiskState` there, a compactor its `CompactorSession` (`disks.py`); both have the key of a node (`nodes.py`).

The role of a peer (`transport/zeromq/roles.py`) follows from the type of its session, so a peer never says
more than its session allows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from warehouse.actors.control.certificates import Certificates
from warehouse.actors.control.context import MasterContext, now_ms
from warehouse.actors.control.doors import DOORS, choice, needed
from warehouse.actors.control.failed_logins import FailedLogins
from warehouse.actors.control.fleet_state import CompactorSession, DiskState, GatewaySession
from warehouse.actors.control.holders import Holder
from warehouse.actors.control.key_secrets import KeySecrets, Shown
from warehouse.actors.control.keyring import Keyring
from warehouse.actors.control.live_keys import LiveKey, LiveKeys
from warehouse.actors.control.login_rates import LoginRates
from warehouse.actors.control.nodes import Nodes
from warehouse.actors.control.routes import Routes
from warehouse.auth.access_tokens import AccessClaims
from warehouse.auth.rights import BucketName, Permission, Rights, names_of
from warehouse.catalog.identities import ApiKeyRow
from warehouse.catalog.interface import Transaction
from warehouse.catalog.records import BucketRow, ObjectRow
from warehouse.errors import (
    BadCredentials,
    NoSuchBucket,
    NoSuchObject,
    NotAuthenticated,
    PermissionDenied,
    SealBroken,
    TokenRevoked,
)
from warehouse.transport.messages import Attach, Attached, LoggedIn, Login, Request
from warehouse.transport.zeromq import roles
from warehouse.transport.zeromq.peers import Peer
from warehouse.transport.zeromq.roles import Role

ACCESS_TOKEN_S = 900.0
KEY_CHANGED = "the API key behind this token was changed, disabled or deleted, or has expired: log in again"


T = TypeVar("T")


@dataclass
class ClientSession:
    """One control connection of a client; ends with its access token, or with the key's epoch."""

    key: LiveKey
    expires_at: float  # monotonic
    epoch: int
    is_s3: bool = False  # the token was bought with a signature of S3
    # Monotonic: until then the connection waits for an answer, and stays even if it may ask nothing more.
    answer_until: float = 0.0

    @property
    def key_id(self) -> str:
        return self.key.key_id

    @property
    def rights(self) -> Rights:
        return self.key.s3_rights if self.is_s3 else self.key.rights

    @property
    def holder(self) -> Holder:
        """For the tokens that it is given."""
        row = self.key.row
        return Holder(self.key.key_id, self.epoch, None if row is None else row.expires_ms)

    @property
    def sign_s_max(self) -> float | None:
        """The longest life, in seconds, of a URL that is signed for this key; None: as long as any."""
        return None if self.key.row is None else self.key.row.sign_s_max

    @property
    def account_id(self) -> str:
        return "" if self.key.row is None else self.key.row.account_id


_ROLES: dict[type, Role] = {
    ClientSession: roles.CLIENT,
    DiskState: roles.VOLUME,
    CompactorSession: roles.COMPACTOR,
    GatewaySession: roles.GATEWAY,
}


class Sessions:
    """Logs clients in, and checks the rights of every request."""

    def __init__(
        self,
        context: MasterContext,
        keyring: Keyring,
        keys: LiveKeys,
        certificates: Certificates,
        nodes: Nodes,
    ) -> None:
        self._certificates = certificates
        self._keys = keys
        self._catalog = context.catalog
        self._context = context
        self._keyring = keyring
        self.secrets = KeySecrets(keyring)
        self._nodes = nodes
        self._nobody = roles.nobody(nodes.join_secret.is_in_front)
        self.failed_logins = FailedLogins(context.events)
        self._login_rates = LoginRates()

    def routes(self) -> Routes:
        return Routes().later(Login, self.login).now(Attach, self.attach)

    # --- requests ---------------------------------------------------------------------------------

    async def login(self, peer: Peer, request: Login) -> LoggedIn:
        at_ms = now_ms()
        key = self._keys.get(request.key_id)
        row = None if key is None else key.row
        try:
            shown = self.secrets.check(row, request.secret, at_ms=at_ms)
        except SealBroken:
            await self.failed_logins.slow_down(peer.address, request.key_id)
            raise
        if row is None or shown is None or not row.is_usable(at_ms):
            await self.failed_logins.slow_down(peer.address, request.key_id)
            raise BadCredentials("this API key is unknown, disabled or expired, or its secret is wrong")
        self._login_rates.admit(row.id, peer.address, time.monotonic())
        token, life_s = self.token_for(row, shown, at_ms)
        return LoggedIn(token=token, expires_in_s=life_s)

    def token_for(
        self, row: ApiKeyRow, shown: Shown, at_ms: int, *, is_s3: bool = False
    ) -> tuple[str, float]:
        """An access token for whoever has shown a secret of this key, and its life in seconds.

        Args:
            is_s3: it was shown by a signature of S3, and opens buckets of the key's own account alone.
        """
        life_s = _life_s(shown, at_ms)
        claims = AccessClaims(
            key_id=row.id,
            epoch=row.epoch,
            expires_at_s=int(time.time() + life_s),
            is_s3=is_s3 or msgspec.UNSET,
        )
        return self._keyring.access.sign(claims), life_s

    def attach(self, peer: Peer, request: Attach) -> Attached:
        now_s = time.time()
        claims = self._keyring.access.verify(request.token, now_s=now_s)
        key = self._keys.get(claims.key_id)
        if key is None or not key.is_good(claims.epoch, now_ms()):
            raise NotAuthenticated(KEY_CHANGED)
        if isinstance(peer.session, DiskState | CompactorSession | GatewaySession):
            raise PermissionDenied("the connection of one of our actors cannot act as a client")
        expires_in_s = claims.expires_at_s - now_s
        peer.session = ClientSession(
            key,
            expires_at=time.monotonic() + expires_in_s,
            epoch=claims.epoch,
            is_s3=claims.is_s3 is True,
        )
        return Attached(
            incarnation=self._context.incarnation,
            chunk_size=self._context.settings.store.chunk_size,
            expires_in_s=expires_in_s,
            authority=self._certificates.bundle,
            next_server_key=self._keyring.next_server_key,
        )

    # --- rights -----------------------------------------------------------------------------------

    def holder_of(self, key_id: str, epoch: int) -> Holder:
        """The holder of a token that shows this; "": release 0.1.0 signed it, and named none.

        Raises:
            TokenRevoked: the key has lost rights since, or is gone.
        """
        if not key_id:
            return Holder("", 0)
        key = self._keys.get(key_id)
        if key is None or key.row is None or not key.is_good(epoch, now_ms()):
            raise TokenRevoked(KEY_CHANGED)
        return Holder(key_id, epoch, key.row.expires_ms)

    def rights_of(self, key_id: str) -> Rights:
        """What the key of this id may do now; nothing, if there is none."""
        key = self._keys.get(key_id) if key_id else None
        return Rights.nothing() if key is None else key.rights

    def session_of(self, peer: Peer) -> ClientSession:
        """
        Raises:
            NotAuthenticated: the peer presented no access token, it has expired, or its key was changed.
        """
        session = peer.session
        if not isinstance(session, ClientSession):
            raise NotAuthenticated("present an access token first (Attach)")
        if session.expires_at <= time.monotonic():
            peer.session = None
            raise NotAuthenticated("the access token of this connection has expired: attach a fresh one")
        at_ms = now_ms()
        if not session.key.is_good(session.epoch, at_ms):
            raise NotAuthenticated(KEY_CHANGED)
        session.key.used_ms = at_ms
        return session

    def admit(self, peer: Peer, request: Request) -> None:
        """Let a request pass to its handler, which looks at buckets and keys.

        Raises:
            NotAuthenticated, PermissionDenied: as `require`, for all flags that `doors` names.
            Busy: the key asks for more a second than its limits allow.
        """
        if flags := needed(request):
            session = self.require(peer, flags)
        elif flags := choice(request):
            session = self.session_of(peer)
            if not session.rights.permissions & flags:
                raise PermissionDenied(f"this key lacks every one of {names_of(flags)}")
        elif type(request) in DOORS:  # of a client, and about its own key
            session = self.session_of(peer)
        else:
            return
        if session.key.throttle is not None:
            session.key.throttle.admit(time.monotonic())

    def require(self, peer: Peer, permission: Permission) -> ClientSession:
        """For what is not about one bucket that exists.

        Raises:
            NotAuthenticated: as `session_of`.
            PermissionDenied: the session does not grant `permission`.
        """
        session = self.session_of(peer)
        session.rights.require(permission)
        return session

    def bucket_for(self, peer: Peer, permission: Permission, name: str, key: str | None = None) -> BucketRow:
        """The bucket `name`, for a peer that has `permission` on it.

        Args:
            key: of the object that it is about, or the beginning of several keys; None: where the answer says
                to which keys the right is confined (`Rights.prefixes`).
        Raises:
            NotAuthenticated, PermissionDenied: as `require`.
            NoSuchBucket: the catalog has no bucket of this name, or the key may not know of it.
        """
        rights = self.require(peer, permission).rights
        bucket = self._catalog.bucket(name)
        require_on(rights, permission, bucket, key)
        return bucket

    def require_name(self, peer: Peer, permission: Permission, name: str) -> ClientSession:
        """For a bucket that is to be made.

        Raises:
            NotAuthenticated, PermissionDenied: as `require`.
        """
        session = self.require(peer, permission)
        session.rights.require(permission, BucketName(name, owner_id=session.account_id))
        return session

    def object_for(self, peer: Peer, bucket: str, key: str) -> tuple[BucketRow, ObjectRow]:
        """The object `key` and its bucket, for a peer that may read it.

        Raises:
            NotAuthenticated, PermissionDenied: as `require`.
            NoSuchBucket, NoSuchObject: the catalog does not have it, or the key may not know of the bucket.
        """
        rights = self.require(peer, Permission.READ).rights
        bucket_row, row = self._catalog.bucket_and_object(bucket, key)
        require_on(rights, Permission.READ, bucket_row, key)
        if row is None:
            raise NoSuchObject(f"bucket {bucket!r} has no object {key!r}")
        return bucket_row, row

    def guarded(self, peer: Peer, work: Callable[[Transaction], T]) -> Callable[[Transaction], T]:
        """The same work, for the writer: it looks once more whether the peer's API key is good.

        The request may have waited for its transaction, and the key may have been revoked meanwhile.

        Raises:
            NotAuthenticated: as `session_of`; the work that is returned raises it, too.
        """
        session = self.session_of(peer)

        def look_and_work(transaction: Transaction) -> T:
            if not transaction.is_key_good(session.key_id, session.epoch, now_ms()):
                raise NotAuthenticated(KEY_CHANGED)
            return work(transaction)

        return look_and_work

    # --- roles ------------------------------------------------------------------------------------

    def role_of(self, peer: Peer) -> Role:
        """What this connection may say."""
        role = _ROLES.get(type(peer.session))
        if role is None:
            role = roles.NODE if self._nodes.is_known(peer.user_id) else self._nobody
        return role


def _life_s(shown: Shown, at_ms: int) -> float:
    """How long a session may last: no longer than the secret that bought it."""
    if shown.until_ms is None:
        return ACCESS_TOKEN_S
    return min(ACCESS_TOKEN_S, (shown.until_ms - at_ms) / 1000)


def require_on(rights: Rights, permission: Permission, bucket: BucketRow, key: str | None) -> None:
    """
    Raises:
        NoSuchBucket: these rights may not know of the bucket; in the words for one that does not exist.
        PermissionDenied: they do not grant `permission` there.
    """
    require_seen(rights, bucket)
    rights.require(permission, bucket, key)


def require_seen(rights: Rights, bucket: BucketRow) -> None:
    """
    Raises:
        NoSuchBucket: these rights may not know of the bucket; in the words for one that does not exist.
        PermissionDenied: it is another account's.  Over S3 all accounts share the names, and whoever tries to
            make a bucket hears that there is one, so this is no secret.
    """
    if rights.sees(bucket):
        return
    if rights.is_foreign(bucket):
        raise PermissionDenied(f"bucket {bucket.name!r} is another account's")
    raise NoSuchBucket(f"there is no bucket {bucket.name!r}")
