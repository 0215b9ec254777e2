"""Uploads in the catalog: nothing shows before the finish, nothing is lost or doubled after it."""

import pytest

from catalog_kit import CREATED_MS, name_of, stamp
from warehouse.catalog.interface import FINISHED_KEPT_MS
from warehouse.errors import (
    BadRequest,
    LengthMismatch,
    NeedleExists,
    NeedleVoid,
    NoSuchBucket,
    NoSuchUpload,
    PreconditionFailed,
    UploadIncomplete,
)
from warehouse.transport.messages import etag_of


def finish(kit, upload_id, chunk_count, size=None):
    return kit.do(
        lambda t: t.finish_upload(upload_id, chunk_count, 100 * chunk_count if size is None else size)
    )


def etag(first, chunk_count=1):
    return etag_of(first.volume_id, first.needle_id, first.crc, chunk_count)


# --- from begin to finish -------------------------------------------------------------------------


def test_an_upload_is_remembered_as_it_was_begun(kit):
    bucket_id = kit.bucket()
    upload_id = kit.begin(
        bucket_id, "ü", content_type="a/b", metadata={"n": "v"}, if_match="x", if_none_match="y"
    )
    row = kit.catalog.upload(upload_id)
    assert (row.id, row.bucket_id, row.key, row.content_type, row.metadata) == (
        upload_id,
        bucket_id,
        "ü",
        "a/b",
        {"n": "v"},
    )
    assert (row.if_match, row.if_none_match, row.is_finished) == ("x", "y", False)
    assert (row.created_ms, row.expires_ms, row.lifetime_ms) == (CREATED_MS, CREATED_MS + 1000, 1000)
    assert kit.catalog.upload_count() == 1


def test_an_upload_needs_its_bucket(kit):
    with pytest.raises(NoSuchBucket):
        kit.begin(99)


def test_several_chunks_become_one_object(kit):
    bucket_id = kit.bucket()
    upload_id = kit.begin(bucket_id, content_type="a/b", metadata={"n": "v"})
    chunks = [
        kit.send_chunk(upload_id, bucket_id, index, at=index + 1, size=10 + index, volume_id=1 + index % 2)
        for index in (2, 0, 1)
    ]
    by_index = sorted(chunks, key=lambda chunk: chunk.chunk_index)
    assert kit.object(bucket_id, "big") is None
    assert kit.catalog.totals() == (1, 0, 0)
    result = finish(kit, upload_id, 3, 33)
    row = kit.object(bucket_id, "big")
    assert result.object == row
    assert row.etag == etag(by_index[0], 3)
    assert (row.size, row.chunk_count, row.upload_id, row.stamp) == (33, 3, upload_id, stamp(3))
    assert (row.content_type, row.metadata, row.created_ms) == ("a/b", {"n": "v"}, CREATED_MS)
    assert kit.catalog.totals() == (1, 1, 33)
    assert [
        (c.chunk_index, c.volume_id, c.needle_id, c.size, c.crc) for c in kit.chunks("photos", "big")
    ] == [(c.chunk_index, c.volume_id, c.needle_id, c.size, c.crc) for c in by_index]
    assert kit.catalog.upload_count() == 0
    assert kit.garbage() == {}


@pytest.mark.parametrize("size", [0, 100])
def test_an_upload_of_one_chunk_becomes_a_plain_object(kit, size):
    bucket_id = kit.bucket()
    upload_id = kit.begin(bucket_id)
    chunk = kit.send_chunk(upload_id, bucket_id, 0, size=size)
    row = finish(kit, upload_id, 1, size).object
    assert (row.etag, row.size, row.chunk_count, row.upload_id) == (etag(chunk), size, 1, upload_id)
    assert kit.object(bucket_id, "big") == row
    assert kit.chunks("photos", "big") == []
    assert kit.do(lambda t: t.commit_needle(chunk)).etag == etag(chunk), "a late message of the chunk"
    assert kit.garbage() == {}
    later = kit.put(bucket_id, "big", at=9)
    assert kit.garbage() == {name_of(chunk): "replaced"}
    assert kit.object(bucket_id, "big").etag == etag(later)


