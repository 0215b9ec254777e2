"""The catalog is lost, and comes back: from the volumes, from a backup; or the objects leave as plain files.

Real processes all the way: a store is filled, stopped or killed, a tool of rescue/ runs, and a new store
must have everything that the old one acknowledged, and nothing that it had given up.
"""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec import structs

import warehouse
from harness import RunningStore
from rescue_tools import report_of, tool
from warehouse import Store
from warehouse.catalog.sqlite.recount import check_counts
from warehouse.transport.messages.attributes import ObjectAttributes, ObjectChecksum, decode_attributes

SETTINGS = """
[store]
volume_size = "64MiB"
chunk_size = "1MiB"
disk_reserve = 0
"""
LARGE = 3_500_000  # four chunks

Objects = dict[tuple[str, str], bytes]


async def fill(client: Store, rng: random.Random) -> Objects:
    """Puts, overwrites, deletes, uploads, buckets that come and go; returns what must be there."""
    objects: Objects = {}
    for name in ("photos", "films", "empty", "gone"):
        await client.create_bucket(name)

    async def put(bucket: str, key: str, content: bytes) -> None:
        await client.bucket(bucket).put(key, content)
        objects[bucket, key] = content

    for index in range(60):
        await put("photos", f"{index % 7}/{index}.jpg", rng.randbytes(rng.choice((0, 1, 5000, 300_000))))
    for index in range(0, 60, 3):
        await put("photos", f"{index % 7}/{index}.jpg", rng.randbytes(3000))
    for index in range(0, 60, 4):
        assert await client.bucket("photos").delete(f"{index % 7}/{index}.jpg")
        del objects["photos", f"{index % 7}/{index}.jpg"]
    await put("films", "long", rng.randbytes(LARGE))
    await put("films", "replaced", rng.randbytes(LARGE))
    await put("films", "replaced", b"short")
    await put("films", "grown", b"short")
    await put("films", "grown", rng.randbytes(LARGE))
    await put("films", "deleted", rng.randbytes(LARGE))
    await client.bucket("films").delete("deleted")
    del objects["films", "deleted"]
    await client.bucket("films").put(
        "named", b"with metadata", content_type="text/plain", metadata={"farbe": "grün"}
    )
    objects["films", "named"] = b"with metadata"
    await client.bucket("gone").put("inside", b"x")
    await client.delete_bucket("gone", force=True)
    return objects


async def settled(data: Path) -> None:
    """Wait until the volumes have all that the catalog had to tell them: tombstones and buckets."""
    with trio.fail_after(60), closing(sqlite3.connect(data / "master" / "catalog.sqlite3")) as catalog:
        waiting = "SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM bucket_notes)"
        while catalog.execute(waiting).fetchone()[0]:
            await trio.sleep(0.05)


async def contents(client: Store) -> Objects:
    found: Objects = {}
    for bucket in await client.buckets():
        async for entry in client.bucket(bucket.name).list():
            found[bucket.name, entry.key] = await client.bucket(bucket.name).get(entry.key)
    return found


async def expect(client: Store, objects: Objects, buckets: set[str]) -> None:
    assert {bucket.name for bucket in await client.buckets()} == buckets
    found = await contents(client)
    assert found.keys() == objects.keys()
    assert found == objects


def store_at(data: Path) -> RunningStore:
    return RunningStore(data, volumes=2, config=SETTINGS)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("is_killed", [False, True], ids=["stopped", "killed"])
