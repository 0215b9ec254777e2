"""Conversation: what comes in is an answer, a request, or refused; without sockets."""

from __future__ import annotations

from contextlib import suppress

import msgspec
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from warehouse.errors import (
    BadRequest,
    DeadlineExceeded,
    LinkDown,
    MalformedMessage,
    NoSuchBucket,
    Overloaded,
    StoreError,
)
from warehouse.transport.messages import (
    FRAME_SIZE_MAX,
    Buckets,
    CreateBucket,
    Done,
    Envelope,
    ListBuckets,
    Refused,
    decode_envelope,
    encode_envelope,
)
from warehouse.transport.zeromq.conversation import Conversation


class Wire:
    """Where a conversation's frames go."""

    def __init__(self) -> None:
        self.sent: list[Envelope] = []
        self.failure: StoreError | None = None
        self.conversation = Conversation(incarnation=1, send=self.send)

    def send(self, frame: bytes) -> None:
        if self.failure is not None:
            raise self.failure
        self.sent.append(decode_envelope(frame))

    def hear(self, request_id: int, body: object, *, budget_ms: int | None = None, incarnation: int = 2):
        frame = encode_envelope(Envelope(incarnation, request_id, budget_ms, body))  # type: ignore[arg-type]
        return self.conversation.open(frame)


async def ask_in(nursery: trio.Nursery, wire: Wire, results: list[object], *, timeout_s: float = 5.0) -> int:
    """Ask in a task of its own; what came of it goes to `results`.  Returns the request id."""

    async def ask() -> None:
        try:
            results.append(await wire.conversation.ask(ListBuckets(), timeout_s=timeout_s))
        except StoreError as error:
            results.append(error)

    nursery.start_soon(ask)
    await trio.testing.wait_all_tasks_blocked()
    return wire.sent[-1].request_id


async def test_answers_reach_their_questions_in_any_order():
    wire, first, second = Wire(), [], []
    async with trio.open_nursery() as nursery:
        first_id = await ask_in(nursery, wire, first)
        second_id = await ask_in(nursery, wire, second)
        assert first_id < second_id
        assert wire.conversation.waiting_count == 2
        wire.hear(second_id, Done())
        wire.hear(first_id, Refused(code="no_such_bucket", message="none"))
    assert second == [Done()]
    assert [type(error) for error in first] == [NoSuchBucket]
    assert wire.conversation.waiting_count == 0


async def test_the_budget_sent_is_the_time_left(autojump_clock):
    wire, results = Wire(), []
    async with trio.open_nursery() as nursery:
        await ask_in(nursery, wire, results, timeout_s=1.5)
        assert wire.sent[-1].budget_ms == 1500
    assert [type(error) for error in results] == [DeadlineExceeded]
    assert wire.conversation.waiting_count == 0


@pytest.mark.parametrize("timeout_s", [0, -1, 0.0001])
async def test_without_time_left_nothing_is_sent(timeout_s):
    wire = Wire()
    with pytest.raises(DeadlineExceeded):
        await wire.conversation.ask(ListBuckets(), timeout_s=timeout_s)
    assert not wire.sent


async def test_an_endless_wait_has_a_budget_too(autojump_clock):
    wire, results = Wire(), []
    async with trio.open_nursery() as nursery:
        await ask_in(nursery, wire, results, timeout_s=float("inf"))
        assert wire.sent[-1].budget_ms == 3_600_000
        wire.hear(wire.sent[-1].request_id, Done())
    assert results == [Done()]


@pytest.mark.parametrize("failure", [LinkDown("gone"), Overloaded("full")])
async def test_a_question_that_cannot_be_sent_fails_and_leaves_nothing(failure):
    wire = Wire()
    wire.failure = failure
    with pytest.raises(type(failure)):
        await wire.conversation.ask(ListBuckets(), timeout_s=1)
    assert wire.conversation.waiting_count == 0


@pytest.mark.parametrize(
    "bucket", ["\ud800", "b" * (FRAME_SIZE_MAX + 1)], ids=["lone surrogate", "too large"]
)
async def test_a_question_that_cannot_be_written_is_a_bad_request(bucket):
    wire = Wire()
    with pytest.raises(BadRequest, match="CreateBucket"):
        await wire.conversation.ask(CreateBucket(bucket=bucket), timeout_s=1)
    assert not wire.sent


