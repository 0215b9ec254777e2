"""Quotas in the catalog: never passed, never refused while there is room, and exact whatever else happens."""

from __future__ import annotations

import pytest

from catalog_kit import Kit, name_of, stamp
from warehouse.catalog.records import BucketRow
from warehouse.errors import BadRequest, NoSuchBucket, PreconditionFailed, QuotaExceeded


def limited(kit: Kit, *, objects: int | None = None, size: int | None = None, name: str = "photos") -> int:
    bucket_id = kit.bucket(name)
    set_quota(kit, bucket_id, objects=objects, size=size)
    return bucket_id


def set_quota(kit: Kit, bucket_id: int, *, objects: int | None = None, size: int | None = None) -> None:
    kit.do(lambda t: t.set_quota(bucket_id, byte_count=size, object_count=objects))


def put(kit: Kit, bucket_id: int, key: str, size: int) -> QuotaExceeded | None:
    """Put an object; the refusal, if there is one."""
    needle = kit.needle(bucket_id, key, size=size, at=next(TICKS))
    error = kit.do(lambda t: t.commit_needle(needle)).error
    assert error is None or isinstance(error, QuotaExceeded)
    if error is not None:
        assert kit.garbage()[name_of(needle)] == "over_quota"
        # The message may come again, because its answer was lost.
        assert isinstance(kit.do(lambda t: t.commit_needle(needle)).error, QuotaExceeded)
    return error


TICKS = iter(range(1, 10**9))


def held(kit: Kit, bucket_id: int) -> tuple[int, int]:
    assert kit.catalog.check_counts() == []
    row = kit.catalog.bucket_by_id(bucket_id)
    return row.object_count, row.byte_count


def row_of(kit: Kit) -> BucketRow:
    return kit.catalog.bucket("photos")


# --- what is set ----------------------------------------------------------------------------------


def test_a_quota_is_kept_changed_and_removed(kit: Kit) -> None:
    bucket_id = limited(kit, objects=5, size=1000)
    kit.reopen()
    assert (row_of(kit).quota_objects, row_of(kit).quota_bytes) == (5, 1000)
    set_quota(kit, bucket_id, size=7)
    assert (row_of(kit).quota_objects, row_of(kit).quota_bytes) == (None, 7)
    set_quota(kit, bucket_id)
    assert (row_of(kit).quota_objects, row_of(kit).quota_bytes) == (None, None)
    assert put(kit, bucket_id, "a", 10**9) is None


@pytest.mark.parametrize("number", [-1, 1 << 62, 1 << 63])
def test_a_quota_that_no_bucket_can_have_is_refused(kit: Kit, number: int) -> None:
    bucket_id = kit.bucket()
    with pytest.raises(BadRequest):
        set_quota(kit, bucket_id, objects=number)
    with pytest.raises(BadRequest):
        set_quota(kit, bucket_id, size=number)


def test_a_bucket_that_is_gone_gets_no_quota(kit: Kit) -> None:
    bucket_id = kit.bucket()
    kit.do(lambda t: t.delete_bucket("photos", force=False, stamp=stamp(1)))
    with pytest.raises(NoSuchBucket):
        set_quota(kit, bucket_id, objects=1)
    with pytest.raises(NoSuchBucket):
        set_quota(kit, 999, objects=1)


# --- what it refuses ------------------------------------------------------------------------------


def test_the_last_object_has_a_place_and_the_next_one_has_none(kit: Kit) -> None:
    bucket_id = limited(kit, objects=3)
    assert [put(kit, bucket_id, key, 5) is None for key in "abcd"] == [True, True, True, False]
    assert held(kit, bucket_id) == (3, 15)


def test_the_last_byte_has_a_place_and_the_next_one_has_none(kit: Kit) -> None:
    bucket_id = limited(kit, size=100)
    assert put(kit, bucket_id, "a", 60) is None
    error = put(kit, bucket_id, "b", 41)
    assert error is not None
    assert "60 of 100 bytes" in error.message
    assert "41 more" in error.message
    assert "'photos'" in error.message
    assert put(kit, bucket_id, "b", 40) is None
    assert put(kit, bucket_id, "c", 1) is not None
    assert put(kit, bucket_id, "c", 0) is None
    assert held(kit, bucket_id) == (3, 100)


def test_an_overwrite_counts_the_difference(kit: Kit) -> None:
    bucket_id = limited(kit, objects=1, size=100)
    assert put(kit, bucket_id, "a", 90) is None
    assert put(kit, bucket_id, "a", 100) is None
    assert put(kit, bucket_id, "a", 101) is not None
    assert put(kit, bucket_id, "a", 10) is None
    assert held(kit, bucket_id) == (1, 10)


def test_a_deletion_gives_back(kit: Kit) -> None:
    bucket_id = limited(kit, objects=1, size=100)
    assert put(kit, bucket_id, "a", 100) is None
    assert put(kit, bucket_id, "b", 100) is not None
    kit.do(lambda t: t.delete_objects(bucket_id, ["a"], stamp=stamp(next(TICKS))))
    assert put(kit, bucket_id, "b", 100) is None
    assert held(kit, bucket_id) == (1, 100)


def test_a_quota_below_what_is_there_is_taken_and_only_growth_refused(kit: Kit) -> None:
    bucket_id = kit.bucket()
    for key in "abc":
        assert put(kit, bucket_id, key, 100) is None
    set_quota(kit, bucket_id, objects=1, size=50)
    assert put(kit, bucket_id, "d", 0) is not None
    assert put(kit, bucket_id, "a", 101) is not None
    assert put(kit, bucket_id, "a", 100) is None
    assert put(kit, bucket_id, "a", 1) is None
    assert held(kit, bucket_id) == (3, 201)


