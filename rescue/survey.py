"""Survey: everything on some disks, and what of it counts.

    with hold_disks(folders) as disks, Staging(folder) as staging:
        survey = take_survey(disks, staging, progress)
        for choice in survey.choices(): ...

Everything is read-only, so a read-only file system will do: a disk is only locked, so that no actor writes
meanwhile.  Memory is bounded, whatever the disks hold, because all findings go into the staging.
"""

from __future__ import annotations

import logging
import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from warehouse.catalog.sqlite.salvage import PendingDeletion
from warehouse.errors import DiskInUse, DiskMismatch, FormatUnsupported, NoSuchVolume, ReadFailed, StoreError
from warehouse.rescue.choosing import (
    Choice,
    FoundBucket,
    Upload,
    choose_buckets,
    choose_versions,
    gather_uploads,
)
from warehouse.rescue.console import BYTES, Progress, reading
from warehouse.rescue.manifests import (
    ManifestReader,
    apply_amendments,
    damaged_version,
    manifests_of_uploads,
    numbers_of,
)
from warehouse.rescue.reading import Buckets, LostNeedle, VolumeRead, VolumeReader
from warehouse.rescue.staging import Staging, Version, place_of
from warehouse.storage.beneath import Folder, read_plain
from warehouse.storage.disk import Disk, OsDisk
from warehouse.storage.epoch import NEVER, Epoch
from warehouse.storage.files import (
    VOLUMES_DIRECTORY,
    data_path,
    load_volume_identity,
    volume_directory,
    volume_ids,
)
from warehouse.storage.format.stamp import sound
from warehouse.storage.format.superblock import SUPERBLOCK_SIZE, VolumeIdentity
from warehouse.storage.identity import IDENTITY_NAME, DiskLock, read_identity
from warehouse.transport.messages.attributes import ManifestPart

log = logging.getLogger(__name__)

_DISK_NAME = re.compile(r"disk-[0-9]{1,9}")

# The master counts up from the greatest number that it has seen, and its numbers have 32 bits.
VOLUME_ID_MAX = 1 << 31
NODE_KEY_NAME, NODE_KEY_SIZE_MAX = "node.key", 4096  # of a disk folder; its actors make the file
INCOMPLETE_NAMED_MAX = 10_000  # incomplete uploads listed in a report; all are counted


class HeldDisk(msgspec.Struct, frozen=True):
    """A disk folder that nobody else writes to while we read it."""

    root: Path
    disk: Disk
    disk_id: str | None  # None: its disk.json is missing or unreadable
    created_ms: int
    epoch: Epoch = NEVER  # its latest registration, and the catalog of that registration
    catalog_id: int = 0


class FoundVolume(msgspec.Struct, frozen=True):
    """A volume that was read."""

    identity: VolumeIdentity
    holder: HeldDisk
    read: VolumeRead


class BadVolume(msgspec.Struct, frozen=True):
    """A volume that could not be read at all."""

    volume_id: int
    disk: str
    problem: str


class BadDisk(msgspec.Struct, frozen=True):
    """A disk whose volumes could not even be listed."""

    disk: str
    problem: str


class IncompleteUpload(msgspec.Struct, frozen=True):
    """Living chunks that do not make an object."""

    upload_id: int
    bucket: str
    key: str
    problem: str


def disk_folders(data: Path, more: Sequence[Path] = ()) -> list[Path]:
    """The disk folders of a data folder, and others that were named.

    Raises:
        ReadFailed: one of the others is not a disk.
    """
    with reading(f"cannot look for disks in {data}"):
        numbered = [path for path in data.glob("disk-*") if _DISK_NAME.fullmatch(path.name) and path.is_dir()]
        folders = sorted(numbered, key=lambda path: int(path.name[5:]))
        for path in more:
            if not path.is_dir():
                raise ReadFailed(f"{path} is not a folder, so it is not a disk")
            if not (path / IDENTITY_NAME).exists() and not (path / VOLUMES_DIRECTORY).is_dir():
                raise ReadFailed(
                    f"{path} is not a disk: it has neither {IDENTITY_NAME} nor a folder {VOLUMES_DIRECTORY}"
                )
            if all(path.resolve() != folder.resolve() for folder in folders):
                folders.append(path)
    return folders


