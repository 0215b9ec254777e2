"""The command that changes type and metadata of what is there: set."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from cyclopts import Parameter

from warehouse.cli.app import OBJECTS, app, some
from warehouse.cli.copying.patterns import glob_of
from warehouse.cli.copying.places import Remote, parse_remote
from warehouse.cli.copying.plan import Below, check_object, known_object
from warehouse.cli.copying.transfers import Found, Transfer, run_transfers
from warehouse.cli.options import NOTHING_SPECIAL, Common, NoGlob, Recursive
from warehouse.cli.output.objects import SetReport
from warehouse.cli.usage import UsageError
from warehouse.client.store import Store
from warehouse.client.writing.uploads import Progress
from warehouse.errors import NoSuchObject
from warehouse.transport.messages import ObjectInfo

AGAIN = "the same command changes the rest"


@dataclass(frozen=True)
class _Change:
    content_type: str | None
    metadata: dict[str, str]
    unset: Sequence[str]

    def applied(self, info: ObjectInfo) -> tuple[str | None, dict[str, str]]:
        """Type and metadata that the object is to have."""
        kept = {name: value for name, value in info.metadata.items() if name not in self.unset}
        return self.content_type or info.content_type, {**kept, **self.metadata}


@app.command(name="set", group=OBJECTS, usage="Usage: warehouse set [OPTIONS] PLACE...")
async def set_(
    *places: str,
    content_type: Annotated[str | None, Parameter(metavar="TYPE", help="Content type.")] = None,
    metadata: Annotated[
        list[str] | None, Parameter(metavar="NAME=VALUE", help="User metadata; may be given several times.")
    ] = None,
    unset: Annotated[
        list[str] | None, Parameter(metavar="NAME", help="Metadata to take away; may be given several times.")
    ] = None,
    recursive: Annotated[Recursive, Parameter(help="All objects in a folder and below.")] = False,
    no_glob: NoGlob = False,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """Change type and metadata of objects; other metadata stays as it is.

    Each changed object is stored again, with another time and mostly another ETag, and only if nobody has
    replaced it in between. Objects that are so already are left alone.

    Parameters
    ----------
    places
        wh://bucket/key; wildcards are allowed; with -r also wh://bucket/folder and wh://bucket.
    """
    remotes = [parse_remote(word) for word in some(places, "an object")]
    if content_type is None and not metadata and not unset:
        raise UsageError("say what to change: --content-type, --metadata or --unset")
    change = _Change(content_type, dict(map(_pair, metadata or ())), unset or ())
    if both := sorted(set(change.metadata) & set(change.unset)):
        raise UsageError(f"--metadata and --unset both name {both[0]!r}")
    for remote in remotes:
        if not recursive and (not remote.key or remote.key.endswith("/")):
            raise UsageError(f"{remote} is a folder: change what is in it with -r")
    report = SetReport(is_json=common.json)
    async with common.connect() as store:
        with report.told(AGAIN):
            found = _found(remotes, change, recursive, store, has_globs=not no_glob)
            totals = await run_transfers(found, report)
        report.sum_up(totals, same_count=totals.same_count)
    return 1 if totals.failed_count else 0


def _pair(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not name or not equals:
        raise UsageError(f"--metadata must look like NAME=VALUE, not {word!r}")
    return name, value


async def _found(
    remotes: Sequence[Remote], change: _Change, is_recursive: bool, store: Store, *, has_globs: bool
) -> AsyncGenerator[Found, None]:
    for remote in remotes:
        glob = glob_of(remote.key) if has_globs else None
        if remote.key and not (is_recursive and remote.key.endswith("/")):
            try:
                info = await store.bucket(remote.bucket).stat(remote.key)
            except NoSuchObject:
                if glob is None and not is_recursive:
                    await known_object(remote, store, "change what is in it with -r")
            else:
                yield _transfer(remote, info, change, store)
                continue
        below = Below(remote, glob, is_recursive)
        async with aclosing(below.objects(store)) as objects:
            async for place, _, info in objects:
                yield _transfer(place, info, change, store)


def _transfer(place: Remote, info: ObjectInfo, change: _Change, store: Store) -> Transfer:
    content_type, metadata = change.applied(info)

    async def run(progress: Progress) -> int:
        written = await store.bucket(place.bucket).copy(
            place.key,
            place.key,
            None,
            progress,
            content_type,
            metadata=None if metadata == info.metadata else metadata,  # None keeps what is not UTF-8, too
            if_match=info.etag,
        )
        return written.size

    async def is_so() -> bool:
        return content_type == info.content_type and metadata == info.metadata

    check = partial(check_object, place.key, content_type)
    return Transfer(str(place), str(place), info.size, run, is_there=is_so, check=check)
