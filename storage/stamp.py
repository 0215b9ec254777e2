"""Stamps: the order of versions, readable from the volumes alone.

A stamp is a hybrid logical clock reading in 64 bits: milliseconds since 1970 in the upper 48, a counter
in the lower 16.  It follows the wall clock while that behaves and counts on by itself while the wall
clock stands still or steps back, so of two stamps of one clock the later is always the greater.  Clocks
that exchange their stamps (`observe`) never fall behind each other's past, whatever their wall clocks say.

Plain values: the wall time is an argument, nothing here reads a clock.

Source: Kulkarni et al., "Logical Physical Clocks", OPODIS 2014.
"""

from __future__ import annotations

COUNTER_BITS = 16
STAMP_MAX = (1 << 64) - 1


class StampClock:
    """Hands out stamps, each greater than all that it handed out or was shown before."""

    __slots__ = ("last",)

    def __init__(self, last: int = 0) -> None:
        self.last = last

    def tick(self, wall_ms: int) -> int:
        """Make the next stamp; `wall_ms` is the wall clock's milliseconds since 1970.

        More than 65,536 stamps in one millisecond carry into the milliseconds: the clock then runs
        ahead of the wall by a little, which the order does not mind.
        """
        wall = wall_ms << COUNTER_BITS
        self.last = wall if wall > self.last else self.last + 1
        return self.last

    def observe(self, stamp: int) -> None:
        """Never hand out a stamp up to this one again."""
        if stamp > self.last:
            self.last = stamp


def wall_ms_of(stamp: int) -> int:
    """The milliseconds since 1970 that a stamp was made at, as its clock saw them."""
    return stamp >> COUNTER_BITS
