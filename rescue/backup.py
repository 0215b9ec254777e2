"""Backup: catalog and keys into one file, while the store runs.

    warehouse backup FILE [--data DIR] [--json]

The catalog is copied as of one moment, through a separate connection: the master goes on writing.  The backup
holds what is nowhere else: API keys, settings of buckets and the master's secrets.  It does not hold objects;
they are in the volumes, where `rebuild` finds them again.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from warehouse.catalog.sqlite.driver import connect, file_uri, name_error
from warehouse.conf.formatting import format_count, format_size
from warehouse.errors import BackupCorrupt, BadRequest, ReadFailed
from warehouse.rescue.archive import (
    CATALOG_NAME,
    FORMAT_VERSION,
    KEY_NAMES,
    KEYS_FOLDER,
    MANIFEST_NAME,
    Manifest,
    digest_of,
    integrity_problem,
    write_archive,
)
from warehouse.rescue.console import (
    Parser,
    Progress,
    add_common_arguments,
    reading,
    require_no_stream,
    run_tool,
    writing,
)

FIRST_BYTES = MANIFEST_NAME.encode() + b"\0"  # every backup begins with the name of its first member
PAGES_AT_ONCE = 4096  # copied between two reports of progress


class BackupReport(msgspec.Struct, frozen=True):
    """What was backed up."""

    file: str
    size: int
    created_ms: int
    buckets: int
    objects: int
    bytes: int
    keys: list[str]  # names of the files with secrets in it

    def lines(self) -> Iterator[str]:
        yield f"{self.file}: {format_size(self.size)}; it holds secrets, so let nobody else read it"
        what = f"{format_count(self.buckets, 'bucket')}, {format_count(self.objects, 'object')}"
        yield f"  the catalog of {what} (their {format_size(self.bytes)} stay in the volumes)"
        yield f"  the master's keys: {', '.join(self.keys) or 'none found'}"


def back_up(path: Path, data: Path, progress: Progress) -> BackupReport:
    """Write a backup of the store in `data`.

    Raises:
        BadRequest: `path` is not a backup, so it is not replaced.
        ReadFailed: there is no catalog, or it cannot be read.
        CatalogCorrupt, BackupCorrupt: it is damaged, and a backup of it would be useless.
        DiskFull, WriteFailed: the backup cannot be written; no part of it is left.
    """
    catalog = data / "master" / CATALOG_NAME
    if not catalog.is_file():
        raise ReadFailed(f"there is no catalog {catalog}: name the store's data folder with --data")
    _require_no_other_file(path)
    with (
        writing(f"cannot write the backup {path}"),
        tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder,
    ):
        copy = Path(folder) / CATALOG_NAME
        _copy_catalog(catalog, copy, progress)
        progress.begin("checking the copy", 0)
        problem = integrity_problem(copy)
        if problem is not None:
            raise BackupCorrupt(f"the catalog {catalog} is damaged, and so would be its backup: {problem}")
        members = {CATALOG_NAME: copy}
        with reading("cannot read the master's keys"):
            for name in KEY_NAMES:
                key = data / "master" / KEYS_FOLDER / name
                if key.is_file():
                    members[f"{KEYS_FOLDER}/{name}"] = key
            digests = {name: digest_of(member) for name, member in members.items()}
            sizes = {name: member.stat().st_size for name, member in members.items()}
            manifest = _manifest_of(copy, digests, sizes)
        progress.begin("writing", 0)
        write_archive(path, manifest, members)
    return BackupReport(
        str(path),
        path.stat().st_size,
        manifest.created_ms,
        manifest.bucket_count,
        manifest.object_count,
        manifest.byte_count,
        [name.partition("/")[2] for name in members if name != CATALOG_NAME],
    )


def _require_no_other_file(path: Path) -> None:
    """Only an older backup or an empty file (as mktemp makes it) may be replaced."""
    require_no_stream(path, "backup.tar")
    if not path.parent.is_dir():
        raise BadRequest(f"there is no folder {path.parent}: make it first")
    if path.is_dir():
        raise BadRequest(f"{path} is a folder: name a file for the backup, such as {path / 'backup.tar'}")
    if not path.is_file():
        return
    with reading(f"cannot read {path}, which would be replaced"), path.open("rb") as file:
        start = file.read(len(FIRST_BYTES))
    if start and start != FIRST_BYTES:
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
    add_common_arguments(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    return run_tool(
        arguments,
        lambda progress: back_up(arguments.file, arguments.data, progress),
        audited_as="backup_made",
    )


if __name__ == "__main__":
    raise SystemExit(main())
