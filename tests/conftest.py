"""What every test may rely on: no test leaves a process, thread-bound socket or temporary file behind."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes is the machine's affair: by default, one of 0.2 s fails its test.
settings.register_profile(
    "warehouse", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("warehouse")

ROOT = Path(__file__).resolve().parents[1]


def child_processes() -> dict[int, str]:
    """Processes that this one has started and that still run (or were never waited for)."""
    children: dict[int, str] = {}
    for task in Path("/proc/self/task").glob("*/children") if sys.platform == "linux" else ():
        try:
            pids = task.read_text().split()
        except OSError:
            continue
        for pid in pids:
            try:
                children[int(pid)] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
    return children


def open_sockets() -> set[str]:
    """The sockets this process holds, by inode."""
    found = set()
    if sys.platform == "linux":
        for name in os.listdir("/proc/self/fd"):
            try:
                target = os.readlink(f"/proc/self/fd/{name}")
            except OSError:
                continue
            if target.startswith("socket:"):
                found.add(target)
    return found


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Programs that run in this process set logging up for themselves: the next test starts without that."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    processes, sockets = child_processes(), open_sockets()
    yield
    left = {pid: command for pid, command in child_processes().items() if pid not in processes}
    assert not left, f"processes left behind: {left}"
    extra = open_sockets() - sockets
    assert not extra, f"{len(extra)} sockets left behind"
