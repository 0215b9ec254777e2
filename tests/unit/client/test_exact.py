"""What the store says of an object is checked, and what is delivered of it is counted."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.client.reading.exact import (
    Count,
    is_consistent,
    require_chunk,
    require_consistent,
    require_range,
)
from warehouse.errors import NeedleCorrupt, ObjectInconsistent
from warehouse.transport.messages import Chunk, ObjectInfo

CHUNKS = [Chunk(1, 10, 100, 7), Chunk(2, 10, 50, 8)]
WHOLE = ObjectInfo(key="a", size=150, etag="1-a-7-2", created_ms=1, chunk_count=2, chunks=CHUNKS)


def test_chunks_that_add_up_are_believed() -> None:
    require_consistent(WHOLE, "a")
    require_consistent(ObjectInfo(key="e", size=0, etag="", created_ms=1, chunks=[Chunk(1, 1, 0, 0)]), "e")


@pytest.mark.parametrize(
    "lie",
    [
        {"chunks": []},
        {"chunks": CHUNKS[:1]},
        {"chunks": [*CHUNKS, Chunk(1, 11, 0, 0)]},
        {"chunk_count": 1},
        {"chunk_count": 0, "chunks": [], "size": 0},
        {"size": 149},
        {"size": 151},
        {"size": 0},
        {"key": "b"},
        {"chunks": [CHUNKS[0], CHUNKS[0]], "size": 200},
        {"chunks": [Chunk(1, 10, 200, 7), Chunk(1, 11, -50, 7)]},
        {"chunks": [Chunk(0, 10, 100, 7), CHUNKS[1]]},
        {"chunks": [Chunk(1, 2**32, 100, 7), CHUNKS[1]]},
        {"chunks": [Chunk(1, 10, 100, -1), CHUNKS[1]]},
        {"chunks": [Chunk(1, 10, 100, 2**32), CHUNKS[1]]},
    ],
)
def test_an_answer_that_contradicts_itself_is_refused(lie: dict[str, Any]) -> None:
    info = msgspec.structs.replace(WHOLE, **lie)
    assert not is_consistent(info, "a")
    with pytest.raises(ObjectInconsistent, match="'a' contradicts itself: "):
        require_consistent(info, "a")


@given(wanted=st.integers(0, 1000), pieces=st.lists(st.integers(0, 400)))
def test_a_read_delivers_its_size_or_raises(wanted: int, pieces: list[int]) -> None:
    count = Count(wanted, "photos/a")
    try:
        for piece in pieces:
            count.add(piece)
        count.require_all()
    except ObjectInconsistent:
        assert sum(pieces) != wanted
    else:
        assert sum(pieces) == wanted
    assert count.delivered <= wanted


def test_a_chunk_of_another_size_or_sum_is_damage() -> None:
    require_chunk(CHUNKS[0], 100, 7)
    for size, crc in ((99, 7), (100, 8)):
        with pytest.raises(NeedleCorrupt, match="volume 1, needle 10"):
            require_chunk(CHUNKS[0], size, crc)


@pytest.mark.parametrize("said", [None, "bytes 10-19/100", " bytes 10-19/100", "bytes 10-19/*"])
def test_the_part_that_was_asked_for_passes(said: str | None) -> None:
    require_range(said, CHUNKS[0], 10, 10)


@pytest.mark.parametrize(
    "said", ["bytes 0-9/100", "bytes 10-19/101", "bytes 10-20/100", "bytes */100", "items 10-19/100", ""]
)
def test_another_part_than_the_one_that_was_asked_for_is_damage(said: str) -> None:
    with pytest.raises(NeedleCorrupt, match="asked for 'bytes 10-19/100'"):
        require_range(said, CHUNKS[0], 10, 10)
