"""Attributes: what an object carries beside its bytes, type and user metadata.  Pure: values in, bytes out.

Objects put over S3 have attributes: the MD5 that is their ETag, stored headers, tags, a checksum, an owner.
They are one msgpack map with short names.  The same bytes travel with a put, lie in the needle (element 10 of
its metadata, or in the manifest of a large object) and stand in the catalog, so nothing is translated on the
way and a rebuild finds what was there.  Empty bytes stand for no attributes.

    e  16 bytes: the MD5 of the object, or of the MD5s of its parts
    n  number of parts; absent: it was no multipart upload
    o  id of the account that owns the object; absent: the owner of the bucket
    h  stored headers beside the content type: name in small letters -> bytes of its value
    r  user metadata that is not UTF-8: name -> bytes of its value
    c  checksum: [name of the algorithm, is it COMPOSITE?, digest]
    t  tags: [[key, value], ...], in the order in which they came
    v  version id, 16 bytes
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta, field

from warehouse.errors import BadMetadata
from warehouse.transport.messages.numbers import Id32, Whole

ATTRIBUTES_SIZE_MAX: Final = 16 * 1024  # bytes, encoded: ten tags of the longest kind take most of it
MD5_SIZE: Final = 16
PART_COUNT_MAX: Final = 10_000

Md5 = Annotated[bytes, Meta(min_length=MD5_SIZE, max_length=MD5_SIZE)]
_ShortName = Annotated[str, Meta(min_length=1, max_length=1024)]
_Value = Annotated[bytes, Meta(max_length=8 * 1024)]
_TagKey = Annotated[str, Meta(min_length=1, max_length=128)]
_TagValue = Annotated[str, Meta(max_length=256)]


class ObjectChecksum(msgspec.Struct, frozen=True, array_like=True):
    """
    Attributes:
        algorithm: such as CRC64NVME.
        is_composite: of the digests of the parts, not of all bytes.
    """

    algorithm: Annotated[str, Meta(min_length=1, max_length=32)]
    is_composite: bool
    digest: Annotated[bytes, Meta(min_length=1, max_length=64)]


def etag_of_md5(md5: bytes, part_count: int | None) -> str:
    """The ETag of an object that S3 put; `part_count` is None for one that was no multipart upload."""
    return md5.hex() if part_count is None else f"{md5.hex()}-{part_count}"


class ObjectAttributes(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """See the module; names on the wire and on disk are short."""

    md5: Md5 | None = field(name="e", default=None)
    part_count: Annotated[int, Meta(ge=1, le=PART_COUNT_MAX)] | None = field(name="n", default=None)
    owner_id: Annotated[str, Meta(max_length=128)] = field(name="o", default="")
    headers: Annotated[dict[_ShortName, _Value], Meta(max_length=16)] = field(name="h", default={})
    raw_metadata: Annotated[dict[_ShortName, _Value], Meta(max_length=1024)] = field(name="r", default={})
    checksum: ObjectChecksum | None = field(name="c", default=None)
    tags: Annotated[tuple[tuple[_TagKey, _TagValue], ...], Meta(max_length=50)] = field(name="t", default=())
    version_id: Md5 | None = field(name="v", default=None)

    @property
    def etag(self) -> str | None:
        """What the object's ETag is; None: it follows from its first needle."""
        return None if self.md5 is None else etag_of_md5(self.md5, self.part_count)


NO_ATTRIBUTES: Final = ObjectAttributes()
_encode = msgspec.msgpack.Encoder(order="deterministic").encode
_decode = msgspec.msgpack.Decoder(ObjectAttributes).decode


def encode_attributes(attributes: ObjectAttributes) -> bytes:
    """
    Raises:
        BadMetadata: more than `ATTRIBUTES_SIZE_MAX` bytes, or a text that UTF-8 cannot hold.
    """
    if attributes == NO_ATTRIBUTES:
        return b""
    try:
        encoded = _encode(attributes)
    except UnicodeEncodeError as error:
        raise BadMetadata(f"the attributes of an object are text that UTF-8 can hold: {error}") from error
    _check_size(encoded)
    return encoded


