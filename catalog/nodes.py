"""Nodes: what a catalog answers about the machines of the store, as plain values.

An engine reads its columns in the order of the fields (`sqlite/columns.py`), so both change together.  Times
are milliseconds since 1970.
"""

from __future__ import annotations

import msgspec

JOIN_TOKENS_MAX = 1000  # at one time; those that expired long ago go first


class NodeRow(msgspec.Struct, frozen=True):
    """The key of a machine that serves one disk (as volume actor, compactor or both), or of an S3 gateway."""

    key: str  # CURVE public key, Z85
    name: str
    role: str  # "volume", "compactor", "both" or "gateway"
    host: str  # where it joined from; "": this machine
    added_ms: int
    joined_with: str | None = None  # the id of its join token; None: it needed none
    disk_id: str | None = None  # the disk that it joined for; None: the first one that it brings
    removed_ms: int | None = None  # when an operator removed it, for good


class JoinTokenRow(msgspec.Struct, frozen=True):
    id: str
    digest: bytes  # of the secret, SHA-256
    role: str  # as that of a node
    is_reusable: bool
    created_ms: int
    created_by: str  # the id of an API key; "": the first start
    expires_ms: int | None = None  # None: never
    use_count: int = 0
