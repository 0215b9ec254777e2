"""Archive: a backup is one tar file with what only the master knows.

    manifest.json      what this is, and size and SHA-256 of every other member
    catalog.sqlite3    the catalog, as of one moment
    keys/...           the master's secrets, by their fixed names

It holds secrets, so as a rule it is encrypted (`encryption.py`); any `tar` opens one that is not.  It is
written whole or not at all, with mode 0600.  Its reader does not trust it: members have names from a fixed
list, each once, and are plain files (`tar_members.py`); all of it is checked before a byte is unpacked; the
catalog must have our schema, statement by statement.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Final, cast

import msgspec

from warehouse.catalog.sqlite.driver import file_uri
from warehouse.catalog.sqlite.schema import differences, version_of
from warehouse.errors import (
    BackupCorrupt,
    BackupKeyWrong,
    CatalogCorrupt,
    DiskFull,
    FormatUnsupported,
    ReadFailed,
)
from warehouse.rescue.console import writing
from warehouse.rescue.encryption import BackupKey, PlainSource, SealedSource, SealedWriter, Source
from warehouse.rescue.tar_members import Member, plain_members
from warehouse.storage.beneath import Folder
from warehouse.storage.disk import OsDisk

FORMAT_VERSION: Final = 1
MANIFEST_NAME: Final = "manifest.json"
CATALOG_NAME: Final = "catalog.sqlite3"
KEYS_FOLDER: Final = "keys"
KEY_NAMES: Final = (
    *("access.pem", "authority.key", "curve.key", "data.json"),
    *("join.secret", "keyring.json", "rotation.json", "seal.json"),
)
MANIFEST_SIZE_MAX: Final = 1024 * 1024
KEY_SIZE_MAX: Final = 64 * 1024
TIME_MS_MAX: Final = 1 << 48  # the year 10889
# Everything that a backup may hold, and the largest sizes.
SIZES_MAX: Final = {
    CATALOG_NAME: 1 << 44,  # the limit of an SQLite file with 4 KiB pages
    **{f"{KEYS_FOLDER}/{name}": KEY_SIZE_MAX for name in KEY_NAMES},
}
COPY_SIZE: Final = 1024 * 1024
UNPACKED_PREFIX: Final = ".backup-"  # of folders that last as long as a tool runs
LEFTOVER_S: Final = 24 * 3600.0  # no tool runs longer


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup says about itself."""

    format: int
    release: str  # the release that wrote it
    created_ms: int
    schema: int  # of the catalog
    stamp_max: int  # the catalog knows every change up to this stamp
    bucket_count: int
    object_count: int
    byte_count: int
    sha256: dict[str, str]  # member -> hex digest
    sizes: dict[str, int] = {}  # member -> bytes; releases up to 0.1.0 did not write them


class Backup(msgspec.Struct, frozen=True):
    """A backup that was checked and unpacked into a folder."""

    manifest: Manifest
    folder: Path

    @property
    def catalog(self) -> Path:
        return self.folder / CATALOG_NAME

    @property
    def keys(self) -> Path:
        return self.folder / KEYS_FOLDER


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_archive(
    path: Path, manifest: Manifest, members: Mapping[str, Path], *, key: BackupKey | None = None
) -> None:
    """Write a backup, whole or not at all; when this returns it survives a power cut.

    Args:
        key: what to encrypt it with; None: it stays a tar file.
    Raises:
        DiskFull, WriteFailed: nothing new is left, and an older file at `path` is untouched.
    """
    with writing(f"cannot write the backup {path}"):
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
        try:
            with open(descriptor, "wb") as file:
                if key is None:
                    _write_tar(file, manifest, members)
                else:
                    sealed = SealedWriter(file, key)
                    _write_tar(cast("IO[bytes]", sealed), manifest, members)  # needs write and tell alone
                    sealed.finish()
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def _write_tar(file: IO[bytes], manifest: Manifest, members: Mapping[str, Path]) -> None:
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        encoded = msgspec.json.format(msgspec.json.encode(manifest)) + b"\n"
        tar.addfile(_entry(MANIFEST_NAME, len(encoded), manifest.created_ms), io.BytesIO(encoded))
        for name, source in members.items():
            with source.open("rb") as content:
                size = source.stat().st_size
                tar.addfile(_entry(name, size, manifest.created_ms), content)


