"""Peer results: samples, their medians, and the page that is made of them.  Pure."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

KIB, MIB = 1 << 10, 1 << 20

NGINX = "nginx"
SWIFT = "Swift"
WEED = "SeaweedFS"
WEED_BENCHMARK = "SeaweedFS, its own benchmark"
LIBRARY = "Warehouse library"
BATCHES = "Warehouse library, batches"
RAW = "Warehouse HTTP"
DD = "dd conv=fdatasync"


@dataclass(frozen=True, order=True)
class Case:
    """What is measured; the same for every system."""

    test: str  # "put" or "get"
    size: int
    connections: int
    is_cold: bool = False


@dataclass(frozen=True)
class Sample:
    """One measurement of one system."""

    rate: float  # requests that succeeded, a second
    p50_ms: float
    p99_ms: float
    server_cpu_s: float  # of all its processes, for 1,000 requests
    client_cpu_s: float  # of the load generator or of the client processes, for 1,000 requests
    peak_bytes: int  # resident, of all server processes together
    count: int
    failures: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Line:
    """The medians of one system in one case."""

    system: str
    is_synced: bool
    case: Case
    sample: Sample
    rates: Sequence[float]  # of each round

    def as_json(self) -> dict[str, Any]:
        return {
            "system": self.system,
            "is_synced": self.is_synced,
            **asdict(self.case),
            **asdict(self.sample),
            "rates": list(self.rates),
        }


@dataclass(frozen=True)
class About:
    """What there is to say of one system besides its rates."""

    version: str
    object_count: int = 0  # small ones there were before the reads
    bytes_per_object: float = 0.0  # on disk, of one of 4 KiB, everything included
    note: str = ""
    volume_bytes_per_object: float = 0.0  # Warehouse: without the catalog


def median_of(samples: Sequence[Sample]) -> Sample:
    failures: dict[str, int] = {}
    for sample in samples:
        for name, count in sample.failures.items():
            failures[name] = failures.get(name, 0) + count
    middle = {
        name: statistics.median(getattr(sample, name) for sample in samples)
        for name in ("rate", "p50_ms", "p99_ms", "server_cpu_s", "client_cpu_s")
    }
    return Sample(
        **middle,
        peak_bytes=max(sample.peak_bytes for sample in samples),
        count=sum(sample.count for sample in samples),
        failures=failures,
    )


def parse_weed_benchmark(text: str) -> dict[str, float]:
    """What `weed benchmark` prints about one of its two tests.

    Returns:
        rate, p50_ms, p99_ms, count, failed_count.
    Raises:
        ValueError: there are no figures in it.
    """

    def number(pattern: str) -> float:
        found = re.search(pattern, text)
        if found is None:
            raise ValueError(f"weed benchmark printed no {pattern!r}")
        return float(found[1])

    def latency_ms(percent: int) -> float:
        # A percentile that equals a smaller one is not printed.
        printed = re.findall(r"\n\s+(\d+)%\s+([0-9.]+) ms", text)
        least = [float(ms) for one, ms in printed if int(one) <= percent]
        if not least:
            raise ValueError("weed benchmark printed no percentiles")
        return least[-1]

    rate = number(r"Requests per second:\s+([0-9.]+)")
    elapsed_s = number(r"Time taken for tests:\s+([0-9.]+) seconds")
    return {
        "rate": rate,
        "p50_ms": latency_ms(50),
        "p99_ms": latency_ms(99),
        "count": round(rate * elapsed_s),
        "failed_count": number(r"Failed requests:\s+([0-9]+)"),
    }


# --- goals ----------------------------------------------------------------------------------------


class Rates:
    """Rates by system and case."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self._rates = {(line.system, line.is_synced, line.case): line.sample.rate for line in lines}

    def best(self, system: str, is_synced: bool, case: Case) -> float | None:
        """The rate of that case; with no connections named, at the concurrency that suits the system best."""
        found = [
            rate
            for (name, synced, one), rate in self._rates.items()
            if (name, synced) == (system, is_synced)
            and (one.test, one.size, one.is_cold) == (case.test, case.size, case.is_cold)
            and case.connections in (0, one.connections)
        ]
        return max(found, default=None)

    def ratio(self, ours: str, theirs: str, case: Case, *, theirs_synced: bool = False) -> float | None:
        """Our rate, every put synced, over theirs: each at its best concurrency."""
        our_rate = self.best(ours, True, case)
        their_rate = self.best(theirs, theirs_synced, case)
        return our_rate / their_rate if our_rate and their_rate else None


Value = Callable[[Rates, Mapping[str, About]], float | None]


