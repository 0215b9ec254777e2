"""Commits: needles that are durable become visible, and puts in doubt are resolved.

A volume actor sends `NeedlesStored` once needles are durable in their volumes.  The catalog takes the whole
batch in one transaction, and the answer says of each needle what became of it.

A client whose put got no answer asks for its fate (`ResolveNeedle`): either the object is committed, or the
needle becomes void and never can be.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from warehouse.actors.control.context import MasterContext, now_ms
from warehouse.actors.control.disks import DiskHandlers
from warehouse.actors.control.fleet_state import DiskState
from warehouse.actors.control.promises import Promises
from warehouse.actors.control.reservations import Reservations, presigned_name, slot_name
from warehouse.actors.control.routes import Routes
from warehouse.actors.control.sessions import Sessions
from warehouse.actors.control.sight import shown_quota_refusal
from warehouse.actors.control.stamps import StampAdmission
from warehouse.auth.data_tokens import DataTokenVerifier
from warehouse.auth.rights import Permission
from warehouse.catalog.interface import Transaction
from warehouse.catalog.records import BucketRow, needle_etag
from warehouse.errors import (
    BadRequest,
    NoSuchBucket,
    NoSuchVolume,
    NotPromised,
    QuotaExceeded,
    StampRefused,
    StoreError,
    TokenRevoked,
    TokenScope,
)
from warehouse.transport.http.header_text import is_content_type
from warehouse.transport.messages import (
    Commit,
    NeedlesCommitted,
    NeedlesStored,
    Resolved,
    ResolveNeedle,
    StoredNeedle,
)
from warehouse.transport.zeromq.peers import Peer


class CommitHandlers:
    def __init__(
        self,
        context: MasterContext,
        sessions: Sessions,
        *,
        disks: DiskHandlers,
        stamps: StampAdmission,
        promises: Promises,
        reservations: Reservations,
    ) -> None:
        self._context = context
        self._clock = context.clock
        self._fleet = context.fleet
        self._writer = context.writer
        self._sessions = sessions
        self._disks = disks
        self._stamps = stamps
        self._promises = promises
        self._reservations = reservations

    def routes(self) -> Routes:
        return Routes().later(NeedlesStored, self.commit).later(ResolveNeedle, self.resolve)

    # --- stored needles ---------------------------------------------------------------------------

    async def commit(self, peer: Peer, request: NeedlesStored) -> NeedlesCommitted:
        """Make a batch of durable needles visible: one transaction, an answer for each."""
        disk = self._disks.disk_of(peer)
        for needle in request.needles:
            if needle.volume_id not in disk.volumes:
                raise BadRequest(f"volume {needle.volume_id} does not belong to disk {disk.name}")
        refused = self._stamps.refusals(disk, request.needles)
        unpromised = self._promises.refusals(disk, request.needles)
        stamp, at_ms = self._context.stamp(), now_ms()
        commits = await self._writer.write(
            lambda t: _commit(t, request.needles, unpromised, refused, stamp, at_ms), is_growth=True
        )
        commits = [
            commit if commit.code != QuotaExceeded.code else self._shown_refusal(needle, commit)
            for needle, commit in zip(request.needles, commits, strict=True)
        ]
        self._note_written(
            disk,
            (
                needle
                for position, (needle, done) in enumerate(zip(request.needles, commits, strict=True))
                if done.restamp_above is None and position not in unpromised
            ),
        )
        if self._context.changes.is_watched:
            self._tell_changes(request.needles, commits)
        return NeedlesCommitted(commits=commits, stamp=self._clock.last)

    def _shown_refusal(self, needle: StoredNeedle, commit: Commit) -> Commit:
        """A refusal by a quota, in the words for whose put it was."""
        try:
            bucket = self._context.catalog.bucket_by_id(needle.bucket_id)
        except NoSuchBucket:  # it was deleted a moment ago
            return _refusal(QuotaExceeded("the bucket had no room for this object"))
        rights = self._sessions.rights_of(needle.key_id)
        return _refusal(shown_quota_refusal(QuotaExceeded(commit.message), bucket, rights))

    def _tell_changes(self, needles: Sequence[StoredNeedle], commits: Sequence[Commit]) -> None:
        """Tell who watches which objects are visible now; those of uploads follow when they are finished."""
        changed: dict[int, list[str]] = {}
        for needle, done in zip(needles, commits, strict=True):
            if done.etag is not None and needle.upload_id is None:
                changed.setdefault(needle.bucket_id, []).append(needle.key)
        for bucket_id, keys in changed.items():
            self._context.changes.objects_changed(bucket_id, keys)

    def _note_written(self, disk: DiskState, needles: Iterable[StoredNeedle]) -> None:
        """These needles are in their volumes: what was reserved for them is used."""
        used: dict[int, int] = {}  # lease -> bytes: most needles of a message are of a few leases
        written: dict[int, list[tuple[int, int]]] = {}
        for needle in needles:
            written.setdefault(needle.volume_id, []).append((needle.stored_size, needle.stamp))
            if needle.upload_id is not None:
                self._reservations.release(slot_name(needle.upload_id, needle.volume_id, needle.needle_id))
            elif needle.lease_id is not None:
                used[needle.lease_id] = used.get(needle.lease_id, 0) + needle.stored_size
            else:
                self._reservations.release(presigned_name(needle.volume_id, needle.needle_id))
        for volume_id, sizes in written.items():
            self._fleet.wrote_all(disk.volumes[volume_id], sizes)
        for lease_id, size in used.items():
            self._reservations.use(lease_id, size)

    # --- puts in doubt ----------------------------------------------------------------------------

    async def resolve(self, peer: Peer, request: ResolveNeedle) -> Resolved:
        """Decide the fate of a put whose answer got lost: committed, or void for good."""
        bucket = self._sessions.bucket_for(peer, Permission.WRITE, request.bucket, request.key)
        issued_ms = self._require_own_needle(bucket, request)
        stamp = self._context.stamp()
        is_committed = await self._writer.write(
            self._sessions.guarded(
                peer,
                lambda t: t.resolve_needle(
                    bucket.id, request.key, request.volume_id, request.needle_id, stamp, issued_ms
                ),
            )
        )
        return Resolved(is_committed=is_committed)

    def _require_own_needle(self, bucket: BucketRow, request: ResolveNeedle) -> int:
        """Only the token that a put was made with resolves it, also when the token has expired meanwhile.

        Returns:
            When the token was made, in milliseconds since 1970; 0: nobody knows.
        """
        volume = self._fleet.volumes.get(request.volume_id)
        if volume is None:
            raise NoSuchVolume(f"there is no volume {request.volume_id}")
        disk = self._fleet.disks[volume.disk_id]
        claims = DataTokenVerifier(disk.disk_id, disk.token_keys).verify(request.token.encode(), now_s=0.0)
        is_for_it = (
            claims.operation == "put"
            and claims.bucket_id == bucket.id
            and claims.volume_id == request.volume_id
        )
        if not is_for_it or not claims.first_needle_id <= request.needle_id <= claims.last_needle_id:
            raise TokenScope(f"this token is not the one of needle {request.needle_id}")
        lease_ms = int(self._context.settings.store.lease_s * 1000)
        return 0 if claims.lease_id is None else max(claims.expires_at_s * 1000 - lease_ms, 0)


def _commit(
    t: Transaction,
    needles: Sequence[StoredNeedle],
    unpromised: Mapping[int, NotPromised],
    refused: Mapping[int, StampRefused],
    stamp: int,
    now_ms: int,
) -> list[Commit]:
    """Commit these needles, and void the ones whose stamps were refused; runs in the writer's thread.

    Here a put looks once more whether the API key behind it is good: it may have begun before that was
    revoked.
    """
    commits = []
    is_good: dict[tuple[str, int], bool] = {("", 0): True}  # by key and epoch; of 0.1.0: not known
    for position, needle in enumerate(needles):
        if position in unpromised:
            commits.append(_refusal(unpromised[position]))
            continue
        if position in refused:
            # It can never become visible, so that whoever put it may put it elsewhere.
            t.void_orphans(needle.volume_id, [needle.needle_id], stamp)
            commits.append(_refusal(refused[position]))
            continue
        holder = needle.key_id, needle.epoch
        if holder not in is_good:
            is_good[holder] = t.is_key_good(*holder, now_ms)
        if not is_good[holder]:
            commits.append(_revoked(t, needle, stamp))
            continue
        result = t.commit_needle(_with_servable_type(needle))
        error = result.error
        commits.append(Commit(result.etag, result.restamp_above) if error is None else _refusal(error))
    return commits


def _revoked(t: Transaction, needle: StoredNeedle, stamp: int) -> Commit:
    """The fate of a needle whose API key is no longer good; it may have been committed before that."""
    if needle.upload_id is None:
        with contextlib.suppress(StoreError):
            place = needle.volume_id, needle.needle_id
            if t.resolve_needle(needle.bucket_id, needle.key, *place, stamp):
                return Commit(needle_etag(needle))
    return _refusal(TokenRevoked("the API key of this put was changed, disabled or deleted meanwhile"))


def _refusal(error: StoreError) -> Commit:
    return Commit(None, None, error.code, error.message)


def _with_servable_type(needle: StoredNeedle) -> StoredNeedle:
    """A volume actor of an older release checks less."""
    if needle.content_type is None or is_content_type(needle.content_type):
        return needle
    return msgspec.structs.replace(needle, content_type=None)
