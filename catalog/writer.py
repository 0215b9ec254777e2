"""Writer: many requests, one transaction, one fsync, one hop to a thread.

Whoever asks while a transaction is being written travels in the next one, so a slow disk makes bigger
transactions, not a longer queue.  Each request runs in its own savepoint: one that is refused undoes
only itself.  A transaction that cannot be committed fails every request in it.

The only file of this room that knows Trio.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import trio

from catalog.changes import Transaction
from catalog.store import Catalog
from errors import Overloaded, StoreError, Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

AFTER_FAILURE_S = 1.0
BATCH_MAX = 1000  # requests in one transaction: bounds how long the first of them waits for the last


class _Request(Generic[T]):
    """One piece of work; whoever asked for it sleeps on `done`."""

    __slots__ = ("done", "error", "result", "work")

    def __init__(self, work: Callable[[Transaction], T]) -> None:
        self.work = work
        self.done = trio.Event()
        self.result: T | None = None
        self.error: BaseException | None = None

    def run(self, transaction: Transaction) -> None:
        try:
            with transaction.savepoint():
                self.result = self.work(transaction)
        except sqlite3.Error:
            raise  # of the whole transaction
        except Exception as error:
            # Bugs too go to whoever asked, and to nobody else: the savepoint has undone what they did.
            self.error = error


class CatalogWriter:
    """Owns the catalog's writer connection while `run` runs."""

    def __init__(self, catalog: Catalog, *, queue_max: int = 10_000) -> None:
        self._catalog = catalog
        self._queue_max = queue_max
        self._queue: list[_Request[Any]] = []
        self._wanted = trio.Event()
        self._is_closed = False
        self._thread = trio.CapacityLimiter(1)

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """Have `work` done in the next transaction; return its result once that is durable.

        From the moment of the call the work will be done, even if the caller is cancelled.

        Raises:
            Overloaded: too many requests wait already; nothing was done.
            StoreError: what `work` raised; only its own changes are undone.
            DiskFull, WriteFailed: the transaction was not committed.
        """
        if self._is_closed:
            raise Unavailable("the catalog is closed")
        if len(self._queue) >= self._queue_max:
            raise Overloaded(f"{len(self._queue)} requests wait for the catalog already")
        request = _Request(work)
        self._queue.append(request)
        self._wanted.set()
        await request.done.wait()
        if request.error is not None:
            raise request.error
        return request.result  # type: ignore[return-value]  # there is one when there is no error

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write until cancelled; a transaction under way is finished first."""
        task_status.started()
        try:
            while True:
                if not self._queue and not self._has_purging_to_do():
                    await self._wanted.wait()
                batch, self._queue = self._queue[:BATCH_MAX], self._queue[BATCH_MAX:]
                if not self._queue:
                    self._wanted = trio.Event()
                try:
                    # Not abandoned on cancel, so that no thread still writes when the catalog is closed.
                    is_written = await trio.to_thread.run_sync(self._write_batch, batch, limiter=self._thread)
                except BaseException:
                    self._queue = batch + self._queue  # cancelled before it began: refused with the rest
                    raise
                for request in batch:
                    request.done.set()
                if not is_written:  # a full disk, say: purging can wait for it to have room again
                    with trio.move_on_after(AFTER_FAILURE_S):
                        await self._wanted.wait()
        finally:
            self._is_closed = True
            for request in self._queue:
                request.error = Unavailable("the catalog is being closed")
                request.done.set()

    def _has_purging_to_do(self) -> bool:
        return self._catalog.is_purge_left and self._catalog.failure is None

    def _write_batch(self, batch: list[_Request[Any]]) -> bool:
        """In the thread: one transaction, with one piece of a deleted bucket for company."""
        try:
            with self._catalog.transaction() as transaction:
                for request in batch:
                    request.run(transaction)
                if self._catalog.is_purge_left:
                    transaction.purge()
        except StoreError as error:
            for request in batch:
                request.error = type(error)(error.message)  # one each: a raised error collects tracebacks
            log.error("catalog transaction failed", extra={"requests": len(batch), "cause": error.message})
            return False
        return True
