"""What clients hear whose requests fail, at a server whose handler has words of its own for that."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path

import pytest

from http_harness import GOOD, WAIT, Answer, Gate, Served, echo, receive_until, serving, split_answers
from tls_kit import Tls
from warehouse.errors import NoSuchNeedle, StoreError
from warehouse.transport.http.connection import HttpLimits
from warehouse.transport.http.exchange import Exchange
from warehouse.transport.http.refusals import Refusals, Rendered

QUICK = HttpLimits(header_s=0.4, body_stall_s=0.4, drain_s=0.4)


class Failure(Exception):
    """What this handler raises: no StoreError, as in `s3/`."""

    def __init__(self, status: int, code: str, *, closes: bool = False) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.closes = closes


class Words:
    """Renders as a gateway would: elements, and an id that stands in the answer and in its body."""

    def __init__(self) -> None:
        self._count = itertools.count(1)

    def make_id(self) -> str:
        return f"id-{next(self._count)}"

    def render(self, error: Exception, exchange: Exchange | None) -> Rendered:
        request_id = self.make_id() if exchange is None else exchange.request_id
        path = b"" if exchange is None else exchange.path
        assert isinstance(error, StoreError | Failure)
        closes = isinstance(error, Failure) and error.closes
        body = b"<%b|%b|%b>" % (error.code.encode(), path, request_id.encode())
        headers = [(b"Content-Type", b"application/xml"), (b"X-Id", request_id.encode())]
        return Rendered(error.status, headers, body, closes=closes)

    def refusals(self) -> Refusals:
        return Refusals(self.render, (Failure,), self.make_id)


async def answer_by_path(exchange: Exchange) -> None:
    match exchange.path:
        case b"/failure":
            raise Failure(418, "Teapot")
        case b"/closing":
            raise Failure(400, "Framing", closes=True)
        case b"/store":
            raise NoSuchNeedle("gone")
        case b"/bug":
            raise ZeroDivisionError("secret detail")
        case b"/silent":
            return
        case b"/torn":
            await exchange.start(200, [], 10)
            await exchange.write(b"12345")
            raise Failure(400, "TooLate")
        case b"/id":
            await exchange.respond(200, [(b"X-Id", exchange.request_id.encode())])
        case _:
            await echo(exchange)


async def ask(served: Served, *pieces: bytes, is_head: bool = False) -> list[Answer]:
    return split_answers(await served.talk(*pieces), is_head=is_head)


def get(path: bytes, method: bytes = b"GET", *lines: bytes) -> bytes:
    return b"\r\n".join([b"%b %b HTTP/1.1" % (method, path), b"Host: a", *lines, b"", b""])


def body_of(answer: Answer, code: bytes, path: bytes = b"") -> bool:
    assert answer.headers[b"content-type"] == b"application/xml"
    assert answer.body == b"<%b|%b|%b>" % (code, path, answer.headers[b"x-id"])
    return True


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        (b"/failure", 418, b"Teapot"),
        (b"/store", 404, b"no_such_needle"),
        (b"/bug?secret", 500, b"internal_error"),
    ],
)
async def test_a_failure_of_the_handler_is_told_in_its_words(path, status, code, caplog):
    async with serving(answer_by_path, refusals=Words().refusals()) as served:
        answer, *after = await ask(served, get(path), GOOD)
        assert answer.status == status
        assert body_of(answer, code, path.partition(b"?")[0])
        assert [one.status for one in after] == ([200] if status < 500 else [])


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (b"?\r\n\r\n", 400, b"bad_request"),
        (b"GET /secret HTTP/1.1\r\nHost: a b\r\n\r\n", 400, b"bad_request"),
        (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 501, b"method_unknown"),
        (get(b"/", b"PUT", b"Transfer-Encoding: chunked"), 411, b"length_required"),
        (get(b"/" + b"a" * 20_000), 431, b"headers_too_large"),
        (b"GET /" + b"a" * 20_000, 431, b"headers_too_large"),
        (b"GET / HT", 408, b"request_timeout"),
    ],
)
async def test_a_head_that_cannot_be_read_is_refused_in_its_words(request_bytes, status, code):
    async with serving(answer_by_path, QUICK, refusals=Words().refusals()) as served:
        [answer] = await ask(served, request_bytes)
        assert (answer.status, answer.headers[b"connection"]) == (status, b"close")
        assert body_of(answer, code)


async def test_a_body_that_stalls_is_told_in_its_words():
    async with serving(answer_by_path, QUICK, refusals=Words().refusals()) as served:
        [answer] = await ask(served, get(b"/slow", b"PUT", b"Content-Length: 5"), b"abc")
        assert (answer.status, answer.headers[b"connection"]) == (408, b"close")
        assert body_of(answer, b"request_timeout", b"/slow")


async def test_a_connection_too_many_hears_it_in_its_words():
    gate, limits = Gate(), HttpLimits(connections=1, connections_per_address=1)
    async with serving(gate, limits, refusals=Words().refusals()) as served:
        async with await served.connect() as stream:
            await stream.send_all(WAIT)
            await gate.hold(1)
            [answer] = await ask(served, GOOD)
            assert (answer.status, answer.headers[b"connection"]) == (503, b"close")
            assert body_of(answer, b"overloaded")
            gate.opened.set()
        await served.wait_until_idle()


async def test_who_speaks_no_tls_hears_it_in_its_words(tmp_path: Path):
    async with serving(answer_by_path, tls=Tls(tmp_path).server(), refusals=Words().refusals()) as served:
        [answer] = await ask(served, GOOD)
        assert (answer.status, answer.headers[b"connection"]) == (400, b"close")
        assert body_of(answer, b"tls_required")


@pytest.mark.parametrize(
    "request_bytes",
    [
        get(b"/failure", b"HEAD", b"Connection: close"),
        get(b"/store", b"HEAD", b"Connection: close"),
        get(b"/bug", b"HEAD"),
        b"HEAD ?\r\n\r\n",
        b"HEAD /" + b"a" * 20_000,
    ],
)
async def test_head_hears_how_long_the_refusal_would_be(request_bytes, caplog):
    async with serving(answer_by_path, refusals=Words().refusals()) as served:
        [answer] = await ask(served, request_bytes, is_head=True)
        assert answer.status >= 400
        assert int(answer.headers[b"content-length"]) > 0


async def test_a_failure_may_end_the_connection():
    async with serving(answer_by_path, refusals=Words().refusals()) as served:
        [answer] = await ask(served, get(b"/closing", b"PUT", b"Content-Length: 3"), b"abc" + GOOD)
        assert (answer.status, answer.headers[b"connection"]) == (400, b"close")


async def test_each_request_has_an_id_of_its_own_wherever_it_is_told(caplog):
    async with serving(answer_by_path, refusals=Words().refusals()) as served:
        answers = await ask(served, get(b"/id"), get(b"/id"), get(b"/failure"), get(b"/bug"))
        assert [answer.headers[b"x-id"] for answer in answers] == [b"id-1", b"id-2", b"id-3", b"id-4"]
    [record] = caplog.records
    assert (record.message, record.request_id) == ("handler failed", "id-4")


async def test_without_a_maker_there_are_no_ids(caplog):
    async with serving(answer_by_path) as served:
        [answer] = await ask(served, get(b"/id", b"GET", b"Connection: close"))
        assert answer.headers[b"x-id"] == b""
        await ask(served, get(b"/bug"))
    assert not hasattr(caplog.records[0], "request_id")


async def test_a_failure_behind_the_beginning_of_an_answer_cuts_it_and_is_noted(caplog):
    async with serving(answer_by_path, refusals=Words().refusals()) as served:
        assert (await served.talk(get(b"/torn"))).endswith(b"\r\n\r\n12345")
    [record] = caplog.records
    assert (record.message, record.code, record.levelno) == ("answer cut short", "TooLate", logging.WARNING)
    assert record.request_id == "id-1"


async def test_what_the_renderer_was_not_told_of_is_a_bug(caplog):
    words = Words()
    async with serving(answer_by_path, refusals=Refusals(words.render)) as served:
        [answer] = await ask(served, get(b"/failure"), GOOD)
        assert answer.status == 500
        assert body_of(answer, b"internal_error", b"/failure")
    assert [record.message for record in caplog.records] == ["handler failed"]


@pytest.mark.parametrize("request_bytes", [get(b"/failure", b"GET", b"Connection: close"), b"?\r\n\r\n"])
async def test_a_bug_of_the_renderer_is_a_plain_500_and_the_server_lives(request_bytes, caplog):
    def render(error: Exception, exchange: Exchange | None) -> Rendered:
        raise ZeroDivisionError("secret detail")

    async with serving(answer_by_path, refusals=Refusals(render, (Failure,))) as served:
        [answer] = await ask(served, request_bytes)
        assert (answer.status, b"secret" in answer.body) == (500, False)
        await served.assert_alive()
    assert [record.message for record in caplog.records] == ["a failure could not be rendered"]


async def test_a_refusal_that_would_forge_a_header_is_not_sent(caplog):
    def render(error: Exception, exchange: Exchange | None) -> Rendered:
        return Rendered(400, [(b"X-A", b"b\r\nX-Forged: 1")])

    async with serving(answer_by_path, refusals=Refusals(render, (Failure,))) as served:
        for request_bytes in (get(b"/failure"), b"?\r\n\r\n"):
            assert await served.talk(request_bytes) == b""
        await served.assert_alive()


async def test_a_client_that_leaves_hears_nothing_and_nothing_is_rendered():
    words, rendered = Words(), []

    def render(error: Exception, exchange: Exchange | None) -> Rendered:
        rendered.append(error)
        return words.render(error, exchange)

    async with serving(answer_by_path, refusals=Refusals(render, (Failure,))) as served:
        async with await served.connect() as stream:
            await stream.send_all(get(b"/slow", b"PUT", b"Content-Length: 5"))
        await served.wait_until_idle()
        async with await served.connect() as stream:
            await stream.send_all(get(b"/failure"))
            await receive_until(stream, b">")
    assert [type(error) for error in rendered] == [Failure]
