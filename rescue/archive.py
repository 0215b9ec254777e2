"""Archive: a backup is one tar file with what only the master knows.

    manifest.json      what this is, and the SHA-256 of every other member
    catalog.sqlite3    the catalog, as of one moment
    keys/...           the master's secrets

Any `tar` opens it.  It is written whole or not at all, with mode 0600, because it holds secrets; and it is
checked to the last byte before anything of it is used.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Final

import msgspec

from errors import BackupCorrupt, FormatUnsupported, ReadFailed
from rescue.console import writing
from storage.disk import OsDisk

FORMAT_VERSION: Final = 1
MANIFEST_NAME: Final = "manifest.json"
CATALOG_NAME: Final = "catalog.sqlite3"
KEYS_FOLDER: Final = "keys"
MANIFEST_SIZE_MAX: Final = 1024 * 1024
COPY_SIZE: Final = 1024 * 1024


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup says of itself."""

    format: int
    release: str  # that wrote it
    created_ms: int
    schema: int  # of the catalog
    stamp_max: int  # the catalog knows everything up to here
    bucket_count: int
    object_count: int
    byte_count: int
    sha256: dict[str, str]  # member -> hex digest


class Backup(msgspec.Struct, frozen=True):
    """A backup that was checked, unpacked into a folder."""

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


def write_archive(path: Path, manifest: Manifest, members: Mapping[str, Path]) -> None:
    """Write a backup, whole or not at all; when this returns it survives a power cut.

    Raises:
        DiskFull, WriteFailed: nothing was left behind, and a file that was there before still is.
    """
    with writing(f"cannot write the backup {path}"):
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
        try:
            with open(descriptor, "wb") as file:
                with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
                    encoded = msgspec.json.format(msgspec.json.encode(manifest)) + b"\n"
                    tar.addfile(_entry(MANIFEST_NAME, len(encoded), manifest.created_ms), io.BytesIO(encoded))
                    for name, source in members.items():
                        with source.open("rb") as content:
                            size = source.stat().st_size
                            tar.addfile(_entry(name, size, manifest.created_ms), content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def _entry(name: str, size: int, created_ms: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size = size
    entry.mode = 0o600
    entry.mtime = created_ms // 1000
    return entry


def sync_folder(folder: Path) -> None:
    OsDisk(folder).sync_directory("")


@contextmanager
def opened_backup(path: Path, folder: Path) -> Iterator[Backup]:
    """Unpack a backup below `folder` and check all of it; what is unpacked is gone after the block.

    Raises:
        BackupCorrupt: it is no backup, or not a whole one.
        FormatUnsupported: a later release wrote it.
        ReadFailed: the file cannot be read.
        DiskFull, WriteFailed: it cannot be unpacked.
    """
    if not path.is_file():
        raise ReadFailed(f"there is no backup {path}")
    with writing(f"cannot unpack {path} in {folder}"):
        unpacked = Path(tempfile.mkdtemp(prefix=".backup-", dir=folder))
    try:
        manifest = _unpack(path, unpacked)
        _check_catalog(path, unpacked / CATALOG_NAME)
        yield Backup(manifest, unpacked)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


def _unpack(path: Path, folder: Path) -> Manifest:
    try:
        with tarfile.open(path, mode="r:") as tar:
            first = tar.next()
            if first is None or first.name != MANIFEST_NAME or first.size > MANIFEST_SIZE_MAX:
                raise BackupCorrupt(f"{path} is not a backup: it does not begin with {MANIFEST_NAME}")
            manifest = _read_manifest(path, _content(tar, first).read(MANIFEST_SIZE_MAX))
            missing = set(manifest.sha256)
            while (entry := tar.next()) is not None:
                if entry.name not in missing or not _is_member(entry):
                    raise BackupCorrupt(f"{path} holds {entry.name!r}, which its manifest does not name")
                target = folder / entry.name
                with writing(f"cannot unpack {path}"):
                    target.parent.mkdir(mode=0o700, exist_ok=True)
                    _copy_checked(path, _content(tar, entry), target, manifest.sha256[entry.name])
                missing.discard(entry.name)
    except (tarfile.TarError, EOFError) as error:
        raise BackupCorrupt(f"{path} is not a whole tar file: {error}") from error
    except OSError as error:
        raise ReadFailed(f"cannot read the backup {path}: {error}") from error
    if missing:
        raise BackupCorrupt(f"{path} lacks {', '.join(sorted(missing))}: it was cut off")
    return manifest


def _is_member(entry: tarfile.TarInfo) -> bool:
    """A plain file in one of the places that a backup has; nothing that could lead out of its folder."""
    name = entry.name.removeprefix(f"{KEYS_FOLDER}/")
    return entry.isreg() and "/" not in name and name not in ("", ".", "..")


def _content(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(entry)
    if content is None:
        raise BackupCorrupt(f"{entry.name} of the backup is not a file")
    return content


def _copy_checked(path: Path, content: IO[bytes], target: Path, wanted: str) -> None:
    digest = hashlib.sha256()
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        while piece := content.read(COPY_SIZE):
            digest.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    if digest.hexdigest() != wanted:
        raise BackupCorrupt(f"{target.name} in {path} is not what was written: its SHA-256 differs")


def _read_manifest(path: Path, content: bytes) -> Manifest:
    try:
        version = msgspec.json.decode(content, type=dict[str, msgspec.Raw]).get("format")
        if version is not None and msgspec.json.decode(version, type=int) > FORMAT_VERSION:
            raise FormatUnsupported(
                f"{path} has format {bytes(version).decode()}; this release knows up to {FORMAT_VERSION}"
            )
        manifest = msgspec.json.decode(content, type=Manifest)
    except msgspec.DecodeError as error:
        raise BackupCorrupt(f"the manifest of {path} cannot be read: {error}") from error
    if CATALOG_NAME not in manifest.sha256:
        raise BackupCorrupt(f"{path} has no catalog")
    return manifest


def _check_catalog(path: Path, catalog: Path) -> None:
    problem = integrity_problem(catalog)
    if problem is not None:
        raise BackupCorrupt(f"the catalog in {path} is damaged: {problem}")


def integrity_problem(catalog: Path) -> str | None:
    """What SQLite's own check finds wrong, None for nothing.  Reads all of the file."""
    try:
        with closing(
            sqlite3.connect(f"file:{catalog.resolve()}?mode=ro&immutable=1", uri=True)
        ) as connection:
            (finding,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            return None if finding == "ok" else str(finding)
    except sqlite3.Error as error:
        return str(error)
