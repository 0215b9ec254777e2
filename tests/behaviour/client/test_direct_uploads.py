"""Uploads whose bytes somebody else sends, against a store in memory."""

from __future__ import annotations

import urllib.request
from collections.abc import AsyncIterator

import pytest
import trio
from crc32c import crc32c

import warehouse
from warehouse.errors import BadRequest, NoSuchObject, NoSuchUpload, PreconditionFailed, UploadIncomplete

CONTENT = b"0123456789"


def send(slot: warehouse.UploadSlot, content: bytes) -> int:
    """What a browser does with a slot."""
    assert len(content) == slot.size
    request = urllib.request.Request(
        slot.url, content, {"Authorization": f"Bearer {slot.token}"}, method="PUT"
    )
    with urllib.request.urlopen(request, timeout=20) as response:
        status: int = response.status
        return status


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece


async def send_all(upload: warehouse.DirectUpload, content: bytes = CONTENT) -> None:
    for slot in await upload.slots(range(upload.chunk_count)):
        start = slot.chunk_index * upload.chunk_size
        part = content[start : start + upload.chunk_length(slot.chunk_index)]
        assert await trio.to_thread.run_sync(send, slot, part) == 201


async def test_an_object_is_there_when_the_upload_is_finished(photos: warehouse.Bucket) -> None:
    upload = await photos.begin_upload("a.txt", 10, chunk_size=4, metadata={"mood": "fine"})
    assert (upload.chunk_count, upload.chunk_length(2)) == (3, 2)
    await send_all(upload)
    with pytest.raises(NoSuchObject):
        await photos.stat("a.txt")
    written = await upload.finish()
    assert written.size == 10
    assert await photos.get("a.txt") == CONTENT
    info = await photos.stat("a.txt")
    assert (info.content_type, info.metadata) == ("text/plain", {"mood": "fine"})


async def test_another_process_goes_on_where_the_first_was(photos: warehouse.Bucket) -> None:
    begun = await photos.begin_upload("a", 10, chunk_size=4)
    await trio.to_thread.run_sync(send, (await begun.slots([1]))[0], CONTENT[4:8])
    again = photos.resume_upload(begun.upload_id, 10, begun.chunk_size)
    with pytest.raises(UploadIncomplete):
        await again.finish()
    for slot in await again.slots([0, 2]):
        start = slot.chunk_index * 4
        await trio.to_thread.run_sync(send, slot, CONTENT[start : start + slot.size])
    await again.finish()
    assert await photos.get("a") == CONTENT


async def test_a_chunk_may_be_sent_from_here(photos: warehouse.Bucket) -> None:
    upload = await photos.begin_upload("a", 10, chunk_size=6)
    assert await upload.send(0, pieces(CONTENT[:2], CONTENT[2:6])) == crc32c(CONTENT[:6])
    assert await upload.send(1, pieces(CONTENT[6:])) == crc32c(CONTENT[6:])
    await upload.finish()
    assert await photos.get("a") == CONTENT


async def test_an_error_of_the_sender_is_raised_as_it_is(photos: warehouse.Bucket) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"01"
        raise RuntimeError("the browser went away")

    upload = await photos.begin_upload("a", 10)
    with pytest.raises(RuntimeError, match="went away"):
        await upload.send(0, broken())
    await upload.send(0, pieces(CONTENT))
    await upload.finish()
    assert await photos.get("a") == CONTENT


async def test_an_empty_object_has_one_empty_chunk(photos: warehouse.Bucket) -> None:
    upload = await photos.begin_upload("a", 0)
    await send_all(upload, b"")
    await upload.finish()
    assert await photos.get("a") == b""


async def test_an_aborted_upload_is_gone(photos: warehouse.Bucket) -> None:
    upload = await photos.begin_upload("a", 10)
    await upload.abort()
    for ask in (upload.abort, upload.finish):
        with pytest.raises(NoSuchUpload):
            await ask()


async def test_a_condition_is_decided_at_the_end(photos: warehouse.Bucket) -> None:
    upload = await photos.begin_upload("a", 10, if_none_match="*")
    await photos.put("a", b"somebody was faster")
    await send_all(upload)
    with pytest.raises(PreconditionFailed):
        await upload.finish()


@pytest.mark.parametrize(("size", "chunk_size"), [(-1, 4), (10, 0), (10, -4)])
async def test_sizes_that_cannot_be_are_refused(photos: warehouse.Bucket, size: int, chunk_size: int) -> None:
    with pytest.raises(BadRequest):
        await photos.begin_upload("a", size, chunk_size=chunk_size)
    with pytest.raises(BadRequest):
        photos.resume_upload(1, size, chunk_size)


async def test_a_chunk_that_the_upload_does_not_have_is_refused(photos: warehouse.Bucket) -> None:
    upload = await photos.begin_upload("a", 10, chunk_size=4)
    with pytest.raises(BadRequest):
        await upload.slots([3])
