"""Needle codec: the bytes of one stored chunk inside a volume file.

A volume is a superblock and then records, back to back, each starting on a multiple of 8.  A record is a
needle (data), a mark about a needle (a tombstone, a fresh stamp), or a remark of the store to itself.  This
module owns the layout of a record, and `storage/volume.py` owns the file: nothing here opens a file or reads
a clock.

    offset      size  field (little-endian)
         0         4  magic          b"NDL1"; the digit is the version of the layout
         4         4  header_crc     CRC-32C of bytes 8-19 and the metadata
         8         1  kind           1 data, 2 tombstone, 3 restamp, 4 note, 5 bucket, 6 void
         9         1  flags          bit 0: streamed (header first, footer when the last byte came)
                                     bit 1: object deleted (of a tombstone, see below)
                                     bit 2: damaged (of data that a compaction found so and copied as it was)
        10         2  metadata_size  m
        12         4  needle_id      never 0, except in notes, buckets and voids
        16         4  data_size      n
        20         m  metadata       msgpack array, see `NeedleMetadata`, of data and named tombstones
      20+m         n  data
    20+m+n         t  block table    one CRC-32C per 256 KiB of data, only when there is more than one
  20+m+n+t         4  magic          b"NDLF"
        +4         8  stamp
       +12         4  data_crc       CRC-32C of the data: what clients and the catalog know it by
       +16         4  footer_crc     CRC-32C of the block table and footer bytes 0-15
       +20       0-7  zero bytes, so that the next record starts on a multiple of 8

Both header_crc and footer_crc are bound to their place.  The CRC of the header starts from a number made of
the volume's uuid, its generation and the record's own offset.  The CRC of the footer starts from header_crc.
So a record that belongs elsewhere never checks: a misdirected write, a stale block, the content of an object
that happens to be a volume file.  This costs no bytes.

A valid header tells where the next record starts, whatever became of the rest.  A streamed record whose
footer is all zeros was never finished (an upload that broke off): dead space.

What the marks say:

    tombstone  its needle is deleted.  With the flag "object deleted", its object was deleted at this stamp:
               every version of that object with a lesser stamp is dead, in whichever volume.  Usually the
               needle is in the same file and names the object.  Where a compaction has dropped the needle,
               the tombstone names the object
    restamp    its needle counts as written with this later stamp
    note       stretches of this file that are torn, and not damaged (`storage/recovery.py`)
    bucket     a bucket exists, or was deleted: see `BucketRecord`
    void       ids of needles that are gone for good, as pairs of u32, first and last: never written again

What a needle is to its object, its metadata says (`role`).  In volumes of format 1 all have the first role,
and no attributes:

    object      an object, or a chunk of an upload whose last chunk says how many there are
    part        a chunk of an upload that ends with a manifest; without one it is no object
    manifest    the last needle of such an upload: which chunks and parts are the object
    amendment   new attributes for a version that is there; see `target`

Source: Beaver et al., "Finding a needle in Haystack", OSDI 2010, section 3.4.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Final

import msgspec
from crc32c import crc32c

from warehouse.errors import BadMetadata, BadRequest, NeedleCorrupt

ALIGNMENT: Final = 8
MAGIC: Final = b"NDL1"
FOOTER_MAGIC: Final = b"NDLF"

KIND_DATA: Final = 1
KIND_TOMBSTONE: Final = 2
KIND_RESTAMP: Final = 3
KIND_NOTE: Final = 4
KIND_BUCKET: Final = 5
KIND_VOID: Final = 6
KINDS: Final = frozenset((KIND_DATA, KIND_TOMBSTONE, KIND_RESTAMP, KIND_NOTE, KIND_BUCKET, KIND_VOID))
KINDS_WITH_CONTENT: Final = frozenset((KIND_NOTE, KIND_BUCKET, KIND_VOID))  # data that is ours, and short
CONTENT_SIZE_MAX: Final = 64 * 1024

FLAG_STREAMED: Final = 1
FLAG_OBJECT_DELETED: Final = 2
FLAG_DAMAGED: Final = 4
FLAGS_KNOWN: Final = FLAG_STREAMED | FLAG_OBJECT_DELETED | FLAG_DAMAGED

HEADER: Final = Struct("<4sIBBHII")
FOOTER: Final = Struct("<4sQII")
HEADER_SIZE: Final = HEADER.size
FOOTER_SIZE: Final = FOOTER.size
HEADER_COVERED: Final = 8  # where the bytes start that header_crc covers
FOOTER_COVERED: Final = 16  # where those end that footer_crc covers
_HEADER_FIELDS: Final = Struct("<BBHII")
_FOOTER_FIELDS: Final = Struct("<4sQI")
MARK_SIZE: Final = HEADER_SIZE + FOOTER_SIZE  # a tombstone or a restamp on disk
assert HEADER_COVERED + _HEADER_FIELDS.size == HEADER_SIZE
assert FOOTER_COVERED == _FOOTER_FIELDS.size == FOOTER_SIZE - 4
assert HEADER_SIZE == 20
assert FOOTER_SIZE == 20
assert MARK_SIZE % ALIGNMENT == 0

BLOCK_SIZE: Final = 256 * 1024
CRC_SIZE: Final = 4

NEEDLE_ID_MAX: Final = (1 << 32) - 1
DATA_SIZE_MAX: Final = (1 << 32) - 1
# What the edges allow users (a key of 1 KiB, 8 KiB of user metadata in the smallest possible pairs, a
# bucket name, a content type of 1 KiB) encodes to less than 20 KiB, and attributes have at most 16 KiB.
METADATA_SIZE_MAX: Final = 40 * 1024
METADATA_SIZE_MAX_1: Final = 20 * 1024  # in a volume of format 1
assert METADATA_SIZE_MAX < 1 << 16

ROLE_OBJECT: Final = 0
ROLE_PART: Final = 1
ROLE_MANIFEST: Final = 2
ROLE_AMENDMENT: Final = 3
ROLES: Final = frozenset((ROLE_OBJECT, ROLE_PART, ROLE_MANIFEST, ROLE_AMENDMENT))

_CRC_MASK: Final = 0xFFFF_FFFF


class NeedleMetadata(msgspec.Struct, frozen=True, array_like=True):
    """What a rebuild of the catalog needs to know about a needle.

    An array on disk: a new field goes to the end and has a default, no field is ever taken away.
    """

    bucket: str
    bucket_id: int
    key: str
    created_ms: int
    content_type: str | None = None
    metadata: dict[str, str] = {}
    upload_id: int | None = None  # None: a whole object in one needle
    chunk_index: int = 0
    chunk_count: int | None = 1  # None: not known yet when this chunk was written
    object_size: int | None = None  # likewise; for a whole object its data size says it
    # These are in volumes of format 2 alone.  A needle that needs none of them is written without them.
    attributes: bytes = b""  # of the object, encoded; empty: none, or (of an upload) its manifest has them
    role: int = ROLE_OBJECT
    target: tuple[int, int] | None = None  # of an amendment: volume and needle of the version's first needle


class BucketRecord(msgspec.Struct, frozen=True, array_like=True):
    """That a bucket was made, or deleted; ids are never used again, so a deletion always wins.

    An array on disk: a new field goes to the end and has a default, no field is ever taken away.
    """

    bucket_id: int
    name: str
    created_ms: int
    is_deleted: bool
    # A record that has nothing to say here is written without them.
    owner_id: str = ""  # of the account that the bucket belongs to
    is_lock_enabled: bool = False
    region: str = ""  # that it was created in; "": nobody said
    configs: dict[str, bytes] = {}  # documents that say how it behaves, by kind


CONFIGS_SIZE_MAX: Final = 60 * 1024  # of the documents of one bucket, so that they fit into a record
CONFIGS_COUNT_MAX: Final = 16
assert CONFIGS_SIZE_MAX < CONTENT_SIZE_MAX - CONFIGS_COUNT_MAX * 128

_decode_bucket = msgspec.msgpack.Decoder(BucketRecord).decode
_ID_RANGE: Final = Struct("<II")


def encode_bucket(record: BucketRecord) -> bytes:
    """The content of a bucket record."""
    encoded = _encode_metadata(record)
    if record.configs:
        return encoded
    encoded = encoded[1 : -len(_NO_CONFIGS)]
    if record.owner_id or record.is_lock_enabled or record.region:
        return _BUCKET_FIELDS_2 + encoded
    return _BUCKET_FIELDS_1 + encoded[: -len(_NO_BUCKET_EXTRAS)]


def decode_bucket(content: bytes | memoryview) -> BucketRecord:
    """Decode the content of a bucket record that checked.

    Raises:
        NeedleCorrupt: it does not decode all the same.
    """
    try:
        return _decode_bucket(content)
    except (msgspec.DecodeError, RecursionError) as error:
        raise NeedleCorrupt(f"a bucket record passes its CRC but does not decode: {error}") from error


def encode_void(ranges: Iterable[tuple[int, int]]) -> list[bytes]:
    """The contents of the void records that name these ids (first, last; both included)."""
    packed = b"".join(_ID_RANGE.pack(first, last) for first, last in ranges)
    return [packed[at : at + CONTENT_SIZE_MAX] for at in range(0, len(packed), CONTENT_SIZE_MAX)]


def decode_void(content: bytes | memoryview) -> list[tuple[int, int]]:
    """The id ranges of a void record that checked.

    Raises:
        NeedleCorrupt: they are no ranges of ids.
    """
    if len(content) % _ID_RANGE.size:
        raise NeedleCorrupt(f"{len(content)} bytes are no ranges of needle ids")
    ranges = [(first, last) for first, last in _ID_RANGE.iter_unpack(content)]
    if any(not 0 < first <= last for first, last in ranges):
        raise NeedleCorrupt("a void record names ids that cannot be")
    return ranges


assert CONTENT_SIZE_MAX % _ID_RANGE.size == 0

_encode_metadata = msgspec.msgpack.Encoder().encode
_decode_metadata = msgspec.msgpack.Decoder(NeedleMetadata).decode

# How an array without the later elements begins, and how those end that are left out.
_FIELDS_1: Final = b"\x9a"
_NO_EXTRAS: Final = b"\xc4\x00\x00\xc0"
_BUCKET_FIELDS_1: Final = b"\x94"
_BUCKET_FIELDS_2: Final = b"\x97"
_NO_BUCKET_EXTRAS: Final = b"\xa0\xc2\xa0"
_NO_CONFIGS: Final = b"\x80"
assert _encode_metadata(NeedleMetadata("", 0, "", 0)).endswith(_NO_EXTRAS)
assert _encode_metadata(BucketRecord(0, "", 0, is_deleted=False)).endswith(_NO_BUCKET_EXTRAS + _NO_CONFIGS)


def encode_metadata(metadata: NeedleMetadata) -> bytes:
    """Encode for the disk.

    Raises:
        BadMetadata: more than `METADATA_SIZE_MAX` bytes, or not encodable (a lone surrogate, say).
    """
    try:
        encoded = _encode_metadata(metadata)
    except (UnicodeEncodeError, OverflowError, TypeError) as error:
        raise BadMetadata(f"the metadata cannot be stored: {error}") from error
    if not metadata.attributes and metadata.role == ROLE_OBJECT and metadata.target is None:
        encoded = _FIELDS_1 + encoded[1 : -len(_NO_EXTRAS)]
    if len(encoded) > METADATA_SIZE_MAX:
        raise BadMetadata(f"metadata of {len(encoded)} bytes; at most {METADATA_SIZE_MAX} can be stored")
    return encoded


def format_needed(encoded: bytes) -> int:
    """The least format that a volume must have for a needle with this encoded metadata."""
    return 1 if encoded[:1] == _FIELDS_1 and len(encoded) <= METADATA_SIZE_MAX_1 else 2


def decode_metadata(encoded: bytes | memoryview) -> NeedleMetadata:
    """Decode metadata that a valid header_crc vouches for.

    Raises:
        NeedleCorrupt: all the same, it is not an array of the expected types.
    """
    try:
        return _decode_metadata(encoded)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NeedleCorrupt(f"metadata passes its CRC but does not decode: {error}") from error


def table_size(data_size: int) -> int:
    """Bytes of the block table of a needle with `data_size` bytes of data."""
    return CRC_SIZE * -(-data_size // BLOCK_SIZE) if data_size > BLOCK_SIZE else 0


def stored_size(metadata_size: int, data_size: int) -> int:
    """Bytes that a record takes in a volume file, padding included."""
    size = HEADER_SIZE + metadata_size + data_size + FOOTER_SIZE
    if data_size > BLOCK_SIZE:
        size += CRC_SIZE * -(-data_size // BLOCK_SIZE)
    return size + -size % ALIGNMENT


CHUNK_SIZE_USUAL: Final = 80 * 1024 * 1024
# What a needle of up to 80 MiB may take on disk beyond its data, whatever names and metadata it has.
NEEDLE_OVERHEAD_MAX: Final = stored_size(METADATA_SIZE_MAX, CHUNK_SIZE_USUAL) - CHUNK_SIZE_USUAL + ALIGNMENT

PADDINGS: Final = tuple(bytes(count) for count in range(ALIGNMENT))


def place_seed(volume_seed: int, offset: int) -> int:
    """The number that the CRC register of a record's header starts from.

    CRCs of the same bytes from different starting numbers always differ, so of two offsets less than
    32 GiB apart each is told from the other with certainty.
    """
    return volume_seed ^ (offset >> 3 & _CRC_MASK)


def encode_header(
    kind: int, flags: int, needle_id: int, metadata: bytes, data_size: int, seed: int
) -> tuple[bytes, int]:
    """The bytes from the magic to the end of the metadata, and header_crc."""
    covered = _HEADER_FIELDS.pack(kind, flags, len(metadata), needle_id, data_size) + metadata
    header_crc = crc32c(covered, seed)
    return MAGIC + header_crc.to_bytes(4, "little") + covered, header_crc


def encode_footer(header_crc: int, stamp: int, data_crc: int, table: bytes = b"") -> bytes:
    """The bytes from the block table to the end of the footer, without padding."""
    covered = table + _FOOTER_FIELDS.pack(FOOTER_MAGIC, stamp, data_crc)
    return covered + crc32c(covered, header_crc).to_bytes(4, "little")


def block_table(data: bytes | bytearray | memoryview) -> bytes:
    """The block table of some data; empty when the data is one block."""
    size = len(data)
    if size <= BLOCK_SIZE:
        return b""
    view = memoryview(data)
    crcs = [crc32c(view[start : start + BLOCK_SIZE]) for start in range(0, size, BLOCK_SIZE)]
    return Struct(f"<{len(crcs)}I").pack(*crcs)


def encode_mark(
    kind: int, needle_id: int, stamp: int, seed: int, *, flags: int = 0, metadata: bytes = b""
) -> bytes:
    """A whole tombstone or restamp record, padding included."""
    head, header_crc = encode_header(kind, flags, needle_id, metadata, 0, seed)
    mark = head + encode_footer(header_crc, stamp, 0)
    return mark + PADDINGS[-len(mark) % ALIGNMENT] if metadata else mark


def encode_content(kind: int, content: bytes, stamp: int, seed: int) -> bytes:
    """A whole note, bucket or void record, padding included; at most `CONTENT_SIZE_MAX` of content."""
    head, header_crc = encode_header(kind, 0, 0, b"", len(content), seed)
    record = head + content + encode_footer(header_crc, stamp, crc32c(content))
    return record + PADDINGS[-len(record) % ALIGNMENT]


class Header(msgspec.Struct, frozen=True, gc=False):
    """A header whose CRC, that of its metadata included, was found right."""

    kind: int
    flags: int
    needle_id: int
    metadata_size: int
    data_size: int
    crc: int

    @property
    def is_streamed(self) -> bool:
        return bool(self.flags & FLAG_STREAMED)

    @property
    def object_deleted(self) -> bool:
        return bool(self.flags & FLAG_OBJECT_DELETED)

    @property
    def is_damaged(self) -> bool:
        return bool(self.flags & FLAG_DAMAGED)

    @property
    def data_offset(self) -> int:
        """From the start of the record."""
        return HEADER_SIZE + self.metadata_size

    @property
    def table_offset(self) -> int:
        """From the start of the record; the footer follows the table."""
        return HEADER_SIZE + self.metadata_size + self.data_size

    @property
    def stored_size(self) -> int:
        return stored_size(self.metadata_size, self.data_size)


class Footer(msgspec.Struct, frozen=True, gc=False):
    """A footer whose CRC was found right."""

    stamp: int
    data_crc: int


class NeedleRead(msgspec.Struct, gc=False):
    """A whole needle, checked against its CRCs.  Its metadata is decoded when somebody asks."""

    needle_id: int
    stamp: int  # as written with the needle; a later restamp is a record of its own
    crc: int  # of the data
    data: memoryview
    metadata_bytes: memoryview
    _metadata: NeedleMetadata | None = None

    @property
    def metadata(self) -> NeedleMetadata:
        if self._metadata is None:
            self._metadata = decode_metadata(self.metadata_bytes)
        return self._metadata


def decode_needle(buffer: bytes | bytearray, needle_id: int, seed: int) -> NeedleRead:
    """Check and decode a data record, given from its magic to the end of its footer (padding may follow).

    Args:
        needle_id: which needle this has to be.
        seed: of its place, see `place_seed`.
    Raises:
        NeedleCorrupt: some byte is not what was written, or this is another record.
    """
    if len(buffer) < MARK_SIZE:
        raise NeedleCorrupt(f"{len(buffer)} bytes are no needle")
    magic, header_crc, kind, flags, metadata_size, found_id, data_size = HEADER.unpack_from(buffer)
    view = memoryview(buffer)
    data_start = HEADER_SIZE + metadata_size
    if crc32c(view[HEADER_COVERED:data_start], seed) != header_crc or magic != MAGIC:
        raise NeedleCorrupt("header does not match its CRC")
    if kind != KIND_DATA or found_id != needle_id or flags & ~FLAG_STREAMED:
        raise NeedleCorrupt(f"expected needle {needle_id}, found record of {kind=} {found_id=} {flags=}")
    data_end = data_start + data_size
    foot_start = data_end + table_size(data_size)
    if len(buffer) < foot_start + FOOTER_SIZE:
        raise NeedleCorrupt(f"{len(buffer)} bytes of a needle of {foot_start + FOOTER_SIZE}")
    foot_magic, stamp, data_crc, footer_crc = FOOTER.unpack_from(buffer, foot_start)
    covered = view[data_end : foot_start + FOOTER_COVERED]
    if crc32c(covered, header_crc) != footer_crc or foot_magic != FOOTER_MAGIC:
        raise NeedleCorrupt("footer does not match its CRC")
    data = view[data_start:data_end]
    found_crc = crc32c(data)
    if found_crc != data_crc:
        raise NeedleCorrupt(f"data has CRC {found_crc:08x}, its footer says {data_crc:08x}")
    return NeedleRead(needle_id, stamp, data_crc, data, view[HEADER_SIZE:data_start])


def announced_metadata_size(buffer: bytes | bytearray | memoryview) -> int | None:
    """How much metadata a header claims to have, before any CRC is checked; None: no header at all."""
    if len(buffer) < HEADER_SIZE or bytes(buffer[:4]) != MAGIC:
        return None
    size: int = HEADER.unpack_from(buffer)[4]
    return size


def decode_header(buffer: bytes | bytearray | memoryview, seed: int) -> Header | None:
    """Check the header at the start of `buffer`, its metadata included; None when it does not check.

    Raises:
        NeedleCorrupt: it checks, but says something that this release cannot know.
    """
    if len(buffer) < HEADER_SIZE:
        return None
    magic, crc, kind, flags, metadata_size, needle_id, data_size = HEADER.unpack_from(buffer)
    metadata_end = HEADER_SIZE + metadata_size
    if magic != MAGIC or len(buffer) < metadata_end:
        return None
    if crc32c(memoryview(buffer)[HEADER_COVERED:metadata_end], seed) != crc:
        return None
    if kind not in KINDS or flags & ~FLAGS_KNOWN:
        # A genuine record of a later release: to guess at it could serve wrong bytes.
        raise NeedleCorrupt(f"needle {needle_id} has unknown {kind=} or {flags=}: a later release?")
    if (needle_id == 0) != (kind in KINDS_WITH_CONTENT):
        raise NeedleCorrupt(f"a record of {kind=} cannot have the needle id {needle_id}")
    return Header(kind, flags, needle_id, metadata_size, data_size, crc)


def decode_footer(header_crc: int, table_and_footer: bytes | bytearray | memoryview) -> Footer | None:
    """Check the block table and footer in `table_and_footer`, all of it; None when it does not check."""
    table_end = len(table_and_footer) - FOOTER_SIZE
    if table_end < 0:
        return None
    magic, stamp, data_crc, crc = FOOTER.unpack_from(table_and_footer, table_end)
    if magic != FOOTER_MAGIC:
        return None
    view = memoryview(table_and_footer)
    if crc32c(view[:-CRC_SIZE], header_crc) != crc:  # table, then footer: they are adjacent
        return None
    return Footer(stamp, data_crc)


def is_unfinished(footer: bytes | bytearray | memoryview) -> bool:
    """Whether the last `FOOTER_SIZE` bytes are a footer that was never written."""
    return not any(memoryview(footer)[-FOOTER_SIZE:])


def check_needle_id(needle_id: int) -> None:
    """Refuse what cannot be a needle's id.

    Raises:
        BadRequest: not within 1 to 2^32 - 1.
    """
    if not 0 < needle_id <= NEEDLE_ID_MAX:
        raise BadRequest(f"a needle id is within 1 and {NEEDLE_ID_MAX}, not {needle_id}")


def check_data_size(data_size: int) -> None:
    """Refuse what a needle cannot hold.

    Raises:
        BadRequest: negative, or more than `DATA_SIZE_MAX`.
    """
    if not 0 <= data_size <= DATA_SIZE_MAX:
        raise BadRequest(f"a needle holds 0 to {DATA_SIZE_MAX} bytes, not {data_size}")
