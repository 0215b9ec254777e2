"""Rebuild: a new catalog from the volumes alone.

    warehouse rebuild [--data DIR] [--disk PATH]... [--replace] [--partial] [--indexes] [--json]
                      [--backup FILE [--passphrase-file FILE | --key-file FILE]]

The store must not run.  The new catalog is made next to the old one, synced, and renamed at the end, so an
interrupted rebuild changes nothing.  The old catalog is moved aside and never deleted.

Only the catalog knows API keys.  A rebuild takes them from the old catalog if it can be read, or from a
backup; without them the next start of the store makes a new root key.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from warehouse.catalog.nodes import NodeRow
from warehouse.catalog.records import ChunkRow, PartRow
from warehouse.catalog.sqlite.bulk_load import NO_SETTINGS, NewCatalog
from warehouse.catalog.sqlite.columns import NO_ATTRIBUTES, MoreColumns, pack_content_type
from warehouse.catalog.sqlite.file import hold_lock
from warehouse.catalog.sqlite.salvage import (
    PendingDeletion,
    SalvagedCatalog,
    read_pending_deletions,
    salvage_catalog,
)
from warehouse.conf.formatting import format_count, format_size
from warehouse.errors import CatalogExists, DisksMissing, ReadFailed, SchemaNewer, StoreError
from warehouse.rescue.archive import CATALOG_NAME, opened_backup, sync_folder
from warehouse.rescue.backup_keys import add_key_arguments, key_for_reading, require_no_key
from warehouse.rescue.choosing import Choice, FoundBucket, Verdict
from warehouse.rescue.console import (
    Parser,
    Progress,
    add_common_arguments,
    add_disk_argument,
    listed,
    printable,
    reading,
    run_tool,
    utc_label,
    writing,
)
from warehouse.rescue.reading import LostNeedle, damage_line
from warehouse.rescue.staging import Staging, Version, needle_id_of, volume_number_of
from warehouse.rescue.survey import (
    BadDisk,
    BadVolume,
    FoundVolume,
    HeldDisk,
    IncompleteUpload,
    Survey,
    disk_folders,
    hold_disks,
    node_key_in,
    take_survey,
)
from warehouse.storage.disk import Disk
from warehouse.storage.files import index_path, load_volume_identity, volume_directory, volume_ids
from warehouse.storage.format.needle import NEEDLE_ID_MAX
from warehouse.storage.format.stamp import AHEAD_MS_MAX, sound, wall_ms_of
from warehouse.storage.identity import load_identity
from warehouse.storage.volume import Volume
from warehouse.transport.messages import NeedleDamage
from warehouse.transport.messages.attributes import decode_attributes, part_of_index

# Ids that the old master gave out without a trace on a disk: tokens that name them may still exist.
NEEDLE_IDS_SKIPPED = 262_144  # a master reserves as many in one go
BUCKET_IDS_SKIPPED = 1_000
VOLUME_IDS_SKIPPED = 1_000  # only when some disks are missing
PROGRESS_EVERY = 5_000  # objects

KEEP_ORPHANS_META = "keep_orphans"

_REASON_OF = {Verdict.REPLACED: "replaced", Verdict.DELETED: "deleted", Verdict.BUCKET_DELETED: "deleted"}


class RebuildReport(msgspec.Struct, kw_only=True):
    """What a rebuild found and made."""

    catalog: str
    seconds: float = 0.0
    disks: int = 0
    volumes: int = 0
    buckets: int = 0
    objects: int = 0
    bytes: int = 0
    needles: int = 0  # read, including dead ones
    # Dead by tombstones of their own.
    tombstoned_needles: int = msgspec.field(default=0, name="buried_needles")
    garbage_needles: int = 0  # will get a tombstone: older versions, aborted uploads, deleted buckets
    deleted_objects: int = 0  # that stay deleted
    deleted_buckets: int = 0
    incomplete_upload_count: int = 0
    incomplete_uploads: list[IncompleteUpload] = []
    damaged_count: int = 0
    damaged: list[LostNeedle] = []  # needles, and stretches of unknown content
    unreadable_volumes: list[BadVolume] = []
    unreadable_disks: list[BadDisk] = []
    keeps_orphans: bool = False
    api_keys: int = 0
    moved_aside: str | None = None  # the old catalog
    missing: list[str] = []  # disks and volumes that the old catalog knows
    remarks: list[str] = []

    def lines(self) -> Iterator[str]:
        yield (
            f"{self.catalog}: {format_count(self.objects, 'object')} ({format_size(self.bytes)}) in"
            f" {format_count(self.buckets, 'bucket')}, from {format_count(self.volumes, 'volume')} on"
            f" {format_count(self.disks, 'disk')}, in {self.seconds:.1f} s"
        )
        yield f"  {format_count(self.needles, 'needle')} read, {self.tombstoned_needles:,} of them dead"
        buckets = format_count(self.deleted_buckets, "bucket")
        yield f"  {format_count(self.deleted_objects, 'deleted object')} and {buckets} stay deleted"
        if self.garbage_needles:
            yield f"  {format_count(self.garbage_needles, 'needle')} that no object needs will be deleted"
        if self.api_keys:
            yield f"  {format_count(self.api_keys, 'API key')} kept"
        else:
            yield "  no API keys: the next start (`warehouse up`) makes a new root key"
        if self.moved_aside:
            yield f"  the old catalog is now {self.moved_aside}"
        for remark in self.remarks:
            yield f"  {remark}"
        yield from listed("Missing", self.missing, len(self.missing))
        disks = [f"{bad.disk}: {bad.problem}" for bad in self.unreadable_disks]
        yield from listed("Disks that could not be read", disks, len(disks))
        bad = [f"volume {v.volume_id} on {v.disk}: {v.problem}" for v in self.unreadable_volumes]
        yield from listed("Volumes that could not be read", bad, len(bad))
        yield from listed("Damaged", [damage_line(lost) for lost in self.damaged], self.damaged_count)
        uploads = [f"{upload.bucket}/{upload.key}: {upload.problem}" for upload in self.incomplete_uploads]
        yield from listed("Uploads that were not finished", uploads, self.incomplete_upload_count)
        if self.keeps_orphans:
            yield (
                "Not everything could be read, so needles that the catalog does not name are kept, not"
                " deleted. When the rest can be read again, run `warehouse rebuild --replace`."
            )


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What a rebuild is asked to do; see the command line."""

    data: Path
    disks: tuple[Path, ...] = ()
    replace: bool = False
    partial: bool = False
    indexes: bool = False


