"""Puts of streams that are not kept: a chunk is sent while the one before is synced, and no more than that."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
import trio

import warehouse
from bodies import noise
from fake_store import FakeStore
from warehouse.client.writing.sources import OnceSource
from warehouse.errors import Unavailable, WriteFailed

MIB = 1024 * 1024
CHUNK = 4 * MIB
SIZE = 3 * CHUNK + 5


class Sender:
    """A client that sends a body once.

    Attributes:
        asked: bytes before the piece that was asked for last.
    """

    def __init__(self) -> None:
        self.asked = -1
        self.data = noise(SIZE)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        for start in range(0, SIZE, MIB):
            self.asked = start
            await trio.lowlevel.checkpoint()
            yield self.data[start : start + MIB]


async def test_a_chunk_is_sent_while_the_one_before_is_synced(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    held = store.faults.answers_held = trio.Event()
    sender = Sender()

    async def put() -> None:
        async with aclosing(sender.pieces()) as pieces:
            await photos.put("film", OnceSource(pieces, SIZE))

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(put)
            while sender.asked < 2 * CHUNK - MIB:  # nothing was answered
                await trio.sleep(0.01)
            await trio.sleep(0.1)
            assert sender.asked < 2 * CHUNK  # a third chunk waits for an answer
            held.set()
    assert await photos.get("film") == sender.data


async def test_a_chunk_that_fails_while_the_next_one_is_sent_ends_the_put(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    held = store.faults.answers_held = trio.Event()
    sender = Sender()

    async def fail_first() -> None:
        while sender.asked < CHUNK:
            await trio.sleep(0.01)
        store.faults.put_dropped_late = 1
        held.set()

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail_first)
            async with aclosing(sender.pieces()) as pieces:
                with pytest.raises((Unavailable, WriteFailed)):
                    await photos.put("film", OnceSource(pieces, SIZE))
    assert sender.asked < SIZE - MIB
    assert store.buckets["photos"] == {}
    assert store.uploads == {}