def test_an_object_of_one_chunk_takes_its_needle_along(kit):
    bucket_id = kit.bucket()
    upload_id = kit.begin(bucket_id)
    chunk = kit.send_chunk(upload_id, bucket_id, 0)
    finish(kit, upload_id, 1)
    kit.do(lambda t: t.delete_objects(bucket_id, ["big"], stamp=stamp(9)))
    assert kit.garbage() == {name_of(chunk): "deleted"}


def test_the_old_version_stays_until_the_finish_and_is_garbage_then(kit):
    bucket_id = kit.bucket()
    old = kit.put(bucket_id, "big")
    upload_id = kit.begin(bucket_id)
    chunks = [kit.send_chunk(upload_id, bucket_id, index, at=5) for index in range(2)]
    assert kit.object(bucket_id, "big").etag == etag(old)
    finish(kit, upload_id, 2)
    assert kit.garbage() == {name_of(old): "replaced"}
    replacement = kit.put(bucket_id, "big", at=9)
    assert kit.garbage() == {name_of(needle): "replaced" for needle in (old, *chunks)}
    assert kit.object(bucket_id, "big").etag == etag(replacement)
    assert kit.stored() == [replacement.needle_id]
    for chunk in chunks:
        assert kit.do(lambda t, chunk=chunk: t.commit_needle(chunk)).etag == etag(chunk)


def test_a_deleted_object_takes_all_its_chunks_along(kit):
    bucket_id = kit.bucket()
    upload_id = kit.begin(bucket_id)
    chunks = [kit.send_chunk(upload_id, bucket_id, index) for index in range(3)]
    finish(kit, upload_id, 3)
    kit.do(lambda t: t.delete_objects(bucket_id, ["big"], stamp=stamp(9)))
    assert kit.garbage() == {name_of(chunk): "deleted" for chunk in chunks}


# --- what a finish refuses ------------------------------------------------------------------------


def test_missing_chunks_are_named(kit):
    bucket_id = kit.bucket()
    upload_id = kit.begin(bucket_id)
    with pytest.raises(UploadIncomplete, match=r"lacks chunks: 0$"):
        finish(kit, upload_id, 1)
    for index in (0, 2, 4):
        kit.send_chunk(upload_id, bucket_id, index)
    unfilled = kit.needle(bucket_id, "big")
    kit.do(lambda t: t.set_slots(upload_id, [(3, 1, unfilled.needle_id, 100)]))
    with pytest.raises(UploadIncomplete, match=r"lacks chunks: 1, 3$"):
        finish(kit, upload_id, 5)
    with pytest.raises(UploadIncomplete, match=r"lacks chunks: 1, 3, 5, 6, 7, 8, 9, 10, 11, 12 and more$"):
        finish(kit, upload_id, 1_000_000_000)
    assert kit.object(bucket_id, "big") is None


def test_sizes_must_add_up(kit):
    bucket_id = kit.bucket()
    upload_id = kit.begin(bucket_id)
    for index in range(2):
        kit.send_chunk(upload_id, bucket_id, index)
    with pytest.raises(UploadIncomplete, match="have 200 bytes, not 199"):
        finish(kit, upload_id, 2, 199)
    assert finish(kit, upload_id, 2, 200).object is not None


def test_stored_chunks_may_not_be_left_over(kit):
    bucket_id = kit.bucket()
    upload_id = kit.begin(bucket_id)
    for index in range(3):
        kit.send_chunk(upload_id, bucket_id, index)
    with pytest.raises(UploadIncomplete, match="beyond its 2: 2"):
        finish(kit, upload_id, 2)
    assert finish(kit, upload_id, 3).object is not None


def test_slots_that_were_never_filled_are_void_after_the_finish(kit):
    bucket_id = kit.bucket()
    upload_id = kit.begin(bucket_id)
    kit.send_chunk(upload_id, bucket_id, 0)
    spare = kit.needle(bucket_id, "big", upload_id=upload_id, chunk_index=1)
    kit.do(lambda t: t.set_slots(upload_id, [(1, 1, spare.needle_id, 100)]))
    finish(kit, upload_id, 1)
    assert kit.garbage() == {name_of(spare): "void"}
    assert isinstance(kit.do(lambda t: t.commit_needle(spare)).error, NeedleVoid)


