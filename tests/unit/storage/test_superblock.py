"""Superblock and manifest say the same, and nothing that does not check is believed."""

from __future__ import annotations

import pytest
from crc32c import crc32c
from msgspec import structs

from warehouse.errors import FormatUnsupported, ManifestCorrupt, SuperblockCorrupt
from warehouse.storage.format.superblock import (
    SUPERBLOCK_SIZE,
    VolumeIdentity,
    decode_manifest,
    decode_superblock,
    encode_manifest,
    encode_superblock,
)

IDENTITY = VolumeIdentity(
    volume_id=7,
    uuid="0f14d0ab-9605-4a62-a9e4-5ed26688389b",
    generation=3,
    capacity=32 << 30,
    created_ms=1_750_000_000_000,
)
OLD = structs.replace(IDENTITY, format=1)


def test_both_come_back_as_they_were_written() -> None:
    assert decode_superblock(encode_superblock(IDENTITY)) == IDENTITY
    assert decode_manifest(encode_manifest(IDENTITY)) == IDENTITY
    assert len(encode_superblock(IDENTITY)) == SUPERBLOCK_SIZE


def test_volumes_of_the_older_format_keep_it_and_every_byte() -> None:
    assert decode_superblock(encode_superblock(OLD)) == OLD
    assert decode_manifest(encode_manifest(OLD)) == OLD
    assert encode_superblock(OLD)[8:12] == b"\1\0\0\0"
    assert encode_manifest(OLD) == (
        b"warehouse-manifest format=1 volume=7 uuid=0f14d0ab-9605-4a62-a9e4-5ed26688389b generation=3"
        b" capacity=34359738368 created_ms=1750000000000 crc32c=b5707be1\n"
    )


def test_a_manifest_is_a_line_that_people_can_read() -> None:
    assert encode_manifest(IDENTITY) == (
        b"warehouse-manifest format=2 volume=7 uuid=0f14d0ab-9605-4a62-a9e4-5ed26688389b generation=3"
        b" capacity=34359738368 created_ms=1750000000000 crc32c=750aa73f\n"
    )


def test_every_flipped_bit_is_noticed() -> None:
    block, manifest = bytearray(encode_superblock(IDENTITY)[:60]), bytearray(encode_manifest(IDENTITY))
    for bit in range(8 * len(block)):
        block[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SuperblockCorrupt):
            decode_superblock(block)
        block[bit // 8] ^= 1 << bit % 8
    for bit in range(8 * len(manifest)):
        manifest[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ManifestCorrupt):
            decode_manifest(bytes(manifest))
        manifest[bit // 8] ^= 1 << bit % 8


@pytest.mark.parametrize("size", [0, 1, 59])
def test_a_short_superblock_is_refused(size: int) -> None:
    with pytest.raises(SuperblockCorrupt, match=str(size)):
        decode_superblock(encode_superblock(IDENTITY)[:size])


def signed(text: bytes) -> bytes:
    return text + b" crc32c=%08x\n" % crc32c(text)


def test_later_formats_are_told_from_damage() -> None:
    block = bytearray(encode_superblock(IDENTITY))
    block[8] = 3
    block[56:60] = crc32c(block[:56]).to_bytes(4, "little")
    with pytest.raises(FormatUnsupported):
        decode_superblock(block)
    with pytest.raises(FormatUnsupported):
        decode_manifest(signed(b"warehouse-manifest format=3 volumes=[7, 8]"))


@pytest.mark.parametrize(
    "text",
    [
        b"warehouse-manifest format=1 volume=7",
        b"warehouse-manifest format=1 volume=-7 uuid=0f14d0ab-9605-4a62-a9e4-5ed26688389b generation=3"
        b" capacity=1 created_ms=1",
        b"warehouse-manifest format=1 volume=\xff",
    ],
)
def test_a_manifest_that_checks_but_does_not_read_is_refused(text: bytes) -> None:
    with pytest.raises(ManifestCorrupt):
        decode_manifest(signed(text))


def test_the_seed_differs_between_volumes_and_generations() -> None:
    others = [
        VolumeIdentity(volume_id=7, uuid=IDENTITY.uuid, generation=4, capacity=1, created_ms=1),
        VolumeIdentity(
            volume_id=7,
            uuid="0f14d0ab-9605-4a62-a9e4-5ed26688389c",
            generation=3,
            capacity=1,
            created_ms=1,
        ),
    ]
    assert len({IDENTITY.seed, *(other.seed for other in others)}) == 3
