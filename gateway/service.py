"""Service: one request over S3 from its head to its answer.

Every request has an id, in the answer's headers, in the error document and in the log.  A refusal is S3's own
error document; nothing that a client sends is answered with 500, and a bug is told to the log alone.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping

from warehouse.errors import LinkDown, StoreError
from warehouse.gateway.admission import Admission
from warehouse.gateway.ask import XML, Answer, Ask, Handler, Headers
from warehouse.gateway.buckets import Buckets, not_served
from warehouse.gateway.listings import Listings
from warehouse.gateway.objects import Objects
from warehouse.s3.failures import Failure, failure_of
from warehouse.s3.operations import Served
from warehouse.s3.ranges import unsatisfied_range
from warehouse.s3.xml_out import error_document
from warehouse.transport.http.exchange import Exchange

log = logging.getLogger(__name__)

_BROKEN = "We encountered an internal error. Please try again."


class Service:
    """The handler of the gateway's HTTP server.

    Args:
        host_id: names this gateway in answers.
    """

    def __init__(self, admission: Admission, host_id: str) -> None:
        self._admission = admission
        self._host_id = host_id
        self._handlers: Mapping[str, Handler] = {
            **Buckets(admission.terms.region).handlers(),
            **Listings().handlers(),
            **Objects().handlers(),
        }

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request."""
        request_id = secrets.token_hex(8).upper()
        try:
            answer = await self._answer(exchange, self._ids(request_id))
        except Failure as failure:
            await self._refuse(exchange, failure, request_id)
        except StoreError as error:
            if exchange.has_started:
                raise  # the connection ends: nobody takes half an answer for a whole one
            await self._refuse(exchange, failure_of(error), request_id)
        except Exception:
            if exchange.has_started:
                raise
            log.exception("a request broke", extra={"request_id": request_id})
            await self._refuse(exchange, Failure("InternalError", _BROKEN), request_id)
        else:
            if answer is not None:
                await exchange.respond(answer.status, [*answer.headers, *self._ids(request_id)], answer.body)

    async def _answer(self, exchange: Exchange, ids: Headers) -> Answer | None:
        async with self._admission.admitted(exchange, ids) as ask:
            return await self._handler_of(ask)(ask)

    def _handler_of(self, ask: Ask) -> Handler:
        """
        Raises:
            Failure: NotImplemented.
        """
        operation = ask.operation
        if not isinstance(operation.standing, Served):
            return not_served
        handler = self._handlers.get(operation.name)
        if handler is None:
            raise Failure(
                "NotImplemented",
                f"A header or operation you provided implies functionality that is not implemented:"
                f" {operation.name}.",
                {"Feature": operation.name},
            )
        return handler

    async def _refuse(self, exchange: Exchange, failure: Failure, request_id: str) -> None:
        if exchange.has_started:
            raise LinkDown(f"the answer had begun: {failure}")
        if failure.closes:
            exchange.is_keep_alive = False
        headers = [*XML, *self._ids(request_id)]
        if failure.code == "InvalidRange" and "ActualObjectSize" in failure.fields:
            headers.append((b"Content-Range", unsatisfied_range(int(failure.fields["ActualObjectSize"]))))
        resource = exchange.path.decode("utf-8", "replace")
        body = error_document(failure, resource, request_id, self._host_id)
        log.info("refused", extra={"code": failure.code, "request_id": request_id})
        await exchange.respond(failure.status, headers, body)

    def _ids(self, request_id: str) -> Headers:
        return ((b"x-amz-request-id", request_id.encode()), (b"x-amz-id-2", self._host_id.encode()))
