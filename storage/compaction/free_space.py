"""Free space: how many bytes a disk must have free before a volume on it can be compacted.

Pure arithmetic, in one place.  The master refuses a compaction that does not fit before anything is written,
and the compactor looks again while it writes.
"""

from __future__ import annotations

from typing import Final

from warehouse.storage.format.superblock import SUPERBLOCK_SIZE
from warehouse.storage.index import ENTRIES_OFFSET, ENTRY_SIZE, PAGE_SIZE

SPARE: Final = 64 * 1024  # names, block maps, and the ends of files that fill no block
SPARE_PERCENT: Final = 1  # padding and block maps grow with the file
VOID_RANGE_SIZE: Final = 8
FILES_SIZE: Final = SUPERBLOCK_SIZE + ENTRIES_OFFSET


def free_bytes_needed(
    *, live_bytes: int, kept_bytes: int, live_count: int = 0, dead_count: int = 0, needle_id_max: int = 0
) -> int:
    """How many bytes the copy of a compaction takes, at most.

    Args:
        needle_id_max: the index has an entry for each live needle, and takes whole pages of the disk.
        dead_count: each dead id may become a range of its own in the record of void ids.
    """
    index = min(PAGE_SIZE * live_count, ENTRY_SIZE * (max(needle_id_max, live_count) + 1))
    voids = VOID_RANGE_SIZE * min(dead_count, live_count + 1)
    size = live_bytes + kept_bytes + index + voids
    return size + size * SPARE_PERCENT // 100 + FILES_SIZE + SPARE
