"""The memory of deletion stamps is bounded, and what it forgets still holds."""

import pytest

from catalog_kit import SqliteKit, stamp
from warehouse.catalog.sqlite import deletion_stamps
from warehouse.catalog.sqlite.deletion_stamps import DeletionStamps


@pytest.fixture
def kit(tmp_path):
    kit = SqliteKit(tmp_path)
    yield kit
    kit.assert_consistent()
    kit.close()


def commit(kit, bucket_id, key="a", *, at, **changes):
    return kit.do(lambda t: t.commit_needle(kit.needle(bucket_id, key, at=at, **changes)))


def delete(kit, bucket_id, key="a", *, at):
    return kit.do(lambda t: t.delete_objects(bucket_id, [key], stamp=stamp(at)))


def test_a_key_that_was_not_deleted_must_only_exceed_the_floor():
    memory = DeletionStamps(7)
    assert memory.bound(1, "a") == 7
    memory.remember(1, "a", 9)
    assert memory.bound(1, "a") == 9
    assert memory.bound(2, "a") == memory.bound(1, "b") == 7


def test_what_is_forgotten_raises_the_floor(monkeypatch):
    monkeypatch.setattr(deletion_stamps, "DELETION_STAMPS_MAX", 2)
    memory = DeletionStamps(0)
    memory.remember(1, "a", 9)
    memory.remember(1, "b", 5)
    memory.remember(1, "c", 6)
    assert memory.bound(1, "a") == memory.floor == 9
    memory.remember(1, "d", 7)
    assert memory.floor == 9, "it never sinks"
    assert memory.bound(1, "c") == 6, "what is remembered is known exactly"


def test_a_deletion_that_is_repeated_counts_as_new(monkeypatch):
    monkeypatch.setattr(deletion_stamps, "DELETION_STAMPS_MAX", 2)
    memory = DeletionStamps(0)
    for key, at in (("a", 1), ("b", 2), ("a", 3), ("c", 4)):
        memory.remember(1, key, at)
    assert [memory.bound(1, key) for key in "abc"] == [3, 2, 4]
    assert memory.floor == 2


def test_a_forgotten_deletion_still_holds(kit, monkeypatch):
    monkeypatch.setattr(deletion_stamps, "DELETION_STAMPS_MAX", 3)
    bucket_id = kit.bucket()
    for number in range(10):
        kit.put(bucket_id, f"{number}", at=2 * number + 1)
        delete(kit, bucket_id, f"{number}", at=2 * number + 2)
    for number in range(10):
        assert commit(kit, bucket_id, f"{number}", at=1).restamp_above >= stamp(2 * number + 2)


def test_a_deleted_bucket_leaves_no_deletion_stamps(kit):
    """Its id is never used again, and a million of them would push out all that matter."""
    bucket_id, other_id = kit.bucket(), kit.bucket("films")
    kit.put(other_id, at=1)
    delete(kit, other_id, at=5)
    kit.put(bucket_id, at=1)
    kit.do(lambda t: t.delete_bucket("photos", force=True, stamp=stamp(9)))
    assert len(kit.catalog._deletion_stamps._stamps) == 1
    kit.put(kit.bucket("photos"), at=1)
