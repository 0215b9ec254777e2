"""The policy: what should be compacted or verified next, as tables."""

from __future__ import annotations

from typing import Any

import pytest

from warehouse.actors.control.job_policy import (
    BARRED_S,
    CRAMPED_S,
    Bar,
    DiskUsage,
    VolumeUsage,
    volume_to_compact,
    volume_to_verify,
)
from warehouse.conf.settings import Compaction, Verification
from warehouse.storage.compaction.free_space import free_bytes_needed

MIB = 1024 * 1024
GIB = 1024 * MIB
DAY_MS = 86_400_000
NOW_MS = 1_000 * DAY_MS


def volume(volume_id: int, dead: int = 0, size: int = 1 * GIB, **changes: Any) -> VolumeUsage:
    values: dict[str, Any] = {
        "volume_id": volume_id,
        "file_size": size,
        "live_bytes": size - dead,
        "dead_bytes": dead,
        "kept_bytes": 0,
        "is_sealed": False,
        "checked_ms": NOW_MS,
    }
    return VolumeUsage(**{**values, **changes})


def disk(*volumes: VolumeUsage, free: int = 100 * GIB, is_pressed: bool = False) -> DiskUsage:
    return DiskUsage(free=free, is_pressed=is_pressed, volumes=volumes)


COMPACT_CASES = [
    ("nothing is wasted", disk(volume(1)), None),
    ("no volume at all", disk(), None),
    ("just below the share", disk(volume(1, 307 * MIB)), None),
    ("at the share", disk(volume(1, 308 * MIB)), 1),
    ("a great share of a small volume", disk(volume(1, 60 * MIB, size=100 * MIB)), None),
    ("at the least worth it", disk(volume(1, 64 * MIB, size=100 * MIB)), 1),
    ("the most wasteful first", disk(volume(1, 400 * MIB), volume(2, 500 * MIB)), 2),
    ("a sealed one takes no orders", disk(volume(1, 900 * MIB, is_sealed=True)), None),
    ("under pressure 5 % are enough", disk(volume(1, 52 * MIB), is_pressed=True), 1),
    ("but less is not", disk(volume(1, 51 * MIB), is_pressed=True), None),
    ("nor are a few bytes of a tiny volume", disk(volume(1, 3 * MIB, size=4 * MIB), is_pressed=True), None),
    (
        "one whose copy fits goes before a more wasteful one",
        disk(volume(1, 4 * GIB, size=9 * GIB), volume(2, 600 * MIB), free=2 * GIB),
        2,
    ),
    ("where no copy fits the attempt says so", disk(volume(1, 4 * GIB, size=9 * GIB), free=2 * GIB), 1),
]


