"""Objects in the catalog: one needle, one owner; one message, one outcome, however often it comes."""

import msgspec
import pytest

from catalog_kit import CREATED_MS, RESERVED, name_of, stamp
from warehouse.auth.rights import Grant
from warehouse.errors import (
    BadBucketName,
    BadRequest,
    BucketExists,
    BucketNotEmpty,
    NeedleExists,
    NeedleVoid,
    NoSuchBucket,
    NoSuchVolume,
    PreconditionFailed,
)
from warehouse.transport.messages import etag_of


def etag(needle):
    return etag_of(needle.volume_id, needle.needle_id, needle.crc)


# --- buckets --------------------------------------------------------------------------------------


def test_a_bucket_is_there_once_created(kit):
    bucket_id = kit.bucket("photos")
    row = kit.catalog.bucket("photos")
    assert (row.id, row.name, row.created_ms, row.object_count, row.byte_count) == (
        bucket_id,
        "photos",
        CREATED_MS,
        0,
        0,
    )
    assert kit.catalog.bucket_by_id(bucket_id) == row
    assert kit.catalog.buckets() == [row]
    assert kit.catalog.totals() == (1, 0, 0)


def test_a_bucket_name_is_used_once_and_checked(kit):
    kit.bucket("photos")
    with pytest.raises(BucketExists, match="photos"):
        kit.bucket("photos")
    with pytest.raises(BadBucketName):
        kit.bucket("Photos")


def test_an_absent_bucket_is_an_error(kit):
    for ask in (
        lambda: kit.catalog.bucket("photos"),
        lambda: kit.catalog.bucket_by_id(99),
        lambda: kit.do(lambda t: t.delete_bucket("photos", force=True, stamp=stamp(1))),
    ):
        with pytest.raises(NoSuchBucket):
            ask()


def test_buckets_are_listed_by_name(kit):
    for name in ("zoo", "a", "m"):
        kit.bucket(name)
    assert [row.name for row in kit.catalog.buckets()] == ["a", "m", "zoo"]


def test_a_bucket_with_objects_is_only_deleted_by_force(kit):
    bucket_id = kit.bucket()
    needle = kit.put(bucket_id)
    with pytest.raises(BucketNotEmpty, match="photos"):
        kit.do(lambda t: t.delete_bucket("photos", force=False, stamp=stamp(2)))
    assert kit.object(bucket_id, "a") is not None
    kit.do(lambda t: t.delete_bucket("photos", force=True, stamp=stamp(2)))
    assert kit.garbage() == {name_of(needle): "deleted"}
    with pytest.raises(NoSuchBucket):
        kit.catalog.bucket("photos")


def test_objects_go_with_their_bucket_at_stamps_greater_than_their_own(kit):
    """Else a tombstone would say that the object was deleted before its last version was written."""
    bucket_id = kit.bucket()
    kit.put(bucket_id, "a", at=9)
    kit.put(bucket_id, "b", at=1)
    kit.do(lambda t: t.delete_bucket("photos", force=True, stamp=stamp(5)))
    assert kit.catalog.outbox(1, 9) == [(1, stamp(9) + 1, "deleted"), (2, stamp(5), "deleted")]


def test_an_empty_bucket_is_deleted_also_after_it_held_something(kit):
    bucket_id = kit.bucket()
    kit.put(bucket_id)
    kit.do(lambda t: t.delete_objects(bucket_id, ["a"], stamp=stamp(2)))
    kit.do(lambda t: t.delete_bucket("photos", force=False, stamp=stamp(3)))
    assert kit.catalog.buckets() == []


def test_a_bucket_of_the_same_name_is_another_one(kit):
    old_id = kit.bucket()
    kit.put(old_id)
    late = kit.needle(old_id, "late")
    kit.do(lambda t: t.delete_bucket("photos", force=True, stamp=stamp(2)))
    new_id = kit.bucket()
    assert new_id != old_id
    assert kit.object(new_id, "a") is None
    result = kit.do(lambda t: t.commit_needle(late))
    assert isinstance(result.error, NoSuchBucket)
    assert kit.catalog.totals() == (1, 0, 0)
    assert kit.garbage()[name_of(late)] == "void"
    repeated = kit.do(lambda t: t.commit_needle(late))
    assert isinstance(repeated.error, NoSuchBucket), "the same message gets the same answer"


