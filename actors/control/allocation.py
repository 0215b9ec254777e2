"""Room: finds volumes for new needles, waits while the next volume is being made, and says why there is none.

Every request that needs room comes through here: leases, slots of uploads, presigned PUTs.  So all of them
wait in the same way, and the refusals have the same words.  What a refusal means:

    overloaded       room is on its way (the next volume, the next needle ids): the same request works soon
    volume_offline   a disk that may have room is offline
    disk_failed      a disk has room and takes no writes: an operator should check it
    cluster_full     every disk is full, until somebody deletes objects or adds a disk
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from random import Random
from typing import TypeVar

import trio

from warehouse.actors.control.fleet import Fleet
from warehouse.actors.control.fleet_room import Outlook
from warehouse.actors.control.fleet_state import VolumeState
from warehouse.conf.formatting import format_size
from warehouse.errors import ClusterFull, DiskFailed, Overloaded, StoreError, VolumeOffline

ROOM_WAIT_S = 5.0  # how long a request waits for room that is on its way
LOOK_S = 0.25  # between looks while a request waits, because reservations that end wake nobody
NAMED_MAX = 5  # disks in one message
OVERHEAD = 16 * 1024  # headers and metadata of a needle, generously

T = TypeVar("T")


def needed_for(size: int) -> int:
    """Bytes to reserve for a needle with `size` bytes of data; its head and block CRCs are added."""
    return size + size // 1024 + OVERHEAD


class Room:
    def __init__(self, fleet: Fleet, random: Random) -> None:
        self._fleet = fleet
        self._random = random
        self._came = trio.Event()
        self.waiting_count = 0
        fleet.room.on_room = self._room_came

    def find_now(
        self, size: int, *, count: int = 1, exclude: Collection[int] = (), format_min: int = 1
    ) -> list[VolumeState]:
        """Up to `count` volumes with room for `size` bytes each.

        Args:
            exclude: volumes that failed the client; chosen only where no other volume has room.
            format_min: of the volumes.
        """

        def choose(exclude: Collection[int]) -> list[VolumeState]:
            return self._fleet.room.choose(
                size=size, count=count, exclude=exclude, random=self._random, format_min=format_min
            )

        return choose(exclude) or (choose(()) if exclude else [])

    async def find(self, size: int, *, exclude: Collection[int] = (), format_min: int = 1) -> VolumeState:
        """A volume with room for `size` bytes; waits and raises as `until` does."""

        def attempt() -> list[VolumeState] | None:
            return self.find_now(size, exclude=exclude, format_min=format_min) or None

        return (await self.until(size, attempt, format_min=format_min))[0]

    async def until(self, size: int, attempt: Callable[[], T | None], *, format_min: int = 1) -> T:
        """Call `attempt` until it finds room, and return its result; give up when no room is on its way.

        Args:
            size: bytes of room in one volume that `attempt` needs at least.
            attempt: returns None when it finds no room.
            format_min: of the volumes that it takes.
        Raises:
            Overloaded: room is still on its way after ROOM_WAIT_S.
            VolumeOffline, DiskFailed, ClusterFull: no room is on its way.
        """
        deadline = trio.current_time() + ROOM_WAIT_S
        while True:
            came = self._came
            found = attempt()
            if found is not None:
                return found
            error = self.refusal(size, format_min)
            if not isinstance(error, Overloaded) or trio.current_time() >= deadline:
                raise error
            self.waiting_count += 1
            try:
                with trio.CancelScope(deadline=min(deadline, trio.current_time() + LOOK_S)):
                    await came.wait()
            finally:
                self.waiting_count -= 1

    def require_coming(self, size: int, format_min: int = 1) -> None:
        """A request found no room: raise unless room is on its way, and the request can wait for it."""
        error = self.refusal(size, format_min)
        if not isinstance(error, Overloaded):
            raise error

    def _room_came(self) -> None:
        if self.waiting_count:
            self._came.set()
            self._came = trio.Event()

    # --- why not ----------------------------------------------------------------------------------

    def refusal(self, size: int, format_min: int = 1) -> StoreError:
        """Why there is no room for `size` bytes now, disk by disk; disks make volumes of that format."""
        self._fleet.room.want_format(format_min)
        outlooks = [
            (disk.name, *self._fleet.room.outlook(disk, size, format_min))
            for disk in self._fleet.disks.values()
        ]
        kinds = {kind for _, kind, _ in outlooks}
        what = format_size(size)
        if Outlook.COMING in kinds:
            coming = _named((name, text) for name, kind, text in outlooks if kind is Outlook.COMING)
            return Overloaded(f"no volume has room for {what} yet ({coming}): try again in a moment")
        causes = _named((name, text) for name, _, text in sorted(outlooks, key=_worst_first))
        if not outlooks:
            return VolumeOffline(
                "no volume takes writes now: no disk has ever been connected; start a volume actor"
            )
        if Outlook.OFFLINE in kinds:
            return VolumeOffline(f"no volume takes {what} now ({causes}): start the disks that are offline")
        if Outlook.FAILING in kinds:
            return DiskFailed(f"no volume takes {what} now ({causes}): check the disks that fail")
        return ClusterFull(f"no disk has room for {what} more ({causes}): delete objects or add a disk")

    def require_in_all(self, size: int) -> None:
        """Refuse a size that all disks together cannot take.

        While no volume takes writes, this refuses nothing, because that state passes: the request waits for
        its slots.

        Raises:
            VolumeOffline, DiskFailed: it might fit with the disks that take no writes now.
            ClusterFull: it does not fit.
        """
        most = self._fleet.room.takes_at_most
        if size <= most or self._fleet.room.writable_count() == 0:
            return
        disks = self._fleet.disks.values()
        text = f"the disks that take writes have room for {format_size(most)}, not for {format_size(size)}"
        if offline := [disk.name for disk in disks if not disk.is_online]:
            raise VolumeOffline(f"{text}; offline: {_listed(offline)}")
        if failing := [(disk.name, disk.cause) for disk in disks if disk.cause]:
            raise DiskFailed(f"{text}; {_named(failing)}")
        raise ClusterFull(f"{text}: delete objects or add a disk")


def _worst_first(outlook: tuple[str, Outlook, str]) -> tuple[bool, str]:
    return outlook[1] is Outlook.FULL, outlook[0]


def _named(causes: Iterable[tuple[str, str]]) -> str:
    return _listed([f"{name}: {text}" for name, text in causes], separator="; ")


def _listed(names: list[str], separator: str = ", ") -> str:
    more = len(names) - NAMED_MAX
    return separator.join(names[:NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
