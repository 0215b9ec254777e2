"""History file: where the history of a store is kept over a restart, next to the catalog.

A small SQLite database of its own: whatever happens to it, the store and its catalog do not notice.  A file
that is damaged is set aside, and a new one begins.  Every function here blocks, and runs in a thread.

    points           the samples of `history_series`, with a checksum each
    bucket_points    how much each of the largest buckets held; a row only where that has changed, and daily
    snapshots        when the buckets were looked at; their number bounds the rows
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from warehouse.actors.control.history_series import Changes, Row, decode_sample, encode_sample, slot_of

log = logging.getLogger(__name__)

VERSION: Final = 1
SNAPSHOTS_MAX: Final = 30 * 24  # of buckets, an hour apart
FINE_MAX: Final = 7 * 24  # of these the latest are all kept, of the others one in six hours
COARSE_S: Final = 6 * 3600
BUSY_S: Final = 2.0
_CORRUPT: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT)

_SCHEMA: Final = f"""
CREATE TABLE points (step INTEGER, slot INTEGER, sample BLOB NOT NULL,
    PRIMARY KEY (step, slot)) WITHOUT ROWID;
CREATE TABLE bucket_points (bucket INTEGER, at_s INTEGER, objects INTEGER NOT NULL, bytes INTEGER NOT NULL,
    PRIMARY KEY (bucket, at_s)) WITHOUT ROWID;
