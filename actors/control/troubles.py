"""Troubles: what is wrong now, and what an operator can do about it.

An event says that something happened; a trouble stays until it is over.  Each trouble has a stable name, a
subject (a disk, a volume, the catalog) and a sentence that says what to do.  While a trouble lasts, the store
is degraded and `warehouse status` shows the trouble.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Container

from warehouse.actors.control.events import EventLog, Field
from warehouse.transport.messages import TROUBLES_MAX, Trouble

log = logging.getLogger(__name__)

KEPT_MAX = 10_000  # troubles at one time, so that a peer that invents disks cannot fill the memory


class Troubles:
    def __init__(self, events: EventLog) -> None:
        self._events = events
        self._known: dict[tuple[str, str], Trouble] = {}
        self._until: dict[tuple[str, str], float] = {}  # monotonic; over then unless told again

    def _forget_old(self) -> None:
        now = time.monotonic()
        for name, subject in [key for key, until in self._until.items() if until <= now]:
            self.over(name, subject)

    def __len__(self) -> int:
        self._forget_old()
        return len(self._known)

    def __contains__(self, name_and_subject: tuple[str, str]) -> bool:
        return name_and_subject in self._known

    def has(self, name: str) -> bool:
        """Is there a trouble of this name, for any subject?"""
        self._forget_old()
        return any(known == name for known, _ in self._known)

    def tell(
        self, name: str, subject: str, message: str, *, lasting_s: float | None = None, **fields: Field
    ) -> None:
        """Something is wrong with `subject`.  A trouble that is told again causes no second event.

        Args:
            lasting_s: the trouble is over when nobody tells it again for this long; None: until `over`.
            fields: of the event that tells operators.
        """
        self._forget_old()
        if lasting_s is not None:
            self._until[name, subject] = time.monotonic() + lasting_s
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
        """`subject` does not have this trouble, or no longer."""
        self._until.pop((name, subject), None)
        if self._known.pop((name, subject), None) is not None:
            self._events.record("trouble_over", trouble=name, subject=subject)
            log.info("trouble over", extra={"trouble": name, "subject": subject})

    def over_all(self, subjects: Container[str]) -> None:
        """These subjects have no trouble of any kind."""
        for name, subject in [key for key in self._known if key[1] in subjects]:
            self.over(name, subject)

    def listed(self) -> list[Trouble]:
        """The oldest troubles, oldest first, as many as fit into an answer."""
        self._forget_old()
        return sorted(self._known.values(), key=lambda trouble: trouble.since_ms)[:TROUBLES_MAX]
