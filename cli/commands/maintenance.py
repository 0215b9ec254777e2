"""Commands about space and damage: volumes, compact, verify, watch."""

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
NoWait = Annotated[
    bool, Parameter(name="--no-wait", help="Start the jobs and exit; they continue in the store.")
]
VOLUME_ID_MAX = 2**32 - 1
NO_WAIT_ALONE = "--no-wait is only for starting jobs"
Cancel = Annotated[bool, Parameter(help="Cancel running and queued jobs.")]


@app.command(group=SPACE)
async def volumes(*, common: Common = NOTHING_SPECIAL) -> int:
    """Show every volume: fill level, wasted space, time of its last verification.

    `dead` counts deleted and overwritten needles; `wasted` is the space that they take until the volume is
    compacted. Running jobs and damaged needles follow.
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
        bool, Parameter(help="With --all: also compact volumes that would free almost nothing.")
    ] = False,
    pause: Annotated[bool, Parameter(help="Pause all compactions and verifications.")] = False,
    resume: Annotated[bool, Parameter(help="End the pause.")] = False,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """Free the space of deleted and overwritten objects.

    For example:

        warehouse compact 3
        warehouse compact --all
        warehouse compact --cancel --all

    The store compacts automatically when a volume wastes enough; this command does it now. Reads and writes
    continue; the writes of a volume pause for a moment at the end. Ctrl-C leaves the jobs running. --all
    skips volumes that would free less than 1 % of their size; name such a volume, or give --force.

    Parameters
    ----------
    volumes
        Numbers of volumes, as shown by `warehouse volumes`.
    """
    if cancel + pause + resume > 1:
        raise UsageError("give one of --cancel, --pause and --resume")
    if no_wait and (cancel or pause or resume):
        raise UsageError(NO_WAIT_ALONE)
    if force and not (every and not cancel):
        raise UsageError("--force is for --all: a named volume is compacted in any case")
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
    """Read and check every needle of volumes (default: of all volumes).

    The store verifies automatically within a period (the setting verification.period_s, two weeks by
    default); this command does it now. Exit status 1 if damage was found. Ctrl-C leaves the jobs running.

    Parameters
    ----------
    volumes
        Numbers of volumes, as shown by `warehouse volumes`.
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
        Parameter(
            metavar="N", help="Start after event number N; 0: with all events that the store remembers."
        ),
    ] = None,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """Print the events of the store as they happen, until Ctrl-C."""
    after = (
        None if since is None else parse_number("--since (events are numbered from 1)", since, 0, NUMBER_MAX)
    )
    console = result_console()
    async with common.connect() as store:
        async for event in store.events(after):
            print_event(event, console, is_json=common.json)
    return 0


def _wanted(words: Sequence[str], every: bool) -> Sequence[int] | None:
    """The numbers of the volumes, each once; None: all volumes."""
    volume_ids = [parse_number("a volume's number", word, 1, VOLUME_ID_MAX) for word in words]
    if every and volume_ids:
        raise UsageError("name volumes, or give --all")
    if every:
        return None
    if not volume_ids:
        raise UsageError("name a volume, or give --all")
    return [*dict.fromkeys(volume_ids)]


async def _run(jobs: Sequence[Job], report: JobReport, no_wait: bool, store: Store) -> Sequence[Job]:
    """Follow jobs until they are finished; return nothing with --no-wait."""
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
        tell(is_json, "no job to cancel", event="summary", work=work, cancelled_count=0)
        return 0
    for job in await store.wait_jobs(await store.cancel_jobs(meant)):
        tell(is_json, f"volume {job.volume_id}  {outcome_of(job)}", event=event_of(job), **plain(job))
    return 0


async def _pause(store: Store, is_paused: bool, is_json: bool) -> int:
    jobs = await (store.pause_jobs() if is_paused else store.resume_jobs())
    word, verb = ("paused", "held") if is_paused else ("resumed", "continuing")
    line = f"compaction and verification {word}"
    if jobs:
        line += f", {format_count(len(jobs), 'job')} {verb}"
    tell(is_json, line, event=word, jobs=plain(jobs))
    return 0


async def _say_damages(jobs: Sequence[Job], store: Store, is_json: bool) -> bool:
    """Print the damage in the verified volumes; return whether there is any."""
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
