"""Commit pipeline: how a needle of one volume becomes durable, then visible, and then is answered.

    handler            append              sync                confirm             master
       |                  |                  |                    |                  |
       | submit           |                  |                    |                  |
       |----------------->| one write for    |                    |                  |
       | sleeps on the    | all puts of one  |                    |                  |
       | put's latch      | turn of the loop |                    |                  |
       |                  |----------------->| one fdatasync for  |                  |
       | commit, commit_many (the needle has | all that waits     |                  |
       | been appended by the handler)       |                    |                  |
       |------------------------------------>|                    |                  |
       | make_durable                        |                    |                  |
       |------------------------------------>|                    |                  |
       |<----- durable: its event is set ----|                    |                  |
       |                                     |------------------->| NeedlesStored    |
       |                                     |                    |----------------->| one transaction
       |                                     |                    |<-----------------|
       |<------------------- outcome: its latch opens ------------|                  |
       |                                     |                    |                  |
       | overtaken by a newer version: a     |                    |                  |
       | fresh stamp, and once more          |                    |                  |
       |------------------------------------>|                    |                  |

| stage   | its loop           | who wakes it                    | whom it wakes                         |
|---------|--------------------|---------------------------------|---------------------------------------|
| append  | `_append_forever`  | `submit`                        | sync; the handler of a refused needle |
| sync    | `_sync_forever`    | append, `commit`, `commit_many`,| confirm; `make_durable`; handlers,    |
|         |                    | `make_durable`                  | when the fsync failed                 |
| confirm | `_confirm_forever` | sync                            | the handlers                          |

Each stage takes everything that waits for it, so puts of the same moment share a write, an fdatasync and a
catalog transaction.  The stages overlap: while one batch is at the master, the next is being synced.

A put is answered only after the last stage, so its answer means: durable on disk, in the catalog, visible
to every later get and list.

The **write barrier** holds back everything that writes to the volume, for the moment in which a compacted
generation takes the place of the present one.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec
import trio

from warehouse import errors
from warehouse.actors.data.fsync import Sync, sync_in_thread
from warehouse.actors.data.put_request import PutDetails
from warehouse.errors import DeadlineExceeded, LinkDown, NeedleVoid, NoSuchNeedle, OutcomeUnknown, StoreError
from warehouse.storage.format.stamp import StampClock
from warehouse.storage.volume import Volume
from warehouse.storage.writing.appending import APPENDS_MAX, NewNeedle
from warehouse.transport.http.latch import Latch
from warehouse.transport.messages import Answer, Commit, NeedlesCommitted, NeedlesStored, StoredNeedle
from warehouse.transport.zeromq.link import Link

log = logging.getLogger(__name__)

CONFIRM_S = 15.0  # a put whose confirmation takes longer is answered "outcome unknown"
UNDECIDED_S = 2 * CONFIRM_S  # for a read of a put that is under way, which may have to be committed twice
RETRY_S = 0.02  # before a batch is offered again to a master that did not answer
BATCH_MAX = 512  # needles in one NeedlesStored message: some 100 KiB ...
# ... and characters of what users say about them (at most 4 bytes each, of 1.25 MiB), attributes included.
BATCH_SIZE = 256 * 1024
APPEND_SIZE = 1024 * 1024  # bytes of data from which on a write is full: the event loop waits for it
CONFIRMS_MAX = 4  # messages under way at once; a slow master makes batches bigger, not queues longer
RESTAMPS_MAX = 8


class Uncommitted(set[int]):
    """Needles in one volume of which it is not known yet whether they become visible."""

    __slots__ = ("_decided",)

    def __init__(self) -> None:
        super().__init__()
        self._decided: trio.Event | None = None  # set when one of them is decided; None: nobody waits

    def decided(self, needle_id: int) -> None:
        self.discard(needle_id)
        if self._decided is not None:
            self._decided.set()
            self._decided = None

    async def wait(self, *needle_ids: int) -> None:
        """Wait until none of these is undecided.  Without a wait there is no checkpoint.

        Raises:
            DeadlineExceeded: some still are after `UNDECIDED_S`.
        """
        if self.isdisjoint(needle_ids):
            return
        with trio.move_on_after(UNDECIDED_S):
            while not self.isdisjoint(needle_ids):
                if self._decided is None:
                    self._decided = trio.Event()
                await self._decided.wait()
        if not self.isdisjoint(needle_ids):
            raise DeadlineExceeded("it is not decided yet whether this object becomes visible: try again")


class Put:
    """One needle in the pipeline.  Its handler sleeps on `latch` and then asks for the result."""

    __slots__ = (
        "deadline",
        "details",
        "is_done",
        "latch",
        "needle",
        "new",
        "outcome",
        "promise",
        "uncommitted",
    )

    new: NewNeedle  # in the append stage alone, like the next one
    details: PutDetails
    needle: StoredNeedle  # from the sync stage on, like the next one
    promise: str  # that the master has made for it, as `PutDetails.promise`
    deadline: float

    def __init__(self, latch: Latch, uncommitted: Uncommitted) -> None:
        self.latch = latch
        self.uncommitted = uncommitted
        self.is_done = False
        # The object's ETag; or why there is none; or the stamp of the newer version that has overtaken it.
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
        needle = getattr(self, "needle", None)  # None: nothing was written
        if needle is not None and not isinstance(outcome, int):  # overtaken, it is committed once more
            self.uncommitted.decided(needle.needle_id)
        self.latch.count_down()


class _Stage:
    """The queue of one stage, and the event that wakes the stage's loop."""

    __slots__ = ("queue", "wanted")

    def __init__(self) -> None:
        self.queue: list[Put] = []
        self.wanted = trio.Event()

    def add(self, puts: Iterable[Put]) -> None:
        self.queue.extend(puts)
        self.wanted.set()

    def take(self, count: int) -> list[Put]:
        """The first `count`; the loop sleeps again when none is left."""
        taken, self.queue = self.queue[:count], self.queue[count:]
        if not self.queue:
            self.wanted = trio.Event()
        return taken


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
        self._append_stage, self._sync_stage, self._confirm_stage = _Stage(), _Stage(), _Stage()
        self._durable_events: list[trio.Event] = []  # of `make_durable`
        self._confirms = trio.CapacityLimiter(CONFIRMS_MAX)
        self.uncommitted = Uncommitted()  # handlers add what they append themselves, before it can be read
        self.write_barrier: trio.Event | None = None  # while there is one, nothing may be written
        self.sync_count = 0
        self.sync_s = 0.0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._append_forever)
            nursery.start_soon(self._sync_forever)
            nursery.start_soon(self._confirm_forever)
            task_status.started()

    # --- for handlers -----------------------------------------------------------------------------

    def submit(self, new: NewNeedle, details: PutDetails) -> Put:
        """Hand over a small needle.  Sleep on the put's latch, then await `result_of`."""
        put = Put(Latch(1), self.uncommitted)
        put.new, put.details = new, details
        self._append_stage.queue.append(put)
        self._append_stage.wanted.set()
        return put

    async def result_of(self, put: Put) -> str:
        """The object's ETag.  The put's latch must be open.

        Raises:
            StoreError: what `Volume.append` raises: nothing was written.  And as `commit`.
        """
        outcome = put.outcome
        if isinstance(outcome, int):
            [outcome] = await self._restamp_overtaken([put])
        put.outcome = ""
        if isinstance(outcome, StoreError):
            try:
                raise outcome
            finally:
                del outcome  # or error and traceback hold each other, and the body with them
        return outcome

    async def commit(self, needle: StoredNeedle, promise: str = "") -> str:
        """Wait until an appended needle is durable and in the catalog; return the object's ETag.

        Raises:
            StoreError: whatever the master refused it with.
            WriteFailed: the fsync failed; the volume is sealed.
            OutcomeUnknown: the master did not answer in time; the needle may become visible or not.
            NeedleVoid: the needle died before the master could answer; whether it was visible before that is
                for the master to say.
        """
        [put] = await self._sync_and_commit([needle], [promise])
        return await self.result_of(put)

    async def commit_many(self, needles: Sequence[StoredNeedle], promise: str = "") -> list[str | StoreError]:
        """Wait until each of these is durable and in the catalog, or has failed.

        They share one fsync, and `BATCH_MAX` of them one transaction.

        Returns:
            For each, in order, the object's ETag, or the error that `commit` would have raised.
        """
        puts = await self._sync_and_commit(needles, itertools.repeat(promise))
        return await self._restamp_overtaken(puts)

    async def make_durable(self) -> None:
        """Wait until everything appended so far is on disk.  Raises VolumeSealed when the fsync failed."""
        durable = trio.Event()
        self._durable_events.append(durable)
        self._sync_stage.wanted.set()
        await durable.wait()
        if self.volume.sealed_cause is not None:
            raise errors.VolumeSealed(f"volume {self.volume.volume_id} is sealed: {self.volume.sealed_cause}")

    # --- the write barrier ------------------------------------------------------------------------

    @contextlib.contextmanager
    def write_barrier_raised(self) -> Iterator[None]:
        """Hold back the writers of this volume while the block lasts.

        The volume's own lock would hold them back too, but the whole event loop with them.
        """
        assert self.write_barrier is None, "two switches at once"
        self.write_barrier = trio.Event()
        try:
            yield
        finally:
            self.write_barrier.set()
            self.write_barrier = None

    async def pass_write_barrier(self) -> None:
        """Wait while the barrier is raised.  Without a wait there is no checkpoint."""
        while self.write_barrier is not None:
            await self.write_barrier.wait()

    # --- the append stage -------------------------------------------------------------------------

    async def _append_forever(self) -> None:
        stage = self._append_stage
        while True:
            await stage.wanted.wait()
            await self.pass_write_barrier()
            self._append(stage.take(_count_for_one_write(stage.queue)))

    def _append(self, puts: Sequence[Put]) -> None:
        deadline = trio.current_time() + CONFIRM_S
        appended: list[Put] = []
        try:
            outcomes = self.volume.append_many([put.new for put in puts], self._tick)
            for put, outcome in zip(puts, outcomes, strict=True):
                if isinstance(outcome, StoreError):
                    put.fail(outcome)
                else:
                    put.needle, put.deadline = put.details.stored(*outcome), deadline
                    put.promise = put.details.promise
                    self.uncommitted.add(put.needle.needle_id)
                    del put.new  # or the later stages keep its data, the sync stage until its next batch
                    appended.append(put)
        except Exception:
            # A bug: these requests fail, the actor goes on.
            log.exception("append failed", extra={"volume_id": self.volume.volume_id})
            for put in set(puts).difference(appended):
                if not put.is_done:
                    put.fail(OutcomeUnknown("the volume failed at this needle; its log says why"))
        if appended:
            self._sync_stage.add(appended)

    def _tick(self) -> int:
        return self._clock.tick(time.time_ns() // 1_000_000)

    # --- the sync stage ---------------------------------------------------------------------------

    async def _sync_and_commit(self, needles: Sequence[StoredNeedle], promises: Iterable[str]) -> list[Put]:
        """Send appended needles through the sync and confirm stages; return when all have an outcome."""
        latch = Latch(len(needles))
        deadline = trio.current_time() + CONFIRM_S
        puts = []
        for needle, promise in zip(needles, promises, strict=False):
            put = Put(latch, self.uncommitted)
            put.needle, put.promise, put.deadline = needle, promise, deadline
            puts.append(put)
        self._sync_stage.add(puts)
        await latch.wait()
        return puts

    async def _sync_forever(self) -> None:
        stage = self._sync_stage
        while True:
            await stage.wanted.wait()
            puts = stage.take(len(stage.queue))
            durable_events, self._durable_events = self._durable_events, []
            failure = await self._sync_volume() if self._is_synced else None
            if failure is None and (puts or durable_events):
                failure = self._find_damage()
            for event in durable_events:
                event.set()
            if failure is not None:
                for put in puts:
                    put.fail(failure)
            elif puts:
                self._confirm_stage.add(puts)
            if not self._is_synced:
                await trio.lowlevel.checkpoint()

    async def _sync_volume(self) -> StoreError | None:
        """Make what is written durable; return why that failed."""
        failure = None
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
        return failure

    def _find_damage(self) -> StoreError | None:
        try:
            self.volume.require_intact()
        except StoreError as error:
            return error
        return None

    # --- the confirm stage ------------------------------------------------------------------------

    async def _confirm_forever(self) -> None:
        stage = self._confirm_stage
        async with trio.open_nursery() as nursery:
            while True:
                await stage.wanted.wait()
                await self._confirms.acquire_on_behalf_of(token := object())
                nursery.start_soon(self._confirm, stage.take(_count_for_one_message(stage.queue)), token)

    async def _confirm(self, puts: list[Put], token: object) -> None:
        try:
            with trio.CancelScope() as scope:
                scope.deadline = min(put.deadline for put in puts)
                await self._tell_master(puts)
            for put in puts:
                if not put.is_done:
                    put.fail(
                        OutcomeUnknown("the needle is on disk, but the master did not confirm it in time")
                    )
        finally:
            self._confirms.release_on_behalf_of(token)

    async def _tell_master(self, puts: list[Put]) -> None:
        """Ask until the master answers: repeating is harmless, it commits a needle once."""
        while puts:
            message = NeedlesStored(needles=_with_promises_once(puts))
            try:
                answer = await self._link.request(message, timeout_s=CONFIRM_S)
            except (LinkDown, DeadlineExceeded):
                # A needle that died while the link was away must not be offered again: were the master to
                # have forgotten it, the catalog would point at a tombstone.
                puts = [put for put in puts if not self._is_voided(put)]
                await trio.sleep(RETRY_S)
            except StoreError as error:
                # The batch was refused as a whole, perhaps when it was offered again after it had been
                # committed: nothing here says that these needles are not visible.
                _fail_all(puts, f"the master did not confirm the needle: {error.message}")
                return
            else:
                self._deliver(puts, answer)
                return

    def _deliver(self, puts: Sequence[Put], answer: Answer) -> None:
        if not isinstance(answer, NeedlesCommitted) or len(answer.commits) != len(puts):
            _fail_all(puts, f"the master answered {type(answer).__name__} to a commit")
            return
        self._on_master_stamp(answer.stamp)
        for put, commit in zip(puts, answer.commits, strict=True):
            put.succeed(commit)

    def _is_voided(self, put: Put) -> bool:
        try:
            found = self.volume.find(put.needle.needle_id)
        except StoreError as error:
            put.fail(OutcomeUnknown(f"the needle's index entry cannot be read: {error.message}"))
            return True
        if found is not None and not found.is_deleted:
            return False
        put.fail(_void(put.needle))
        return True

    # --- overtaken needles ------------------------------------------------------------------------

    async def _restamp_overtaken(self, puts: list[Put]) -> list[str | StoreError]:
        """Commit overtaken needles once more, with fresh stamps, until each has its final outcome."""
        outcomes = [put.outcome for put in puts]
        if not any(isinstance(outcome, int) for outcome in outcomes):
            return [_final(put.outcome, put.needle) for put in puts]
        try:
            return await self._restamp_all(puts, outcomes)
        finally:
            for put in puts:
                self.uncommitted.decided(put.needle.needle_id)

    async def _restamp_all(
        self, puts: Sequence[Put], outcomes: list[str | StoreError | int]
    ) -> list[str | StoreError]:
        needles = [put.needle for put in puts]
        for _ in range(RESTAMPS_MAX - 1):
            overtaken: list[int] = []
            for position, outcome in enumerate(outcomes):
                if isinstance(outcome, int):
                    try:
                        needles[position] = await self._restamp(needles[position], outcome)
                        overtaken.append(position)
                    except StoreError as error:
                        outcomes[position] = error
            if not overtaken:
                break
            again = await self._sync_and_commit(
                [needles[position] for position in overtaken],
                [puts[position].promise for position in overtaken],
            )
            for position, put in zip(overtaken, again, strict=True):
                outcomes[position] = put.outcome
        return [_final(outcome, needle) for outcome, needle in zip(outcomes, needles, strict=True)]

    async def _restamp(self, needle: StoredNeedle, restamp_above: int) -> StoredNeedle:
        """Give a needle a stamp greater than that of the object's present version.

        Order must be readable from the volumes alone, so the fresh stamp is written before it may win.
        """
        self._clock.admit(restamp_above, time.time_ns() // 1_000_000)
        await self.pass_write_barrier()
        stamp = self._tick()
        try:
            self.volume.restamp(needle.needle_id, stamp=stamp)
        except NoSuchNeedle as error:
            raise _void(needle) from error
        return msgspec.structs.replace(needle, stamp=stamp)


def _count_for_one_write(puts: Sequence[Put]) -> int:
    """How many of these one write takes."""
    count = size = 0
    for put in puts:
        count += 1
        size += len(put.new.data)
        if count == APPENDS_MAX or size >= APPEND_SIZE:
            break
    return count


def _count_for_one_message(puts: Sequence[Put]) -> int:
    """How many of these fit into one message; at least one."""
    size = count = 0
    promise = ""
    for put in puts:
        needle = put.needle
        if put.promise != promise:
            promise = put.promise
            size += len(promise)
        size += len(needle.key) + len(needle.content_type or "") + len(needle.attributes)
        for name, value in needle.metadata.items():
            size += len(name) + len(value) + 10
        size += len(needle.if_match or "") + len(needle.if_none_match or "")
        if count == BATCH_MAX or (size > BATCH_SIZE and count):
            break
        count += 1
    return count


def _with_promises_once(puts: Sequence[Put]) -> list[StoredNeedle]:
    """The needles of a message: most are of one lease, and the first of them shows its promise."""
    needles, promise = [], ""
    for put in puts:
        needle = put.needle
        if put.promise != promise:
            promise = put.promise
            needle = msgspec.structs.replace(needle, promise=promise)
        needles.append(needle)
    return needles


def _fail_all(puts: Iterable[Put], message: str) -> None:
    """Nobody knows the fate of these.  Each gets an error of its own, because it will be raised."""
    for put in puts:
        put.fail(OutcomeUnknown(message))


def _final(outcome: str | StoreError | int, needle: StoredNeedle) -> str | StoreError:
    if isinstance(outcome, int):
        return OutcomeUnknown(
            f"needle {needle.needle_id}: overtaken {RESTAMPS_MAX} times while it was committed"
        )
    return outcome


def _void(needle: StoredNeedle) -> NeedleVoid:
    """What a put is told whose needle has a tombstone here, and no answer of the master.

    Two kinds of needles have one: those that were given up before they were committed, and those that were
    committed, and then replaced or deleted.  The master alone can tell them apart.
    """
    return NeedleVoid(
        f"needle {needle.needle_id} was deleted before the master confirmed it: it was given up, or it was"
        " stored and somebody has replaced or deleted it since; the master knows which"
    )
