"""Audit files: whole lines only, never through a link, rotated by size, and read again in their order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from warehouse.conf.audit_files import (
    AUDIT_NAME,
    AuditFiles,
    AuditFilter,
    note_offline,
    numbers_of,
    read_page,
)
from warehouse.conf.audit_lines import LINE_SIZE_MAX, encode_line

ALL = AuditFilter()


def line_of(number: int, *, action: str = "login", key: str = "", at_s: float = 1.0) -> bytes:
    return encode_line(action, {"target": str(number), "key": key}, at_s=at_s)


def read_all(path: Path, only: AuditFilter = ALL, **bounds: int) -> list[int]:
    """The numbers of all lines, page by page."""
    found, cursor = list[int](), ""
    for _ in range(10_000):
        page = read_page(path, cursor, only, **bounds)
        assert not page.is_gap
        found += [int(fields["target"]) for fields in page.lines]
        cursor = page.cursor
        if page.is_last:
            return found
    raise AssertionError("the last page never comes")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / AUDIT_NAME


def test_a_file_is_private_for_every_umask_and_made_private_again(path: Path) -> None:
    before = os.umask(0)
    try:
        files = AuditFiles(path, size_max=1 << 20, count_max=3)
        files.append(line_of(1))
        assert path.stat().st_mode & 0o777 == 0o600
        files.close()
        path.chmod(0o644)
        files.append(line_of(2))
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_all(path) == [1, 2]
    files.close()


def test_lines_are_rotated_by_size_and_the_oldest_files_are_removed(path: Path) -> None:
    size = len(line_of(100))
    files = AuditFiles(path, size_max=10 * size, count_max=3)
    for number in range(100, 145):
        files.append(line_of(number))
    files.close()
    assert numbers_of(path) == [0, 1, 2]
    assert all(name.stat().st_size <= 10 * size for name in path.parent.iterdir())
    assert read_all(path) == list(range(120, 145))


def test_fewer_files_are_kept_after_the_setting_was_lowered(path: Path) -> None:
    many = AuditFiles(path, size_max=1, count_max=6)
    for number in range(8):
        many.append(line_of(number))
    many.close()
    assert numbers_of(path) == [0, 1, 2, 3, 4, 5]
    few = AuditFiles(path, size_max=1, count_max=2)
    few.append(line_of(8))
    few.close()
    assert numbers_of(path) == [0, 1]
    assert read_all(path) == [7, 8]


def test_one_file_alone_is_begun_again(path: Path) -> None:
    files = AuditFiles(path, size_max=1, count_max=1)
    for number in range(3):
        files.append(line_of(number))
    files.close()
    assert read_all(path) == [2]
    assert numbers_of(path) == [0]


def test_the_log_is_never_written_through_a_link_or_into_a_pipe(path: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    path.symlink_to(victim)
    files = AuditFiles(path, size_max=1 << 20, count_max=3)
    with pytest.raises(OSError, match="symbolic link"):
        files.append(line_of(1))
    assert not note_offline(tmp_path, "backup_made")
    assert victim.read_text() == "mine"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OSError, match="plain file"):
        files.append(line_of(1))
    assert not note_offline(tmp_path, "backup_made")
    path.unlink()
    files.append(line_of(1))
    files.close()
    assert read_all(path) == [1]


def test_a_file_that_somebody_moves_away_is_followed_by_another(path: Path) -> None:
    files = AuditFiles(path, size_max=1 << 20, count_max=3)
    files.append(line_of(1))
    path.rename(path.with_name("elsewhere"))
    files.append(line_of(2))
    path.unlink()
    files.append(line_of(3))
    files.close()
    assert read_all(path) == [3]


def test_a_piece_of_a_line_that_a_crash_left_spoils_no_other_line(path: Path) -> None:
    path.write_bytes(line_of(1) + line_of(2)[:20])
    files = AuditFiles(path, size_max=1 << 20, count_max=3)
    files.append(line_of(3))
    files.close()
    page = read_page(path)
    assert [fields["target"] for fields in page.lines] == ["1", "3"]
    assert page.unreadable_count == 1
    assert page.is_last


FULL = """
import resource, signal, sys
from pathlib import Path
from warehouse.conf.audit_files import AuditFiles
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
line = b'{"x":"' + b"y" * 91 + b'"}\\n'
assert len(line) == 100
files = AuditFiles(Path(sys.argv[1]), size_max=1 << 30, count_max=2)
resource.setrlimit(resource.RLIMIT_FSIZE, (250, resource.RLIM_INFINITY))
done = 0
for count in (1, 1, 1, 2):
    try:
        files.append(line * count)
        done += count
    except OSError as error:
        print(error.strerror)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
files.append(line)
print(done, Path(sys.argv[1]).stat().st_size)
"""


def test_what_a_full_disk_cuts_off_is_taken_back(path: Path) -> None:
    """The system cuts the third write in its middle: 50 of 100 bytes."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.splitlines() == ["File too large", "File too large", "2 300"]
    assert path.read_bytes().count(b"\n") == 3


