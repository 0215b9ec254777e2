"""The command line: sync."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Annotated

import trio
from cyclopts import Parameter

from client import syncing
from client.cli_app import NOTHING_SPECIAL, OBJECTS, Common, app
from client.deletions import DELETE_BATCH, delete_batch
from client.display import format_count
from client.library import Warehouse
from client.places import Place, Remote, UsageError, parse_place
from client.reports import CopyReport, say, say_json
from client.syncing import Entry, Findings
from client.transfers import Found, Totals, run_transfers

Word = Annotated[str, Parameter(allow_leading_hyphen=True)]  # so that a lone "-" is refused in our words


@app.command(group=OBJECTS, usage="Usage: warehouse sync [OPTIONS] SOURCE TARGET")
async def sync(
    source: Word,
    target: Word,
    /,
    *,
    delete: Annotated[
        bool, Parameter(help="Also delete what the target has and the source has not.")
    ] = False,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """Copy what has changed from one folder to another.

    For example:

        warehouse sync ./pictures wh://photos/pictures
        warehouse sync --delete wh://photos/pictures ./pictures

    A file is copied when the target lacks it, when sizes differ, or when the source was changed after the
    target was written. Contents are not compared.

    Parameters
    ----------
    source
        A local folder, wh://bucket or wh://bucket/folder.
    target
        The same; one of the two must be in the store.
    """
    places = parse_place(source), parse_place(target)
    _require_folders(*places)
    findings = Findings()
    report = CopyReport(is_json=common.json, has_many=True)
    async with common.connect() as warehouse:
        with report:
            totals = await run_transfers(_compared(*places, warehouse, findings), report)
        deleted_count = 0
        if delete and findings.surplus:
            if findings.is_source_whole and not totals.failed_count:
                deleted_count = await _delete(places[1], findings.surplus, warehouse)
            elif not common.json:
                say("nothing was deleted, because not all could be copied")
    _sum_up(report, totals, findings, deleted_count, is_json=common.json)
    return 1 if totals.failed_count else 0


def _require_folders(source: Place, target: Place) -> None:
    if not isinstance(source, Remote | Path) or not isinstance(target, Remote | Path):
        raise UsageError("sync goes from folder to folder, not through a standard stream")
    if isinstance(source, Path) and isinstance(target, Path):
        raise UsageError("one of source and target must be wh://bucket/folder")
    if isinstance(source, Path) and not source.is_dir():
        raise UsageError(f"{source} is no folder")
    if isinstance(source, Remote) and isinstance(target, Remote) and source.bucket == target.bucket:
        ours, theirs = source.folder, target.folder
        if ours.startswith(theirs) or theirs.startswith(ours):
            raise UsageError(f"one of {source} and {target} is inside of the other")


def _compared(
    source: Place, target: Place, warehouse: Warehouse, findings: Findings
) -> AsyncGenerator[Found, None]:
    match source, target:
        case Path(), Remote():
            ours = syncing.local_side(source, target=str(target))
            theirs = syncing.remote_side(target, warehouse)
            transfer_of = syncing.uploads_to(target, warehouse)
        case Remote(), Path():
            ours = syncing.remote_side(source, warehouse, with_locations=True)
            theirs = syncing.local_side(target, target="") if target.is_dir() else syncing.no_side()
            transfer_of = syncing.downloads_to(source, target, warehouse)
        case Remote(), Remote():
            ours = syncing.remote_side(source, warehouse)
            theirs = syncing.remote_side(target, warehouse)
            transfer_of = syncing.copies_to(source, target, warehouse)
        case _:
            raise AssertionError("refused before")
    return syncing.compare(ours, theirs, findings, transfer_of)


async def _delete(target: Place, surplus: Sequence[Entry], warehouse: Warehouse) -> int:
    if isinstance(target, Path):
        await trio.to_thread.run_sync(_unlink, [entry.path for entry in surplus])
        return len(surplus)
    assert isinstance(target, Remote)
    keys = [entry.info.key for entry in surplus if entry.info is not None]
    for start in range(0, len(keys), DELETE_BATCH):
        await delete_batch(warehouse.bucket(target.bucket), keys[start : start + DELETE_BATCH])
    return len(keys)


def _unlink(paths: Sequence[Path | None]) -> None:
    for path in paths:
        assert path is not None
        path.unlink(missing_ok=True)


def _sum_up(
    report: CopyReport, totals: Totals, findings: Findings, deleted_count: int, *, is_json: bool
) -> None:
    if is_json:
        say_json(
            event="summary",
            file_count=totals.file_count,
            byte_count=totals.byte_count,
            failed_count=totals.failed_count,
            same_count=findings.same_count,
            deleted_count=deleted_count,
            elapsed_s=round(totals.elapsed_s, 3),
        )
        return
    report.sum_up(totals)
    deleted = f", {deleted_count:,} deleted" if deleted_count else ""
    say(f"{format_count(findings.same_count, 'file')} already the same{deleted}")
