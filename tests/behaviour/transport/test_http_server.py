"""The HTTP server over raw sockets: what it answers, and that it survives whatever a client sends.

In every test all connections end without help (`serving` waits for that), and the suite's own
fixture fails a test that leaves a socket behind.
"""

from __future__ import annotations

import errno
import json
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest
import trio
import trio.testing

from http_harness import (
    GOOD,
    RECEIVE_S,
    WAIT,
    Gate,
    echo,
    receive_all,
    receive_until,
    reset_when_closed,
    serving,
    split_answers,
    start_server,
)
from warehouse.errors import (
    DeadlineExceeded,
    LinkDown,
    NoSuchNeedle,
    RangeNotSatisfiable,
    RequestTimeout,
    StoreError,
    TokenExpired,
    VolumeFull,
    VolumeOffline,
)
from warehouse.transport.http.connection import HttpLimits
from warehouse.transport.http.heads import HeadRules
from warehouse.transport.http.leader_followers import TURN_MAX
from warehouse.transport.http.rules import parse_range

KIBIBYTE = 1024
MEBIBYTE = 1024 * 1024

QUICK = HttpLimits(
    header_s=0.6,
    idle_s=1.0,
    body_stall_s=0.6,
    write_stall_s=0.6,
    drain_s=0.6,
    rate_grace_s=0.5,
    rate_min=1000,
)


def get(target: bytes = b"/", *lines: bytes) -> bytes:
    return b"\r\n".join([b"GET %b HTTP/1.1" % target, b"Host: a", *lines, b"", b""])


