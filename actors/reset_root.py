"""Reset root: a new key with every right for a store whose keys are lost, or are in other hands.

    warehouse keys reset-root [--data DIR] [--disable-others] [--json]

The store must not run: whoever can write to its files owns it, and needs no right to do this.  The new key's
secret goes to the profile, durably, before the catalog knows the key; an earlier profile is moved aside.  The
audit log gets a line.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from warehouse.actors.control.context import now_ms
from warehouse.actors.control.first_start import (
    CATALOG_NAME,
    JOIN_NAME,
    PROFILE_NAME,
    require_no_lost_catalog,
)
from warehouse.actors.control.key_secrets import seal_secret
from warehouse.actors.control.keyring import Keyring
from warehouse.auth.keys import ApiKey, generate_api_key
from warehouse.auth.rights import EVERYTHING
from warehouse.catalog.identities import ROOTS_MAX, ApiKeyRow
from warehouse.catalog.interface import Transaction
from warehouse.catalog.sqlite.catalog import SqliteCatalog
from warehouse.conf.arguments import Parser
from warehouse.conf.audit_files import note_offline
from warehouse.conf.join import Join
from warehouse.conf.profile import Profile
from warehouse.errors import ReadFailed, SetupError, StoreError

KEY_NAME = "root"


class RootReset(msgspec.Struct, frozen=True):
    """What was done; the secret is in the profile alone."""

    key_id: str
    profile: str
    moved_aside: str | None  # the earlier profile
    disabled: list[str]  # ids of keys that could manage keys, and are disabled now

    def lines(self) -> list[str]:
        lines = [f"the new root key is {self.key_id}; its secret is in {self.profile}"]
        if self.moved_aside is not None:
            lines.append(f"  the earlier profile is now {self.moved_aside}")
        if self.disabled:
            lines.append(f"  disabled: {', '.join(self.disabled)}")
        else:
            lines.append("  all other keys are as they were")
        return lines


def reset_root(data: Path, *, disable_others: bool = False) -> RootReset:
    """Make a new root key for the store in `data`, and a profile with it.

    Args:
        data: the folder of `warehouse up`, or that of a master alone.
        disable_others: disable every other key that may manage keys; what such a key signed is void.
    Raises:
        ReadFailed: no store is there.
        CatalogMissing, CatalogCorrupt, SecretMissing: a start would fail in the same way.
        DiskInUse: the master runs.
        SetupError: the profile cannot be read or written.
    """
    master = data / "master" if (data / "master").is_dir() else data
    require_no_lost_catalog(master)
    if not (master / CATALOG_NAME).is_file():
        raise ReadFailed(
            f"there is no catalog {master / CATALOG_NAME}: name the store's data folder with --data"
        )
    with closing(SqliteCatalog.open(master / CATALOG_NAME)) as catalog:  # a running master holds its lock
        keyring = Keyring.load_or_create(master / "keys")
        root = generate_api_key()
        path = data / PROFILE_NAME
        profile = _profile_of(path, master / JOIN_NAME, keyring, root)
        aside = _move_aside(path)
        try:
            profile.save(path)
            with catalog.transaction() as transaction:
                others = catalog.api_keys()
                _add_root(transaction, keyring, root)  # first: somebody must be able to manage keys
                disabled = _disable_others(transaction, others) if disable_others else []
        except BaseException:
            path.unlink(missing_ok=True)
            if aside is not None:
                aside.rename(path)
            raise
    note_offline(master, "root_reset", target=root.key_id, disabled=disabled)
    return RootReset(root.key_id, str(path), None if aside is None else str(aside), disabled)


def _add_root(transaction: Transaction, keyring: Keyring, root: ApiKey) -> None:
    transaction.add_api_key(
        ApiKeyRow(
            id=root.key_id,
            name=KEY_NAME,
            description="made by `warehouse keys reset-root`",
            sealed=seal_secret(keyring.sealer, root.key_id, root.secret),
            permissions=int(EVERYTHING),
            created_ms=now_ms(),
        ),
        reserve=-ROOTS_MAX,
    )


def _disable_others(transaction: Transaction, rows: Sequence[ApiKeyRow]) -> list[str]:
    managers = [row.id for row in rows if row.may_manage_keys(now_ms())]
    for key_id in managers:
        transaction.change_api_key(
            key_id, lambda row: msgspec.structs.replace(row, is_enabled=False), now_ms=now_ms()
        )
    return managers


def _profile_of(path: Path, join: Path, keyring: Keyring, root: ApiKey) -> Profile:
    """A profile like the one before, or to where the join file leads."""
    server_key = keyring.server_keys
    if path.exists():
        before = Profile.load(path)
        return dataclasses.replace(before, server_key=server_key, key_id=root.key_id, secret=root.secret)
    if not join.exists():
        raise SetupError(f"nothing says where the master listens: there is neither {path} nor {join}")
    return Profile(
        master=Join.load(join).master, server_key=server_key, key_id=root.key_id, secret=root.secret
    )


def _move_aside(path: Path) -> Path | None:
    """It may hold the only copy of a secret that still works."""
    if not os.path.lexists(path):
        return None
    label = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = path.with_name(f"{path.name}.before-reset-{label}")
    try:
        path.rename(aside)
    except OSError as error:
        raise SetupError(f"cannot move {path} aside: {error.strerror}") from error
    return aside


# --- the command ----------------------------------------------------------------------------------


def _parser() -> Parser:
    parser = Parser(
        prog="warehouse keys reset-root",
        description="Make a new key with every right.  The store must not run.",
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("warehouse-data"),
        metavar="DIR",
        help="data folder of the store (default: %(default)s)",
    )
    parser.add_argument(
        "--disable-others", action="store_true", help="disable every other key that may manage keys"
    )
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")
    return parser


def _run(arguments: argparse.Namespace) -> RootReset:
    try:
        return reset_root(arguments.data, disable_others=arguments.disable_others)
    except OSError as error:
        raise SetupError(f"{error.filename or arguments.data}: {error.strerror}") from error


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    os.umask(0o077)
    try:
        report = _run(arguments)
    except StoreError as error:
        print(f"warehouse: {error.message} ({error.code})", file=sys.stderr, flush=True)
        if arguments.json:
            print(json.dumps({"event": "failed", "code": error.code, "message": error.message}), flush=True)
        return 1
    print(
        json.dumps(msgspec.to_builtins(report)) if arguments.json else "\n".join(report.lines()), flush=True
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
