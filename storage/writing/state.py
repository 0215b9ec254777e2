"""VolumeState: what the parts of an open volume share, and the locks that guard it.

    0          superblock          durable            tail
    |--------------|------ records ---|---- records ----|
                    all on the disk,    readable, and
                    and finished        not promised yet

One thread owns a volume and writes to it.  Three locks, always taken in this order:

    owner      held by every call that writes; a switch to the next generation holds it to keep the owner
               waiting
    sync_lock  one sync or checkpoint at a time
    lock       guards the counters and the index entries; not held across calls to the disk but one, that of
               `note_damage`
"""

from __future__ import annotations

import contextlib
import errno
import logging
import threading
from typing import Final

import msgspec

from warehouse.errors import DiskFull, ReadFailed, StoreError, VolumeSealed, WriteFailed
from warehouse.storage.extent import Extent
from warehouse.storage.generation import Generation
from warehouse.storage.index import FLAG_DAMAGED, IndexEntry, Tally, encode_entry
from warehouse.storage.opening import Opened
from warehouse.storage.recovery import Damage

log = logging.getLogger(__name__)

DAMAGES_MAX: Final = 10_000  # damaged needles remembered by name; all are counted
_FULL: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


class VolumeStats(msgspec.Struct, frozen=True):
    """What is in a volume.

    Always: file_size == SUPERBLOCK_SIZE + live_bytes + dead_bytes + kept_bytes + in_flight_bytes.
    """

    file_size: int
    live_count: int
    live_bytes: int  # stored bytes, headers and padding included
    dead_bytes: int  # what compaction would give back: deleted needles, tombstones, restamps, broken uploads
    needle_id_max: int
    stamp_max: int
    damaged_count: int
    in_flight_bytes: int  # open extents
    dead_count: int  # needles among the dead bytes: deleted ones, and uploads that broke off
    kept_bytes: int  # what a compaction copies next to the needles: buckets, deletions, void ids


class VolumeState:
    """What an open volume knows of itself."""

    __slots__ = (
        "__weakref__",
        "capacity",
        "checkpoint",
        "damages",
        "directory",
        "durable",
        "generation",
        "identity",
        "in_flight",
        "is_header_stale",
        "is_switching",
        "lock",
        "owner",
        "reserved_ids",
        "sealed_cause",
        "sequence",
        "sync_lock",
        "tail",
        "tally",
        "volume_id",
    )

    def __init__(self, opened: Opened, directory: str) -> None:
        identity = opened.identity
        self.volume_id: Final = identity.volume_id
        self.capacity: Final = identity.capacity
        self.directory: Final = directory
        self.identity = identity
        self.generation = Generation(
            volume_id=identity.volume_id,
            number=identity.generation,
            seed=identity.seed,
            data=opened.data,
            entries=opened.entries,
            on_damage=self.note_damage,
        )
        self.sealed_cause = opened.sealed_cause
        self.is_switching = False  # a switch reads along: nothing is cut off the tail
        self.owner: Final = threading.RLock()
        self.sync_lock: Final = threading.Lock()
        self.lock: Final = threading.Lock()  # guards what follows
        self.tally = opened.tally  # the counters of all records up to the tail
        self.tail = opened.tail  # where the next record goes
        self.durable = opened.durable  # the watermark: all before it is on the disk, and finished
        self.sequence = opened.sequence  # of the newest header of the index
        self.checkpoint = opened.checkpoint  # where a scan starts after a crash
        self.is_header_stale = False  # counters changed before the checkpoint, where no scan looks
        self.in_flight: dict[int, Extent] = {}  # open extents by offset, ascending
        self.reserved_ids: set[int] = set()  # their needle ids
        self.damages: dict[int, Damage] = {d.needle_id: d for d in opened.report.damages if d.needle_id}

    def stats(self) -> VolumeStats:
        with self.lock:
            tally = self.tally
            return VolumeStats(
                self.tail,
                tally.live_count,
                tally.live_bytes,
                tally.dead_bytes,
                tally.needle_id_max,
                tally.stamp_max,
                tally.damaged_count,
                sum(extent.stored_size for extent in self.in_flight.values()),
                tally.dead_count,
                tally.kept_bytes,
            )

    def settled(self) -> tuple[int, Tally]:
        """The offset before which nothing is unfinished, and the counters there.  Under the lock."""
        for first in self.in_flight.values():
            return first.offset, first.before.copy()
        return self.tail, self.tally.copy()

    def raise_marks(self, *, needle_id_max: int, stamp_max: int) -> None:
        """Ids and stamps up to these were used, though what used them is not here."""
        with self.lock:
            self.tally.needle_id_max = max(self.tally.needle_id_max, needle_id_max)
            self.tally.stamp_max = max(self.tally.stamp_max, stamp_max)

    # --- sealed -----------------------------------------------------------------------------------

    def seal(self, cause: str) -> None:
        """Take no more writes."""
        if self.sealed_cause is None:
            self.sealed_cause = cause
            log.error("volume sealed", extra={"volume_id": self.volume_id, "cause": cause})

    def check_writable(self) -> None:
        """Refuse when sealed.

        Raises:
            VolumeSealed: it is.
        """
        if self.sealed_cause is not None:
            raise VolumeSealed(f"volume {self.volume_id} is sealed: {self.sealed_cause}")

    def write_error(self, error: OSError) -> StoreError:
        """The error to raise for one of the system.  A disk that became read-only seals the volume."""
        if error.errno == errno.EROFS:
            self.seal("the disk became read-only")
        return write_error(f"volume {self.volume_id}", error)

    # --- damage -----------------------------------------------------------------------------------

    def note_damage(self, generation: Generation, needle_id: int, offset: int, problem: str) -> None:
        """Count damage, once for each needle, and mark its entry: a restart must not count it again."""
        damage = Damage(self.volume_id, offset, 0, needle_id, problem)
        found: IndexEntry | None = None
        with self.lock:
            # The one call to the disk: the entry was read a moment ago, so it comes from memory.  Outside of
            # the lock a deletion could come in between, and the mark would then undo the deletion.
            with contextlib.suppress(ReadFailed):
                found = generation.find(needle_id)
            is_dead = found is not None and found.is_deleted
            is_current = generation is self.generation
            is_known = not is_current or is_dead or (found is not None and found.is_damaged)
            if not is_known:
                self.tally.damaged_count += 1
                if found is not None:
                    sizes = (found.metadata_size, found.data_size, found.crc)
                    generation.entries.put(needle_id, encode_entry(found.offset, *sizes, FLAG_DAMAGED))
            if is_current and not is_dead and len(self.damages) < DAMAGES_MAX:
                self.damages.setdefault(needle_id, damage)
        if not is_known:
            log.error("damage found", extra=msgspec.structs.asdict(damage))


def write_error(where: str, error: OSError) -> StoreError:
    """Name what the system gave."""
    kind = DiskFull if error.errno in _FULL else WriteFailed
    return kind(f"{where}: {error}")