@contextmanager
def hold_disks(folders: Sequence[Path], *, is_identity_needed: bool = True) -> Iterator[list[HeldDisk]]:
    """Keep every actor away from these disks.

    Args:
        is_identity_needed: if not, a disk with an unreadable `disk.json` counts as a disk without a name.
    Raises:
        DiskInUse: an actor runs on one of them.
        DiskMismatch: two of them have the same identity, or one has no readable identity.
        FormatUnsupported: a later release made one.
    """
    with ExitStack() as stack:
        disks: list[HeldDisk] = []
        for root in folders:
            try:
                stack.enter_context(DiskLock(root, is_read_only_ok=True))
            except DiskInUse as error:
                raise DiskInUse(f"{error.message}; stop the store first") from error
            except OSError as error:
                raise ReadFailed(f"cannot lock the disk {root}: {error}") from error
            try:
                identity = read_identity(root, is_copy_ok=True)
            except StoreError as error:
                if is_identity_needed:
                    raise
                log.warning("disk without a name", extra={"disk": str(root), "cause": error.message})
                identity = None
            disk_id, created_ms = (identity.disk_id, identity.created_ms) if identity else (None, 0)
            for other in disks:
                if disk_id is not None and other.disk_id == disk_id:
                    raise DiskMismatch(f"{root} and {other.root} are the same disk: name only one of them")
            epoch, catalog_id = (identity.current, identity.catalog_id) if identity else (NEVER, 0)
            disks.append(HeldDisk(root, OsDisk(root), disk_id, created_ms, epoch, catalog_id))
        yield disks


class Survey:
    """What was found; see `take_survey`."""

    def __init__(self, staging: Staging) -> None:
        self.staging = staging
        self.volumes: list[FoundVolume] = []  # the index is the number in the places of the staging
        self.bad_volumes: list[BadVolume] = []
        self.bad_disks: list[BadDisk] = []
        self.volume_id_max = 0  # of all that have a folder, even if their creation was interrupted
        self.bucket_id_max = 0
        self.buckets: dict[int, FoundBucket] = {}  # those that live
        self.dead_buckets: list[FoundBucket] = []
        self.incomplete: list[IncompleteUpload] = []  # at most INCOMPLETE_NAMED_MAX
        self.incomplete_count = 0
        self.tombstoned_count = 0
        self.deleted_count = 0
        self.has_damaged_manifest = False

    @property
    def stamp_max(self) -> int:
        return max((volume.read.stamp_max for volume in self.volumes), default=0)

    @property
    def needle_count(self) -> int:
        return sum(volume.read.needle_count for volume in self.volumes)

    @property
    def damages(self) -> Iterator[LostNeedle]:
        for volume in self.volumes:
            yield from volume.read.damages

    @property
    def damaged_count(self) -> int:
        return sum(volume.read.damaged_count for volume in self.volumes)

    @property
    def is_whole_picture(self) -> bool:
        """Could enough be read to say what is missing?

        If not, the missing chunk of an incomplete upload may be in what could not be read, or a damaged
        manifest may have named chunks that now look like those of no object.
        """
        if self.bad_volumes or self.bad_disks or self.has_damaged_manifest:
            return False
        return not any(volume.read.has_nameless for volume in self.volumes)

    @property
    def untyped_count(self) -> int:
        """Needles that lose their content type, because no header can carry it."""
        return sum(volume.read.untyped_count for volume in self.volumes)

    def choices(self) -> Iterator[Choice]:
        """Every complete version without a tombstone of its own, with what became of it; by bucket
        and key, newest first."""
        return choose_versions(self.staging.versions(), self.buckets.__contains__)

    def parts_of(self, version: Version) -> Upload:
        """The chunks of a version that came from an upload of several chunks."""
        assert version.upload_id is not None
        if version.manifest is not None:
            return Upload(version.upload_id, self.staging.pieces_of(version.manifest), [], None)
        upload = version.upload_id, version.bucket_id, version.key
        return next(gather_uploads(self.staging.parts(upload)))

    def places_of(self, version: Version) -> list[int]:
        """All needles that a version consists of."""
        places = [version.place]
        if version.upload_id is not None:
            places = [part.place for part in self.parts_of(version).parts]
        return places + [place for place in (version.manifest, version.amendment) if place is not None]

    def parts_in_manifest(self, version: Version) -> list[ManifestPart]:
        """The parts of an object that came in parts."""
        if version.manifest is None:
            return []
        return self._manifests().read(self.staging.manifest_at(version.manifest)).parts

    def leftovers(self) -> Iterator[tuple[int, int, bool]]:
        """Needles that no version needs, and that have no tombstone: place and stamp, and whether they belong
        to something incomplete, whose rest may be in what could not be read."""
        for upload in gather_uploads(self.staging.parts()):
            for part in upload.surplus:
                yield part.place, part.stamp, False
            if upload.problem is not None:
                for part in upload.parts:
                    yield part.place, part.stamp, True
        yield from self.staging.unclaimed()

    def _manifests(self) -> ManifestReader:
        return ManifestReader(self.volumes, self.staging)

    # --- for `take_survey` ------------------------------------------------------------------------

    def derive_uploads(self, buckets: Buckets) -> None:
        """Find the versions that came with uploads."""
        staging = self.staging
        for upload in gather_uploads(staging.parts()):
            if upload.problem is None:
                staging.add_version(upload.version())
                continue
            first = upload.parts[0]
            self._add_incomplete(buckets, (upload.upload_id, first.bucket_id, first.key), upload.problem)
        manifests = self._manifests()
        for group in manifests_of_uploads(staging):
            found = manifests.best_of(group)
            if found.is_damaged:
                self.has_damaged_manifest = True
                staging.add_version(damaged_version(found))
                staging.claim([found.place], found.place)
                continue
            judged = manifests.judge(found)
            if isinstance(judged, str):
                self._add_incomplete(buckets, (found.upload_id, found.bucket_id, found.key), judged)
                continue
            version, places = judged
            staging.add_version(version)
            staging.claim([*places, found.place], found.place)
        for name in staging.unended_uploads():
            self._add_incomplete(buckets, name, "it was not completed")

    def _add_incomplete(self, buckets: Buckets, upload: tuple[int, int, str], problem: str) -> None:
        self.incomplete_count += 1
        if len(self.incomplete) < INCOMPLETE_NAMED_MAX:
            upload_id, bucket_id, key = upload
            name = buckets.found[bucket_id].name
            self.incomplete.append(IncompleteUpload(upload_id, name, key, problem))


