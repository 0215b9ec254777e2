"""Superblock and manifest: what a volume is, said twice.

The superblock opens every data file; the manifest names the generation that counts, and is replaced in one
atomic step when a compaction is published.  Both carry the same identity, so either can be restored from the
other when it is damaged.  Pure: bytes in, identity out.

    superblock: 4,096 bytes, little-endian
    offset  size  field
         0     8  magic       b"WHVOLUME"
         8     4  format      2; 1: made by an older release
        12     4  volume_id
        16    16  uuid
        32     4  generation
        36     4  zero
        40     8  capacity    bytes the file may grow to
        48     8  created_ms  since 1970, of the volume
        56     4  crc         CRC-32C of bytes 0-55
        60  4036  zero

    manifest: one line of text, here in two; the CRC-32C is that of the bytes before " crc32c="

        warehouse-manifest format=2 volume=7 uuid=0f14d0ab-9605-4a62-a9e4-5ed26688389b generation=1
        capacity=34359738368 created_ms=1750000000000 crc32c=89abcdef

The format says what the records of the file may say, so that an older release never passes over what it does
not know.  In format 2, the metadata of a needle may have a role, attributes and more bytes (`needle.py`).
Nothing else differs, so this release reads both.  A volume of format 1 becomes one of format 2 when it is
compacted.
"""

from __future__ import annotations

import re
import uuid
from struct import Struct
from typing import Final

import msgspec
from crc32c import crc32c

from warehouse.errors import FormatUnsupported, ManifestCorrupt, SuperblockCorrupt

FORMAT_NEWEST: Final = 2  # of all that is made; see the module
FORMATS: Final = frozenset((1, FORMAT_NEWEST))
SUPERBLOCK_SIZE: Final = 4096  # a page of its own: a bad sector there harms no needle
MAGIC: Final = b"WHVOLUME"
CAPACITY_MAX: Final = 1 << 48  # what the offsets of an index can tell apart
_U32_MAX: Final = (1 << 32) - 1
_TIME_MS_MAX: Final = 1 << 48  # the year 10889
_FIELDS: Final = Struct("<8sII16sIIQQ")
_CRC: Final = Struct("<I")
MANIFEST_SIZE_MAX: Final = 1024

_MANIFEST_FORMAT: Final = re.compile(rb"warehouse-manifest format=(\d{1,9}) ")
_MANIFEST_FIELDS: Final = re.compile(
    r"warehouse-manifest format=\d{1,9} volume=(\d{1,10}) uuid=([0-9a-f-]{36}) generation=(\d{1,10})"
    r" capacity=(\d{1,19}) created_ms=(\d{1,19})"
)


class VolumeIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """What superblock and manifest both say."""

    volume_id: int
    uuid: str
    generation: int
    capacity: int
    created_ms: int
    format: int = FORMAT_NEWEST  # what its records may say

    @property
    def seed(self) -> int:
        """What binds the CRCs of all records, and of the index, to this generation of this volume."""
        return crc32c(uuid.UUID(self.uuid).bytes + self.generation.to_bytes(4, "little"))


def encode_superblock(identity: VolumeIdentity) -> bytes:
    fields = _FIELDS.pack(
        MAGIC,
        identity.format,
        identity.volume_id,
        uuid.UUID(identity.uuid).bytes,
        identity.generation,
        0,
        identity.capacity,
        identity.created_ms,
    )
    return (fields + _CRC.pack(crc32c(fields))).ljust(SUPERBLOCK_SIZE, b"\0")


def decode_superblock(block: bytes | bytearray) -> VolumeIdentity:
    """Check and decode the first bytes of a data file.

    Raises:
        SuperblockCorrupt: it does not check.
        FormatUnsupported: it does, and a later release wrote it.
    """
    if len(block) < _FIELDS.size + _CRC.size:
        raise SuperblockCorrupt(f"the superblock ends after {len(block)} bytes")
    magic, version, volume_id, uuid_bytes, generation, _, capacity, created_ms = _FIELDS.unpack_from(block)
    if magic != MAGIC or _CRC.unpack_from(block, _FIELDS.size)[0] != crc32c(block[: _FIELDS.size]):
        raise SuperblockCorrupt("the superblock does not match its CRC")
    if version not in FORMATS:
        raise FormatUnsupported(f"data file of format {version}; this release knows up to {FORMAT_NEWEST}")
    identity = VolumeIdentity(
        volume_id=volume_id,
        uuid=str(uuid.UUID(bytes=uuid_bytes)),
        generation=generation,
        capacity=capacity,
        created_ms=created_ms,
        format=version,
    )
    if (problem := _problem(identity)) is not None:
        raise SuperblockCorrupt(f"the superblock passes its CRC, but {problem}")
    return identity


def encode_manifest(identity: VolumeIdentity) -> bytes:
    text = (
        f"warehouse-manifest format={identity.format} volume={identity.volume_id} uuid={identity.uuid}"
        f" generation={identity.generation} capacity={identity.capacity} created_ms={identity.created_ms}"
    ).encode("ascii")
    return text + b" crc32c=%08x\n" % crc32c(text)


def decode_manifest(content: bytes) -> VolumeIdentity:
    """Check and decode a manifest.

    Raises:
        ManifestCorrupt: it does not check.
        FormatUnsupported: it does, and a later release wrote it.
    """
    text, mark, crc = content.rpartition(b" crc32c=")
    if not mark or crc != b"%08x\n" % crc32c(text):
        raise ManifestCorrupt("the manifest does not match its CRC")
    version = _MANIFEST_FORMAT.match(text)
    if version is None or int(version[1]) not in FORMATS:
        raise FormatUnsupported(
            f"unknown manifest {text[:40]!r}; this release knows formats up to {FORMAT_NEWEST}"
        )
    fields = _MANIFEST_FIELDS.fullmatch(text.decode("ascii", "replace"))
    if fields is None:
        raise ManifestCorrupt(f"the manifest passes its CRC but does not read: {text!r}")
    try:
        canonical_uuid = str(uuid.UUID(fields[2]))
    except ValueError as error:
        raise ManifestCorrupt(f"the manifest passes its CRC, but {fields[2]!r} is no UUID") from error
    identity = VolumeIdentity(
        volume_id=int(fields[1]),
        uuid=canonical_uuid,
        generation=int(fields[3]),
        capacity=int(fields[4]),
        created_ms=int(fields[5]),
        format=int(version[1]),
    )
    if (problem := _problem(identity)) is not None:
        raise ManifestCorrupt(f"the manifest passes its CRC, but {problem}")
    return identity


def _problem(identity: VolumeIdentity) -> str | None:
    """What no volume says of itself; None: nothing.  A CRC does not say that it was us who wrote it."""
    numbers = (
        ("volume", identity.volume_id, 1, _U32_MAX),
        ("generation", identity.generation, 1, _U32_MAX),
        ("capacity", identity.capacity, SUPERBLOCK_SIZE, CAPACITY_MAX),
        ("created_ms", identity.created_ms, 0, _TIME_MS_MAX),
    )
    for name, number, least, most in numbers:
        if not least <= number <= most:
            return f"{name}={number} is not within {least} and {most}"
    return None
