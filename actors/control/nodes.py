"""Nodes: which keys the master knows, and which disk each of them may serve.

A node is a CURVE key.  It joins once, with a token, or `warehouse up` notes the keys of its own disk folders.
The first registration ties the disk to the key (`pin`), for good:

    the disk's key registers              welcome, also at another port of the same host
    the disk's key, from another host     `disk_url_changed`, until an operator confirms the URL
    another node's key                    `disk_pinned`, whatever its incarnation and its epoch
    a key that is no node's               `node_unknown`; as a rule the hub refuses it unread (`roles.py`)
    a removed node's key                  `node_removed`

After a removal only a node whose join token is younger than the removal may take the disk over, so that
whoever stole a disk's folder, and the join file beside it, cannot.

Stores of 0.1.0 have a join secret in place of nodes, and their actors make a new key at each start.  The
secret works until the first node joins with a token.  A disk whose actor keeps its key is tied to it when it
registers with the secret.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Iterable
from urllib.parse import urlsplit

import msgspec

from warehouse.actors.control.context import MasterContext, now_ms
from warehouse.auth import join_tokens
from warehouse.catalog.interface import Transaction
from warehouse.catalog.nodes import NodeRow
from warehouse.catalog.records import DiskRow
from warehouse.errors import (
    BadRequest,
    DiskFull,
    DiskPinned,
    DiskUrlChanged,
    JoinTokenRole,
    NodeRemoved,
    NodeUnknown,
    StoreError,
    WriteFailed,
)
from warehouse.transport.messages import Register, RegisterCompactor
from warehouse.transport.zeromq import roles
from warehouse.transport.zeromq.peers import Peer

log = logging.getLogger(__name__)

TOKENS_ONLY_META = "join_secret_is_gone"
REFUSED_LASTING_S = 120.0  # a refused disk tries again within this
URLS_MS_MAX = 8 * 24 * 3600 * 1000  # no signed URL lives longer, with a day to spare


class JoinSecret:
    """The join secret of a store of 0.1.0; None where there is none, or no longer."""

    def __init__(self, secret: str | None) -> None:
        self._secret = secret.encode() if secret else None

    def __bool__(self) -> bool:
        return self._secret is not None

    def end(self) -> None:
        self._secret = None

    def is_shown(self, secret: str) -> bool:
        return self._secret is not None and hmac.compare_digest(secret.encode(), self._secret)

    def is_in_front(self, frame: bytes | memoryview) -> bool:
        """Does a frame begin with a registration that shows the secret?  It is not decoded."""
        shown = None if self._secret is None else roles.join_secret_of(frame)
        # The secret is ASCII, as `join_secret_of` finds it: characters and bytes count the same.
        return (
            shown is not None
            and self._secret is not None
            and hmac.compare_digest(shown.encode()[: len(self._secret)], self._secret)
        )


class Nodes:
    """
    Attributes:
        join_secret: what actors of 0.1.0 show.
    """

    def __init__(self, context: MasterContext, join_secret: str | None) -> None:
        self._catalog = context.catalog
        self._writer = context.writer
        self._troubles = context.troubles
        self.join_secret = JoinSecret(join_secret)
        self._by_key: dict[str, NodeRow] = {}
        self._disks: dict[str, DiskRow] = {}  # of the disks that belong to a node, or once did

    def load(self) -> None:
        self._by_key = {row.key: row for row in self._catalog.nodes()}
        self._disks = {row.id: row for row in self._catalog.disks()}
        if self._catalog.meta(TOKENS_ONLY_META):
            self.join_secret.end()

    # --- who is who -------------------------------------------------------------------------------

    def is_known(self, key: str) -> bool:
        """Is this the key of a node?"""
        node = self._by_key.get(key)
        return node is not None and node.removed_ms is None

    def get(self, key: str) -> NodeRow | None:
        """What is known of a key, also after the removal of its node."""
        return self._by_key.get(key)

    def all(self) -> Iterable[NodeRow]:
        return self._by_key.values()

    def disks_of(self, key: str) -> list[str]:
        """The ids of the disks that belong to a node."""
        return [disk_id for disk_id, disk in self._disks.items() if disk.node_key == key]

    def key_of(self, disk_id: str) -> str:
        """The key of the node that a disk belongs to; "": to none."""
        disk = self._disks.get(disk_id)
        return (disk.node_key if disk is not None else None) or ""

    def has_older_urls(self, disk_id: str) -> bool:
        """Are there URLs that were signed for this disk before it belonged to its node?"""
        node, disk = self._by_key.get(self.key_of(disk_id)), self._disks.get(disk_id)
        return (
            node is not None
            and disk is not None
            and node.joined_with is None
            and disk.added_ms < node.added_ms
            and now_ms() - node.added_ms < URLS_MS_MAX
        )

    # --- registrations ----------------------------------------------------------------------------

    def admit_volume(self, peer: Peer, request: Register) -> None:
        """
        Raises:
            NodeUnknown, NodeRemoved, DiskPinned, DiskUrlChanged: see above.
            JoinTokenRole: the node may not serve a disk's volumes.
            BadRequest: the URL is none.
        """
        host = host_of(request.url)
        try:
            self._admit(peer, request, "volume")
        except DiskPinned as error:
            self._tell("disk_pinned", request, error)
            raise
        disk = self._disks.get(request.disk_id)
        if disk is not None and disk.url and disk.node_key == peer.user_id and host_of(disk.url) != host:
            changed = DiskUrlChanged(
                f"disk {request.disk_name} was at {disk.url} and says to be at {request.url} now: if that is"
                f" right, run `warehouse disks confirm {request.disk_name} {request.url}`"
            )
            self._tell("disk_url_changed", request, changed)
            raise changed

    def admit_compactor(self, peer: Peer, request: RegisterCompactor) -> None:
        """Raises as `admit_volume`."""
        self._admit(peer, request, "compactor")

    def admit_gateway(self, peer: Peer) -> None:
        """
        Raises:
            NodeUnknown, NodeRemoved, JoinTokenRole: see above.
        """
        node = self._by_key.get(peer.user_id)
        if node is None:
            raise NodeUnknown("the key of this gateway is none of this store's nodes: join with a token")
        self._require_role(node, "gateway")

    def _require_role(self, node: NodeRow, role: str) -> None:
        if node.removed_ms is not None:
            raise NodeRemoved(removal_of(node))
        if not join_tokens.allows(node.role, role):
            raise JoinTokenRole(f"node {node.name} has joined as {node.role}, not as {role}")

    def _admit(self, peer: Peer, request: Register | RegisterCompactor, role: str) -> None:
        node, pinned = self._by_key.get(peer.user_id), self.key_of(request.disk_id)
        if node is None:
            if not self.join_secret.is_shown(request.join_secret):
                raise NodeUnknown(
                    f"the key of this {role} actor is none of this store's nodes: join with a token"
                )
            if pinned:
                raise self._refusal(request.disk_id, request.disk_name)
            return
        self._require_role(node, role)
        if pinned != node.key:
            self.require_free(request.disk_id, request.disk_name, node, since_ms=node.added_ms)

    def require_free(self, disk_id: str, name: str, node: NodeRow, *, since_ms: int) -> None:
        """
        Args:
            node: that wants a disk which is not its own.
            since_ms: when the node, or the token that it shows, was made.
        Raises:
            DiskPinned: the disk belongs to another node, or the node has another disk.
        """
        owner = self._by_key.get(self.key_of(disk_id))
        if owner is not None and (owner.removed_ms is None or since_ms <= owner.removed_ms):
            raise self._refusal(disk_id, name)
        if node.disk_id == disk_id:
            return
        if owner is not None or node.disk_id is not None or self.disks_of(node.key):
            raise DiskPinned(
                f"node {node.name} has joined for another disk than {name} ({disk_id}): join with a new token"
            )

    def _refusal(self, disk_id: str, name: str) -> DiskPinned:
        owner = self._by_key.get(self.key_of(disk_id))
        where = f"node {owner.name} (key {owner.key})" if owner is not None else "another node"
        if owner is not None and owner.removed_ms is not None:
            where += ", which was removed; a token made after that lets another one take it over"
        return DiskPinned(f"disk {name} ({disk_id}) belongs to {where}")

    def _tell(self, name: str, request: Register, error: StoreError) -> None:
        self._troubles.tell(
            name,
            request.disk_id,
            f"{error.message}; an actor at {request.url} was refused",
            lasting_s=REFUSED_LASTING_S,
            disk=request.disk_name,
            disk_id=request.disk_id,
            url=request.url,
        )

    async def pin(self, peer: Peer, request: Register) -> str:
        """Tie a disk that was admitted, and that the catalog has, to the key of its node.

        Returns:
            The key; "": its actor keeps none.
        Raises:
            DiskPinned: another node was faster.
            DiskFull, WriteFailed: the catalog takes no writes, and the disk belongs to no node yet.
        """
        key, disk_id = peer.user_id, request.disk_id
        node, disk = self._by_key.get(key), self._disks.get(disk_id)
        if node is None and not request.is_node:
            return ""
        self._troubles.over("disk_url_changed", disk_id)
        before = disk.node_key if disk is not None else None
        if disk is not None and before == key and disk.url == request.url:
            return key
        new = None if node is not None else self._node_of(peer, request)

        def write(t: Transaction) -> bool:
            if new is not None:
                t.put_node(new)
            return t.pin_disk(disk_id, key, request.url, before=before)

        try:
            is_pinned = await self._writer.write(write)
        except (DiskFull, WriteFailed) as error:
            if before != key:
                raise
            log.warning("URL of a disk not noted", extra={"disk": request.disk_name, "cause": error.message})
            return key
        if not is_pinned:
            raise self._refusal(disk_id, request.disk_name)
        if new is not None:
            self._by_key[key] = new
        if (row := self._catalog.disk(disk_id)) is not None:
            self._disks[disk_id] = row
        if before != key:
            self._troubles.over("disk_pinned", disk_id)
            log.info("disk belongs to a node", extra={"disk": request.disk_name, "key": key})
        return key

    def _node_of(self, peer: Peer, request: Register) -> NodeRow:
        """The node of a disk that registers with the join secret, and keeps its key."""
        return NodeRow(
            peer.user_id, request.disk_name, "both", peer.address, now_ms(), disk_id=request.disk_id
        )

    # --- changes ----------------------------------------------------------------------------------

    async def join(self, node: NodeRow, token_id: str) -> None:
        """Note a node that has shown a token; the join secret is gone from now on.

        Raises:
            JoinTokenUsed: another one was faster.
            NodeRemoved: an operator was.
        """

        def write(t: Transaction) -> None:
            t.use_join_token(token_id)
            t.put_node(node)
            t.set_meta(TOKENS_ONLY_META, 1)

        await self._writer.write(write)
        self._by_key[node.key] = node
        self.join_secret.end()

    async def remove(self, node: NodeRow) -> None:
        """Raises NoSuchNode: it was removed meanwhile."""
        removed_ms = now_ms()
        await self._writer.write(lambda t: t.remove_node(node.key, removed_ms))
        self._by_key[node.key] = msgspec.structs.replace(node, removed_ms=removed_ms)

    async def set_url(self, disk_id: str, url: str) -> bool:
        """An operator says where a disk is; return whether the catalog has the disk."""
        host_of(url)
        is_there = await self._writer.write(lambda t: t.set_disk_url(disk_id, url))
        if (row := self._catalog.disk(disk_id)) is not None:
            self._disks[disk_id] = row
        return is_there

    def forget_disk(self, disk_id: str) -> list[str]:
        """A disk was removed; return the keys of nodes that were removed with it."""
        self._disks.pop(disk_id, None)
        before = {key for key, row in self._by_key.items() if row.removed_ms is None}
        self._by_key = {row.key: row for row in self._catalog.nodes()}
        return [key for key in before if not self.is_known(key)]


def removal_of(node: NodeRow) -> str:
    return (
        f"node {node.name} was removed, and its key never comes back: to have its machine join again, delete"
        " the node.key of its disk, and start it with a token that was made after the removal"
    )


def host_of(url: str) -> str:
    """The host in the URL of an actor.

    Raises:
        BadRequest: this is not the URL of an actor.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise BadRequest(f"the URL of a disk looks like http://192.0.2.7:7410, not {url!r:.200}")
    return host
