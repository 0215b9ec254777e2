"""Streaming: answers of any size in bounded memory, whole or visibly broken off.

A piece is made when the browser has taken the one before.  An answer that fails half-way ends without its
end: the browser says that the download failed, and nobody takes a part for the whole.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType

from quart import Response, request
from quart.wrappers.response import ResponseBody

Pieces = AsyncIterator[bytes]
Opener = Callable[[], AbstractAsyncContextManager[Pieces]]


class _Body(ResponseBody):
    """Opens its pieces when they are sent, and closes them whatever happens."""

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Pieces:
        return await self._stack.enter_async_context(self._opener())

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self._stack.__aexit__(exc_type, exc_value, tb)

    async def make_conditional(self, begin: int, end: int | None) -> int:
        raise NotImplementedError  # ranges are read from the store


def streamed(
    opener: Opener, status: int, headers: dict[str, str], *, most_s: float | None = None
) -> Response:
    """An answer whose body is what `opener` opens.

    An exception in there breaks the connection off.

    Args:
        most_s: it breaks off when it is not sent in this time; None: it may take hours.
    """
    response = Response(b"", status, headers)
    if request.method == "HEAD":
        return response
    response.response = _Body(opener)
    if "Content-Length" in headers:
        response.headers["Content-Length"] = headers["Content-Length"]
    else:
        response.headers.pop("Content-Length", None)
    response.timeout = most_s
    return response
