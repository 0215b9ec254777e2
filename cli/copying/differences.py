"""Differences: which files of the source the target lacks, and which files only the target has.

Both sides are listed in the order of their names' bytes, so any number of files is compared as they are
listed. A file is copied when the target has no file of that name, or one of another size.  When the sizes are
equal and the times differ, the contents are compared by CRC, without a transfer; equal times mean the same
file.  `Rule` has the other ways.

The time of a local file is that of its last change.  The command line writes it into the metadata of uploaded
objects, and gives it to downloaded files (`contents.py`).

Files that only the target has are deleted when everything else is copied, but never if a part of the source
could not be read, because it may contain them.  Names that the source has and a rule leaves out, such as
links, stay in the target.  A transfer with something in its way (a file in place of a folder, or a folder in
place of a file) is put off until the deletions are done.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from functools import partial
from pathlib import Path

from warehouse.cli.copying.contents import (
    file_time_of,
    is_same_file,
    is_same_object,
    known_crc,
    recorded_ns,
)
from warehouse.cli.copying.patterns import EVERYTHING, Rules
from warehouse.cli.copying.places import FolderTree, Remote, key_of_path, segments_of
from warehouse.cli.copying.plan import download, name_of, remote_copy, upload
from warehouse.cli.copying.small_files import (
    SmallDownload,
    SmallFileDownloader,
    SmallFileUploader,
    SmallUpload,
    set_time,
)
from warehouse.cli.copying.transfers import LARGE_SIZE, Found, LeftOut, Transfer, Unfit
from warehouse.cli.copying.walks import Links, leaves_out, local_files
from warehouse.client.store import Store
from warehouse.client.writing.uploads import Progress
from warehouse.errors import BadKey, BadRequest, StoreError
from warehouse.transport.messages import ObjectInfo


@dataclass(frozen=True)
class Entry:
    """One file of a side, by its name below the synchronized folder."""

    name: str
    size: int
    changed_ns: int | None  # None: unknown, for an object that does not come from a file
    crc: int | None = None  # of an object, if the listing has it
    path: Path | None = None  # of a local file
    info: ObjectInfo | None = None  # of an object


@dataclass(frozen=True)
class Passed:
    """A name that a rule leaves out: neither copied, nor deleted from the target."""

    name: str
    source: str
    why: str | None  # None: left out by an option of the user, so not reported


Side = AsyncGenerator[Entry | Passed | Unfit, None]


class Rule(Enum):
    """When two files of the same name count as the same."""

    DEFAULT = auto()  # size and time; contents if the times differ
    SIZE_ONLY = auto()
    CHECKSUM = auto()  # size and contents, never times
    EXACT = auto()  # size and time; copied if the times differ


class Verdict(Enum):
    SAME = auto()
    COPY = auto()
    LOOK = auto()  # the contents decide


def judge(source: Entry, target: Entry | None, rule: Rule = Rule.DEFAULT) -> Verdict:
    """Decide about a file of the source, given the target's file of that name."""
    if target is None or source.size != target.size:
        return Verdict.COPY
    if rule is Rule.SIZE_ONLY:
        return Verdict.SAME
    is_same_time = source.changed_ns == target.changed_ns  # also if both are unknown
    if rule is Rule.EXACT and not is_same_time:
        return Verdict.COPY
    if source.crc is not None and target.crc is not None:  # both are objects whose listings have the CRC
        return Verdict.SAME if source.crc == target.crc else Verdict.COPY
    if is_same_time and source.changed_ns is not None and rule is not Rule.CHECKSUM:
        return Verdict.SAME
    return Verdict.LOOK


def cause(source: Entry, target: Entry | None, verdict: Verdict) -> str:
    """Why a file is copied, in words for the user of a dry run."""
    if target is None:
        return "new"
    if source.size != target.size:
        return f"{source.size:,} bytes, not {target.size:,}"
    return "another time" if verdict is Verdict.COPY and source.crc is None else "other contents"


@dataclass
class Findings:
    """What remains to be done after the copies."""

    source_count: int = 0
    kept_count: int = 0  # files that both sides have
    same_count: int = 0
    surplus: list[Entry] = field(default_factory=list)  # files that only the target has
    put_off: dict[str, Transfer] = field(default_factory=dict)  # by name: something is in the way
    is_source_whole: bool = True  # everything could be read
    passed: set[str] = field(default_factory=set)  # names of the source that a rule leaves out


TransferOf = Callable[[Entry, Entry | None, Verdict], Transfer]
IsBlocked = Callable[[Entry], bool]


