"""Disk removal: what an operator does about a disk that is gone for good.

ListLost      which objects need the disk, a page at a time
RemoveDisk    forget the disk and all that needs it, for two seconds; the client asks again until it is done

A disk that may come back is not removed: it and its compactor must have been away for a while.  From the
first step on, the catalog says that the disk is removed, and `Lineage` refuses it.  So a removal that was cut
off by a crash goes on when the operator asks again.

It deletes what is in buckets of others.  So it needs the right to delete in every bucket, besides the right
to manage the cluster.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

import msgspec

from warehouse.actors.control.context import MasterContext, now_ms
from warehouse.actors.control.fleet_state import DiskState
from warehouse.actors.control.job_scheduler import JobScheduler
from warehouse.actors.control.lineage import Lineage
from warehouse.actors.control.nodes import Nodes
from warehouse.actors.control.reservations import Reservations
from warehouse.actors.control.routes import Routes
from warehouse.actors.control.sessions import Sessions
from warehouse.actors.control.sight import knows
from warehouse.auth.rights import Permission, Rights
from warehouse.catalog.records import REMOVED_DISK_META, BucketRow, DiskRemoval, LostRow
from warehouse.errors import DiskOnline, NoSuchBucket, PermissionDenied
from warehouse.transport.messages import (
    DiskRemoved,
    ListLost,
    Lost,
    LostObject,
    LostPlace,
    RemoveDisk,
)
from warehouse.transport.zeromq.peers import Peer

log = logging.getLogger(__name__)

PAGE = 500  # rows that one page looks at
VOLUMES_AT_ONCE = 100  # volumes that one page looks at
WORK_S = 2.0  # how long one request works


class DiskRemovalHandlers:
    """
    Args:
        disk_named: finds a disk by its id or its name.
        disconnect_key: closes all connections of a key.
    """

    def __init__(
        self,
        context: MasterContext,
        sessions: Sessions,
        *,
        nodes: Nodes,
        lineage: Lineage,
        reservations: Reservations,
        scheduler: JobScheduler,
        disk_named: Callable[[str], DiskState],
        disconnect_key: Callable[[str, str], int],
    ) -> None:
        self._context = context
        self._catalog = context.catalog
        self._fleet = context.fleet
        self._sessions = sessions
        self._nodes = nodes
        self._lineage = lineage
        self._reservations = reservations
        self._scheduler = scheduler
        self._disk_named = disk_named
        self._disconnect_key = disconnect_key

    def routes(self) -> Routes:
        return Routes().now(ListLost, self.list_lost).later(RemoveDisk, self.remove)

    # --- what is lost -----------------------------------------------------------------------------

    def list_lost(self, peer: Peer, request: ListLost) -> Lost:
        rights = self._sessions.require(peer, Permission.SEE_CLUSTER).rights
        disk = self._disk_named(request.disk)
        names = _Names(self._context, rights)
        for count, place in enumerate(_places(disk, request.place or LostPlace(volume_id=0)), 1):
            rows = self._catalog.lost_objects(
                place.volume_id, in_chunks=place.is_in_chunks, after_needle=place.needle_id, limit=PAGE
            )
            if rows:
                return Lost(
                    objects=[
                        names.shown(row, is_elsewhere=place.is_in_chunks)
                        for row in rows
                        if _is_here(row, disk, place)
                    ],
                    place=msgspec.structs.replace(place, needle_id=rows[-1].needle_id),
                )
            if count >= VOLUMES_AT_ONCE:
                return Lost(objects=[], place=place)
        return Lost(objects=[])

    # --- removing ---------------------------------------------------------------------------------

    async def remove(self, peer: Peer, request: RemoveDisk) -> DiskRemoved:
        session = self._sessions.require(peer, Permission.MANAGE_CLUSTER | Permission.DELETE)
        if not session.rights.is_everywhere:
            raise PermissionDenied(
                "removing a disk deletes what is on it: that needs a key with rights on every bucket"
            )
        disk = self._disk_named(request.disk)
        self._require_away(disk)
        try:
            with self._lineage.removing(disk.disk_id):
                total = await self._work(peer, disk)
            if total.is_done:
                self._forget(disk, session.key_id)
        finally:  # also when it was cut off
            self._tell_if_unfinished(disk)
        return total

    def load(self) -> None:
        """Tell of the removals that an earlier run of the master has begun."""
        for disk in self._fleet.disks.values():
            self._tell_if_unfinished(disk)

    def _tell_if_unfinished(self, disk: DiskState) -> None:
        is_known = self._fleet.disks.get(disk.disk_id) is disk
        if is_known and self._catalog.meta(REMOVED_DISK_META + disk.disk_id):
            self._context.troubles.tell(
                "disk_removal_unfinished",
                disk.disk_id,
                f"the removal of disk {disk.name} has begun and is not done; the disk never comes back. Go on"
                f" with `warehouse disks rm {disk.disk_id}`",
                disk=disk.name,
                disk_id=disk.disk_id,
            )

    async def _work(self, peer: Peer, disk: DiskState) -> DiskRemoved:
        """Do pieces of the removal until all or the time is over."""
        until = time.monotonic() + WORK_S
        total = DiskRemoved(object_count=0, byte_count=0, is_done=False)
        await self._scheduler.disk_lost(disk.disk_id)
        while not total.is_done and time.monotonic() < until:
            done = await self._piece(peer, disk.disk_id)
            if done.manifest_count:
                log.warning(
                    "objects lost their manifests: a rebuild would not find them",
                    extra={"disk_id": disk.disk_id, "count": done.manifest_count},
                )
            if done.object_count:
                self._context.changes.lost_track()
            for upload_id in done.upload_ids:
                self._reservations.release_group(upload_id)
            total = DiskRemoved(
                object_count=total.object_count + done.object_count,
                byte_count=total.byte_count + done.byte_count,
                upload_count=total.upload_count + len(done.upload_ids),
                is_done=done.is_done,
                manifest_count=total.manifest_count + done.manifest_count,
            )
        await self._scheduler.disk_lost(disk.disk_id)  # somebody may have started more
        return total

    async def _piece(self, peer: Peer, disk_id: str) -> DiskRemoval:
        removed_ms, stamp = now_ms(), self._context.stamp()
        return await self._context.writer.write(
            self._sessions.guarded(peer, lambda t: t.remove_disk(disk_id, removed_ms=removed_ms, stamp=stamp))
        )

    def _require_away(self, disk: DiskState) -> None:
        """
        Raises:
            DiskOnline: the disk or its compactor is connected, or was a moment ago.
        """
        for peer, what in ((disk.peer, "disk"), (disk.compactor, "the compactor of disk")):
            if peer is not None:
                raise DiskOnline(
                    f"{what} {disk.name} is online: only a disk that is gone for good is removed"
                )
        left_s = disk.away_at + self._context.intervals.away - time.monotonic()
        if left_s > 0:
            raise DiskOnline(
                f"disk {disk.name} may come back, it went a moment ago: ask again in {left_s + 0.5:.0f} s"
            )

    def _forget(self, disk: DiskState, key_id: str) -> None:
        """Nothing is left of the disk in the catalog."""
        if self._fleet.disks.get(disk.disk_id) is not disk:
            return  # another request was faster
        self._fleet.remove_disk(disk)
        self._lineage.forget_disk(disk.disk_id)
        for key in self._nodes.forget_disk(disk.disk_id):
            self._disconnect_key(key, "its disk was removed")
        subjects = {disk.disk_id, *(f"volume {volume_id}" for volume_id in disk.volumes)}
        self._context.troubles.over_all(subjects)
        log.warning("disk removed", extra={"disk": disk.name, "disk_id": disk.disk_id})
        self._context.events.record("disk_removed", disk=disk.name, disk_id=disk.disk_id, key_id=key_id)


def _places(disk: DiskState, begin: LostPlace) -> Iterator[LostPlace]:
    """Where to look: of each volume, what begins in it, then what has chunks in it."""
    for volume_id in sorted(volume_id for volume_id in disk.volumes if volume_id >= begin.volume_id):
        for is_in_chunks in (False, True):
            if volume_id > begin.volume_id or is_in_chunks > begin.is_in_chunks:
                yield LostPlace(volume_id=volume_id, is_in_chunks=is_in_chunks)
            elif is_in_chunks == begin.is_in_chunks:
                yield LostPlace(volume_id=volume_id, is_in_chunks=is_in_chunks, needle_id=begin.needle_id)


def _is_here(row: LostRow, disk: DiskState, place: LostPlace) -> bool:
    """Does this place count the object?  One that begins on the disk counts where it begins."""
    return row.first is not None and not (place.is_in_chunks and row.first[0] in disk.volumes)


class _Names:
    """Which names a key is shown."""

    def __init__(self, context: MasterContext, rights: Rights) -> None:
        self._catalog = context.catalog
        self._rights = rights
        self._buckets: dict[int, BucketRow | None] = {}

    def shown(self, row: LostRow, *, is_elsewhere: bool) -> LostObject:
        assert row.first is not None
        volume_id, needle_id = row.first
        bucket, name, key = self._bucket(row.bucket_id), "", ""
        if bucket is not None and self._rights.sees(bucket):
            name, key = bucket.name, row.key if knows(self._rights, bucket, row.key) else ""
        return LostObject(
            volume_id=volume_id,
            needle_id=needle_id,
            size=row.size,
            bucket=name,
            key=key,
            is_elsewhere=is_elsewhere,
        )

    def _bucket(self, bucket_id: int) -> BucketRow | None:
        if bucket_id not in self._buckets:
            try:
                self._buckets[bucket_id] = self._catalog.bucket_by_id(bucket_id)
            except NoSuchBucket:  # it is being deleted
                self._buckets[bucket_id] = None
        return self._buckets[bucket_id]
