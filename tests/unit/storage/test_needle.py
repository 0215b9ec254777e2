"""The needle codec: sizes, what it refuses, and what one byte costs."""

from __future__ import annotations

from typing import Any

import pytest
from crc32c import crc32c
from msgspec import structs

from warehouse.errors import BadMetadata, BadRequest, NeedleCorrupt
from warehouse.storage.format.needle import (
    ALIGNMENT,
    BLOCK_SIZE,
    FLAG_STREAMED,
    FOOTER_SIZE,
    HEADER_SIZE,
    KIND_DATA,
    KIND_TOMBSTONE,
    MARK_SIZE,
    METADATA_SIZE_MAX,
    METADATA_SIZE_MAX_1,
    NEEDLE_ID_MAX,
    NEEDLE_OVERHEAD_MAX,
    ROLE_AMENDMENT,
    ROLE_MANIFEST,
    ROLE_PART,
    BucketRecord,
    NeedleMetadata,
    block_table,
    check_data_size,
    check_needle_id,
    decode_bucket,
    decode_footer,
    decode_header,
    decode_metadata,
    decode_needle,
    encode_bucket,
    encode_footer,
    encode_header,
    encode_mark,
    encode_metadata,
    format_needed,
    is_unfinished,
    place_seed,
    stored_size,
)

METADATA = NeedleMetadata("photos", 3, "2024/a.jpg", 1_750_000_000_000)
SEED = 0x1234_5678


def encode(data: bytes, *, needle_id: int = 9, seed: int = SEED, flags: int = 0) -> bytearray:
    metadata = encode_metadata(METADATA)
    header, header_crc = encode_header(KIND_DATA, flags, needle_id, metadata, len(data), seed)
    return bytearray(header + data + encode_footer(header_crc, 77, crc32c(data), block_table(data)))


def test_a_needle_comes_back_as_it_was_written() -> None:
    needle = decode_needle(encode(b"hello"), 9, SEED)
    assert bytes(needle.data) == b"hello"
    assert needle.metadata == METADATA
    assert (needle.needle_id, needle.stamp, needle.crc) == (9, 77, crc32c(b"hello"))


def test_an_empty_needle_is_a_needle() -> None:
    assert bytes(decode_needle(encode(b""), 9, SEED).data) == b""


def test_metadata_is_decoded_once() -> None:
    needle = decode_needle(encode(b"x"), 9, SEED)
    assert needle.metadata is needle.metadata


@pytest.mark.parametrize(
    ("size", "table_length"),
    [(0, 0), (1, 0), (BLOCK_SIZE, 0), (BLOCK_SIZE + 1, 8), (3 * BLOCK_SIZE, 12), (3 * BLOCK_SIZE + 1, 16)],
)
def test_only_needles_of_several_blocks_have_a_block_table(size: int, table_length: int) -> None:
    assert len(block_table(bytes(size))) == table_length
    unpadded = HEADER_SIZE + 10 + size + table_length + FOOTER_SIZE
    assert 0 <= stored_size(10, size) - unpadded < ALIGNMENT
    assert stored_size(10, size) % ALIGNMENT == 0


def test_the_fixed_overhead_of_a_needle_is_at_most_96_bytes() -> None:
    """Beyond the names the user chose: a chunk of a large upload, with every field filled in."""
    names = {"bucket": "b" * 31, "key": "k" * 200, "content_type": "image/jpeg"}
    user_metadata = {"camera": "old", "place": "sea"}
    metadata = NeedleMetadata(
        bucket=names["bucket"],
        bucket_id=60_000,
        key=names["key"],
        created_ms=1_750_000_000_000,
        content_type=names["content_type"],
        metadata=user_metadata,
        upload_id=(1 << 63) + 5,
        chunk_index=65_000,
        chunk_count=65_001,
        object_size=5 << 40,
    )
    chosen = sum(map(len, names.values()))
    chosen += sum(len(name) + 1 + len(value) + 1 for name, value in user_metadata.items())
    size = stored_size(len(encode_metadata(metadata)), BLOCK_SIZE)
    assert size - BLOCK_SIZE - chosen <= 96


