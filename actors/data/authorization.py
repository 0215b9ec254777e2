"""Authorization: what a request at the data port may do, as its token says.

A token names one volume of this disk, one operation, and needles or a bucket.  This file also counts what
one token takes up, over all requests that carry it: a lease pays for the bytes that it stores, a token for
one needle for the places in the file that it starts to fill, and a URL that works once is used up.

A volume actor that has not heard from its master for long honours no token: keys may have lost their rights
since, and it would not know (`unheard_s`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from warehouse.actors.data.commit_pipeline import CommitPipeline
from warehouse.actors.data.disk_throttle import DiskThrottle
from warehouse.actors.data.refused_tokens import RefusedTokens
from warehouse.actors.data.scope import require_needle
from warehouse.actors.latencies import Latencies
from warehouse.auth.data_tokens import DataClaims, DataTokenVerifier
from warehouse.errors import (
    BadRequest,
    LeaseExhausted,
    MasterUnreachable,
    NoSuchRoute,
    NoSuchVolume,
    Overloaded,
    TokenMissing,
    TokenScope,
    TokenUsed,
    VolumeUnreadable,
)
from warehouse.transport.http.exchange import Exchange
from warehouse.transport.messages import DiskCounters

# A get from memory takes so little that to time each would be felt.
TIMED_FIRST = 32  # between two reports
TIMED_EVERY = 16  # of all others; a power of two


@dataclass
class Counters:
    """What `/metrics` shows of requests; plain integers, because the hot path adds to them."""

    puts: int = 0
    gets: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    cold_reads: int = 0
    failures: dict[str, int] = field(default_factory=dict)  # error code -> count
    refused_tokens: RefusedTokens = field(default_factory=RefusedTokens)
    # How long gets take until their first byte is ready, and puts from their last byte to their answer.
    get_latencies: Latencies = field(default_factory=Latencies)
    put_latencies: Latencies = field(default_factory=Latencies)
    timed_left: int = 0  # gets from memory whose time is taken, before it is that of one in `TIMED_EVERY`

    def report(self) -> DiskCounters:
        """For the master; the next `TIMED_FIRST` gets from memory are timed."""
        self.timed_left = TIMED_FIRST
        return DiskCounters(
            gets=self.gets,
            puts=self.puts,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            get_latencies=self.get_latencies.to_send(),
            put_latencies=self.put_latencies.to_send(),
        )

    @property
    def requests(self) -> int:
        """Requests of clients that were answered with success."""
        return self.puts + self.gets

    def failed(self, code: str) -> None:
        self.failures[code] = self.failures.get(code, 0) + 1


NEEDLE_ROUTE = b"/v1/needles/"
_NEEDLE_PATH = re.compile(NEEDLE_ROUTE + rb"(\d{1,10})/(\d{1,10})").fullmatch
USES_MAX = 100_000  # tokens whose use is counted
ONCE_MAX = 100_000  # used tokens of URLs that work once, until they expire
TRIES_MAX = 2  # a token for one needle may take up this many times the size of its body


@dataclass
class LeaseUse:
    """How much of its room a token has taken up."""

    stored_bytes: int
    expires_s: float


class RequestAuthorizer:
    """Checks the requests at one disk's data port."""

    def __init__(
        self,
        pipelines: Mapping[int, CommitPipeline],
        broken: Mapping[int, str],
        verifier: DataTokenVerifier,
        incarnation: int = 0,
    ) -> None:
        """
        Args:
            incarnation: of this run of the actor: URLs that work once were made for it.
        """
        self._pipelines = pipelines
        self._broken = broken  # volumes that could not be opened, and why
        self._verifier = verifier
        self._uses: dict[tuple[int, ...], LeaseUse] = {}  # by lease, or by volume and needle
        self._forget_at = 100
        self._incarnation = incarnation
        self._used: dict[str, float] = {}  # token id -> expiry, of tokens that work once
        self.throttle = DiskThrottle()
        self.unheard_s: float | None = None  # for how long nothing was heard from the master, if too long

    def claims_of(self, exchange: Exchange) -> DataClaims:
        """The claims of a request's token.  Raises as `DataTokenVerifier.verify`."""
        claims = self.claims_of_token(_token_of(exchange))
        exchange.vouch()
        return claims

    def claims_of_token(self, token: bytes) -> DataClaims:
        """
        Raises:
            MasterUnreachable: see `unheard_s`.
            RequestRefused, ClockSkew: as `DataTokenVerifier.verify`.
        """
        if self.unheard_s is not None:
            raise MasterUnreachable(
                f"this disk has not heard from its master for more than {self.unheard_s:.0f} s: it does not"
                " know which keys have lost their rights since, and honours no token"
            )
        return self._verifier.verify(token, now_s=time.time())

    def pipeline_of(self, volume_id: int) -> CommitPipeline:
        """That of an open volume of this disk.

        Raises:
            VolumeUnreadable: the volume is here and could not be opened: damaged is not absent.
            NoSuchVolume: it is not on this disk.
        """
        pipeline = self._pipelines.get(volume_id)
        if pipeline is None:
            raise self._not_open(volume_id)
        return pipeline

    def _not_open(self, volume_id: int) -> VolumeUnreadable | NoSuchVolume:
        cause = self._broken.get(volume_id)
        if cause is not None:
            return VolumeUnreadable(f"volume {volume_id} could not be opened: {cause}")
        return NoSuchVolume(f"volume {volume_id} is not on this disk")

    def place_of(self, claims: DataClaims, method: bytes, path: bytes) -> tuple[CommitPipeline, int]:
        """The volume's pipeline and the needle that a request is about.

        Raises:
            NoSuchRoute: the path names no needle.
            TokenScope: the token is not for that needle, or not for that method.
            VolumeUnreadable, NoSuchVolume: as `pipeline_of`.
        """
        volume_id, needle_id = _needle_address(path)
        if claims.volume_id != volume_id:
            raise TokenScope(f"this token opens volume {claims.volume_id}, not volume {volume_id}")
        require_needle(claims, needle_id)
        if claims.operation != ("put" if method == b"PUT" else "get"):
            raise TokenScope(f"this token is for {claims.operation}, not for {method.decode()}")
        pipeline = self._pipelines.get(volume_id)
        if pipeline is None:
            raise self._not_open(volume_id)
        return pipeline, needle_id

    def use_lease(self, claims: DataClaims, size: int) -> None:
        """Take `size` bytes of the lease's room, if the token belongs to a lease.

        Raises:
            LeaseExhausted: the lease has less room left.
        """
        if claims.lease_id is not None and claims.room is not None:
            self._use((claims.lease_id,), claims.room, size, claims.expires_at_s)

    def use_once(self, claims: DataClaims, *, is_use: bool) -> None:
        """Use up the token of a URL that works once.

        What was used is not written down, so a restarted actor honours no URL that was made for an earlier
        run of it.

        Args:
            is_use: False: only look whether it is still good.
        Raises:
            TokenUsed: it was used, or may have been.
            Overloaded: too many such URLs have been used and not expired yet; one more could not be kept.
        """
        if claims.once is None:
            return
        if claims.once != self._incarnation or claims.token_id is None:
            raise TokenUsed("this URL works once, and the server was restarted after it was made")
        if claims.token_id in self._used:
            raise TokenUsed("this URL works once, and it was used")
        if not is_use:
            return
        if len(self._used) >= ONCE_MAX:
            now_s = time.time() - 60
            self._used = {used: expires_s for used, expires_s in self._used.items() if expires_s > now_s}
            if len(self._used) >= ONCE_MAX:
                raise Overloaded(f"{ONCE_MAX} URLs that work once have been used, and have not expired yet")
        self._used[claims.token_id] = claims.expires_at_s

    def use_place(self, claims: DataClaims, needle_id: int, size: int) -> None:
        """Take a place of `size` bytes in the volume's file, if the token does not belong to a lease.

        A lease has paid in `use_lease`.  A token for one needle may start more than once, because
        connections break.  But the place of a failed upload is lost once others have written after it, so
        the number of tries is bounded.

        Raises:
            LeaseExhausted: the token has less room left.
        """
        if claims.lease_id is None:
            room = claims.room
            if room is None:  # the token of an older release
                room = TRIES_MAX * (
                    claims.body_size if claims.body_size is not None else claims.body_size_max or size
                )
            self._use((claims.volume_id, needle_id), room, size, claims.expires_at_s)

    def return_place(self, claims: DataClaims, needle_id: int, size: int) -> None:
        """Undo `use_place`: the place is free again."""
        use = self._uses.get((claims.volume_id, needle_id))
        if claims.lease_id is None and use is not None:
            use.stored_bytes -= size

    def _use(self, name: tuple[int, ...], room: int, size: int, expires_s: float) -> None:
        use = self._uses.get(name)
        if use is None:
            self._forget_old_uses()
            use = self._uses[name] = LeaseUse(0, expires_s)
        if use.stored_bytes + size > room:
            what = f"lease {name[0]}" if len(name) == 1 else "this token"
            raise LeaseExhausted(
                f"{what} has room for {room} bytes; {use.stored_bytes} are used, and this needs {size} more"
            )
        use.stored_bytes += size

    def _forget_old_uses(self) -> None:
        if len(self._uses) < self._forget_at:
            return
        now_s = time.time() - 60  # an expired token is refused, so its use can be forgotten
        for name in [name for name, use in self._uses.items() if use.expires_s < now_s]:
            del self._uses[name]
        while len(self._uses) >= USES_MAX:
            del self._uses[next(iter(self._uses))]
        self._forget_at = 2 * len(self._uses) + 100