async def test_a_lost_catalog_is_made_anew_from_the_volumes(tmp_path: Path, is_killed: bool) -> None:
    data = tmp_path / "store"
    store = store_at(data)
    with store:
        async with warehouse.connect(store.profile) as client:
            objects = await fill(client, random.Random(1))
            await settled(data)
            await expect(client, objects, {"photos", "films", "empty"})
        if is_killed:
            store.kill()
    for path in (data / "master").glob("catalog.sqlite3*"):
        path.unlink()
    refused = subprocess.run(
        [sys.executable, "-m", "warehouse.actors.cluster", "--data", data],
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1
    assert refused.stderr.endswith("(catalog_missing)\n"), "an empty catalog would number volumes anew"
    report = report_of("rebuild", "--data", data)
    assert report["objects"] == len(objects)
    assert report["bytes"] == sum(map(len, objects.values()))
    assert report["damaged_count"] == 0
    assert report["api_keys"] == 0
    assert check_counts(data / "master" / "catalog.sqlite3") == []
    with store_at(data) as again:
        assert again.events[-1].get("root_key"), "without API keys a new root key is made"
        async with warehouse.connect(again.profile) as client:
            await expect(client, objects, {"photos", "films", "empty"})
            info = await client.bucket("films").stat("named")
            assert (info.content_type, info.metadata) == ("text/plain", {"farbe": "grün"})
            objects |= await fill_again(client)
            await expect(client, objects, {"photos", "films", "empty", "later"})


async def fill_again(client: Store) -> Objects:
    await client.create_bucket("later")
    await client.bucket("later").put("a", b"1")
    await client.bucket("photos").put("0/21.jpg", b"overwritten")
    await client.bucket("films").put("long", b"shorter")
    return {("later", "a"): b"1", ("photos", "0/21.jpg"): b"overwritten", ("films", "long"): b"shorter"}


def carried(number: int) -> ObjectAttributes:
    """What an object carries that was put over S3."""
    return ObjectAttributes(
        md5=number.to_bytes(16, "big"),
        headers={"cache-control": b"no-cache", "expires": b"\xff"},
        raw_metadata={"raw": b"\xfe"},
        checksum=ObjectChecksum("CRC64NVME", False, number.to_bytes(8, "big")),
        tags=(("number", str(number)),),
    )


async def fill_rich(client: Store, rng: random.Random) -> None:
    """Objects with attributes: small and large, replaced, deleted, and amended ones."""
    await client.create_bucket("rich")
    bucket = client.bucket("rich")
    for number in range(20):
        content = rng.randbytes(rng.choice((0, 1, 5000, 300_000)))
        metadata = {"farbe": "grün"}
        await bucket.put(f"small/{number}", content, "text/x", metadata, attributes=carried(number))
    for number in (1, 2, 3):
        content = rng.randbytes(LARGE)
        await bucket.put(f"large/{number}", content, "video/x", {"n": "1"}, attributes=carried(number))
    await bucket.put("small/3", b"replaced", attributes=carried(103))
    await bucket.put("large/2", rng.randbytes(LARGE), attributes=carried(102))
    await bucket.put("small/5", b"plain")
    for key in ("small/7", "large/3"):
        await bucket.delete(key)
    for key in ("small/3", "small/9", "large/1"):
        info = await bucket.chunks(key)
        for tag in ("first", "second"):
            amended = structs.replace(decode_attributes(info.attributes), tags=(("tag", tag),))
            await bucket.amend(info, amended)


async def everything_about(client: Store) -> dict[str, Any]:
    bucket = client.bucket("rich")
    found: dict[str, Any] = {}
    for entry in [entry async for entry in bucket.list()]:
        info = await bucket.stat(entry.key)
        assert entry.etag == info.etag
        facts = info.etag, info.content_type, info.metadata, info.owner_id, info.chunk_count
        found[entry.key] = (*facts, decode_attributes(info.attributes), await bucket.get(entry.key))
    return found


@pytest.mark.timeout(300)
async def test_what_objects_carry_comes_back_without_the_catalog(tmp_path: Path) -> None:
    data = tmp_path / "store"
    with store_at(data) as store:
        async with warehouse.connect(store.profile) as client:
            await fill_rich(client, random.Random(5))
            before = await everything_about(client)
            await settled(data)
        store.stop()
    for path in (data / "master").glob("catalog.sqlite3*"):
        path.unlink()
    report = report_of("rebuild", "--data", data)
    assert (report["damaged_count"], report["incomplete_upload_count"]) == (0, 0)
    assert check_counts(data / "master" / "catalog.sqlite3") == []
    assert len(before) == 21
    assert before["small/9"][5].tags == before["large/1"][5].tags == (("tag", "second"),)
    with store_at(data) as store:
        async with warehouse.connect(store.profile) as client:
            assert await everything_about(client) == before
            jobs = await client.wait_jobs(await client.compact())
            assert {job.state for job in jobs} == {"done"}
            assert await everything_about(client) == before
        store.stop()
    assert check_counts(data / "master" / "catalog.sqlite3") == []


@pytest.mark.timeout(300)
async def test_an_export_writes_every_object_byte_for_byte(tmp_path: Path) -> None:
    data, folder = tmp_path / "store", tmp_path / "out"
    keys = [
        "a",
        "a/b",
        "a/b/c",
        "x//y",
        "/x",
        "x/",
        "..",
        "../up",
        "100%",
        "zero\0byte",
        "ä" * 400,
        "A",
        "B/.",
        "grün",
    ]
    store = store_at(data)
    with store:
        async with warehouse.connect(store.profile) as client:
            objects = await fill(client, random.Random(2))
            for key in keys:
                await client.bucket("photos").put(key, key.encode() * 3)
                objects["photos", key] = key.encode() * 3
            await settled(data)
        refused = tool("export", "--data", data, "--to", folder, status=1)
        assert refused.stderr.endswith("(disk_in_use)\n"), refused.stderr
    report = report_of("export", "--data", data, "--to", folder)
    assert report["whole"] == len(objects)
    assert report["damaged_count"] == 0
    listing = [json.loads(line) for line in (folder / "export.jsonl").read_text().splitlines()]
    assert {(line["bucket"], line["key"]) for line in listing} == set(objects)
    assert all(line["state"] == "whole" for line in listing)
    for line in listing:
        assert (folder / line["path"]).read_bytes() == objects[line["bucket"], line["key"]]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) == len(objects) + 1, "nothing but the objects and their listing"
    again = tool("export", "--data", data, "--to", folder, status=1)
    assert again.stderr.endswith("(bad_request)\n")
    victim = folder / listing[0]["path"]
    victim.unlink()
    resumed = report_of("export", "--data", data, "--to", folder, "--resume")
    assert resumed["skipped"] == len(objects) - 1
    assert victim.read_bytes() == objects[listing[0]["bucket"], listing[0]["key"]]


