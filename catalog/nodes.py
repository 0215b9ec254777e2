"""Nodes: what a catalog answers about the machines of the store, as plain values.

Columns are read in the order of the fields, so a field and its place in the column list below it change
together.  Times are milliseconds since 1970.
"""

from __future__ import annotations

from typing import Any

import msgspec

JOIN_TOKENS_MAX = 1000  # at one time; those that expired long ago go first


class NodeRow(msgspec.Struct, frozen=True):
    """A machine's key, which serves one disk as its volume actor, its compactor, or both."""

    key: str  # CURVE public key, Z85
    name: str
    role: str  # "volume", "compactor" or "both"
    host: str  # where it joined from; "": this machine
    added_ms: int
    joined_with: str | None = None  # the id of its join token; None: it needed none
    disk_id: str | None = None  # the disk that it joined for; None: the first one that it brings
    removed_ms: int | None = None  # when an operator removed it, for good


NODE_COLUMNS = "key, name, role, host, added_ms, joined_with, disk_id, removed_ms"


class JoinTokenRow(msgspec.Struct, frozen=True):
    id: str
    digest: bytes  # of the secret, SHA-256
    role: str  # as that of a node
    is_reusable: bool
    created_ms: int
    created_by: str  # the id of an API key; "": the first start
    expires_ms: int | None = None  # None: never
    use_count: int = 0


JOIN_COLUMNS = "id, digest, role, is_reusable, created_ms, created_by, expires_ms, use_count"


def join_token_row(columns: tuple[Any, ...]) -> JoinTokenRow:
    return JoinTokenRow(*(columns[:3] + (bool(columns[3]),) + columns[4:]))
