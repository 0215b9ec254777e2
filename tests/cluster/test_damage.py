"""Damaged files, full disks, read-only disks: clear errors, nothing else lost, never a 404 for damage."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

import warehouse
from harness import RunningStore
from warehouse.errors import NoSuchObject, StoreError

BODY = os.urandom(5000)


async def fill(store: RunningStore, names: list[str]) -> None:
    async with warehouse.connect(store.profile) as client:
        await client.create_bucket("b")
        bucket = client.bucket("b")
        for name in names:
            await bucket.put(name, name.encode() + BODY)


async def outcomes(store: RunningStore, names: list[str]) -> dict[str, str]:
    """What a get of each name gives: "ok", "wrong", or the code of the error."""
    found = {}
    async with warehouse.connect(store.profile) as client:
        bucket = client.bucket("b")
        for name in names:
            try:
                content = await bucket.get(name)
                found[name] = "ok" if content == name.encode() + BODY else "wrong"
            except StoreError as error:
                found[name] = error.code
    return found


def volume_file(store: RunningStore, suffix: str) -> Path:
    (path,) = (store.data / "disk-1" / "volumes").rglob(f"*{suffix}")
    return path


def flip(path: Path, position: int) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 0x55]))


NAMES = ["first", "second", "third"]


def test_a_damaged_needle_is_an_error_and_its_neighbours_are_served(tmp_path: Path) -> None:
    with RunningStore(tmp_path / "store") as store:
        trio.run(fill, store, NAMES)
        content = volume_file(store, ".vol").read_bytes()
        flip(volume_file(store, ".vol"), content.index(b"second" + BODY) + 100)
        assert trio.run(outcomes, store, NAMES) == {"first": "ok", "second": "needle_corrupt", "third": "ok"}

        async def wait_for_report() -> None:
            async with warehouse.connect(store.profile) as client:
                with trio.fail_after(30):
                    while True:
                        status = await client.status()
                        found = status.health, status.disks[0].volumes[0].report.damaged_count
                        if found == ("degraded", 1):
                            return
                        await trio.sleep(0.1)

        trio.run(wait_for_report)


@pytest.mark.parametrize("where", ["header", "data", "footer"])
def test_damage_found_at_the_start_is_stepped_over_and_never_called_absent(
    tmp_path: Path, where: str
) -> None:
    store = RunningStore(tmp_path / "store")
    with store:
        trio.run(fill, store, NAMES)
    path = volume_file(store, ".vol")
    content = path.read_bytes()
    start = content.index(b"second" + BODY)
    flip(
        path, {"header": start - 60, "data": start + 100, "footer": start + len(b"second" + BODY) + 6}[where]
    )
    volume_file(store, ".idx").unlink()
    with RunningStore(tmp_path / "store", port_base=store.port_base) as again:
        found = trio.run(outcomes, again, NAMES)
    assert found["first"] == found["third"] == "ok"
    assert found["second"] in ("needle_corrupt", "needle_missing"), found


def test_a_lost_index_is_rebuilt(tmp_path: Path) -> None:
    store = RunningStore(tmp_path / "store")
    with store:
        trio.run(fill, store, NAMES)
    volume_file(store, ".idx").unlink()
    with RunningStore(tmp_path / "store", port_base=store.port_base) as again:
        assert set(trio.run(outcomes, again, NAMES).values()) == {"ok"}


def test_a_scribbled_index_is_rebuilt(tmp_path: Path) -> None:
    store = RunningStore(tmp_path / "store")
    with store:
        trio.run(fill, store, NAMES)
    index = volume_file(store, ".idx")
    index.write_bytes(os.urandom(index.stat().st_size))
    with RunningStore(tmp_path / "store", port_base=store.port_base) as again:
        assert set(trio.run(outcomes, again, NAMES).values()) == {"ok"}


def test_a_damaged_superblock_harms_no_other_volume_and_says_so(tmp_path: Path) -> None:
    store = RunningStore(tmp_path / "store", volumes=2)
    with store:
        trio.run(fill, store, [f"{number}" for number in range(40)])
    superblock = volume_file(store, ".vol")
    with superblock.open("r+b") as file:
        file.write(os.urandom(4096))
    (superblock.parent / "manifest").write_bytes(os.urandom(64))
    with RunningStore(tmp_path / "store", volumes=2, port_base=store.port_base) as again:
        found = trio.run(outcomes, again, [f"{number}" for number in range(40)])
    assert set(found.values()) <= {"ok", "volume_offline", "needle_missing", "superblock_corrupt"}, found
    assert list(found.values()).count("ok") >= 5


def test_a_damaged_catalog_is_refused_and_left_alone(tmp_path: Path) -> None:
    store = RunningStore(tmp_path / "store")
    with store:
        trio.run(fill, store, NAMES)
    catalog = store.data / "master" / "catalog.sqlite3"
    content = bytearray(catalog.read_bytes())
    content[0:64] = os.urandom(64)
    catalog.write_bytes(content)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "warehouse.actors.master",
            "--data",
            str(store.data / "master"),
            "--port",
            str(store.port_base),
        ],
        env=store.env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "catalog_corrupt" in done.stderr
    assert str(catalog) in done.stderr
    assert catalog.read_bytes() == content, "a damaged catalog is evidence: nothing may write to it"


def test_a_catalog_of_a_newer_release_is_refused_in_one_line(tmp_path: Path) -> None:
    import sqlite3

    store = RunningStore(tmp_path / "store")
    with store:
        trio.run(fill, store, NAMES)
    with contextlib.closing(sqlite3.connect(store.data / "master" / "catalog.sqlite3")) as database:
        database.execute("PRAGMA user_version = 999")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "warehouse.actors.master",
            "--data",
            str(store.data / "master"),
            "--port",
            str(store.port_base),
        ],
        env=store.env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "schema_newer" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_actor_on_the_same_disk_is_refused(tmp_path: Path) -> None:
    with RunningStore(tmp_path / "store") as store:
        command = [
            sys.executable,
            "-m",
            "warehouse.actors.volume",
            "--disk",
            str(store.data / "disk-1"),
            "--port",
            "0",
        ]
        command += ["--join", str(store.data / "master" / "join.toml")]
        done = subprocess.run(
            command, env=store.env, capture_output=True, text=True, timeout=120, check=False
        )
        assert (done.returncode, "disk_in_use" in done.stderr) == (1, True), done.stderr


def test_a_copied_disk_is_noticed(tmp_path: Path) -> None:
    store = RunningStore(tmp_path / "store")
    with store:
        trio.run(fill, store, NAMES)
    shutil.copytree(store.data / "disk-1", tmp_path / "copy")
    command = [
        sys.executable,
        "-m",
        "warehouse.actors.volume",
        "--disk",
        str(tmp_path / "copy"),
        "--port",
        "0",
    ]
    command += ["--join", str(store.data / "master" / "join.toml")]
    done = subprocess.run(command, env=store.env, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, "disk_mismatch" in done.stderr) == (1, True), done.stderr


def mount_tmpfs(folder: Path, size: str) -> bool:
    """Give a folder a small file system of its own; False where that is not allowed."""
    folder.mkdir(exist_ok=True)
    if shutil.which("mount") is None:
        return False
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def tmpfs(folder: Path, size: str) -> Iterator[Path]:
    if not mount_tmpfs(folder, size):
        pytest.skip("mounting a tmpfs is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_cluster_says_so_keeps_what_it_has_and_leaves_nothing_behind(tmp_path: Path) -> None:
    # Other tests fill and empty the disk meanwhile, so this one has a file system of its own.  Where it may not
    # mount one it tries again when somebody else took or gave the room.
    folder = tmp_path / "small"
    if mount_tmpfs(folder, "800m"):
        try:
            assert fills_up(folder)
        finally:
            subprocess.run(["umount", str(folder)], check=True)
        return
    for number in range(5):
        (folder / str(number)).mkdir()
        if fills_up(folder / str(number)):
            return
    pytest.fail("the room on this disk changes all the time")


def fills_up(folder: Path) -> bool:
    """Fill a store that has some MiB; False: it had another amount of room than was left to it."""
    config = '[store]\nvolume_size = "4MiB"\nchunk_size = "1MiB"\n'

    async def fill_up() -> tuple[list[str], str]:
        async with warehouse.connect(store.profile) as client:
            await client.create_bucket("b")
            bucket = client.bucket("b")
            stored: list[str] = []
            for number in range(4000):
                name = f"{number}"
                try:
                    await bucket.put(name, name.encode() + BODY * 20)
                except StoreError as error:
                    listed = [entry.key async for entry in bucket.list()]
                    assert sorted(listed) == sorted(stored), "a refused put left something behind"
                    return stored, error.code
                stored.append(name)
            return stored, "never full"

    # A disk reserve just under what is free leaves the store some MiB, as a nearly full disk would.  The
    # ballast of catalog and disk lies on the same file system, and is made while the store starts.
    free = shutil.disk_usage(folder).free
    config += f"disk_reserve = {free - 160 * 1024 * 1024}\n"
    with RunningStore(folder / "store", config=config) as store:
        stored, code = trio.run(fill_up)
        if code != "cluster_full" or len(stored) < 10:
            return False

        async def check() -> None:
            async with warehouse.connect(store.profile) as client:
                bucket = client.bucket("b")
                for name in stored:
                    assert await bucket.get(name) == name.encode() + BODY * 20
                with pytest.raises(StoreError) as refused:
                    await bucket.put("huge", bytes(80 * 1024 * 1024))
                assert refused.value.code == "cluster_full"
                with pytest.raises(NoSuchObject):
                    await bucket.stat("huge")
                assert (await client.status()).upload_count == 0

        trio.run(check)
    return True


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")


@pytest.mark.root
@needs_root
def test_a_disk_that_is_really_full_refuses_and_goes_on_when_there_is_room_again(tmp_path: Path) -> None:
    async def run(store: RunningStore, ballast: Path) -> None:
        async with warehouse.connect(store.profile) as client:
            await client.create_bucket("b")
            bucket = client.bucket("b")
            await bucket.put("before", BODY)
            # Somebody else fills the disk between two of our reports: the actor itself runs into ENOSPC.
            with ballast.open("wb") as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(65_536))
                    file.flush()
            with pytest.raises(StoreError) as refused, trio.fail_after(60):
                for number in range(50):
                    await bucket.put(f"full-{number}", BODY)
            assert refused.value.code in ("disk_full", "cluster_full"), refused.value
            assert await bucket.get("before") == BODY
            ballast.unlink()
            with trio.fail_after(30):
                while True:
                    try:
                        await bucket.put("after", BODY)
                        break
                    except StoreError:
                        await trio.sleep(0.2)
            assert await bucket.get("after") == BODY
            assert await bucket.get("before") == BODY

    with tmpfs(tmp_path / "mount", "40m") as mount:
        (mount / "disk-1").mkdir()
        (tmp_path / "store").mkdir()
        (tmp_path / "store" / "disk-1").symlink_to(mount / "disk-1")
        config = '[store]\ndisk_reserve = 0\nchunk_size = "1MiB"\n'
        with RunningStore(tmp_path / "store", config=config) as store:
            pids = store.pids()
            trio.run(run, store, mount / "ballast")
            assert store.pids() == pids, "an actor died of a full disk"


@pytest.mark.root
@needs_root
def test_a_read_only_disk_serves_reads_and_refuses_writes(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "mount", "80m") as mount:
        (mount / "disk-1").mkdir()
        (tmp_path / "store").mkdir()
        (tmp_path / "store" / "disk-1").symlink_to(mount / "disk-1")
        config = '[store]\ndisk_reserve = 0\nchunk_size = "1MiB"\n'
        store = RunningStore(tmp_path / "store", config=config)
        with store:
            trio.run(fill, store, NAMES)
        subprocess.run(["mount", "-o", "remount,ro", str(mount)], check=True)
        with RunningStore(tmp_path / "store", config=config, port_base=store.port_base) as again:
            assert set(trio.run(outcomes, again, NAMES).values()) == {"ok"}

            async def write() -> str:
                async with warehouse.connect(again.profile) as client:
                    assert (await client.status()).disks[0].is_read_only
                    with pytest.raises(StoreError) as refused:
                        await client.bucket("b").put("new", BODY)
                    return refused.value.code

            assert trio.run(write) == "disk_failed"
