"""Commands that write objects, or parts of them, to standard output: cat, head, tail."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import groupby
from typing import Annotated

from cyclopts import Parameter

from warehouse.cli import closed_streams
from warehouse.cli.app import OBJECTS, app, some
from warehouse.cli.copying import ranges
from warehouse.cli.copying.patterns import glob_of
from warehouse.cli.copying.places import Remote, parse_object
from warehouse.cli.copying.plan import Below, explained, known_object, write_all, write_objects
from warehouse.cli.options import NOTHING_SPECIAL, Common, NoGlob
from warehouse.cli.output.formats import NUMBER_MAX, parse_number, parse_size, printable
from warehouse.cli.usage import UsageError
from warehouse.client.store import Store
from warehouse.errors import NoSuchObject

DEFAULT_LINES = 10
Lines = Annotated[str | None, Parameter(name=["--lines", "-n"], metavar="N", help="This many lines (10).")]
ByteCount = Annotated[
    str | None, Parameter(name=["--bytes", "-c"], metavar="SIZE", help="This many bytes: 500, 64KiB.")
]


@app.command(group=OBJECTS, usage="Usage: warehouse cat [OPTIONS] OBJECT...")
async def cat(
    *places: str,
    range: Annotated[
        str | None,
        Parameter(
            metavar="FROM-TO",
            help="Only these bytes of each: 0-99, 100- (from there on), -100 (the last).",
            allow_leading_hyphen=True,
        ),
    ] = None,
    no_glob: NoGlob = False,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """Write objects to standard output, one after another.

    Parameters
    ----------
    places
        wh://bucket/key; wildcards are allowed.
    """
    remotes = [parse_object(word) for word in some(places, "an object")]
    wanted = ranges.parse_range(range) if range is not None else None
    closed_streams.require_open(1)
    async with common.connect() as store:
        meant = await _expanded(remotes, store, has_globs=not no_glob)
        if wanted is not None:
            for remote in meant:
                info = await known_object(remote, store, _advice(remote))
                await ranges.write_span(store.bucket(remote.bucket), info, *wanted.within(info.size))
            return 0
        for bucket, group in groupby(meant, lambda remote: remote.bucket):
            keys = [remote.key for remote in group]
            await write_objects(store.bucket(bucket), keys, partial(_explained, bucket, store))
    return 0


@app.command(group=OBJECTS, usage="Usage: warehouse head [OPTIONS] OBJECT...")
async def head(
    *places: str,
    lines: Lines = None,
    bytes: ByteCount = None,
    no_glob: NoGlob = False,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """Write the first lines of objects to standard output; it reads no more of them than that.

    Parameters
    ----------
    places
        wh://bucket/key; wildcards are allowed.
    """
    return await _ends(places, lines, bytes, no_glob, common, is_tail=False)


@app.command(group=OBJECTS, usage="Usage: warehouse tail [OPTIONS] OBJECT...")
async def tail(
    *places: str,
    lines: Lines = None,
    bytes: ByteCount = None,
    no_glob: NoGlob = False,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """Write the last lines of objects to standard output; it reads no more of them than it needs.

    Parameters
    ----------
    places
        wh://bucket/key; wildcards are allowed.
    """
    return await _ends(places, lines, bytes, no_glob, common, is_tail=True)


async def _ends(
    places: Sequence[str],
    lines: str | None,
    byte_count: str | None,
    no_glob: bool,
    common: Common,
    *,
    is_tail: bool,
) -> int:
    remotes = [parse_object(word) for word in some(places, "an object")]
    if lines is not None and byte_count is not None:
        raise UsageError("--lines and --bytes both say how much: give one")
    size = parse_size(byte_count) if byte_count is not None else None
    line_count = parse_number("--lines", lines, 0, NUMBER_MAX) if lines is not None else DEFAULT_LINES
    closed_streams.require_open(1)
    async with common.connect() as store:
        meant = await _expanded(remotes, store, has_globs=not no_glob)
        for index, remote in enumerate(meant):
            info = await known_object(remote, store, _advice(remote))
            if len(meant) > 1:
                above = "\n" if index else ""
                await write_all(memoryview(f"{above}==> {printable(str(remote))} <==\n".encode()))
            bucket = store.bucket(remote.bucket)
            if size is not None:
                count = min(size, info.size)
                await ranges.write_span(bucket, info, info.size - count if is_tail else 0, count)
            elif is_tail:
                start = await ranges.start_of_last_lines(bucket, info, line_count)
                await ranges.write_span(bucket, info, start, info.size - start)
            else:
                await ranges.write_first_lines(bucket, info, line_count)
    return 0


def _advice(remote: Remote) -> str:
    return f"list it with `warehouse ls {remote}`"


async def _explained(bucket: str, store: Store, key: str, error: NoSuchObject) -> NoSuchObject:
    remote = Remote(bucket, key)
    return await explained(error, remote, store, _advice(remote))


async def _expanded(remotes: Sequence[Remote], store: Store, *, has_globs: bool) -> Sequence[Remote]:
    """The objects that places with wildcards mean, in the order of their keys; else the places themselves."""
    meant: list[Remote] = []
    for remote in remotes:
        glob = glob_of(remote.key) if has_globs else None
        if glob is None or await _is_object(remote, store):
            meant.append(remote)
        else:
            below = Below(remote, glob, is_recursive=False)
            meant += [one async for one, _, _ in below.objects(store)]
    return meant


async def _is_object(remote: Remote, store: Store) -> bool:
    try:
        await store.bucket(remote.bucket).stat(remote.key)
    except NoSuchObject:
        return False
    return True
