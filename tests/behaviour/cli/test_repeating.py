"""`top` and `status --watch`: the same again and again, also when the store is away for a moment."""

from __future__ import annotations

import json
from dataclasses import replace

import msgspec
import pytest

import fake_store
from cli_kit import Run
from fake_store import FakeStore
from warehouse.cli import repeating
from warehouse.cli.repeating import Rhythm
from warehouse.errors import LinkDown
from warehouse.transport.messages import DiskFigures, Rates


def disk(name: str, gets: float, *, is_online: bool = True) -> DiskFigures:
    return DiskFigures(
        disk_id=name,
        name=name,
        is_online=is_online,
        capacity=100,
        free=25,
        stored_bytes=1,
        dead_bytes=0,
        rates=Rates(gets_per_s=gets, get_p99_s=0.002),
    )


async def test_top_shows_the_busiest_disk_first(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    disks = [disk("idle", 0.0), disk("busy", 50.0), disk("gone", 1.0, is_online=False)]
    monkeypatch.setattr(fake_store, "FIGURES", msgspec.structs.replace(fake_store.FIGURES, disks=disks))
    lines = (await run("top", "--times", "1")).out.splitlines()
    assert "warehouse is ok" in lines[0]
    assert [line.split()[0] for line in lines[4:]] == ["busy", "gone", "idle", "all"]
    assert "2 ms" in lines[4]
    assert "75%" in lines[4]
    assert "offline" in lines[5]


async def test_what_is_watched_comes_as_often_as_was_said(store: FakeStore, run: Run) -> None:
    ran = await run("status", "--watch", "--every", "0.1s", "--times", "3", "--json")
    assert [json.loads(line)["health"] for line in ran.out.splitlines()] == ["ok"] * 3
    assert (await run("status", "--watch", "--every", "0.1s", "--times", "2")).out.count("warehouse is ") == 2


async def test_a_store_that_is_away_for_a_moment_is_told_and_asked_again(
    capfd: pytest.CaptureFixture[str],
) -> None:
    rhythm, outcomes = Rhythm(every_s=0.001, times=3), [False, True, False]

    async def show() -> None:
        if outcomes.pop(0):
            raise LinkDown("nobody answers")

    await repeating.repeated(show, rhythm, is_json=True)
    assert outcomes == []
    assert "nobody answers (link_down)" in capfd.readouterr().err
    outcomes += [True]
    with pytest.raises(LinkDown):  # a store that was never there
        await repeating.repeated(show, replace(rhythm, times=1), is_json=True)
