"""MasterContext: what the files of the master share, handed to each of them as one."""

from __future__ import annotations

import time
from dataclasses import dataclass

from warehouse.actors.control.events import EventLog
from warehouse.actors.control.fleet import Fleet
from warehouse.actors.control.troubles import Troubles
from warehouse.catalog.sqlite.catalog import Catalog
from warehouse.catalog.writer import CatalogWriter
from warehouse.conf.settings import Settings
from warehouse.storage.format.stamp import StampClock


@dataclass(frozen=True)
class Intervals:
    """Intervals in seconds; the defaults are the ones to use."""

    poll: float = 0.5  # between looks at a compactor's task
    schedule: float = 2.0  # between looks at what should be done next
    progress: float = 5.0  # between progress events of a job
    retry: float = 1.0  # before the second attempt at a job; twice as long before each further one
    save: float = 10.0  # between notes of how far a verification is: what a restart reads again
    orphan: float = 120.0  # a needle that nothing names is given up when it is seen twice, this far apart
    look: float = 5.0  # between looks at which volume's cross-check is due
    sweep: float = 24 * 3600.0  # between cross-checks of a volume
    forget: float = 60.0  # between looks at whether damaged needles were deleted meanwhile


@dataclass(frozen=True)
class MasterContext:
    catalog: Catalog
    writer: CatalogWriter
    fleet: Fleet
    clock: StampClock
    events: EventLog
    troubles: Troubles
    settings: Settings
    incarnation: int  # the master's
    intervals: Intervals = Intervals()

    def stamp(self) -> int:
        """A stamp greater than every one that was given or heard of."""
        return self.clock.tick(now_ms())


def now_ms() -> int:
    """Wall time, milliseconds since 1970."""
    return time.time_ns() // 1_000_000
