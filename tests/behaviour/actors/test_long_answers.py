"""Answers at the documented limits: longer than one message, and whole all the same."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

import warehouse.actors.control.fleet_status
import warehouse.actors.control.job_commands
import warehouse.client.maintenance
import warehouse.client.reading.locator
from master_kit import DISK_ID, RunningMaster, open_master, until
from warehouse.actors.control.status import LESSER_SIZE_MAX
from warehouse.catalog.names import check_key, check_metadata
from warehouse.client.control import Control
from warehouse.client.maintenance import Maintenance
from warehouse.client.reading.locator import ask_where
from warehouse.errors import BadRequest, NoSuchDisk, ObjectInconsistent
from warehouse.transport.messages import (
    FRAME_SIZE_MAX,
    Buckets,
    ClusterStatus,
    Events,
    ListBuckets,
    ListEvents,
    Listing,
    ListObjects,
    LocateObjects,
    ObjectsLocated,
    Request,
    Status,
)
from warehouse.transport.messages.paging import ANSWER_SIZE_MAX, fitting, size_of

COUNT = 1000
METADATA = {"note": "x" * 8000}


class Asking:
    """Stands in for a client's `Control`, and keeps what went to and fro."""

    timeout_s = 10.0

    def __init__(self, master: RunningMaster) -> None:
        self._master = master
        self.asked: list[Request] = []
        self.sizes: list[int] = []
        self.between: Callable[[Request], None] = lambda request: None

    async def ask(self, request: Request, wanted: type[Any], **_: bool) -> Any:
        self.between(request)
        self.asked.append(request)
        answer = await self._master.ask(request, wanted)
        self.sizes.append(size_of(answer))
        return answer


def asking(master: RunningMaster) -> tuple[Control, Asking]:
    one = Asking(master)
    return cast("Control", one), one


@asynccontextmanager
async def planted(folder: Path, plant: Callable[[sqlite3.Connection], None]) -> AsyncIterator[RunningMaster]:
    """A master whose catalog holds what would take too long to put."""
    async with open_master(folder) as master:
        await master.create_bucket("photos")
        await master.stop()
        with closing(sqlite3.connect(folder / "catalog.sqlite3")) as connection, connection:
            plant(connection)
        await master.start()
        await master.client.wait_up()
        # Its greeting is over, too: a greeting that takes too long is begun again on another connection.
        disk = master.disk.link
        assert disk is not None
        await until(lambda: disk.connect_count > 1 and disk.is_up)
        await until(lambda: master.running.context.fleet.disks[DISK_ID].is_online)
        yield master


def plant_objects(connection: sqlite3.Connection, keys: list[str], metadata: dict[str, str]) -> None:
    """Objects of one chunk, with the needles 1000, 1001, ..."""
    blob = msgspec.msgpack.encode(metadata) if metadata else None
    connection.executemany(
        "INSERT INTO objects (bucket_id, key, size, stamp, created_ms, volume_id, needle_id, crc, chunk_count,"
        " metadata) VALUES (1, ?, 3, 1, 1790000000000, 1, ?, 7, 1, ?)",
        [(key, 1000 + number, blob) for number, key in enumerate(keys)],
    )
    connection.execute("UPDATE buckets SET object_count = object_count + ?", (len(keys),))


def plant_large(connection: sqlite3.Connection, key: str, count: int, *, first: int = 100_000) -> None:
    """An object of many chunks, with the needles from `first` on."""
    connection.execute("DELETE FROM objects WHERE key = ?", (key,))
    connection.execute(
        "INSERT INTO objects (bucket_id, key, size, stamp, created_ms, volume_id, needle_id, crc, chunk_count,"
        " upload_id) VALUES (1, ?, ?, 1, 1790000000000, 1, ?, 7, ?, ?)",
        (key, 3 * count, first, count, first),
    )
    connection.executemany(
        "INSERT INTO chunks (upload_id, chunk_index, volume_id, needle_id, size, crc, stamp, is_stored)"
        " VALUES (?, ?, 1, ?, 3, 7, 1, 1)",
        [(first, number, first + number) for number in range(count)],
    )


def plant_volumes(connection: sqlite3.Connection, count: int) -> None:
    """Volumes of disks that are not there, and a disk without any."""
    for number in range(7):
        connection.execute(
            "INSERT INTO disks (id, name, added_ms) VALUES (?, ?, 1)", (f"{number}" * 32, f"disk-{number}")
        )
    for number in range(100, 100 + count):
        connection.execute(
            "INSERT INTO volumes (id, uuid, capacity, state) VALUES (?, ?, 1000000, 'open')",
            (number, f"{number:032}"),
        )
        connection.execute(
            "INSERT INTO copies (volume_id, disk_id) VALUES (?, ?)", (number, f"{number % 6}" * 32)
        )


# --- listings -------------------------------------------------------------------------------------

LONG_KEYS = [f"k/{number:04}/{'p' * 1000}" for number in range(COUNT)]


async def pages(ask: Asking, **fields: Any) -> AsyncIterator[Listing]:
    after: str | None = ""
    while after is not None:
        page = await ask.ask(ListObjects(bucket="photos", after=after, **fields), Listing)
        assert page.objects or page.prefixes
        yield page
        after = page.next_after


