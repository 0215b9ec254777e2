"""Driver: connections to the catalog's SQLite file, and the store's own errors for what SQLite reports.

Durability is SQLite's WAL with synchronous=FULL: a transaction is on disk when COMMIT returns.  Nothing is
mapped into memory, because a bad sector under a mapping kills the process instead of failing a query.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from warehouse.errors import CatalogCorrupt, DiskFull, Overloaded, ReadFailed, StoreError, WriteFailed

PAGE_CACHE_KIB = 64 * 1024  # of each connection
CHECKPOINT_PAGES = 4000  # 16 MiB of log: seldom enough to batch, small enough for a quick start after a crash
LOG_SIZE_LIMIT = 64 * 1024 * 1024  # a log that grew in a burst is cut back to this
BUSY_MS = 5000  # only an operator's tool can hold the lock
STATEMENTS_CACHED = 256

LOOK_S = 1.0  # how long `look_again` reads a catalog that seems damaged
LOOK_AGAIN_S = 5.0  # how long its finding holds: a failing disk fails many reads

_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_looks: dict[Path, tuple[float, str | None]] = {}
_looks_lock = threading.Lock()
_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def connect(path: Path, *, is_read_only: bool = False) -> sqlite3.Connection:
    """Open a connection in autocommit mode; every transaction begins with an explicit BEGIN."""
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
    """The store's own error for an error of the driver, to be raised `from` that error."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    # Python's driver, not SQLite, finds text that is not UTF-8, so that error has no SQLite code.
    if primary in _CORRUPT:
        return look_again(path, str(error))
    if primary is None and "decode" in str(error):
        return corrupt(path, str(error))
    if primary == sqlite3.SQLITE_FULL or (primary == sqlite3.SQLITE_IOERR and is_write and _is_full(path)):
        return DiskFull(f"the disk of the catalog {path} is full")
    if primary in _BUSY:
        return Overloaded(f"another program keeps the catalog {path} locked")
    kind = WriteFailed if is_write else ReadFailed
    return kind(f"the catalog {path} cannot be {'written' if is_write else 'read'}: {error}")


def look_again(path: Path, cause: str) -> StoreError:
    """Find out whether an error that SQLite calls damage is damage.

    SQLite also reports damage when the disk refuses a read for a moment (EIO, ENXIO).  So this reads the
    file, and checks it through a fresh connection: only what is still wrong then is damage.
    """
    now = time.monotonic()
    with _looks_lock:
        looked_at, problem = _looks.get(path, (-LOOK_AGAIN_S, None))
        if now - looked_at >= LOOK_AGAIN_S:
            problem = _find_damage(path)
            _looks[path] = (time.monotonic(), problem)
    if problem is not None:
        return corrupt(path, problem or cause)
    return ReadFailed(
        f"the disk failed to read the catalog {path} ({cause}); a second read found the file whole, so it is"
        " not damaged: check the disk and the system log"
    )


def file_uri(path: Path, options: str) -> str:
    """A path and options as an SQLite URI; a path may hold any bytes."""
    return f"file:{quote(os.fsencode(path))}?{options}"


def _find_damage(path: Path) -> str | None:
    """What is wrong with a catalog, "" if that has no name; None: nothing, or the disk cannot be read."""
    began = time.monotonic()
    try:
        if not path.exists():
            return "the file is gone"
        for part in (path, path.with_name(path.name + "-wal")):
            with suppress(FileNotFoundError), part.open("rb", buffering=0) as file:
                while file.read(1 << 20) and time.monotonic() < began + LOOK_S:
                    pass
    except OSError:
        return None
    try:
        connection = sqlite3.connect(file_uri(path, "mode=ro"), uri=True, isolation_level=None)
    except sqlite3.Error:
        return None
    try:
        # A large file is checked only for as long as a start may wait.
        connection.set_progress_handler(lambda: time.monotonic() > began + 2 * LOOK_S, 10_000)
        (finding,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
        return str(error) if primary in _CORRUPT else None if primary == sqlite3.SQLITE_IOERR else ""
    finally:
        connection.close()
    return None if finding == "ok" else " ".join(str(finding).split())


def _is_full(path: Path) -> bool:
    """Whether another file next to the catalog cannot grow either: SQLite reports no quota or size limit."""
    sizes = [0]
    for part in (path, path.with_name(path.name + "-wal")):
        with suppress(OSError):
            sizes.append(part.stat().st_size)
    probe = path.with_name(path.name + ".probe")
    try:
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        return error.errno in _FULL
    try:
        os.pwrite(descriptor, b"x" * 65_536, max(sizes))
        os.fsync(descriptor)
    except OSError as error:
        return error.errno in _FULL
    finally:
        os.close(descriptor)
        with suppress(OSError):
            probe.unlink()
    return False


def corrupt(path: Path, cause: str) -> CatalogCorrupt:
    return CatalogCorrupt(
        f"the catalog {path} is damaged ({cause}): stop the master, keep a copy of the file with its -wal and"
        " -shm, and restore a backup; the objects themselves are safe in the volumes, with their names"
    )