def take_survey(
    disks: Sequence[HeldDisk],
    staging: Staging,
    progress: Progress,
    *,
    pending_deletions: Iterable[PendingDeletion] = (),
) -> Survey:
    """Read every volume of these disks.

    Args:
        pending_deletions: needles that are dead, although their volume may not say so.
    Raises:
        DiskMismatch: two disks hold the same volume.
        DiskFull, WriteFailed: the staging has no room.
    """
    survey = Survey(staging)
    found = _find_volumes(disks, survey)
    buckets = Buckets()
    done = 0
    progress.begin("reading volumes", sum(size for _, _, size in found), BYTES)
    for holder, identity, size in found:

        def tell(offset: int, before: int = done) -> None:
            progress.at(before + offset)

        try:
            reader = VolumeReader(
                holder.disk,
                volume_directory(identity.volume_id),
                identity,
                len(survey.volumes),
                staging,
                buckets,
            )
            survey.volumes.append(FoundVolume(identity, holder, reader.run(tell)))
        except ReadFailed as error:
            survey.bad_volumes.append(BadVolume(identity.volume_id, str(holder.root), error.message))
        done += size
    progress.begin("sorting", 0)
    numbers = {volume.identity.uuid: number for number, volume in enumerate(survey.volumes)}
    for needle in pending_deletions:
        if (number := numbers.get(needle.volume_uuid)) is not None:
            staging.add_pending_deletion(
                place_of(number, needle.needle_id), sound(needle.stamp) or survey.stamp_max, needle.reason
            )
    _derive(survey, buckets)
    return survey


OpenedVolume = tuple[HeldDisk, VolumeIdentity, int]  # the last: the size of its data file


