"""Commit pipeline: the way of a needle to its answer, shared by all that travel at the same moment.

    [append to the volume] -> [fdatasync of the volume] -> [NeedlesStored to the master] -> Commit

Everything that waits at one station moves on together: one write for small needles that came in one turn of
the event loop, one fdatasync for all writers of a volume, one message and one catalog transaction for all
needles it made durable.  While one batch is at the master the next is being synced, so both disks work at
once.  Needles that others have appended join at the second station.

A put is answered only behind the third station, so an answer means: durable on disk, in the catalog,
visible to every later get and list.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec
import trio

from warehouse import errors
from warehouse.actors.data.fsync import Sync, sync_in_thread
from warehouse.auth.data_tokens import DataClaims
from warehouse.errors import DeadlineExceeded, LinkDown, NeedleVoid, NoSuchNeedle, OutcomeUnknown, StoreError
from warehouse.storage.extent import Placed
from warehouse.storage.format.needle import NeedleMetadata
from warehouse.storage.format.stamp import StampClock
from warehouse.storage.volume import APPENDS_MAX, NewNeedle, Volume
from warehouse.transport.http.latch import Latch
from warehouse.transport.messages import Commit, NeedlesCommitted, NeedlesStored, StoredNeedle
from warehouse.transport.zeromq.link import Link

log = logging.getLogger(__name__)

CONFIRM_S = 15.0  # a put whose confirmation takes longer is answered "outcome unknown"
BATCH_MAX = 512  # needles in one NeedlesStored message: some 100 KiB ...
BATCH_SIZE = 256 * 1024  # ... and characters of what users say about them: at most 4 bytes each, of 1.25 MiB
APPEND_SIZE = 1024 * 1024  # bytes of data from which on a write is full: the event loop waits for it
CONFIRMS_MAX = 4  # messages under way at once; a slow master makes batches bigger, not queues longer
RESTAMPS_MAX = 8


class _Waiter:
    """One needle on its way."""

    __slots__ = ("deadline", "is_done", "latch", "needle", "outcome")

    needle: StoredNeedle  # from the second station on, like the next one
    deadline: float

    def __init__(self, latch: Latch) -> None:
        self.latch = latch
        self.is_done = False
        # The object's ETag; why there is none; or, overtaken by a version with this stamp, try above it.
        self.outcome: str | StoreError | int = ""

    def fail(self, error: StoreError) -> None:
        self._end(error)

    def succeed(self, commit: Commit) -> None:
        if commit.etag is not None:
            self._end(commit.etag)
        elif commit.restamp_above is not None:
            self._end(commit.restamp_above)
        else:
            self._end(errors.from_code(commit.code or "store_error", commit.message))

    def _end(self, outcome: str | StoreError | int) -> None:
        self.outcome = outcome
        self.is_done = True
        self.latch.count_down()


class _Arrival(NamedTuple):
    """A needle at the first station."""

    new: NewNeedle
    describe: Callable[[Placed, int], StoredNeedle]
    waiter: _Waiter


def stored_needle(
    claims: DataClaims,
    needle_id: int,
    size: int,
    metadata: NeedleMetadata,
    conditions: tuple[str | None, str | None],
    placed: Placed,
    stamp: int,
) -> StoredNeedle:
    """What the master is told of a needle that was appended.

    Args:
        size: bytes of data.
        conditions: If-Match and If-None-Match.
    """
    if_match, if_none_match = conditions
    return StoredNeedle(
        claims.volume_id,
        needle_id,
        stamp,
        size,
        placed.crc,
        placed.stored_size,
        metadata.bucket_id,
        metadata.key,
        metadata.created_ms,
        metadata.content_type,
        metadata.metadata,
        claims.lease_id,
        metadata.upload_id,
        metadata.chunk_index,
        if_match,
        if_none_match,
    )


def _fitting(waiters: Sequence[_Waiter]) -> int:
    """How many of these fit one message; at least one."""
    size = count = 0
    for waiter in waiters:
        needle = waiter.needle
        size += len(needle.key) + len(needle.content_type or "")
        for name, value in needle.metadata.items():
            size += len(name) + len(value) + 10
        size += len(needle.if_match or "") + len(needle.if_none_match or "")
        if count == BATCH_MAX or (size > BATCH_SIZE and count):
            break
        count += 1
    return count


class CommitPipeline:
    """Makes the needles of one volume durable, then visible."""

    def __init__(
        self,
        volume: Volume,
        link: Link,
        clock: StampClock,
        *,
        is_synced: bool,
        on_master_stamp: Callable[[int], None],
        sync: Sync = sync_in_thread,
    ) -> None:
        self.volume = volume
        self._link = link
        self._clock = clock
        self._is_synced = is_synced
        self._sync = sync
        self._on_master_stamp = on_master_stamp
        self._to_append: list[_Arrival] = []
        self._to_sync: list[_Waiter] = []
        self._to_confirm: list[_Waiter] = []
        self._append_wanted = trio.Event()
        self._sync_wanted = trio.Event()
        self._confirm_wanted = trio.Event()
        self._sync_events: list[trio.Event] = []
        self._confirms = trio.CapacityLimiter(CONFIRMS_MAX)
        self.write_barrier: trio.Event | None = (
            None  # while there is one, nothing may be written: wait for it
        )
        self.sync_count = 0
        self.sync_s = 0.0

    @contextlib.contextmanager
    def write_barrier_raised(self) -> Iterator[None]:
        """Keep writers of this volume waiting for as long as the block lasts.

        They would be kept waiting by the volume itself, but then with them the whole event loop.
        """
        assert self.write_barrier is None, "two switches at once"
        self.write_barrier = trio.Event()
        try:
            yield
        finally:
            self.write_barrier.set()
            self.write_barrier = None

    async def pass_write_barrier(self) -> None:
        """Wait while writers are kept waiting; without a wait there is no checkpoint."""
        while self.write_barrier is not None:
            await self.write_barrier.wait()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._append_forever)
            nursery.start_soon(self._sync_forever)
            nursery.start_soon(self._confirm_forever)
            task_status.started()

    async def put(
        self,
        new: NewNeedle,
        describe: Callable[[Placed, int], StoredNeedle],
        wait: Callable[[Latch], Awaitable[None]] = Latch.wait,
    ) -> str:
        """Append a small needle, and wait until it is durable and in the catalog; return the object's ETag.

        Args:
            describe: makes what the master is told, of where the needle lies and its stamp.
            wait: how the caller sleeps.
        Raises:
            StoreError: what `Volume.append` raises: nothing was written.  And as `commit`.
        """
        latch = Latch(1)
        waiter = _Waiter(latch)
        self._to_append.append(_Arrival(new, describe, waiter))
        self._append_wanted.set()
        await wait(latch)
        return await self._outcome_of(waiter)

    async def commit(self, needle: StoredNeedle) -> str:
        """Wait until `needle` is durable and in the catalog; return the object's ETag.

        Raises:
            StoreError: whatever the master refused it with.
            WriteFailed: the fsync failed; the volume is sealed.
            OutcomeUnknown: the master did not answer in time; the needle may become visible or not.
            NeedleVoid: the needle died before the master could answer; whether it was visible before that is
                for the master to say.
        """
        [waiter] = await self._travel([needle])
        return await self._outcome_of(waiter)

    async def _outcome_of(self, waiter: _Waiter) -> str:
        outcome = waiter.outcome
        if isinstance(outcome, int):
            [outcome] = await self._travel_again([waiter])
        waiter.outcome = ""
        if isinstance(outcome, StoreError):
            try:
                raise outcome
            finally:
                del outcome  # or error and traceback hold each other, and the body with them
        return outcome

    async def commit_many(self, needles: Sequence[StoredNeedle]) -> list[str | StoreError]:
        """Wait until all of these are durable and in the catalog, or are not to be.

        They travel together: one fsync, and one transaction for `BATCH_MAX` of them.

        Returns:
            For each, in order, the object's ETag, or the error that `commit` would have raised.
        """
        return await self._travel_again(await self._travel(needles))

    async def _travel(self, needles: Sequence[StoredNeedle]) -> list[_Waiter]:
        latch = Latch(len(needles))
        deadline = trio.current_time() + CONFIRM_S
        waiters = []
        for needle in needles:
            waiter = _Waiter(latch)
            waiter.needle, waiter.deadline = needle, deadline
            waiters.append(waiter)
        self._to_sync.extend(waiters)
        self._sync_wanted.set()
        await latch.wait()
        return waiters

    async def _travel_again(self, waiters: list[_Waiter]) -> list[str | StoreError]:
        """Send those off again that were overtaken, with fresh stamps, until each has its outcome."""
        outcomes = [waiter.outcome for waiter in waiters]
        needles = [waiter.needle for waiter in waiters]
        for _ in range(RESTAMPS_MAX - 1):
            overtaken: list[int] = []
            for position, outcome in enumerate(outcomes):
                if isinstance(outcome, int):
                    try:
                        needles[position] = await self._stamp_anew(needles[position], outcome)
                        overtaken.append(position)
                    except StoreError as error:
                        outcomes[position] = error
            if not overtaken:
                break
            again = await self._travel([needles[position] for position in overtaken])
            for position, waiter in zip(overtaken, again, strict=True):
                outcomes[position] = waiter.outcome
        return [
            OutcomeUnknown(
                f"needle {needle.needle_id}: overtaken {RESTAMPS_MAX} times while it was committed"
            )
            if isinstance(outcome, int)
            else outcome
            for needle, outcome in zip(needles, outcomes, strict=True)
        ]

    async def _stamp_anew(self, needle: StoredNeedle, restamp_above: int) -> StoredNeedle:
        """The object's present version carries a greater stamp than this needle.

        Order must be readable from the volumes alone, so it gets a fresh stamp, durably, before it may win.
        """
        self._clock.admit(restamp_above, time.time_ns() // 1_000_000)
        await self.pass_write_barrier()
        stamp = self._tick()
        try:
            self.volume.restamp(needle.needle_id, stamp=stamp)
        except NoSuchNeedle as error:
            raise _void(needle) from error
        return msgspec.structs.replace(needle, stamp=stamp)

    async def make_durable(self) -> None:
        """Wait until everything appended so far is on disk.  Raises WriteFailed when the fsync failed."""
        event = trio.Event()
        self._sync_events.append(event)
        self._sync_wanted.set()
        await event.wait()
        if self.volume.sealed_cause is not None:
            raise errors.VolumeSealed(f"volume {self.volume.volume_id} is sealed: {self.volume.sealed_cause}")

    async def _append_forever(self) -> None:
        while True:
            await self._append_wanted.wait()
            await self.pass_write_barrier()
            self._append(self._next_arrivals())
            if not self._to_append:
                self._append_wanted = trio.Event()

    def _next_arrivals(self) -> list[_Arrival]:
        """As many as one write takes."""
        count = size = 0
        for arrival in self._to_append:
            count += 1
            size += len(arrival.new.data)
            if count == APPENDS_MAX or size >= APPEND_SIZE:
                break
        arrivals = self._to_append[:count]
        del self._to_append[:count]
        return arrivals

    def _append(self, arrivals: Sequence[_Arrival]) -> None:
        deadline = trio.current_time() + CONFIRM_S
        try:
            outcomes = self.volume.append_many([arrival.new for arrival in arrivals], self._tick)
            for (_, describe, waiter), outcome in zip(arrivals, outcomes, strict=True):
                if isinstance(outcome, StoreError):
                    waiter.fail(outcome)
                else:
                    waiter.needle, waiter.deadline = describe(*outcome), deadline
                    self._to_sync.append(waiter)
        except Exception:
            # A bug: it is to cost these requests, not the actor.
            log.exception("append failed", extra={"volume_id": self.volume.volume_id})
            travelling = set(self._to_sync)
            for arrival in arrivals:
                if not arrival.waiter.is_done and arrival.waiter not in travelling:
                    arrival.waiter.fail(OutcomeUnknown("the volume failed at this needle; its log says why"))
        if self._to_sync:
            self._sync_wanted.set()

    def _tick(self) -> int:
        return self._clock.tick(time.time_ns() // 1_000_000)

    async def _sync_forever(self) -> None:
        while True:
            await self._sync_wanted.wait()
            self._sync_wanted = trio.Event()
            batch, self._to_sync = self._to_sync, []
            events, self._sync_events = self._sync_events, []
            failure: StoreError | None = None
            if self._is_synced:
                started = time.perf_counter()
                try:
                    await self._sync(self.volume)
                except StoreError as error:
                    failure = error  # final for this file: the volume has sealed itself
                    log.error(
                        "fsync failed, volume sealed",
                        extra={"volume_id": self.volume.volume_id, "cause": error.message},
                    )
                self.sync_count += 1
                self.sync_s += time.perf_counter() - started
            if failure is None and (batch or events):
                try:
                    self.volume.require_intact()
                except StoreError as error:
                    failure = error
            for event in events:
                event.set()
            if failure is not None:
                for waiter in batch:
                    waiter.fail(failure)
            elif batch:
                self._to_confirm.extend(batch)
                self._confirm_wanted.set()
            if not self._is_synced:
                await trio.lowlevel.checkpoint()

    async def _confirm_forever(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                await self._confirm_wanted.wait()
                await self._confirms.acquire_on_behalf_of(token := object())
                count = _fitting(self._to_confirm)
                batch, self._to_confirm = self._to_confirm[:count], self._to_confirm[count:]
                if not self._to_confirm:
                    self._confirm_wanted = trio.Event()
                nursery.start_soon(self._confirm, batch, token)

    async def _confirm(self, batch: list[_Waiter], token: object) -> None:
        try:
            with trio.CancelScope() as scope:
                scope.deadline = min(waiter.deadline for waiter in batch)
                await self._tell_master(batch)
            for waiter in batch:
                if not waiter.is_done:
                    waiter.fail(
                        OutcomeUnknown("the needle is on disk, but the master did not confirm it in time")
                    )
        finally:
            self._confirms.release_on_behalf_of(token)

    async def _tell_master(self, batch: list[_Waiter]) -> None:
        """Ask until the master answers: repeating is harmless, it commits a needle once."""
        while batch:
            try:
                answer = await self._link.request(
                    NeedlesStored(needles=[waiter.needle for waiter in batch]), timeout_s=CONFIRM_S
                )
            except (LinkDown, DeadlineExceeded):
                # A needle that died while the link was away must not be offered again: were the master to
                # have forgotten it, the catalog would point at a tombstone.
                batch = [waiter for waiter in batch if not self._is_voided(waiter)]
                await trio.sleep(0.02)
                continue
            except StoreError as error:
                # The batch was refused as a whole, perhaps when it was offered again after it had been
                # committed: nothing here says that these needles are not visible.
                for waiter in batch:
                    waiter.fail(OutcomeUnknown(f"the master did not confirm the needle: {error.message}"))
                return
            if not isinstance(answer, NeedlesCommitted) or len(answer.commits) != len(batch):
                for waiter in batch:
                    waiter.fail(OutcomeUnknown(f"the master answered {type(answer).__name__} to a commit"))
                return
            self._on_master_stamp(answer.stamp)
            for waiter, commit in zip(batch, answer.commits, strict=True):
                waiter.succeed(commit)
            return

    def _is_voided(self, waiter: _Waiter) -> bool:
        try:
            found = self.volume.find(waiter.needle.needle_id)
        except StoreError as error:
            waiter.fail(OutcomeUnknown(f"the needle's index entry cannot be read: {error.message}"))
            return True
        if found is not None and not found.is_deleted:
            return False
        waiter.fail(_void(waiter.needle))
        return True


def _void(needle: StoredNeedle) -> NeedleVoid:
    """What a put is told whose needle has a tombstone here, and no answer of the master.

    Two kinds of needles have one: those that were given up before they were committed, and those that were
    committed, and then replaced or deleted.  The master alone can tell them apart.
    """
    return NeedleVoid(
        f"needle {needle.needle_id} was deleted before the master confirmed it: it was given up, or it was"
        " stored and somebody has replaced or deleted it since; the master knows which"
    )
