"""What the tests of the command line share: a fake store whose profile lies in `tmp_path`, and who runs commands."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cli_kit import Run, runner
from fake_store import FakeStore, fake_store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FakeStore]:
    """A store without buckets."""
    async with fake_store() as store:
        store.profile.save(tmp_path / "profile.toml")
        yield store


@pytest.fixture
def run(store: FakeStore, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    return runner(tmp_path, capfd)
