"""After a deletion, no version may become visible that a rebuild would take for an older one."""

import pytest

from catalog_kit import CREATED_MS, name_of, stamp


def commit(kit, bucket_id, key="a", *, at, **changes):
    return kit.do(lambda t: t.commit_needle(kit.needle(bucket_id, key, at=at, **changes)))


def delete(kit, bucket_id, key="a", *, at):
    return kit.do(lambda t: t.delete_objects(bucket_id, [key], stamp=stamp(at)))


# --- puts -----------------------------------------------------------------------------------------


def test_a_put_that_a_deletion_overtook_is_sent_back_for_a_greater_stamp(kit):
    bucket_id = kit.bucket()
    kit.put(bucket_id, at=1)
    late = kit.needle(bucket_id, at=3)
    delete(kit, bucket_id, at=5)
    for _ in range(2):
        assert kit.do(lambda t: t.commit_needle(late)).restamp_above == stamp(5)
    assert kit.object(bucket_id, "a") is None
    assert name_of(late) not in kit.garbage(), "it may still become visible"
    assert commit(kit, bucket_id, at=5).restamp_above == stamp(5), "equal is not greater"
    assert commit(kit, bucket_id, at=6).etag is not None


def test_other_keys_and_buckets_are_not_concerned(kit):
    bucket_id, other_id = kit.bucket(), kit.bucket("films")
    kit.put(bucket_id, at=1)
    delete(kit, bucket_id, at=5)
    kit.put(bucket_id, "b", at=2)
    kit.put(other_id, "a", at=2)


def test_deleting_nothing_asks_nothing_of_the_next_put(kit):
    bucket_id = kit.bucket()
    assert delete(kit, bucket_id, at=5) == [False]
    kit.put(bucket_id, at=1)


def test_a_deletion_is_stamped_above_what_it_deletes(kit):
    """The request may have been stamped before the put was, and still be written after it."""
    bucket_id = kit.bucket()
    needle = kit.put(bucket_id, at=9)
    delete(kit, bucket_id, at=5)
    assert kit.catalog.outbox(1, 10) == [(needle.needle_id, stamp(9) + 1, "deleted")]
    assert kit.catalog.stamp_max() == stamp(9) + 1
    assert commit(kit, bucket_id, at=9).restamp_above == stamp(9) + 1


def test_the_condition_of_a_put_is_judged_before_its_stamp(kit):
    bucket_id = kit.bucket()
    kit.put(bucket_id, at=1)
    delete(kit, bucket_id, at=5)
    assert commit(kit, bucket_id, at=3, if_match="*").error is not None
    assert commit(kit, bucket_id, at=3, if_none_match="*").restamp_above == stamp(5)


def test_the_older_versions_of_a_deleted_object_stay_below_the_next_one(kit):
    """Delete, put, delete again: each stamp is above all before it."""
    bucket_id = kit.bucket()
    bound = 0
    for _ in range(4):
        needle = kit.needle(bucket_id, at=0)
        result = kit.do(lambda t, needle=needle: t.commit_needle(needle))
        if result.etag is None:
            assert result.restamp_above >= bound
            kit.put(bucket_id, stamp=result.restamp_above + 1)
        at = kit.object(bucket_id, "a").stamp
        assert at > bound
        delete(kit, bucket_id, at=0)
        bound = max(deleted_at for _, deleted_at, _ in kit.catalog.outbox(1, 10))
        assert bound > at


# --- what is undone, and what is forgotten -----------------------------------------------------------


class Undo(Exception):
    pass


def undo_savepoint(kit, work):
    with kit.catalog.transaction() as transaction, pytest.raises(Undo), transaction.savepoint():
        work(transaction)
        raise Undo


def undo_transaction(kit, work):
    with pytest.raises(Undo), kit.catalog.transaction() as transaction:
        work(transaction)
        raise Undo


@pytest.mark.parametrize("undo", [undo_savepoint, undo_transaction])
def test_a_deletion_that_was_undone_does_no_harm(kit, undo):
    bucket_id = kit.bucket()
    kit.put(bucket_id, at=1)
    undo(kit, lambda t: t.delete_objects(bucket_id, ["a"], stamp=stamp(5)))
    kit.put(bucket_id, at=2)  # replaces what is still there
    delete(kit, bucket_id, at=3)
    assert commit(kit, bucket_id, at=3).restamp_above == stamp(3)
    kit.put(bucket_id, at=4)


def test_a_deletion_counts_for_the_puts_that_share_its_transaction(kit):
    bucket_id = kit.bucket()
    kit.put(bucket_id, at=1)
    late = kit.needle(bucket_id, at=3)
    with kit.catalog.transaction() as transaction:
        with transaction.savepoint():
            transaction.delete_objects(bucket_id, ["a"], stamp=stamp(5))
        with transaction.savepoint():
            assert transaction.commit_needle(late).restamp_above == stamp(5)


def test_after_a_start_every_stamp_must_exceed_all_that_were_seen_before(kit):
    bucket_id = kit.bucket()
    kit.put(bucket_id, at=1)
    kit.put(bucket_id, "other", at=4)
    delete(kit, bucket_id, at=5)
    kit.reopen()
    assert commit(kit, bucket_id, at=3).restamp_above == stamp(5)
    assert commit(kit, bucket_id, "never there", at=5).restamp_above == stamp(5)
    kit.put(bucket_id, at=6)
    kit.put(bucket_id, "other", at=5)  # its row tells enough


# --- uploads --------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_count", [1, 3])
def test_an_upload_that_a_deletion_overtook_needs_one_fresh_stamp(kit, chunk_count):
    bucket_id = kit.bucket()
    kit.put(bucket_id, "big", at=1)
    upload_id = kit.begin(bucket_id)
    chunks = [kit.send_chunk(upload_id, bucket_id, index, at=2 + index) for index in range(chunk_count)]
    delete(kit, bucket_id, "big", at=8)

    def finish():
        return kit.do(lambda t: t.finish_upload(upload_id, chunk_count, 100 * chunk_count))

    for _ in range(2):
        result = finish()
        assert result.object is None
        assert result.restamp == (0, *name_of(chunks[0]), stamp(8))
    kit.do(lambda t: t.set_stamp_of_chunk(upload_id, 0, stamp(9)))
    row = finish().object
    assert (row.stamp, row.created_ms) == (stamp(9), CREATED_MS)
    assert kit.object(bucket_id, "big") == row


def test_an_upload_from_before_a_start_needs_a_fresh_stamp(kit):
    bucket_id = kit.bucket()
    upload_id = kit.begin(bucket_id)
    kit.send_chunk(upload_id, bucket_id, 0, at=2)
    kit.put(bucket_id, "other", at=7)
    kit.reopen()
    assert kit.do(lambda t: t.finish_upload(upload_id, 1, 100)).restamp.above == stamp(7)