def test_a_small_object_costs_less_than_72_bytes_beyond_its_names() -> None:
    size = stored_size(len(encode_metadata(METADATA)), 1000)
    assert size - 1000 - len("photos") - len("2024/a.jpg") <= 72


def test_the_reservation_bound_holds_for_the_largest_metadata_and_chunk() -> None:
    chunk = 80 * 1024 * 1024
    for size in (0, 1, BLOCK_SIZE + 1, chunk - 1, chunk):
        assert stored_size(METADATA_SIZE_MAX, size) - size <= NEEDLE_OVERHEAD_MAX


def test_all_that_the_edges_allow_fits_into_the_metadata() -> None:
    pairs, room = {}, 8 * 1024
    for number in range(10_000):
        name = chr(number + 1) if number < 127 else f"{chr(number % 120 + 1)}{chr(number // 120 + 1)}"
        room -= len(name.encode())
        if room < 0:
            break
        pairs[name] = ""
    metadata = NeedleMetadata(
        "b" * 63, 1 << 62, "k" * 1024, 1 << 47, "t" * 1024, pairs, (1 << 64) - 1, 1 << 31, 1 << 31, 1 << 60
    )
    assert len(pairs) > 3_500
    assert len(encode_metadata(metadata)) <= METADATA_SIZE_MAX_1
    full = structs.replace(
        metadata, attributes=bytes(16 * 1024), role=ROLE_MANIFEST, target=(1 << 31, 1 << 31)
    )
    assert len(encode_metadata(full)) <= METADATA_SIZE_MAX


PLAIN = NeedleMetadata("photos", 3, "a.jpg", 1_750_000_000_000, "image/jpeg", {"by": "me"}, 7, 1, 2, 10)


def test_metadata_without_role_and_attributes_is_what_older_releases_wrote() -> None:
    assert encode_metadata(PLAIN) == bytes.fromhex(
        "9aa670686f746f7303a5612e6a7067cf000001977420dc00aa696d6167652f6a70656781a26279a26d650701020a"
    )
    assert format_needed(encode_metadata(PLAIN)) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"attributes": b"x"},
        {"attributes": b"\xc4\x00"},  # its end looks like that of metadata without any
        {"role": ROLE_PART},
        {"role": ROLE_MANIFEST, "attributes": b"m" * 16 * 1024},
        {"role": ROLE_AMENDMENT, "target": (1, 1), "attributes": b""},
        {"target": (7, (1 << 32) - 1)},
    ],
)
def test_roles_attributes_and_targets_need_the_newest_format(changes: dict[str, Any]) -> None:
    metadata = structs.replace(PLAIN, **changes)
    encoded = encode_metadata(metadata)
    assert decode_metadata(encoded) == metadata
    assert format_needed(encoded) == 2


def test_longer_metadata_than_older_releases_read_needs_the_newest_format() -> None:
    longest = structs.replace(PLAIN, key="k" * (METADATA_SIZE_MAX_1 - len(encode_metadata(PLAIN)) + 3))
    assert len(encode_metadata(longest)) == METADATA_SIZE_MAX_1
    assert format_needed(encode_metadata(longest)) == 1
    assert format_needed(encode_metadata(structs.replace(longest, key=longest.key + "k"))) == 2


@pytest.mark.parametrize(
    ("record", "count"),
    [
        (BucketRecord(9, "photos", 1, is_deleted=False), 4),
        (BucketRecord(9, "photos", 1, True, "a" * 30), 7),
        (BucketRecord(9, "photos", 1, False, "\u00e0"), 7),  # its end looks like that of one without
        (BucketRecord(9, "photos", 1, False, "", True), 7),
        (BucketRecord(9, "photos", 1, False, "", False, "eu-west-1"), 7),
    ],
)
def test_a_bucket_record_tells_owner_lock_and_region_if_it_has_any(record: BucketRecord, count: int) -> None:
    encoded = encode_bucket(record)
    assert decode_bucket(encoded) == record
    assert encoded[0] == 0x90 | count


