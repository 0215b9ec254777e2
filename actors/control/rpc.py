"""Orders: how the master has its actors do something, and what it may expect back."""

from __future__ import annotations

from typing import TypeVar

from warehouse.errors import MalformedMessage
from warehouse.transport.messages import Answer, Message, Request
from warehouse.transport.zeromq.hub import Peer

A = TypeVar("A", bound=Message)

ORDER_S = 30.0  # an order that is not answered by then has failed, whatever came of it


async def order(peer: Peer, command: Request, wanted: type[A], *, timeout_s: float = ORDER_S) -> A:
    """Have `peer` carry out `command`; return its answer, which is a `wanted`.

    Raises:
        LinkDown, DeadlineExceeded: whether it was carried out is not known.
        MalformedMessage: it answered something else.
        StoreError: what it refused the command with.
    """
    answer: Answer = await peer.request(command, timeout_s=timeout_s)
    if not isinstance(answer, wanted):
        raise MalformedMessage(f"{peer.name} answered {type(answer).__name__}, not {wanted.__name__}")
    return answer