def _find_volumes(disks: Sequence[HeldDisk], survey: Survey) -> list[OpenedVolume]:
    """Every volume that can be opened."""
    found: dict[int, OpenedVolume] = {}
    unsupported: list[FormatUnsupported] = []
    for holder in disks:
        try:
            volumes = volume_ids(holder.disk)
        except OSError as error:
            survey.bad_disks.append(BadDisk(str(holder.root), str(error)))
            continue
        for volume_id in volumes:
            opened = _open_volume(holder, volume_id, survey, unsupported)
            if opened is not None:
                _take(volume_id, opened, found)
    if unsupported and not found:
        raise unsupported[-1]  # a later release wrote everything here, so this is not damage
    _leave_out_copies(found, survey)
    return list(found.values())


def _open_volume(
    holder: HeldDisk, volume_id: int, survey: Survey, unsupported: list[FormatUnsupported]
) -> OpenedVolume | None:
    """Identity and size of a volume; None: it has none, or it is listed among the bad ones now."""
    if volume_id > VOLUME_ID_MAX:
        problem = f"its number is impossible: a store numbers volumes up to {VOLUME_ID_MAX}"
        survey.bad_volumes.append(BadVolume(volume_id, str(holder.root), problem))
        return None
    survey.volume_id_max = max(survey.volume_id_max, volume_id)
    directory = volume_directory(volume_id)
    try:
        identity, _ = load_volume_identity(holder.disk, directory, read_only=True)
        return holder, identity, _size(holder, directory, identity)
    except NoSuchVolume:
        return None  # its creation was interrupted, so it never held anything
    except StoreError as error:
        if isinstance(error, FormatUnsupported):
            unsupported.append(error)
        problem = error.message
    except OSError as error:
        problem = str(error)
    survey.bad_volumes.append(BadVolume(volume_id, str(holder.root), problem))
    return None


def _take(volume_id: int, opened: OpenedVolume, found: dict[int, OpenedVolume]) -> None:
    """Add a volume to those found.

    A store that was started without its catalog has numbered volumes from 1 again.  An empty volume gives
    way to the volume that had the number before.

    Raises:
        DiskMismatch: another volume with this number holds something as well.
    """
    holder, identity, size = opened
    other, _, other_size = found.get(volume_id, (holder, identity, 0))
    if other_size > SUPERBLOCK_SIZE and size > SUPERBLOCK_SIZE:
        raise DiskMismatch(
            f"volume {volume_id} is on {other.root} and on {holder.root}, so one of the disks is a copy: name"
            " only the other one"
        )
    if size > other_size:
        found[volume_id] = opened


def _leave_out_copies(found: dict[int, OpenedVolume], survey: Survey) -> None:
    """If two volumes have the same uuid and different numbers, the first one counts."""
    owners: dict[str, int] = {}
    for volume_id, (holder, identity, _) in list(found.items()):
        owner = owners.setdefault(identity.uuid, volume_id)
        if owner != volume_id:
            problem = f"it has the same uuid as volume {owner}: one of them is a copy with another number"
            survey.bad_volumes.append(BadVolume(volume_id, str(holder.root), problem))
            del found[volume_id]


def _size(holder: HeldDisk, directory: str, identity: VolumeIdentity) -> int:
    file = holder.disk.open(data_path(directory, identity.generation), read_only=True)
    try:
        return file.size()
    finally:
        file.close()


def _derive(survey: Survey, buckets: Buckets) -> None:
    staging = survey.staging
    staging.derive(numbers_of(survey.volumes))
    survey.derive_uploads(buckets)
    apply_amendments(staging)
    survey.bucket_id_max = max(buckets.found, default=0)
    survey.buckets = choose_buckets(buckets.found, staging.has_living)
    survey.dead_buckets = [
        bucket for bucket in buckets.found.values() if bucket.bucket_id not in survey.buckets
    ]
    survey.tombstoned_count = staging.tombstoned_count()
    survey.deleted_count = staging.killed_count()


def node_key_in(root: Path) -> str | None:
    """The key of the node that a disk folder belongs to; None: there is none, or it cannot be read."""
    try:
        with Folder(root) as folder:
            content, _ = read_plain(folder, NODE_KEY_NAME, NODE_KEY_SIZE_MAX)
        key = tomllib.loads(content.decode("ascii")).get("public")
    except (OSError, ValueError, RecursionError):
        return None
    return key if isinstance(key, str) and len(key) == 40 else None