DELETED = disk(volume(1, 1 * GIB))  # every byte of it is dead
NO_ROOM_YET = disk(volume(1, 4 * GIB, size=9 * GIB), free=2 * GIB)
EMPTIED = disk(volume(1, 8 * GIB, size=9 * GIB), free=2 * GIB)
BAR_CASES = [
    ("in vain, and nothing changed", DELETED, Bar("in_vain", 0.0, 1 * GIB), BARRED_S - 1, None),
    ("in vain, and more died", DELETED, Bar("in_vain", 0.0, 0), 0.0, 1),
    ("in vain, long ago", DELETED, Bar("in_vain", 0.0, 1 * GIB), BARRED_S, 1),
    ("failed", DELETED, Bar("failed", 0.0, 1 * GIB - 1), BARRED_S - 1, None),
    ("failed, and as much again died", DELETED, Bar("failed", 0.0, GIB // 2), 0.0, 1),
    ("cancelled", DELETED, Bar("cancelled", 0.0, 1 * GIB - 1), BARRED_S - 1, None),
    (
        "cancelled, but room is short",
        disk(volume(1, 1 * GIB), is_pressed=True),
        Bar("cancelled", 0.0, 1 * GIB),
        CRAMPED_S,
        1,
    ),
    (
        "failed a moment ago, and room is short",
        disk(volume(1, 1 * GIB), is_pressed=True),
        Bar("failed", 0.0, 1 * GIB),
        CRAMPED_S - 1,
        None,
    ),
    ("no room, and none came", NO_ROOM_YET, Bar("no_room", 0.0), BARRED_S - 1, None),
    ("no room, and there is enough now", EMPTIED, Bar("no_room", 0.0), CRAMPED_S, 1),
    ("no room a moment ago", EMPTIED, Bar("no_room", 0.0), CRAMPED_S - 1, None),
]


@pytest.mark.parametrize(("name", "usage", "bar", "now", "wanted"), BAR_CASES, ids=[c[0] for c in BAR_CASES])
def test_a_volume_is_left_alone_only_while_it_is_what_it_was(
    name: str, usage: DiskUsage, bar: Bar, now: float, wanted: int | None
) -> None:
    assert volume_to_compact(usage, Compaction(), bars={1: bar}, now=now) == wanted


@pytest.mark.parametrize(("name", "usage", "wanted"), COMPACT_CASES, ids=[case[0] for case in COMPACT_CASES])
def test_what_is_compacted_next(name: str, usage: DiskUsage, wanted: int | None) -> None:
    assert volume_to_compact(usage, Compaction()) == wanted


def test_nothing_is_compacted_when_it_is_off_or_was_tried_in_vain() -> None:
    usage = disk(volume(1, 900 * MIB), volume(2, 400 * MIB))
    assert volume_to_compact(usage, Compaction(automatic="off")) is None
    failed = {1: Bar("failed", 0.0, 900 * MIB), 2: Bar("failed", 0.0, 400 * MIB)}
    assert volume_to_compact(usage, Compaction(), bars={1: failed[1]}) == 2
    assert volume_to_compact(usage, Compaction(), bars=failed) is None


def test_a_volume_without_garbage_is_never_wasteful_whatever_the_settings() -> None:
    assert volume_to_compact(disk(volume(1)), Compaction(wasted_percent=1, wasted_min=0)) is None


VERIFY_CASES = [
    ("read a moment ago", disk(volume(1)), None),
    ("half of the period is not over", disk(volume(1, checked_ms=NOW_MS - 7 * DAY_MS + 1)), None),
    ("half of the period is over", disk(volume(1, checked_ms=NOW_MS - 7 * DAY_MS)), 1),
    (
        "the oldest first",
        disk(volume(1, checked_ms=NOW_MS - 8 * DAY_MS), volume(2, checked_ms=NOW_MS - 9 * DAY_MS)),
        2,
    ),
    ("a sealed one can be read", disk(volume(1, checked_ms=0, is_sealed=True)), 1),
]


@pytest.mark.parametrize(("name", "usage", "wanted"), VERIFY_CASES, ids=[case[0] for case in VERIFY_CASES])
def test_what_is_verified_next(name: str, usage: DiskUsage, wanted: int | None) -> None:
    assert volume_to_verify(usage, Verification(), now_ms=NOW_MS) == wanted


def test_nothing_is_verified_when_it_is_off_or_was_tried_in_vain() -> None:
    usage = disk(volume(1, checked_ms=0))
    assert volume_to_verify(usage, Verification(automatic="off"), now_ms=NOW_MS) is None
    assert volume_to_verify(usage, Verification(), now_ms=NOW_MS, barred={1}) is None


def test_a_copy_needs_what_it_holds_and_a_small_margin() -> None:
    assert 101 * MIB < free_bytes_needed(live_bytes=100 * MIB, kept_bytes=0) < 102 * MIB
    assert free_bytes_needed(live_bytes=60 * MIB, kept_bytes=40 * MIB) == free_bytes_needed(
        live_bytes=100 * MIB, kept_bytes=0
    )


def test_the_copy_of_an_empty_volume_needs_next_to_nothing_whatever_was_in_it() -> None:
    assert (
        free_bytes_needed(live_bytes=0, kept_bytes=0, dead_count=10_000_000, needle_id_max=2**32 - 1)
        < MIB // 8
    )


def test_live_needles_far_apart_take_a_page_of_the_index_each() -> None:
    apart = free_bytes_needed(live_bytes=0, kept_bytes=0, live_count=1000, needle_id_max=2**31)
    assert 4096 * 1000 < apart < 5000 * 1000
    dense = free_bytes_needed(live_bytes=0, kept_bytes=0, live_count=1_000_000, needle_id_max=1_000_000)
    assert 16_000_000 < dense < 17_000_000
