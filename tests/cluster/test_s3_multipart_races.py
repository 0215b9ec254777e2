"""Uploads in parts that race, and uploads in parts while processes are killed.

One of many that complete an upload of the same key under a condition wins, whichever gateway they talk to.
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

pytestmark = pytest.mark.long  # a complete run is bounded, and all of these take minutes of two cores

MIB = 1024 * 1024
WRITERS = 64
UPLOADERS = 3
GIVE_UP_S = 60.0
BUCKET = "races"
MANY_CONNECTIONS = {"max_pool_connections": WRITERS}


def code_of(error: ClientError) -> str:
    return str(error.response["Error"]["Code"])


# --- one winner -----------------------------------------------------------------------------------


@pytest.mark.timeout(300)
def test_one_of_many_completions_wins(tmp_path: Path) -> None:
    completion_rounds(tmp_path, rounds=1)


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
def test_one_of_many_completions_wins_a_thousand_times(tmp_path: Path) -> None:
    completion_rounds(tmp_path, rounds=1000)


def completion_rounds(folder: Path, *, rounds: int) -> None:
    (folder / "second").mkdir()
    with (
        RunningStore(folder / "store", volumes=1) as store,
        RunningGateway(store, folder) as one,
        RunningGateway(store, folder / "second") as other,
        root_client(one, **MANY_CONNECTIONS) as first,
        root_client(other, **MANY_CONNECTIONS) as second,
        ThreadPoolExecutor(WRITERS) as threads,
    ):
        first.create_bucket(Bucket=BUCKET)
        etag: str | None = None
        for number in range(rounds):
            etag = completion_round(threads, [first, second], number, etag)


def completion_round(threads: ThreadPoolExecutor, clients: list[Any], number: int, etag: str | None) -> str:
    """All writers complete an upload of the same key; returns the ETag of the winner's object."""
    where = {"Bucket": BUCKET, "Key": "wanted"}
    condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
    together = threading.Barrier(WRITERS)

    def write(writer: int) -> tuple[str, bytes] | None:
        client, data = clients[writer % len(clients)], b"round %d, writer %d" % (number, writer)
        upload_id = client.create_multipart_upload(**where)["UploadId"]
        part = client.upload_part(**where, UploadId=upload_id, PartNumber=1, Body=data)
        listed = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        together.wait(60)
        try:
            done = client.complete_multipart_upload(
                **where, UploadId=upload_id, MultipartUpload=listed, **condition
            )
        except ClientError as error:
            if code_of(error) != "PreconditionFailed":
                raise
            client.abort_multipart_upload(**where, UploadId=upload_id)
            return None
        return done["ETag"], data

    winners = [won for won in threads.map(write, range(WRITERS)) if won is not None]
    assert len(winners) == 1, f"round {number} has {len(winners)} winners"
    [(won, data)] = winners
    got = clients[1].get_object(**where)
    assert (got["ETag"], got["Body"].read()) == (won, data)
    assert "Uploads" not in clients[0].list_multipart_uploads(Bucket=BUCKET)
    return won


# --- kills ----------------------------------------------------------------------------------------


@pytest.mark.timeout(300)
def test_uploads_in_parts_survive_kills(tmp_path: Path) -> None:
    kill_rounds(tmp_path, rounds=2)


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
def test_uploads_in_parts_survive_three_hundred_kills(tmp_path: Path) -> None:
    kill_rounds(tmp_path, rounds=300)


def kill_rounds(folder: Path, *, rounds: int) -> None:
    seed = int(os.environ.get("WAREHOUSE_TEST_SEED", random.randrange(2**32)))
    print(f"WAREHOUSE_TEST_SEED={seed}")
    rng = random.Random(seed)
    with (
        RunningStore(folder / "store", volumes=1) as store,
        RunningGateway(store, folder) as gateway,
        root_client(gateway, read_timeout=20, **MANY_CONNECTIONS) as client,
    ):
        client.create_bucket(Bucket=BUCKET)
        alive = trio.run(needles_alive, store)
        uploaders = [Uploader(client, f"key-{number}", rng.random()) for number in range(UPLOADERS)]
        for number in range(rounds):
            victim = ("gateway", "disk-1", "master")[number % 3]
            kill_round(store, gateway, uploaders, rng, victim)
            for uploader in uploaders:
                uploader.verify()
        assert sum(uploader.acknowledged for uploader in uploaders) >= rounds, "this proves nothing"
        clear(client)
        trio.run(wait_alive, store, alive)


def kill_round(
    store: RunningStore, gateway: RunningGateway, uploaders: list[Uploader], rng: random.Random, victim: str
) -> None:
    """All uploaders work until somebody was killed in the middle, and a little longer."""
    stop = threading.Event()
    with ThreadPoolExecutor(len(uploaders)) as threads:
        works = [threads.submit(uploader.run, stop) for uploader in uploaders]
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


class Uploader:
    """Writes one key, upload after upload.

    Attributes:
        acknowledged: how many objects were.
    """

    def __init__(self, client: Any, key: str, seed: float) -> None:
        self.client = client
        self.where = {"Bucket": BUCKET, "Key": key}
        self.acknowledged = 0
        self._rng = random.Random(seed)
        self._stored: tuple[bytes, ...] = ()  # the parts of the object; none: there is no object

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            self._upload()

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
        self._stored = parts
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
        if not self._stored:
            return
        got = self._insist(lambda: self.client.get_object(**self.where))
        assert got["Body"].read() == b"".join(self._stored)
        digests = b"".join(hashlib.md5(part).digest() for part in self._stored)
        assert got["ETag"] == f'"{hashlib.md5(digests).hexdigest()}-{len(self._stored)}"'


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
    """Wait until no more needles than these are alive: the others get their tombstones a moment later."""
    found = -1
    with trio.move_on_after(40):
        async with warehouse.connect(store.profile) as client:
            while found != count:
                await trio.sleep(0.2)
                found = sum(disk.live_count for disk in (await client.status()).disks)
    assert found == count, f"{found} needles are alive, {count} should be"
