"""Commands about what lies in folders: du, tree, find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from cyclopts import Parameter

from warehouse.cli.app import OBJECTS, app, some
from warehouse.cli.copying.listings import Entries, Listing
from warehouse.cli.copying.patterns import Glob
from warehouse.cli.copying.places import Remote, parse_remote
from warehouse.cli.options import NOTHING_SPECIAL, Common, NoGlob
from warehouse.cli.output.formats import (
    format_count,
    format_size,
    parse_moment,
    parse_number,
    parse_size,
    printable,
)
from warehouse.cli.output.objects import Columns, object_fields, print_entry, say, say_json, tell
from warehouse.cli.usage import UsageError
from warehouse.client.bucket import Bucket
from warehouse.client.listing import Prefix
from warehouse.errors import NoSuchObject
from warehouse.transport.messages import ObjectInfo

DEPTH_MAX = 1024  # a key has at most 1,024 bytes, so it lies in fewer folders
Depth = Annotated[str | None, Parameter(metavar="N")]


def _depth(word: str | None, default: int) -> int:
    return parse_number("--depth", word, 0, DEPTH_MAX) if word is not None else default


# --- sums -----------------------------------------------------------------------------------------


@app.command(group=OBJECTS, usage="Usage: warehouse du [OPTIONS] [PLACE...]")
async def du(
    *places: str,
    depth: Annotated[Depth, Parameter(help="Also each folder, down to this many levels below.")] = None,
    no_glob: NoGlob = False,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """Sum up sizes and counts of objects.

    If no folder has that name, it sums up the keys that begin with it.

    Parameters
    ----------
    places
        wh://bucket or wh://bucket/folder; wildcards are allowed. Without a place: every bucket.
    """
    for option, is_given in (("--no-glob", no_glob), ("--depth", depth is not None)):
        if is_given and not places:
            raise UsageError(f"du {option} needs a place: wh://bucket")
    level = _depth(depth, 0)
    remotes = [parse_remote(word) for word in places]
    async with common.connect() as store:
        if not remotes:
            for info in await store.buckets():
                size, count = (info.byte_count, info.object_count) if info.is_counted else (None, None)
                _print_usage(f"wh://{info.name}", size, count, common.json)
        for remote in remotes:
            listing = Listing(remote, store, is_recursive=True, has_globs=not no_glob)
            sums = _Sums(remote, level, common.json)
            same_name: ObjectInfo | None = None
            async for entry in listing.entries():
                assert isinstance(entry, ObjectInfo)
                if entry.key == remote.key:
                    same_name = entry  # an object of the folder's name is not in the folder
                    continue
                sums.add(entry, listing.above)
            if not sums.object_count and same_name is not None:
                sums.add(same_name, same_name.key)
            if not sums.object_count and remote.key:
                raise NoSuchObject(f"there is nothing in {remote}")
            sums.finish(listing.name)
    return 0


@dataclass
class _Folder:
    name: str
    byte_count: int = 0
    object_count: int = 0


class _Sums:
    """The sums of a place and of the folders in it; keys come in their order, so a folder ends once.

    It remembers the folders above one key, no more.
    """

    def __init__(self, remote: Remote, depth: int, is_json: bool) -> None:
        self.byte_count = self.object_count = 0
        self._bucket = remote.bucket
        self._depth = depth
        self._is_json = is_json
        self._open: list[_Folder] = []
        self._above = ""

    def add(self, info: ObjectInfo, above: str) -> None:
        self.byte_count += info.size
        self.object_count += 1
        if not self._depth:
            return
        names = info.key[len(above) :].split("/")[:-1][: self._depth]
        shared = 0
        while shared < min(len(names), len(self._open)) and self._open[shared].name == names[shared]:
            shared += 1
        self._close(shared, above)
        self._open += [_Folder(name) for name in names[shared:]]
        self._above = above
        for folder in self._open:
            folder.byte_count += info.size
            folder.object_count += 1

    def _close(self, count: int, above: str) -> None:
        """Print the folders that have ended, the innermost first, until so many are left."""
        while len(self._open) > count:
            key = above + "/".join(folder.name for folder in self._open)
            folder = self._open.pop()
            place = str(Remote(self._bucket, key))
            _print_usage(place, folder.byte_count, folder.object_count, self._is_json)

    def finish(self, name: str) -> None:
        if self._open:
            self._close(0, self._above)
        _print_usage(name, self.byte_count, self.object_count, self._is_json)


def _print_usage(place: str, byte_count: int | None, object_count: int | None, is_json: bool) -> None:
    """None: this key is not told."""
    size = "-" if byte_count is None else format_size(byte_count)
    count = "-" if object_count is None else format_count(object_count, "object")
    line = f"{size:>10}  {count:>14}  {printable(place)}"
    tell(is_json, line, place=place, byte_count=byte_count, object_count=object_count)


# --- trees ----------------------------------------------------------------------------------------


@app.command(group=OBJECTS, usage="Usage: warehouse tree [OPTIONS] PLACE")
async def tree(
    place: str,
    /,
    *,
    depth: Annotated[Depth, Parameter(help="Down to this many levels.")] = None,
    sizes: Annotated[bool, Parameter(help="Also print sizes.")] = False,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """Show the folders and objects below a place as a tree.

    Parameters
    ----------
    place
        wh://bucket or wh://bucket/folder
    """
    remote, level = parse_remote(place), _depth(depth, DEPTH_MAX)
    async with common.connect() as store:
        printer = _Tree(store.bucket(remote.bucket), sizes, common.json)
        if not common.json:
            say(printable(str(remote)))
        await printer.print_below(remote.folder, "", level)
        if remote.key and not printer.object_count and not printer.folder_count:
            raise NoSuchObject(f"there is no folder {remote}")
    if not common.json:
        folders = format_count(printer.folder_count, "folder")
        say(f"\n{folders}, {format_count(printer.object_count, 'object')}")
    return 0


class _Tree:
    """Prints a tree, one request a folder; it holds a page of each folder above the present line."""

    def __init__(self, bucket: Bucket, has_sizes: bool, is_json: bool) -> None:
        self.folder_count = self.object_count = 0
        self._bucket = bucket
        self._has_sizes = has_sizes
        self._is_json = is_json

    async def print_below(self, folder: str, indent: str, depth: int) -> None:
        if not depth:
            return
        entries = aiter(self._bucket.list(folder, "/"))
        entry = await anext(entries, None)
        while entry is not None:
            following = await anext(entries, None)
            branch, deeper = ("├── ", "│   ") if following is not None else ("└── ", "    ")
            if self._is_json:
                print_entry(entry, folder, Columns(), is_json=True)
            else:
                size = ""
                if self._has_sizes and isinstance(entry, ObjectInfo):
                    size = f"  ({format_size(entry.size)})"
                name = entry.name if isinstance(entry, Prefix) else entry.key
                say(f"{indent}{branch}{printable(name[len(folder) :])}{size}")
            if isinstance(entry, Prefix):
                self.folder_count += 1
                await self.print_below(entry.name, indent + deeper, depth - 1)
            else:
                self.object_count += 1
            entry = following


# --- finding --------------------------------------------------------------------------------------


@app.command(group=OBJECTS, usage="Usage: warehouse find [OPTIONS] PLACE...")
async def find(
    *places: str,
    name: Annotated[
        str | None, Parameter(metavar="PATTERN", help="The name after the last slash, such as '*.jpg'.")
    ] = None,
    type: Annotated[str | None, Parameter(metavar="PATTERN", help="Content type, such as 'image/*'.")] = None,
    larger: Annotated[str | None, Parameter(metavar="SIZE", help="More bytes than this: 10MiB.")] = None,
    smaller: Annotated[str | None, Parameter(metavar="SIZE", help="Fewer bytes than this.")] = None,
    newer: Annotated[
        str | None, Parameter(metavar="TIME", help="Stored since: 7d (ago), or 2026-11-29.")
    ] = None,
    older: Annotated[str | None, Parameter(metavar="TIME", help="Stored before that.")] = None,
    metadata: Annotated[
        list[str] | None,
        Parameter(metavar="NAME[=PATTERN]", help="With such metadata; may be given several times."),
    ] = None,
    long: Annotated[bool, Parameter(name=["--long", "-l"], help="Also print size and time.")] = False,
    no_glob: NoGlob = False,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """Find objects below places, by name, type, size, age and metadata; all conditions must hold.

    For example:

        warehouse find wh://photos --name '*.jpg' --larger 10MiB
        warehouse find wh://logs/2026 --older 30d --json

    Parameters
    ----------
    places
        wh://bucket or wh://bucket/folder; wildcards are allowed.
    """
    remotes = [parse_remote(word) for word in some(places, "a place: wh://bucket")]
    wanted = _Wanted(
        name=Glob(name) if name is not None else None,
        type_=_anywhere(type.lower()) if type is not None else None,
        larger=parse_size(larger) if larger is not None else None,
        smaller=parse_size(smaller) if smaller is not None else None,
        newer=parse_moment(newer, "--newer") if newer is not None else None,
        older=parse_moment(older, "--older") if older is not None else None,
        metadata=[_metadata_rule(word) for word in metadata or ()],
    )
    async with common.connect() as store:
        for remote in remotes:
            listing = Listing(remote, store, is_recursive=True, has_globs=not no_glob)
            await _print_found(listing.entries(), remote, wanted, Columns(is_long=long), common.json)
    return 0


async def _print_found(
    entries: Entries, remote: Remote, wanted: _Wanted, columns: Columns, is_json: bool
) -> None:
    """Raises NoSuchObject: nothing is there, whatever is wanted."""
    is_empty = True
    async for info in entries:
        assert isinstance(info, ObjectInfo)
        is_empty = False
        if not wanted.takes(info):
            continue
        if is_json:
            place = str(Remote(remote.bucket, info.key))
            say_json(place=place, bucket=remote.bucket, **object_fields(info), metadata=info.metadata)
        else:
            print_entry(info, "", columns, is_json=False, root=f"wh://{remote.bucket}/")
    if is_empty and remote.key:
        raise NoSuchObject(f"there is nothing at {remote}")


def _metadata_rule(word: str) -> tuple[str, Glob | None]:
    name, equals, pattern = word.partition("=")
    if not name:
        raise UsageError(f"--metadata must look like NAME or NAME=PATTERN, not {word!r}")
    return name, _anywhere(pattern) if equals else None


def _anywhere(pattern: str) -> Glob:
    """Wildcards in what is no name: they match slashes, too."""
    return Glob(pattern.replace("*", "**"))


@dataclass(frozen=True)
class _Wanted:
    """What an object must be like to be found."""

    name: Glob | None
    type_: Glob | None
    larger: int | None
    smaller: int | None
    newer: datetime | None
    older: datetime | None
    metadata: Sequence[tuple[str, Glob | None]]

    def takes(self, info: ObjectInfo) -> bool:
        at_s = info.created_ms / 1000
        return (
            (self.name is None or self.name.matches(info.key.rpartition("/")[2]))
            and (self.type_ is None or self.type_.matches(_bare_type(info.content_type)))
            and (self.larger is None or info.size > self.larger)
            and (self.smaller is None or info.size < self.smaller)
            and (self.newer is None or at_s >= self.newer.timestamp())
            and (self.older is None or at_s < self.older.timestamp())
            and all(_has(info, name, value) for name, value in self.metadata)
        )


def _bare_type(content_type: str | None) -> str:
    """Without its parameters, in small letters."""
    return (content_type or "").partition(";")[0].strip().lower()


def _has(info: ObjectInfo, name: str, value: Glob | None) -> bool:
    found = info.metadata.get(name)
    return found is not None and (value is None or value.matches(found))