def test_other_buckets_have_their_own(kit: Kit) -> None:
    full, other = limited(kit, objects=0), limited(kit, name="films", objects=2)
    assert put(kit, full, "a", 1) is not None
    assert put(kit, other, "a", 1) is None


def test_needles_of_one_transaction_are_counted_one_after_the_other(kit: Kit) -> None:
    bucket_id = limited(kit, objects=3, size=1000)
    needles = [kit.needle(bucket_id, f"k{n}", size=300, at=next(TICKS)) for n in range(6)]
    replaced = kit.needle(bucket_id, "k0", size=400, at=next(TICKS))

    def commit_all(t):
        first = [t.commit_needle(needle).error is None for needle in needles]
        grown = t.commit_needle(replaced).error is None
        gone = t.delete_objects(bucket_id, ["k1"], stamp=stamp(next(TICKS)))
        again = t.commit_needle(kit.needle(bucket_id, "k9", size=300, at=next(TICKS))).error is None
        return first, grown, gone, again

    assert kit.do(commit_all) == ([True, True, True, False, False, False], True, [True], True)
    assert held(kit, bucket_id) == (3, 1000)


def test_a_request_that_is_undone_gives_its_room_back(kit: Kit) -> None:
    bucket_id = limited(kit, objects=1)

    class Undo(Exception):
        pass

    with kit.catalog.transaction() as transaction:
        with pytest.raises(Undo), transaction.savepoint():
            assert transaction.commit_needle(kit.needle(bucket_id, "a", at=next(TICKS))).error is None
            raise Undo
        with transaction.savepoint():
            assert transaction.commit_needle(kit.needle(bucket_id, "b", at=next(TICKS))).error is None
    assert held(kit, bucket_id) == (1, 100)


def test_a_quota_that_is_set_in_the_same_transaction_counts_at_once(kit: Kit) -> None:
    bucket_id = kit.bucket()

    def work(t):
        assert t.commit_needle(kit.needle(bucket_id, "a", at=next(TICKS))).error is None
        t.set_quota(bucket_id, byte_count=None, object_count=1)
        return t.commit_needle(kit.needle(bucket_id, "b", at=next(TICKS))).error

    assert isinstance(kit.do(work), QuotaExceeded)
    assert held(kit, bucket_id) == (1, 100)


def test_a_condition_that_is_not_met_is_said_before_a_quota(kit: Kit) -> None:
    bucket_id = limited(kit, objects=0)
    needle = kit.needle(bucket_id, "a", if_match="x", at=next(TICKS))
    assert isinstance(kit.do(lambda t: t.commit_needle(needle)).error, PreconditionFailed)


def test_a_needle_over_the_quota_is_never_visible_later(kit: Kit) -> None:
    bucket_id = limited(kit, objects=0)
    needle = kit.needle(bucket_id, "a", at=next(TICKS))
    assert isinstance(kit.do(lambda t: t.commit_needle(needle)).error, QuotaExceeded)
    set_quota(kit, bucket_id, objects=9)
    assert isinstance(kit.do(lambda t: t.commit_needle(needle)).error, QuotaExceeded)
    resolve = kit.do(lambda t: t.resolve_needle(bucket_id, "a", *name_of(needle), stamp(next(TICKS))))
    assert resolve is False
    assert held(kit, bucket_id) == (0, 0)


# --- uploads --------------------------------------------------------------------------------------


def upload(kit: Kit, bucket_id: int, key: str, sizes: list[int]) -> int:
    upload_id = kit.begin(bucket_id, key)
    for index, size in enumerate(sizes):
        kit.send_chunk(upload_id, bucket_id, index, key=key, at=next(TICKS), size=size)
    return upload_id


def finish(kit: Kit, upload_id: int, sizes: list[int]) -> None:
    kit.do(lambda t: t.finish_upload(upload_id, len(sizes), sum(sizes)))


def test_an_upload_that_was_begun_in_time_is_refused_at_its_end(kit: Kit) -> None:
    bucket_id = limited(kit, objects=1, size=100)
    upload_id = upload(kit, bucket_id, "a", [50, 50])
    assert put(kit, bucket_id, "b", 1) is None
    with pytest.raises(QuotaExceeded):
        finish(kit, upload_id, [50, 50])
    assert held(kit, bucket_id) == (1, 1)
    kit.do(lambda t: t.delete_objects(bucket_id, ["b"], stamp=stamp(next(TICKS))))
    finish(kit, upload_id, [50, 50])
    finish(kit, upload_id, [50, 50])  # its answer was lost
    assert held(kit, bucket_id) == (1, 100)


def test_slots_for_more_than_there_is_room_are_refused(kit: Kit) -> None:
    bucket_id = limited(kit, size=100)
    assert put(kit, bucket_id, "a", 30) is None
    upload_id = upload(kit, bucket_id, "a", [60])
    needle = kit.needle(bucket_id, "a", at=next(TICKS))
    with pytest.raises(QuotaExceeded):  # 60 + 41 instead of 30
        kit.do(lambda t: t.set_slots(upload_id, [(1, 1, needle.needle_id, 41)]))
    kit.do(lambda t: t.set_slots(upload_id, [(1, 1, needle.needle_id, 40)]))
    assert held(kit, bucket_id) == (1, 30)


def test_a_slot_that_is_asked_for_again_counts_once(kit: Kit) -> None:
    bucket_id = limited(kit, size=100)
    upload_id = kit.begin(bucket_id, "a")
    for _ in range(5):
        needle = kit.needle(bucket_id, "a", at=next(TICKS))
        kit.do(lambda t: t.set_slots(upload_id, [(0, 1, needle.needle_id, 100)]))  # noqa: B023
