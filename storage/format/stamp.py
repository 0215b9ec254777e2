"""Stamps: the order of versions, readable from the volumes alone.

A stamp is a hybrid logical clock reading in 64 bits: milliseconds since 1970 in the upper 48, a counter
in the lower 16.  It follows the wall clock while that behaves and counts on by itself while the wall
clock stands still or steps back, so of two stamps of one clock the later is always the greater.  Clocks
that exchange their stamps (`observe`) never fall behind each other's past, whatever their wall clocks say.

A clock that believed every stamp could be ended by one number: the greatest one leaves nothing to count on
to.  So `admit_stamp` is the one door for stamps from outside (a message, a volume file, a catalog), and it
refuses what no clock of a store can show: `STAMP_END` and more, and more than a day ahead of the wall clock.

Plain values: the wall time is an argument, nothing here reads a clock.

Source: Kulkarni et al., "Logical Physical Clocks", OPODIS 2014.
"""

from __future__ import annotations

from warehouse.errors import ClockSpent, StampRefused

COUNTER_BITS = 16
STAMP_END = 1 << 63  # SQLite's integers end here; a sound clock gets there in the year 6429
STAMP_MAX = STAMP_END - 1
STAMP_SOUND_MAX = (1 << 62) - 1  # the year 4199: no store gets there, and half of all stamps are still left
# The greatest that is believed of a file.  A store goes on from the greatest stamp that its files hold, and
# what it writes then has to be sound, too: so there is room between the two for 2^48 changes.
STAMP_KEPT_MAX = STAMP_SOUND_MAX - (1 << 48)
AHEAD_MS_MAX = 24 * 3600 * 1000  # how far ahead of the wall clock a stamp from outside may be


def sound(stamp: int) -> int:
    """The stamp, or 0 in the place of one that no sound clock shows: no clock is to follow that."""
    return stamp if 0 <= stamp <= STAMP_KEPT_MAX else 0


def stamp_problem(stamp: int, *, wall_ms: int) -> str | None:
    """Why this cannot be the stamp of a sound clock; None: it can.

    Args:
        wall_ms: milliseconds since 1970, of the wall clock of whoever asks.
    """
    if not 0 <= stamp < STAMP_END:
        return f"a stamp is a number from 0 up to {STAMP_MAX}, not {stamp}"
    ahead_ms = wall_ms_of(stamp) - wall_ms
    if ahead_ms > AHEAD_MS_MAX:
        return (
            f"the stamp {stamp} is {ahead_ms / 86_400_000:,.1f} days ahead of the clock here; at most"
            f" {AHEAD_MS_MAX / 86_400_000:.0f} is believed"
        )
    return None


def admit_stamp(stamp: int, *, wall_ms: int) -> int:
    """Return a stamp that came from outside.

    Raises:
        StampRefused: it cannot be the stamp of a sound clock.
    """
    problem = stamp_problem(stamp, wall_ms=wall_ms)
    if problem is not None:
        raise StampRefused(problem)
    return stamp


class StampClock:
    """Hands out stamps, each greater than all that it handed out or was shown before."""

    __slots__ = ("_latest_ms", "correction_ms", "last")

    def __init__(self, last: int = 0) -> None:
        self.last = last
        self._latest_ms = wall_ms_of(last)  # the latest moment that the wall clock or the founding has shown
        self.correction_ms = 0  # added to the wall clock: of a disk, what the master's clock says differently

    def tick(self, wall_ms: int) -> int:
        """Make the next stamp; `wall_ms` is the wall clock's milliseconds since 1970.

        More than 65,536 stamps in one millisecond carry into the milliseconds: the clock then runs
        ahead of the wall by a little, which the order does not mind.

        Raises:
            ClockSpent: there is no greater stamp any more.
        """
        self._see_wall(wall_ms)
        wall = (wall_ms + self.correction_ms) << COUNTER_BITS
        stamp = wall if wall > self.last else self.last + 1
        if stamp >= STAMP_END:
            raise ClockSpent(
                "the clock of this store was set to its end, so nothing more can be put in order: stop the"
                " store, run `warehouse rebuild --replace`, which replaces the stamps, and start it"
            )
        self.last = stamp
        return stamp

    def found(self, stamp: int) -> None:
        """Start from what this store has written down itself: what follows shortly after it is no news.

        However wrong the clocks were in the meantime, the order of what was written then is kept.

        Raises:
            StampRefused: beyond `STAMP_SOUND_MAX`.
        """
        if not 0 <= stamp <= STAMP_SOUND_MAX:
            raise StampRefused(f"a sound clock shows at most {STAMP_SOUND_MAX}, this one {stamp}")
        self.observe(stamp)
        self._latest_ms = max(self._latest_ms, wall_ms_of(self.last))

    def _see_wall(self, wall_ms: int) -> None:
        self._latest_ms = max(self._latest_ms, wall_ms + self.correction_ms)

    def check(self, stamp: int, wall_ms: int) -> None:
        """Refuse a stamp from outside that must not be believed.

        The clock's own beginning counts like the wall clock: a machine that starts in the wrong year still
        knows what its store has lived through.  So does what the wall clock has shown before it was set back:
        what was stamped then is there, and all that is stamped since is greater.

        Raises:
            StampRefused: see `admit_stamp`.
        """
        if not 0 <= stamp <= self.last:  # what the clock has passed is no news
            self._see_wall(wall_ms)
            admit_stamp(stamp, wall_ms=self._latest_ms)

    def admit(self, stamp: int, wall_ms: int) -> None:
        """`observe` a stamp that came from outside.

        Raises:
            StampRefused: it was not believed, and the clock stays as it is.
        """
        self.check(stamp, wall_ms)
        self.observe(stamp)

    def observe(self, stamp: int) -> None:
        """Never hand out a stamp up to this one again.  For stamps of our own: see `admit`."""
        if stamp > self.last:
            self.last = stamp


def wall_ms_of(stamp: int) -> int:
    """The milliseconds since 1970 that a stamp was made at, as its clock saw them."""
    return stamp >> COUNTER_BITS
