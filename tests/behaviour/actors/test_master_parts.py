"""Uploads in parts at a real master, and volumes of two formats beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from crc32c import crc32c

from master_kit import DISK_ID, RunningMaster, open_master
from warehouse.auth.data_tokens import DataTokenVerifier
from warehouse.errors import StoreError
from warehouse.transport.messages import (
    AbortUpload,
    BeginUpload,
    CompletionPlan,
    Done,
    FinishPart,
    FinishUpload,
    Leased,
    LeaseNeedles,
    ListParts,
    ListUploads,
    LocateObjects,
    NeedlesCommitted,
    NeedlesStored,
    ObjectFound,
    ObjectsLocated,
    ObjectWritten,
    PartFinished,
    Parts,
    PlanCompletion,
    RequestSlots,
    Slots,
    SlotWanted,
    StatObject,
    StoredNeedle,
    UploadBegun,
    Uploads,
)
from warehouse.transport.messages.attributes import (
    MANIFEST_FORMAT,
    MANIFEST_INDEX,
    Manifest,
    ManifestPart,
    ObjectAttributes,
    encode_attributes,
    encode_manifest,
    part_chunk_index,
)

MD5 = bytes(range(16))


def encoded(**fields: Any) -> bytes:
    return encode_attributes(ObjectAttributes(md5=MD5, **fields))


class Sender:
    """Sends an upload in parts as the library does, to a disk that is a script."""

    def __init__(self, master: RunningMaster, bucket_id: int, upload_id: int) -> None:
        self.master, self.bucket_id, self.upload_id = master, bucket_id, upload_id
        self.claims: dict[int, Any] = {}

    async def chunk(self, index: int, size: int, crc: int = 1, at: int = 1) -> None:
        wanted = SlotWanted(chunk_index=index, size=size)
        answer = await self.master.ask(RequestSlots(upload_id=self.upload_id, slots=[wanted]), Slots)
        (slot,) = answer.slots
        disk = self.master.disk
        verifier = DataTokenVerifier(DISK_ID, disk.token_keys)
        self.claims[index] = verifier.verify(slot.token.encode(), now_s=0.0)
        needle = StoredNeedle(
            volume_id=slot.volume_id,
            needle_id=slot.needle_id,
            stamp=at << 16,
            size=size,
            crc=crc,
            stored_size=size + 64,
            bucket_id=self.bucket_id,
            key="film",
            created_ms=1,
            upload_id=self.upload_id,
            chunk_index=index,
        )
        disk.live.setdefault(slot.volume_id, set()).add(slot.needle_id)
        assert disk.link is not None
        told = NeedlesStored(needles=self.master.promised(needle))
        committed = await disk.link.request(told, timeout_s=30)
        assert isinstance(committed, NeedlesCommitted)
        assert committed.commits[0].etag is not None, committed

    async def part(self, number: int, *sizes: int, attempt: int = 5) -> PartFinished:
        for position, size in enumerate(sizes):
            await self.chunk(part_chunk_index(number, attempt, position), size)
        request = FinishPart(
            upload_id=self.upload_id,
            part_number=number,
            attempt=attempt,
            chunk_count=len(sizes),
            size=sum(sizes),
            md5=MD5,
        )
        return await self.master.ask(request, PartFinished)

    async def manifest(self, plan: CompletionPlan, attributes: bytes) -> None:
        content = encode_manifest(
            Manifest(
                MANIFEST_FORMAT,
                sum(chunk.size for chunk in plan.chunks),
                attributes,
                plan.chunks,
                [
                    ManifestPart(
                        part.number,
                        part.size,
                        part.chunk_count,
                        bytes.fromhex(part.etag),
                        part.checksum,
                        part.created_ms,
                    )
                    for part in plan.parts
                ],
            )
        )
        await self.chunk(MANIFEST_INDEX, len(content), crc32c(content), at=9)


async def upgrade(master: RunningMaster) -> None:
    """The volume actor is one of this release from now on."""
    master.disk.makes_format = 2
    master.disk.disconnect()
    await master.connect_disk()


async def begin(master: RunningMaster, **options: Any) -> Sender:
    await upgrade(master)
    bucket_id = await master.create_bucket("photos")
    request = BeginUpload(bucket="photos", key="film", style="multipart", metadata={"a": "b"}, **options)
    begun = await master.ask(request, UploadBegun)
    assert begun.expires_in_s == 7 * 86400
    return Sender(master, bucket_id, begun.upload_id)


async def test_parts_are_sent_listed_planned_and_completed(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        sender = await begin(master, attributes=encoded(tags=(("k", "v"),)))
        upload_id = sender.upload_id
        for number, sizes in ((7, [30]), (2, [100, 50]), (3, [9]), (2, [60, 70])):
            info = (await sender.part(number, *sizes, attempt=sizes[0])).part
            assert (info.number, info.size, info.etag) == (number, sum(sizes), MD5.hex())
        listed = await master.ask(ListParts(bucket="photos", upload_id=upload_id, limit=2), Parts)
        assert [(part.number, part.size) for part in listed.parts] == [(2, 130), (3, 9)]
        assert listed.upload is not None
        assert (listed.next_after, listed.upload.key) == (3, "film")
        rest = await master.ask(ListParts(bucket="photos", upload_id=upload_id, after=3), Parts)
        assert ([part.number for part in rest.parts], rest.next_after) == ([7], 0)
        (open_one,) = (await master.ask(ListUploads(bucket="photos"), Uploads)).uploads
        assert (open_one.upload_id, open_one.attributes) == (upload_id, encoded(tags=(("k", "v"),)))

        named = PlanCompletion(upload_id=upload_id, part_numbers=[2, 7, 9])
        plan = await master.ask(named, CompletionPlan)
        assert [part.number for part in plan.parts] == [2, 7], "9 is not there: whoever asks compares"
        assert ([chunk.size for chunk in plan.chunks], plan.chunk_count, plan.done) == ([60, 70, 30], 3, "")
        attributes = encoded(part_count=2)
        await sender.manifest(plan, attributes)
        finish = FinishUpload(
            upload_id=upload_id, chunk_count=3, object_size=160, attributes=attributes, part_numbers=[2, 7]
        )
        forged = msgspec.structs.replace(finish, attributes=encoded(part_count=2, tags=(("x", "y"),)))
        with pytest.raises(StoreError) as caught:
            await master.ask(forged, ObjectWritten)
        assert caught.value.code == "bad_request"
        for _ in range(2):
            written = await master.ask(finish, ObjectWritten)
            assert (written.etag, written.size) == (f"{MD5.hex()}-2", 160)
        found = (await master.ask(StatObject(bucket="photos", key="film"), ObjectFound)).object
        assert (found.etag, found.attributes, found.metadata) == (written.etag, attributes, {"a": "b"})
        located = await master.ask(LocateObjects(bucket="photos", keys=["film"]), ObjectsLocated)
        assert located.objects[0] is not None
        assert [chunk.size for chunk in located.objects[0].chunks] == [60, 70, 30]
        of_object = await master.ask(ListParts(bucket="photos", key="film", etag=found.etag), Parts)
        assert [part.number for part in of_object.parts] == [2, 7]
        assert (await master.ask(named, CompletionPlan)).done == found.etag
        assert (await master.ask(ListUploads(bucket="photos"), Uploads)).uploads == []
        with pytest.raises(StoreError) as caught:
            await master.ask(ListParts(bucket="photos", key="film", etag="another"), Parts)
        assert caught.value.code == "object_replaced"
        roles = {index: (claims.role, claims.metadata or {}) for index, claims in sender.claims.items()}
        assert roles.pop(MANIFEST_INDEX) == (2, {"a": "b"})
        assert set(map(repr, roles.values())) == {repr((1, {}))}


@pytest.mark.parametrize(
    "request_of",
    [
        lambda upload_id: RequestSlots(upload_id=upload_id, slots=[SlotWanted(chunk_index=0, size=1)]),
        lambda upload_id: RequestSlots(
            upload_id=upload_id, slots=[SlotWanted(chunk_index=10_001 << 40, size=1)]
        ),
        lambda upload_id: RequestSlots(upload_id=upload_id, slots=[SlotWanted(chunk_index=-1, size=1)]),
        lambda upload_id: PlanCompletion(upload_id=upload_id, part_numbers=[1] * 10_001),
        lambda upload_id: ListUploads(bucket="photos", delimiter=""),
        lambda upload_id: ListParts(bucket="photos", upload_id=upload_id, key="film"),
        lambda upload_id: BeginUpload(bucket="photos", key="film", style="strange"),
        lambda upload_id: BeginUpload(
            bucket="photos", key="film", style="multipart", attributes=encoded(owner_id="stranger")
        ),
    ],
)
async def test_a_request_about_parts_that_cannot_be_is_refused(tmp_path: Path, request_of: Any) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        sender = await begin(master)
        with pytest.raises(StoreError) as caught:
            await master.ask(request_of(sender.upload_id), Done)
        assert caught.value.code == "bad_request"


async def test_a_refused_end_leaves_no_manifest_that_a_rebuild_would_take_for_one(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        sender = await begin(master)
        await sender.part(1, 30)
        plan = await master.ask(PlanCompletion(upload_id=sender.upload_id, part_numbers=[1]), CompletionPlan)
        finish = FinishUpload(
            upload_id=sender.upload_id,
            chunk_count=1,
            object_size=30,
            attributes=encoded(part_count=1),
            part_numbers=[1],
        )
        for condition, code in (("*", "precondition_failed"), (None, "upload_incomplete")):
            if condition is not None:
                await sender.manifest(plan, finish.attributes)
            with pytest.raises(StoreError) as caught:
                await master.ask(msgspec.structs.replace(finish, if_match=condition), ObjectWritten)
            assert caught.value.code == code
        await sender.manifest(plan, finish.attributes)
        assert (await master.ask(finish, ObjectWritten)).size == 30


async def test_an_aborted_upload_has_no_parts_any_more(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        sender = await begin(master)
        await sender.part(1, 10)
        await master.ask(AbortUpload(upload_id=sender.upload_id), Done)
        for request in (
            ListParts(bucket="photos", upload_id=sender.upload_id),
            PlanCompletion(upload_id=sender.upload_id, part_numbers=[1]),
        ):
            with pytest.raises(StoreError) as caught:
                await master.ask(request, Done)
            assert caught.value.code == "no_such_upload"
        assert master.read("SELECT count(*) FROM parts") == [(0,)]


# --- formats of volumes ---------------------------------------------------------------------------

LEASE = LeaseNeedles(bucket="photos", needle_count=10, byte_count=1_000_000)
LEASE_2 = msgspec.structs.replace(LEASE, format=2)


async def test_a_disk_gets_a_volume_of_the_newer_format_although_its_older_one_has_room(
    tmp_path: Path,
) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        await master.create_bucket("photos")
        (old,) = (await master.ask(LEASE, Leased)).leases
        assert master.disk.reports[old.volume_id].format == 1
        await upgrade(master)
        for _ in range(3):
            (lease,) = (await master.ask(LEASE_2, Leased)).leases
            assert master.disk.reports[lease.volume_id].format == 2
        with trio.fail_after(10):  # what needs no format is put on both
            while len((await master.ask(LEASE, Leased)).leases) < 2:
                await trio.sleep(0.01)
        assert len(master.disk.reports) == 2, "one is enough"
        master.disk.set(old.volume_id, format=2, generation=2)  # it was compacted
        await master.disk.report()
        assert len((await master.ask(LEASE_2, Leased)).leases) == 2


async def test_a_disk_whose_actor_is_older_is_not_filled_with_volumes(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        await master.create_bucket("photos")
        await master.ask(LEASE, Leased)
        for _ in range(3):
            with pytest.raises(StoreError) as caught:
                await master.ask(LEASE_2, Leased)
            assert caught.value.code == "disk_failed"
            assert "older release" in str(caught.value)
        assert len(master.disk.reports) == 1
        await master.ask(LEASE, Leased)


@pytest.mark.parametrize("number", [0, 3])
async def test_a_format_that_there_is_not_is_refused(tmp_path: Path, number: int) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        await master.create_bucket("photos")
        with pytest.raises(StoreError) as caught:
            await master.ask(msgspec.structs.replace(LEASE, format=number), Leased)
        assert caught.value.code == "bad_request"
