"""History: how the store was in the last 30 days, for operators and their plots.

Every ten seconds the master notes how full and how busy the store is, and every hour how much its largest
buckets hold.  The notes are in memory; a file gets what is new once a minute, in a thread.  A file that
cannot be written costs the history of the time until the next restart, and nothing else.
"""

from __future__ import annotations

import heapq
import logging
import sqlite3
import time
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

import trio

from warehouse.actors.control.catalog_space import CatalogRoom
from warehouse.actors.control.context import MasterContext, now_ms
from warehouse.actors.control.history_file import BucketSize, HistoryFile, is_damage
from warehouse.actors.control.history_series import HEALTHS, Sample, Series
from warehouse.actors.control.meters import Meters
from warehouse.actors.control.store_content import StoreContent
from warehouse.errors import StoreError
from warehouse.transport.messages import BucketPoint
from warehouse.transport.seldom import Seldom

log = logging.getLogger(__name__)

HISTORY_NAME: Final = "history.sqlite3"
CLOSE_S: Final = 5.0  # for the last notes, when the master stops
FILE_S: Final = 10.0  # for one use of the file
BUCKETS_MAX: Final = 1000
PAGE: Final = 1000  # buckets, and points, between two turns of the other tasks
HOUR_S: Final = 3600
DAY_S: Final = 24 * HOUR_S

_FileError: Final = (OSError, sqlite3.Error, trio.TooSlowError)
T = TypeVar("T")


