"""Service: one request over S3 from its head to its answer."""

from __future__ import annotations

from collections.abc import Mapping

from warehouse.gateway.acls import Acls
from warehouse.gateway.admission import Admission
from warehouse.gateway.ask import Answer, Ask, Handler, Headers
from warehouse.gateway.attributes import Attributes
from warehouse.gateway.buckets import Buckets, not_served
from warehouse.gateway.completing import Completing
from warehouse.gateway.configs import Configs
from warehouse.gateway.copies import Copies
from warehouse.gateway.cors import Cors
from warehouse.gateway.forms import Forms
from warehouse.gateway.journal import Journal, record_of
from warehouse.gateway.listings import Listings
from warehouse.gateway.multipart import Multipart
from warehouse.gateway.objects import Objects
from warehouse.gateway.refusing import Refusing
from warehouse.gateway.tagging import Tagging
from warehouse.gateway.upload_lists import UploadLists
from warehouse.gateway.upload_memory import UploadMemory
from warehouse.s3.failures import Failure
from warehouse.s3.operations import Served
from warehouse.s3.route import PREFLIGHT
from warehouse.transport.http.exchange import Exchange
from warehouse.transport.http.heads import HeadRules

# Clients send bodies of unknown length, and some send keys as they are.
RULES = HeadRules(takes_chunked=True, takes_utf8=True, is_literal=True, are_signed=True)

_WITHOUT_BODY = frozenset((b"GET", b"HEAD"))  # nobody reads one


class Service:
    """The handler of the gateway's HTTP server."""

    def __init__(
        self, admission: Admission, refusing: Refusing, journal: Journal, memory: UploadMemory, cors: Cors
    ) -> None:
        self._cors = cors
        self._admission = admission
        self._memory = memory
        self._refusing = refusing
        self._journal = journal
        terms, objects = admission.terms, Objects()
        self._handlers: Mapping[str, Handler] = {
            **Buckets(terms.region).handlers(),
            **Configs(cors).handlers(),
            **Listings().handlers(),
            **Acls().handlers(),
            **objects.handlers(),
            **Copies().handlers(),
            **Tagging().handlers(),
            **Attributes().handlers(),
            **Multipart().handlers(),
            **Completing(is_tls=terms.is_tls).handlers(),
            **UploadLists().handlers(),
            **Forms(objects, is_tls=terms.is_tls).handlers(),
        }

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request.

        Raises:
            Failure, StoreError: the request is refused, and the server says so as `Refusing` has it.
        """
        self._journal.begin(exchange)
        try:
            ids = self._refusing.ids(exchange.request_id)
            if exchange.method in _WITHOUT_BODY:
                answer = await self._answer(exchange, ids)
            else:
                with self._memory.lease(exchange):
                    answer = await self._answer(exchange, ids)
            if answer is not None:
                await exchange.respond(
                    answer.status, (*answer.headers, *ids, *record_of(exchange).cors), answer.body
                )
        except Exception:
            if exchange.has_started or exchange.is_broken:
                self._journal.cut(exchange)
            raise  # else `Refusing` tells the journal
        except BaseException:
            self._journal.cut(exchange)
            raise
        self._journal.answered(exchange)

    async def _answer(self, exchange: Exchange, ids: Headers) -> Answer | None:
        has_origin = b"origin" in exchange.headers  # what such an answer says is not remembered
        ask = None if has_origin else self._admission.ask_again(exchange, ids)
        if ask is None:
            seen = self._admission.look(exchange)
            if seen.operation is PREFLIGHT:
                return await self._cors.preflight(seen.target.bucket, exchange.method, exchange.headers)
            if has_origin:
                cors = await self._cors.headers(seen.target.bucket, exchange.method, exchange.headers)
                record_of(exchange).cors = cors
                ids = (*ids, *cors)
            ask = self._admission.ask_of_known(exchange, seen, ids)
            if ask is None:
                async with self._admission.admitted(exchange, seen, ids) as ask:
                    return await self._handler_of(ask)(ask)
        with ask.asker:  # nearly always
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
                "A header or operation you provided implies functionality that is not implemented:"
                f" {operation.name}.",
                {"Feature": operation.name},
            )
        return handler