def rebuild(options: Options, progress: Progress, *, backup: SalvagedCatalog | None = None) -> RebuildReport:
    """Make a catalog from what the volumes hold.

    Args:
        backup: used instead of the existing catalog, for what the volumes do not tell.
    Raises:
        CatalogExists: there is a catalog, and `options.replace` is not set.
        DiskInUse: an actor of the store runs.
        DisksMissing: the old catalog knows disks or volumes that are missing, and `options.partial` is not
            set.
        ReadFailed: there is no disk.
    """
    master = options.data / "master"
    with writing(f"cannot make the folder {master}"):
        master.mkdir(parents=True, exist_ok=True, mode=0o700)
    with catalog_held(master / CATALOG_NAME):
        return rebuild_held(options, progress, backup=backup)


@contextmanager
def catalog_held(path: Path) -> Iterator[None]:
    """Keep masters away from a catalog.

    Raises:
        DiskInUse: one has it open.
    """
    lock = hold_lock(path)
    try:
        yield
    finally:
        os.close(lock)


def rebuild_held(
    options: Options, progress: Progress, *, backup: SalvagedCatalog | None = None
) -> RebuildReport:
    """`rebuild`, for a caller that holds the catalog already."""
    started = time.monotonic()
    path = options.data / "master" / CATALOG_NAME
    if os.path.lexists(path) and not options.replace:
        raise CatalogExists(f"the catalog {path} exists: use --replace to move it aside and make a new one")
    report = RebuildReport(catalog=str(path))
    known = backup or _salvaged_from(path, report)
    folders = disk_folders(options.data, options.disks)
    if not folders:
        raise ReadFailed(
            f"there is no disk in {options.data} (a folder such as disk-1): name one with --disk"
        )
    with hold_disks(folders) as disks:
        disks = [_named(disk) for disk in disks]
        report.missing = missing_disks(disks, known) + _unlisted(disks)
        if report.missing and not options.partial:
            raise DisksMissing(
                f"missing: {'; '.join(report.missing)}. Name the folder of each missing disk with --disk, or"
                " use --partial to leave out what is on it"
            )
        if options.indexes:
            _make_indexes(disks, report, progress)
        fresh = path.with_name(path.name + ".rebuilding")
        with writing(f"cannot remove {fresh}, which is in the way of the new catalog"):
            fresh.unlink(missing_ok=True)  # of a rebuild that was interrupted: the catalog's lock is ours
        now_ms = time.time_ns() // 1_000_000
        make_catalog(
            fresh,
            disks,
            known,
            report,
            progress,
            now_ms=now_ms,
            pending_deletions=_pending_deletions_in(path, report),
        )
        report.moved_aside = _put_in_place(fresh, path)
    report.seconds = round(time.monotonic() - started, 3)
    return report


