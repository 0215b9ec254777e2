"""The command that moves objects: mv."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Annotated

from cyclopts import Parameter

from warehouse.cli.app import OBJECTS, app
from warehouse.cli.copying.patterns import Glob, glob_of
from warehouse.cli.copying.places import SCHEME, Remote, parse_remote
from warehouse.cli.copying.plan import Below, check_object, known_object
from warehouse.cli.copying.transfers import Found, Transfer, run_transfers
from warehouse.cli.options import (
    NOTHING_SPECIAL,
    Common,
    DryRun,
    Exclude,
    Include,
    NoGlob,
    Recursive,
    rules_of,
)
from warehouse.cli.output.objects import MoveReport
from warehouse.cli.usage import UsageError
from warehouse.client.store import Store
from warehouse.client.writing.uploads import Progress
from warehouse.errors import NoSuchObject, PreconditionFailed
from warehouse.transport.messages import ObjectInfo

AGAIN = "the same command moves the rest"


@app.command(group=OBJECTS, usage="Usage: warehouse mv [OPTIONS] SOURCE... TARGET")
async def mv(
    *places: str,
    recursive: Annotated[Recursive, Parameter(help="Move all objects in a folder and below.")] = False,
    exclude: Exclude = None,
    include: Include = None,
    dry_run: DryRun = False,
    no_glob: NoGlob = False,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """Move or rename objects within the store.

    For example:

        warehouse mv wh://photos/cat.jpg wh://photos/mimi.jpg
        warehouse mv 'wh://photos/*.jpg' wh://photos/2026/
        warehouse mv -r wh://photos/2025 wh://archive/2025

    An object is deleted when its copy is on disk, and only if nobody has replaced it in between. An object of
    the new name is replaced.

    Parameters
    ----------
    places
        One or more sources, then the target: wh://bucket/key, or a folder with a slash at its end.
    """
    if len(places) < 2:
        raise UsageError("mv needs a source and a target")
    for word in places:
        if not word.startswith(SCHEME) and not word.startswith("-"):
            raise UsageError(f"mv moves within the store, and {word!r} is not there: use cp, and then rm")
    *sources, target = map(parse_remote, places)
    globs = [glob_of(source.key) if not no_glob else None for source in sources]
    rules = rules_of(exclude, include)
    has_many = recursive or any(globs)
    if len(sources) > 1 and has_many:
        raise UsageError("with -r or wildcards, give one source")
    if rules and not has_many:
        raise UsageError("--exclude and --include need a source folder, moved with -r")
    is_folder = not target.key or target.key.endswith("/")
    if len(sources) > 1 and not is_folder:
        raise UsageError(f"several sources need a folder as target (with a slash at its end), not {target}")
    if has_many:
        below = Below(sources[0], globs[0], recursive, rules)
        _require_apart(below, globs[0], target)
    else:
        _require_single(sources, target, is_folder)
    report = MoveReport(is_json=common.json, has_many=has_many or len(sources) > 1, is_dry=dry_run)
    async with common.connect() as store:
        if dry_run:
            async for _ in store.bucket(target.bucket).list(limit=1):
                break
        with report.told(AGAIN):
            if has_many and not (globs[0] is not None and await _is_object(sources[0], store)):
                if globs[0] is not None and not is_folder:
                    raise UsageError(
                        f"wildcards need a folder as target (with a slash at its end), not {target}"
                    )
                found = _below(below, target, store)
            else:
                _require_single(sources, target, is_folder)  # also one whose name has wildcards
                found = _each(sources, target, is_folder, store)
            totals = await run_transfers(found, report, is_dry=dry_run)
        report.sum_up(totals)
    return 1 if totals.failed_count else 0


def _require_single(sources: Sequence[Remote], target: Remote, is_folder: bool) -> None:
    """Raises UsageError: a source is a folder or its own target, or two have the same target."""
    seen = set[Remote]()
    for source in sources:
        if not source.key or source.key.endswith("/"):
            raise UsageError(f"{source} is a folder: move it with -r")
        place = target.inside(source.name) if is_folder else target
        if place == source:
            raise UsageError(f"{source} would be moved onto itself")
        if place in seen:
            raise UsageError(f"two sources would both become {place}")
        seen.add(place)


def _require_apart(below: Below, glob: Glob | None, target: Remote) -> None:
    """Raises UsageError: what is moved would be found again, or is there already."""
    if below.source.bucket != target.bucket:
        return
    if target.folder == below.folder:
        raise UsageError(f"the objects of {below.source} would be moved onto themselves")
    goes_deep = below.is_recursive or (glob is not None and "**" in glob.text)
    if goes_deep and target.folder.startswith(below.folder):
        raise UsageError(f"{target} is inside {below.source}: that move would never end")


async def _is_object(source: Remote, store: Store) -> bool:
    try:
        await store.bucket(source.bucket).stat(source.key)
    except NoSuchObject:
        return False
    return True


async def _each(
    sources: Sequence[Remote], target: Remote, is_folder: bool, store: Store
) -> AsyncGenerator[Found, None]:
    for source in sources:
        info = await known_object(source, store, "move it with -r")
        yield _move(source, info, target.inside(source.name) if is_folder else target, store)


async def _below(below: Below, target: Remote, store: Store) -> AsyncGenerator[Found, None]:
    async with aclosing(below.objects(store)) as objects:
        async for remote, relative, info in objects:
            yield _move(remote, info, target.inside(relative), store)


def _move(source: Remote, info: ObjectInfo, target: Remote, store: Store) -> Transfer:
    assert source != target  # its copy could have the same ETag, and would be deleted

    async def run(progress: Progress) -> int:
        bucket = store.bucket(source.bucket)
        written = await bucket.copy(source.key, target.key, target.bucket, progress)
        try:
            await bucket.delete(source.key, if_match=info.etag)
        except PreconditionFailed:
            raise PreconditionFailed(
                f"it was replaced while it was moved: it stays, and a copy is at {target}"
            ) from None
        return written.size

    return Transfer(str(source), str(target), info.size, run, check=partial(check_object, target.key, None))
