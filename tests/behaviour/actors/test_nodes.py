"""Nodes: who gets in with which token, which key serves which disk, and how a node leaves."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from master_kit import DISK_ID, GIB, QUICK, RunningMaster, open_master, until
from warehouse.actors.control.fleet_state import DiskState
from warehouse.auth.rights import EVERYTHING, Grant, Permission
from warehouse.catalog.records import REMOVED_DISK_META
from warehouse.errors import StoreError
from warehouse.transport.messages import (
    ConfirmDisk,
    CreateJoinToken,
    DiskInfo,
    DiskRemoved,
    DiskReport,
    Disks,
    Done,
    Join,
    JoinTokenMade,
    JoinTokens,
    ListDisks,
    ListJoinTokens,
    ListLost,
    ListNodes,
    Lost,
    NodeInfo,
    Nodes,
    Register,
    RegisterCompactor,
    RemoveDisk,
    RemoveJoinToken,
    RemoveNode,
    Request,
    Welcome,
)
from warehouse.transport.zeromq.curve import CurveKeys
from warehouse.transport.zeromq.link import Link

SECOND = "e" * 32
THIRD = "f" * 32
INCARNATIONS = itertools.count(100)
SECRET = "the join secret of a store of 0.1.0"


class Machine:
    """A machine with a key and a disk, which says to the master whatever a test wants."""

    def __init__(
        self,
        master: RunningMaster,
        disk_id: str = SECOND,
        *,
        name: str = "disk-2",
        keys: CurveKeys | None = None,
    ) -> None:
        self._master = master
        self.keys = keys or CurveKeys.generate()
        self.disk_id = disk_id
        self.name = name
        self._incarnation = 0
        self._scope = trio.CancelScope()

    async def connected(self) -> Link:
        """A new connection of this machine; the one before ends."""
        self._scope.cancel()
        self._scope, self._incarnation = trio.CancelScope(), next(INCARNATIONS)
        link = await self._master.connect(
            self.name, None, incarnation=self._incarnation, scope=self._scope, keys=self.keys
        )
        with trio.fail_after(30):
            await link.wait_up()
        return link

    async def says(self, request: Request) -> str:
        """What a request leads to on a new connection: "ok", or a code."""
        link = await self.connected()
        try:
            await link.request(request, timeout_s=10)
        except StoreError as error:
            return error.code
        return "ok"

    async def joins(self, token: str, role: str = "volume", **changes: Any) -> str:
        values = {"token": token, "disk_id": self.disk_id, "disk_name": self.name, "role": role}
        return await self.says(Join(**{**values, **changes}))

    def registration(self, **changes: Any) -> Register:
        values: dict[str, Any] = {
            "join_secret": "",
            "disk_id": self.disk_id,
            "disk_name": self.name,
            "incarnation": next(INCARNATIONS),
            "url": "http://127.0.0.1:2",
            "volumes": [],
            "disk_capacity": 200 * GIB,
            "disk_free": 100 * GIB,
            "is_node": True,
        }
        return Register(**{**values, **changes})

    async def registers(self, **changes: Any) -> str:
        return await self.says(self.registration(**changes))

    async def registers_compactor(self, disk_id: str, secret: str = "") -> str:
        return await self.says(
            RegisterCompactor(
                join_secret=secret, disk_id=disk_id, disk_name="x", incarnation=next(INCARNATIONS)
            )
        )


async def new_token(master: RunningMaster, **options: Any) -> JoinTokenMade:
    return await master.ask(CreateJoinToken(**{"expires_in_s": 3600.0, **options}), JoinTokenMade)


async def nodes_of(master: RunningMaster) -> dict[str, NodeInfo]:
    return {node.name: node for node in (await master.ask(ListNodes(), Nodes)).nodes}


async def disks_of(master: RunningMaster) -> dict[str, DiskInfo]:
    return {disk.name: disk for disk in (await master.ask(ListDisks(), Disks)).disks}


# --- joining --------------------------------------------------------------------------------------


async def test_a_machine_joins_once_and_its_key_is_enough_from_then_on(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        machine = Machine(master)
        assert await machine.registers() == "node_unknown"
        made = await new_token(master)
        assert await machine.joins(made.token) == "ok"
        assert await machine.joins(made.token) == "ok", "its answer may have been lost"
        assert await machine.registers() == "ok"
        assert await machine.registers_compactor(SECOND) == "ok"
        await master.restart()
        assert await machine.registers() == "ok"
        await master.client.wait_up()
        node = (await nodes_of(master))["disk-2"]
        assert (node.key, node.role, node.joined_with) == (
            machine.keys.public.decode(),
            "both",
            made.token_id,
        )
        assert (node.disk_ids, node.host, node.removed_ms) == ([SECOND], "127.0.0.1", None)
        disk = (await disks_of(master))["disk-2"]
        assert (disk.node_key, disk.node_name, disk.url) == (node.key, "disk-2", "http://127.0.0.1:2")
        text = (tmp_path / "catalog.sqlite3").read_bytes() + (tmp_path / "catalog.sqlite3-wal").read_bytes()
        assert made.token.encode() not in text
        assert made.token.split("-", 2)[2].encode() not in text, "the catalog has digests alone"


async def test_a_token_lets_in_whom_it_is_for_and_nobody_else(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        first, second = Machine(master), Machine(master, THIRD, name="disk-3")
        once = await new_token(master)
        assert await first.joins(once.token) == "ok"
        assert await second.joins(once.token) == "join_token_used"
        assert await second.registers() == "node_unknown"
        for text in ("", "guess", once.token[:-1] + "!", "wjt-" + "0" * 12 + once.token[16:]):
            assert await second.joins(text) == "join_token_invalid"
        of_compactors = await new_token(master, role="compactor")
        assert await second.joins(of_compactors.token) == "join_token_role"
        removed = await new_token(master, is_reusable=True)
        await master.ask(RemoveJoinToken(token_id=removed.token_id), Done)
        assert await second.joins(removed.token) == "join_token_invalid"
        short = await new_token(master, expires_in_s=0.05)
        await trio.sleep(0.1)
        assert await second.joins(short.token) == "join_token_expired"
        many = await new_token(master, is_reusable=True, expires_in_s=None)
        assert await second.joins(many.token, role="driver") == "bad_request"
        assert await second.joins(many.token, disk_id="master") == "bad_request"
        assert await second.joins(many.token) == "ok"
        assert await Machine(master, "9" * 32, name="disk-4").joins(many.token) == "ok"
        listed = {one.token_id: one for one in (await master.ask(ListJoinTokens(), JoinTokens)).tokens}
        assert listed[many.token_id].use_count == 2
        assert (listed[once.token_id].use_count, listed[once.token_id].is_reusable) == (1, False)
        assert removed.token_id not in listed


async def test_two_machines_race_for_one_token_and_one_of_them_gets_in(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        made = await new_token(master)
        outcomes: list[str] = []

        async def race(number: int) -> None:
            outcomes.append(await Machine(master, f"{number:032x}", name=f"m-{number}").joins(made.token))

        async with trio.open_nursery() as nursery:
            for number in range(1, 6):
                nursery.start_soon(race, number)
        assert sorted(outcomes) == ["join_token_used"] * 4 + ["ok"]


async def test_a_node_of_one_role_does_not_act_in_the_other(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        machine = Machine(master)
        assert await machine.joins((await new_token(master, role="volume")).token) == "ok"
        assert await machine.registers() == "ok"
        assert await machine.registers_compactor(SECOND) == "join_token_role"
        assert await machine.joins((await new_token(master, role="compactor")).token, "compactor") == "ok"
        assert await machine.registers_compactor(SECOND) == "ok"
        assert await machine.registers() == "ok"


# --- which key serves which disk ------------------------------------------------------------------


async def test_another_node_never_gets_a_disk_whatever_it_says(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        thief = Machine(master)
        assert await thief.joins((await new_token(master)).token) == "ok"
        assert await thief.registers() == "ok"
        for claims in (
            {"incarnation": 1 << 60},
            {
                "incarnation": 1 << 60,
                "is_adopted": True,
                "epoch": 99,
                "offered_epoch": 100,
                "offered_mark": 5,
            },
            {"join_secret": "guess"},
        ):
            assert await thief.registers(disk_id=DISK_ID, disk_name="disk-1", **claims) == "disk_pinned"
        assert await thief.joins((await new_token(master)).token, disk_id=DISK_ID) == "disk_pinned"
        assert await thief.registers_compactor(DISK_ID) == "disk_pinned"
        # A disk that nobody has needs a token of its own.
        assert await thief.registers(disk_id=THIRD) == "disk_pinned"
        status = await master.status()
        assert {disk.name: disk.url for disk in status.disks}["disk-1"] == "http://127.0.0.1:1"
        assert [disk.is_online for disk in status.disks if disk.name == "disk-1"] == [True]
        assert ("disk_pinned", DISK_ID) in {(one.name, one.subject) for one in status.troubles}
        assert len(await master.events("disk_pinned")) >= 1
        assert await thief.registers() == "ok", "its own disk is its own"


async def test_a_disk_may_move_to_another_port_and_to_another_host_once_it_is_confirmed(
    tmp_path: Path,
) -> None:
    async with open_master(tmp_path) as master:
        machine = Machine(master)
        assert await machine.joins((await new_token(master)).token) == "ok"
        assert await machine.registers() == "ok"
        assert await machine.registers(url="http://127.0.0.1:3") == "ok"
        elsewhere = "http://192.0.2.66:3"
        assert await machine.registers(url=elsewhere) == "disk_url_changed"
        assert [one.name for one in (await master.status()).troubles] == ["disk_url_changed"]
        for url in ("", "ftp://192.0.2.66", "http://", "nonsense"):
            assert await machine.registers(url=url) == "bad_request"
            with pytest.raises(StoreError):
                await master.ask(ConfirmDisk(disk="disk-2", url=url), Done)
        with pytest.raises(StoreError, match="no disk"):
            await master.ask(ConfirmDisk(disk="disk-9", url=elsewhere), Done)
        await master.ask(ConfirmDisk(disk="disk-2", url=elsewhere), Done)
        assert (await master.status()).troubles == []
        assert await machine.registers(url="http://127.0.0.1:3") == "disk_url_changed"
        assert await machine.registers(url=elsewhere) == "ok"
        assert (await disks_of(master))["disk-2"].url == elsewhere


async def test_a_removed_node_ends_at_once_and_its_key_never_comes_back(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        many = await new_token(master, is_reusable=True)
        machine = Machine(master)
        assert await machine.joins(many.token) == "ok"
        link = await machine.connected()
        welcome = await link.request(machine.registration(), timeout_s=30)
        assert isinstance(welcome, Welcome)
        await master.ask(RemoveNode(node="disk-2"), Done)
        with trio.fail_after(30):
            await link.wait_down()
        assert await machine.registers() == "node_removed"
        assert await machine.joins(many.token) == "node_removed"
        assert await machine.registers_compactor(SECOND) == "node_removed"
        with pytest.raises(StoreError, match="no node"):
            await master.ask(RemoveNode(node="disk-2"), Done)
        removed = (await nodes_of(master))["disk-2"]
        assert removed.removed_ms is not None
        assert (await disks_of(master))["disk-2"].is_online is False
        # Whoever has the old join file cannot take the disk over; who gets a new token can.
        successor = Machine(master, name="disk-2b")
        assert await successor.joins(many.token) == "disk_pinned"
        assert await successor.joins(many.token, disk_id=THIRD) == "ok"
        assert await successor.registers() == "disk_pinned"
        await trio.sleep(0.01)
        successor = Machine(master, name="disk-2c")
        assert await successor.joins((await new_token(master)).token) == "ok"
        link = await successor.connected()
        after = await link.request(successor.registration(), timeout_s=30)
        assert isinstance(after, Welcome)
        assert set(after.token_keys.values()).isdisjoint(welcome.token_keys.values()), "they are void"
        await master.restart()
        assert await machine.registers() == "node_removed"


async def test_what_is_done_to_nodes_needs_the_right_to_manage_the_cluster(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        made = await new_token(master)
        acts: list[Request] = [
            CreateJoinToken(),
            ListJoinTokens(),
            RemoveJoinToken(token_id=made.token_id),
            RemoveNode(node="disk-1"),
            ConfirmDisk(disk="disk-1", url="http://192.0.2.1:1"),
        ]
        looks: list[Request] = [ListNodes(), ListDisks()]
        for permissions, refused in (
            (EVERYTHING & ~Permission.MANAGE_CLUSTER, acts),
            (EVERYTHING & ~Permission.SEE_CLUSTER, looks),
        ):
            link = await master.connect_with(int(permissions))
            for request in refused:
                with pytest.raises(StoreError) as caught:
                    await link.request(request, timeout_s=30)
                assert caught.value.code == "permission_denied"
        stranger = Machine(master)
        for request in (*acts, *looks):
            assert await stranger.says(request) == "not_authenticated"


# --- a disk that is gone for good -----------------------------------------------------------------


async def removed_code(link: Link, disk: str = "disk-1") -> str:
    try:
        answer = await link.request(RemoveDisk(disk=disk), timeout_s=10)
    except StoreError as error:
        return error.code
    assert isinstance(answer, DiskRemoved)
    assert answer.is_done
    return f"{answer.object_count} objects, {answer.byte_count} bytes"


async def test_a_disk_that_is_gone_is_forgotten_with_what_is_lost_and_never_comes_back(
    tmp_path: Path,
) -> None:
    async with open_master(tmp_path, intervals=replace(QUICK, away=0.5)) as master:
        bucket_id = await master.create_bucket("photos")
        for needle_id, key in enumerate(("a", "b", "c"), 1):
            await master.disk.store(1, needle_id, bucket_id, key)
        assert await removed_code(master.client) == "disk_online"
        master.disk.disconnect()
        await until(lambda: not master.running.context.fleet.disks[DISK_ID].is_online)
        assert await removed_code(master.client) == "disk_online", "its compactor is there"
        master.compactor.disconnect()
        await until(lambda: master.running.context.fleet.disks[DISK_ID].compactor is None)
        # Whoever may manage the cluster may not delete what is in buckets of others.
        confined = (Grant(Permission.DELETE, bucket_id=bucket_id, bucket_prefix=None),)
        for permissions, grants in (
            (EVERYTHING & ~Permission.DELETE, None),
            (EVERYTHING & ~Permission.MANAGE_CLUSTER, None),
            (EVERYTHING, confined),
        ):
            link = await master.connect_with(int(permissions), grants)
            assert await removed_code(link) == "permission_denied"
        operator = await master.connect_with(int(Permission.SEE_CLUSTER))
        for asking, names in ((master.client, ["a", "b", "c"]), (operator, [""] * 3)):
            page = await asking.request(ListLost(disk="disk-1"), timeout_s=30)
            assert isinstance(page, Lost)
            assert [one.key for one in page.objects] == names
        with trio.fail_after(30):
            while (outcome := await removed_code(master.client)) == "disk_online":
                await trio.sleep(0.05)
        assert outcome == "3 objects, 9 bytes"
        assert await removed_code(master.client) == "no_such_disk"
        assert await disks_of(master) == {}
        status = await master.status()
        assert (status.object_count, status.disks) == (0, [])
        assert [event.fields["disk"] for event in await master.events("disk_removed")] == ["disk-1"]
        assert master.running.context.catalog.check_counts() == []
        await master.restart()
        await master.client.wait_up()
        # With its old key, and with a new one: it is refused, and the catalog is not taken for an older one.
        old = Machine(master, DISK_ID, name="disk-1", keys=master.keys)
        claims = {"epoch": 5, "mark": 7, "catalog_id": master.running.context.catalog.catalog_id}
        assert await old.registers(**claims) == "disk_mismatch"
        many = await new_token(master, is_reusable=True)
        again = Machine(master, DISK_ID, name="disk-1")
        assert await again.joins(many.token) == "disk_mismatch"
        assert await again.joins(many.token, disk_id=SECOND) == "ok"
        assert await again.registers(**claims) != "ok"
        troubles = (await master.status()).troubles
        assert [one.message for one in troubles if "warehouse disks rm" in one.message]
        assert not [one for one in troubles if one.name == "catalog_behind"]
        assert await again.registers(disk_id=SECOND, disk_name="disk-2") == "ok"
        await until(lambda: master.read("SELECT seq FROM sqlite_sequence WHERE name = 'volumes'")[0][0] > 1)
        assert (1,) not in master.read("SELECT id FROM volumes"), "no volume id is used again"
        assert master.running.context.catalog.check_counts() == []


async def test_a_removal_that_a_crash_cut_off_goes_on_and_the_disk_is_refused_meanwhile(
    tmp_path: Path,
) -> None:
    async with open_master(tmp_path, intervals=replace(QUICK, away=0.0), has_compactor=False) as master:
        bucket_id = await master.create_bucket("photos")
        await master.disk.store(1, 1, bucket_id, "a")
        master.disk.disconnect()
        # All that a first piece leaves for certain.
        writer = master.running.context.writer
        await writer.write(lambda t: t.set_meta(REMOVED_DISK_META + DISK_ID, 1))
        await master.restart()
        await master.client.wait_up()
        machine = Machine(master, DISK_ID, name="disk-1", keys=master.keys)
        assert await machine.registers() == "disk_mismatch"
        assert not (await disks_of(master))["disk-1"].is_online
        (trouble,) = [
            one for one in (await master.status()).troubles if one.name == "disk_removal_unfinished"
        ]
        assert trouble.subject == DISK_ID
        assert f"warehouse disks rm {DISK_ID}" in trouble.message
        assert await removed_code(master.client) == "1 objects, 3 bytes"
        assert await machine.registers() == "disk_mismatch"
        assert await disks_of(master) == {}
        assert not master.running.context.troubles.has("disk_removal_unfinished")
        assert master.running.context.catalog.check_counts() == []


async def test_disks_are_listed_by_name_and_those_of_one_name_by_id(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        for disk_id, name in (("3" * 32, "a"), ("1" * 32, "z"), ("2" * 32, "a")):
            master.running.context.fleet.add_disk(DiskState(disk_id, name))
        listed = (await master.ask(ListDisks(), Disks)).disks
        assert [(disk.name, disk.disk_id[0]) for disk in listed] == [
            ("a", "2"),
            ("a", "3"),
            ("disk-1", DISK_ID[0]),
            ("z", "1"),
        ]


async def test_a_certificate_of_the_operator_that_is_refused_is_a_trouble_until_it_is_good(
    tmp_path: Path,
) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        assert master.disk.link is not None
        report = DiskReport(volumes=[], disk_free=master.disk.free)

        async def told() -> list[tuple[str, str]]:
            troubles = (await master.status()).troubles
            return [(one.subject, one.message) for one in troubles if one.name == "certificate_refused"]

        refused = msgspec.structs.replace(report, certificate_refusal="it has ended")
        await master.disk.link.request(refused, timeout_s=10)
        master.running._tell_certificate_refused("it is of another host")
        (of_disk, why), (of_master, why_not) = sorted(await told(), reverse=True)
        assert (of_disk, of_master) == ("master", DISK_ID)
        assert "it is of another host" in why
        assert "disk-1 refuses" in why_not
        assert "it has ended" in why_not
        await master.disk.link.request(report, timeout_s=10)
        master.running._tell_certificate_refused("")
        assert await told() == []


# --- stores of 0.1.0 ------------------------------------------------------------------------------


async def test_the_join_secret_of_an_older_store_works_until_the_first_node_joins_with_a_token(
    tmp_path: Path,
) -> None:
    async with open_master(tmp_path) as master:
        secret_file = tmp_path / "keys" / "join.secret"
        secret_file.write_text(SECRET)
        secret_file.chmod(0o600)
        master.load_keyring()
        await master.restart()
        # An actor of 0.1.0 makes a new key at each start.
        assert await Machine(master).registers(is_node=False, join_secret="guess") == "node_unknown"
        assert await Machine(master).registers(is_node=False, join_secret=SECRET) == "ok"
        assert await Machine(master).registers(is_node=False, join_secret=SECRET) == "ok"
        assert await Machine(master).registers_compactor(SECOND, SECRET) == "ok"
        long = [
            Machine(master).registration(
                join_secret=SECRET, is_node=False, broken=dict.fromkeys(range(2000), "x" * 100)
            )
        ]
        assert await Machine(master).says(*long) == "ok"
        # One that keeps its key is tied to it at that moment; from then on the secret opens that disk no more.
        keeper = Machine(master)
        assert await keeper.registers(join_secret=SECRET) == "ok"
        assert await Machine(master).registers(is_node=False, join_secret=SECRET) == "disk_pinned"
        assert await Machine(master).registers(join_secret=SECRET) == "disk_pinned"
        assert await Machine(master).registers_compactor(SECOND, SECRET) == "disk_pinned"
        assert await keeper.registers(join_secret="") == "ok"
        await master.client.wait_up()
        assert await Machine(master, THIRD, name="disk-3").joins((await new_token(master)).token) == "ok"
        assert not secret_file.exists()
        late = Machine(master, "9" * 32, name="disk-4")
        assert await late.registers(join_secret=SECRET) == "node_unknown"
        assert (
            await late.says(
                late.registration(join_secret=SECRET, broken=dict.fromkeys(range(2000), "x" * 100))
            )
            == "node_unknown"
        )
        # Also when the file comes back, from a backup of the keys alone.
        secret_file.write_text(SECRET)
        secret_file.chmod(0o600)
        master.load_keyring()
        await master.restart()
        assert await late.registers(join_secret=SECRET) == "node_unknown"
        assert await keeper.registers(join_secret=SECRET) == "ok"
