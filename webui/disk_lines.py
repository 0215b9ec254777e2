"""Disk lines: how full a disk is and by what, and how it is, for the tables that show disks.  Pure."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from warehouse.conf.formatting import format_size
from warehouse.transport.messages import DiskStatus
from warehouse.webui.rendering import share
from warehouse.webui.standing import FULL_SHARE

OTHERS_SHARE_MIN = 0.01  # of a disk; indexes and journals of the store are files, too


@dataclass(frozen=True)
class DiskLine:
    """A disk in a table.

    Attributes:
        own, wasted, others: what lives in its volumes, what is dead in them, and all other files, in percent
            of the whole disk.
    """

    disk: DiskStatus

    @property
    def host(self) -> str:
        return urlsplit(self.disk.url).hostname or ""

    @property
    def is_known(self) -> bool:
        """Has it told how large it is?"""
        return self.disk.capacity > 0

    @property
    def other_bytes(self) -> int:
        """Bytes of files that are not the store's; 0 where these are hardly any."""
        disk = self.disk
        found = disk.capacity - disk.free - disk.live_bytes - disk.dead_bytes
        return found if found >= OTHERS_SHARE_MIN * disk.capacity else 0

    @property
    def own(self) -> float:
        return share(self.disk.live_bytes, self.disk.capacity)

    @property
    def wasted(self) -> float:
        return share(self.disk.dead_bytes, self.disk.capacity)

    @property
    def others(self) -> float:
        return share(self.other_bytes, self.disk.capacity)

    @property
    def is_full(self) -> bool:
        return self.is_known and 1 - self.disk.free / self.disk.capacity >= FULL_SHARE

    @property
    def state(self) -> tuple[str, str]:
        """A kind of pill, and its word."""
        if not self.disk.is_online:
            return "bad", "offline"
        if self.disk.is_read_only or self.disk.set_aside:
            return "warn", "takes no writes"
        return "good", "online"

    @property
    def words(self) -> str:
        """What a screen reader says of the meter."""
        disk = self.disk
        parts = [f"{format_size(disk.live_bytes)} stored", f"{format_size(disk.dead_bytes)} wasted"]
        if self.other_bytes:
            parts.append(f"{format_size(self.other_bytes)} in other files")
        return f"{disk.name}: {', '.join(parts)}, {format_size(disk.free)} free"
