"""Ballast on really full file systems: what has to go on does, and room comes back."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from warehouse.actors.ballast import STEP_COUNT, Ballast, free_bytes
from warehouse.actors.control.catalog_space import GROWTH_LEAVES, CatalogRoom
from warehouse.actors.control.events import EventLog
from warehouse.actors.control.first_start import initialize
from warehouse.actors.control.troubles import Troubles
from warehouse.catalog.interface import Transaction
from warehouse.catalog.sqlite.catalog import SqliteCatalog
from warehouse.catalog.writer import CatalogWriter
from warehouse.errors import CatalogFull, DiskFull

MIB = 1 << 20

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root"),
]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], check=False)
    if mounted.returncode != 0:
        pytest.skip("mounting a tmpfs is not allowed here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    """Somebody else takes all that is left."""
    path = folder / "foreign"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return path


def test_ballast_takes_its_share_and_gives_it_back_file_by_file(small_disk: Path) -> None:
    ballast = Ballast(small_disk / "ballast", 64 * MIB)
    before = free_bytes(small_disk)
    assert before is not None
    assert ballast.restore()
    held = before - (free_bytes(small_disk) or 0)
    assert 0.4 * MIB < held < 0.6 * MIB, "a sixteenth of a small disk"
    foreign = fill(small_disk)
    for number in range(STEP_COUNT):
        assert ballast.held_count == STEP_COUNT - number
        assert ballast.release()
    assert not ballast.release()
    assert not ballast.restore(), "it is not made at the cost of others"
    foreign.unlink()
    assert ballast.restore()
    assert Ballast(small_disk / "ballast", 0).restore()
    assert os.listdir(small_disk / "ballast") == []


def test_a_master_is_initialized_again_on_a_disk_without_a_byte_free(small_disk: Path) -> None:
    initialize(small_disk)
    assert Ballast(small_disk / "ballast", MIB).restore()
    fill(small_disk)
    assert free_bytes(small_disk) == 0
    assert initialize(small_disk).root_key is None
    assert Ballast(small_disk / "ballast", MIB).held_count == STEP_COUNT - 1


def write_much(transaction: Transaction) -> None:
    transaction.set_meta("y" * 100_000 + os.urandom(8).hex(), 1)


async def test_deletes_go_on_and_puts_are_refused_by_name_when_the_disk_of_the_catalog_is_full(
    small_disk: Path,
) -> None:
    catalog = SqliteCatalog.open(small_disk / "catalog.sqlite3")
    ballast, troubles = Ballast(small_disk / "ballast", MIB), Troubles(EventLog())
    room = CatalogRoom(catalog, ballast, troubles)
    writer = CatalogWriter(catalog, make_room=room.make_room)
    await room.look()
    room.require()
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        await writer.write(lambda t: t.create_bucket("first", 1))
        foreign = fill(small_disk)
        await room.look()
        with pytest.raises(CatalogFull, match="reserve"):
            room.require()
        assert ("catalog_full", "catalog") in troubles
        # What is new may have half of the reserve, however much of it was promised ...
        with pytest.raises(DiskFull):
            while True:
                await writer.write(write_much, is_growth=True)
        assert ballast.held_count == GROWTH_LEAVES
        # ... what has to be written goes on: each of these is as much as a thousand deletions ...
        for number in range(5):
            await writer.write(lambda t, n=number: t.set_meta(f"fact-{n}" + "x" * 4000, n))  # type: ignore[misc]
        # ... and in one transaction with it, what gives room back is done, and the new is refused.
        refused, done = [], []

        async def grow() -> None:
            try:
                await writer.write(write_much, is_growth=True)
            except DiskFull as error:
                refused.append(error)

        async def give_back() -> None:
            done.append(await writer.write(lambda t: t.set_meta("deleted" + "x" * 4000, 1)))

        async with trio.open_nursery() as both:
            for number in range(8):
                both.start_soon(give_back if number % 2 else grow)
        assert (len(refused), len(done)) == (4, 4)
        assert ballast.held_count > 0
        with pytest.raises(DiskFull):
            while True:
                await writer.write(write_much)
        assert ballast.held_count == 0
        assert catalog.failure is None, "a full disk is no reason to end"
        foreign.unlink()
        await room.look()
        room.require()
        assert ballast.is_whole
        assert not len(troubles)
        await writer.write(lambda t: t.create_bucket("again", 1))
        nursery.cancel_scope.cancel()
    catalog.close()


async def test_what_a_fold_alone_makes_no_room_for_gets_the_ballast(small_disk: Path) -> None:
    catalog = SqliteCatalog.open(small_disk / "catalog.sqlite3")
    ballast = Ballast(small_disk / "ballast", 64 * MIB)
    assert ballast.restore()
    room = CatalogRoom(catalog, ballast, Troubles(EventLog()))
    failed_counts: list[int] = []

    def make_room(failed_count: int, is_growth: bool) -> bool:
        failed_counts.append(failed_count)
        return len(failed_counts) <= 2 * STEP_COUNT and room.make_room(failed_count, is_growth)

    writer = CatalogWriter(catalog, make_room=make_room)
    with catalog.transaction() as transaction:
        transaction.create_bucket("first", 1)
    catalog.fold_log()
    os.truncate(fill(small_disk), os.stat(small_disk / "foreign").st_size - 700 * 1024)

    def work(transaction: Transaction) -> None:  # some 900 KiB of log
        for number in range(100):
            transaction.begin_upload(1, f"key-{number}", None, {"a": "x" * 8000}, None, None, 1, 2)

    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        await writer.write(work)
        assert failed_counts == [*range(len(failed_counts))]
        assert catalog.upload_count() == 100
        assert 0 < ballast.held_count < STEP_COUNT
        nursery.cancel_scope.cancel()
    catalog.close()
