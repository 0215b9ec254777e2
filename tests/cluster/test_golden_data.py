"""A data folder of release 0.1.0: today's store serves every object of it, and rebuilds its catalog."""

from __future__ import annotations

import copy
import hashlib
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import trio

import warehouse
from harness import ROOT, RunningStore, environment
from warehouse import Store
from warehouse.catalog.sqlite.recount import check_counts
from warehouse.errors import NoSuchBucket, NoSuchObject

GOLDEN = ROOT / "tests" / "golden"
EXPECTED: dict[str, Any] = json.loads((GOLDEN / "data_0_1.json").read_text(encoding="utf-8"))
DISKS = 2
GONE = [  # deleted, deleted after the compaction, of several chunks, never finished
    ("photos", "0/0.jpg"),
    ("photos", "2/8.jpg"),
    ("photos", "1/1.jpg"),
    ("photos", "late/1"),
    ("films", "deleted"),
    ("films", "unfinished"),
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The folder, unpacked and adopted."""
    with tarfile.open(GOLDEN / "data_0_1.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    data = tmp_path / "data_0_1"
    for path in data.glob("disk-*/disk.json"):
        identity = json.loads(path.read_text())
        identity["inode"] = path.stat().st_ino
        path.write_text(json.dumps(identity))
    return data


def store_at(data: Path) -> RunningStore:
    return RunningStore(data, volumes=DISKS, config=EXPECTED["settings"])


async def contents(client: Store) -> dict[str, Any]:
    """What the store has, in the form of the golden file."""
    found: dict[str, Any] = {}
    for bucket in await client.buckets():
        objects = []
        async for entry in client.bucket(bucket.name).list():
            content = await client.bucket(bucket.name).get(entry.key)
            info = await client.bucket(bucket.name).stat(entry.key)
            assert (entry.size, entry.etag, entry.created_ms) == (info.size, info.etag, info.created_ms)
            objects.append(
                {
                    "key": info.key,
                    "size": info.size,
                    "sha256": hashlib.sha256(content).hexdigest(),
                    "etag": info.etag,
                    "created_ms": info.created_ms,
                    "content_type": info.content_type,
                    "metadata": info.metadata,
                    "chunk_count": info.chunk_count,
                }
            )
        assert (bucket.object_count, bucket.byte_count) == (
            len(objects),
            sum(known["size"] for known in objects),  # type: ignore[misc]
        )
        found[bucket.name] = {"created_ms": bucket.created_ms, "objects": objects}
    return found


def with_times_of(found: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """What is expected, with the creation times of a rebuilt catalog.

    No chunk says when its upload began, so a rebuilt object of several chunks is as old as its oldest chunk.
    """
    times = {(name, known["key"]): known["created_ms"] for name in found for known in found[name]["objects"]}
    expected = copy.deepcopy(expected)
    for name, bucket in expected.items():
        for known in bucket["objects"]:
            rebuilt_ms = times.get((name, known["key"]), 0)
            if known["chunk_count"] > 1 and 0 <= rebuilt_ms - known["created_ms"] < 1000:
                known["created_ms"] = rebuilt_ms
    return expected


async def require_everything(client: Store, *, is_rebuilt: bool = False) -> None:
    """Every object is what was written, and what was given up is absent."""
    found = await contents(client)
    expected = EXPECTED["buckets"]
    assert found == (with_times_of(found, expected) if is_rebuilt else expected)
    for bucket, key in GONE:
        with pytest.raises(NoSuchObject):
            await client.bucket(bucket).get(key)
    with pytest.raises(NoSuchBucket):
        await client.bucket("gone").get("inside")


async def require_it_goes_on(client: Store) -> None:
    """Puts, overwrites and deletes work; every volume is verified and compacted without a finding."""
    photos = client.bucket("photos")
    small, large = b"new" * 100, b"new and large" * 1000
    await photos.put("new/small", small, metadata={"new": "yes"})
    await photos.put("new/large", large)
    await photos.put("named", small)
    assert await photos.delete("nothing")
    for work in (client.verify, client.compact):
        jobs = await client.wait_jobs(await work())
        assert [(job.state, job.damaged_count) for job in jobs] == [("done", 0)] * DISKS
    assert await photos.get("new/small") == await photos.get("named") == small
    assert await photos.get("new/large") == large
    assert (await photos.stat("new/small")).metadata == {"new": "yes"}
    with pytest.raises(NoSuchObject):
        await photos.get("nothing")


def test_a_store_of_0_1_is_served_and_goes_on(data: Path) -> None:
    async def use() -> None:
        async with warehouse.connect(data / "profile.toml") as client:
            status = await client.status()
            reports = [volume.report for disk in status.disks for volume in disk.volumes]
            generations = {str(report.volume_id): report.generation for report in reports}
            assert generations == EXPECTED["generations"]
            assert (status.health, status.troubles, status.damages) == ("ok", [], [])
            await require_everything(client)
            await require_it_goes_on(client)

    with store_at(data) as store:
        trio.run(use)
        store.stop()
        assert check_counts(data / "master" / "catalog.sqlite3") == []


def test_the_catalog_of_a_store_of_0_1_is_rebuilt_from_its_volumes(data: Path) -> None:
    async def use() -> None:
        async with warehouse.connect(data / "profile.toml") as client:
            await require_everything(client, is_rebuilt=True)
            await require_it_goes_on(client)

    for path in (data / "master").glob("catalog.sqlite3*"):
        path.unlink()
    command = [sys.executable, "-m", "warehouse.rescue.rebuild", "--data", str(data), "--json"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    objects = [known for bucket in EXPECTED["buckets"].values() for known in bucket["objects"]]
    assert (report["objects"], report["bytes"]) == (len(objects), sum(known["size"] for known in objects))
    assert report["damaged_count"] == 0
    assert [upload["key"] for upload in report["incomplete_uploads"]] == ["unfinished"]
    assert check_counts(data / "master" / "catalog.sqlite3") == []
    with store_at(data) as store:
        trio.run(use)
        store.stop()
        assert check_counts(data / "master" / "catalog.sqlite3") == []
