"""What the catalog knows of a volume's needles, to compare with what is there."""

import threading

import pytest

from catalog_kit import CREATED_MS, Kit, bits, stamp
from warehouse.transport.messages import NeedleDamage


def delete(kit, bucket_id, *keys, at=50):
    kit.do(lambda t: t.delete_objects(bucket_id, keys, stamp=stamp(at)))


@pytest.fixture
def mixed(kit):
    """Needles of volume 1 in every state; the number of each is its place in this list."""
    bucket_id = kit.bucket()
    kit.put(bucket_id, "plain")  # 1
    kit.put(bucket_id, "waiting")  # 2
    kit.put(bucket_id, "tombstoned")  # 3
    finished, unfinished = kit.begin(bucket_id, "finished"), kit.begin(bucket_id, "unfinished")
    for index in range(3):
        kit.send_chunk(finished, bucket_id, index, key="finished")  # 4, 5, 6
    kit.do(lambda t: t.finish_upload(finished, 3, 300))
    kit.send_chunk(unfinished, bucket_id, 0, key="unfinished")  # 7
    slot = kit.needle(bucket_id)  # 8
    kit.do(lambda t: t.set_slots(unfinished, [(1, 1, slot.needle_id, 100)]))
    kit.needle(bucket_id)  # 9: an orphan
    delete(kit, bucket_id, "tombstoned")
    kit.do(lambda t: t.clear_outbox(1, [3]))
    delete(kit, bucket_id, "waiting")
    kit.put(bucket_id, "elsewhere", volume_id=2)  # 1 of volume 2
    return kit


def test_the_needles_that_rows_name_as_stored(mixed):
    assert bits(mixed.catalog.row_bitmap(1, 1, 100)) == [1, 4, 5, 6, 7]
    assert bits(mixed.catalog.row_bitmap(2, 1, 100)) == [1]
    assert bits(mixed.catalog.row_bitmap(3, 1, 100)) == []


def test_the_needles_that_anything_remembers(mixed):
    assert bits(mixed.catalog.known_bitmap(1, 1, 100)) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_the_slots_that_nobody_has_told_to_be_filled(mixed):
    assert bits(mixed.catalog.slot_bitmap(1, 1, 100)) == [8]
    assert bits(mixed.catalog.slot_bitmap(2, 1, 100)) == []


@pytest.mark.parametrize(("first_id", "count"), [(1, 1), (2, 5), (4, 3), (5, 8), (7, 1), (9, 100), (1, 8)])
def test_a_bitmap_is_of_exactly_the_ids_that_were_asked_for(mixed, first_id, count):
    for ask, everything in (
        (mixed.catalog.row_bitmap, {1, 4, 5, 6, 7}),
        (mixed.catalog.known_bitmap, set(range(1, 9))),
    ):
        bitmap = ask(1, first_id, count)
        assert len(bitmap) == (count + 7) // 8
        assert set(bits(bitmap, first_id)) == everything & set(range(first_id, first_id + count))


def names_of(kit, volume_id, needle_ids):
    """What a damage report about each needle would be told."""
    asked = [NeedleDamage(volume_id=volume_id, offset=0, problem="", needle_id=n) for n in needle_ids]
    found = kit.do(lambda t: t.add_damage_records(volume_id, asked))
    return {damage.needle_id: (damage.bucket, damage.key) for damage in found if damage.key is not None}


def test_needles_have_the_names_of_their_object_or_upload(mixed):
    names = names_of(mixed, 1, range(1, 12))
    assert names == {
        1: ("photos", "plain"),
        4: ("photos", "finished"),
        5: ("photos", "finished"),
        6: ("photos", "finished"),
        7: ("photos", "unfinished"),
        8: ("photos", "unfinished"),
    }
    assert names_of(mixed, 2, [1, 2]) == {1: ("photos", "elsewhere")}


def test_a_finished_upload_need_not_be_remembered_for_its_chunks_to_have_names(mixed):
    mixed.do(lambda t: t.expire_uploads(2**50, stamp(60), 100))
    names = names_of(mixed, 1, range(4, 9))
    assert names == dict.fromkeys((4, 5, 6), ("photos", "finished"))


