"""Catalog room: what the master does when the disk of its catalog fills up.

    free >= low water, ballast whole    the master takes everything
    less, or ballast was given up       the master takes nothing new (`catalog_full`): no leases, uploads,
                                        slots, presigned puts, buckets.  Deletes, tombstones, compactions and
                                        the resolution of in-doubt puts continue, and may use the ballast.
                                        Commits of needles with reserved room may use half of it, so that
                                        the others always have the other half
    more than both again                the master restores the ballast, and takes everything

Before it gives up ballast, the master folds the log into the file, which gives back the room of the log.
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
FOLD_MIN = 256 * 1024  # folding a shorter log gives too little back
GROWTH_LEAVES = STEP_COUNT // 2  # files of ballast that growth must leave to deletes and compactions
LOW_WATER_STEPS = STEP_COUNT // 2  # with fewer bytes free than these files hold, nothing new is taken


class CatalogRoom:
    """Watches how much room the disk of the catalog has."""

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
            CatalogFull: the master takes nothing new.
        """
        if self.is_short:
            raise CatalogFull(
                f"the disk of the catalog ({self._folder}) is full: {format_size(self.free or 0)} free and"
                f" {self._ballast.held_count} of {STEP_COUNT} parts of the reserve left. Free some room"
                " there; deletes and compactions still work"
            )

    def make_room(self, failed_count: int, is_growth: bool) -> bool:
        """Find room for a transaction that did not fit; called in the writing thread.

        Args:
            failed_count: how often the transaction failed to fit before.  A failed try leaves its pages in
                the log, where the next try writes over them, so folding helps only the first time.
            is_growth: whether the transaction adds something new.

        Returns:
            Whether another try is worth it.
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
        """Measure the free room, restore ballast where it fits, and tell operators when that changes."""
        self.free, is_whole = await trio.to_thread.run_sync(self._look)
        low_water = LOW_WATER_STEPS * self._ballast.step_size
        self.is_short = self.free is not None and (self.free < low_water or not is_whole)
        if self.is_short:
            message = (
                f"the disk of the catalog ({self._folder}) is full: the master takes nothing new until you"
                " free some room there; deletes and compactions still work"
            )
            self._troubles.tell("catalog_full", "catalog", message, free=self.free)
        else:
            self._troubles.over("catalog_full", "catalog")

    def _look(self) -> tuple[int | None, bool]:
        is_whole = self._ballast.is_whole or self._ballast.restore()
        return free_bytes(self._folder), is_whole
