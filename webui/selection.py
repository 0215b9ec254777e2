"""Selections: the objects and folders that somebody has chosen from a list, and all that is in them.

A page sends a selection in one of two ways: a script sends the field `selection`, which is JSON; a form
without script sends a field `item` for each line.  Both hold sizes, which are only shown.

    {"keys": [["a.txt", 12]], "prefixes": ["raw/"], "query": {"prefix": "", "find": "cat", "how": "below"}}
    item=o:12:a.txt   item=p::raw%2F
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, NamedTuple
from urllib.parse import quote, unquote

import msgspec
import trio
from msgspec import Meta
from werkzeug.datastructures import MultiDict

import warehouse
from warehouse.errors import BadRequest
from warehouse.webui.listing import HOWS, KEY_MAX, View

ITEMS_MAX = 10_000
BATCH = 1000  # entries that are asked for at once

Key = Annotated[str, Meta(max_length=KEY_MAX)]
Size = Annotated[int, Meta(ge=0, lt=1 << 62)]


class Query(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """All that matches, as in `View`."""

    prefix: Key = ""
    find: Key = ""
    how: str = "below"


class Chosen(NamedTuple):
    """An object; the size is what a list said."""

    key: str
    size: int


class Sum(NamedTuple):
    """What a selection comes to; not complete: at least this, there was no time to count more."""

    object_count: int
    byte_count: int
    is_complete: bool


class Selection(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What was chosen: single objects, folders, and all that matches a query."""

    keys: Annotated[list[tuple[Key, Size]], Meta(max_length=ITEMS_MAX)] = []
    prefixes: Annotated[list[Key], Meta(max_length=ITEMS_MAX)] = []
    query: Query | None = None

    @classmethod
    def read(cls, form: MultiDict[str, str]) -> Selection:
        """
        Raises:
            BadRequest: nothing is selected, or this is no selection.
        """
        sent = form.get("selection", "")
        try:
            found = msgspec.json.decode(sent, type=cls) if sent else _of_items(form.getlist("item"))
        except (msgspec.MsgspecError, UnicodeError, ValueError) as error:
            raise BadRequest(f"this is no selection: {error}") from None
        if found.query is not None and found.query.how not in HOWS:
            raise BadRequest("this is no selection: it looks nowhere")
        if not (found.keys or found.prefixes or found.query):
            raise BadRequest("nothing is selected")
        return found

    def to_json(self) -> str:
        return msgspec.json.encode(self).decode()

    @property
    def single(self) -> str | None:
        """The key of the one object that is chosen, if it is one."""
        if len(self.keys) == 1 and not self.prefixes and self.query is None:
            return self.keys[0][0]
        return None

    @property
    def names(self) -> list[str]:
        """Keys and beginnings of keys that were chosen one by one."""
        return [*self.prefixes, *(key for key, _ in self.keys)]

    async def objects(self, bucket: warehouse.Bucket) -> AsyncGenerator[list[Chosen], None]:
        """All objects, up to a thousand at a time.

        Objects that are stored meanwhile may be among them or not.

        Raises:
            NoSuchBucket, PermissionDenied.
        """
        for start in range(0, len(self.keys), BATCH):
            yield [Chosen(key, size) for key, size in self.keys[start : start + BATCH]]
        walks = [_below(bucket, prefix) for prefix in self.prefixes]
        walks += [_matching(bucket, self.query)] if self.query is not None else []
        for walk in walks:
            async with aclosing(walk) as batches:
                async for batch in batches:
                    yield batch

    async def sum(self, bucket: warehouse.Bucket, budget_s: float) -> Sum:
        """How many objects and bytes these are, as far as it can be counted in this time."""
        if self.query == Query():
            info = await bucket.info()
            if info.is_counted:
                return Sum(info.object_count, info.byte_count, True)
        object_count = byte_count = 0
        deadline = trio.current_time() + budget_s
        async with aclosing(self.objects(bucket)) as batches:
            async for batch in batches:
                object_count += len(batch)
                byte_count += sum(chosen.size for chosen in batch)
                if trio.current_time() > deadline:
                    return Sum(object_count, byte_count, False)
        return Sum(object_count, byte_count, True)


async def _below(
    bucket: warehouse.Bucket, prefix: str, contains: str = ""
) -> AsyncGenerator[list[Chosen], None]:
    cursor = ""
    while True:
        page = await bucket.find(prefix, contains=contains, limit=BATCH, cursor=cursor)
        if page.objects:
            yield [Chosen(info.key, info.size) for info in page.objects]
        cursor = page.cursor
        if not cursor:
            return


async def _matching(bucket: warehouse.Bucket, query: Query) -> AsyncGenerator[list[Chosen], None]:
    view = View(bucket.name, query.prefix, query.find, query.how)
    if not view.find or view.is_flat:
        async with aclosing(_below(bucket, view.prefix, view.find)) as batches:
            async for batch in batches:
                yield batch
        return
    cursor = ""
    while True:
        page = await bucket.find(**view.question(), limit=BATCH, cursor=cursor)
        if page.objects:
            yield [Chosen(info.key, info.size) for info in page.objects]
        for prefix in page.prefixes:
            async with aclosing(_below(bucket, prefix)) as batches:
                async for batch in batches:
                    yield batch
        cursor = page.cursor
        if not cursor:
            return


def item(key: str, size: int | None) -> str:
    """The value of a line's checkbox; size None: it is a folder."""
    return f"p::{quote(key, safe='')}" if size is None else f"o:{size}:{quote(key, safe='')}"


def _of_items(items: list[str]) -> Selection:
    keys, prefixes = list[tuple[str, int]](), list[str]()
    for text in items[:ITEMS_MAX]:
        kind, size, quoted = text.split(":", 2)
        key = unquote(quoted, errors="strict")
        if kind == "p":
            prefixes.append(key)
        else:
            keys.append((key, int(size)))
    return msgspec.convert({"keys": keys, "prefixes": prefixes}, Selection)