async def test_an_answer_that_cannot_be_written_is_an_error_for_whoever_waits(caplog):
    wire = Wire()
    wire.conversation.reply(5, Refused(code="x", message="m" * (FRAME_SIZE_MAX + 1)))
    assert isinstance(wire.sent[0].body, Refused)
    assert wire.sent[0].request_id == 5
    assert "cannot be sent" in caplog.text


async def test_the_end_reaches_everybody_and_is_final():
    wire, results = Wire(), []
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            await ask_in(nursery, wire, results)
        wire.conversation.end("the peer was killed")
        wire.conversation.end("again")
    assert [(type(error), str(error)) for error in results] == [(LinkDown, "the peer was killed")] * 3
    with pytest.raises(LinkDown, match="the peer was killed"):
        await wire.conversation.ask(ListBuckets(), timeout_s=1)
    sent = len(wire.sent)
    wire.conversation.reply(1, Done())
    assert len(wire.sent) == sent


async def test_a_cancelled_question_is_forgotten_and_its_late_answer_dropped():
    wire = Wire()
    with trio.move_on_after(0.01):
        await wire.conversation.ask(ListBuckets(), timeout_s=5)
    assert wire.conversation.waiting_count == 0
    assert wire.hear(wire.sent[-1].request_id, Done()) is None


async def test_work_is_cancelled_at_the_end_of_its_budget(autojump_clock):
    wire = Wire()
    request = wire.hear(1, ListBuckets(), budget_ms=2000)
    wire.conversation.begin(request)
    assert wire.conversation.running_count == 1
    started = trio.current_time()
    await wire.conversation.answer(request, trio.sleep_forever)
    assert trio.current_time() - started == pytest.approx(2)
    assert wire.sent[-1].body.code == "deadline_exceeded"
    assert wire.conversation.running_count == 0


async def test_an_answer_in_time_is_not_taken_for_late(autojump_clock):
    wire = Wire()
    request = wire.hear(1, ListBuckets(), budget_ms=2000)
    wire.conversation.begin(request)

    async def work() -> Buckets:
        await trio.sleep(1.9)
        return Buckets(buckets=[])

    await wire.conversation.answer(request, work)
    assert wire.sent[-1].body == Buckets(buckets=[])


REQUEST = encode_envelope(Envelope(2, 1, 1000, CreateBucket(bucket="photos")))


@given(st.binary(max_size=100))
def test_any_bytes_are_taken_or_refused(frame):
    wire = Wire()
    with suppress(StoreError):
        wire.conversation.open(frame)
    assert all(isinstance(envelope.body, Refused) for envelope in wire.sent)


@given(st.lists(st.tuples(st.integers(0, len(REQUEST) - 1), st.integers(0, 255)), max_size=5))
def test_a_damaged_request_is_taken_or_refused_and_others_still_are_heard(damage):
    wire, frame = Wire(), bytearray(REQUEST)
    for position, value in damage:
        frame[position] = value
    with suppress(StoreError):
        wire.conversation.open(bytes(frame))
    wire.conversation._their_incarnation = None  # the damage may have hit it
    assert wire.hear(2**64 - 1, ListBuckets(), budget_ms=1000, incarnation=9) is not None or wire.sent


@given(st.lists(st.integers(0, 20), max_size=40))
def test_each_request_id_is_taken_once_and_only_upwards(request_ids):
    wire, taken = Wire(), []
    for request_id in request_ids:
        try:
            envelope = wire.hear(request_id, ListBuckets(), budget_ms=1000)
        except MalformedMessage:
            envelope = None
        if envelope is not None:
            taken.append(request_id)
    assert taken == sorted(set(taken))
    assert taken == [
        value for index, value in enumerate(request_ids) if value > max([0, *request_ids[:index]])
    ]


def test_a_body_this_release_cannot_read_is_refused_by_its_id():
    wire = Wire()
    with pytest.raises(MalformedMessage):
        wire.conversation.open(msgspec.msgpack.encode([2, 9, 1000, {"kind": "of_a_later_release"}]))
    assert (wire.sent[0].request_id, wire.sent[0].body.code) == (9, "malformed_message")
