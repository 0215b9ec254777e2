"""The command line: `warehouse COMMAND`.

Each command parses its words into places and calls the library; what it prints is in `objects.py`, how many
files are copied at once in `plan.py`.  Copying is in `copy.py` and `sync.py`, deleting in
`remove.py`; the commands about space and damage are in `maintenance.py`, those that need no running
store in `rescue.py`, the one that measures in `bench.py`; what all of them share is in `app.py`.

    exit status   0 done   1 failed (a line on standard error says why)   2 wrong usage
                  130 interrupted by Ctrl-C, 143 terminated; uploads under way were aborted
                  141 nobody reads standard output any more (as in `warehouse cat ... | head`)
"""

from __future__ import annotations

import inspect
import io
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import trio
from cyclopts import CycloptsError, Parameter

import warehouse.cli.commands.bench
import warehouse.cli.commands.copy
import warehouse.cli.commands.maintenance
import warehouse.cli.commands.orphans
import warehouse.cli.commands.remove
import warehouse.cli.commands.rescue
import warehouse.cli.commands.sync  # noqa: F401  # like those above: its commands join the app
from warehouse.cli import standard_streams
from warehouse.cli.app import (
    NOTHING_SPECIAL,
    OBJECTS,
    STORE,
    Common,
    app,
    become,
    each_bucket,
    some,
    usage_problem,
)
from warehouse.cli.choice import NoGlob
from warehouse.cli.copying.places import UsageError, parse_bucket, parse_object, parse_remote
from warehouse.cli.copying.plan import explained, known_object
from warehouse.cli.listings import Listing
from warehouse.cli.output.formats import (
    format_count,
    format_size,
    parse_size,
    parse_span,
    printable,
    shortened,
)
from warehouse.cli.output.objects import (
    failure_line,
    print_bucket,
    print_entry,
    print_object,
    say_failed,
    say_failure,
    tell,
)
from warehouse.cli.output.store import print_status
from warehouse.client.nurseries import background
from warehouse.conf.arguments import empty_option
from warehouse.errors import NoSuchBucket, NoSuchObject, StoreError
from warehouse.transport.messages import ObjectInfo

Recursive = Annotated[bool, Parameter(name=["--recursive", "-r"])]
Long = Annotated[bool, Parameter(name=["--long", "-l"])]


# --- the whole store ------------------------------------------------------------------------------


@app.command(group=STORE)
def up(
    *others: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)],
    data: Annotated[
        Path | None, Parameter(metavar="DIR", help="Where everything is kept (default: ./warehouse-data).")
    ] = None,
    volumes: Annotated[
        str | None, Parameter(metavar="N", help="Disk folders, one volume actor each (default: 1).")
    ] = None,
    port_base: Annotated[
        str | None,  # the program that is started says what is wrong with it
        Parameter(metavar="N", help="First port: control; +1 health, +10 and on volumes (default: 7400)."),
    ] = None,
    json: Annotated[bool, Parameter(help="Print one JSON object a line.")] = False,
) -> None:
    """Start a whole store on this machine; Ctrl-C stops it.

    Prints `ready` when the first put would succeed, and writes the profile that the other commands find by
    themselves. The first start prints the root key. It also takes `--host HOST`, `--advertise HOST` (the name
    by which others reach it), `--config FILE` and `--log-level LEVEL`.
    """
    options = (("--data", data), ("--volumes", volumes), ("--port-base", port_base), ("--json", json))
    become("warehouse.actors.cluster", options, *others, title="warehouse up")  # for who looks for it by name


Words = Annotated[str, Parameter(allow_leading_hyphen=True, show=False)]


@app.command(group=STORE, help_flags=(), version_flags=())
def master(*words: Words) -> None:
    """Start a master alone; `warehouse master --help` shows its options."""
    become("warehouse.actors.master", (), *words, title="warehouse master")


@app.command(group=STORE, help_flags=(), version_flags=())
def volume(*words: Words) -> None:
    """Start the volume actor of one disk; `warehouse volume --help` shows its options."""
    become("warehouse.actors.volume", (), *words, title="warehouse volume")


@app.command(group=STORE, help_flags=(), version_flags=())
def compactor(*words: Words) -> None:
    """Start the compactor of one disk; `warehouse compactor --help` shows its options."""
    become("warehouse.actors.compactor", (), *words, title="warehouse compactor")


