"""A key's rights as a real master applies them: to its bucket, its part of it, and from one moment to the next."""

from __future__ import annotations

import json
import sqlite3
import time
from base64 import urlsafe_b64decode
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from master_kit import DISK_ID, RunningMaster, open_master, until
from warehouse.actors.control import revocations
from warehouse.actors.control.sessions import ClientSession
from warehouse.auth.rights import EVERYTHING, Grant, Permission
from warehouse.client.reading.locator import ask_where
from warehouse.errors import (
    BadCredentials,
    BadRequest,
    LinkDown,
    NoSuchBucket,
    NotAuthenticated,
    PermissionDenied,
)
from warehouse.transport.messages import (
    Attach,
    BucketInfo,
    Buckets,
    Commit,
    CreateBucket,
    DeleteBucket,
    DeleteObjects,
    Done,
    Events,
    KeysRevoked,
    Leased,
    LeaseNeedles,
    ListBuckets,
    ListEvents,
    Listing,
    ListObjects,
    LocateObjects,
    NeedlesCommitted,
    NeedlesStored,
    ObjectsLocated,
    Presign,
    Presigned,
    Request,
    StatObject,
    StoredNeedle,
)
from warehouse.transport.zeromq.link import Link

SEES = int(Permission.SEE_CLUSTER | Permission.SEE_EVENTS)
DATA = int(Permission.READ | Permission.LIST | Permission.DELETE | Permission.WRITE)