async def test_a_bucket_of_the_longest_names_and_metadata_is_listed_whole(tmp_path: Path) -> None:
    for key in LONG_KEYS[:1]:
        check_key(key)
        check_metadata(METADATA)
    async with planted(tmp_path, lambda c: plant_objects(c, LONG_KEYS, METADATA)) as master:
        _, ask = asking(master)
        listed = [info async for page in pages(ask) for info in page.objects]
        assert [info.key for info in listed] == LONG_KEYS
        assert all(info.metadata == METADATA for info in listed)
        placed = [info async for page in pages(ask, with_locations=True) for info in page.objects]
        assert [info.key for info in placed] == LONG_KEYS
        assert all(len(info.chunks) == 1 for info in placed)
        assert max(ask.sizes) < FRAME_SIZE_MAX * 3 / 4


async def test_folders_between_long_entries_are_listed_once_and_in_order(tmp_path: Path) -> None:
    keys = [f"{number:04}{'p' * 900}" for number in range(700)]
    folders = [f"{number:04}/" for number in range(0, 700, 3)]
    below = [f"{folder}{name}" for folder in folders for name in "ab"]
    async with planted(tmp_path, lambda c: plant_objects(c, sorted(keys + below), METADATA)) as master:
        _, ask = asking(master)
        found = [page async for page in pages(ask, delimiter="/")]
        assert [info.key for page in found for info in page.objects] == keys
        assert [prefix for page in found for prefix in page.prefixes] == folders
        assert len(found) > 1
        ends = [max([info.key for info in page.objects] + page.prefixes) for page in found]
        assert ends == sorted(ends)


# --- where objects are ----------------------------------------------------------------------------


async def test_objects_of_long_metadata_are_located_whole_in_several_answers(tmp_path: Path) -> None:
    async with planted(tmp_path, lambda c: plant_objects(c, LONG_KEYS, METADATA)) as master:
        control, ask = asking(master)
        keys = [*reversed(LONG_KEYS), "absent"]
        # The longest question that a client may ask is shorter than these names.
        some = keys[-900:]
        answer = await ask_where(control, "photos", some)
        assert [info.key if info else None for info in answer.objects] == [*some[:-1], None]
        assert len(ask.asked) > 1
        assert all([*grants] == [1] for grants in answer.grants)
        with pytest.raises(BadRequest, match="do not fit into one message: ask for fewer"):
            await master.ask(LocateObjects(bucket="photos", keys=some), ObjectsLocated)


async def test_an_object_of_very_many_chunks_is_located_in_several_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warehouse.client.reading.locator, "CHUNKS_AT_ONCE", 7)

    def plant(connection: sqlite3.Connection) -> None:
        plant_objects(connection, ["a", "c"], {})
        plant_large(connection, "b", 30)
        plant_large(connection, "d", 8, first=200_000)

    async with planted(tmp_path, plant) as master:
        control, ask = asking(master)
        answer = await ask_where(control, "photos", ["a", "b", "absent", "c", "d"])
        found = {info.key: [chunk.needle_id for chunk in info.chunks] for info in answer.objects if info}
        assert found == {
            "a": [1000],
            "b": [*range(100_000, 100_030)],
            "c": [1001],
            "d": [*range(200_000, 200_008)],
        }
        assert answer.objects[2] is None
        requests = [request for request in ask.asked if isinstance(request, LocateObjects)]
        assert [(len(one.keys), one.first_chunk) for one in requests[:3]] == [(5, 0), (4, 0), (1, 7)]


async def test_an_object_replaced_between_two_answers_about_it_is_no_mixture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warehouse.client.reading.locator, "CHUNKS_AT_ONCE", 7)
    async with planted(tmp_path, lambda c: plant_large(c, "b", 30)) as master:
        control, ask = asking(master)

        def replace(request: Request) -> None:
            if isinstance(request, LocateObjects) and request.first_chunk == 14:
                with closing(sqlite3.connect(tmp_path / "catalog.sqlite3")) as connection, connection:
                    plant_large(connection, "b", 30, first=200_000)

        ask.between = replace
        with pytest.raises(ObjectInconsistent, match="replaced while its chunks were located"):
            await ask_where(control, "photos", ["b"])
        ask.between = lambda request: None
        (info,) = (await ask_where(control, "photos", ["b"])).objects
        assert info is not None
        assert [chunk.needle_id for chunk in info.chunks] == [*range(200_000, 200_030)]


async def test_a_first_chunk_is_for_one_key(tmp_path: Path) -> None:
    async with planted(tmp_path, lambda c: plant_objects(c, ["a", "b"], {})) as master:
        request = LocateObjects(bucket="photos", keys=["a", "b"], chunk_limit=5, first_chunk=1)
        with pytest.raises(BadRequest, match="one key alone"):
            await master.ask(request, ObjectsLocated)


# --- buckets, status, jobs, events ----------------------------------------------------------------


