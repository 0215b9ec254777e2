"""Ask: one request over S3, from the moment at which it is known who asks, and for what."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from msgspec import Struct

from warehouse.client.bucket import Bucket
from warehouse.client.store import Store
from warehouse.gateway.askers import Asker
from warehouse.gateway.form_body import FormBody
from warehouse.s3.chunked import Chain
from warehouse.s3.operations import Operation
from warehouse.s3.payload import UNSIGNED
from warehouse.s3.query import Query
from warehouse.s3.target import Target
from warehouse.transport.http.exchange import Exchange

Headers = Sequence[tuple[bytes, bytes]]


class Ask(Struct, frozen=True):
    """
    Attributes:
        headers: as the client means them: with those that a presigned request has in its query.
        ids: the headers that every answer has.
        signed_body: what was signed about the body: its SHA-256, or a word such as UNSIGNED-PAYLOAD.
        chain: what signed chunks of the body begin with; None where the request itself is not signed so.
        form: the object comes in a form, which has been read up to its file.
    """

    exchange: Exchange
    asker: Asker
    operation: Operation
    target: Target
    query: Query
    headers: Mapping[bytes, bytes]
    ids: Headers
    signed_body: bytes = UNSIGNED
    chain: Chain | None = None
    form: FormBody | None = None

    @property
    def store(self) -> Store:
        return self.asker.store

    @property
    def bucket(self) -> Bucket:
        return self.asker.store.bucket(self.target.bucket)


class Answer(Struct, frozen=True):
    """What an operation answers, unless it has streamed its answer already."""

    status: int = 200
    headers: Headers = ()
    body: bytes = b""


XML: Headers = ((b"Content-Type", b"application/xml"),)

# Does an operation; None: it has answered on the exchange itself.
Handler = Callable[[Ask], Awaitable[Answer | None]]


def document(body: bytes, headers: Headers = ()) -> Answer:
    return Answer(200, (*XML, *headers), body)
