"""Membership: the machines of a store, their join tokens and their disks, for a program."""

from __future__ import annotations

from collections.abc import AsyncIterator

from warehouse.client.control import Control
from warehouse.transport.messages import (
    ConfirmDisk,
    CreateJoinToken,
    DiskInfo,
    DiskRemoved,
    Disks,
    Done,
    JoinTokenInfo,
    JoinTokenMade,
    JoinTokens,
    ListDisks,
    ListJoinTokens,
    ListLost,
    ListNodes,
    Lost,
    LostObject,
    LostPlace,
    NodeInfo,
    Nodes,
    RemoveDisk,
    RemoveJoinToken,
    RemoveNode,
)

TOKEN_S = 24 * 3600.0


class Membership:
    """The methods of `Store` about its machines."""

    _control: Control

    # --- join tokens ------------------------------------------------------------------------------

    async def create_join_token(
        self, *, role: str = "both", is_reusable: bool = False, expires_in_s: float | None = TOKEN_S
    ) -> JoinTokenMade:
        """Make a token that lets a machine join the store.  Its text is told this once.

        Args:
            role: what the machine may be: "volume", "compactor" or "both".
            is_reusable: for any number of machines; without it, for one.
            expires_in_s: how long it is good, in seconds; None: until it is removed.
        Raises:
            PermissionDenied, BadRequest.
            OutcomeUnknown: the answer was lost; `join_tokens` lists what was made.
        """
        request = CreateJoinToken(role=role, is_reusable=is_reusable, expires_in_s=expires_in_s)
        return await self._control.ask(request, JoinTokenMade, is_repeatable=False)

    async def join_tokens(self) -> list[JoinTokenInfo]:
        """All join tokens, the oldest first; expired ones for a month."""
        return (await self._control.ask(ListJoinTokens(), JoinTokens)).tokens

    async def remove_join_token(self, token_id: str) -> None:
        """Let nobody join with this token any more; nodes that have joined stay.

        Raises:
            NoSuchJoinToken.
        """
        await self._control.ask(RemoveJoinToken(token_id=token_id), Done, is_repeatable=False)

    # --- nodes and disks --------------------------------------------------------------------------

    async def nodes(self) -> list[NodeInfo]:
        """All nodes, those that were removed included."""
        return (await self._control.ask(ListNodes(), Nodes)).nodes

    async def remove_node(self, node: str) -> None:
        """Remove a node, by its key or its name: its connections end now, and its key never comes back.

        Its disk stays in the catalog, offline.  Another node can take the disk over with a token that was
        made after the removal.

        Raises:
            NoSuchNode.
        """
        await self._control.ask(RemoveNode(node=node), Done, is_repeatable=False)

    async def disks(self) -> list[DiskInfo]:
        """All disks of the store, and the nodes that they belong to."""
        return (await self._control.ask(ListDisks(), Disks)).disks

    async def confirm_disk(self, disk: str, url: str) -> None:
        """Say that a disk, by its id or its name, is at this URL now, on another host than before.

        Raises:
            NoSuchDisk, BadRequest.
        """
        await self._control.ask(ConfirmDisk(disk=disk, url=url), Done)

    async def lost_objects(self, disk: str) -> AsyncIterator[LostObject]:
        """The objects that need a disk, by its id or its name: what is lost if it is gone for good.

        Bucket and key are "" where the key of this client may not know them.  An object comes once.

        Raises:
            NoSuchDisk, BadRequest.
        """
        place: LostPlace | None = None
        seen: set[tuple[int, int]] = set()
        while True:
            page = await self._control.ask(ListLost(disk=disk, place=place), Lost)
            for one in page.objects:
                if one.is_elsewhere:
                    first = (one.volume_id, one.needle_id)
                    if first in seen:
                        continue
                    seen.add(first)
                yield one
            if page.place is None:
                return
            place = page.place

    async def remove_disk(self, disk: str) -> DiskRemoved:
        """Forget a disk that is gone for good, by its id or its name, and all objects that need it.

        Objects of several chunks go as a whole; what other disks have of them is freed.  An object that loses
        its manifest alone stays; a rebuild from the disks would not find it, so `manifest_count` says how
        many there are.  Unfinished uploads that need the disk end.  Where this stops half way, another
        call goes on.

        Returns:
            How many objects, bytes and unfinished uploads were forgotten.
        Raises:
            NoSuchDisk, BadRequest.
            DiskOnline: the disk or its compactor is connected, or was less than 15 s ago.
            PermissionDenied: the key may not manage the cluster, or not delete in every bucket.
        """
        object_count = byte_count = upload_count = manifest_count = 0
        while True:
            done = await self._control.ask(RemoveDisk(disk=disk), DiskRemoved, is_repeatable=False)
            object_count += done.object_count
            byte_count += done.byte_count
            upload_count += done.upload_count
            manifest_count += done.manifest_count
            if done.is_done:
                return DiskRemoved(
                    object_count=object_count,
                    byte_count=byte_count,
                    upload_count=upload_count,
                    manifest_count=manifest_count,
                )