@pytest.mark.parametrize(("chunk_count", "size"), [(0, 0), (-1, 0), (1, -1)])
def test_an_object_has_a_chunk_and_no_negative_size(kit, chunk_count, size):
    upload_id = kit.begin(kit.bucket())
    with pytest.raises(BadRequest):
        finish(kit, upload_id, chunk_count, size)


def test_conditions_are_decided_at_the_finish(kit):
    bucket_id = kit.bucket()
    upload_id = kit.begin(bucket_id, if_none_match="*")
    chunk = kit.send_chunk(upload_id, bucket_id, 0, at=5)
    rival = kit.put(bucket_id, "big", at=1)
    with pytest.raises(PreconditionFailed):
        finish(kit, upload_id, 1)
    assert kit.object(bucket_id, "big").etag == etag(rival)
    assert kit.catalog.upload_count() == 1, "whoever began it decides what becomes of it"
    kit.do(lambda t: t.delete_objects(bucket_id, ["big"], stamp=stamp(2)))
    assert finish(kit, upload_id, 1).object.etag == etag(chunk)


def test_a_version_without_a_greater_stamp_has_a_chunk_stamped_anew(kit):
    bucket_id = kit.bucket()
    upload_id = kit.begin(bucket_id)
    chunks = [kit.send_chunk(upload_id, bucket_id, index, at=index + 1) for index in range(2)]
    rival = kit.put(bucket_id, "big", at=7)
    result = finish(kit, upload_id, 2)
    assert result.object is None
    assert result.restamp == (0, *name_of(chunks[0]), rival.stamp)
    assert kit.object(bucket_id, "big").etag == etag(rival)
    kit.do(lambda t: t.set_stamp_of_chunk(upload_id, 0, rival.stamp + 1))
    row = finish(kit, upload_id, 2).object
    assert (row.etag, row.stamp) == (etag(chunks[0], 2), rival.stamp + 1)
    assert kit.catalog.stamp_max() == rival.stamp + 1


# --- repeated and late messages -------------------------------------------------------------------


@pytest.mark.parametrize("since", ["nothing", "replaced", "deleted"])
@pytest.mark.parametrize("chunk_count", [1, 2])
def test_a_repeated_finish_gets_the_same_answer_whatever_happened_since(kit, chunk_count, since):
    bucket_id = kit.bucket()
    upload_id = kit.begin(bucket_id, metadata={"n": "v"}, content_type="a/b", if_none_match="*")
    for index in range(chunk_count):
        kit.send_chunk(upload_id, bucket_id, index)
    first = finish(kit, upload_id, chunk_count)
    if since == "replaced":
        kit.put(bucket_id, "big", at=9)
    if since == "deleted":
        kit.do(lambda t: t.delete_objects(bucket_id, ["big"], stamp=stamp(9)))
    before = (kit.object(bucket_id, "big"), kit.garbage())
    assert finish(kit, upload_id, chunk_count) == first
    assert (kit.object(bucket_id, "big"), kit.garbage()) == before
    assert kit.catalog.upload(upload_id).is_finished


def test_a_repeated_chunk_changes_nothing(kit):
    bucket_id = kit.bucket()
    upload_id = kit.begin(bucket_id)
    chunk = kit.send_chunk(upload_id, bucket_id, 0)
    before = (kit.stored(), kit.catalog.upload(upload_id), kit.garbage())
    assert kit.do(lambda t: t.commit_needle(chunk)).etag == etag(chunk)
    assert (kit.stored(), kit.catalog.upload(upload_id), kit.garbage()) == before


def test_a_new_slot_voids_the_old_needle(kit):
    bucket_id = kit.bucket()
    upload_id = kit.begin(bucket_id)
    slow = kit.needle(bucket_id, "big", upload_id=upload_id)
    kit.do(lambda t: t.set_slots(upload_id, [(0, 1, slow.needle_id, 100)]))
    stored = kit.send_chunk(upload_id, bucket_id, 0)
    assert kit.garbage() == {name_of(slow): "void"}
    assert isinstance(kit.do(lambda t: t.commit_needle(slow)).error, NeedleVoid)
    again = kit.send_chunk(upload_id, bucket_id, 0, volume_id=2)
    assert kit.garbage() == {name_of(slow): "void", name_of(stored): "void"}
    assert finish(kit, upload_id, 1).object.etag == etag(again)