def test_rights_on_a_deleted_bucket_go_with_it(kit):
    kit.bucket()
    photos, films = kit.catalog.bucket("photos").id, kit.bucket("films")
    by_name, on_films = Grant(1, bucket_prefix="p"), Grant(1, films)
    kit.add_key("KEY", permissions=3, grants=(Grant(3, photos), by_name, on_films))
    kit.do(lambda t: t.delete_bucket("photos", force=False, stamp=stamp(1)))
    assert kit.catalog.api_key("KEY").grants == (by_name, on_films)


# --- commits --------------------------------------------------------------------------------------


def test_a_committed_needle_is_the_object(kit):
    bucket_id = kit.bucket()
    needle = kit.put(
        bucket_id, "a/ü", content_type="text/plain", metadata={"colour": "blau", "n": ""}, size=123
    )
    row = kit.object(bucket_id, "a/ü")
    assert row.etag == etag(needle)
    assert (row.size, row.stamp, row.created_ms) == (123, needle.stamp, needle.created_ms)
    assert (row.content_type, row.metadata) == ("text/plain", {"colour": "blau", "n": ""})
    assert (row.volume_id, row.needle_id, row.crc, row.chunk_count, row.upload_id) == (
        1,
        1,
        needle.crc,
        1,
        None,
    )
    assert kit.catalog.totals() == (1, 1, 123)
    assert kit.catalog.locate("photos", ["x", "a/ü", "x"], chunk_limit=1)[1] == [None, (row, []), None]
    assert kit.garbage() == {}


def test_many_keys_are_found_in_the_order_in_which_they_were_asked_for(kit):
    bucket_id = kit.bucket()
    keys = [f"k{number}\0" for number in range(600)]
    for key in keys[::2]:
        kit.put(bucket_id, key)
    for count in (0, 1, 7, 8, 9, 64, 65, 512, 513, 600):
        asked = [*keys[:count], *keys[:3]]
        _, found = kit.catalog.locate("photos", asked, chunk_limit=1000)
        assert [located and located[0].key for located in found] == [
            None if int(key[1:-1]) % 2 else key for key in asked
        ], count


def test_a_bucket_and_one_of_its_objects_are_found_at_one_go(kit):
    bucket_id = kit.bucket("photos")
    kit.put(bucket_id, "a")
    bucket, row = kit.catalog.bucket_and_object("photos", "a")
    assert bucket == kit.catalog.bucket("photos")
    assert row == kit.object(bucket_id, "a")
    assert kit.catalog.bucket_and_object("photos", "b") == (bucket, None)
    with pytest.raises(NoSuchBucket):
        kit.catalog.bucket_and_object("videos", "a")


def test_the_default_content_type_takes_no_room(kit):
    bucket_id = kit.bucket()
    kit.put(bucket_id, "a", content_type="application/octet-stream")
    assert kit.object(bucket_id, "a").content_type is None
    kit.put(bucket_id, "a", content_type="text/plain", at=2)
    assert kit.object(bucket_id, "a").content_type == "text/plain"
    kit.put(bucket_id, "a", content_type="application/octet-stream", at=3)
    assert kit.object(bucket_id, "a").content_type is None


def test_metadata_of_one_row_is_not_shared_with_another(kit):
    bucket_id = kit.bucket()
    kit.put(bucket_id, "a")
    kit.object(bucket_id, "a").metadata["changed"] = "here"
    assert kit.object(bucket_id, "a").metadata == {}


