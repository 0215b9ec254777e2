"""Large uploads pass through a gateway: its memory does not grow with them, and every byte arrives."""

from __future__ import annotations

import gc
import hashlib
import random
import re
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from botocore.exceptions import ClientError

from harness import RunningStore
from memory_watch import Watched, resident
from s3_kit import RunningGateway, client_of, root_client
from warehouse.conf.profile import Profile

MIB = 1024 * 1024
SLOW = 100  # uploads
WAIT_S = 30.0
SETTLE_S = 2.0
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


@pytest.mark.parametrize(
    ("uploads", "size"), [(32, 12 * MIB), pytest.param(64, 1024 * MIB, marks=pytest.mark.long)]
)
def test_many_large_uploads_at_once_take_bounded_memory(
    gateway: RunningGateway, s3: Any, uploads: int, size: int
) -> None:
    name = f"large-{uploads}"
    s3.create_bucket(Bucket=name)
    content = random.Random(1).randbytes(size)
    digest = hashlib.sha256(content).hexdigest()
    s3.put_object(Bucket=name, Key="first", Body=content)  # what a first upload loads stays
    profile = Profile.load(gateway.store.profile)
    failures: list[Exception] = []

    def upload(number: int) -> None:
        client = client_of(
            gateway.url, profile.key_id, profile.secret, retries={"max_attempts": 5}, read_timeout=300
        )
        try:
            client.put_object(Bucket=name, Key=f"{number}", Body=content)
        except Exception as error:
            failures.append(error)
        finally:
            client.close()

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(uploads)]
    with Watched(gateway.pid) as memory:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    gc.collect()
    assert not failures
    assert memory.growth < GROWTH_MAX, str(memory)
    got = hashlib.sha256()
    for piece in s3.get_object(Bucket=name, Key=f"{uploads - 1}")["Body"].iter_chunks(MIB):
        got.update(piece)
    assert got.hexdigest() == digest


def test_uploads_that_stand_still_cost_connections_and_no_memory(gateway: RunningGateway, s3: Any) -> None:
    s3.create_bucket(Bucket="slow")
    url = s3.generate_presigned_url("put_object", {"Bucket": "slow", "Key": "never"})
    target, rest = url.removeprefix(gateway.url), resident(gateway.pid)
    head = f"PUT {target} HTTP/1.1\r\nHost: 127.0.0.1:{gateway.port}\r\n"
    lengths = ("Content-Length: 1000000000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n3B9ACA00\r\n")
    with ExitStack() as opened:
        for number in range(SLOW):
            plain = socket.create_connection(("127.0.0.1", gateway.port), timeout=20)
            opened.enter_context(plain)
            plain.sendall((head + lengths[number % 2]).encode() + b"x" * 50_000)
        wait_until(lambda: open_requests(gateway) >= SLOW)
        time.sleep(SETTLE_S)  # what they hold must not be seen too early
        assert resident(gateway.pid) - rest < GROWTH_MAX
        s3.put_object(Bucket="slow", Key="another", Body=b"y" * 3 * MIB)
    wait_until(lambda: open_requests(gateway) == 0)
    assert [one["Key"] for one in s3.list_objects_v2(Bucket="slow")["Contents"]] == ["another"]


def open_requests(gateway: RunningGateway) -> float:
    url = f"http://127.0.0.1:{gateway.metrics_port}/metrics"
    with urllib.request.urlopen(url, timeout=20) as answer:
        found = re.search(rb"^warehouse_gateway_open_requests (\S+)$", answer.read(), re.MULTILINE)
    assert found is not None
    return float(found[1])


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


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
