"""Processor share: holds processes to a part of a core each, by Linux control groups.

A machine with few cores cannot show what a second volume actor adds: actors, master and load want the same
cores.  Held to a small share, an actor is the limit again, whatever the machine has, and two of them can be
compared with one.  Needs a kernel that lets us make groups (root, usually); where it does not, `is_possible`
is False and nothing else may be asked.
"""

from __future__ import annotations

import os
from pathlib import Path

PERIOD_US = 20_000  # a share is had in pieces so long apart: shorter than anybody notices in a rate
_GROUPS = Path("/sys/fs/cgroup")


class ProcessorShares:
    """A group of its own for each process.  Close it after the processes have ended."""

    def __init__(self) -> None:
        self._groups: list[Path] = []
        self._home = _home()

    @property
    def is_possible(self) -> bool:
        return self._home is not None

    def add(self, pid: int) -> None:
        """Take in a process with all its threads; not held to anything yet."""
        assert self._home is not None
        group = self._home / f"warehouse-bench-{pid}"
        group.mkdir()
        self._groups.append(group)
        (group / "cgroup.procs").write_text(str(pid))

    def hold(self, cores: float | None) -> None:
        """Hold every process to so many cores; None lets go of them."""
        for group in self._groups:
            quota_us = None if cores is None else int(cores * PERIOD_US)
            if (group / "cpu.max").exists():  # version 2
                (group / "cpu.max").write_text(f"{'max' if quota_us is None else quota_us} {PERIOD_US}")
            else:
                (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
                (group / "cpu.cfs_quota_us").write_text(str(-1 if quota_us is None else quota_us))

    def close(self) -> None:
        for group in self._groups:
            group.rmdir()
        self._groups.clear()


def _home() -> Path | None:
    """Where groups can be made that limit processors."""
    version_2 = _GROUPS / "cgroup.subtree_control"
    if version_2.exists():
        home, has_cpu = _GROUPS, "cpu" in version_2.read_text().split()
    else:
        home, has_cpu = _GROUPS / "cpu", (_GROUPS / "cpu" / "cpu.cfs_quota_us").exists()
    return home if has_cpu and os.access(home, os.W_OK) else None
