"""Cross-check: which needles of a volume does the catalog know, and by which names?

The other half is the volume's list of live needles (`ListLive`).  A needle that a row names and that is not
live is lost.  A needle that is live and unknown is an orphan, left by a crash.

Every function with a path uses a connection of its own, so any thread may call it, and it may take long.
Bitmaps: bit i & 7 of byte i >> 3 is needle first_id + i.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from warehouse.catalog.sqlite.driver import connect, name_error

Execute = Callable[[str, Sequence[Any]], sqlite3.Cursor]

# Needles that an object, its amendment or an unfinished upload names as stored.  Each query goes through one
# index.
_NAMED = (
    "SELECT needle_id FROM objects WHERE volume_id = ? AND needle_id BETWEEN ? AND ?",
    "SELECT needle_id FROM chunks WHERE volume_id = ? AND needle_id BETWEEN ? AND ? AND is_stored",
    "SELECT needle_id FROM amendments WHERE volume_id = ? AND needle_id BETWEEN ? AND ?",
)
# Slots that nobody has reported as filled.
_SLOTS = ("SELECT needle_id FROM chunks WHERE volume_id = ? AND needle_id BETWEEN ? AND ? AND NOT is_stored",)
# Needles that any table remembers; a slot may be filled at any moment.
_KNOWN = (
    _NAMED[0],
    _NAMED[2],
    "SELECT needle_id FROM chunks WHERE volume_id = ? AND needle_id BETWEEN ? AND ?",
    "SELECT needle_id FROM outbox WHERE volume_id = ? AND needle_id BETWEEN ? AND ?",
    "SELECT needle_id FROM buried WHERE volume_id = ? AND needle_id BETWEEN ? AND ?",
)

# The first chunk of an upload, whose index is not 0 where it has parts.
IS_FIRST = (
    "first.chunk_index ="
    " (SELECT min(chunk_index) FROM chunks AS every WHERE every.upload_id = first.upload_id)"
)

_NAME_OF_OBJECT = (
    "SELECT buckets.name, key FROM objects JOIN buckets ON buckets.id = bucket_id"
    " WHERE volume_id = ? AND needle_id = ? AND buckets.name IS NOT NULL"
)
# The row of an object names only its first chunk; the other chunks lead there by their upload.
_NAME_OF_CHUNK = (
    "SELECT buckets.name, objects.key FROM chunks"
    f" JOIN chunks AS first ON first.upload_id = chunks.upload_id AND {IS_FIRST}"
    " JOIN objects ON objects.volume_id = first.volume_id AND objects.needle_id = first.needle_id"
    " JOIN buckets ON buckets.id = objects.bucket_id"
    " WHERE chunks.volume_id = ? AND chunks.needle_id = ? AND buckets.name IS NOT NULL"
)
_NAME_OF_AMENDMENT = (
    "SELECT buckets.name, key FROM amendments"
    " JOIN objects ON objects.volume_id = target_volume_id AND objects.needle_id = target_needle_id"
    " JOIN buckets ON buckets.id = bucket_id"
    " WHERE amendments.volume_id = ? AND amendments.needle_id = ? AND buckets.name IS NOT NULL"
)
_NAME_OF_SLOT = (
    "SELECT buckets.name, uploads.key FROM chunks JOIN uploads ON uploads.id = upload_id"
    " JOIN buckets ON buckets.id = bucket_id"
    " WHERE volume_id = ? AND needle_id = ? AND buckets.name IS NOT NULL"
)

_UNREAD = "('void', 'unmet', 'over_quota', 'aborted')"  # reasons of needles that were never visible
_HORIZON = f"""
    SELECT CASE WHEN EXISTS (SELECT 1 FROM outbox WHERE reason IN {_UNREAD}) THEN 0 ELSE min(stamp) END
    FROM (
        SELECT coalesce(min(swept_stamp), 0) AS stamp FROM volumes
        UNION ALL SELECT stamp FROM outbox
        UNION ALL SELECT created_ms << 16 FROM uploads WHERE NOT is_finished
        UNION ALL SELECT stamp FROM chunks
            WHERE is_stored AND upload_id IN (SELECT id FROM uploads WHERE NOT is_finished)
    )
"""


def row_bitmap(path: Path, volume_id: int, first_id: int, count: int) -> bytes:
    """See `interface.Catalog`, also for the two below."""
    return _bitmap(path, _NAMED, volume_id, first_id, count)


def known_bitmap(path: Path, volume_id: int, first_id: int, count: int) -> bytes:
    return _bitmap(path, _KNOWN, volume_id, first_id, count)


def slot_bitmap(path: Path, volume_id: int, first_id: int, count: int) -> bytes:
    return _bitmap(path, _SLOTS, volume_id, first_id, count)


def _bitmap(path: Path, queries: Sequence[str], volume_id: int, first_id: int, count: int) -> bytes:
    bitmap = bytearray((count + 7) // 8)
    with _snapshot(path) as execute:
        for query in queries:
            for (needle_id,) in execute(query, (volume_id, first_id, first_id + count - 1)):
                index = needle_id - first_id
                bitmap[index >> 3] |= 1 << (index & 7)
    return bytes(bitmap)


def names_on(execute: Execute, volume_id: int, needle_ids: Collection[int]) -> dict[int, tuple[str, str]]:
    """Bucket and key of each needle that an object or an unfinished upload names; others are left out."""
    names = {}
    for needle_id in needle_ids:
        for query in (_NAME_OF_OBJECT, _NAME_OF_CHUNK, _NAME_OF_SLOT, _NAME_OF_AMENDMENT):
            found = execute(query, (volume_id, needle_id)).fetchone()
            if found is not None:
                names[needle_id] = (found[0], found[1])
                break
    return names


def tombstone_horizon(path: Path) -> int:
    """See `interface.Catalog`."""
    with _snapshot(path) as execute:
        return int(execute(_HORIZON, ()).fetchone()[0])


@contextmanager
def _snapshot(path: Path) -> Iterator[Execute]:
    """The catalog as it is at one moment."""
    try:
        with closing(connect(path, is_read_only=True)) as connection:
            connection.execute("BEGIN")
            yield connection.execute
    except sqlite3.Error as error:
        raise name_error(path, error, is_write=False) from error