def test_a_tool_appends_while_the_master_has_the_file(path: Path, tmp_path: Path) -> None:
    assert not note_offline(tmp_path, "backup_made")
    assert not path.exists()
    files = AuditFiles(path, size_max=1 << 20, count_max=3)
    files.append(line_of(1))
    assert note_offline(tmp_path, "backup_made", target="/backup/x", result="disk_full")
    files.append(line_of(2))
    files.close()
    first, tool, last = (json.loads(line) for line in path.read_bytes().splitlines())
    assert (first["target"], last["target"]) == ("1", "2")
    assert tool["action"] == "backup_made"
    assert tool["result"] == "disk_full"
    assert tool["user"]


@pytest.mark.parametrize("fields", [{"made_up": "x"}, {"target": object()}])
def test_a_tool_never_fails_because_of_its_line(
    path: Path, tmp_path: Path, fields: dict[str, object]
) -> None:
    path.touch()
    assert not note_offline(tmp_path, "backup_made", **fields)  # type: ignore[arg-type]
    assert not note_offline(tmp_path / "absent", "backup_made")
    assert path.read_bytes() == b""


# --- reading --------------------------------------------------------------------------------------


def test_a_store_without_a_log_has_an_empty_one(path: Path, tmp_path: Path) -> None:
    assert read_page(path).is_last
    assert read_page(tmp_path / "absent" / AUDIT_NAME).lines == []
    path.touch()
    page = read_page(path)
    assert page.is_last
    assert page.cursor == ""


@pytest.mark.parametrize("bounds", [{}, {"lines_max": 1}, {"lines_max": 7}, {"scanned_max": 1}])
def test_pages_have_every_line_once_and_in_order(path: Path, bounds: dict[str, Any]) -> None:
    files = AuditFiles(path, size_max=700, count_max=20)
    for number in range(60):
        files.append(line_of(number))
    files.close()
    assert len(numbers_of(path)) > 5
    assert read_all(path, **bounds) == list(range(60))


def test_a_follower_finds_its_place_again_after_rotations(path: Path) -> None:
    files = AuditFiles(path, size_max=400, count_max=50)
    found, cursor = list[int](), ""
    for number in range(100):
        files.append(line_of(number))
        if number % 7 == 0:
            page = read_page(path, cursor)
            assert page.is_last
            assert not page.is_gap
            found += [int(fields["target"]) for fields in page.lines]
            cursor = page.cursor
    files.close()
    found += [int(fields["target"]) for fields in read_page(path, cursor).lines]
    assert found == list(range(100))


def test_a_follower_whose_place_was_removed_is_told(path: Path) -> None:
    files = AuditFiles(path, size_max=1, count_max=3)
    files.append(line_of(0))
    cursor = read_page(path).cursor
    for number in range(1, 6):
        files.append(line_of(number))
    files.close()
    page = read_page(path, cursor)
    assert page.is_gap
    assert [fields["target"] for fields in page.lines] == ["3", "4", "5"]


def test_lines_are_chosen_by_time_key_and_action(path: Path) -> None:
    files = AuditFiles(path, size_max=1 << 20, count_max=3)
    for number in range(20):
        action = "login" if number % 2 else "bucket_created"
        files.append(line_of(number, action=action, key=f"WH{number % 3}", at_s=1000 + number))
    files.close()
    since = "1970-01-01T00:16:50.000Z"
    assert read_all(path, AuditFilter(since=since)) == list(range(10, 20))
    assert read_all(path, AuditFilter(key="WH1")) == [1, 4, 7, 10, 13, 16, 19]
    assert read_all(path, AuditFilter(since=since, key="WH1", action="login")) == [13, 19]
    assert read_all(path, AuditFilter(action="made_up")) == []


def test_files_that_were_last_changed_long_before_are_not_even_read(path: Path) -> None:
    old = path.with_name(f"{AUDIT_NAME}.1")
    old.write_bytes(line_of(1, at_s=5e9))  # it would be chosen, if it were read
    os.utime(old, (1e9, 1e9))
    path.write_bytes(line_of(2, at_s=4e9))
    os.utime(path, (4e9, 4e9))
    assert read_all(path, AuditFilter(since="2090-01-01T00:00:00.000Z")) == [2]
    assert read_all(path) == [1, 2]


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\n",
        b"[1]\n",
        b"nonsense\n",
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
        b"x" * (2 * LINE_SIZE_MAX) + b"\n",
    ],
)
def test_lines_that_are_not_ours_are_counted_and_passed_over(path: Path, nonsense: bytes) -> None:
    path.write_bytes(line_of(1) + nonsense + line_of(2))
    found, unreadable, cursor = list[str](), 0, ""
    for _ in range(20):
        page = read_page(path, cursor)
        found += [fields["target"] for fields in page.lines]
        unreadable += page.unreadable_count
        cursor = page.cursor
        if page.is_last:
            break
    assert found == ["1", "2"]
    assert unreadable >= 1


@pytest.mark.parametrize("cursor", ["x", "0123456789abcdef", "0123456789abcdef--1", "g" * 16 + "-1", "-1"])
def test_what_is_no_cursor_is_refused(path: Path, cursor: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        read_page(path, cursor)


def test_a_cursor_beyond_the_end_has_nothing_more(path: Path) -> None:
    path.write_bytes(line_of(1))
    name, _, _ = read_page(path).cursor.partition("-")
    assert read_page(path, f"{name}-999999").lines == []
