"""Machine: what a benchmark needs to know of processes and of the computer it runs on."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of these processes so far, their reaped children not included."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / _TICKS_PER_S


def reset_peak_memory(pids: Iterable[int]) -> None:
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_memory(pids: Iterable[int]) -> int:
    """The largest resident size that any one of these processes has had, bytes."""
    return max(_status_kb(pid, "VmHWM") for pid in pids) * 1024


def resident_memory(pid: int) -> int:
    return _status_kb(pid, "VmRSS") * 1024


def _status_kb(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise ValueError(f"no {name} of process {pid}")


def made_folder(name: str) -> Path:
    """For argparse: a folder, which is made if it is not there."""
    folder = Path(name)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@dataclass(frozen=True)
class Machine:
    cpu: str
    cores: int
    kernel: str
    python: str

    @classmethod
    def this(cls) -> Machine:
        names = [
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ]
        return cls(
            names[0] if names else platform.machine(),
            len(os.sched_getaffinity(0)),
            platform.release(),
            platform.python_version(),
        )

    def __str__(self) -> str:
        return f"{self.cores} cores ({self.cpu}), Linux {self.kernel}, CPython {self.python}"
