"""What a real master shows a key of buckets and keys that it did not ask for by name: no more than it may see."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import pytest

from master_kit import RunningMaster, open_master, until
from warehouse.auth.rights import EVERYTHING, Grant, Permission
from warehouse.errors import NoSuchBucket, NoSuchUpload, PermissionDenied
from warehouse.transport.messages import (
    AbortUpload,
    BeginUpload,
    BucketFound,
    BucketInfo,
    Buckets,
    ClusterStatus,
    CreateBucket,
    DeleteBucket,
    Done,
    Event,
    Events,
    FinishUpload,
    ListBuckets,
    ListEvents,
    Listing,
    ListObjects,
    LocateObjects,
    Message,
    NeedleDamage,
    ObjectsLocated,
    Request,
    RequestSlots,
    SetQuota,
    SlotWanted,
    Status,
    UploadBegun,
)
from warehouse.transport.zeromq.link import Link

A = TypeVar("A", bound=Message)
LIST, READ, WRITE = int(Permission.LIST), int(Permission.READ), int(Permission.WRITE)
CLUSTER = int(Permission.SEE_CLUSTER | Permission.SEE_EVENTS)


async def ask(link: Link, request: Request, wanted: type[A]) -> A:
    answer = await link.request(request, timeout_s=30)
    assert isinstance(answer, wanted)
    return answer


async def put(master: RunningMaster, bucket_id: int, *keys: str) -> None:
    for key in keys:
        needle_id = 1 + len(master.disk.live.setdefault(1, set()))
        assert (await master.disk.store(1, needle_id, bucket_id, key, needle_id)).etag


# --- listings -------------------------------------------------------------------------------------


async def test_a_listing_of_a_part_is_as_if_there_were_no_other_keys(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        photos = await master.create_bucket("photos")
        await put(master, photos, "a", "b/1", "b/c/1", "b/d", "e", "f/g/1", "f/g/h/2", "f/x", "z")
        link = await master.connect_with(
            LIST, (Grant(LIST, photos, None, "b/"), Grant(LIST, photos, None, "f/g/"))
        )

        async def listed(**options: object) -> tuple[list[str], list[str], str | None]:
            page = await ask(link, ListObjects(bucket="photos", **options), Listing)  # type: ignore[arg-type]
            return [info.key for info in page.objects], page.prefixes, page.next_after

        assert await listed() == (["b/1", "b/c/1", "b/d", "f/g/1", "f/g/h/2"], [], None)
        assert await listed(delimiter="/") == ([], ["b/", "f/"], None)
        assert await listed(delimiter="/", limit=1) == ([], ["b/"], "b/")
        assert await listed(delimiter="/", limit=1, after="b/") == ([], ["f/"], None)
        assert await listed(delimiter="/", prefix="f/") == ([], ["f/g/"], None)
        assert await listed(limit=5) == (["b/1", "b/c/1", "b/d", "f/g/1", "f/g/h/2"], [], None)
        assert await listed(limit=2, after="b/c/1") == (["b/d", "f/g/1"], [], "f/g/1")
        assert await listed(prefix="b/c") == (["b/c/1"], [], None)
        with pytest.raises(PermissionDenied, match="no list right on bucket 'photos' for 'e'"):
            await listed(prefix="e")


async def test_a_listing_shows_places_only_of_what_may_be_read(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        photos = await master.create_bucket("photos")
        await put(master, photos, "a", "b")
        link = await master.connect_with(LIST | READ, (Grant(LIST, photos), Grant(READ, photos, None, "b")))
        request = ListObjects(bucket="photos", with_locations=True)
        page = await ask(link, request, Listing)
        assert [(info.key, len(info.chunks)) for info in page.objects] == [("a", 0), ("b", 1)]
        page = await ask(link, ListObjects(bucket="photos", prefix="a", with_locations=True), Listing)
        assert page.grants == []


async def test_places_are_told_of_the_keys_that_may_be_read_alone(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        photos = await master.create_bucket("photos")
        await put(master, photos, "a/1", "a/2", "b/1")
        link = await master.connect_with(READ, (Grant(READ, photos, None, "a/"),))

        async def located(*keys: str) -> tuple[list[str | None], list[int], int]:
            request = LocateObjects(bucket="photos", keys=[*keys], chunk_limit=10)
            answer = await ask(link, request, ObjectsLocated)
            found = [None if info is None else info.key for info in answer.objects]
            return found, answer.denied, len(answer.grants)

        assert await located("a/1", "b/1", "a/2") == (["a/1", None, "a/2"], [1], 1)
        assert await located("b/1", "b/none", "a/2") == ([None, None, "a/2"], [0, 1], 1)
        assert await located("a/none", "b/1", "b/none") == ([None, None, None], [1, 2], 0)
        with pytest.raises(PermissionDenied, match="for 'b/1'"):
            await located("b/1", "b/none")


# --- lists of buckets -----------------------------------------------------------------------------


async def test_a_list_of_buckets_shows_what_is_seen_and_pages_tell_no_more(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        names = ["alpha", "beta", "team-a", "team-b", "zeta"]
        ids = {name: await master.create_bucket(name) for name in names}
        await put(master, ids["beta"], "one")
        grants = (
            Grant(LIST, bucket_prefix="team-"),
            Grant(LIST, ids["team-b"]),
            Grant(LIST, ids["beta"]),
            Grant(WRITE, ids["alpha"]),
        )
        link = await master.connect_with(LIST | WRITE, grants)
        seen, pages, after = list[BucketInfo](), 0, ""
        while True:
            page = await ask(link, ListBuckets(after=after, limit=1), Buckets)
            seen, pages = seen + page.buckets, pages + 1
            if not (after := page.next_after):
                break
            assert after in ("alpha", "beta", "team-a", "team-b")
        assert pages == 5
        assert [(info.name, info.is_counted, info.object_count) for info in seen] == [
            ("alpha", False, 0),
            ("beta", True, 1),
            ("team-a", True, 0),
            ("team-b", True, 0),
        ]
        assert (await ask(link, ListBuckets(), Buckets)).buckets == seen


@pytest.mark.parametrize("permissions", [0, CLUSTER, int(Permission.MANAGE_KEYS)])
async def test_who_has_no_right_on_any_bucket_gets_no_list_of_them(tmp_path: Path, permissions: int) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        link = await master.connect_with(permissions)
        with pytest.raises(PermissionDenied, match="lacks every one of read, write"):
            await link.request(ListBuckets(), timeout_s=30)


# --- events and damage ----------------------------------------------------------------------------


async def events_of(link: Link) -> list[Event]:
    return (await ask(link, ListEvents(after=0), Events)).events


async def test_events_and_damage_name_only_what_a_key_may_see(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        photos, films = await master.create_bucket("photos"), await master.create_bucket("films")
        await put(master, photos, "2026/a", "2025/b")
        await put(master, films, "c")
        damages = [
            NeedleDamage(volume_id=1, offset=1000 * needle_id, problem="p", needle_id=needle_id)
            for needle_id in (1, 2, 3)
        ]
        master.disk.damages = damages
        await master.disk.report()
        await until(lambda: master.running.context.catalog.damage_count() == 3)
        grants = (Grant(READ, photos, None, "2026/"), Grant(WRITE, photos))
        links = {
            "all": await master.connect_with(int(EVERYTHING)),
            "part": await master.connect_with(int(EVERYTHING), grants),
            "operator": await master.connect_with(CLUSTER),
        }
        names: dict[str, list[tuple[str | None, str | None]]] = {
            "all": [("photos", "2026/a"), ("photos", "2025/b"), ("films", "c")],
            "part": [("photos", "2026/a"), ("photos", None), (None, None)],
            "operator": [(None, None)] * 3,
        }
        numbers = [event.sequence for event in await events_of(links["all"])]
        for who, link in links.items():
            status = await ask(link, ClusterStatus(), Status)
            assert [(one.bucket, one.key) for one in status.damages] == names[who]
            events = await events_of(link)
            assert [event.sequence for event in events] == numbers
            found = [event.fields for event in events if event.name == "damage_found"]
            assert sorted((one.get("bucket"), one.get("key")) for one in found if "key" in one) == sorted(
                pair for pair in names[who] if pair[1] is not None
            )
            assert len(found) == 3
        made = [
            event.fields.get("bucket")
            for event in await events_of(links["part"])
            if event.name == "bucket_created"
        ]
        assert made == ["photos", None]


async def test_events_of_a_bucket_are_not_shown_to_those_of_a_later_one_of_its_name(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        await master.create_bucket("photos")
        await master.ask(DeleteBucket(bucket="photos"), Done)
        later = await master.create_bucket("photos")
        link = await master.connect_with(LIST | CLUSTER, (Grant(LIST, later),))
        shown = [event.fields for event in await events_of(link) if event.name.startswith("bucket_")]
        assert shown == [{}, {}, {"bucket": "photos"}]


async def test_ids_of_api_keys_in_events_are_for_those_who_manage_keys(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        master.running.context.events.record("something", key_id="WHKEY", count=1)
        manager = await master.connect_with(CLUSTER | int(Permission.MANAGE_KEYS))
        assert (await events_of(manager))[-1].fields == {"key_id": "WHKEY", "count": 1}
        other = await master.connect_with(CLUSTER)
        assert (await events_of(other))[-1].fields == {"count": 1}


async def test_quotas_in_events_are_for_those_who_know_what_is_in_the_bucket(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        photos = await master.create_bucket("photos")
        await master.ask(SetQuota(bucket="photos", quota_objects=9, sets_objects=True), BucketFound)
        all_of_it = {"bucket": "photos", "quota_objects": 9}
        for flags, grants, shown in (
            (int(EVERYTHING), None, all_of_it),
            (LIST | CLUSTER, (Grant(LIST, photos),), all_of_it),
            (LIST | CLUSTER, (Grant(LIST, photos, None, "2026/"),), {"bucket": "photos"}),
            (LIST | CLUSTER, (), {}),
        ):
            events = await events_of(await master.connect_with(flags, grants))
            assert [event.fields for event in events if event.name == "quota_set"] == [shown]


async def test_the_name_of_a_bucket_that_is_not_known_by_its_id_is_for_those_who_see_all(
    tmp_path: Path,
) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        photos = await master.create_bucket("photos")
        master.running.context.events.record("something", bucket="photos")
        for grants, shown in ((None, {"bucket": "photos"}), ((Grant(LIST, photos),), {})):
            link = await master.connect_with(LIST | CLUSTER, grants)
            assert (await events_of(link))[-1].fields == shown


async def test_events_need_a_right_of_their_own(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        link = await master.connect_with(int(Permission.SEE_CLUSTER))
        await ask(link, ClusterStatus(), Status)
        with pytest.raises(PermissionDenied, match="lacks the permission see_events"):
            await link.request(ListEvents(after=0), timeout_s=30)


# --- deletions and uploads ------------------------------------------------------------------------


async def test_a_bucket_is_deleted_with_its_objects_only_by_who_may_delete_all_of_them(
    tmp_path: Path,
) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        photos = await master.create_bucket("photos")
        await put(master, photos, "a")
        manage, delete = int(Permission.MANAGE_BUCKETS), int(Permission.DELETE)
        for flags, grants in (
            (manage, (Grant(manage, photos),)),
            (manage | delete, (Grant(manage, photos), Grant(delete, photos, None, "a"))),
        ):
            link = await master.connect_with(flags, grants)
            with pytest.raises(PermissionDenied):
                await link.request(DeleteBucket(bucket="photos", force=True), timeout_s=30)
        link = await master.connect_with(manage | delete, (Grant(manage | delete, photos),))
        await ask(link, DeleteBucket(bucket="photos", force=True), Done)


async def test_the_uploads_of_others_are_like_none_at_all(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        photos, films = await master.create_bucket("photos"), await master.create_bucket("films")
        begun = await master.ask(BeginUpload(bucket="photos", key="2025/film"), UploadBegun)
        gone = await master.ask(BeginUpload(bucket="films", key="film"), UploadBegun)
        await master.ask(DeleteBucket(bucket="films", force=True), Done)
        others = (
            await master.connect_with(WRITE, (Grant(WRITE, films),)),
            await master.connect_with(WRITE, (Grant(WRITE, photos, None, "2026/"),)),
        )
        told = set()
        for link in others:
            for upload_id in (begun.upload_id, gone.upload_id, 12345):
                for request in (
                    RequestSlots(upload_id=upload_id, slots=[SlotWanted(chunk_index=0, size=1)]),
                    FinishUpload(upload_id=upload_id, chunk_count=1, object_size=1),
                    AbortUpload(upload_id=upload_id),
                ):
                    with pytest.raises(NoSuchUpload) as caught:
                        await link.request(request, timeout_s=30)
                    told.add(caught.value.message.replace(str(upload_id), "ID"))
        assert len(told) == 1
        # What is wrong with the request is told to nobody else.
        with pytest.raises(NoSuchUpload):
            await others[1].request(RequestSlots(upload_id=begun.upload_id, slots=[]), timeout_s=30)


async def test_a_name_that_is_taken_is_told_only_to_those_who_see_the_bucket(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        photos = await master.create_bucket("photos")
        manage = int(Permission.MANAGE_BUCKETS)
        for grants in ((), (Grant(manage, bucket_prefix="team-"),), (Grant(manage, photos),)):
            link = await master.connect_with(manage, grants)
            told = set()
            for name in ("photos", "absent"):
                with pytest.raises(PermissionDenied) as caught:
                    await link.request(CreateBucket(bucket=name), timeout_s=30)
                told.add(caught.value.message.replace(name, "NAME"))
            assert len(told) == 1
        with pytest.raises(NoSuchBucket):
            await (await master.connect_with(manage, ())).request(DeleteBucket(bucket="photos"), timeout_s=30)
