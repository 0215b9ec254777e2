"""Records: what a catalog answers, as plain values.

An engine reads its columns in the order of the fields (`sqlite/columns.py`), so both change together.  Stamps
are 64-bit hybrid logical clock readings, times milliseconds since 1970, sizes bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from warehouse.errors import StoreError
from warehouse.transport.messages import StoredNeedle, etag_of
from warehouse.transport.messages.attributes import ObjectChecksum, decode_attributes, etag_of_md5

# A number of the catalog's meta: of needles that were stored later than this, in milliseconds since 1970, the
# row of their object names the upload that they came with.  0: of all needles.
UPLOADS_NAMED_META = "uploads_named_ms"

# With the id of a disk behind it, a number of the catalog's meta: when its removal began.
REMOVED_DISK_META = "removed_disk "

VOLUME_ID_MAX = 2**32 - 1
NEEDLE_ID_MAX = 2**32 - 1


def version_etag(
    md5: bytes | None, part_count: int | None, volume_id: int, needle_id: int, crc: int, chunk_count: int
) -> str:
    """The ETag of a version: the one that it was stored with, or what follows from its first needle."""
    if md5 is not None:
        return etag_of_md5(md5, part_count)
    return etag_of(volume_id, needle_id, crc, chunk_count)


def needle_etag(needle: StoredNeedle) -> str:
    """The same of an object that is one needle.

    Raises:
        BadMetadata: its attributes cannot be read.
    """
    stored = decode_attributes(needle.attributes).etag if needle.attributes else None
    return stored or etag_of(needle.volume_id, needle.needle_id, needle.crc)


class BucketRow(msgspec.Struct, frozen=True):
    id: int  # never used again, so needles of a deleted bucket are never taken for another bucket's
    name: str
    created_ms: int
    object_count: int
    byte_count: int
    owner_id: str = ""  # of an account
    quota_bytes: int | None = None  # None: no limit, like the next one
    quota_objects: int | None = None
    region: str = ""  # that it was created in; "": nobody said
    is_lock_enabled: bool = False


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
    md5: bytes | None = None  # that is its ETag; None: the ETag follows from the first needle
    part_count: int | None = None  # None: it was no multipart upload
    owner_id: str | None = None  # of an account; None: the bucket's
    version_id: bytes | None = None
    attributes: bytes = b""  # encoded; listings leave them out
    is_amended: bool = False

    @property
    def etag(self) -> str:
        place = self.volume_id, self.needle_id, self.crc
        return version_etag(self.md5, self.part_count, *place, self.chunk_count)


class ChunkRow(msgspec.Struct, frozen=True, gc=False):
    chunk_index: int  # `MANIFEST_INDEX`: of the needle that ends an upload, and is no chunk of the object
    volume_id: int
    needle_id: int
    size: int
    crc: int  # 0 until stored, like the stamp
    stamp: int
    is_stored: bool


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
    key_id: str = ""  # of the API key that began it; "": a release before 0.2 did not say
    style: str = ""  # see `messages.BeginUpload`
    attributes: bytes = b""  # that it was begun with, encoded
    owner_id: str = ""  # of the account that shall own the object; "": of the bucket's
    initiator_id: str = ""  # of the account whose key began it


class PartRow(msgspec.Struct, frozen=True):
    """A part of a multipart upload that is whole, or of an object that was completed from parts."""

    part_number: int
    attempt: int  # tells its chunks from those that were sent for the same number before or after
    chunk_count: int
    size: int
    md5: bytes
    checksum: ObjectChecksum | None
    created_ms: int


class UploadEnd(msgspec.Struct, frozen=True):
    """How an upload with a manifest ends; of others it is empty."""

    attributes: bytes = b""  # encoded
    part_numbers: Sequence[int] = ()  # of a multipart upload: these parts, and no others
    if_match: str | None = None  # these two replace those that the upload was begun with
    if_none_match: str | None = None


class UploadPage(NamedTuple):
    """One page of the multipart uploads that are under way."""

    uploads: list[UploadRow]
    prefixes: list[str]  # common prefixes, delimiter included
    next_after: str | None  # pass both for the next page; None: this was the last
    next_after_upload: int


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


class JobRow(msgspec.Struct, frozen=True):
    """A compaction or verification of a volume that is not finished."""

    id: int
    work: str  # "compact", "verify"
    volume_id: int
    origin: str  # "operator", "policy"
    created_ms: int


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
    manifest_count: int = 0  # objects that stay without their manifest: a rebuild would not find them
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
