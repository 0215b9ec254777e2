"""RecentTombstones: how long ago the needles that the catalog remembers got their tombstones.

The client of a put whose answer was lost asks within a minute or so what became of it.  Until then the
catalog must know whether the needle was visible once.  The table `buried` keeps the needles that were
tombstoned last.  However fast others follow, no needle is forgotten within `TOMBSTONED_S` of its tombstone.
The rows of the table carry growing numbers, and this memory says up to which number they are old enough.

Seconds are those of a clock that only goes forward.  After an opening, every needle in the table counts as
tombstoned at that moment.
"""

from __future__ import annotations

from collections import deque

TOMBSTONED_MAX = 300_000  # this many are kept whatever their age
TOMBSTONED_S = 180.0  # twice the longest wait of a put for its answer and, after that, for its resolution
TOMBSTONED_LIMIT = 5_000_000  # some 150 MB: beyond this the oldest are forgotten early; resolving says so
assert TOMBSTONED_MAX < TOMBSTONED_LIMIT


class RecentTombstones:
    __slots__ = ("_marks",)

    def __init__(self) -> None:
        self._marks: deque[tuple[int, int]] = deque()  # (number, second): all up to it had one by then

    def note(self, number: int, now_s: float) -> None:
        """Needles up to `number` have their tombstones now."""
        marks, second = self._marks, int(now_s) + 1
        # A transaction that was rolled back has given its numbers away again.
        while marks and (marks[-1][0] >= number or marks[-1][1] >= second):
            marks.pop()
        marks.append((number, second))

    def old(self, now_s: float) -> int:
        """The greatest number that was tombstoned long enough ago; 0: none."""
        marks, old = self._marks, 0
        while marks and marks[0][1] + TOMBSTONED_S <= now_s:
            old = marks.popleft()[0]
        if old:
            marks.appendleft((old, int(now_s - TOMBSTONED_S)))  # it stays true
        return old
