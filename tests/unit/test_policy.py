"""The policy: what should be compacted or verified next, as tables."""

from __future__ import annotations

from typing import Any

import pytest

from actors.policy import DiskFacts, VolumeFacts, copy_size, volume_to_compact, volume_to_verify
from conf.settings import Compaction, Verification

MIB = 1024 * 1024
GIB = 1024 * MIB
DAY_MS = 86_400_000
NOW_MS = 1_000 * DAY_MS


def volume(volume_id: int, dead: int = 0, size: int = 1 * GIB, **changes: Any) -> VolumeFacts:
    values: dict[str, Any] = {
        "volume_id": volume_id,
        "file_size": size,
        "live_bytes": size - dead,
        "dead_bytes": dead,
        "kept_bytes": 0,
        "is_sealed": False,
        "checked_ms": NOW_MS,
    }
    return VolumeFacts(**{**values, **changes})


def disk(*volumes: VolumeFacts, free: int = 100 * GIB, is_pressed: bool = False) -> DiskFacts:
    return DiskFacts(free=free, is_pressed=is_pressed, volumes=volumes)


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


def test_what_lacked_room_is_tried_again_as_soon_as_its_copy_fits() -> None:
    full = disk(volume(1, 4 * GIB, size=9 * GIB), free=2 * GIB)
    emptied = disk(volume(1, 8 * GIB, size=9 * GIB), free=2 * GIB)
    assert volume_to_compact(full, Compaction(), barred={1}, cramped={1}) is None
    assert volume_to_compact(emptied, Compaction(), barred={1}, cramped={1}) == 1
    assert volume_to_compact(emptied, Compaction(), barred={1}) is None, "it failed for another reason"


@pytest.mark.parametrize(("name", "facts", "wanted"), COMPACT_CASES, ids=[case[0] for case in COMPACT_CASES])
def test_what_is_compacted_next(name: str, facts: DiskFacts, wanted: int | None) -> None:
    assert volume_to_compact(facts, Compaction()) == wanted


def test_nothing_is_compacted_when_it_is_off_or_was_tried_in_vain() -> None:
    facts = disk(volume(1, 900 * MIB), volume(2, 400 * MIB))
    assert volume_to_compact(facts, Compaction(automatic="off")) is None
    assert volume_to_compact(facts, Compaction(), barred={1}) == 2
    assert volume_to_compact(facts, Compaction(), barred={1, 2}) is None


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


@pytest.mark.parametrize(("name", "facts", "wanted"), VERIFY_CASES, ids=[case[0] for case in VERIFY_CASES])
def test_what_is_verified_next(name: str, facts: DiskFacts, wanted: int | None) -> None:
    assert volume_to_verify(facts, Verification(), now_ms=NOW_MS) == wanted


def test_nothing_is_verified_when_it_is_off_or_was_tried_in_vain() -> None:
    facts = disk(volume(1, checked_ms=0))
    assert volume_to_verify(facts, Verification(automatic="off"), now_ms=NOW_MS) is None
    assert volume_to_verify(facts, Verification(), now_ms=NOW_MS, barred={1}) is None


def test_a_copy_needs_what_it_holds_and_a_margin() -> None:
    assert copy_size(100 * MIB, 0) == 101 * MIB + 16 * MIB
    assert copy_size(60 * MIB, 40 * MIB) == copy_size(100 * MIB, 0)
