"""Transactions of a catalog: whole or not at all, one request apart from the next, and there after a restart.

The contract is `catalog/interface.py`.  `test_catalog_*.py` beside this file hold what each subject must do.
"""

import threading

import pytest

from catalog_kit import CREATED_MS, stamp
from warehouse.catalog.interface import TransactionBroken
from warehouse.errors import BadRequest, BucketExists, DiskInUse, NoSuchBucket, StoreError

# --- one request, one outcome ---------------------------------------------------------------------


def test_an_error_in_one_request_undoes_only_that_request(kit):
    bucket_id = kit.bucket()
    kit.put(bucket_id, "old")
    with kit.catalog.transaction() as transaction:
        with transaction.savepoint():
            transaction.commit_needle(kit.needle(bucket_id, "first"))

        def change_much_and_fail():
            transaction.commit_needle(kit.needle(bucket_id, "second"))
            transaction.delete_objects(bucket_id, ["old"], stamp=stamp(99))
            transaction.create_bucket("photos", CREATED_MS)

        with pytest.raises(BucketExists), transaction.savepoint():
            change_much_and_fail()
        with transaction.savepoint():
            transaction.commit_needle(kit.needle(bucket_id, "third"))
    assert [row.key for row in kit.catalog.list_objects(bucket_id).objects] == ["first", "old", "third"]
    assert kit.catalog.totals() == (1, 3, 300)
    assert kit.garbage() == {}
    assert kit.catalog.stamp_max() == stamp(1)


def test_an_undone_bucket_is_unknown_to_later_requests_of_the_transaction(kit):
    with kit.catalog.transaction() as transaction:
        ids = []

        def create_twice():
            ids.append(transaction.create_bucket("films", CREATED_MS).id)
            assert transaction.commit_needle(kit.needle(ids[0])).etag
            transaction.create_bucket("films", CREATED_MS)

        with pytest.raises(BucketExists), transaction.savepoint():
            create_twice()
        result = transaction.commit_needle(kit.needle(ids[0]))
    assert isinstance(result.error, NoSuchBucket)


def test_a_bucket_that_was_deleted_earlier_in_the_transaction_takes_nothing_more(kit):
    bucket_id = kit.bucket()
    with kit.catalog.transaction() as transaction:
        assert transaction.commit_needle(kit.needle(bucket_id)).etag
        transaction.delete_bucket("photos", force=True, stamp=stamp(2))
        late = transaction.commit_needle(kit.needle(bucket_id, "late"))
    assert isinstance(late.error, NoSuchBucket)
    assert len(kit.garbage()) == 2


def test_a_number_that_no_column_holds_is_refused(kit):
    bucket_id = kit.bucket()
    with pytest.raises(BadRequest, match="64 bits"):
        kit.do(lambda t: t.commit_needle(kit.needle(bucket_id, created_ms=1 << 64)))
    assert kit.object(bucket_id, "a") is None


def test_what_a_failed_transaction_did_is_gone(kit):
    bucket_id = kit.bucket()

    def commit_and_fail():
        with kit.catalog.transaction() as transaction:
            transaction.commit_needle(kit.needle(bucket_id))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        commit_and_fail()
    assert kit.catalog.totals() == (1, 0, 0)
    kit.put(bucket_id)


def test_an_error_leaves_its_savepoint_as_it_is(kit):
    class Bug(Exception):
        pass

    with kit.catalog.transaction() as transaction:
        with pytest.raises(Bug), transaction.savepoint():
            transaction.create_bucket("films", CREATED_MS)
            raise Bug
        transaction.create_bucket("photos", CREATED_MS)
    assert [row.name for row in kit.catalog.buckets()] == ["photos"]


def test_a_broken_transaction_is_no_refusal_of_one_request():
    """A writer that took it for one would commit what the engine has half undone."""
    assert not issubclass(TransactionBroken, StoreError)


def test_the_volumes_with_new_garbage_are_named(kit):
    bucket_id = kit.bucket()
    kit.put(bucket_id, "a", volume_id=2)
    with kit.catalog.transaction() as transaction:
        assert not transaction.garbage_in
        with transaction.savepoint():
            transaction.delete_objects(bucket_id, ["a"], stamp=stamp(5))
        assert set(transaction.garbage_in) == {2}


# --- reads beside a transaction -------------------------------------------------------------------


