"""History file: it gives back what it was given, stays small, and is replaced when it is damaged."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from warehouse.actors.control.history_file import (
    FINE_MAX,
    SNAPSHOTS_MAX,
    BucketSize,
    HistoryFile,
    is_damage,
)
from warehouse.actors.control.history_series import Sample, Series

START_MS = 1_790_000_000_000
STEP = 10_000
HOUR_S = 3600


def filled(count: int) -> Series:
    series = Series()
    for number in range(1, count + 1):
        series.add(Sample(at_ms=START_MS + number * STEP, span_ms=STEP, gets=number, get_latencies={3: 1}))
    return series


@pytest.fixture(autouse=True)
def every_file_is_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    made: list[HistoryFile] = []
    begin = HistoryFile.__init__

    def note(file: HistoryFile, path: Path) -> None:
        begin(file, path)
        made.append(file)

    monkeypatch.setattr(HistoryFile, "__init__", note)
    yield
    for file in made:
        file.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.sqlite3"


def test_what_was_saved_is_loaded(path: Path) -> None:
    series, file = filled(100), HistoryFile(path)
    assert file.load() == []
    file.save(series.take_changes())
    series.add(Sample(at_ms=START_MS + 101 * STEP, span_ms=STEP))
    file.save(series.take_changes())
    file.close()
    again = Series()
    again.restore(HistoryFile(path).load())
    assert again.rows() == series.rows()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_month_stays_in_few_megabytes(path: Path) -> None:
    file, series = HistoryFile(path), Series()
    latencies = {number: 1_000_000 + number for number in range(20, 50)}
    for number in range(1, 6000):
        series.add(
            Sample(
                at_ms=START_MS + number * 900_000,
                span_ms=STEP,
                free=1 << 50,
                gets=1 << 40,
                get_latencies=latencies,
                put_latencies=latencies,
            )
        )
        if number % 1000 == 0:
            file.save(series.take_changes())
    file.save(series.take_changes())
    file.close()
    assert path.stat().st_size < 4 << 20
    assert len(HistoryFile(path).load()) == len(series.rows())


@pytest.mark.parametrize(
    "damage", ["all of it", "the middle", "cut", "a sample", "a slot", "a table", "later"]
)
def test_a_damaged_file_is_set_aside_and_a_new_one_begins(path: Path, damage: str) -> None:
    file = HistoryFile(path)
    file.save(filled(400).take_changes())
    file.close()
    content = path.read_bytes()
    match damage:
        case "all of it":
            path.write_bytes(b"\x5a" * len(content))
        case "the middle":
            path.write_bytes(content[:8192] + b"\x5a" * 4096 + content[12288:])
        case "cut":
            path.write_bytes(content[: len(content) // 2])
        case "a sample":
            change(path, "UPDATE points SET sample = x'00000000' || substr(sample, 5) WHERE step = 60000")
        case "a slot":
            change(path, "UPDATE points SET slot = slot + 1000 WHERE step = 900000")
        case "a table":
            change(path, "DROP TABLE points")
        case _:
            change(path, "PRAGMA user_version = 2")
    damaged = path.read_bytes()
    file = HistoryFile(path)
    assert file.load() == []
    assert path.with_name("history.sqlite3.damaged").read_bytes() == damaged
    series = filled(10)
    file.save(series.take_changes())
    file.close()
    assert len(HistoryFile(path).load()) == len(series.rows())


def change(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(sql)


def test_a_journal_of_a_damaged_file_is_not_played_into_the_new_one(path: Path) -> None:
    path.write_bytes(b"\x5a" * 4096)
    journal = path.with_name("history.sqlite3-journal")
    journal.write_bytes(b"anything")
    file = HistoryFile(path)
    assert file.load() == []
    file.close()
    assert not journal.exists()


def test_damage_that_is_found_while_saving_is_told_apart_from_a_full_disk(path: Path) -> None:
    file = HistoryFile(path)
    file.save(filled(400).take_changes())
    path.write_bytes(b"\x5a" * path.stat().st_size)
    with pytest.raises(sqlite3.DatabaseError) as caught:
        file.save(filled(401).take_changes())
    assert is_damage(caught.value)
    file.set_aside(caught.value)
    file.save(filled(3).take_changes())
    assert len(file.load()) == len(filled(3).rows())


def test_a_full_disk_is_no_damage(path: Path) -> None:
    file = HistoryFile(path)
    file.save(filled(3).take_changes())
    connection = file._open()
    (count,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {count}")
    with pytest.raises(sqlite3.OperationalError) as caught:
        file.save(filled(2000).take_changes())
    assert not is_damage(caught.value)
    assert len(file.load()) == len(filled(3).rows())


def test_a_folder_in_its_place_is_no_damage(path: Path) -> None:
    path.mkdir()
    with pytest.raises(sqlite3.OperationalError) as caught:
        HistoryFile(path).load()
    assert not is_damage(caught.value)


# --- buckets --------------------------------------------------------------------------------------


def test_a_bucket_has_its_rows_since_a_moment_and_the_one_that_held_then(path: Path) -> None:
    file = HistoryFile(path)
    assert file.latest_snapshot() == (0, {})
    for hour in range(1, 6):
        file.save_buckets(hour * HOUR_S, [BucketSize(7, hour, 100 * hour), BucketSize(8, 0, 0)])
    assert file.bucket(7, 3 * HOUR_S + 5) == [
        (3 * HOUR_S, 3, 300),
        (4 * HOUR_S, 4, 400),
        (5 * HOUR_S, 5, 500),
    ]
    assert len(file.bucket(7, 0)) == 5
    assert file.bucket(9, 0) == []
    assert file.latest_snapshot() == (5 * HOUR_S, {7: BucketSize(7, 5, 500), 8: BucketSize(8, 0, 0)})


def test_a_clock_that_went_back_leaves_no_rows_of_the_future(path: Path) -> None:
    file = HistoryFile(path)
    for hour in (1, 2, 900, 3):
        file.save_buckets(hour * HOUR_S, [BucketSize(7, hour, hour)])
    assert [row[1] for row in file.bucket(7, 0)] == [1, 2, 3]


def test_months_of_buckets_are_thinned_and_bounded(path: Path) -> None:
    file = HistoryFile(path)
    for hour in range(1, SNAPSHOTS_MAX + 200):
        file.save_buckets(hour * HOUR_S, [BucketSize(7, hour, hour), BucketSize(8, hour, hour)])
    last = SNAPSHOTS_MAX + 199
    rows = file.bucket(7, 0)
    assert rows[-1] == (last * HOUR_S, last, last)
    assert len(rows) <= FINE_MAX + SNAPSHOTS_MAX // 6 + 2
    assert last - SNAPSHOTS_MAX <= rows[0][1] <= last - SNAPSHOTS_MAX + 6
    assert len(file.bucket(8, 0)) == len(rows)


def test_a_bucket_that_is_not_in_a_snapshot_keeps_the_rows_it_has(path: Path) -> None:
    file = HistoryFile(path)
    file.save_buckets(HOUR_S, [BucketSize(7, 1, 1)])
    file.save_buckets(2 * HOUR_S, [])
    assert file.bucket(7, 0) == [(HOUR_S, 1, 1)]