def test_an_overwrite_replaces_and_makes_garbage(kit):
    bucket_id = kit.bucket()
    first = kit.put(bucket_id, size=10, metadata={"old": "yes"}, content_type="a/b")
    second = kit.put(bucket_id, at=2, size=7)
    row = kit.object(bucket_id, "a")
    assert row.etag == etag(second)
    assert (row.metadata, row.content_type) == ({}, None)
    assert kit.catalog.totals() == (1, 1, 7)
    assert kit.garbage() == {name_of(first): "replaced"}
    assert kit.catalog.outbox(1, 10) == [(first.needle_id, second.stamp, "replaced")]


@pytest.mark.parametrize("is_tombstoned", [False, True])
def test_a_repeated_commit_gets_the_same_answer_and_changes_nothing(kit, is_tombstoned):
    bucket_id = kit.bucket()
    replaced = kit.put(bucket_id)
    current = kit.put(bucket_id, at=2)
    deleted = kit.put(bucket_id, "b")
    kit.do(lambda t: t.delete_objects(bucket_id, ["b"], stamp=stamp(3)))
    if is_tombstoned:
        kit.do(lambda t: t.clear_outbox(1, [replaced.needle_id, deleted.needle_id]))
    before = (kit.garbage(), kit.catalog.totals(), kit.object(bucket_id, "a"))
    for needle in (replaced, current, deleted):
        assert kit.do(lambda t, needle=needle: t.commit_needle(needle)).etag == etag(needle)
    assert (kit.garbage(), kit.catalog.totals(), kit.object(bucket_id, "a")) == before
    assert kit.object(bucket_id, "b") is None, "a late message must not bring a deleted object back"


@pytest.mark.parametrize("late_by", [0, 1, 1000])
def test_a_version_without_a_greater_stamp_must_be_stamped_anew(kit, late_by):
    bucket_id = kit.bucket()
    first = kit.put(bucket_id, at=2000)
    second = kit.needle(bucket_id, at=2000 - late_by)
    result = kit.do(lambda t: t.commit_needle(second))
    assert (result.etag, result.restamp_above, result.error) == (None, first.stamp, None)
    assert kit.object(bucket_id, "a").etag == etag(first)
    assert kit.garbage() == {}
    stamped = msgspec.structs.replace(second, stamp=first.stamp + 1)
    assert kit.do(lambda t: t.commit_needle(stamped)).etag == etag(second)
    assert kit.object(bucket_id, "a").stamp == first.stamp + 1


def test_a_needle_belongs_to_one_key(kit):
    bucket_id = kit.bucket()
    needle = kit.put(bucket_id, "a")
    other = kit.needle(bucket_id, "b", needle_id=needle.needle_id)
    result = kit.do(lambda t: t.commit_needle(other))
    assert isinstance(result.error, NeedleExists)
    assert kit.object(bucket_id, "b") is None
    # Neither may a refusal for another reason turn somebody's needle into garbage.
    elsewhere = kit.needle(99, "c", needle_id=needle.needle_id)
    assert isinstance(kit.do(lambda t: t.commit_needle(elsewhere)).error, NeedleExists)
    unmet = kit.needle(bucket_id, "c", needle_id=needle.needle_id, if_match="x")
    assert isinstance(kit.do(lambda t: t.commit_needle(unmet)).error, NeedleExists)
    assert kit.garbage() == {}


def test_the_stamp_maximum_counts_commits_and_tombstones_and_survives(kit):
    bucket_id = kit.bucket()
    kit.put(bucket_id, at=5)
    assert kit.catalog.stamp_max() == stamp(5)
    kit.do(lambda t: t.delete_objects(bucket_id, ["a"], stamp=stamp(9)))
    kit.put(bucket_id, "b", at=7)
    assert kit.catalog.stamp_max() == stamp(9)
    kit.reopen()
    assert kit.catalog.stamp_max() == stamp(9)


