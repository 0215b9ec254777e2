"""Scaling figures: what `scaling.py` measures, and the workloads of the model that are made of it.  Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.scaling_model import SECOND_US, Mover, Surroundings, Workload
from warehouse.catalog.writer import BATCH_MAX

SMALL_SIZE, LARGE_SIZE = 4096, 80 << 20
NODE_BYTES_PER_S = 1.25e9  # a network port of 10 Gbit/s: assumed, not measured

PUTS, GETS = "put", "get"
HTTP, ONE_BY_ONE, MANY, LARGE = "data port", "library", "batches", "large"


@dataclass(frozen=True)
class Kind:
    """One kind of operation that is measured."""

    name: str
    test: str  # PUTS or GETS
    way: str


KINDS = (
    Kind("put 4 KiB, data port", PUTS, HTTP),
    Kind("get 4 KiB, data port", GETS, HTTP),
    Kind("put 4 KiB, library", PUTS, ONE_BY_ONE),
    Kind("get 4 KiB, library", GETS, ONE_BY_ONE),
    Kind("put_many of 4 KiB", PUTS, MANY),
    Kind("get_many of 4 KiB", GETS, MANY),
    Kind("put 80 MiB, library", PUTS, LARGE),
    Kind("get 80 MiB, library", GETS, LARGE),
)
HTTP_PUT, HTTP_GET, PUT, GET, PUT_MANY, GET_MANY, LARGE_PUT, LARGE_GET = (kind.name for kind in KINDS)

Held = tuple[str, int, float | None]  # kind, volume actors, share of a core that each is held to


@dataclass(frozen=True)
class Sample:
    """One measurement of one store."""

    rate: float  # operations a second
    clients: int  # processes
    client_us: float  # processor time for one operation: of all clients or load generators
    volume_us: float  # of all volume actors
    master_us: float
    machine_busy: float  # cores that anybody used, others on the machine included

    @property
    def all_us(self) -> float:
        return self.client_us + self.volume_us + self.master_us

    def cores(self, microseconds: float) -> float:
        """Cores that work of so many microseconds an operation kept busy."""
        return self.rate * microseconds / SECOND_US

    def with_cores(self, actors: int) -> tuple[float, str]:
        """The rate on a machine with as many cores as it takes, and whose core is full then."""
        by_actors, by_master = actors * SECOND_US / self.volume_us, SECOND_US / max(self.master_us, 1e-9)
        return (by_actors, "actors") if by_actors <= by_master else (by_master, "master")


def summed_up(samples: Mapping[Held, Sequence[Sample]]) -> dict[Held, Sample]:
    """One sample for the rounds: their median; of large objects the round that took the least processor time.

    A virtual machine that is handed fresh memory for its page cache spends three times as much on a large
    body while that lasts.  It hits one actor and two alike, so the ratio of the rates is not touched.
    """
    large = {kind.name for kind in KINDS if kind.way == LARGE}
    return {
        held: min(ones, key=lambda one: one.all_us) if held[0] in large else _median(ones)
        for held, ones in samples.items()
    }


def _median(ones: Sequence[Sample]) -> Sample:
    return Sample(
        **{
            name: statistics.median_low(getattr(one, name) for one in ones)  # an int stays one
            for name in Sample.__dataclass_fields__
        }
    )


def ratios_of(samples: Mapping[Held, Sequence[Sample]]) -> dict[tuple[str, float | None], float]:
    """Two actors to one, by kind and share: the median of what the rounds say."""
    return {
        (kind, share): statistics.median(  # of pairs, so that a slow minute hits both
            two.rate / one.rate for one, two in zip(ones, samples[kind, 2, share], strict=True)
        )
        for (kind, actors, share), ones in samples.items()
        if actors == 1
    }


@dataclass(frozen=True)
class IdleCosts:
    """Of a master, for each disk that is connected and has a compactor."""

    disks: int
    idle_us: float  # processor time, each second, reports every ten seconds included
    report_us: float  # processor time, for one more report
    memory: float  # bytes
    bytes_per_s: float  # both ways, above TCP


@dataclass(frozen=True)
class Found:
    """Everything that one run measured."""

    samples: Mapping[Held, Sample]
    ratios: Mapping[tuple[str, float | None], float]
    process_counts: Mapping[str, int]  # of the clients, by kind
    master_us: Mapping[str, float]  # of a master alone, by the names of `master_rate`
    idle: IdleCosts
    sync_s: float
    share: float | None  # that actors were held to; None: this machine does not allow it

    def as_json(self) -> dict[str, Any]:
        return {
            "samples": [
                {"kind": kind, "actors": actors, "share": share, **asdict(sample)}
                for (kind, actors, share), sample in self.samples.items()
            ],
            "ratios": [
                {"kind": kind, "share": share, "ratio": ratio} for (kind, share), ratio in self.ratios.items()
            ],
            "process_counts": dict(self.process_counts),
            "master_us": dict(self.master_us),
            "idle": asdict(self.idle),
            "sync_s": self.sync_s,
            "share": self.share,
        }

    @classmethod
    def from_json(cls, whole: Mapping[str, Any]) -> Found:
        def sample(one: Mapping[str, Any]) -> Sample:
            return Sample(**{name: one[name] for name in Sample.__dataclass_fields__})

        return cls(
            samples={(one["kind"], one["actors"], one["share"]): sample(one) for one in whole["samples"]},
            ratios={(one["kind"], one["share"]): one["ratio"] for one in whole["ratios"]},
            process_counts=whole["process_counts"],
            master_us=whole["master_us"],
            idle=IdleCosts(**whole["idle"]),
            sync_s=whole["sync_s"],
            share=whole["share"],
        )


# --- from figures to the model --------------------------------------------------------------------

COMMIT_ALONE = "commit, 1 in a message, 1 message at once"
COMMIT_MANY = "commit, 1 in a message, 64 messages at once"
COMMIT_16 = "commit, 16 in a message"
COMMIT_512 = "commit, 512 in a message"
LEASE = "lease of 256 needles"
LEASED_COUNT = 256
LOCATE_1 = "locate, 1 key in a request, 32 at once"
LOCATE_500 = "locate, 500 keys in a request"
LISTED = "list with locations, 1,000 keys in a page"


def surroundings_of(found: Found) -> Surroundings:
    return Surroundings(
        upkeep_us=found.idle.idle_us + found.idle.report_us,  # a busy disk reports each second
        sync_s=found.sync_s,
        node_bytes_per_s=NODE_BYTES_PER_S,
    )


def workloads_of(found: Found) -> list[Workload]:
    """What a volume actor spends is that of the one actor of a store; what the master spends, of one alone.

    Objects of 80 MiB are the exception: what their uploads ask of the master was counted in the whole store.
    """

    def volume(kind: str) -> float:
        return found.samples[kind, 1, None].volume_us

    def large(name: str, kind: str) -> Workload:
        return Workload(name, volume(kind), found.samples[kind, 1, None].master_us, LARGE_SIZE)

    master = found.master_us
    lease_us = master[LEASE] / LEASED_COUNT
    small = SMALL_SIZE
    return [
        Workload("puts, each alone", volume(HTTP_PUT), master[COMMIT_MANY] + lease_us, small, BATCH_MAX),
        Workload(
            "puts, 16 in an actor's message",
            volume(HTTP_PUT),
            master[COMMIT_16] + lease_us,
            small,
            16 * BATCH_MAX,
        ),
        Workload(
            "puts by `put_many`", volume(PUT_MANY), master[COMMIT_512] + lease_us, small, 512 * BATCH_MAX
        ),
        Workload("gets, each located alone", volume(HTTP_GET), master[LOCATE_1], small),
        Workload("gets by `get_many`", volume(GET_MANY), master[LOCATE_500], small),
        Workload("gets from a listing with locations", volume(GET_MANY), master[LISTED], small),
        Workload("gets by URLs or grants one has", volume(HTTP_GET), 0.0, small),
        large("puts of 80 MiB", LARGE_PUT),
        large("gets of 80 MiB", LARGE_GET),
    ]


def movers_of(found: Found) -> list[Mover]:
    """What moves the master's limit, as factors of the processor time it spends."""
    master = found.master_us
    lease_us = master[LEASE]
    large_us = found.samples[LARGE_PUT, 1, None].master_us
    return [
        Mover(
            "commits share a transaction: 1 message at once -> 64", master[COMMIT_ALONE], master[COMMIT_MANY]
        ),
        Mover("puts share a message: 1 -> 16", master[COMMIT_MANY], master[COMMIT_16]),
        Mover("puts by `put_many`: 16 -> 512 in a message", master[COMMIT_16], master[COMMIT_512]),
        Mover(
            "needles are leased ahead: a lease for each put -> for 256",
            master[COMMIT_16] + lease_us,
            master[COMMIT_16] + lease_us / LEASED_COUNT,
        ),
        Mover("gets are located together: 1 -> 500 keys in a request", master[LOCATE_1], master[LOCATE_500]),
        Mover("gets from a listing with locations instead of `get_many`", master[LOCATE_500], master[LISTED]),
        Mover("presigned URLs, grants that are used again", master[LOCATE_1], 0.0),
        Mover(
            "larger objects: a GiB in 4 KiB by `put_many` -> in 80 MiB",
            (master[COMMIT_512] + lease_us / LEASED_COUNT) * (1 << 30) / SMALL_SIZE,
            large_us * (1 << 30) / LARGE_SIZE,
        ),
    ]


def kinds_measured(found: Found, share: float | None) -> list[str]:
    return [kind.name for kind in KINDS if (kind.name, 1, share) in found.samples]
