"""Find requests: searches run in threads of their own, for a bounded time each.

A search in order of size or time that is not over, or whose next pages may be asked for, is kept for a while.
The cursor has its number.  If it was dropped meanwhile, it begins again, at the page of the cursor.
"""

from __future__ import annotations

import itertools
import time
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial

import trio

from warehouse.actors.control.context import MasterContext
from warehouse.actors.control.objects import object_info, require_part
from warehouse.actors.control.routes import Routes
from warehouse.actors.control.sessions import Sessions
from warehouse.auth.rights import Permission
from warehouse.catalog.finding import (
    AFTER_ALL,
    ORDERS,
    Cursor,
    Found,
    Question,
    Rank,
    Search,
    fold,
    read_cursor,
    write_cursor,
)
from warehouse.errors import BadRequest, Overloaded
from warehouse.transport.messages import KEY_SIZE_MAX, FindObjects, ObjectsFound
from warehouse.transport.zeromq.peers import Peer

FIND_MAX = 1000  # entries in a page
BUDGET_S = 0.05  # of one answer; what comes with it takes some milliseconds more
THREADS = 2
WAITING_MAX = 64  # requests
KEPT_MAX, KEPT_OF_KEY_MAX = 32, 6  # searches; each has up to a thousand keys
KEPT_S = 120.0


@dataclass
class _Kept:
    key_id: str
    search: Search
    until: float  # monotonic


class KeptSearches:
    """The searches that may go on, the one that was used last at the end."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, _Kept] = OrderedDict()
        self._ids = itertools.count(time.time_ns() // 1000)  # not those of an earlier master

    def take(self, search_id: int, key_id: str, question: Question) -> Search | None:
        """The search of that number, for one user alone; None: it is not kept, or of another question."""
        kept = self._kept.get(search_id)
        if kept is None or kept.key_id != key_id or kept.search.question != question:
            return None
        del self._kept[search_id]
        return kept.search if time.monotonic() < kept.until else None

    def keep(self, search: Search, key_id: str) -> int:
        now = time.monotonic()
        for search_id in [number for number, kept in self._kept.items() if kept.until <= now]:
            del self._kept[search_id]
        own = [number for number, kept in self._kept.items() if kept.key_id == key_id]
        if len(own) >= KEPT_OF_KEY_MAX:
            del self._kept[own[0]]
        while len(self._kept) >= KEPT_MAX:
            self._kept.popitem(last=False)
        search_id = next(self._ids)
        self._kept[search_id] = _Kept(key_id, search, now + KEPT_S)
        return search_id


class FindHandlers:
    def __init__(self, context: MasterContext, sessions: Sessions) -> None:
        self._catalog = context.catalog
        self._sessions = sessions
        self._kept = KeptSearches()
        self._threads = trio.CapacityLimiter(THREADS)

    def routes(self) -> Routes:
        return Routes().later(FindObjects, self.find)

    async def find(self, peer: Peer, request: FindObjects) -> ObjectsFound:
        _require_sound(request)
        question = self._question(peer, request)
        cursor = read_cursor(request.cursor, question) if request.cursor else Cursor(question.mark)
        key_id = self._sessions.session_of(peer).key_id
        limit = min(request.limit, FIND_MAX)
        if question.is_by_name:
            search = Search(question, cursor.position or (AFTER_ALL if question.is_backwards else ""))
        else:
            search = self._ranking(question, cursor, key_id, limit)
        found = await self._go_on(search, cursor.after, limit)
        if self._question(peer, request) != question:  # the key, or the bucket, changed meanwhile
            raise Overloaded("what this key may list has changed meanwhile: ask again")
        return ObjectsFound(
            objects=[object_info(row) for row in found.objects],
            prefixes=found.prefixes,
            cursor=self._next(search, cursor.after, found, key_id) if found.has_more else "",
            scanned_count=found.scanned_count,
            is_complete=found.is_complete,
        )

    def _question(self, peer: Peer, request: FindObjects) -> Question:
        """What is asked, as if there were no keys but those that the asker may list.

        Raises:
            NotAuthenticated, PermissionDenied, NoSuchBucket: as for a listing.
        """
        rights = self._sessions.require(peer, Permission.LIST).rights
        bucket = self._sessions.bucket_for(peer, Permission.LIST, request.bucket)
        return Question(
            bucket_id=bucket.id,
            prefix=request.prefix,
            contains=fold(request.contains),
            order=request.order,
            is_descending=request.is_descending,
            delimiter=request.delimiter,
            within=require_part(rights, bucket, request.prefix),
        )

    def _ranking(self, question: Question, cursor: Cursor, key_id: str, limit: int) -> Search:
        search = self._kept.take(cursor.search_id, key_id, question)
        if search is None or not search.knows(cursor.after, limit):
            search = Search.begin(question, cursor.after)
        return search

    async def _go_on(self, search: Search, after: Rank | None, limit: int) -> Found:
        if self._threads.statistics().tasks_waiting >= WAITING_MAX:
            raise Overloaded(f"{WAITING_MAX} searches are waiting; try again later")
        step = partial(self._catalog.find_objects, search, after=after, limit=limit, budget_s=BUDGET_S)
        return await trio.to_thread.run_sync(step, limiter=self._threads)

    def _next(self, search: Search, after: Rank | None, found: Found, key_id: str) -> str:
        """The cursor to go on with."""
        question = search.question
        if question.is_by_name:
            return write_cursor(Cursor(question.mark, search.position))
        search_id = self._kept.keep(search, key_id)
        return write_cursor(
            Cursor(question.mark, search_id=search_id, after=found.last if found.is_complete else after)
        )


def _require_sound(request: FindObjects) -> None:
    if request.order not in ORDERS:
        raise BadRequest(f"an order is one of {', '.join(ORDERS)}, not {request.order[:100]!r}")
    if request.delimiter == "":
        raise BadRequest("a delimiter has at least one character")
    if request.limit < 1:
        raise BadRequest(f"a page has at least one entry, not {request.limit}")
    for text in (request.prefix, request.contains, request.delimiter or ""):
        if len(text.encode()) > KEY_SIZE_MAX:
            raise BadRequest(f"no key has a part of more than {KEY_SIZE_MAX} bytes")
