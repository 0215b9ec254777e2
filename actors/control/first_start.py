"""First start: what it initializes, and how a later start knows that there is a store already.

A new catalog in the place of a lost one would give its first volumes the numbers of volumes that exist, and a
rebuild could no longer tell them apart.  So a catalog file that is missing or holds nothing means a new store
only where nothing says that there was one: the marker of an initialized store, a join file, a log next to the
catalog, or disks with volumes.

A start overwrites nothing, and gives up ballast when not even a lock fits on the disk.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from warehouse.actors.ballast import make_way
from warehouse.actors.control.key_secrets import seal_secret
from warehouse.actors.control.keyring import Keyring
from warehouse.auth.keys import ApiKey, generate_api_key
from warehouse.auth.rights import EVERYTHING
from warehouse.catalog.identities import ROOTS_MAX, ApiKeyRow
from warehouse.catalog.sqlite.catalog import SqliteCatalog
from warehouse.conf.files import write_if_changed
from warehouse.errors import CatalogMissing, SetupError

JOIN_NAME = "join.toml"
PROFILE_NAME = "profile.toml"  # of the root key; next to the master's folder where `warehouse up` has made it
CATALOG_NAME = "catalog.sqlite3"
MARKER_NAME = "founded"  # its name and its text are those of the first release
BALLAST_NAME = "ballast"
_MARKER = b"A Warehouse store was founded here: a catalog that is missing or empty was lost.\n"
_USER_VERSION_AT = 60  # in the header of an SQLite file: 0 until the file holds a schema


@dataclass(frozen=True)
class Initialized:
    """What a start has made.

    Attributes:
        root_key: None unless this start made it; the master shows its secret once; the catalog has it sealed.
    """

    keyring: Keyring
    root_key: ApiKey | None


def initialize(
    data: Path,
    keep: Callable[[Keyring, ApiKey], None] = lambda keyring, root: None,
    prepare: Callable[[Keyring, SqliteCatalog], None] = lambda keyring, catalog: None,
) -> Initialized:
    """Make keys, catalog and root key of a master where they are missing.

    Args:
        keep: stores a new root key durably, before the catalog knows the key.  Nothing shows a secret of the
            catalog, so with the opposite order a crash in between would leave a store that nobody can open.
        prepare: what else a start does with the catalog before a master owns it.
    Raises:
        CatalogMissing: there was a catalog, and it is lost.
        SetupError: the folder cannot be used.
    """
    require_no_lost_catalog(data)
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        make_way(data / BALLAST_NAME)
        keyring = Keyring.load_or_create(data / "keys")
    except OSError as error:
        raise SetupError(
            f"the folder {data} cannot be used: {error.filename or ''} {error.strerror}"
        ) from error
    with closing(SqliteCatalog.open(data / CATALOG_NAME)) as catalog:
        root = _make_root_key(catalog, keyring, partial(keep, keyring))
        prepare(keyring, catalog)
    with suppress(OSError):  # full, or another user's: the other signs remain
        write_if_changed(data / MARKER_NAME, _MARKER)
    return Initialized(keyring, root)


def _make_root_key(catalog: SqliteCatalog, keyring: Keyring, keep: Callable[[ApiKey], None]) -> ApiKey | None:
    """Make the catalog's first API key, unless it has one; None: it has."""
    if catalog.api_key_count():
        return None
    root = generate_api_key()
    keep(root)
    now_ms = time.time_ns() // 1_000_000
    with catalog.transaction() as transaction:
        transaction.add_api_key(
            ApiKeyRow(
                id=root.key_id,
                name="root",
                sealed=seal_secret(keyring.sealer, root.key_id, root.secret),
                permissions=int(EVERYTHING),
                created_ms=now_ms,
            ),
            reserve=-ROOTS_MAX,
        )
    return root


def require_no_lost_catalog(data: Path) -> None:
    """
    Args:
        data: the master's folder.
    Raises:
        CatalogMissing: there was a catalog in `data`, and it is gone or holds nothing.
    """
    catalog = data / CATALOG_NAME
    problem = _what_is_missing(catalog)
    sign = None if problem is None else _sign_of_a_store(data)
    if sign is not None:
        raise CatalogMissing(
            f"{catalog} {problem}, but {sign}: bring it back with `warehouse restore BACKUP` or `warehouse"
            " rebuild`"
        )


def _what_is_missing(catalog: Path) -> str | None:
    try:
        with catalog.open("rb") as file:
            head = file.read(100)
    except FileNotFoundError:
        return "is gone"
    except OSError:
        return None  # opening it will say what is wrong
    if not head:
        return "is empty"
    if not any(head):
        return "holds nothing but zeros"
    is_sqlite = head.startswith(b"SQLite format 3\0") and len(head) == 100
    if is_sqlite and struct.unpack_from(">I", head, _USER_VERSION_AT)[0] == 0 and not _has_log(catalog):
        return "has no tables"
    return None


def _has_log(catalog: Path) -> bool:
    try:
        return os.stat(f"{catalog}-wal").st_size > 0
    except OSError:
        return False


def _sign_of_a_store(data: Path) -> str | None:
    if (data / MARKER_NAME).exists() or (data / JOIN_NAME).exists():
        return f"a store was initialized in {data}"
    if _has_log(data / CATALOG_NAME):
        return "its log is there"
    with suppress(OSError):
        for volume in sorted(data.parent.glob("disk-*/volumes/[0-9]*")):
            return f"{volume.parents[1]} holds volumes"
    return None
