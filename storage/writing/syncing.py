"""Syncing: making it last.  A sync makes the data durable, a checkpoint the index too.

    sync        data file --fdatasync-->  entries of its records, and the watermark, into the index file
    checkpoint  sync, then index --fdatasync-->  its next header  --fdatasync-->  scans start here

The order is the promise: an entry of the index never speaks of bytes that a power cut could take away, and a
header never counts entries that one could.

A sync and a checkpoint reach as far as the first extent that is still open, for its footer is yet to come.
Needles after it are synced all the same, and have their entries in the index; only a scan after a crash
starts earlier.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Final, NamedTuple, NoReturn

from warehouse.errors import DiskFull, WriteFailed
from warehouse.storage.generation import Generation
from warehouse.storage.index import IndexFile, IndexHeader, Tally
from warehouse.storage.writing.state import VolumeState, write_error

log = logging.getLogger(__name__)

ENTRIES_AT_ONCE: Final = 4096  # of the index, that `end_sync` writes while an event loop waits


class BegunSync(NamedTuple):
    """A sync whose `fdatasync` the kernel runs: see `Volume.begin_sync`."""

    handle: int  # for `KernelSync`
    generation: Generation
    batch: dict[int, bytes]  # index entries that may be written when the data is durable
    reach: int  # how far the data will be durable and finished


class Syncing:
    """Syncs one volume.  Any thread; one sync or checkpoint at a time."""

    __slots__ = ("_begun", "_state")

    def __init__(self, state: VolumeState) -> None:
        self._state = state
        self._begun: BegunSync | None = None

    def sync(self) -> None:
        """See `Volume.sync`."""
        with self.alone():
            self._sync()

    def begin_sync(self) -> BegunSync | None:
        """See `Volume.begin_sync`."""
        state = self._state
        if not state.sync_lock.acquire(blocking=False):
            return None
        try:
            generation = state.generation
            handle = generation.data.kernel_handle()
            if handle is None or generation.entries.pending_count > ENTRIES_AT_ONCE:
                return None
            with state.lock:
                if self._begun is not None:
                    return None
                if state.sealed_cause is not None:
                    state.check_writable()
                reach, _ = state.settled()
                self._begun = BegunSync(handle, generation, generation.entries.begin_flush(), reach)
                return self._begun
        finally:
            state.sync_lock.release()

    def end_sync(self, begun: BegunSync, error: OSError | None) -> bool:
        """See `Volume.end_sync`."""
        state = self._state
        if begun.generation is not state.generation:
            return False
        if error is not None:
            with state.lock:
                self._forget_begun(begun)
            self._fail_sync(error)
        if not state.sync_lock.acquire(blocking=False):
            return False
        try:
            if self._begun is not begun:
                return False
            self._begun = None
            self._end_flush(begun.batch, begun.reach)
            return True
        finally:
            state.sync_lock.release()

    def checkpoint(self) -> None:
        """See `Volume.checkpoint`."""
        with self.alone():
            reach, tally, is_flushed = self._sync()
            state = self._state
            if not is_flushed:
                raise DiskFull(f"volume {state.volume_id}: its index cannot be written")
            if reach == state.checkpoint and not state.is_header_stale:
                return
            index = state.generation.entries.index
            assert index is not None
            voids = state.generation.entries.voids
            header = IndexHeader(
                sequence=state.sequence + 1,
                checkpoint=reach,
                tally=tally,
                voids=voids.span if voids is not None else None,
            )
            self._sync_index(index)
            try:
                index.put_header(header)
            except OSError as error:
                raise write_error(f"index of volume {state.volume_id}", error) from error
            self._sync_index(index)
            state.sequence = header.sequence
            state.checkpoint = reach
            state.is_header_stale = False

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep every other sync waiting for as long as the block lasts.  A begun sync will prove nothing."""
        with self._state.sync_lock:
            with self._state.lock:
                self._forget_begun(self._begun)
            yield

    def _forget_begun(self, begun: BegunSync | None) -> None:
        """Have the entries of a begun sync wait for another sync.  Under the lock."""
        if begun is not None and self._begun is begun:
            self._begun = None
            self._state.generation.entries.cancel_flush()

    def _sync(self) -> tuple[int, Tally, bool]:
        """Sync the data; returns how far it reaches, the counters there, and whether the index is in step."""
        state = self._state
        entries = state.generation.entries
        with state.lock:
            state.check_writable()
            reach, tally = state.settled()
            batch = entries.begin_flush()
        try:
            state.generation.data.fdatasync()
        except OSError as error:
            with state.lock:
                entries.cancel_flush()
            self._fail_sync(error)
        return reach, tally, self._end_flush(batch, reach)

    def _fail_sync(self, error: OSError) -> NoReturn:
        self._state.seal(f"sync of the data file failed: {error}")
        raise WriteFailed(f"volume {self._state.volume_id}: sync failed: {error}") from error

    def _end_flush(self, batch: dict[int, bytes], reach: int) -> bool:
        """Write the entries of data that is durable up to `reach`; returns whether the index took them."""
        state = self._state
        entries = state.generation.entries
        assert entries.index is not None
        try:
            entries.index.put_many(batch)
            if reach > state.durable:
                entries.index.put_watermark(reach)
        except OSError as error:
            # The needles are durable, and a scan after a crash finds them.  Their entries wait in memory.
            with state.lock:
                entries.cancel_flush()
            log.warning("index not written", extra={"volume_id": state.volume_id, "cause": str(error)})
            return False
        with state.lock:
            entries.end_flush()
            state.durable = max(state.durable, reach)
        return True

    def _sync_index(self, index: IndexFile) -> None:
        state = self._state
        try:
            index.sync()
        except OSError as error:
            # Entries may now vanish from memory without being on the disk.  What is durable of the file is
            # that of the last checkpoint, so opening the volume again puts everything right.
            state.generation.is_suspect = True
            state.seal(f"sync of the index failed: {error}")
            raise WriteFailed(f"volume {state.volume_id}: sync of its index failed: {error}") from error
