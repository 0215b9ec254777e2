"""The page /volumes: disks, their volumes, what fills them, damage; jobs are in `webui/pages/jobs.py`."""

from __future__ import annotations

import time
from hashlib import sha256

from quart import Blueprint, request
from quart.typing import ResponseReturnValue

import warehouse
from warehouse.conf.formatting import format_size
from warehouse.transport.messages import DiskStatus, VolumeStatus
from warehouse.webui import feeds, forms, here
from warehouse.webui.disk_lines import DiskLine
from warehouse.webui.following import follow_changes
from warehouse.webui.pages.jobs import jobs_of_disks
from warehouse.webui.paging import Rows, rows_of
from warehouse.webui.rendering import page
from warehouse.webui.stores import OpenStore

bp = Blueprint("disks", __name__)

VOLUMES_SHOWN = 50  # of a disk, on one page
DAMAGE_SHOWN = 50
ID_MAX = 200  # characters
LOOK_S = 5.0  # between looks at how full the disks are


@bp.get("/volumes")
async def show() -> ResponseReturnValue:
    args, store = request.args, here.store()
    open_id = forms.text(args, "disk", most=ID_MAX)
    start = forms.number(args, "start", least=0, most=(1 << 32) - 1, default=0)
    status = await store.status(volumes=False)
    open_disk = next((disk for disk in status.disks if disk.disk_id == open_id), None)
    damages = rows_of(status.damages, args, size=DAMAGE_SHOWN, word="damage")
    return await page(
        "disks/index.html",
        cluster=status,
        lines=[DiskLine(disk) for disk in status.disks],
        offline_count=sum(not disk.is_online for disk in status.disks),
        live_bytes=sum(disk.live_bytes for disk in status.disks),
        dead_bytes=sum(disk.dead_bytes for disk in status.disks),
        free=sum(disk.free for disk in status.disks if disk.is_online),
        capacity=sum(disk.capacity for disk in status.disks),
        shown_id=_shown_id(open_disk, start, damages.start),
        open_id=open_id,
        volumes=await _volumes(store, open_disk, start),
        damages=damages,
        **await jobs_of_disks(),
    )


def _shown_id(disk: DiskStatus | None, *starts: int) -> str:
    """What is open has an id of its own, so that a late answer about what was open before finds no place."""
    of = "" if disk is None else sha256(disk.disk_id.encode()).hexdigest()[:16]
    return "-".join(["disks", of, *map(str, starts)])


async def _volumes(store: warehouse.Store, disk: DiskStatus | None, start: int) -> Rows[VolumeStatus]:
    """Volumes of the open disk, whose pages begin with numbers of volumes."""
    if disk is None:
        return Rows([], 0, 0, 0)
    listed = await store.volumes(disk.disk_id, start, VOLUMES_SHOWN)
    return Rows(listed.volumes, start, listed.next_volume, disk.volume_count)


@feeds.provider("volumes")
async def follow(opened: OpenStore, name: str, publish: feeds.Publish) -> None:
    """Tells that disks came or went, that they hold something else, or that a job began or ended."""
    before: object = None

    async def look(is_news: bool) -> float:
        nonlocal before
        now = [_shown(disk) for disk in (await opened.store.figures()).disks]
        if is_news or now != before:
            before = now
            publish({"at": time.time()})
        return LOOK_S

    await follow_changes(opened.store, ("disks", "jobs"), look)


def _shown(disk: warehouse.DiskFigures) -> tuple[object, ...]:
    """The figures of a disk as the page shows them: what others write there changes them all the time."""
    sizes = (disk.free, disk.stored_bytes, disk.dead_bytes)
    return disk.disk_id, disk.is_online, *map(format_size, sizes)
