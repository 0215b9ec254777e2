"""Columns: which columns of each table make a record, and how records become rows.  Pure.

The columns of a table stand here once, in the order of the fields of their record, so a field and its column
change together.  API keys have a file of their own: `key_columns.py`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from warehouse.catalog.nodes import JoinTokenRow
from warehouse.catalog.records import BucketRow, ChunkRow, ObjectRow, PartRow, UploadRow, VolumeRow
from warehouse.transport.messages import BucketNote, NeedleDamage
from warehouse.transport.messages.attributes import ObjectChecksum

_encode = msgspec.msgpack.Encoder().encode
_decode_text_map = msgspec.msgpack.Decoder(dict[str, str]).decode
_decode_checksum = msgspec.msgpack.Decoder(ObjectChecksum).decode


# --- statements -----------------------------------------------------------------------------------


def names_of(columns: str) -> list[str]:
    return columns.split(", ")


def marks(columns: str) -> str:
    """A place for the value of each column."""
    return ", ".join("?" for _ in names_of(columns))


def of_table(table: str, columns: str) -> str:
    """The columns with the name of their table, for statements about several."""
    return ", ".join(f"{table}.{name}" for name in names_of(columns))


def insert(table: str, columns: str, *, instead: bool = False) -> str:
    """The statement that adds a row.

    Args:
        instead: of the one that has the same key.
    """
    verb = "INSERT OR REPLACE" if instead else "INSERT"
    return f"{verb} INTO {table} ({columns}) VALUES ({marks(columns)})"


# --- buckets, objects, uploads --------------------------------------------------------------------

BUCKET_COLUMNS = (
    "id, name, created_ms, object_count, byte_count, owner_id, quota_bytes, quota_objects, region,"
    " is_lock_enabled"
)


def bucket_row(columns: tuple[Any, ...]) -> BucketRow:
    return BucketRow(*(columns[:9] + (bool(columns[9]),)))


# The content type of most objects.  It is stored as NULL, because the text would be a sixth of a row.
CONTENT_TYPE_DEFAULT = "application/octet-stream"


def pack_content_type(content_type: str | None) -> str | None:
    return None if content_type == CONTENT_TYPE_DEFAULT else content_type


# Of an object without attributes, all but these have their defaults.
PLAIN_COLUMNS = (
    "bucket_id, key, size, stamp, created_ms, content_type,"
    " volume_id, needle_id, crc, chunk_count, upload_id, metadata"
)
OBJECT_COLUMNS = f"{PLAIN_COLUMNS}, md5, part_count, owner_id, version_id, attributes, is_amended"
# The same where many objects are read: attributes may be long, and nobody looks at those of a listing.
LISTED_COLUMNS = OBJECT_COLUMNS.replace("attributes", "NULL")
_PLAIN_WIDTH = len(names_of(PLAIN_COLUMNS))


# The same as they are stored: no content type for the default, metadata packed or None.
PlainColumns = tuple[int, str, int, int, int, str | None, int, int, int, int, int | None, bytes | None]
MoreColumns = tuple[bytes | None, int | None, str | None, bytes | None, bytes | None, bool]
ObjectColumns = tuple[
    int, str, int, int, int, str | None, int, int, int, int, int | None, bytes | None,
    bytes | None, int | None, str | None, bytes | None, bytes | None, bool,
]  # fmt: skip
NO_ATTRIBUTES: MoreColumns = (None, None, None, None, None, False)


def plain_columns(row: ObjectRow) -> PlainColumns:
    return (
        row.bucket_id,
        row.key,
        row.size,
        row.stamp,
        row.created_ms,
        pack_content_type(row.content_type),
        row.volume_id,
        row.needle_id,
        row.crc,
        row.chunk_count,
        row.upload_id,
        pack_map(row.metadata) if row.metadata else None,
    )


def object_columns(row: ObjectRow) -> ObjectColumns:
    more = (row.md5, row.part_count, row.owner_id, row.version_id, row.attributes or None, row.is_amended)
    return plain_columns(row) + more


def object_row(columns: tuple[Any, ...]) -> ObjectRow:
    plain, metadata, more = columns[: _PLAIN_WIDTH - 1], columns[_PLAIN_WIDTH - 1], columns[_PLAIN_WIDTH:]
    if more == NO_ATTRIBUTES:  # nearly all
        return ObjectRow(*(plain + (unpack_map(metadata) or {},)))
    attributes, is_amended = more[4:]
    return ObjectRow(
        *(plain + (unpack_map(metadata) or {},) + more[:4] + (attributes or b"", bool(is_amended)))
    )


CHUNK_COLUMNS = "chunk_index, volume_id, needle_id, size, crc, stamp, is_stored"


def chunk_row(columns: tuple[Any, ...]) -> ChunkRow:
    return ChunkRow(*(columns[:6] + (bool(columns[6]),)))


UPLOAD_COLUMNS = (
    "id, bucket_id, key, content_type, if_match, if_none_match,"
    " created_ms, expires_ms, lifetime_ms, is_finished, metadata, key_id, style, attributes, owner_id,"
    " initiator_id"
)


def upload_row(columns: tuple[Any, ...]) -> UploadRow:
    is_finished, metadata, key_id, style, attributes = columns[9:14]
    decoded = (bool(is_finished), unpack_map(metadata) or {}, key_id, style, attributes or b"")
    return UploadRow(*(columns[:9] + decoded + columns[14:]))


PART_COLUMNS = "part_number, attempt, chunk_count, size, md5, checksum, created_ms"


def part_row(columns: tuple[Any, ...]) -> PartRow:
    return PartRow(*(columns[:5] + (unpack_checksum(columns[5]), columns[6])))


def part_columns(row: PartRow) -> tuple[Any, ...]:
    checksum = None if row.checksum is None else _encode(row.checksum)
    return (row.part_number, row.attempt, row.chunk_count, row.size, row.md5, checksum, row.created_ms)


def unpack_checksum(packed: bytes | None) -> ObjectChecksum | None:
    return None if packed is None else _decode_checksum(packed)


AMENDMENT_COLUMNS = "volume_id, needle_id, target_volume_id, target_needle_id, stamp"


def pack_map(values: dict[str, str] | None) -> bytes | None:
    return None if values is None else _encode(values)


def unpack_map(packed: bytes | None) -> dict[str, str] | None:
    return None if packed is None else _decode_text_map(packed)


# --- disks and volumes ----------------------------------------------------------------------------

DISK_COLUMNS = "id, name, added_ms, epoch, mark, catalog_id, node_key, url"
VOLUME_COLUMNS = (
    "id, uuid, capacity, needle_id_reserved, state, created_ms, verified_ms,"
    " verify_started_ms, verify_generation, verify_offset, swept_stamp"
)
# The same for a file that still has the first schema.
VOLUME_COLUMNS_1 = "id, uuid, capacity, needle_id_reserved, state, 0, NULL, 0, 0, 0, 0"


def volume_rows(rows: list[tuple[Any, ...]], copies: list[tuple[int, str]]) -> list[VolumeRow]:
    """
    Args:
        rows: the columns of volumes.
        copies: (volume id, disk id) of each copy.
    """
    disk_ids: dict[int, list[str]] = {}
    for volume_id, disk_id in copies:
        disk_ids.setdefault(volume_id, []).append(disk_id)
    return [VolumeRow(*(columns + (disk_ids.get(columns[0], []),))) for columns in rows]


JOB_COLUMNS = "id, work, volume_id, origin, created_ms"
GARBAGE_COLUMNS = "volume_id, needle_id, stamp, reason"
BUCKET_CONFIGS = "SELECT kind, document FROM bucket_configs WHERE bucket_id = ? ORDER BY kind"
NOTE_COLUMNS = "bucket_id, name, created_ms, is_deleted, stamp, owner_id, region, is_lock_enabled"


def bucket_note(columns: tuple[Any, ...]) -> BucketNote:
    bucket_id, name, created_ms, is_deleted, stamp, owner_id, region, is_lock_enabled = columns
    return BucketNote(
        bucket_id, name, created_ms, bool(is_deleted), stamp, owner_id, region, bool(is_lock_enabled)
    )


DAMAGE_COLUMNS = "volume_id, offset, problem, needle_id, bucket, key, found_ms"


def needle_damage(columns: tuple[Any, ...]) -> NeedleDamage:
    volume_id, offset, problem, needle_id, bucket, key, found_ms = columns
    return NeedleDamage(
        volume_id=volume_id,
        offset=offset,
        problem=problem,
        needle_id=needle_id or None,
        bucket=bucket,
        key=key,
        found_ms=found_ms,
    )


def damage_columns(damage: NeedleDamage) -> tuple[Any, ...]:
    return (
        damage.volume_id,
        damage.offset,
        damage.problem,
        damage.needle_id or 0,
        damage.bucket,
        damage.key,
        damage.found_ms,
    )


# --- accounts and nodes ---------------------------------------------------------------------------

ACCOUNT_COLUMNS = "id, name, email, created_ms"
NODE_COLUMNS = "key, name, role, host, added_ms, joined_with, disk_id, removed_ms"
JOIN_COLUMNS = "id, digest, role, is_reusable, created_ms, created_by, expires_ms, use_count"


def join_token_row(columns: tuple[Any, ...]) -> JoinTokenRow:
    return JoinTokenRow(*(columns[:3] + (bool(columns[3]),) + columns[4:]))
