"""The catalog's file: one owner, private, durable, and every failure named with what to do."""

import errno
import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from catalog_kit import CREATED_MS, SqliteKit, stamp
from warehouse.catalog.sqlite import catalog
from warehouse.catalog.sqlite.catalog import SqliteCatalog
from warehouse.catalog.sqlite.driver import connect, name_error
from warehouse.catalog.sqlite.recount import CountDifference
from warehouse.errors import (
    CatalogCorrupt,
    DiskFull,
    DiskInUse,
    OutcomeUnknown,
    Overloaded,
    ReadFailed,
    WriteFailed,
)

PROJECT = Path(__file__).resolve().parents[3]
TABLES = ("buckets", "objects", "uploads", "outbox")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "catalog.sqlite3"


@pytest.fixture
def kit(tmp_path):
    kit = SqliteKit(tmp_path)
    yield kit
    kit.close()


# --- opening --------------------------------------------------------------------------------------


def test_a_closed_catalog_is_one_file(kit, tmp_path):
    kit.bucket()
    kit.catalog.close()
    assert sorted(os.listdir(tmp_path)) == ["catalog.sqlite3", "catalog.sqlite3.lock"]
    kit.catalog = kit._open()


def test_nobody_else_may_read_the_file_or_its_log(path):
    old_mask = os.umask(0)
    try:
        opened = SqliteCatalog.open(path)
        with opened.transaction() as transaction:
            transaction.create_bucket("photos", CREATED_MS)
    finally:
        os.umask(old_mask)
    modes = {name: stat.S_IMODE(path.with_name(name).stat().st_mode) for name in os.listdir(path.parent)}
    opened.close()
    assert len(modes) == 4
    assert set(modes.values()) == {0o600}, modes


def test_a_second_process_is_refused(path):
    opened = SqliteCatalog.open(path)
    script = (
        "import sys; from pathlib import Path; from warehouse.catalog.sqlite.catalog import SqliteCatalog; from warehouse.errors import StoreError\n"
        "try: SqliteCatalog.open(Path(sys.argv[1])).close()\n"
        "except StoreError as error: print(error.code, error.message)"
    )
    try:
        run = subprocess.run(
            [sys.executable, "-c", script, path], cwd=PROJECT, capture_output=True, text=True, check=True
        )
    finally:
        opened.close()
    assert run.stdout == f"disk_in_use another process has the catalog {path} open: stop it first\n"
    SqliteCatalog.open(path).close()


def test_opening_twice_in_one_process_is_refused_too(path):
    opened = SqliteCatalog.open(path)
    with pytest.raises(DiskInUse):
        SqliteCatalog.open(path)
    opened.close()


def test_a_refused_opening_leaves_no_file_open(path):
    path.write_bytes(b"x" * 5000)
    before = sorted(os.listdir("/proc/self/fd")) if sys.platform == "linux" else []
    for _ in range(5):
        with pytest.raises(CatalogCorrupt):
            SqliteCatalog.open(path)
    after = sorted(os.listdir("/proc/self/fd")) if sys.platform == "linux" else []
    assert len(after) == len(before)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(WriteFailed, match=r"absent/catalog\.sqlite3: No such file"):
        SqliteCatalog.open(tmp_path / "absent" / "catalog.sqlite3")


def test_the_connections_are_durable_and_map_nothing(path):
    with closing(connect(path)) as connection:
        pragmas = {
            name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "mmap_size", "busy_timeout")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "mmap_size": 0, "busy_timeout": 5000}


def test_the_reader_cannot_write(kit):
    with kit.raw() as execute, pytest.raises(sqlite3.OperationalError, match="readonly"):
        execute("DELETE FROM buckets")


# --- damage ---------------------------------------------------------------------------------------


def fill(path, count=500):
    kit = SqliteKit(path.parent)
    bucket_id = kit.bucket()
    with kit.catalog.transaction() as transaction:
        for number in range(count):
            transaction.commit_needle(kit.needle(bucket_id, f"key-{number:05}", metadata={"n": "v" * 50}))
    kit.close()
    return bucket_id


