"""The layout of batches: what is written is read again, and what is wrong is refused before it is used."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.errors import (
    BadRequest,
    BodyTooLarge,
    NeedleCorrupt,
    NoSuchNeedle,
    PreconditionFailed,
    ReadFailed,
    Unavailable,
    VolumeSealed,
)
from warehouse.transport.http import batch_format
from warehouse.transport.http.batch_format import FRAME, HEAD_SIZE, ITEM_SIZE_MAX, Outcome, PutHead

KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


@given(
    needle_id=st.integers(1, 2**32 - 1),
    key=KEYS,
    size=st.integers(0, ITEM_SIZE_MAX),
    crc=st.integers(0, 2**32 - 1),
    content_type=st.none() | st.just("text/plain"),
    metadata=st.dictionaries(KEYS, KEYS, max_size=3),
    if_match=st.none() | st.just("*"),
)
def test_a_head_is_read_as_it_was_written(**fields: object) -> None:
    head = PutHead(**fields)  # type: ignore[arg-type]
    written = batch_format.encode_put_head(head)
    size = batch_format.decode_head_size(written[: HEAD_SIZE.size])
    assert size == len(written) - HEAD_SIZE.size
    assert batch_format.decode_put_head(memoryview(written)[HEAD_SIZE.size :]) == head


def test_the_largest_head_that_users_may_make_fits() -> None:
    pairs = {chr(0x100 + number): "" for number in range(4096)}  # 8 KiB of names, as many as can be
    head = PutHead(2**32 - 1, "k" * 1024, ITEM_SIZE_MAX, 2**32 - 1, "t" * 255, pairs, "e" * 255, "e" * 255)
    written = batch_format.encode_put_head(head)
    assert batch_format.decode_head_size(written[:4]) == len(written) - 4


def test_a_head_of_a_later_release_has_more_fields_and_is_read() -> None:
    encoded = msgspec.msgpack.encode([1, "k", 3, 4, None, {}, None, None, b"", None, "later"])
    assert batch_format.decode_put_head(encoded) == PutHead(1, "k", 3, 4)


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode({"needle_id": 1}),
        msgspec.msgpack.encode([1, "k", 3]),
        msgspec.msgpack.encode(["1", "k", 3, 4]),
        msgspec.msgpack.encode([1, b"k", 3, 4]),
        msgspec.msgpack.encode([1, "k", -1, 4]),
        msgspec.msgpack.encode([1, "k", ITEM_SIZE_MAX + 1, 4]),
        msgspec.msgpack.encode([1, "k", 2**63, 4]),
        msgspec.msgpack.encode([1, "k", 3, 2**32]),
        msgspec.msgpack.encode([1, "k", 3, 4, None, {"a": 1}]),
        b"\x94\x01\xa2\xed\xa0\x03\x04",  # a key that is no UTF-8
        b"\x91" * 20_000,  # nested
    ],
)
def test_a_head_that_is_none_is_refused(encoded: bytes) -> None:
    with pytest.raises(BadRequest):
        batch_format.decode_put_head(encoded)


def test_a_head_that_claims_to_be_huge_is_refused_before_it_is_read() -> None:
    with pytest.raises(BadRequest):
        batch_format.decode_head_size(HEAD_SIZE.pack(2**32 - 1))


@pytest.mark.parametrize(
    "body", [b"", b"\xc0", b"\x80", b"\x90", b"\x91\xa1k", b"\x91\x00", b"\x91\xce\xff\xff\xff\xff\x00"]
)
def test_a_question_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        batch_format.decode_ids(body)


def test_at_most_so_many_needles_are_asked_for_and_their_question_fits() -> None:
    most = [2**32 - 1] * batch_format.ITEMS_MAX
    assert batch_format.decode_ids(batch_format.encode_ids(most)) == most
    assert len(batch_format.encode_ids(most)) <= batch_format.GET_SIZE_MAX
    for needle_ids in ([1] * (batch_format.ITEMS_MAX + 1), [2**32], [-1]):
        with pytest.raises(BadRequest):
            batch_format.decode_ids(batch_format.encode_ids(needle_ids))


# --- outcomes -------------------------------------------------------------------------------------


def test_outcomes_are_read_as_they_were_written() -> None:
    outcomes = [
        batch_format.stored("1-2-abc", 1234),
        batch_format.failed(PreconditionFailed("it has another")),
    ]
    assert batch_format.decode_outcomes(batch_format.encode_outcomes(outcomes), 2) == [
        Outcome("1-2-abc", 1234),
        Outcome("precondition_failed", "it has another"),
    ]


def test_the_last_failure_speaks_for_all_that_follow() -> None:
    outcomes = [batch_format.stored("e", 1), batch_format.failed(BadRequest("no head"))]
    read = batch_format.decode_outcomes(batch_format.encode_outcomes(outcomes), 4)
    assert [outcome.word for outcome in read] == ["e", "bad_request", "bad_request", "bad_request"]


@pytest.mark.parametrize(
    "outcomes",
    [[], [batch_format.stored("e", 1)], [batch_format.stored("e", 1)] * 3],
    ids=["none", "a success that would speak for another", "too many"],
)
def test_outcomes_that_do_not_fit_the_question_are_no_answer(outcomes: list[Outcome]) -> None:
    with pytest.raises(Unavailable):
        batch_format.decode_outcomes(batch_format.encode_outcomes(outcomes), 2)


@pytest.mark.parametrize("body", [b"", b"\xc0", b"\x91\xc0", b"{}", b"\x91\x92\x01\x02"])
def test_what_is_no_list_of_outcomes_is_no_answer(body: bytes) -> None:
    with pytest.raises(Unavailable):
        batch_format.decode_outcomes(body, 1)


# --- frames ---------------------------------------------------------------------------------------


def frame(needle_id: int, data: bytes, state: int = 0, size: int | None = None) -> bytes:
    return FRAME.pack(needle_id, state, len(data) if size is None else size, 7) + data


def test_frames_are_cut_where_they_end() -> None:
    body = frame(5, b"five") + frame(6, b"", state=1) + frame(7, b"\0\0", state=2)
    frames = [*batch_format.read_frames(body, [5, 6, 7])]
    assert [(one.needle_id, one.state, bytes(one.data)) for one in frames] == [
        (5, 0, b"five"),
        (6, 1, b""),
        (7, 2, b"\0\0"),
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        frame(5, b"five")[:-1],
        frame(5, b"five"),
        frame(5, b"five") + frame(5, b"five"),
        frame(5, b"five") + frame(6, b"", size=2**32 - 1),
        frame(5, b"five") + frame(6, b"six") + b"\0",
    ],
    ids=["empty", "cut", "one missing", "another needle", "size beyond the end", "a byte too many"],
)
def test_frames_that_do_not_fit_the_question_are_no_answer(body: bytes) -> None:
    with pytest.raises(Unavailable):
        [*batch_format.read_frames(body, [5, 6])]


def test_every_failure_has_a_number_and_every_number_an_error() -> None:
    for error in (NoSuchNeedle("x"), NeedleCorrupt("x"), ReadFailed("x"), BodyTooLarge("x")):
        assert type(batch_format.error_of(batch_format.state_of(error), 1, 2)) is type(error)
    assert batch_format.state_of(VolumeSealed("not named")) == batch_format.state_of(ReadFailed("x"))
    assert isinstance(batch_format.error_of(4711, 1, 2), Unavailable)
