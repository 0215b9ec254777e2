"""The catalog is lost, and objects of S3 come back with all that clients stored beside their bytes.

Real processes, by botocore: a store is filled, its volumes are compacted, and its catalog is made anew from them.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

import warehouse
from harness import RunningStore
from rescue_tools import report_of
from s3_kit import client_of
from warehouse.conf.profile import Profile

MIB = 1024 * 1024
SETTINGS = """
[store]
volume_size = "64MiB"
chunk_size = "1MiB"
disk_reserve = 0
"""
SIZES = {"empty": 0, "small": 5000, "large": 3 * MIB + 7}
HEADERS = {
    "CacheControl": "no-store",
    "ContentDisposition": 'attachment; filename="a b.txt"',
    "ContentEncoding": "gzip",
    "ContentLanguage": "de",
    "ContentType": "text/x-odd",
    "StorageClass": "REDUCED_REDUNDANCY",
}
SHOWN = ("ETag", "Metadata", "ContentLength", "ChecksumSHA256", "ChecksumType", *HEADERS)


def store_at(folder: Path) -> RunningStore:
    return RunningStore(folder / "store", volumes=2, config=SETTINGS, has_s3=True)


@contextmanager
def client_at(store: RunningStore) -> Iterator[Any]:
    profile = Profile.load(store.profile)
    client = client_of(f"http://127.0.0.1:{store.port_base + 90}", profile.key_id, profile.secret)
    try:
        yield client
    finally:
        client.close()


def bytes_of(name: str, size: int) -> bytes:
    return hashlib.shake_256(name.encode()).digest(size)


def fill(client: Any) -> None:
    client.create_bucket(Bucket="kept", CreateBucketConfiguration={"LocationConstraint": "eu-rebuilt-1"})
    for name, size in SIZES.items():
        where, data = {"Bucket": "kept", "Key": name}, bytes_of(name, size)
        client.put_object(**where, Body=data[::-1], Metadata={"old": "version"}, Tagging="old=yes")
        client.put_object(
            **where,
            Body=data,
            Metadata={"colour": "blue"},
            Tagging="first=1",
            ChecksumAlgorithm="SHA256",
            **HEADERS,
        )
        tagged = {**where, "Key": f"{name}-tagged"}
        client.copy_object(**tagged, CopySource=where)
        for value in ("early", "late"):
            client.put_object_tagging(**tagged, Tagging={"TagSet": [{"Key": "when", "Value": value}]})
        client.put_object(**{**where, "Key": f"{name}-gone"}, Body=data, Tagging="a=b")
        client.delete_object(**{**where, "Key": f"{name}-gone"})


def facts(client: Any) -> dict[str, Any]:
    """All that S3 tells of the bucket and its objects, but for owners: accounts are in the catalog alone."""
    found: dict[str, Any] = {"region": client.get_bucket_location(Bucket="kept")["LocationConstraint"]}
    for row in client.list_objects(Bucket="kept")["Contents"]:
        where = {"Bucket": "kept", "Key": row["Key"]}
        got = client.get_object(**where, ChecksumMode="ENABLED")
        data = got["Body"].read()
        found[row["Key"]] = {
            **{name: got.get(name) for name in SHOWN},
            "data": hashlib.sha256(data).hexdigest(),
            "tags": client.get_object_tagging(**where)["TagSet"],
            "listed": (row["ETag"], row["Size"]),
            "modified": row["LastModified"],
        }
        assert hashlib.md5(data).hexdigest() == got["ETag"].strip('"')
    return found


def is_same(name: str, then: Any, now: Any) -> bool:
    """A rebuilt catalog has the time of the last needle, which came a moment before the commit."""
    return abs((then - now).total_seconds()) < 2.0 if name == "modified" else bool(then == now)


def changed(before: dict[str, Any], now: dict[str, Any]) -> list[tuple[str, object, object]]:
    """What is not as it was: object and fact, then and now."""
    assert before.keys() == now.keys()
    assert before["region"] == now["region"]
    return [
        (f"{key}: {name}", then, now[key][name])
        for key, facts in before.items()
        if key != "region"
        for name, then in facts.items()
        if not is_same(name, then, now[key][name])
    ]


def wait_until_told(data: Path) -> None:
    """Wait until the volumes have all that the catalog had to tell them."""
    deadline = time.monotonic() + 60
    waiting = "SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM bucket_notes)"
    with closing(sqlite3.connect(data / "master" / "catalog.sqlite3")) as catalog:
        while catalog.execute(waiting).fetchone()[0]:
            assert time.monotonic() < deadline
            time.sleep(0.05)


async def compact(store: RunningStore) -> None:
    async with warehouse.connect(store.profile) as client:
        jobs = await client.wait_jobs(await client.compact(force=True))
        assert {job.state for job in jobs} == {"done"}, jobs


@pytest.mark.timeout(300)
@pytest.mark.parametrize("is_compacted", [False, True], ids=["as written", "compacted"])
def test_objects_of_s3_come_back_with_all_that_was_stored_with_them(
    tmp_path: Path, is_compacted: bool
) -> None:
    with store_at(tmp_path) as store, client_at(store) as client:
        fill(client)
        before = facts(client)
        assert before["small-tagged"]["tags"] == [{"Key": "when", "Value": "late"}]
        assert before["large"]["CacheControl"] == "no-store"
        assert len(before) == 1 + 2 * len(SIZES)
        wait_until_told(store.data)
        if is_compacted:
            trio.run(compact, store)
            assert changed(before, facts(client)) == []
            wait_until_told(store.data)
    for path in (store.data / "master").glob("catalog.sqlite3*"):
        path.unlink()
    assert report_of("rebuild", "--data", store.data)["objects"] == 2 * len(SIZES)
    with store_at(tmp_path) as store, client_at(store) as client:
        assert changed(before, facts(client)) == []
