"""Hubs, links and raw DEALERs for the tests of `transport.zeromq`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio
import zmq

from harness import free_port
from warehouse.errors import (
    BadCredentials,
    NoSuchBucket,
)
from warehouse.transport.messages import (
    Answer,
    Attach,
    Attached,
    Buckets,
    ClusterStatus,
    CreateBucket,
    DeleteBucket,
    Done,
    Envelope,
    ListBuckets,
    LocateObjects,
    ObjectsLocated,
    Request,
    StatObject,
    decode_envelope,
    encode_envelope,
)
from warehouse.transport.zeromq.curve import CurveKeys
from warehouse.transport.zeromq.hub import Hub
from warehouse.transport.zeromq.link import Link
from warehouse.transport.zeromq.peers import Peer

HUB_KEYS = CurveKeys.generate()
KEYS = CurveKeys.generate()


class Owner:
    """What stands behind a hub in these tests; it answers by the kind of request."""

    def __init__(self) -> None:
        self.answered: list[Request] = []
        self.gone: list[Peer] = []
        self.release = trio.Event()

    def answer_now(self, peer: Peer, request: Request) -> Answer | None:
        match request:
            case ListBuckets():
                self.answered.append(request)
                return Buckets(buckets=[])
            case DeleteBucket():
                raise NoSuchBucket(f"there is no bucket {request.bucket}")
            case LocateObjects():
                return ObjectsLocated(
                    objects=[], grants=[], offline=dict.fromkeys(range(550), "a long name" * 90)
                )
            case ClusterStatus():
                raise ZeroDivisionError("a bug in answer_now")
            case Attach():
                if request.token != "good":
                    raise BadCredentials("this token is not good")
                peer.session = request.token
                return Attached(incarnation=1, chunk_size=1, expires_in_s=60)
        return None

    async def answer(self, peer: Peer, request: Request) -> Answer:
        self.answered.append(request)
        if isinstance(request, CreateBucket):
            await self.release.wait()
            return Done()
        if isinstance(request, StatObject) and request.key == "bug":
            raise ZeroDivisionError("a bug in answer")
        if isinstance(request, StatObject) and request.key == "group":
            async with trio.open_nursery():
                raise NoSuchBucket("raised inside a nursery")
        raise NoSuchBucket(f"{type(request).__name__} is answered later")

    def on_gone(self, peer: Peer) -> None:
        self.gone.append(peer)


@asynccontextmanager
async def open_hub(
    owner: Owner,
    endpoint: str = "tcp://127.0.0.1:0",
    *,
    prepare: Callable[[Hub], None] = lambda hub: None,
    **options: object,
) -> AsyncIterator[tuple[Hub, str]]:
    """Run a hub; `prepare` may tamper with it before it starts."""
    hub = Hub(
        keys=HUB_KEYS,
        incarnation=1,
        answer_now=owner.answer_now,
        answer=owner.answer,
        on_gone=owner.on_gone,
        **options,  # type: ignore[arg-type]
    )
    prepare(hub)
    async with trio.open_nursery() as nursery:
        bound = await nursery.start(hub.run, endpoint)
        yield hub, bound
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_link(
    endpoint: str,
    *,
    keys: CurveKeys = KEYS,
    greet: Callable[[Link], Awaitable[None]] | None = None,
    answer: Callable[[Request], Awaitable[Answer]] | None = None,
    server_key: bytes = HUB_KEYS.public,
) -> AsyncIterator[Link]:
    link = Link(
        endpoint=endpoint,
        server_key=server_key,
        keys=keys,
        name="tester",
        incarnation=7,
        greet=greet,
        answer=answer,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(link.run)
        yield link
        nursery.cancel_scope.cancel()


def free_endpoint() -> str:
    return f"tcp://127.0.0.1:{free_port()}"


async def until(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    with trio.fail_after(timeout_s):
        while not condition():
            await trio.sleep(0.002)


class RawDealer:
    """A DEALER without any of our code: it sends what it is told, and sees every frame."""

    def __init__(
        self, endpoint: str, *, keys: CurveKeys | None = KEYS, ident: bytes | None = None, queue: int = 10_000
    ) -> None:
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.rcvhwm = self.socket.sndhwm = queue
        if ident is not None:
            self.socket.routing_id = ident
        if keys is not None:
            self.socket.curve_publickey, self.socket.curve_secretkey = keys.public, keys.secret
            self.socket.curve_serverkey = HUB_KEYS.public
        self.socket.connect(endpoint)

    def __enter__(self) -> RawDealer:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(linger=0)

    async def receive(self, timeout_s: float = 30.0) -> list[bytes] | None:
        """Receive the next message that is not a probe; None when none comes in time."""
        with trio.move_on_after(timeout_s):
            while True:
                try:
                    parts = self.socket.recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    await trio.sleep(0.002)
                else:
                    if parts != [b""]:
                        return parts
        return None

    async def ask(
        self, body: Request, *, request_id: int, incarnation: int = 7, budget_ms: int | None = 5000
    ) -> Envelope:
        self.socket.send(encode_envelope(Envelope(incarnation, request_id, budget_ms, body)))
        return await self.answer()

    async def answer(self) -> Envelope:
        parts = await self.receive()
        assert parts is not None, "no answer came"
        (frame,) = parts
        return decode_envelope(frame)
