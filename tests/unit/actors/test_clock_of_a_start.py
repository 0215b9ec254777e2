"""A clock before 1970 starts nothing: what would be written with it could not be read again."""

from __future__ import annotations

from argparse import Namespace

import pytest

import warehouse.actors.process
from warehouse.actors.process import Announcer, run_actor
from warehouse.conf.settings import Settings


@pytest.mark.parametrize(("now_s", "status"), [(-2_678_400.0, 1), (0.0, 0), (4_323_283_200.0, 0)])
def test_an_actor_starts_with_any_clock_but_one_before_1970(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], now_s: float, status: int
) -> None:
    started = []

    async def main(arguments: Namespace, settings: Settings, announcer: Announcer) -> None:
        started.append(settings)

    monkeypatch.setattr(warehouse.actors.process, "_now_s", lambda: now_s)
    assert run_actor(Namespace(json=False, stop_with_parent=False), Settings(), main) == status
    assert len(started) == 1 - status
    assert ("before 1970" in capsys.readouterr().err) == bool(status)
