"""Presigned URLs of a real store, for any HTTP client."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trio

import warehouse
from harness import RunningStore
from url_kit import fetch
from warehouse.errors import BadMetadata

CHUNK, COUNT = 64 * 1024, 240


@pytest.mark.timeout(300)
def test_an_object_of_many_chunks_on_three_disks_has_a_short_url_and_comes_whole(tmp_path: Path) -> None:
    data = os.urandom(CHUNK) * COUNT + b"end"

    async def pieces() -> AsyncIterator[bytes]:  # of unknown length, as from a pipe
        for start in range(0, len(data), 1_000_003):
            yield data[start : start + 1_000_003]

    async def put(profile: Path, key: str) -> tuple[str, str]:
        async with warehouse.connect(profile) as client:
            if key == "first":
                await client.create_bucket("films")
            bucket = client.bucket("films")
            await bucket.put(key, pieces(), content_type="video/mp4")
            assert await bucket.get(key) == data  # through read grants that name its upload
            shown = {"disposition": "inline", "file_name": "a.mp4", "cache_control": "public"}
            return await bucket.presign_get(key), await bucket.presign_get(key, once=True, **shown)  # type: ignore[arg-type]

    async def replace(profile: Path) -> None:
        async with warehouse.connect(profile) as client:
            await client.bucket("films").put("first", b"another version")

    env = {"WAREHOUSE_STORE_CHUNK_SIZE": "64KiB"}
    with RunningStore(tmp_path / "store", volumes=3, env=env) as store:
        url, once = trio.run(put, store.profile, "first")
        assert len(url) < 2048
        assert fetch(once, "HEAD")[0] == 200
        status, headers, body = fetch(once)
        assert (status, body == data, headers["Cache-Control"]) == (200, True, "public")
        assert headers["Content-Disposition"] == "inline; filename*=UTF-8''a.mp4"
        assert fetch(once)[0] == fetch(once, Range="bytes=0-1")[0] == 410
        status, headers, body = fetch(url)
        assert (status, body == data, headers["Content-Type"]) == (200, True, "video/mp4")
        etag, stored_at = headers["ETag"], headers["Last-Modified"]
        assert int(etag.strip('"').rpartition("-")[2]) >= COUNT
        for start, end in (
            (0, 0),
            (CHUNK - 1, CHUNK),
            (5 * CHUNK + 3, 9 * CHUNK),
            (len(data) - 4, len(data) - 1),
        ):
            status, headers, body = fetch(url, Range=f"bytes={start}-{end}", If_Range=etag)
            assert (status, body) == (206, data[start : end + 1])
        assert fetch(url, "HEAD")[1]["Content-Length"] == str(len(data))
        assert fetch(url, If_None_Match=f"W/{etag}")[0] == 304
        assert fetch(url, If_Modified_Since=stored_at)[0] == 304
        assert fetch(url, If_Match='"1-1-00000000"', Range="bytes=5-")[0] == 412

        trio.run(replace, store.profile)
        deadline = time.monotonic() + 30
        while fetch(url, Range="bytes=0-9")[0] != 404:  # its tombstone is on the way
            assert time.monotonic() < deadline
            time.sleep(0.02)
        status, _, body = fetch(url, Range=f"bytes={3 * CHUNK}-")
        assert status == 404, "never bytes of another version, or of half a one"
        assert "replaced" in json.loads(body)["message"]


def test_a_url_may_say_another_type_than_the_object_has(tmp_path: Path) -> None:
    async def urls(profile: Path) -> dict[int, str]:
        async with warehouse.connect(profile) as client:
            await client.create_bucket("b")
            bucket = client.bucket("b")
            for count in (1, 3, 20):  # chunks: in the token's needle, named by it, asked for
                await bucket.put(str(count), b"x" * CHUNK * count, content_type="text/plain")
            with pytest.raises(BadMetadata):
                await bucket.presign_get("1", content_type="a\r\nb: c")
            return {
                count: await bucket.presign_get(str(count), content_type="text/x-odd") for count in (1, 3, 20)
            }

    with RunningStore(tmp_path / "store", env={"WAREHOUSE_STORE_CHUNK_SIZE": "64KiB"}) as store:
        for count, url in trio.run(urls, store.profile).items():
            for method in ("GET", "HEAD"):
                status, headers, body = fetch(url, method)
                assert (status, headers["Content-Type"]) == (200, "text/x-odd"), count
                assert len(body) == (CHUNK * count if method == "GET" else 0)


@pytest.mark.timeout(300)
def test_a_flood_of_silent_strangers_keeps_no_client_out(tmp_path: Path) -> None:
    async def put_and_get(profile: Path) -> None:
        async with warehouse.connect(profile) as client:
            bucket = client.bucket("b")
            await bucket.put("y", b"hello")
            assert await bucket.get("y") == b"hello"

    async def make_bucket(profile: Path) -> str:
        async with warehouse.connect(profile) as client:
            await client.create_bucket("b")
            await client.bucket("b").put("x", b"hello")
            return await client.bucket("b").presign_get("x")

    with RunningStore(tmp_path / "store") as store:
        url = trio.run(make_bucket, store.profile)
        parts = urlsplit(url)
        address = (str(parts.hostname), int(parts.port or 0))
        held = [socket.create_connection(address) for _ in range(1500)]
        try:
            for _ in range(3):
                started = time.monotonic()
                trio.run(put_and_get, store.profile)
                assert fetch(url)[0] == 200
                assert time.monotonic() - started < 9.0, "silence times out after 10 s"
                held += [socket.create_connection(address) for _ in range(200)]
        finally:
            for connection in held:
                connection.close()
        lines = store.log.read_text().splitlines()
        assert sum("to make room" in line for line in lines) == 1, "one line a minute"
