"""Joined CRCs are those of the joined bytes."""

from __future__ import annotations

from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from warehouse.storage.format.crc_combine import Joiner, join_crc
from warehouse.storage.format.needle import BLOCK_SIZE

JOINER = Joiner(48)


@given(before=st.binary(max_size=300), part=st.binary(max_size=300))
def test_a_part_of_any_size_is_joined(before: bytes, part: bytes) -> None:
    assert join_crc(crc32c(before), crc32c(part), len(part)) == crc32c(before + part)


@given(before=st.binary(max_size=300), part=st.binary(min_size=48, max_size=48))
def test_a_joiner_joins_parts_of_its_size(before: bytes, part: bytes) -> None:
    assert JOINER.join(crc32c(before), crc32c(part)) == crc32c(before + part)


@given(crc=st.integers(0, 2**32 - 1), part_crc=st.integers(0, 2**32 - 1))
def test_both_ways_to_join_are_one(crc: int, part_crc: int) -> None:
    assert JOINER.join(crc, part_crc) == join_crc(crc, part_crc, 48)


@given(byte=st.integers(0, 255), count=st.integers(0, 3))
def test_blocks_are_joined_one_after_the_other(byte: int, count: int) -> None:
    joiner, block, crc = Joiner(BLOCK_SIZE), bytes([byte]) * BLOCK_SIZE, 0
    for _ in range(count):
        crc = joiner.join(crc, crc32c(block))
    assert crc == crc32c(block * count)


def test_an_empty_part_changes_nothing() -> None:
    assert join_crc(crc32c(b"hello"), crc32c(b""), 0) == crc32c(b"hello")
    assert join_crc(0, crc32c(b"hello"), 5) == crc32c(b"hello")
