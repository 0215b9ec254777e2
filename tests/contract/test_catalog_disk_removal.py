"""Removal of a disk in the catalog: what needs it goes, all else stays, and every count is right after each piece."""

from __future__ import annotations

from typing import Any

import pytest

from catalog_kit import CREATED_MS, Kit, stamp
from manifest_kit import Upload
from warehouse.catalog.nodes import NodeRow
from warehouse.catalog.records import REMOVED_DISK_META, PartRow
from warehouse.errors import NeedleVoid, NoSuchUpload, UploadIncomplete
from warehouse.transport.messages import NeedleDamage
from warehouse.transport.messages.attributes import ObjectAttributes, encode_attributes, part_chunk_index

GONE, STAYS = "disk-2", "disk-1"
REMOVED_MS = CREATED_MS + 5000


@pytest.fixture
def lost(kit: Kit) -> int:
    """A volume on a disk that will be lost; volumes 1 and 2 are on the other one."""

    def add(t: Any) -> int:
        t.add_disk(GONE, "second", CREATED_MS)
        volume_id = t.add_volume(None, "uuid-lost", 1 << 30, GONE)
        t.reserve_needle_ids(volume_id, 1_000_000)
        return int(volume_id)

    volume_id = int(kit.do(add))
    kit.next_needle[volume_id] = 1
    return volume_id


def remove(kit: Kit, disk_id: str = GONE) -> list[Any]:
    """All pieces; the catalog is sound after each."""
    done = []
    while not done or not done[-1].is_done:
        done.append(kit.do(lambda t: t.remove_disk(disk_id, removed_ms=REMOVED_MS, stamp=stamp(900))))
        kit.assert_consistent()
        assert len(done) < 100
    return done


def finish_part(kit: Kit, upload: Upload, part: PartRow) -> PartRow:
    finished: PartRow = kit.do(lambda t: t.finish_part(upload.id, part))
    return finished


def large(kit: Kit, bucket_id: int, key: str, *volume_ids: int) -> int:
    """An object with a chunk in each of the volumes."""
    upload_id = kit.begin(bucket_id, key)
    for index, volume_id in enumerate(volume_ids):
        kit.send_chunk(upload_id, bucket_id, index, key=key, volume_id=volume_id)
    assert kit.do(lambda t: t.finish_upload(upload_id, len(volume_ids), 100 * len(volume_ids))).object
    return upload_id


def test_what_needs_the_disk_goes_and_all_else_stays(kit: Kit, lost: int) -> None:
    bucket_id, other_id = kit.bucket(), kit.bucket("films")
    kit.do(lambda t: t.set_quota(bucket_id, object_count=5))
    kit.put(bucket_id, "stays")
    kit.put(bucket_id, "goes", volume_id=lost)
    large(kit, bucket_id, "whole", 1, 2)
    large(kit, bucket_id, "begins there", lost, 1, lost)
    large(kit, other_id, "ends there", 1, 2, lost)
    done = remove(kit)
    assert (sum(one.object_count for one in done), sum(one.byte_count for one in done)) == (3, 700)
    assert [row.key for row in kit.catalog.list_objects(bucket_id).objects] == ["stays", "whole"]
    assert kit.catalog.list_objects(other_id).objects == []
    assert (kit.catalog.bucket("photos").object_count, kit.catalog.bucket("photos").byte_count) == (2, 300)
    assert set(kit.garbage().values()) == {"deleted"}
    assert [volume_id for volume_id, _ in sorted(kit.garbage())] == [1, 1, 2], "their chunks on other disks"
    assert len(kit.chunks("photos", "whole")) == 2
    # The bucket has room again for as many objects.
    for key in ("a", "b", "c"):
        kit.put(bucket_id, key, at=10)
    kit.assert_consistent()


