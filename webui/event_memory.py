"""Event memory: the latest events that the master remembers, for a page that begins."""

from __future__ import annotations

from collections import deque

import trio

import warehouse
from warehouse.webui.event_words import Told, told

FIRST_S = 2.0  # a page waits so long for past events


async def recent(store: warehouse.Store, most: int, *, is_progress_told: bool = True) -> list[Told]:
    """The latest events in words, the newest first.

    Args:
        is_progress_told: also how far jobs are.
    """
    found: deque[Told] = deque(maxlen=most)
    stream = store.events(after=0)
    with trio.move_on_after(FIRST_S) as scope:
        async for event in stream:
            # The master sends all that it remembers at once; then the iterator waits for news, which ends it.
            scope.deadline = trio.current_time()
            line = told(event)
            if is_progress_told or not line.is_progress:
                found.append(line)
    return [*reversed(found)]
