"""Data origins: where the volume actors are, for the Content-Security-Policy of pages.

A page may load objects from, and send them to, these places and no others.  Who signs in finds out; an origin
is kept for an hour after it was last seen, because a disk may be away for a moment while a page is loaded.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import trio

import warehouse
from warehouse.errors import StoreError

ASK_S = 3.0
LOOK_S = 10.0  # between questions, whoever asks
KEPT_S = 3600.0
ORIGINS_MAX = 1_000
_is_origin = re.compile(r"https?://[A-Za-z0-9._:\[\]-]{1,300}").fullmatch


class DataOrigins:
    """The origins of the volume actors: "http://192.0.2.7:7410"."""

    def __init__(self) -> None:
        self._seen: dict[str, float] = {}
        self._asked_s = float("-inf")
        self.current: frozenset[str] = frozenset()

    async def look_again(self, store: warehouse.Store) -> None:
        """Ask the store, unless somebody did a moment ago; a key without rights to objects learns nothing."""
        now_s, before_s = trio.current_time(), self._asked_s
        if now_s - before_s < LOOK_S and self._seen:
            return
        self._asked_s = now_s
        try:
            with trio.move_on_after(ASK_S):
                self._learn(await store.data_urls())
        except StoreError:  # no right, or the store is away: what is known stays, and the next key may ask
            self._asked_s = before_s

    def _learn(self, urls: list[str]) -> None:
        now_s = trio.current_time()
        for address in urls[:ORIGINS_MAX]:
            parts = urlsplit(address)
            origin = f"{parts.scheme}://{parts.netloc}"
            if _is_origin(origin):  # nothing else goes into a header
                self._seen[origin] = now_s
        self._seen = {origin: seen_s for origin, seen_s in self._seen.items() if now_s - seen_s < KEPT_S}
        self.current = frozenset(self._seen)
