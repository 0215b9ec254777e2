"""Joining: what a start prepares, so that machines can join, and those that are here need not.

    <data>/join.toml    where the master is, and a token, for a copy on each other machine

The first start makes a token for any number of machines, good for a day; `warehouse join-token` makes others.
Later starts keep what the file says, and correct the address.

`warehouse up` holds the catalog before its master does.  So it notes the keys of its own disk folders, and
that of its S3 gateways, itself.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from warehouse.actors.control.context import now_ms
from warehouse.actors.control.first_start import JOIN_NAME
from warehouse.actors.control.keyring import Keyring
from warehouse.actors.control.nodes import TOKENS_ONLY_META, host_of
from warehouse.auth.join_tokens import JoinToken
from warehouse.catalog.interface import Catalog, Transaction
from warehouse.catalog.nodes import JoinTokenRow, NodeRow
from warehouse.catalog.records import DiskRow
from warehouse.conf.join import Join
from warehouse.errors import StoreError

log = logging.getLogger(__name__)

FIRST_TOKEN_MS = 24 * 3600 * 1000  # how long the token of the first start is good


class LocalDisk(NamedTuple):
    """A disk folder of this machine."""

    name: str
    key: str  # CURVE public key, Z85
    disk_id: str | None  # None: its actor has not started yet
    url: str  # where clients will find it


def keep_join_file(
    catalog: Catalog, keyring: Keyring, data: Path, endpoint: str, authority: str = ""
) -> None:
    """Make the join file say where the master is; the first one gets a token.

    Args:
        data: the master's folder.
        endpoint: of the control port, as others reach it.
        authority: the certificates that those of the servers are signed with, PEM.
    Raises:
        SetupError: the file cannot be written.
        StoreError: the catalog does not take the token.
    """
    path = data / JOIN_NAME
    token = secret = ""
    try:
        before = Join.load(path)
    except StoreError:  # there is none, or it is damaged
        if keyring.join_secret is None and _is_new(catalog):
            token = _first_token(catalog)
    else:
        token, secret = before.token, before.secret
    if keyring.join_secret is not None and not token:
        secret = keyring.join_secret
    if catalog.meta(TOKENS_ONLY_META) or keyring.join_secret is None:
        secret = ""
    Join(endpoint, keyring.server_keys, token=token, secret=secret, authority=authority).save(path)


def _is_new(catalog: Catalog) -> bool:
    return not (catalog.disks() or catalog.join_tokens())


def _first_token(catalog: Catalog) -> str:
    token, made_ms = JoinToken.generate(), now_ms()
    row = JoinTokenRow(
        id=token.token_id,
        digest=token.digest,
        role="both",
        is_reusable=True,
        created_ms=made_ms,
        created_by="",
        expires_ms=made_ms + FIRST_TOKEN_MS,
    )
    with catalog.transaction() as transaction:
        transaction.add_join_token(row)
    return token.text


def note_local_disks(catalog: Catalog, disks: Sequence[LocalDisk]) -> None:
    """Take the keys of these disk folders for those of nodes, and believe the URLs that they will tell.

    Where the catalog takes no writes, disks that it knows start all the same.
    """
    rows = {row.id: row for row in catalog.disks()}
    known = {node.key: node for node in catalog.nodes()}
    new = [_node_of(disk, known.get(disk.key)) for disk in disks if _is_news(disk, known.get(disk.key), rows)]
    moved = [
        (disk.disk_id, disk.url)
        for disk in disks
        if disk.disk_id in rows
        and (row := rows[disk.disk_id]).node_key == disk.key
        and row.url
        and host_of(row.url) != host_of(disk.url)
    ]
    if not new and not moved:
        return

    def note(t: Transaction) -> None:
        for node in new:
            t.put_node(node)
        for disk_id, url in moved:
            assert disk_id is not None
            t.set_disk_url(disk_id, url)

    try:
        with catalog.transaction() as transaction:
            note(transaction)
    except StoreError as error:
        log.warning("the keys of the disks here were not noted", extra={"cause": error.message})


def note_local_gateway(catalog: Catalog, key: str) -> None:
    """Take the key of this machine's S3 gateways for that of a node.

    One that was removed stays removed.  Where the catalog takes no writes, a known one starts all the same.
    """
    if any(node.key == key for node in catalog.nodes()):
        return
    try:
        with catalog.transaction() as transaction:
            transaction.put_node(NodeRow(key, "gateway", "gateway", "", now_ms()))
    except StoreError as error:
        log.warning("the key of the gateways here was not noted", extra={"cause": error.message})


def _is_news(disk: LocalDisk, known: NodeRow | None, rows: Mapping[str, DiskRow]) -> bool:
    """Does the catalog lack that this key is a node's, or which disk it brings next?"""
    if known is None:
        return True
    if known.removed_ms is not None or disk.disk_id is None or disk.disk_id == known.disk_id:
        return False
    row = rows.get(disk.disk_id)
    return row is None or row.node_key != disk.key


def _node_of(disk: LocalDisk, known: NodeRow | None) -> NodeRow:
    if known is not None:  # its disk has got a new identity
        return msgspec.structs.replace(known, disk_id=disk.disk_id)
    return NodeRow(disk.key, disk.name, "both", "", now_ms(), disk_id=disk.disk_id)