async def test_an_edit_counts_for_the_next_request_of_an_open_connection(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        await master.create_bucket("photos")
        assert master.running is not None
        key = await master.add_key(int(Permission.LIST | Permission.READ))
        link = await master.connect_as(key)
        token = await master.token(key)
        assert isinstance(await link.request(ListObjects(bucket="photos"), timeout_s=30), Listing)

        def narrow(row):
            return msgspec.structs.replace(row, permissions=int(Permission.READ))

        count = link.connect_count
        await master.running.keys.change(key.key_id, narrow)
        with pytest.raises((NotAuthenticated, LinkDown)):
            await link.request(ListObjects(bucket="photos"), timeout_s=30)
        await until(lambda: link.connect_count > count and link.is_up)
        with pytest.raises(NotAuthenticated, match="changed, disabled or deleted, or has expired"):
            await link.request(Attach(token=token), timeout_s=30)
        await link.request(Attach(token=await master.token(key)), timeout_s=30)
        with pytest.raises(PermissionDenied, match="lacks the permission list"):
            await link.request(ListObjects(bucket="photos"), timeout_s=30)


async def test_more_rights_come_without_another_login(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        assert master.running is not None
        key = await master.add_key(int(Permission.LIST))
        link = await master.connect_as(key)
        await master.running.keys.change(
            key.key_id, lambda row: msgspec.structs.replace(row, permissions=int(EVERYTHING))
        )
        assert isinstance(await link.request(CreateBucket(bucket="films"), timeout_s=30), Done)


@pytest.mark.parametrize("end", ["disabled", "deleted", "expired"])
async def test_a_key_that_has_ended_opens_nothing(tmp_path: Path, end: str) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        assert master.running is not None
        keys = master.running.keys
        key = await master.add_key(int(Permission.LIST))
        link = await master.connect_as(key)
        if end == "deleted":
            await keys.delete(key.key_id)
        elif end == "disabled":
            await keys.change(key.key_id, lambda row: msgspec.structs.replace(row, is_enabled=False))
        else:
            await keys.change(key.key_id, lambda row: msgspec.structs.replace(row, expires_ms=1))
        with pytest.raises((NotAuthenticated, LinkDown)):
            await link.request(ListBuckets(), timeout_s=30)
        await until(lambda: link.connect_count > 1)
        with pytest.raises(BadCredentials):
            await master.token(key)


async def test_the_last_use_is_noted(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        assert master.running is not None
        key = await master.add_key(int(Permission.LIST))
        link = await master.connect_as(key)
        await link.request(ListBuckets(), timeout_s=30)
        await master.running.keys.note_used()
        row = master.running.context.catalog.api_key(key.key_id)
        assert row is not None
        assert row.last_used_ms is not None
        assert row.last_used_ms > 1_700_000_000_000


async def test_a_bucket_that_a_key_may_not_see_is_as_if_there_were_none(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        await master.create_bucket("photos")
        films = await master.create_bucket("films")
        link = await master.connect_with(int(EVERYTHING), (Grant(DATA, films),))
        listed = await link.request(ListBuckets(), timeout_s=30)
        assert isinstance(listed, Buckets)
        assert [bucket.name for bucket in listed.buckets if isinstance(bucket, BucketInfo)] == ["films"]
        refusals = []
        for name in ("photos", "absent"):
            for request in (
                ListObjects(bucket=name),
                ListObjects(bucket=name, with_locations=True),
                StatObject(bucket=name, key="a"),
                LocateObjects(bucket=name, keys=["a"]),
                DeleteObjects(bucket=name, keys=["a"]),
                LeaseNeedles(bucket=name, needle_count=1, byte_count=1),
                DeleteBucket(bucket=name),
            ):
                with pytest.raises(NoSuchBucket) as caught:
                    await link.request(request, timeout_s=30)
                refusals.append(caught.value.message.replace(name, "NAME"))
        assert set(refusals) == {"there is no bucket 'NAME'"}


async def test_a_bucket_made_anew_is_not_open_to_old_grants(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        photos = await master.create_bucket("photos")
        link = await master.connect_with(int(EVERYTHING), (Grant(DATA, photos),))
        assert isinstance(await link.request(ListObjects(bucket="photos"), timeout_s=30), Listing)
        assert isinstance(await master.ask(DeleteBucket(bucket="photos"), Done), Done)
        await master.create_bucket("photos")
        with pytest.raises(NoSuchBucket):
            await link.request(ListObjects(bucket="photos"), timeout_s=30)


async def test_a_part_of_a_bucket_is_all_that_its_prefix_opens(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        photos = await master.create_bucket("photos")
        link = await master.connect_with(int(EVERYTHING), (Grant(DATA, photos, None, "2026/"),))
        assert isinstance(
            await link.request(ListObjects(bucket="photos", prefix="2026/"), timeout_s=30), Listing
        )
        await link.request(LocateObjects(bucket="photos", keys=["2026/a"]), timeout_s=30)
        await link.request(DeleteObjects(bucket="photos", keys=["2026/a"]), timeout_s=30)
        for request in (
            ListObjects(bucket="photos", prefix="2025/"),
            LocateObjects(bucket="photos", keys=["2025/b", "2025/a"]),
            DeleteObjects(bucket="photos", keys=["2026/a", "2025/a"]),
            StatObject(bucket="photos", key="2025/a"),
            DeleteBucket(bucket="photos"),
        ):
            with pytest.raises(PermissionDenied):
                await link.request(request, timeout_s=30)


async def test_making_buckets_is_confined_to_the_names_that_were_granted(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        grant = Grant(int(Permission.MANAGE_BUCKETS), bucket_prefix="team-")
        link = await master.connect_with(int(Permission.MANAGE_BUCKETS), (grant,))
        assert isinstance(await link.request(CreateBucket(bucket="team-a"), timeout_s=30), Done)
        with pytest.raises(PermissionDenied):
            await link.request(CreateBucket(bucket="photos"), timeout_s=30)
        with trio.fail_after(40):
            assert isinstance(await link.request(DeleteBucket(bucket="team-a"), timeout_s=30), Done)


# --- what ends with a key -------------------------------------------------------------------------


async def test_a_waiting_answer_ends_with_its_key_and_others_go_on(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        assert master.running is not None
        key = await master.add_key(SEES)
        link, other = await master.connect_as(key), await master.connect_with(SEES)
        ended = trio.Event()

        async def wait_for_news() -> None:
            after = 0
            with pytest.raises((NotAuthenticated, LinkDown)):
                while True:
                    answer = await link.request(ListEvents(after=after, wait_s=30.0), timeout_s=30)
                    assert isinstance(answer, Events)
                    after = answer.next_after
            ended.set()

        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait_for_news)
                await until(lambda: master.running.hub.in_flight)
                await master.running.keys.change(
                    key.key_id, lambda row: msgspec.structs.replace(row, is_enabled=False)
                )
                await ended.wait()
        await other.request(ListEvents(after=-1, limit=1, wait_s=0.0), timeout_s=30)
        assert other.connect_count == 1


async def test_a_key_that_expires_ends_its_connections(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        key = await master.add_key(int(Permission.LIST), expires_ms=int(time.time() * 1000) + 700)
        link = await master.connect_as(key)
        await link.request(ListBuckets(), timeout_s=30)
        await until(lambda: link.connect_count > 1)
        with pytest.raises(BadCredentials):
            await master.token(key)


async def test_volume_actors_hear_of_a_key_that_lost_rights_and_of_no_other_change(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        assert master.running is not None
        keys = master.running.keys
        key = await master.add_key(int(Permission.READ | Permission.LIST))
        await keys.change(key.key_id, lambda row: msgspec.structs.replace(row, description="mine"))
        await keys.change(key.key_id, lambda row: msgspec.structs.replace(row, permissions=int(EVERYTHING)))
        await keys.change(key.key_id, lambda row: msgspec.structs.replace(row, permissions=1))
        await until(lambda: master.disk.of(KeysRevoked))
        await keys.delete(key.key_id)
        await until(lambda: len(master.disk.of(KeysRevoked)) == 2)
        assert [order.epochs for order in master.disk.of(KeysRevoked)] == [
            {key.key_id: 2},
            {key.key_id: 3},
        ]
        welcome = master.disk.welcome
        assert welcome is not None
        assert welcome.revoked == {}
        master.disk.disconnect()
        await master.connect_disk()
        assert master.disk.welcome is not None
        assert master.disk.welcome.revoked == {key.key_id: 3}


async def test_a_volume_actor_that_does_not_take_in_a_revocation_registers_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocations, "TELL_S", 0.1)
    async with open_master(tmp_path, has_compactor=False) as master:
        assert master.running is not None
        master.disk.hold(KeysRevoked)
        key = await master.add_key(int(Permission.READ))
        await master.running.keys.delete(key.key_id)
        await until(lambda: master.disk.welcome is not None and master.disk.welcome.revoked)


async def test_a_write_that_has_waited_is_not_done_for_a_key_that_ended_meanwhile(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        key = await master.add_key(int(EVERYTHING))
        await master.connect_as(key)
        peer = next(
            peer
            for peer in master.running.hub.peers.values()
            if isinstance(peer.session, ClientSession) and peer.session.key_id == key.key_id
        )
        done: list[bool] = []
        work = master.running._sessions.guarded(peer, lambda t: done.append(True))
        await master.running.context.writer.write(work)
        await master.running.keys.change(
            key.key_id, lambda row: msgspec.structs.replace(row, is_enabled=False)
        )
        with pytest.raises(NotAuthenticated):
            await master.running.context.writer.write(work)
        assert done == [True]


async def test_a_put_looks_once_more_at_its_commit(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        assert master.running is not None
        bucket_id = await master.create_bucket("photos")
        key = await master.add_key(int(EVERYTHING))
        link = await master.connect_as(key)
        leased = await link.request(LeaseNeedles(bucket="photos", needle_count=8, byte_count=1), timeout_s=30)
        assert isinstance(leased, Leased)
        needle_id = leased.leases[0].first_needle_id

        claims = claims_of(leased.leases[0].token)
        assert (claims["sub"], claims["ep"]) == (key.key_id, 1)
        assert len(claims["jti"]) == 12

        def needle(number: int, key_id: str = key.key_id, epoch: int = 1) -> StoredNeedle:
            return StoredNeedle(
                volume_id=1,
                needle_id=needle_id + number,
                stamp=(number + 1) << 16,
                size=3,
                crc=1,
                stored_size=64,
                bucket_id=bucket_id,
                key=f"k{number}",
                created_ms=1,
                lease_id=claims["lid"],
                key_id=key_id,
                epoch=epoch,
            )

        assert (await commit(master, needle(0)))[0].etag is not None
        await master.running.keys.change(
            key.key_id, lambda row: msgspec.structs.replace(row, permissions=int(Permission.WRITE))
        )
        # The first was committed before: its answer may have been lost, and stays what it was.
        commits = await commit(master, needle(0), needle(1), needle(2, "", 0), needle(3, epoch=2))
        assert [one.code for one in commits] == [None, "token_revoked", None, None]
        # What was refused is void for good.
        assert [one.code for one in await commit(master, needle(1, epoch=2))] == ["needle_void"]


async def test_grants_name_the_key_its_prefixes_and_the_uploads_that_they_open(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        bucket_id = await master.create_bucket("photos")
        await master.stop()
        with closing(sqlite3.connect(tmp_path / "catalog.sqlite3")) as connection, connection:
            connection.executemany(
                "INSERT INTO objects (bucket_id, key, size, stamp, created_ms, volume_id, needle_id, crc,"
                " chunk_count, upload_id) VALUES (?, ?, 3, 65536, 1, 1, ?, 1, 1, ?)",
                [
                    (bucket_id, f"a/{number:04}", 1000 + number, (7 << 32) + number if number % 2 else None)
                    for number in range(1200)
                ],
            )
        await master.start()
        await master.client.wait_up()
        await until(lambda: master.running.context.fleet.disks[DISK_ID].is_online)
        link = await master.connect_with(DATA, (Grant(DATA, bucket_id, key_prefix="a/"),))

        async def locate(first: int, count: int) -> tuple[int, dict[str, Any]]:
            keys = [f"a/{number:04}" for number in range(first, first + count)]
            answer = await link.request(
                LocateObjects(bucket="photos", keys=keys, chunk_limit=8192), timeout_s=30
            )
            assert isinstance(answer, ObjectsLocated)
            [grant] = answer.grants
            return len(answer.objects), claims_of(grant.token)

        found, plain = await locate(0, 1)
        assert (found, plain["pfx"], "ups" in plain) == (1, ["a/"], False)
        assert (await locate(2, 1))[1]["jti"] == plain["jti"], "signed once for all who come with this key"
        _, named = await locate(0, 4)
        assert sorted(named["ups"]) == [1, 3]  # the lower half of each id
        # One token names so many and no more: the others are asked for again.
        found, named = await locate(0, 1000)
        assert (found, len(named["ups"])) == (1000, 500)
        assert (await locate(1, 1000))[0] == 1000
        asking = Asking(link)
        where = await ask_where(asking, "photos", [f"a/{number:04}" for number in range(1, 1200, 2)])  # type: ignore[arg-type]
        assert asking.count == 2
        for number, grants in zip(range(1, 1200, 2), where.grants, strict=True):
            assert number in claims_of(grants[1].token)["ups"]


async def test_a_url_lives_no_longer_than_its_key_says_and_lives(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        await master.create_bucket("photos")
        expires_ms = int(time.time() * 1000) + 600_000
        key = await master.add_key(int(EVERYTHING), sign_s_max=3600, expires_ms=expires_ms)
        link = await master.connect_as(key)
        with pytest.raises(BadRequest, match="this API key works for more than 0 s and at most 1 h"):
            await link.request(
                Presign(bucket="photos", key="k", method="PUT", expires_in_s=3601.0), timeout_s=30
            )
        signed = await link.request(
            Presign(bucket="photos", key="k", method="PUT", expires_in_s=3600.0, size_min=1), timeout_s=30
        )
        assert isinstance(signed, Presigned)
        claims = claims_of(signed.url.partition("?token=")[2])
        assert expires_ms - 2000 < claims["exp"] * 1000 <= expires_ms
        assert 590 < signed.expires_in_s <= 600
        assert (claims["sub"], claims["min"]) == (key.key_id, 1)


class Asking:
    """A library's way to the master, which counts what it asks."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.count = 0

    async def ask(self, request: Request, wanted: type[Any]) -> Any:
        self.count += 1
        return await self._link.request(request, timeout_s=30)


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = json.loads(urlsafe_b64decode(token.split(".")[1] + "=="))
    return claims


async def commit(master: RunningMaster, *needles: StoredNeedle) -> list[Commit]:
    assert master.disk.link is not None
    answer = await master.disk.link.request(NeedlesStored(needles=master.promised(*needles)), timeout_s=30)
    assert isinstance(answer, NeedlesCommitted)
    return answer.commits
