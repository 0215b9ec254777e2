"""The command line: `warehouse COMMAND`.

Each command parses its words into places and calls the library; what it prints is in `reports.py`, how many
files are copied at once in `copies.py`.  The commands about space and damage are in `cli_maintenance.py`,
those that need no running store in `cli_rescue.py`, the one that measures in `cli_bench.py`; what all of them
share is in `cli_app.py`.

    exit status   0 done   1 failed (a line on standard error says why)   2 wrong usage
                  130 interrupted by Ctrl-C, 143 terminated; uploads under way were aborted
"""

from __future__ import annotations

import inspect
import io
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Annotated

import trio
from cyclopts import CycloptsError, Parameter, UnknownCommandError

import client.cli_bench
import client.cli_maintenance
import client.cli_rescue
import client.cli_sync  # noqa: F401  # like those above: its commands join the app
from client import copies
from client.cli_app import NOTHING_SPECIAL, OBJECTS, STORE, Common, app, become, some
from client.deletions import DELETE_BATCH, delete_batch
from client.display import format_count, format_size, parse_size, parse_span, printable
from client.library import Prefix, Warehouse
from client.places import (
    Place,
    Remote,
    StandardStream,
    UsageError,
    key_of_path,
    parse_bucket,
    parse_object,
    parse_place,
    parse_remote,
    segments_of,
)
from client.reports import (
    CopyReport,
    failure_line,
    print_bucket,
    print_entry,
    print_object,
    say,
    say_json,
    tell,
)
from client.store_reports import print_status
from client.tasks import background
from client.transfers import Found, run_transfers
from errors import NoSuchBucket, NoSuchObject, StoreError
from transport.messages import ObjectInfo

# A lone "-" stands for a standard stream; other words that begin so are refused by `parse_place`.
Words = Annotated[str, Parameter(allow_leading_hyphen=True)]
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
        int | None, Parameter(metavar="N", help="Disk folders, one volume actor each (default: 1).")
    ] = None,
    port_base: Annotated[
        int | None,
        Parameter(metavar="N", help="First port: control; +1 health, +10 and on volumes (default: 7400)."),
    ] = None,
    json: Annotated[bool, Parameter(help="Print one JSON object a line.")] = False,
) -> None:
    """Start a whole store on this machine; Ctrl-C stops it.

    Prints `ready` when the first put would succeed, and writes the profile that the other commands find by
    themselves. The first start prints the root key. It also takes `--host`, `--config FILE`, `--log-level`.
    """
    options = (("--data", data), ("--volumes", volumes), ("--port-base", port_base), ("--json", json))
    become("actors.cluster", options, *others, title="warehouse up")  # for who looks for it by name


@app.command(group=STORE)
async def status(*, common: Common = NOTHING_SPECIAL) -> int:
    """Show health, disks, volumes and free space."""
    async with common.connect() as warehouse:
        print_status(await warehouse.status(), is_json=common.json)
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
    async with common.connect() as warehouse:
        for name in names:
            await warehouse.create_bucket(name)
            tell(common.json, f"made wh://{name}", event="created", bucket=name)
    return 0


