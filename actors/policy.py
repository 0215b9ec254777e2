"""Policy: which volume of a disk should be compacted or verified next, if any.

Pure: what is known about the disk goes in, a volume id comes out.  When a job may run, and how fast, is
decided elsewhere (`jobs`, `pace`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from conf.settings import Compaction, Verification

MIB = 1024 * 1024

# When room is short, less waste is worth the copying; below this it would be work for nothing.
PRESSED_PERCENT = 5
PRESSED_MIN = 4 * MIB

COPY_MARGIN = 16 * MIB  # what a copy may take beyond what it holds: index, superblock, preallocation
COPY_MARGIN_PERCENT = 1


@dataclass(frozen=True)
class VolumeFacts:
    """What the policy looks at; bytes are those of the volume's latest report."""

    volume_id: int
    file_size: int
    live_bytes: int
    dead_bytes: int
    kept_bytes: int
    is_sealed: bool
    checked_ms: int  # when the last complete verification began, or the volume was created


@dataclass(frozen=True)
class DiskFacts:
    free: int
    is_pressed: bool  # room is short: waste is given back earlier
    volumes: Sequence[VolumeFacts]


def copy_size(live_bytes: int, kept_bytes: int) -> int:
    """Bytes that must be free for the copy that a compaction makes."""
    size = live_bytes + kept_bytes
    return size + size * COPY_MARGIN_PERCENT // 100 + COPY_MARGIN


def volume_to_compact(
    disk: DiskFacts,
    settings: Compaction,
    *,
    barred: Collection[int] = frozenset(),
    cramped: Collection[int] = frozenset(),
) -> int | None:
    """The most wasteful volume that is worth a compaction; one whose copy fits before one whose does not.

    Args:
        barred: volumes that were tried in vain a moment ago.
        cramped: those of them that lacked room only, so they are tried as soon as their copy fits: whoever
            deletes on a full disk does not want to wait.
    """
    if settings.automatic == "off":
        return None
    worth_it = [
        volume
        for volume in disk.volumes
        if not volume.is_sealed
        and (volume.volume_id not in barred or (volume.volume_id in cramped and _fits(volume, disk)))
        and _is_wasteful(volume, settings, is_pressed=disk.is_pressed)
    ]
    # Where no copy fits, the attempt fails with the numbers that an operator needs to see.
    best = max(worth_it, key=lambda volume: (_fits(volume, disk), volume.dead_bytes), default=None)
    return None if best is None else best.volume_id


def _is_wasteful(volume: VolumeFacts, settings: Compaction, *, is_pressed: bool) -> bool:
    def wastes(percent: int, least: int) -> bool:
        return volume.dead_bytes >= max(1, least) and 100 * volume.dead_bytes >= percent * volume.file_size

    return wastes(settings.wasted_percent, settings.wasted_min) or (
        is_pressed and wastes(PRESSED_PERCENT, PRESSED_MIN)
    )


def _fits(volume: VolumeFacts, disk: DiskFacts) -> bool:
    return copy_size(volume.live_bytes, volume.kept_bytes) <= disk.free


def volume_to_verify(
    disk: DiskFacts, settings: Verification, *, now_ms: int, barred: Collection[int] = frozenset()
) -> int | None:
    """The volume whose bytes went unread for longest, once half of the period is over.

    Half, so that a pass that is interrupted or slow still ends within the period.
    """
    if settings.automatic == "off":
        return None
    due_ms = now_ms - settings.period_s * 1000 / 2
    due = [
        volume for volume in disk.volumes if volume.checked_ms <= due_ms and volume.volume_id not in barred
    ]
    oldest = min(due, key=lambda volume: (volume.checked_ms, volume.volume_id), default=None)
    return None if oldest is None else oldest.volume_id
