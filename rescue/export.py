"""Export: plain files from the volumes, with no actor running: the last way out.

    warehouse export --to FOLDER [--data DIR] [--disk PATH]... [--resume] [--json]

Nothing is needed but the disks, and nothing is written to them: they may be mounted read-only.  What counts
is decided as in a rebuild.  Each object becomes FOLDER/bucket/key (`paths.py` says how a key becomes a path),
every byte checked on the way, and appears whole or not at all; FOLDER/export.jsonl lists all of them
(`listing.py`).  Objects are copied in groups, each in the order in which it lies on the disks.
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Final

import msgspec

from warehouse.catalog.records import unpack_map
from warehouse.conf.formatting import format_count, format_size
from warehouse.errors import BadRequest, NeedleCorrupt, ReadFailed, StoreError
from warehouse.rescue.choosing import Verdict
from warehouse.rescue.console import (
    Parser,
    Progress,
    add_common_arguments,
    add_disk_argument,
    listed,
    reading,
    require_no_stream,
    run_tool,
    writing,
)
from warehouse.rescue.listing import Line, Listing
from warehouse.rescue.paths import LISTING_NAME, bucket_folder, damaged_path, object_path
from warehouse.rescue.reading import LostNeedle, damage_line
from warehouse.rescue.staging import STAGING_PREFIX, Part, Staging, Version, needle_id_of, volume_number_of
from warehouse.rescue.survey import BadDisk, BadVolume, Survey, disk_folders, hold_disks, take_survey
from warehouse.storage.beneath import Folder
from warehouse.storage.disk import File, read_fully
from warehouse.storage.files import data_path, volume_directory
from warehouse.storage.format.needle import BLOCK_SIZE
from warehouse.storage.format.superblock import VolumeIdentity
from warehouse.storage.reader import NeedleReader, read_header

GROUP_COUNT: Final = 10_000  # objects that are sorted by place together: a few MiB of memory
PIECE_SIZE: Final = 4 * BLOCK_SIZE
_ZEROS: Final = bytes(PIECE_SIZE)
PAGE_SIZE: Final = 4096  # what is given up around a byte that a disk refuses to read
PROBLEMS_MAX: Final = 100  # of one object
DAMAGED_NAMED_MAX: Final = 10_000

# Of a name that cannot be had: something else stands there, or this file system cannot hold it.
_NAME_REFUSED: Final = frozenset(
    (
        errno.EISDIR,
        errno.ENOTDIR,
        errno.EEXIST,
        errno.ENOTEMPTY,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.EINVAL,
        errno.EILSEQ,
        errno.EACCES,
        errno.EPERM,
    )
)


class ExportReport(msgspec.Struct, kw_only=True):
    """What an export wrote."""

    folder: str
    seconds: float = 0.0
    whole: int = 0
    bytes: int = 0
    skipped: int = 0  # of those, what an export before had written
    damaged_count: int = 0
    damaged: list[str] = []  # bucket/key
    incomplete: int = 0  # uploads
    unreadable_volumes: list[BadVolume] = []
    unreadable_disks: list[BadDisk] = []
    untyped_count: int = 0  # needles whose content type no header can carry: it is left out
    lost_count: int = 0
    lost: list[LostNeedle] = []  # everything that does not check, dead needles too

    def lines(self) -> Iterator[str]:
        yield (
            f"{self.folder}: {format_count(self.whole, 'object')} ({format_size(self.bytes)}) whole,"
            f" {self.damaged_count:,} damaged, in {self.seconds:.1f} s; {LISTING_NAME} lists them"
        )
        if self.skipped:
            yield f"  {self.skipped:,} of them were there already"
        if self.incomplete:
            yield f"  {format_count(self.incomplete, 'unfinished upload')} left out, listed as incomplete"
        yield from listed("Damaged objects", self.damaged, self.damaged_count)
        if self.untyped_count:
            yield f"  {self.untyped_count:,} needles had a content type that no header can carry: left out"
        disks = [f"{bad.disk}: {bad.problem}" for bad in self.unreadable_disks]
        yield from listed("Disks that could not be read", disks, len(disks))
        bad = [f"volume {v.volume_id} on {v.disk}: {v.problem}" for v in self.unreadable_volumes]
        yield from listed("Volumes that could not be read", bad, len(bad))
        yield from listed("What does not check", [damage_line(lost) for lost in self.lost], self.lost_count)


def export(
    data: Path, folder: Path, progress: Progress, *, disks: Sequence[Path] = (), is_resumed: bool = False
) -> ExportReport:
    """Write everything that lives on the disks as plain files.

    Raises:
        BadRequest: `folder` holds something, and this is not to go on with an export.
        DiskInUse: an actor of the store runs.
        ReadFailed: there is no disk.
        DiskFull, WriteFailed: `folder` takes no more; what was written is whole, and it can be resumed.
    """
    started = time.monotonic()
    require_no_stream(folder, "files")
    folders = disk_folders(data, disks)
    if not folders:
        raise ReadFailed(f"there is no disk in {data} (a folder disk-1, say), and none was named")
    with hold_disks(folders, is_identity_needed=False) as held:
        _make_ready(folder, is_resumed=is_resumed)
        report = ExportReport(folder=str(folder))
        with Staging(folder) as staging:
            survey = take_survey(held, staging, progress)
            with (
                _opened(folder) as target,
                Listing(target, staging.folder) as listing,
            ):
                Exporter(folder, target, survey, listing, report).run(progress)
    report.unreadable_volumes = survey.bad_volumes
    report.unreadable_disks = survey.bad_disks
    report.untyped_count = survey.untyped_count
    report.lost = list(survey.damages)
    report.lost_count = survey.damaged_count
    report.seconds = round(time.monotonic() - started, 3)
    return report


def _make_ready(folder: Path, *, is_resumed: bool) -> None:
    with writing(f"cannot write to {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        if is_resumed:
            for left in list(folder.glob(f"{STAGING_PREFIX}*")):  # by an export that was killed
                if left.is_dir() and not left.is_symlink():
                    shutil.rmtree(left)
                else:
                    left.unlink()
        elif any(folder.iterdir()):
            raise BadRequest(f"{folder} is not empty: --resume goes on with an export, or name another one")


def _opened(folder: Path) -> Folder:
    with writing(f"cannot write to {folder}"):
        return Folder(folder, folder_mode=0o777)


class Exporter:
    def __init__(
        self, folder: Path, target: Folder, survey: Survey, listing: Listing, report: ExportReport
    ) -> None:
        """
        Args:
            target: `folder`, held: all that is written is written below it, and through no link.
        """
        self._folder = folder
        self._target = target
        self._survey = survey
        self._listing = listing
        self._report = report
        self._staging = survey.staging
        self._files: dict[int, File] = {}  # of volumes, by their number
        self._temporary = f"{survey.staging.folder.name}/object"
        self._is_portable = _is_blind_to_case(target, survey.staging.folder.name)

    def run(self, progress: Progress) -> None:
        """Copy everything; when this returns it survives a power cut."""
        progress.begin(
            "copying objects", self._survey.needle_count - self._survey.tombstoned_count, "objects"
        )
        done = 0
        for group in self._groups():
            for version in group:
                self._export(version)
                done += 1
                if done % 100 == 0:
                    progress.at(done)
        for upload in self._survey.incomplete:
            self._listing.add(
                Line(bucket=upload.bucket, key=upload.key, state="incomplete", problems=[upload.problem])
            )
        for lost in self._survey.damages:
            if lost.is_refused:
                self._listing.add(
                    Line(
                        bucket=lost.bucket or "", key=lost.key or "", state="damaged", problems=[lost.problem]
                    )
                )
        self._report.incomplete = self._survey.incomplete_count
        self._listing.sync()
        os.sync()  # all files together: much cheaper than each by itself

    def _groups(self) -> Iterator[list[Version]]:
        chosen = (choice.version for choice in self._survey.choices() if choice.verdict is Verdict.CHOSEN)
        while group := list(itertools.islice(chosen, GROUP_COUNT)):
            yield sorted(group, key=lambda version: (volume_number_of(version.place), version.offset))

    # --- one object -------------------------------------------------------------------------------

    def _export(self, version: Version) -> None:
        bucket = self._survey.buckets[version.bucket_id].name
        path: str | None = self._path_of(bucket, version)
        assert path is not None
        if self._listing.has_whole(path, version.stamp):
            self._report.skipped += 1
            self._count_whole(version)
            return
        problems = self._copy(version)
        if problems:
            path = damaged_path(path, is_taken=self._is_taken(version.bucket_id, version.key + ".damaged"))
        if (refusal := self._put_in_place(path)) is not None:
            problems.append(refusal)
            path = None
        if problems:
            self._report.damaged_count += 1
            if len(self._report.damaged) < DAMAGED_NAMED_MAX:
                self._report.damaged.append(f"{bucket}/{version.key}")
        else:
            self._count_whole(version)
        self._listing.add(
            Line(
                bucket=bucket,
                key=version.key,
                path=path,
                size=version.size,
                state="damaged" if problems else "whole",
                stamp=version.stamp,
                created_ms=version.created_ms,
                content_type=version.content_type,
                metadata=unpack_map(version.metadata) or {},
                problems=problems[:PROBLEMS_MAX],
            )
        )

    def _put_in_place(self, path: str) -> str | None:
        """Give the temporary file its name; returns why that is no good.

        Raises:
            DiskFull, WriteFailed: it is not the name that is refused, so no other would do.
        """
        try:
            with (
                self._target.parent(self._temporary) as (scratch, temporary),
                self._target.parent(path, create=True) as (folder, name),
            ):
                os.replace(temporary, name, src_dir_fd=scratch, dst_dir_fd=folder)
        except OSError as error:
            if error.errno not in _NAME_REFUSED:
                with writing(f"cannot write {self._folder / path}"):
                    raise
            return f"it cannot be written as {path}: {error.strerror}"
        return None

    def _path_of(self, bucket: str, version: Version) -> str:
        key = version.key
        is_folder = self._staging.has_keys_between(version.bucket_id, key + "/", key + "0")  # "0" follows "/"
        folder = bucket_folder(bucket, is_portable=self._is_portable)
        return f"{folder}/{object_path(key, is_folder=is_folder, is_portable=self._is_portable)}"

    def _is_taken(self, bucket_id: int, key: str) -> bool:
        """Is there an object of this name, or one that has it as its folder?"""
        has_keys_between = self._staging.has_keys_between
        return has_keys_between(bucket_id, key, key + "\0") or has_keys_between(
            bucket_id, key + "/", key + "0"
        )

    def _count_whole(self, version: Version) -> None:
        self._report.whole += 1
        self._report.bytes += version.size

    # --- its bytes --------------------------------------------------------------------------------

    def _copy(self, version: Version) -> list[str]:
        """Write an object to the temporary file; returns what is wrong with it."""
        problems: list[str] = []
        with (
            writing(f"cannot write to {self._folder}"),
            os.fdopen(self._target.make(self._temporary, 0o666), "wb") as file,
        ):
            for needle in self._needles_of(version):
                start = file.tell()
                try:
                    self._copy_checked(needle, file)
                except StoreError as error:
                    problems.append(error.message)
                    file.seek(start)
                    file.truncate()
                    self._copy_unchecked(needle, file, problems)
            with writing(f"cannot write to {self._folder}"):
                file.truncate()  # to where it stands: what was left out at the end are zeros
        return problems

    def _needles_of(self, version: Version) -> Iterable[Version | Part]:
        if version.upload_id is None:
            return (version,)
        return self._survey.parts_of(version).parts

    def _copy_checked(self, needle: Version | Part, target: IO[bytes]) -> None:
        """Copy a needle.

        Raises:
            NeedleCorrupt, ReadFailed: it is damaged; some of it may have been copied.
        """
        identity, file = self._identity_and_file(needle.place)
        needle_id = needle_id_of(needle.place)

        def damaged(needle_id: int, offset: int, problem: str) -> NeedleCorrupt:
            return NeedleCorrupt(f"volume {identity.volume_id}, needle {needle_id} at {offset}: {problem}")

        with reading(f"volume {identity.volume_id}, needle {needle_id}"):
            found = read_header(file, identity.seed, needle.offset, metadata_size=0, nowait=False)
        if found is None or found[0].needle_id != needle_id:
            raise damaged(needle_id, needle.offset, "header does not match its CRC")
        if found[0].is_damaged:
            raise damaged(needle_id, needle.offset, "it was damaged when its volume was compacted")
        reader = NeedleReader(
            file,
            volume_id=identity.volume_id,
            offset=needle.offset,
            header=found[0],
            metadata_bytes=found[1],
            on_damage=damaged,
        )
        for at in range(0, reader.size, PIECE_SIZE):
            _write_sparsely(target, reader.read(at, min(PIECE_SIZE, reader.size - at)))

    def _copy_unchecked(self, needle: Version | Part, target: IO[bytes], problems: list[str]) -> None:
        """What the disk still gives of a damaged needle; zeros where it gives nothing."""
        identity, file = self._identity_and_file(needle.place)
        try:
            found = read_header(file, identity.seed, needle.offset, metadata_size=0, nowait=False)
        except OSError:
            found = None
        if found is None:
            return  # it was readable a moment ago: this disk is dying
        start, size = needle.offset + found[0].data_offset, found[0].data_size
        at = 0
        while at < size:
            # What is not there is zeros: of a hole of gigabytes nothing is read, and nothing written.
            skipped = min(max(file.next_data(start + at) - start, at), size) - at
            if skipped:
                target.seek(skipped, os.SEEK_CUR)
                at += skipped
                continue
            length = min(PIECE_SIZE, size - at)
            _write_sparsely(target, _read_what_can_be(file, start + at, length, problems))
            at += length

    def _identity_and_file(self, place: int) -> tuple[VolumeIdentity, File]:
        volume = self._survey.volumes[number := volume_number_of(place)]
        if number not in self._files:
            path = data_path(volume_directory(volume.identity.volume_id), volume.identity.generation)
            with reading(f"volume {volume.identity.volume_id}"):
                self._files[number] = volume.holder.disk.open(path, read_only=True)
        return volume.identity, self._files[number]


def _is_blind_to_case(target: Folder, scratch: str) -> bool:
    """Does the file system take "a" and "A" for one name?"""
    with writing("cannot write to the folder of the export"):
        os.close(target.make(f"{scratch}/case", 0o666))
        return target.stat(f"{scratch}/CASE") is not None


def _write_sparsely(target: IO[bytes], piece: bytearray | memoryview) -> None:
    """Write a piece, and leave a hole where it is all zeros: what comes out of a disk takes no more room than
    it took there."""
    if not piece[0] and not piece[-1] and bytes(piece) == _ZEROS[: len(piece)]:
        target.seek(len(piece), os.SEEK_CUR)
    else:
        target.write(piece)


def _read_what_can_be(file: File, offset: int, size: int, problems: list[str]) -> bytearray:
    """So many bytes, zeros where the disk refuses."""
    buffer = bytearray(size)
    view = memoryview(buffer)
    try:
        read_fully(file, view, offset)
    except OSError:
        for at in range(0, size, PAGE_SIZE):
            piece = view[at : at + PAGE_SIZE]
            try:
                read_fully(file, piece, offset + at)
            except OSError as error:
                piece[:] = bytes(len(piece))
                problems.append(f"{len(piece)} bytes at {offset + at} of the data file: {error}")
    return buffer


def _parser() -> Parser:
    parser = Parser(
        prog="warehouse export",
        description="Write all objects as plain files, from the disks alone.  The store must not run.",
    )
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="where to; an empty folder")
    add_disk_argument(parser)
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with an export: files that are whole are not written again",
    )
    add_common_arguments(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    return run_tool(
        arguments,
        lambda progress: export(
            arguments.data, arguments.to, progress, disks=arguments.disk, is_resumed=arguments.resume
        ),
        is_private=False,  # the files are for whoever gets the folder
        again="the same command with --resume goes on",
    )


if __name__ == "__main__":
    raise SystemExit(main())
