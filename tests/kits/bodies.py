"""Bodies: bytes for tests to put, whole or piece by piece."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import trio


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that no codec shortens; the same for the same seed, and the longer begin like the shorter."""
    return random.Random(seed).randbytes(size)


async def pieces_of(data: bytes, size: int) -> AsyncIterator[bytes]:
    """`data` in pieces of `size` bytes, with a turn of the event loop before each."""
    for start in range(0, len(data), size):
        await trio.lowlevel.checkpoint()
        yield data[start : start + size]