def _needle_address(path: bytes) -> tuple[int, int]:
    found = _NEEDLE_PATH(path)
    if found is None:
        raise NoSuchRoute("needles are at /v1/needles/{volume}/{needle}, both decimal numbers")
    volume_id, needle_id = int(found[1]), int(found[2])
    if not (0 < volume_id < 2**32 and 0 < needle_id < 2**32):
        raise NoSuchRoute("volume and needle numbers go from 1 to 4294967295")
    return volume_id, needle_id


def bearer_token(headers: Mapping[bytes, bytes]) -> bytes | None:
    """The token of the Authorization header; None: no such header.

    Raises:
        TokenMissing: the header has another scheme.
    """
    header = headers.get(b"authorization")
    if header is None:
        return None
    if header[:7].lower() != b"bearer ":
        raise TokenMissing("the Authorization header must be: Bearer TOKEN")
    return header[7:]


def _token_of(exchange: Exchange) -> bytes:
    """The one token of a request.

    Raises:
        TokenMissing: the request has none.
        BadRequest: the request has two, and a proxy may have checked the other one (RFC 6750, 3.1); or the
            URL asks for something that is not supported.
    """
    tokens = []
    header_token = bearer_token(exchange.headers)
    if header_token is not None:
        tokens.append(header_token)
    if exchange.query:
        tokens += _tokens_in(exchange.query)
    if len(tokens) > 1:
        raise BadRequest("a request carries one token, in its URL or as Authorization; this one has more")
    if not tokens:
        raise TokenMissing("a token is needed, as 'Authorization: Bearer TOKEN' or as '?token=TOKEN'")
    return tokens[0]


def _tokens_in(query: bytes) -> list[bytes]:
    tokens = []
    for pair in query.split(b"&"):
        if b"%" in pair:  # a client may encode every letter: RFC 3986, 6.2.2.2
            pair = unquote_to_bytes(pair)
        if pair.startswith(b"token="):
            tokens.append(pair[6:])
        elif pair.startswith(b"response-"):
            raise BadRequest(
                f"{ascii(pair.partition(b'=')[0])[2:-1][:40]} is not supported: an object is served with the"
                " type that it was stored with, and with the name of its key"
            )
    return tokens
