"""Node requests: machines that join, and what operators do about nodes, their tokens and their disks.

Join                                          a stranger shows a token; its key is a node's from then on
CreateJoinToken, ListJoinTokens, RemoveJoinToken
ListNodes, RemoveNode
ListDisks, ConfirmDisk
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from warehouse.actors.control.context import MasterContext, now_ms
from warehouse.actors.control.failed_logins import FailedLogins
from warehouse.actors.control.fleet_state import DiskState, GatewaySession
from warehouse.actors.control.keyring import MASTER_AUDIENCE
from warehouse.actors.control.nodes import Nodes, removal_of
from warehouse.actors.control.routes import Routes
from warehouse.actors.control.sessions import Sessions
from warehouse.auth import join_tokens
from warehouse.auth.join_tokens import JoinToken
from warehouse.auth.rights import Permission
from warehouse.catalog.nodes import JoinTokenRow, NodeRow
from warehouse.errors import (
    BadRequest,
    JoinTokenExpired,
    JoinTokenInvalid,
    JoinTokenRole,
    JoinTokenUsed,
    NodeRemoved,
    NoSuchDisk,
    NoSuchNode,
)
from warehouse.transport.messages import (
    ConfirmDisk,
    CreateJoinToken,
    DiskInfo,
    Disks,
    Done,
    Join,
    JoinTokenInfo,
    JoinTokenMade,
    JoinTokens,
    ListDisks,
    ListJoinTokens,
    ListNodes,
    NodeInfo,
    RemoveJoinToken,
    RemoveNode,
)
from warehouse.transport.messages import Nodes as NodesListed
from warehouse.transport.zeromq.peers import Peer

log = logging.getLogger(__name__)

TOKEN_S_MAX = 366 * 24 * 3600.0
DISK_ID_SIZE_MAX = 64  # characters; a UUID has 36
NAME_SIZE_MAX = 200


class NodeHandlers:
    """
    Args:
        disconnect_key: closes all connections of a key.
        peers: all connections.
        secret_file: the join secret of a store of 0.1.0.
        require_not_removed: see `Lineage.require_not_removed`.
    """

    def __init__(
        self,
        context: MasterContext,
        sessions: Sessions,
        *,
        nodes: Nodes,
        disconnect_key: Callable[[str, str], int],
        peers: Callable[[], Iterable[Peer]],
        secret_file: Path,
        require_not_removed: Callable[[str, str], None],
    ) -> None:
        self._catalog = context.catalog
        self._writer = context.writer
        self._fleet = context.fleet
        self._events = context.events
        self._troubles = context.troubles
        self._sessions = sessions
        self._failed: FailedLogins = sessions.failed_logins
        self._nodes = nodes
        self._disconnect_key = disconnect_key
        self._peers = peers
        self._secret_file = secret_file
        self._require_not_removed = require_not_removed

    def routes(self) -> Routes:
        return (
            Routes()
            .later(Join, self.join)
            .later(CreateJoinToken, self.create_token)
            .now(ListJoinTokens, self.list_tokens)
            .later(RemoveJoinToken, self.remove_token)
            .now(ListNodes, self.list_nodes)
            .later(RemoveNode, self.remove_node)
            .now(ListDisks, self.list_disks)
            .later(ConfirmDisk, self.confirm_disk)
        )

    # --- joining ----------------------------------------------------------------------------------

    async def join(self, peer: Peer, request: Join) -> Done:
        """Let a machine in that shows a token; asking again after a lost answer is harmless."""
        is_gateway = request.role == "gateway"
        _require_joinable(request)
        token = await self._token_of(peer, request.token)
        if not is_gateway:
            self._require_not_removed(request.disk_id, request.disk_name)
        node = self._nodes.get(peer.user_id)
        if node is not None and node.removed_ms is not None:
            raise NodeRemoved(removal_of(node))
        if not join_tokens.allows(token.role, request.role):
            raise JoinTokenRole(
                f"the join token {token.id} is for a {token.role} actor, not for a {request.role}"
            )
        if node is not None and node.joined_with == token.id and (node.disk_id or "") == request.disk_id:
            return Done()
        if token.expires_ms is not None and now_ms() >= token.expires_ms:
            raise JoinTokenExpired(f"the join token {token.id} has expired")
        if token.use_count and not token.is_reusable:
            raise JoinTokenUsed(f"the join token {token.id} was for one node, which has joined with it")
        joined = NodeRow(
            key=peer.user_id,
            name=request.disk_name[:NAME_SIZE_MAX] if node is None else node.name,
            role=join_tokens.joined_role(node.role if node is not None else None, token.role),
            host=peer.address,
            added_ms=now_ms(),
            joined_with=token.id,
            disk_id=request.disk_id or None,
        )
        if not is_gateway and self._nodes.key_of(request.disk_id) != joined.key:
            self._nodes.require_free(request.disk_id, request.disk_name, joined, since_ms=token.created_ms)
        had_secret = bool(self._nodes.join_secret)
        await self._nodes.join(joined, token.id)
        if had_secret:
            self._end_join_secret()
        log.info("node joined", extra={"node": joined.name, "key": joined.key, "token_id": token.id})
        self._events.record(
            "node_joined", node=joined.name, key=joined.key, host=joined.host, disk_id=request.disk_id
        )
        return Done()

    async def _token_of(self, peer: Peer, text: str) -> JoinTokenRow:
        """
        Raises:
            JoinTokenInvalid: the store has no such token; told after a while, which makes guessing slow.
        """
        with suppress(JoinTokenInvalid):
            shown = JoinToken.parse(text)
            row = self._catalog.join_token(shown.token_id)
            if row is not None and shown.has(row.digest):
                return row
        await self._failed.slow_down(peer.address, "a join token")
        raise JoinTokenInvalid("this join token is none of this store, or was removed")

    def _end_join_secret(self) -> None:
        """A token has let a node in: the secret that all machines share is good for nothing more."""
        try:
            self._secret_file.unlink(missing_ok=True)
        except OSError as error:  # the catalog says all the same that it is gone
            log.warning("the join secret's file stays", extra={"cause": str(error)})
        log.info("the join secret is gone: from now on nodes join with tokens")

    # --- tokens -----------------------------------------------------------------------------------

    async def create_token(self, peer: Peer, request: CreateJoinToken) -> JoinTokenMade:
        session = self._sessions.require(peer, Permission.MANAGE_CLUSTER)
        if request.role not in join_tokens.ROLES:
            raise BadRequest(f"a join token is for {', '.join(join_tokens.ROLES)}, not for {request.role!r}")
        expires_s = request.expires_in_s
        if expires_s is not None and not 0 < expires_s <= TOKEN_S_MAX:
            raise BadRequest("a join token is good for more than 0 s and at most 366 days, or without an end")
        token, made_ms = JoinToken.generate(), now_ms()
        row = JoinTokenRow(
            id=token.token_id,
            digest=token.digest,
            role=request.role,
            is_reusable=request.is_reusable,
            created_ms=made_ms,
            created_by=session.key_id,
            expires_ms=None if expires_s is None else made_ms + int(expires_s * 1000),
        )
        await self._writer.write(
            self._sessions.guarded(peer, lambda t: t.add_join_token(row)), is_growth=True
        )
        self._events.record("join_token_made", token_id=row.id, role=row.role, key_id=session.key_id)
        return JoinTokenMade(token_id=row.id, token=token.text, expires_ms=row.expires_ms)

    def list_tokens(self, peer: Peer, request: ListJoinTokens) -> JoinTokens:
        self._sessions.require(peer, Permission.MANAGE_CLUSTER)
        return JoinTokens(
            tokens=[
                JoinTokenInfo(
                    token_id=row.id,
                    role=row.role,
                    is_reusable=row.is_reusable,
                    created_ms=row.created_ms,
                    created_by=row.created_by,
                    expires_ms=row.expires_ms,
                    use_count=row.use_count,
                )
                for row in self._catalog.join_tokens()
            ]
        )

    async def remove_token(self, peer: Peer, request: RemoveJoinToken) -> Done:
        session = self._sessions.require(peer, Permission.MANAGE_CLUSTER)
        await self._writer.write(
            self._sessions.guarded(peer, lambda t: t.remove_join_token(request.token_id))
        )
        self._events.record("join_token_removed", token_id=request.token_id, key_id=session.key_id)
        return Done()

    # --- nodes ------------------------------------------------------------------------------------

    def list_nodes(self, peer: Peer, request: ListNodes) -> NodesListed:
        self._sessions.require(peer, Permission.SEE_CLUSTER)
        online = {
            other.user_id
            for disk in self._fleet.disks.values()
            for other in (disk.peer, disk.compactor)
            if other is not None
        }
        online |= {other.user_id for other in self._peers() if isinstance(other.session, GatewaySession)}
        return NodesListed(
            nodes=[
                NodeInfo(
                    key=row.key,
                    name=row.name,
                    role=row.role,
                    added_ms=row.added_ms,
                    host=row.host,
                    joined_with=row.joined_with,
                    disk_ids=self._nodes.disks_of(row.key),
                    is_online=row.key in online,
                    removed_ms=row.removed_ms,
                )
                for row in self._nodes.all()
            ]
        )

    async def remove_node(self, peer: Peer, request: RemoveNode) -> Done:
        session = self._sessions.require(peer, Permission.MANAGE_CLUSTER)
        node = self._node(request.node)
        await self._nodes.remove(node)
        count = self._disconnect_key(node.key, "its node was removed")
        log.warning("node removed", extra={"node": node.name, "key": node.key, "connections": count})
        self._events.record("node_removed", node=node.name, key=node.key, key_id=session.key_id)
        return Done()

    def _node(self, name: str) -> NodeRow:
        """
        Raises:
            NoSuchNode: there is none.
            BadRequest: several have that name.
        """
        found = [row for row in self._nodes.all() if row.removed_ms is None and name in (row.key, row.name)]
        if not found:
            raise NoSuchNode(f"there is no node {name!r}")
        if len(found) > 1:
            raise BadRequest(f"{len(found)} nodes are named {name!r}: name one by its key")
        return found[0]

    # --- disks ------------------------------------------------------------------------------------

    def list_disks(self, peer: Peer, request: ListDisks) -> Disks:
        self._sessions.require(peer, Permission.SEE_CLUSTER)
        rows = {row.id: row for row in self._catalog.disks()}
        return Disks(
            disks=[
                self._info_of(disk, rows[disk.disk_id].url if disk.disk_id in rows else None)
                for disk in sorted(self._fleet.disks.values(), key=lambda disk: (disk.name, disk.disk_id))
            ]
        )

    def _info_of(self, disk: DiskState, url: str | None) -> DiskInfo:
        node = self._nodes.get(self._nodes.key_of(disk.disk_id))
        return DiskInfo(
            disk_id=disk.disk_id,
            name=disk.name,
            is_online=disk.is_online,
            volume_count=len(disk.volumes),
            byte_count=sum(volume.file_size for volume in disk.volumes.values()),
            url=disk.url or url or "",
            node_key=None if node is None or node.removed_ms is not None else node.key,
            node_name="" if node is None else node.name,
            added_ms=disk.since_ms,
        )

    def disk(self, name: str) -> DiskState:
        """
        Raises:
            NoSuchDisk: there is none of this id or name.
            BadRequest: several have that name.
        """
        if (disk := self._fleet.disks.get(name)) is not None:
            return disk
        found = [disk for disk in self._fleet.disks.values() if disk.name == name]
        if not found:
            raise NoSuchDisk(f"there is no disk {name!r}")
        if len(found) > 1:
            raise BadRequest(f"{len(found)} disks are named {name!r}: name one by its id")
        return found[0]

    async def confirm_disk(self, peer: Peer, request: ConfirmDisk) -> Done:
        session = self._sessions.require(peer, Permission.MANAGE_CLUSTER)
        disk = self.disk(request.disk)
        if not await self._nodes.set_url(disk.disk_id, request.url):
            raise NoSuchDisk(f"there is no disk {request.disk!r}")
        self._troubles.over("disk_url_changed", disk.disk_id)
        self._events.record(
            "disk_confirmed", disk=disk.name, disk_id=disk.disk_id, url=request.url, key_id=session.key_id
        )
        return Done()


def _require_joinable(request: Join) -> None:
    """
    Raises:
        BadRequest: no actor of this store joins like that.
    """
    if request.role == "gateway":
        if request.disk_id or not request.disk_name:
            raise BadRequest("a gateway has a name, and no disk")
        return
    if request.role not in ("volume", "compactor"):
        raise BadRequest(f"an actor joins as volume, compactor or gateway, not as {request.role!r}")
    if not 0 < len(request.disk_id) <= DISK_ID_SIZE_MAX or request.disk_id == MASTER_AUDIENCE:
        raise BadRequest("a disk is named by a UUID")
