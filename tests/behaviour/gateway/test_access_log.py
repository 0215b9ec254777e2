"""The access log as a file: shared, rotated, moved away by others, and bounded where the disk takes nothing."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import trio

from warehouse.errors import SetupError
from warehouse.gateway import access_log
from warehouse.gateway.access_log import AccessLog


def lines_of(folder: Path) -> list[bytes]:
    files = sorted(folder.glob("access.jsonl*"))
    return [line for file in files if file.suffix != ".lock" for line in file.read_bytes().splitlines()]


async def test_two_gateways_write_whole_lines_and_rotate_one_file(tmp_path: Path) -> None:
    path = tmp_path / "access.jsonl"
    logs = [AccessLog(str(path), size_max=4096, count_max=100) for _ in range(2)]
    written = [b'{"n": "%d-%d", "pad": "%s"}\n' % (who, n, b"x" * 200) for n in range(60) for who in (0, 1)]
    async with trio.open_nursery() as nursery:
        for log in logs:
            nursery.start_soon(log.run)
        for first in range(0, len(written), 10):
            for number, line in enumerate(written[first : first + 10]):
                logs[number % 2].add(line)
            await trio.sleep(access_log.TOGETHER_S * 1.5)
        nursery.cancel_scope.cancel()
    assert sorted(lines_of(tmp_path)) == sorted(line.rstrip(b"\n") for line in written)
    files = [file for file in tmp_path.glob("access.jsonl*") if file.suffix != ".lock"]
    assert len(files) > 3
    assert all(0 < file.stat().st_size <= 4096 for file in files)
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)


async def test_a_file_that_was_moved_away_is_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "access.jsonl"
    log = AccessLog(str(path), size_max=1 << 20, count_max=2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.run)
        log.add(b"one\n")
        while not path.exists() or not path.stat().st_size:
            await trio.sleep(0.02)
        path.rename(tmp_path / "moved")
        log.add(b"two\n")
        nursery.cancel_scope.cancel()
    assert (tmp_path / "moved").read_bytes() == b"one\n"
    assert path.read_bytes() == b"two\n"


async def test_lines_wait_in_bounds_for_a_disk_that_takes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_log, "WAITING_MAX", 1000)
    monkeypatch.setattr(access_log, "RETRY_S", 0.01)
    folder = tmp_path / "gone"
    folder.mkdir()
    log = AccessLog(str(folder / "access.jsonl"), size_max=1 << 20, count_max=2)
    log.require_writable()
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.run)
        for _ in range(300):
            log.add(b"x" * 9 + b"\n")
        await trio.sleep(access_log.TOGETHER_S * 2)
        assert log.lost_count == 200
        folder.mkdir()
        while not lines_of(folder):
            await trio.sleep(0.02)
        nursery.cancel_scope.cancel()
    assert len(lines_of(folder)) == 100


def test_a_start_is_refused_where_no_line_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"s3\.access_log cannot be written"):
        AccessLog(str(tmp_path / "none" / "access.jsonl"), size_max=1 << 20, count_max=2).require_writable()
