"""A stream that is not kept: what a failed attempt has taken of it, even in vain, cannot be sent again."""

from __future__ import annotations

from collections.abc import AsyncIterator

import trio

from warehouse.client.writing.sources import OnceSource


async def slow() -> AsyncIterator[bytes]:
    await trio.sleep_forever()
    yield b"never"


async def quick() -> AsyncIterator[bytes]:
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
