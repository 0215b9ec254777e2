"""A switch and those who order it: what is left when it fails, or when the time of a request is over."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import trio
from test_commit_line import ScriptedLink

from actors.commit_line import CommitLine
from actors.switching import Switching
from errors import WriteFailed
from storage.compaction import Copy
from storage.disk import OsDisk
from storage.files import volume_directory
from storage.needle import NeedleMetadata
from storage.stamp import StampClock
from storage.successor import Successor
from storage.volume import Volume

UUID = "0f14d0ab-9605-4a62-a9e4-5ed26688389b"
DIRECTORY = volume_directory(1)


class Site:
    """A volume with a dead and a live needle, its commit line, and its switches."""

    def __init__(self, root: Path) -> None:
        self.disk = OsDisk(root)
        self.volume = Volume.create(
            self.disk, DIRECTORY, volume_id=1, uuid=UUID, capacity=1 << 30, created_ms=0
        )
        clock = StampClock()
        self.line = CommitLine(
            self.volume,
            ScriptedLink(),  # type: ignore[arg-type]
            clock,
            is_synced=True,
            on_master_stamp=clock.observe,
        )
        self.switching = Switching(self.disk)
        for needle_id in (1, 2):
            self.volume.append(needle_id, NeedleMetadata("b", 1, "key", 0), b"data", stamp=needle_id)
        self.volume.delete(1, stamp=3)

    def copy(self) -> int:
        """Make the next generation; returns how far it reaches."""
        upto = self.volume.begin_compaction()
        copy = Copy(self.disk, DIRECTORY, uuid=UUID, generation=self.volume.generation, upto=upto, horizon=0)
        while copy.step():
            pass
        copy.close()
        return copy.upto


async def test_a_switch_that_fails_when_its_time_is_over_is_given_up_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dying disk: every call takes for ever, and then it fails."""
    site = Site(tmp_path)

    def fail_late(successor: Successor) -> int:
        time.sleep(0.3)  # in its thread
        raise WriteFailed("Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(Successor, "catch_up", fail_late)
        upto = site.copy()
        with trio.move_on_after(0.1), pytest.raises(WriteFailed):
            await site.switching.switch(site.line, generation=2, upto=upto)
    assert site.disk.list(DIRECTORY) == ["g1.idx", "g1.vol", "manifest"]
    upto = site.copy()
    assert (await site.switching.switch(site.line, generation=2, upto=upto)).is_done
    assert (site.volume.generation, site.volume.figures().dead_bytes) == (2, 0)
