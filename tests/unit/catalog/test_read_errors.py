"""A disk that refuses to read is not a catalog that is damaged."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from warehouse.catalog.sqlite import driver
from warehouse.catalog.sqlite.catalog import SqliteCatalog
from warehouse.catalog.sqlite.driver import name_error
from warehouse.errors import CatalogCorrupt, DiskFull, ReadFailed, WriteFailed


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "catalog.sqlite3"
    SqliteCatalog.open(path).close()
    driver._looks.clear()
    yield path
    driver._looks.clear()


def error_of(code: int) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError("database disk image is malformed")
    error.sqlite_errorcode = code
    return error


def test_what_sqlite_calls_damage_is_a_read_error_where_a_second_look_finds_it_whole(path: Path) -> None:
    """EIO of a read is SQLITE_CORRUPT to whoever asks SQLite (SQLITE_IOERR_CORRUPTFS)."""
    named = name_error(path, error_of(sqlite3.SQLITE_CORRUPT), is_write=False)
    assert isinstance(named, ReadFailed)
    assert "not damaged" in named.message
    assert "backup" not in named.message


def test_damage_that_is_still_there_at_the_second_look_is_damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096 : 5 * 4096] = bytes(b ^ 0x5A for b in content[4096 : 5 * 4096])
    path.write_bytes(content)
    named = name_error(path, error_of(sqlite3.SQLITE_CORRUPT), is_write=False)
    assert isinstance(named, CatalogCorrupt)
    with pytest.raises(CatalogCorrupt):
        SqliteCatalog.open(path)


def test_a_catalog_that_still_cannot_be_read_is_not_called_damaged(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "open", refuse)
    assert isinstance(name_error(path, error_of(sqlite3.SQLITE_CORRUPT), is_write=False), ReadFailed)


def test_many_errors_of_one_moment_are_one_second_look(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    monkeypatch.setattr(driver, "_find_damage", lambda path: looks.append(path))
    for _ in range(100):
        name_error(path, error_of(sqlite3.SQLITE_CORRUPT), is_write=False)
    assert len(looks) == 1


@pytest.mark.parametrize("number", [28, 122, 27], ids=["ENOSPC", "EDQUOT", "EFBIG"])
def test_a_quota_and_a_limit_of_size_are_a_full_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, "no more")

    error = error_of(sqlite3.SQLITE_IOERR_WRITE)
    assert isinstance(name_error(path, error, is_write=True), WriteFailed), "there is room"
    monkeypatch.setattr("os.pwrite", refuse)
    assert isinstance(name_error(path, error, is_write=True), DiskFull)
    assert sorted(child.name for child in path.parent.iterdir()) == [
        "catalog.sqlite3",
        "catalog.sqlite3.lock",
    ]


def test_a_disk_that_does_not_even_say_whether_the_file_is_there_is_a_read_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, **options: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "stat", refuse)
    named = name_error(path, error_of(sqlite3.SQLITE_CORRUPT), is_write=False)
    assert isinstance(named, ReadFailed)
