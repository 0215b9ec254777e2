"""Peer ways: a store asked by the generator that all share, by its own benchmark, by its own client."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from bench.machine import cpu_seconds, reset_peak_memory
from bench.peer_machine import NotHere, total_peak
from bench.peer_results import KIB, MIB, Case, Sample, parse_weed_benchmark
from bench.peer_systems import BUCKET, ROOT, System, WarehouseStore, Weed, run_http_load
from harness import environment
from warehouse.cli.measuring.latencies import Latencies, shares


def sample_of(load: dict[str, Any]) -> Sample:
    """A measurement as it is compared."""
    latencies = msgspec.convert(load["latencies"], Latencies, strict=False)
    count = load["count"] or 1
    return Sample(
        rate=load["count"] / load["elapsed_s"],
        p50_ms=latencies.percentile(50) * 1e3,
        p99_ms=latencies.percentile(99) * 1e3,
        server_cpu_s=load["server_cpu_s"] / count * 1000,
        client_cpu_s=load["cpu_s"] / count * 1000,
        peak_bytes=load["server_peak_bytes"],
        count=load["count"],
        failures=load["failures"],
    )


class Way(ABC):
    """One system asked in one way: a row of the tables.

    Args:
        is_synced: every put is on disk before it is answered.
    """

    tests: tuple[str, ...] = ("put", "get")

    def __init__(
        self, name: str, system: System, *, is_synced: bool, tests: tuple[str, ...] = ("put", "get")
    ):
        self.name, self.system, self.is_synced, self.tests = name, system, is_synced, tests

    @abstractmethod
    def measure(self, case: Case, seconds: float) -> Sample | None:
        """One measurement; None where this way cannot do that case."""


class Http(Way):
    """Asked by the generator that all share."""

    def __init__(self, name: str, system: System, *, suffix: str = "", **others: Any) -> None:
        super().__init__(name, system, **others)
        self._suffix = suffix
        self._rates: dict[Case, float] = {}

    def measure(self, case: Case, seconds: float) -> Sample | None:
        size = case.size
        if case.test == "get":
            targets = self.system.get_targets(size)
            if not targets:
                return None
            once = case.is_cold  # the second time it would be warm
            load = run_http_load(
                self.system, "GET", targets, size=0, connections=case.connections, seconds=seconds, once=once
            )
        else:
            guess = self._rates.get(case, 1e4 if size < 64 * KIB else 3000 if size < MIB else 5e8 / size)
            # Each takes room beforehand: of large ones no more than may be begun.
            spare = case.connections * (2 if size < MIB else 1)
            targets = self.system.put_targets(size, int(guess * seconds * 1.5) + spare)
            load = run_http_load(
                self.system,
                "PUT",
                targets,
                size=size,
                connections=case.connections,
                seconds=seconds,
                suffix=self._suffix,
            )
            self.system.used(size, load["used_count"])
        if not load["count"]:
            raise NotHere(f"{self.name}: no request succeeded: {load['failures']}")
        sample = sample_of(load)
        self._rates[case] = sample.rate
        return sample


class WeedBenchmark(Way):
    """`weed benchmark`, with the master asked for every object, as its authors measure."""

    system: Weed
    size_max = 64 * KIB

    def __init__(self, name: str, system: Weed, *, is_synced: bool, tests: tuple[str, ...]) -> None:
        super().__init__(name, system, is_synced=is_synced, tests=tests)
        self._rates: dict[Case, float] = {}

    def measure(self, case: Case, seconds: float) -> Sample | None:
        ids = self.system.folder / f"ids-{case.size}"
        if case.size > self.size_max or (case.test == "get" and (case.is_cold or not ids.exists())):
            return None
        count = max(int(self._rates.get(case, 500.0) * seconds), 200)
        command: list[str | Path] = [self.system.program, "benchmark", f"-master={self.system.master}"]
        command += [f"-c={case.connections}", f"-n={count}", f"-size={case.size}", f"-list={ids}"]
        command += ["-writeOnly" if case.test == "put" else "-readOnly"] + ["-fsync"] * self.is_synced
        pids = self.system.pids()
        reset_peak_memory(pids)
        before, own_before = cpu_seconds(pids), _children_cpu()
        ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
        figures = parse_weed_benchmark(ran.stdout.replace("\r", "\n"))
        done = figures["count"] or 1
        self._rates[case] = figures["rate"]
        failed = int(figures["failed_count"])
        return Sample(
            rate=figures["rate"],
            p50_ms=figures["p50_ms"],
            p99_ms=figures["p99_ms"],
            server_cpu_s=(cpu_seconds(pids) - before) / done * 1000,
            client_cpu_s=(_children_cpu() - own_before) / done * 1000,
            peak_bytes=total_peak(pids),
            count=int(done),
            failures={"failed": failed} if failed else {},
        )


class Library(Way):
    """Warehouse's own client, in several processes."""

    system: WarehouseStore
    process_counts: ClassVar[dict[str, int]] = {"put": 1, "get": 1}  # by test
    operation = ""  # behind "put" or "get", as load.py calls it
    _run = 0

    def measure(self, case: Case, seconds: float) -> Sample | None:
        known = self.system.stored_count(case.size)
        if case.test == "get" and not known:
            return None
        process_count = min(self.process_counts[case.test], case.connections)
        pids = self.system.pids()
        reset_peak_memory(pids)
        before = cpu_seconds(pids)
        Library._run += 1
        children = []
        for number, tasks in enumerate(self._tasks(case.connections, process_count)):
            prefix = str(case.size) if case.test == "get" else f"library/{Library._run}/{number}"
            command = [
                sys.executable,
                str(ROOT / "bench" / "load.py"),
                case.test + self.operation,
                "--wait",
                "--flat",
            ]
            command += ["--profile", str(self.system.profile), "--bucket", BUCKET, "--prefix", prefix]
            command += ["--tasks", str(tasks), "--size", str(case.size), "--known", str(known)]
            command += ["--seconds", str(seconds)]
            children.append(
                subprocess.Popen(
                    command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            )
        try:
            for child in children:
                assert child.stdout is not None
                if child.stdout.readline() != "ready\n":
                    raise NotHere("Warehouse's client did not start")
            for child in children:
                assert child.stdin is not None
                child.stdin.write("\n")
                child.stdin.flush()
            parts = [json.loads(child.communicate()[0]) for child in children]
        finally:
            for child in children:
                if child.poll() is None:
                    child.kill()
                    child.wait()
        load = added_up(parts)
        load["server_cpu_s"] = cpu_seconds(pids) - before
        load["server_peak_bytes"] = total_peak(pids)
        return sample_of(load)

    def _tasks(self, connections: int, process_count: int) -> list[int]:
        return shares(connections, process_count)


class Batches(Library):
    """The same with `put_many` and `get_many`: one stream a process."""

    operation = "-many"

    def measure(self, case: Case, seconds: float) -> Sample | None:
        wanted = 64 if case.size == 4 * KIB else 16
        if case.connections != wanted or case.size > 64 * KIB or case.is_cold:
            return None
        return super().measure(case, seconds)

    def _tasks(self, connections: int, process_count: int) -> list[int]:
        return [1] * process_count


class Dd(Way):
    """`dd conv=fdatasync` of a file as large as the largest object: what the disk takes."""

    def measure(self, case: Case, seconds: float) -> Sample | None:
        if case.size != 80 * MIB or case.connections != 1:
            return None
        source = self.system.folder / "dd-source"
        if not source.exists():
            source.write_bytes(os.urandom(MIB) * (case.size // MIB))
        latencies, own_before = Latencies(), _children_cpu()
        started = now = time.perf_counter()
        while now < started + seconds:
            target = self.system.folder / f"dd-{latencies.count}"
            command = ["dd", f"if={source}", f"of={target}", "bs=1M", "conv=fdatasync"]
            subprocess.run(command, capture_output=True, check=True)
            before, now = now, time.perf_counter()
            latencies.add(now - before)
        for number in range(latencies.count):
            (self.system.folder / f"dd-{number}").unlink()
        count = latencies.count
        return Sample(
            rate=count / (now - started),
            p50_ms=latencies.percentile(50) * 1e3,
            p99_ms=latencies.percentile(99) * 1e3,
            server_cpu_s=0.0,
            client_cpu_s=(_children_cpu() - own_before) / count * 1000,
            peak_bytes=0,
            count=count,
        )


def added_up(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What client processes found that ran at the same time."""
    whole = Latencies()
    for part in parts:
        whole.merge(msgspec.convert(part["latencies"], Latencies, strict=False))
    return {
        "count": sum(part["count"] for part in parts),
        "elapsed_s": max(part["elapsed_s"] for part in parts),
        "cpu_s": sum(part["cpu_s"] for part in parts),
        "latencies": msgspec.to_builtins(whole),
        "failures": {},
    }


def _children_cpu() -> float:
    """CPU seconds of all processes that this one has waited for."""
    times = os.times()
    return times.children_user + times.children_system
