"""The SQLite transaction's own bounds: pieces of a purge, and how long tombstoned needles are remembered."""

import pytest

from catalog_kit import SqliteKit, name_of, stamp
from warehouse.catalog.sqlite import recent_tombstones
from warehouse.catalog.sqlite import transaction as transaction_module
from warehouse.errors import NoSuchBucket, OutcomeUnknown


@pytest.fixture
def kit(tmp_path):
    kit = SqliteKit(tmp_path)
    yield kit
    kit.assert_consistent()
    kit.close()


# --- pieces of a purge ----------------------------------------------------------------------------


def test_a_large_bucket_disappears_at_once_and_its_needles_piece_by_piece(kit, monkeypatch):
    monkeypatch.setattr(transaction_module, "PURGE_AT_ONCE", 10)
    bucket_id = kit.bucket()
    needles = {name_of(kit.put(bucket_id, f"{number:03}")) for number in range(35)}
    upload_ids = [kit.begin(bucket_id) for _ in range(25)]
    chunks = {name_of(kit.send_chunk(upload_id, bucket_id, 0)) for upload_id in upload_ids}
    kit.do(lambda t: t.delete_bucket("photos", force=True, stamp=stamp(5)))
    assert kit.catalog.buckets() == []
    assert kit.catalog.totals() == (0, 0, 0)
    assert kit.catalog.is_purge_left
    assert len(kit.garbage()) == 10
    kit.assert_consistent()
    kit.reopen()  # a restart goes on where it stopped
    assert kit.catalog.is_purge_left
    kit.bucket()  # the name is free meanwhile
    kit.purge()
    assert kit.garbage() == dict.fromkeys(needles, "deleted") | dict.fromkeys(chunks, "aborted")
    assert kit.catalog.upload_count() == 0
    assert [row.name for row in kit.catalog.buckets()] == ["photos"]


def test_what_an_undone_request_purged_is_purged_again(kit, monkeypatch):
    monkeypatch.setattr(transaction_module, "PURGE_AT_ONCE", 2)
    bucket_id = kit.bucket()
    needles = [kit.put(bucket_id, str(number)) for number in range(5)]
    with kit.catalog.transaction() as transaction:
        transaction.delete_bucket("photos", force=True, stamp=stamp(9))

        def purge_all_and_fail():
            while transaction.purge():
                pass
            transaction.delete_bucket("photos", force=True, stamp=stamp(9))

        with pytest.raises(NoSuchBucket), transaction.savepoint():
            purge_all_and_fail()
    kit.purge()
    assert set(kit.garbage()) == {name_of(needle) for needle in needles}


# --- the memory of tombstoned needles -------------------------------------------------------------


def put_and_tombstone(kit, bucket_id, count, *, now_s, now_ms=0):
    """Objects that were put, deleted, and have their tombstones."""
    for _ in range(count):
        needle = kit.put(bucket_id, at=2 * kit.next_needle[1])
        kit.do(lambda t, at=2 * needle.needle_id + 1: t.delete_objects(bucket_id, ["a"], stamp=stamp(at)))
        kit.do(lambda t, n=needle.needle_id: t.clear_outbox(1, [n], now_s=now_s, now_ms=now_ms))


def remembered(kit):
    with kit.raw() as execute:
        return [needle_id for (needle_id,) in execute("SELECT needle_id FROM buried ORDER BY needle_id")]


def test_the_memory_of_tombstoned_needles_is_bounded(kit, monkeypatch):
    monkeypatch.setattr(recent_tombstones, "TOMBSTONED_MAX", 5)
    bucket_id = kit.bucket()
    for number in range(12):
        put_and_tombstone(kit, bucket_id, 1, now_s=1000 + number * recent_tombstones.TOMBSTONED_S)
    assert remembered(kit) == [*range(8, 13)]


def test_however_fast_others_die_nothing_is_forgotten_that_was_tombstoned_just_now(kit, monkeypatch):
    monkeypatch.setattr(recent_tombstones, "TOMBSTONED_MAX", 5)
    bucket_id = kit.bucket()
    put_and_tombstone(kit, bucket_id, 12, now_s=1000.5)
    put_and_tombstone(kit, bucket_id, 8, now_s=1000 + recent_tombstones.TOMBSTONED_S - 1)
    assert remembered(kit) == [*range(1, 21)]
    for needle_id in range(1, 21):
        assert kit.do(lambda t, n=needle_id: t.resolve_needle(bucket_id, "a", 1, n, stamp(99))) is True
    put_and_tombstone(kit, bucket_id, 1, now_s=1002 + recent_tombstones.TOMBSTONED_S)
    assert remembered(kit) == [*range(13, 22)]


def test_a_catalog_that_was_opened_just_now_forgets_nothing(kit, monkeypatch):
    monkeypatch.setattr(recent_tombstones, "TOMBSTONED_MAX", 5)
    bucket_id = kit.bucket()
    put_and_tombstone(kit, bucket_id, 12, now_s=1000)
    kit.reopen()
    put_and_tombstone(kit, bucket_id, 1, now_s=1_000_000)
    assert remembered(kit) == [*range(1, 14)]


def test_a_tombstone_that_was_rolled_back_makes_no_later_one_old(kit, monkeypatch):
    monkeypatch.setattr(recent_tombstones, "TOMBSTONED_MAX", 0)
    bucket_id = kit.bucket()
    needle = kit.put(bucket_id)
    kit.do(lambda t: t.delete_objects(bucket_id, ["a"], stamp=stamp(2)))
    with pytest.raises(ZeroDivisionError), kit.catalog.transaction() as transaction:
        transaction.clear_outbox(1, [needle.needle_id], now_s=1000)
        raise ZeroDivisionError
    late_s = 1000 + 2 * recent_tombstones.TOMBSTONED_S
    kit.do(lambda t: t.clear_outbox(1, [needle.needle_id], now_s=late_s))
    assert remembered(kit) == [1]
    put_and_tombstone(kit, bucket_id, 1, now_s=late_s + 1)
    assert remembered(kit) == [1, 2]


@pytest.mark.parametrize("is_early", [False, True])
def test_resolving_what_was_forgotten_says_so_and_never_that_it_was_not_stored(kit, monkeypatch, is_early):
    """At the limit of the memory the oldest go early, and resolving knows that too."""
    monkeypatch.setattr(recent_tombstones, "TOMBSTONED_MAX", 1)
    monkeypatch.setattr(recent_tombstones, "TOMBSTONED_LIMIT", 3 if is_early else 1000)
    bucket_id = kit.bucket()
    put_and_tombstone(kit, bucket_id, 4, now_s=1000, now_ms=1_000_000)
    gone_ms = 1_000_000 if is_early else 1_010_000
    if not is_early:
        put_and_tombstone(
            kit,
            bucket_id,
            2,
            now_s=1010 + recent_tombstones.TOMBSTONED_S,
            now_ms=gone_ms + int(recent_tombstones.TOMBSTONED_S * 1000),
        )
    assert 1 not in remembered(kit)
    with pytest.raises(OutcomeUnknown, match="forgotten"):
        kit.do(lambda t: t.resolve_needle(bucket_id, "a", 1, 1, stamp(99), gone_ms))
    kit.reopen()
    with pytest.raises(OutcomeUnknown):
        kit.do(lambda t: t.resolve_needle(bucket_id, "a", 1, 1, stamp(99), 0))
    fresh = kit.needle(bucket_id)
    is_committed = kit.do(
        lambda t: t.resolve_needle(bucket_id, "a", 1, fresh.needle_id, stamp(99), gone_ms + 1)
    )
    assert is_committed is False