def test_the_same_slot_asked_for_twice_is_kept(kit):
    bucket_id = kit.bucket()
    upload_id = kit.begin(bucket_id)
    slots = [(0, 1, kit.needle(bucket_id).needle_id, 100)]
    for _ in range(2):
        kit.do(lambda t: t.set_slots(upload_id, slots))
    assert kit.garbage() == {}
    assert kit.slots() == [slots[0][2]]


def test_one_needle_takes_one_chunk(kit):
    bucket_id = kit.bucket()
    upload_id = kit.begin(bucket_id)
    chunk = kit.send_chunk(upload_id, bucket_id, 0)
    with pytest.raises(NeedleExists):
        kit.do(lambda t: t.set_slots(upload_id, [(1, 1, chunk.needle_id, 100)]))
    assert (kit.stored(), kit.slots()) == ([chunk.needle_id], [])


def test_a_chunk_of_another_size_than_its_slot_is_refused(kit):
    bucket_id = kit.bucket()
    upload_id = kit.begin(bucket_id)
    chunk = kit.needle(bucket_id, "big", upload_id=upload_id, size=99)
    kit.do(lambda t: t.set_slots(upload_id, [(0, 1, chunk.needle_id, 100)]))
    assert isinstance(kit.do(lambda t: t.commit_needle(chunk)).error, LengthMismatch)
    with pytest.raises(UploadIncomplete):
        finish(kit, upload_id, 1, 99)
    kit.do(lambda t: t.abort_upload(upload_id, stamp(1)))
    assert kit.garbage() == {name_of(chunk): "aborted"}


def test_a_chunk_that_no_slot_expects_is_garbage(kit):
    bucket_id = kit.bucket()
    upload_id = kit.begin(bucket_id)
    stray, lost = (
        kit.needle(bucket_id, "big", upload_id=number, chunk_index=0) for number in (upload_id, 999)
    )
    for needle in (stray, lost):
        assert isinstance(kit.do(lambda t, needle=needle: t.commit_needle(needle)).error, NoSuchUpload)
        assert isinstance(kit.do(lambda t, needle=needle: t.commit_needle(needle)).error, NeedleVoid)
    assert kit.garbage() == {name_of(stray): "void", name_of(lost): "void"}


# --- giving up ------------------------------------------------------------------------------------


def test_an_aborted_upload_leaves_only_garbage(kit):
    bucket_id = kit.bucket()
    upload_id = kit.begin(bucket_id)
    stored = kit.send_chunk(upload_id, bucket_id, 0)
    open_slot = kit.needle(bucket_id, "big", upload_id=upload_id, chunk_index=1)
    kit.do(lambda t: t.set_slots(upload_id, [(1, 1, open_slot.needle_id, 100)]))
    kit.do(lambda t: t.abort_upload(upload_id, stamp(5)))
    assert kit.garbage() == {name_of(stored): "aborted", name_of(open_slot): "aborted"}
    assert isinstance(kit.do(lambda t: t.commit_needle(open_slot)).error, NeedleVoid)
    assert (kit.stored(), kit.slots()) == ([], [])
    for late in (
        lambda t: t.finish_upload(upload_id, 1, 100),
        lambda t: t.abort_upload(upload_id, stamp(6)),
        lambda t: t.set_slots(upload_id, [(0, 1, 500, 100)]),
    ):
        with pytest.raises(NoSuchUpload):
            kit.do(late)
    with pytest.raises(NoSuchUpload):
        kit.catalog.upload(upload_id)


def test_a_finished_upload_cannot_be_aborted_or_extended(kit):
    bucket_id = kit.bucket()
    upload_id = kit.begin(bucket_id)
    kit.send_chunk(upload_id, bucket_id, 0)
    finish(kit, upload_id, 1)
    expires_ms = kit.catalog.upload(upload_id).expires_ms
    kit.do(lambda t: t.touch_upload(upload_id, expires_ms + 1_000_000))
    assert kit.catalog.upload(upload_id).expires_ms == expires_ms
    for late in (
        lambda t: t.abort_upload(upload_id, stamp(6)),
        lambda t: t.set_slots(upload_id, [(0, 1, 500, 100)]),
    ):
        with pytest.raises(NoSuchUpload, match="finished"):
            kit.do(late)
    assert kit.object(bucket_id, "big") is not None


