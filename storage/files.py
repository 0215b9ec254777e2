"""Files of a volume: which there are, how they come into being, and how they are found again.

A volume exists from the moment its manifest has its name; a directory without one is a creation that a
crash interrupted.  Superblock and manifest restore each other, see `storage/format/superblock.py`.
"""

from __future__ import annotations

import errno
import logging
import re

from msgspec import structs

from warehouse.errors import BadRequest, ManifestCorrupt, NoSuchVolume, SuperblockCorrupt
from warehouse.storage.beneath import NotPlain
from warehouse.storage.disk import Disk, read_file, read_fully, stage_file, write_all, write_file
from warehouse.storage.format.superblock import (
    MANIFEST_SIZE_MAX,
    SUPERBLOCK_SIZE,
    VolumeIdentity,
    decode_manifest,
    decode_superblock,
    encode_manifest,
    encode_superblock,
)
from warehouse.storage.index import IndexHeader, Tally, encode_slot, entry_offset

log = logging.getLogger(__name__)

VOLUMES_DIRECTORY = "volumes"
_VOLUME_NAME = re.compile(r"[1-9][0-9]{0,9}")  # as `volume_directory` writes it: no other name of a number
_DATA_NAME = re.compile(r"g(\d{1,10})\.vol")
_GENERATION_NAME = re.compile(r"g(\d{1,10})\.(?:vol|idx)")


def volume_directory(volume_id: int) -> str:
    return f"{VOLUMES_DIRECTORY}/{volume_id}"


def volume_ids(disk: Disk) -> list[int]:
    """The volumes on a disk, those of interrupted creations included (`NoSuchVolume` when opened)."""
    if not disk.exists(VOLUMES_DIRECTORY):
        return []
    return sorted(int(name) for name in disk.list(VOLUMES_DIRECTORY) if _VOLUME_NAME.fullmatch(name))


def manifest_path(directory: str) -> str:
    return f"{directory}/manifest"


def data_path(directory: str, generation: int) -> str:
    return f"{directory}/g{generation}.vol"


def index_path(directory: str, generation: int) -> str:
    return f"{directory}/g{generation}.idx"


def create_files(disk: Disk, directory: str, identity: VolumeIdentity) -> None:
    """Make an empty volume that survives a power cut.  Leftovers of an interrupted creation are replaced.

    Raises:
        BadRequest: there is a volume already.
        OSError: as the system gave it.
    """
    if disk.exists(manifest_path(directory)):
        raise BadRequest(f"{directory} holds a volume already")
    disk.make_directory(directory)
    _sync_parents(disk, directory)
    create_generation(disk, directory, identity)
    write_file(disk, manifest_path(directory), encode_manifest(identity))


def create_generation(disk: Disk, directory: str, identity: VolumeIdentity) -> None:
    """Make the empty files of a generation, durably; files of that name are replaced.

    Raises:
        OSError: as the system gave it.
    """
    for path, content in (
        (data_path(directory, identity.generation), encode_superblock(identity)),
        (index_path(directory, identity.generation), empty_index(identity)),
    ):
        file = disk.open(path, create=True)
        try:
            write_all(file, [content], 0)
            file.fdatasync()
        finally:
            file.close()
    disk.sync_directory(directory)


def publish(disk: Disk, directory: str, identity: VolumeIdentity) -> None:
    """Make a generation the one that counts, in one step.

    Raises:
        OSError: as the system gave it, and nothing has changed.
        PublishUncertain: the disk refused in the middle: after a power cut either generation may count.
    """
    path = manifest_path(directory)
    temporary = stage_file(disk, path, encode_manifest(identity))
    try:
        disk.replace(temporary, path)
        disk.sync_directory(directory)
    except OSError as error:
        raise PublishUncertain(str(error)) from error


class PublishUncertain(Exception):
    """A manifest was replaced, perhaps, and perhaps not for good."""


def remove_leftovers(disk: Disk, directory: str, generation: int) -> None:
    """Remove files of generations other than the one that counts.

    A leftover that cannot be removed costs room and nothing else, so that is logged and no failure.
    """
    matches = map(_GENERATION_NAME.fullmatch, disk.list(directory))
    leftovers = [match[0] for match in matches if match and int(match[1]) != generation]
    if not leftovers:
        return
    try:
        # A power cut may keep the removal and lose the manifest that came before it.
        disk.sync_directory(directory)
    except OSError as error:
        log.warning("leftovers not removed", extra={"path": directory, "cause": str(error)})
        return
    for name in leftovers:
        path = f"{directory}/{name}"
        try:
            disk.remove(path)
        except OSError as error:
            log.warning("leftover not removed", extra={"path": path, "cause": str(error)})


def empty_index(identity: VolumeIdentity) -> bytes:
    """The index of a data file that has nothing but its superblock."""
    header = IndexHeader(sequence=0, checkpoint=SUPERBLOCK_SIZE, tally=Tally())
    slot = encode_slot(header, identity.volume_id, identity.generation, identity.seed)
    return slot.ljust(entry_offset(1), b"\0")


