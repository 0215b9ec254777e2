"""Salvage: what a catalog file still tells that nothing else does.

Disks and volumes can be found again; API keys cannot.  The file may be a backup, or a damaged catalog whose
objects cannot be read any more: each table is read separately, and the file is never changed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from warehouse.catalog.identities import AccountRow, ApiKeyRow, check_account_name
from warehouse.catalog.nodes import NodeRow
from warehouse.catalog.records import DiskRow, VolumeRow
from warehouse.catalog.sqlite.bookkeeping import WAS_COMMITTED
from warehouse.catalog.sqlite.bulk_load import BucketSettings
from warehouse.catalog.sqlite.columns import (
    ACCOUNT_COLUMNS,
    NODE_COLUMNS,
    VOLUME_COLUMNS,
    VOLUME_COLUMNS_1,
    volume_rows,
)
from warehouse.catalog.sqlite.driver import corrupt, file_uri, name_error
from warehouse.catalog.sqlite.key_columns import API_KEY_COLUMNS, API_KEY_COLUMNS_3, api_key_row
from warehouse.catalog.sqlite.plausibility import ID32_MAX, NUMBERS, SEQUENCES_MAX, WHOLE_MAX, are_configs
from warehouse.catalog.sqlite.schema import differences, know_legacy_grants, version_of
from warehouse.errors import BadRequest, ReadFailed

T = TypeVar("T")

_READ_HERE = frozenset(
    (
        *("disks", "volumes", "copies", "api_keys", "facts", "outbox", "accounts", "buckets", "nodes"),
        "revocations",
    )
)


class SalvagedCatalog(msgspec.Struct, frozen=True):
    disks: list[DiskRow]
    volumes: list[VolumeRow]
    api_keys: list[ApiKeyRow]
    accounts: list[AccountRow]
    nodes: list[NodeRow]
    revocations: list[tuple[str, int, int]]  # API key id, epoch, and when, milliseconds since 1970
    bucket_settings: dict[int, BucketSettings]  # by bucket id
    bucket_configs: dict[int, dict[str, bytes]]  # likewise
    bucket_id_max: int  # the greatest that was ever given out, like the next one
    volume_id_max: int
    stamp_max: int
    problems: list[str]  # what could not be read, as sentences; its list is empty, its number 0


def salvage_catalog(path: Path) -> SalvagedCatalog:
    """Read an existing catalog, of this release or an older one; no other process may be writing it.

    Raises:
        CatalogCorrupt: this is not a catalog, or so damaged that nothing can be read.
        SchemaNewer: a later release wrote it.
        ReadFailed: it does not exist, or cannot be read.
    """
    if not path.is_file():
        raise ReadFailed(f"there is no catalog {path}")
    with _opened(path) as connection:
        version = version_of(connection, path)
        if strangers := differences(connection, version, tables=_READ_HERE):
            raise corrupt(path, "; ".join(strangers))
        tables = _Tables(connection, path, version)
        return SalvagedCatalog(
            disks=tables.read("disks", tables.disks, []),
            volumes=tables.read("volumes", tables.volumes, []),
            api_keys=tables.read("API keys", tables.api_keys, []),
            accounts=tables.read("accounts", tables.accounts, []),
            nodes=tables.read("nodes", tables.nodes, []),
            revocations=tables.read("revocations of API keys", tables.revocations, []),
            bucket_settings=tables.read("owners and quotas of buckets", tables.bucket_settings, {}),
            bucket_configs=tables.read("configurations of buckets", tables.bucket_configs, {}),
            bucket_id_max=tables.read("bucket ids", lambda: tables.last_id("buckets"), 0),
            volume_id_max=tables.read("volume ids", lambda: tables.last_id("volumes"), 0),
            stamp_max=tables.read("stamps", tables.stamp_max, 0),
            problems=tables.problems,
        )


class _Tables:
    """The tables of a file that may be damaged, each read separately."""

    def __init__(self, connection: sqlite3.Connection, path: Path, version: int) -> None:
        self._connection = connection
        self._path = path
        self._version = version
        self.problems: list[str] = []

    def read(self, what: str, work: Callable[[], T], otherwise: T) -> T:
        """What `work` reads; if it cannot, a problem is noted and the answer is `otherwise`."""
        try:
            return work()
        except (sqlite3.Error, msgspec.MsgspecError, ValueError) as error:
            self.problems.append(f"the {what} in {self._path} cannot be read: {error}")
            return otherwise

    def disks(self) -> list[DiskRow]:
        return [DiskRow(*row) for row in self._rows("SELECT id, name, added_ms FROM disks ORDER BY id")]

    def volumes(self) -> list[VolumeRow]:
        columns = VOLUME_COLUMNS if self._version > 1 else VOLUME_COLUMNS_1
        return volume_rows(
            self._rows(f"SELECT {columns} FROM volumes ORDER BY id"),
            self._rows("SELECT volume_id, disk_id FROM copies ORDER BY volume_id, disk_id"),
        )

    def api_keys(self) -> list[ApiKeyRow]:
        keys = []
        for row in self._rows(self._api_keys_sql()):
            try:
                keys.append(_admitted_key(row))
            except (msgspec.MsgspecError, ValueError, TypeError, BadRequest) as error:
                self.problems.append(f"the API key {row[0]!r:.100} in {self._path} is left out: {error}")
        return keys

    def _api_keys_sql(self) -> str:
        if self._version >= 4:
            return f"SELECT {API_KEY_COLUMNS} FROM api_keys ORDER BY id"
        know_legacy_grants(self._connection)
        return (
            f"SELECT {API_KEY_COLUMNS_3} FROM api_keys, (SELECT group_concat(id || ':' || name) AS bucket_ids"
            " FROM buckets WHERE name IS NOT NULL) ORDER BY id"
        )

    def accounts(self) -> list[AccountRow]:
        if self._version < 4:
            return []
        accounts = []
        for row in self._rows(f"SELECT {ACCOUNT_COLUMNS} FROM accounts ORDER BY id"):
            try:
                check_account_name(row[1])
                accounts.append(AccountRow(*row))
            except BadRequest as error:
                self.problems.append(f"the account {row[0]!r:.100} in {self._path} is left out: {error}")
        return accounts

    def revocations(self) -> list[tuple[str, int, int]]:
        """What API keys signed before they lost rights: disks would honour it again, if this were lost."""
        if self._version < 4:
            return []
        (least, most), (first_ms, last_ms) = (NUMBERS["revocations"][name] for name in ("epoch", "at_ms"))
        return [
            (key_id, epoch, at_ms)
            for key_id, epoch, at_ms in self._rows("SELECT key_id, epoch, at_ms FROM revocations")
            if least <= epoch <= most and first_ms <= at_ms <= last_ms
        ]

    def nodes(self) -> list[NodeRow]:
        if self._version < 4:
            return []
        rows = self._rows(f"SELECT {NODE_COLUMNS} FROM nodes ORDER BY key")
        return [NodeRow(*row) for row in rows]

    def bucket_settings(self) -> dict[int, BucketSettings]:
        if self._version < 4:
            return {}
        more = "region, is_lock_enabled, config_epoch" if self._version >= 5 else "'', 0, 0"
        rows = self._rows(f"SELECT id, owner_id, quota_bytes, quota_objects, {more} FROM buckets")
        return {
            bucket_id: BucketSettings(
                owner_id,
                _admitted_quota(quota_bytes),
                _admitted_quota(quota_objects),
                region,
                bool(is_lock),
                epoch if 0 <= epoch <= WHOLE_MAX else 0,
            )
            for bucket_id, owner_id, quota_bytes, quota_objects, region, is_lock, epoch in rows
        }

    def bucket_configs(self) -> dict[int, dict[str, bytes]]:
        """The documents of each bucket, by kind; those that no honest master has written are left out."""
        if self._version < 5:
            return {}
        found: dict[int, dict[str, bytes]] = {}
        for bucket_id, kind, document in self._rows(
            "SELECT bucket_id, kind, document FROM bucket_configs ORDER BY bucket_id, kind"
        ):
            found.setdefault(bucket_id, {})[kind] = document
        return {bucket_id: configs for bucket_id, configs in found.items() if are_configs(configs)}

    def last_id(self, table: str) -> int:
        """The greatest id that a table has ever given out."""
        found = self._rows(f"SELECT seq FROM sqlite_sequence WHERE name = '{table}'")
        number = found[0][0] if found else 0
        if type(number) is not int or not 0 <= number <= SEQUENCES_MAX[table]:
            raise ValueError(f"the last one is {number!r:.100}, which is impossible")
        return number

    def stamp_max(self) -> int:
        found = self._rows("SELECT value FROM facts WHERE name = 'stamp_max'")
        if not found:
            raise ValueError("the greatest one is missing")
        return int(found[0][0])

    def _rows(self, sql: str) -> list[Any]:
        return self._connection.execute(sql).fetchall()


def _admitted_quota(quota: int | None) -> int | None:
    return quota if quota is not None and 0 <= quota <= WHOLE_MAX else None


def _admitted_key(columns: tuple[Any, ...]) -> ApiKeyRow:
    """
    Raises:
        ValueError, BadRequest, msgspec.MsgspecError: no honest master has written it.
    """
    numbers = dict(zip(API_KEY_COLUMNS.split(", "), columns, strict=True))
    for name, (least, most) in NUMBERS["api_keys"].items():
        if numbers[name] is not None and not least <= numbers[name] <= most:
            raise ValueError(f"its {name} is {numbers[name]}")
    return api_key_row(columns)


class PendingDeletion(msgspec.Struct, frozen=True):
    """A needle that the catalog had given up and that may have no tombstone yet."""

    volume_uuid: str
    needle_id: int
    stamp: int
    reason: str  # as in the outbox; "deleted": the whole object was deleted, at `stamp`


def read_pending_deletions(path: Path) -> Iterator[PendingDeletion]:
    """The outbox of an existing catalog.  However old the catalog is, what it gave up never counts again.

    Raises:
        CatalogCorrupt, ReadFailed: it cannot be read; what was yielded before is true all the same.
    """
    if not path.is_file():  # opening a pipe would wait forever
        raise ReadFailed(f"there is no catalog {path}")
    with _opened(path) as connection:
        if strangers := differences(connection, version_of(connection, path), tables=_READ_HERE):
            raise corrupt(path, "; ".join(strangers))
        for columns in connection.execute(
            "SELECT uuid, needle_id, stamp, reason FROM outbox JOIN volumes ON volumes.id = volume_id"
            f" WHERE reason IN {tuple(WAS_COMMITTED)} AND needle_id BETWEEN 1 AND {ID32_MAX}"
        ):
            yield PendingDeletion(*columns)


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    log = path.with_name(path.name + "-wal")
    has_log = log.is_file() and log.stat().st_size > 0
    # Without a log the file is everything, and SQLite need not make another file next to it.
    options = "mode=ro" if has_log else "mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(file_uri(path.resolve(), options), uri=True)) as connection:
            connection.execute("PRAGMA mmap_size = 0")
            yield connection
    except sqlite3.Error as error:
        raise name_error(path, error, is_write=False) from error
