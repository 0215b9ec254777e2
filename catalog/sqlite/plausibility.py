"""Plausibility: can the rows of a catalog file be those of an honest master?

A backup's digest says that the backup is whole, not who made it.  What the store refuses from a client must
not come in through a restored file either: invalid names, numbers that arithmetic and volumes cannot hold,
keys that do not decode.  This walks over each table once, and leaves to SQLite what SQLite can decide.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from uuid import UUID

import msgspec

from warehouse.catalog.names import check_bucket_name
from warehouse.catalog.nodes import JoinTokenRow, NodeRow
from warehouse.catalog.sqlite.columns import (
    JOIN_COLUMNS,
    NODE_COLUMNS,
    join_token_row,
    unpack_checksum,
    unpack_map,
)
from warehouse.catalog.sqlite.key_columns import API_KEY_COLUMNS, api_key_row
from warehouse.errors import StoreError
from warehouse.transport.messages import CONFIGS_COUNT_MAX, CONFIGS_SIZE_MAX, KEY_SIZE_MAX
from warehouse.transport.messages.attributes import (
    ATTEMPT_MAX,
    CHUNKS_OF_PART_MAX,
    MANIFEST_INDEX,
    MD5_SIZE,
    PART_COUNT_MAX,
    decode_attributes,
)

TIME_MS_MAX: Final = 1 << 48  # the year 10889
ID32_MAX: Final = (1 << 32) - 1
WHOLE_MAX: Final = (1 << 62) - 1  # so that sums of two still fit
NAME_SIZE_MAX: Final = 1024  # characters of a name or an id, as in a message
URL_SIZE_MAX: Final = 4096
KIND_LENGTH_MAX: Final = 128

_TIME = (0, TIME_MS_MAX)
_ID32 = (1, ID32_MAX)
_WHOLE = (0, WHOLE_MAX)
_FLAG = (0, 1)

_ROLES: Final = ("volume", "compactor", "both", "gateway")
_CURVE_KEY: Final = re.compile(r"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")  # Z85, ZeroMQ RFC 32
_TOKEN_ID: Final = re.compile(r"[0-9a-f]{12}", re.ASCII)
_DIGEST_SIZE: Final = 32  # SHA-256

# The columns of each table that hold numbers, and their least and greatest values.
NUMBERS: Final[dict[str, dict[str, tuple[int, int]]]] = {
    "buckets": {
        "id": (1, TIME_MS_MAX),
        "created_ms": _TIME,
        "object_count": _WHOLE,
        "byte_count": _WHOLE,
        "quota_bytes": _WHOLE,  # NULL is no limit, as in the next one
        "quota_objects": _WHOLE,
        "is_lock_enabled": _FLAG,
        "config_epoch": _WHOLE,
    },
    "objects": {
        "bucket_id": (1, TIME_MS_MAX),
        "size": _WHOLE,
        "stamp": _WHOLE,
        "created_ms": _TIME,
        "volume_id": _ID32,
        "needle_id": _ID32,
        "crc": (0, ID32_MAX),
        "chunk_count": (1, 1 << 31),
        "part_count": (1, PART_COUNT_MAX),  # NULL: it was no multipart upload
        "is_amended": _FLAG,
    },
    "parts": {
        "part_number": (1, PART_COUNT_MAX),
        "attempt": (0, ATTEMPT_MAX),
        "chunk_count": (1, CHUNKS_OF_PART_MAX),
        "size": _WHOLE,
        "created_ms": _TIME,
    },
    "amendments": {
        "volume_id": _ID32,
        "needle_id": _ID32,
        "target_volume_id": _ID32,
        "target_needle_id": _ID32,
        "stamp": _WHOLE,
    },
    "uploads": {"created_ms": _TIME, "expires_ms": (0, 2 * TIME_MS_MAX), "lifetime_ms": _TIME},
    "chunks": {
        "chunk_index": (0, MANIFEST_INDEX),
        "volume_id": _ID32,
        "needle_id": _ID32,
        "size": _WHOLE,
        "crc": (0, ID32_MAX),
        "stamp": _WHOLE,
        "is_stored": _FLAG,
    },
    "outbox": {"volume_id": _ID32, "needle_id": _ID32, "stamp": _WHOLE},
    "buried": {"volume_id": _ID32, "needle_id": _ID32},
    "disks": {"added_ms": _TIME},
    "nodes": {"added_ms": _TIME, "removed_ms": _TIME},  # NULL: it is a node
    "join_tokens": {
        "is_reusable": _FLAG,
        "created_ms": _TIME,
        "expires_ms": _WHOLE,  # NULL: never
        "use_count": _WHOLE,
    },
    "volumes": {
        "id": _ID32,
        "capacity": (1, 1 << 48),
        "needle_id_reserved": (0, ID32_MAX),
        "garbage_count": _WHOLE,
    },
    "copies": {"volume_id": _ID32},
    "api_keys": {
        "permissions": (0, (1 << 31) - 1),
        "is_enabled": _FLAG,
        "epoch": _WHOLE,
        "created_ms": _TIME,
        # NULL is no limit, or never.
        "expires_ms": _WHOLE,
        "last_used_ms": _WHOLE,
        "previous_until_ms": _WHOLE,
        "sign_s_max": _WHOLE,
    },
    "accounts": {"created_ms": _TIME},
    "revocations": {"epoch": _WHOLE, "at_ms": _TIME},
    "facts": {"value": (-WHOLE_MAX, WHOLE_MAX)},
}

# The greatest last id of each table that numbers its rows.
SEQUENCES_MAX: Final = {"buckets": TIME_MS_MAX, "volumes": ID32_MAX}


def row_problem(connection: sqlite3.Connection) -> str | None:
    """What no honest master has written; None: nothing.  The catalog has this release's schema."""
    return next(_problems(connection), None)


