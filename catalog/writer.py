"""Writer: many requests, one transaction, one fsync, one hop to a thread.

Requests that arrive while a transaction is being written share the next one, so a slow disk makes bigger
transactions, not a longer queue.  Each request runs in its own savepoint: a request that is refused undoes
only itself.  A transaction that cannot be committed fails every request in it.

This is the only file of the room that knows Trio.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from functools import partial
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

import trio

from warehouse.catalog.interface import Catalog, Transaction, TransactionBroken
from warehouse.errors import DiskFull, OutcomeUnknown, Overloaded, StoreError, Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

AFTER_FAILURE_S = 1.0
THREAD_NAME = "catalog writer"
BATCH_MAX = 1000  # requests in one transaction: bounds how long the first of them waits for the last


class _Request(Generic[T]):
    """One piece of work; its caller sleeps on `done`."""

    __slots__ = ("done", "error", "is_growth", "result", "work")

    def __init__(self, work: Callable[[Transaction], T], *, is_growth: bool) -> None:
        self.work = work
        self.is_growth = is_growth
        self.done = trio.Event()
        self.result: T | None = None
        self.error: BaseException | None = None

    def run(self, transaction: Transaction) -> None:
        try:
            with transaction.savepoint():
                self.result = self.work(transaction)
        except TransactionBroken:
            raise  # of the whole transaction
        except Exception as error:
            # A bug, too, fails its own caller and nobody else: the savepoint has undone what it did.
            self.error = error


class CatalogWriter:
    """Owns the catalog's writer connection while `run` runs.

    One thread writes, for as long as `run` runs.  Starting a thread job for each transaction costs 40 us
    more, whatever is in the transaction.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        queue_max: int = 10_000,
        make_room: Callable[[int, bool], bool] = lambda failed_count, is_growth: False,
    ) -> None:
        """
        Args:
            make_room: called in the writing thread when the disk is full, with the number of times that this
                transaction has failed for that reason, and whether it brings anything new.  It returns
                whether another try is worthwhile.
        """
        self._catalog = catalog
        self._make_room = make_room
        self._queue_max = queue_max
        self._queue: list[_Request[Any]] = []
        self._wanted = trio.Event()
        self._is_closed = False
        self._is_pausing = False  # `_try_again` sleeps, and purges when it wakes up
        self._batches: SimpleQueue[list[_Request[Any]] | None] = SimpleQueue()  # to the thread; None ends it
        self._under_way: list[_Request[Any]] | None = None  # what the thread works on
        # The loop calls this with the volumes in which a transaction turned needles into garbage.
        self.on_garbage: Callable[[Collection[int]], None] = lambda volume_ids: None

    async def write(self, work: Callable[[Transaction], T], *, is_growth: bool = False) -> T:
        """Do `work` in the next transaction; return its result once the transaction is durable.

        From the moment of the call the work will be done, even if the caller is cancelled.

        Args:
            is_growth: the work brings something new, so on a full disk it comes after work that frees room.

        Raises:
            Overloaded: too many requests are waiting; nothing was done.
            StoreError: what `work` raised; only its own changes are undone.
            DiskFull, WriteFailed: the transaction was not committed.
            OutcomeUnknown: it may or may not have been committed.
        """
        if self._is_closed:
            raise Unavailable("the catalog is closed")
        if len(self._queue) >= self._queue_max:
            raise Overloaded(f"{len(self._queue)} requests are waiting for the catalog; try again later")
        request = _Request(work, is_growth=is_growth)
        self._queue.append(request)
        if self._under_way is None:
            self._wanted.set()
        await request.done.wait()
        if request.error is not None:
            raise request.error
        return request.result  # type: ignore[return-value]  # there is one when there is no error

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write until cancelled; a transaction under way is finished first."""
        try:
            async with trio.open_nursery() as nursery:
                # Not abandoned on cancel, so that no thread still writes when the catalog is closed.
                write = partial(self._write_forever, trio.lowlevel.current_trio_token(), nursery)
                limiter = trio.CapacityLimiter(1)
                nursery.start_soon(
                    partial(trio.to_thread.run_sync, thread_name=THREAD_NAME, limiter=limiter), write
                )
                try:
                    if self._has_purging_to_do():
                        self._wanted.set()
                    task_status.started()
                    while True:
                        # Requests of the same moment come first: this task runs after theirs.
                        await self._wanted.wait()
                        self._wanted = trio.Event()
                        if self._under_way is None:
                            self._under_way, self._queue = self._queue[:BATCH_MAX], self._queue[BATCH_MAX:]
                            self._batches.put(self._under_way)
                finally:
                    self._is_closed = True
                    self._batches.put(None)
        finally:
            for request in self._under_way or []:  # the thread has finished, and had no turn to report
                request.error = OutcomeUnknown("the catalog was closed while this was being written")
                request.done.set()
            for request in self._queue:
                request.error = Unavailable("the catalog is being closed")
                request.done.set()

    def _has_purging_to_do(self) -> bool:
        return self._catalog.is_purge_left and self._catalog.failure is None

    def _written(self, garbage_in: Collection[int] | None, nursery: trio.Nursery) -> None:
        """The thread has finished its batch.

        Args:
            garbage_in: the volumes with new garbage; None: nothing was written.
        """
        assert self._under_way is not None
        for request in self._under_way:
            request.done.set()
        self._under_way = None
        is_written = garbage_in is not None
        if garbage_in:
            self.on_garbage(garbage_in)
        if self._queue or (is_written and self._has_purging_to_do()):
            self._wanted.set()
        elif not is_written and not self._is_closed and not self._is_pausing:
            self._is_pausing = True
            nursery.start_soon(self._try_again)

    async def _try_again(self) -> None:
        """The last transaction failed, perhaps on a full disk: purging can wait until there is room."""
        await trio.sleep(AFTER_FAILURE_S)
        self._is_pausing = False
        if self._has_purging_to_do():
            self._wanted.set()

    # --- in the thread ----------------------------------------------------------------------------

    def _write_forever(self, loop: trio.lowlevel.TrioToken, nursery: trio.Nursery) -> None:
        while (batch := self._batches.get()) is not None:
            loop.run_sync_soon(self._written, self._write_batch(batch), nursery)

    def _write_batch(self, batch: list[_Request[Any]]) -> Collection[int] | None:
        """Write one transaction, with one piece of a deleted bucket; `_written` takes the result."""
        failed_count = 0
        while True:
            is_growth = any(request.is_growth for request in batch)
            for request in batch:  # an earlier try may have been rolled back
                request.result, request.error = None, None
            try:
                with self._catalog.transaction() as transaction:
                    for request in batch:
                        request.run(transaction)
                    if self._catalog.is_purge_left:
                        transaction.purge()
            except StoreError as error:
                if isinstance(error, DiskFull) and self._make_room(failed_count, is_growth):
                    failed_count += 1
                    continue
                # A full disk refuses work that brings something new; work that frees room is tried alone.
                rest = [request for request in batch if not request.is_growth]
                is_tried_again = isinstance(error, DiskFull) and is_growth and bool(rest)
                failed = [request for request in batch if request.is_growth] if is_tried_again else batch
                for request in failed:
                    request.error = type(error)(
                        error.message
                    )  # one error for each: a raised error collects tracebacks
                log.error(
                    "catalog transaction failed", extra={"requests": len(failed), "cause": error.message}
                )
                if not is_tried_again:
                    return None
                batch, failed_count = rest, 0
                continue
            return transaction.garbage_in