def put(*lines: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([b"PUT / HTTP/1.1", b"Host: a", *lines, b"", body])


# --- requests that are none -----------------------------------------------------------------------

MALFORMED = {
    "content length and transfer coding": (put(b"Content-Length: 3", b"Transfer-Encoding: chunked"), 400),
    "transfer coding and content length": (put(b"Transfer-Encoding: chunked", b"Content-Length: 3"), 400),
    "chunked body": (put(b"Transfer-Encoding: chunked", body=b"3\r\nabc\r\n0\r\n\r\n"), 411),
    "chunked in capitals": (put(b"TRANSFER-ENCODING: Chunked"), 411),
    "unknown coding": (put(b"Transfer-Encoding: gzip"), 400),
    "identity and chunked": (put(b"Transfer-Encoding: identity, chunked"), 411),
    "blank before the colon of a coding": (put(b"Transfer-Encoding : chunked"), 400),
    "two equal lengths": (put(b"Content-Length: 3", b"Content-Length: 3", body=b"abc"), 400),
    "two different lengths": (put(b"Content-Length: 3", b"content-length: 4", body=b"abcd"), 400),
    "a list of lengths": (put(b"Content-Length: 3, 3", body=b"abc"), 400),
    "negative length": (put(b"Content-Length: -1"), 400),
    "signed length": (put(b"Content-Length: +3", body=b"abc"), 400),
    "hexadecimal length": (put(b"Content-Length: 0x3", body=b"abc"), 400),
    "fractional length": (put(b"Content-Length: 3.0", body=b"abc"), 400),
    "empty length": (put(b"Content-Length:"), 400),
    "length of 2**64": (put(b"Content-Length: 18446744073709551616"), 400),
    "length of 19 digits": (put(b"Content-Length: 9223372036854775807"), 400),
    "folded header": (get(b"/", b"X-A: b", b" c"), 400),
    "header folded with a tab": (get(b"/", b"X-A: b", b"\tc"), 400),
    "first header folded": (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    "bare line feed after the request line": (b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
    "bare line feed after a header": (b"GET / HTTP/1.1\r\nX: a\nHost: a\r\n\r\n", 400),
    "bare carriage return": (b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", 400),
    "NUL in a value": (get(b"/", b"X-A: b\0c"), 400),
    "NUL in a name": (get(b"/", b"X\0A: b"), 400),
    "DEL in a value": (get(b"/", b"X-A: b\x7fc"), 400),
    "blank in a name": (get(b"/", b"X A: b"), 400),
    "blank before the colon": (get(b"/", b"X-A : b"), 400),
    "no colon": (get(b"/", b"X-A"), 400),
    "no name": (get(b"/", b": b"), 400),
    "no host": (b"GET / HTTP/1.1\r\nX-A: b\r\n\r\n", 400),
    "two hosts": (get(b"/", b"Host: b"), 400),
    "two equal hosts": (get(b"/", b"host: a"), 400),
    "two authorizations": (get(b"/", b"Authorization: Bearer a", b"Authorization: Bearer b"), 400),
    "no version": (b"GET /\r\n\r\n", 400),
    "HTTP/1.2": (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 400),
    "HTTP/2.0": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "HTTP/11": (b"GET / HTTP/11\r\nHost: a\r\n\r\n", 400),
    "another protocol": (b"DESCRIBE / RTSP/1.0\r\nHost: a\r\n\r\n", 400),
    "a TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "nothing but empty lines": (b"\r\n\r\n\r\n", 400),
    "a lone carriage return first": (b"\rXGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "unknown method": (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    "method in small letters": (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    "a tunnel": (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    "a method of WebDAV": (b"PROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    "asterisk without OPTIONS": (get(b"*"), 400),
    "another scheme": (get(b"ftp://a/b"), 400),
    "no slash": (get(b"a/b"), 400),
    "fragment": (get(b"/a#b"), 400),
    "blank in the target": (get(b"/a b"), 400),
    "control character in the target": (get(b"/a\x01b"), 400),
    "bytes above ASCII in the target": (get("/é".encode()), 400),
    "a hundred and one headers": (get(b"/", *[b"X-%d: a" % number for number in range(100)]), 431),
    "one long header": (get(b"/", b"X-A: " + b"a" * 17_000), 431),
    "many long headers": (get(b"/", *[b"X-%d: " % number + b"a" * 1000 for number in range(20)]), 431),
    "a long target": (get(b"/" + b"a" * 17_000), 431),
    "headers without an end": (b"GET / HTTP/1.1\r\nX-A: " + b"a" * 200_000, 431),
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_what_is_no_request_is_refused_and_the_server_lives(name):
    request, status = MALFORMED[name]
    async with serving(echo) as served:
        # What follows must not be taken for a request: that would be smuggling.
        answers = split_answers(await served.talk(request, get(b"/smuggled")))
        assert [answer.status for answer in answers] == [status]
        assert (
            json.loads(answers[0].body)["code"]
            == {
                400: "bad_request",
                411: "length_required",
                501: "method_unknown",
                431: "headers_too_large",
            }[status]
        )
        assert answers[0].headers[b"connection"] == b"close"
        await served.assert_alive()


async def test_headers_without_an_end_are_refused_as_soon_as_they_are_too_long():
    async with serving(echo) as served:
        [answer] = split_answers(await served.talk(b"GET / HTTP/1.1\r\nX-A: " + b"a" * 20_000))
        assert answer.status == 431  # 408 would come only after the time for a whole head


@pytest.mark.parametrize(
    "rest",
    [b" / HTTP/1.1\r\n\r\n", b" / HTTP/9.9\r\nHost: a\r\n\r\n", b" /" + b"a" * 20_000, b" / HTTP/1.1\r\nX"],
)
async def test_a_refusal_of_a_head_has_no_body_though_it_could_not_be_read(rest: bytes) -> None:
    async with serving(echo, HttpLimits(header_s=0.3)) as served:
        for method in (b"HEAD", b"\r\nHEAD", b"GET"):
            received = await served.talk(method + rest)
            head, _, body = received.partition(b"\r\n\r\n")
            assert head[9:12] in (b"400", b"431", b"408"), received
            assert bool(body) == (method == b"GET"), received


async def test_requests_before_a_malformed_one_are_answered_and_those_behind_it_are_not():
    async with serving(echo) as served:
        answers = split_answers(await served.talk(get(b"/1") + get(b"/2") + b"?\r\n\r\n" + get(b"/3")))
        assert [answer.status for answer in answers] == [200, 200, 400]
        await served.assert_alive()


ODD = {
    "absolute form": (get(b"http://a:80/b/c?d=e"), b"GET|/b/c|d=e|0|"),
    "absolute form without a path": (get(b"HTTP://a"), b"GET|/||0|"),
    "absolute form of a secure origin": (get(b"https://a/b"), b"GET|/b||0|"),
    "absolute form with a query alone": (get(b"https://a?b=c"), b"GET|/|b=c|0|"),
    "one empty line first": (b"\r\n" + get(b"/a"), b"GET|/a||0|"),
    "asterisk": (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", b"OPTIONS|*||0|"),
    "empty query": (get(b"/a?"), b"GET|/a||0|"),
    "question marks in the query": (get(b"/a?b?c"), b"GET|/a|b?c|0|"),
    "percent-encoding is left alone": (get(b"/%C3%A9%2F?%3F"), b"GET|/%C3%A9%2F|%3F|0|"),
    "blanks around a length": (put(b"Content-Length: \t 3 \t", body=b"abc"), b"PUT|/||3|abc"),
    "leading zeros": (put(b"Content-Length: 0003", body=b"abc"), b"PUT|/||3|abc"),
    "a body with GET": (get(b"/", b"Content-Length: 3") + b"abc", b"GET|/||3|abc"),
    "an upgrade that nobody wants": (get(b"/", b"Connection: Upgrade", b"Upgrade: websocket"), b"GET|/||0|"),
    "an unknown expectation": (put(b"Content-Length: 3", b"Expect: x", body=b"abc"), b"PUT|/||3|abc"),
    "empty header": (get(b"/", b"X-A:"), b"GET|/||0|"),
    "a hundred headers": (get(b"/", *[b"X-%d: a" % number for number in range(99)]), b"GET|/||0|"),
}


@pytest.mark.parametrize("name", ODD)
async def test_unusual_requests_that_are_allowed_are_understood(name):
    request, body = ODD[name]
    async with serving(echo) as served:
        answers = split_answers(await served.talk(request + GOOD))
        assert [answer.body for answer in answers] == [body, b"GET|/good||0|"]


async def test_repeated_headers_become_one_list_and_names_are_lower_case():
    seen = {}

    async def handler(exchange):
        seen.update(exchange.headers)
        await exchange.respond(204)

    async with serving(handler) as served:
        await served.talk(get(b"/", b"X-A: 1", b"x-a:  2 ", b"IF-MATCH: c", b"Connection: close"))
    assert seen == {b"host": b"a", b"x-a": b"1, 2", b"if-match": b"c", b"connection": b"close"}


async def test_a_server_with_liberal_rules_hands_over_path_query_and_host_as_they_came():
    seen = []

    async def handler(exchange):
        seen.append((exchange.path, exchange.query, exchange.headers[b"host"]))
        await exchange.respond(204)

    def request(target: bytes, host: bytes) -> bytes:
        return b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target, host)

    asked = [
        (b"/a%2Fb/%7e%zz//./../c+d", b"x-id=%41&a+b&&=", b"Photos.S3.example:7490"),
        ("/日本/é".encode(), "prefix=é".encode(), b"photos.s3.example."),
        (b"/plain", b"", b"[::1]:7490"),
        (b"/plain", b"", b"[::1]:7490"),
    ]
    async with serving(handler, rules=HeadRules(takes_utf8=True, is_literal=True)) as served:
        requests = [request(path + (b"?" + query if query else b""), host) for path, query, host in asked]
        answers = split_answers(await served.talk(*requests, b"?\r\n\r\n"))
        assert [answer.status for answer in answers] == [204] * 4 + [400]
    assert seen == asked


# --- keeping a connection -------------------------------------------------------------------------


async def test_pipelined_requests_are_answered_in_order():
    requests = [get(b"/%d" % number) for number in range(100)]
    async with serving(echo) as served:
        answers = split_answers(await served.talk(b"".join(requests) + GOOD))
        assert [answer.body for answer in answers[:-1]] == [b"GET|/%d||0|" % number for number in range(100)]


async def test_bodies_do_not_run_into_the_next_request():
    bodies = [b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n", b"", b"\r\n\r\n", b"x" * 100_000]
    requests = [put(b"Content-Length: %d" % len(body), body=body) for body in bodies]
    async with serving(echo) as served:
        answers = split_answers(await served.talk(b"".join(requests) + GOOD))
        assert [answer.body for answer in answers[:-1]] == [
            b"PUT|/||%d|" % len(body) + body for body in bodies
        ]


async def largest_step(progress: Callable[[], int], *, until: int) -> int:
    """Return how much the other tasks get done, at most, between two turns of this one."""
    steps = [0]
    with trio.fail_after(RECEIVE_S):
        while (before := progress()) < until:
            await trio.lowlevel.checkpoint()
            steps.append(progress() - before)
    return max(steps)


async def test_a_flood_on_one_connection_lets_the_others_have_their_turn():
    count = 0

    async def handler(exchange):
        nonlocal count
        count += 1
        await exchange.respond(200)

    async with serving(handler) as served, await served.connect() as stream, trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, get(b"/flood") * 1000 + GOOD)
        nursery.start_soon(receive_all, stream)
        assert 1 < await largest_step(lambda: count, until=1001) <= 2 * TURN_MAX  # two turns may meet


@pytest.mark.parametrize("is_upload", [True, False])
async def test_a_fast_large_body_lets_the_others_have_their_turn(is_upload, monkeypatch):
    monkeypatch.setattr("warehouse.transport.http.channel.BURST_SIZE", 10_000)
    size = 1_000_000
    moved = 0
    begin = trio.Event()

    async def handler(exchange):
        nonlocal moved
        await begin.wait()
        if not is_upload:
            await exchange.start(200, [], size)
        while moved < size:
            if is_upload:
                moved += await exchange.read_into(memoryview(bytearray(1000)))
            else:
                await exchange.write(bytes(1000))
                moved += 1000
        if is_upload:
            await exchange.respond(200)

    async with serving(handler) as served, await served.connect() as stream, trio.open_nursery() as nursery:
        nursery.start_soon(receive_all, stream)
        body = bytes(size) if is_upload else b""
        nursery.start_soon(
            stream.send_all, put(b"Content-Length: %d" % len(body), b"Connection: close", body=body)
        )
        await trio.testing.wait_all_tasks_blocked()
        begin.set()
        assert 1000 < await largest_step(lambda: moved, until=size) <= 100_000


@pytest.mark.parametrize(
    ("request_line", "connection", "is_kept"),
    [
        (b"GET / HTTP/1.1", None, True),
        (b"GET / HTTP/1.1", b"keep-alive", True),
        (b"GET / HTTP/1.1", b"close", False),
        (b"GET / HTTP/1.1", b"Foo, CLOSE", False),
        (b"GET / HTTP/1.0", None, False),
        (b"GET / HTTP/1.0", b"Keep-Alive", True),
        (b"GET / HTTP/1.0", b"keep-alive, close", False),
    ],
)
async def test_a_connection_is_kept_as_the_version_and_the_client_say(request_line, connection, is_kept):
    lines = [request_line, b"Host: a"] + ([b"Connection: " + connection] if connection else [])
    request = b"\r\n".join([*lines, b"", b""])
    async with serving(echo) as served:
        answers = split_answers(await served.talk(request + GOOD))
        assert len(answers) == 1 + is_kept
        assert (answers[0].headers.get(b"connection") == b"close") is not is_kept
        if request_line.endswith(b"1.0") and is_kept:
            assert answers[0].headers[b"connection"] == b"keep-alive"


async def test_http_10_needs_no_host():
    async with serving(echo) as served:
        [answer] = split_answers(await served.talk(b"GET /old HTTP/1.0\r\n\r\n"))
        assert answer.body == b"GET|/old||0|"


async def test_connection_state_lives_as_long_as_its_connection():
    async def handler(exchange):
        exchange.connection_state["count"] = exchange.connection_state.get("count", 0) + 1
        await exchange.respond(200, [], b"%d" % exchange.connection_state["count"])

    async with serving(handler) as served:
        answers = split_answers(await served.talk(get() + get() + GOOD))
        assert [answer.body for answer in answers] == [b"1", b"2", b"3"]
        answers = split_answers(await served.talk(GOOD))
        assert [answer.body for answer in answers] == [b"1"]


async def test_every_answer_names_the_server_and_the_date():
    async with serving(echo) as served:
        [answer] = split_answers(await served.talk(GOOD))
        assert answer.headers[b"server"] == b"warehouse"
        assert answer.headers[b"date"].endswith(b" GMT")
        assert b"1970" not in answer.headers[b"date"]


# --- answers --------------------------------------------------------------------------------------


async def test_head_gets_the_head_of_the_answer_alone():
    async def handler(exchange):
        if exchange.path == b"/whole":
            await exchange.respond(200, [], b"body")
        elif exchange.path == b"/error":
            raise NoSuchNeedle("gone")
        else:
            await exchange.start(200, [], 5 * MEBIBYTE)
            await exchange.write(bytes(MEBIBYTE))

    def head(target):
        return b"HEAD %b HTTP/1.1\r\nHost: a\r\n\r\n" % target

    async with serving(handler) as served:
        request = head(b"/whole") + head(b"/error") + head(b"/pieces")
        received = await served.talk(request + b"HEAD / HTTP/1.0\r\n\r\n")
        answers = split_answers(received, is_head=True)
        assert [answer.status for answer in answers] == [200, 404, 200, 200]
        assert answers[0].headers[b"content-length"] == b"4"
        assert answers[2].headers[b"content-length"] == b"%d" % (5 * MEBIBYTE)


@pytest.mark.parametrize("status", [204, 304])
async def test_a_status_without_a_body_has_no_content_length(status):
    async def handler(exchange):
        await exchange.respond(status, [(b"ETag", b'"a"')])

    async with serving(handler) as served:
        answers = split_answers(await served.talk(get() + GOOD))
        assert [answer.status for answer in answers] == [status, status]
        assert b"content-length" not in answers[0].headers


async def test_a_large_answer_arrives_whole_in_pieces_and_at_once():
    body = bytes(range(256)) * 4 * 5 * KIBIBYTE  # 5 MiB

    async def handler(exchange):
        if exchange.path == b"/pieces":
            await exchange.start(200, [], len(body))
            for start in range(0, len(body), MEBIBYTE):
                await exchange.write(memoryview(body)[start : start + MEBIBYTE])
        else:
            await exchange.respond(200, [], memoryview(body))

    async with serving(handler) as served:
        answers = split_answers(await served.talk(get(b"/pieces") + GOOD))
        assert [answer.body == body for answer in answers] == [True, True]


@pytest.mark.parametrize("text", [b"a\r\nX-Forged: 1", b"a\nb", b"a\rb", b"a\0b"])
async def test_a_header_that_would_forge_another_is_not_sent(text, caplog):
    async def handler(exchange):
        await exchange.respond(200, [(b"Content-Type", text)], b"body")

    async with serving(handler) as served:
        [answer] = split_answers(await served.talk(get()))
        assert answer.status == 500
        assert b"forged" not in str(answer.headers).lower().encode()


# --- handlers that fail ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "header"),
    [
        (NoSuchNeedle("needle 7 is not in volume 3"), 404, None),
        (TokenExpired("late"), 401, b"www-authenticate"),
        (VolumeOffline("disk-2 is away"), 503, b"retry-after"),
        (VolumeFull("full"), 507, None),
        (LinkDown("no master"), 503, b"retry-after"),
        (DeadlineExceeded("the master is slow"), 504, None),
    ],
)
async def test_an_expected_failure_becomes_its_status_and_the_connection_goes_on(error, status, header):
    async def handler(exchange):
        if exchange.path == b"/fail":
            raise error
        await echo(exchange)

    async with serving(handler) as served:
        answers = split_answers(await served.talk(get(b"/fail") + GOOD))
        assert [answer.status for answer in answers] == [status, 200]
        assert json.loads(answers[0].body) == {"code": error.code, "message": error.message}
        assert answers[0].headers[b"content-type"] == b"application/json"
        assert header is None or header in answers[0].headers


async def test_a_range_that_lies_outside_is_answered_with_the_size():
    async def handler(exchange):
        parse_range(exchange.headers[b"range"], 100)

    async with serving(handler) as served:
        [answer] = split_answers(await served.talk(get(b"/", b"Range: bytes=100-", b"Connection: close")))
        assert answer.status == RangeNotSatisfiable.status
        assert answer.headers[b"content-range"] == b"bytes */100"


async def test_a_bug_is_a_500_and_costs_one_connection(caplog):
    async def handler(exchange):
        if exchange.path == b"/group":
            raise ExceptionGroup("two", [ValueError("1"), KeyError("2")])
        if exchange.path == b"/bug":
            raise ZeroDivisionError("secret detail")
        await echo(exchange)

    async with serving(handler) as served:
        for target in (b"/bug?token=secret", b"/group"):
            [answer] = split_answers(await served.talk(get(target), get(b"/next")))
            assert answer.status == 500
            assert json.loads(answer.body)["code"] == "internal_error"
            assert b"secret" not in answer.body
            await served.assert_alive()
    assert [record.message for record in caplog.records] == ["handler failed"] * 2
    assert caplog.records[0].path == "/bug"  # the query, where a token may stand, is not logged


async def test_a_bug_in_the_server_itself_costs_one_connection_too(monkeypatch, caplog):
    async with serving(echo) as served:
        with monkeypatch.context() as broken:
            broken.setattr(
                "warehouse.transport.http.head_memo.HeadMemo.learn", lambda self, head, request: 1 / 0
            )
            assert await served.talk(get()) == b""
        await served.assert_alive()
    assert [record.message for record in caplog.records] == ["connection failed"]


async def test_a_handler_that_says_nothing_is_a_bug(caplog):
    async def handler(exchange):
        pass

    async with serving(handler) as served:
        [answer] = split_answers(await served.talk(get()))
        assert answer.status == 500


async def test_a_second_answer_is_a_bug(caplog):
    async def handler(exchange):
        await exchange.respond(200, [], b"first")
        await exchange.respond(200, [], b"second")

    async with serving(handler) as served:
        [answer] = split_answers(await served.talk(get()))
        assert answer.body == b"first"


@pytest.mark.parametrize("failure", [NoSuchNeedle("x"), ZeroDivisionError("x"), None])
async def test_an_answer_that_fails_half_way_is_never_completed(failure, caplog):
    async def handler(exchange):
        await exchange.start(200, [], 10)
        await exchange.write(b"12345")
        if failure:
            raise failure

    async with serving(handler) as served:
        received = await served.talk(get())
        assert received.endswith(b"\r\n\r\n12345")
        assert len(caplog.records) == 1


async def test_writing_more_than_declared_is_a_bug_and_is_not_sent(caplog):
    async def handler(exchange):
        await exchange.start(200, [], 4)
        await exchange.write(b"1234")
        await exchange.write(b"5")

    async with serving(handler) as served:
        assert (await served.talk(get())).endswith(b"\r\n\r\n1234")
    assert caplog.records[0].exc_info[0] is ValueError


# --- bodies ---------------------------------------------------------------------------------------


async def test_a_body_that_is_too_large_is_refused_before_it_is_read():
    async def handler(exchange):
        await exchange.read_body(1000)

    async with serving(handler) as served:
        [answer] = split_answers(await served.talk(put(b"Content-Length: 999999999999")))
        assert (answer.status, json.loads(answer.body)["code"]) == (413, "body_too_large")
        assert answer.headers[b"connection"] == b"close"


async def test_read_into_gives_the_body_in_pieces_and_then_nothing():
    body = bytes(range(256)) * 8 * KIBIBYTE  # 2 MiB

    async def handler(exchange):
        received = bytearray()
        piece = memoryview(bytearray(300_000))
        assert await exchange.read_into(piece[:0]) == 0
        while count := await exchange.read_into(piece):
            received += piece[:count]
        assert await exchange.read_into(piece) == 0
        await exchange.respond(200, [], b"same" if received == body else b"different")

    async with serving(handler) as served:
        answers = split_answers(await served.talk(put(b"Content-Length: %d" % len(body), body=body) + GOOD))
        assert answers[0].body == b"same"


async def test_a_small_unread_body_is_thrown_away_and_the_connection_goes_on():
    async def handler(exchange):
        if exchange.path == b"/good":
            await echo(exchange)
        else:
            raise NoSuchNeedle("no")

    body = bytes(256 * KIBIBYTE)
    async with serving(handler) as served:
        answers = split_answers(await served.talk(put(b"Content-Length: %d" % len(body), body=body) + GOOD))
        assert [answer.status for answer in answers] == [404, 200]


@pytest.mark.parametrize("read_size", [0, 4096])
async def test_a_client_that_sends_a_large_unwanted_body_still_gets_its_answer(read_size):
    """As curl does: it sends the whole body, then reads the answer.  A reset would lose the answer."""

    async def handler(exchange):
        if read_size:
            await exchange.read_into(memoryview(bytearray(read_size)))
        raise TokenExpired("late")

    body = bytes(20 * MEBIBYTE)
    async with serving(handler) as served:
        [answer] = split_answers(await served.talk(put(b"Content-Length: %d" % len(body)), body))
        assert answer.status == 401
        assert answer.headers[b"connection"] == b"close"


async def test_expect_is_answered_when_the_handler_wants_the_body():
    async with serving(echo) as served, await served.connect() as stream:
        await stream.send_all(put(b"Content-Length: 3", b"Expect: 100-continue", b"Connection: close"))
        assert await receive_until(stream, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await stream.send_all(b"abc")
        [answer] = split_answers(await receive_all(stream))
        assert answer.body == b"PUT|/||3|abc"


async def test_expect_with_a_refusal_never_asks_for_the_body():
    async def handler(exchange):
        raise TokenExpired("late")

    async with serving(handler) as served:
        received = await served.talk(put(b"Content-Length: 3000000", b"Expect: 100-continue"))
        [answer] = split_answers(received)
        assert (answer.status, answer.headers[b"connection"]) == (401, b"close")


async def test_expect_is_not_answered_when_the_body_came_along():
    request = put(b"Content-Length: 3", b"Expect: 100-continue", b"Connection: close", body=b"abc")
    async with serving(echo) as served:
        assert b"100 Continue" not in await served.talk(request)


async def test_a_body_longer_than_declared_is_not_part_of_the_request():
    async with serving(echo) as served:
        answers = split_answers(await served.talk(put(b"Content-Length: 3", body=b"abcdef\r\n\r\n")))
        assert [answer.status for answer in answers] == [200, 400]
        assert answers[0].body == b"PUT|/||3|abc"


@pytest.mark.parametrize("sent_size", [0, 10, 100_000])
async def test_a_client_that_leaves_inside_a_body_is_a_broken_link_for_the_handler(sent_size):
    failures = []

    async def handler(exchange):
        try:
            await exchange.read_body(MEBIBYTE)
        except StoreError as error:
            failures.append(error.code)
            raise

    async with serving(handler) as served:
        async with await served.connect() as stream:
            await stream.send_all(put(b"Content-Length: 200000", body=bytes(sent_size)))
        await served.wait_until_idle()
    assert failures == ["link_down"]


async def test_a_client_that_resets_inside_a_body_is_a_broken_link_too():
    failures = []

    async def handler(exchange):
        try:
            while await exchange.read_into(memoryview(bytearray(10))):
                pass
        except StoreError as error:
            failures.append(error.code)
            raise

    async with serving(handler) as served:
        async with await served.connect() as stream:
            await stream.send_all(put(b"Content-Length: 20", body=b"0123456789"))
            reset_when_closed(stream)
        await served.wait_until_idle()
    assert failures == ["link_down"]


async def test_a_client_that_leaves_inside_an_answer_ends_the_handler():
    failures = []

    async def handler(exchange):
        try:
            await exchange.start(200, [], 1000 * MEBIBYTE)
            for _ in range(1000):
                await exchange.write(bytes(MEBIBYTE))
        except StoreError as error:
            failures.append(error.code)
            raise

    async with serving(handler) as served:
        async with await served.connect() as stream:
            await stream.send_all(get())
            await stream.receive_some(1000)
        await served.wait_until_idle()
    assert failures == ["link_down"]


async def test_a_client_may_stop_sending_and_still_read_its_answer():
    async with serving(echo) as served, await served.connect() as stream:
        await stream.send_all(get(b"/half"))
        await stream.send_eof()
        [answer] = split_answers(await receive_all(stream))
        assert answer.body == b"GET|/half||0|"


# --- clients that are slow ------------------------------------------------------------------------


async def test_a_head_that_takes_too_long_is_a_408():
    async with serving(echo, QUICK) as served:
        [answer] = split_answers(await served.talk(b"GET / HT"))
        assert (answer.status, json.loads(answer.body)["code"]) == (408, "request_timeout")


async def test_a_head_that_drips_is_a_408_though_bytes_keep_coming():
    async with serving(echo, QUICK) as served, await served.connect() as stream:
        async with trio.open_nursery() as nursery:

            async def drip():
                while True:
                    await stream.send_all(b"a")
                    await trio.sleep(0.02)

            await stream.send_all(b"GET /")
            nursery.start_soon(drip)
            received = await receive_until(stream, b"}")
            nursery.cancel_scope.cancel()
        assert received.startswith(b"HTTP/1.1 408 ")


async def test_idle_time_does_not_count_towards_the_next_head():
    limits = HttpLimits(header_s=0.5, idle_s=30)
    async with serving(echo, limits) as served, await served.connect() as stream:
        await stream.send_all(get())
        await receive_until(stream, b"|0|")
        await trio.sleep(0.7)
        await stream.send_all(b"GET /late HTTP/1.1\r\n")
        await trio.sleep(2 * limits.sweep_s())
        await stream.send_all(b"Host: a\r\nConnection: close\r\n\r\n")
        [answer] = split_answers(await receive_all(stream))
        assert answer.body == b"GET|/late||0|"


async def test_a_new_connection_that_says_nothing_is_closed():
    async with serving(echo, QUICK) as served:
        assert await served.talk() == b""


async def test_an_idle_connection_is_closed_but_not_too_early():
    async with serving(echo, QUICK) as served, await served.connect() as stream:
        await stream.send_all(get())
        await receive_until(stream, b"|0|")
        answered = trio.current_time()
        assert await receive_all(stream) == b""
        assert trio.current_time() - answered >= QUICK.idle_s / 2


@pytest.mark.parametrize("size", [3, 100_000])  # the second averages well above the least rate
async def test_a_body_that_stalls_is_a_408(size):
    async with serving(echo, QUICK) as served:
        [answer] = split_answers(await served.talk(put(b"Content-Length: 200000", body=bytes(size))))
        assert (answer.status, answer.headers[b"connection"]) == (408, b"close")


async def test_a_body_below_the_least_rate_is_a_408_though_it_never_stalls():
    async with serving(echo, QUICK) as served, await served.connect() as stream:
        async with trio.open_nursery() as nursery:

            async def drip():
                while True:
                    await stream.send_all(b"a")
                    await trio.sleep(0.02)

            await stream.send_all(put(b"Content-Length: 100000"))
            nursery.start_soon(drip)
            received = await receive_until(stream, b"}")
            nursery.cancel_scope.cancel()
        assert received.startswith(b"HTTP/1.1 408 ")


async def test_a_pause_of_the_whole_server_is_not_charged_to_its_clients():
    async with serving(echo, QUICK) as served, await served.connect() as stream:
        await stream.send_all(b"GET /late HTTP/1.1\r\n")
        await trio.testing.wait_all_tasks_blocked()
        time.sleep(3 * QUICK.header_s)  # stops every task: the virtual machine was frozen, say
        for _ in range(5):
            await trio.lowlevel.checkpoint()
        await stream.send_all(b"Host: a\r\nConnection: close\r\n\r\n")
        [answer] = split_answers(await receive_all(stream))
        assert answer.body == b"GET|/late||0|"


async def test_a_handler_may_take_its_time():
    async def handler(exchange):
        await trio.sleep(3 * QUICK.idle_s)
        await echo(exchange)

    async with serving(handler, QUICK) as served:
        await served.assert_alive()


async def test_a_handler_may_give_up_on_a_body_and_still_answer():
    async def handler(exchange):
        with trio.move_on_after(0.01):
            await exchange.read_body(MEBIBYTE)
        await exchange.respond(200, [], b"enough")

    async with serving(handler, QUICK) as served:
        [answer] = split_answers(await served.talk(put(b"Content-Length: 500000")))
        assert answer.body == b"enough"


async def test_a_client_that_does_not_read_is_cut_off():
    failures = []

    async def handler(exchange):
        try:
            await exchange.respond(200, [], bytes(64 * MEBIBYTE))
        except StoreError as error:
            failures.append(error.code)
            raise

    async with serving(handler, QUICK) as served, await served.connect() as stream:
        await stream.send_all(get())
        await served.wait_until_idle()
    assert failures == ["deadline_exceeded"]


async def test_a_client_that_reads_slowly_but_steadily_is_served():
    size = 12 * MEBIBYTE

    async def handler(exchange):
        await exchange.respond(200, [], bytes(size))

    # Megabytes must leave the socket's buffer before it takes more, far too much for one write_stall_s.
    # Only the kernel's count of unsent bytes tells this client from one that has stopped.
    async with serving(handler, QUICK) as served, await served.connect() as stream:
        await stream.send_all(get(b"/", b"Connection: close"))
        received = reads = 0
        while piece := await stream.receive_some(64 * KIBIBYTE):
            received += len(piece)
            reads += 1
            if reads < 50:
                await trio.sleep(0.03)
        assert received > size


async def test_a_client_that_drips_cannot_live_on_what_waits_in_the_kernel():
    """Megabytes wait there: at the least rate they would last for minutes."""
    limits = replace(QUICK, write_stall_s=5.0, rate_min=20_000)
    failures = []

    async def handler(exchange):
        try:
            await exchange.respond(200, [], bytes(64 * MEBIBYTE))
        except StoreError as error:
            failures.append(error.code)
            raise

    async with serving(handler, limits) as served:
        with trio.socket.socket() as sock:
            sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
            await sock.connect(("127.0.0.1", served.port))
            await sock.send(get())
            with trio.fail_after(RECEIVE_S), suppress(OSError):
                while not failures:
                    assert await sock.recv(1000)
                    await trio.sleep(0.1)
        await served.wait_until_idle()
    assert failures == ["deadline_exceeded"]


async def test_an_answer_waits_for_those_before_it_without_being_charged():
    async def handler(exchange):
        await exchange.respond(200, [], bytes(MEBIBYTE))

    limits = replace(QUICK, rate_min=20_000)
    async with serving(handler, limits) as served, await served.connect() as stream:
        await stream.send_all(get() * 11 + get(b"/", b"Connection: close"))
        received = reads = 0
        while piece := await stream.receive_some(64 * KIBIBYTE):
            received += len(piece)
            reads += 1
            if reads < 50:
                await trio.sleep(0.03)
        assert received > 12 * MEBIBYTE


async def test_a_client_that_drips_after_a_refusal_is_not_listened_to_forever():
    async def handler(exchange):
        raise TokenExpired("late")

    async def drip(stream):
        while True:
            await stream.send_all(b"a")
            await trio.sleep(0.02)

    async with serving(handler, QUICK) as served, await served.connect() as stream:
        await stream.send_all(put(b"Content-Length: 1000000"))
        assert await receive_all(stream)
        with trio.fail_after(RECEIVE_S), pytest.raises(trio.BrokenResourceError):
            await drip(stream)


async def test_many_slow_clients_do_not_disturb_a_good_one():
    async with serving(echo, QUICK) as served, trio.open_nursery() as nursery:
        for _ in range(200):
            nursery.start_soon(served.talk, b"GET / HTTP/1.1\r\n")
        for _ in range(20):
            await served.assert_alive()


# --- limits and the end ---------------------------------------------------------------------------


async def test_a_connection_too_many_is_told_to_come_back():
    gate = Gate()
    async with serving(gate, HttpLimits(connections=2, connections_per_address=2)) as served:
        first, second = await served.connect(), await served.connect()
        async with first, second:
            for stream in (first, second):
                await stream.send_all(WAIT)
            await gate.hold(2)
            [answer] = split_answers(await served.talk(GOOD))
            assert (answer.status, json.loads(answer.body)["code"]) == (503, "overloaded")
            assert answer.headers[b"retry-after"] == b"1"
            await served.wait_until_idle(2)
            gate.opened.set()
            await receive_until(first, b"|0|")
        await served.wait_until_idle()
        await served.assert_alive()


@pytest.mark.parametrize(
    "limits", [HttpLimits(connections_per_address=1), HttpLimits(connections=2), HttpLimits(connections=1)]
)
async def test_one_address_does_not_get_all_connections(limits):
    gate = Gate()
    async with serving(gate, limits) as served:
        async with await served.connect() as stream:
            await stream.send_all(WAIT)
            await gate.hold(1)
            [answer] = split_answers(await served.talk(GOOD))
            assert answer.status == 503
            gate.opened.set()
        await served.wait_until_idle()
        await served.assert_alive()


async def test_connections_far_beyond_the_limit_are_just_closed():
    async with serving(echo, HttpLimits(connections=1, drain_s=0.5)) as served:
        streams = [await served.connect() for _ in range(100)]
        try:
            await trio.testing.wait_all_tasks_blocked()
            assert served.server.connection_count <= 1 + 64
        finally:
            for stream in streams:
                await stream.aclose()


async def test_running_out_of_descriptors_is_survived(monkeypatch, caplog):
    async with serving(echo) as served:
        accept = trio.SocketListener.accept
        failures = [errno.EMFILE, errno.ENFILE]

        async def failing(listener):
            if failures:
                raise OSError(failures.pop(), "out of descriptors")
            return await accept(listener)

        monkeypatch.setattr(trio.SocketListener, "accept", failing)
        async with await served.connect():  # ends the accept that was already waiting; it may have to go
            with trio.fail_after(RECEIVE_S):
                while failures:
                    await trio.sleep(0.005)
        await served.assert_alive()
        await served.assert_alive()
    told = [record.levelno for record in caplog.records if record.message == "cannot accept connections"]
    assert told == [logging.WARNING]  # one line a minute


async def test_stop_finishes_the_request_in_flight_and_closes_idle_connections():
    begun, may_end = trio.Event(), trio.Event()

    async def handler(exchange):
        if exchange.path == b"/slow":
            begun.set()
            await may_end.wait()
        await echo(exchange)

    async with trio.open_nursery() as nursery:
        served = await start_server(nursery, handler)
        idle, busy = await served.connect(), await served.connect()
        async with idle, busy:
            await idle.send_all(get())
            await receive_until(idle, b"|0|")
            await busy.send_all(get(b"/slow"))
            await begun.wait()
            served.server.stop(grace_s=RECEIVE_S)
            assert await receive_all(idle) == b""
            with pytest.raises(OSError, match="connect"):
                await served.connect()
            may_end.set()
            [answer] = split_answers(await receive_all(busy))
            assert answer.body == b"GET|/slow||0|"
            assert answer.headers[b"connection"] == b"close"
    assert served.server.connection_count == 0


async def test_stop_cuts_off_what_outlives_the_grace():
    async def handler(exchange):
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        served = await start_server(nursery, handler)
        async with await served.connect() as stream:
            await stream.send_all(get())
            await trio.testing.wait_all_tasks_blocked()
            served.server.stop(grace_s=0.05)
            assert await receive_all(stream) == b""


async def test_cancelling_the_server_closes_everything():
    async def handler(exchange):
        await exchange.read_body(MEBIBYTE)

    async with trio.open_nursery() as nursery:
        served = await start_server(nursery, handler)
        async with await served.connect() as stream:
            await stream.send_all(put(b"Content-Length: 100"))
            await trio.testing.wait_all_tasks_blocked()
            assert served.server.connection_count == 1
            nursery.cancel_scope.cancel()
    assert served.server.connection_count == 0


# --- pages of other origins -----------------------------------------------------------------------

CONSOLE = "https://console.example"


async def test_a_preflight_is_answered_without_the_handler():
    request = b"\r\n".join(
        [
            b"OPTIONS /v1/needles/1/2 HTTP/1.1",
            b"Host: a",
            b"Origin: https://console.example",
            b"Access-Control-Request-Method: PUT",
            b"Access-Control-Request-Headers: authorization,x-warehouse-key",
            b"",
            b"",
        ]
    )
    async with serving(echo, cors_origins=[CONSOLE]) as served:
        answer, after = split_answers(await served.talk(request + GOOD))
        assert answer.status == 204
        assert answer.headers[b"access-control-allow-origin"] == CONSOLE.encode()
        assert b"PUT" in answer.headers[b"access-control-allow-methods"]
        assert answer.headers[b"access-control-allow-headers"] == b"authorization,x-warehouse-key"
        assert after.status == 200


async def test_every_answer_to_an_allowed_origin_says_so_even_a_refusal():
    async def handler(exchange):
        if exchange.path == b"/fail":
            raise NoSuchNeedle("no")
        await exchange.respond(200, [(b"X-Warehouse-CRC32C", b"0")])

    origin = b"Origin: " + CONSOLE.encode()
    async with serving(handler, cors_origins=[CONSOLE]) as served:
        request = get(b"/", origin) + get(b"/fail", origin) + get(b"/", b"Origin: https://evil.example")
        good, refused, evil, bad = split_answers(await served.talk(request + b"?\r\n\r\n"))
        assert good.headers[b"access-control-allow-origin"] == CONSOLE.encode()
        assert b"X-Warehouse-CRC32C" in good.headers[b"access-control-expose-headers"]
        assert refused.headers[b"access-control-allow-origin"] == CONSOLE.encode()
        assert b"access-control-allow-origin" not in evil.headers
        assert all(answer.headers[b"vary"] == b"Origin" for answer in (good, refused, evil, bad))


async def test_answers_without_an_origin_come_at_once_and_say_that_they_vary():
    at_once, handled = [], []

    def handle_nowait(recalled):
        at_once.append(recalled[1])
        return 200, b"Content-Length: 2\r\n\r\n", b"ok"

    async def handler(exchange):
        handled.append(exchange.path)
        await exchange.respond(200, [], b"ok")

    origin = b"Origin: " + CONSOLE.encode()
    async with serving(handler, handle_nowait=handle_nowait, cors_origins=[CONSOLE]) as served:
        # The first of each has to be parsed; what is the same once more is remembered.
        answers = split_answers(
            await served.talk(
                get(b"/a") + get(b"/a") + get(b"/b", origin) + get(b"/b", origin) + b"?\r\n\r\n"
            )
        )
        assert (at_once, handled) == ([b"/a"], [b"/a", b"/b", b"/b"])
        assert all(answer.headers[b"vary"] == b"Origin" for answer in answers)
        allowed = [answer.headers.get(b"access-control-allow-origin") for answer in answers[:4]]
        assert allowed == [None, None, CONSOLE.encode(), CONSOLE.encode()]


async def test_origins_may_change_while_the_server_runs():
    asked = get(b"/", b"Origin: " + CONSOLE.encode())

    async def told(served):
        (answer, *_) = split_answers(await served.talk(asked + b"?\r\n\r\n"))
        return answer.headers.get(b"access-control-allow-origin")

    async with serving(echo) as served:
        assert await told(served) is None
        served.server.allow_origins([CONSOLE])
        assert await told(served) == CONSOLE.encode()
        served.server.allow_origins([])
        assert await told(served) is None


async def test_without_configured_origins_nothing_is_said_about_them():
    async with serving(echo) as served:
        answers = split_answers(await served.talk(get(b"/", b"Origin: https://console.example") + GOOD))
        assert not any(name.startswith(b"access-control") for name in answers[0].headers)


async def test_a_slow_body_reaches_the_handler_as_a_timeout():
    failures = []

    async def handler(exchange):
        try:
            await exchange.read_into(memoryview(bytearray(10)))
        except RequestTimeout as error:
            failures.append(error.code)
            raise

    async with serving(handler, QUICK) as served:
        await served.talk(put(b"Content-Length: 10"))
    assert failures == ["request_timeout"]
