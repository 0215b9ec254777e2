"""Documents that say how a bucket behaves: kept with the bucket, and noted on every disk."""

import pytest

from catalog_kit import CREATED_MS, Kit, stamp
from warehouse.errors import BadRequest, NoSuchBucket
from warehouse.transport.messages import CONFIGS_SIZE_MAX


@pytest.fixture
def kit(tmp_path, open_catalog):
    kit = Kit(tmp_path, open_catalog=open_catalog)
    kit.do(lambda t: t.add_disk("disk-2", "second", CREATED_MS))
    yield kit
    kit.assert_consistent()
    kit.close()


def put(kit, bucket_id, kind, document):
    kit.do(lambda t: t.set_bucket_config(bucket_id, kind, document))


def test_a_document_is_kept_replaced_and_taken_away(kit):
    bucket_id = kit.bucket()
    assert kit.catalog.bucket_configs(bucket_id) == {}
    put(kit, bucket_id, "cors", b"1")
    put(kit, bucket_id, "tagging", b"tags")
    put(kit, bucket_id, "cors", b"2")
    kit.reopen()
    assert kit.catalog.bucket_configs(bucket_id) == {"cors": b"2", "tagging": b"tags"}
    put(kit, bucket_id, "cors", b"")
    assert kit.catalog.bucket_configs(bucket_id) == {"tagging": b"tags"}


def test_every_disk_is_told_of_all_that_a_bucket_has_with_a_later_stamp(kit):
    bucket_id = kit.bucket()
    (first,) = kit.catalog.bucket_notes("disk-1", 10)
    kit.do(lambda t: t.clear_bucket_notes("disk-1", [first]))
    put(kit, bucket_id, "cors", b"1")
    put(kit, bucket_id, "tagging", b"2")
    (one,), (other,) = (kit.catalog.bucket_notes(disk, 10) for disk in ("disk-1", "disk-2"))
    assert one == other
    assert one.configs == {"cors": b"1", "tagging": b"2"}
    assert one.stamp > first.stamp


def test_the_answer_to_an_older_document_leaves_the_newer_one_to_be_told(kit):
    bucket_id = kit.bucket()
    put(kit, bucket_id, "cors", b"1")
    told = kit.catalog.bucket_notes("disk-1", 10)
    put(kit, bucket_id, "cors", b"2")
    kit.do(lambda t: t.clear_bucket_notes("disk-1", told))
    assert [note.configs for note in kit.catalog.bucket_notes("disk-1", 10)] == [{"cors": b"2"}]


def test_what_changes_nothing_is_told_to_nobody(kit):
    bucket_id = kit.bucket()
    put(kit, bucket_id, "cors", b"1")
    kit.do(lambda t: t.clear_bucket_notes("disk-1", kit.catalog.bucket_notes("disk-1", 10)))
    put(kit, bucket_id, "cors", b"1")
    put(kit, bucket_id, "tagging", b"")
    assert kit.catalog.bucket_notes("disk-1", 10) == []


def test_a_disk_that_is_added_later_has_the_same_stamp_as_the_others(kit):
    bucket_id = kit.bucket()
    put(kit, bucket_id, "cors", b"1")
    kit.do(lambda t: t.add_disk("disk-3", "third", CREATED_MS))
    assert kit.catalog.bucket_notes("disk-3", 10) == kit.catalog.bucket_notes("disk-1", 10)


def test_the_documents_of_a_bucket_are_bounded_together(kit):
    bucket_id = kit.bucket()
    put(kit, bucket_id, "cors", bytes(CONFIGS_SIZE_MAX - 4))
    put(kit, bucket_id, "tagging", b"four")
    with pytest.raises(BadRequest, match="bytes together"):
        put(kit, bucket_id, "tagging", b"fives")
    put(kit, bucket_id, "cors", bytes(CONFIGS_SIZE_MAX - 5))
    put(kit, bucket_id, "tagging", b"fives")


def test_a_deleted_bucket_has_none_and_takes_none(kit):
    bucket_id = kit.bucket()
    put(kit, bucket_id, "cors", b"1")
    kit.do(lambda t: t.delete_bucket("photos", force=False, stamp=stamp(5)))
    assert kit.catalog.bucket_configs(bucket_id) == {}
    (note,) = kit.catalog.bucket_notes("disk-1", 10)
    assert (note.is_deleted, note.configs) == (True, {})
    with pytest.raises(NoSuchBucket):
        put(kit, bucket_id, "cors", b"1")
    assert kit.catalog.bucket_configs(kit.bucket()) == {}


def test_notes_with_long_documents_come_in_pieces(kit):
    for number in range(30):
        put(kit, kit.bucket(f"b{number:02}"), "cors", bytes(CONFIGS_SIZE_MAX))
    told = list[str]()
    while notes := kit.catalog.bucket_notes("disk-1", 1000):
        assert sum(len(note.configs["cors"]) for note in notes) <= 1024 * 1024
        told += [note.name for note in notes]
        kit.do(lambda t, notes=notes: t.clear_bucket_notes("disk-1", notes))
    assert told == [f"b{number:02}" for number in range(30)]
