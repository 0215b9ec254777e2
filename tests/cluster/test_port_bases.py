"""Test processes that run side by side never give their stores the same ports."""

from __future__ import annotations

import subprocess
import sys

from harness import ROOT, environment

TAKE = """
import sys
sys.path.insert(0, "tests/kits")
from harness import free_port_base
print(*[free_port_base() for _ in range(12)], flush=True)
sys.stdin.read()
"""


def test_processes_side_by_side_take_different_bases() -> None:
    takers = [
        subprocess.Popen(
            [sys.executable, "-c", TAKE],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    try:
        taken: list[set[str]] = []
        for taker in takers:
            assert taker.stdout is not None
            taken.append(set(taker.stdout.readline().split()))
    finally:
        for taker in takers:
            taker.communicate()
    assert all(taken), "a process got none"
    assert len(set[str]().union(*taken)) == sum(map(len, taken)), taken
