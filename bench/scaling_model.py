"""Scaling model: how far a store of many nodes gets, from what one operation costs.  Pure.

A node is a machine with one disk, its volume actor and a network port.  Every node adds a processor, a disk
and a port; the master is one process, and so one core, for all of them.  So the store does what its nodes can
do together until they ask for more than that one core has left: the **knee**.

    nodes * node_rate                     what the volume actors can do
    (1 s - nodes * upkeep) / master_us    what the master can do

Clients are machines of their own here, as many as are needed.  What a node does not share with others is
taken for perfectly parallel, which the measurement with one and two actors is there to check.
"""

from __future__ import annotations

from dataclasses import dataclass

SECOND_US = 1e6
NODE_COUNTS = (2, 5, 10, 20, 50, 100)
FULL = 0.9  # of a core; starting and stopping is in what was measured, too


@dataclass(frozen=True)
class Workload:
    """One kind of operation, and what it takes of each side."""

    name: str
    volume_us: float  # processor time of a volume actor for one operation
    master_us: float  # of the master; 0: it is not asked
    size: int  # bytes of data
    commits_at_once: int = 0  # puts that can share one transaction of the catalog; 0: none is written


@dataclass(frozen=True)
class Surroundings:
    """What is the same for every workload."""

    upkeep_us: float  # of the master, each second, for one node: heartbeats, sweeps, reports
    sync_s: float  # one fdatasync of the master's disk
    node_bytes_per_s: float  # of a node's network port


@dataclass(frozen=True)
class Projection:
    """A store of so many nodes under one workload; operations a second."""

    nodes: int
    volumes_rate: float
    master_rate: float
    limit: str  # "nodes", "master" or "commits"

    @property
    def rate(self) -> float:
        return min(self.volumes_rate, self.master_rate)


def node_rate(workload: Workload, around: Surroundings) -> float:
    """What one node does alone: its actor's core or its network port is full."""
    return min(SECOND_US / workload.volume_us, around.node_bytes_per_s / workload.size)


def project(workload: Workload, nodes: int, around: Surroundings) -> Projection:
    """What a store of `nodes` nodes does, and what limits it."""
    volumes_rate = nodes * node_rate(workload, around)
    left_us = max(SECOND_US - nodes * around.upkeep_us, 0.0)
    processor_rate = left_us / workload.master_us if workload.master_us else float("inf")
    # One transaction after the other, each with one sync, and each with all that came meanwhile.
    commit_rate = workload.commits_at_once / around.sync_s if workload.commits_at_once else float("inf")
    master_rate = min(processor_rate, commit_rate)
    limit = "nodes"
    if master_rate < volumes_rate:
        limit = "commits" if commit_rate < processor_rate else "master"
    return Projection(nodes, volumes_rate, master_rate, limit)


def knee(workload: Workload, around: Surroundings) -> float:
    """The number of nodes that keeps the master just busy; infinite when it is not asked at all.

    More nodes than that add room, and bandwidth for larger objects, but no operations of this kind.
    """
    if not workload.master_us:
        return float("inf")
    each_us = node_rate(workload, around) * workload.master_us + around.upkeep_us
    by_processor = SECOND_US / each_us
    if not workload.commits_at_once:
        return by_processor
    by_commits = workload.commits_at_once / around.sync_s / node_rate(workload, around)
    return min(by_processor, by_commits)


def full_resource(
    *,
    cores: int,
    machine_busy: float,
    actors: int,
    volume_busy: float,
    master_busy: float,
    clients: int,
    client_busy: float,
    share: float | None = None,
) -> str:
    """What a measurement was held up by: the name of what had nothing left.

    Args:
        cores: of the machine.
        machine_busy: cores that anybody used, others on the machine included.
        actors, volume_busy: how many volume actors there are, and cores that they used together.
        master_busy: cores that the master used.
        clients, client_busy: how many client processes, and cores that they used together.
        share: of a core that each volume actor was held to.
    """
    if share is not None and volume_busy >= 0.85 * share * actors:
        return "shares"
    if machine_busy >= FULL * cores:
        return "all cores"
    if volume_busy >= FULL * actors:
        return "actors"
    if master_busy >= FULL:
        return "master"
    if client_busy >= FULL * clients:
        return "clients"
    return "waiting"


@dataclass(frozen=True)
class Mover:
    """Something that moves the master's limit: from what to what."""

    name: str
    before_us: float  # of the master, an operation
    after_us: float

    @property
    def factor(self) -> float:
        return self.before_us / self.after_us if self.after_us else float("inf")
