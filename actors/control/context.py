"""MasterContext: what the subjects of the master share, handed to each of them as one value."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from warehouse.actors.control.changes import Changes
from warehouse.actors.control.events import EventLog
from warehouse.actors.control.fleet import Fleet
from warehouse.actors.control.troubles import Troubles
from warehouse.catalog.interface import Catalog
from warehouse.catalog.writer import CatalogWriter
from warehouse.conf.settings import Settings
from warehouse.storage.format.stamp import StampClock


@dataclass(frozen=True)
class Intervals:
    """Intervals of the master's loops, in seconds; tests shorten them."""

    poll: float = 0.5  # between looks at a compactor's task
    schedule: float = 2.0  # between looks for the next job of each disk
    progress: float = 5.0  # between progress events of a job
    retry: float = 1.0  # before the second attempt at a job; twice as long before each further one
    save: float = 10.0  # between records of a verification's progress: a restart reads this much again
    orphan: float = 120.0  # a needle is garbage when two looks, this far apart, find no object that names it
    look: float = 5.0  # between looks for volumes whose cross-check is due
    sweep: float = 24 * 3600.0  # between cross-checks of a volume
    away: float = 15.0  # a disk that went this long ago may be removed: it was not just restarted
    note: float = 10.0  # between notes of how the store is, for its history
    keep: float = 60.0  # between writes of these notes to their file
    forget: float = 60.0  # between looks for damaged needles that were deleted meanwhile


@dataclass(frozen=True)
class MasterContext:
    """
    Attributes:
        incarnation: the boot number of this master.
    """

    catalog: Catalog
    writer: CatalogWriter
    fleet: Fleet
    clock: StampClock
    events: EventLog
    troubles: Troubles
    settings: Settings
    incarnation: int
    intervals: Intervals = Intervals()
    changes: Changes = field(default_factory=Changes)

    def stamp(self) -> int:
        """A stamp greater than every stamp that this master gave out or heard of."""
        return self.clock.tick(now_ms())


def now_ms() -> int:
    """Wall time, milliseconds since 1970."""
    return time.time_ns() // 1_000_000
