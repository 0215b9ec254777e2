"""HTTP over TLS: server and client between themselves, with other clients, and with who wants neither."""

from __future__ import annotations

import hashlib
import logging
import random
import socket
import ssl
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from http_harness import (
    GOOD,
    RECEIVE_S,
    Gate,
    Served,
    echo,
    receive_all,
    receive_until,
    reset_when_closed,
    serving,
    split_answers,
)
from tls_kit import LOOPBACK, Tls, rotated
from warehouse.errors import BodyTooLarge, CertificateBad, CertificateRefused, LinkDown
from warehouse.transport.http.channel import JOIN_SIZE
from warehouse.transport.http.connection import HttpLimits
from warehouse.transport.http.exchange import Exchange
from warehouse.transport.http.heads import HeadRules
from warehouse.transport.http.pool import HttpPool
from warehouse.transport.http.tls import (
    RECORD_SIZE,
    ClientTls,
    ServerTls,
    TlsSocket,
    client_context,
    server_context,
)
from warehouse.transport.http.wire import TlsWire

LARGE = random.Random(1).randbytes(5_000_000)
ASK = b"GET /now HTTP/1.1\r\nHost: a\r\n\r\n"
ANSWER = b"GET|/now||0|"

Stream = trio.SSLStream[trio.SocketStream]


@pytest.fixture
def tls(tmp_path: Path) -> Tls:
    return Tls(tmp_path)


@asynccontextmanager
async def pooling(client: ClientTls | None, *, connect_s: float = 5.0) -> AsyncIterator[HttpPool]:
    pool = HttpPool(tls=client, connect_s=connect_s)
    try:
        yield pool
    finally:
        await pool.aclose()


@asynccontextmanager
async def streaming(served: Served, context: ssl.SSLContext) -> AsyncIterator[Stream]:
    """Connect as another program would: with Trio's own TLS."""
    stream = trio.SSLStream(await served.connect(), context, server_hostname=LOOPBACK, https_compatible=True)
    try:
        with trio.fail_after(RECEIVE_S):
            await stream.do_handshake()
        yield stream
    finally:
        await trio.aclose_forcefully(stream)


async def digest(exchange: Exchange, size: int = 7000) -> None:
    """Answer with the digest of the body, read in pieces that are no records."""
    found = hashlib.sha256()
    view = memoryview(bytearray(size))
    while count := await exchange.read_into(view):
        found.update(view[:count])
    await exchange.respond(200, [], found.hexdigest().encode())


async def large(exchange: Exchange) -> None:
    await exchange.start(200, [], len(LARGE))
    for start in range(0, len(LARGE), 256 * 1024):
        await exchange.write(LARGE[start : start + 256 * 1024])


# --- requests -------------------------------------------------------------------------------------


async def test_small_requests_go_back_and_forth_over_one_connection(tls: Tls) -> None:
    async with serving(echo, tls=tls.server()) as served, pooling(tls.client()) as pool:
        for _ in range(3):
            assert (await pool.request("PUT", served.url, "/a", body=b"hello"))[2] == b"PUT|/a||5|hello"
            assert (await pool.request("GET", served.url, "/a"))[2] == b"GET|/a||0|"
        assert served.server.connection_count == 1


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_other_clients_talk_with_either_version(tls: Tls, version: ssl.TLSVersion) -> None:
    context = tls.any_client()
    context.maximum_version = context.minimum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with serving(echo, tls=tls.server()) as served, streaming(served, context) as stream:
        assert stream.selected_alpn_protocol() == "http/1.1"
        await stream.send_all(ASK)
        await receive_until(stream, ANSWER)
        await stream.send_all(GOOD)
        [answer] = split_answers(await receive_all(stream))
        assert answer.body == b"GET|/good||0|"