@app.command(group=STORE)
async def status(*, common: Common = NOTHING_SPECIAL) -> int:
    """Show health, disks, volumes and free space."""
    async with common.connect() as store:
        print_status(await store.status(), is_json=common.json)
    return 0


# --- buckets --------------------------------------------------------------------------------------


@app.command(group=OBJECTS, usage="Usage: warehouse mb [OPTIONS] BUCKET...")
async def mb(*buckets: str, common: Common = NOTHING_SPECIAL) -> int:
    """Make buckets.

    Parameters
    ----------
    buckets
        Names: 1 to 63 of a-z, 0-9, '.', '-', '_'; wh:// in front is optional.
    """
    names = [parse_bucket(word) for word in some(buckets, "a bucket")]
    async with common.connect() as store:

        async def make(name: str) -> None:
            await store.create_bucket(name)
            tell(common.json, f"made wh://{name}", event="created", bucket=name)

        await each_bucket(names, make)
    return 0


@app.command(group=OBJECTS, usage="Usage: warehouse ls [OPTIONS] [PLACE]")
async def ls(
    place: str | None = None,
    /,
    *,
    long: Annotated[Long, Parameter(help="With size and time.")] = False,
    recursive: Annotated[Recursive, Parameter(help="Everything below, not folder by folder.")] = False,
    no_glob: NoGlob = False,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """List buckets, or the objects and folders of a place.

    Where there is no folder of that name, it lists what begins with it.

    Parameters
    ----------
    place
        wh://bucket or wh://bucket/folder, also with wildcards. Without it: all buckets.
    """
    if place is None and (recursive or no_glob):
        raise UsageError(f"ls {'-r' if recursive else '--no-glob'} needs a place: wh://bucket")
    remote = parse_remote(place) if place is not None else None
    async with common.connect() as store:
        if remote is None:
            for info in await store.buckets():
                print_bucket(info, is_json=common.json, is_long=long)
            return 0
        listing = Listing(remote, store, is_recursive=recursive, has_globs=not no_glob)
        is_empty = True
        async for entry in listing.entries():
            is_empty = False
            print_entry(entry, listing.above, is_json=common.json, is_long=long)
        if is_empty and remote.key:
            raise NoSuchObject(f"there is nothing at {remote}")
    return 0


@app.command(group=OBJECTS)
async def stat(place: str, /, *, common: Common = NOTHING_SPECIAL) -> int:
    """Show what is known about an object or a bucket.

    Parameters
    ----------
    place
        wh://bucket/key or wh://bucket
    """
    remote = parse_remote(place)
    async with common.connect() as store:
        if remote.key:
            info = await known_object(remote, store, f"see what is in it with `warehouse ls {remote}`")
            print_object(info, str(remote), is_json=common.json)
            return 0
        for bucket in await store.buckets():
            if bucket.name == remote.bucket:
                print_bucket(bucket, is_json=common.json, is_long=True)
                return 0
    raise NoSuchBucket(f"there is no bucket {remote.bucket!r}, or this key may not see it")


@app.command(group=OBJECTS, usage="Usage: warehouse du [OPTIONS] [PLACE...]")
async def du(*places: str, no_glob: NoGlob = False, common: Common = NOTHING_SPECIAL) -> int:
    """Sum up sizes and counts.

    Where there is no folder of that name, it sums up what begins with it.

    Parameters
    ----------
    places
        wh://bucket or wh://bucket/folder, also with wildcards. Without any: every bucket.
    """
    if no_glob and not places:
        raise UsageError("du --no-glob needs a place: wh://bucket")
    remotes = [parse_remote(word) for word in places]
    async with common.connect() as store:
        if not remotes:
            for info in await store.buckets():
                _print_usage(f"wh://{info.name}", info.byte_count, info.object_count, common.json)
        for remote in remotes:
            byte_count = object_count = 0
            beside: ObjectInfo | None = None
            listing = Listing(remote, store, is_recursive=True, has_globs=not no_glob)
            async for entry in listing.entries():
                assert isinstance(entry, ObjectInfo)
                if entry.key == remote.key:
                    beside = entry  # an object of the folder's name is not in the folder
                    continue
                byte_count += entry.size
                object_count += 1
            if not object_count and beside is not None:
                byte_count, object_count = beside.size, 1
            if not object_count and remote.key:
                raise NoSuchObject(f"there is nothing in {remote}")
            _print_usage(listing.name, byte_count, object_count, common.json)
    return 0


def _print_usage(place: str, byte_count: int, object_count: int, is_json: bool) -> None:
    line = f"{format_size(byte_count):>10}  {format_count(object_count, 'object'):>14}  {printable(place)}"
    tell(is_json, line, place=place, byte_count=byte_count, object_count=object_count)


@app.command(group=OBJECTS)
async def presign(
    place: str,
    /,
    *,
    put: Annotated[
        bool, Parameter(help="A URL to upload to, with one PUT, instead of to read from.")
    ] = False,
    expires: Annotated[
        str, Parameter(metavar="TIME", help="How long it works: 90s, 30m, 1h (if not given), 7d.")
    ] = "1h",
    size_max: Annotated[
        str | None, Parameter(metavar="SIZE", help="With --put: the largest body, such as 5MiB.")
    ] = None,
    content_type: Annotated[
        str | None, Parameter(metavar="TYPE", help="With --put: the type the object gets.")
    ] = None,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """Make a URL that works without a key, for a while.

    For example:

        curl "$(warehouse presign wh://photos/cat.jpg)" -o cat.jpg
        curl -T cat.jpg "$(warehouse presign --put wh://photos/cat.jpg)"

    Parameters
    ----------
    place
        wh://bucket/key
    """
    remote, expires_s = parse_object(place), parse_span(expires)
    if not put and (size_max is not None or content_type is not None):
        raise UsageError("--size-max and --content-type go with --put")
    limit = parse_size(size_max) if size_max is not None else None
    async with common.connect() as store:
        bucket = store.bucket(remote.bucket)
        if put:
            url = await bucket.presign_put(remote.key, expires_s, limit, content_type)
        else:
            try:
                url = await bucket.presign_get(remote.key, expires_s)
            except NoSuchObject as error:
                raise await explained(error, remote, store, "a URL is for one object") from None
    tell(common.json, url, url=url, method="PUT" if put else "GET", expires_in_s=expires_s)
    return 0


# --- running a command ----------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    standard_streams.hold()
    words = sys.argv[1:] if arguments is None else list(arguments)
    # What went wrong is printed once, below; log records of a link that reconnects are not for a terminal.
    logging.getLogger().addHandler(logging.NullHandler())
    for stream in (sys.stdout, sys.stderr):  # a key that this terminal cannot show must not end a listing
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    exit_status = 0
    try:
        exit_status = _main(words)
        sys.stdout.flush()
        return exit_status
    except BrokenPipeError:  # whoever read our output has seen enough
        _forget_output()
        return 128 + signal.SIGPIPE
    except OSError as error:  # the disk that our output goes to is full, say
        _forget_output()
        if not exit_status:  # otherwise it has been told
            say_failure(failure_line(error, "standard output"))
        return exit_status or 1


def _forget_output() -> None:
    """Send what is still buffered nowhere.  Python would complain of it once more when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _main(words: Sequence[str]) -> int:
    if (option := empty_option(words)) is not None:
        return _wrong_usage(UsageError(f"{option} is empty: a variable that is not set, perhaps?"), words)
    try:
        command, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        return _wrong_usage(UsageError(usage_problem(error, words)), words)
    try:
        if not inspect.iscoroutinefunction(command):  # up, --help, --version
            command(*bound.args, **bound.kwargs)
            return 0
        return trio.run(_run, partial(command, *bound.args, **bound.kwargs))
    except UsageError as error:
        return _wrong_usage(error, words)
    except BrokenPipeError:
        raise
    except (StoreError, OSError) as error:
        say_failed(error, words)
        say_failure(failure_line(error))
        return 1


def _wrong_usage(error: UsageError, words: Sequence[str]) -> int:
    command = f" {words[0]}" if words and words[0] in app else ""
    say_failed(error, words)
    line = shortened(printable(error.message.rstrip(".")))
    say_failure(f"warehouse: {line} (see: warehouse{command} --help)")
    return 2


async def _run(work: Callable[[], Awaitable[int]]) -> int:
    """Run a command's work; a signal cancels it, so that everything cleans up after itself."""
    received: list[int] = []
    exit_status = 0
    async with background() as nursery:
        await nursery.start(_cancel_on_signal, nursery.cancel_scope, received)
        exit_status = await work()
    return 128 + received[0] if received else exit_status


async def _cancel_on_signal(
    scope: trio.CancelScope,
    received: list[int],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for number in signals:
            received.append(number)
            scope.cancel()
            return
