"""A master that lies about an object: every way of reading raises, and none hands out other bytes as whole."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

import warehouse
from bodies import noise
from fake_store import FakeStore
from warehouse.client.reading import locator
from warehouse.errors import ObjectInconsistent, StoreError
from warehouse.transport.messages import Chunk, ObjectInfo

KIB = 1024
CHUNK_SIZE = 256 * KIB
SIZE = 3 * CHUNK_SIZE - 100


@pytest.fixture
def store(store: FakeStore) -> FakeStore:
    store.chunk_size = CHUNK_SIZE
    return store


@pytest.fixture
async def client(store: FakeStore) -> AsyncIterator[warehouse.Store]:
    async with warehouse.connect(store.profile, timeout_s=20) as client:
        yield client


# --- ways of reading: each gives back bytes, or raises -------------------------------------------------


async def by_get(photos: warehouse.Bucket, key: str, folder: Path) -> bytes:
    return await photos.get(key)


async def by_gets_of_one_moment(photos: warehouse.Bucket, key: str, folder: Path) -> bytes:
    got: list[bytes] = []
    errors: list[StoreError] = []

    async def get() -> None:
        try:
            got.append(await photos.get(key))
        except StoreError as error:
            errors.append(error)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(get)
    if errors:
        raise errors[0]
    (data,) = {*got}
    return data


async def by_get_many(photos: warehouse.Bucket, key: str, folder: Path) -> bytes:
    async for result in photos.get_many([key]):
        if result.error is not None:
            raise result.error
        assert result.data is not None
        return result.data
    raise AssertionError("no result")


async def by_get_many_of_a_listing(photos: warehouse.Bucket, key: str, folder: Path) -> bytes:
    entries = [entry async for entry in photos.list(key, with_locations=True)]
    async for result in photos.get_many(entries):
        if result.error is not None:
            raise result.error
        assert result.data is not None
        return result.data
    raise AssertionError("no result")


async def by_pieces(photos: warehouse.Bucket, key: str, folder: Path) -> bytes:
    async with photos.open(key) as stream:
        return b"".join([piece async for piece in stream])


async def by_views(photos: warehouse.Bucket, key: str, folder: Path) -> bytes:
    async with photos.open(key) as stream:
        return b"".join([bytes(view) async for view in stream.views()])


async def by_a_stream_in_one_piece(photos: warehouse.Bucket, key: str, folder: Path) -> bytes:
    async with photos.open(key) as stream:
        return await stream.read()


async def by_ranges(photos: warehouse.Bucket, key: str, folder: Path) -> bytes:
    size = (await photos.stat(key)).size
    pieces = []
    for start in range(0, max(size, 1), 100 * KIB):
        async with photos.open(key, start, 100 * KIB) as stream:
            pieces.append(await stream.read())
            assert len(pieces[-1]) == stream.size
    return b"".join(pieces)


async def by_download(photos: warehouse.Bucket, key: str, folder: Path) -> bytes:
    try:
        await photos.download(key, folder / "file")
    except StoreError:
        assert not (folder / "file").exists()
        raise
    return (folder / "file").read_bytes()


async def by_copy(photos: warehouse.Bucket, key: str, folder: Path) -> bytes:
    await photos.copy(key, "copy")
    return await photos.get("copy")


WAYS = [
    by_get,
    by_gets_of_one_moment,
    by_get_many,
    by_get_many_of_a_listing,
    by_pieces,
    by_views,
    by_a_stream_in_one_piece,
    by_ranges,
    by_download,
    by_copy,
]
Way = Callable[[warehouse.Bucket, str, Path], Any]

# What becomes of the true answer about an object of three chunks.
LIES: dict[str, Callable[[ObjectInfo], dict[str, Any]]] = {
    "no chunks": lambda info: {"chunks": []},
    "a chunk too few": lambda info: {"chunks": info.chunks[:-1]},
    "a chunk too few, and counted": lambda info: {"chunks": info.chunks[:-1], "chunk_count": 2},
    "a chunk too many": lambda info: {"chunks": [*info.chunks, info.chunks[0]]},
    "the same chunk twice": lambda info: {"chunks": [info.chunks[0], info.chunks[0], info.chunks[2]]},
    "a greater size": lambda info: {"size": info.size + 1},
    "a lesser size": lambda info: {"size": info.size - 1},
    "no size": lambda info: {"size": 0},
    "another key": lambda info: {"key": "b"},
    "a negative chunk": lambda info: {
        "chunks": [*info.chunks[:2], Chunk(1, 900, -5, 0), info.chunks[2]],
        "size": info.size - 5,
        "chunk_count": 4,
    },
    "longer chunks than there are": lambda info: {
        "chunks": [*info.chunks[:2], _longer(info.chunks[2])],
        "size": info.size + 10,
    },
    "shorter chunks than there are": lambda info: {
        "chunks": [_longer(info.chunks[0], -10), *info.chunks[1:]],
        "size": info.size - 10,
    },
    "chunks in another order": lambda info: {"chunks": [info.chunks[1], info.chunks[0], info.chunks[2]]},
    "a wrong sum": lambda info: {
        "chunks": [msgspec.structs.replace(info.chunks[0], crc=1), *info.chunks[1:]]
    },
}
# Consistent in itself, and each chunk is what its sum says: a client cannot know better.
BELIEVED = {"chunks in another order"}
# Ranges that cut a chunk rest on the volume's check, which knows nothing of the master's sum.
UNSEEN_IN_RANGES = {"a wrong sum", "longer chunks than there are", "shorter chunks than there are"}


def _longer(chunk: Chunk, by: int = 10) -> Chunk:
    return msgspec.structs.replace(chunk, size=chunk.size + by)


@pytest.mark.parametrize("lie", [lie for lie in LIES if lie not in BELIEVED])
async def test_a_lie_about_an_object_is_an_error_and_never_other_bytes(
    store: FakeStore, photos: warehouse.Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    monkeypatch.setattr(locator, "INCONSISTENT_TRIES", 2)
    await photos.put("a", noise(SIZE))
    objects = store.buckets["photos"]
    true = objects["a"]
    assert true.chunk_count == 3
    objects["a"] = msgspec.structs.replace(true, **LIES[lie](true))
    believed: dict[Way, bytes] = {}
    for way in WAYS:
        with trio.fail_after(40), suppress(StoreError):
            believed[way] = await way(photos, "a", tmp_path)
    if lie in UNSEEN_IN_RANGES:
        assert len(believed.pop(by_ranges, b"")) in (0, objects["a"].size)
    assert believed == {}


async def test_an_answer_that_mixed_versions_once_is_asked_for_again(
    store: FakeStore, photos: warehouse.Bucket, tmp_path: Path
) -> None:
    """As a master of 0.1.0 does when the object is replaced between its two questions to the catalog."""
    data = noise(SIZE)
    await photos.put("a", data)
    objects, locate = store.buckets["photos"], store._locate
    true = objects["a"]
    torn: list[ObjectInfo] = []

    def locate_torn(request: Any) -> Any:
        if torn:
            objects["a"] = torn.pop()
            try:
                return locate(request)
            finally:
                objects["a"] = true
        return locate(request)

    store._locate = locate_torn  # type: ignore[method-assign]
    for way in WAYS:
        torn.append(msgspec.structs.replace(true, chunks=[]))
        assert await way(photos, "a", tmp_path) == data, way
        assert not torn, way


async def test_one_object_that_makes_no_sense_leaves_the_others_alone(
    store: FakeStore, photos: warehouse.Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locator, "INCONSISTENT_TRIES", 2)
    keys = [f"k{number}" for number in range(20)]
    for number, key in enumerate(keys):
        await photos.put(key, noise(100, number))
    objects = store.buckets["photos"]
    objects["k7"] = msgspec.structs.replace(objects["k7"], size=101)
    results = [result async for result in photos.get_many(keys)]
    assert [result.key for result in results] == keys
    for number, result in enumerate(results):
        if number == 7:
            assert isinstance(result.error, ObjectInconsistent)
        else:
            assert result.data == noise(100, number)


async def test_a_volume_that_answers_another_range_is_not_believed(
    store: FakeStore, photos: warehouse.Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.chunk_size = 4 * 1024 * KIB
    await photos.put("a", noise(2 * 1024 * KIB))

    async def get(exchange: Any, volume_id: int, needle_id: int) -> None:
        data = store.needles[volume_id, needle_id].data[:1000]  # what was asked for begins at 5000
        await exchange.respond(206, [(b"Content-Range", b"bytes 0-999/%d" % (2 * 1024 * KIB))], data)

    monkeypatch.setattr(store, "_get", get)
    with pytest.raises(StoreError, match="asked for 'bytes 5000-5999/"):
        async with photos.open("a", 5000, 1000) as stream:
            await stream.read()