def test_nothing_of_the_disk_is_left_and_its_volume_ids_are_not_used_again(kit: Kit, lost: int) -> None:
    bucket_id = kit.bucket()
    needle = kit.put(bucket_id, "deleted", volume_id=lost)
    kit.put(bucket_id, "tombstoned", volume_id=lost)
    kit.do(lambda t: t.delete_objects(bucket_id, ["deleted", "tombstoned"], stamp=stamp(5)))
    kit.do(lambda t: t.clear_outbox(lost, [needle.needle_id]))
    damage = NeedleDamage(volume_id=lost, offset=8, problem="crc", needle_id=1, found_ms=1)
    kit.do(lambda t: t.add_damage_records(lost, [damage]))
    kit.do(lambda t: t.add_job("verify", lost, "operator", CREATED_MS))
    kit.do(lambda t: t.add_job("verify", 1, "operator", CREATED_MS))
    assert kit.catalog.bucket_notes(GONE, 10)
    assert remove(kit)[-1].is_done
    assert [disk.id for disk in kit.catalog.disks()] == [STAYS]
    assert [volume.id for volume in kit.catalog.volumes()] == [1, 2]
    assert [job.volume_id for job in kit.catalog.jobs()] == [1]
    assert kit.catalog.damage_count() == 0
    assert kit.catalog.bucket_notes(GONE, 10) == []
    assert kit.catalog.bucket_notes(STAYS, 10)
    assert kit.garbage() == {}
    assert kit.catalog.meta(REMOVED_DISK_META + GONE) == REMOVED_MS
    kit.reopen()
    assert kit.do(lambda t: t.add_volume(None, "uuid-next", 1 << 30, STAYS)) == lost + 1


def test_uploads_with_slots_there_end_and_others_go_on(kit: Kit, lost: int) -> None:
    bucket_id = kit.bucket()
    ends, goes_on = kit.begin(bucket_id, "ends"), kit.begin(bucket_id, "goes on")
    chunk = kit.needle(bucket_id, "ends", upload_id=ends, chunk_index=0)
    kit.do(lambda t: t.set_slots(ends, [(0, 1, chunk.needle_id, 100), (1, lost, 7, 100)]))
    kit.send_chunk(goes_on, bucket_id, 0, key="goes on")
    assert [upload_id for one in remove(kit) for upload_id in one.upload_ids] == [ends]
    assert isinstance(kit.do(lambda t: t.commit_needle(chunk)).error, NeedleVoid)
    with pytest.raises(NoSuchUpload):
        kit.do(lambda t: t.finish_upload(ends, 2, 200))
    assert kit.do(lambda t: t.finish_upload(goes_on, 1, 100)).object.key == "goes on"
    kit.assert_consistent()


def test_a_removal_that_was_cut_off_goes_on(kit: Kit, lost: int) -> None:
    bucket_id = kit.bucket()
    for number in range(1200):
        kit.put(bucket_id, f"{number:04}", volume_id=lost)
    kit.put(bucket_id, "stays")
    first = kit.do(lambda t: t.remove_disk(GONE, removed_ms=REMOVED_MS, stamp=stamp(900)))
    assert (first.object_count, first.is_done) == (500, False)
    kit.assert_consistent()
    kit.reopen()
    assert kit.catalog.meta(REMOVED_DISK_META + GONE) == REMOVED_MS
    assert GONE in [disk.id for disk in kit.catalog.disks()]
    assert sum(one.object_count for one in remove(kit)) == 700
    assert [row.key for row in kit.catalog.list_objects(bucket_id).objects] == ["stays"]
    kit.reopen()
    kit.assert_consistent()


def test_an_object_that_comes_again_needs_a_greater_stamp_than_the_loss(kit: Kit, lost: int) -> None:
    bucket_id = kit.bucket()
    kit.put(bucket_id, "a", volume_id=lost, at=5)
    remove(kit)
    late = kit.needle(bucket_id, "a", at=800)
    assert kit.do(lambda t: t.commit_needle(late)).restamp_above == stamp(900)


def test_the_node_goes_with_its_last_disk(kit: Kit, lost: int) -> None:
    key, other = "k" * 40, "o" * 40

    def pin(t: Any) -> None:
        t.put_node(NodeRow(key, "second", "both", "", CREATED_MS, disk_id=GONE))
        t.put_node(NodeRow(other, "first", "both", "", CREATED_MS, disk_id=STAYS))
        assert t.pin_disk(GONE, key, "http://192.0.2.7:1", before=None)
        assert t.pin_disk(STAYS, other, "http://192.0.2.8:1", before=None)

    kit.do(pin)
    remove(kit)
    assert {node.key: node.removed_ms for node in kit.catalog.nodes()} == {key: REMOVED_MS, other: None}


