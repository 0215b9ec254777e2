"""Following: looks at the store for a topic when the master says that something changed, or now and then.

The master tells at once what changed (`Store.changes`), so a topic that nothing happens to costs it one
question that waits.  What changes all the time, such as figures or the progress of a job, a topic looks at
again by the clock.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress

import trio

import warehouse
from warehouse.client.nurseries import background

NEVER_S = float("inf")
PACE_S = 0.5  # between looks; what changes meanwhile is one change


async def follow_changes(
    store: warehouse.Store, subjects: Collection[str], look: Callable[[bool], Awaitable[float]]
) -> None:
    """Look at once and after each change, until cancelled.

    Args:
        subjects: of the changes, as `Store.changes` names them.
        look: gets whether something has changed, and returns after how many seconds to look again without a
            change; `NEVER_S`: not at all.
    """
    send, receive = trio.open_memory_channel[None](1)

    async def hear() -> None:
        async for _ in store.changes(only=subjects):
            with suppress(trio.WouldBlock):  # a look that is due already sees this change, too
                send.send_nowait(None)

    async with background() as nursery:
        nursery.start_soon(hear)
        await receive.receive()  # the first one comes at once
        pause_s = await look(True)
        while True:
            is_news = False
            with trio.move_on_after(pause_s):
                await receive.receive()
                is_news = True
            await trio.sleep(PACE_S if is_news else 0)
            pause_s = await look(is_news)
