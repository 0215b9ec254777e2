"""A stream that is not kept: what a failed attempt has taken of it, even in vain, cannot be sent again."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import trio

from warehouse.client.writing.sources import OnceSource


async def slow() -> AsyncIterator[bytes]:
    await trio.sleep_forever()
    yield b"never"


async def quick() -> AsyncGenerator[bytes, None]:
    yield b"abc"
    yield b"de"


async def test_a_stream_that_was_cancelled_while_it_waited_is_not_whole() -> None:
    source = OnceSource(slow(), 5)
    assert source.is_at(0)
    with trio.move_on_after(0.01):
        await source.read(5)
    assert not source.is_at(0)


async def test_a_stream_is_where_it_was_read_to() -> None:
    source = OnceSource(quick(), 5)
    assert bytes(await source.read(2)) == b"ab"
    assert source.is_at(2)
    assert bytes(await source.read(5)) == b"c"
    assert bytes(await source.read(5)) == b"de"
    await source.require_end()
    assert source.is_at(5)


async def test_who_reads_on_waits_until_the_reader_before_has_asked_for_more_than_its_share() -> None:
    stream = quick()
    source = OnceSource(stream, 5)
    async with aclosing(stream), source.open(3) as pieces:
        assert bytes(await anext(aiter(pieces))) == b"abc"
        with trio.move_on_after(0.01) as scope:
            await source.wait_passed(3)  # the piece may still be on its way
        assert scope.cancelled_caught
        assert [bytes(piece) async for piece in pieces] == []
    await source.wait_passed(3)
