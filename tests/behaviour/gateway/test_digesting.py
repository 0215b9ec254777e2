"""Digests in threads: in the order of the pieces, beside what else is done, bounded, and never left in doubt."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
import trio

from warehouse.gateway import digesting
from warehouse.gateway.digesting import THREAD_FROM, Digesting, digested
from warehouse.s3.checksums import CRC32C, SHA256, Piece
from warehouse.s3.integrity import Integrity, Promises

PIECES = [
    bytes([number]) * size
    for number, size in enumerate((THREAD_FROM, 1, THREAD_FROM * 3, 0, 77, THREAD_FROM))
]


class Held(Integrity):
    """Its digests wait in their threads until they are let go."""

    def __init__(self) -> None:
        super().__init__(Promises(), CRC32C)
        self.go = threading.Event()
        self.begun = threading.Semaphore(0)

    @property
    def digests(self) -> Sequence[Callable[[Piece], None]]:
        return [self._holding(digest) for digest in super().digests]

    def _holding(self, digest: Callable[[Piece], None]) -> Callable[[Piece], None]:
        def wait_and_digest(piece: Piece) -> None:
            self.begun.release()
            assert self.go.wait(20)
            digest(piece)

        return wait_and_digest


async def test_all_digests_are_those_of_the_pieces_in_their_order() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in PIECES:
            yield piece

    integrity = Integrity(Promises(), SHA256)
    assert [piece async for piece in digested(pieces(), integrity)] == PIECES
    found = integrity.finish()
    whole = b"".join(PIECES)
    assert (found.size, found.md5) == (len(whole), hashlib.md5(whole).digest())
    assert found.checksum == hashlib.sha256(whole).digest()


async def test_the_caller_goes_on_while_a_piece_is_digested_and_the_next_one_waits() -> None:
    integrity = Held()
    digesting = Digesting(integrity)
    with trio.fail_after(10):
        await digesting.add(b"a" * THREAD_FROM)
    with trio.move_on_after(0.05) as scope:
        await digesting.add(b"b" * THREAD_FROM)
    assert scope.cancelled_caught
    integrity.go.set()
    await digesting.add(b"c" * THREAD_FROM)
    await digesting.wait()
    # What was given up while it waited was never begun.
    assert integrity.finish().md5 == hashlib.md5(b"a" * THREAD_FROM + b"c" * THREAD_FROM).digest()


async def test_a_failure_in_a_thread_is_the_callers() -> None:
    class Broken(Integrity):
        @property
        def digests(self) -> Sequence[Callable[[Piece], None]]:
            return [lambda piece: None, self._fail]

        def _fail(self, piece: Piece) -> None:
            raise MemoryError("no room")

    digesting = Digesting(Broken(Promises()))
    await digesting.add(b"a" * THREAD_FROM)
    with pytest.raises(MemoryError, match="no room"):
        await digesting.wait()


async def test_with_many_bodies_at_once_further_ones_wait_for_their_digests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(digesting, "THREADS_MAX", 2)
    first, second = Held(), Integrity(Promises(), CRC32C)
    one, other = Digesting(first), Digesting(second)
    await one.add(b"a" * THREAD_FROM)
    await other.add(b"b" * THREAD_FROM)  # returns when it is digested: no thread of ours is free
    assert second.finish().md5 == hashlib.md5(b"b" * THREAD_FROM).digest()
    first.go.set()
    await one.wait()
    assert digesting._running.get() == 0
    assert first.finish().md5 == hashlib.md5(b"a" * THREAD_FROM).digest()


def test_a_loop_that_ends_meanwhile_is_not_waited_for() -> None:
    integrity = Held()

    async def begin() -> None:
        await Digesting(integrity).add(b"a" * THREAD_FROM)
        assert await trio.to_thread.run_sync(lambda: integrity.begun.acquire(timeout=20))

    trio.run(begin)
    integrity.go.set()
