"""Puts, uploads in parts and deletions over S3 while processes are killed.

SIGKILL of a gateway, a volume actor or the master at random moments loses nothing that was acknowledged, shows
no half object, and leaves nothing behind: when all objects and uploads are deleted, no needle is alive.
"""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from botocore.exceptions import BotoCoreError, ClientError

import warehouse
from harness import RunningStore
from s3_kit import RunningGateway, root_client

MIB = 1024 * 1024
CLIENTS = 3
EXPIRES_S = 20.0  # uploads of killed gateways go then
SETTINGS = f"[store]\nupload_expires_s = {EXPIRES_S}\n"
GIVE_UP_S = 60.0
BUCKET = "kills"


def code_of(error: ClientError) -> str:
    return str(error.response["Error"]["Code"])


@pytest.mark.parametrize(  # a mark of the function would go before that of a parameter
    "rounds",
    [
        pytest.param(3, marks=pytest.mark.timeout(300)),
        pytest.param(300, marks=[pytest.mark.long, pytest.mark.timeout(4 * 3600)]),
    ],
)
def test_what_was_acknowledged_survives_kills(tmp_path: Path, rounds: int) -> None:
    seed = int(os.environ.get("WAREHOUSE_TEST_SEED", random.randrange(2**32)))
    print(f"WAREHOUSE_TEST_SEED={seed}")
    rng = random.Random(seed)
    with (
        RunningStore(tmp_path / "store", volumes=1, config=SETTINGS) as store,
        RunningGateway(store, tmp_path) as gateway,
        root_client(gateway, read_timeout=20) as client,
    ):
        client.create_bucket(Bucket=BUCKET)
        alive = trio.run(needles_alive, store)
        writers = [Writer(client, f"key-{number}", rng.random()) for number in range(CLIENTS)]
        for number in range(rounds):
            victim = ("gateway", "disk-1", "master")[number % 3]
            kill_round(store, gateway, writers, rng, victim)
            for writer in writers:
                writer.verify()
        assert sum(writer.acknowledged for writer in writers) >= rounds, "this proves nothing"
        clear(client)
        trio.run(wait_alive, store, alive)


def kill_round(
    store: RunningStore, gateway: RunningGateway, writers: list[Writer], rng: random.Random, victim: str
) -> None:
    """All of them write until somebody was killed in the middle, and a little longer."""
    stop = threading.Event()
    with ThreadPoolExecutor(len(writers)) as threads:
        works = [threads.submit(writer.run, stop) for writer in writers]
        try:
            time.sleep(rng.uniform(0.05, 1.5))
            if victim == "gateway":
                gateway.stop(9)
                gateway.start()
            elif victim in store.pids():
                store.kill_actor(victim)
            time.sleep(rng.uniform(0.3, 1.0))
        finally:
            stop.set()
        for work in works:
            work.result()


class Writer:
    """Writes one key, again and again.

    Attributes:
        acknowledged: how many changes were.
    """

    def __init__(self, client: Any, key: str, seed: float) -> None:
        self.client = client
        self.where = {"Bucket": BUCKET, "Key": key}
        self.acknowledged = 0
        self._rng = random.Random(seed)
        self._stored: tuple[bytes, ...] = ()  # the parts of the object; none: there is no object
        self._is_in_parts = False

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            change = self._rng.choice([self._upload, self._upload, self._put, self._put, self._delete])
            change()

    def _put(self) -> None:
        data = self._rng.randbytes(self._rng.choice([1, 4096, 200_000, 2 * MIB]))
        self._insist(lambda: self.client.put_object(**self.where, Body=data))
        self._stored, self._is_in_parts = (data,), False
        self.acknowledged += 1

    def _delete(self) -> None:
        self._insist(lambda: self.client.delete_object(**self.where))
        self._stored = ()
        self.acknowledged += 1

    def _upload(self) -> None:
        upload_id = self._insist(lambda: self.client.create_multipart_upload(**self.where)["UploadId"])
        sizes = [5 * MIB, 100] if self._rng.random() < 0.5 else [self._rng.randrange(1, 200_000)]
        parts = tuple(self._rng.randbytes(size) for size in sizes)
        listed = []
        for number, data in enumerate(parts, 1):
            named = {**self.where, "UploadId": upload_id, "PartNumber": number}
            send = partial(self.client.upload_part, **named, Body=data)
            for _ in range(self._rng.choice([1, 1, 2])):
                sent = self._insist(send)
            assert sent["ETag"] == f'"{hashlib.md5(data).hexdigest()}"'
            listed.append({"PartNumber": number, "ETag": sent["ETag"]})
        if self._rng.random() < 0.2:
            self._insist(
                lambda: self.client.abort_multipart_upload(**self.where, UploadId=upload_id),
                fine="NoSuchUpload",  # the answer of the first time was lost
            )
            return
        self._insist(
            lambda: self.client.complete_multipart_upload(
                **self.where, UploadId=upload_id, MultipartUpload={"Parts": listed}
            )
        )
        self._stored, self._is_in_parts = parts, True
        self.acknowledged += 1

    def _insist(self, ask: Callable[[], Any], fine: str = "") -> Any:
        """Ask until it is answered, as clients do.  A refusal fails the test: nothing here is wrong."""
        give_up = time.monotonic() + GIVE_UP_S
        while True:
            try:
                return ask()
            except ClientError as error:
                if fine and code_of(error) == fine:
                    return None
                if error.response["ResponseMetadata"]["HTTPStatusCode"] < 500 or time.monotonic() > give_up:
                    raise
            except BotoCoreError:
                if time.monotonic() > give_up:
                    raise
            time.sleep(0.05)

    def verify(self) -> None:
        got = self._insist(lambda: self.client.get_object(**self.where), fine="NoSuchKey")
        if not self._stored:
            assert got is None
            return
        assert got["Body"].read() == b"".join(self._stored)
        digests = [hashlib.md5(part).digest() for part in self._stored]
        etag = f"{hashlib.md5(b''.join(digests)).hexdigest()}-{len(digests)}"
        assert got["ETag"] == f'"{etag if self._is_in_parts else digests[0].hex()}"'


def clear(client: Any) -> None:
    """Abort what killed gateways have left open, and delete all objects."""
    for upload in client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []):
        client.abort_multipart_upload(Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])
    for listed in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        client.delete_object(Bucket=BUCKET, Key=listed["Key"])


async def needles_alive(store: RunningStore) -> int:
    async with warehouse.connect(store.profile) as client:
        return sum(disk.live_count for disk in (await client.status()).disks)


async def wait_alive(store: RunningStore, count: int) -> None:
    """Wait until no more needles than these are alive: the others get their tombstones a moment later, and those
    of puts that nobody ended when they have expired."""
    found = -1
    with trio.move_on_after(40 + 2 * EXPIRES_S):
        async with warehouse.connect(store.profile) as client:
            while found != count:
                await trio.sleep(0.2)
                found = sum(disk.live_count for disk in (await client.status()).disks)
    assert found == count, f"{found} needles are alive, {count} should be"
