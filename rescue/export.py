"""Export: plain files from the volumes, while no actor runs: the last way out.

    warehouse export --to FOLDER [--data DIR] [--disk PATH]... [--resume] [--json]

Only the disks are needed, and nothing is written to them: they may be mounted read-only.  The same objects
count as in a rebuild.  Each becomes FOLDER/bucket/key (`paths.py` makes paths of keys).  Every byte is
checked on the way, and a file appears whole or not at all.  FOLDER/export.jsonl lists all objects
(`listing.py`).  Objects are copied in groups, each group in the order of its needles on the disks.
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

from warehouse.catalog.sqlite.columns import unpack_map
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
from warehouse.rescue.listing import Line, Listing, attribute_fields
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
PAGE_SIZE: Final = 4096  # given up around a byte that a disk fails to read
PROBLEMS_MAX: Final = 100  # of one object
DAMAGED_NAMED_MAX: Final = 10_000

# Errors that mean that a name cannot be used: it is taken, or this file system cannot hold it.
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
    skipped: int = 0  # of those, written by an earlier export
    damaged_count: int = 0
    damaged: list[str] = []  # bucket/key
    incomplete: int = 0  # uploads
    unreadable_volumes: list[BadVolume] = []
    unreadable_disks: list[BadDisk] = []
    untyped_count: int = 0  # needles whose content type is left out, because no header can carry it
    lost_count: int = 0
    lost: list[LostNeedle] = []  # everything that is damaged, including dead needles

    def lines(self) -> Iterator[str]:
        yield (
            f"{self.folder}: {format_count(self.whole, 'object')} ({format_size(self.bytes)}) whole,"
            f" {self.damaged_count:,} damaged, in {self.seconds:.1f} s; {LISTING_NAME} lists them"
        )
        if self.skipped:
            yield f"  {self.skipped:,} of them had been exported before"
        if self.incomplete:
            yield f"  {format_count(self.incomplete, 'unfinished upload')} left out, listed as incomplete"
        yield from listed("Damaged objects", self.damaged, self.damaged_count)
        if self.untyped_count:
            count = format_count(self.untyped_count, "needle")
            yield f"  {count} had an invalid content type, which was removed"
        disks = [f"{bad.disk}: {bad.problem}" for bad in self.unreadable_disks]
        yield from listed("Disks that could not be read", disks, len(disks))
        bad = [f"volume {v.volume_id} on {v.disk}: {v.problem}" for v in self.unreadable_volumes]
        yield from listed("Volumes that could not be read", bad, len(bad))
        yield from listed(
            "Damaged needles and stretches", [damage_line(lost) for lost in self.lost], self.lost_count
        )


def export(
    data: Path, folder: Path, progress: Progress, *, disks: Sequence[Path] = (), is_resumed: bool = False
) -> ExportReport:
    """Write every living object on the disks as a plain file.

    Raises:
        BadRequest: `folder` is not empty, and `is_resumed` is not set.
        DiskInUse: an actor of the store runs.
        ReadFailed: there is no disk.
        DiskFull, WriteFailed: `folder` takes no more; the files in it are whole, and --resume continues.
    """
    started = time.monotonic()
    require_no_stream(folder, "files")
    folders = disk_folders(data, disks)
    if not folders:
        raise ReadFailed(f"there is no disk in {data} (a folder such as disk-1): name one with --disk")
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
            raise BadRequest(
                f"{folder} is not empty: use --resume to continue an export, or name another folder"
            )


def _opened(folder: Path) -> Folder:
    with writing(f"cannot write to {folder}"):
        return Folder(folder, folder_mode=0o777)


class Exporter:
    def __init__(
        self, folder: Path, target: Folder, survey: Survey, listing: Listing, report: ExportReport
    ) -> None:
        """
        Args:
            target: `folder`, held open: everything is written below it, and through no link.
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
        """Copy all objects; when this returns, the files survive a power cut."""
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
        os.sync()  # all files together, which is much cheaper than one by one

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
                **attribute_fields(version.attributes),
                problems=problems[:PROBLEMS_MAX],
            )
        )

    def _put_in_place(self, path: str) -> str | None:
        """Give the temporary file its name; return why that name cannot be used.

        Raises:
            DiskFull, WriteFailed: the name is not the problem, so no other name would help.
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
        """Is there an object with this key, or one in a folder of this name?"""
        has_keys_between = self._staging.has_keys_between
        return has_keys_between(bucket_id, key, key + "\0") or has_keys_between(
            bucket_id, key + "/", key + "0"
        )

    def _count_whole(self, version: Version) -> None:
        self._report.whole += 1
        self._report.bytes += version.size

    # --- its bytes --------------------------------------------------------------------------------

    def _copy(self, version: Version) -> list[str]:
        """Write an object to the temporary file; return what is wrong with the object."""
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
                file.truncate()  # at the current offset: skipped zeros at the end belong to the file
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
        """Copy what can be read of a damaged needle, with zeros for the rest."""
        identity, file = self._identity_and_file(needle.place)
        try:
            found = read_header(file, identity.seed, needle.offset, metadata_size=0, nowait=False)
        except OSError:
            found = None
        if found is None:
            return  # it was readable a moment ago, so this disk is dying
        start, size = needle.offset + found[0].data_offset, found[0].data_size
        at = 0
        while at < size:
            # A hole reads as zeros: gigabytes of them are neither read nor written.
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
    """Does the file system take "a" and "A" for the same name?"""
    with writing("cannot write to the folder of the export"):
        os.close(target.make(f"{scratch}/case", 0o666))
        return target.stat(f"{scratch}/CASE") is not None


def _write_sparsely(target: IO[bytes], piece: bytearray | memoryview) -> None:
    """Write a piece, or leave a hole if it is all zeros: a file takes no more room here than on its disk."""
    if not piece[0] and not piece[-1] and bytes(piece) == _ZEROS[: len(piece)]:
        target.seek(len(piece), os.SEEK_CUR)
    else:
        target.write(piece)


def _read_what_can_be(file: File, offset: int, size: int, problems: list[str]) -> bytearray:
    """Read this many bytes, with zeros where the disk fails."""
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
    parser.add_argument(
        "--to", type=Path, required=True, metavar="FOLDER", help="where to write: an empty or new folder"
    )
    add_disk_argument(parser)
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue an export: whole files are not written again",
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
        audited_as="objects_exported",
        is_private=False,  # the user decides who may read the files
        again="run the same command with --resume to continue",
    )


if __name__ == "__main__":
    raise SystemExit(main())
