"""Messages about the machines of the store: how they join, what they are good for, and how they leave."""

from __future__ import annotations

from typing import Annotated

import msgspec

from warehouse.transport.messages.base import Message
from warehouse.transport.messages.numbers import Whole
from warehouse.transport.messages.texts import Few, Key, Many, Name, Secret, Url, Word


class Join(Message, frozen=True, tag="join"):
    """The first words of a machine that the store does not know: its key becomes that of a node."""

    token: Secret
    disk_id: Name  # "" of a gateway
    disk_name: Name  # of a gateway its own name
    role: Word  # of the actor that asks: "volume", "compactor" or "gateway"


# --- join tokens ----------------------------------------------------------------------------------


class CreateJoinToken(Message, frozen=True, tag="create_join_token"):
    role: Word = "both"  # or "volume", "compactor", "gateway"
    is_reusable: bool = False
    expires_in_s: float | None = None  # None: never


class JoinTokenMade(Message, frozen=True, tag="join_token_made"):
    token_id: Name
    token: Secret  # told this once
    expires_ms: Whole | None = None


class ListJoinTokens(Message, frozen=True, tag="list_join_tokens"):
    pass


class JoinTokenInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A join token, without its secret; times in milliseconds since 1970."""

    token_id: Name
    role: Word
    is_reusable: bool
    created_ms: Whole
    created_by: Name  # the id of an API key; "": the first start of the store
    expires_ms: Whole | None = None  # None: never
    use_count: Whole = 0


class JoinTokens(Message, frozen=True, tag="join_tokens"):
    tokens: Annotated[list[JoinTokenInfo], Few]


class RemoveJoinToken(Message, frozen=True, tag="remove_join_token"):
    token_id: Name


# --- nodes ----------------------------------------------------------------------------------------


class ListNodes(Message, frozen=True, tag="list_nodes"):
    pass


class NodeInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A machine's key, and what it is good for."""

    key: Name  # CURVE public key, Z85
    name: Name
    role: Word  # "volume", "compactor", "both" or "gateway"
    added_ms: Whole
    host: Name = ""  # where it joined from
    joined_with: Name | None = None  # the id of its join token
    disk_ids: Annotated[list[Name], Few] = []  # the disks that belong to it
    is_online: bool = False
    removed_ms: Whole | None = None  # None: it is a node


class Nodes(Message, frozen=True, tag="nodes"):
    nodes: Annotated[list[NodeInfo], Many]


class RemoveNode(Message, frozen=True, tag="remove_node"):
    """End the connections of a node, and never let its key in again."""

    node: Name  # its key or its name


# --- disks ----------------------------------------------------------------------------------------


class ListDisks(Message, frozen=True, tag="list_disks"):
    pass


class DiskInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A disk of the store, and the node that it belongs to."""

    disk_id: Name
    name: Name
    is_online: bool
    volume_count: Whole
    byte_count: Whole = 0  # of its volume files, as far as the disk has told
    url: Url = ""  # where clients find it
    node_key: Name | None = None  # None: it belongs to no node yet
    node_name: Name = ""
    added_ms: Whole = 0


class Disks(Message, frozen=True, tag="disks"):
    disks: Annotated[list[DiskInfo], Many]


class LostPlace(msgspec.Struct, frozen=True, kw_only=True):
    """How far a list of lost objects has come."""

    volume_id: Whole
    is_in_chunks: bool = False  # further chunks of objects come after the objects that begin in the volume
    needle_id: Whole = 0  # the latest that was looked at


class ListLost(Message, frozen=True, tag="list_lost"):
    """A page of the objects that need a disk: without it, they are lost."""

    disk: Name  # its id or its name
    place: LostPlace | None = None  # None: from the beginning


class LostObject(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An object, by its first needle."""

    volume_id: Whole
    needle_id: Whole
    size: Whole
    bucket: Name = ""  # "": the key may not know its name
    key: Key = ""
    is_elsewhere: bool = False  # it begins on another disk, and comes once for each chunk on this one


class Lost(Message, frozen=True, tag="lost"):
    objects: Annotated[list[LostObject], Few]
    place: LostPlace | None = None  # where the next page begins; None: this is the last one


class RemoveDisk(Message, frozen=True, tag="remove_disk"):
    """Forget a disk that is gone for good, with all that needs it; ask again until it is done."""

    disk: Name  # its id or its name


class DiskRemoved(Message, frozen=True, tag="disk_removed"):
    """What was forgotten because of one request."""

    object_count: Whole
    byte_count: Whole
    upload_count: Whole = 0
    is_done: bool = True
    manifest_count: Whole = 0  # objects that stay, but that a rebuild from the disks would not find


class ConfirmDisk(Message, frozen=True, tag="confirm_disk"):
    """A disk may say that it is at this URL, although the host is another one than before."""

    disk: Name  # its id or its name
    url: Url
