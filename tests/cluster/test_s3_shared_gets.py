"""Gets that share their requests, while others replace, delete and compact: each answer is of one version."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import trio
from botocore.exceptions import ClientError

import warehouse
from harness import RunningStore
from s3_kit import RunningGateway, root_client

BUCKET = "shared"
READERS = 12
KEYS = [f"k{number}" for number in range(24)]
RACE_S = 8.0


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    folder: Path = tmp_path_factory.mktemp("shared")
    with RunningStore(folder / "store", volumes=1) as store, RunningGateway(store, folder) as gateway:
        yield gateway


def body_of(key: str, version: int) -> bytes:
    return f"{key} in version {version} ".encode() * (1 + version * 37 % 200)


def write(client: Any, is_over: threading.Event) -> None:
    version = 1
    while not is_over.is_set():
        for key in KEYS:
            if version % 3:
                client.put_object(Bucket=BUCKET, Key=key, Body=body_of(key, version))
            else:
                client.delete_object(Bucket=BUCKET, Key=key)
        version += 1


def read(client: Any, reader: int, until_s: float) -> Counter[str]:
    """Get one key after the other; how often which answer came."""
    outcomes: Counter[str] = Counter()
    number = reader
    while time.monotonic() < until_s:
        key = KEYS[number % len(KEYS)]
        number += 1
        try:
            got = client.get_object(Bucket=BUCKET, Key=key)
        except ClientError as error:
            outcomes[error.response["Error"]["Code"]] += 1
            continue
        data = got["Body"].read()
        assert got["ContentLength"] == len(data)
        assert got["ETag"] == f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
        assert data.startswith(f"{key} in version ".encode()), data[:40]
        outcomes["read"] += 1
    return outcomes


async def compact_until(profile: Path, until_s: float) -> int:
    """Compact all volumes again and again; how often that ended well."""
    count = 0
    async with warehouse.connect(profile) as store:
        while time.monotonic() < until_s:
            jobs = await store.wait_jobs(await store.compact(force=True))
            count += sum(job.state == "done" for job in jobs)
    return count


def test_gets_of_one_moment_race_with_whoever_changes_what_they_read(gateway: RunningGateway) -> None:
    is_over = threading.Event()
    with (
        root_client(gateway, max_pool_connections=READERS + 1) as client,
        ThreadPoolExecutor(READERS + 1) as threads,
    ):
        client.create_bucket(Bucket=BUCKET)
        for key in KEYS:
            client.put_object(Bucket=BUCKET, Key=key, Body=body_of(key, 0))
        until_s = time.monotonic() + RACE_S
        writing = threads.submit(write, client, is_over)
        reading = [threads.submit(read, client, reader, until_s) for reader in range(READERS)]
        try:
            compacted = trio.run(compact_until, gateway.store.profile, until_s)
            outcomes = sum((one.result(60) for one in reading), Counter())
        finally:
            is_over.set()
        writing.result(60)
    assert compacted
    assert set(outcomes) <= {"read", "NoSuchKey"}, outcomes
    assert outcomes["read"] > READERS
