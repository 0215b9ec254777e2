"""The pages below /volumes that remove a disk which is gone for good, and say what is lost with it."""

from __future__ import annotations

from dataclasses import dataclass

import trio
from quart import Blueprint, redirect, request
from quart.typing import ResponseReturnValue

import warehouse
from warehouse.errors import DiskOnline, NoSuchDisk
from warehouse.transport.messages import DiskStatus, LostObject
from warehouse.webui import forms, here
from warehouse.webui.rendering import page, plural, url
from warehouse.webui.work import Work

bp = Blueprint("disk_removal", __name__)

LOST_SHOWN = 50
LOST_COUNT_S = 5.0  # so long a page counts what is lost with a disk
NAME_MAX = 200  # characters


async def _disk(disk_id: str) -> DiskStatus:
    """
    Raises:
        NoSuchDisk.
    """
    for disk in (await here.store().status(volumes=False)).disks:
        if disk.disk_id == disk_id:
            return disk
    raise NoSuchDisk("there is no disk of this id")


@dataclass
class Loss:
    """The objects that are lost with a disk.

    Attributes:
        is_all: all are counted; False: there are more.
    """

    first: list[LostObject]
    count: int = 0
    byte_count: int = 0
    is_all: bool = False


async def _loss(store: warehouse.Store, disk_id: str) -> Loss:
    loss = Loss([])
    with trio.move_on_after(LOST_COUNT_S):
        async for one in store.lost_objects(disk_id):
            if loss.count < LOST_SHOWN:
                loss.first.append(one)
            loss.count += 1
            loss.byte_count += one.size
        loss.is_all = True
    return loss


@bp.get("/volumes/disks/<disk_id>/remove")
async def ask_to_remove(disk_id: str) -> ResponseReturnValue:
    here.require("manage_cluster")
    disk = await _disk(disk_id)
    loss = Loss([]) if disk.is_online else await _loss(here.store(), disk_id)
    return await page("disks/remove.html", disk=disk, loss=loss)


@bp.post("/volumes/disks/<disk_id>/remove")
async def remove(disk_id: str) -> ResponseReturnValue:
    """Forget a disk that is gone for good, as a task that goes on while one moves around."""
    here.require("manage_cluster")
    disk = await _disk(disk_id)
    form = await request.form
    if disk.is_online:
        raise DiskOnline(f"disk {disk.name} is online: only a disk that is gone for good is removed")
    if forms.text(form, "typed", most=NAME_MAX) != disk.name:
        loss = await _loss(here.store(), disk_id)
        message = f"Type {disk.name} to remove it."
        return await page("disks/remove.html", status=422, disk=disk, loss=loss, message=message)
    opened = here.opened()

    async def forget(work: Work) -> str:
        done = await opened.store.remove_disk(disk_id)
        return f"Disk {disk.name} removed; {plural(done.object_count, 'object')} lost"

    here.console().works.start(opened.work, opened.ended, f"Removing disk {disk.name}", forget)
    return redirect(url("/volumes"), 303)
