"""Commands about buckets and objects: mb, quota, ls, stat."""

from __future__ import annotations

from collections.abc import Callable
from types import EllipsisType
from typing import Annotated, Literal

from cyclopts import Parameter

from warehouse.cli.app import OBJECTS, app, each_bucket, some
from warehouse.cli.copying.listings import Listing, Sorted
from warehouse.cli.copying.places import parse_bucket, parse_remote
from warehouse.cli.copying.plan import known_object
from warehouse.cli.options import NOTHING_SPECIAL, Common, NoGlob, Recursive
from warehouse.cli.output.formats import (
    NUMBER_MAX,
    parse_number,
    parse_size,
)
from warehouse.cli.output.objects import Columns, print_bucket, print_entry, print_object, print_quota, tell
from warehouse.cli.usage import UsageError
from warehouse.errors import NoSuchBucket, NoSuchObject

Long = Annotated[bool, Parameter(name=["--long", "-l"])]


@app.command(group=OBJECTS, usage="Usage: warehouse mb [OPTIONS] BUCKET...")
async def mb(*buckets: str, common: Common = NOTHING_SPECIAL) -> int:
    """Create buckets.

    Parameters
    ----------
    buckets
        Names of 1 to 63 of a-z, 0-9, '.', '-', '_'; the prefix wh:// is optional.
    """
    names = [parse_bucket(word) for word in some(buckets, "a bucket")]
    async with common.connect() as store:

        async def make(name: str) -> None:
            await store.create_bucket(name)
            tell(common.json, f"made wh://{name}", event="created", bucket=name)

        await each_bucket(names, make)
    return 0


@app.command(group=OBJECTS, usage="Usage: warehouse quota [OPTIONS] BUCKET")
async def quota(
    bucket: str,
    /,
    *,
    size: Annotated[
        str | None,
        Parameter(name="--bytes", metavar="SIZE", help="Bytes that it may hold: 5GiB, or none."),
    ] = None,
    objects: Annotated[str | None, Parameter(metavar="N", help="Objects that it may hold, or none.")] = None,
    none: Annotated[bool, Parameter(help="Let it hold any amount.")] = False,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """Show how much a bucket holds and may hold, or set its quota.

    For example:

        warehouse quota wh://photos
        warehouse quota wh://photos --bytes 5GiB --objects 100000
        warehouse quota wh://photos --none

    A put that would make the bucket hold more is refused. An option that is not given leaves its limit as it
    is. A quota below what is there is taken: the bucket keeps that, and takes only what does not make it
    grow.

    Parameters
    ----------
    bucket
        The bucket; the prefix wh:// is optional.
    """
    name = parse_bucket(bucket)
    if none and (size is not None or objects is not None):
        raise UsageError("--none removes both limits: give it alone")
    byte_count = _quota(size, none, parse_size)
    object_count = _quota(objects, none, lambda word: parse_number("--objects", word, 0, NUMBER_MAX))
    async with common.connect() as store:
        place = store.bucket(name)
        is_changed = none or size is not None or objects is not None
        info = await (
            place.set_quota(byte_count=byte_count, object_count=object_count) if is_changed else place.info()
        )
    print_quota(info, is_json=common.json)
    return 0


def _quota(word: str | None, none: bool, parse: Callable[[str], int]) -> int | EllipsisType | None:
    """None: any amount; ...: as it is."""
    if none or word == "none":
        return None
    return ... if word is None else parse(word)


@app.command(group=OBJECTS, usage="Usage: warehouse ls [OPTIONS] [PLACE]")
async def ls(
    place: str | None = None,
    /,
    *,
    long: Annotated[Long, Parameter(help="Also print size and time.")] = False,
    recursive: Annotated[Recursive, Parameter(help="List all objects below, not only one folder.")] = False,
    bytes: Annotated[bool, Parameter(help="With --long: sizes as exact numbers of bytes.")] = False,
    etag: Annotated[bool, Parameter(help="With --long: also print ETags.")] = False,
    sort: Annotated[
        Literal["name", "size", "time"],
        Parameter(help="By name (the default), the largest first (size) or the newest first (time)."),
    ] = "name",
    reverse: Annotated[bool, Parameter(help="The other way round.")] = False,
    no_glob: NoGlob = False,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """List buckets, or the objects and folders at a place.

    If no folder has that name, it lists the keys that begin with it. Times are local, with their zone.

    Parameters
    ----------
    place
        wh://bucket or wh://bucket/folder; wildcards are allowed. Without a place: all buckets.
    """
    if place is None:
        for option, is_given in (
            ("-r", recursive),
            ("--no-glob", no_glob),
            ("--etag", etag),
            ("--sort", sort != "name"),
            ("--reverse", reverse),
        ):
            if is_given:
                raise UsageError(f"ls {option} needs a place: wh://bucket")
    if (bytes or etag) and not long:
        raise UsageError(f"{'--bytes' if bytes else '--etag'} goes with --long")
    columns = Columns(is_long=long, is_exact=bytes, has_etag=etag)
    remote = parse_remote(place) if place is not None else None
    async with common.connect() as store:
        if remote is None:
            for info in await store.buckets():
                print_bucket(info, is_json=common.json, is_long=long, is_exact=bytes)
            return 0
        order = (
            None
            if sort == "name" and not reverse
            else Sorted(sort, is_descending=(sort != "name") != reverse)
        )
        listing = Listing(remote, store, is_recursive=recursive, has_globs=not no_glob, order=order)
        is_empty = True
        async for entry in listing.entries():
            is_empty = False
            print_entry(entry, listing.above, columns, is_json=common.json)
        if is_empty and remote.key:
            raise NoSuchObject(f"there is nothing at {remote}")
    return 0


@app.command(group=OBJECTS)
async def stat(place: str, /, *, common: Common = NOTHING_SPECIAL) -> int:
    """Show the properties of an object or a bucket.

    Parameters
    ----------
    place
        wh://bucket/key or wh://bucket
    """
    remote = parse_remote(place)
    async with common.connect() as store:
        if remote.key:
            info = await known_object(remote, store, f"list it with `warehouse ls {remote}`")
            print_object(info, str(remote), is_json=common.json)
            return 0
        for bucket in await store.buckets():
            if bucket.name == remote.bucket:
                print_bucket(bucket, is_json=common.json, is_long=True)
                return 0
    raise NoSuchBucket(f"bucket {remote.bucket!r} does not exist, or this API key may not see it")