def assert_says_what_to_do(error, path):
    assert str(path) in error.message
    assert "restore a backup" in error.message
    assert "\n" not in error.message


@pytest.mark.parametrize("content", [b"x" * 10_000, b"SQLite format 3\0" + b"\0" * 4080, b"\0" * 4096])
def test_a_file_that_is_no_database_is_damage_and_is_left_alone(path, content):
    path.write_bytes(content)
    with pytest.raises(CatalogCorrupt) as caught:
        SqliteCatalog.open(path)
    assert_says_what_to_do(caught.value, path)
    assert path.read_bytes() == content


def test_damage_is_found_at_the_start(path):
    fill(path)
    stored = bytearray(path.read_bytes())
    middle = len(stored) // 2 // 4096 * 4096
    stored[middle : middle + 4096] = os.urandom(4096)
    path.write_bytes(stored)
    with pytest.raises(CatalogCorrupt) as caught:
        SqliteCatalog.open(path)
    assert_says_what_to_do(caught.value, path)


def test_damage_that_is_found_while_reading_is_named_as_such(path, monkeypatch):
    monkeypatch.setattr(catalog, "CHECKED_AT_OPEN_MAX", 0)
    bucket_id = fill(path)
    stored = bytearray(path.read_bytes())
    # The pages of the schema and of the small tables come first; spoil everything behind them.
    start = 40 * 4096
    stored[start:] = b"\xff" * (len(stored) - start)
    path.write_bytes(stored)
    opened = SqliteCatalog.open(path)
    with closing(opened):
        for read in (
            lambda: [opened.object(bucket_id, f"key-{number:05}") for number in range(500)],
            lambda: opened.list_objects(bucket_id),
            lambda: opened._all("SELECT * FROM objects"),
            lambda: opened.list_objects(bucket_id, delimiter="/"),
            opened.check_counts,
        ):
            with pytest.raises(CatalogCorrupt) as caught:
                read()
            assert_says_what_to_do(caught.value, path)


def test_damage_that_only_a_check_sees_is_found_at_the_start(path):
    fill(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_master SET sql = replace(sql, 'key TEXT', 'key INTEGER') WHERE name = 'objects'"
        )
    with pytest.raises(CatalogCorrupt, match="objects") as caught:
        SqliteCatalog.open(path)
    assert_says_what_to_do(caught.value, path)


def test_a_catalog_cut_short_is_damage(path):
    fill(path)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(CatalogCorrupt):
        SqliteCatalog.open(path)


@pytest.mark.parametrize(
    ("code", "is_write", "expected"),
    [
        (sqlite3.SQLITE_CORRUPT, False, CatalogCorrupt),
        (sqlite3.SQLITE_CORRUPT | 2 << 8, True, CatalogCorrupt),
        (sqlite3.SQLITE_NOTADB, True, CatalogCorrupt),
        (sqlite3.SQLITE_FULL, True, DiskFull),
        (sqlite3.SQLITE_BUSY, True, Overloaded),
        (sqlite3.SQLITE_IOERR_READ, False, ReadFailed),
        (sqlite3.SQLITE_IOERR_FSYNC, True, WriteFailed),
        (sqlite3.SQLITE_READONLY, True, WriteFailed),
    ],
)
def test_errors_of_the_driver_get_our_names(path, code, is_write, expected):
    error = sqlite3.OperationalError("what SQLite says")
    error.sqlite_errorcode = code
    assert type(name_error(path, error, is_write=is_write)) is expected


# --- failing writes -------------------------------------------------------------------------------


class FailingConnection:
    """The writer connection, whose next COMMIT fails as SQLite would fail it."""

    def __init__(self, connection, code):
        self._connection = connection
        self._code = code

    def execute(self, sql, parameters=()):
        if sql == "COMMIT" and self._code is not None:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode, self._code = self._code, None
            raise error
        return self._connection.execute(sql, parameters)

    def __getattr__(self, name):
        return getattr(self._connection, name)


