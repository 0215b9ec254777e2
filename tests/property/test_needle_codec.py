"""Whatever goes into a needle comes out of it, and not one bit of it can change unnoticed."""

from __future__ import annotations

import contextlib

import pytest
from crc32c import crc32c
from hypothesis import example, given, settings
from hypothesis import strategies as st

from warehouse.errors import NeedleCorrupt
from warehouse.storage.format.needle import (
    BLOCK_SIZE,
    FLAG_STREAMED,
    HEADER_SIZE,
    KIND_DATA,
    KIND_RESTAMP,
    KIND_TOMBSTONE,
    NEEDLE_ID_MAX,
    ROLE_PART,
    NeedleMetadata,
    block_table,
    decode_footer,
    decode_header,
    decode_metadata,
    decode_needle,
    encode_footer,
    encode_header,
    encode_mark,
    encode_metadata,
    place_seed,
    stored_size,
)

U64 = st.integers(0, (1 << 64) - 1)
TEXT = st.text(max_size=50)
METADATA = st.builds(
    NeedleMetadata,
    bucket=TEXT,
    bucket_id=U64,
    key=TEXT,
    created_ms=U64,
    content_type=st.none() | TEXT,
    metadata=st.dictionaries(TEXT, TEXT, max_size=5),
    upload_id=st.none() | U64,
    chunk_index=st.integers(0, 1 << 31),
    chunk_count=st.none() | st.integers(1, 1 << 31),
    object_size=st.none() | U64,
)
SEEDS = st.integers(0, (1 << 32) - 1)
NEEDLE_IDS = st.integers(1, NEEDLE_ID_MAX)
DATA = st.binary(max_size=300)


def encode(
    needle_id: int, metadata: NeedleMetadata, data: bytes, stamp: int, flags: int, seed: int
) -> bytearray:
    header, header_crc = encode_header(
        KIND_DATA, flags, needle_id, encode_metadata(metadata), len(data), seed
    )
    return bytearray(header + data + encode_footer(header_crc, stamp, crc32c(data), block_table(data)))


@given(NEEDLE_IDS, METADATA, DATA, U64, st.sampled_from([0, FLAG_STREAMED]), SEEDS)
def test_a_needle_comes_back_as_it_was_written(
    needle_id: int, metadata: NeedleMetadata, data: bytes, stamp: int, flags: int, seed: int
) -> None:
    stored = encode(needle_id, metadata, data, stamp, flags, seed)
    needle = decode_needle(stored + bytes(7), needle_id, seed)
    assert bytes(needle.data) == data
    assert needle.metadata == metadata
    assert (needle.needle_id, needle.stamp, needle.crc) == (needle_id, stamp, crc32c(data))
    size = stored_size(len(encode_metadata(metadata)), len(data))
    assert 0 <= size - len(stored) < 8


@given(NEEDLE_IDS, METADATA, DATA, U64, SEEDS, st.data())
def test_every_flipped_bit_is_noticed(
    needle_id: int, metadata: NeedleMetadata, data: bytes, stamp: int, seed: int, choice: st.DataObject
) -> None:
    stored = encode(needle_id, metadata, data, stamp, 0, seed)
    bit = choice.draw(st.integers(0, 8 * len(stored) - 1))
    stored[bit // 8] ^= 1 << bit % 8
    with pytest.raises(NeedleCorrupt):
        decode_needle(stored, needle_id, seed)


def test_every_single_bit_of_one_needle_and_of_one_mark_is_checked() -> None:
    metadata = NeedleMetadata("b", 1, "k", 2)
    stored = encode(9, metadata, b"some data", 3, 0, 77)
    mark = bytearray(encode_mark(KIND_TOMBSTONE, 9, 5, 77))
    for bit in range(8 * len(stored)):
        stored[bit // 8] ^= 1 << bit % 8
        with pytest.raises(NeedleCorrupt):
            decode_needle(stored, 9, 77)
        stored[bit // 8] ^= 1 << bit % 8
    for bit in range(8 * len(mark)):
        mark[bit // 8] ^= 1 << bit % 8
        header = decode_header(mark, 77)
        assert header is None or decode_footer(header.crc, mark[HEADER_SIZE:]) is None
        mark[bit // 8] ^= 1 << bit % 8


@settings(max_examples=30)
@given(st.integers(BLOCK_SIZE + 1, 3 * BLOCK_SIZE), st.data())
def test_every_flipped_bit_of_a_needle_of_several_blocks_is_noticed(size: int, choice: st.DataObject) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    stored = encode(9, NeedleMetadata("b", 1, "k", 2), data[:size], 3, 0, 77)
    bit = choice.draw(
        st.integers(0, 8 * len(stored) - 1) | st.integers(8 * (len(stored) - 40), 8 * len(stored) - 1)
    )
    stored[bit // 8] ^= 1 << bit % 8
    with pytest.raises(NeedleCorrupt):
        decode_needle(stored, 9, 77)


@given(st.sampled_from([KIND_TOMBSTONE, KIND_RESTAMP]), NEEDLE_IDS, U64, SEEDS)
def test_a_mark_comes_back_as_it_was_written(kind: int, needle_id: int, stamp: int, seed: int) -> None:
    mark = encode_mark(kind, needle_id, stamp, seed)
    header = decode_header(mark, seed)
    assert header is not None
    assert (header.kind, header.needle_id, header.stored_size) == (kind, needle_id, len(mark))
    footer = decode_footer(header.crc, mark[HEADER_SIZE:])
    assert footer is not None
    assert footer.stamp == stamp


@given(SEEDS, st.integers(0, 1 << 40), st.integers(1, (1 << 32) - 1))
def test_a_needle_is_bound_to_its_place(volume_seed: int, place: int, distance: int) -> None:
    """Anywhere else within 32 GiB its header does not check: with certainty, not by chance."""
    offset, elsewhere = 8 * place, 8 * (place + distance)
    stored = encode(9, NeedleMetadata("b", 1, "k", 2), b"x", 3, 0, place_seed(volume_seed, offset))
    assert decode_header(stored, place_seed(volume_seed, offset)) is not None
    assert decode_header(stored, place_seed(volume_seed, elsewhere)) is None


@given(st.binary(max_size=200), SEEDS)
def test_arbitrary_bytes_are_no_needle(content: bytes, seed: int) -> None:
    assert decode_header(content, seed) is None
    assert decode_footer(seed, content) is None
    with pytest.raises(NeedleCorrupt):
        decode_needle(content, 1, seed)


@example(b"\x94\xab" + bytes(10) + b"\x80")  # a string that is no UTF-8
@given(st.binary(max_size=100))
def test_metadata_decodes_or_is_refused(content: bytes) -> None:
    with contextlib.suppress(NeedleCorrupt):
        assert isinstance(decode_metadata(content), NeedleMetadata)


def test_deeply_nested_metadata_is_refused() -> None:
    with pytest.raises(NeedleCorrupt):
        decode_metadata(b"\x91" * 100_000)


def test_metadata_of_a_later_release_is_readable() -> None:
    """A field that this release does not know is at the end, and is passed over."""
    metadata = NeedleMetadata("b", 1, "k", 2, role=ROLE_PART)
    encoded = bytearray(encode_metadata(metadata))
    assert encoded[0] == 0x90 + 13
    encoded[0] += 1
    assert decode_metadata(bytes(encoded) + b"\xa3new") == metadata
