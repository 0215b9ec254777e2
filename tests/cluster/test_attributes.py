"""Objects with attributes at a real store: put, changed, signed for, overwritten, and nothing left behind."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
import trio

import warehouse
from harness import RunningStore
from url_kit import fetch
from warehouse.transport.messages.attributes import ObjectAttributes, decode_attributes

CHUNK = 1024 * 1024 + 4096  # what is larger than a small put is one chunk, up to here
SIZES = {"small": 5, "one-chunk": 1024 * 1024 + 1, "many-chunks": 5 * CHUNK + 7}
TAGS = (("colour", "blue"),)


def attributes_of(data: bytes) -> ObjectAttributes:
    md5 = hashlib.md5(data, usedforsecurity=False).digest()
    return ObjectAttributes(md5=md5, headers={"cache-control": b"no-store"})


def counts(store: RunningStore) -> dict[str, int]:
    tables = ("objects", "chunks", "parts", "amendments", "outbox")
    with closing(sqlite3.connect(f"file:{store.data / 'master/catalog.sqlite3'}?mode=ro", uri=True)) as found:
        return {name: found.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables}


@pytest.mark.timeout(120)
def test_attributes_are_kept_changed_and_gone_with_their_object(tmp_path: Path) -> None:
    content = {key: os.urandom(size) for key, size in SIZES.items()}

    async def put_and_amend(profile: Path) -> dict[str, str]:
        urls = {}
        async with warehouse.connect(profile) as client:
            await client.create_bucket("photos")
            photos = client.bucket("photos")
            for key, data in content.items():
                attributes = attributes_of(data)
                written = await photos.put(key, data, metadata={"a": "b"}, attributes=attributes)
                assert written.etag == hashlib.md5(data).hexdigest()
                for tags in ((("old", ""),), TAGS):
                    info = await photos.chunks(key)
                    await photos.amend(info, msgspec.structs.replace(attributes, tags=tags))
                info = await photos.stat(key)
                assert (info.etag, info.metadata) == (written.etag, {"a": "b"})
                assert decode_attributes(info.attributes) == msgspec.structs.replace(attributes, tags=TAGS)
                assert await photos.get(key) == data
                urls[key] = await photos.presign_get(key)
        return urls

    async def delete(profile: Path) -> None:
        async with warehouse.connect(profile) as client:
            photos = client.bucket("photos")
            await photos.put("small", b"without attributes")
            assert (await photos.stat("small")).attributes == b""
            assert await photos.delete_many([*SIZES]) == [True] * len(SIZES)

    with RunningStore(tmp_path / "store", volumes=2, env={"WAREHOUSE_STORE_CHUNK_SIZE": str(CHUNK)}) as store:
        urls = trio.run(put_and_amend, store.profile)
        for key, url in urls.items():
            status, headers, body = fetch(url)
            assert (status, headers["ETag"]) == (200, f'"{hashlib.md5(content[key]).hexdigest()}"'), key
            assert body == content[key]
        assert counts(store) | {"outbox": 0} == {
            "objects": 3,
            "chunks": 2 + 7,  # each with its manifest
            "parts": 0,
            "amendments": 3,
            "outbox": 0,
        }
        trio.run(delete, store.profile)
        deadline = time.monotonic() + 30
        while any((left := counts(store)).values()) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not any(left.values()), "tombstones are written, and nothing is left"