CREATE TABLE snapshots (at_s INTEGER PRIMARY KEY);
PRAGMA user_version = {VERSION};
"""


class Damaged(Exception):
    """What is in the file is not what was written."""


class BucketSize(NamedTuple):
    bucket_id: int
    object_count: int
    byte_count: int


class HistoryFile:
    """One thread at a time may use it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None

    # --- what is kept -----------------------------------------------------------------------------

    def load(self) -> list[Row]:
        """The samples that an earlier run has kept; none, if the file had to be set aside.

        Raises:
            OSError, sqlite3.Error: the file cannot be used now.
        """
        try:
            return self._read()
        except (Damaged, sqlite3.DatabaseError) as error:
            if not is_damage(error):
                raise
            self.set_aside(error)
            self._open()
            return []

    def _read(self) -> list[Row]:
        connection = self._open()
        if connection.execute("PRAGMA quick_check(1)").fetchone() != (b"ok",):
            raise Damaged("the database is not consistent")
        return [_row(*columns) for columns in connection.execute("SELECT step, slot, sample FROM points")]

    def save(self, changes: Changes) -> None:
        """
        Raises:
            OSError, sqlite3.Error: it was not saved; see `is_damage`.
        """
        connection = self._open()
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            if changes.is_all:
                connection.execute("DELETE FROM points")
            connection.executemany(
                "INSERT OR REPLACE INTO points (step, slot, sample) VALUES (?, ?, ?)",
                [(step, slot, _sealed(encode_sample(sample))) for step, slot, sample in changes.rows],
            )
            connection.executemany(
                "DELETE FROM points WHERE step = ? AND slot < ?", changes.first_slots.items()
            )

    # --- buckets ----------------------------------------------------------------------------------

    def latest_snapshot(self) -> tuple[int, dict[int, BucketSize]]:
        """When the buckets were looked at last (0: never), and what is known of each, by id."""
        connection = self._open()
        (at_s,) = connection.execute("SELECT coalesce(max(at_s), 0) FROM snapshots").fetchone()
        rows = connection.execute(
            "SELECT bucket, objects, bytes, max(at_s) FROM bucket_points GROUP BY bucket"
        )
        return at_s, {bucket: BucketSize(bucket, objects, size) for bucket, objects, size, _ in rows}

    def save_buckets(self, at_s: int, sizes: Sequence[BucketSize]) -> None:
        """Keep what these buckets hold from this second on.  What is later than it goes: the clock was wrong.

        Raises:
            OSError, sqlite3.Error: as `save`.
        """
        connection = self._open()
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            for table in ("bucket_points", "snapshots"):
                connection.execute(f"DELETE FROM {table} WHERE at_s >= ?", (at_s,))  # noqa: S608
            connection.execute("INSERT INTO snapshots (at_s) VALUES (?)", (at_s,))
            connection.executemany(
                "INSERT INTO bucket_points (bucket, at_s, objects, bytes) VALUES (?, ?, ?, ?)",
                [(size.bucket_id, at_s, size.object_count, size.byte_count) for size in sizes],
            )
            self._thin(connection)

    def _thin(self, connection: sqlite3.Connection) -> None:
        latest = "SELECT at_s FROM snapshots ORDER BY at_s DESC LIMIT 1 OFFSET ?"
        if (oldest := connection.execute(latest, (SNAPSHOTS_MAX - 1,)).fetchone()) is not None:
            for table in ("bucket_points", "snapshots"):
                connection.execute(f"DELETE FROM {table} WHERE at_s < ?", oldest)  # noqa: S608
        if (fine := connection.execute(latest, (FINE_MAX - 1,)).fetchone()) is not None:
            connection.execute(
                "DELETE FROM bucket_points WHERE at_s < ?1 AND EXISTS (SELECT 1 FROM bucket_points AS later"
                " WHERE later.bucket = bucket_points.bucket AND later.at_s > bucket_points.at_s"
                " AND later.at_s < ?1 AND later.at_s / ?2 = bucket_points.at_s / ?2)",
                (fine[0], COARSE_S),
            )

    def bucket(self, bucket_id: int, since_s: int) -> list[tuple[int, int, int]]:
        """Second, objects and bytes of each row of a bucket: those since then, and the one before them."""
        rows = self._open().execute(
            "SELECT at_s, objects, bytes FROM bucket_points WHERE bucket = ?1 AND at_s >= coalesce("
            "(SELECT max(at_s) FROM bucket_points WHERE bucket = ?1 AND at_s <= ?2), 0) ORDER BY at_s",
            (bucket_id, since_s),
        )
        return rows.fetchall()

    # --- the file ---------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None:
            return self._connection
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(
            self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False, cached_statements=16
        )
        connection.text_factory = bytes  # there is no text in it, unless it is damaged
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            connection.execute("PRAGMA synchronous = NORMAL")
            if not version and not tables:
                connection.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
            elif version != VERSION:
                raise Damaged(f"its version is {version}, this release knows {VERSION}")
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def set_aside(self, cause: Exception) -> None:
        """Rename a damaged file, together with the journal that belongs to it.

        Raises:
            OSError: it cannot be renamed.
        """
        self.close()
        aside = self.path.with_name(self.path.name + ".damaged")
        log.warning("history is damaged and set aside", extra={"aside": str(aside), "cause": str(cause)})
        for ending in ("-journal", "-wal", "-shm"):
            self.path.with_name(self.path.name + ending).unlink(missing_ok=True)
        self.path.replace(aside)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()


def is_damage(error: Exception) -> bool:
    """Whether the file is to be set aside; False: it may work again."""
    if isinstance(error, Damaged):
        return True
    number = getattr(error, "sqlite_errorcode", None)
    if number is None:
        return isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
    # A table or a column that is missing is a plain SQLITE_ERROR.
    return number & 0xFF in (*_CORRUPT, sqlite3.SQLITE_ERROR)


def _row(step: object, slot: object, sealed: object) -> Row:
    """
    Raises:
        Damaged: it is not a row that was written.
    """
    try:
        sample = decode_sample(_unsealed(sealed))
    except (ValueError, msgspec.MsgspecError) as error:
        raise Damaged(f"a sample cannot be read: {error}") from error
    if not isinstance(step, int) or step <= 0 or slot != slot_of(sample.at_ms, step):
        raise Damaged("a sample is in another's place")
    return step, slot_of(sample.at_ms, step), sample


def _sealed(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "big") + data


def _unsealed(data: object) -> bytes:
    """
    Raises:
        Damaged: the checksum is not that of the data.
    """
    if not isinstance(data, bytes) or data[:4] != zlib.crc32(data[4:]).to_bytes(4, "big"):
        raise Damaged("a sample is not what was written")
    return data[4:]
