"""One socket as both ends use it: cases that the tests of server and client reach only by luck."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from warehouse.errors import LinkDown
from warehouse.transport.http.channel import JOIN_SIZE
from warehouse.transport.http.wire import Wire

HEAD = bytes(range(256)) * 4


@pytest.fixture
def ends() -> Iterator[tuple[Wire, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    wire = Wire(ours, "peer", stall_s=10.0)
    yield wire, theirs
    wire.close()
    theirs.close()


def fill(wire: Wire) -> int:
    """Send until the socket is full; return the number of bytes."""
    size = 0
    for piece in (bytes(4096), b"\0"):
        while count := wire.send_now(piece):
            size += count
    return size


@pytest.mark.parametrize("size", [0, 10, JOIN_SIZE, JOIN_SIZE + 1, 10 * JOIN_SIZE])
@pytest.mark.parametrize("room", [0, 1, 5000, 50_000])
async def test_a_message_into_a_full_socket_arrives_whole(ends, size, room):
    wire, theirs = ends
    body = (bytes(range(1, 251)) * (size // 250 + 1))[:size]
    filled = fill(wire)
    received = bytearray(theirs.recv(room) if room else b"")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wire.send_message, HEAD, body)
        while len(received) < filled + len(HEAD) + size:
            await trio.lowlevel.wait_readable(theirs)
            received += theirs.recv(10_000)
    assert received[filled:] == HEAD + body


async def test_bytes_received_too_early_are_kept_for_whoever_asks(ends):
    wire, theirs = ends
    theirs.send(b"HTTP/1.1 200 OK\r\n\r\n0123456789")
    assert (await wire.receive_head()).status == 200
    assert wire.has_received
    assert wire.take_received(3) == b"012"
    view = memoryview(bytearray(4))
    assert await wire.receive_into(view) == 4
    assert bytes(view) == b"3456"
    assert await wire.receive(2) == b"78"
    assert wire.take_received(100) == b"9"
    assert not wire.has_received
    theirs.send(b"ab")
    assert await wire.receive(10) == b"ab"
    theirs.close()
    assert await wire.receive(10) == b""
    assert await wire.receive_into(view) == 0


async def test_sending_to_nobody_is_a_broken_link(ends):
    wire, theirs = ends
    theirs.close()
    with pytest.raises(LinkDown):
        await wire.send_message(HEAD, bytes(10 * JOIN_SIZE))
    with pytest.raises(LinkDown):
        wire.send_now(HEAD)
    assert wire.is_broken


@pytest.mark.parametrize("is_into", [True, False])
async def test_a_reader_that_is_cancelled_when_others_have_their_turn_loses_no_bytes(
    ends, monkeypatch, is_into
):
    monkeypatch.setattr("warehouse.transport.http.channel.BURST_SIZE", 4)
    wire, theirs = ends
    theirs.send(bytes(range(100)))
    received = bytearray()
    for _ in range(200):
        with trio.CancelScope() as scope:
            scope.cancel()
            if is_into:
                view = memoryview(bytearray(3))
                received += view[: await wire.receive_into(view)]
            else:
                received += await wire.receive(3)
    assert received == bytes(range(100))