@pytest.mark.timeout(300)
async def test_a_backup_of_a_busy_store_comes_back_with_everything_put_since(tmp_path: Path) -> None:
    data, file, passphrase = tmp_path / "store", tmp_path / "backup", tmp_path / "passphrase"
    passphrase.touch(0o600)
    passphrase.write_text("correct horse battery\n")
    key = ("--passphrase-file", passphrase)
    rng = random.Random(3)
    store = store_at(data)
    with store:
        async with warehouse.connect(store.profile) as client:
            objects = await fill(client, rng)
            await back_up_while_writing(client, data, file, objects, key)
            assert file.stat().st_mode & 0o777 == 0o600
            await client.bucket("photos").put("since", b"the backup")
            objects["photos", "since"] = b"the backup"
            assert await client.bucket("films").delete("grown")
            del objects["films", "grown"]
            await settled(data)
        refused = tool("restore", file, "--data", data, *key, status=1)
        assert refused.stderr.endswith("(disk_in_use)\n"), refused.stderr
    (data / "master" / "catalog.sqlite3").write_bytes(b"ruined")
    report = report_of("restore", file, "--data", data, *key)
    assert report["rebuild"]["objects"] == len(objects)
    assert report["api_keys"] == 1
    assert list((data / "master").glob("catalog.sqlite3.before-restore-*"))
    with store_at(data) as again:
        assert "root_key" not in again.events[-1], "the API key of the backup still counts"
        async with warehouse.connect(again.profile) as client:
            await expect(client, objects, {"photos", "films", "empty"})


async def back_up_while_writing(
    client: Store, data: Path, file: Path, objects: Objects, key: tuple[object, ...]
) -> None:
    async with trio.open_nursery() as nursery:

        async def write() -> None:
            for index in range(100_000):
                await client.bucket("photos").put(f"busy/{index}", str(index).encode())
                objects["photos", f"busy/{index}"] = str(index).encode()
                if stop.is_set():
                    return

        stop = trio.Event()
        nursery.start_soon(write)
        await trio.to_thread.run_sync(lambda: tool("backup", file, "--data", data, *key))
        stop.set()


