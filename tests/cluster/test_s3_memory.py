"""Large uploads pass through a gateway: its memory does not grow with them, and every byte arrives."""

from __future__ import annotations

import gc
import hashlib
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from harness import RunningStore
from s3_kit import RunningGateway, client_of, root_client
from warehouse.conf.profile import Profile

MIB = 1024 * 1024
UPLOADS, SIZE = 32, 12 * MIB
GROWTH_MAX = 60 * 1000 * 1000


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("s3")
    settings = "[store]\nchunk_size = 4194304\n"  # several chunks each
    with RunningStore(folder / "store", config=settings) as store, RunningGateway(store, folder) as gateway:
        yield gateway


@pytest.fixture
def s3(gateway: RunningGateway) -> Iterator[Any]:
    with root_client(gateway) as client:
        yield client


def resident(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("it has no memory")


def test_many_large_uploads_at_once_take_bounded_memory(gateway: RunningGateway, s3: Any) -> None:
    s3.create_bucket(Bucket="large")
    content = random.Random(1).randbytes(SIZE)
    digest = hashlib.sha256(content).hexdigest()
    s3.put_object(Bucket="large", Key="first", Body=content)  # what a first upload loads stays
    rest, most, done = resident(gateway.pid), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.02):
            most = max(most, resident(gateway.pid))

    profile = Profile.load(gateway.store.profile)
    failures: list[Exception] = []

    def upload(number: int) -> None:
        client = client_of(
            gateway.url, profile.key_id, profile.secret, retries={"max_attempts": 5}, read_timeout=300
        )
        try:
            client.put_object(Bucket="large", Key=f"{number}", Body=content)
        except Exception as error:
            failures.append(error)
        finally:
            client.close()

    watcher = threading.Thread(target=watch)
    uploads = [threading.Thread(target=upload, args=(number,)) for number in range(UPLOADS)]
    for thread in (watcher, *uploads):
        thread.start()
    for thread in uploads:
        thread.join()
    done.set()
    watcher.join()
    gc.collect()
    assert not failures
    assert most - rest < GROWTH_MAX, f"from {rest:,} to {most:,}"
    got = s3.get_object(Bucket="large", Key=f"{UPLOADS - 1}")["Body"].read()
    assert hashlib.sha256(got).hexdigest() == digest


@pytest.mark.parametrize("size", [MIB, MIB + 1, 4 * MIB, 4 * MIB + 1, 9 * MIB - 1])
def test_bodies_of_every_length_arrive_whole(gateway: RunningGateway, s3: Any, size: int) -> None:
    if "sizes" not in [one["Name"] for one in s3.list_buckets()["Buckets"]]:
        s3.create_bucket(Bucket="sizes")
    content = random.Random(size).randbytes(size)
    s3.put_object(Bucket="sizes", Key=f"{size}", Body=content)
    assert s3.get_object(Bucket="sizes", Key=f"{size}")["Body"].read() == content


def test_a_large_body_that_is_not_what_was_promised_is_not_stored(gateway: RunningGateway, s3: Any) -> None:
    s3.create_bucket(Bucket="promised")
    with pytest.raises(ClientError) as refused:
        s3.put_object(Bucket="promised", Key="a", Body=b"x" * 9 * MIB, ContentMD5="1B2M2Y8AsgTpgAmY7PhCfg==")
    assert refused.value.response["Error"]["Code"] == "BadDigest"
    assert s3.list_objects_v2(Bucket="promised")["KeyCount"] == 0


def test_a_volume_that_dies_under_an_upload_costs_a_repeat_and_no_bytes(
    gateway: RunningGateway, s3: Any
) -> None:
    s3.create_bucket(Bucket="repeated")
    content = random.Random(2).randbytes(40 * MIB)
    profile = Profile.load(gateway.store.profile)
    patient = client_of(
        gateway.url, profile.key_id, profile.secret, retries={"max_attempts": 10}, read_timeout=300
    )
    killer = threading.Thread(target=lambda: (time.sleep(0.5), gateway.store.kill_actor("disk-1")))
    killer.start()
    try:
        patient.put_object(Bucket="repeated", Key="a", Body=content)
        assert patient.get_object(Bucket="repeated", Key="a")["Body"].read() == content
    finally:
        killer.join()
        patient.close()
        del patient
        gc.collect()