def _problems(connection: sqlite3.Connection) -> Iterator[str]:
    for table, columns in NUMBERS.items():
        wrong = " OR ".join(
            f"{name} NOT BETWEEN {least} AND {most}" for name, (least, most) in columns.items()
        )
        names = ", ".join(columns)
        row = connection.execute(f"SELECT {names} FROM {table} WHERE {wrong} LIMIT 1").fetchone()
        if row is not None:
            said = ", ".join(f"{name}={value}" for name, value in zip(columns, row, strict=True))
            yield f"a row of {table} has impossible numbers: {said}"
    for table, seq, kind in connection.execute("SELECT name, seq, typeof(seq) FROM sqlite_sequence"):
        if table in SEQUENCES_MAX and not (kind == "integer" and 0 <= seq <= SEQUENCES_MAX[table]):
            yield f"the last id of {table} is {seq!r:.100}, which is impossible"
    for table in ("objects", "uploads"):
        size = "length(CAST(key AS BLOB))"
        sql = f"SELECT {size} FROM {table} WHERE {size} NOT BETWEEN 1 AND {KEY_SIZE_MAX} LIMIT 1"
        if (row := connection.execute(sql).fetchone()) is not None:
            yield f"a key in {table} has {row[0]} bytes; 1 to {KEY_SIZE_MAX} are allowed"
        sql = f"SELECT metadata FROM {table} WHERE metadata IS NOT NULL"
        yield from _undecodable(connection, sql, lambda row: unpack_map(row[0]), f"the metadata in {table}")
        sql = f"SELECT attributes FROM {table} WHERE attributes IS NOT NULL"
        what = f"the attributes in {table}"
        yield from _undecodable(connection, sql, lambda row: decode_attributes(row[0]), what)
    sql = (
        "SELECT md5, part_count, owner_id, attributes FROM objects"
        " WHERE attributes IS NOT NULL OR md5 IS NOT NULL"
    )
    yield from _undecodable(connection, sql, lambda row: _check_object(*row), "the ETag of an object")
    sql = "SELECT md5, checksum FROM parts"
    yield from _undecodable(connection, sql, lambda row: _check_part(*row), "a part")
    sql = "SELECT sum(length(document)), count(*), max(length(kind)) FROM bucket_configs GROUP BY bucket_id"
    yield from _undecodable(connection, sql, lambda row: _check_configs(*row), "a configuration of a bucket")
    sql = "SELECT name FROM buckets WHERE name IS NOT NULL"
    yield from _undecodable(connection, sql, lambda row: check_bucket_name(row[0]), "a bucket")
    yield from _undecodable(
        connection, "SELECT uuid FROM volumes", lambda row: UUID(row[0]), "a volume's uuid"
    )
    sql = f"SELECT {API_KEY_COLUMNS} FROM api_keys"
    yield from _undecodable(connection, sql, api_key_row, "an API key")
    sql = f"SELECT {NODE_COLUMNS} FROM nodes"
    yield from _undecodable(connection, sql, lambda row: _check_node(NodeRow(*row)), "a node")
    sql = "SELECT node_key, url FROM disks"
    yield from _undecodable(connection, sql, lambda row: _check_pin(*row), "the node of a disk")
    sql = f"SELECT {JOIN_COLUMNS} FROM join_tokens"
    yield from _undecodable(
        connection, sql, lambda row: _check_join_token(join_token_row(row)), "a join token"
    )


