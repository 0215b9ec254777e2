"""Restore: catalog and keys from a backup.

    warehouse restore FILE [--passphrase-file FILE | --key-file FILE] [--data DIR] [--disk PATH]... [--exact]

The store must not run.  The backup is checked to its last byte before anything changes.  Existing files are
moved aside and never deleted.

A backup is usually older than the volumes, so everything put since then would look like garbage.  When the
volumes hold anything that the backup does not know, the restore therefore goes on as a rebuild with the API
keys of the backup, and nothing is lost.  With --exact, and when disks are missing, the catalog stays that of
the backup; then what it does not know is kept until a rebuild.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from warehouse.catalog.sqlite.catalog import SqliteCatalog
from warehouse.catalog.sqlite.driver import connect, name_error
from warehouse.catalog.sqlite.plausibility import drop_content_types, row_problem
from warehouse.catalog.sqlite.salvage import SalvagedCatalog, salvage_catalog
from warehouse.conf.formatting import format_count
from warehouse.errors import BackupCorrupt, StoreError
from warehouse.rescue.archive import (
    CATALOG_NAME,
    KEYS_FOLDER,
    Backup,
    opened_backup,
    schema_problem,
    sync_folder,
)
from warehouse.rescue.backup_keys import add_key_arguments, key_for_reading
from warehouse.rescue.console import (
    Parser,
    Progress,
    add_common_arguments,
    add_disk_argument,
    run_tool,
    writing,
)
from warehouse.rescue.encryption import BackupKey
from warehouse.rescue.rebuild import (
    KEEP_ORPHANS_META,
    NEEDLE_IDS_SKIPPED,
    VOLUME_IDS_SKIPPED,
    Options,
    RebuildReport,
    catalog_held,
    last_bucket_id,
    missing_disks,
    move_aside,
    rebuild_held,
    volumes_on,
)
from warehouse.rescue.survey import HeldDisk, disk_folders, hold_disks
from warehouse.storage.files import index_path, load_volume_identity, volume_directory
from warehouse.storage.format.needle import NEEDLE_ID_MAX
from warehouse.storage.volume import Volume
from warehouse.transport.http.header_text import is_content_type

IDS_AT_ONCE = 1 << 20  # needles compared in one go


class RestoreReport(msgspec.Struct, kw_only=True):
    """What a restore did."""

    catalog: str
    backup: str
    created_ms: int  # of the backup
    api_keys: int
    keys: list[str]  # names of the restored files with the master's secrets
    moved_aside: list[str]
    missing: list[str] = []  # volumes that the backup knows
    keeps_orphans: bool = False
    rebuild: RebuildReport | None = None

    def lines(self) -> Iterator[str]:
        made = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.created_ms / 1000))
        yield f"{self.catalog}: restored from {self.backup} of {made}"
        keys = ", ".join(self.keys) or "none"
        yield f"  {format_count(self.api_keys, 'API key')}, the master's keys: {keys}"
        for path in self.moved_aside:
            yield f"  the old files are now {path}"
        for name in self.missing:
            yield f"  missing: {name}"
        if self.rebuild is not None:
            yield "The volumes hold more than the backup knows, so a new catalog was made from them:"
            yield from self.rebuild.lines()
        elif self.keeps_orphans:
            yield "Objects put since the backup are invisible now, but kept in the volumes."
            yield "`warehouse rebuild --replace` brings them back."


def restore(
    file: Path,
    data: Path,
    progress: Progress,
    *,
    disks: Sequence[Path] = (),
    is_exact: bool = False,
    key: BackupKey | None = None,
) -> RestoreReport:
    """Put a backup in place of the catalog and keys of a store.

    Args:
        key: what opens the backup; None: it is not encrypted.
    Raises:
        BackupKeyWrong: the key does not open this backup; nothing was changed.
        BackupCorrupt, FormatUnsupported, SchemaNewer: this backup cannot be used; nothing was changed.
        DiskInUse: an actor of the store runs; nothing was changed.
        DiskFull, WriteFailed: the message says what was changed.
    """
    master = data / "master"
    with writing(f"cannot make the folder {master}"):
        master.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = master / CATALOG_NAME
    with catalog_held(path), opened_backup(file, master, key=key) as backup:
        _check_plausible(backup.catalog)
        known = salvage_catalog(backup.catalog)
        with hold_disks(disk_folders(data, disks)) as held:
            missing = missing_disks(held, known)
            keeps_orphans = is_exact or bool(missing)
            progress.begin("comparing with the volumes", 0)
            is_rebuild = not keeps_orphans and not _knows_everything(backup.catalog, held, known)
            # Also before a rebuild: if the rebuild is interrupted, a start must not take new objects for
            # garbage.
            _prepare(backup.catalog, known, held, keeps_orphans=keeps_orphans or is_rebuild)
        report = RestoreReport(
            catalog=str(path),
            backup=str(file),
            created_ms=backup.manifest.created_ms,
            api_keys=len(known.api_keys),
            keys=sorted(key.name for key in backup.keys.glob("*")),
            moved_aside=_put_in_place(backup, path),
            missing=missing,
            keeps_orphans=keeps_orphans,
        )
        if is_rebuild:
            options = Options(data=data, disks=tuple(disks), replace=True)
            report.rebuild = rebuild_held(options, progress, backup=known)
            report.keeps_orphans = report.rebuild.keeps_orphans
    return report


def _knows_everything(catalog: Path, disks: Sequence[HeldDisk], known: SalvagedCatalog) -> bool:
    """Does the catalog name exactly the needles that live in the volumes?

    Reads the indexes, and scans the volumes from the indexes' checkpoints on.
    """
    store = SqliteCatalog.open(catalog)
    try:
        return all(_is_known(store, disk, volume_id, known) for disk, volume_id in volumes_on(disks))
    finally:
        store.close()


def _is_known(store: SqliteCatalog, disk: HeldDisk, volume_id: int, known: SalvagedCatalog) -> bool:
    directory = volume_directory(volume_id)
    try:
        identity, _ = load_volume_identity(disk.disk, directory, read_only=True)
        if not disk.disk.exists(index_path(directory, identity.generation)):
            return False  # everything would have to be scanned, which a rebuild does better
        volume = Volume.open(disk.disk, directory, read_only=True)
    except (StoreError, OSError):
        return False
    try:
        stats = volume.stats()
        if stats.stamp_max > known.stamp_max or volume.damages():
            return False
        for first_id in range(1, stats.needle_id_max + 1, IDS_AT_ONCE):
            lives = volume.live_bitmap(first_id, IDS_AT_ONCE)
            if lives.rstrip(b"\0") != store.row_bitmap(volume_id, first_id, IDS_AT_ONCE).rstrip(b"\0"):
                return False
        return True
    finally:
        volume.close()


def _prepare(
    catalog: Path, known: SalvagedCatalog, disks: Sequence[HeldDisk], *, keeps_orphans: bool
) -> None:
    """Make the catalog of a backup ready for use: it gives out no id of the lost catalog again."""
    store = SqliteCatalog.open(catalog)  # also brings it up to date
    try:
        with store.transaction() as transaction:
            transaction.set_meta(KEEP_ORPHANS_META, int(keeps_orphans))
            # The disks are ahead of this catalog.  That is expected, and no reason to refuse any of them.
            transaction.begin_lineage()
            epochs = {row.id: (row.epoch, row.mark) for row in store.disks()}
            for disk in disks:
                if disk.disk_id in epochs:
                    transaction.set_disk_epoch(
                        disk.disk_id, epochs[disk.disk_id], disk.epoch, catalog_id=disk.catalog_id
                    )
            transaction.skip_ids(
                buckets_to=last_bucket_id(known.bucket_id_max, time.time_ns() // 1_000_000),
                volumes=VOLUME_IDS_SKIPPED if keeps_orphans else 0,
            )
            for volume in store.volumes():
                transaction.reserve_needle_ids(
                    volume.id, min(volume.needle_id_reserved + NEEDLE_IDS_SKIPPED, NEEDLE_ID_MAX)
                )
    finally:
        store.close()


def _check_plausible(catalog: Path) -> None:
    """Bring the catalog of a backup up to date, and refuse rows that the store refuses from clients.

    Raises:
        BackupCorrupt: no store can have written it.
    """
    SqliteCatalog.open(catalog).close()
    if (problem := schema_problem(catalog)) is not None:
        raise BackupCorrupt(f"the catalog of the backup cannot be brought up to date: {problem}")
    try:
        with closing(connect(catalog)) as connection:
            problem = row_problem(connection)
            if problem is None:
                drop_content_types(connection, is_content_type)
    except sqlite3.Error as error:
        raise name_error(catalog, error, is_write=True) from error
    if problem is not None:
        raise BackupCorrupt(
            f"no store can have written the catalog of the backup: {problem}. To make a catalog from the"
            " volumes with the API keys of the backup, run `warehouse rebuild --backup FILE`"
        )


def _put_in_place(backup: Backup, path: Path) -> list[str]:
    """Replace catalog and keys; return the new names of the old ones."""
    moved = []
    keys = path.with_name(KEYS_FOLDER)
    with writing(f"cannot put the backup in place of {path}; the old files are in the same folder"):
        if backup.keys.is_dir():
            if keys.exists():
                moved.append(str(move_aside([keys], "before-restore")))
            os.rename(backup.keys, keys)
        aside = move_aside([path], "before-restore")
        if os.path.lexists(aside):
            moved.append(str(aside))
        os.rename(backup.catalog, path)
        sync_folder(path.parent)
    return moved


def _parser() -> Parser:
    parser = Parser(
        prog="warehouse restore",
        description="Put a backup in place of the catalog and the master's keys.  The store must not run.",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="a file that `warehouse backup` has written")
    add_key_arguments(parser)
    add_disk_argument(parser)
    parser.add_argument(
        "--exact",
        action="store_true",
        help="restore the catalog as it was; objects put since then are invisible, but kept",
    )
    add_common_arguments(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    return run_tool(
        arguments,
        lambda progress: restore(
            arguments.file,
            arguments.data,
            progress,
            disks=arguments.disk,
            is_exact=arguments.exact,
            key=key_for_reading(arguments, arguments.file),
        ),
        audited_as="store_restored",
    )


if __name__ == "__main__":
    raise SystemExit(main())
