"""Limits of a key in a real store: held at every disk, told over HTTP, lifted at once, and a client just waits."""

from __future__ import annotations

import http.client
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trio

import warehouse
from harness import RunningStore
from warehouse.transport.messages import KeyLimits

REQUESTS_PER_S = 5.0
GETS = 15


def status_of(url: str) -> tuple[int, str | None]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    try:
        connection.request("GET", f"{parts.path}?{parts.query}")
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers["Retry-After"]
    finally:
        connection.close()


@pytest.mark.timeout(300)
def test_a_key_is_held_to_its_limits_and_no_other_is(tmp_path: Path) -> None:
    async def use(profile: Path) -> None:
        known = warehouse.Profile.load(profile)
        async with warehouse.connect(profile) as root:
            bucket = await root.create_bucket("photos")
            await bucket.put("cat", b"c" * 100)
            limits = KeyLimits(requests_per_s=REQUESTS_PER_S)
            key = await root.create_key("slow", preset="admin", limits=limits)
            slow = warehouse.Profile(
                master=known.master, server_key=known.server_key, key_id=key.key_id, secret=key.secret
            )
            async with warehouse.connect(slow) as client:
                await read_slowly(client.bucket("photos"))
                await write_slowly(client.bucket("photos"))
                url = await client.bucket("photos").presign_get("cat")
                own = await bucket.presign_get("cat")
                await trio.to_thread.run_sync(require_busy, url, own)
                await root.edit_key(key.key_id, limits=KeyLimits())
                with trio.fail_after(30):
                    while not await trio.to_thread.run_sync(is_free, url):
                        await trio.sleep(0.05)

    async def read_slowly(bucket: warehouse.Bucket) -> None:
        """The client waits as it is told, and gets everything."""
        began = time.monotonic()
        for _ in range(GETS):
            assert await bucket.get("cat") == b"c" * 100
        # The first second's worth comes at once.
        assert time.monotonic() - began > (GETS - REQUESTS_PER_S) / REQUESTS_PER_S * 0.9

    async def write_slowly(bucket: warehouse.Bucket) -> None:
        """Nothing is lost or stored twice because a put had to wait."""
        for number in range(8):
            await bucket.put(f"one/{number}", b"1")
        items = [warehouse.Put(f"many/{number}", b"2") for number in range(20)]
        assert [result.error async for result in bucket.put_many(items)] == [None] * 20
        await bucket.put("large", bytes(3 * 1024 * 1024))
        keys = [entry.key async for entry in bucket.list() if isinstance(entry, warehouse.ObjectInfo)]
        assert len(keys) == 1 + 8 + 20 + 1
        assert await bucket.get("large") == bytes(3 * 1024 * 1024)

    def require_busy(url: str, own: str) -> None:
        answers = [status_of(url) for _ in range(40)]
        statuses = {status for status, _ in answers}
        assert statuses == {200, 429}
        assert all(after == "1" for status, after in answers if status == 429)
        assert {status_of(own)[0] for _ in range(40)} == {200}

    def is_free(url: str) -> bool:
        return all(status_of(url)[0] == 200 for _ in range(40))

    with RunningStore(tmp_path / "store") as store:
        trio.run(use, store.profile)
