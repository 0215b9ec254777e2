"""The page /: how the store is, how busy and how full; what a key without sight of the cluster can do."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

import trio
from quart import Blueprint, request
from quart.typing import ResponseReturnValue

import warehouse
from warehouse.conf.formatting import format_size, format_span
from warehouse.webui import feeds, forms, here
from warehouse.webui.abilities import DATA
from warehouse.webui.disk_lines import DiskLine
from warehouse.webui.event_memory import recent
from warehouse.webui.measuring import may_measure
from warehouse.webui.rendering import latency, page, rate
from warehouse.webui.standing import Concern, standing
from warehouse.webui.stores import OpenStore

bp = Blueprint("overview", __name__)

EVENTS_SHOWN = 7
BUCKETS_SHOWN = 20
DISKS_SHOWN = 12
CONCERNS_SHOWN = 6
PUSH_S = 2.0  # between two looks at figures, while somebody watches
STATUS_EVERY = 5  # looks at figures for one at the whole status
QUIET_S = 10.0  # unchanged figures are pushed so often, for the plots
RANGES = {"hour": timedelta(hours=1), "day": timedelta(days=1), "month": timedelta(days=30)}
POINTS_MAX = 400
GAP = 3  # spans without a point: the master was away


@dataclass(frozen=True)
class Seen:
    """What the page shows of the cluster."""

    figures: warehouse.Figures
    status: warehouse.Status
    concerns: list[Concern]
    disks: list[DiskLine]

    @property
    def texts(self) -> dict[str, str]:
        return texts_of(self.figures)

    @property
    def unchecked(self) -> str:
        """Age of the oldest byte that nobody has read again, in one unit."""
        seconds = self.status.unchecked_s
        return "a minute" if seconds < 60 else " ".join(format_span(seconds).split()[:2])


@bp.get("/")
async def show() -> ResponseReturnValue:
    opened, can = here.opened(), here.can()
    seen = await _see(opened.store) if can.see_cluster else None
    buckets = [] if can.see_cluster else await opened.store.buckets()
    events = await recent(opened.store, EVENTS_SHOWN, is_progress_told=False) if can.see_events else []
    profile = opened.profile
    has_data = bool(DATA & set(can.key.permissions))
    return await page(
        "overview/index.html",
        seen=seen,
        events=events,
        buckets=buckets[:BUCKETS_SHOWN],
        bucket_count=len(buckets),
        disks_shown=DISKS_SHOWN,
        concerns_shown=CONCERNS_SHOWN,
        control=profile.master,
        server_key=profile.server_key,
        console_url=here.console().options.public_url or f"{request.scheme}://{request.host}",
        data_urls=await opened.store.data_urls() if has_data else [],
        s3_urls=await opened.store.s3_urls() if has_data else [],
        authority=bool(profile.authority),
        may_measure=may_measure(can),
        state=state_of(seen.status) if seen else 0,
    )


async def _see(store: warehouse.Store) -> Seen:
    status = await store.status(volumes=False)
    figures = await store.figures()
    disks = sorted(status.disks, key=lambda disk: (disk.is_online, disk.name))
    return Seen(figures, status, standing(status), [DiskLine(disk) for disk in disks])


def texts_of(figures: warehouse.Figures) -> dict[str, str]:
    """The figures as the page shows them; a push replaces them one by one."""
    rates = figures.rates
    others = rates.deletes_per_s + rates.other_per_s
    return {
        "stored": format_size(figures.stored_bytes),
        "capacity": format_size(figures.capacity),
        "free": format_size(figures.free),
        "wasted": format_size(figures.dead_bytes),
        "logical": format_size(figures.byte_count),
        "objects": f"{figures.object_count:,}",
        "buckets": f"{figures.bucket_count:,} bucket{'' if figures.bucket_count == 1 else 's'}",
        "requests": rate(rates.gets_per_s + rates.puts_per_s + others),
        "gets": rate(rates.gets_per_s),
        "puts": rate(rates.puts_per_s),
        "others": rate(others),
        "bytes_in": format_size(int(rates.bytes_in_per_s)),
        "bytes_out": format_size(int(rates.bytes_out_per_s)),
        "get_p50": latency(rates.get_p50_s),
        "get_p99": latency(rates.get_p99_s),
        "put_p50": latency(rates.put_p50_s),
        "put_p99": latency(rates.put_p99_s),
    }


# --- history --------------------------------------------------------------------------------------


@bp.get("/overview/history")
async def history() -> ResponseReturnValue:
    """Columns for a plot, and the same in words for a table."""
    span = forms.choice(request.args, "range", tuple(RANGES), "hour")
    points = await here.store().history(since=RANGES[span], points_max=POINTS_MAX)
    return columns(points)


def columns(points: Sequence[warehouse.HistoryPoint]) -> dict[str, list[float | None]]:
    """One list for each quantity, by the names of `_QUANTITIES`; None: the master was away."""
    rows = [(point.at_ms / 1000, *(value(point) for value in _QUANTITIES.values())) for point in points]
    holes = [
        (before.at_ms / 1000 + before.span_s, *(None for _ in _QUANTITIES))
        for before, after in pairwise(points)
        if after.at_ms - before.at_ms > 1000 * GAP * max(before.span_s, after.span_s)
    ]
    rows = sorted([*rows, *holes], key=lambda row: row[0] or 0.0)
    return {name: [row[number] for row in rows] for number, name in enumerate(("at", *_QUANTITIES))}


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


_QUANTITIES: dict[str, Callable[[warehouse.HistoryPoint], float | None]] = {
    "gets": lambda point: _rounded(point.rates.gets_per_s),
    "puts": lambda point: _rounded(point.rates.puts_per_s),
    "bytes_in": lambda point: _rounded(point.rates.bytes_in_per_s),
    "bytes_out": lambda point: _rounded(point.rates.bytes_out_per_s),
    "get_p99": lambda point: _rounded(point.rates.get_p99_s),
    "put_p99": lambda point: _rounded(point.rates.put_p99_s),
    "stored": lambda point: point.stored_bytes,
    "wasted": lambda point: point.dead_bytes,
    "objects": lambda point: point.object_count,
}


# --- news -----------------------------------------------------------------------------------------


@feeds.provider("overview")
async def follow(opened: OpenStore, name: str, publish: feeds.Publish) -> None:
    """Pushes figures each two seconds if they have changed, and a number that changes with the standing."""
    pushed: dict[str, object] = {}
    pushed_at = state = 0.0
    looks = 0
    while True:
        figures = await opened.store.figures()
        if looks % STATUS_EVERY == 0 or figures.health != pushed.get("health"):
            state = state_of(await opened.store.status(volumes=False))
        looks += 1
        message: dict[str, object] = {
            "texts": texts_of(figures),
            "health": figures.health,
            "disks": [[disk.disk_id, disk.is_online] for disk in figures.disks],
            "state": state,
        }
        if message != pushed or trio.current_time() - pushed_at >= QUIET_S:
            pushed, pushed_at = message, trio.current_time()
            publish({**message, "point": point_of(figures)})
        await trio.sleep(PUSH_S)


def state_of(status: warehouse.Status) -> int:
    """A number that changes when what is wrong changes, or what a disk does."""
    concerns = [(concern.kind, concern.title, concern.advice) for concern in standing(status)]
    disks = [(disk.disk_id, disk.is_online, disk.name) for disk in status.disks]
    return zlib.crc32(repr((concerns, disks)).encode())


def point_of(figures: warehouse.Figures) -> dict[str, float | None]:
    """The newest point of the plots."""
    point = warehouse.HistoryPoint(
        at_ms=figures.at_ms,
        span_s=figures.window_s,
        health=figures.health,
        bucket_count=figures.bucket_count,
        object_count=figures.object_count,
        byte_count=figures.byte_count,
        stored_bytes=figures.stored_bytes,
        dead_bytes=figures.dead_bytes,
        free=figures.free,
        capacity=figures.capacity,
        rates=figures.rates,
    )
    return {"at": figures.at_ms / 1000, **{name: value(point) for name, value in _QUANTITIES.items()}}
