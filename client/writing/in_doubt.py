"""In doubt: cancelled puts whose outcome is not known yet.

The bytes of a cancelled put may still be travelling.  The writer asks the master at once to resolve the put,
which usually takes a moment.  While the master restarts it takes longer than anybody who pressed Ctrl-C would
wait.  So the asking continues in the background, and whatever this client does next with the same key waits
for it: an old put must not replace an object that was stored, or deleted, after it.

A volume actor gives up a put that the master has not confirmed after 15 s, so the wait is short.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from warehouse.client.control import back_off_s
from warehouse.errors import StoreError, Unavailable

GIVE_UP_S = 60.0  # a put that was not committed by then never will be, even by a frozen actor


class InDoubt:
    """The cancelled puts of one bucket, by key."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._by_key: dict[str, list[trio.Event]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_key)

    async def resolve(self, key: str, ask: Callable[[], Awaitable[object]], within_s: float) -> None:
        """Resolve a cancelled put; return when it is resolved, or after `within_s` and continue later.

        Args:
            ask: asks the master; raises a StoreError when the master could not be asked.
        """
        resolved = trio.Event()
        self._by_key.setdefault(key, []).append(resolved)
        with trio.CancelScope(shield=True, deadline=trio.current_time() + within_s):
            try:
                await ask()
            except Unavailable:
                pass
            except StoreError:
                self._end(key, resolved)  # the master has answered
            else:
                self._end(key, resolved)
        if not resolved.is_set():
            if self._nursery.cancel_scope.cancel_called:
                self._end(key, resolved)  # the client is being closed: nothing can follow
            else:
                self._nursery.start_soon(self._ask_on, key, resolved, ask)

    async def _ask_on(self, key: str, resolved: trio.Event, ask: Callable[[], Awaitable[object]]) -> None:
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
            self._end(key, resolved)

    def _end(self, key: str, resolved: trio.Event) -> None:
        resolved.set()
        waiting = self._by_key[key]
        waiting.remove(resolved)
        if not waiting:
            del self._by_key[key]

    async def wait(self, *keys: str) -> None:
        """Wait until no earlier put of these keys is in doubt."""
        for key in keys:
            while key in self._by_key:
                await self._by_key[key][0].wait()