@pytest.mark.timeout(300)
async def test_an_exact_restore_keeps_what_it_does_not_know_until_a_rebuild(tmp_path: Path) -> None:
    data, file = tmp_path / "store", tmp_path / "backup.tar"
    store = store_at(data)
    with store:
        async with warehouse.connect(store.profile) as client:
            await client.create_bucket("photos")
            await client.bucket("photos").put("before", b"1")
            tool("backup", file, "--data", data, "--unencrypted")
            await client.bucket("photos").put("since", b"2")
            await settled(data)
    report = report_of("restore", file, "--data", data, "--exact")
    assert report["rebuild"] is None
    assert report["keeps_orphans"]
    with store_at(data) as again:
        async with warehouse.connect(again.profile) as client:
            await expect(client, {("photos", "before"): b"1"}, {"photos"})
            await client.bucket("photos").put("later", b"3")
            await client.create_bucket("another")
            await settled(data)
    assert report_of("rebuild", "--data", data, "--replace")["api_keys"] == 1
    with store_at(data) as again:
        async with warehouse.connect(again.profile) as client:
            everything = {("photos", "before"): b"1", ("photos", "since"): b"2", ("photos", "later"): b"3"}
            await expect(client, everything, {"photos", "another"})


@pytest.mark.timeout(300)
async def test_a_backup_that_knows_everything_is_restored_as_it_is(tmp_path: Path) -> None:
    data, file = tmp_path / "store", tmp_path / "backup.tar"
    store = store_at(data)
    with store:
        async with warehouse.connect(store.profile) as client:
            objects = await fill(client, random.Random(4))
            await settled(data)
    tool("backup", file, "--data", data, "--unencrypted")
    (data / "master" / "catalog.sqlite3").unlink()
    report = report_of("restore", file, "--data", data)
    assert report["rebuild"] is None
    assert not report["keeps_orphans"]
    with store_at(data) as again:
        async with warehouse.connect(again.profile) as client:
            await expect(client, objects, {"photos", "films", "empty"})


@pytest.mark.timeout(300)
async def test_a_missing_disk_is_noticed_and_left_out_only_when_told_to(tmp_path: Path) -> None:
    data = tmp_path / "store"
    store = store_at(data)
    with store:
        async with warehouse.connect(store.profile) as client:
            objects = await fill(client, random.Random(5))
            await settled(data)
    away = tmp_path / "elsewhere"
    (data / "disk-2").rename(away)
    exists = tool("rebuild", "--data", data, status=1)
    assert exists.stderr.endswith("(catalog_exists)\n")
    missing = tool("rebuild", "--data", data, "--replace", status=1)
    assert missing.stderr.endswith("(disks_missing)\n"), missing.stderr
    whole = report_of("rebuild", "--data", data, "--replace", "--disk", away)
    assert whole["objects"] == len(objects)
    part = report_of("rebuild", "--data", data, "--replace", "--partial", "--indexes")
    assert 0 < part["objects"] < len(objects)
    assert part["keeps_orphans"]
    assert part["missing"]
    assert part["api_keys"] == 1


def test_wrong_usage_is_said_with_status_2_and_failures_with_status_1(tmp_path: Path) -> None:
    for name in ("rebuild", "export", "backup", "restore"):
        said = tool(name, "--no-such-thing", status=2).stderr
        assert said.startswith("warehouse: ")
        assert said.endswith(f" (see: warehouse {name} --help)\n")
        assert said.count("\n") == 1
        assert "usage: warehouse" in tool(name, "--help").stdout
    assert tool("rebuild", "--data", tmp_path, status=1).stderr.endswith("(read_failed)\n")
    backup = ("backup", tmp_path / "b", "--data", tmp_path)
    assert tool(*backup, status=1).stderr.endswith("(bad_request)\n"), "nothing says how to encrypt it"
    assert tool(*backup, "--unencrypted", status=1).stderr.endswith("(read_failed)\n")
    assert tool("restore", tmp_path / "b", "--data", tmp_path, status=1).stderr.endswith("(read_failed)\n")
    (tmp_path / "b").write_bytes(b"not a tar file")
    assert tool("restore", tmp_path / "b", "--data", tmp_path, status=1).stderr.endswith("(backup_corrupt)\n")
    assert not (tmp_path / "master" / "catalog.sqlite3").exists()
