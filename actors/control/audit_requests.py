"""Audit requests: an operator reads the audit log through the master.

The files are read in a thread, one page at a time: they can be long, and the loop must not wait for a disk.
"""

from __future__ import annotations

from pathlib import Path

import trio

from warehouse.actors.control.routes import Routes
from warehouse.actors.control.sessions import Sessions
from warehouse.auth.rights import Permission
from warehouse.conf.audit_files import AuditFilter, AuditPage, read_page
from warehouse.conf.audit_lines import format_utc
from warehouse.errors import BadRequest, ReadFailed
from warehouse.transport.messages import AuditEntry, AuditListed, ListAudit
from warehouse.transport.messages.audit import entry_of
from warehouse.transport.messages.paging import fitting
from warehouse.transport.zeromq.peers import Peer

LINES_MAX = 1000
PAGE_SIZE_MAX = 1024 * 1024  # bytes of an answer; one entry may be longer


class AuditHandlers:
    """
    Args:
        path: of the newest file.
    """

    def __init__(self, path: Path, sessions: Sessions) -> None:
        self._path = path
        self._sessions = sessions
        self._readers = trio.CapacityLimiter(1)  # reading takes the processor from the loop

    def routes(self) -> Routes:
        return Routes().later(ListAudit, self.list_audit)

    async def list_audit(self, peer: Peer, request: ListAudit) -> AuditListed:
        self._sessions.require(peer, Permission.MANAGE_KEYS)
        only = AuditFilter(
            since=format_utc(request.since_ms / 1000) if request.since_ms else "",
            key=request.key,
            action=request.action,
        )
        lines_max = max(1, min(request.limit, LINES_MAX))
        while True:
            page = await self._read(request.cursor, only, lines_max)
            entries = [entry for line in page.lines if (entry := entry_of(line)) is not None]
            count = fitting(entries, PAGE_SIZE_MAX)
            if count == len(entries):
                return _listed(page, entries)
            lines_max = count  # a cursor is needed for where the page really ends

    async def _read(self, cursor: str, only: AuditFilter, lines_max: int) -> AuditPage:
        def read() -> AuditPage:
            return read_page(self._path, cursor, only, lines_max=lines_max)

        try:
            return await trio.to_thread.run_sync(read, limiter=self._readers, abandon_on_cancel=True)
        except ValueError:
            raise BadRequest(
                "this is no cursor of an audit log: take it from the last page, or begin without one"
            ) from None
        except OSError as error:
            raise ReadFailed(f"the audit log {self._path} cannot be read: {error.strerror}") from error


def _listed(page: AuditPage, entries: list[AuditEntry]) -> AuditListed:
    return AuditListed(
        entries=entries,
        cursor=page.cursor,
        is_last=page.is_last,
        is_gap=page.is_gap,
        unreadable_count=page.unreadable_count + len(page.lines) - len(entries),
    )
