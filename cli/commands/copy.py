"""The command that copies: cp."""

from __future__ import annotations

import stat
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from warehouse.cli import closed_streams
from warehouse.cli.app import OBJECTS, app
from warehouse.cli.copying import plan as planned
from warehouse.cli.copying.patterns import Glob, glob_of
from warehouse.cli.copying.places import (
    INPUT_WORDS,
    OUTPUT_WORDS,
    SCHEME,
    Place,
    Remote,
    StandardStream,
    key_of_path,
    parse_place,
    require_file_word,
    segments_of,
)
from warehouse.cli.copying.plan import Below, Choice, known_object, name_of
from warehouse.cli.copying.transfers import Found, Transfer, run_transfers
from warehouse.cli.options import (
    NOTHING_SPECIAL,
    Common,
    DryRun,
    Exclude,
    Include,
    LinksWord,
    NoGlob,
    Recursive,
    links_of,
    rules_of,
)
from warehouse.cli.output.objects import CopyReport
from warehouse.cli.usage import UsageError
from warehouse.client.store import Store
from warehouse.errors import BadKey, NoSuchObject

# "-" alone is a standard stream; `parse_place` refuses other words that begin with it.
Words = Annotated[str, Parameter(allow_leading_hyphen=True)]

AGAIN = "the same command copies them again; sync copies only what is missing"


