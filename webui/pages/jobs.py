"""The page /activity/jobs, the jobs on the page /volumes, and what a person does with jobs.

    POST /jobs/start     compact or verify one volume, the volumes of a disk, or all
    POST /jobs/pause     hold all jobs; POST /jobs/resume: let them go on
    POST /jobs/cancel    cancel one job, or without a number all of them

Each goes back to the page it came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quart import Blueprint, redirect, request
from quart.typing import ResponseReturnValue

import warehouse
from warehouse.webui import forms, here
from warehouse.webui.jobs import DOING, NOUNS, look
from warehouse.webui.rendering import page, plural, url

bp = Blueprint("jobs", __name__)

LISTED_MAX = 100  # unfinished ones, and finished ones, on the page of jobs
SHOWN_MAX, ENDED_SHOWN = 50, 5  # on the page of disks
VOLUMES_AT_ONCE = 1000
ID_MAX = 200  # characters
BACK = ("/activity/jobs", "/volumes")


@bp.get("/activity/jobs")
async def show() -> ResponseReturnValue:
    return await page("activity/jobs.html", jobs=await look(here.store()), shown=LISTED_MAX, doing=DOING)


async def jobs_of_disks() -> dict[str, Any]:
    """What the template `disks/_jobs.html` shows."""
    jobs = await look(here.store())
    return {"jobs": jobs, "jobs_shown": SHOWN_MAX, "ended_shown": ENDED_SHOWN, "doing": DOING}


@bp.get("/volumes/jobs")
async def show_on_disks() -> ResponseReturnValue:
    """The part of the page of disks that follows jobs."""
    return await page("disks/_jobs.html", **await jobs_of_disks())


@bp.post("/jobs/start")
async def start() -> ResponseReturnValue:
    form, store = await request.form, here.store()
    work = forms.choice(form, "work", tuple(NOUNS))
    wanted = await _wanted(store, form)
    begun = await (store.compact(wanted) if work == "compact" else store.verify(wanted))
    going = [job for job in begun if not job.is_finished]
    if going:
        _, is_paused = await store.jobs_and_pause([going[0].job_id])
        kind, how = ("warn", "waits: jobs are paused") if is_paused else ("good", "has begun")
        here.tell(kind, f"{NOUNS[work]} of {plural(len(going), 'volume')} {how}")
    else:
        why = f": {begun[0].message}" if begun else ""
        here.tell("warn", f"{NOUNS[work]}: there is nothing to do{why}")
    return _back(form)


async def _wanted(store: warehouse.Store, form: Mapping[str, str]) -> list[int] | None:
    """The volumes that a form names; None: all.

    Raises:
        NoSuchDisk.
    """
    what = forms.choice(form, "what", ("all", "disk", "volume"), "all")
    if what == "volume":
        return [forms.number(form, "volume", least=0, most=1 << 62)]
    if what == "all":
        return None
    disk_id = forms.text(form, "disk", least=1, most=ID_MAX)
    found, start = list[int](), 0
    while True:
        listed = await store.volumes(disk_id, start, VOLUMES_AT_ONCE)
        found += [volume.report.volume_id for volume in listed.volumes]
        if not (start := listed.next_volume):
            return found


@bp.post("/jobs/<any(pause, resume):action>")
async def pause(action: str) -> ResponseReturnValue:
    store = here.store()
    if action == "pause":
        await store.pause_jobs()
        here.tell("warn", "Compaction and verification paused")
    else:
        jobs = await store.resume_jobs()
        here.tell("good", f"{plural(len(jobs), 'job')} go on" if len(jobs) != 1 else "1 job goes on")
    return _back(await request.form)


@bp.post("/jobs/cancel")
async def cancel() -> ResponseReturnValue:
    form, store = await request.form, here.store()
    number = forms.number(form, "job", least=0, most=1 << 62, default=0)
    wanted = [number] if number else [job.job_id for job in (await look(store)).unfinished]
    await store.cancel_jobs(wanted)
    here.tell("good", f"Job {number} cancelled" if number else f"{plural(len(wanted), 'job')} cancelled")
    return _back(form)


def _back(form: Mapping[str, str]) -> ResponseReturnValue:
    """To the page that has sent the form; to that of disks with the disk open that was open."""
    where = forms.choice(form, "back", BACK, BACK[0])
    open_id = form.get("open", "")
    is_id = open_id.isascii() and open_id.replace("-", "").isalnum() and len(open_id) <= ID_MAX
    return redirect(url(where) + (f"?disk={open_id}" if where == "/volumes" and is_id else ""), 303)
