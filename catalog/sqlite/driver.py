"""Driver: connections to the catalog's SQLite file, and names for what can go wrong with them.

Durability is SQLite's WAL with synchronous=FULL: a transaction is on disk when COMMIT returns.  Nothing
is mapped into memory, because a bad sector under a mapping kills the process instead of failing a query.
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

PAGE_CACHE_KIB = 64 * 1024  # for each connection
CHECKPOINT_PAGES = 4000  # 16 MiB of log: seldom enough to batch, small enough for a quick start after a crash
LOG_SIZE_LIMIT = 64 * 1024 * 1024  # a log that grew in a burst is cut back to this
BUSY_MS = 5000  # only a tool of the operator can be in the way
STATEMENTS_CACHED = 256

LOOK_S = 1.0  # how long a second look at a catalog that seems damaged reads it
LOOK_AGAIN_S = 5.0  # what a second look found holds for this long: a failing disk fails many reads

_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_looks: dict[Path, tuple[float, str | None]] = {}
_looks_lock = threading.Lock()
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
    """What is behind an error that SQLite takes for damage.

    SQLite calls it damage, too, when the disk refuses to read for a moment (EIO, ENXIO).  So the file is
    read, and checked by a connection that remembers nothing: damage is what is still there then.
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
        f"the disk refused to read the catalog {path} ({cause}); when it was read again it was whole, so this"
        " is no damage: look at the disk and its log"
    )


def file_uri(path: Path, options: str) -> str:
    """The name of a file as SQLite takes it together with options; a path may hold any bytes."""
    return f"file:{quote(os.fsencode(path))}?{options}"


def _find_damage(path: Path) -> str | None:
    """What is wrong with a catalog, "" where that has no name; None: nothing, or the disk refuses to say."""
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
        # A great file is checked for as long as a start may wait; what is found by then is all that is known.
        connection.set_progress_handler(lambda: time.monotonic() > began + 2 * LOOK_S, 10_000)
        (finding,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
        return str(error) if primary in _CORRUPT else None if primary == sqlite3.SQLITE_IOERR else ""
    finally:
        connection.close()
    return None if finding == "ok" else " ".join(str(finding).split())


def _is_full(path: Path) -> bool:
    """Whether a file next to the catalog cannot grow either: SQLite does not name a quota or size limit."""
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
