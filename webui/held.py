"""Held: what a request holds until its answer was sent whole, was broken off, or was never begun.

A handler returns before its answer is sent, and the answer of a browser that has gone away is not sent at
all.  So what a handler takes for as long as its answer lasts belongs to the request as a whole.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from contextvars import ContextVar
from typing import TypeVar

from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope
from quart import Quart

T = TypeVar("T")
_held: ContextVar[ExitStack] = ContextVar("held")


def hold(manager: AbstractContextManager[T]) -> T:
    """Enter this now, and leave it when the request that is being answered has ended."""
    return _held.get().enter_context(manager)


def mount(app: Quart) -> None:
    """Let go, at the end of each request, of what it holds."""
    inner = app.asgi_app

    async def outer(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        with ExitStack() as stack:
            before = _held.set(stack)
            try:
                await inner(scope, receive, send)
            finally:
                _held.reset(before)

    app.asgi_app = outer  # type: ignore[method-assign]
