"""The drill: a real store goes on working while every secret of it is replaced, and so does its next start."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

import warehouse
from harness import RunningStore, environment
from warehouse import Store
from warehouse.conf.join import Join
from warehouse.conf.profile import Profile

SETTINGS = """
[store]
volume_size = "64MiB"
chunk_size = "1MiB"
disk_reserve = 0
[tls]
mode = "on"
"""
DRILL = [
    ("rotate", "access"),
    ("rotate", "access", "--now"),
    ("rotate", "data"),
    ("rotate", "data", "--now"),
    ("keys", "rotate-seal"),
    ("rotate", "authority"),
    ("rotate", "authority", "--now"),
    ("rotate", "curve", "--overlap", "4s"),
]


def command(store: RunningStore, *words: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "warehouse", *words, "--profile", str(store.profile), "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment(),
    )
    assert done.returncode == 0, f"{words}: {done.stderr}"
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@asynccontextmanager
async def use(client: Store) -> AsyncIterator[list[float]]:
    """Put and get all the time; no request may fail.  Yields the moments of those that were done."""
    done: list[float] = []
    bucket = client.bucket("photos")

    async def work() -> None:
        for number in range(1_000_000):
            key = f"{number % 50}"
            await bucket.put(key, key.encode())
            assert await bucket.get(key) == key.encode()
            done.append(time.monotonic())
            await trio.sleep(0.01)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        yield done
        nursery.cancel_scope.cancel()


async def works_on(done: list[float], after: str = "the start") -> None:
    """Ten more requests are answered."""
    count = len(done)
    with trio.move_on_after(40):
        while len(done) < count + 10:
            await trio.sleep(0.02)
    assert len(done) >= count + 10, f"nothing works any more after {after}"


@pytest.mark.timeout(300)
async def test_a_store_goes_on_working_while_all_its_secrets_are_replaced(tmp_path: Path) -> None:
    store = RunningStore(tmp_path / "store", config=SETTINGS)
    join = store.data / "master" / "join.toml"
    with store:
        before = Profile.load(store.profile)
        async with warehouse.connect(store.profile) as client:
            await client.create_bucket("photos")
            async with use(client) as done:
                await works_on(done)
                for words in DRILL:
                    await trio.to_thread.run_sync(partial(command, store, *words))
                    await works_on(done, str(words))
                with trio.fail_after(90):
                    # The library has written down what was announced; or, on a slow machine, the switch is over.
                    while (known := Profile.load(store.profile).server_key) == before.server_key:
                        await trio.sleep(0.01)
                    following = known.split()[-1]
                    for load in (Profile.load, Join.load):
                        path = store.profile if load == Profile.load else join
                        while load(path).server_key != following:
                            await trio.sleep(0.1)
                await works_on(done, "the switch of the server key")
        after = Profile.load(store.profile)
        assert (after.key_id, after.secret) == (before.key_id, before.secret)
    with RunningStore(store.data, config=SETTINGS) as again:
        async with warehouse.connect(again.profile) as client:
            assert await client.bucket("photos").get("1") == b"1"


@pytest.mark.timeout(300)
async def test_what_a_void_secret_signed_opens_nothing(tmp_path: Path) -> None:
    """With an overlap a URL lives on; at once it is dead, and the next one works.

    Of a server key that is replaced at once nobody is told over a connection that the old one made.
    """
    stale = tmp_path / "stale.toml"
    with RunningStore(tmp_path / "store", config=SETTINGS.partition("[tls]")[0]) as store:
        Profile.load(store.profile).save(stale)
        async with warehouse.connect(store.profile) as client:
            bucket = await client.create_bucket("photos")
            await bucket.put("cat", b"meow")
            url = await bucket.presign_get("cat")
            command(store, "rotate", "data", "--overlap", "1h")
            assert await fetch(url) == (200, b"meow")
            later = await bucket.presign_get("cat")
            command(store, "rotate", "data", "--now")
            for void in (url, later):
                status, body = await fetch(void)
                assert status == 401
                assert b"meow" not in body
            assert await fetch(await bucket.presign_get("cat")) == (200, b"meow")
            command(store, "rotate", "curve", "--now")
            with trio.fail_after(60), pytest.raises(warehouse.errors.LinkDown):
                while True:  # the switch comes a moment after the answer
                    async with warehouse.connect(stale, timeout_s=1):
                        await trio.sleep(0.05)
            # Of this client the file was corrected, which it reads again.
            await bucket.put("cat", b"purr")
            assert await bucket.get("cat") == b"purr"


async def fetch(url: str) -> tuple[int, bytes]:
    done = await trio.run_process(["curl", "-s", "-w", "%{http_code}", url], capture_stdout=True, check=False)
    return int(done.stdout[-3:]), done.stdout[:-3]