def make_catalog(
    path: Path,
    disks: Sequence[HeldDisk],
    known: SalvagedCatalog | None,
    report: RebuildReport,
    progress: Progress,
    *,
    now_ms: int,
    pending_deletions: Iterable[PendingDeletion] = (),
) -> None:
    """Make the catalog `path`, which does not exist yet, from what these disks hold.

    If this fails, there is no catalog.

    Args:
        known: what an older catalog tells that volumes do not.
        report: is filled in.
        now_ms: wall clock; bucket ids go on from it, see `last_bucket_id`.
        pending_deletions: see `take_survey`.
    """
    with Staging(path.parent) as staging:
        survey = take_survey(disks, staging, progress, pending_deletions=pending_deletions)
        with NewCatalog(path) as new:
            _fill(new, survey, disks, known, report, progress, now_ms)
            progress.begin("indexing", 0)
            new.finish()


def last_bucket_id(seen: int, now_ms: int) -> int:
    """The greatest bucket id that counts as given out, in a catalog that takes the place of a lost one.

    The lost catalog may have given out more ids than any file shows.  An absent disk may hold the record that
    such a bucket was deleted, and a new bucket with the same id would be deleted with it.  Hence the clock:
    skipping a fixed number of ids is not enough when a catalog is lost twice and the time in between left no
    trace.

    Args:
        seen: the greatest id in any file.
        now_ms: wall clock.
    """
    return max(seen + BUCKET_IDS_SKIPPED, now_ms)


def _salvaged_from(path: Path, report: RebuildReport) -> SalvagedCatalog | None:
    """What the old catalog still tells; a rebuild goes on without what it cannot tell."""
    if not path.exists():
        return None
    try:
        known = salvage_catalog(path)
    except SchemaNewer:
        raise
    except StoreError as error:
        report.remarks.append(f"nothing could be read from the old catalog: {error.message}")
        return None
    report.remarks += known.problems
    return known


def _pending_deletions_in(path: Path, report: RebuildReport) -> Iterator[PendingDeletion]:
    """What the old catalog had given up; if its disk was offline or sealed, no volume says so."""
    if not path.exists():
        return
    try:
        yield from read_pending_deletions(path)
    except StoreError as error:
        report.remarks.append(
            f"the latest deletions in the old catalog could not be read, so some deleted objects may be"
            f" back: {error.message}"
        )


