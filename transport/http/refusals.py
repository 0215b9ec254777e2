"""Refusals: what a server tells a client whose request fails, in the words of its handler.

The server decides when it refuses, and whether the connection goes on; a `Render` decides what is said.  It
is asked for whatever fails: requests that cannot be read, connections over the limit, clients that are too
slow, errors of the handler, and bugs (`InternalError`).  `render_json` is what needles say.

A handler may have failures of its own, which are no StoreErrors: its room need not know the names of the
store, and this one need not know the handler's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from warehouse.errors import Busy, StoreError
from warehouse.transport.http.rules import Header, refusal_headers

if TYPE_CHECKING:
    from warehouse.transport.http.exchange import Exchange


class Rendered(msgspec.Struct, frozen=True):
    """A refusal, ready to be sent.  The length of the body and `Connection` are the server's business.

    Attributes:
        body: sent unless the request is a HEAD.
        closes: the connection ends; where it has to, it does so in any case.
    """

    status: int
    headers: Sequence[Header] = ()
    body: bytes = b""
    closes: bool = False


# Takes an error and the exchange that it is about; None: the head of the request is not known.
Render = Callable[[Exception, "Exchange | None"], Rendered]


class InternalError(StoreError):
    """A bug, of the handler or of the server.  Its cause is in the log, and no business of the client's."""

    code = "internal_error"


class _Json(msgspec.Struct, omit_defaults=True):
    code: str
    message: str
    retry_after_s: float = 0.0


_JSON_HEADERS: Final = ((b"Content-Type", b"application/json"), (b"Cache-Control", b"no-store"))


def render_json(error: Exception, exchange: Exchange | None) -> Rendered:
    """Refuse with `{"code", "message"}`, and the headers that the status asks for."""
    assert isinstance(error, StoreError), "a server that knows other failures renders them itself"
    retry_after_s = error.retry_after_s if isinstance(error, Busy) else 0.0
    body = msgspec.json.encode(_Json(error.code, error.message, retry_after_s))
    return Rendered(error.status, (*_JSON_HEADERS, *refusal_headers(error)), body)


@dataclass(frozen=True)
class Refusals:
    """How a server refuses.

    Attributes:
        render: turns an error into an answer.
        failures: what a handler raises besides StoreErrors, and `render` understands.  Anything else is a
            bug, and `render` gets an InternalError in its place.
        make_request_id: makes an id for each request that is asked for it; None: requests have no ids.
    """

    render: Render = render_json
    failures: tuple[type[Exception], ...] = ()
    make_request_id: Callable[[], str] | None = None

    @property
    def expected(self) -> tuple[type[Exception], ...]:
        return (StoreError, *self.failures)


NEEDLE_REFUSALS = Refusals()