def test_reads_see_only_what_is_committed(kit):
    kit.bucket("before")
    with kit.catalog.transaction() as transaction:
        transaction.create_bucket("films", CREATED_MS)
        assert [row.name for row in kit.catalog.buckets()] == ["before"]
        with pytest.raises(NoSuchBucket):
            kit.catalog.bucket("films")
    assert kit.catalog.bucket("films").name == "films"


def test_reads_of_one_moment_see_no_later_commit(kit):
    bucket_id = kit.bucket()
    kit.put(bucket_id, "a")
    with kit.catalog.one_moment():
        before = kit.object(bucket_id, "a")
        thread = threading.Thread(target=kit.put, args=(bucket_id, "a"), kwargs={"at": 5})
        thread.start()
        thread.join()
        with kit.catalog.one_moment():  # blocks may be nested
            assert kit.object(bucket_id, "a") == before
        assert kit.catalog.bucket_and_object("photos", "a")[1] == before
    assert kit.object(bucket_id, "a").stamp == stamp(5)


def test_a_moment_ends_also_with_an_error(kit):
    bucket_id = kit.bucket()
    with pytest.raises(ZeroDivisionError), kit.catalog.one_moment():
        kit.catalog.totals()
        raise ZeroDivisionError
    kit.put(bucket_id)
    assert kit.catalog.totals() == (1, 1, 100)


# --- restarts -------------------------------------------------------------------------------------


def test_what_was_committed_is_there_after_closing(kit):
    bucket_id = kit.bucket()
    kit.put(bucket_id)
    row = kit.object(bucket_id, "a")
    kit.reopen()
    assert kit.object(bucket_id, "a") == row
    assert kit.catalog.totals() == (1, 1, 100)


def test_a_new_catalog_is_empty_and_sound(kit):
    assert kit.catalog.totals() == (0, 0, 0)
    assert (kit.catalog.stamp_max(), kit.catalog.catalog_id, kit.catalog.api_key_count()) == (0, 0, 0)
    assert (kit.catalog.jobs(), kit.catalog.damage_records(10), kit.catalog.outbox_counts()) == ([], [], {})
    assert (kit.catalog.failure, kit.catalog.displaced, kit.catalog.is_purge_left) == (None, None, False)
    kit.catalog.require_in_place()


def test_a_catalog_is_open_once(kit, tmp_path, open_catalog):
    with pytest.raises(DiskInUse):
        open_catalog(tmp_path)


def test_what_is_folded_away_is_still_there(kit):
    bucket_id = kit.bucket()
    needles = [kit.put(bucket_id, str(number)) for number in range(50)]
    before = kit.catalog.log_size()
    kit.catalog.fold_log()
    assert kit.catalog.log_size() <= before
    assert kit.stored() == [needle.needle_id for needle in needles]
    kit.put(bucket_id, "more")


def test_a_deleted_bucket_is_purged_though_a_restart_comes_between(kit):
    bucket_id = kit.bucket()
    needles = [kit.put(bucket_id, f"{number:04}") for number in range(1200)]
    kit.do(lambda t: t.delete_bucket("photos", force=True, stamp=stamp(9)))
    kit.reopen()
    kit.purge()
    assert not kit.catalog.is_purge_left
    assert kit.garbage() == {(1, needle.needle_id): "deleted" for needle in needles}


def test_ids_of_buckets_and_volumes_are_left_out_for_a_lost_state(kit):
    kit.bucket("a")
    kit.do(lambda t: t.skip_ids(buckets_to=1000, volumes=50))
    assert kit.bucket("b") == 1001
    assert kit.do(lambda t: t.add_volume(None, "new", 1 << 30, "disk-1")) == 2 + 50 + 1


def test_every_lineage_has_an_id_of_its_own(kit):
    seen = {kit.catalog.catalog_id}
    for _ in range(3):
        kit.do(lambda t: t.begin_lineage())
        seen.add(kit.catalog.catalog_id)
    assert len(seen) == 4
    kit.reopen()
    assert kit.catalog.catalog_id in seen
    assert kit.catalog.disk("disk-1").catalog_id in seen, "the disk still names the catalog before"


def test_a_disk_registers_once_at_each_epoch(kit):
    assert kit.do(lambda t: t.set_disk_epoch("disk-1", (0, 0), (1, 77))) is True
    assert kit.do(lambda t: t.set_disk_epoch("disk-1", (0, 0), (1, 78))) is False
    row = kit.catalog.disk("disk-1")
    assert (row.epoch, row.mark) == (1, 77)
    assert kit.catalog.disk("unknown") is None
