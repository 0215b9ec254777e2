"""JobPeers: the two actors of a disk that an attempt at a job talks to."""

from __future__ import annotations

from dataclasses import dataclass

from warehouse.actors.control.fleet_state import DiskState
from warehouse.errors import CompactorOffline, LinkDown, VolumeOffline
from warehouse.transport.zeromq.peers import Peer


@dataclass(frozen=True)
class JobPeers:
    """The two connections that an attempt depends on."""

    disk: DiskState
    actor: Peer
    compactor: Peer

    @classmethod
    def of(cls, disk: DiskState) -> JobPeers:
        if disk.peer is None:
            raise VolumeOffline(f"disk {disk.name} is offline")
        if disk.compactor is None:
            raise CompactorOffline(f"no compactor is connected for disk {disk.name}")
        return cls(disk, disk.peer, disk.compactor)

    def check_actor(self) -> None:
        """
        Raises:
            LinkDown: the volume actor went away, or another process has its place.
        """
        if self.disk.peer is not self.actor:
            raise LinkDown(f"the volume actor of {self.disk.name} went away, or was started again")

    def check(self) -> None:
        """
        Raises:
            LinkDown: one of the two went away, or another process has its place.
        """
        self.check_actor()
        if self.disk.compactor is not self.compactor:
            raise LinkDown(f"the compactor of {self.disk.name} went away, or was started again")
