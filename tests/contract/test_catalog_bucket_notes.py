"""Every disk is told of every bucket, and of its end, until it says that it has written it down."""

import msgspec
import pytest

from catalog_kit import CREATED_MS, Kit, stamp
from warehouse.catalog.identities import AccountRow
from warehouse.errors import BucketNotEmpty
from warehouse.transport.messages import BucketNote


@pytest.fixture
def kit(tmp_path, open_catalog):
    kit = Kit(tmp_path, open_catalog=open_catalog)
    kit.do(lambda t: t.add_disk("disk-2", "second", CREATED_MS))
    yield kit
    kit.assert_consistent()
    kit.close()


def notes(kit, disk_id="disk-1", limit=100):
    return kit.catalog.bucket_notes(disk_id, limit)


def note(kit, bucket_id, name="photos"):
    (account,) = kit.catalog.accounts()
    return BucketNote(bucket_id, name, CREATED_MS, False, stamp(0), account.id)


def test_every_disk_is_told_of_a_new_bucket(kit):
    bucket_id = kit.bucket()
    assert notes(kit) == notes(kit, "disk-2") == [note(kit, bucket_id)]
    assert notes(kit, "unknown") == []


def test_a_disk_that_has_written_it_down_is_told_no_more(kit):
    kit.bucket()
    for _ in range(2):
        kit.do(lambda t: t.clear_bucket_notes("disk-1", [note(kit, 1)]))
    kit.reopen()
    assert (notes(kit), notes(kit, "disk-2")) == ([], [note(kit, 1)])


def test_notes_come_in_pieces(kit):
    for name in ("a", "b", "c"):
        kit.bucket(name)
    assert notes(kit, limit=2) == [note(kit, 1, "a"), note(kit, 2, "b")]
    kit.do(lambda t: t.clear_bucket_notes("disk-1", notes(kit, limit=2)))
    assert notes(kit, limit=2) == [note(kit, 3, "c")]


@pytest.mark.parametrize("is_written", [False, True])
def test_the_end_of_a_bucket_takes_the_place_of_its_beginning(kit, is_written):
    kit.put(kit.bucket())
    if is_written:
        kit.do(lambda t: t.clear_bucket_notes("disk-1", notes(kit)))
    kit.do(lambda t: t.delete_bucket("photos", force=True, stamp=stamp(5)))
    expected = [BucketNote(1, "photos", CREATED_MS, True, stamp(5))]
    assert notes(kit) == notes(kit, "disk-2") == expected


def test_the_answer_to_an_older_note_does_not_clear_a_newer_one(kit):
    kit.bucket()
    sent = notes(kit)
    kit.do(lambda t: t.delete_bucket("photos", force=False, stamp=stamp(5)))
    kit.do(lambda t: t.clear_bucket_notes("disk-1", sent))
    (left,) = notes(kit)
    assert left.is_deleted
    for field, value in (
        ("name", "x"),
        ("created_ms", 1),
        ("is_deleted", False),
        ("stamp", 1),
        ("region", "x"),
    ):
        other = msgspec.structs.replace(left, **{field: value})
        kit.do(lambda t, other=other: t.clear_bucket_notes("disk-1", [other]))
    assert notes(kit) == [left]


def test_a_bucket_that_was_not_deleted_is_not_noted_as_such(kit):
    kit.put(kit.bucket())
    with pytest.raises(BucketNotEmpty):
        kit.do(lambda t: t.delete_bucket("photos", force=False, stamp=stamp(5)))
    assert notes(kit) == [note(kit, 1)]


def test_a_new_disk_is_told_of_the_buckets_that_live(kit):
    for name in ("a", "b"):
        kit.bucket(name)
    kit.do(lambda t: t.delete_bucket("a", force=False, stamp=stamp(5)))
    kit.do(lambda t: t.add_disk("disk-3", "third", CREATED_MS))
    assert notes(kit, "disk-3") == [note(kit, 2, "b")]


def test_a_disk_that_comes_again_is_not_told_anew(kit):
    kit.bucket()
    kit.do(lambda t: t.clear_bucket_notes("disk-2", [note(kit, 1)]))
    kit.do(lambda t: t.add_disk("disk-2", "renamed", CREATED_MS))
    assert notes(kit, "disk-2") == []


def test_a_note_says_whose_the_bucket_is_and_where_it_was_made(kit):
    account = kit.catalog.accounts()[0]
    bucket = kit.do(lambda t: t.create_bucket("films", CREATED_MS, region="eu-west-3"))
    assert (bucket.region, kit.catalog.bucket("films").region) == ("eu-west-3", "eu-west-3")
    expected = BucketNote(bucket.id, "films", CREATED_MS, False, stamp(0), account.id, "eu-west-3")
    assert notes(kit) == [expected]


def test_a_bucket_that_is_given_to_another_account_is_noted_again(kit):
    bucket_id = kit.bucket()
    before = notes(kit)
    kit.do(lambda t: t.clear_bucket_notes("disk-1", before))
    kit.do(lambda t: t.add_account(AccountRow("b" * 32, "another", None, CREATED_MS)))
    kit.do(lambda t: t.set_bucket_owner(bucket_id, "b" * 32))
    (now,) = notes(kit)
    assert (now.bucket_id, now.owner_id, now.is_deleted) == (bucket_id, "b" * 32, False)
    assert now.stamp > before[0].stamp
    kit.do(lambda t: t.clear_bucket_notes("disk-2", before))
    assert notes(kit, "disk-2") == [now], "what was written down before is not what is so now"
