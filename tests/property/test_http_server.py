"""The HTTP server and bytes that come in any pieces, and bytes that are not what they should be.

The server runs once per example, with real sockets: what is searched here are splits and mutations, and
hypothesis shrinks what it finds to a sequence that can become a small named test.

What two programs read in two ways is smuggling, so llhttp reads mutated streams as well: the server may refuse
more than llhttp does, but what it serves, llhttp has read.
"""

from __future__ import annotations

import itertools

import pytest
import trio
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from http_harness import GOOD, Served, echo, receive_all, serving, split_answers
from http_streams import BITS, Llhttp, in_chunks
from warehouse.transport.http.connection import HttpLimits
from warehouse.transport.http.exchange import Exchange
from warehouse.transport.http.heads import NEEDLE_RULES, HeadRules

SETTINGS = settings(max_examples=100, deadline=None)
LIBERAL = HeadRules(takes_chunked=True, is_literal=True)
QUICK = HttpLimits(header_s=0.2, idle_s=0.2, body_stall_s=0.2, drain_s=0.2, write_stall_s=0.2)

targets = st.text("abc%20/-_.", max_size=20).map(lambda text: b"/" + text.encode())
bodies = st.one_of(
    st.binary(max_size=50),
    st.sampled_from([b"GET / HTTP/1.1\r\n\r\n", b"\r\n\r\n", b"\r\n" * 10]),
    st.integers(0, 200_000).map(bytes),
)
header_lines = st.lists(
    st.tuples(
        st.text("abcxyz-", min_size=1, max_size=10),
        st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30),
    ).map(lambda pair: f"X-{pair[0]}: {pair[1]}".encode()),
    max_size=5,
)


@st.composite
def requests(draw: st.DrawFn, *, is_chunked: bool = False) -> tuple[bytes, bytes]:
    """A request, and the body of the answer it must get from `echo` or `take`."""
    method = draw(st.sampled_from([b"GET", b"PUT", b"POST", b"DELETE"]))
    path, query = draw(targets), draw(st.sampled_from([b"", b"a=b", b"token=x.y.z"]))
    body = draw(bodies)
    lines = [b"%b %b HTTP/1.1" % (method, path + (b"?" + query if query else b"")), b"Host: a"]
    lines += draw(header_lines)
    framed = body
    if is_chunked:
        lines.append(b"Transfer-Encoding: chunked")
        framed = in_chunks(cut(body, draw(st.lists(st.integers(0, len(body)), max_size=3))))
    elif body or draw(st.booleans()):
        lines.append(b"Content-Length: %d" % len(body))
    request = b"\r\n".join([*lines, b"", framed])
    return request, b"|".join([method, path, query, b"%d" % len(body), body])


async def take(exchange: Exchange) -> None:
    """As `echo`, for bodies of either kind."""
    exchange.accept_body(1024 * 1024)
    await echo(exchange)


async def receive_answer(stream: trio.SocketStream) -> bytes:
    """Receive one answer with a length, and nothing behind it."""
    received = b""
    while True:
        head, end, body = received.partition(b"\r\n\r\n")
        if end and len(body) >= int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0]):
            return received
        received += await stream.receive_some()


async def send_in_pieces(served: Served, pieces: list[bytes]) -> bytes:
    async with await served.connect() as stream, trio.open_nursery() as nursery:

        async def send() -> None:
            try:
                for piece in pieces:
                    await stream.send_all(piece)
                    await trio.lowlevel.checkpoint()  # the server takes its turn, so pieces stay pieces
                await stream.send_eof()
            except trio.BrokenResourceError:
                pass  # the server has refused what it got, which the answer says

        nursery.start_soon(send)
        try:
            return await receive_all(stream)
        except trio.BrokenResourceError:
            return b""


def cut(data: bytes, positions: list[int]) -> list[bytes]:
    edges = [0, *sorted(position % (len(data) + 1) for position in positions), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges) if end > start]


@SETTINGS
@given(
    wanted=st.lists(requests(), min_size=1, max_size=6),
    positions=st.lists(st.integers(0, 2**32), max_size=20),
)
def test_however_a_stream_of_requests_is_cut_the_answers_are_the_same(wanted, positions):
    data = b"".join(request for request, _ in wanted)

    async def main() -> None:
        async with serving(echo) as served:
            answers = split_answers(await send_in_pieces(served, cut(data, positions)))
            assert [answer.body for answer in answers] == [body for _, body in wanted]
            assert all(answer.status == 200 for answer in answers)

    trio.run(main)


