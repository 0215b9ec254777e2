"""Housekeeping: keeps the memory of an actor flat, however long it runs.

Python frees most of our objects as soon as nothing refers to them.  Cycles (an exception kept with its
traceback, for example) wait for the collector.  On the hot path the collector would walk the heap in the
middle of a burst of requests, so it runs here, once a minute.  Then the C library gives its free memory back
to the system.
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
SLOW_S = 0.1  # a collection that takes longer holds up requests, so it is logged as INFO

# The collector looks at the youngest generation automatically only after this many new containers.
# `keep_memory_flat` takes care of the older ones.
YOUNG_THRESHOLD = 50_000
ARENAS_MAX = 2  # of the C library; without this limit each thread of a pool gets a heap of its own
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
    """The C library, if it is glibc; other C libraries have neither arenas nor `malloc_trim`."""
    if sys.platform != "linux":
        return None
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt, libc.malloc_trim  # noqa: B018 - musl lacks the second
    except (OSError, AttributeError):
        return None
    return libc
