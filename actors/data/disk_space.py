"""Disk space: what is free on one disk, and the ballast that keeps deletes and compactions possible.

The ballast (`actors/ballast.py`) is given up when a command of the master meets a full disk, and made again
when there is space.
"""

from __future__ import annotations

import trio

from warehouse.actors.ballast import Ballast, free_names
from warehouse.storage.compaction.free_space import free_bytes_needed
from warehouse.storage.disk import OsDisk
from warehouse.storage.volume import Volume

BALLAST_NAME = "ballast"
BALLAST_SIZE = 4 * 1024 * 1024  # tombstones of 60,000 needles, or the files of a nearly empty generation
NAMES_NEEDED = 3  # a compaction makes two files, and replaces the manifest by a third
RESTORE_S = 10.0


class DiskSpace:
    """The free space of one disk."""

    def __init__(self, disk: OsDisk) -> None:
        self._disk = disk
        self._ballast = Ballast(disk.root / BALLAST_NAME, BALLAST_SIZE)
        self.capacity = disk.capacity()

    def free_bytes(self) -> int:
        """Bytes free; 0 while the disk's folder is missing: its actor still serves reads then."""
        try:
            return self._disk.free_bytes()
        except OSError:
            return 0

    def free_for_puts(self) -> int:
        """Bytes that the master may reserve: making the ballast whole again comes first."""
        return max(0, self.free_bytes() - self._ballast.missing_bytes)

    async def give_up_ballast(self) -> bool:
        """Release one file of the ballast; False: none is left."""
        return await trio.to_thread.run_sync(self._ballast.release)

    async def make_room_for_copy(self, volume: Volume) -> None:
        """Release ballast for a compaction, if the compaction has enough space with it."""
        stats = volume.stats()
        needed = free_bytes_needed(
            live_bytes=stats.live_bytes,
            kept_bytes=stats.kept_bytes,
            live_count=stats.live_count,
            dead_count=stats.dead_count,
            needle_id_max=stats.needle_id_max,
        )
        if self.free_bytes() + self._ballast.held_bytes < needed:
            return
        while self.free_bytes() < needed or not self._has_names():
            if not await self.give_up_ballast():
                return

    def _has_names(self) -> bool:
        names = free_names(self._disk.root)
        return names is None or names >= NAMES_NEEDED

    async def restore_ballast_forever(self) -> None:
        while True:
            await trio.to_thread.run_sync(self._ballast.restore)
            await trio.sleep(RESTORE_S)
