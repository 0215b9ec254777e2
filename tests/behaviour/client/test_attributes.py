"""Attributes: what gateways store beside the bytes reaches the store with small puts, uploads and copies."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import msgspec
import pytest
import trio

import warehouse
from fake_store import FakeStore
from warehouse.errors import BadMetadata, PreconditionFailed, VolumeFormatOld
from warehouse.transport.messages import BeginUpload, LeaseNeedles
from warehouse.transport.messages.attributes import (
    NO_ATTRIBUTES,
    ObjectAttributes,
    ObjectChecksum,
    decode_attributes,
    encode_attributes,
)

MIB = 1024 * 1024
SIZES = [0, 5, 64 * 1024 + 1, MIB, MIB + 1, 9 * MIB]
HEADERS = {"cache-control": b"no-store", "content-language": b"d\xe9"}
TAGS = (("colour", "blue"), ("size", ""))


def attributes_of(data: bytes) -> ObjectAttributes:
    return ObjectAttributes(
        md5=hashlib.md5(data, usedforsecurity=False).digest(), headers=HEADERS, tags=TAGS, owner_id="ab" * 16
    )


async def pieces_of(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 300_000):
        yield data[start : start + 300_000]


def bytes_of(size: int) -> bytes:
    return (b"%d, " % size * (size // 4 + 1))[:size]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("is_stream", [False, True], ids=["bytes", "stream"])
async def test_a_put_of_any_size_has_its_attributes_and_their_etag(
    store: FakeStore, photos: warehouse.Bucket, size: int, is_stream: bool
) -> None:
    data = bytes_of(size)
    source = pieces_of(data) if is_stream else data
    written = await photos.put("a", source, "image/png", {"x": "é"}, attributes=attributes_of(data))
    info = await photos.stat("a")
    assert decode_attributes(info.attributes) == attributes_of(data)
    assert written.etag == info.etag == hashlib.md5(data).hexdigest()
    assert (written.size, info.content_type, info.metadata) == (size, "image/png", {"x": "é"})
    assert await photos.get("a") == data


@pytest.mark.parametrize("size", [5, 9 * MIB])
async def test_attributes_may_be_known_when_all_bytes_have_passed(
    photos: warehouse.Bucket, size: int
) -> None:
    data, passed = bytes_of(size), hashlib.md5(usedforsecurity=False)

    async def digested() -> AsyncIterator[bytes]:
        async for piece in pieces_of(data):
            passed.update(piece)
            yield piece

    await photos.put("a", digested(), attributes=lambda: ObjectAttributes(md5=passed.digest()))
    assert (await photos.stat("a")).etag == hashlib.md5(data).hexdigest()


async def test_attributes_that_are_too_long_are_refused_and_nothing_is_stored(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    long = ObjectAttributes(headers={f"{number}": bytes(8192) for number in range(3)})
    for source in (b"a", bytes(9 * MIB), pieces_of(bytes(9 * MIB))):
        with pytest.raises(BadMetadata):
            await photos.put("a", source, attributes=lambda: long)
    assert not store.buckets["photos"]
    assert not store.uploads


async def test_puts_at_once_with_and_without_attributes_take_leases_of_their_own(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    async def put(number: int) -> None:
        given = attributes_of(b"x") if number % 2 else None
        await photos.put(f"{number}", b"x", attributes=given)

    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(put, number)
    for number in range(40):
        info = store.buckets["photos"][f"{number}"]
        assert decode_attributes(info.attributes) == (attributes_of(b"x") if number % 2 else NO_ATTRIBUTES)
    assert sum(store.batches) < 40 + 1
    formats = {request.format for request in store.asked if isinstance(request, LeaseNeedles)}
    assert formats == {1, 2}


async def test_a_volume_of_an_old_format_is_avoided_and_the_put_goes_elsewhere(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    store.faults.put_error_before_commit = [VolumeFormatOld("this volume has format 1")]
    await photos.put("a", b"x", attributes=attributes_of(b"x"))
    assert (await photos.stat("a")).etag == hashlib.md5(b"x").hexdigest()
    assert len(store.void) == 0  # nothing was in doubt


@pytest.mark.parametrize("size", [5, 100_000])
async def test_a_put_whose_answer_is_lost_has_the_etag_of_its_attributes(
    store: FakeStore, photos: warehouse.Bucket, size: int
) -> None:
    data = bytes_of(size)
    store.faults.put_dropped_after_commit = 1
    written = await photos.put("a", data, attributes=attributes_of(data))
    assert written.etag == hashlib.md5(data).hexdigest()
    assert written.created_ms == (await photos.stat("a")).created_ms


async def test_a_damaged_manifest_is_sent_again(store: FakeStore, photos: warehouse.Bucket) -> None:
    data = bytes_of(2 * MIB)
    store.faults.put_garbled = 2  # the chunk, or the manifest
    await photos.put("a", data, attributes=attributes_of(data))
    assert await photos.get("a") == data
    assert sum(isinstance(request, BeginUpload) for request in store.asked) == 1


async def test_progress_counts_the_bytes_of_the_object_and_no_manifest(photos: warehouse.Bucket) -> None:
    data = bytes_of(3 * MIB)
    await photos.put("a", data, attributes=attributes_of(data))
    seen: list[int] = []
    await photos.copy("a", "b", progress=seen.append)
    assert seen[-1] == max(seen) == len(data)


@pytest.mark.parametrize("size", [5, 3 * MIB])
async def test_amended_attributes_leave_bytes_etag_and_time(photos: warehouse.Bucket, size: int) -> None:
    data = bytes_of(size)
    await photos.put("a", data, metadata={"x": "y"}, attributes=attributes_of(data))
    before = await photos.chunks("a")
    changed = msgspec.structs.replace(attributes_of(data), tags=(("new", "tag"),))
    await photos.amend(before, changed)
    after = await photos.chunks("a")
    assert after == msgspec.structs.replace(before, attributes=encode_attributes(changed))
    assert await photos.get("a") == data


async def test_attributes_of_a_version_that_was_replaced_are_not_amended(photos: warehouse.Bucket) -> None:
    await photos.put("a", b"old", attributes=attributes_of(b"old"))
    before = await photos.chunks("a")
    await photos.put("a", b"new", attributes=attributes_of(b"new"))
    with pytest.raises(PreconditionFailed):
        await photos.amend(before, ObjectAttributes())
    assert decode_attributes((await photos.stat("a")).attributes) == attributes_of(b"new")


@pytest.mark.parametrize("size", [5, 3 * MIB])
async def test_a_copy_keeps_headers_and_tags_and_the_etag_of_equal_bytes(
    photos: warehouse.Bucket, size: int
) -> None:
    data = bytes_of(size)
    await photos.put("a", data, metadata={"x": "y"}, attributes=attributes_of(data))
    await photos.copy("a", "b")
    info = await photos.stat("b")
    assert decode_attributes(info.attributes) == msgspec.structs.replace(attributes_of(data), owner_id="")
    assert info.etag == (await photos.stat("a")).etag
    assert info.metadata == {"x": "y"}


async def test_a_copy_has_no_digests_of_parts_that_it_does_not_have(photos: warehouse.Bucket) -> None:
    parts = msgspec.structs.replace(
        attributes_of(b"x"),
        part_count=3,
        checksum=ObjectChecksum("SHA256", True, bytes(32)),
        raw_metadata={"r": b"\xff"},
    )
    await photos.put("a", b"x", attributes=parts)
    await photos.copy("a", "b")
    expected = ObjectAttributes(headers=HEADERS, tags=TAGS, raw_metadata={"r": b"\xff"})
    assert decode_attributes((await photos.stat("b")).attributes) == expected
    await photos.copy("a", "c", metadata={"all": "new"})
    assert decode_attributes((await photos.stat("c")).attributes).raw_metadata == {}
    assert "-" in (await photos.stat("b")).etag


async def test_a_plain_put_and_its_copy_need_no_volume_of_a_new_format(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    await photos.put("a", b"x")
    await photos.put("b", bytes(2 * MIB))
    await photos.copy("a", "c")
    assert {request.format for request in store.asked if isinstance(request, LeaseNeedles)} == {1}
    assert {request.style for request in store.asked if isinstance(request, BeginUpload)} == {""}


async def test_equal_bytes_in_another_place_are_another_version(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    """Their ETag is the same, and the needles of the version that is read are gone."""
    data = bytes_of(100_000)
    await photos.put("a", data, attributes=attributes_of(data))
    replaced: list[int] = []

    def replace(volume_id: int, needle_id: int) -> None:
        if not replaced:
            replaced.append(needle_id)
            old = store.buckets["photos"]["a"].chunks[0]
            moved = msgspec.structs.replace(old, needle_id=old.needle_id + 100)
            store.needles[moved.volume_id, moved.needle_id] = store.needles.pop((volume_id, needle_id))
            info = msgspec.structs.replace(store.buckets["photos"]["a"], chunks=[moved])
            store.buckets["photos"]["a"] = info

    store.before_get = replace
    assert await photos.get("a") == data  # begun anew, and no damage is told
    assert replaced
