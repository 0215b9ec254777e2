"""Bodies: how much of a request is taken, and what becomes of the rest after an early answer.

Quart collects a body as fast as it comes, whether a page wants it or not.  So no more than a form may have is
handed on, and the rest is dropped.  A browser that still sends while its answer is ready (too large, not
allowed, no such page) would see a broken connection instead of the answer: the rest is taken for a moment
before the answer ends.  Whoever sends for longer than that loses the connection.
"""

from __future__ import annotations

import trio
from hypercorn.typing import ASGIReceiveCallable, ASGIReceiveEvent, ASGISendCallable, ASGISendEvent, Scope
from quart import Quart

DRAIN_S = 5.0
DRAIN_MAX = 64 * 1024 * 1024  # bytes


class Body:
    """The body of one request.

    Args:
        most: bytes that are handed on; None: all.
    """

    def __init__(self, receive: ASGIReceiveCallable, most: int | None = None) -> None:
        self._receive = receive
        self._most = most
        self._taken = 0
        self._settled = trio.Event()  # it has ended, or is longer than anybody waits for

    async def receive(self) -> ASGIReceiveEvent:
        event = await self._receive()
        if event["type"] != "http.request":
            self._settled.set()
            return event
        before, self._taken = self._taken, self._taken + len(event["body"])
        if not event.get("more_body") or (self._most is not None and self._taken > DRAIN_MAX):
            self._settled.set()
        if self._most is not None and before > self._most:  # more was handed on, which is refused
            return {"type": "http.request", "body": b"", "more_body": event.get("more_body", False)}
        return event

    async def settle(self) -> None:
        """Wait a moment for the end of a body that somebody else receives."""
        with trio.move_on_after(DRAIN_S):
            await self._settled.wait()

    async def drain(self) -> None:
        """Receive the rest of a body that nobody else receives, for a moment."""
        most = self._taken + DRAIN_MAX
        with trio.move_on_after(DRAIN_S):
            while not self._settled.is_set() and self._taken < most:
                await self.receive()


def mount(app: Quart, most: int) -> None:
    """Bound the bodies that this application collects."""
    inner = app.asgi_app

    async def outer(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] != "http":
            await inner(scope, receive, send)
            return
        body = Body(receive, most)

        async def send_then_settle(event: ASGISendEvent) -> None:
            if event["type"] == "http.response.body" and not event.get("more_body"):
                await body.settle()
            await send(event)

        await inner(scope, body.receive, send_then_settle)

    app.asgi_app = outer  # type: ignore[method-assign]
