"""rescue/choosing.py and rescue/staging.py: which of many histories' needles count.

A history is written as a list of records.  The survey may meet them in any order, so each is tried both
ways round.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from warehouse.rescue.choosing import FoundBucket, Verdict, choose_buckets, choose_versions, gather_uploads
from warehouse.rescue.reading import Buckets
from warehouse.rescue.staging import Needle, Staging, needle_id_of, place_of, volume_number_of
from warehouse.storage.format.needle import BucketRecord

PHOTOS = 3


class Put(msgspec.Struct):
    """A needle of one object, "photos/key" unless said otherwise."""

    volume: int
    needle: int
    stamp: int
    key: str = "key"
    bucket: int = PHOTOS
    damaged: bool = False


class Chunk(msgspec.Struct):
    volume: int
    needle: int
    stamp: int
    index: int
    count: int | None
    size: int = 10
    object_size: int | None = None
    upload: int = 77
    damaged: bool = False


class Tombstone(msgspec.Struct):
    """A tombstone; with a stamp its object was deleted."""

    volume: int
    needle: int
    last: int | None = None


class NamedTombstone(msgspec.Struct):
    """A tombstone that names its object: the needle is gone."""

    stamp: int
    key: str = "key"


class Restamp(msgspec.Struct):
    volume: int
    needle: int
    stamp: int


Step = Put | Chunk | Tombstone | NamedTombstone | Restamp
HISTORIES: dict[str, tuple[list[Step], dict[str, tuple[int, int]]]] = {
    "a put": ([Put(0, 1, 10)], {"key": (0, 1)}),
    "two keys": ([Put(0, 1, 10), Put(0, 2, 11, "other")], {"key": (0, 1), "other": (0, 2)}),
    "an overwrite in the same volume": ([Put(0, 1, 10), Put(0, 2, 20), Tombstone(0, 1)], {"key": (0, 2)}),
    "an overwrite whose tombstone was never written": ([Put(0, 1, 10), Put(1, 1, 20)], {"key": (1, 1)}),
    "an overwrite in an earlier volume": ([Put(1, 1, 10), Put(0, 9, 20)], {"key": (0, 9)}),
    "the newer needle has the older number": ([Put(0, 9, 10), Put(0, 1, 20)], {"key": (0, 1)}),
    "a delete": ([Put(0, 1, 10), Tombstone(0, 1, last=20)], {}),
    "a delete while the disk of an older version was offline": (
        [Put(1, 1, 10), Put(0, 1, 20), Tombstone(0, 1, last=30)],
        {},
    ),
    "a delete that only names its needle spares older versions": (
        [Put(1, 1, 10), Put(0, 1, 20), Tombstone(0, 1)],
        {"key": (1, 1)},
    ),
    "a put after a delete": (
        [Put(0, 1, 10), Tombstone(0, 1, last=20), Put(0, 2, 30)],
        {"key": (0, 2)},
    ),
    "a put after a delete, with an older version offline": (
        [Put(1, 1, 10), Put(0, 1, 20), Tombstone(0, 1, last=30), Put(2, 1, 40)],
        {"key": (2, 1)},
    ),
    "a delete of a needle that a compaction has dropped": ([Put(1, 1, 10), NamedTombstone(20)], {}),
    "a put after such a delete": ([Put(1, 1, 10), NamedTombstone(20), Put(0, 1, 21)], {"key": (0, 1)}),
    "of two deletes the later one counts": ([Put(1, 1, 15), NamedTombstone(10), NamedTombstone(20)], {}),
    "a delete says nothing of other keys": (
        [Put(0, 1, 10), Put(0, 2, 10, "other"), Tombstone(0, 1, last=20)],
        {"other": (0, 2)},
    ),
    "a fresh stamp makes the older needle the newer": (
        [Put(0, 1, 10), Put(1, 1, 20), Restamp(0, 1, 30)],
        {"key": (0, 1)},
    ),
    "a fresh stamp lifts a needle over a delete": (
        [Put(0, 1, 10), Put(1, 1, 5), Tombstone(1, 1, last=20), Restamp(0, 1, 21)],
        {"key": (0, 1)},
    ),
    "a version as old as the delete is dead": ([Put(0, 1, 20), NamedTombstone(20)], {}),
    "a tombstone for a needle that was never written": ([Put(0, 1, 10), Tombstone(0, 2)], {"key": (0, 1)}),
    "a damaged version still counts": (
        [Put(0, 1, 10), Put(1, 1, 20, damaged=True)],
        {"key": (1, 1)},
    ),
    "an upload": ([Chunk(0, 1, 10, 0, 2), Chunk(1, 1, 11, 1, 2)], {"key": (0, 1)}),
    "an upload is as new as its newest chunk": (
        [Chunk(0, 1, 10, 0, 2), Chunk(1, 1, 30, 1, 2), Put(2, 1, 20)],
        {"key": (0, 1)},
    ),
    "an upload whose number of chunks only the last one knows": (
        [Chunk(0, 1, 10, 0, None), Chunk(0, 2, 11, 1, None), Chunk(0, 3, 12, 2, 3, object_size=30)],
        {"key": (0, 1)},
    ),
    "an upload that nobody ended leaves the version before it": (
        [Put(1, 1, 5), Chunk(0, 1, 10, 0, None), Chunk(0, 2, 11, 1, None)],
        {"key": (1, 1)},
    ),
    "an upload that lacks a chunk": ([Chunk(0, 1, 10, 0, 3), Chunk(0, 3, 12, 2, 3)], {}),
    "an upload with a dead chunk": ([Chunk(0, 1, 10, 0, 2), Chunk(0, 2, 11, 1, 2), Tombstone(0, 2)], {}),
    "an upload of the wrong size": (
        [Chunk(0, 1, 10, 0, 2, object_size=21), Chunk(0, 2, 11, 1, 2, object_size=21)],
        {},
    ),
    "an upload whose chunks contradict each other": ([Chunk(0, 1, 10, 0, 2), Chunk(0, 2, 11, 1, 3)], {}),
    "an upload of one chunk is a plain object": ([Chunk(0, 1, 10, 0, 1)], {"key": (0, 1)}),
    "a deleted upload": (
        [Chunk(0, 1, 10, 0, 2), Chunk(1, 1, 11, 1, 2), Tombstone(0, 1, last=20), Tombstone(1, 1, last=20)],
        {},
    ),
    "an upload deleted while the disk of one chunk was offline": (
        [Chunk(0, 1, 10, 0, 2), Chunk(1, 1, 11, 1, 2), Tombstone(0, 1, last=20)],
        {},
    ),
    "an upload with a damaged chunk still counts": (
        [Chunk(0, 1, 10, 0, 2), Chunk(1, 1, 11, 1, 2, damaged=True)],
        {"key": (0, 1)},
    ),
    "a chunk that was written twice counts once": (
        [Chunk(0, 1, 10, 0, 2), Chunk(1, 1, 11, 1, 2), Chunk(2, 1, 12, 1, 2)],
        {"key": (0, 1)},
    ),
}


def needle_of(step: Put | Chunk) -> Needle:
    place = place_of(step.volume, step.needle)
    if isinstance(step, Put):
        return Needle(place, step.bucket, step.key, step.stamp, 10, 0, 1, None, None, 0, step.damaged)
    upload = (step.upload, step.index, step.count, step.object_size)
    return Needle(place, PHOTOS, "key", step.stamp, step.size, 0, 1, None, None, 0, step.damaged, *upload)


def fill(staging: Staging, steps: list[Step]) -> None:
    for step in steps:
        match step:
            case Put() | Chunk():
                staging.add_needle(needle_of(step))
            case Tombstone():
                staging.add_tombstone(place_of(step.volume, step.needle), step.last)
            case NamedTombstone():
                staging.add_kill(PHOTOS, step.key, step.stamp)
            case Restamp():
                staging.add_restamp(place_of(step.volume, step.needle), step.stamp)
    staging.derive({})
    for upload in gather_uploads(staging.parts()):
        if upload.problem is None:
            staging.add_version(upload.version())


@pytest.fixture
def staging(tmp_path: Path) -> Iterator[Staging]:
    with Staging(tmp_path) as staging:
        yield staging


@pytest.mark.parametrize("is_reversed", [False, True], ids=["forwards", "backwards"])
@pytest.mark.parametrize(("steps", "expected"), HISTORIES.values(), ids=HISTORIES.keys())
def test_after_this_history_these_needles_count(
    staging: Staging, steps: list[Step], expected: dict[str, tuple[int, int]], is_reversed: bool
) -> None:
    fill(staging, steps[::-1] if is_reversed else steps)
    chosen = {
        choice.version.key: (volume_number_of(choice.version.place), needle_id_of(choice.version.place))
        for choice in choose_versions(staging.versions(), lambda _: True)
        if choice.verdict is Verdict.CHOSEN
    }
    assert chosen == expected


def test_every_version_gets_a_verdict_and_the_stamp_of_what_made_it_dead(staging: Staging) -> None:
    fill(staging, [Put(0, 1, 10), Put(0, 2, 20), NamedTombstone(15), Put(0, 3, 30), Put(0, 4, 9, bucket=4)])
    choices = choose_versions(staging.versions(), lambda bucket_id: bucket_id == PHOTOS)
    verdicts = {needle_id_of(choice.version.place): (choice.verdict, choice.stamp) for choice in choices}
    assert verdicts == {
        3: (Verdict.CHOSEN, 30),
        2: (Verdict.REPLACED, 30),
        1: (Verdict.DELETED, 15),
        4: (Verdict.BUCKET_DELETED, 9),
    }


def test_a_needle_that_checks_wins_over_a_damaged_one_with_its_id(staging: Staging) -> None:
    """The id of a write that never ended is used again."""
    fill(staging, [Put(0, 1, 10, damaged=True), Put(0, 1, 12), Put(0, 1, 11, damaged=True)])
    (found,) = staging.versions()
    assert not found[0].is_damaged
    assert found[0].stamp == 12


def test_counts_tell_dead_needles_and_dead_objects(staging: Staging) -> None:
    fill(
        staging, [Put(0, 1, 10), Tombstone(0, 1, last=20), Put(0, 2, 5, "other"), NamedTombstone(4, "other")]
    )
    assert staging.tombstoned_count() == 1
    assert staging.killed_count() == 1, "`other` lives again since"


def test_a_staging_leaves_nothing_behind(tmp_path: Path) -> None:
    with Staging(tmp_path) as staging:
        staging.add_needle(needle_of(Put(0, 1, 10)))
    assert list(tmp_path.iterdir()) == []


# --- buckets --------------------------------------------------------------------------------------


def recorded(*records: BucketRecord) -> dict[int, FoundBucket]:
    buckets = Buckets()
    for stamp, record in enumerate(records):
        buckets.record(record, stamp)
    return buckets.found


MADE = BucketRecord(1, "photos", 1000, is_deleted=False)
DELETED = BucketRecord(1, "photos", 1000, is_deleted=True)


def test_a_recorded_bucket_lives_though_it_is_empty() -> None:
    assert set(choose_buckets(recorded(MADE), lambda _: False)) == {1}


@pytest.mark.parametrize("records", [(MADE, DELETED), (DELETED, MADE), (DELETED,)])
def test_a_deletion_wins_in_whatever_order_it_is_met(records: tuple[BucketRecord, ...]) -> None:
    assert choose_buckets(recorded(*records), lambda _: True) == {}


def test_of_two_buckets_of_one_name_the_later_one_lives() -> None:
    again = BucketRecord(2, "photos", 2000, is_deleted=False)
    assert set(choose_buckets(recorded(MADE, again), lambda _: True)) == {2}


def test_a_later_bucket_of_the_name_proves_a_deletion_though_it_is_dead_itself() -> None:
    again = BucketRecord(2, "photos", 2000, is_deleted=True)
    assert choose_buckets(recorded(MADE, again), lambda _: True) == {}


def test_a_bucket_without_a_record_lives_when_something_lives_in_it() -> None:
    buckets = Buckets()
    buckets.see(5, "films", 300)
    buckets.see(5, "films", 200)
    buckets.see(6, "old", 100)
    living = choose_buckets(buckets.found, lambda bucket_id: bucket_id == 5)
    assert living == {5: FoundBucket(5, "films", 200)}


def test_a_deletion_without_a_name_gets_it_from_the_needles() -> None:
    for is_seen_first in (True, False):
        buckets = Buckets()
        if is_seen_first:
            buckets.see(1, "photos", 100)
        buckets.record(BucketRecord(1, "", 100, is_deleted=True), 7)
        buckets.see(1, "photos", 100)
        assert buckets.found == {1: FoundBucket(1, "photos", 100, True, True, 7)}
