"""One request may be long, or ask for much: a gateway's memory does not grow with it, and every byte is right."""

from __future__ import annotations

import hashlib
import http.client
import random
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import trio

import warehouse
from memory_watch import Watched
from s3_bodies import ChunkSigner, signing_key
from s3_kit import REGION, RunningGateway, client_of, root_client, s3_store
from s3_wire import Wire
from warehouse.conf.profile import Profile
from warehouse.s3.chunked import Chain

MIB = 1024 * 1024
GROWTH_MAX = 60 * 1000 * 1000
BUCKET = "long"
PART = 5 * MIB  # what all but the last have at least
AT_ONCE = 8
CHUNKED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with s3_store(tmp_path_factory.mktemp("s3")) as gateway:
        yield gateway


@pytest.fixture
def s3(gateway: RunningGateway) -> Iterator[Any]:
    with root_client(gateway, read_timeout=120) as client:
        client.create_bucket(Bucket=BUCKET)
        yield client


def chain_of(head: bytes, gateway: RunningGateway) -> Chain:
    """Where the signatures of the chunks begin: with that of the head."""
    signature = re.search(rb"Signature=([0-9a-f]{64})", head)
    signed_at = re.search(rb"X-Amz-Date: (\S+)", head, re.IGNORECASE)
    assert signature is not None
    assert signed_at is not None
    date = signed_at[1][:8]
    key = signing_key(date.decode(), REGION, Profile.load(gateway.store.profile).secret)
    return Chain(key, signed_at[1], b"%b/%b/s3/aws4_request" % (date, REGION.encode()), signature[1])


def put_in_one_chunk(gateway: RunningGateway, key: str, content: bytes) -> int:
    """Put an object whose body is one signed chunk; returns the status."""
    frame = "{:x};chunk-signature={}\r\n"
    empty = len(frame.format(0, "0" * 64))
    length = len(frame.format(len(content), "0" * 64)) + len(content) + 2 + empty + 2
    headers = {
        "Content-Encoding": "aws-chunked",
        "X-Amz-Decoded-Content-Length": str(len(content)),
        "Content-Length": str(length),
    }
    head = Wire(gateway).head("PUT", f"/{BUCKET}/{key}", headers, payload=CHUNKED)
    signer = ChunkSigner(chain_of(head, gateway))
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=120) as connection:
        connection.sendall(head + frame.format(len(content), signer.chunk(content)).encode())
        connection.sendall(content)
        connection.sendall(b"\r\n" + frame.format(0, signer.chunk(b"")).encode() + b"\r\n")
        answer = http.client.HTTPResponse(connection, method="PUT")
        answer.begin()
        answer.read()
        return answer.status


@pytest.mark.timeout(600)
@pytest.mark.parametrize("size", [128 * MIB, pytest.param(1024 * MIB, marks=pytest.mark.long)])
def test_a_chunk_of_any_length_takes_bounded_memory(gateway: RunningGateway, s3: Any, size: int) -> None:
    content = random.Random(1).randbytes(size)
    assert put_in_one_chunk(gateway, "first", content[: 8 * MIB]) == 200  # what a first upload loads stays
    with Watched(gateway.pid) as memory:
        assert put_in_one_chunk(gateway, "chunk", content) == 200
    assert memory.growth < GROWTH_MAX, str(memory)
    got = hashlib.sha256()
    for piece in s3.get_object(Bucket=BUCKET, Key="chunk")["Body"].iter_chunks(MIB):
        got.update(piece)
    assert got.digest() == hashlib.sha256(content).digest()


def part_of(number: int) -> bytes:
    return number.to_bytes(4, "big") * (PART // 4)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("count", [24, pytest.param(10_000, marks=pytest.mark.long)])
def test_an_object_of_many_parts_takes_bounded_memory(gateway: RunningGateway, s3: Any, count: int) -> None:
    where = {"Bucket": BUCKET, "Key": f"parts-{count}"}
    s3.put_object(Bucket=BUCKET, Key="first", Body=part_of(0))
    profile = Profile.load(gateway.store.profile)
    numbers = range(1, count + 1)
    with Watched(gateway.pid) as memory:
        upload = {**where, "UploadId": s3.create_multipart_upload(**where)["UploadId"]}

        def send(first: int) -> list[tuple[int, str]]:
            client = client_of(gateway.url, profile.key_id, profile.secret)
            try:
                return [
                    (number, client.upload_part(**upload, PartNumber=number, Body=part_of(number))["ETag"])
                    for number in numbers[first::AT_ONCE]
                ]
            finally:
                client.close()

        with ThreadPoolExecutor(AT_ONCE) as threads:
            etags = dict(pair for pairs in threads.map(send, range(AT_ONCE)) for pair in pairs)
        pages = s3.get_paginator("list_parts").paginate(**upload)
        assert [(part["PartNumber"], part["ETag"]) for page in pages for part in page["Parts"]] == [
            (number, etags[number]) for number in numbers
        ]
        parts = [{"PartNumber": number, "ETag": etags[number]} for number in numbers]
        written = s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        body = s3.get_object(**where)["Body"]
        for number in numbers:
            assert body.read(PART) == part_of(number)
        assert body.read() == b""
        last = s3.get_object(**where, PartNumber=count)
    assert memory.growth < GROWTH_MAX, str(memory)
    digests = b"".join(hashlib.md5(part_of(number)).digest() for number in numbers)
    assert written["ETag"] == f'"{hashlib.md5(digests).hexdigest()}-{count}"'
    assert (last["Body"].read(), last["PartsCount"]) == (part_of(count), count)


def test_deletes_of_a_thousand_keys_at_once_take_bounded_memory(gateway: RunningGateway, s3: Any) -> None:
    keys = [[f"{number}/{'k' * 900}/{index:04}" for index in range(1000)] for number in range(AT_ONCE)]

    async def fill() -> None:
        async with warehouse.connect(gateway.store.profile) as store:
            outcomes = store.bucket(BUCKET).put_many((key, b"x") for some in keys for key in some)
            assert [outcome async for outcome in outcomes if outcome.error] == []

    def delete(some: list[str]) -> int:
        answer = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": key} for key in some]})
        assert "Errors" not in answer
        return len(answer["Deleted"])

    trio.run(fill)
    s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": "none"}]})
    with Watched(gateway.pid) as memory, ThreadPoolExecutor(AT_ONCE) as threads:
        assert list(threads.map(delete, keys)) == [1000] * AT_ONCE
    assert memory.growth < GROWTH_MAX, str(memory)
    left = [one["Key"] for one in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]
    assert not any("kkk" in key for key in left)
