"""Shares: how the requests of one key leave time for those of everybody else.

Pages are made in one event loop, and each takes it for some hundredths of a second.  Of sixty requests at a
time every other person would see the last one.  So a few requests of a key are answered at a time, the others
of that key wait in line, and what somebody else asks comes next.  Strangers share one line.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from warehouse.errors import Overloaded

AT_ONCE = 4
LINE_MAX = 256  # requests of one key that are answered or wait
WAIT_S = 30.0


@dataclass(eq=False)
class _Line:
    """The requests of one key.

    Attributes:
        room: for those that are answered.
        count: of all of them.
    """

    room: trio.Semaphore
    count: int = 0


class Shares:
    """
    Args:
        at_once: requests of one name that are answered.
        line_max: of one name that are answered or wait.
        wait_s: how long one waits.
    """

    def __init__(self, *, at_once: int = AT_ONCE, line_max: int = LINE_MAX, wait_s: float = WAIT_S) -> None:
        assert 0 < at_once < line_max
        self._at_once = at_once
        self._line_max = line_max
        self._wait_s = wait_s
        self._lines: dict[str, _Line] = {}

    def __len__(self) -> int:
        return len(self._lines)

    @asynccontextmanager
    async def share(self, name: str) -> AsyncIterator[None]:
        """Wait in the line of a name, and keep its place for as long as the block lasts.

        Raises:
            Overloaded: the line is too long, or did not move.
        """
        line = self._lines.setdefault(name, _Line(trio.Semaphore(self._at_once)))
        if line.count >= self._line_max:
            raise Overloaded("this key asks for too much at a time: try again shortly")
        line.count += 1
        try:
            with trio.move_on_after(self._wait_s) as waiting:
                await line.room.acquire()
            if waiting.cancelled_caught:
                raise Overloaded("this key asks for more than it gets answers to: try again shortly")
            try:
                yield
            finally:
                line.room.release()
        finally:
            line.count -= 1
            if not line.count:
                del self._lines[name]
