"""Bench results: latencies, percentiles and sums of a measurement.  Pure.

Latencies are counted in buckets, each 2 % wider than the one before.  So an hour of latencies takes no more
memory than a second, and the counts of several processes can be added.  A percentile is therefore exact to
1 %; the greatest latency, the sum and the count are exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import msgspec

SHORTEST_S = 1e-6  # a shorter latency counts as this long
GROWTH = 1.02
_PER_E_FOLD = 1 / math.log(GROWTH)
_LOG_SHORTEST = math.log(SHORTEST_S)

PERCENTILES = (50.0, 90.0, 99.0, 99.9)
# Where the bars of a histogram begin: 1, 2, 5, 10, 20, ... microseconds, up to 500 s.
EDGES_S = tuple(digit * 10.0**exponent for exponent in range(-6, 3) for digit in (1, 2, 5))


class Latencies(msgspec.Struct):
    """How long requests took."""

    counts: dict[int, int] = msgspec.field(default_factory=dict)  # number of a bucket -> requests in it
    sum_s: float = 0.0
    max_s: float = 0.0

    @property
    def count(self) -> int:
        return sum(self.counts.values())

    def add(self, latency_s: float) -> None:
        number = int((math.log(max(latency_s, SHORTEST_S)) - _LOG_SHORTEST) * _PER_E_FOLD)
        self.counts[number] = self.counts.get(number, 0) + 1
        self.sum_s += latency_s
        if latency_s > self.max_s:
            self.max_s = latency_s

    def merge(self, other: Latencies) -> None:
        for number, count in other.counts.items():
            self.counts[number] = self.counts.get(number, 0) + count
        self.sum_s += other.sum_s
        self.max_s = max(self.max_s, other.max_s)

    def percentile(self, percent: float) -> float:
        """The latency that `percent` % of the requests did not exceed, in seconds; 0.0 without requests."""
        wanted = math.ceil(self.count * percent / 100)
        reached = 0
        for number in sorted(self.counts):
            reached += self.counts[number]
            if reached >= wanted:
                return min(_middle_s(number), self.max_s)
        return self.max_s

    def histogram(self) -> list[tuple[float, int]]:
        """Bars from the fastest to the slowest latency, including empty bars between them.

        Returns:
            Where each bar begins, in seconds, and how many requests are in it; the bars follow `EDGES_S`.
        """
        bars = dict.fromkeys(EDGES_S, 0)
        for number, count in self.counts.items():
            middle_s = _middle_s(number)
            edge = max((edge for edge in EDGES_S if edge <= middle_s), default=EDGES_S[0])
            bars[edge] += count
        filled = [index for index, edge in enumerate(EDGES_S) if bars[edge]]
        if not filled:
            return []
        return [(edge, bars[edge]) for edge in EDGES_S[filled[0] : filled[-1] + 1]]


def _middle_s(number: int) -> float:
    return SHORTEST_S * math.pow(GROWTH, number + 0.5)


class BenchResult(msgspec.Struct, kw_only=True):
    """The result of one measurement, of one client process or of several together."""

    latencies: Latencies = msgspec.field(default_factory=Latencies)
    elapsed_s: float = 0.0
    byte_count: int = 0  # of bodies, sent or received
    entry_count: int = 0  # of listings
    failures: dict[str, int] = msgspec.field(default_factory=dict)  # code of an error -> how often
    cpu_s: float = 0.0  # of the client processes
    cpu_share_max: float = 0.0  # CPU seconds per second of the busiest client process

    @property
    def rate(self) -> float:
        """Successful requests per second."""
        return self.latencies.count / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def byte_rate(self) -> float:
        return self.byte_count / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def failed_count(self) -> int:
        return sum(self.failures.values())


def together(parts: Sequence[BenchResult]) -> BenchResult:
    """The joint result of processes that measured at the same time."""
    whole = BenchResult()
    for part in parts:
        whole.latencies.merge(part.latencies)
        whole.elapsed_s = max(whole.elapsed_s, part.elapsed_s)
        whole.byte_count += part.byte_count
        whole.entry_count += part.entry_count
        whole.cpu_s += part.cpu_s
        whole.cpu_share_max = max(whole.cpu_share_max, part.cpu_share_max)
        for code, count in part.failures.items():
            whole.failures[code] = whole.failures.get(code, 0) + count
    return whole


def shares(whole: int, parts: int) -> list[int]:
    """`whole` in `parts` that differ by at most one: `shares(7, 3)` is 3, 2, 2."""
    least, more = divmod(whole, parts)
    return [least + (index < more) for index in range(parts)]


assert all(low < high for low, high in pairwise(EDGES_S))
