"""Conversation: both directions of one connection, as plain bookkeeping over frames.

A conversation knows which of our requests wait for an answer, and which requests of the other side are in
work.  Hub and Link have one for every connection.  It ends with the connection, so no answer ever reaches the
wrong question.  No sockets here: the owner passes `send`.

Rules for what comes in:

    - every frame carries the incarnation that the first one carried;
    - request ids grow, so a repeated request is recognised and never carried out twice;
    - an answer that nobody waits for (any more) is dropped;
    - a frame that cannot be read is refused if it shows a request id, and otherwise dropped.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import NamedTuple, get_args

import msgspec
import trio

from warehouse.errors import (
    BadRequest,
    Busy,
    DeadlineExceeded,
    LinkDown,
    MalformedMessage,
    Overloaded,
    StaleIncarnation,
    StoreError,
    from_code,
)
from warehouse.transport.messages import (
    FRAME_SIZE_MAX,
    Answer,
    Done,
    Envelope,
    Refused,
    Request,
    decode_envelope,
    encode_envelope,
)

log = logging.getLogger(__name__)

BUDGET_MAX_MS = 3_600_000  # a longer wait is cut to this, so that no task lives forever
PROBE_ID = 0  # the request id of a probe: `Done` to it says "alive"; requests begin with 1
REFUSAL_SIZE_MAX = 2000  # characters of a refusal's sentence

_answered_id: ContextVar[int] = ContextVar("answered_id")  # the request that this task answers
_REQUESTS = frozenset(get_args(Request))


class _Head(NamedTuple):
    """The start of an envelope, for frames whose body is not read."""

    incarnation: int
    request_id: int
    budget_ms: int | None


# An array of at least four, and its first three.  The rest may be megabytes of anything, so it is not walked.
_INT = rb"([\x00-\x7f\xe0-\xff]|[\xcc\xd0].|[\xcd\xd1]..|[\xce\xd2].{4}|[\xcf\xd3].{8})"
_HEAD = re.compile(rb"(?:[\x94-\x9f]|\xdc..|\xdd.{4})" + _INT + _INT + rb"(\xc0|" + _INT[1:], re.DOTALL)
_HEAD_SIZE_MAX = 5 + 3 * 9


def _head_of(frame: bytes | memoryview) -> _Head | None:
    match = _HEAD.match(bytes(frame[:_HEAD_SIZE_MAX]))
    return None if match is None else _Head(*(msgspec.msgpack.decode(number) for number in match.groups()))


def refusal_of(error: StoreError) -> Refused:
    retry_after_s = error.retry_after_s if isinstance(error, Busy) else 0.0
    return Refused(code=error.code, message=error.message[:REFUSAL_SIZE_MAX], retry_after_s=retry_after_s)


def refuse_unopened(frame: bytes | memoryview, error: StoreError, *, incarnation: int) -> bytes:
    """Encode the refusal of a request from a sender without a conversation."""
    head = _head_of(frame)
    request_id = head.request_id if head is not None else 0  # 0: no request has it
    return encode_envelope(Envelope(incarnation, request_id, None, refusal_of(error)))


class _Waiter:
    """A task that waits for an answer, and the result."""

    __slots__ = ("_task", "result")

    def __init__(self) -> None:
        self.result: Answer | StoreError | None = None
        self._task = trio.lowlevel.current_task()

    def settle(self, result: Answer | StoreError) -> None:
        self.result = result
        trio.lowlevel.reschedule(self._task)


class Conversation:
    """One connection's questions and answers.

    Args:
        incarnation: our own boot number, written on every frame.
        send: hands one frame to the connection without waiting; raises LinkDown or Overloaded.
    """

    def __init__(self, *, incarnation: int, send: Callable[[bytes], None]) -> None:
        self._incarnation = incarnation
        self._send = send
        self._their_incarnation: int | None = None
        self._next_id = 1
        self._waiting: dict[int, _Waiter] = {}
        self._last_id = 0  # the greatest request id that they used
        self._running: set[int] = set()  # their requests that have a task
        self.has_shown_life = False  # they have answered a probe: a release that can
        self._ended: LinkDown | None = None

    @property
    def waiting_count(self) -> int:
        """How many of our questions wait for their answer."""
        return len(self._waiting)

    @property
    def running_count(self) -> int:
        """How many of their questions we are working on."""
        return len(self._running)

    @property
    def request_id(self) -> int:
        """Which of their requests is being answered: by this task, or in the turn that opened its frame."""
        return _answered_id.get(self._last_id)

    # --- what we ask ------------------------------------------------------------------------------

    async def ask(self, body: Request, *, timeout_s: float) -> Answer:
        """Send a request and wait for its answer.

        Raises:
            LinkDown: the connection is gone, or goes before the answer comes.
            DeadlineExceeded: no answer in time; the request may or may not have taken effect.
            StoreError: the other side refused the request with it.
        """
        if self._ended is not None:
            raise LinkDown(self._ended.message)
        budget_ms = max(0, int(min(timeout_s * 1000, BUDGET_MAX_MS)))
        if budget_ms == 0:
            raise DeadlineExceeded(f"no time left for {type(body).__name__}")
        request_id = self._next_id
        self._next_id += 1
        self._send(self._encode(request_id, budget_ms, body))
        with trio.CancelScope(deadline=trio.current_time() + timeout_s):
            result = await self._wait(request_id)
            if isinstance(result, StoreError):
                raise result
            if isinstance(result, Refused):
                raise from_code(result.code, result.message, result.retry_after_s)
            return result
        raise DeadlineExceeded(f"no answer to {type(body).__name__} within {timeout_s:.3g} s")

    async def _wait(self, request_id: int) -> Answer | StoreError:
        waiter = self._waiting[request_id] = _Waiter()

        def abort(_: object) -> trio.lowlevel.Abort:
            del self._waiting[request_id]
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
        assert waiter.result is not None
        return waiter.result

    def _encode(self, request_id: int, budget_ms: int | None, body: Request | Answer) -> bytes:
        try:
            frame = encode_envelope(Envelope(self._incarnation, request_id, budget_ms, body))
        except (TypeError, ValueError, OverflowError) as error:  # a lone surrogate, a number beyond 64 bits
            raise BadRequest(f"{type(body).__name__} cannot be sent: {error}") from error
        if len(frame) > FRAME_SIZE_MAX:
            raise BadRequest(
                f"{type(body).__name__} takes {len(frame)} bytes, a message has at most {FRAME_SIZE_MAX}"
            )
        return frame

    # --- what they say ----------------------------------------------------------------------------

    def open(
        self,
        frame: bytes | memoryview,
        decode: Callable[[bytes | memoryview], Envelope] = decode_envelope,
    ) -> Envelope | None:
        """Take one frame; return it when it is a request that should be carried out now.

        Args:
            decode: reads what this peer may say; the error it raises is the refusal.
        Raises:
            StoreError: for the log; the sender has been told already.
        """
        try:
            envelope = decode(frame)
        except StoreError as error:
            self.refuse_unread(frame, error)
            raise
        if self._their_incarnation is None:
            self._their_incarnation = envelope.incarnation
        if envelope.incarnation != self._their_incarnation:
            stale = StaleIncarnation(
                f"this connection is with {self._their_incarnation:x}, not with {envelope.incarnation:x}"
            )
            if envelope.budget_ms is not None:
                self.reply(envelope.request_id, refusal_of(stale))
            raise stale
        is_request = type(envelope.body) in _REQUESTS
        if envelope.budget_ms is None:
            if is_request:
                raise MalformedMessage("a request without a budget")
            if envelope.request_id == PROBE_ID:
                self.has_shown_life = True
                return None
            self._settle(envelope.request_id, envelope.body)  # type: ignore[arg-type]
            return None
        if is_request and envelope.request_id > self._last_id:
            self._last_id = envelope.request_id
            if envelope.budget_ms > 0:
                return envelope
            late = DeadlineExceeded(f"no time left for {type(envelope.body).__name__}")
            self.reply(envelope.request_id, refusal_of(late))
            return None
        if is_request and envelope.request_id in self._running:
            return None  # a repetition; the first one will be answered
        problem = MalformedMessage("request ids must grow" if is_request else "an answer with a budget")
        self.reply(envelope.request_id, refusal_of(problem))
        raise problem

    def refuse_unread(self, frame: bytes | memoryview, error: StoreError) -> None:
        """Refuse a request by its head alone; an answer that cannot be read fails the question."""
        head = _head_of(frame)
        if head is None:
            return
        if head.budget_ms is not None:
            self.reply(head.request_id, refusal_of(error))
        elif self._their_incarnation in (None, head.incarnation):
            self._settle(head.request_id, error)

    def _settle(self, request_id: int, result: Answer | StoreError) -> None:
        waiter = self._waiting.pop(request_id, None)
        if waiter is not None:
            waiter.settle(result)

    # --- what we answer ---------------------------------------------------------------------------

    def reply(self, request_id: int, answer: Answer) -> None:
        """Send an answer if the connection still takes it; the other side has a deadline of its own."""
        if self._ended is not None:
            return
        try:
            try:
                frame = self._encode(request_id, None, answer)
            except BadRequest as error:
                log.error(
                    "answer cannot be sent", extra={"answer": type(answer).__name__, "cause": error.message}
                )
                frame = self._encode(request_id, None, Refused(code=StoreError.code, message=error.message))
            self._send(frame)
        except (LinkDown, Overloaded) as error:
            log.debug("answer dropped", extra={"answer": type(answer).__name__, "cause": error.message})

    def show_life(self) -> None:
        """Answer a probe."""
        self.reply(PROBE_ID, Done())

    def begin(self, envelope: Envelope) -> None:
        """Note that a task will answer; until it ran, repetitions are dropped."""
        self._running.add(envelope.request_id)

    async def answer(self, envelope: Envelope, work: Callable[[], Awaitable[Answer]]) -> None:
        """Carry out a request within its budget and send the answer; after `begin`, in its own task."""
        assert envelope.budget_ms is not None
        _answered_id.set(envelope.request_id)
        try:
            answer: Answer | None = None
            with trio.move_on_after(min(envelope.budget_ms, BUDGET_MAX_MS) / 1000):
                answer = await answer_of(work)
            if answer is None:
                answer = refusal_of(
                    DeadlineExceeded(f"{type(envelope.body).__name__} took more than {envelope.budget_ms} ms")
                )
            self.reply(envelope.request_id, answer)
        finally:
            self._running.discard(envelope.request_id)

    # --- the end ----------------------------------------------------------------------------------

    def end(self, cause: str) -> None:
        """The connection is gone: every task that waits for an answer learns it at once."""
        if self._ended is not None:
            return
        self._ended = LinkDown(cause)
        self._send = _send_to_nobody  # `send` leads to the peer, and the peer to us: break the cycle
        waiting, self._waiting = self._waiting, {}
        for waiter in waiting.values():
            waiter.settle(LinkDown(cause))


def _send_to_nobody(frame: bytes) -> None:
    raise LinkDown("the connection has ended")


async def answer_of(work: Callable[[], Awaitable[Answer]]) -> Answer:
    """Run a handler; its errors become refusals, and a bug in it harms no other request."""
    try:
        return await work()
    except StoreError as error:
        return refusal_of(error)
    except Exception as error:
        return refusal_of_bug(error)


def refusal_of_bug(error: Exception) -> Refused:
    """Refuse the request that a handler failed at; a group around one expected error is that error."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, StoreError):
        return refusal_of(error)
    log.error("handler failed", exc_info=error)
    return Refused(code=StoreError.code, message="internal error; the log of who answered says more")
