"""Unsettled: puts that were cancelled before it was decided what becomes of them.

A put that was cancelled may be on its way still.  It is settled at once, and that takes a moment.  When the
master restarts just then, it takes longer than anybody who presses Ctrl-C wants to wait.  So it goes on, and
whatever this client does next under the same key waits for it: an old put must not take the place of what was
stored, or deleted, after it.

A volume gives up a put that the master has not confirmed after 15 s, so that nobody need wait for long.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from warehouse.client.control import back_off_s
from warehouse.errors import StoreError, Unavailable

GIVE_UP_S = 60.0  # by then a put that was not confirmed never will be, frozen actors included


class Unsettled:
    """The cancelled puts of one bucket, by their keys."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._by_key: dict[str, list[trio.Event]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_key)

    async def settle(self, key: str, ask: Callable[[], Awaitable[object]], within_s: float) -> None:
        """Have a cancelled put settled; returns when it is, or after that time, and then it goes on behind.

        Args:
            ask: asks the master, and raises a StoreError when that failed.
        """
        settled = trio.Event()
        self._by_key.setdefault(key, []).append(settled)
        with trio.CancelScope(shield=True, deadline=trio.current_time() + within_s):
            try:
                await ask()
            except Unavailable:
                pass
            except StoreError:
                self._end(key, settled)  # it was answered
            else:
                self._end(key, settled)
        if not settled.is_set():
            if self._nursery.cancel_scope.cancel_called:
                self._end(key, settled)  # the client is being closed: nothing follows
            else:
                self._nursery.start_soon(self._go_on, key, settled, ask)

    async def _go_on(self, key: str, settled: trio.Event, ask: Callable[[], Awaitable[object]]) -> None:
        try:
            with trio.move_on_after(GIVE_UP_S):
                attempt = 0
                while True:
                    try:
                        await ask()
                        return
                    except Unavailable:
                        await trio.sleep(back_off_s(attempt))
                        attempt += 1
                    except StoreError:
                        return
        finally:
            self._end(key, settled)

    def _end(self, key: str, settled: trio.Event) -> None:
        settled.set()
        waiting = self._by_key[key]
        waiting.remove(settled)
        if not waiting:
            del self._by_key[key]

    async def wait(self, *keys: str) -> None:
        """Wait until nothing that was put under these keys before is undecided."""
        for key in keys:
            while key in self._by_key:
                await self._by_key[key][0].wait()
