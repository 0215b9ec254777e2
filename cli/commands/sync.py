"""The command that synchronizes: sync."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import trio
from cyclopts import Parameter

from warehouse.cli.app import OBJECTS, app
from warehouse.cli.copying import differences
from warehouse.cli.copying.deletions import (
    DELETE_BATCH,
    Case,
    Wish,
    delete_batch,
    judge,
    parse_limit,
    require_yes,
)
from warehouse.cli.copying.differences import Entry, Findings, Rule
from warehouse.cli.copying.patterns import Rules
from warehouse.cli.copying.places import Place, Remote, parse_place
from warehouse.cli.copying.plan import name_of
from warehouse.cli.copying.transfers import Found, Totals, run_transfers
from warehouse.cli.copying.walks import Links, is_store_folder
from warehouse.cli.options import (
    NOTHING_SPECIAL,
    Common,
    DryRun,
    Exclude,
    Include,
    LinksWord,
    Yes,
    links_of,
    rules_of,
)
from warehouse.cli.output.formats import format_count
from warehouse.cli.output.objects import CopyReport, say, say_failure, say_json
from warehouse.cli.usage import UsageError
from warehouse.client.store import Store
from warehouse.errors import DeletionRefused, NoSuchObject

Words = Annotated[str, Parameter(allow_leading_hyphen=True)]  # so that our own message refuses them
AGAIN = "the same command continues with the missing files"
HELD_BACK = DeletionRefused("not all files could be copied")  # printed already, file by file


@app.command(group=OBJECTS, usage="Usage: warehouse sync [OPTIONS] SOURCE TARGET")
async def sync(
    *places: Words,
    delete: Annotated[bool, Parameter(help="Also delete files of the target that the source lacks.")] = False,
    max_delete: Annotated[
        str | None,
        Parameter(
            name="--max-delete",
            metavar="N|P%",
            help="Delete nothing if more files than this would be deleted.",
        ),
    ] = None,
    allow_empty_source: Annotated[
        bool,
        Parameter(
            name="--allow-empty-source",
            help="Allow an empty source: --delete then deletes all files of the target.",
        ),
    ] = False,
    yes: Yes = False,
    checksum: Annotated[bool, Parameter(help="Compare contents even if the times are equal.")] = False,
    size_only: Annotated[bool, Parameter(name="--size-only", help="Compare only sizes.")] = False,
    exact: Annotated[
        bool,
        Parameter(
            name=["--exact-times", "--exact"], help="Copy if the times differ, without comparing contents."
        ),
    ] = False,
    links: LinksWord = None,
    exclude: Exclude = None,
    include: Include = None,
    dry_run: DryRun = False,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """Copy changed files from one folder to another.

    For example:

        warehouse sync ./pictures wh://photos/pictures
        warehouse sync --delete --dry-run wh://photos/pictures ./pictures

    A file is copied if the target lacks it or if the sizes differ. If only the times differ, the contents are
    compared by checksum. --delete deletes nothing if the source is empty or could not be read completely, and
    asks before it deletes most of the target.

    Parameters
    ----------
    places
        The source and the target: local folders, wh://bucket or wh://bucket/folder; not both local.
    """
    if not places:
        raise UsageError("sync needs a source and a target")
    parsed = [parse_place(word) for word in places]
    if len(parsed) != 2:
        raise UsageError("sync goes from one source to one target")
    source, target = parsed
    _require_folders(source, target)
    for option, is_given in (
        ("--max-delete", max_delete is not None),
        ("--yes", yes),
        # For a source in the store, the option says that the folder need not exist.
        ("--allow-empty-source", allow_empty_source and isinstance(source, Path)),
    ):
        if is_given and not delete:
            raise UsageError(f"{option} goes with --delete")
    if links is not None and not isinstance(source, Path):
        raise UsageError("--links needs a local source folder")
    order = _Order(
        source=source,
        target=target,
        wishes_deletions=delete,
        wish=Wish(parse_limit(max_delete) if max_delete is not None else None, yes, allow_empty_source),
        rule=_rule(checksum=checksum, size_only=size_only, exact=exact),
        links=links_of(links),
        rules=rules_of(exclude, include),
        is_dry=dry_run,
        is_json=common.json,
    )
    async with common.connect() as store:
        return await _sync(order, store)


@dataclass(frozen=True)
class _Order:
    """The words of a `sync`."""

    source: Place
    target: Place
    wishes_deletions: bool
    wish: Wish
    rule: Rule
    links: Links
    rules: Rules
    is_dry: bool
    is_json: bool


def _rule(*, checksum: bool, size_only: bool, exact: bool) -> Rule:
    chosen = [
        rule
        for rule, is_chosen in ((Rule.CHECKSUM, checksum), (Rule.SIZE_ONLY, size_only), (Rule.EXACT, exact))
        if is_chosen
    ]
    if len(chosen) > 1:
        raise UsageError("of --checksum, --size-only and --exact-times give one")
    return chosen[0] if chosen else Rule.DEFAULT


def _require_folders(source: Place, target: Place) -> None:
    if not isinstance(source, Remote | Path) or not isinstance(target, Remote | Path):
        raise UsageError("sync needs folders, not a standard stream")
    if isinstance(source, Path) and isinstance(target, Path):
        raise UsageError("one of source and target must be wh://bucket/folder")
    if isinstance(source, Path):
        _require_local_source(source)
    if isinstance(target, Path):
        _require_local_target(target)
    if isinstance(source, Remote) and isinstance(target, Remote) and source.bucket == target.bucket:
        ours, theirs = source.folder, target.folder
        if ours.startswith(theirs) or theirs.startswith(ours):
            raise UsageError(f"one of {source} and {target} is inside the other")


def _require_local_source(source: Path) -> None:
    if source.is_dir():
        return
    if source.is_symlink() and not source.exists():
        raise UsageError(f"{name_of(source)} is a link to nothing")
    if not source.exists():
        raise UsageError(f"there is no folder {name_of(source)}")
    raise UsageError(f"{name_of(source)} is not a folder; cp copies a single file")


def _require_local_target(target: Path) -> None:
    if not target.is_dir() and (target.exists() or target.is_symlink()):
        raise UsageError(f"{name_of(target)} is not a folder")
    whole = target.resolve()
    for folder in (whole, *whole.parents):
        if is_store_folder(folder):
            raise UsageError(f"{name_of(target)} is in {folder}, the data folder of a store")


async def _sync(order: _Order, store: Store) -> int:
    order = replace(order, wish=await _agreed(order, store))
    findings = Findings()
    report = CopyReport(is_json=order.is_json, has_many=True, is_dry=order.is_dry)
    deleted: list[Entry] = []
    with report.told(AGAIN):
        totals = await run_transfers(_compared(order, store, findings), report, is_dry=order.is_dry)
        refusal = await _deletions(order, findings, totals, store, deleted)
        is_clear = order.wishes_deletions and refusal is None
        put_off: list[Found] = [
            # The deletions would have removed what is in its way.
            (replace(one, check=None) if order.is_dry else one) if is_clear else differences.in_the_way(one)
            for one in findings.put_off.values()
        ]
        totals = await run_transfers(_each(put_off), report, totals=totals, is_dry=order.is_dry)
    _sum_up(order, report, totals, findings, deleted)
    if refusal is not None and refusal is not HELD_BACK:
        raise refusal
    is_named = isinstance(order.source, Remote) and bool(order.source.key)
    if not findings.source_count and is_named and not order.wish.may_be_empty:
        raise NoSuchObject(f"there is nothing in {order.source}")
    return 1 if totals.failed_count else 0


async def _each(found: Sequence[Found]) -> AsyncGenerator[Found, None]:
    for one in found:
        yield one


def _compared(order: _Order, store: Store, findings: Findings) -> AsyncGenerator[Found, None]:
    rules = order.rules
    compare = partial(differences.compare, findings=findings, rule=order.rule)
    match order.source, order.target:
        case Path() as source, Remote() as target:
            ours = differences.local_side(source, target=str(target), links=order.links, rules=rules)
            theirs = differences.remote_side(target, store, rules=rules)
            return compare(ours, theirs, transfer_of=differences.uploads_to(target, store))
        case Remote() as source, Path() as target:
            ours = differences.remote_side(source, store, with_locations=True, rules=rules)
            is_there = target.is_dir()
            theirs = (
                differences.local_side(target, target="", rules=rules) if is_there else differences.no_side()
            )
            transfer_of = differences.downloads_to(source, target, store, is_dry=order.is_dry)
            return compare(ours, theirs, transfer_of=transfer_of, is_blocked=differences.folder_in(target))
        case Remote() as source, Remote() as target:
            ours = differences.remote_side(source, store, is_for_files=False, rules=rules)
            theirs = differences.remote_side(target, store, is_for_files=False, rules=rules)
            return compare(ours, theirs, transfer_of=differences.copies_to(source, target, store))
        case _:
            raise AssertionError("refused before")


# --- deleting -------------------------------------------------------------------------------------


async def _agreed(order: _Order, store: Store) -> Wish:
    """Ask the necessary question before anything is copied; return the wish with the answer.

    If we copied first, the files of a wrong source would then be files of both sides, and the same command
    would delete without a question the next time.

    Raises:
        DeletionRefused: the answer is no, or nobody can be asked.
    """
    wish = order.wish
    if not order.wishes_deletions or order.is_dry or wish.is_sure or wish.limit is not None:
        return wish
    findings = Findings()
    names_only = replace(order, rule=Rule.SIZE_ONLY, is_dry=True)
    async with aclosing(_compared(names_only, store, findings)) as compared:
        async for _ in compared:
            pass
    if not findings.is_source_whole or not (findings.source_count or wish.may_be_empty):
        return wish  # nothing will be deleted; the reason is printed at the end
    question = judge(_case_of(order, findings), wish)
    await require_yes(question, can_ask=not order.is_json, outcome="nothing was copied or deleted")
    return replace(wish, is_sure=question is not None)


def _case_of(order: _Order, findings: Findings) -> Case:
    return Case(
        str(order.source),
        str(order.target),
        findings.source_count,
        len(findings.surplus),
        findings.kept_count,
    )


async def _deletions(
    order: _Order, findings: Findings, totals: Totals, store: Store, deleted: list[Entry]
) -> DeletionRefused | None:
    """Delete files that only the target has, if that is allowed; else return the reason."""
    if not order.wishes_deletions or not (findings.surplus or findings.put_off):
        return None
    if not findings.is_source_whole or totals.failed_count:
        if not order.is_json:
            say("nothing was deleted, because not all files could be copied")
        return HELD_BACK
    try:
        question = judge(_case_of(order, findings), order.wish)
        if order.is_dry:
            if question is not None:
                say_failure(f"warehouse: without --dry-run it would ask: {question}")
        else:
            await require_yes(question, can_ask=not order.is_json)
    except DeletionRefused as refusal:
        return refusal
    for entry in findings.surplus:
        if order.is_dry and not order.is_json:
            say(f"would delete {_place_of(order.target, entry)} (not in the source)")
        elif order.is_json:
            word = "would_delete" if order.is_dry else "deleted"
            say_json(event=word, target=_place_of(order.target, entry))
    if not order.is_dry:
        await _delete(order.target, findings, store)
    deleted += findings.surplus
    return None


def _place_of(target: Place, entry: Entry) -> str:
    return str(target.inside(entry.name)) if isinstance(target, Remote) else name_of(entry.path or Path())


async def _delete(target: Place, findings: Findings, store: Store) -> None:
    if isinstance(target, Path):
        await trio.to_thread.run_sync(differences.clear, target, findings.surplus, [*findings.put_off])
        return
    assert isinstance(target, Remote)
    keys = [entry.info.key for entry in findings.surplus if entry.info is not None]
    for start in range(0, len(keys), DELETE_BATCH):
        await delete_batch(store.bucket(target.bucket), keys[start : start + DELETE_BATCH])


def _sum_up(
    order: _Order, report: CopyReport, totals: Totals, findings: Findings, deleted: Sequence[Entry]
) -> None:
    same_count = findings.same_count + totals.same_count
    report.sum_up(totals, same_count=same_count, deleted_count=len(deleted))
    if not order.is_json:
        word = "would be deleted" if order.is_dry else "deleted"
        told = f", {len(deleted):,} {word}" if deleted else ""
        say(f"{format_count(same_count, 'file')} already the same{told}")
