"""The page /volumes: disks and their volumes, compaction and verification, damage; adding and removing."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

import trio
from quart import Blueprint, redirect, request
from quart.typing import ResponseReturnValue

import warehouse
from warehouse.errors import DiskOnline, NoSuchDisk
from warehouse.transport.messages import DiskStatus, LostObject, VolumeStatus
from warehouse.webui import feeds, forms, here
from warehouse.webui.joining import Joining, commands, join_of
from warehouse.webui.names import is_loopback
from warehouse.webui.rendering import is_htmx, page, plural, share, url
from warehouse.webui.stores import OpenStore
from warehouse.webui.work import Work

bp = Blueprint("disks", __name__)

VOLUMES_SHOWN = 50  # of a disk, on one page
DAMAGE_SHOWN = 50
JOBS_SHOWN = 50
ENDED_SHOWN = 5
LOST_SHOWN = 50
LOST_COUNT_S = 5.0  # so long a page counts what is lost with a disk
NAME_MAX = 200
LOOK_S = 0.8  # between looks at figures
LOOK_AT_JOBS_S = 0.4  # while there are some
LIVES = {"3600": "1 hour", "86400": "1 day", "604800": "1 week", "never": "until it is revoked"}
ROLES = {"both": "volume and compactor", "volume": "volume only", "compactor": "compactor only"}


@dataclass(frozen=True)
class Line:
    """A disk in the table.

    Attributes:
        used, wasted: shares of the whole disk, in percent; what others keep there is used, too.
    """

    disk: DiskStatus
    host: str
    object_count: int
    live_bytes: int
    dead_bytes: int
    used: float
    wasted: float

    @property
    def is_known(self) -> bool:
        """Has it told how large it is?"""
        return self.disk.capacity > 0

    @property
    def is_full(self) -> bool:
        return self.used + self.wasted >= 90


def _line(disk: DiskStatus) -> Line:
    reports = [volume.report for volume in disk.volumes]
    dead = sum(report.dead_bytes for report in reports)
    wasted = share(dead, disk.capacity)
    taken = share(disk.capacity - disk.free, disk.capacity)
    return Line(
        disk,
        urlsplit(disk.url).hostname or "",
        object_count=sum(report.live_count for report in reports),
        live_bytes=sum(report.live_bytes for report in reports),
        dead_bytes=dead,
        used=round(max(0.0, taken - wasted), 1),
        wasted=wasted,
    )


@bp.get("/volumes")
async def show() -> ResponseReturnValue:
    args = request.args
    opened_id = forms.text(args, "disk", most=NAME_MAX)
    start = forms.number(args, "start", least=0, most=1 << 40, default=0)
    damage_start = forms.number(args, "damage", least=0, most=1_000_000, default=0)
    status = await here.store().status()
    lines = [_line(disk) for disk in status.disks]
    open_disk = next((disk for disk in status.disks if disk.disk_id == opened_id), None)
    volumes, next_start = _volumes(open_disk, start)
    return await page(
        "disks/index.html",
        cluster=status,
        lines=lines,
        offline_count=sum(not line.disk.is_online for line in lines),
        live_bytes=sum(line.live_bytes for line in lines),
        dead_bytes=sum(line.dead_bytes for line in lines),
        free=sum(line.disk.free for line in lines if line.disk.is_online),
        capacity=sum(line.disk.capacity for line in lines),
        shown_id=_shown_id(open_disk, start, damage_start),
        open_id=opened_id,
        volumes=volumes,
        start=start,
        next_start=next_start,
        damages=status.damages[damage_start : damage_start + DAMAGE_SHOWN],
        damage_start=damage_start,
        next_damage=damage_start + DAMAGE_SHOWN if damage_start + DAMAGE_SHOWN < len(status.damages) else 0,
        **await _jobs(here.store()),
    )


def _shown_id(disk: DiskStatus | None, *starts: int) -> str:
    """What is open has an id of its own, so that a late answer about what was open before finds no place."""
    of = "" if disk is None else sha256(disk.disk_id.encode()).hexdigest()[:16]
    return "-".join(["disks", of, *map(str, starts)])


def _volumes(disk: DiskStatus | None, start: int) -> tuple[list[VolumeStatus], int]:
    """Those of the open disk from a number on, and where the next page begins; 0: nowhere."""
    if disk is None:
        return [], 0
    rest = islice((volume for volume in disk.volumes if volume.report.volume_id >= start), VOLUMES_SHOWN + 1)
    found = [*rest]
    more = found[VOLUMES_SHOWN].report.volume_id if len(found) > VOLUMES_SHOWN else 0
    return found[:VOLUMES_SHOWN], more


# --- jobs -----------------------------------------------------------------------------------------


async def _jobs(store: warehouse.Store) -> dict[str, Any]:
    """What works now, what waits and what has ended lately, and whether a pause holds it."""
    jobs = await store.jobs()
    going = [job for job in jobs if not job.is_finished]
    ended = sorted((job for job in jobs if job.is_finished), key=lambda job: -job.ended_ms)
    going.sort(key=lambda job: (job.state == "queued", job.job_id))
    return {
        "jobs": going[:JOBS_SHOWN],
        "job_count": len(going),
        "ended_jobs": ended[:ENDED_SHOWN],
        "is_paused": await store.are_jobs_paused(),
    }


@bp.get("/volumes/jobs")
async def show_jobs() -> ResponseReturnValue:
    return await page("disks/_jobs.html", **await _jobs(here.store()))


@bp.post("/volumes/jobs")
async def start() -> ResponseReturnValue:
    """Compact or verify one volume, the volumes of a disk, or all."""
    form, store = await request.form, here.store()
    work = forms.choice(form, "work", ("compact", "verify"))
    what = forms.choice(form, "what", ("all", "disk", "volume"), "all")
    wanted: list[int] | None = None
    if what == "volume":
        wanted = [forms.number(form, "volume", least=0, most=1 << 62)]
    elif what == "disk":
        disk = await _disk(forms.text(form, "disk", most=NAME_MAX))
        wanted = [volume.report.volume_id for volume in disk.volumes]
    begun = await (store.compact(wanted) if work == "compact" else store.verify(wanted))
    noun = "Compaction" if work == "compact" else "Verification"
    going = [job for job in begun if not job.is_finished]
    if going:
        here.tell("good", f"{noun} of {plural(len(going), 'volume')} has begun")
    else:
        here.tell("warn", f"{noun}: there is nothing to do" + (f": {begun[0].message}" if begun else ""))
    return _back(form.get("back", ""))


async def _disk(disk_id: str) -> DiskStatus:
    """
    Raises:
        NoSuchDisk.
    """
    for disk in (await here.store().status()).disks:
        if disk.disk_id == disk_id:
            return disk
    raise NoSuchDisk("there is no disk of this id")


def _back(disk_id: str) -> ResponseReturnValue:
    """To the page of disks, with the disk open that was open."""
    known = disk_id if disk_id.isascii() and disk_id.replace("-", "").isalnum() else ""
    return redirect(url("/volumes") + (f"?disk={known}" if known else ""), 303)


@bp.post("/volumes/jobs/<any(pause, resume):action>")
async def pause(action: str) -> ResponseReturnValue:
    store = here.store()
    await (store.pause_jobs() if action == "pause" else store.resume_jobs())
    return await _answer_with_jobs()


@bp.post("/volumes/jobs/cancel")
async def cancel() -> ResponseReturnValue:
    """Cancel one job, or without a number all of them."""
    form, store = await request.form, here.store()
    number = forms.number(form, "job", least=0, most=1 << 62, default=0)
    wanted = [number] if number else [job.job_id for job in await store.jobs() if not job.is_finished]
    await store.cancel_jobs(wanted)
    return await _answer_with_jobs()


async def _answer_with_jobs() -> ResponseReturnValue:
    if is_htmx():
        return await show_jobs()
    return redirect(url("/volumes"), 303)


# --- adding ---------------------------------------------------------------------------------------


@bp.get("/volumes/add")
async def ask_to_add() -> ResponseReturnValue:
    here.require("manage_cluster")
    return await page(
        "disks/add.html", lives=LIVES, roles=ROLES, address=_address(), store_is_local=_is_local()
    )


@bp.post("/volumes/add")
async def add() -> ResponseReturnValue:
    """Make a join token, and the commands that use it."""
    form = await request.form
    life = forms.choice(form, "life", tuple(LIVES), "86400")
    role = forms.choice(form, "role", tuple(ROLES), "both")
    folder = forms.text(form, "folder", least=1, most=1000, label="Folder of the disk")
    host = forms.text(form, "host", most=255, label="Address")
    port = forms.number(form, "port", least=1, most=65535, default=7410)
    scheme = await _scheme()  # first: a token that nobody is shown would be left over
    made = await here.store().create_join_token(
        role=role,
        is_reusable=forms.is_checked(form, "reusable"),
        expires_in_s=None if life == "never" else float(life),
    )
    profile = here.opened().profile
    joining = Joining(
        made.token,
        made.expires_ms,
        commands(
            join_of(profile, made.token, host=_address()),
            role=role,
            folder=folder,
            host=host,
            port=port,
            scheme=scheme,
        ),
    )
    session = here.session()
    assert session is not None
    session.keep_once(f"token {made.token_id}", joining)
    return redirect(url(f"/volumes/joining/{made.token_id}"), 303)


@bp.get("/volumes/joining/<token_id>")
async def show_joining(token_id: str) -> ResponseReturnValue:
    """A new join token and the commands to paste; shown once."""
    here.require("manage_cluster")
    session = here.session()
    joining = session.take_once(f"token {token_id}") if session is not None else None
    if not isinstance(joining, Joining):
        return await page("disks/joining.html", status=410, joining=None)
    return await page("disks/joining.html", joining=joining, store_is_local=_is_local())


async def _scheme() -> str:
    """ "https" where the disks of the store speak TLS."""
    urls = [disk.url for disk in (await here.store().status()).disks] if here.can().see_cluster else []
    return "https" if any(one.startswith("https:") for one in urls) else "http"


def _address() -> str:
    """Where other machines reach the master: as this console does, or as this browser reaches the console."""
    known = urlsplit(here.opened().profile.master).hostname or ""
    shown = urlsplit(f"//{request.host}").hostname or ""
    return shown if is_loopback(known) and not is_loopback(shown) else known


def _is_local() -> bool:
    return is_loopback(urlsplit(here.opened().profile.master).hostname or "")


# --- removing -------------------------------------------------------------------------------------


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


# --- news -----------------------------------------------------------------------------------------


async def publish_changes(
    look: Callable[[], Awaitable[tuple[object, float]]], publish: feeds.Publish
) -> None:
    """Tell whenever a look finds something else than the one before.

    Args:
        look: returns what it found, and when to look again, in seconds.
    """
    before: object = None
    while True:
        found, pause_s = await look()
        if found != before:
            before = found
            publish({"at": time.time()})
        await trio.sleep(pause_s)


@feeds.provider("jobs")
async def follow_jobs(opened: OpenStore, name: str, publish: feeds.Publish) -> None:
    """Tells how far compactions and verifications are."""

    async def look() -> tuple[object, float]:
        jobs, is_paused = await opened.store.jobs(), await opened.store.are_jobs_paused()
        is_busy = any(not job.is_finished for job in jobs) and not is_paused
        return (jobs, is_paused), LOOK_AT_JOBS_S if is_busy else LOOK_S

    await publish_changes(look, publish)


@feeds.provider("volumes")
async def follow(opened: OpenStore, name: str, publish: feeds.Publish) -> None:
    """Tells that disks came or went, that they hold something else, or that a job has ended."""

    async def look() -> tuple[object, float]:
        disks = [
            (disk.disk_id, disk.is_online, disk.free, disk.stored_bytes, disk.dead_bytes)
            for disk in (await opened.store.figures()).disks
        ]
        return (disks, _ended(await opened.store.jobs())), LOOK_S

    await publish_changes(look, publish)


def _ended(jobs: Sequence[warehouse.Job]) -> frozenset[int]:
    return frozenset(job.job_id for job in jobs if job.is_finished)