@app.command(group=OBJECTS, usage="Usage: warehouse rb [OPTIONS] BUCKET...")
async def rb(
    *buckets: str,
    force: Annotated[bool, Parameter(help="Also delete the objects in it.")] = False,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """Remove buckets.

    Parameters
    ----------
    buckets
        Names; wh:// in front is optional.
    """
    names = [parse_bucket(word) for word in some(buckets, "a bucket")]
    async with common.connect() as warehouse:
        for name in names:
            await warehouse.delete_bucket(name, force=force)
            tell(common.json, f"removed wh://{name}", event="deleted", bucket=name)
    return 0


@app.command(group=OBJECTS, usage="Usage: warehouse ls [OPTIONS] [PLACE]")
async def ls(
    place: str | None = None,
    /,
    *,
    long: Annotated[Long, Parameter(help="With size and time.")] = False,
    recursive: Annotated[Recursive, Parameter(help="Everything below, not folder by folder.")] = False,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """List buckets, or the objects and folders of a place.

    Parameters
    ----------
    place
        wh://bucket or wh://bucket/folder. Without it: all buckets.
    """
    remote = parse_remote(place) if place is not None else None
    async with common.connect() as warehouse:
        if remote is None:
            for info in await warehouse.buckets():
                print_bucket(info, is_json=common.json, is_long=long)
            return 0
        bucket = warehouse.bucket(remote.bucket)
        is_empty = True
        if remote.key and not remote.key.endswith("/"):
            try:
                found = await bucket.stat(remote.key)
            except NoSuchObject:
                pass
            else:
                is_empty = False
                above = remote.key[: remote.key.rfind("/") + 1]
                print_entry(found, above, is_json=common.json, is_long=long)
        entries: AsyncIterator[ObjectInfo | Prefix] = (
            bucket.list(remote.folder) if recursive else bucket.list(remote.folder, "/")
        )
        async for entry in entries:
            is_empty = False
            print_entry(entry, remote.folder, is_json=common.json, is_long=long)
        if is_empty and remote.key:
            raise NoSuchObject(f"there is nothing at {remote}")
    return 0


# --- objects --------------------------------------------------------------------------------------


@app.command(group=OBJECTS, usage="Usage: warehouse cp [OPTIONS] SOURCE... TARGET")
async def cp(
    *places: Words,
    recursive: Annotated[Recursive, Parameter(help="Copy everything below a folder.")] = False,
    content_type: Annotated[
        str | None,
        Parameter(metavar="TYPE", help="Type of what is uploaded (default: told from the name's ending)."),
    ] = None,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """Copy files to objects, objects to files, objects to objects.

    For example:

        warehouse cp cat.jpg wh://photos/2026/
        warehouse cp -r ./pictures wh://photos/pictures
        warehouse cp wh://photos/2026/cat.jpg .
        tar c . | warehouse cp - wh://backup/today.tar

    A target that ends with a slash, names a bucket, or is a local folder keeps the source's name. With -r the
    contents of the source folder go into the target folder.

    Parameters
    ----------
    places
        One source or several, then the target: wh://bucket/key, a local path, or - for a standard stream.
    """
    if len(places) < 2:
        raise UsageError("cp needs a source and a target")
    *sources, target = [parse_place(word) for word in places]
    if recursive and len(sources) > 1:
        raise UsageError("with -r there is one source folder")
    is_folder = _is_folder(target, places[-1])
    if len(sources) > 1 and not is_folder:
        raise UsageError(f"several sources need a folder as target (with a slash at its end), not {target}")
    plans = [_plan(source, target, is_folder, recursive, content_type) for source in sources]
    report = CopyReport(
        is_json=common.json,
        is_silent=isinstance(target, StandardStream),
        has_many=recursive or len(sources) > 1,
    )
    async with common.connect() as warehouse:
        with report:
            totals = await run_transfers(_found_by(plans, warehouse), report)
        report.sum_up(totals)
    return 1 if totals.failed_count else 0


Plan = Callable[[Warehouse], AsyncIterator[Found]]


async def _found_by(plans: Sequence[Plan], warehouse: Warehouse) -> AsyncIterator[Found]:
    for plan in plans:
        async for found in plan(warehouse):
            yield found


def _is_folder(target: Place, word: str) -> bool:
    match target:
        case Remote():
            return not target.key or target.key.endswith("/")
        case Path():
            return word.endswith("/") or target.is_dir()
        case _:
            return False


def _plan(source: Place, target: Place, is_folder: bool, recursive: bool, content_type: str | None) -> Plan:
    """What one source of a `cp` comes down to; refuses what makes no sense before anything is asked."""
    match source, target:
        case Path(), Remote():
            return _plan_upload(source, target, is_folder, recursive, content_type)
        case Remote(), Path():
            return _plan_download(source, target, is_folder, recursive)
        case Remote(), Remote():
            return _plan_remote_copy(source, target, is_folder, recursive)
        case StandardStream(), Remote():
            if is_folder:
                raise UsageError("what comes from standard input needs a whole name: wh://bucket/key")
            return lambda warehouse: copies.single(
                copies.upload_standard_input(target, warehouse, content_type)
            )
        case Remote(), StandardStream():
            _require_object(source)
            return lambda warehouse: copies.single(copies.download_to_standard_output(source, warehouse))
        case _:
            raise UsageError("one of source and target must be wh://bucket/key")


def _plan_upload(
    source: Path, target: Remote, is_folder: bool, recursive: bool, content_type: str | None
) -> Plan:
    if source.is_dir():
        if not recursive:
            raise UsageError(f"{source} is a folder: copy it with -r")
        return lambda warehouse: copies.uploads_below(source, target, warehouse, content_type)
    size = source.stat().st_size
    place = target.inside(key_of_path(source, source.parent)) if is_folder else target
    return lambda warehouse: copies.single(copies.upload(source, size, place, warehouse, content_type))


def _plan_download(source: Remote, target: Path, is_folder: bool, recursive: bool) -> Plan:
    if recursive:
        return lambda warehouse: copies.downloads_below(source, target, warehouse)
    _require_object(source)
    path = target / segments_of(source.name)[0] if is_folder else target
    return lambda warehouse: copies.download_one(source, path, warehouse)


def _plan_remote_copy(source: Remote, target: Remote, is_folder: bool, recursive: bool) -> Plan:
    if recursive:
        if source.bucket == target.bucket and target.folder.startswith(source.folder):
            raise UsageError(f"{target} is inside of {source}: that copy would never end")
        return lambda warehouse: copies.remote_copies_below(source, target, warehouse)
    _require_object(source)
    place = target.inside(source.name) if is_folder else target
    if source == place:
        raise UsageError(f"{source} would be copied onto itself")
    return lambda warehouse: copies.remote_copy_one(source, place, warehouse)


def _require_object(source: Remote) -> None:
    if not source.key or source.key.endswith("/"):
        raise UsageError(f"{source} is a folder: copy it with -r")


@app.command(group=OBJECTS, usage="Usage: warehouse cat [OPTIONS] OBJECT...")
async def cat(*places: str, common: Common = NOTHING_SPECIAL) -> int:
    """Write objects to standard output, one behind the other.

    Parameters
    ----------
    places
        wh://bucket/key
    """
    remotes = [parse_object(word) for word in some(places, "an object")]
    async with common.connect() as warehouse:
        for bucket, group in groupby(remotes, lambda remote: remote.bucket):
            await copies.write_objects(warehouse.bucket(bucket), [remote.key for remote in group])
    return 0


@app.command(group=OBJECTS, usage="Usage: warehouse rm [OPTIONS] PLACE...")
async def rm(
    *places: str,
    recursive: Annotated[Recursive, Parameter(help="Delete everything in a folder, or in a bucket.")] = False,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """Delete objects.

    Parameters
    ----------
    places
        wh://bucket/key; with -r also wh://bucket/folder and wh://bucket.
    """
    words = some(places, "an object")
    remotes = [parse_remote(word) if recursive else parse_object(word) for word in words]
    deleted_count = 0
    async with common.connect() as warehouse:
        for remote in remotes:
            before_count = deleted_count
            batch: list[str] = []
            async for key in _keys_to_delete(remote, recursive, warehouse):
                batch.append(key)
                if len(batch) == DELETE_BATCH:
                    deleted_count += await _delete(remote.bucket, batch, warehouse, common.json)
                    batch = []
            if batch:
                deleted_count += await _delete(remote.bucket, batch, warehouse, common.json)
            if deleted_count == before_count and remote.key:
                raise NoSuchObject(f"there is nothing at {remote}")
    if not common.json:
        say(f"deleted {format_count(deleted_count, 'object')}")
    return 0


async def _keys_to_delete(remote: Remote, recursive: bool, warehouse: Warehouse) -> AsyncIterator[str]:
    if remote.key and not (recursive and remote.key.endswith("/")):
        yield remote.key
    if recursive:
        async for info in warehouse.bucket(remote.bucket).list(remote.folder):
            yield info.key


async def _delete(bucket: str, keys: Sequence[str], warehouse: Warehouse, is_json: bool) -> int:
    """Delete a batch; how many there were."""
    existed = await delete_batch(warehouse.bucket(bucket), keys)
    deleted = [key for key, was_there in zip(keys, existed, strict=True) if was_there]
    if is_json:
        for key in deleted:
            say_json(event="deleted", bucket=bucket, key=key)
    return len(deleted)


@app.command(group=OBJECTS)
async def stat(place: str, /, *, common: Common = NOTHING_SPECIAL) -> int:
    """Show what is known about an object or a bucket.

    Parameters
    ----------
    place
        wh://bucket/key or wh://bucket
    """
    remote = parse_remote(place)
    async with common.connect() as warehouse:
        if remote.key:
            info = await warehouse.bucket(remote.bucket).stat(remote.key)
            print_object(info, str(remote), is_json=common.json)
            return 0
        for bucket in await warehouse.buckets():
            if bucket.name == remote.bucket:
                print_bucket(bucket, is_json=common.json, is_long=True)
                return 0
    raise NoSuchBucket(f"there is no bucket {remote.bucket!r}, or this key may not see it")


@app.command(group=OBJECTS, usage="Usage: warehouse du [OPTIONS] [PLACE...]")
async def du(*places: str, common: Common = NOTHING_SPECIAL) -> int:
    """Sum up sizes and counts.

    Parameters
    ----------
    places
        wh://bucket or wh://bucket/folder. Without any: every bucket.
    """
    remotes = [parse_remote(word) for word in places]
    async with common.connect() as warehouse:
        if not remotes:
            for info in await warehouse.buckets():
                _print_usage(f"wh://{info.name}", info.byte_count, info.object_count, common.json)
        for remote in remotes:
            byte_count = object_count = 0
            async for entry in warehouse.bucket(remote.bucket).list(remote.folder):
                byte_count += entry.size
                object_count += 1
            if not object_count and remote.key:
                raise NoSuchObject(f"there is nothing in {remote}")
            _print_usage(str(remote), byte_count, object_count, common.json)
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
    async with common.connect() as warehouse:
        bucket = warehouse.bucket(remote.bucket)
        if put:
            url = await bucket.presign_put(remote.key, expires_s, limit, content_type)
        else:
            url = await bucket.presign_get(remote.key, expires_s)
    tell(common.json, url, url=url, method="PUT" if put else "GET", expires_in_s=expires_s)
    return 0


# --- running a command ----------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    # What went wrong is printed once, below; log records of a link that reconnects are not for a terminal.
    logging.getLogger().addHandler(logging.NullHandler())
    for stream in (sys.stdout, sys.stderr):  # a key that this terminal cannot show must not end a listing
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        command, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    except UnknownCommandError:
        return _wrong_usage(f"there is no command {words[0]!r}", words)
    except CycloptsError as error:
        return _wrong_usage(str(error), words)
    try:
        if not inspect.iscoroutinefunction(command):  # up, --help, --version
            command(*bound.args, **bound.kwargs)
            return 0
        exit_status = trio.run(_run, partial(command, *bound.args, **bound.kwargs))
        sys.stdout.flush()
        return exit_status
    except UsageError as error:
        return _wrong_usage(error.message, words)
    except BrokenPipeError:
        # Whoever read our output has seen enough.  Python would complain once more when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except (StoreError, OSError) as error:
        print(failure_line(error), file=sys.stderr)
        return 1


def _wrong_usage(message: str, words: Sequence[str]) -> int:
    command = f" {words[0]}" if words and words[0] in app else ""
    print(f"warehouse: {message.rstrip('.')} (see: warehouse{command} --help)", file=sys.stderr)
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