def test_uploads_expire_when_their_time_is_over_oldest_first(kit):
    bucket_id = kit.bucket()
    uploads = [kit.begin(bucket_id, expires_ms=CREATED_MS + 100 * number) for number in (3, 1, 2)]
    chunk = kit.send_chunk(uploads[1], bucket_id, 0, at=-1000)
    kit.do(lambda t: t.touch_upload(uploads[2], CREATED_MS + 500))
    kit.do(lambda t: t.touch_upload(uploads[0], 0))  # time is only ever added

    def expire(now, limit=10):
        return kit.do(lambda t: t.expire_uploads(CREATED_MS + now, stamp(1), limit))

    assert expire(99) == []
    assert expire(100) == [uploads[1]]
    assert kit.garbage() == {name_of(chunk): "aborted"}
    assert expire(1000, limit=1) == [uploads[0]]
    assert expire(1000, limit=1) == [uploads[2]]
    assert kit.catalog.upload_count() == 0


def test_a_confirmed_chunk_grants_the_whole_time_anew(kit):
    bucket_id = kit.bucket()
    upload_id = kit.begin(bucket_id, expires_ms=CREATED_MS + 1000)
    kit.send_chunk(upload_id, bucket_id, 0, at=700)
    assert kit.catalog.upload(upload_id).expires_ms == CREATED_MS + 1700
    kit.send_chunk(upload_id, bucket_id, 1, at=300)
    assert kit.catalog.upload(upload_id).expires_ms == CREATED_MS + 1700


def test_finished_uploads_are_forgotten_after_a_while_by_themselves(kit):
    bucket_id = kit.bucket()
    finished = []
    for number in range(20):
        upload_id = kit.begin(bucket_id)
        kit.send_chunk(upload_id, bucket_id, 0, at=number * FINISHED_KEPT_MS)
        finish(kit, upload_id, 1)
        finished.append(upload_id)
    for upload_id in finished[:-1]:
        with pytest.raises(NoSuchUpload):
            kit.catalog.upload(upload_id)
    assert kit.catalog.upload(finished[-1]).is_finished
    assert kit.catalog.totals() == (1, 1, 100)
    kit.do(lambda t: t.expire_uploads(CREATED_MS + 20 * FINISHED_KEPT_MS, stamp(1), 10))
    with pytest.raises(NoSuchUpload):
        kit.catalog.upload(finished[-1])
    assert kit.object(bucket_id, "big") is not None, "forgetting the upload keeps the object"


def test_upload_ids_are_random_and_fit_into_every_json_reader(tmp_path, open_catalog):
    catalog = open_catalog(tmp_path)
    with catalog.transaction() as transaction:
        bucket = transaction.create_bucket("photos", 1)
        ids = {transaction.begin_upload(bucket.id, "a", None, {}, None, None, 1, 2) for _ in range(100)}
    catalog.close()
    assert len(ids) == 100
    assert all(0 < upload_id < 2**53 for upload_id in ids)
    assert max(ids) > 2**40


YEAR_MS = 365 * 24 * 3600 * 1000


def test_an_upload_expires_in_its_time_though_a_clock_was_a_year_ahead_once(kit):
    kit.now_ms = CREATED_MS
    bucket_id = kit.bucket()
    ahead = CREATED_MS + YEAR_MS
    by_chunk, by_slots = (kit.begin(bucket_id, key) for key in ("big", "other"))
    kit.send_chunk(by_chunk, bucket_id, 0, at=YEAR_MS)  # stamped by the clock that was ahead
    kit.do(lambda t: t.touch_upload(by_slots, ahead))
    assert kit.do(lambda t: t.expire_uploads(CREATED_MS + 999, stamp(YEAR_MS), 10)) == []
    assert kit.do(lambda t: t.expire_uploads(CREATED_MS + 1000, stamp(YEAR_MS), 10)) == [by_chunk, by_slots]


def test_a_finished_upload_is_forgotten_in_its_time_though_a_clock_was_a_year_ahead(kit):
    kit.now_ms = CREATED_MS
    bucket_id = kit.bucket()
    upload_id = kit.begin(bucket_id)
    kit.send_chunk(upload_id, bucket_id, 0, at=YEAR_MS)
    finish(kit, upload_id, 1)
    assert kit.catalog.upload(upload_id).expires_ms <= CREATED_MS + 10 * 60 * 1000
