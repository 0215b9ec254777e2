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
from warehouse.conf.join import Join
from warehouse.errors import NoSuchBucket, NoSuchObject, StoreError
from warehouse.transport.messages import Join as JoinMessage
from warehouse.transport.messages import Register, Request
from warehouse.transport.messages.attributes import ObjectAttributes, encode_attributes
from warehouse.transport.zeromq.curve import CurveKeys
from warehouse.transport.zeromq.link import Link

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
    done = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=120, check=False
    )
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


async def formats_of(client: Store) -> dict[int, int]:
    """Of each volume that is made, the format of its data file."""
    status = await client.status()
    volumes = [volume for disk in status.disks for volume in disk.volumes if volume.state != "creating"]
    return {volume.report.volume_id: volume.report.format for volume in volumes}


def test_its_volumes_become_new_when_they_are_compacted_and_nothing_else_changes(data: Path) -> None:
    """Before, what only new volumes can hold goes into others, which are made for it."""
    attributes = ObjectAttributes(md5=bytes(range(16)), tags=(("colour", "blue"),))
    old = [int(volume_id) for volume_id in EXPECTED["generations"]]

    async def put_and_compact() -> None:
        async with warehouse.connect(data / "profile.toml") as client:
            assert await formats_of(client) == dict.fromkeys(old, 1)
            await client.create_bucket("rich")
            written = await client.bucket("rich").put("key", b"content", attributes=attributes)
            assert written.etag == attributes.etag
            formats = await formats_of(client)
            assert {formats.pop(volume_id) for volume_id in old} == {1}
            assert set(formats.values()) == {2}
            jobs = await client.wait_jobs(await client.compact())
            assert {(job.state, job.damaged_count) for job in jobs} == {("done", 0)}
            assert set((await formats_of(client)).values()) == {2}
            await require_rich_and_old(client)

    async def require_rich_and_old(client: Store) -> None:
        info = await client.bucket("rich").stat("key")
        assert (info.etag, info.attributes) == (attributes.etag, encode_attributes(attributes))
        assert await client.bucket("rich").get("key") == b"content"
        await client.delete_bucket("rich", force=True)
        await require_everything(client)
        await client.create_bucket("rich")
        await client.bucket("rich").put("key", b"content", attributes=attributes)

    async def look_again() -> None:
        async with warehouse.connect(data / "profile.toml") as client:
            assert set((await formats_of(client)).values()) == {2}
            await require_rich_and_old(client)

    with store_at(data) as store:
        trio.run(put_and_compact)
        store.stop()
    for manifest in data.glob("disk-*/volumes/*/manifest"):
        assert manifest.read_bytes().startswith(b"warehouse-manifest format=2 ")
    with store_at(data) as store:
        trio.run(look_again)
        store.stop()
        assert check_counts(data / "master" / "catalog.sqlite3") == []


async def code_of(join: Join, keys: CurveKeys, request: Request) -> str:
    """What a machine with these keys hears on a connection of its own: "ok", or a code."""
    link = Link(
        endpoint=join.master, server_key=join.server_key.encode(), keys=keys, name="machine", incarnation=1
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(link.run)
        with trio.fail_after(60):
            await link.wait_up()
        try:
            await link.request(request, timeout_s=10)
        except StoreError as error:
            return error.code
        finally:
            nursery.cancel_scope.cancel()
    return "ok"


def registration(secret: str, disk_id: str) -> Register:
    """What a volume actor of 0.1.0 says, which has a new key at each start."""
    return Register(
        join_secret=secret,
        disk_id=disk_id,
        disk_name="old",
        incarnation=1 << 60,
        url="http://127.0.0.1:9",
        volumes=[],
        disk_capacity=1 << 40,
        disk_free=1 << 40,
    )


def test_the_disks_of_a_store_of_0_1_get_keys_and_its_secret_ends_with_the_first_token(data: Path) -> None:
    secret_file = data / "master" / "keys" / "join.secret"
    secret = secret_file.read_text().strip()
    new, old = CurveKeys.generate(), CurveKeys.generate()

    async def use() -> None:
        join = Join.load(data / "master" / "join.toml")
        assert join.secret == secret
        async with warehouse.connect(data / "profile.toml") as client:
            disks = {disk.name: disk for disk in await client.disks()}
            keys = {name: CurveKeys.load(data / name / "node.key").public.decode() for name in disks}
            assert {name: disk.node_key for name, disk in disks.items()} == keys
            # The secret lets a machine of 0.1.0 in with another disk, and opens none that has its node.
            pinned = registration(secret, disks["disk-1"].disk_id)
            assert await code_of(join, CurveKeys.generate(), pinned) == "disk_pinned"
            assert await code_of(join, old, registration("guess", "e" * 32)) == "node_unknown"
            assert await code_of(join, old, registration(secret, "e" * 32)) == "ok"
            token = (await client.create_join_token()).token
            joining = JoinMessage(token=token, disk_id="f" * 32, disk_name="new", role="volume")
            assert secret_file.exists()
            assert await code_of(join, new, joining) == "ok"
            assert not secret_file.exists()
            assert await code_of(join, old, registration(secret, "e" * 32)) == "node_unknown"

    async def use_again() -> None:
        join = Join.load(data / "master" / "join.toml")
        assert join.secret == ""
        assert await code_of(join, old, registration(secret, "e" * 32)) == "node_unknown"
        async with warehouse.connect(data / "profile.toml") as client:
            await require_everything(client)

    with store_at(data) as store:
        trio.run(use)
        store.stop()
        secret_file.write_text(secret)  # from an old backup, perhaps
        secret_file.chmod(0o600)
        store.start()
        trio.run(use_again)
