"""Routes: which function answers which request.

Each subject of the master (`sessions`, `objects`, `leases`, ...) has its `routes()`; the master includes them
in one table.  mypy checks every pair: the handler takes the request it stands for and returns an `Answer`.
A test checks that every request which a role may send has exactly one route.

    now             the handler answers in the same turn of the loop, without waiting
    now_or_later    the first handler does so, or returns None; then the second one runs, in a task of its own
    later           the handler runs in a task of its own
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, Self, TypeVar

from warehouse.errors import BadRequest
from warehouse.transport.messages import Answer, Message, Request
from warehouse.transport.zeromq.peers import Peer

R = TypeVar("R", bound=Request)

Now = Callable[[Peer, R], Answer]
NowOrNone = Callable[[Peer, R], Answer | None]
Later = Callable[[Peer, R], Awaitable[Answer]]


class Routes:
    """A table of handlers by type of request; each type stands in it once."""

    def __init__(self) -> None:
        # `Any`: a dict cannot say that the handler under a type takes that type; `now` and `later` do.
        self._now: dict[type[Message], NowOrNone[Any]] = {}
        self._later: dict[type[Message], Later[Any]] = {}
        self._kinds: list[type[Message]] = []

    @property
    def kinds(self) -> frozenset[type[Message]]:
        """The types of request that have a handler."""
        return frozenset(self._kinds)

    # --- registration -----------------------------------------------------------------------------

    def now(self, kind: type[R], handler: Now[R]) -> Self:
        """Have `handler` answer requests of this type, without waiting."""
        self._add(kind)
        self._now[kind] = handler
        return self

    def now_or_later(self, kind: type[R], handler: NowOrNone[R], later: Later[R]) -> Self:
        """Have `handler` answer without waiting; where it returns None, have `later` answer."""
        self._add(kind)
        self._now[kind] = handler
        self._later[kind] = later
        return self

    def later(self, kind: type[R], handler: Later[R]) -> Self:
        """Have `handler` answer in a task of its own."""
        self._add(kind)
        self._later[kind] = handler
        return self

    def _add(self, *kinds: type[Message]) -> None:
        for kind in kinds:
            assert kind not in self._kinds, f"{kind.__name__} has two handlers"
            self._kinds.append(kind)

    def include(self, *tables: Routes) -> Self:
        """Take over every route of these tables."""
        for table in tables:
            self._add(*table._kinds)
            self._now |= table._now
            self._later |= table._later
        return self

    # --- dispatch ---------------------------------------------------------------------------------

    def answer_now(self, peer: Peer, request: Request) -> Answer | None:
        """The answer of the handler, or None: `answer` has to wait for it."""
        handler = self._now.get(type(request))
        return None if handler is None else handler(peer, request)

    async def answer(self, peer: Peer, request: Request) -> Answer:
        """
        Raises:
            BadRequest: no handler answers requests of this type.
            StoreError: the handler refused the request.
        """
        handler = self._later.get(type(request))
        if handler is None:
            raise BadRequest(f"a master does not answer {type(request).__name__}")
        return await handler(peer, request)


class Subject(Protocol):
    """The handlers of one subject."""

    def routes(self) -> Routes: ...