def _named(disk: HeldDisk) -> HeldDisk:
    """Give a new name to a disk that lost its name, as its actor would."""
    if disk.disk_id is not None:
        return disk
    identity = load_identity(disk.root, created_ms=time.time_ns() // 1_000_000)
    return msgspec.structs.replace(disk, disk_id=identity.disk_id, created_ms=identity.created_ms)


def _unlisted(disks: Sequence[HeldDisk]) -> list[str]:
    """Disks whose volumes cannot be listed."""
    unlisted = []
    for disk in disks:
        try:
            volume_ids(disk.disk)
        except OSError as error:
            unlisted.append(f"what is on {disk.root}, which cannot be read: {error}")
    return unlisted


def volumes_on(disks: Sequence[HeldDisk]) -> Iterator[tuple[HeldDisk, int]]:
    """The volumes of all disks that can be listed."""
    for disk in disks:
        with contextlib.suppress(OSError):
            for volume_id in volume_ids(disk.disk):
                yield disk, volume_id


def missing_disks(disks: Sequence[HeldDisk], known: SalvagedCatalog | None) -> list[str]:
    """Volumes that a catalog knows and that are missing, each with the disks that hold it."""
    if known is None:
        return []
    here = {disk.disk_id for disk in disks}
    volumes_here = {volume_id for _, volume_id in volumes_on(disks)}
    names = {disk.id: disk.name for disk in known.disks}
    missing = []
    for volume in known.volumes:
        if volume.state == "creating" or volume.id in volumes_here:
            continue
        holders = [names.get(disk_id, disk_id) for disk_id in volume.disk_ids if disk_id not in here]
        where = f" of the disk {' and '.join(holders)}" if holders else ""
        missing.append(f"volume {volume.id}{where}")
    return missing


# --- indexes --------------------------------------------------------------------------------------


def _make_indexes(disks: Sequence[HeldDisk], report: RebuildReport, progress: Progress) -> None:
    """Delete the index of every volume, and open the volume, which makes the index again from the data."""
    all_of_them = list(volumes_on(disks))
    progress.begin("making indexes", len(all_of_them), "volumes")
    for done, (disk, volume_id) in enumerate(all_of_them):
        progress.at(done)
        directory = volume_directory(volume_id)
        try:
            _make_index(disk.disk, directory)
        except StoreError as error:
            report.remarks.append(f"the index of volume {volume_id} could not be made: {error.message}")
        except OSError as error:
            report.remarks.append(f"the index of volume {volume_id} could not be made: {error}")
    progress.at(len(all_of_them))


def _make_index(disk: Disk, directory: str) -> None:
    identity, _ = load_volume_identity(disk, directory, read_only=True)
    path = index_path(directory, identity.generation)
    if disk.exists(path):
        disk.remove(path)
    Volume.open(disk, directory).close()


# --- the new catalog ------------------------------------------------------------------------------


def _fill(
    new: NewCatalog,
    survey: Survey,
    disks: Sequence[HeldDisk],
    known: SalvagedCatalog | None,
    report: RebuildReport,
    progress: Progress,
    now_ms: int,
) -> None:
    _add_disks(new, disks, known)
    for volume in survey.volumes:
        _add_volume(new, volume)
    _see_what_was_given_out(new, survey, known, report, now_ms)
    if known is not None:
        if known.accounts:
            new.add_accounts(known.accounts)
        new.add_api_keys(known.api_keys)
        new.add_revocations(known.revocations)
        report.api_keys = len(known.api_keys)
    for bucket in survey.buckets.values():
        settings = NO_SETTINGS if known is None else known.bucket_settings.get(bucket.bucket_id, NO_SETTINGS)
        settings = settings._replace(
            owner_id=settings.owner_id or bucket.owner_id,
            region=settings.region or bucket.region,
            is_lock_enabled=settings.is_lock_enabled or bucket.is_lock_enabled,
            config_epoch=max(settings.config_epoch, bucket.stamp),
        )
        new.add_bucket(bucket.bucket_id, bucket.name, bucket.created_ms, settings)
        new.add_bucket_configs(bucket.bucket_id, _configs_of(bucket, known))
    for bucket in survey.dead_buckets:
        stamp = bucket.stamp if bucket.is_deleted else survey.stamp_max
        new.add_deleted_bucket(bucket.bucket_id, bucket.name, bucket.created_ms, stamp)
    _add_damages(new, survey, now_ms)
    _add_objects(new, survey, report, progress)
    # What could not be read may hold the missing chunks of an upload: then nothing is deleted.
    report.keeps_orphans = bool(report.missing) or not survey.is_whole_picture
    new.set_meta(KEEP_ORPHANS_META, int(report.keeps_orphans))
    _add_leftovers(new, survey, report)
    _tell(survey, report, disks)


def _see_what_was_given_out(
    new: NewCatalog, survey: Survey, known: SalvagedCatalog | None, report: RebuildReport, now_ms: int
) -> None:
    """Ids and stamps that were ever used, so that none is used again."""
    new.see_stamp(survey.stamp_max)
    ahead_s = wall_ms_of(survey.stamp_max) / 1000 - now_ms / 1000
    if ahead_s > AHEAD_MS_MAX / 1000:
        report.remarks.append(
            f"a clock was {ahead_s / 86_400:,.1f} days ahead when some objects were written: their order is"
            " kept, and the store's own clock continues from there"
        )
    new.see_volume_id(survey.volume_id_max + (VOLUME_IDS_SKIPPED if report.missing else 0))
    bucket_id_max = survey.bucket_id_max
    if known is not None:
        new.see_volume_id(known.volume_id_max)
        new.see_stamp(sound(known.stamp_max))
        bucket_id_max = max(bucket_id_max, known.bucket_id_max)
    new.see_bucket_id(last_bucket_id(bucket_id_max, now_ms))


def _add_leftovers(new: NewCatalog, survey: Survey, report: RebuildReport) -> None:
    """Give up chunks that no object needs, and what the old catalog had given up."""

    def give_up(place: int, stamp: int, reason: str) -> None:
        volume_id = survey.volumes[volume_number_of(place)].identity.volume_id
        new.add_garbage(volume_id, needle_id_of(place), stamp, reason)
        report.garbage_needles += 1

    for place, stamp, is_incomplete in survey.leftovers():
        if not (is_incomplete and report.keeps_orphans):
            give_up(place, stamp, "aborted" if is_incomplete else "void")
    for place, stamp, reason in survey.staging.pending_deletions():
        give_up(place, stamp, reason)


def _tell(survey: Survey, report: RebuildReport, disks: Sequence[HeldDisk]) -> None:
    report.disks = len(disks)
    report.volumes = len(survey.volumes)
    report.buckets = len(survey.buckets)
    report.deleted_buckets = len(survey.dead_buckets)
    report.needles = survey.needle_count
    report.tombstoned_needles = survey.tombstoned_count
    report.deleted_objects = survey.deleted_count
    report.incomplete_upload_count = survey.incomplete_count
    report.incomplete_uploads = survey.incomplete
    report.damaged_count = survey.damaged_count
    report.damaged = list(survey.damages)
    report.unreadable_volumes = survey.bad_volumes
    report.unreadable_disks = survey.bad_disks
    if survey.untyped_count:
        report.remarks.append(untyped_remark(survey))


def untyped_remark(survey: Survey) -> str:
    count = format_count(survey.untyped_count, "needle")
    return f"{count} had an invalid content type, which was removed"


def _configs_of(bucket: FoundBucket, known: SalvagedCatalog | None) -> Mapping[str, bytes]:
    """What the latest record says, or the old catalog where it knows of a later change."""
    settings = None if known is None else known.bucket_settings.get(bucket.bucket_id)
    if known is None or settings is None or settings.config_epoch < bucket.stamp:
        return bucket.configs
    return known.bucket_configs.get(bucket.bucket_id, {})


def _add_disks(new: NewCatalog, disks: Sequence[HeldDisk], known: SalvagedCatalog | None) -> None:
    """The disks, and the nodes that they belong to: each folder has the key of its node.

    A node that was removed stays removed, if the old catalog says so.
    """
    nodes = {} if known is None else {node.key: node for node in known.nodes}
    for disk in disks:
        assert disk.disk_id is not None
        name, key = printable(disk.root.name), node_key_in(disk.root)
        new.add_disk(disk.disk_id, name, disk.created_ms, disk.epoch, disk.catalog_id, key)
        if key is not None and key not in nodes:
            nodes[key] = NodeRow(key, name, "both", "", disk.created_ms, disk_id=disk.disk_id)
    new.add_nodes(nodes.values())


def _add_volume(new: NewCatalog, volume: FoundVolume) -> None:
    identity = volume.identity
    assert volume.holder.disk_id is not None
    new.add_volume(
        identity.volume_id,
        identity.uuid,
        identity.capacity,
        volume.holder.disk_id,
        needle_id_reserved=min(volume.read.needle_id_max + NEEDLE_IDS_SKIPPED, NEEDLE_ID_MAX),
        created_ms=identity.created_ms,
    )


def _add_damages(new: NewCatalog, survey: Survey, now_ms: int) -> None:
    for lost in survey.damages:
        if lost.is_mended:
            continue  # only the report names it; its object is whole
        new.add_damage(
            NeedleDamage(
                volume_id=lost.volume_id,
                offset=lost.offset,
                problem=lost.problem,
                needle_id=lost.needle_id,
                bucket=lost.bucket,
                key=lost.key,
                found_ms=now_ms,
            )
        )


def _add_objects(new: NewCatalog, survey: Survey, report: RebuildReport, progress: Progress) -> None:
    progress.begin("writing objects", survey.needle_count - survey.tombstoned_count, "objects")
    upload_ids: set[int] = set()  # of objects with several chunks, which are large and therefore few
    for count, choice in enumerate(survey.choices()):
        if count % PROGRESS_EVERY == 0:
            progress.at(count)
        if choice.verdict is Verdict.CHOSEN:
            report.objects += 1
            report.bytes += choice.version.size
            _add_object(new, survey, choice, upload_ids)
        else:
            report.garbage_needles += _add_garbage(new, survey, choice)


def _add_object(new: NewCatalog, survey: Survey, choice: Choice, upload_ids: set[int]) -> None:
    version = choice.version
    upload_id = version.upload_id
    if upload_id is not None and upload_id in upload_ids:
        upload_id = secrets.randbits(62)  # the rows of its chunks need a free id, and needles do not care
    if upload_id is not None:
        upload_ids.add(upload_id)
    new.add_packed_object(
        (
            version.bucket_id,
            version.key,
            version.size,
            version.stamp,
            version.created_ms,
            pack_content_type(version.content_type),
            survey.volumes[volume_number_of(version.place)].identity.volume_id,
            needle_id_of(version.place),
            version.crc,
            version.chunk_count,
            upload_id,
            version.metadata,
            *_attribute_columns(version),
        )
    )
    if version.amendment is not None:
        target = _name_of(survey, version.place)
        stamp = survey.staging.amendment_stamp(version.amendment)
        new.add_amendment(_name_of(survey, version.amendment), target, stamp)
    if version.upload_id is not None and upload_id is not None:
        _add_chunks(new, survey, version, upload_id)


def _add_chunks(new: NewCatalog, survey: Survey, version: Version, upload_id: int) -> None:
    chunks = survey.parts_of(version).parts
    needles = list(chunks)
    if version.manifest is not None:
        needles.append(survey.staging.manifest_at(version.manifest))
    for needle in needles:
        name = _name_of(survey, needle.place)
        new.add_chunk(
            upload_id, ChunkRow(needle.chunk_index, *name, needle.size, needle.crc, needle.stamp, True)
        )
    rest = iter(chunks)
    for part in survey.parts_in_manifest(version):
        own = list(itertools.islice(rest, part.chunk_count))
        _, attempt, _ = part_of_index(own[0].chunk_index)
        facts = part.size, part.md5, part.checksum, part.created_ms
        new.add_part(upload_id, PartRow(part.number, attempt, part.chunk_count, *facts))


def _attribute_columns(version: Version) -> MoreColumns:
    if version.attributes is None and version.amendment is None:
        return NO_ATTRIBUTES
    attributes = decode_attributes(version.attributes or b"")
    return (
        attributes.md5,
        attributes.part_count,
        attributes.owner_id or None,
        attributes.version_id,
        version.attributes,
        version.amendment is not None,
    )


def _name_of(survey: Survey, place: int) -> tuple[int, int]:
    """Volume and needle id."""
    return survey.volumes[volume_number_of(place)].identity.volume_id, needle_id_of(place)


def _add_garbage(new: NewCatalog, survey: Survey, choice: Choice) -> int:
    """Have tombstones written for the needles of a version; return how many."""
    places = survey.places_of(choice.version)
    for place in places:
        volume_id = survey.volumes[volume_number_of(place)].identity.volume_id
        new.add_garbage(volume_id, needle_id_of(place), choice.stamp, _REASON_OF[choice.verdict])
    return len(places)


def _put_in_place(fresh: Path, path: Path) -> str | None:
    """Rename the new catalog into place; return the new name of the old one."""
    with writing(f"cannot put the new catalog in place of {path}"):
        aside = move_aside([path], "before-rebuild")
        os.replace(fresh, path)
        sync_folder(path.parent)
    return str(aside) if os.path.lexists(aside) else None


def move_aside(paths: Sequence[Path], why: str) -> Path:
    """Rename these files, an SQLite file together with its log; return the new name of the first.

    A log without its file is renamed as well: SQLite would put its pages into the next file of that name.

    Raises:
        OSError: the system refuses.
    """
    label = f"{why}-{utc_label(time.time())}"
    while any(os.path.lexists(path.with_name(f"{path.name}.{label}")) for path in paths):
        label += "-1"
    for path in paths:
        # The log first: after a kill in between, a log left in place would belong to the next file.
        for suffix in ("-wal", "-shm", "-journal"):
            log = path.with_name(path.name + suffix)
            if os.path.lexists(log):
                os.rename(log, path.with_name(f"{path.name}.{label}{suffix}"))
        if os.path.lexists(path):
            os.rename(path, path.with_name(f"{path.name}.{label}"))
    return paths[0].with_name(f"{paths[0].name}.{label}")


# --- the command ----------------------------------------------------------------------------------


def _parser() -> Parser:
    parser = Parser(
        prog="warehouse rebuild",
        description="Make a new catalog from the volume files alone.  The store must not run.",
    )
    add_disk_argument(parser)
    parser.add_argument("--replace", action="store_true", help="move an existing catalog aside first")
    parser.add_argument(
        "--backup",
        type=Path,
        metavar="FILE",
        help="take the API keys from this backup instead of the old catalog",
    )
    add_key_arguments(parser)
    parser.add_argument(
        "--partial", action="store_true", help="go on although disks are missing; what is on them is left out"
    )
    parser.add_argument(
        "--indexes", action="store_true", help="delete and remake the index of every volume first"
    )
    add_common_arguments(parser)
    return parser


def _work(arguments: argparse.Namespace, progress: Progress) -> RebuildReport:
    options = Options(
        data=arguments.data,
        disks=tuple(arguments.disk),
        replace=arguments.replace,
        partial=arguments.partial,
        indexes=arguments.indexes,
    )
    if arguments.backup is None:
        require_no_key(arguments)
        return rebuild(options, progress)
    key = key_for_reading(arguments, arguments.backup)
    with reading(f"cannot read {arguments.data}"):
        options.data.mkdir(parents=True, exist_ok=True)
    with opened_backup(arguments.backup, options.data, key=key) as backup:
        return rebuild(options, progress, backup=salvage_catalog(backup.catalog))


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    return run_tool(arguments, lambda progress: _work(arguments, progress), audited_as="catalog_rebuilt")


if __name__ == "__main__":
    raise SystemExit(main())