def _sync_parents(disk: Disk, directory: str) -> None:
    """Make the name of a directory, and those of its parents, survive a power cut."""
    parent = directory
    while parent:
        parent = parent.rpartition("/")[0]
        disk.sync_directory(parent)


def load_volume_identity(disk: Disk, directory: str, *, read_only: bool) -> tuple[VolumeIdentity, list[str]]:
    """What a volume directory holds, and what had to be restored to find out.

    Raises:
        NoSuchVolume: nothing, or the leftovers of an interrupted creation.
        ManifestCorrupt, SuperblockCorrupt: too much is damaged to be sure.
        FormatUnsupported: a later release wrote it.
        OSError: as the system gave it.
    """
    if not disk.exists(directory):
        raise NoSuchVolume(f"{directory} does not exist")
    try:
        identity = _read_manifest(disk, directory)
    except (FileNotFoundError, ManifestCorrupt) as error:
        identity = _identity_without_manifest(disk, directory, is_absent=isinstance(error, FileNotFoundError))
        log.error("manifest restored from the superblock", extra={"directory": directory})
        if not read_only:
            write_file(disk, manifest_path(directory), encode_manifest(identity))
        return _checked(identity, directory), ["manifest"]
    return _check_superblock(disk, directory, _checked(identity, directory), read_only=read_only)


def _read_manifest(disk: Disk, directory: str) -> VolumeIdentity:
    """What the manifest says; one on a bad sector is as damaged as any other."""
    try:
        content = read_file(disk, manifest_path(directory), MANIFEST_SIZE_MAX)
    except OSError as error:
        if error.errno != errno.EIO and not isinstance(error, NotPlain):
            raise
        raise ManifestCorrupt(f"the manifest of {directory} cannot be read: {error.strerror}") from error
    return decode_manifest(content)


def _checked(identity: VolumeIdentity, directory: str) -> VolumeIdentity:
    name = directory.rpartition("/")[2]
    if name.isascii() and name.isdigit() and int(name) != identity.volume_id:
        raise ManifestCorrupt(
            f"{directory} holds volume {identity.volume_id}: a directory was moved or copied"
        )
    return identity


def _identity_without_manifest(disk: Disk, directory: str, *, is_absent: bool) -> VolumeIdentity:
    """The superblock of the only generation there is."""
    found: list[VolumeIdentity] = []
    is_empty = True
    for name in disk.list(directory):
        if match := _DATA_NAME.fullmatch(name):
            try:
                identity, size = _read_superblock(disk, f"{directory}/{name}")
            except NotPlain:
                is_empty = False  # who knows what was there
                continue
            is_empty = is_empty and size <= SUPERBLOCK_SIZE
            if identity is not None and identity.generation == int(match[1]):
                found.append(identity)
    if is_absent and is_empty:
        raise NoSuchVolume(f"{directory} has no manifest and no needles: its creation was interrupted")
    if len(found) != 1:
        raise ManifestCorrupt(
            f"the manifest of {directory} is {'missing' if is_absent else 'damaged'}, and {len(found)} data"
            " files could be the current one"
        )
    return found[0]


def _check_superblock(
    disk: Disk, directory: str, identity: VolumeIdentity, *, read_only: bool
) -> tuple[VolumeIdentity, list[str]]:
    """Compare the superblock with the manifest; a damaged superblock is written again.

    While a release replaces an older one, copy and switch of a compaction may be the work of both.  Then the
    two tell different formats, and the greater one is true: the file may hold what that allows.
    """
    path = data_path(directory, identity.generation)
    try:
        found, _ = _read_superblock(disk, path)
    except FileNotFoundError as error:
        raise SuperblockCorrupt(f"{path} is missing: the manifest names it as the current data") from error
    except NotPlain as error:
        raise SuperblockCorrupt(f"{path} is no data file: {error.strerror}") from error
    if found is None:
        log.error("superblock restored from the manifest", extra={"directory": directory})
        if not read_only:
            file = disk.open(path)
            try:
                write_all(file, [encode_superblock(identity)], 0)
                file.fdatasync()
            finally:
                file.close()
        return identity, ["superblock"]
    if (found.volume_id, found.uuid, found.generation) != (
        identity.volume_id,
        identity.uuid,
        identity.generation,
    ):
        raise SuperblockCorrupt(
            f"{path} is generation {found.generation} of volume {found.volume_id} ({found.uuid}); the"
            f" manifest says generation {identity.generation} of volume {identity.volume_id}"
            f" ({identity.uuid})"
        )
    return structs.replace(identity, format=max(identity.format, found.format)), []


def _read_superblock(disk: Disk, path: str) -> tuple[VolumeIdentity | None, int]:
    """What the superblock of a data file says, None when it does not check, and the size of the file."""
    file = disk.open(path, read_only=True)
    try:
        block = bytearray(SUPERBLOCK_SIZE)
        try:
            count = read_fully(file, block, 0)
            return decode_superblock(block[:count]), file.size()
        except SuperblockCorrupt:
            return None, file.size()
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return None, file.size()
    finally:
        file.close()