def _entry(name: str, size: int, created_ms: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size = size
    entry.mode = 0o600
    entry.mtime = created_ms // 1000
    return entry


def sync_folder(folder: Path) -> None:
    OsDisk(folder).sync_directory("")


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed tool has left in `folder`: a catalog and the store's secrets, in clear."""
    for path in folder.glob(f"{UNPACKED_PREFIX}*"):
        with suppress(OSError):
            if time.time() - path.lstat().st_mtime > LEFTOVER_S:
                shutil.rmtree(path)


@contextmanager
def opened_backup(path: Path, folder: Path, *, key: BackupKey | None = None) -> Iterator[Backup]:
    """Check all of a backup and unpack it below `folder`; the block removes the unpacked files at its end.

    Args:
        key: what opens it; None: it is not encrypted.
    Raises:
        BackupKeyWrong: it was encrypted with something else.
        BackupCorrupt: it is not a backup, or not whole.
        FormatUnsupported: a later release wrote it.
        ReadFailed: the file cannot be read.
        DiskFull, WriteFailed: it cannot be unpacked.
    """
    if not path.is_file():
        raise ReadFailed(f"there is no backup {path}")
    with _reading(path, key) as archive:
        manifest, members = _listed_members(path, archive)
        _require_room(path, members, folder)  # before reading on: no more is read than there is room for
        _check_digests(path, archive, manifest, members)
        with writing(f"cannot unpack {path} in {folder}"):
            remove_leftovers(folder)
            unpacked = Path(tempfile.mkdtemp(prefix=UNPACKED_PREFIX, dir=folder))
        try:
            _unpack(path, archive, members, manifest, unpacked)
            _check_catalog(path, unpacked / CATALOG_NAME)
            yield Backup(manifest, unpacked)
        finally:
            shutil.rmtree(unpacked, ignore_errors=True)


@contextmanager
def _reading(path: Path, key: BackupKey | None) -> Iterator[Source]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ReadFailed(f"cannot read the backup {path}: {error.strerror}") from error
    try:
        with _named(path):
            archive = PlainSource(descriptor) if key is None else SealedSource(descriptor, key)
        yield archive
    finally:
        os.close(descriptor)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors about the content of a backup say which file it is."""
    try:
        yield
    except (BackupKeyWrong, FormatUnsupported) as error:
        raise type(error)(f"{path}: {error.message}") from error
    except BackupCorrupt as error:
        raise BackupCorrupt(f"{path} is not a valid backup: {error.message}") from error
    except OSError as error:
        raise ReadFailed(f"cannot read the backup {path}: {error}") from error


def _listed_members(path: Path, archive: Source) -> tuple[Manifest, list[Member]]:
    """The manifest and the members that are there; the content of the members was not read yet."""
    manifest: Manifest | None = None
    members: list[Member] = []
    with _named(path):
        for member in plain_members(archive):
            if manifest is None:
                if member.name != MANIFEST_NAME or member.size > MANIFEST_SIZE_MAX:
                    raise BackupCorrupt(f"it does not begin with {MANIFEST_NAME}")
                manifest = _read_manifest(archive.read_at(member.size, member.offset))
                continue
            _check_member(member, manifest, members)
            members.append(member)
    missing = set(manifest.sha256 if manifest else (MANIFEST_NAME,)) - {member.name for member in members}
    if missing or manifest is None:
        raise BackupCorrupt(f"{path} lacks {', '.join(sorted(missing))}: it was cut off")
    return manifest, members


def _check_digests(path: Path, archive: Source, manifest: Manifest, members: Sequence[Member]) -> None:
    """Read all of a backup; nothing is written yet."""
    with _named(path):
        for member in members:
            digest = hashlib.sha256()
            for piece in _content(archive, member):
                digest.update(piece)
            if digest.hexdigest() != manifest.sha256[member.name]:
                raise BackupCorrupt(f"{member.name} is damaged or was changed: its SHA-256 differs")


def _require_room(path: Path, members: Sequence[Member], folder: Path) -> None:
    with writing(f"cannot unpack {path} in {folder}"):
        disk = os.statvfs(folder)
    free, needed = disk.f_bavail * disk.f_frsize, sum(member.size for member in members)
    if needed > free:
        raise DiskFull(f"unpacking {path} takes {needed} bytes in {folder}, and only {free} are free")


def _check_member(member: Member, manifest: Manifest, before: Sequence[Member]) -> None:
    name, size = member.name, member.size
    if name not in manifest.sha256 or name not in SIZES_MAX:
        raise BackupCorrupt(
            f"it holds {name!r}, which its manifest does not name, or which is not part of any backup"
        )
    if any(member.name == name for member in before):
        raise BackupCorrupt(f"it holds {name} twice")
    if size > SIZES_MAX[name]:
        raise BackupCorrupt(f"{name} has {size} bytes; at most {SIZES_MAX[name]} are allowed")
    if size != (expected := manifest.sizes.get(name, size)):
        raise BackupCorrupt(f"{name} has {size} bytes; expected {expected}")


def _content(archive: Source, member: Member) -> Iterator[bytes]:
    """The content of a member, piece by piece."""
    at, end = member.offset, member.offset + member.size
    while at < end:
        piece = archive.read_at(min(COPY_SIZE, end - at), at)
        if not piece:
            raise BackupCorrupt(f"{member.name} was cut off")
        yield piece
        at += len(piece)


def _unpack(path: Path, archive: Source, members: Sequence[Member], manifest: Manifest, folder: Path) -> None:
    with writing(f"cannot unpack {path} in {folder}"), Folder(folder, folder_mode=0o700) as target:
        for member in members:
            digest = hashlib.sha256()
            with target.parent(member.name, create=True):
                pass
            with os.fdopen(target.make(member.name, 0o600), "wb") as file:
                for piece in _content(archive, member):
                    digest.update(piece)
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            if digest.hexdigest() != manifest.sha256[member.name]:
                raise BackupCorrupt(f"{path} was changed while it was read; try again")


def _read_manifest(content: bytes) -> Manifest:
    try:
        version = msgspec.json.decode(content, type=dict[str, msgspec.Raw]).get("format")
        if version is not None and msgspec.json.decode(version, type=int) > FORMAT_VERSION:
            raise FormatUnsupported(
                f"the backup has format {bytes(version).decode()}; this release knows up to {FORMAT_VERSION}"
            )
        manifest = msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BackupCorrupt(f"its manifest cannot be read: {error}") from error
    if CATALOG_NAME not in manifest.sha256:
        raise BackupCorrupt("it has no catalog")
    if not 0 <= manifest.created_ms <= TIME_MS_MAX:
        raise BackupCorrupt(f"it says it was made at {manifest.created_ms} ms, which is impossible")
    return manifest


def _check_catalog(path: Path, catalog: Path) -> None:
    # The schema first: checking a foreign schema could run its statements.
    problem = schema_problem(catalog) or integrity_problem(catalog)
    if problem is not None:
        raise BackupCorrupt(f"the catalog in {path} is damaged: {problem}")


def schema_problem(catalog: Path) -> str | None:
    """How a catalog's schema differs from ours (it may have a trigger, for example); None: it does not."""
    try:
        with closing(_opened(catalog)) as connection:
            version = version_of(connection, catalog)
            strangers = differences(connection, version)
    except CatalogCorrupt as error:
        return error.message
    except sqlite3.Error as error:
        return str(error)
    return f"its schema is not that of a store: {'; '.join(strangers[:10])}" if strangers else None


def _opened(catalog: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file_uri(catalog.resolve(), "mode=ro&immutable=1"), uri=True)
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def integrity_problem(catalog: Path) -> str | None:
    """What SQLite's own check finds wrong; None: nothing.  Reads all of the file."""
    try:
        with closing(_opened(catalog)) as connection:
            (finding,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            return None if finding == "ok" else str(finding)
    except sqlite3.Error as error:
        return str(error)
