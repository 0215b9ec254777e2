"""Rendering: templates, and how numbers, sizes and times look in them.

Whatever a template prints is escaped, so a key that looks like markup is text.  Sizes are rounded for people
and exact on hover; times are local where a script runs, and UTC where none does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from markupsafe import Markup
from quart import current_app, render_template, request
from quart.typing import ResponseReturnValue

from warehouse.conf.formatting import format_size, format_span
from warehouse.conf.setting_types import size_text
from warehouse.webui.names import bucket_url, folders_of, last_part, object_url, visible


def size(value: int | None) -> Markup:
    """A size in IEC units, exact on hover: 1.84 TiB."""
    if value is None:
        return Markup("–")
    return Markup('<span class="num" title="{} bytes">{}</span>').format(f"{value:,}", format_size(value))


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def rate(value: float | None) -> str:
    """A count a second; one digit after the point where there is little to see."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.1f}"


def latency(seconds: float | None) -> str:
    """How long a request took, in three digits: 2.34 ms."""
    if seconds is None:
        return "–"
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e3:.{2 if seconds < 9.995e-3 else 1 if seconds < 99.95e-3 else 0}f} ms"


def span(seconds: float | None) -> str:
    return "–" if seconds is None else format_span(seconds)


def when(ms: int | None, never: str = "never") -> Markup:
    """A moment: a script shows it as local people do, with the exact time on hover."""
    if not ms:
        return Markup('<span class="soft">{}</span>').format(never)
    try:
        moment = datetime.fromtimestamp(ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):  # what an archive says of its entries may be any number
        return Markup('<span class="soft">{}</span>').format("out of range")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        f"{moment:%Y-%m-%d %H:%M:%S} UTC",
        f"{moment:%Y-%m-%d %H:%M}",
    )


def share(part: float, whole: float) -> float:
    """Percent, 0 to 100, for meters."""
    return 0.0 if whole <= 0 else round(min(100.0, max(0.0, 100.0 * part / whole)), 1)


def plural(count: int, noun: str, nouns: str = "") -> str:
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def quoted(text: str) -> str:
    """For attributes and fields that have to bring a key back as it is: browsers change CR, LF and NUL."""
    return quote(text, safe="")


def is_plain_value(text: str) -> bool:
    """Does a field of a form bring this back as it is?"""
    return not any(letter in "\r\n\0" for letter in text)


FILTERS = {
    "size": size,
    "number": number,
    "rate": rate,
    "latency": latency,
    "span": span,
    "when": when,
    "share": share,
    "plural": plural,
    "visible": visible,
    "quoted": quoted,
    "size_text": size_text,
}
TESTS = {"plain_value": is_plain_value}
GLOBALS = {
    "bucket_url": bucket_url,
    "object_url": object_url,
    "folders_of": folders_of,
    "last_part": last_part,
    "share": share,
    "plural": plural,
}


def is_htmx() -> bool:
    """Does a script swap the answer into a page that is open?"""
    return bool(request) and request.headers.get("HX-Request") == "true"


async def page(template: str, status: int = 200, **values: Any) -> ResponseReturnValue:
    """Render a template; what every template knows is added by `app.py`."""
    return await render_template(template, **values), status


def toast_header(toasts: Iterable[tuple[str, str]]) -> str:
    """The header HX-Trigger that makes a page show these: ASCII, whatever the texts say."""
    return json.dumps({"toasts": toasts_of(toasts)})


def toasts_of(toasts: Iterable[tuple[str, str]]) -> dict[str, object]:
    """What the event "toasts" tells a page."""
    return {"toasts": [{"kind": kind, "text": text} for kind, text in toasts]}


def url(path: str) -> str:
    """A link within the console: every link goes through this, because a proxy may put a path in front."""
    root: str = current_app.config["ROOT"]
    return root + path
