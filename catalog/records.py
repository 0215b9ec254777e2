"""Records: what a catalog answers, as plain values.

Columns are read in the order of the fields, so a field and its place in the column list below it change
together.  Stamps are 64-bit hybrid logical clock readings, times milliseconds since 1970, sizes bytes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from warehouse.errors import StoreError
from warehouse.transport.messages import BucketNote, NeedleDamage, etag_of

# A number of the catalog's meta: of needles that were stored later than this, in milliseconds since 1970, the
# row of their object names the upload that they came with.  0: of all needles.
UPLOADS_NAMED_META = "uploads_named_ms"

# With the id of a disk behind it, a number of the catalog's meta: when its removal began.
REMOVED_DISK_META = "removed_disk "

VOLUME_ID_MAX = 2**32 - 1
NEEDLE_ID_MAX = 2**32 - 1

_encode = msgspec.msgpack.Encoder().encode
_decode_text_map = msgspec.msgpack.Decoder(dict[str, str]).decode


class BucketRow(msgspec.Struct, frozen=True):
    id: int  # never used again, so needles of a deleted bucket are never taken for another bucket's
    name: str
    created_ms: int
    object_count: int
    byte_count: int
    owner_id: str = ""  # of an account
    quota_bytes: int | None = None  # None: no limit, like the next one
    quota_objects: int | None = None


BUCKET_COLUMNS = "id, name, created_ms, object_count, byte_count, owner_id, quota_bytes, quota_objects"


# The content type of most objects.  It is stored as NULL, because the text would be a sixth of a row.
CONTENT_TYPE_DEFAULT = "application/octet-stream"


def pack_content_type(content_type: str | None) -> str | None:
    return None if content_type == CONTENT_TYPE_DEFAULT else content_type


class ObjectRow(msgspec.Struct, frozen=True, gc=False):
    bucket_id: int
    key: str
    size: int
    stamp: int
    created_ms: int
    content_type: str | None  # None: the default
    volume_id: int  # of the first chunk, like the next two
    needle_id: int
    crc: int
    chunk_count: int
    upload_id: int | None  # it came with; None: it came as one needle, or see UPLOADS_NAMED_META
    metadata: dict[str, str]

    @property
    def etag(self) -> str:
        return etag_of(self.volume_id, self.needle_id, self.crc, self.chunk_count)


OBJECT_COLUMNS = (
    "bucket_id, key, size, stamp, created_ms, content_type,"
    " volume_id, needle_id, crc, chunk_count, upload_id, metadata"
)


# The same as they are stored: no content type for the default, metadata packed or None.
ObjectColumns = tuple[int, str, int, int, int, str | None, int, int, int, int, int | None, bytes | None]


def object_columns(row: ObjectRow) -> ObjectColumns:
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


def object_row(columns: tuple[Any, ...]) -> ObjectRow:
    return ObjectRow(*(columns[:11] + (unpack_map(columns[11]) or {},)))


class ChunkRow(msgspec.Struct, frozen=True, gc=False):
    chunk_index: int
    volume_id: int
    needle_id: int
    size: int
    crc: int  # 0 until stored, like the stamp
    stamp: int
    is_stored: bool


CHUNK_COLUMNS = "chunk_index, volume_id, needle_id, size, crc, stamp, is_stored"


def chunk_row(columns: tuple[Any, ...]) -> ChunkRow:
    return ChunkRow(*(columns[:6] + (bool(columns[6]),)))


class UploadRow(msgspec.Struct, frozen=True):
    id: int
    bucket_id: int
    key: str
    content_type: str | None
    if_match: str | None
    if_none_match: str | None
    created_ms: int
    expires_ms: int
    lifetime_ms: int  # every chunk grants it again
    is_finished: bool  # kept for a while, so a repeated finish gets the same answer
    metadata: dict[str, str]


UPLOAD_COLUMNS = (
    "id, bucket_id, key, content_type, if_match, if_none_match,"
    " created_ms, expires_ms, lifetime_ms, is_finished, metadata"
)


def upload_row(columns: tuple[Any, ...]) -> UploadRow:
    return UploadRow(*(columns[:9] + (bool(columns[9]), unpack_map(columns[10]) or {})))


DISK_COLUMNS = "id, name, added_ms, epoch, mark, catalog_id, node_key, url"


class DiskRow(msgspec.Struct, frozen=True):
    id: str
    name: str
    added_ms: int
    # Its latest registration, see `storage/epoch.py`.
    epoch: int = 0
    mark: int = 0
    catalog_id: int = 0  # the catalog that the disk names, if it is another one
    node_key: str | None = None  # the key of the node that it belongs to; None: of none yet
    url: str | None = None  # where its node or an operator said last that it is


class VolumeRow(msgspec.Struct, frozen=True):
    id: int  # never used again
    uuid: str
    capacity: int
    needle_id_reserved: int  # ids up to this one may have been handed out
    state: str  # "creating" until its disk has confirmed it, then "open"
    created_ms: int
    verified_ms: int | None  # when the last verification that read all of it began; None: never
    verify_started_ms: int  # of the verification under way, like the next two; 0: none is
    verify_generation: int
    verify_offset: int  # in the data file of that generation: where to go on
    swept_stamp: int  # up to this stamp, needles that no row names were given up
    disk_ids: list[str]  # the disks that hold a copy


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


class JobRow(msgspec.Struct, frozen=True):
    """A compaction or verification of a volume that is not finished."""

    id: int
    work: str  # "compact", "verify"
    volume_id: int
    origin: str  # "operator", "policy"
    created_ms: int


JOB_COLUMNS = "id, work, volume_id, origin, created_ms"
NOTE_COLUMNS = "bucket_id, name, created_ms, is_deleted, stamp"


def bucket_note(columns: tuple[Any, ...]) -> BucketNote:
    bucket_id, name, created_ms, is_deleted, stamp = columns
    return BucketNote(bucket_id, name, created_ms, bool(is_deleted), stamp)


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


def pack_map(values: dict[str, str] | None) -> bytes | None:
    return None if values is None else _encode(values)


def unpack_map(packed: bytes | None) -> dict[str, str] | None:
    return None if packed is None else _decode_text_map(packed)


class Page(NamedTuple):
    """One page of a listing."""

    objects: list[ObjectRow]
    prefixes: list[str]  # common prefixes, delimiter included
    next_after: str | None  # pass as `after` for the next page; None: this was the last


class LostRow(NamedTuple):
    """An object that needs a needle of a volume."""

    needle_id: int  # that needle
    first: tuple[int, int] | None  # volume and needle of its first chunk; None: an upload is not finished
    bucket_id: int = 0
    key: str = ""
    size: int = 0


class DiskRemoval(msgspec.Struct):
    """What one piece of the removal of a disk has done."""

    object_count: int = 0
    byte_count: int = 0
    upload_ids: list[int] = []  # unfinished uploads that ended
    is_done: bool = False  # nothing is left of the disk


class Garbage(NamedTuple):
    """A needle that waits for its tombstone."""

    needle_id: int
    stamp: int  # of the tombstone
    reason: str  # "replaced", "deleted", "void", "unmet", ...: see `interface.Transaction`

    @property
    def object_deleted(self) -> bool:
        """The whole object was deleted, at `stamp`; otherwise only this needle of it has gone."""
        return self.reason == "deleted"


class CommitResult(msgspec.Struct, frozen=True):
    """What became of one stored needle: exactly one of the three fields is set.

    The garbage collector has to track it: the traceback of an error may refer to the holder of this result.
    """

    etag: str | None = None
    restamp_above: int | None = None  # append a stamp greater than this, then report again
    error: StoreError | None = None


class Restamp(NamedTuple):
    """The chunk that needs a stamp greater than `above` before its upload can be finished."""

    chunk_index: int
    volume_id: int
    needle_id: int
    above: int


class FinishResult(msgspec.Struct, frozen=True):
    """The finished object, or the chunk that needs a greater stamp first."""

    object: ObjectRow | None = None
    restamp: Restamp | None = None


class CountDifference(NamedTuple):
    """A number in the catalog that differs from a recount."""

    what: str  # "objects of bucket 'photos'"
    recorded: int
    counted: int

    def __str__(self) -> str:
        return f"{self.what}: {self.recorded} recorded, {self.counted} counted"
