"""Remains: what a catalog file still tells that nothing else does.

Disks and volumes can be found again, API keys cannot.  The file may be a backup, or a damaged catalog whose
objects are beyond reading: each table is read for itself, and the file is never changed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from catalog.bookkeeping import WAS_COMMITTED
from catalog.driver import corrupt, name_error
from catalog.rows import (
    API_KEY_COLUMNS,
    VOLUME_COLUMNS,
    VOLUME_COLUMNS_1,
    ApiKeyRow,
    DiskRow,
    VolumeRow,
    api_key_row,
    volume_rows,
)
from catalog.schema import differences, version_of
from errors import ReadFailed

T = TypeVar("T")

_READ_HERE = frozenset(("disks", "volumes", "copies", "api_keys", "facts", "outbox"))


class CatalogFacts(msgspec.Struct, frozen=True):
    disks: list[DiskRow]
    volumes: list[VolumeRow]
    api_keys: list[ApiKeyRow]
    bucket_id_max: int  # of all that were ever given out, like the next one
    volume_id_max: int
    stamp_max: int
    problems: list[str]  # what could not be read, as sentences; those lists are empty, those numbers 0


def read_catalog_facts(path: Path) -> CatalogFacts:
    """Read an existing catalog, of this release or an older one; no other process may be writing it.

    Raises:
        CatalogCorrupt: this is no catalog, or damaged so that nothing can be told.
        SchemaNewer: a later release wrote it.
        ReadFailed: it is not there, or cannot be read.
    """
    if not path.is_file():
        raise ReadFailed(f"there is no catalog {path}")
    with _opened(path) as connection:
        version = version_of(connection, path)
        problems = differences(connection, version, tables=_READ_HERE)
        if problems:
            raise corrupt(path, "; ".join(problems))

        def read(what: str, work: Callable[[], T], otherwise: T) -> T:
            try:
                return work()
            except (sqlite3.Error, msgspec.MsgspecError) as error:
                problems.append(f"the {what} in {path} cannot be read: {error}")
                return otherwise

        def rows(sql: str) -> list[Any]:
            return connection.execute(sql).fetchall()

        def sequence(table: str) -> int:
            found = rows(f"SELECT seq FROM sqlite_sequence WHERE name = '{table}'")
            return found[0][0] if found else 0

        columns = VOLUME_COLUMNS if version > 1 else VOLUME_COLUMNS_1
        return CatalogFacts(
            disks=read(
                "disks",
                lambda: [DiskRow(*row) for row in rows("SELECT id, name, added_ms FROM disks ORDER BY id")],
                [],
            ),
            volumes=read(
                "volumes",
                lambda: volume_rows(
                    rows(f"SELECT {columns} FROM volumes ORDER BY id"),
                    rows("SELECT volume_id, disk_id FROM copies ORDER BY volume_id, disk_id"),
                ),
                [],
            ),
            api_keys=read(
                "API keys",
                lambda: [
                    api_key_row(row) for row in rows(f"SELECT {API_KEY_COLUMNS} FROM api_keys ORDER BY id")
                ],
                [],
            ),
            bucket_id_max=read("bucket ids", lambda: sequence("buckets"), 0),
            volume_id_max=read("volume ids", lambda: sequence("volumes"), 0),
            stamp_max=read(
                "stamps", lambda: int(rows("SELECT value FROM facts WHERE name = 'stamp_max'")[0][0]), 0
            ),
            problems=problems,
        )


class Doomed(msgspec.Struct, frozen=True):
    """A needle that the catalog had given up and that perhaps has no tombstone yet."""

    volume_uuid: str
    needle_id: int
    stamp: int
    reason: str  # as in the outbox: "deleted" says that the whole object was, at `stamp`


def read_doomed(path: Path) -> Iterator[Doomed]:
    """The outbox of an existing catalog.  However old that is, what it gave up never counts again.

    Raises:
        CatalogCorrupt, ReadFailed: it cannot be read (any more); what came before is true all the same.
    """
    with _opened(path) as connection:
        if strangers := differences(connection, version_of(connection, path), tables=_READ_HERE):
            raise corrupt(path, "; ".join(strangers))
        for columns in connection.execute(
            "SELECT uuid, needle_id, stamp, reason FROM outbox JOIN volumes ON volumes.id = volume_id"
            f" WHERE reason IN {tuple(WAS_COMMITTED)}"
        ):
            yield Doomed(*columns)


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    log = path.with_name(path.name + "-wal")
    has_log = log.is_file() and log.stat().st_size > 0
    # Without a log the file is all there is: then SQLite need not make any file beside it either.
    options = "mode=ro" if has_log else "mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path.resolve()))}?{options}", uri=True)) as connection:
            connection.execute("PRAGMA mmap_size = 0")
            yield connection
    except sqlite3.Error as error:
        raise name_error(path, error, is_write=False) from error
