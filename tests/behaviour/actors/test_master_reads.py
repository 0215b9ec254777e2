"""What a real master answers about an object is of one version, though the object is replaced at that moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest

from master_kit import RunningMaster, open_master
from warehouse.catalog.records import Page
from warehouse.catalog.sqlite.catalog import SqliteCatalog
from warehouse.transport.messages import (
    BeginUpload,
    FinishUpload,
    Listing,
    ListObjects,
    LocateObjects,
    NeedlesStored,
    ObjectsLocated,
    ObjectWritten,
    Presign,
    Presigned,
    RequestSlots,
    Slots,
    SlotWanted,
    StoredNeedle,
    UploadBegun,
)

SIZES = (100, 50, 7)


async def upload(master: RunningMaster, bucket_id: int, key: str, sizes: tuple[int, ...], stamp: int) -> str:
    """An object of several chunks, up to its finish; returns its ETag."""
    begun = await master.ask(BeginUpload(bucket="photos", key=key), UploadBegun)
    wanted = [SlotWanted(chunk_index=index, size=size) for index, size in enumerate(sizes)]
    slots = (await master.ask(RequestSlots(upload_id=begun.upload_id, slots=wanted), Slots)).slots
    assert master.disk.link is not None
    needles = [
        StoredNeedle(
            volume_id=slot.volume_id,
            needle_id=slot.needle_id,
            stamp=stamp + slot.chunk_index,
            size=sizes[slot.chunk_index],
            crc=slot.needle_id,
            stored_size=200,
            bucket_id=bucket_id,
            key=key,
            created_ms=1,
            upload_id=begun.upload_id,
            chunk_index=slot.chunk_index,
        )
        for slot in slots
    ]
    master.disk.live.setdefault(1, set()).update(needle.needle_id for needle in needles)
    await master.disk.link.request(NeedlesStored(needles=master.promised(*needles)), timeout_s=30)
    finish = FinishUpload(upload_id=begun.upload_id, chunk_count=len(sizes), object_size=sum(sizes))
    return (await master.ask(finish, ObjectWritten)).etag


def between(monkeypatch: pytest.MonkeyPatch, name: str, work: Callable[[SqliteCatalog], None]) -> list[str]:
    """Have something committed just before the master makes its next read of this kind."""
    plain = getattr(SqliteCatalog, name)
    done: list[str] = []

    def read(self: SqliteCatalog, *args: Any, **options: Any) -> Any:
        if not done:
            done.append(name)
            work(self)
        return plain(self, *args, **options)

    monkeypatch.setattr(SqliteCatalog, name, read)
    return done


def wait_for_writer(catalog: SqliteCatalog) -> None:
    """The writer's thread may be about to begin a transaction of its own, or to end one; it needs nothing from
    us.  The next one begins after we are done."""
    free_s = 0.0
    while free_s < 0.2:
        time.sleep(0.005)
        free_s = 0.0 if catalog._writing.locked() else free_s + 0.005


def overwrite(catalog: SqliteCatalog, bucket_id: int, key: str) -> None:
    wait_for_writer(catalog)
    with catalog.transaction() as transaction:
        assert transaction.delete_objects(bucket_id, [key], stamp=2**60) == [True]


@pytest.mark.parametrize("keys", [["film"], ["film", "other"]])
async def test_a_located_object_is_of_one_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: list[str]
) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        bucket_id = await master.create_bucket("photos")
        etag = await upload(master, bucket_id, "film", SIZES, 1 << 40)
        done = between(monkeypatch, "chunks", lambda catalog: overwrite(catalog, bucket_id, "film"))
        located = await master.ask(LocateObjects(bucket="photos", keys=keys), ObjectsLocated)
        assert done
        info = located.objects[0]
        assert info is not None
        assert (info.etag, info.size, info.chunk_count) == (etag, sum(SIZES), 3)
        assert [chunk.size for chunk in info.chunks] == [*SIZES]
        again = await master.ask(LocateObjects(bucket="photos", keys=keys), ObjectsLocated)
        assert again.objects[0] is None


async def test_a_presigned_url_is_of_one_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        bucket_id = await master.create_bucket("photos")
        etag = await upload(master, bucket_id, "film", SIZES, 1 << 40)
        done = between(monkeypatch, "chunks", lambda catalog: overwrite(catalog, bucket_id, "film"))
        request = Presign(bucket="photos", key="film", method="GET", expires_in_s=60)
        url = (await master.ask(request, Presigned)).url
        assert done
        (token,) = parse_qs(urlsplit(url).query)["token"]
        claims = jwt.decode(token, options={"verify_signature": False, "verify_aud": False})
        assert claims["etag"] == etag
        assert [part[2] for part in claims["parts"]] == [*SIZES]


async def test_a_listing_shows_no_bucket_that_is_half_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deleting a bucket by force takes its name away at once, and its objects piece by piece."""
    monkeypatch.setattr("warehouse.catalog.sqlite.transaction.PURGE_AT_ONCE", 3)
    async with open_master(tmp_path, has_compactor=False) as master:
        bucket_id = await master.create_bucket("photos")
        for number in range(8):
            await master.disk.store(1, number + 1, bucket_id, f"k{number}")

        def delete_bucket(catalog: SqliteCatalog) -> None:
            wait_for_writer(catalog)
            with catalog.transaction() as transaction:
                transaction.delete_bucket("photos", force=True, stamp=2**60)

        done = between(monkeypatch, "list_objects", delete_bucket)
        page = await master.ask(ListObjects(bucket="photos", with_locations=True), Listing)
        assert done
        assert [info.key for info in page.objects] == [f"k{number}" for number in range(8)]
        assert all(len(info.chunks) == 1 for info in page.objects)


def test_reads_of_one_moment_lie_in_each_other(tmp_path: Path) -> None:
    catalog = SqliteCatalog.open(tmp_path / "catalog.sqlite3")
    try:
        with catalog.transaction() as transaction:
            transaction.create_bucket("a", 1)
        with catalog.one_moment():
            assert [row.name for row in catalog.buckets()] == ["a"]
            with catalog.transaction() as transaction:
                transaction.create_bucket("b", 1)
            with catalog.one_moment():
                assert [row.name for row in catalog.buckets()] == ["a"]
                assert catalog.list_objects(1) == Page([], [], None)
            assert [row.name for row in catalog.buckets()] == ["a"]
        assert [row.name for row in catalog.buckets()] == ["a", "b"]
    finally:
        catalog.close()
