"""Gateways: S3 requests are signed with the secrets of API keys, which no gateway ever sees.

    RegisterGateway   a node with the role "gateway" says that it is one
    CheckSignature    it shows what a client has signed; the answer has a signing key and an access token
    FindCors          it asks for the CORS rules of a bucket, for browsers, which ask before they sign

The secret of a key signs nothing itself: SigV4 derives from it a key of one day, one region and one service.
A gateway is told that key, and only of API keys that have signed something in front of it.  So whoever steals
a gateway's own key gets none of the secrets, and can speak for nobody who has not spoken to it.

Later requests of the day are checked at the gateway.  What it does for them, it does with the token, so that
a key which was disabled, changed or rotated ends here at once, as every session does.  For the time after
the token, the gateway shows the latest signature again: a request may take longer than a token lives.

SigV2 has no such keys: each of its signatures is shown to the master.
"""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime, timedelta

from warehouse.actors.control.certificates import Certificates
from warehouse.actors.control.context import MasterContext, now_ms
from warehouse.actors.control.event_subjects import NODES
from warehouse.actors.control.fleet_state import GatewaySession
from warehouse.actors.control.keyring import Keyring
from warehouse.actors.control.live_keys import LiveKeys
from warehouse.actors.control.nodes import Nodes, host_of
from warehouse.actors.control.routes import Routes
from warehouse.actors.control.sessions import Sessions
from warehouse.errors import (
    BadRequest,
    NoSuchApiKey,
    NotAuthenticated,
    PermissionDenied,
    SealBroken,
    SignatureMismatch,
)
from warehouse.transport.messages import (
    CORS_CONFIG,
    BucketConfigFound,
    CheckSignature,
    FindCors,
    GatewayWelcome,
    RegisterGateway,
    SignatureChecked,
)
from warehouse.transport.zeromq.peers import Peer

log = logging.getLogger(__name__)

SCHEMES = ("v4", "v2")
# A signed URL lives for a week, and its scope names the day on which it was signed.
DAYS_BACK, DAYS_AHEAD = 8, 1
_DATE = re.compile("[0-9]{8}", re.ASCII)
_REGION = re.compile("[A-Za-z0-9-]{1,64}", re.ASCII)


class GatewayHandlers:
    def __init__(
        self,
        context: MasterContext,
        sessions: Sessions,
        *,
        keyring: Keyring,
        keys: LiveKeys,
        nodes: Nodes,
        certificates: Certificates,
    ) -> None:
        self._context = context
        self._sessions = sessions
        self._keyring = keyring
        self._keys = keys
        self._nodes = nodes
        self._certificates = certificates

    def routes(self) -> Routes:
        return (
            Routes()
            .now(RegisterGateway, self.register)
            .later(CheckSignature, self.check)
            .now(FindCors, self.find_cors)
        )

    def register(self, peer: Peer, request: RegisterGateway) -> GatewayWelcome:
        self._nodes.admit_gateway(peer)
        if peer.session is not None and not isinstance(peer.session, GatewaySession):
            raise PermissionDenied("this connection is that of a client or of a disk: open another one")
        if request.url:
            host_of(request.url)
        peer.session = session = GatewaySession(request.name, request.incarnation, request.url)
        self._context.fleet.gateways[peer] = session
        log.info("gateway is online", extra={"gateway": request.name, "address": peer.address})
        self._context.changes.cluster_changed(NODES)
        return GatewayWelcome(
            incarnation=self._context.incarnation,
            authority=self._certificates.bundle,
            next_server_key=self._keyring.next_server_key,
        )

    def left(self, peer: Peer) -> None:
        """A connection has ended: if it was a gateway's, its node is offline."""
        if self._context.fleet.gateways.pop(peer, None) is not None:
            log.info("gateway has gone", extra={"gateway": peer.session.name})
            self._context.changes.cluster_changed(NODES)

    async def check(self, peer: Peer, request: CheckSignature) -> SignatureChecked:
        """
        Raises:
            NoSuchApiKey: there is none that works; clients of S3 know ids from secrets.
            KeyCannotSign: the store has only a hash of its secret.
            SignatureMismatch: another secret has signed this, or something else was signed.
            BadRequest: this is no scope of S3, or of a day for which nobody signs.
        """
        _require_gateway(peer)
        at_ms = now_ms()
        _require_scope(request, at_ms)
        live = self._keys.get(request.key_id)
        row = None if live is None else live.row
        if row is None or not row.is_usable(at_ms):
            await self._sessions.failed_logins.slow_down_key(request.key_id)
            raise NoSuchApiKey(f"there is no API key {request.key_id!r}, or it is disabled or expired")
        try:
            signer = self._sessions.secrets.signer(
                row,
                request.scheme,
                (request.date, request.region),
                request.string_to_sign,
                request.signature,
                at_ms=at_ms,
            )
        except SealBroken:
            await self._sessions.failed_logins.slow_down_key(request.key_id)
            raise
        if signer is None:
            await self._sessions.failed_logins.slow_down_key(request.key_id)
            raise SignatureMismatch(f"this is not a signature of the API key {request.key_id!r}")
        token, life_s = self._sessions.token_for(row, signer.shown, at_ms, is_s3=True)
        return SignatureChecked(
            token=token,
            expires_in_s=life_s,
            account_id=row.account_id,
            signing_key=signer.signing_key,
        )

    def find_cors(self, peer: Peer, request: FindCors) -> BucketConfigFound:
        """
        Raises:
            NoSuchBucket.
        """
        _require_gateway(peer)
        catalog = self._context.catalog
        configs = catalog.bucket_configs(catalog.bucket(request.bucket).id)
        return BucketConfigFound(document=configs.get(CORS_CONFIG, b""))


def _require_gateway(peer: Peer) -> None:
    if not isinstance(peer.session, GatewaySession):
        raise NotAuthenticated("register this gateway first (RegisterGateway)")


def _require_scope(request: CheckSignature, at_ms: int) -> None:
    if request.scheme not in SCHEMES:
        raise BadRequest(f"a signature is of the scheme {' or '.join(SCHEMES)}, not {request.scheme!r}")
    if request.scheme == "v2":
        return
    if _REGION.fullmatch(request.region) is None:
        raise BadRequest(f"a region has 1 to 64 letters, digits and '-', unlike {request.region!r:.100}")
    try:
        if _DATE.fullmatch(request.date) is None:
            raise ValueError
        day = datetime.strptime(request.date, "%Y%m%d").replace(tzinfo=UTC)
    except ValueError:
        raise BadRequest(f"a day is written like 20261130, not {request.date!r:.100}") from None
    now = datetime.fromtimestamp(at_ms / 1000, UTC)
    if not now - timedelta(days=DAYS_BACK) <= day <= now + timedelta(days=DAYS_AHEAD):
        raise BadRequest(f"nobody signs for {request.date}: it is {now:%Y%m%d}")
