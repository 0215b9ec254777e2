"""Backup: catalog and keys into one file, while the store runs.

    warehouse backup FILE [--passphrase-file FILE | --key-file FILE | --unencrypted] [--data DIR] [--json]

The catalog is copied as of one moment, through a separate connection: the master goes on writing.  The backup
holds what is nowhere else: API keys, settings of buckets and the master's secrets.  It does not hold objects;
they are in the volumes, where `rebuild` finds them again.

Whoever reads the secrets owns the store, so a backup is encrypted unless somebody says otherwise.  The copy
of the catalog that it is made of lies next to the catalog meanwhile, not next to the backup: that may be a
disk or a synchronised folder that others see.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from warehouse.catalog.sqlite.driver import connect, file_uri, name_error
from warehouse.conf.files import read_small
from warehouse.conf.formatting import format_count, format_size
from warehouse.errors import BackupCorrupt, BadRequest, DiskFull, OutcomeUnknown, ReadFailed
from warehouse.rescue.archive import (
    CATALOG_NAME,
    FORMAT_VERSION,
    KEY_NAMES,
    KEY_SIZE_MAX,
    KEYS_FOLDER,
    MANIFEST_NAME,
    UNPACKED_PREFIX,
    Manifest,
    digest_of,
    integrity_problem,
    remove_leftovers,
    write_archive,
)
from warehouse.rescue.backup_keys import add_key_arguments, key_for_writing
from warehouse.rescue.console import (
    Parser,
    Progress,
    add_common_arguments,
    reading,
    require_no_stream,
    run_tool,
    writing,
)
from warehouse.rescue.encryption import MAGIC, BackupKey

FIRST_BYTES = MANIFEST_NAME.encode() + b"\0"  # of a tar file: the name of its first member
PAGES_AT_ONCE = 4096  # copied between two reports of progress
ROOM_LEFT = 64 * 1024 * 1024  # bytes, for the store that runs meanwhile
ATTEMPTS = 3  # the keys change with a rotation only, and nobody begins one every few seconds


class BackupReport(msgspec.Struct, frozen=True):
    """What was backed up."""

    file: str
    size: int
    created_ms: int
    buckets: int
    objects: int
    bytes: int
    keys: list[str]  # names of the files with secrets in it
    encrypted_with: str | None  # "passphrase", "key file"

    def lines(self) -> Iterator[str]:
        if self.encrypted_with is None:
            yield f"{self.file}: {format_size(self.size)}; its secrets are in clear: let nobody else read it"
        else:
            yield f"{self.file}: {format_size(self.size)}; only the {self.encrypted_with} opens it"
        what = f"{format_count(self.buckets, 'bucket')}, {format_count(self.objects, 'object')}"
        yield f"  the catalog of {what} (their {format_size(self.bytes)} stay in the volumes)"
        yield f"  the master's keys: {', '.join(self.keys) or 'none found'}"


def back_up(path: Path, data: Path, progress: Progress, *, key: BackupKey | None = None) -> BackupReport:
    """Write a backup of the store in `data`.

    Args:
        key: what to encrypt it with; None: it stays a tar file.
    Raises:
        BadRequest: `path` is not a backup, so it is not replaced.
        ReadFailed: there is no catalog, or it cannot be read.
        CatalogCorrupt, BackupCorrupt: it is damaged, and a backup of it would be useless.
        DiskFull, WriteFailed: the backup cannot be written; no part of it is left.
        OutcomeUnknown: the keys were changed all the time; nothing was written.
    """
    catalog = data / "master" / CATALOG_NAME
    if not catalog.is_file():
        raise ReadFailed(f"there is no catalog {catalog}: name the store's data folder with --data")
    _require_no_other_file(path)
    remove_leftovers(catalog.parent)
    _require_room(catalog)
    with (
        writing(f"cannot copy the catalog to {catalog.parent}"),
        tempfile.TemporaryDirectory(prefix=UNPACKED_PREFIX, dir=catalog.parent) as folder,
    ):
        members = _copied(catalog, Path(folder), progress)
        copy = members[CATALOG_NAME]
        progress.begin("checking the copy", 0)
        problem = integrity_problem(copy)
        if problem is not None:
            raise BackupCorrupt(f"the catalog {catalog} is damaged, and so would be its backup: {problem}")
        digests = {name: digest_of(member) for name, member in members.items()}
        sizes = {name: member.stat().st_size for name, member in members.items()}
        manifest = _manifest_of(copy, digests, sizes)
        progress.begin("writing", 0)
        write_archive(path, manifest, members, key=key)
    return BackupReport(
        str(path),
        path.stat().st_size,
        manifest.created_ms,
        manifest.bucket_count,
        manifest.object_count,
        manifest.byte_count,
        [name.partition("/")[2] for name in members if name != CATALOG_NAME],
        None if key is None else key.kind,
    )


def _require_room(catalog: Path) -> None:
    with writing(f"cannot copy the catalog to {catalog.parent}"):
        disk = os.statvfs(catalog.parent)
        needed = catalog.stat().st_size + ROOM_LEFT
    free = disk.f_bavail * disk.f_frsize
    if needed > free:
        raise DiskFull(
            f"a backup needs {format_size(needed)} in {catalog.parent} while it is made, for a copy of the"
            f" catalog; {format_size(free)} are free"
        )


def _copied(catalog: Path, folder: Path, progress: Progress) -> dict[str, Path]:
    """Copy the catalog and the keys that belong to it; the names of members, and where their copies are.

    Keys that were rotated while the catalog was copied may not be those that its secrets are sealed with.
    """
    keys = catalog.with_name(KEYS_FOLDER)
    for _ in range(ATTEMPTS):
        contents = _contents_of(keys)
        _copy_catalog(catalog, folder / CATALOG_NAME, progress)
        if contents == _contents_of(keys):
            break
        (folder / CATALOG_NAME).unlink()
    else:
        raise OutcomeUnknown(f"the keys in {keys} were changed while the catalog was copied: try again")
    members = {CATALOG_NAME: folder / CATALOG_NAME}
    for name, content in contents.items():
        members[f"{KEYS_FOLDER}/{name}"] = folder / name
        (folder / name).write_bytes(content)
    return members


def _contents_of(keys: Path) -> dict[str, bytes]:
    contents = {}
    with reading("cannot read the master's keys"):
        for name in KEY_NAMES:
            if (keys / name).is_file():
                contents[name], _ = read_small(keys / name, KEY_SIZE_MAX)
    return contents


def _require_no_other_file(path: Path) -> None:
    """Only an older backup or an empty file (as mktemp makes it) may be replaced."""
    require_no_stream(path, "warehouse.backup")
    if not path.parent.is_dir():
        raise BadRequest(f"there is no folder {path.parent}: make it first")
    if path.is_dir():
        raise BadRequest(
            f"{path} is a folder: name a file for the backup, such as {path / 'warehouse.backup'}"
        )
    if not path.is_file():
        return
    with reading(f"cannot read {path}, which would be replaced"), path.open("rb") as file:
        start = file.read(max(len(FIRST_BYTES), len(MAGIC)))
    if start and not start.startswith(FIRST_BYTES) and not start.startswith(MAGIC):
        raise BadRequest(f"{path} exists and is not a backup: move it away, or name another file")


def _copy_catalog(catalog: Path, copy: Path, progress: Progress) -> None:
    copy.touch(mode=0o600)
    try:
        with closing(connect(catalog, is_read_only=True)) as source, closing(sqlite3.connect(copy)) as target:
            # One snapshot for the whole copy: without it, every commit of the master would restart the copy.
            source.execute("BEGIN")
            source.execute("SELECT 1 FROM sqlite_master").fetchone()
            progress.begin("copying the catalog", source.execute("PRAGMA page_count").fetchone()[0])
            source.backup(
                target,
                pages=PAGES_AT_ONCE,
                progress=lambda _, remaining, total: progress.at(total - remaining),
                sleep=0,
            )
            target.execute("PRAGMA journal_mode = DELETE")  # so that the copy is one file
    except sqlite3.Error as error:
        raise name_error(catalog, error, is_write=False) from error


def _manifest_of(catalog: Path, digests: dict[str, str], sizes: dict[str, int]) -> Manifest:
    with closing(sqlite3.connect(file_uri(catalog.resolve(), "mode=ro&immutable=1"), uri=True)) as connection:
        (schema,) = connection.execute("PRAGMA user_version").fetchone()
        (stamp_max,) = connection.execute("SELECT value FROM facts WHERE name = 'stamp_max'").fetchone()
        bucket_count, object_count, byte_count = connection.execute(
            "SELECT count(*), coalesce(sum(object_count), 0), coalesce(sum(byte_count), 0)"
            " FROM buckets WHERE name IS NOT NULL"
        ).fetchone()
    return Manifest(
        format=FORMAT_VERSION,
        release=_release(),
        created_ms=time.time_ns() // 1_000_000,
        schema=schema,
        stamp_max=stamp_max,
        bucket_count=bucket_count,
        object_count=object_count,
        byte_count=byte_count,
        sha256=digests,
        sizes=sizes,
    )


def _release() -> str:
    try:
        return version("warehouse-store")
    except PackageNotFoundError:  # run from a checkout
        return "0+checkout"


def _parser() -> Parser:
    parser = Parser(
        prog="warehouse backup",
        description="Copy the catalog and the master's keys into one file, while the store runs or not.",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the backup; an older backup is replaced")
    add_key_arguments(parser)
    parser.add_argument(
        "--unencrypted", action="store_true", help="write the store's secrets in clear, as a plain tar file"
    )
    add_common_arguments(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    return run_tool(
        arguments,
        lambda progress: back_up(arguments.file, arguments.data, progress, key=key_for_writing(arguments)),
        audited_as="backup_made",
    )


if __name__ == "__main__":
    raise SystemExit(main())