# --- conditions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize(
    ("if_match", "if_none_match", "with_object", "without_object"),
    [
        (None, "*", False, True),
        ("*", None, True, False),
        ("CURRENT", None, True, False),
        ("other", None, False, False),
        ('"CURRENT"', None, True, False),
        ('"x", "CURRENT"', None, True, False),
        ("CURRENT-", None, False, False),
        ("", None, False, False),
        (None, "CURRENT", False, True),
        (None, "other", True, True),
        ("CURRENT", "other", True, False),
        ("CURRENT", "*", False, False),
    ],
)
def test_conditions_are_decided_against_the_current_version(
    kit, exists, if_match, if_none_match, with_object, without_object
):
    bucket_id = kit.bucket()
    current = etag(kit.put(bucket_id)) if exists else "1-1-0"
    needle = kit.needle(
        bucket_id,
        at=2,
        if_match=if_match and if_match.replace("CURRENT", current),
        if_none_match=if_none_match and if_none_match.replace("CURRENT", current),
    )
    result = kit.do(lambda t: t.commit_needle(needle))
    if with_object if exists else without_object:
        assert result.etag == kit.object(bucket_id, "a").etag == etag(needle)
    else:
        assert isinstance(result.error, PreconditionFailed)
        assert kit.garbage() == {name_of(needle): "unmet"}
        again = kit.do(lambda t: t.commit_needle(needle))
        assert isinstance(again.error, PreconditionFailed), "the same message gets the same answer"


def test_of_two_puts_that_both_want_to_be_first_one_is(kit):
    bucket_id = kit.bucket()
    first, second = (kit.needle(bucket_id, at=at, if_none_match="*") for at in (1, 2))
    with kit.catalog.transaction() as transaction:
        results = [transaction.commit_needle(needle) for needle in (first, second)]
    assert results[0].etag == etag(first)
    assert isinstance(results[1].error, PreconditionFailed)


def test_an_unmet_condition_wins_over_an_old_stamp(kit):
    bucket_id = kit.bucket()
    kit.put(bucket_id, at=5)
    needle = kit.needle(bucket_id, at=1, if_none_match="*")
    assert isinstance(kit.do(lambda t: t.commit_needle(needle)).error, PreconditionFailed)


# --- resolving ------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_tombstoned", [False, True])
def test_a_resolved_needle_can_never_be_committed(kit, is_tombstoned):
    bucket_id = kit.bucket()
    needle = kit.needle(bucket_id)
    assert kit.do(lambda t: t.resolve_needle(bucket_id, "a", *name_of(needle), stamp(2))) is False
    assert kit.garbage() == {name_of(needle): "void"}
    if is_tombstoned:
        kit.do(lambda t: t.clear_outbox(1, [needle.needle_id]))
        assert kit.garbage() == {}
    assert isinstance(kit.do(lambda t: t.commit_needle(needle)).error, NeedleVoid)
    assert kit.do(lambda t: t.resolve_needle(bucket_id, "a", *name_of(needle), stamp(3))) is False
    assert kit.object(bucket_id, "a") is None
    assert kit.garbage() == ({} if is_tombstoned else {name_of(needle): "void"})


@pytest.mark.parametrize("is_tombstoned", [False, True])
@pytest.mark.parametrize("fate", ["current", "replaced", "deleted"])
def test_a_committed_needle_resolves_as_committed_whatever_happened_since(kit, fate, is_tombstoned):
    bucket_id = kit.bucket()
    needle = kit.put(bucket_id)
    if fate == "replaced":
        kit.put(bucket_id, at=2)
    if fate == "deleted":
        kit.do(lambda t: t.delete_objects(bucket_id, ["a"], stamp=stamp(2)))
    if is_tombstoned:
        kit.do(lambda t: t.clear_outbox(1, [needle.needle_id]))
    assert kit.do(lambda t: t.resolve_needle(bucket_id, "a", *name_of(needle), stamp(3))) is True


