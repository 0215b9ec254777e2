"""Fleet status: what operators see of disks and volumes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from warehouse.actors.control.fleet_state import DiskContent, DiskState, Seen, VolumeState
from warehouse.actors.control.reservations import Reservations
from warehouse.errors import BadRequest
from warehouse.transport.messages import DiskStatus, Job, VolumeReport, VolumeStatus
from warehouse.transport.messages.paging import ANSWER_SIZE_MAX, size_of

if TYPE_CHECKING:
    from warehouse.actors.control.fleet import Fleet


def health(fleet: Fleet) -> str:
    if fleet.room.writable_count() == 0:
        return "down"
    is_troubled = any(
        not disk.is_online or disk.troubled_count or disk.is_in_doubt or disk.set_aside is not None
        for disk in fleet.disks.values()
    )
    return "degraded" if is_troubled else "ok"


def unchecked_s(fleet: Fleet, now_ms: int) -> float:
    """Age of the oldest byte of all volumes that nobody has read since it was written."""
    oldest_ms = min((volume.checked_ms or now_ms for volume in fleet.volumes.values()), default=now_ms)
    return max(0, now_ms - oldest_ms) / 1000


def status(
    fleet: Fleet,
    reservations: Reservations,
    jobs: Mapping[int, Job],
    *,
    now_ms: int,
    from_disk: str = "",
    from_volume: int = 0,
    has_volumes: bool = True,
    contents: Mapping[str, DiskContent],
) -> tuple[list[DiskStatus], tuple[str, int] | None]:
    """Disks by name with their volumes, as many as fit into a message.

    Args:
        jobs: by volume, the job that is under way.
        from_disk: id of the disk to begin with; empty: the first disk.
        from_volume: the first volume of that disk to show.
        has_volumes: False: disks alone.
        contents: by disk id.
    Returns:
        The page, and where the next page begins (disk id, volume id); None: this was the last page.
    Raises:
        BadRequest: no disk has this id.
    """
    order = sorted(fleet.disks.values(), key=lambda disk: (disk.name, disk.disk_id))
    if from_disk and from_disk not in fleet.disks:
        raise BadRequest(f"there is no disk {from_disk!r} to continue with: ask for status from the start")
    start = order.index(fleet.disks[from_disk]) if from_disk else 0
    page: list[DiskStatus] = []
    left = ANSWER_SIZE_MAX
    for disk in order[start:]:
        if left < 0:
            return page, (disk.disk_id, 0)
        one = _disk_status(disk, contents.get(disk.disk_id, DiskContent()))
        left -= size_of(one)
        page.append(one)
        least = from_volume if disk.disk_id == from_disk else 0
        for volume_id in sorted(disk.volumes) if has_volumes else ():
            if volume_id < least:
                continue
            volume = volume_status(fleet, reservations, disk.volumes[volume_id], jobs.get(volume_id), now_ms)
            left -= size_of(volume)
            if left < 0 and one.volumes:
                return page, (disk.disk_id, volume_id)
            one.volumes.append(volume)
    return page, None


def _disk_status(disk: DiskState, content: DiskContent) -> DiskStatus:
    return DiskStatus(
        disk_id=disk.disk_id,
        name=disk.name,
        url=disk.url,
        is_online=disk.is_online,
        since_ms=disk.since_ms,
        capacity=disk.capacity,
        free=max(0, disk.free - disk.written),
        is_read_only=disk.is_read_only,
        clock_skew_s=disk.clock_skew_s,
        set_aside=disk.set_aside,
        volumes=[],
        volume_count=len(disk.volumes),
        live_count=content.live_count,
        live_bytes=content.stored_bytes,
        dead_bytes=content.dead_bytes,
    )


def volume_status(
    fleet: Fleet, reservations: Reservations, volume: VolumeState, job: Job | None, now_ms: int
) -> VolumeStatus:
    """
    Args:
        job: that is under way with it.
    """
    disk, seen = fleet.disks[volume.disk_id], volume.seen
    is_online, has_room = disk.is_online, fleet.room.on_disk(disk) > 0
    if (
        seen is not None
        and seen.status.job is job is None
        and (seen.is_online, seen.has_room) == (is_online, has_room)
        # The age that it shows is still right to a hundredth.
        and 0 <= now_ms - seen.at_ms <= 10 * seen.status.unchecked_s
    ):
        return seen.status
    checked_ms, reserved = volume.checked_ms, reservations.reserved(volume.volume_id)
    fits = has_room and volume.file_size + reserved < volume.capacity
    status = VolumeStatus(
        report=_report(volume),
        reserved_bytes=reserved,
        state=_state(volume, disk, has_room=fits),
        verified_ms=volume.verified_ms,
        # A volume of unknown age holds nothing that could be old.
        unchecked_s=max(0, now_ms - checked_ms) / 1000 if checked_ms else 0.0,
        job=job,
    )
    volume.seen = Seen(now_ms, is_online, has_room, status)
    return status


def _report(volume: VolumeState) -> VolumeReport:
    """The latest report, with what was committed since it was made."""
    report = volume.report
    if report is None:
        return VolumeReport(
            volume_id=volume.volume_id,
            uuid=volume.uuid,
            generation=0,
            capacity=volume.capacity,
            file_size=0,
            live_count=0,
            live_bytes=0,
            dead_bytes=0,
            needle_id_max=0,
            stamp_max=0,
        )
    if not volume.written_count:
        return report
    return msgspec.structs.replace(
        report,
        file_size=report.file_size + volume.written_since_report,
        live_count=report.live_count + volume.written_count,
        live_bytes=report.live_bytes + volume.written_since_report,
    )


def _state(volume: VolumeState, disk: DiskState, *, has_room: bool) -> str:
    if not volume.is_created:
        return "creating"
    if volume.report is None:
        return "missing" if disk.is_online else "offline"
    if volume.report.sealed_cause is not None:
        return "sealed"
    if not disk.is_online:
        return "offline"
    return "open" if has_room and not volume.is_out_of_ids else "full"