@app.command(group=OBJECTS, usage="Usage: warehouse cp [OPTIONS] SOURCE... TARGET")
async def cp(
    *places: Words,
    recursive: Annotated[Recursive, Parameter(help="Copy all files in a folder and below.")] = False,
    content_type: Annotated[
        str | None,
        Parameter(
            metavar="TYPE",
            help="Content type of the objects (default: the source's, or guessed from the name's ending).",
        ),
    ] = None,
    links: LinksWord = None,
    exclude: Exclude = None,
    include: Include = None,
    dry_run: DryRun = False,
    no_glob: NoGlob = False,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """Copy files to objects, objects to files, objects to objects.

    For example:

        warehouse cp cat.jpg wh://photos/2026/
        warehouse cp -r ./pictures wh://photos/pictures
        warehouse cp wh://photos/2026/cat.jpg .
        warehouse cp 'wh://photos/2026/*.jpg' .
        tar c . | warehouse cp - wh://backup/today.tar

    If the target ends with a slash, names a bucket or is a local folder, the copy keeps the source's name.
    With -r the contents of the source folder go into the target folder.

    Parameters
    ----------
    places
        One or more sources, then the target: wh://bucket/key, a local path, or - for a standard stream.
    """
    if len(places) < 2:
        raise UsageError("cp needs a source and a target")
    *words, last = places
    sources = [_parse(word, INPUT_WORDS) for word in words]
    target = _parse(last, OUTPUT_WORDS)
    for word, place in zip(words, sources, strict=True):
        if isinstance(place, Path):
            require_file_word(place, word)
    if no_glob and not any(isinstance(place, Remote) for place in sources):
        raise UsageError("--no-glob needs a source wh://bucket/key")
    if recursive and len(sources) > 1:
        raise UsageError("with -r, give one source folder")
    _require_remote(places)
    is_folder = _is_folder(target, last)
    if len(sources) > 1 and not is_folder:
        raise UsageError(f"several sources need a folder as target (with a slash at its end), not {target}")
    if content_type is not None and not isinstance(target, Remote):
        raise UsageError("--content-type is for objects; a file has no content type")
    order = _Order(
        is_folder=is_folder,
        is_recursive=recursive,
        content_type=content_type,
        choice=Choice(links_of(links), rules_of(exclude, include)),
        has_links=links is not None,
        has_globs=not no_glob,
    )
    plans = [_plan(source, target, order) for source in sources]
    _require_different([plan.target for plan in plans if plan.target is not None])
    report = CopyReport(
        is_json=common.json,
        is_silent=isinstance(target, StandardStream),
        has_many=recursive or len(sources) > 1 or any(plan.target is None for plan in plans),
        is_dry=dry_run,
    )
    async with common.connect() as store:
        if dry_run and isinstance(target, Remote):
            await _require_bucket(target, store)
        with report.told(AGAIN):
            totals = await run_transfers(_found_by(plans, store), report, is_dry=dry_run)
        report.sum_up(totals)
    return 1 if totals.failed_count else 0


async def _require_bucket(place: Remote, store: Store) -> None:
    """Raises NoSuchBucket or PermissionDenied when nothing can be copied there."""
    async for _ in store.bucket(place.bucket).list(limit=1):
        return


@dataclass(frozen=True)
class _Order:
    """The options of a `cp`, besides source and target."""

    is_folder: bool  # the target is a folder
    is_recursive: bool
    content_type: str | None
    choice: Choice
    has_links: bool
    has_globs: bool


Find = Callable[[Store], AsyncGenerator[Found, None]]


@dataclass(frozen=True)
class _Plan:
    """How one source is copied."""

    find: Find
    target: str | None = None  # of a single file or object; None: there may be several


async def _found_by(plans: Sequence[_Plan], store: Store) -> AsyncGenerator[Found, None]:
    for plan in plans:
        async with aclosing(plan.find(store)) as all_found:
            async for found in all_found:
                yield found


def _parse(word: str, stream_words: Collection[str]) -> Place:
    # By any of its names, a standard stream may be a file, a pipe, a terminal, or closed.
    return StandardStream() if word in stream_words else parse_place(word)


def _is_folder(target: Place, word: str) -> bool:
    match target:
        case Remote():
            return not target.key or target.key.endswith("/")
        case Path():
            return word.endswith("/") or target.is_dir()
        case _:
            return False


def _require_different(targets: Sequence[str]) -> None:
    seen: set[str] = set()
    for target in targets:
        if target in seen:
            raise UsageError(f"two sources would both become {target}")
        seen.add(target)


def _plan(source: Place, target: Place, order: _Order) -> _Plan:
    """Plan the copy of one source; refuse what makes no sense before any request is sent."""
    match source, target:
        case Path(), Remote():
            return _plan_upload(source, target, order)
        case Remote(), Path():
            return _plan_download(source, target, order)
        case Remote(), Remote():
            return _plan_remote_copy(source, target, order)
        case StandardStream(), Remote():
            _require_single(order, "standard input")
            closed_streams.require_open(0)
            if order.is_folder:
                raise UsageError("a copy of standard input needs a full name: wh://bucket/key")
            type_ = order.content_type
            return _Plan(
                lambda store: planned.single(planned.upload_standard_input(target, store, type_)),
                str(target),
            )
        case Remote(), StandardStream():
            _require_single(order, "standard output")
            closed_streams.require_open(1)
            _require_object(source)
            return _Plan(partial(_to_standard_output, source), "-")
        case _:
            raise UsageError("one of source and target must be wh://bucket/key")


def _require_remote(words: Sequence[str]) -> None:
    """Say which of several local paths probably lacks its wh://."""
    if any(word.startswith(SCHEME) for word in words):
        return
    missing = [word for word in words if not Path(word).exists()]
    meant = missing[0].lstrip("./") if len(missing) == 1 else ""
    hint = f"; did you mean {SCHEME}{meant} by {missing[0]}?" if meant else ""
    raise UsageError(f"one of source and target must be wh://bucket/key{hint}")


def _require_single(order: _Order, what: str) -> None:
    """Refuse options for folders."""
    for option, is_given in (
        ("-r", order.is_recursive),
        ("--links", order.has_links),
        ("--exclude and --include", bool(order.choice.rules)),
    ):
        if is_given:
            raise UsageError(f"{option} makes no sense with {what}")


def _require_folder_options(order: _Order, *, is_local: bool, has_many: bool) -> None:
    if order.has_links and not (is_local and order.is_recursive):
        raise UsageError("--links needs a local source folder, copied with -r")
    if order.choice.rules and not has_many:
        raise UsageError("--exclude and --include need a source folder, copied with -r")


def _plan_upload(source: Path, target: Remote, order: _Order) -> _Plan:
    if source.is_dir():
        if not order.is_recursive:
            raise UsageError(f"{source} is a folder: copy it with -r")
        type_, choice = order.content_type, order.choice
        return _Plan(lambda store: planned.uploads_below(source, target, store, type_, choice))
    _require_folder_options(order, is_local=False, has_many=False)
    if source.is_symlink() and not source.exists():
        raise UsageError(f"{name_of(source)} is a link to nothing")
    status = source.stat()
    if stat.S_ISREG(status.st_mode):
        place = _inside(target, source) if order.is_folder else target
        return _single(
            lambda store: planned.upload(source, status.st_size, place, store, order.content_type),
            str(place),
        )
    if stat.S_ISSOCK(status.st_mode):
        raise UsageError(f"{name_of(source)} is a socket: there is nothing to copy")
    if order.is_folder:
        raise UsageError(
            f"{name_of(source)} is not a regular file, so its copy needs a full name: wh://bucket/key"
        )
    return _single(lambda store: planned.upload_pipe(source, target, store, order.content_type), str(target))


def _inside(folder: Remote, file: Path) -> Remote:
    try:
        return folder.inside(key_of_path(file, file.parent))
    except BadKey as error:
        raise BadKey(f"{name_of(file)}: {error.message}") from None


def _single(make: Callable[[Store], Transfer], target: str) -> _Plan:
    return _Plan(lambda store: planned.single(make(store)), target)


def _glob(source: Remote, order: _Order) -> Glob | None:
    return glob_of(source.key) if order.has_globs else None


def _plan_download(source: Remote, target: Path, order: _Order) -> _Plan:
    glob = _glob(source, order)
    has_many = order.is_recursive or glob is not None
    _require_folder_options(order, is_local=False, has_many=has_many)
    if not has_many:
        _require_object(source)
        path = target / segments_of(source.name)[0] if order.is_folder else target
        return _Plan(lambda store: planned.download_one(source, path, store), name_of(path))

    async def find(store: Store) -> AsyncGenerator[Found, None]:
        if glob is not None and await _is_object(source, store):  # the wildcards are part of its name
            path = target / segments_of(source.name)[0] if order.is_folder else target
            one = planned.download_one(source, path, store)
        else:
            _require_target_folder(glob, target, order)
            below = Below(source, glob, order.is_recursive, order.choice.rules)
            one = planned.downloads_below(below, target, store)
        async with aclosing(one):
            async for found in one:
                yield found

    return _Plan(find)


def _plan_remote_copy(source: Remote, target: Remote, order: _Order) -> _Plan:
    glob = _glob(source, order)
    has_many = order.is_recursive or glob is not None
    _require_folder_options(order, is_local=False, has_many=has_many)
    type_ = order.content_type
    if not has_many:
        _require_object(source)
        place = target.inside(source.name) if order.is_folder else target
        if source == place:
            raise UsageError(f"{source} would be copied onto itself")
        return _Plan(lambda store: planned.remote_copy_one(source, place, store, type_), str(place))
    below = Below(source, glob, order.is_recursive, order.choice.rules)
    goes_deep = order.is_recursive or (glob is not None and "**" in glob.text)
    if goes_deep and source.bucket == target.bucket and target.folder.startswith(below.folder):
        raise UsageError(f"{target} is inside {source}: that copy would never end")
    if source.bucket == target.bucket and target.folder == below.folder:
        raise UsageError(f"the objects of {source} would be copied onto themselves")

    async def find(store: Store) -> AsyncGenerator[Found, None]:
        if glob is not None and await _is_object(source, store):
            place = target.inside(source.name) if order.is_folder else target
            one = planned.remote_copy_one(source, place, store, type_)
        else:
            _require_target_folder(glob, target, order)
            one = planned.remote_copies_below(below, target, store, type_)
        async with aclosing(one):
            async for found in one:
                yield found

    return _Plan(find)


def _require_target_folder(glob: Glob | None, target: Place, order: _Order) -> None:
    if glob is not None and not order.is_folder:
        raise UsageError(f"wildcards need a folder as target (with a slash at its end), not {target}")


async def _is_object(source: Remote, store: Store) -> bool:
    try:
        await store.bucket(source.bucket).stat(source.key)
    except NoSuchObject:
        return False
    return True


async def _to_standard_output(source: Remote, store: Store) -> AsyncGenerator[Found, None]:
    await known_object(source, store, "copy it with -r, to a folder")
    yield planned.download_to_standard_output(source, store)


def _require_object(source: Remote) -> None:
    if not source.key or source.key.endswith("/"):
        raise UsageError(f"{source} is a folder: copy it with -r")
