"""Burials: how long ago needles were buried that the catalog remembers, so that none is forgotten too early.

A put whose answer was lost is settled by its client within a minute or so.  Until then the catalog must know
whether its needle was visible once.  The table `buried` keeps the latest ones; however fast others die, none
is forgotten that was buried less than `BURIED_S` ago.  Its rows carry numbers that grow, and this memory says
up to which number they are old.

Seconds are those of a clock that only goes forward.  A catalog that was opened just now takes all that lie
there for buried just now.
"""

from __future__ import annotations

from collections import deque

BURIED_MAX = 300_000  # that many are kept whatever their age
BURIED_S = 180.0  # the longest wait of a put for its answer, and of its settling behind that, twice over
BURIED_LIMIT = 5_000_000  # some 150 MB: beyond this the oldest are forgotten early, and settling says so
assert BURIED_MAX < BURIED_LIMIT


class Burials:
    __slots__ = ("_marks",)

    def __init__(self) -> None:
        self._marks: deque[tuple[int, int]] = deque()  # (number, second): all up to it were buried by then

    def note(self, number: int, now_s: float) -> None:
        """Needles up to `number` are buried now."""
        marks, second = self._marks, int(now_s) + 1
        # A transaction that was rolled back has given its numbers away again.
        while marks and (marks[-1][0] >= number or marks[-1][1] >= second):
            marks.pop()
        marks.append((number, second))

    def old(self, now_s: float) -> int:
        """The greatest number that was buried long enough ago; 0: none."""
        marks, old = self._marks, 0
        while marks and marks[0][1] + BURIED_S <= now_s:
            old = marks.popleft()[0]
        if old:
            marks.appendleft((old, int(now_s - BURIED_S)))  # it stays true
        return old
