"""Driver: connections to the catalog's SQLite file, and names for what can go wrong with them.

Durability is SQLite's WAL with synchronous=FULL: a transaction is on disk when COMMIT returns.  Nothing
is mapped into memory, because a bad sector under a mapping kills the process instead of failing a query.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from errors import CatalogCorrupt, DiskFull, Overloaded, ReadFailed, StoreError, WriteFailed

PAGE_CACHE_KIB = 64 * 1024  # for each connection
CHECKPOINT_PAGES = 4000  # 16 MiB of log: seldom enough to batch, small enough for a quick start after a crash
LOG_SIZE_LIMIT = 64 * 1024 * 1024  # a log that grew in a burst is cut back to this
BUSY_MS = 5000  # only a tool of the operator can be in the way
STATEMENTS_CACHED = 256

_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def connect(path: Path, *, is_read_only: bool = False) -> sqlite3.Connection:
    """Open a connection in autocommit mode; transactions are begun in so many words."""
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=STATEMENTS_CACHED
    )
    pragmas = (
        f"busy_timeout = {BUSY_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",
        f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
        f"journal_size_limit = {LOG_SIZE_LIMIT}",
        f"cache_size = -{PAGE_CACHE_KIB}",
        "mmap_size = 0",
        "temp_store = MEMORY",
        "trusted_schema = OFF",
    )
    try:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")
        if is_read_only:
            connection.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def name_error(path: Path, error: sqlite3.Error, *, is_write: bool) -> StoreError:
    """The expected failure behind an error of the driver, ready to be raised `from` it."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    # The driver finds text that is not UTF-8 by itself, so that error has no code of SQLite's.
    if primary in _CORRUPT or (primary is None and "decode" in str(error)):
        return corrupt(path, str(error))
    if primary == sqlite3.SQLITE_FULL:
        return DiskFull(f"the disk of the catalog {path} is full")
    if primary in _BUSY:
        return Overloaded(f"another program keeps the catalog {path} locked")
    kind = WriteFailed if is_write else ReadFailed
    return kind(f"the catalog {path} cannot be {'written' if is_write else 'read'}: {error}")


def corrupt(path: Path, cause: str) -> CatalogCorrupt:
    return CatalogCorrupt(
        f"the catalog {path} is damaged ({cause}): stop the master, keep a copy of the file with its -wal and"
        " -shm, and restore a backup; the objects themselves are safe in the volumes, with their names"
    )
