"""Data rights: what a request at the data port may do, told from its token.

Tokens name one volume of this disk, one operation, and needles or a bucket.  What one lease's token may
write in all is counted here, over all requests that carry it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from actors.commit_line import CommitLine
from auth.tokens import DataClaims, DataTokenVerifier
from errors import LeaseExhausted, NoSuchVolume, TokenMissing, TokenScope, VolumeUnreadable
from storage.needle import NeedleMetadata
from transport.http_server import Exchange


@dataclass
class Counters:
    """What `/metrics` tells; plain integers, because the hot path adds to them."""

    puts: int = 0
    gets: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    cold_reads: int = 0
    failures: dict[str, int] = field(default_factory=dict)  # error code -> count

    @property
    def requests(self) -> int:
        """Of clients, whatever became of them."""
        return self.puts + self.gets

    def failed(self, code: str) -> None:
        self.failures[code] = self.failures.get(code, 0) + 1


@dataclass
class LeaseUse:
    """How much of a lease's room has been written."""

    stored_bytes: int
    expires_s: float


class DataRights:
    """Checks the requests at one disk's data port."""

    def __init__(
        self, lines: Mapping[int, CommitLine], broken: Mapping[int, str], verifier: DataTokenVerifier
    ) -> None:
        self._lines = lines
        self._broken = broken  # volumes of this disk that could not be opened, and why
        self._verifier = verifier
        self._leases: dict[int, LeaseUse] = {}

    def claims_of(self, exchange: Exchange) -> DataClaims:
        """What the token of a request says.  Raises what `DataTokenVerifier.verify` does."""
        claims = self.claims_of_token(_token_of(exchange))
        exchange.vouch()
        return claims

    def claims_of_token(self, token: bytes) -> DataClaims:
        """Raises what `DataTokenVerifier.verify` does."""
        return self._verifier.verify(token, now_s=time.time())

    def line_of(self, volume_id: int) -> CommitLine:
        """An open volume of this disk.

        Raises:
            VolumeUnreadable: it is here, and could not be opened: damaged is not absent.
            NoSuchVolume: it is not on this disk.
        """
        line = self._lines.get(volume_id)
        if line is None:
            cause = self._broken.get(volume_id)
            if cause is not None:
                raise VolumeUnreadable(f"volume {volume_id} could not be opened: {cause}")
            raise NoSuchVolume(f"volume {volume_id} is not on this disk")
        return line

    def use_lease(self, claims: DataClaims, size: int) -> None:
        """Take `size` bytes of the room of the token's lease, if it is one's.

        Raises:
            LeaseExhausted: it has not so much left.
        """
        if claims.lid is None or claims.room is None:
            return
        lease = self._leases.get(claims.lid)
        if lease is None:
            self._forget_old_leases()
            lease = self._leases[claims.lid] = LeaseUse(0, claims.exp)
        if lease.stored_bytes + size > claims.room:
            raise LeaseExhausted(
                f"lease {claims.lid} has room for {claims.room} bytes, {lease.stored_bytes} are used, "
                f"{size} more came"
            )
        lease.stored_bytes += size

    def _forget_old_leases(self) -> None:
        now_s = time.time() - 60  # tokens are refused when they expire; nothing comes after that
        for lease_id in [key for key, lease in self._leases.items() if lease.expires_s < now_s]:
            del self._leases[lease_id]


def require_needle(claims: DataClaims, needle_id: int) -> None:
    if (claims.lo or claims.hi) and not claims.lo <= needle_id <= claims.hi:
        raise TokenScope(f"this token opens needles {claims.lo} to {claims.hi}, not {needle_id}")


def require_bucket(claims: DataClaims, metadata: NeedleMetadata) -> None:
    if metadata.bucket_id != claims.bid:
        raise TokenScope(f"this token reads bucket {claims.bkt!r}, the needle belongs to another")


def bearer_token(headers: Mapping[bytes, bytes]) -> bytes | None:
    """The token of the Authorization header; None when there is none.

    Raises:
        TokenMissing: there is another scheme.
    """
    header = headers.get(b"authorization")
    if header is None:
        return None
    if header[:7].lower() != b"bearer ":
        raise TokenMissing("the Authorization header must be: Bearer TOKEN")
    return header[7:]


def _token_of(exchange: Exchange) -> bytes:
    token = bearer_token(exchange.headers)
    if token is not None:
        return token
    if exchange.query:
        for pair in exchange.query.split(b"&"):
            if pair.startswith(b"token="):
                return pair[6:]
    raise TokenMissing("a token is needed, as 'Authorization: Bearer TOKEN' or as '?token=TOKEN'")
