"""Latencies: how many requests took how long, in few enough numbers to send and to keep.  Pure.

A duration falls into one of `CLASSES` classes.  Four classes double it, so a class is at most a quarter wide,
from 4 microseconds to a minute.  Counts of the same class add up and subtract: the figures of disks and of
spans of time are sums of the figures of their parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

CLASSES: Final = 96
_LEAST_US: Final = 4


def class_of(seconds: float) -> int:
    us = int(seconds * 1e6)
    if us < _LEAST_US:
        return 0
    shift = us.bit_length() - 3
    return min((shift << 2) + (us >> shift) - 4, CLASSES - 1)


def bounds_of(number: int) -> tuple[float, float]:
    """From when on, and before which duration, something is in this class, in seconds."""
    shift, quarter = divmod(number, 4)
    return ((4 + quarter) << shift) / 1e6 if number else 0.0, ((5 + quarter) << shift) / 1e6


class Latencies:
    """Counts of durations.

    Attributes:
        counts: by class.
    """

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts = [0] * CLASSES

    def add(self, seconds: float, count: int = 1) -> None:
        self.counts[class_of(seconds)] += count

    def to_send(self) -> list[int]:
        """The counts without the zeros at the end."""
        counts = self.counts
        end = len(counts)
        while end and not counts[end - 1]:
            end -= 1
        return counts[:end]


def percentile(counts: Iterable[tuple[int, int]], share: float) -> float | None:
    """The duration that `share` of the requests did not exceed, within the width of a class, in seconds.

    Args:
        counts: pairs of class and count, by class.
    Returns:
        None: there was no request.
    """
    pairs = [pair for pair in counts if pair[1] > 0]
    total = sum(count for _, count in pairs)
    wanted = share * total
    for number, count in pairs:
        if wanted <= count:
            least, most = bounds_of(number)
            return least + (most - least) * wanted / count
        wanted -= count
    return bounds_of(pairs[-1][0])[1] if pairs else None


def difference(later: Sequence[int], earlier: Sequence[int]) -> dict[int, int]:
    """How many came between two readings of the same counter, by class; classes without any are left out."""
    found = {}
    for number, count in enumerate(later):
        before = earlier[number] if number < len(earlier) else 0
        if count > before:
            found[number] = count - before
    return found
