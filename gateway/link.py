"""Link: how a gateway shows signatures to the master.

One connection, with the key of a node that has joined as a gateway.  All else that a gateway asks, it asks
on the connections of the API keys that it has met (`askers.py`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import trio

from warehouse.client.control import back_off_s
from warehouse.conf.server_keys import ServerKeys
from warehouse.errors import DeadlineExceeded, LinkDown, MalformedMessage, NodeUnknown
from warehouse.transport.messages import (
    BucketConfigFound,
    CheckSignature,
    FindCors,
    GatewayRequest,
    GatewayWelcome,
    MasterAnswer,
    RegisterGateway,
    SignatureChecked,
)
from warehouse.transport.zeromq.curve import CurveKeys
from warehouse.transport.zeromq.link import Link
from warehouse.transport.zeromq.server_keys import hear_next_key

log = logging.getLogger(__name__)

A = TypeVar("A", bound=MasterAnswer)

REGISTER_S = 10.0
CHECK_S = 15.0  # of one signature, with a wait for the link and repeats


@dataclass(frozen=True)
class Place:
    """Where the master is.

    Attributes:
        master: "tcp://host:port" of its control socket.
        server_key: its CURVE key, Z85; see `conf/server_keys.py`.
    """

    master: str
    server_key: str
    authority: str = ""


class GatewayLink:
    """
    Args:
        url: where clients of S3 reach this gateway.
        keys: of this node.
        join: makes the key that of a node, with a token; asked when the master does not know it.
        server_keys: of the master, as the join file keeps them.
    """

    def __init__(
        self,
        place: Place,
        *,
        name: str,
        url: str = "",
        keys: CurveKeys,
        server_keys: ServerKeys,
        join: Callable[[Link], Awaitable[None]],
    ) -> None:
        self.place = place
        self.name = name
        self.url = url
        self.authority = place.authority  # as the master told it last
        self._join = join
        self._server_keys = server_keys
        self._incarnation = time.time_ns() // 1_000_000
        self._link = Link(
            endpoint=place.master,
            server_key=place.server_key.encode(),
            keys=keys,
            name="gateway",
            incarnation=self._incarnation,
            greet=self._greet,
            read_server_key=server_keys.reader,
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the connection, until cancelled."""
        await self._link.run(task_status=task_status)

    @property
    def is_up(self) -> bool:
        """Whether the master answers, and has let this gateway in."""
        return self._link.is_up

    async def wait_up(self) -> None:
        """
        Raises:
            RequestRefused: the master does not let this gateway in; its message says what to do.
        """
        await self._link.wait_up()

    async def wait_down(self) -> None:
        await self._link.wait_down()

    async def check(self, shown: CheckSignature) -> SignatureChecked:
        """
        Raises:
            NoSuchApiKey, KeyCannotSign, SignatureMismatch: see `CheckSignature`.
            Overloaded: too many signatures of this key were wrong lately.
            LinkDown, DeadlineExceeded: the master did not answer in time.
        """
        return await self._ask(shown, SignatureChecked)

    async def find_cors(self, bucket: str) -> bytes:
        """The document with the CORS rules of a bucket; empty: there is none.

        Raises:
            NoSuchBucket.
            LinkDown, DeadlineExceeded: the master did not answer in time.
        """
        return (await self._ask(FindCors(bucket=bucket), BucketConfigFound)).document

    async def _ask(self, question: GatewayRequest, kind: type[A]) -> A:
        deadline, attempt = trio.current_time() + CHECK_S, 0
        while True:
            try:
                with trio.fail_at(deadline):
                    await self._link.wait_up()
                left_s = max(deadline - trio.current_time(), 0.001)
                answer = await self._link.request(question, timeout_s=left_s)
                break
            except trio.TooSlowError:
                raise LinkDown("the master does not answer") from None
            except (LinkDown, DeadlineExceeded):
                pause_s = back_off_s(attempt)
                if trio.current_time() + pause_s >= deadline:
                    raise
                await trio.sleep(pause_s)
                attempt += 1
        if not isinstance(answer, kind):
            raise MalformedMessage(f"expected {kind.__name__}, not {type(answer).__name__}")
        return answer

    async def _greet(self, link: Link) -> None:
        registration = RegisterGateway(name=self.name, incarnation=self._incarnation, url=self.url)
        try:
            welcome = await link.ask_now(registration, timeout_s=REGISTER_S)
        except NodeUnknown:
            await self._join(link)
            welcome = await link.ask_now(registration, timeout_s=REGISTER_S)
        if not isinstance(welcome, GatewayWelcome):
            raise MalformedMessage(f"expected GatewayWelcome, not {type(welcome).__name__}")
        self.authority = welcome.authority or self.authority
        await hear_next_key(link, self._server_keys, welcome.next_server_key)
        log.info("registered with the master", extra={"master": self.place.master})
