"""Quotas of a real store: clients that race for the last room never pass it, and none is refused while there is room."""

from __future__ import annotations

import http.client
import re
import subprocess
import sys
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import pytest
import trio

import warehouse
from harness import RunningStore
from warehouse.client.bucket import Bucket
from warehouse.errors import QuotaExceeded

CLIENTS = 16
OBJECTS = 100
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory):
    with RunningStore(tmp_path_factory.mktemp("quotas") / "store", volumes=2) as running:
        yield running


def require_no_room(error: QuotaExceeded, size: int) -> None:
    """What the refusal says is used and allowed leaves no room for this object."""
    numbers = [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", error.message)]
    if " bytes" not in error.message:
        used, allowed = numbers[:2]
        assert used + 1 > allowed
    else:
        used, allowed, more = numbers[:3]
        assert more == size
        assert used + more > allowed


async def race(profile: Path, name: str, sizes: list[list[int]]) -> tuple[list[int], list[int]]:
    """Each client puts objects of these sizes until it is refused; the sizes stored, and those refused."""
    stored: list[int] = []
    refused: list[int] = []
    barrier = trio.Event()

    async def client(number: int) -> None:
        async with warehouse.connect(profile) as store:
            bucket = store.bucket(name)
            await barrier.wait()
            for index, size in enumerate(sizes[number]):
                try:
                    await put(bucket, f"{number}-{index}", size)
                except QuotaExceeded as error:
                    require_no_room(error, size)
                    refused.append(size)
                else:
                    stored.append(size)

    async def put(bucket: Bucket, key: str, size: int) -> None:
        await bucket.put(key, bytes(size))

    async with warehouse.connect(profile) as store, trio.open_nursery() as nursery:
        await store.create_bucket(name)
        await set_limits(store.bucket(name))
        for number in range(CLIENTS):
            nursery.start_soon(client, number)
        barrier.set()
    return stored, refused


async def set_limits(bucket: Bucket) -> None:
    if bucket.name == "objects":
        await bucket.set_quota(object_count=OBJECTS)
    else:
        await bucket.set_quota(byte_count=MIB)


async def held(profile: Path, name: str) -> tuple[int, int]:
    async with warehouse.connect(profile) as store:
        info = await store.bucket(name).info()
        listed = [entry async for entry in store.bucket(name).list()]
        sizes = [entry.size for entry in listed if isinstance(entry, warehouse.ObjectInfo)]
        assert (info.object_count, info.byte_count) == (len(sizes), sum(sizes))
        return info.object_count, info.byte_count


@pytest.mark.timeout(300)
def test_sixteen_clients_race_for_the_last_hundred_objects(store: RunningStore) -> None:
    sizes = [[10] * 12 for _ in range(CLIENTS)]
    stored, refused = trio.run(race, store.profile, "objects", sizes)
    assert len(stored) == OBJECTS
    assert len(refused) == CLIENTS * 12 - OBJECTS
    assert trio.run(held, store.profile, "objects") == (OBJECTS, 10 * OBJECTS)


@pytest.mark.timeout(300)
def test_sixteen_clients_race_for_the_last_mebibyte(store: RunningStore) -> None:
    random = Random(1)
    sizes = [[random.choice((1, 1000, 20_000, 65_536, 200_000)) for _ in range(8)] for _ in range(CLIENTS)]
    for own in sizes:
        own.append(1)  # the last byte is taken, whoever comes first
    stored, refused = trio.run(race, store.profile, "bytes", sizes)
    assert sum(stored) <= MIB
    assert refused
    count, size = trio.run(held, store.profile, "bytes")
    assert (count, size) == (len(stored), sum(stored))


@pytest.mark.timeout(300)
def test_batches_uploads_and_urls_keep_to_a_quota(store: RunningStore) -> None:
    async def use(profile: Path) -> tuple[str, str]:
        async with warehouse.connect(profile) as client:
            bucket = await client.create_bucket("mixed")
            await bucket.set_quota(object_count=10, byte_count=3 * MIB)
            items = [warehouse.Put(f"k{n}", b"x" * 100) for n in range(25)]
            errors = [result.error async for result in bucket.put_many(items)]
            kept = [item.key for item, error in zip(items, errors, strict=True) if error is None]
            assert len(kept) == 10
            assert all(isinstance(error, QuotaExceeded) for error in errors if error is not None)
            with pytest.raises(QuotaExceeded):
                await bucket.put("big", bytes(2 * MIB))  # an upload: refused before a byte is sent
            with pytest.raises(QuotaExceeded):
                await bucket.presign_put("another")
            await bucket.delete(kept[0])
            url, late = await bucket.presign_put("url"), await bucket.presign_put("late")
            with pytest.raises(QuotaExceeded):
                await bucket.put("big", bytes(3 * MIB))
            await bucket.put(kept[1], bytes(2 * MIB))  # an overwrite
            return url, late

    url, late = trio.run(use, store.profile)
    assert put_with(url, b"y" * 100)[0] == 201
    status, body = put_with(late, b"z" * 100)
    assert status == 507
    assert b"quota_exceeded" in body
    assert b"mixed" not in body, "whoever holds a URL need not know of the bucket"
    count, size = trio.run(held, store.profile, "mixed")
    assert (count, size) == (10, 2 * MIB + 900)


def put_with(url: str, body: bytes) -> tuple[int, bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    try:
        connection.request("PUT", f"{parts.path}?{parts.query}", body=body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.timeout(300)
def test_a_quota_below_what_is_there_is_taken_and_said(store: RunningStore) -> None:
    async def fill(profile: Path) -> None:
        async with warehouse.connect(profile) as client:
            bucket = await client.create_bucket("small")
            for key in "abc":
                await bucket.put(key, b"x")

    trio.run(fill, store.profile)
    command = [sys.executable, "-P", "-m", "warehouse", "quota", "wh://small", "--objects", "2"]
    done = subprocess.run(
        [*command, "--profile", str(store.profile)],
        env=store.env,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout == "wh://small  3 of 2 objects  3 B, any size\n"
    assert "more than its quota" in done.stderr
