"""The command line about space and damage: volumes, compact, verify, watch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated

import trio
from cyclopts import Parameter

from warehouse.cli.app import SPACE, app
from warehouse.cli.options import NOTHING_SPECIAL, Common
from warehouse.cli.output.formats import NUMBER_MAX, format_count, parse_number
from warehouse.cli.output.jobs import JobReport, event_of, outcome_of
from warehouse.cli.output.objects import plain, result_console, say_json, tell
from warehouse.cli.output.store import print_damages, print_event, print_volumes
from warehouse.cli.usage import UsageError
from warehouse.client.store import Store
from warehouse.transport.messages import Job

Everything = Annotated[bool, Parameter(name="--all", help="All volumes.")]
NoWait = Annotated[bool, Parameter(name="--no-wait", help="Start it and leave; it goes on in the store.")]
VOLUME_ID_MAX = 2**32 - 1
NO_WAIT_ALONE = "--no-wait is about work that is started"
Cancel = Annotated[bool, Parameter(help="Give it up where it is under way.")]


@app.command(group=SPACE)
async def volumes(*, common: Common = NOTHING_SPECIAL) -> int:
    """Show every volume: how full, how much of it is wasted, when it was verified.

    `dead` counts the needles that were deleted or overwritten, `wasted` is the room that they take until the
    volume is compacted. Jobs under way and damaged needles follow below.
    """
    async with common.connect() as store:
        print_volumes(await store.status(), is_json=common.json, now_s=time.time())
    return 0


@app.command(group=SPACE, usage="Usage: warehouse compact [OPTIONS] VOLUME... | --all | --pause | --resume")
async def compact(
    *volumes: str,
    every: Everything = False,
    no_wait: NoWait = False,
    cancel: Cancel = False,
    force: Annotated[
        bool, Parameter(help="With --all: also the volumes that would give next to nothing back.")
    ] = False,
    pause: Annotated[bool, Parameter(help="Hold all compaction and verification where it is.")] = False,
    resume: Annotated[bool, Parameter(help="Let it go on.")] = False,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """Give the room of deleted and overwritten objects back to the disk.

    For example:

        warehouse compact 3
        warehouse compact --all
        warehouse compact --cancel --all

    The store does this by itself when enough is wasted; this does it now. Reads and writes go on meanwhile;
    the writes of a volume pause for a moment at the end. Ctrl-C leaves it running. Of all volumes, one that
    would give less than a hundredth of its size back is left alone; name it, or give --force.

    Parameters
    ----------
    volumes
        Numbers of volumes, see `warehouse volumes`.
    """
    if cancel + pause + resume > 1:
        raise UsageError("give one of --cancel, --pause and --resume")
    if no_wait and (cancel or pause or resume):
        raise UsageError(NO_WAIT_ALONE)
    if force and not (every and not cancel):
        raise UsageError("--force is for --all: a volume that is named is compacted in any case")
    if pause or resume:
        if volumes or every:
            raise UsageError("--pause and --resume are for the whole store: name no volumes")
        async with common.connect() as store:
            return await _pause(store, pause, common.json)
    wanted = _wanted(volumes, every)
    async with common.connect() as store:
        if cancel:
            return await _cancel("compact", wanted, store, common.json)
        report = JobReport("compact", is_json=common.json)
        jobs = await _run(await store.compact(wanted, force=force), report, no_wait, store)
        report.sum_up(jobs)
    return 1 if any(job.state in ("failed", "cancelled") for job in jobs) else 0


@app.command(group=SPACE, usage="Usage: warehouse verify [OPTIONS] [VOLUME... | --all]")
async def verify(
    *volumes: str,
    every: Everything = False,
    no_wait: NoWait = False,
    cancel: Cancel = False,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """Read every needle again and check it; without a volume: all of them.

    The store does this by itself within a period (the setting verification.period_s: two weeks unless set
    otherwise); this does it now. Exit status 1 when damage was found. Ctrl-C leaves it running.

    Parameters
    ----------
    volumes
        Numbers of volumes, see `warehouse volumes`.
    """
    if no_wait and cancel:
        raise UsageError(NO_WAIT_ALONE)
    wanted = _wanted(volumes, every or not (volumes or cancel))
    async with common.connect() as store:
        if cancel:
            return await _cancel("verify", wanted, store, common.json)
        report = JobReport("verify", is_json=common.json)
        jobs = await _run(await store.verify(wanted), report, no_wait, store)
        has_damage = await _say_damages(jobs, store, common.json)
        report.sum_up(jobs)
    return 1 if has_damage or any(job.state in ("failed", "cancelled") for job in jobs) else 0


@app.command(group=SPACE)
async def watch(
    *,
    since: Annotated[
        str | None,
        Parameter(metavar="N", help="Begin behind event number N; 0: with all that are remembered."),
    ] = None,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """Print what the store notices and does, as it happens, until Ctrl-C."""
    after = (
        None if since is None else parse_number("--since (events are numbered from 1)", since, 0, NUMBER_MAX)
    )
    console = result_console()
    async with common.connect() as store:
        async for event in store.events(after):
            print_event(event, console, is_json=common.json)
    return 0


def _wanted(words: Sequence[str], every: bool) -> Sequence[int] | None:
    """The volumes meant, each once; None: all."""
    volume_ids = [parse_number("a volume's number", word, 1, VOLUME_ID_MAX) for word in words]
    if every and volume_ids:
        raise UsageError("name volumes, or give --all")
    if every:
        return None
    if not volume_ids:
        raise UsageError("name a volume, or give --all")
    return [*dict.fromkeys(volume_ids)]


async def _run(jobs: Sequence[Job], report: JobReport, no_wait: bool, store: Store) -> Sequence[Job]:
    """Follow jobs to their ends; none where nobody waits for them."""
    report.started(jobs)
    if no_wait:
        report.handed_over()
        return ()
    try:
        with report:
            return await store.wait_jobs(jobs, report.progress)
    except trio.Cancelled:
        report.left_running()
        raise


async def _cancel(work: str, wanted: Sequence[int] | None, store: Store, is_json: bool) -> int:
    meant = [
        job.job_id
        for job in await store.jobs()
        if job.work == work and not job.is_finished and (wanted is None or job.volume_id in wanted)
    ]
    if not meant:
        tell(is_json, "there is nothing to cancel", event="summary", work=work, cancelled_count=0)
        return 0
    for job in await store.wait_jobs(await store.cancel_jobs(meant)):
        tell(is_json, f"volume {job.volume_id}  {outcome_of(job)}", event=event_of(job), **plain(job))
    return 0


async def _pause(store: Store, is_paused: bool, is_json: bool) -> int:
    jobs = await (store.pause_jobs() if is_paused else store.resume_jobs())
    word, verb = ("paused", "held") if is_paused else ("resumed", "going on")
    line = f"compaction and verification {word}"
    if jobs:
        line += f", {format_count(len(jobs), 'job')} {verb}"
    tell(is_json, line, event=word, jobs=plain(jobs))
    return 0


async def _say_damages(jobs: Sequence[Job], store: Store, is_json: bool) -> bool:
    """Name what is damaged in the volumes that were verified; True when anything is."""
    verified = {job.volume_id for job in jobs if job.state == "done"}
    if not verified:
        return False
    damages = [damage for damage in (await store.status()).damages if damage.volume_id in verified]
    if is_json:
        for damage in damages:
            say_json(event="damage", **plain(damage))
    elif damages:
        print_damages(result_console(), damages, len(damages))
    return bool(damages) or any(job.damaged_count for job in jobs)
