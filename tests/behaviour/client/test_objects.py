"""The library against a store that answers well: what goes in comes out."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
import trio

import warehouse
from bodies import noise, pieces_of
from fake_store import CREATED_MS, FakeStore
from warehouse.client.writing.cutting import STREAM_CHUNK_FIRST
from warehouse.errors import (
    BadCredentials,
    BadKey,
    BadMetadata,
    BadRequest,
    BucketExists,
    BucketNotEmpty,
    LinkDown,
    NoSuchBucket,
    NoSuchObject,
    PermissionDenied,
    PreconditionFailed,
    RangeNotSatisfiable,
)
from warehouse.transport.messages import BeginUpload, LeaseNeedles, ListObjects, LocateObjects, Login, Presign

MIB = 1024 * 1024


# --- connecting -----------------------------------------------------------------------------------


async def test_a_profile_may_be_a_path(store: FakeStore, tmp_path: Path) -> None:
    store.profile.save(tmp_path / "profile.toml")
    async with warehouse.connect(tmp_path / "profile.toml") as client:
        assert [bucket.name for bucket in await client.buckets()] == ["photos"]


async def test_a_wrong_secret_is_told_at_once(store: FakeStore) -> None:
    store.secret = "another"
    with trio.fail_after(40), pytest.raises(BadCredentials):
        async with warehouse.connect(store.profile):
            pytest.fail("connected with a wrong secret")


async def test_nobody_at_the_address_is_told_after_the_timeout(store: FakeStore) -> None:
    profile = warehouse.Profile("tcp://127.0.0.1:1", store.profile.server_key, "k", "s")
    with trio.fail_after(40), pytest.raises(LinkDown, match=r"127\.0\.0\.1:1"):
        async with warehouse.connect(profile, timeout_s=0.3):
            pytest.fail("connected to nobody")


async def test_errors_leave_the_connection_plain(store: FakeStore) -> None:
    with pytest.raises(NoSuchObject):
        async with warehouse.connect(store.profile) as client:
            await client.bucket("photos").get("nothing")
    with pytest.raises(ZeroDivisionError):
        async with warehouse.connect(store.profile):
            _ = 1 // 0


async def test_a_cancelled_connection_ends(store: FakeStore) -> None:
    with trio.move_on_after(0.3) as scope:
        async with warehouse.connect(store.profile):
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_the_access_token_is_renewed_before_it_expires(store: FakeStore) -> None:
    store.token_s = 0.4
    async with warehouse.connect(store.profile) as client:
        with trio.fail_after(40):
            while store.count(Login) < 3:
                await trio.sleep(0.02)
        await client.buckets()


# --- buckets --------------------------------------------------------------------------------------


async def test_buckets_are_made_counted_and_deleted(store: FakeStore, client: warehouse.Store) -> None:
    films = await client.create_bucket("films")
    with pytest.raises(BucketExists):
        await client.create_bucket("films")
    await films.put("a", b"12345")
    counted = {bucket.name: (bucket.object_count, bucket.byte_count) for bucket in await client.buckets()}
    assert counted == {"films": (1, 5), "photos": (0, 0)}
    with pytest.raises(BucketNotEmpty):
        await client.delete_bucket("films")
    await client.delete_bucket("films", force=True)
    with pytest.raises(NoSuchBucket):
        await client.delete_bucket("films")


async def test_a_new_bucket_of_an_old_name_gets_leases_of_its_own(
    store: FakeStore, client: warehouse.Store
) -> None:
    await (await client.create_bucket("films")).put("a", b"1")
    await client.delete_bucket("films", force=True)
    store.expire_tokens()
    films = await client.create_bucket("films")
    await films.put("a", b"2")
    assert await films.get("a") == b"2"


# --- putting --------------------------------------------------------------------------------------


async def test_a_small_object_comes_back_with_its_type_and_metadata(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    written = await photos.put("2026/chat é.jpg", b"meow", metadata={"who": "Mimi & Nana", "ü": ""})
    assert (written.size, written.created_ms) == (4, CREATED_MS)
    assert await photos.get("2026/chat é.jpg") == b"meow"
    info = await photos.stat("2026/chat é.jpg")
    assert (info.etag, info.content_type) == (written.etag, "image/jpeg")
    assert info.metadata == {"who": "Mimi & Nana", "ü": ""}
    assert store.count(BeginUpload) == 0


@pytest.mark.parametrize("size", [0, 1, MIB, MIB + 1, 4 * MIB, 9 * MIB + 7])
async def test_bytes_of_every_size_come_back(photos: warehouse.Bucket, size: int) -> None:
    data = noise(size)
    written = await photos.put("a", data)
    assert written.size == size
    assert await photos.get("a") == data
    assert (await photos.stat("a")).etag == written.etag


@pytest.mark.parametrize("size", [0, 5, MIB, MIB + 1, STREAM_CHUNK_FIRST, STREAM_CHUNK_FIRST + 1])
async def test_streams_of_every_length_come_back(
    store: FakeStore, photos: warehouse.Bucket, size: int
) -> None:
    store.chunk_size = 80 * MIB
    data = noise(size)
    assert (await photos.put("a", pieces_of(data, 300_000))).size == size
    assert await photos.get("a") == data
    assert store.count(BeginUpload) == (1 if size > MIB else 0)


async def test_views_of_wide_items_are_stored_as_their_bytes(photos: warehouse.Bucket) -> None:
    wide = memoryview(noise(4 * MIB)).cast("Q")
    await photos.put("large", wide)
    await photos.put("small", wide[:10])
    assert await photos.get("large") == wide.tobytes()
    assert await photos.get("small") == wide[:10].tobytes()


async def test_a_large_object_is_spread_over_volumes(store: FakeStore, photos: warehouse.Bucket) -> None:
    await photos.put("film", noise(9 * MIB))
    chunks = store.buckets["photos"]["film"].chunks
    assert [chunk.size for chunk in chunks] == [4 * MIB, 4 * MIB, MIB]
    assert {chunk.volume_id for chunk in chunks} == {1, 2}


async def test_chunks_travel_side_by_side_but_not_all_at_once(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    store.chunk_size = MIB
    store.faults.put_delay_s = 0.05
    await photos.put("film", noise(12 * MIB))
    assert store.puts_in_flight_max == 4


async def test_a_path_is_stored_small_or_large(photos: warehouse.Bucket, tmp_path: Path) -> None:
    for name, size in (("small.csv", 1000), ("large.csv", 5 * MIB)):
        (tmp_path / name).write_bytes(noise(size))
        await photos.put(name, tmp_path / name)
        assert await photos.get(name) == noise(size)
        assert (await photos.stat(name)).content_type == "text/csv"
    await photos.put("again", str(tmp_path / "small.csv"))
    assert await photos.get("again") == noise(1000)


async def test_upload_tells_its_progress(photos: warehouse.Bucket, tmp_path: Path) -> None:
    path = tmp_path / "file"
    for size in (10, 3 * MIB):
        path.write_bytes(noise(size))
        seen: list[int] = []
        await photos.upload("a", path, seen.append)
        assert seen[-1] == size
        assert seen == sorted(seen)


async def test_what_is_no_regular_file_is_refused(photos: warehouse.Bucket, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="not a regular file"):
        await photos.put("a", tmp_path)
    with pytest.raises(BadRequest, match="not a regular file"):
        await photos.put("a", "/dev/null")
    with pytest.raises(FileNotFoundError):
        await photos.put("a", tmp_path / "missing")


async def test_conditions_decide(photos: warehouse.Bucket) -> None:
    first = await photos.put("a", b"1", if_none_match="*")
    with pytest.raises(PreconditionFailed):
        await photos.put("a", b"2", if_none_match="*")
    second = await photos.put("a", b"2", if_match=f'"{first.etag}"')
    with pytest.raises(PreconditionFailed):
        await photos.put("a", noise(2 * MIB), if_match=first.etag)
    await photos.put("a", noise(2 * MIB), if_match=second.etag)
    with pytest.raises(PreconditionFailed):
        await photos.delete("a", if_match=second.etag)


async def test_nothing_is_sent_for_what_cannot_be(store: FakeStore, photos: warehouse.Bucket) -> None:
    with pytest.raises(BadKey):
        await photos.put("", b"")
    with pytest.raises(BadKey):
        await photos.put("k" * 1025, b"")
    with pytest.raises(BadKey):
        await photos.put("\ud800", b"")
    with pytest.raises(BadMetadata):
        await photos.put("a", b"", metadata={"a": "x" * 8192})
    with pytest.raises(BadMetadata):
        await photos.put("a", b"", content_type="text/plain\r\nX-Evil: 1")
    with pytest.raises(BadRequest):
        await photos.put("a", b"", if_match='"a" "b"')
    assert store.count(LeaseNeedles) == 0


async def test_metadata_too_long_for_a_header_takes_another_way(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    metadata = {"poem": "é" * 3000}
    await photos.put("a", b"small", metadata=metadata)
    assert (await photos.stat("a")).metadata == metadata
    assert await photos.get("a") == b"small"
    assert store.count(BeginUpload) == 1


async def test_a_thousand_puts_ask_for_leases_a_few_times(store: FakeStore, photos: warehouse.Bucket) -> None:
    async def put(start: int) -> None:
        for number in range(start, 1000, 20):
            await photos.put(f"{number}", b"%d" % number)

    async with trio.open_nursery() as nursery:
        for start in range(20):
            nursery.start_soon(put, start)
    assert len(store.buckets["photos"]) == 1000
    assert store.count(LeaseNeedles) <= 10
    assert store.http["PUT"] + sum(store.batches) == 1000, "none was sent twice"


# --- reading --------------------------------------------------------------------------------------


async def test_gets_of_one_moment_share_their_question(store: FakeStore, photos: warehouse.Bucket) -> None:
    for number in range(50):
        await photos.put(f"{number}", b"%d" % number)
    store.faults.locate_delay_s = 0.05
    found: dict[int, bytes] = {}

    async def get(number: int) -> None:
        found[number] = await photos.get(f"{number}")

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(get, number)
    assert found == {number: b"%d" % number for number in range(50)}
    assert store.count(LocateObjects) <= 2


async def test_one_object_that_may_not_be_read_does_not_hide_the_others(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    """Tasks that share a question do not share its refusal."""
    for key in ("mine/1", "mine/2", "theirs/1"):
        await photos.put(key, key.encode())
    store.readable = "mine/"
    store.faults.locate_delay_s = 0.02
    found: dict[str, bytes | str] = {}

    async def get(key: str) -> None:
        try:
            found[key] = await photos.get(key)
        except PermissionDenied as error:
            found[key] = error.message

    async with trio.open_nursery() as nursery:
        for key in ("mine/1", "theirs/1", "mine/2", "theirs/none"):
            nursery.start_soon(get, key)
    refusal = "this key has no read right on bucket 'photos' for "
    expected = {
        "mine/1": b"mine/1",
        "theirs/1": f"{refusal}'theirs/1'",
        "mine/2": b"mine/2",
        "theirs/none": f"{refusal}'theirs/none'",
    }
    assert found == expected
    together = [got async for got in photos.get_many(expected)]
    assert [got.error.message if got.error is not None else got.data for got in together] == [
        *expected.values()
    ]


async def test_one_missing_object_does_not_hide_the_others(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    await photos.put("here", b"1")
    store.faults.locate_delay_s = 0.02
    outcomes: dict[str, object] = {}

    async def get(key: str) -> None:
        try:
            outcomes[key] = await photos.get(key)
        except NoSuchObject as error:
            outcomes[key] = error.message

    async with trio.open_nursery() as nursery:
        for key in ("away", "here", "gone"):
            nursery.start_soon(get, key)
    assert outcomes["here"] == b"1"
    assert "'away'" in str(outcomes["away"])
    assert "'gone'" in str(outcomes["gone"])


async def test_a_cancelled_get_takes_no_other_with_it(store: FakeStore, photos: warehouse.Bucket) -> None:
    await photos.put("a", b"1")
    store.faults.locate_delay_s = 0.1
    async with trio.open_nursery() as nursery:

        async def give_up() -> None:
            with trio.move_on_after(0.03):
                await photos.get("a")

        nursery.start_soon(give_up)
        await trio.sleep(0.01)
        assert await photos.get("a") == b"1"


@pytest.mark.parametrize(
    ("start", "length"),
    [(0, None), (0, 1), (5, 10), (4 * MIB - 1, 2), (3 * MIB, 5 * MIB), (9 * MIB, None), (1, 100 * MIB)],
)
async def test_ranges_cut_where_they_should(photos: warehouse.Bucket, start: int, length: int | None) -> None:
    data = noise(9 * MIB)
    await photos.put("film.mp4", data)
    async with photos.open("film.mp4", start=start, length=length) as stream:
        assert stream.info.content_type == "video/mp4"
        received = b"".join([piece async for piece in stream])
    assert received == data[start : None if length is None else start + length]
    assert stream.size == len(received)


async def test_a_range_touches_only_the_chunks_it_needs(store: FakeStore, photos: warehouse.Bucket) -> None:
    await photos.put("film", noise(12 * MIB))
    before = store.http["GET"]
    async with photos.open("film", start=5 * MIB, length=100) as stream:
        assert len(await stream.read()) == 100
    assert store.http["GET"] - before == 1


async def test_impossible_ranges_are_refused(photos: warehouse.Bucket) -> None:
    await photos.put("a", b"123")
    with pytest.raises(RangeNotSatisfiable):
        async with photos.open("a", start=4):
            pytest.fail("opened behind the end")
    with pytest.raises(BadRequest):
        async with photos.open("a", start=-1):
            pytest.fail("opened before the start")


async def test_many_streams_at_once_never_wait_for_each_other(photos: warehouse.Bucket) -> None:
    data = noise(12 * MIB)
    await photos.put("film", data)
    async with trio.open_nursery() as nursery:
        everybody_has_begun = trio.Event()
        begun: list[None] = []

        async def read() -> None:
            async with photos.open("film") as stream:
                received = bytearray(await anext(stream))
                begun.append(None)
                if len(begun) == 20:
                    everybody_has_begun.set()
                await everybody_has_begun.wait()  # all hold buffers, and none has given one back
                async for piece in stream:
                    received += piece
                assert received == data

        with trio.fail_after(40):
            for _ in range(20):
                nursery.start_soon(read)
            await everybody_has_begun.wait()


async def test_a_stream_left_early_gives_its_memory_back(
    photos: warehouse.Bucket, client: warehouse.Store
) -> None:
    await photos.put("film", noise(12 * MIB))
    for _ in range(20):
        async with photos.open("film") as stream:
            await anext(stream)
    buffers = client._session.buffers
    assert buffers._spare_count == 8


@pytest.mark.parametrize("size", [1, 4 * MIB, 4 * MIB + 1, 17 * MIB + 3])
async def test_what_is_left_of_a_stream_comes_in_one_piece(photos: warehouse.Bucket, size: int) -> None:
    data = noise(size)
    await photos.put("film", data)
    assert await photos.get("film") == data
    for pieces in range(4):
        async with photos.open("film", start=1) as stream:
            first = b"".join([await anext(stream) for _ in range(min(pieces, -(-(size - 1) // (4 * MIB))))])
            rest = await stream.read()
            assert first + rest == data[1:]
            assert type(rest) is bytes
            assert await stream.read() == b""


@pytest.mark.parametrize("pieces", [0, 1])
async def test_a_read_that_was_given_up_takes_nothing_away(
    store: FakeStore, photos: warehouse.Bucket, pieces: int
) -> None:
    data = noise(24 * MIB)
    await photos.put("film", data)
    async with photos.open("film") as stream:
        first = b"".join([await anext(stream) for _ in range(pieces)])
        for _ in range(2):
            with trio.CancelScope() as scope:
                scope.cancel()
                await stream.read()
            assert scope.cancelled_caught
        assert first + await stream.read() == data


async def test_a_large_object_is_in_memory_once(photos: warehouse.Bucket, client: warehouse.Store) -> None:
    data = noise(24 * MIB)
    await photos.put("film", data)
    tracemalloc.start()
    try:
        assert await photos.get("film") == data
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * len(data)
    assert client._session.buffers._spare_count == 8


async def test_a_stream_that_ends_stays_at_its_end(photos: warehouse.Bucket) -> None:
    await photos.put("a", b"123")
    async with photos.open("a") as stream:
        assert await stream.read() == b"123"
        assert await stream.read() == b""
        assert [piece async for piece in stream] == []


async def test_download_writes_the_file_and_tells_its_progress(
    photos: warehouse.Bucket, tmp_path: Path
) -> None:
    data = noise(9 * MIB)
    await photos.put("film", data)
    target = tmp_path / "film"
    target.write_bytes(b"an older one")
    seen: list[int] = []
    info = await photos.download("film", target, seen.append)
    assert target.read_bytes() == data
    assert info.size == seen[-1] == len(data)
    assert [path.name for path in tmp_path.iterdir()] == ["film"]


async def test_an_empty_object_becomes_an_empty_file(photos: warehouse.Bucket, tmp_path: Path) -> None:
    await photos.put("nothing", b"")
    await photos.download("nothing", tmp_path / "nothing")
    assert (tmp_path / "nothing").read_bytes() == b""


async def test_a_download_never_replaces_a_folder_or_a_device(
    photos: warehouse.Bucket, tmp_path: Path
) -> None:
    await photos.put("a", b"1")
    with pytest.raises(BadRequest, match="a directory"):
        await photos.download("a", tmp_path)
    with pytest.raises(BadRequest, match="not a regular file"):
        await photos.download("a", "/dev/null")
    with pytest.raises(FileNotFoundError):
        await photos.download("a", tmp_path / "missing" / "a")


# --- listing, copying, deleting -------------------------------------------------------------------


async def test_a_listing_goes_over_its_pages_in_byte_order(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    keys = [f"{number:04}" for number in range(2500)] + ["é", "z", "日本", "\U0001f600", "\uffff"]
    for key in keys:
        store.buckets["photos"][key] = warehouse.ObjectInfo(key=key, size=1, etag="e", created_ms=0)
    assert [entry.key async for entry in photos.list()] == sorted(keys, key=str.encode)
    assert store.count(ListObjects) == 3
    with pytest.raises(BadRequest, match="not -1"):
        photos.list(limit=-1)
    assert [entry.key async for entry in photos.list("12", limit=5)] == [f"12{n:02}" for n in range(5)]
    assert [entry.key async for entry in photos.list("249", after="2497")] == ["2498", "2499"]
    assert [entry async for entry in photos.list(limit=0)] == []


async def test_folders_are_listed_among_objects_in_order(store: FakeStore, photos: warehouse.Bucket) -> None:
    for key in ("a", "b/1", "b/2", "c", "d/x/1", "d0"):
        await photos.put(key, b"")
    entries = [entry async for entry in photos.list(delimiter="/")]
    assert [entry.name if isinstance(entry, warehouse.Prefix) else entry.key for entry in entries] == [
        "a",
        "b/",
        "c",
        "d/",
        "d0",
    ]
    assert [entry async for entry in photos.list("d/", "/")] == [warehouse.Prefix("d/x/")]


@pytest.mark.parametrize("size", [10, 9 * MIB])
async def test_a_copy_has_the_bytes_the_type_and_the_metadata(
    client: warehouse.Store, photos: warehouse.Bucket, size: int
) -> None:
    await client.create_bucket("archive")
    await photos.put("a.bin", noise(size), content_type="text/x-odd", metadata={"a": "b"})
    await photos.copy("a.bin", "here.txt")
    await photos.copy("a.bin", "there.txt", "archive")
    for bucket, key in ((photos, "here.txt"), (client.bucket("archive"), "there.txt")):
        assert await bucket.get(key) == noise(size)
        info = await bucket.stat(key)
        assert (info.content_type, info.metadata) == ("text/x-odd", {"a": "b"})
    with pytest.raises(NoSuchObject):
        await photos.copy("missing", "x")


async def test_deleting_tells_what_was_there(photos: warehouse.Bucket) -> None:
    await photos.put("a", b"")
    assert await photos.delete("a")
    assert not await photos.delete("a")
    for number in range(3):
        await photos.put(f"{number}", b"")
    keys = [f"{number}" for number in range(2500)]
    assert await photos.delete_many(keys) == [True] * 3 + [False] * 2497
    assert await photos.delete_many([]) == []


async def test_presigned_urls_ask_for_what_was_wanted(store: FakeStore, photos: warehouse.Bucket) -> None:
    assert await photos.presign_get("a", 60) == "http://fake/photos/a?GET"
    url = await photos.presign_put("a", 60, size_max=5, content_type="text/plain")
    assert url == "http://fake/photos/a?PUT"
    asked = [request for request in store.asked if isinstance(request, Presign)]
    assert asked[1] == Presign(
        bucket="photos", key="a", method="PUT", expires_in_s=60, size_max=5, content_type="text/plain"
    )


async def test_a_bucket_that_is_missing_is_named_by_everything(client: warehouse.Store) -> None:
    nowhere = client.bucket("nowhere")
    with pytest.raises(NoSuchBucket):
        await nowhere.put("a", b"")
    with pytest.raises(NoSuchBucket):
        await nowhere.put("a", noise(2 * MIB))
    with pytest.raises(NoSuchBucket):
        await nowhere.get("a")
    with pytest.raises(NoSuchBucket):
        await anext(nowhere.list())


@pytest.mark.parametrize("size", [10, 100_000, 100_001, 350_000])
@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_store_with_small_chunks_gets_none_larger(
    store: FakeStore, size: int, is_stream: bool
) -> None:
    store.chunk_size = 100_000
    async with warehouse.connect(store.profile) as client:
        photos = client.bucket("photos")
        await photos.put("a", pieces_of(noise(size), 30_000) if is_stream else noise(size))
        assert await photos.get("a") == noise(size)
        await photos.copy("a", "b")
        assert await photos.get("b") == noise(size)
    assert all(len(needle.data) <= 100_000 for needle in store.needles.values())