class HistoryKeeper:
    """
    Attributes:
        series: the notes about the store.
        unsaved_count: how often the file could not be written or read.
    """

    def __init__(
        self,
        context: MasterContext,
        *,
        meters: Meters,
        content: StoreContent,
        catalog_room: CatalogRoom,
    ) -> None:
        self._context = context
        self._meters = meters
        self._content = content
        self._catalog_room = catalog_room
        self._file = HistoryFile(context.catalog.folder / HISTORY_NAME)
        self._one_thread = trio.CapacityLimiter(1)
        self._failures = Seldom(log, "history not saved")
        self._sampled_at = time.monotonic()
        self._bucket_sizes: dict[int, BucketSize] = {}  # as they are in the file
        self._buckets_at_s: int | None = None  # when they were looked at; None: ask the file
        self.series = Series()
        self.unsaved_count = 0

    def figures(self) -> list[tuple[str, str, float]]:
        """Name, text and value of each metric."""
        return [
            ("history_failures", "Times that the history could not be written or read", self.unsaved_count),
            (
                "history_doubted",
                "Notes left out of the history, because the clock had jumped back",
                self.series.doubted_count,
            ),
        ]

    # --- life -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Note and save until cancelled; the last notes are saved then."""
        await self._load()
        self._meters.take()
        saved_at = float("-inf")
        try:
            while True:
                await trio.sleep(self._until_next_step_s())
                is_noted = self.note(now_ms())
                if time.monotonic() - saved_at >= self._context.intervals.keep:
                    saved_at = time.monotonic()
                    await self.save()
                if is_noted:
                    await self._look_at_buckets(int(time.time()))
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_S):
                self.note(now_ms())
                await self.save()
                await self._in_thread(self._file.close)

    def _until_next_step_s(self) -> float:
        """Until the clock begins another step: each has one sample then."""
        step_ms = int(1000 * self._context.intervals.note)
        return (step_ms - now_ms() % step_ms) / 1000

    async def _load(self) -> None:
        try:
            rows = await self._in_thread(self._file.load)
        except _FileError as error:
            self._failed(error)
        else:
            self.series.restore(rows)

    def note(self, at_ms: int) -> bool:
        """Note how the store is at this moment; False: the clock jumped back, see `Series.add`."""
        now, before = time.monotonic(), self._sampled_at
        self._meters.keep(self._context.fleet.disks)
        content, usage = self._content.now(), self._meters.take()
        self._sampled_at = now
        return self.series.add(
            Sample(
                at_ms=max(0, at_ms),
                span_ms=max(1, round(1000 * (now - before))),
                health=HEALTHS.index(content.health),
                bucket_count=content.bucket_count,
                object_count=content.object_count,
                byte_count=content.byte_count,
                stored_bytes=content.stored_bytes,
                dead_bytes=content.dead_bytes,
                free=content.free,
                capacity=content.capacity,
                gets=usage.gets,
                puts=usage.puts,
                deletes=usage.deletes,
                other=usage.other,
                bytes_in=usage.bytes_in,
                bytes_out=usage.bytes_out,
                get_latencies=usage.get_latencies,
                put_latencies=usage.put_latencies,
            )
        )

    # --- the file ---------------------------------------------------------------------------------

    async def save(self) -> None:
        """Bring the file up to date, if that is possible now."""
        if self._catalog_room.is_short:
            self.unsaved_count += 1  # what is left of the disk is the catalog's
            return
        changes = self.series.take_changes()
        try:
            await self._in_thread(partial(self._file.save, changes))
        except _FileError as error:
            self.series.give_back(changes)
            self._failed(error)
            await self._renew(error)

    async def _renew(self, error: Exception) -> None:
        """Begin a new file in place of a damaged one."""
        if not is_damage(error):
            return
        try:
            await self._in_thread(partial(self._file.set_aside, error))
        except OSError as failure:
            self._failed(failure)
            return
        self.series.save_all()
        self._buckets_at_s = None

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """
        Raises:
            OSError, sqlite3.Error: of the work.
            TooSlowError: the disk of the file hangs; the work may still be done some time.
        """
        with trio.fail_after(FILE_S):
            return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._one_thread)

    def _failed(self, error: Exception) -> None:
        self.unsaved_count += 1
        self._failures.happened(cause=str(error), path=str(self._file.path))

    # --- buckets ----------------------------------------------------------------------------------

    async def _look_at_buckets(self, at_s: int) -> None:
        """Keep what the largest buckets hold, once an hour."""
        if self._catalog_room.is_short:
            return
        try:
            before_s = await self._latest_look()
            if at_s // HOUR_S == before_s // HOUR_S:
                return
            sizes = await self._largest_buckets()
            is_new_day = at_s // DAY_S != before_s // DAY_S
            known = {} if is_new_day else self._bucket_sizes
            changed = [size for size in sizes if size != known.get(size.bucket_id)]
            await self._in_thread(partial(self._file.save_buckets, at_s, changed))
        except _FileError as error:
            self._failed(error)
            await self._renew(error)
        except StoreError as error:  # of the catalog
            log.error("buckets not looked at", extra={"cause": error.message})
        else:
            self._buckets_at_s = at_s
            self._bucket_sizes = {size.bucket_id: size for size in sizes}

    async def _latest_look(self) -> int:
        """The second at which the buckets were looked at; 0: never."""
        if self._buckets_at_s is None:
            found = await self._in_thread(self._file.latest_snapshot)
            self._buckets_at_s, self._bucket_sizes = found
        return self._buckets_at_s

    async def _largest_buckets(self) -> list[BucketSize]:
        largest: list[tuple[int, int, BucketSize]] = []
        after = ""
        while page := self._context.catalog.buckets(after=after, limit=PAGE):
            after = page[-1].name
            rows = [
                (row.byte_count, row.id, BucketSize(row.id, row.object_count, row.byte_count)) for row in page
            ]
            largest = heapq.nlargest(BUCKETS_MAX, [*largest, *rows])
            await trio.lowlevel.checkpoint()
        return [size for _, _, size in largest]

    async def bucket_rows(self, bucket_id: int, since_ms: int) -> list[BucketPoint]:
        """What the file has of a bucket; nothing, if it cannot be read."""
        try:
            rows = await self._in_thread(partial(self._file.bucket, bucket_id, since_ms // 1000))
        except _FileError as error:
            self._failed(error)
            return []
        return [
            BucketPoint(at_ms=max(1000 * at_s, since_ms), object_count=objects, byte_count=size)
            for at_s, objects, size in rows
        ]
