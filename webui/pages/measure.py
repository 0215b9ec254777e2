"""The page /measure: what the store gives, measured from here, with pictures."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from quart import Blueprint, redirect, request
from quart.typing import ResponseReturnValue

from warehouse.errors import BadRequest, PermissionDenied
from warehouse.webui import feeds, forms, here
from warehouse.webui.measuring import LARGE, TESTS, Order, may_measure, title_of
from warehouse.webui.rendering import latency, page, url
from warehouse.webui.stores import OpenStore

bp = Blueprint("measure", __name__)

SIZES = {"1 KiB": 1 << 10, "4 KiB": 4 << 10, "64 KiB": 64 << 10, "1 MiB": 1 << 20}
LARGE_SIZES = {"8 MiB": 8 << 20, "80 MiB": 80 << 20}
SECONDS_MAX, CONCURRENCY_MAX, OBJECTS_MAX, PROCESSES_MAX = 30, 128, 20_000, 4
TICK_S = 1.0
WORDS = {
    "put": "Store small objects",
    "get": "Read small objects",
    "mixed": "Mixed: read, look, store, delete",
    "list": "List a bucket",
    "delete": "Delete small objects",
    "large-put": "Store large objects",
    "large-get": "Read large objects",
}
PLOT_WIDTH, PLOT_HEIGHT, LABELS = 300.0, 96.0, 4


@bp.get("/measure")
async def show() -> ResponseReturnValue:
    opened = here.opened()
    if not may_measure(here.can()):
        return await page("measure/refused.html")
    kept = [*reversed(opened.measurements.kept)]
    return await page(
        "measure/index.html",
        current=kept[0] if kept else None,
        before=kept[1:],
        is_busy=here.console().measuring.is_busy,
        histogram=histogram,
        title_of=title_of,
        greatest=greatest,
        tests=WORDS,
        sizes=SIZES,
        large_sizes=LARGE_SIZES,
        most={"seconds": SECONDS_MAX, "concurrency": CONCURRENCY_MAX, "objects": OBJECTS_MAX},
    )


@bp.post("/measure")
async def start() -> ResponseReturnValue:
    opened = here.opened()
    if not may_measure(here.can()):
        raise PermissionDenied("a measurement stores, reads and deletes objects in a bucket that it makes")
    form = await request.form
    tests = [test for test in form.getlist("test") if test in TESTS]
    if not tests:
        raise BadRequest("choose at least one test")
    order = Order(
        tests=list(dict.fromkeys(tests)),
        size=SIZES[forms.choice(form, "size", tuple(SIZES), "4 KiB")],
        large_size=LARGE_SIZES[forms.choice(form, "large_size", tuple(LARGE_SIZES), "8 MiB")],
        concurrency=forms.number(form, "concurrency", least=1, most=CONCURRENCY_MAX, default=32),
        seconds=forms.number(form, "seconds", least=1, most=SECONDS_MAX, default=5),
        object_count=forms.number(form, "objects", least=1, most=OBJECTS_MAX, default=2000),
        process_count=forms.number(form, "processes", least=1, most=PROCESSES_MAX, default=1),
    )
    here.console().measuring.start(opened, order)
    return redirect(url("/measure"), 303)


@bp.post("/measure/cancel")
async def cancel() -> ResponseReturnValue:
    here.opened().measurements.cancel()
    return redirect(url("/measure"), 303)


@feeds.provider("measure")
async def follow(opened: OpenStore, name: str, publish: feeds.Publish) -> None:
    """Tells that a measurement of the key has moved."""
    async with aclosing(opened.measurements.versions(TICK_S)) as versions:
        async for version in versions:
            publish({"version": version})


# --- pictures -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bar:
    """A bar of a picture of PLOT_WIDTH x PLOT_HEIGHT, and what stands below it."""

    x: float
    y: float
    width: float
    height: float
    label: str
    words: str


def histogram(result: dict[str, Any]) -> list[Bar]:
    """How many requests took how long; each bar is for latencies from its label to the next one."""
    steps = [(step["from_ms"], step["request_count"]) for step in result.get("histogram", [])][:40]
    whole = max((count for _, count in steps), default=0)
    if not whole:
        return []
    wide = PLOT_WIDTH / max(len(steps), 4)
    each = max(1, -(-len(steps) // LABELS))
    total = sum(count for _, count in steps)
    return [
        Bar(
            x=round(number * wide + wide * 0.1, 1),
            y=round(PLOT_HEIGHT * (1 - count / whole), 1),
            width=round(wide * 0.8, 1),
            height=round(PLOT_HEIGHT * count / whole, 1),
            label=latency(from_ms / 1000) if number % each == 0 else "",
            words=f"from {latency(from_ms / 1000)}: {count:,} requests, {count / total:.0%}",
        )
        for number, (from_ms, count) in enumerate(steps)
    ]


def greatest(results: list[dict[str, Any]], like: dict[str, Any]) -> float:
    """The greatest rate among results that can be compared: small with small, large with large."""
    is_large = like.get("test") in LARGE
    return max((one["rate"] for one in results if (one.get("test") in LARGE) == is_large), default=0.0)
