"""How a cluster starts: a store that takes no puts yet is started all the same, and says what is missing."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
import trio

from warehouse.actors import cluster_processes
from warehouse.actors.cluster_processes import Child, Cluster
from warehouse.actors.cluster_report import root_key_line
from warehouse.auth.keys import generate_api_key

MASTER = 'print(\'{"event": "ready"}\', flush=True); input()'
SERVING = (
    'print(\'{"event": "serving", "url": "u", "lacking": "disk disk-1: no inodes"}\', flush=True); input()'
)
LATE = (
    'print(\'{"event": "serving", "url": "u", "lacking": "disk disk-1: no inodes"}\', flush=True);'
    ' import time; time.sleep(1.5); print(\'{"event": "ready", "url": "u"}\', flush=True); input()'
)
SILENT = "input()"


def children(disk: str) -> list[Child]:
    """Processes that say what actors say, and end when their supervisor goes."""
    return [
        Child("master", [sys.executable, "-c", MASTER]),
        Child("disk-1", [sys.executable, "-c", disk]),
        Child("compactor-1", [sys.executable, "-c", SILENT], is_needed=False),
    ]


@pytest.mark.parametrize(("disk", "cause"), [(SERVING, "no inodes"), (SILENT, "has not registered")])
async def test_compactors_start_though_no_disk_takes_puts(
    monkeypatch: pytest.MonkeyPatch, disk: str, cause: str
) -> None:
    """They are what a full store needs to get room again; it was waited for without end before."""
    monkeypatch.setattr(cluster_processes, "UNWRITABLE_S", 0.1)
    monkeypatch.setattr(cluster_processes, "START_S", 1.0)
    started = children(disk)
    told: list[str] = []
    is_told = trio.Event()

    def on_unwritable(why: str) -> None:
        told.append(why)
        is_told.set()

    def on_ready(_: object) -> None:
        raise AssertionError("it takes no puts")

    with trio.fail_after(40):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Cluster(started).run, on_ready, on_unwritable)
            await is_told.wait()
            assert started[2].process is not None, "the compactor runs"
            nursery.cancel_scope.cancel()
    assert cause in told[0]
    assert all(child.process is not None and child.process.returncode is not None for child in started)


async def test_a_store_that_gets_room_is_ready_after_it_was_told_not_to_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster_processes, "UNWRITABLE_S", 0.1)
    told: list[tuple[str, float]] = []
    is_ready = trio.Event()

    def on_ready(_: object) -> None:
        told.append(("ready", time.monotonic()))
        is_ready.set()

    with trio.fail_after(40):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                Cluster(children(LATE)).run, on_ready, lambda why: told.append((why, time.monotonic()))
            )
            await is_ready.wait()
            nursery.cancel_scope.cancel()
    assert [what for what, _ in told] == ["disk disk-1: no inodes", "ready"]


def test_a_start_names_the_profile_and_never_the_secret() -> None:
    root = generate_api_key()
    for is_old, first in (
        (False, "A new warehouse in d. "),
        (True, "A new root key for the warehouse in d. "),
    ):
        line = root_key_line(root, Path("d"), Path("d/profile.toml"), is_old=is_old)
        assert line == f"{first}The root key {root.key_id} and its secret are in d/profile.toml"
        assert root.secret not in line