def test_after_a_failed_fsync_nothing_is_written_until_the_catalog_is_opened_anew(kit):
    bucket_id = kit.bucket()
    kit.catalog._writer = FailingConnection(kit.catalog._writer, sqlite3.SQLITE_IOERR_FSYNC)
    with pytest.raises(OutcomeUnknown, match="cannot be written"):
        kit.put(bucket_id)
    for _ in range(2):
        with pytest.raises(WriteFailed, match="no more writes until the master is started again"):
            kit.put(bucket_id)
    assert kit.catalog.object(bucket_id, "a") is None, "reading goes on"
    assert kit.catalog.stamp_max() == 0
    kit.reopen()
    kit.put(bucket_id)
    assert kit.catalog.totals() == (1, 1, 100)


class LostFsync(FailingConnection):
    """COMMIT has written all of its frames when the fsync behind them fails."""

    def execute(self, sql, parameters=()):
        if sql == "COMMIT" and self._code is not None:
            self._connection.execute(sql)
        return super().execute(sql, parameters)


@pytest.mark.parametrize(
    "write",
    [
        lambda t, bucket_id: t.delete_objects(bucket_id, ["a"], stamp=stamp(9)),
        lambda t, bucket_id: t.create_bucket("videos", CREATED_MS),
        lambda t, bucket_id: t.delete_bucket("photos", force=True, stamp=stamp(9)),
        lambda t, bucket_id: t.begin_upload(bucket_id, "b", None, {}, None, None, 1, 2),
    ],
)
def test_what_a_failed_commit_wrote_is_never_called_refused(kit, write):
    """The next start recovers it, and then a refusal would have been done."""
    bucket_id = kit.bucket()
    kit.put(bucket_id)
    with kit.raw() as execute:
        before = "".join(str(execute(f"SELECT * FROM {table}").fetchall()) for table in TABLES)
    kit.catalog._writer = LostFsync(kit.catalog._writer, sqlite3.SQLITE_IOERR_FSYNC)
    with pytest.raises(OutcomeUnknown, match="next start tells whether this was done"):
        kit.do(lambda t: write(t, bucket_id))
    kit.reopen()
    with kit.raw() as execute:
        assert before != "".join(str(execute(f"SELECT * FROM {table}").fetchall()) for table in TABLES)


def test_what_failed_before_its_commit_is_refused_for_certain(kit):
    bucket_id = kit.bucket()
    kit.put(bucket_id)
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
    with pytest.raises(WriteFailed) as caught, kit.catalog.transaction() as transaction:
        transaction.delete_objects(bucket_id, ["a"], stamp=stamp(9))
        raise error
    assert type(caught.value) is WriteFailed
    kit.reopen()
    assert kit.catalog.object(bucket_id, "a") is not None


@pytest.mark.parametrize(
    ("code", "expected"), [(sqlite3.SQLITE_FULL, DiskFull), (sqlite3.SQLITE_BUSY, Overloaded)]
)
def test_a_full_disk_or_a_busy_file_only_fails_that_transaction(kit, code, expected):
    bucket_id = kit.bucket()
    kit.catalog._writer = FailingConnection(kit.catalog._writer, code)
    with pytest.raises(expected):
        kit.put(bucket_id)
    assert kit.catalog.object(bucket_id, "a") is None
    kit.put(bucket_id)
    kit.assert_consistent()


def test_a_really_full_database_undoes_the_whole_transaction_and_recovers(kit):
    bucket_id = kit.bucket()
    writer = kit.catalog._writer
    (pages,) = writer.execute("PRAGMA page_count").fetchone()
    writer.execute(f"PRAGMA max_page_count = {pages + 2}")

    def fill_up():
        with kit.catalog.transaction() as transaction:
            for number in range(10_000):
                with transaction.savepoint():
                    transaction.commit_needle(kit.needle(bucket_id, f"{number:05}"))

    with pytest.raises(DiskFull, match="is full"):
        fill_up()
    assert kit.catalog.totals() == (1, 0, 0)
    kit.assert_consistent()
    writer.execute("PRAGMA max_page_count = 1000000")
    fill_up()
    assert kit.catalog.totals() == (1, 10_000, 1_000_000)
    kit.assert_consistent()


