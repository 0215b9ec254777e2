"""Policy: which volume of a disk should be compacted or verified next, if any.

Pure: the usage of a disk goes in, a volume id comes out.  `job_scheduler` decides when a job may run, and
`rate_policy` how fast.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from warehouse.conf.settings import Compaction, Verification
from warehouse.storage.compaction.free_space import free_bytes_needed

MIB = 1024 * 1024

# When room is short, less waste is worth a copy.  Below this, a copy is never worth it.
PRESSED_PERCENT = 5
PRESSED_MIN = 4 * MIB

BARRED_S = 600.0  # for how long the policy leaves a volume alone after a job that came to nothing
CRAMPED_S = 30.0  # the same where the job lacked room and has it now, or where room is short
IN_VAIN, FAILED, CANCELLED, NO_ROOM = "in_vain", "failed", "cancelled", "no_room"

LEFT_ALONE_PERCENT = 1  # of a file: a compaction of all volumes leaves a volume with less waste alone


@dataclass(frozen=True)
class Bar:
    """The latest job of a volume came to nothing: why, and how much garbage the volume held then."""

    cause: str
    at: float  # monotonic seconds
    dead_bytes: int = 0
    job_id: int = 0
    code: str = ""
    message: str = ""


@dataclass(frozen=True)
class VolumeUsage:
    """What the policy looks at; the bytes are those of the volume's latest report."""

    volume_id: int
    file_size: int
    live_bytes: int
    dead_bytes: int
    kept_bytes: int
    is_sealed: bool
    checked_ms: int  # when the latest complete verification began, or the volume was created
    live_count: int = 0
    dead_count: int = 0
    needle_id_max: int = 0


@dataclass(frozen=True)
class DiskUsage:
    free: int
    is_pressed: bool  # room is short, so less waste is worth a compaction
    volumes: Sequence[VolumeUsage]


def volume_to_compact(
    disk: DiskUsage, settings: Compaction, *, bars: Mapping[int, Bar] | None = None, now: float = 0.0
) -> int | None:
    """The most wasteful volume that is worth a compaction; volumes whose copy fits go first.

    Args:
        bars: by volume, why its latest compaction came to nothing.
    """
    if settings.automatic == "off":
        return None
    bars = bars or {}
    worth_it = [
        volume
        for volume in disk.volumes
        if not volume.is_sealed
        and is_wasteful(volume, disk, settings)
        and barred_until(volume, disk, settings, bars.get(volume.volume_id), now=now) is None
    ]
    # Where no copy fits, an attempt is made all the same: its failure shows operators the numbers.
    best = max(worth_it, key=lambda volume: (_fits(volume, disk), volume.dead_bytes), default=None)
    return None if best is None else best.volume_id


def barred_until(
    volume: VolumeUsage, disk: DiskUsage, settings: Compaction, bar: Bar | None, *, now: float
) -> float | None:
    """Until when the policy leaves this volume alone, if nothing changes; None: it does not.

    A bar lasts only while the volume is what it was: new waste lifts the bar, and so does a lack of room.
    """
    if bar is None or now >= bar.at + BARRED_S:
        return None
    if bar.cause == IN_VAIN:
        return bar.at + BARRED_S if volume.dead_bytes == bar.dead_bytes else None
    if bar.cause == NO_ROOM:
        # A user who deletes objects on a full disk does not want to wait.
        if not _fits(volume, disk):
            return bar.at + BARRED_S
        return bar.at + CRAMPED_S if now < bar.at + CRAMPED_S else None
    if disk.is_pressed:
        return bar.at + CRAMPED_S if now < bar.at + CRAMPED_S else None
    grown = volume.dead_bytes - bar.dead_bytes
    if _wastes(grown, volume.file_size, settings.wasted_percent, settings.wasted_min):
        return None
    return bar.at + BARRED_S


def gives_next_to_nothing(file_size: int, dead_bytes: int) -> bool:
    """Would a compaction give back so little that a compaction of all volumes skips this one?"""
    return 100 * dead_bytes < LEFT_ALONE_PERCENT * file_size


def is_wasteful(volume: VolumeUsage, disk: DiskUsage, settings: Compaction) -> bool:
    """Is this volume worth a compaction that no operator asked for?"""
    dead_bytes, file_size = volume.dead_bytes, volume.file_size
    return _wastes(dead_bytes, file_size, settings.wasted_percent, settings.wasted_min) or (
        disk.is_pressed and _wastes(dead_bytes, file_size, PRESSED_PERCENT, PRESSED_MIN)
    )


def _wastes(dead_bytes: int, file_size: int, percent: int, least: int) -> bool:
    return dead_bytes >= max(1, least) and 100 * dead_bytes >= percent * file_size


def _fits(volume: VolumeUsage, disk: DiskUsage) -> bool:
    needed = free_bytes_needed(
        live_bytes=volume.live_bytes,
        kept_bytes=volume.kept_bytes,
        live_count=volume.live_count,
        dead_count=volume.dead_count,
        needle_id_max=volume.needle_id_max,
    )
    return needed <= disk.free


def volume_to_verify(
    disk: DiskUsage, settings: Verification, *, now_ms: int, barred: Collection[int] = frozenset()
) -> int | None:
    """The volume whose bytes went unread for longest, once half of the period is over.

    A verification begins at half of the period, so that a slow or interrupted one still ends within it.
    """
    if settings.automatic == "off":
        return None
    due_ms = now_ms - settings.period_s * 1000 / 2
    due = [
        volume for volume in disk.volumes if volume.checked_ms <= due_ms and volume.volume_id not in barred
    ]
    oldest = min(due, key=lambda volume: (volume.checked_ms, volume.volume_id), default=None)
    return None if oldest is None else oldest.volume_id
