"""The pages below /activity: what happens, and who did what; its jobs are in `webui/pages/jobs.py`."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import msgspec
import trio
from quart import Blueprint, Response, redirect, request
from quart.typing import ResponseReturnValue

import warehouse
from warehouse.errors import BadRequest
from warehouse.webui import feeds, forms, here
from warehouse.webui.audit_words import ACTIONS, AuditLine, words_of
from warehouse.webui.csv_lines import csv_line
from warehouse.webui.event_memory import recent
from warehouse.webui.event_words import KINDS, Told, told
from warehouse.webui.rendering import page, url
from warehouse.webui.stores import OpenStore
from warehouse.webui.streaming import streamed

bp = Blueprint("activity", __name__)

EVENTS_SHOWN = 300
EVENTS_MAX = 1000  # that the master remembers
FIND_MAX = 200  # characters
AUDIT_PAGE = 100
AUDIT_PAGES_MAX = 50
AUDIT_READ_S = 8.0  # a page reads the log for so long
EXPORT_S = 600.0  # a download of the log takes at most so long
SINCE = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7), "all": None}


# --- events ---------------------------------------------------------------------------------------


@bp.get("/activity")
async def show() -> ResponseReturnValue:
    can = here.can()
    if not can.see_events:
        if can.manage_keys:
            return redirect(url("/activity/audit"), 303)
        if can.see_cluster:
            return redirect(url("/activity/jobs"), 303)
        return await page("activity/none.html")
    find, group = _sought()
    has_progress = forms.is_checked(request.args, "progress")
    events = await recent(here.store(), EVENTS_SHOWN)
    return await page(
        "activity/events.html",
        events=[(event, event.fits(find, group, has_progress=has_progress)) for event in events],
        find=find,
        group=group,
        has_progress=has_progress,
        kinds=KINDS,
    )


def _sought() -> tuple[str, str]:
    """The words and the kind of events that a person looks for."""
    find = forms.text(request.args, "find", most=FIND_MAX)
    return find, forms.choice(request.args, "kind", ("", *KINDS))


@bp.get("/activity/events.<form>")
async def export_events(form: str) -> ResponseReturnValue:
    """What the master remembers, oldest first, as JSON lines or CSV."""
    headers = _download_headers("events", form)
    find, group = _sought()
    events = await recent(here.store(), EVENTS_MAX)
    rows = [_event_row(event) for event in reversed(events) if event.fits(find, group)]
    if form == "csv":
        head = csv_line(("time", "name", "words"))
        text = head + "".join(csv_line(row.values()) for row in rows)
    else:
        text = "".join(json.dumps(row) + "\n" for row in rows)
    return Response(text, headers=headers)


def _event_row(event: Told) -> dict[str, str]:
    moment = datetime.fromtimestamp(event.at_ms / 1000, UTC)
    at = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"time": at, "name": event.name, "words": event.text}


def _download_headers(name: str, form: str) -> dict[str, str]:
    """
    Raises:
        BadRequest: there is no export of this form.
    """
    types = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}
    if form not in types:
        raise BadRequest(f"there is no export as {form[:20]!r}: csv or jsonl")
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    return {
        "Content-Type": types[form],
        "Content-Disposition": f'attachment; filename="{name}-{stamp}.{form}"',
    }


# --- audit ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """Which lines of the audit log a person wants.

    Attributes:
        until: only lines up to this time, as the log writes it, so that pages stay while lines come; "": all.
    """

    span: str
    key: str
    action: str
    find: str
    until: str

    @classmethod
    def read(cls, form: Mapping[str, str]) -> Asked:
        return cls(
            span=forms.choice(form, "since", tuple(SINCE), "day"),
            key=forms.text(form, "key", most=FIND_MAX),
            action=forms.text(form, "action", most=FIND_MAX),
            find=forms.text(form, "find", most=FIND_MAX),
            until=forms.text(form, "until", most=40),
        )

    def query(self, **more: str | int) -> dict[str, str | int]:
        """For links to the same lines."""
        fields = {"since": self.span, "key": self.key, "action": self.action, "find": self.find}
        return {name: value for name, value in {**fields, "until": self.until, **more}.items() if value}

    async def lines(self, store: warehouse.Store) -> AsyncGenerator[warehouse.AuditEntry, None]:
        """The entries, oldest first."""
        back = SINCE[self.span]
        since = None if back is None else datetime.now(UTC) - back
        async for entry in store.audit(since=since, key=self.key, action=self.action):
            if self.until and entry.time > self.until:
                return
            if not self.find or self.find.lower() in _haystack(entry):
                yield entry


def _haystack(entry: warehouse.AuditEntry) -> str:
    return " ".join(
        (entry.action, entry.result, entry.key, entry.user, entry.address, entry.target, str(entry.details))
    ).lower()


@bp.get("/activity/audit")
async def show_audit() -> ResponseReturnValue:
    """The newest lines first.  The log is read from its old end, so a page costs what all up to it cost."""
    asked = Asked.read(request.args)
    number = forms.number(request.args, "page", least=1, most=AUDIT_PAGES_MAX, default=1)
    wanted = number * AUDIT_PAGE + 1
    latest: list[warehouse.AuditEntry] = []
    count = 0
    with trio.move_on_after(AUDIT_READ_S) as scope:
        async with aclosing(asked.lines(here.store())) as lines:
            async for entry in lines:
                latest.append(entry)
                count += 1
                if len(latest) > 2 * wanted:
                    del latest[:-wanted]
    newest_first = latest[::-1]
    begin = (number - 1) * AUDIT_PAGE
    shown = newest_first[begin : begin + AUDIT_PAGE]
    until = asked.until or (newest_first[0].time if newest_first else "")
    names = await _key_names()
    return await page(
        "activity/audit.html",
        lines=[AuditLine.of(entry, names) for entry in shown],
        asked=asked,
        until=until,
        number=number,
        has_more=len(newest_first) > begin + AUDIT_PAGE and number < AUDIT_PAGES_MAX,
        count=count,
        is_partial_read=scope.cancelled_caught,
        actions=sorted(ACTIONS, key=words_of),
        words_of=words_of,
        spans={"hour": "last hour", "day": "last day", "week": "last 7 days", "all": "all that is kept"},
    )


async def _key_names() -> dict[str, str]:
    return {key.key_id: key.name for key in await here.store().keys()}


@bp.get("/activity/audit.<form>")
async def export_audit(form: str) -> ResponseReturnValue:
    """The lines that are asked for, oldest first, streamed."""
    headers = _download_headers("audit", form)
    asked, opened = Asked.read(request.args), here.opened()
    await anext(
        aiter(opened.store.audit()), None
    )  # a key without the right is told so before the answer begins
    return streamed(partial(_audit_rows, opened, asked, form), 200, headers, most_s=EXPORT_S)


@asynccontextmanager
async def _audit_rows(opened: OpenStore, asked: Asked, form: str) -> AsyncIterator[AsyncIterator[bytes]]:
    async with aclosing(_audit_pieces(opened, asked, form)) as pieces:
        yield pieces


async def _audit_pieces(opened: OpenStore, asked: Asked, form: str) -> AsyncGenerator[bytes, None]:
    if form == "csv":
        yield csv_line((*_COLUMNS, "details")).encode()
    async with aclosing(asked.lines(opened.store)) as lines:
        async for entry in lines:
            opened.require_open()
            yield _audit_row(entry, form)


_COLUMNS = ("time", "action", "result", "key", "account", "node", "user", "address", "target", "request")


def _audit_row(entry: warehouse.AuditEntry, form: str) -> bytes:
    fields: dict[str, Any] = msgspec.to_builtins(entry)
    details = fields.pop("details", {})
    if form == "csv":
        return csv_line([*(fields.get(name, "") for name in _COLUMNS), json.dumps(details)]).encode()
    return json.dumps(fields | details).encode() + b"\n"


# --- news -----------------------------------------------------------------------------------------


@feeds.provider("events")
async def follow(opened: OpenStore, name: str, publish: feeds.Publish) -> None:
    """Every event, in words."""
    async for event in opened.store.events():
        publish({"event": told(event).fields()})
