"""Switching: a volume's compacted generation takes the present one's place while requests go on.

The master orders it when a compactor's copy is complete, and repeats the order until it is done: each call
works for a few seconds at most.  A thread replays what was written after the copy, next to the event loop.
Only for the last, short round does the commit pipeline hold the writers of that one volume at its write
barrier.
"""

from __future__ import annotations

import logging
import time
from typing import NamedTuple

import trio

from warehouse.actors.data.commit_pipeline import CommitPipeline
from warehouse.errors import StoreError
from warehouse.storage.compaction.generation_switch import GenerationSwitch
from warehouse.storage.disk import Disk
from warehouse.storage.files import remove_leftovers

log = logging.getLogger(__name__)

CALL_S = 5.0  # one call catches up for this long, then reports its progress to the master
SHORT: int = 1024 * 1024  # bytes; a tail of this length is replayed while writers wait
SHORT_AT_LAST: int = 16 * SHORT  # when writers are as fast as the replay
ROUNDS_MAX = 20


class Progress(NamedTuple):
    """How far a switch is."""

    is_done: bool
    remaining_bytes: int
    pause_ms: float
    freed_bytes: int | None = None


class Switching:
    """The switches under way on one disk."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._switches: dict[int, GenerationSwitch] = {}
        self._locks: dict[int, trio.Lock] = {}
        self._pauses_ms: dict[int, float] = {}  # of the last switch of each volume
        self._freed_bytes: dict[int, int] = {}  # the same

    @property
    def pauses_ms(self) -> dict[int, float]:
        return self._pauses_ms

    async def switch(self, pipeline: CommitPipeline, *, generation: int, end_offset: int) -> Progress:
        """Work on a switch for a while; another call after it is done changes nothing.

        Raises:
            GenerationMismatch, VolumeSealed, ReadFailed, DiskFull, WriteFailed: the switch was given up; the
                present generation stays, and the copy is removed.
        """
        volume = pipeline.volume
        async with self._lock(volume.volume_id):
            if volume.generation == generation:  # an earlier answer was lost
                return self._done(volume.volume_id)
            try:
                return await self._switch(pipeline, generation, end_offset)
            except StoreError as error:
                log.error("switch given up", extra={"volume_id": volume.volume_id, "cause": error.message})
                await self._drop(pipeline)
                raise

    def _done(self, volume_id: int) -> Progress:
        pause_ms = self._pauses_ms.get(volume_id, 0.0)
        return Progress(True, 0, pause_ms, self._freed_bytes.get(volume_id))

    async def drop(self, pipeline: CommitPipeline) -> None:
        """Give up a switch, and remove its files."""
        async with self._lock(pipeline.volume.volume_id):
            await self._drop(pipeline)

    def _lock(self, volume_id: int) -> trio.Lock:
        return self._locks.setdefault(volume_id, trio.Lock())

    async def _drop(self, pipeline: CommitPipeline) -> None:
        volume = pipeline.volume
        switch = self._switches.pop(volume.volume_id, None)
        # Shielded from the request's deadline: a volume keeps a switch that nobody has abandoned, and
        # then takes no other.
        with trio.CancelScope(shield=True):
            if switch is not None:
                await trio.to_thread.run_sync(switch.abandon)
            else:
                await trio.to_thread.run_sync(
                    remove_leftovers, self._disk, volume.directory, volume.generation
                )

    async def _switch(self, pipeline: CommitPipeline, generation: int, end_offset: int) -> Progress:
        volume = pipeline.volume
        switch = self._switches.get(volume.volume_id)
        if switch is None:
            switch = await trio.to_thread.run_sync(
                lambda: GenerationSwitch(volume, self._disk, generation=generation, end_offset=end_offset)
            )
            self._switches[volume.volume_id] = switch
        remaining, is_short = 0, False
        with trio.move_on_after(CALL_S) as scope:
            for number in range(1, ROUNDS_MAX + 1):
                with trio.CancelScope(shield=True):  # a round cannot be interrupted
                    remaining = await trio.to_thread.run_sync(switch.catch_up)
                is_short = remaining <= (SHORT if number < ROUNDS_MAX else SHORT_AT_LAST)
                if is_short:
                    break
                await trio.lowlevel.checkpoint()
        if not is_short or scope.cancelled_caught:
            return Progress(False, remaining, 0.0)
        await trio.to_thread.run_sync(switch.flush)
        await trio.to_thread.run_sync(switch.catch_up)  # what was written during that sync
        started = time.perf_counter()
        with pipeline.write_barrier_raised():
            await trio.to_thread.run_sync(switch.switch)
        pause_ms = (time.perf_counter() - started) * 1000
        del self._switches[volume.volume_id]
        self._pauses_ms[volume.volume_id] = pause_ms
        self._freed_bytes[volume.volume_id] = switch.freed_bytes
        log.info(
            "volume compacted",
            extra={
                "volume_id": volume.volume_id,
                "generation": volume.generation,
                "pause_ms": round(pause_ms, 1),
            },
        )
        return self._done(volume.volume_id)
