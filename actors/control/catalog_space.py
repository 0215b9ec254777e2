"""Catalog room: what the master does when the disk of its catalog fills up.

    free >= low water, ballast whole    everything is taken
    less, or ballast was given up       nothing new is taken (`catalog_full`): no leases, uploads, slots,
                                        presigned puts, buckets.  Deletes, tombstones, compactions and
                                        settles go on, and may use the ballast; commits of what was promised
                                        may use half of it, so that there is always some for the others
    more than both again                the ballast is made anew, and everything is taken

Before ballast is given up the log is folded into the file, which gives its room back.
"""

from __future__ import annotations

import logging

import trio

from warehouse.actors.ballast import STEP_COUNT, Ballast, free_bytes
from warehouse.actors.control.troubles import Troubles
from warehouse.catalog.interface import Catalog
from warehouse.conf.formatting import format_size
from warehouse.errors import CatalogFull

log = logging.getLogger(__name__)

LOOK_S = 1.0
FOLD_MIN = 256 * 1024  # a shorter log gives too little back to be folded for it
GROWTH_LEAVES = STEP_COUNT // 2  # files of ballast that only what gives room back may use
LOW_WATER_STEPS = STEP_COUNT // 2  # files of ballast: with less than this many free, nothing new is taken


class CatalogRoom:
    """Watches the disk of the catalog."""

    def __init__(self, catalog: Catalog, ballast: Ballast, troubles: Troubles) -> None:
        self._catalog = catalog
        self._folder = catalog.folder
        self._ballast = ballast
        self._troubles = troubles
        self.free: int | None = free_bytes(self._folder)
        self.is_short = False

    def require(self) -> None:
        """
        Raises:
            CatalogFull: nothing new is taken.
        """
        if self.is_short:
            raise CatalogFull(
                f"the disk of the catalog ({self._folder}) is full: {format_size(self.free or 0)} free and"
                f" {self._ballast.held_count} of {STEP_COUNT} parts of the reserve left; free some room"
                " there.  Deletes and compactions go on"
            )

    def make_room(self, failed_count: int, is_growth: bool) -> bool:
        """Find room for a transaction that did not fit; in the writing thread.

        Args:
            failed_count: how often it did not fit before.  What a failed try has written to the log is room
                that the next one needs again, so the log is folded once.
            is_growth: it brings something new.

        Returns:
            Whether it is worth another try.
        """
        if failed_count == 0 and self._catalog.log_size() >= FOLD_MIN:
            self._catalog.fold_log()
            if self._catalog.log_size() < FOLD_MIN:
                return True
        if is_growth and self._ballast.held_count <= GROWTH_LEAVES:
            return False
        if not self._ballast.release():
            return False
        log.warning("ballast given up: the disk of the catalog is full", extra={"folder": str(self._folder)})
        return True

    async def run(self) -> None:
        while True:
            await self.look()
            await trio.sleep(LOOK_S)

    async def look(self) -> None:
        """Look at what is free, make ballast anew where there is room, and say when things change."""
        self.free, is_whole = await trio.to_thread.run_sync(self._look)
        low_water = LOW_WATER_STEPS * self._ballast.step_size
        self.is_short = self.free is not None and (self.free < low_water or not is_whole)
        if self.is_short:
            message = (
                f"the disk of the catalog ({self._folder}) is full: nothing new is taken until there is"
                " more room on it; deletes and compactions go on"
            )
            self._troubles.tell("catalog_full", "catalog", message, free=self.free)
        else:
            self._troubles.over("catalog_full", "catalog")

    def _look(self) -> tuple[int | None, bool]:
        is_whole = self._ballast.is_whole or self._ballast.restore()
        return free_bytes(self._folder), is_whole
