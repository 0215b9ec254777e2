"""Catalogs and disks that come from older copies: whoever is behind is refused and named, and nothing is lost."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

import warehouse
from harness import RunningStore
from warehouse.errors import BucketExists, CatalogBehind, NoSuchObject, StoreError, Unavailable

ENV = {"WAREHOUSE_STORE_DISK_RESERVE": "0"}


def content_of(name: str) -> bytes:
    return name.encode() * 100


async def put_all(store: RunningStore, names: list[str]) -> None:
    async with warehouse.connect(store.profile) as client:
        with contextlib.suppress(BucketExists):
            await client.create_bucket("b")
        for name in names:
            await client.bucket("b").put(name, content_of(name))


async def got_of(store: RunningStore, names: list[str]) -> dict[str, str]:
    """What a get of each gives: "ok", or the code of the error."""
    got = {}
    async with warehouse.connect(store.profile, timeout_s=30) as client:
        for name in names:
            try:
                got[name] = "ok" if await client.bucket("b").get(name) == content_of(name) else "wrong"
            except StoreError as error:
                got[name] = error.code
    return got


async def status_of(store: RunningStore) -> warehouse.Status:
    async with warehouse.connect(store.profile) as client:
        return await client.status()


def rebuild(store: RunningStore) -> None:
    command = [
        sys.executable,
        "-m",
        "warehouse.rescue.rebuild",
        "--data",
        str(store.data),
        "--replace",
        "--json",
    ]
    done = subprocess.run(command, env=store.env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def names(part: str, count: int = 20) -> list[str]:
    return [f"{part}/{number}" for number in range(count)]


@pytest.mark.parametrize("lost", ["folder", pytest.param("log", marks=pytest.mark.long)])
def test_an_older_catalog_takes_no_writes_buries_nothing_and_a_rebuild_brings_all_back(
    tmp_path: Path, lost: str
) -> None:
    store = RunningStore(tmp_path / "store", volumes=2, env=ENV)
    master = store.data / "master"
    with store:
        trio.run(put_all, store, names("old"))
        if lost == "log":  # the log of a store that is killed goes, and with it what is not in the file yet
            trio.run(put_all, store, names("newer"))
            pids = [store.pid, *store.pids().values()]
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            store.kill()
            (master / "catalog.sqlite3-wal").unlink()
            (master / "catalog.sqlite3-shm").unlink(missing_ok=True)
            if (master / "catalog.sqlite3").stat().st_size == 0:
                pytest.skip("nothing at all is left of this catalog")
        else:
            store.stop()
            shutil.copytree(master, tmp_path / "older")
            store.start()
            trio.run(put_all, store, names("newer"))
            store.stop()
            shutil.rmtree(master)
            shutil.copytree(tmp_path / "older", master)
        store.start()
        status = trio.run(status_of, store)
        assert {trouble.name for trouble in status.troubles} == {"catalog_behind"}
        assert status.health != "ok"
        assert "rebuild --replace" in status.troubles[0].message
        if lost == "folder":
            assert set(trio.run(got_of, store, names("old")).values()) == {"ok"}

        async def try_to_change() -> None:
            async with warehouse.connect(store.profile, timeout_s=8) as client:
                bucket = client.bucket("b")
                for change in (
                    lambda: bucket.put("evennewer", b"x"),
                    lambda: bucket.put("old/1", b"x"),
                    lambda: bucket.delete("old/1"),
                    lambda: client.create_bucket("another"),
                    lambda: bucket.put("large", b"x" * 3_000_000),
                ):
                    with pytest.raises(StoreError) as caught:
                        await change()
                    assert isinstance(caught.value, Unavailable) or lost == "log"

        trio.run(try_to_change)
        store.stop()
        rebuild(store)
        store.start()
        assert set(trio.run(got_of, store, names("old") + names("newer")).values()) == {"ok"}
        assert trio.run(status_of, store).troubles == []
        trio.run(put_all, store, ["evennewer"])


def test_an_operator_may_go_on_with_an_older_catalog_and_what_it_does_not_know_is_kept(
    tmp_path: Path,
) -> None:
    store = RunningStore(tmp_path / "store", env=ENV)
    master = store.data / "master"

    async def go_on() -> None:
        async with warehouse.connect(store.profile) as client:
            bucket = client.bucket("b")
            # What the older catalog lacks may well be on the disk, so nobody is told that it is not there.
            for question in (bucket.get, bucket.stat, bucket.presign_get):
                with pytest.raises(CatalogBehind):
                    await question("newer/0")
            with pytest.raises(CatalogBehind):
                await client.bucket("newer").stat("a")
            results = [result async for result in bucket.get_many(["old/0", "newer/0"])]
            assert [result.error and result.error.code for result in results] == [None, "catalog_behind"]
            with pytest.raises(StoreError) as caught:
                await client.drop_orphans()
            assert caught.value.code == "catalog_behind"
            await client.keep_orphans()
            with trio.fail_after(60):
                while (status := await client.status()).troubles or not status.disks[0].is_online:
                    await trio.sleep(0.1)
            with pytest.raises(NoSuchObject):
                await client.bucket("b").get("newer/0")

    with store:
        trio.run(put_all, store, names("old", 3))
        store.stop()
        shutil.copytree(master, tmp_path / "older")
        store.start()
        trio.run(put_all, store, names("newer", 3))
        store.stop()
        shutil.rmtree(master)
        shutil.copytree(tmp_path / "older", master)
        store.start()
        trio.run(go_on)
        trio.run(put_all, store, names("after", 3))
        store.stop()
        rebuild(store)
        store.start()
        everything = names("old", 3) + names("newer", 3) + names("after", 3)
        assert set(trio.run(got_of, store, everything).values()) == {"ok"}


def rebind(disk: Path) -> None:
    """A block-wise copy has the inode of its original, as far as it says so itself."""
    path = disk / "disk.json"
    known = json.loads(path.read_text())
    known["inode"] = path.stat().st_ino
    with path.open("r+") as file:
        file.truncate()
        json.dump(known, file)


def actor(store: RunningStore, disk: Path, *flags: str) -> subprocess.Popen[bytes]:
    join = store.data / "master" / "join.toml"
    command = [
        sys.executable,
        "-m",
        "warehouse.actors.volume",
        "--disk",
        str(disk),
        "--join",
        str(join),
        "--port",
        "0",
    ]
    return subprocess.Popen([*command, *flags], env=store.env, stderr=subprocess.PIPE)


def test_a_copy_that_is_behind_is_refused_and_named_and_can_be_adopted_when_it_is_all_there_is(
    tmp_path: Path,
) -> None:
    store = RunningStore(tmp_path / "store", env=ENV)
    disk, copy = store.data / "disk-1", tmp_path / "snapshot"

    async def trouble() -> warehouse.Status:
        async with warehouse.connect(store.profile) as client:
            with trio.fail_after(30):
                while not (status := await client.status()).troubles:
                    await trio.sleep(0.1)
                return status

    with store:
        trio.run(put_all, store, names("old", 5))
        store.stop()
        shutil.copytree(disk, copy)
        store.start()
        trio.run(put_all, store, names("newer", 5))
        # The copy beside the original: whichever starts last, the one that is behind is refused.
        rebind(copy)
        twin = actor(store, copy)
        _, said = twin.communicate(timeout=120)
        assert twin.returncode != 0
        assert b"adopt" in said
        status = trio.run(trouble)
        assert [one.name for one in status.troubles] == ["disk_behind"]
        assert status.disks[0].is_online
        store.kill_actor("disk-1")
        assert set(trio.run(got_of, store, names("old", 5) + names("newer", 5)).values()) == {"ok"}
        # The copy instead of the original, which is lost: an operator says that it is the disk now.
        store.stop()
        shutil.rmtree(disk)
        shutil.copytree(copy, disk)
        rebind(disk)
        os.sync()
        adopted = actor_with_master(store, disk)
        assert adopted == 0
        store.start()
        got = trio.run(got_of, store, names("old", 5) + names("newer", 5))
        assert {got[name] for name in names("old", 5)} == {"ok"}
        assert {got[name] for name in names("newer", 5)} == {"needle_missing"}


def actor_with_master(store: RunningStore, disk: Path) -> int:
    """Start a master and this disk's actor with --adopt until it is registered, and stop both."""
    command = [sys.executable, "-m", "warehouse.actors.master", "--data", str(store.data / "master")]
    ports = ["--port", str(store.port_base), "--http-port", str(store.port_base + 1)]
    master = subprocess.Popen([*command, *ports], env=store.env, stderr=subprocess.DEVNULL)
    try:
        process = actor(store, disk, "--adopt", "--json")
        assert process.stderr is not None
        for line in process.stderr:
            if b"registered with the master" in line:
                break
        process.terminate()
        process.communicate(timeout=120)  # what it says as it ends is read: a closed pipe would be a failure
        return process.returncode
    finally:
        master.terminate()
        master.wait(30)