def test_another_program_that_writes_is_waited_for_and_then_named(kit, monkeypatch):
    kit.catalog._writer.execute("PRAGMA busy_timeout = 20")
    with closing(sqlite3.connect(kit.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Overloaded, match="locked"):
            kit.bucket()
        other.execute("ROLLBACK")
    kit.bucket()


# --- counting -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "what", "recorded", "counted"),
    [
        ("UPDATE buckets SET object_count = object_count + 1", "objects of bucket 'photos'", 3, 2),
        ("UPDATE buckets SET byte_count = 7", "bytes of bucket 'photos'", 7, 300),
        ("UPDATE volumes SET garbage_count = 0 WHERE id = 1", "garbage of volume 1", 0, 1),
        ("DELETE FROM chunks WHERE chunk_index = 1", "chunks of object 'big'", 2, 1),
        (
            "INSERT INTO buried (volume_id, needle_id, reason) VALUES (1, 1, 'void')",
            "owners of needle 1 of volume 1",
            1,
            2,
        ),
        ("UPDATE objects SET bucket_id = 99 WHERE key = 'a'", "objects outside all buckets", 0, 1),
        ("UPDATE chunks SET upload_id = 98", "chunks outside all uploads and objects", 0, 2),
        ("UPDATE objects SET volume_id = 9 WHERE key = 'a'", "needles in volumes that are not there", 0, 1),
        ("UPDATE volumes SET needle_id_reserved = 3", "ids reserved in volume 1", 3, 4),
        ("UPDATE bucket_notes SET is_deleted = 1", "notes that contradict the buckets", 0, 1),
        ("UPDATE bucket_notes SET bucket_id = 9", "notes that contradict the buckets", 0, 1),
        (
            "INSERT INTO jobs (work, volume_id, origin, created_ms) VALUES ('verify', 9, 'policy', 1)",
            "jobs of volumes that are not there",
            0,
            1,
        ),
    ],
)
def test_a_recount_finds_every_kind_of_difference(kit, change, what, recorded, counted):
    bucket_id = kit.bucket()
    assert kit.put(bucket_id, "a").needle_id == 1
    kit.put(bucket_id, "gone")
    kit.do(lambda t: t.delete_objects(bucket_id, ["gone"], stamp=stamp(2)))
    upload_id = kit.begin(bucket_id)
    for index in range(2):
        kit.send_chunk(upload_id, bucket_id, index)
    kit.do(lambda t: t.finish_upload(upload_id, 2, 200))
    assert kit.catalog.check_counts() == []
    kit.catalog._writer.execute(change)
    found = kit.catalog.check_counts()
    assert CountDifference(what, recorded, counted) in found


def test_a_difference_reads_as_a_sentence():
    assert (
        str(CountDifference("objects of bucket 'a'", 3, 2)) == "objects of bucket 'a': 3 recorded, 2 counted"
    )


# --- files that go away ---------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_a_file_that_was_deleted_takes_no_more_commits(kit, path, suffix):
    kit.bucket()
    os.unlink(f"{path}{suffix}")
    with pytest.raises(WriteFailed, match="deleted or moved away"):
        kit.bucket("other")


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES, errno.ENOMEM])
def test_a_file_that_cannot_be_asked_for_was_not_deleted(kit, path, monkeypatch, number):
    kit.bucket()
    ask, failing = os.stat, True

    def stat_or_fail(asked, *arguments, **options):
        if failing and str(asked).startswith(str(path)):
            raise OSError(number, os.strerror(number))
        return ask(asked, *arguments, **options)

    monkeypatch.setattr(catalog.os, "stat", stat_or_fail)
    kit.bucket("while-it-fails")
    failing = False
    kit.bucket("afterwards")
    assert kit.catalog.displaced is None
