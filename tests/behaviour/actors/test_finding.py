"""What a real master finds and tells of changes: for each key what it may list, and nothing of the rest."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
import trio

from master_kit import RunningMaster, open_master, until
from warehouse.auth.rights import EVERYTHING, Grant, Permission
from warehouse.errors import BadRequest, LinkDown, NoSuchBucket, NotAuthenticated, PermissionDenied
from warehouse.transport.messages import (
    BucketChanged,
    CreateBucket,
    DataUrls,
    DeleteBucket,
    Deleted,
    DeleteObjects,
    Done,
    FindObjects,
    Jobs,
    ListDataUrls,
    Message,
    ObjectsFound,
    PauseJobs,
    Request,
    StoreChanged,
    WatchBucket,
    WatchStore,
)
from warehouse.transport.zeromq.link import Link

A = TypeVar("A", bound=Message)
LIST, READ = int(Permission.LIST), int(Permission.READ)


async def ask(link: Link, request: Request, wanted: type[A]) -> A:
    answer = await link.request(request, timeout_s=30)
    assert isinstance(answer, wanted)
    return answer


async def put(master: RunningMaster, bucket_id: int, *keys: str) -> None:
    for key in keys:
        needle_id = 1 + len(master.disk.live.setdefault(1, set()))
        assert (await master.disk.store(1, needle_id, bucket_id, key, needle_id)).etag


async def found(link: Link, **options: Any) -> ObjectsFound:
    return await ask(link, FindObjects(bucket="photos", **options), ObjectsFound)


def keys_of(page: ObjectsFound) -> list[str]:
    return [info.key for info in page.objects]


# --- finding --------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["name", "size", "time"])
async def test_a_key_for_a_part_finds_that_part_as_if_there_were_no_other_keys(
    tmp_path: Path, order: str
) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        photos = await master.create_bucket("photos")
        await put(master, photos, "a", "b/1", "b/c/1", "e", "f/g/1", "f/x", "z")
        link = await master.connect_with(
            LIST, (Grant(LIST, photos, None, "b/"), Grant(LIST, photos, None, "f/g/"))
        )
        page = await found(link, order=order)
        assert keys_of(page) == ["b/1", "b/c/1", "f/g/1"]
        assert (page.cursor, page.scanned_count, page.is_complete) == ("", 3, True)
        page = await found(link, order=order, delimiter="/")
        assert (keys_of(page), page.prefixes) == ([], ["b/", "f/"])
        assert keys_of(await found(link, order=order, contains="X")) == []
        with pytest.raises(PermissionDenied, match="no list right on bucket 'photos' for 'e'"):
            await found(link, order=order, prefix="e")
        stranger = await master.connect_with(LIST, ())
        with pytest.raises(NoSuchBucket, match="there is no bucket 'photos'"):
            await found(stranger, order=order)


@pytest.mark.parametrize("order", ["name", "size", "time"])
@pytest.mark.parametrize("is_descending", [False, True])
async def test_pages_go_on_where_the_one_before_ended(
    tmp_path: Path, order: str, is_descending: bool
) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        photos = await master.create_bucket("photos")
        names = [f"IMG_{n:02}.JPG" for n in range(25)]
        await put(master, photos, *names, "other")
        told, cursor = list[str](), ""
        for _ in range(3):
            page = await found(
                master.client,
                order=order,
                is_descending=is_descending,
                contains="img_",
                limit=10,
                cursor=cursor,
            )
            told += keys_of(page)
            cursor = page.cursor
        # All are of one size and time, and what is equal comes in order of name.
        assert told == (names[::-1] if is_descending and order == "name" else names)
        assert cursor == ""


async def test_a_ranking_of_which_the_master_knows_nothing_begins_again_at_its_page(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        photos = await master.create_bucket("photos")
        await put(master, photos, *"abcdef")
        page = await found(master.client, order="size", limit=2)
        await master.restart()
        await master.client.wait_up()
        page = await found(master.client, order="size", limit=2, cursor=page.cursor)
        assert keys_of(page) == ["c", "d"]


async def test_a_cursor_opens_nothing_to_another_key(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        photos = await master.create_bucket("photos")
        await put(master, photos, "a/1", "a/2", "b/1", "b/2")
        cursor = (await found(master.client, order="size", limit=1)).cursor
        link = await master.connect_with(LIST, (Grant(LIST, photos, None, "b/"),))
        with pytest.raises(BadRequest, match="another question"):
            await found(link, order="size", limit=1, cursor=cursor)


@pytest.mark.parametrize(
    "wrong", [{"order": "colour"}, {"delimiter": ""}, {"limit": 0}, {"cursor": "x"}, {"contains": "x" * 1025}]
)
async def test_a_question_that_makes_no_sense_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        await master.create_bucket("photos")
        with pytest.raises(BadRequest):
            await found(master.client, **wrong)


# --- changes --------------------------------------------------------------------------------------


async def changed(link: Link, after: int = -1, prefix: str = "", wait_s: float = 20.0) -> BucketChanged:
    request = WatchBucket(bucket="photos", prefix=prefix, after=after, wait_s=wait_s)
    return await ask(link, request, BucketChanged)


async def test_puts_and_deletions_are_told_at_once_and_to_those_who_may_list_them(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        photos = await master.create_bucket("photos")
        link = await master.connect_with(LIST, (Grant(LIST, photos, None, "b/"),))
        everybody, part = await changed(master.client), await changed(link, prefix="b/")
        assert everybody.is_missed
        assert part.is_missed
        await put(master, photos, "a/1", "b/1")
        whole = await changed(master.client, everybody.next_after)
        assert (whole.count, whole.keys, whole.is_missed) == (2, ["b/1", "a/1"], False)
        told = await changed(link, part.next_after)
        assert (told.count, told.keys) == (1, ["b/1"])
        await ask(master.client, DeleteObjects(bucket="photos", keys=["b/1", "none"]), Deleted)
        assert (await changed(link, told.next_after)).keys == ["b/1"]
        with pytest.raises(PermissionDenied):
            await changed(link, prefix="a/")
        with pytest.raises(NoSuchBucket):
            await changed(await master.connect_with(LIST, ()))


async def test_a_follower_hears_that_its_bucket_was_deleted(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        await master.create_bucket("photos")
        link = await master.connect_with(LIST)
        after = (await changed(link)).next_after
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:

                async def follow() -> None:
                    with pytest.raises(NoSuchBucket):
                        await changed(link, after)

                nursery.start_soon(follow)
                await until(lambda: master.running.context.changes._followers)
                await ask(master.client, DeleteBucket(bucket="photos"), Done)


async def test_a_follower_ends_with_its_key_within_a_second(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        await master.create_bucket("photos")

        async def time_one() -> float:
            key = await master.add_key(LIST)
            link = await master.connect_as(key)
            after = (await changed(link)).next_after
            ended = list[float]()

            async def follow() -> None:
                with pytest.raises((LinkDown, NotAuthenticated)):
                    await changed(link, after)
                ended.append(time.monotonic())

            with trio.fail_after(20):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(follow)
                    await until(lambda: master.running.context.changes._followers)
                    began = time.monotonic()
                    await master.running.keys.change(
                        key.key_id, lambda row: msgspec.structs.replace(row, is_enabled=False)
                    )
            return ended[0] - began

        took_s = [await time_one() for _ in range(3)]
        assert statistics.median(took_s) < 1.0, took_s  # a busy machine may take longer once


async def test_buckets_and_keys_are_told_to_those_who_see_them(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        key = await master.add_key(LIST, (Grant(LIST, None, "team-"),))
        link = await master.connect_as(key)

        async def news(link: Link, after: int, wait_s: float = 0.0) -> StoreChanged:
            return await ask(link, WatchStore(after=after, wait_s=wait_s), StoreChanged)

        mine, all_of_it = await news(link, -1), await news(master.client, -1)
        assert mine.is_missed
        for name in ("secret", "team-a"):
            await ask(master.client, CreateBucket(bucket=name), Done)
        mine, all_of_it = await news(link, mine.next_after), await news(master.client, all_of_it.next_after)
        assert (mine.subjects, mine.buckets) == (["buckets"], ["team-a"])
        assert (all_of_it.subjects, all_of_it.buckets) == (["buckets"], ["team-a", "secret"])
        await master.running.keys.change(
            key.key_id, lambda row: msgspec.structs.replace(row, description="mine")
        )
        all_of_it = await news(master.client, all_of_it.next_after)
        assert all_of_it.subjects == ["keys"]
        assert (await news(link, mine.next_after)).subjects == ["key"]
        await ask(master.client, DeleteBucket(bucket="secret"), Done)
        assert (await news(link, mine.next_after, 0.2)).buckets == []


async def test_who_asks_for_it_is_told_that_disks_nodes_or_jobs_changed(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        blind = await master.connect_with(LIST, ())

        async def news(link: Link, after: int, *subjects: str) -> StoreChanged:
            return await ask(link, WatchStore(after=after, subjects=[*subjects], wait_s=0.1), StoreChanged)

        after = (await news(master.client, -1)).next_after
        for is_paused in (True, False):
            await ask(master.client, PauseJobs(is_paused=is_paused), Jobs)
        assert (await news(master.client, after, "jobs", "disks")).subjects == ["jobs"]
        assert (
            await news(master.client, after)
        ).subjects == []  # programs that do not know of them hear nothing
        assert (await news(blind, after, "jobs")).subjects == []
        master.disk.disconnect()
        with trio.fail_after(20):
            while (await news(master.client, after, "disks", "nodes")).subjects != ["disks", "nodes"]:
                pass
        await ask(master.client, CreateBucket(bucket="photos"), Done)
        assert (await news(master.client, after, "jobs")).subjects == ["jobs"]


async def test_whoever_may_do_anything_with_objects_is_told_where_the_data_ports_are(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        link = await master.connect_with(READ, ())
        assert (await ask(link, ListDataUrls(), DataUrls)).urls == ["http://127.0.0.1:1"]
        master.disk.disconnect()
        with trio.fail_after(20):
            while (await ask(link, ListDataUrls(), DataUrls)).urls:
                await trio.sleep(0.02)
        operator = await master.connect_with(int(EVERYTHING & Permission.SEE_CLUSTER))
        with pytest.raises(PermissionDenied):
            await ask(operator, ListDataUrls(), DataUrls)
