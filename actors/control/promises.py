"""Promises: the master believes a needle only against what it has promised to somebody.

A lease, an upload's slot and a signed URL are promises: needle ids of one volume, for one bucket, of a size,
where fixed for one key.  Each is a data token, and each carries a proof that no disk can make
(`auth/data_tokens.py`).  A disk shows it with the needles that were put on it, once in a message.  So a
stolen disk makes up no needle that nobody asked for, in no other bucket and under no other key.  And nothing
has to be remembered: puts that are on their way while the master starts again are believed as before.

What a lease takes up is counted while its promise is in memory; a start forgets it.

Two kinds of needles come without a proof and are believed: those of an actor of 0.1.0, whose disk belongs to
no node; and for a week after the upgrade of a store those with ids that 0.1.0 had handed out, because its
tokens are still good (`unproven_ids`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from warehouse.actors.control.context import MasterContext, now_ms
from warehouse.actors.control.fleet_state import DiskState
from warehouse.actors.control.keyring import Keyring
from warehouse.auth.data_tokens import DataClaims, check_proof
from warehouse.errors import NotPromised, TokenInvalid
from warehouse.transport.messages import StoredNeedle

KEPT_MAX = 4096  # promises in memory: most messages show one that was shown a moment ago
UNPROVEN_UNTIL_META = "unproven_until_ms"
NO_PROMISE = "-"
LATE_S = 60.0  # after its token has expired, a put that began in time may take this long, and its body's time
SLOW_BODY_S_MAX = 3600.0
TOLD_LASTING_S = 3600.0


class _Promise:
    """What was promised, and how much of it is taken up."""

    __slots__ = ("claims", "seen", "used")

    def __init__(self, claims: DataClaims) -> None:
        self.claims = claims
        self.seen = 0  # bit i: needle first + i was told of
        self.used = 0  # bytes of the needles that were


class Promises:
    def __init__(self, context: MasterContext, keyring: Keyring) -> None:
        self._catalog = context.catalog
        self._troubles = context.troubles
        self._keyring = keyring
        self._kept: OrderedDict[str, _Promise | None] = OrderedDict()
        self._unproven: dict[int, int] = {}
        self._unproven_until_ms = 0
        settings = context.settings
        rate = settings.http.body_rate_min
        slow_s = settings.store.chunk_size / rate if rate else SLOW_BODY_S_MAX
        self._late_ms = int((LATE_S + min(slow_s, SLOW_BODY_S_MAX)) * 1000)

    def load(self) -> None:
        """Learn what a release without proofs may have promised."""
        self._unproven = self._catalog.unproven_ids()
        self._unproven_until_ms = self._catalog.meta(UNPROVEN_UNTIL_META)

    def refusals(self, disk: DiskState, needles: Sequence[StoredNeedle]) -> dict[int, NotPromised]:
        """Those of the needles that nobody was promised, by position."""
        refused: dict[int, NotPromised] = {}
        at_ms, promise = now_ms(), None
        for position, needle in enumerate(needles):
            if needle.promise:
                promise = self._promise_of(needle.promise)
            problem = self._problem(disk, needle, promise, at_ms)
            if problem:
                refused[position] = NotPromised(
                    f"needle {needle.needle_id} of volume {needle.volume_id}: {problem}"
                )
        if refused:
            self._tell(disk, refused)
        return refused

    def _promise_of(self, text: str) -> _Promise | None:
        """None: the text proves nothing."""
        try:
            self._kept.move_to_end(text)
            return self._kept[text]
        except KeyError:
            pass
        promise = None
        if text != NO_PROMISE:
            try:
                promise = _Promise(check_proof(text, self._keyring.proof_keys()))
            except TokenInvalid:
                return None
        self._kept[text] = promise
        if len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)
        return promise

    def _problem(
        self, disk: DiskState, needle: StoredNeedle, promise: _Promise | None, at_ms: int
    ) -> str | None:
        """What is wrong with a needle; None: it was promised."""
        if promise is None:
            return (
                None if self._needs_no_proof(disk, needle, at_ms) else "the master has promised it to nobody"
            )
        claims = promise.claims
        if (
            claims.operation != "put"
            or claims.audience != disk.disk_id
            or claims.volume_id != needle.volume_id
            or not claims.first_needle_id <= needle.needle_id <= claims.last_needle_id
        ):
            return "the promise is for other needles"
        if claims.bucket_id != needle.bucket_id or not _is_for_key(claims, needle.key):
            return "the promise is for another bucket or key"
        if (claims.lease_id, claims.upload_id, claims.key_id, claims.epoch) != (
            needle.lease_id,
            needle.upload_id,
            needle.key_id,
            needle.epoch,
        ) or (claims.upload_id is not None and claims.chunk_index != needle.chunk_index):
            return "the promise is of another lease, upload or API key"
        if claims.if_none_match is not None and needle.if_none_match != claims.if_none_match:
            return "the promise has a condition that the needle lacks"
        if at_ms > claims.expires_at_s * 1000 + self._late_ms:
            return "the promise has expired"
        return _take_room(promise, needle)

    def _needs_no_proof(self, disk: DiskState, needle: StoredNeedle, at_ms: int) -> bool:
        if not disk.node_key:
            return True
        return at_ms < self._unproven_until_ms and needle.needle_id <= self._unproven.get(needle.volume_id, 0)

    def _tell(self, disk: DiskState, refused: dict[int, NotPromised]) -> None:
        first = next(iter(refused.values()))
        self._troubles.tell(
            "not_promised",
            disk.disk_id,
            f"disk {disk.name} told of needles that the master had promised to nobody: its actor is not ours,"
            " or its key was stolen. Find out who runs it; `warehouse nodes rm` shuts it out",
            lasting_s=TOLD_LASTING_S,
            disk=disk.name,
            disk_id=disk.disk_id,
            count=len(refused),
            cause=first.message,
        )


def _is_for_key(claims: DataClaims, key: str) -> bool:
    if claims.key is not None:
        return key == claims.key
    return claims.prefixes is None or key.startswith(claims.prefixes)


def _take_room(promise: _Promise, needle: StoredNeedle) -> str | None:
    """Count a needle against what was promised; once, however often the disk tells of it."""
    claims, size = promise.claims, needle.size
    if (
        (claims.body_size is not None and size != claims.body_size)
        or (claims.body_size_max is not None and size > claims.body_size_max)
        or size < claims.body_size_min
    ):
        return "the promise is for another size"
    bit = 1 << (needle.needle_id - claims.first_needle_id)
    if not promise.seen & bit:
        if claims.lease_id is not None and claims.room is not None and promise.used + size > claims.room:
            return "the promise has no room left"
        promise.seen |= bit
        promise.used += size
    return None