def test_metadata_that_cannot_be_stored_is_refused() -> None:
    with pytest.raises(BadMetadata):
        encode_metadata(NeedleMetadata("b", 1, "k" * METADATA_SIZE_MAX, 1))
    with pytest.raises(BadMetadata):
        encode_metadata(NeedleMetadata("b", 1, "lone surrogate \ud800", 1))
    with pytest.raises(BadMetadata):
        encode_metadata(NeedleMetadata("b", 1 << 70, "k", 1))


def test_the_wrong_needle_is_refused_though_it_is_whole() -> None:
    with pytest.raises(NeedleCorrupt, match="expected needle 10"):
        decode_needle(encode(b"x", needle_id=9), 10, SEED)


def test_a_tombstone_is_no_needle() -> None:
    with pytest.raises(NeedleCorrupt, match="expected needle 9"):
        decode_needle(encode_mark(KIND_TOMBSTONE, 9, 1, SEED), 9, SEED)


def test_a_needle_in_another_place_does_not_check() -> None:
    stored = encode(b"x", seed=place_seed(SEED, 4096))
    decode_needle(stored, 9, place_seed(SEED, 4096))
    for offset in (4104, 8192, 4096 + (1 << 34)):
        with pytest.raises(NeedleCorrupt, match="header"):
            decode_needle(stored, 9, place_seed(SEED, offset))


def test_a_footer_of_another_header_does_not_check() -> None:
    stored, other = encode(b"same"), encode(b"same", needle_id=10)
    stored[-FOOTER_SIZE:] = other[-FOOTER_SIZE:]
    with pytest.raises(NeedleCorrupt, match="footer"):
        decode_needle(stored, 9, SEED)


@pytest.mark.parametrize("kept", [0, 1, HEADER_SIZE - 1, HEADER_SIZE, MARK_SIZE, -FOOTER_SIZE, -1])
def test_a_truncated_needle_is_refused(kept: int) -> None:
    with pytest.raises(NeedleCorrupt):
        decode_needle(encode(b"some data")[:kept], 9, SEED)


def test_flags_of_a_later_release_are_refused_rather_than_guessed_at() -> None:
    with pytest.raises(NeedleCorrupt, match="flags"):
        decode_needle(encode(b"x", flags=128), 9, SEED)
    with pytest.raises(NeedleCorrupt, match="flags"):
        decode_header(encode(b"x", flags=128), SEED)
    header = decode_header(encode(b"x", flags=FLAG_STREAMED), SEED)
    assert header is not None
    assert header.is_streamed


def test_a_header_says_where_the_next_record_is() -> None:
    stored = encode(b"y" * 1000)
    header = decode_header(stored[: HEADER_SIZE + 100], SEED)
    assert header is not None
    assert header.table_offset + FOOTER_SIZE == len(stored)
    assert header.stored_size == len(stored) + -len(stored) % ALIGNMENT
    footer = decode_footer(header.crc, stored[header.table_offset :])
    assert footer is not None
    assert (footer.stamp, footer.data_crc) == (77, crc32c(b"y" * 1000))


def test_a_footer_of_zeros_is_unfinished_and_nothing_else_is() -> None:
    assert is_unfinished(b"data" + bytes(FOOTER_SIZE))
    assert not is_unfinished(b"data" + bytes(FOOTER_SIZE - 1) + b"\1")


@pytest.mark.parametrize("needle_id", [-1, 0, NEEDLE_ID_MAX + 1])
def test_needle_ids_out_of_bounds_are_refused(needle_id: int) -> None:
    with pytest.raises(BadRequest):
        check_needle_id(needle_id)


@pytest.mark.parametrize("size", [-1, 1 << 32])
def test_data_sizes_out_of_bounds_are_refused(size: int) -> None:
    with pytest.raises(BadRequest):
        check_data_size(size)
