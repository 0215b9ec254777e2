"""Messages: every kind survives the wire, older releases stay readable, and nonsense is named as such."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from message_samples import KINDS, SAMPLES
from warehouse.errors import MalformedMessage
from warehouse.transport import messages
from warehouse.transport.messages import (
    FRAME_SIZE_MAX,
    Answer,
    CreateBucket,
    Envelope,
    Request,
    decode_envelope,
    encode_envelope,
    etag_of,
)

FROZEN_FILES = sorted(Path(__file__).parent.glob("frozen_messages_*.txt"))


def frozen_frames() -> list[Any]:
    """Each frame that a release wrote: `kind hex`, one a line."""
    return [
        pytest.param(*line.split(), id=f"{path.stem}-{line.split()[0]}")
        for path in FROZEN_FILES
        for line in path.read_text().splitlines()
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_survives_the_wire(kind):
    envelope = Envelope(5, 6, 7 if KINDS[kind] in get_args(Request) else None, SAMPLES[kind])
    assert decode_envelope(encode_envelope(envelope)) == envelope


@pytest.mark.parametrize(("kind", "frame"), frozen_frames())
def test_what_a_release_wrote_reads_the_same_forever(kind, frame):
    assert decode_envelope(bytes.fromhex(frame)).body == SAMPLES[kind]


def test_every_kind_of_this_release_is_frozen():
    frozen = {line.split()[0] for path in FROZEN_FILES for line in path.read_text().splitlines()}
    assert set(SAMPLES) == set(KINDS)
    missing = [
        f"{kind} {encode_envelope(Envelope(5, 6, None, SAMPLES[kind])).hex()}"
        for kind in KINDS
        if kind not in frozen
    ]
    assert not missing, "add to the newest frozen_messages file:\n" + "\n".join(missing)


def test_no_tag_names_two_kinds():
    assert len(KINDS) == len({*get_args(Request), *get_args(Answer)})


# --- values of every kind, made from the types themselves -----------------------------------------


def values_of(kind: msgspec.inspect.Type) -> st.SearchStrategy[Any]:
    info = msgspec.inspect
    match kind:
        case info.IntType():
            return st.integers(
                -(2**63) if kind.ge is None else kind.ge, 2**64 - 1 if kind.le is None else kind.le
            )
        case info.FloatType():
            return st.floats(allow_nan=False)
        case info.StrType():
            least, most = _lengths(kind)
            return st.text(st.characters(exclude_categories=["Cs"]), min_size=least, max_size=most)
        case info.BytesType():
            least, most = _lengths(kind)
            return st.binary(min_size=least, max_size=most)
        case info.BoolType():
            return st.booleans()
        case info.NoneType():
            return st.none()
        case info.UnionType():
            return st.one_of([values_of(one) for one in kind.types])
        case info.ListType():
            return st.lists(values_of(kind.item_type), max_size=3)
        case info.TupleType():
            return st.tuples(*[values_of(one) for one in kind.item_types])
        case info.DictType():
            return st.dictionaries(values_of(kind.key_type), values_of(kind.value_type), max_size=3)
        case info.StructType():
            names = [field.name for field in kind.fields]
            return st.tuples(*[values_of(field.type) for field in kind.fields]).map(
                lambda values: kind.cls(**dict(zip(names, values, strict=True)))
            )
    raise AssertionError(f"a message has a field of a new sort: {kind}")


def _lengths(kind: msgspec.inspect.StrType | msgspec.inspect.BytesType) -> tuple[int, int]:
    """The shortest and the longest that is tried."""
    least = kind.min_length or 0
    return least, min(least + 20, kind.max_length or least + 20)


BODIES = st.sampled_from(sorted(KINDS)).flatmap(lambda tag: values_of(msgspec.inspect.type_info(KINDS[tag])))


@given(body=BODIES, request_id=st.integers(0, 2**64 - 1), budget_ms=st.none() | st.integers(0, 2**31))
def test_whatever_the_types_allow_survives_the_wire(body, request_id, budget_ms):
    envelope = Envelope(1, request_id, budget_ms, body)
    assert decode_envelope(encode_envelope(envelope)) == envelope


# --- what later releases may do -------------------------------------------------------------------


def test_fields_that_this_release_does_not_know_are_ignored():
    frame = msgspec.msgpack.encode(
        [1, 2, 3, {"kind": "create_bucket", "bucket": "b", "colour": "red"}, "more"]
    )
    assert decode_envelope(frame) == Envelope(1, 2, 3, CreateBucket(bucket="b"))


# --- nonsense -------------------------------------------------------------------------------------

SOUND = {"kind": "create_bucket", "bucket": "b"}
MALFORMED = {
    "nothing": b"",
    "no msgpack": b"\xc1",
    "a number": b"\x07",
    "a map": msgspec.msgpack.encode(SOUND),
    "too short": msgspec.msgpack.encode([1, 2, 3]),
    "trailing bytes": msgspec.msgpack.encode([1, 2, 3, SOUND]) + b"\0",
    "cut off": msgspec.msgpack.encode([1, 2, 3, SOUND])[:-1],
    "an unknown kind": msgspec.msgpack.encode([1, 2, 3, {"kind": "format_disk"}]),
    "a kind that is a number": msgspec.msgpack.encode([1, 2, 3, {"kind": 5}]),
    "no kind": msgspec.msgpack.encode([1, 2, 3, {"bucket": "b"}]),
    "two kinds": b"\x94\x01\x02\x03\x83\xa4kind\xaddelete_bucket\xa4kind\xaclist_buckets\xa1x\x01",
    "a missing field": msgspec.msgpack.encode([1, 2, 3, {"kind": "create_bucket"}]),
    "a field of the wrong type": msgspec.msgpack.encode([1, 2, 3, {"kind": "create_bucket", "bucket": 5}]),
    "a float for a number": msgspec.msgpack.encode([1, 2.5, 3, SOUND]),
    "text for a number": msgspec.msgpack.encode([1, "2", 3, SOUND]),
    "a boolean for a number": msgspec.msgpack.encode([1, True, 3, SOUND]),
    "text that is not UTF-8": b"\x94\x01\x02\x03\x82\xa4kind\xadcreate_bucket\xa6bucket\xa2\xff\xfe",
    "a forged text length": b"\x94\x01\x02\x03\x82\xa4kind\xdb\xff\xff\xff\xffcreate_bucket",
    "a forged list length": b"\x94\x01\x02\x03\x82\xa4kind\xaelocate_objects\xa4keys\xdd\xff\xff\xff\xff",
    "a forged map length": b"\x94\x01\x02\x03\xdf\xff\xff\xff\xff\xa4kind",
    "deep nesting": b"\x94\x01\x02\x03\x82\xa1x" + b"\x91" * 100_000 + b"\x90\xa4kind\xaclist_buckets",
    "deep nesting for an envelope": b"\x91" * 1_000_000,
    "an extension type": b"\x94\x01\x02\x03\xc7\x01\x05\x00",
}


@pytest.mark.parametrize("frame", MALFORMED.values(), ids=MALFORMED)
def test_nonsense_is_a_malformed_message(frame):
    with pytest.raises(MalformedMessage):
        decode_envelope(frame)


def test_a_frame_beyond_the_limit_is_not_even_looked_at():
    with pytest.raises(MalformedMessage, match=str(FRAME_SIZE_MAX)):
        decode_envelope(b"\xc1" * (FRAME_SIZE_MAX + 1))


@given(frame=st.binary(max_size=200))
def test_random_bytes_are_a_message_or_malformed(frame):
    try:
        decode_envelope(frame)
    except MalformedMessage:
        return


@given(tag=st.sampled_from(sorted(SAMPLES)), data=st.data())
def test_a_changed_byte_is_a_message_or_malformed(tag, data):
    frame = bytearray(encode_envelope(Envelope(5, 6, 7, SAMPLES[tag])))
    for _ in range(data.draw(st.integers(1, 3))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    try:
        envelope = decode_envelope(frame)  # type: ignore[arg-type]
    except MalformedMessage:
        return
    encode_envelope(envelope)  # what was let in can be said again


def test_messages_bring_neither_the_loop_nor_the_sockets_along():
    check = "import sys, warehouse.transport.messages; print(sorted({'trio', 'zmq'} & set(sys.modules)))"
    command = [sys.executable, "-c", check]
    root = Path(messages.__file__).parents[3]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"


def test_an_etag_names_the_first_needle_and_the_number_of_chunks():
    assert etag_of(7, 255, 0xABCD) == "7-ff-0000abcd"
    assert etag_of(7, 255, 0xABCD, chunk_count=3) == "7-ff-0000abcd-3"
    assert etag_of(7, 255, 0xABCD) != etag_of(7, 254, 0xABCD)