async def compare(
    source: Side,
    target: Side,
    findings: Findings,
    transfer_of: TransferOf,
    *,
    rule: Rule = Rule.DEFAULT,
    is_blocked: IsBlocked = lambda entry: False,
) -> AsyncGenerator[Found, None]:
    """Walk both sides together; yield the transfers, and the files that cannot be copied.

    Args:
        is_blocked: whether the target has a folder in place of this file.
    """
    comparison = _Comparison(findings, transfer_of, rule, is_blocked)
    async with aclosing(source), aclosing(target):
        theirs = await _next(target)
        async for ours in source:
            if isinstance(ours, Unfit):
                findings.is_source_whole = False
                yield ours
                continue
            name = ours.name.encode()
            while theirs is not None and theirs.name.encode() < name:
                comparison.note_surplus(theirs)
                theirs = await _next(target)
            twin = theirs if theirs is not None and theirs.name == ours.name else None
            if isinstance(ours, Passed):
                findings.passed.add(ours.name)
                if ours.why is not None:
                    yield LeftOut(ours.source, ours.why)
            elif (transfer := comparison.transfer(ours, twin)) is not None:
                yield transfer
            if twin is not None:
                theirs = await _next(target)
        while theirs is not None:
            comparison.note_surplus(theirs)
            theirs = await _next(target)
    findings.surplus = [
        entry for entry in findings.surplus if not _is_at_or_below(entry.name, findings.passed)
    ]


class _Comparison:
    """What becomes of each file, once both sides are known."""

    def __init__(
        self, findings: Findings, transfer_of: TransferOf, rule: Rule, is_blocked: IsBlocked
    ) -> None:
        self._findings = findings
        self._transfer_of = transfer_of
        self._rule = rule
        self._is_blocked = is_blocked
        self._surplus_names: set[str] = set()

    def note_surplus(self, theirs: Entry) -> None:
        self._findings.surplus.append(theirs)
        self._surplus_names.add(theirs.name)

    def transfer(self, ours: Entry, theirs: Entry | None) -> Transfer | None:
        """The transfer of a file of the source; None: it is the same already, or waits for deletions."""
        findings = self._findings
        findings.source_count += 1
        findings.kept_count += theirs is not None
        verdict = judge(ours, theirs, self._rule)
        if verdict is Verdict.SAME:
            findings.same_count += 1
            return None
        transfer = replace(self._transfer_of(ours, theirs, verdict), why=cause(ours, theirs, verdict))
        if theirs is None and (_is_below(ours.name, self._surplus_names) or self._is_blocked(ours)):
            findings.put_off[ours.name] = transfer
            return None
        return transfer


async def _next(target: Side) -> Entry | None:
    """The next file of the target; unreadable and left-out files stay as they are."""
    async for entry in target:
        if isinstance(entry, Entry):
            return entry
    return None


def _is_below(name: str, names: set[str]) -> bool:
    """Whether one of these names would have to be a folder for this name."""
    end = name.find("/") if names else -1
    while end >= 0:
        if name[:end] in names:
            return True
        end = name.find("/", end + 1)
    return False


def _is_at_or_below(name: str, names: set[str]) -> bool:
    return bool(names) and (name in names or _is_below(name, names))


# --- sides ----------------------------------------------------------------------------------------


async def local_side(
    root: Path, *, target: str, links: Links = Links.FILES, rules: Rules = EVERYTHING
) -> Side:
    async with aclosing(local_files(root, links)) as entries:
        async for entry in entries:
            is_left_out = leaves_out(rules, entry, root)
            try:
                name = key_of_path(entry.path, root)
                if is_left_out:
                    yield Passed(name, name_of(entry.path), None)
                    continue
                if entry.problem is not None:
                    raise entry.problem
            except (StoreError, OSError) as error:
                if not is_left_out:  # a name that is no key has no counterpart on the other side
                    yield Unfit(name_of(entry.path), target, error)
            else:
                if entry.left_out is not None:
                    yield Passed(name, name_of(entry.path), entry.left_out)
                else:
                    yield Entry(name, entry.size, entry.changed_ns, path=entry.path)


async def remote_side(
    folder: Remote,
    store: Store,
    *,
    with_locations: bool = False,
    is_for_files: bool = True,
    rules: Rules = EVERYTHING,
) -> Side:
    """The objects of a folder.

    Args:
        is_for_files: compared with files; an object without `mtime` counts with its time of storing.
    """
    listing = store.bucket(folder.bucket).list(folder.folder, with_locations=with_locations)
    async for info in listing:
        name = info.key[len(folder.folder) :]
        if not name:  # an object with the folder's own name is not in the folder
            continue
        if rules.leaves_out(name):
            yield Passed(name, f"wh://{folder.bucket}/{info.key}", None)
            continue
        changed_ns = file_time_of(info) if is_for_files else recorded_ns(info.metadata)
        yield Entry(name, info.size, changed_ns, crc=known_crc(info), info=info)