def test_a_node_with_another_disk_stays(kit: Kit, lost: int) -> None:
    def pin(t: Any) -> None:
        t.put_node(NodeRow("k" * 40, "both", "both", "", CREATED_MS, disk_id=GONE))
        for disk_id in (GONE, STAYS):
            assert t.pin_disk(disk_id, "k" * 40, "http://192.0.2.7:1", before=None)

    kit.do(pin)
    remove(kit)
    assert [node.removed_ms for node in kit.catalog.nodes()] == [None]


def test_what_is_lost_is_listed_by_needle(kit: Kit, lost: int) -> None:
    bucket_id = kit.bucket()
    kit.put(bucket_id, "elsewhere")
    kit.put(bucket_id, "a", volume_id=lost)
    kit.put(bucket_id, "b", volume_id=lost)
    large(kit, bucket_id, "c", 1, lost, lost)
    upload_id = kit.begin(bucket_id, "open")
    kit.send_chunk(upload_id, bucket_id, 0, key="open", volume_id=lost)

    def listed(after: int, limit: int, *, in_chunks: bool) -> list[tuple[int, str, bool]]:
        rows = kit.catalog.lost_objects(lost, in_chunks=in_chunks, after_needle=after, limit=limit)
        return [(row.needle_id, row.key, row.first is not None) for row in rows]

    assert listed(0, 9, in_chunks=False) == [(1, "a", True), (2, "b", True)]
    assert listed(1, 9, in_chunks=False) == [(2, "b", True)]
    assert listed(0, 1, in_chunks=False) == [(1, "a", True)]
    assert listed(0, 9, in_chunks=True) == [(3, "c", True), (4, "c", True), (5, "", False)]
    first = kit.catalog.lost_objects(lost, in_chunks=True, after_needle=0, limit=1)[0]
    assert (first.first, first.size) == ((1, 2), 300)


@pytest.mark.parametrize("parts", [False, True])
def test_an_object_that_loses_its_manifest_alone_stays_and_is_counted(
    kit: Kit, lost: int, parts: bool
) -> None:
    bucket_id = kit.bucket()
    attributes = encode_attributes(ObjectAttributes(md5=b"m" * 16, part_count=1 if parts else None))
    for key, chunk_on in (("stays", 1), ("goes", lost)):
        upload = Upload(kit, bucket_id, key=key, parts=parts)
        indices = [part_chunk_index(1, 7, n) for n in (0, 1)] if parts else [0, 1]
        upload.send(indices[0])
        upload.send(indices[1], volume_id=chunk_on)
        if parts:
            part = PartRow(1, 7, 2, 200, b"m" * 16, None, CREATED_MS)
            upload.parts[1] = finish_part(kit, upload, part)
        numbers = (1,) if parts else ()
        upload.write_manifest(attributes, numbers, volume_id=lost)
        assert upload.finish(attributes, numbers).object is not None
    listed = kit.catalog.lost_objects(lost, in_chunks=True, after_needle=0, limit=9)
    assert [row.key for row in listed] == ["goes"], "a manifest alone loses nothing"
    done = remove(kit)
    assert (sum(one.object_count for one in done), sum(one.manifest_count for one in done)) == (1, 1)
    assert [row.key for row in kit.catalog.list_objects(bucket_id).objects] == ["stays"]
    assert [chunk.volume_id for chunk in kit.chunks("photos", "stays")] == [1, 1]
    kit.do(lambda t: t.delete_objects(bucket_id, ["stays"], stamp=stamp(950)))
    assert len([place for place in kit.garbage() if place[0] == 1]) == 3, "both chunks, and one of `goes`"
    kit.assert_consistent()


def test_an_upload_whose_manifest_alone_was_there_is_finished_with_another(kit: Kit, lost: int) -> None:
    bucket_id = kit.bucket()
    attributes = encode_attributes(ObjectAttributes(md5=b"m" * 16))
    upload = Upload(kit, bucket_id)
    upload.send(0)
    upload.write_manifest(attributes, volume_id=lost)
    assert not any(one.upload_ids for one in remove(kit))
    with pytest.raises(UploadIncomplete):
        upload.finish(attributes)
    upload.write_manifest(attributes, volume_id=2)
    assert upload.finish(attributes).object is not None
    kit.assert_consistent()