def test_another_thread_may_ask_while_a_transaction_is_open(mixed):
    answers = []
    with mixed.catalog.transaction() as transaction:
        transaction.create_bucket("films", CREATED_MS)
        thread = threading.Thread(target=lambda: answers.append(mixed.catalog.row_bitmap(1, 1, 8)))
        thread.start()
        thread.join()
    assert bits(answers[0]) == [1, 4, 5, 6, 7]


# --- until when the record of a deletion must be kept -------------------------------------------------


def sweep(kit, first=100, second=100):
    kit.do(lambda t: t.set_swept(1, stamp(first)))
    kit.do(lambda t: t.set_swept(2, stamp(second)))


def test_nothing_may_go_before_every_volume_was_swept(kit):
    assert kit.catalog.tombstone_horizon() == 0
    kit.do(lambda t: t.set_swept(1, stamp(9)))
    assert kit.catalog.tombstone_horizon() == 0
    kit.do(lambda t: t.set_swept(2, stamp(7)))
    assert kit.catalog.tombstone_horizon() == stamp(7)


def test_without_volumes_nothing_is_known(tmp_path, open_catalog):
    kit = Kit(tmp_path, volume_count=0, open_catalog=open_catalog)
    assert kit.catalog.tombstone_horizon() == 0
    kit.close()


def test_garbage_holds_the_records_from_its_own_stamp_on(kit):
    bucket_id = kit.bucket()
    sweep(kit)
    for key, at in (("a", 30), ("b", 20)):
        kit.put(bucket_id, key)
        delete(kit, bucket_id, key, at=at)
    assert kit.catalog.tombstone_horizon() == stamp(20)
    kit.do(lambda t: t.clear_outbox(1, [2]))
    assert kit.catalog.tombstone_horizon() == stamp(30)
    kit.do(lambda t: t.clear_outbox(1, [1]))
    assert kit.catalog.tombstone_horizon() == stamp(100)


def test_a_replaced_version_without_a_tombstone_holds_the_deletions_after_it(kit):
    bucket_id = kit.bucket()
    sweep(kit)
    kit.put(bucket_id, at=1)
    kit.put(bucket_id, at=5, volume_id=2)
    delete(kit, bucket_id, "a", at=9)
    kit.do(lambda t: t.clear_outbox(2, [1]))
    assert kit.catalog.tombstone_horizon() == stamp(5)


def void(kit, bucket_id):
    needle = kit.needle(bucket_id)
    kit.do(lambda t: t.resolve_needle(bucket_id, "a", 1, needle.needle_id, stamp(99)))


def unmet(kit, bucket_id):
    kit.do(lambda t: t.commit_needle(kit.needle(bucket_id, at=99, if_match="*")))


def aborted(kit, bucket_id):
    upload_id = kit.begin(bucket_id)
    kit.send_chunk(upload_id, bucket_id, 0, at=99)
    kit.do(lambda t: t.abort_upload(upload_id, stamp(99)))


@pytest.mark.parametrize("make", [void, unmet, aborted])
def test_garbage_that_was_never_visible_holds_everything(kit, make):
    bucket_id = kit.bucket()
    sweep(kit)
    make(kit, bucket_id)
    assert kit.catalog.tombstone_horizon() == 0
    kit.do(lambda t: t.clear_outbox(1, [1]))
    assert kit.catalog.tombstone_horizon() == stamp(100)


def test_an_unfinished_upload_holds_the_records_from_its_begin_on(kit):
    bucket_id = kit.bucket()
    sweep(kit)
    upload_id = kit.begin(bucket_id)
    assert kit.catalog.tombstone_horizon() == stamp(0)
    kit.send_chunk(upload_id, bucket_id, 0, at=-3)  # its disk's clock is behind
    assert kit.catalog.tombstone_horizon() == stamp(-3)
    kit.do(lambda t: t.finish_upload(upload_id, 1, 100))
    assert kit.catalog.tombstone_horizon() == stamp(100)