async def no_side() -> Side:
    """A folder that does not exist yet."""
    nothing: tuple[Entry, ...] = ()
    for entry in nothing:
        yield entry


# --- transfers ------------------------------------------------------------------------------------


def uploads_to(target: Remote, store: Store) -> TransferOf:
    bucket = store.bucket(target.bucket)
    mover = SmallFileUploader(bucket, None)

    def transfer_of(entry: Entry, theirs: Entry | None, verdict: Verdict) -> Transfer:
        path = entry.path
        assert path is not None
        place = target.inside(entry.name)
        one = upload(path, entry.size, place, store, None)
        if verdict is Verdict.LOOK:
            assert theirs is not None
            assert theirs.info is not None
            is_there = partial(is_same_file, path, theirs.info, bucket)
            return replace(one, is_there=is_there)
        return SmallUpload.of(one, mover, path, place.key) if entry.size <= LARGE_SIZE else one

    return transfer_of


def downloads_to(source: Remote, root: Path, store: Store, *, is_dry: bool = False) -> TransferOf:
    bucket = store.bucket(source.bucket)
    mover = SmallFileDownloader(bucket, is_dated=True)
    tree = FolderTree(root)

    def transfer_of(entry: Entry, theirs: Entry | None, verdict: Verdict) -> Transfer:
        info = entry.info
        assert info is not None
        path_for = partial(tree.path_for, entry.name)
        remote = Remote(source.bucket, info.key)
        name = name_of(root / entry.name.lstrip("/"))
        look_at = partial(tree.look_at, entry.name)
        one = download(remote, info.size, path_for, name, store, look_at)

        async def run(progress: Progress) -> int:
            size = await one.run(progress)
            set_time(path_for(), info)
            return size

        if verdict is Verdict.LOOK:
            assert theirs is not None
            assert theirs.path is not None
            is_there = partial(_is_there_as_file, theirs.path, info, source, store, is_dry=is_dry)
            return replace(one, run=run, is_there=is_there)
        dated = replace(one, run=run)
        return SmallDownload.of(dated, mover, info, path_for) if info.size <= LARGE_SIZE else dated

    return transfer_of


async def _is_there_as_file(
    path: Path, info: ObjectInfo, source: Remote, store: Store, *, is_dry: bool
) -> bool:
    if not await is_same_file(path, info, store.bucket(source.bucket)):
        return False
    if not is_dry:
        set_time(path, info)  # so that the next comparison need not read it
    return True


def copies_to(source: Remote, target: Remote, store: Store) -> TransferOf:
    def transfer_of(entry: Entry, theirs: Entry | None, verdict: Verdict) -> Transfer:
        place = Remote(source.bucket, source.folder + entry.name)
        one = remote_copy(place, entry.size, target.inside(entry.name), store, None)
        if verdict is not Verdict.LOOK:
            return one
        assert entry.info is not None
        assert theirs is not None
        assert theirs.info is not None
        ours, bucket = store.bucket(source.bucket), store.bucket(target.bucket)
        is_there = partial(is_same_object, entry.info, ours, theirs.info, bucket)
        return replace(one, is_there=is_there)

    return transfer_of


# --- in the way -----------------------------------------------------------------------------------


def folder_in(root: Path) -> IsBlocked:
    """Tells whether `root` has a folder in place of a file; a link is no folder."""
    return lambda entry: _is_real_folder(root, entry.name)


def _is_real_folder(root: Path, name: str) -> bool:
    try:
        path = root
        for segment in segments_of(name):
            path = path / segment
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                return False
    except (BadKey, OSError):
        return False
    return True


def in_the_way(transfer: Transfer) -> Unfit:
    """The failure of a transfer that was put off, when nothing is deleted."""
    problem = BadRequest(
        f"{transfer.target}: a file is in place of a folder, or a folder in place of a file; "
        "sync --delete replaces it"
    )
    return Unfit(transfer.source, transfer.target, problem)


def clear(root: Path, surplus: Sequence[Entry], put_off_names: Iterable[str]) -> None:
    """Delete files that only the target has, and then empty folders in place of files."""
    for entry in surplus:
        assert entry.path is not None
        entry.path.unlink(missing_ok=True)
    for name in put_off_names:
        if _is_real_folder(root, name):
            # A folder that is not empty stays; the copy then fails and names it.
            with contextlib.suppress(OSError):
                for folder, _, _ in os.walk(root / name, topdown=False):
                    os.rmdir(folder)
