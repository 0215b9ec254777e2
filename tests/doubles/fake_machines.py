"""The machines of a fake store: join tokens that are made and removed, and two nodes with a disk each."""

from __future__ import annotations

import secrets
import time

from warehouse.errors import BadRequest, NoSuchDisk, NoSuchJoinToken, NoSuchNode
from warehouse.transport.messages import (
    Answer,
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
    NodeInfo,
    Nodes,
    RemoveDisk,
    RemoveJoinToken,
    RemoveNode,
    Request,
)

LOST = [  # with each of the disks; the second object comes once for each of its chunks
    LostObject(volume_id=1, needle_id=1, size=1000, bucket="photos", key="a/b"),
    LostObject(volume_id=2, needle_id=1, size=5_000_000, is_elsewhere=True),
    LostObject(volume_id=2, needle_id=1, size=5_000_000, is_elsewhere=True),
]


class FakeMachines:
    def __init__(self) -> None:
        self.tokens: dict[str, JoinTokenInfo] = {}
        names = ("disk-1", "disk-2")
        self.nodes = {
            name: NodeInfo(key=f"{name:*<40}", name=name, role="both", added_ms=1, disk_ids=[name])
            for name in names
        }
        self.urls = dict.fromkeys(names, "http://127.0.0.1:7410")

    def answer(self, request: Request) -> Answer:
        match request:
            case CreateJoinToken():
                return self._create(request)
            case ListJoinTokens():
                return JoinTokens(tokens=[*self.tokens.values()])
            case RemoveJoinToken(token_id=token_id):
                if self.tokens.pop(token_id, None) is None:
                    raise NoSuchJoinToken(f"there is no join token {token_id}")
                return Done()
            case ListNodes():
                return Nodes(nodes=[*self.nodes.values()])
            case RemoveNode(node=node):
                if self.nodes.pop(node, None) is None:
                    raise NoSuchNode(f"there is no node {node!r}")
                return Done()
            case ListDisks():
                return Disks(disks=[_disk(name, url) for name, url in self.urls.items()])
            case ConfirmDisk(disk=disk, url=url):
                if disk not in self.urls:
                    raise NoSuchDisk(f"there is no disk {disk!r}")
                self.urls[disk] = url
                return Done()
            case ListLost(disk=disk):
                self._require(disk)
                return Lost(objects=LOST)
            case RemoveDisk(disk=disk):
                self._require(disk)
                del self.urls[disk]
                return DiskRemoved(object_count=len(LOST), byte_count=sum(one.size for one in LOST))
        raise BadRequest(f"not for a master: {type(request).__name__}")

    def _require(self, disk: str) -> None:
        if disk not in self.urls:
            raise NoSuchDisk(f"there is no disk {disk!r}")

    def _create(self, request: CreateJoinToken) -> JoinTokenMade:
        token_id, now_ms = secrets.token_hex(6), time.time_ns() // 1_000_000
        expires_ms = None if request.expires_in_s is None else now_ms + int(request.expires_in_s * 1000)
        self.tokens[token_id] = JoinTokenInfo(
            token_id=token_id,
            role=request.role,
            is_reusable=request.is_reusable,
            created_ms=now_ms,
            created_by="WH1",
            expires_ms=expires_ms,
        )
        text = f"wjt-{token_id}-{secrets.token_urlsafe(32)}"
        return JoinTokenMade(token_id=token_id, token=text, expires_ms=expires_ms)


def _disk(name: str, url: str) -> DiskInfo:
    return DiskInfo(disk_id=name, name=name, is_online=True, volume_count=1, url=url, node_name=name)
