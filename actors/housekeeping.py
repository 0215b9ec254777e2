"""Housekeeping: keeps the memory of an actor flat, however long it runs and whatever it does.

Python frees most of our objects the moment that nobody refers to them.  Cycles (an exception that is kept
with its traceback, for example) wait for the collector.  The collector stays away from the hot path, because
it would walk the heap in the middle of a burst of requests.  So it runs here, once a minute, and whatever the
C library holds free at that moment goes back to the system.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import sys
import time

import trio

log = logging.getLogger(__name__)

EVERY_S = 60.0
SLOW_S = 0.1  # a collection that takes longer holds up requests: somebody should know

# Only after so many new containers does the collector look at the youngest by itself.  Older ones are
# left to `keep_memory_flat`.
YOUNG_THRESHOLD = 50_000
ARENAS_MAX = 2  # of the C library: each thread of a pool would otherwise get a heap of its own
_M_ARENA_MAX = -8  # mallopt(3)


def prepare_memory() -> None:
    """Set up the collector and the allocator; call it once, when the start-up heap is complete.

    The start-up heap lives as long as the process, so the collector never walks it again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_THRESHOLD, 20, 1_000_000)
    if (libc := _glibc()) is not None:
        libc.mallopt(_M_ARENA_MAX, ARENAS_MAX)


async def keep_memory_flat() -> None:
    """Collect cycles and give free memory back, once a minute, until cancelled."""
    libc = _glibc()
    while True:
        await trio.sleep(EVERY_S)
        began = time.perf_counter()
        count = gc.collect()
        if libc is not None:
            libc.malloc_trim(0)
        took_s = time.perf_counter() - began
        level = logging.INFO if took_s > SLOW_S else logging.DEBUG
        log.log(level, "garbage collected", extra={"objects": count, "ms": round(took_s * 1000, 1)})


def _glibc() -> ctypes.CDLL | None:
    """The C library, where it is glibc; others have neither arenas nor `malloc_trim`."""
    if sys.platform != "linux":
        return None
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt, libc.malloc_trim  # noqa: B018 - musl lacks the second
    except (OSError, AttributeError):
        return None
    return libc
