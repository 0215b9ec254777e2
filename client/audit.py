"""Audit: the lines of a store's audit log, page by page, for a program."""

from __future__ import annotations

from collections import deque
from datetime import datetime
from typing import Self

import trio

from warehouse.client.control import Control
from warehouse.transport.messages import AuditEntry, AuditListed, ListAudit

FOLLOW_S = 1.0  # between questions for new lines
LINES_AT_ONCE = 1000


class AuditStream:
    """Entries, oldest first; made by `Store.audit`.  It needs no closing.

    Attributes:
        unreadable_count: lines so far that could not be read, and were passed over.
        gap_count: how often lines were rotated away before they were read.
    """

    def __init__(
        self, control: Control, *, since: datetime | None, key: str, action: str, follow: bool
    ) -> None:
        self.unreadable_count = 0
        self.gap_count = 0
        self._control = control
        self._since_ms = 0 if since is None else max(0, int(since.timestamp() * 1000))
        self._key = key
        self._action = action
        self._follow = follow
        self._cursor = ""
        self._is_last = False
        self._page: deque[AuditEntry] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AuditEntry:
        while not self._page:
            if self._is_last:
                if not self._follow:
                    raise StopAsyncIteration
                await trio.sleep(FOLLOW_S)
            await self._turn_page()
        return self._page.popleft()

    async def _turn_page(self) -> None:
        request = ListAudit(
            cursor=self._cursor,
            since_ms=self._since_ms,
            key=self._key,
            action=self._action,
            limit=LINES_AT_ONCE,
        )
        answer = await self._control.ask(request, AuditListed)
        self._page.extend(answer.entries)
        self._cursor, self._is_last = answer.cursor, answer.is_last
        self.unreadable_count += answer.unreadable_count
        self.gap_count += answer.is_gap