@pytest.mark.parametrize("chunk_size", [1000, RECORD_SIZE, 100_000, len(LARGE)])
@pytest.mark.parametrize("view_size", [7000, 300_000])
async def test_chunks_that_are_no_records_arrive_whole(tls: Tls, chunk_size: int, view_size: int) -> None:
    async def accept(exchange: Exchange) -> None:
        exchange.accept_body(len(LARGE))
        await digest(exchange, view_size)

    head = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    pieces = [LARGE[start : start + chunk_size] for start in range(0, len(LARGE), chunk_size)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    rules = HeadRules(takes_chunked=True)
    async with (
        serving(accept, tls=tls.server(), rules=rules) as served,
        streaming(served, tls.any_client()) as stream,
    ):
        for _ in range(2):
            await stream.send_all(head + framed)
            await receive_until(stream, hashlib.sha256(LARGE).hexdigest().encode())


@pytest.mark.parametrize("size", [0, 1, RECORD_SIZE, RECORD_SIZE + 1, JOIN_SIZE + 1, 5_000_000])
async def test_bodies_of_any_size_arrive_whole_in_both_directions(tls: Tls, size: int) -> None:
    body = LARGE[:size]
    expected = hashlib.sha256(body).hexdigest().encode()

    async def both(exchange: Exchange) -> None:
        await (digest(exchange) if exchange.method == b"PUT" else exchange.respond(200, [], body))

    async with serving(both, tls=tls.server()) as served, pooling(tls.client()) as pool:
        async with pool.stream("PUT", served.url, "/", body=body) as response:
            assert await response.read() == expected
        assert (await pool.request("GET", served.url, "/"))[2] == body
        assert served.server.connection_count == 1


async def test_a_large_answer_is_read_in_pieces_that_are_no_records(tls: Tls) -> None:
    async with serving(large, tls=tls.server()) as served, pooling(tls.client()) as pool:
        view = memoryview(bytearray(10_007))
        found = bytearray()
        async with pool.stream("GET", served.url, "/") as response:
            while count := await response.read_into(view):
                found += view[:count]
        assert found == LARGE
        # The connection is good for another one: nothing has stayed inside OpenSSL.
        assert (await pool.request("GET", served.url, "/"))[2] == LARGE
        assert served.server.connection_count == 1


@pytest.mark.parametrize("size", [1, 100, 5000])
async def test_requests_in_one_record_are_all_answered(tls: Tls, size: int) -> None:
    """The handler reads bodies in pieces, so the next requests stay behind inside of a record."""
    put = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n" + bytes(5000)
    expected = hashlib.sha256(bytes(5000)).hexdigest().encode()
    async with (
        serving(partial(digest, size=size), tls=tls.server()) as served,
        streaming(served, tls.any_client()) as stream,
    ):
        await stream.send_all(put * 3)
        received = b""
        with trio.fail_after(RECEIVE_S):
            while received.count(expected) < 3:
                received += await stream.receive_some()


async def test_a_head_that_comes_in_many_records_is_one_head(tls: Tls) -> None:
    async with serving(echo, tls=tls.server()) as served, streaming(served, tls.any_client()) as stream:
        for byte in ASK:
            await stream.send_all(bytes([byte]))
        await receive_until(stream, ANSWER)


async def test_an_early_refusal_of_a_large_body_is_read(tls: Tls) -> None:
    async def refuse(exchange: Exchange) -> None:
        raise BodyTooLarge("no")

    async with (
        serving(refuse, tls=tls.server()) as served,
        pooling(tls.client()) as pool,
        pool.stream("PUT", served.url, "/", body=LARGE) as response,
    ):
        assert response.status == 413
        assert b"body_too_large" in await response.read()


async def test_many_connections_wait_and_are_answered(tls: Tls) -> None:
    gate = Gate()
    async with (
        serving(gate, tls=tls.server()) as served,
        pooling(tls.client()) as pool,
        trio.open_nursery() as nursery,
    ):
        for _ in range(20):
            nursery.start_soon(pool.request, "GET", served.url, "/wait")
        await gate.hold(20)
        gate.opened.set()


# --- ends -----------------------------------------------------------------------------------------


async def test_the_end_of_a_connection_can_be_told_from_a_cut(tls: Tls) -> None:
    async with serving(echo, tls=tls.server()) as served:
        # Not `https_compatible`: an end without a goodbye would raise.
        stream = trio.SSLStream(await served.connect(), tls.any_client(), server_hostname=LOOPBACK)
        await stream.send_all(GOOD)
        assert await receive_all(stream)
        await trio.aclose_forcefully(stream)


async def test_a_kept_connection_that_the_server_has_closed_is_replaced(tls: Tls) -> None:
    async with (
        serving(echo, HttpLimits(idle_s=0.2), tls=tls.server()) as served,
        pooling(tls.client()) as pool,
    ):
        assert (await pool.request("POST", served.url, "/a", body=b"x"))[0] == 200
        await served.wait_until_idle()
        assert (await pool.request("POST", served.url, "/a", body=b"x"))[0] == 200


async def test_a_connection_that_breaks_in_the_middle_of_a_body_is_noticed_by_both(tls: Tls, caplog) -> None:
    async def half(exchange: Exchange) -> None:
        await exchange.start(200, [], len(LARGE))
        await exchange.write(LARGE[:100_000])
        raise BodyTooLarge("no more")

    async with serving(half, tls=tls.server()) as served, pooling(tls.client()) as pool:
        with pytest.raises(LinkDown, match="missing"):
            await pool.request("GET", served.url, "/")
    async with serving(digest, tls=tls.server()) as served, streaming(served, tls.any_client()) as stream:
        head = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n"
        await stream.send_all(head + bytes(20_000))
        reset_when_closed(stream.transport_stream)
    assert "Traceback" not in caplog.text


async def test_a_client_that_does_not_read_is_given_up(tls: Tls) -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.start(200, [], 1 << 40)
        while True:
            await exchange.write(LARGE[:1_000_000])

    async with (
        serving(endless, HttpLimits(write_stall_s=0.3), tls=tls.server()) as served,
        streaming(served, tls.any_client()) as stream,
    ):
        await stream.send_all(ASK)
        await served.wait_until_idle()


async def test_a_record_that_drips_is_no_progress(tls: Tls) -> None:
    """Of a record that is not whole, the server gets nothing: each of its bytes would begin the wait anew."""

    async def refuse(exchange: Exchange) -> None:
        await exchange.respond(200, [])

    context, taken, given = tls.any_client(), ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = context.wrap_bio(taken, given, server_hostname=LOOPBACK)
    async with (
        serving(refuse, HttpLimits(drain_s=0.5), tls=tls.server()) as served,
        await served.connect() as stream,
    ):
        with suppress(ssl.SSLWantReadError):
            ours.do_handshake()
        await stream.send_all(given.read())
        while ours.version() is None:
            taken.write(await stream.receive_some())
            with suppress(ssl.SSLWantReadError):
                ours.do_handshake()
        ours.write(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000\r\n\r\n")
        await stream.send_all(given.read())
        ours.write(bytes(9000))
        began_s = trio.current_time()
        with suppress(trio.BrokenResourceError):
            for byte in given.read():
                await stream.send_all(bytes((byte,)))
                await trio.sleep(0.05)
                assert trio.current_time() - began_s < RECEIVE_S


@pytest.fixture
def ends(tls: Tls) -> Iterator[tuple[TlsWire, TlsSocket]]:
    pair = socket.socketpair()
    for end in pair:
        end.setblocking(False)
    theirs = tls.server().wrap(pair[1], "peer")
    ours = client_context(tls.authority.bundle).wrap_socket(
        pair[0], server_hostname=LOOPBACK, do_handshake_on_connect=False
    )
    for end in (ours, theirs, ours, theirs):
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()
    wire = TlsWire(ours, "peer", stall_s=10.0)
    yield wire, theirs
    wire.close()
    theirs.close()


@pytest.mark.parametrize("size", [0, 10, RECORD_SIZE, JOIN_SIZE, JOIN_SIZE + 1, 10 * JOIN_SIZE])
@pytest.mark.parametrize("room", [500, 5000, 50_000])
async def test_a_message_into_a_full_socket_arrives_whole(
    ends: tuple[TlsWire, TlsSocket], size: int, room: int
) -> None:
    """OpenSSL wants a record that it could not send to be sent again just as it was."""
    wire, theirs = ends
    head, body = b"head" * 256, LARGE[:size]
    filling, received = bytes(300_000), bytearray()
    while (count := wire.send_now(filling)) == len(filling):
        received += filling
    before = len(received) + len(filling)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def send() -> None:
            await wire.send_rest(filling, count)
            await wire.send_message(head, body)

        received = bytearray()
        with trio.fail_after(RECEIVE_S):
            while len(received) < before + len(head) + size:
                try:
                    received += theirs.recv(room)
                except BlockingIOError:
                    await trio.lowlevel.wait_readable(theirs)
                await trio.lowlevel.checkpoint()
    assert received[before:] == head + body


# --- handshakes -----------------------------------------------------------------------------------


async def test_older_versions_are_refused(tls: Tls, caplog) -> None:
    context = tls.any_client()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with serving(echo, tls=tls.server()) as served:
        for _ in range(3):
            with pytest.raises(trio.BrokenResourceError):
                async with streaming(served, context):
                    pass
        async with streaming(served, tls.any_client()):
            pass
    assert [record.message for record in caplog.records] == ["TLS handshakes failed"]  # not three lines


@pytest.mark.parametrize("method", [b"GET", b"PUT", b"POST", b"HEAD"])
async def test_plain_http_is_told_what_is_wrong(tls: Tls, method: bytes) -> None:
    request = method + b" /secret HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
    async with serving(echo, tls=tls.server()) as served:
        [answer] = split_answers(await served.talk(request))
        assert answer.status == 400
        assert b"tls_required" in answer.body
        assert b"https://" in answer.body


@pytest.mark.parametrize(
    "rubbish",
    [b"\0" * 100, b"\x16\x03\x01\xff\xff" + b"x" * 70_000, b"SSH-2.0-OpenSSH_9.2\r\n", b"\x80\x2e\x01\0\2"],
    ids=["zeros", "a record that is too long", "ssh", "SSL 2"],
)
async def test_rubbish_ends_its_connection_alone(tls: Tls, rubbish: bytes, caplog) -> None:
    limits = HttpLimits(header_s=0.5)
    async with serving(echo, limits, tls=tls.server()) as served, pooling(tls.client()) as pool:
        async with await served.connect() as stream:
            with trio.fail_after(RECEIVE_S):
                try:
                    await stream.send_all(rubbish)
                    while await stream.receive_some():
                        pass
                except trio.BrokenResourceError:
                    pass
        assert (await pool.request("GET", served.url, "/a"))[0] == 200
    assert all(record.levelno <= logging.WARNING for record in caplog.records)


async def test_a_handshake_that_stalls_ends_with_the_time_for_a_head(tls: Tls) -> None:
    """Without a task: the connection is idle all the while, and others are served."""
    hello = client_hello(tls)
    async with serving(echo, HttpLimits(header_s=0.5), tls=tls.server()) as served:
        for count in (0, 1, len(hello) // 2, len(hello)):
            stream = await served.connect()
            started = trio.current_time()
            if count:
                await stream.send_all(hello[:count])
            await receive_all(stream)
            assert trio.current_time() - started >= 0.4
            await stream.aclose()


async def test_strangers_in_a_handshake_keep_nobody_out(tls: Tls) -> None:
    hello = client_hello(tls)
    async with serving(echo, HttpLimits(connections=8), tls=tls.server()) as served:
        strangers = [await served.connect() for _ in range(20)]
        for number, stream in enumerate(strangers):
            try:
                await stream.send_all(hello[: 1 + number * 10])
            except trio.BrokenResourceError:
                continue  # it had to make room
        async with pooling(tls.client()) as pool:
            with trio.fail_after(RECEIVE_S):
                assert (await pool.request("GET", served.url, "/now"))[2] == ANSWER
        assert served.server.connection_count <= 9
        for stream in strangers:
            await stream.aclose()


def client_hello(tls: Tls) -> bytes:
    outgoing = ssl.MemoryBIO()
    client = tls.any_client().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=LOOPBACK)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


async def test_a_server_without_a_certificate_waits_for_one(tls: Tls, caplog) -> None:
    server = ServerTls()
    async with serving(echo, tls=server) as served, pooling(tls.client()) as pool:
        for _ in range(2):
            with pytest.raises(LinkDown):
                await pool.request("GET", served.url, "/")
        server.context = tls.context(LOOPBACK)
        assert (await pool.request("GET", served.url, "/"))[0] == 200
    assert [record.message for record in caplog.records] == [
        "connections were closed: there is no certificate yet"
    ]


async def test_a_new_certificate_counts_for_new_connections(tls: Tls) -> None:
    server = tls.server()
    async with serving(echo, tls=server) as served, streaming(served, tls.any_client()) as before:
        server.context = tls.context(LOOPBACK)
        async with streaming(served, tls.any_client()) as after:
            for stream in (before, after):
                await stream.send_all(ASK)
                await receive_until(stream, ANSWER)
            assert before.getpeercert(binary_form=True) != after.getpeercert(binary_form=True)


# --- whom a client trusts -------------------------------------------------------------------------


async def refused(tls: Tls, server: ServerTls, client: ClientTls | None) -> str:
    """The words in which a client refuses a server; no request may have reached it."""
    requests = []

    async def handler(exchange: Exchange) -> None:
        requests.append(exchange.path)
        await echo(exchange)

    async with serving(handler, tls=server) as served, pooling(client) as pool:
        with pytest.raises(CertificateRefused) as caught:
            await pool.request("PUT", served.url, "/secret", body=b"secret")
    assert not requests
    return caught.value.message


async def test_another_authority_is_refused(tls: Tls, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    message = await refused(tls, Tls(tmp_path / "other").server(), tls.client())
    assert "not trusted" in message


async def test_another_name_is_refused(tls: Tls) -> None:
    assert "not trusted" in await refused(tls, tls.server("films.example", "192.0.2.7"), tls.client())


async def test_a_certificate_that_has_ended_is_refused(tls: Tls) -> None:
    ended = ServerTls(server_context(*tls.issue(LOOPBACK, days_ago=100)))
    assert "expired" in await refused(tls, ended, tls.client())


async def test_who_trusts_nobody_refuses_everybody(tls: Tls) -> None:
    assert "`authority`" in await refused(tls, tls.server(), None)


async def test_a_client_can_trust_somebody_else_from_now_on(tls: Tls, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    new = Tls(
        tmp_path / "new",
        rotated(tls.authority),
    )
    client = tls.client()
    assert "not trusted" in await refused(tls, new.server(), client)
    client.trust(new.authority.bundle)
    for server in (tls.server(), new.server()):
        async with serving(echo, tls=server) as served, pooling(client) as pool:
            assert (await pool.request("GET", served.url, "/"))[0] == 200
    with pytest.raises(CertificateBad):
        client.trust("nonsense")
    async with serving(echo, tls=new.server()) as served, pooling(client) as pool:
        assert (await pool.request("GET", served.url, "/"))[0] == 200


async def test_a_server_that_speaks_no_tls_is_named(tls: Tls) -> None:
    async def plain(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, plain, 0)
        port = listeners[0].socket.getsockname()[1]
        async with pooling(tls.client()) as pool:
            with pytest.raises(LinkDown, match="does not speak TLS"):
                await pool.request("GET", f"https://127.0.0.1:{port}", "/")
        nursery.cancel_scope.cancel()


async def test_a_server_that_says_nothing_has_as_long_as_for_a_connection(tls: Tls) -> None:
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, lambda stream: trio.sleep_forever(), 0)
        port = listeners[0].socket.getsockname()[1]
        async with pooling(tls.client(), connect_s=0.3) as pool:
            with pytest.raises(LinkDown, match=r"no TLS with .* within"):
                await pool.request("GET", f"https://127.0.0.1:{port}", "/")
        nursery.cancel_scope.cancel()
