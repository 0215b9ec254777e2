"""Chunked body: the body of one request that comes in chunked coding, off its connection.

`chunked` knows the coding; here are the waits.  Long chunks go from the socket straight to whoever reads, and
only their framing passes through the connection's buffer.  What follows the body stays in that buffer.

A client may send one byte a chunk, which costs us more than the byte is worth.  So framing counts many times
in the burst after which a connection lets others have their turn.
"""

from __future__ import annotations

from contextlib import suppress

from warehouse.errors import LinkDown, StoreError
from warehouse.transport.http.chunked import ChunkedDecoder
from warehouse.transport.http.connection import Connection

FRAMING_COST = 1024  # bytes that could be moved while one byte of framing is read


class ChunkedBody:
    """Reads one body.  What has gone wrong once goes wrong again."""

    __slots__ = ("_connection", "_decoder", "_failure", "is_accepted")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._decoder = ChunkedDecoder()
        self._failure: StoreError | None = None
        self.is_accepted = False  # the handler has said that it takes a body of unknown length

    @property
    def is_finished(self) -> bool:
        return self._decoder.is_finished

    def limit(self, size_max: int) -> None:
        """Take a body of `size_max` bytes at most, or of fewer if that has been said before.

        Raises:
            BodyTooLarge: more has been announced already.
        """
        self._decoder.limit(size_max)

    async def read_into(self, view: memoryview) -> int:
        """Receive the next bytes of the body, as many as have come and fit; return their number.

        That is 0 at the end of the body; the view is not empty.

        Raises:
            BadRequest: the framing is malformed.
            BodyTooLarge: there is more than `limit` allows.
            LinkDown, RequestTimeout: the client left, or is too slow.
        """
        connection, decoder = self._connection, self._decoder
        count = 0
        while not count and not decoder.is_finished:
            if decoder.chunk_left and not connection.has_received:
                count = await connection.receive_into(view[: decoder.chunk_left])
                decoder.take(count)
                if not count:
                    raise self._cut_short()
            elif await connection.fetch():
                count = self._decode(view)
            else:
                raise self._cut_short()
        return count

    async def read_piece(self, size: int) -> bytes:
        """Receive 1 to `size` bytes of the body; b"" at its end.  Raises as `read_into`.

        This takes memory for what has come, not for `size`.
        """
        connection, decoder = self._connection, self._decoder
        if decoder.is_finished:
            return b""
        if decoder.chunk_left and not connection.has_received:
            piece = await connection.receive(min(size, decoder.chunk_left))
            decoder.take(len(piece))
            if not piece:
                raise self._cut_short()
            return piece
        if not await connection.fetch():
            raise self._cut_short()
        data, start = connection.buffered
        buffer = memoryview(bytearray(min(size, len(data) - start)))
        return bytes(buffer[: await self.read_into(buffer)])

    def finish_nowait(self, scratch: memoryview) -> bool:
        """Throw away a little that has been received; return whether the body has ended."""
        if self._connection.has_received and not self.is_finished:
            with suppress(StoreError):
                self._decode(scratch)
        return self.is_finished

    def _decode(self, view: memoryview) -> int:
        """Take what has been received; return how much of it was data."""
        if self._failure is not None:
            raise self._failure
        data, start = self._connection.buffered
        try:
            end, count = self._decoder.decode(data, start, view)
        except StoreError as error:
            self._failure = error
            raise
        self._connection.skip(end - start)
        self._connection.charge((end - start - count) * FRAMING_COST)
        return count

    def _cut_short(self) -> LinkDown:
        self._connection.is_broken = True
        return LinkDown(f"{self._connection.peer} closed the connection before the end of the body")