@SETTINGS
@given(wanted=st.lists(requests(), min_size=1, max_size=3), piece_size=st.integers(1, 3))
def test_single_bytes_are_enough(wanted, piece_size):
    data, answered = b"", []
    for request, body in wanted:
        if len(data) + len(request) < 2000:
            data += request
            answered.append(body)
    pieces = [data[start : start + piece_size] for start in range(0, len(data), piece_size)]

    async def main() -> None:
        async with serving(echo) as served:
            answers = split_answers(await send_in_pieces(served, pieces))
            assert [answer.body for answer in answers] == answered

    trio.run(main)


@SETTINGS
@given(
    wanted=st.lists(requests(), max_size=3),
    last=requests(is_chunked=True),
    positions=st.lists(st.integers(0, 2**32), max_size=20),
)
def test_however_a_body_in_chunks_is_cut_its_request_is_the_same(wanted, last, positions):
    data = b"".join(request for request, _ in [*wanted, last])

    async def main() -> None:
        async with serving(take, rules=LIBERAL) as served:
            answers = split_answers(await send_in_pieces(served, cut(data, positions)))
            assert [answer.body for answer in answers] == [body for _, body in [*wanted, last]]
            assert all(answer.status == 200 for answer in answers)

    trio.run(main)


@SETTINGS
@given(wanted=st.lists(requests(is_chunked=True) | requests(), min_size=2, max_size=4))
def test_a_connection_goes_on_behind_a_body_in_chunks(wanted):
    async def main() -> None:
        async with serving(take, rules=LIBERAL) as served, await served.connect() as stream:
            for request, body in wanted:
                await stream.send_all(request)
                received = await receive_answer(stream)
                [answer] = split_answers(received)
                assert (answer.status, answer.body) == (200, body)

    trio.run(main)


mutations = st.lists(
    st.tuples(
        st.sampled_from(["replace", "insert", "remove"]),
        st.integers(0, 2**32),
        st.binary(min_size=1, max_size=4),
    ),
    min_size=1,
    max_size=5,
)


def mutated(data: bytes, changes: list[tuple[str, int, bytes]]) -> bytes:
    for kind, position, new in changes:
        start = position % (len(data) + 1)
        kept = start if kind == "insert" else min(len(data), start + len(new))
        data = data[:start] + (b"" if kind == "remove" else new) + data[kept:]
    return data


@SETTINGS
@given(wanted=st.lists(requests(), min_size=1, max_size=3), changes=mutations)
def test_whatever_comes_every_answer_is_well_formed_and_the_server_lives(wanted, changes):
    data = mutated(b"".join(request for request, _ in wanted), changes)
    assume(b"HEAD" not in data)  # nobody could tell which of the answers then has a body

    async def main() -> None:
        async with serving(echo, QUICK) as served:
            for answer in split_answers(await send_in_pieces(served, [data])):
                assert answer.status in (200, 400, 408, 411, 413, 431, 501)
            await served.assert_alive()

    trio.run(main)


twists = st.lists(
    st.tuples(
        st.integers(0, 2**32), st.integers(0, 3), st.sampled_from(BITS) | st.just(b"") | st.binary(max_size=2)
    ),
    max_size=4,
)


@settings(max_examples=200, deadline=None)
@pytest.mark.parametrize("rules", [LIBERAL, NEEDLE_RULES], ids=["liberal", "strict"])
@given(
    wanted=st.lists(requests(is_chunked=True) | requests(), min_size=1, max_size=3),
    changes=twists,
    positions=st.lists(st.integers(0, 2**32), max_size=3),
)
def test_what_is_served_of_a_twisted_stream_is_what_another_parser_reads(wanted, changes, positions, rules):
    data = b"".join(request for request, _ in wanted)
    assume(len(data) < 5000)
    assume(b"HEAD" not in data)  # nobody could tell which of the answers then has a body
    for position, removed, new in changes:
        start = position % (len(data) + 1)
        if position % 2:  # at the end of a line: that is where things begin and end
            start = max(0, data.find(b"\r\n", start))
        data = data[:start] + new + data[start + removed :]
    served_requests = []

    async def handler(exchange: Exchange) -> None:
        exchange.accept_body(1024 * 1024)
        body = await exchange.read_body(1024 * 1024)
        served_requests.append((exchange.target, body))
        await exchange.respond(200, [], b"ok")

    async def main() -> None:
        async with serving(handler, QUICK, rules=rules) as served:
            for answer in split_answers(await send_in_pieces(served, cut(data, positions))):
                assert answer.status in (200, 400, 408, 411, 413, 431, 501)

    trio.run(main)
    assert served_requests == Llhttp(data).requests[: len(served_requests)]


@SETTINGS
@given(data=st.binary(max_size=300))
def test_noise_is_never_served(data):
    async def main() -> None:
        async with serving(echo, QUICK) as served:
            answers = split_answers(await send_in_pieces(served, [data + b"\r\n\r\n" + GOOD]))
            assert all(answer.status in (400, 411, 431) for answer in answers)
            await served.assert_alive()

    trio.run(main)
