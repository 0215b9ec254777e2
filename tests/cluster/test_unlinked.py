"""Files that are deleted, moved away or replaced under a running actor: no put into them is acknowledged."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

import warehouse
from harness import RunningStore
from warehouse.errors import NeedleCorrupt, StoreError

BODY = b"x" * 5000


async def acknowledged(bucket: warehouse.Bucket, count: int) -> list[str]:
    """The names of those of some puts that were acknowledged."""
    names = []
    for number in range(count):
        with contextlib.suppress(StoreError):
            await bucket.put(f"after/{number}", BODY)
            names.append(f"after/{number}")
    return names


async def require_after_a_kill(store: RunningStore, names: list[str]) -> None:
    await trio.to_thread.run_sync(store.kill)
    await trio.to_thread.run_sync(store.start)
    async with warehouse.connect(store.profile, timeout_s=20) as client:
        for name in names:
            assert await client.bucket("b").get(name) == BODY


async def until_status(
    client: warehouse.Store, condition: Callable[[warehouse.Status], bool]
) -> warehouse.Status:
    with trio.fail_after(60):
        while True:
            status = await client.status()
            if condition(status):
                return status
            await trio.sleep(0.1)


def delete_data_file(disk: Path) -> None:
    next(disk.rglob("g*.vol")).unlink()


def delete_index(disk: Path) -> None:
    next(disk.rglob("g*.idx")).unlink()


def delete_volume(disk: Path) -> None:
    shutil.rmtree(next(disk.glob("volumes/*")))


def delete_disk(disk: Path) -> None:
    shutil.rmtree(disk)


ENV = {"WAREHOUSE_STORE_DISK_RESERVE": "0"}


def test_no_put_into_a_deleted_file_is_acknowledged(tmp_path: Path) -> None:
    harms = (delete_data_file, delete_index, delete_volume, delete_disk)

    async def run() -> None:
        async with warehouse.connect(store.profile, timeout_s=30) as client:
            bucket = await client.create_bucket("b")
            names = await fill_every_disk(client, bucket)
            for number, harm in enumerate(harms, 1):
                harm(store.data / f"disk-{number}")
            names_after = await acknowledged(bucket, 20)
            status = await until_status(client, every_disk_has_sealed)
            assert status.health != "ok"
            for name in names:
                assert await bucket.get(name) == BODY  # its bytes are still open
        await require_after_a_kill(store, names_after)

    with RunningStore(tmp_path / "store", volumes=len(harms), env=ENV) as store:
        trio.run(run)


async def fill_every_disk(client: warehouse.Store, bucket: warehouse.Bucket) -> list[str]:
    """Put until every disk holds something; the names."""
    names = []
    with trio.fail_after(30):
        while any(
            not any(volume.report.live_count for volume in disk.volumes)
            for disk in (await client.status()).disks
        ):
            for _ in range(10):
                names.append(f"before/{len(names)}")
                await bucket.put(names[-1], BODY)
            await trio.sleep(0.5)
    return names


def every_disk_has_sealed(status: warehouse.Status) -> bool:
    return all(any(volume.report.sealed_cause for volume in disk.volumes) for disk in status.disks)


def move_volume(disk: Path) -> None:
    next(disk.glob("volumes/*")).rename(disk.parent / f"elsewhere-{disk.name}")


def replace_disk(disk: Path) -> None:
    disk.rename(disk.parent / f"elsewhere-{disk.name}")
    shutil.copytree(disk.parent / f"elsewhere-{disk.name}", disk)


def delete_identity(disk: Path) -> None:
    (disk / "disk.json").unlink()


def delete_manifest(disk: Path) -> None:
    next(disk.rglob("manifest")).unlink()


def test_a_volume_that_the_next_start_would_not_find_is_sealed_within_seconds(tmp_path: Path) -> None:
    harms = (move_volume, replace_disk, delete_identity, delete_manifest)

    async def run() -> None:
        async with warehouse.connect(store.profile, timeout_s=30) as client:
            bucket = await client.create_bucket("b")
            await bucket.put("before", BODY)
            for number, harm in enumerate(harms, 1):
                harm(store.data / f"disk-{number}")
            status = await until_status(client, every_disk_has_sealed)
            assert status.health != "ok"
            for disk in status.disks:
                (cause, *_) = [volume.report.sealed_cause for volume in disk.volumes]
                assert cause is not None
                assert "gone" in cause or "in its place" in cause
            names = await acknowledged(bucket, 20)
        (store.data / "disk-2").rename(store.data / "given up")  # a copy that nobody has adopted
        await require_after_a_kill(store, names)

    with RunningStore(tmp_path / "store", volumes=len(harms), env=ENV) as store:
        trio.run(run)


def cut_data_file(disk: Path) -> None:
    os.truncate(next(disk.rglob("g*.vol")), 4096)


def cut_index(disk: Path) -> None:
    os.truncate(next(disk.rglob("g*.idx")), 0)


def test_a_file_that_was_cut_off_takes_no_more_puts_and_an_index_that_was_costs_nothing(
    tmp_path: Path,
) -> None:
    harms = (cut_data_file, cut_index)

    async def run() -> None:
        async with warehouse.connect(store.profile, timeout_s=30) as client:
            bucket = await client.create_bucket("b")
            names = await fill_every_disk(client, bucket)
            for number, harm in enumerate(harms, 1):
                harm(store.data / f"disk-{number}")
            after = await acknowledged(bucket, 20)
            await until_status(client, every_disk_has_sealed)
            after += await acknowledged(bucket, 20)
        await require_after_a_kill(store, after)
        async with warehouse.connect(store.profile, timeout_s=20) as client:
            lost = 0
            for name in names:
                try:
                    assert await client.bucket("b").get(name) == BODY
                except NeedleCorrupt:
                    lost += 1
            assert 0 < lost < len(names), "those of the data file that was cut off, named and not missing"

    with RunningStore(tmp_path / "store", volumes=len(harms), env=ENV) as store:
        trio.run(run)


@pytest.mark.parametrize(("name", "is_replaced"), [("catalog.sqlite3", True), ("catalog.sqlite3-wal", False)])
def test_a_catalog_that_was_deleted_or_replaced_takes_no_more_writes(
    tmp_path: Path, name: str, is_replaced: bool
) -> None:
    async def run() -> None:
        async with warehouse.connect(store.profile, timeout_s=30) as client:
            bucket = await client.create_bucket("b")
            await bucket.put("before", BODY)
            path = store.data / "master" / name
            if is_replaced:
                shutil.copy(path, path.with_name("copy"))
                path.with_name("copy").replace(path)
            else:
                path.unlink()
            with pytest.raises(StoreError):
                await bucket.delete("before")
            assert await acknowledged(bucket, 3) == []
            status = await until_status(client, lambda status: status.trouble_count > 0)
            assert status.health == "down"
            assert [trouble.name for trouble in status.troubles] == ["catalog_unlinked"]

    with RunningStore(tmp_path / "store", env=ENV) as store:
        trio.run(run)
