"""RPC: the master calls one of its actors, and says which answer it expects."""

from __future__ import annotations

from typing import TypeVar

from warehouse.errors import MalformedMessage
from warehouse.transport.messages import Answer, Message, Request
from warehouse.transport.zeromq.peers import Peer

A = TypeVar("A", bound=Message)

CALL_S = 30.0  # a call without an answer by then has failed; the actor may have carried it out all the same


async def call(peer: Peer, command: Request, wanted: type[A], *, timeout_s: float = CALL_S) -> A:
    """Have `peer` carry out `command`; return its answer, which is a `wanted`.

    Raises:
        LinkDown, DeadlineExceeded: nobody knows whether `peer` carried the command out.
        MalformedMessage: `peer` answered with another type.
        StoreError: `peer` refused the command with this error.
    """
    answer: Answer = await peer.request(command, timeout_s=timeout_s)
    if not isinstance(answer, wanted):
        raise MalformedMessage(f"{peer.name} answered {type(answer).__name__}, not {wanted.__name__}")
    return answer
