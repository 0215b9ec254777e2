"""Stamps: which of the stamps that disks show the master believes.

A stamp far ahead of the wall clock would drive the store's clock to its end.  A disk that shows one is set
aside: the master writes nothing to it until it registers with stamps that a sound clock can show.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from warehouse.actors.control.context import MasterContext, now_ms
from warehouse.actors.control.fleet_state import DiskState
from warehouse.errors import StampRefused
from warehouse.storage.format.stamp import AHEAD_MS_MAX, wall_ms_of
from warehouse.transport.messages import StoredNeedle

log = logging.getLogger(__name__)


class StampAdmission:
    def __init__(self, context: MasterContext) -> None:
        self._catalog = context.catalog
        self._clock = context.clock
        self._fleet = context.fleet
        self._troubles = context.troubles

    def load(self) -> None:
        """Continue the clock where the catalog left it."""
        stamp_max = self._catalog.stamp_max()
        try:
            self._clock.found(stamp_max)
        except StampRefused:
            self._clock.observe(stamp_max)  # in order as long as there are stamps left
            self._troubles.tell(
                "clock_spent",
                "catalog",
                f"the catalog's clock stands at {stamp_max}, close to its end: stop the store, run `warehouse"
                " rebuild --replace`, which replaces the stamps, and start it",
            )
        ahead_s = wall_ms_of(stamp_max) / 1000 - time.time()
        if ahead_s > AHEAD_MS_MAX / 1000:
            log.warning("the store's clock is ahead of the wall clock", extra={"ahead_s": round(ahead_s)})

    def admit(self, disk: DiskState, stamp: int) -> None:
        """Believe a stamp of a disk.

        Raises:
            StampRefused: no sound clock shows it; the disk is set aside now.
        """
        try:
            self._clock.admit(stamp, now_ms())
        except StampRefused as error:
            self._set_aside(disk, error)
            raise

    def refusals(self, disk: DiskState, needles: Sequence[StoredNeedle]) -> dict[int, StampRefused]:
        """Believe the stamps of these needles; return those that no sound clock shows, by position."""
        latest = max((needle.stamp for needle in needles), default=0)
        try:
            self._clock.admit(latest, now_ms())
            return {}
        except StampRefused:
            pass  # at least one of them; look at each
        refused = {}
        for position, needle in enumerate(needles):
            try:
                self.admit(disk, needle.stamp)
            except StampRefused as error:
                refused[position] = error
        return refused

    def _set_aside(self, disk: DiskState, error: StampRefused) -> None:
        cause = (
            f"disk {disk.name} is set aside: {error.message}. Set its machine's clock; if that is right, stop"
            " the store and run `warehouse rebuild --replace`, which replaces such stamps"
        )
        self._fleet.set_aside(disk, disk.set_aside or cause)
        self._troubles.tell("stamp_refused", disk.disk_id, cause, disk=disk.name, disk_id=disk.disk_id)
