"""Nodes: the part of a transaction that deals with the machines of the store and their join tokens."""

from __future__ import annotations

import msgspec

from warehouse.catalog.nodes import JOIN_TOKENS_MAX, JoinTokenRow, NodeRow
from warehouse.catalog.sqlite.bookkeeping import Bookkeeping
from warehouse.catalog.sqlite.columns import JOIN_COLUMNS, NODE_COLUMNS, insert
from warehouse.errors import BadRequest, JoinTokenUsed, NodeRemoved, NoSuchJoinToken, NoSuchNode

_PUT_NODE = insert("nodes", NODE_COLUMNS, instead=True)
_ADD_TOKEN = insert("join_tokens", JOIN_COLUMNS)
FORGET_TOKENS_MS = 30 * 24 * 3600 * 1000  # an expired token is listed for this long


class Nodes(Bookkeeping):
    """Mixed into `Transaction`."""

    def put_node(self, row: NodeRow) -> None:
        before = self._one("SELECT removed_ms FROM nodes WHERE key = ?", (row.key,))
        if before is not None and before[0] is not None:
            raise NodeRemoved(f"node {row.name} was removed, and its key never comes back")
        self._execute(_PUT_NODE, msgspec.structs.astuple(row))

    def remove_node(self, key: str, now_ms: int) -> None:
        removed = self._execute(
            "UPDATE nodes SET removed_ms = ? WHERE key = ? AND removed_ms IS NULL", (now_ms, key)
        )
        if removed.rowcount == 0:
            raise NoSuchNode(f"there is no node with the key {key}")

    def pin_disk(self, disk_id: str, key: str, url: str, *, before: str | None) -> bool:
        pinned = self._execute(
            "UPDATE disks SET node_key = ?, url = ? WHERE id = ? AND node_key IS ?",
            (key, url, disk_id, before),
        )
        return pinned.rowcount == 1

    def set_disk_url(self, disk_id: str, url: str) -> bool:
        return self._execute("UPDATE disks SET url = ? WHERE id = ?", (url, disk_id)).rowcount == 1

    # --- join tokens ------------------------------------------------------------------------------

    def add_join_token(self, row: JoinTokenRow) -> None:
        self._execute("DELETE FROM join_tokens WHERE expires_ms < ?", (row.created_ms - FORGET_TOKENS_MS,))
        (count,) = self._one("SELECT count(*) FROM join_tokens")
        if count >= JOIN_TOKENS_MAX:
            raise BadRequest(
                f"there are {count} join tokens: remove those that nobody needs (`warehouse join-token rm`)"
            )
        self._execute(_ADD_TOKEN, msgspec.structs.astuple(row))

    def use_join_token(self, token_id: str) -> None:
        used = self._execute(
            "UPDATE join_tokens SET use_count = use_count + 1"
            " WHERE id = ? AND (is_reusable OR use_count = 0)",
            (token_id,),
        )
        if used.rowcount == 0:
            raise JoinTokenUsed(f"the join token {token_id} was for one node, which has joined with it")

    def remove_join_token(self, token_id: str) -> None:
        if self._execute("DELETE FROM join_tokens WHERE id = ?", (token_id,)).rowcount == 0:
            raise NoSuchJoinToken(f"there is no join token {token_id}")