def decode_attributes(encoded: bytes | memoryview) -> ObjectAttributes:
    """
    Raises:
        BadMetadata: they are longer than allowed, or not a map of the names and types above.
    """
    if not encoded:
        return NO_ATTRIBUTES
    _check_size(encoded)
    try:
        return _decode(encoded)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadMetadata(f"the attributes of an object cannot be read: {error}") from error


def _check_size(encoded: bytes | memoryview) -> None:
    if len(encoded) > ATTRIBUTES_SIZE_MAX:
        raise BadMetadata(
            f"the attributes of an object have at most {ATTRIBUTES_SIZE_MAX} bytes, these have {len(encoded)}"
        )


# --- where the chunks of parts stand --------------------------------------------------------------
#
# The parts of a multipart upload come in any order, are sent again, and leave gaps.  So the index of a chunk
# says where it belongs: chunks in the order of their indexes are the object, whatever came when.

PART_SHIFT: Final = 40
ATTEMPT_SHIFT: Final = 16
ATTEMPT_MAX: Final = (1 << PART_SHIFT - ATTEMPT_SHIFT) - 1  # whoever sends a part draws one at random
CHUNKS_OF_PART_MAX: Final = 1 << ATTEMPT_SHIFT
MANIFEST_INDEX: Final = 1 << 60  # of the needle that ends an upload: behind every chunk


def part_chunk_index(part_number: int, attempt: int, position: int) -> int:
    """The index of a chunk of a part.

    Args:
        part_number: 1 to 10,000.
        attempt: 0 to `ATTEMPT_MAX`; what is sent again never takes the place of what is there.
        position: of the chunk in the part, from 0.
    """
    return part_number << PART_SHIFT | attempt << ATTEMPT_SHIFT | position


def part_of_index(chunk_index: int) -> tuple[int, int, int]:
    """Part number, attempt and position of a chunk; part 0: it belongs to no part."""
    return (
        chunk_index >> PART_SHIFT,
        chunk_index >> ATTEMPT_SHIFT & ATTEMPT_MAX,
        chunk_index & CHUNKS_OF_PART_MAX - 1,
    )


# --- manifests ------------------------------------------------------------------------------------


class ManifestChunk(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A chunk, as the catalog knows it."""

    volume_id: Id32
    needle_id: Id32
    size: Whole
    crc: Id32


class ManifestPart(msgspec.Struct, frozen=True, array_like=True):
    """A part of a multipart upload; its chunks are the next `chunk_count` of the manifest."""

    number: Whole
    size: Whole  # bytes
    chunk_count: Whole
    md5: Md5
    checksum: ObjectChecksum | None = None
    created_ms: Whole = 0


class Manifest(msgspec.Struct, frozen=True, array_like=True):
    """The last needle of an upload that has one: what the object is, and where its bytes lie, in order.

    An array on disk: a new field goes to the end and has a default, no field is ever taken away.
    """

    format: Whole
    size: Whole  # bytes of the object
    attributes: bytes  # encoded
    chunks: list[ManifestChunk]
    parts: list[ManifestPart] = []  # empty: it was no multipart upload


MANIFEST_FORMAT: Final = 1
_encode_manifest = msgspec.msgpack.Encoder().encode
_decode_manifest = msgspec.msgpack.Decoder(Manifest).decode


def encode_manifest(manifest: Manifest) -> bytes:
    """The same manifest gives the same bytes: the master compares their CRC with that of the needle."""
    return _encode_manifest(manifest)


def decode_manifest(content: bytes | memoryview) -> Manifest:
    """
    Raises:
        BadMetadata: it is no manifest of this release, or its numbers contradict each other.
    """
    try:
        manifest = _decode_manifest(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadMetadata(f"a manifest cannot be read: {error}") from error
    if manifest.format != MANIFEST_FORMAT:
        raise BadMetadata(f"a manifest of format {manifest.format}; this release knows {MANIFEST_FORMAT}")
    if sum(chunk.size for chunk in manifest.chunks) != manifest.size:
        raise BadMetadata("the chunks of a manifest do not add up to the object")
    if manifest.parts and sum(part.chunk_count for part in manifest.parts) != len(manifest.chunks):
        raise BadMetadata("the parts of a manifest have other chunks than the manifest")
    decode_attributes(manifest.attributes)
    return manifest
