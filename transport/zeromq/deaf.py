"""Deaf connections: libzmq reads them, nobody hears them, and what they sent stays in memory.

A ROUTER sets a connection aside whose routing id another connection has (libzmq 4.3.5, router.cpp,
`identify_peer`).  It goes on reading and hands nothing out.  It frees those bytes only with the whole socket,
however long the connection has been gone.  A peer chooses its routing id, so a stranger needs just two
connections under one id to fill our memory.  A peer that the hub shut does the same by chance when it comes
back under its old id before the hub has read its last words.

`FloodGuard` and `Newcomers` end such a connection, as they end any that says too much or nothing.  Two more
means work against the bytes that it leaves behind:

    - the hub holds a key whose connection it shut: the key gets no new connection until the hub has read the
      last words of the old one;
    - where memory grows after connections that nobody heard, the hub closes the socket and opens it again.
      Links come back at once, as after a restart.
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
from collections import OrderedDict
from collections.abc import Callable

HELD_MAX = 10_000  # keys; the hub forgets the oldest
HELD_S = 10.0  # for at least as long
UNHEARD_MAX = 256 * 1024 * 1024  # bytes
BUSY_FACTOR = 4
GIVE_BACK_S = 5.0  # not more often


def _find_malloc_trim() -> Callable[[int], int] | None:
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None


_malloc_trim = _find_malloc_trim()


def resident_bytes() -> int:
    """Memory of this process; 0 where the kernel does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def give_back() -> None:
    """Give the kernel back what was freed; takes up to a tenth of a second."""
    if _malloc_trim is not None:
        _malloc_trim(0)


class HeldKeys:
    """Keys that get no new connection yet.  Times are arguments."""

    def __init__(self) -> None:
        self._until: OrderedDict[str, float] = OrderedDict()

    def __contains__(self, user_id: object) -> bool:
        return user_id in self._until

    def hold(self, user_id: str, now_s: float) -> None:
        self._until[user_id] = now_s + HELD_S
        self._until.move_to_end(user_id)
        if len(self._until) > HELD_MAX:
            self._until.popitem(last=False)

    def release(self, now_s: float) -> None:
        """Let those go whose time is up; call it when nothing is left to read."""
        while self._until:
            user_id, until_s = next(iter(self._until.items()))
            if until_s > now_s:
                break
            del self._until[user_id]


class Growth:
    """Tells when a socket holds too much that nobody hears.

    Memory that was freed stays with the process for a while and proves nothing, so give it back first.

    Args:
        growth_max: bytes by which the memory of this process may grow while there is nothing to read.  What
            waits to be read has bounds of its own, so that it may grow more while there is.
        memory: tells how much the process has; an argument, like the next one, so that tests can answer.
        give_back: gives back what was freed.
    """

    def __init__(
        self,
        growth_max: int,
        *,
        memory: Callable[[], int] = resident_bytes,
        give_back: Callable[[], None] = give_back,
    ) -> None:
        self._growth_max = growth_max
        self._memory = memory
        self._give_back = give_back
        self._before = memory()
        self._again_s = -math.inf

    def is_too_much(self, unheard_count: int, *, is_dry: bool, now_s: float) -> bool:
        """
        Args:
            unheard_count: how many connections of this socket ended without a word that reached us.
            is_dry: there is nothing to read.
        """
        held = self._memory()
        if unheard_count == 0:
            self._before = held  # no unheard connection has taken any of it
            return False
        self._before = min(self._before, held)
        held_max = self._before + self._growth_max * (1 if is_dry else BUSY_FACTOR)
        if held <= held_max or now_s < self._again_s:
            return False
        self._again_s = now_s + GIVE_BACK_S
        self._give_back()
        return self._memory() > held_max
