"""Troubles: what is wrong now, and what an operator can do about it.

An event says that something happened; a trouble stays until it is over.  Each has a name, which is stable, a
subject (a disk, a volume, the catalog) and a sentence that says what to do.  While there is one, the store is
degraded, and `warehouse status` shows it.
"""

from __future__ import annotations

import logging
import time

from actors.events import EventLog, Field
from transport.messages import TROUBLES_MAX, Trouble

log = logging.getLogger(__name__)

KEPT_MAX = 10_000  # troubles at one time; whoever makes up disks must not fill the memory


class Troubles:
    def __init__(self, events: EventLog) -> None:
        self._events = events
        self._known: dict[tuple[str, str], Trouble] = {}

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, name_and_subject: tuple[str, str]) -> bool:
        return name_and_subject in self._known

    def tell(self, name: str, subject: str, message: str, **fields: Field) -> None:
        """Something is wrong with `subject`.  Told again, it is no news unless the sentence has changed.

        Args:
            fields: of the event that tells of it.
        """
        known = self._known.get((name, subject))
        if known is not None and known.message == message:
            return
        if known is None and len(self._known) >= KEPT_MAX:
            return
        since_ms = time.time_ns() // 1_000_000 if known is None else known.since_ms
        self._known[name, subject] = Trouble(name=name, subject=subject, message=message, since_ms=since_ms)
        if known is None:
            self._events.record(name, **fields, message=message)
            log.error(message, extra={"trouble": name, "subject": subject})

    def over(self, name: str, subject: str) -> None:
        """That is not wrong (any more)."""
        if self._known.pop((name, subject), None) is not None:
            self._events.record("trouble_over", trouble=name, subject=subject)
            log.info("trouble over", extra={"trouble": name, "subject": subject})

    def listed(self) -> list[Trouble]:
        """The first of them, oldest first."""
        return sorted(self._known.values(), key=lambda trouble: trouble.since_ms)[:TROUBLES_MAX]