@dataclass(frozen=True)
class Goal:
    text: str
    least: float
    value: Value
    is_most: bool = False  # the value may not exceed it


PUT_4K, GET_4K = Case("put", 4 * KIB, 0), Case("get", 4 * KIB, 0)
# One after the other.  Tasks of a program that put or get at the same time share requests by themselves.
ONE_BY_ONE_PUT, ONE_BY_ONE_GET = Case("put", 4 * KIB, 1), Case("get", 4 * KIB, 1)
GET_80M, PUT_80M = Case("get", 80 * MIB, 0), Case("put", 80 * MIB, 0)


def _ratio(ours: str, theirs: str, case: Case, *, theirs_synced: bool = False) -> Value:
    return lambda rates, about: rates.ratio(ours, theirs, case, theirs_synced=theirs_synced)


def _gain_of_batches(many: Case, one: Case) -> Value:
    def gain(rates: Rates, about: Mapping[str, About]) -> float | None:
        ours, theirs = rates.best(BATCHES, True, many), rates.best(LIBRARY, True, one)
        return ours / theirs if ours and theirs else None

    return gain


def _rate(system: str, case: Case) -> Value:
    return lambda rates, about: rates.best(system, True, case)


def _volume_bytes(rates: Rates, about: Mapping[str, About]) -> float | None:
    return about[RAW].volume_bytes_per_object or None if RAW in about else None


GOALS = (
    Goal("GET 4 KiB at the volume actor, of one nginx worker", 0.75, _ratio(RAW, NGINX, GET_4K)),
    Goal("PUT 4 KiB synced at the volume actor, of nginx DAV unsynced", 0.7, _ratio(RAW, NGINX, PUT_4K)),
    Goal("library put 4 KiB synced, times Swift", 30, _ratio(LIBRARY, SWIFT, PUT_4K, theirs_synced=True)),
    Goal(
        "library put 4 KiB synced, times SeaweedFS's own benchmark synced",
        2,
        _ratio(LIBRARY, WEED_BENCHMARK, PUT_4K, theirs_synced=True),
    ),
    Goal(
        "library put 4 KiB synced, times SeaweedFS's own benchmark unsynced",
        1,
        _ratio(LIBRARY, WEED_BENCHMARK, PUT_4K),
    ),
    Goal("library get 4 KiB, times SeaweedFS's own benchmark", 1, _ratio(LIBRARY, WEED_BENCHMARK, GET_4K)),
    Goal("GET 80 MiB at the volume actor, of nginx", 0.9, _ratio(RAW, NGINX, GET_80M)),
    Goal(
        "PUT 80 MiB synced at the volume actor, of dd conv=fdatasync",
        0.9,
        _ratio(RAW, DD, PUT_80M, theirs_synced=True),
    ),
    Goal("put_many of 4 KiB, times one after the other", 5, _gain_of_batches(PUT_4K, ONE_BY_ONE_PUT)),
    Goal("put_many of 4 KiB, objects a second", 15_000, _rate(BATCHES, PUT_4K)),
    Goal("get_many of 4 KiB, times one after the other", 5, _gain_of_batches(GET_4K, ONE_BY_ONE_GET)),
    Goal("get_many of 4 KiB, objects a second", 15_000, _rate(BATCHES, GET_4K)),
    Goal(
        "bytes in volumes and their indexes for an object of 4 KiB", 4096 + 160, _volume_bytes, is_most=True
    ),
)


def goal_rows(lines: Sequence[Line], about: Mapping[str, About]) -> list[list[str]]:
    rates, rows = Rates(lines), []
    for goal in GOALS:
        value = goal.value(rates, about)
        if value is None:
            continue
        is_reached = value <= goal.least if goal.is_most else value >= goal.least
        rows.append(
            [
                goal.text,
                f"{'at most' if goal.is_most else 'at least'} {goal.least:,g}",
                f"{value:,.0f}" if value >= 100 else f"{value:.2f}",
                "reached" if is_reached else "**missed**",
            ]
        )
    return rows


# --- the page -------------------------------------------------------------------------------------

SECTIONS = (
    ("Puts, every one synced before it is answered", "put", True, False),
    ("Puts that stay in the page cache", "put", False, False),
    ("Gets, warm", "get", None, False),
    ("Gets, cold", "get", None, True),
)
COLUMNS = (
    "",
    "at once",
    "a second",
    "to nginx",
    "p50 ms",
    "p99 ms",
    "server CPU s",
    "client CPU s",
    "peak MB",
)


def size_name(size: int) -> str:
    return f"{size // MIB} MiB" if size >= MIB else f"{size // KIB} KiB"