def _check_node(row: NodeRow) -> None:
    """Raises ValueError, as the checks below."""
    _require_key(row.key)
    _require_role(row.role)
    _require_short(NAME_SIZE_MAX, row.name, row.host, row.joined_with, row.disk_id)


def _check_object(
    md5: bytes | None, part_count: int | None, owner_id: str | None, encoded: bytes | None
) -> None:
    attributes = decode_attributes(encoded or b"")
    if (attributes.md5, attributes.part_count) != (md5, part_count):
        raise ValueError("its attributes have another one")
    _require_short(NAME_SIZE_MAX, owner_id)


def _check_part(md5: bytes, checksum: bytes | None) -> None:
    if len(md5) != MD5_SIZE:
        raise ValueError(f"its MD5 has {len(md5)} bytes, not {MD5_SIZE}")
    unpack_checksum(checksum)


def _check_configs(size: int, count: int, longest_kind: int) -> None:
    if size > CONFIGS_SIZE_MAX or count > CONFIGS_COUNT_MAX or longest_kind > KIND_LENGTH_MAX:
        raise ValueError(f"{count} documents of {size} bytes, which is more than a bucket has")


def are_configs(configs: Mapping[str, bytes]) -> bool:
    """Can these be the documents of a bucket?"""
    try:
        _check_configs(sum(map(len, configs.values())), len(configs), max(map(len, configs), default=0))
    except (ValueError, TypeError):
        return False
    return all(type(kind) is str and type(document) is bytes for kind, document in configs.items())


def _check_pin(node_key: str | None, url: str | None) -> None:
    if node_key is not None:
        _require_key(node_key)
    _require_short(URL_SIZE_MAX, url)


def _check_join_token(row: JoinTokenRow) -> None:
    _require_role(row.role)
    _require_short(NAME_SIZE_MAX, row.created_by)
    if _TOKEN_ID.fullmatch(row.id) is None:
        raise ValueError(f"{row.id!r:.100} is not the id of one")
    if len(row.digest) != _DIGEST_SIZE:
        raise ValueError(f"its digest has {len(row.digest)} bytes, not {_DIGEST_SIZE}")


def _require_key(key: str) -> None:
    if _CURVE_KEY.fullmatch(key) is None:
        raise ValueError(f"{key!r:.100} is not a CURVE public key")


def _require_role(role: str) -> None:
    if role not in _ROLES:
        raise ValueError(f"there is no role {role!r:.100}")


def _require_short(size_max: int, *texts: str | None) -> None:
    longest = max((len(text) for text in texts if text is not None), default=0)
    if longest > size_max:
        raise ValueError(f"a text has {longest} characters; {size_max} are allowed")


def _undecodable(
    connection: sqlite3.Connection, sql: str, decode: Callable[[tuple[Any, ...]], object], what: str
) -> Iterator[str]:
    for row in connection.execute(sql):
        try:
            decode(row)
        except (
            StoreError,
            ValueError,
            TypeError,
            AttributeError,
            RecursionError,
            msgspec.MsgspecError,
        ) as error:
            yield f"{what} cannot be read: {error}"
            return


def drop_content_types(connection: sqlite3.Connection, is_content_type: Callable[[str], bool]) -> int:
    """Remove content types that no header can carry; return how many objects had one.

    Earlier releases accepted them, so they are no reason to refuse a catalog.
    """
    connection.create_function("is_content_type", 1, is_content_type, deterministic=True)
    count = 0
    for table in ("objects", "uploads"):
        count += connection.execute(
            f"UPDATE {table} SET content_type = NULL"
            " WHERE content_type IS NOT NULL AND NOT is_content_type(content_type)"
        ).rowcount
    return count
