"""A link to a master that answers as a test says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from warehouse.transport.messages import Answer, Commit, NeedlesCommitted, NeedlesStored, Request

Master = Callable[[NeedlesStored], Awaitable[Answer]]


class ScriptedLink:
    """Stands for the link to the master: answers each request as the test says."""

    def __init__(self) -> None:
        self.asked: list[NeedlesStored] = []
        self.master: Master = commit_all

    async def request(self, body: Request, *, timeout_s: float) -> Answer:
        assert isinstance(body, NeedlesStored)
        self.asked.append(body)
        await trio.lowlevel.checkpoint()
        return await self.master(body)


async def commit_all(body: NeedlesStored) -> Answer:
    return NeedlesCommitted(commits=[Commit(f"etag-{needle.needle_id}") for needle in body.needles], stamp=7)