async def test_buckets_come_page_by_page(tmp_path: Path) -> None:
    names = [f"bucket-{number:03}" for number in range(50)]

    def plant(connection: sqlite3.Connection) -> None:
        connection.executemany("INSERT INTO buckets (name, created_ms) VALUES (?, 1)", [(n,) for n in names])

    async with planted(tmp_path, plant) as master:
        found, after, count = list[str](), "", 0
        while True:
            page = await master.ask(ListBuckets(after=after, limit=10), Buckets)
            found += [info.name for info in page.buckets]
            after, count = page.next_after, count + 1
            if not after:
                break
        assert (found, count) == ([*names, "photos"], 6)
        whole = await master.ask(ListBuckets(), Buckets)
        assert ([info.name for info in whole.buckets], whole.next_after) == (found, "")


async def test_the_status_of_many_volumes_comes_in_pages_and_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with planted(tmp_path, lambda c: plant_volumes(c, 60)) as master:
        control, ask = asking(master)
        whole = await master.ask(ClusterStatus(), Status)
        monkeypatch.setattr(warehouse.actors.control.fleet_status, "ANSWER_SIZE_MAX", 2000)
        status = await Maintenance(control).status()
        assert len(ask.asked) > 6

        def places(status: Status) -> list[tuple[str, list[int]]]:
            return [
                (disk.name, [volume.report.volume_id for volume in disk.volumes]) for disk in status.disks
            ]

        assert places(status) == places(whole)
        assert sum(len(volumes) for _, volumes in places(status)) >= 60
        assert (status.next_disk, status.bucket_count, status.troubles) == ("", 1, whole.troubles)
        with pytest.raises(BadRequest, match="page by page"):
            await master.ask(ClusterStatus(), Status)
        with pytest.raises(BadRequest, match="there is no disk 'gone'"):
            await master.ask(ClusterStatus(is_paged=True, from_disk="gone"), Status)


async def test_volumes_are_asked_for_by_disk_or_number_and_the_status_goes_without(tmp_path: Path) -> None:
    async with planted(tmp_path, lambda c: plant_volumes(c, 60)) as master:
        maintenance = Maintenance(asking(master)[0])
        whole, brief = await maintenance.status(), await maintenance.status(volumes=False)
        assert [disk.volumes for disk in brief.disks] == [[] for _ in whole.disks]
        assert [disk.volume_count for disk in brief.disks] == [len(disk.volumes) for disk in whole.disks]
        assert [disk.live_count for disk in brief.disks] == [
            sum(volume.report.live_count for volume in disk.volumes) for disk in whole.disks
        ]
        disk = max(whole.disks, key=lambda disk: len(disk.volumes))
        known = [volume.report.volume_id for volume in disk.volumes]
        found, start = list[int](), 0
        while True:
            page = await maintenance.volumes(disk.disk_id, start, 4)
            found += [volume.report.volume_id for volume in page.volumes]
            if not (start := page.next_volume):
                break
        assert found == known
        assert await maintenance.disks_of([known[3], known[3], 1 << 30]) == {known[3]: disk.disk_id}
        with pytest.raises(NoSuchDisk):
            await maintenance.volumes("gone")


async def test_jobs_that_do_not_fit_into_an_answer_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warehouse.client.maintenance, "JOBS_AT_ONCE", 9)
    monkeypatch.setattr(warehouse.actors.control.job_commands, "fitting", lambda jobs: fitting(jobs, 700))
    async with planted(tmp_path, lambda c: plant_volumes(c, 40)) as master:
        control, ask = asking(master)
        maintenance = Maintenance(control)
        jobs = await maintenance.verify(range(100, 140))
        assert [job.volume_id for job in jobs] == [*range(100, 140)]
        numbers = [job.job_id for job in jobs]
        assert [job.job_id for job in await maintenance.jobs()] == numbers
        assert [job.job_id for job in await maintenance.jobs(numbers[5:35])] == numbers[5:35]
        assert [job.job_id for job in await maintenance.pause_jobs()] == numbers
        assert [job.job_id for job in await maintenance.cancel_jobs(numbers)] == numbers
        ended = await maintenance.wait_jobs(jobs)
        assert {(job.job_id, job.state) for job in ended} == {(number, "cancelled") for number in numbers}
        assert max(ask.sizes) < 2000


async def test_events_that_do_not_fit_come_with_the_next_question(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        await master.create_bucket("photos")
        events = master.running.context.events
        for number in range(900):
            events.record("damage_found", volume_id=number, key="k" * 1000, problem="p" * 9000)
        after, found = 0, list[int]()
        while True:
            page = await master.ask(ListEvents(after=after), Events)
            assert size_of(page) < FRAME_SIZE_MAX
            if not page.events:
                break
            found += [event.sequence for event in page.events]
            after = page.next_after
        assert found == [*range(found[0], found[0] + len(found))]
        assert len(found) >= 900


def test_the_lengths_of_lists_leave_room_in_a_frame() -> None:
    """What is paged by bytes takes half a frame; no list that comes with it may take the other half."""
    assert ANSWER_SIZE_MAX * 2 <= FRAME_SIZE_MAX
    assert LESSER_SIZE_MAX * 3 < FRAME_SIZE_MAX - ANSWER_SIZE_MAX