def section_rows(lines: Sequence[Line], test: str, is_synced: bool | None, is_cold: bool) -> list[list[str]]:
    """Rows of one table; the ratio is to nginx, which never syncs, in the same case."""
    nginx = {line.case: line.sample.rate for line in lines if line.system == NGINX}
    chosen = [
        line
        for line in lines
        if line.case.test == test and line.case.is_cold == is_cold and is_synced in (None, line.is_synced)
    ]
    rows, before = [], None
    for line in sorted(chosen, key=lambda line: line.case):
        sample, case = line.sample, line.case
        if case.size != before:
            rows.append([f"**{size_name(case.size)}**", *[""] * (len(COLUMNS) - 1)])
            before = case.size
        reference = nginx.get(case)
        failed = sum(sample.failures.values())
        rows.append(
            [
                line.system + (f" ({failed} failed)" if failed else ""),
                str(case.connections),
                f"{sample.rate:,.0f}" if sample.rate >= 100 else f"{sample.rate:.1f}",
                f"{sample.rate / reference:.2f}" if reference else "",
                f"{sample.p50_ms:.2f}",
                f"{sample.p99_ms:.2f}",
                f"{sample.server_cpu_s:.3f}",
                f"{sample.client_cpu_s:.3f}",
                f"{sample.peak_bytes / 1e6:.0f}",
            ]
        )
    return rows


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are numbers."""
    lines = ["| " + " | ".join(columns) + " |", "|---|" + "---:|" * (len(columns) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


INTRODUCTION = """\
# Benchmarks against other stores

Made by `python bench/peers.py {options}` on {date}, on {machine}. {shape}

Read the figures as ratios: all systems ran in turn, in the same minutes on the same machine, which the load
generator shared with them. Others used {others:.1f} of its cores before it began. Each figure is the median
of {rounds} rounds of {seconds:g} s.

- **One generator for all** (`bench/http_load.py`): keep-alive connections, answers counted and thrown away.
  It knows beforehand where things are, as a client does that has asked: file ids of SeaweedFS, whose volume
  server is then asked alone; tokens and leased needles of Warehouse, whose volume actor still confirms each
  put with the master, under a name that can be listed. SeaweedFS's own benchmark asks its master for every
  object, and reads those alone that it has just put. *Warehouse library* is the whole client, which asks the
  master itself and checks every byte; as many of its processes share the requests as got the most out of the
  store ({processes} at most). Each of its tasks puts, or gets, one object after the other; those of one
  process that do so at the same moment share requests, which the library does by itself. *Batches* are its
  `put_many` and `get_many`, one stream in each process; the latency of an object is from being taken to its
  result.
- **Synced** means: every put is on disk before it is answered. nginx never syncs; it is here as the machine's
  limit. SeaweedFS syncs when asked to (`?fsync=true`, `-fsync`), Swift always does. All of Warehouse's puts
  are in its catalog, synced, before they are answered; in the table of page-cache puts it leaves the data to
  the kernel (`durability = "os"`), the catalog is synced all the same.
- **Server CPU** is of all processes of a system, **client CPU** of whatever sends the requests, both in
  seconds for 1,000 requests. **Peak** is the resident memory of all server processes together.
- Before the reads there are {objects} objects of 4 KiB, or as many as a system took within {prepare_s:g} s:
  see the last table, which also has what an object takes on disk, catalog and all.
- Warm: system by system, right after its files were read through. Cold: {cold}.
"""


def page(
    lines: Sequence[Line], about: Mapping[str, About], plots: Sequence[str], facts: Mapping[str, Any]
) -> str:
    """The whole page.

    Args:
        plots: paths of pictures, as the page links them.
        facts: what the introduction names.
    """
    parts = [INTRODUCTION.format(**facts)]
    goals = goal_rows(lines, about)
    if goals:
        parts.append("## Goals\n\nEach system at the concurrency that suits it best.\n")
        parts.append(table(("", "goal", "measured", ""), goals))
    parts += [f"![{path.rsplit('/', 1)[-1].removesuffix('.svg')}]({path})\n" for path in plots]
    for title, test, is_synced, is_cold in SECTIONS:
        rows = section_rows(lines, test, is_synced, is_cold)
        if rows:
            parts.append(f"## {title}\n\n{table(COLUMNS, rows)}")
    rows = [
        [
            name,
            one.version,
            f"{one.object_count:,}",
            f"{one.bytes_per_object:,.0f}" if one.bytes_per_object else "",
            one.note,
        ]
        for name, one in about.items()
    ]
    parts.append("## The systems\n\n" + table(("", "version", "objects", "bytes on disk each", ""), rows))
    return "\n".join(parts)
