"""Needle HTTP: what a volume actor answers on its data port.

    PUT             /v1/needles/{volume}/{needle}    `needle_put`; with a token, as a Bearer header or ?token=
    GET, HEAD       /v1/needles/{volume}/{needle}    `needle_get`; the same
    POST            /v1/batch/put, /v1/batch/get     `batch_http`: many at once
    GET             /healthz, for load balancers: a word, and no token

This file finds the handler of a request and counts refusals.  The handlers turn requests into calls of
`storage` and nothing else: the token says what is allowed, the volume keeps the bytes, the commit pipeline
makes them durable and visible.  Bodies flow in bounded pieces; the hot path (small bodies, warm reads) hops
to no thread.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from warehouse.actors.data.authorization import NEEDLE_ROUTE, Counters, RequestAuthorizer
from warehouse.actors.data.batch_http import BATCH_PATHS, BatchHttp
from warehouse.actors.data.buffers import BufferPool
from warehouse.actors.data.chunk_lists import Ask, ChunkLists
from warehouse.actors.data.cold_reads import ColdReads
from warehouse.actors.data.commit_pipeline import CommitPipeline
from warehouse.actors.data.needle_get import NeedleGet
from warehouse.actors.data.needle_put import NeedlePut
from warehouse.actors.data.sending import Sending
from warehouse.actors.data.url_errors import for_url_holder
from warehouse.actors.monitoring import respond_health
from warehouse.auth.data_tokens import DataClaims, DataTokenVerifier
from warehouse.errors import NoSuchRoute, StoreError
from warehouse.storage.format.stamp import StampClock
from warehouse.transport.http.exchange import Exchange
from warehouse.transport.http.pool import HttpPool
from warehouse.transport.http.rules import require_method

Handler = Callable[[Exchange], Awaitable[None]]


class NeedleHttp:
    """The handler of one volume actor's `HttpServer`."""

    def __init__(
        self,
        *,
        pipelines: Mapping[int, CommitPipeline],
        broken: Mapping[int, str],
        verifier: DataTokenVerifier,
        clock: StampClock,
        pool: HttpPool,
        is_ready: Callable[[], bool],
        cold_reads: ColdReads | None = None,
        ask_master: Ask | None = None,
        incarnation: int = 0,
    ) -> None:
        """
        Args:
            incarnation: of this run of the actor.
            broken: volumes of this disk that could not be opened, and why.
            ask_master: asks which chunks an object has; None: URLs that want that are refused.
        """
        self._broken = broken
        self._is_ready = is_ready
        self.counters = Counters()
        buffers = BufferPool()
        authorizer = RequestAuthorizer(pipelines, broken, verifier, incarnation)
        sending = Sending(pipelines, pool, self.counters, buffers, ChunkLists(ask_master))
        self._get = NeedleGet(authorizer, sending, cold_reads or ColdReads(), self.counters)
        self._put = NeedlePut(authorizer, clock, self.counters, buffers)
        self._batches = BatchHttp(authorizer, clock, self.counters)
        self.authorizer = authorizer
        # By path; behind the first one two numbers follow.  A test asks each with every kind of token.
        self.routes: Mapping[bytes, Handler] = {
            NEEDLE_ROUTE: self._needle,
            **dict.fromkeys(BATCH_PATHS, self._batches.handle),
            b"/healthz": self._health,
            b"*": self._options,
        }
        self.get_nowait = self._get.get_nowait  # for `HttpServer`

    async def handle(self, exchange: Exchange) -> None:
        try:
            path = exchange.path
            handler = self.routes.get(NEEDLE_ROUTE if path.startswith(NEEDLE_ROUTE) else path)
            if handler is None:
                raise NoSuchRoute(
                    "the data port serves /v1/needles/{volume}/{needle}, /v1/batch/put and get, and /healthz;"
                    " metrics have a port of their own"
                )
            await handler(exchange)
        except StoreError as error:
            self.counters.failed(error.code)
            self.counters.refused_tokens.note(exchange.peer, error)
            told = for_url_holder(error) if exchange.query else error
            if told is error:
                raise
            raise told from error

    def health(self) -> tuple[bool, str]:
        """Whether all is well with this disk, and a word of it."""
        if self._broken:
            return False, "some volumes could not be opened"
        return (True, "ok") if self._is_ready() else (False, "no master")

    async def _options(self, exchange: Exchange) -> None:
        """`*` is no path; only OPTIONS can ask for it: RFC 9110, 9.3.7."""
        await exchange.respond(204, [(b"Allow", b"GET, HEAD, PUT, POST")])

    async def _health(self, exchange: Exchange) -> None:
        require_method(exchange.method, b"GET", b"HEAD")
        await respond_health(exchange, *self.health())

    async def _needle(self, exchange: Exchange) -> None:
        method = exchange.method
        require_method(method, b"GET", b"HEAD", b"PUT")
        claims = self.authorizer.claims_of(exchange)
        pipeline, needle_id = self.authorizer.place_of(claims, method, exchange.path)
        throttle = self.authorizer.throttle
        if claims.key_id not in throttle.limits:
            await self._serve(exchange, pipeline, claims, needle_id)
            return
        with throttle.one_request(claims.key_id, exchange):
            await self._serve(exchange, pipeline, claims, needle_id)

    async def _serve(
        self, exchange: Exchange, pipeline: CommitPipeline, claims: DataClaims, needle_id: int
    ) -> None:
        method = exchange.method
        if method == b"PUT":
            await self._put.handle(exchange, pipeline, claims, needle_id)
        elif claims.parts is not None or claims.chunk_list_token is not None:
            await self._get.handle_object(exchange, pipeline, claims, needle_id)
        else:
            await self._get.handle(exchange, pipeline, claims, needle_id)
