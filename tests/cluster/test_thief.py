"""A thief has everything that one machine of the store has.  That machine's disk is lost, and nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

import warehouse
from harness import RunningStore
from warehouse.catalog.sqlite.catalog import SqliteCatalog
from warehouse.conf.join import Join
from warehouse.errors import BadRequest, StoreError, VolumeOffline
from warehouse.transport.messages import (
    Join as JoinMessage,
)
from warehouse.transport.messages import (
    NeedlesCommitted,
    NeedlesStored,
    Register,
    RegisterCompactor,
    Request,
    StoredNeedle,
    Welcome,
)
from warehouse.transport.zeromq.curve import CurveKeys
from warehouse.transport.zeromq.link import Link

DISKS = ("disk-1", "disk-2")
NAMES = [f"{number:02}" for number in range(40)]


def command(store: RunningStore, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "warehouse", *words, "--profile", str(store.profile)],
        env=store.env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@asynccontextmanager
async def linked(join: Join, keys: CurveKeys, incarnation: int) -> AsyncIterator[Link]:
    link = Link(
        endpoint=join.master,
        server_key=join.server_key.encode(),
        keys=keys,
        name="thief",
        incarnation=incarnation,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(link.run)
        with trio.fail_after(60):
            await link.wait_up()
        yield link
        nursery.cancel_scope.cancel()


async def code_of(link: Link, request: Request) -> str:
    try:
        await link.request(request, timeout_s=10)
    except StoreError as error:
        return error.code
    return "ok"


def registration(disk_id: str, url: str, **changes: Any) -> Register:
    register = Register(
        join_secret="",
        disk_id=disk_id,
        disk_name="disk-1",
        incarnation=1 << 60,
        url=url,
        volumes=[],
        disk_capacity=1 << 40,
        disk_free=1 << 40,
        is_node=True,
    )
    return msgspec.structs.replace(register, **changes)


@pytest.mark.timeout(300)
def test_whoever_has_all_of_one_machine_costs_the_store_that_disk_and_nothing_else(tmp_path: Path) -> None:
    store = RunningStore(tmp_path / "store")
    machine = tmp_path / "machine"

    async def fill() -> dict[str, str]:
        async with warehouse.connect(store.profile) as client:
            await client.create_bucket("photos")
            await client.create_bucket("films")
            for name in NAMES:
                await client.bucket("photos").put(name, name.encode() * 10)
            return {disk.name: disk.disk_id for disk in await client.disks()}

    async def read_all() -> int:
        async with warehouse.connect(store.profile) as client:
            found = 0
            for name in NAMES:
                with suppress(VolumeOffline):
                    assert await client.bucket("photos").get(name) == name.encode() * 10
                    found += 1
            return found

    async def steal(loot: Path, join: Join, disks: dict[str, str]) -> None:
        keys = CurveKeys.load(loot / "node.key")
        mine, other = disks["disk-2"], disks["disk-1"]
        url = f"http://127.0.0.1:{store.port_base + 11}"
        known = json.loads((loot / "disk.json").read_text())
        epoch = {name: known[name] for name in ("epoch", "mark", "catalog_id")}
        async with linked(join, keys, 1 << 59) as link:
            # Another disk, with the stolen key and the greatest incarnation; its compactor; a disk made up.
            assert await code_of(link, registration(other, "http://192.0.2.66:1")) == "disk_pinned"
            compactor = RegisterCompactor(join_secret="", disk_id=other, disk_name="x", incarnation=1 << 60)
            assert await code_of(link, compactor) == "disk_pinned"
            assert await code_of(link, registration("e" * 32, url)) == "disk_pinned"
            # Its own disk, elsewhere: clients would follow.
            assert await code_of(link, registration(mine, "http://192.0.2.66:1")) == "disk_url_changed"
            welcome = await link.request(registration(mine, url, disk_name="disk-2", **epoch), timeout_s=10)
            assert isinstance(welcome, Welcome)
            # Needles that nobody was promised: of its own volume, and of the other disk's.
            for volume_id in (1, 2):
                made_up = [
                    StoredNeedle(volume_id, 900_000 + n, 1 << 40, 5, 1, 64, bucket, NAMES[n], 1)
                    for n, bucket in enumerate((1, 2))
                ]
                with suppress(BadRequest):  # a volume of the other disk
                    answer = await link.request(NeedlesStored(needles=made_up), timeout_s=10)
                    assert isinstance(answer, NeedlesCommitted)
                    assert [one.code for one in answer.commits] == ["not_promised"] * 2
        async with linked(join, CurveKeys.generate(), 1 << 59) as link:
            asked = JoinMessage(token=join.token, disk_id=other, disk_name="disk-1", role="volume")
            assert await code_of(link, asked) == "disk_pinned"
            mine_again = JoinMessage(token=join.token, disk_id=mine, disk_name="disk-2", role="volume")
            assert await code_of(link, mine_again) == "disk_pinned"
            assert await code_of(link, registration(other, url)) == "node_unknown"

    with store:
        machine.mkdir()
        join_file = machine / "join.toml"
        command(store, "join-token", "create", "--reusable", "--output", str(join_file))
        words = ["volume", "--disk", str(machine / "disk-2"), "--join", str(join_file), "--port", "0"]
        actor = subprocess.Popen(
            [sys.executable, "-m", "warehouse", *words], env=store.env, stdout=subprocess.PIPE
        )
        try:
            assert actor.stdout is not None
            assert actor.stdout.readline().startswith(b"ready")
            disks = trio.run(fill)
        finally:
            actor.kill()
            actor.communicate()
        loot, join = machine / "disk-2", Join.load(join_file)
        trio.run(steal, loot, join, disks)
        # The operator shuts the thief out; the other disk and its URL are what they were.
        command(store, "nodes", "rm", "disk-2")

        async def after() -> None:
            keys = CurveKeys.load(loot / "node.key")
            async with linked(join, keys, (1 << 59) + 1) as link:
                url = f"http://127.0.0.1:{store.port_base + 11}"
                assert await code_of(link, registration(disks["disk-2"], url)) == "node_removed"
            async with linked(join, CurveKeys.generate(), (1 << 59) + 1) as link:
                asked = JoinMessage(
                    token=join.token, disk_id=disks["disk-2"], disk_name="disk-2", role="volume"
                )
                assert await code_of(link, asked) == "disk_pinned", "a token from before the removal"

        trio.run(after)
        states = {
            one["name"]: one for one in map(json.loads, command(store, "disks", "ls", "--json").splitlines())
        }
        assert states["disk-1"]["is_online"]
        assert states["disk-1"]["url"] == f"http://127.0.0.1:{store.port_base + 10}"
        assert not states["disk-2"]["is_online"]
        found = trio.run(read_all)
        assert 0 < found < len(NAMES), "the objects of the other disk, whole"


@pytest.mark.timeout(300)
def test_a_rebuilt_catalog_knows_the_keys_of_its_disks_and_which_node_was_removed(
    tmp_path: Path,
) -> None:
    store = RunningStore(tmp_path / "store", volumes=2)

    async def put() -> None:
        async with warehouse.connect(store.profile) as client:
            await client.create_bucket("photos")
            for name in NAMES:
                await client.bucket("photos").put(name, b"x")

    with store:
        trio.run(put)
        command(store, "nodes", "rm", "disk-2")
        store.stop()
        subprocess.run(
            [sys.executable, "-m", "warehouse", "rebuild", "--replace", "--data", str(store.data)],
            env=store.env,
            capture_output=True,
            timeout=120,
            check=True,
        )
        after = tmp_path / "after"
        shutil.copytree(store.data / "master", after)
    with closing(SqliteCatalog.open(after / "catalog.sqlite3")) as catalog:
        keys = {name: CurveKeys.load(store.data / name / "node.key").public.decode() for name in DISKS}
        nodes = {node.name: node for node in catalog.nodes()}
        assert {name: nodes[name].key for name in DISKS} == keys
        assert {disk.name: disk.node_key for disk in catalog.disks()} == keys
        assert nodes["disk-1"].removed_ms is None
        assert nodes["disk-2"].removed_ms is not None
