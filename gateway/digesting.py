"""Digesting: the digests of a long body are made in threads, beside its way to the volume.

While a piece is digested, the one before it is sent and the next one is received.  The MD5, which takes
longest, has a thread of its own.  What is left running when a request ends takes a millisecond more: nobody
waits for it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import suppress
from functools import partial
from typing import Final

import trio

from warehouse.s3.integrity import Integrity

THREAD_FROM = 64 * 1024  # bytes; digesting less takes no longer than the way to a thread
THREADS_MAX = 16  # of all bodies, besides those that Trio lends to whoever waits for them

_running: Final = trio.lowlevel.RunVar("digests under way", 0)


class Digesting:
    """Digests the pieces of one body in their order, one after the other."""

    def __init__(self, integrity: Integrity) -> None:
        self._integrity = integrity
        self._left = 0  # threads that have not finished with the last piece
        self._error: Exception | None = None
        self._wake: trio.Event | None = None

    async def add(self, piece: bytes) -> None:
        """Digest a piece, as soon as the one before is digested; what is long goes on after this returns.

        Args:
            piece: nobody changes it any more.
        """
        await self.wait()
        if len(piece) < THREAD_FROM:
            self._integrity.update(piece)
            return
        if _running.get() >= THREADS_MAX:
            await trio.to_thread.run_sync(self._integrity.update, piece)
            return
        self._integrity.count(piece)
        token = trio.lowlevel.current_trio_token()
        for digest in self._integrity.digests:
            self._left += 1
            _running.set(_running.get() + 1)
            trio.lowlevel.start_thread_soon(
                partial(self._digest, digest, piece), lambda _: self._deliver(token), "digests"
            )

    async def wait(self) -> None:
        """Until all pieces are digested."""
        while self._left:
            self._wake = trio.Event()
            await self._wake.wait()
        if self._error is not None:
            raise self._error

    # --- in a thread ------------------------------------------------------------------------------

    def _digest(self, digest: Callable[[bytes], None], piece: bytes) -> None:
        try:
            digest(piece)
        except Exception as error:
            self._error = error

    def _deliver(self, token: trio.lowlevel.TrioToken) -> None:
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(self._finish)

    # --- in the loop again ------------------------------------------------------------------------

    def _finish(self) -> None:
        _running.set(_running.get() - 1)
        self._left -= 1
        if not self._left and self._wake is not None:
            self._wake.set()


async def digested(pieces: AsyncIterable[bytes], integrity: Integrity) -> AsyncGenerator[bytes, None]:
    """The same pieces, digested as they pass; when they have ended, all are."""
    digesting = Digesting(integrity)
    async for piece in pieces:
        await digesting.add(piece)
        yield piece
    await digesting.wait()
