"""Event memory: the latest events that the master remembers, for a page that begins."""

from __future__ import annotations

from itertools import islice

import trio

import warehouse
from warehouse.webui.event_words import Told, told

FIRST_S = 2.0  # a page waits so long for past events


async def remembered(store: warehouse.Store) -> list[warehouse.Event]:
    """All that the master remembers, the oldest first; at most a thousand."""
    found: list[warehouse.Event] = []
    with trio.move_on_after(FIRST_S) as scope:
        async for event in store.events(after=0):
            # The master sends all that it remembers at once; then the iterator waits for news, which ends it.
            scope.deadline = trio.current_time()
            found.append(event)
    return found


async def recent(store: warehouse.Store, most: int, *, is_progress_told: bool = True) -> list[Told]:
    """The latest events in words, the newest first.

    Args:
        is_progress_told: also how far jobs are.
    """
    lines = (told(event) for event in reversed(await remembered(store)))
    return list(islice((line for line in lines if is_progress_told or not line.is_progress), most))
