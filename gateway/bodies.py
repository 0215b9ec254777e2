"""Bodies: what clients send, out of its framing, and checked against all that they promised about it.

    socket -> aws-chunked (`s3/chunked.py`) or form (`form_body.py`) -> digests (`s3/integrity.py`) -> pieces

The last piece is held back until every promise has been kept.  So a source that ends has ended well: whoever
stores its pieces stores nothing of a body that was cut off, changed, or not the one that was signed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing

from warehouse.client.writing.sources import OnceSource
from warehouse.gateway.ask import Ask
from warehouse.gateway.digesting import THREAD_FROM, Digesting
from warehouse.gateway.journal import record_of
from warehouse.gateway.upload_memory import held_most, lease_of
from warehouse.s3.checksums import Algorithm
from warehouse.s3.chunked import ChunkedDecoder
from warehouse.s3.failures import Failure
from warehouse.s3.integrity import Digests, Integrity, Promises, promises_of
from warehouse.s3.payload import Framing, Payload, payload_of

PIECE = 256 * 1024
WHOLE_MAX = 1024 * 1024  # bytes of an object that is held as a whole: such are put together, hundreds at once
OBJECT_MAX = 5 * 1024**3  # bytes of one PUT, as S3 has it
HTTP_BODY_MAX = OBJECT_MAX + OBJECT_MAX // 8  # with the framing of small chunks


class Body:
    """The body of one request.

    Attributes:
        size: bytes of the object; None: the end of the body says it.
        digests: of all bytes; known when the pieces have ended.
    """

    def __init__(self, ask: Ask, algorithm: Algorithm | None = None, *, is_object: bool = True) -> None:
        """
        Args:
            algorithm: of the checksum that is made where the request brings none; None: make none.
            is_object: see `promises_of`.
        Raises:
            Failure: the headers contradict each other, or promise what nobody can check.
        """
        self._ask = ask
        self._payload = _payload_of(ask)
        self.promises: Promises = promises_of(ask.headers, self._payload, is_object=is_object)
        self.size = self._payload.length
        self.digests: Digests | None = None
        self._integrity = Integrity(self.promises, algorithm)

    @property
    def found(self) -> Digests:
        """What the body was; its pieces have ended."""
        assert self.digests is not None
        return self.digests

    async def read(self, size_max: int) -> bytes:
        """All of it.

        Raises:
            Failure: it is longer, or not as it was promised.
        """
        if self.size is not None and self.size > size_max:
            raise _too_long(size_max)
        content = bytearray()
        async for piece in self.pieces():
            content += piece
            if len(content) > size_max:
                raise _too_long(size_max)
        return bytes(content)

    async def source(self) -> bytes | AsyncIterable[bytes] | OnceSource:
        """The bytes of the object, for the client library: a short one whole, so that it needs no buffer of a
        stream.  Clients of S3 can send a body again.

        Raises:
            Failure: a short one is not as it was promised.
        """
        if self.size is not None and self.size <= WHOLE_MAX:
            whole = self._take_nowait()
            return await self.read(WHOLE_MAX) if whole is None else whole
        return self.pieces() if self.size is None else OnceSource(self.pieces(), self.size)

    def _take_nowait(self) -> bytes | None:
        """A small body without framing that came together with its head; None: it has to be waited for.

        Raises:
            Failure: it is not as it was promised.
        """
        ask, size = self._ask, self.size
        exchange = ask.exchange
        if self._payload.framing is not Framing.NONE or ask.form is not None:
            return None
        if size is None or size >= THREAD_FROM or not exchange.body_has_come:
            return None
        if not lease_of(exchange).grow_nowait(size):
            return None
        whole = exchange.take_body()
        record_of(exchange).received += size
        self._integrity.update(whole)
        self.digests = self._integrity.finish()
        return whole

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The bytes of the object, in pieces of at most 256 KiB.

        Raises:
            Failure: the body was cut off, is longer or shorter than it says, or not as it was promised.
        """
        decoder, lease, whole = self._decoder(), lease_of(self._ask.exchange), self.size
        digesting = Digesting(self._integrity)
        held = b""
        size = 0
        async for received in self._received():
            for piece in (received,) if decoder is None else decoder.feed(received):
                if not piece:
                    continue
                size += len(piece)
                if (room := held_most(whole, size)) > lease.held:
                    await lease.grow(room)
                kept = bytes(piece)
                await digesting.add(kept)
                if held:
                    yield held  # which is sent while the next one is digested
                held = kept
        trailers = None if decoder is None else decoder.finish()
        await digesting.wait()
        self.digests = self._integrity.finish(trailers)
        self.size = size
        if held:
            yield held

    def _decoder(self) -> ChunkedDecoder | None:
        if self._payload.framing is Framing.NONE:
            return None
        chain = self._ask.chain if self._payload.framing is Framing.SIGNED_CHUNKS else None
        if self._payload.framing is Framing.SIGNED_CHUNKS and chain is None:
            raise Failure("InvalidRequest", "Signed chunks need a request that is signed so.", closes=True)
        return ChunkedDecoder(self._payload, chain)

    async def _received(self) -> AsyncGenerator[bytes | memoryview, None]:
        if self._ask.form is not None:
            async with aclosing(self._ask.form.pieces()) as pieces:
                async for part in pieces:
                    yield part
            return
        self._ask.exchange.accept_body(HTTP_BODY_MAX)
        while piece := await self._ask.exchange.read_piece(PIECE):
            record_of(self._ask.exchange).received += len(piece)
            yield piece


def _payload_of(ask: Ask) -> Payload:
    if ask.form is not None:  # its fields say nothing about framing: there is none within a form
        return Payload(Framing.NONE)
    exchange = ask.exchange
    length = None if exchange.is_chunked else exchange.content_length
    return payload_of(ask.headers, length, ask.signed_body)


async def read_document(ask: Ask, size_max: int) -> bytes:
    """The document that a request brings; empty: it brings none."""
    return await Body(ask).read(size_max)


def _too_long(size_max: int) -> Failure:
    return Failure(
        "MaxMessageLengthExceeded", f"Your request was too big: at most {size_max} bytes.", closes=True
    )