def test_resolving_cannot_destroy_what_belongs_to_another_key(kit):
    bucket_id = kit.bucket()
    mine, other_bucket = kit.put(bucket_id, "mine"), kit.bucket("other")
    upload_id = kit.begin(bucket_id)
    chunk = kit.send_chunk(upload_id, bucket_id, 0)
    for victim in (mine, chunk):
        for ask in ((other_bucket, "mine"), (bucket_id, "theirs")):
            with pytest.raises(BadRequest, match="not written for this key"):
                kit.do(lambda t, ask=ask, victim=victim: t.resolve_needle(*ask, *name_of(victim), stamp(9)))
    assert kit.garbage() == {}


def test_a_needle_that_was_never_handed_out_is_not_resolved(kit):
    bucket_id = kit.bucket()
    with pytest.raises(NoSuchVolume):
        kit.do(lambda t: t.resolve_needle(bucket_id, "a", 99, 1, stamp(1)))
    for needle_id in (0, -1, RESERVED + 1):
        with pytest.raises(BadRequest, match="never handed out"):
            kit.do(lambda t, needle_id=needle_id: t.resolve_needle(bucket_id, "a", 1, needle_id, stamp(1)))
    assert kit.garbage() == {}


# --- deletes --------------------------------------------------------------------------------------


def test_a_delete_tells_which_keys_there_were(kit):
    bucket_id = kit.bucket()
    needles = [kit.put(bucket_id, key) for key in ("a", "b", "c")]
    assert kit.do(lambda t: t.delete_objects(bucket_id, ["a", "x", "c", "a"], stamp=stamp(5))) == [
        True,
        False,
        True,
        False,
    ]
    assert kit.catalog.totals() == (1, 1, 100)
    assert kit.garbage() == {name_of(needles[0]): "deleted", name_of(needles[2]): "deleted"}
    assert kit.catalog.outbox(1, 1) == [(needles[0].needle_id, stamp(5), "deleted")]


def test_a_conditional_delete_that_is_not_met_deletes_nothing(kit):
    bucket_id = kit.bucket()
    first, second = kit.put(bucket_id, "a"), kit.put(bucket_id, "b")
    with pytest.raises(PreconditionFailed, match=r"'b': if_match asks for .*, the object has another ETag"):
        kit.do(lambda t: t.delete_objects(bucket_id, ["a", "b"], if_match=etag(first), stamp=stamp(5)))
    assert kit.catalog.totals() == (1, 2, 200)
    assert kit.garbage() == {}
    assert kit.do(lambda t: t.delete_objects(bucket_id, ["b"], if_match=etag(second), stamp=stamp(5))) == [
        True
    ]
    assert kit.do(lambda t: t.delete_objects(bucket_id, ["b"], if_match=etag(second), stamp=stamp(5))) == [
        False
    ]


def test_a_key_can_be_written_again_after_a_delete(kit):
    bucket_id = kit.bucket()
    kit.put(bucket_id)
    kit.do(lambda t: t.delete_objects(bucket_id, ["a"], stamp=stamp(5)))
    needle = kit.put(bucket_id, at=6)
    assert kit.object(bucket_id, "a").etag == etag(needle)


# --- garbage --------------------------------------------------------------------------------------


def test_the_outbox_is_counted_and_paged_for_each_volume(kit):
    bucket_id = kit.bucket()
    for volume_id, count in ((1, 5), (2, 3)):
        for number in range(count):
            kit.put(bucket_id, f"{volume_id}-{number}", volume_id=volume_id)
            kit.do(lambda t, key=f"{volume_id}-{number}": t.delete_objects(bucket_id, [key], stamp=stamp(9)))
    assert kit.catalog.outbox_counts() == {1: 5, 2: 3}
    assert [needle_id for needle_id, _, _ in kit.catalog.outbox(1, 3)] == [1, 2, 3]
    kit.do(lambda t: t.clear_outbox(1, [1, 2, 3, 3, 999]))
    assert kit.catalog.outbox_counts() == {1: 2, 2: 3}
    assert [needle_id for needle_id, _, _ in kit.catalog.outbox(1, 3)] == [4, 5]
    kit.do(lambda t: t.clear_outbox(1, [4, 5]))
    assert kit.catalog.outbox_counts() == {2: 3}
