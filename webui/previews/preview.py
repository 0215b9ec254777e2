"""Previews of objects: reads as much as is shown, through the library; words say what cannot be shown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import trio
from markupsafe import Markup

import warehouse
from warehouse.conf.formatting import format_size
from warehouse.errors import (
    DataDamaged,
    NoSuchObject,
    ObjectReplaced,
    PermissionDenied,
    StoreError,
    Unavailable,
)
from warehouse.webui.names import last_part
from warehouse.webui.previews import json_trees, tables, texts
from warehouse.webui.previews.archives import list_archive
from warehouse.webui.previews.formatter import SOURCE_MAX, formatted
from warehouse.webui.previews.kinds import IN_BROWSER, KINDS, ending, kind_of, raw_kind

HEAD = 4096  # bytes that tell what an object is, and that are shown of bytes
TEXT_STEPS = (256 * 1024, 1024 * 1024, 4 * 1024 * 1024)  # bytes of text: at first, and on request
HEX_STEPS = (HEAD, 64 * 1024)
TREE_MAX = 2 * 1024 * 1024  # bytes of JSON that is shown as a tree
READ_S = 20.0
CHECK_MAX = 256 * 1024 * 1024  # bytes that a check reads
CHECK_S = 30.0
COMPUTING = trio.CapacityLimiter(
    4
)  # of all previews: two mebibytes of JSON take eighty while they are parsed

T = TypeVar("T")


async def _computed(function: Callable[[], T]) -> T:
    return await trio.to_thread.run_sync(function, limiter=COMPUTING)


@dataclass
class Preview:
    """What the page shows of an object.

    Attributes:
        kind: as what; a word of `KINDS`.
        as_raw: as what the same object is shown raw.
        form: the template `details/_FORM.html`: "text", "code", "hex", "json", "table", "markdown",
            "archive", "browser" (a script or an element loads it), "words" (there is nothing but notes).
        values: for that template.
        notes: what people have to know: (kind of note, words).
        more: how many bytes the next step shows; None: there is no more.
        shown_bytes: the page shows so many of the first bytes; None: all, or it does not say.
    """

    kind: str
    as_raw: str
    form: str = "words"
    values: dict[str, Any] = field(default_factory=dict)
    notes: list[tuple[str, str]] = field(default_factory=list)
    more: int | None = None
    shown_bytes: int | None = None

    @property
    def is_raw(self) -> bool:
        return self.kind == self.as_raw

    def note(self, text: str, kind: str = "quiet") -> None:
        self.notes.append((kind, text))


class Previewer:
    """Makes the preview of one version of an object.

    Args:
        chosen: as what somebody wants to see it; "": as what it is.
        wanted: how many bytes of text or hexadecimal digits somebody wants to see.
    """

    def __init__(
        self, bucket: warehouse.Bucket, info: warehouse.ObjectInfo, chosen: str = "", wanted: int = 0
    ) -> None:
        self.bucket = bucket
        self.info = info
        self.kind = ""
        self._chosen = chosen if chosen in KINDS else ""
        self._wanted = wanted

    async def make(self) -> Preview:
        """The preview; what cannot be read is a note in it."""
        info = self.info
        usual = kind_of(info.content_type, info.key)
        preview = Preview(self._chosen or usual, raw_kind(usual, info.key, info.content_type))
        if not info.size:
            preview.note("This object is empty: it has no bytes.")
            return preview
        try:
            with trio.fail_after(READ_S):
                head = await self._read(0, HEAD)
                usual = kind_of(info.content_type, info.key, head)
                preview.as_raw = raw_kind(usual, info.key, info.content_type)
                preview.kind = self._chosen or usual
                await self._show(preview, head)
        except trio.TooSlowError:
            preview.note("The store took too long to answer. Try again in a moment.", "warn")
        except StoreError as error:
            preview.note(words_for(error), "bad" if isinstance(error, DataDamaged) else "warn")
        return preview

    async def _show(self, preview: Preview, head: bytes) -> None:
        if preview.kind in IN_BROWSER:
            preview.form = "browser"
        elif preview.kind == "hex":
            await self._show_hex(preview, head)
        elif preview.kind == "archive":
            await self._show_archive(preview, head)
        else:
            await self._show_text(preview)

    async def _show_hex(self, preview: Preview, head: bytes) -> None:
        step = HEX_STEPS[1] if self._wanted > HEAD else HEAD
        data = head if step == HEAD else await self._read(0, step)
        preview.form = "hex"
        preview.values["lines"] = texts.hex_lines(data)
        self._say_first(preview, len(data), HEX_STEPS)

    async def _show_archive(self, preview: Preview, head: bytes) -> None:
        try:
            listing = await list_archive(self._read, self.info.size, head)
        except ValueError as error:
            preview.note(f"This cannot be listed: {error}.", "warn")
            await self._show_hex(preview, head)
            return
        preview.form = "archive"
        preview.values["listing"] = listing

    async def _show_text(self, preview: Preview) -> None:
        step = next((step for step in TEXT_STEPS if step >= self._wanted), TEXT_STEPS[-1])
        is_tree = preview.kind == "json" and self.info.size <= TREE_MAX and not self._is_json_lines
        data = await self._read(0, self.info.size if is_tree else step)
        is_cut = len(data) < self.info.size
        decoded = await _computed(lambda: texts.decode(data, is_cut=is_cut))
        if not decoded.is_exact:
            preview.note(f"Some bytes are no {decoded.encoding}; they are shown as �.", "warn")
        if is_cut:
            self._say_first(preview, len(data), TEXT_STEPS)
        makers: dict[str, Callable[[Preview, str, bool], Awaitable[bool]]] = {
            "json": self._tree,
            "table": self._table,
            "code": self._code,
            "markdown": self._markdown,
        }
        maker = makers.get(preview.kind)
        if maker is None or not await maker(preview, decoded.text, is_cut):
            preview.form = "text"
            preview.values["text"] = texts.shown(decoded.text)

    @property
    def _is_json_lines(self) -> bool:
        named = self.info.content_type or ""
        return ending(self.info.key) in ("jsonl", "ndjson") or "ndjson" in named or "jsonl" in named

    async def _tree(self, preview: Preview, text: str, is_cut: bool) -> bool:
        if is_cut and not self._is_json_lines:
            preview.note(f"JSON is shown as a tree up to {format_size(TREE_MAX)}; this is the text.")
            return False
        try:
            if self._is_json_lines:
                node = await _computed(lambda: json_trees.read_lines(text, is_cut=is_cut))
            else:
                node = await _computed(lambda: json_trees.read_tree(text))
        except ValueError as error:
            preview.note(f"This is no JSON: {error}.", "warn")
            return False
        preview.form, preview.values["node"] = "json", node
        return True

    async def _table(self, preview: Preview, text: str, is_cut: bool) -> bool:
        named = self.info.content_type or ""
        is_tabs = ending(self.info.key) in ("tsv", "tab") or "tab-separated" in named
        try:
            table = await _computed(lambda: tables.read_table(text, is_tabs=is_tabs, is_cut=is_cut))
        except ValueError as error:
            preview.note(f"{str(error).capitalize()}.", "warn")
            return False
        if is_cut:
            preview.more = None  # more rows would not be shown
        preview.form, preview.values["table"] = "table", table
        return True

    async def _code(self, preview: Preview, text: str, is_cut: bool) -> bool:
        if len(text) > SOURCE_MAX:
            preview.note(f"Colours are for texts up to {format_size(SOURCE_MAX)}.")
            return False
        return await self._formatted(preview, "code", text)

    async def _markdown(self, preview: Preview, text: str, is_cut: bool) -> bool:
        return await self._formatted(preview, "markdown", text[:SOURCE_MAX])

    async def _formatted(self, preview: Preview, way: str, text: str) -> bool:
        html: Markup | None = await formatted(way, texts.shown(text), last_part(self.info.key))
        if html is None:
            return False
        preview.form, preview.values["html"] = way, html
        return True

    def _say_first(self, preview: Preview, count: int, steps: tuple[int, ...]) -> None:
        if count < self.info.size:
            preview.shown_bytes = count
            preview.more = next((step for step in steps if step > count), None)

    async def _read(self, start: int, length: int) -> bytes:
        """
        Raises:
            ObjectReplaced: there is another version now.
        """
        length = min(length, self.info.size - start)
        if start < 0 or length <= 0:
            return b""
        async with self.bucket.open(self.info.key, start, length) as stream:
            if stream.info.etag != self.info.etag:
                raise ObjectReplaced("the object was replaced")
            return await stream.read()


async def check(bucket: warehouse.Bucket, info: warehouse.ObjectInfo) -> tuple[str, str]:
    """Read an object that a browser could not show, up to a bound: (kind of note, what was found)."""
    wanted = min(info.size, CHECK_MAX)
    try:
        with trio.fail_after(CHECK_S):
            if wanted:
                async with bucket.open(info.key, 0, wanted) as stream:
                    async for _ in stream:
                        pass
    except trio.TooSlowError:
        return "warn", "It could not be read in time. Try again in a moment."
    except StoreError as error:
        return "bad" if isinstance(error, DataDamaged) else "warn", words_for(error)
    whole = "The bytes are" if wanted == info.size else f"The first {format_size(wanted)} are"
    return "warn", f"{whole} as they were stored: your browser cannot show them. View it as something else."


def words_for(error: StoreError) -> str:
    """What a failed read means to people, and what to do."""
    if isinstance(error, DataDamaged):
        return (
            f"This object is damaged: {error.message}. Its bytes on disk are not those that were stored, "
            "and the store does not hand them out. Store it again from a copy; the page Disks, and "
            "`warehouse verify`, say what else is damaged."
        )
    if isinstance(error, ObjectReplaced | NoSuchObject):
        return "Somebody replaced or deleted this object just now. Reload the page."
    if isinstance(error, PermissionDenied):
        return "This key may not read the object."
    if isinstance(error, Unavailable):
        return f"The bytes cannot be reached now: {error.message}. They are safe; try again later."
    return f"This cannot be shown: {error.message}."
