"""The compactor against a real hub: orders, answers, a master that comes anew, and its process."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

import warehouse.actors.compactor
from links_kit import HUB_KEYS, free_endpoint, until
from warehouse.actors.compactor import Compactor
from warehouse.actors.process import Announcer
from warehouse.conf.join import Join
from warehouse.errors import (
    BadCredentials,
    BadRequest,
    NoRoomToCompact,
    NoSuchJob,
    NoSuchVolume,
    StaleIncarnation,
    VolumeBusy,
)
from warehouse.storage.compaction.scrub import Scrub
from warehouse.storage.disk import OsDisk
from warehouse.storage.files import data_path, volume_directory
from warehouse.storage.format.needle import HEADER_SIZE, NeedleMetadata
from warehouse.storage.identity import load_identity
from warehouse.storage.volume import Volume
from warehouse.transport.messages import (
    Answer,
    CompactorWelcome,
    CreateVolume,
    Done,
    PollTask,
    RegisterCompactor,
    Request,
    StartCopy,
    StartVerify,
    StopTask,
    TaskState,
)
from warehouse.transport.zeromq.curve import CurveKeys
from warehouse.transport.zeromq.hub import Hub
from warehouse.transport.zeromq.peers import Peer

ROOT = Path(__file__).parents[3]
UUID = "0f14d0ab-9605-4a62-a9e4-5ed26688389b"
MIB = 1024 * 1024


class Master:
    """A scripted master: lets compactors in, and orders what a test says."""

    def __init__(self, incarnation: int = 1) -> None:
        self.incarnation = incarnation
        self.greetings: list[RegisterCompactor] = []
        self.peer: Peer | None = None

    def answer_now(self, peer: Peer, request: Request) -> Answer | None:
        assert isinstance(request, RegisterCompactor)
        if request.join_secret != "secret":
            raise BadCredentials("this is not our join secret")
        self.greetings.append(request)
        self.peer = peer
        return CompactorWelcome(incarnation=self.incarnation)

    async def answer(self, peer: Peer, request: Request) -> Answer:
        raise AssertionError(request)

    def on_gone(self, peer: Peer) -> None:
        if peer is self.peer:
            self.peer = None

    @asynccontextmanager
    async def listening(self, endpoint: str) -> AsyncIterator[None]:
        hub = Hub(
            keys=HUB_KEYS,
            incarnation=self.incarnation,
            answer_now=self.answer_now,
            answer=self.answer,
            on_gone=self.on_gone,
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(hub.run, endpoint)
            yield
            nursery.cancel_scope.cancel()

    async def ask(self, request: Request) -> Answer:
        await until(lambda: self.peer is not None, 20)
        assert self.peer is not None
        return await self.peer.request(request, timeout_s=20)

    async def poll(self, task_id: int = 1, *, rate: int | None = None) -> TaskState:
        state = await self.ask(PollTask(incarnation=self.incarnation, task_id=task_id, rate=rate))
        assert isinstance(state, TaskState)
        return state

    async def until_over(self, task_id: int = 1, *, rate: int | None = None) -> TaskState:
        with trio.fail_after(30):
            while (state := await self.poll(task_id, rate=rate)).state == "running":
                await trio.sleep(0.01)
        return state

    def verify(self, task_id: int = 1, *, volume_id: int = 7, rate: int | None = None) -> StartVerify:
        return StartVerify(
            incarnation=self.incarnation,
            task_id=task_id,
            volume_id=volume_id,
            uuid=UUID,
            generation=1,
            start=0,
            rate=rate,
        )

    def copy(self, task_id: int = 1, *, rate: int | None = None) -> StartCopy:
        return StartCopy(
            incarnation=self.incarnation,
            task_id=task_id,
            volume_id=7,
            uuid=UUID,
            generation=1,
            end_offset=4096,
            horizon=0,
            rate=rate,
        )

    def stop(self, task_id: int = 1) -> StopTask:
        return StopTask(incarnation=self.incarnation, task_id=task_id)


class Site:
    """A disk with one volume of 8 MiB, and what its compactor needs to know."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.disk = OsDisk(root)
        self.identity = load_identity(root, created_ms=1)
        self.endpoint = free_endpoint()
        self.volume = Volume.create(
            self.disk, volume_directory(7), volume_id=7, uuid=UUID, capacity=1 << 30, created_ms=1
        )
        for needle_id in range(1, 17):
            metadata = NeedleMetadata("photos", 3, f"key-{needle_id}", 1)
            data = random.Random(needle_id).randbytes(MIB // 2)
            self.volume.append(needle_id, metadata, data, stamp=needle_id)
        self.volume.sync()

    def join(self, secret: str = "secret") -> Join:
        return Join(master=self.endpoint, server_key=HUB_KEYS.public.decode(), secret=secret)

    def compactor(self, secret: str = "secret") -> Compactor:
        return Compactor(
            disk=self.disk,
            disk_id=self.identity.disk_id,
            disk_name="disk-1",
            join=self.join(secret),
            keys=CurveKeys.generate(),
            announcer=Announcer(is_json=True),
        )

    def damage(self, needle_id: int) -> None:
        found = self.volume.find(needle_id)
        assert found is not None
        with (self.root / data_path(volume_directory(7), 1)).open("r+b") as file:
            file.seek(found.offset + HEADER_SIZE + found.metadata_size + 5)
            byte = file.read(1)[0]
            file.seek(-1, 1)
            file.write(bytes([byte ^ 1]))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.volume.close()


@asynccontextmanager
async def at_work(site: Site) -> AsyncIterator[Master]:
    """A master and a compactor that know each other."""
    master = Master()
    async with master.listening(site.endpoint), trio.open_nursery() as nursery:
        nursery.start_soon(site.compactor().run)
        await until(lambda: master.peer is not None)
        yield master
        nursery.cancel_scope.cancel()


# --- orders ---------------------------------------------------------------------------------------


async def test_it_says_who_it_is_and_is_ready(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    async with at_work(site) as master:
        (greeting,) = master.greetings
        assert greeting.disk_id == site.identity.disk_id
        assert greeting.disk_name == "disk-1"
        with pytest.raises(NoSuchJob):  # answered once the link is up
            await master.poll(1)
        ready = json.loads(capfd.readouterr().out)
        assert ready == {"event": "ready", "disk": "disk-1"}


async def test_a_verification_finds_what_is_damaged(site: Site) -> None:
    site.damage(3)
    site.damage(15)
    site.volume.delete(15, stamp=100)
    site.volume.sync()
    async with at_work(site) as master:
        assert await master.ask(master.verify()) == Done()
        state = await master.until_over()
        file_size = site.volume.stats().file_size
        assert (state.state, state.end_offset, state.done_bytes, state.total_bytes) == (
            "done",
            *[file_size] * 3,
        )
        assert state.damaged_count == 1
        (damage,) = state.damages
        assert (damage.volume_id, damage.needle_id, damage.bucket, damage.key) == (7, 3, "photos", "key-3")
        assert await master.ask(master.verify()) == Done(), "asked again"
        assert (await master.poll()).state == "done"
        assert await master.ask(master.verify(2)) == Done()
        assert (await master.until_over(2)).state == "done"
        with pytest.raises(NoSuchJob):
            await master.poll(1)


async def test_the_next_attempt_waits_until_the_one_that_is_done_is_cleaned_up(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    close, may_close = Scrub.close, threading.Event()

    def close_late(scrub: Scrub) -> None:
        assert may_close.wait(30)
        close(scrub)

    monkeypatch.setattr(Scrub, "close", close_late)
    async with at_work(site) as master, trio.open_nursery() as nursery:
        assert await master.ask(master.verify(1)) == Done()
        assert (await master.until_over(1)).state == "done"
        answers: list[Answer] = []

        async def start_next() -> None:
            answers.append(await master.ask(master.verify(2)))

        nursery.start_soon(start_next)
        assert (await master.poll(1)).state == "done"
        may_close.set()
        await until(lambda: answers == [Done()])
        assert (await master.until_over(2)).state == "done"


async def test_one_attempt_at_a_time(site: Site) -> None:
    async with at_work(site) as master:
        assert await master.ask(master.verify(1, rate=0)) == Done()
        assert await master.ask(master.verify(1, rate=0)) == Done(), "the same again"
        for other in (master.verify(2), master.copy(3)):
            with pytest.raises(VolumeBusy, match="attempt 1"):
                await master.ask(other)
        with pytest.raises(NoSuchJob):
            await master.poll(2)
        assert await master.ask(master.stop(1)) == Done()
        with pytest.raises(NoSuchJob):
            await master.poll(1)
        with pytest.raises(NoSuchJob):
            await master.ask(master.stop(1))
        assert await master.ask(master.verify(2)) == Done()
        assert (await master.until_over(2)).state == "done"


async def test_it_is_held_and_goes_on_at_the_rate_that_was_said_last(site: Site) -> None:
    async with at_work(site) as master:
        await master.ask(master.verify(rate=0))
        for _ in range(5):
            await trio.sleep(0.05)
            assert (await master.poll(rate=0)).done_bytes == 0
        rate = 6 * MIB
        begun = trio.current_time()
        state = await master.until_over(rate=rate)
        elapsed = trio.current_time() - begun
        assert state.state == "done"
        # The last step is not waited for; a busy machine takes longer than the rate asks for.
        at_this_rate = (state.done_bytes - MIB) / rate
        assert 0.8 * at_this_rate < elapsed < at_this_rate + 20


async def test_failures_are_told(site: Site) -> None:
    async with at_work(site) as master:
        await master.ask(master.verify(1, volume_id=8))
        state = await master.until_over()
        assert (state.state, state.code) == ("failed", NoSuchVolume.code)
        assert "volumes/8" in state.message


async def test_what_does_not_make_sense_is_refused(site: Site) -> None:
    async with at_work(site) as master:
        with pytest.raises(BadRequest, match="CreateVolume"):
            await master.ask(CreateVolume(incarnation=1, volume_id=9, uuid=UUID, capacity=1 << 20))
        with pytest.raises(BadRequest, match="rate"):
            await master.ask(master.verify(rate=-1))
        with pytest.raises(NoSuchJob):
            await master.poll(1)


# --- copies, with a stand-in for the work itself --------------------------------------------------


class SlowCopy:
    """Pretends to copy, and leaves a file as a copy does."""

    made: list[SlowCopy]

    def __init__(self, disk: OsDisk, directory: str, **command: object) -> None:
        if command["horizon"] == 13:
            raise NoRoomToCompact("there is no room")
        self.command = command
        self.path = disk.root / directory / "g2.vol"
        self.path.write_bytes(b"half a copy")
        self.position = self.read_bytes = self.written_bytes = 0
        self.end_offset = 1 << 30
        self.damages: list[object] = []
        self.damaged_count = 0
        self.made.append(self)

    def step(self) -> bool:
        time.sleep(0.001)
        self.position += MIB
        self.read_bytes += MIB
        self.written_bytes += MIB
        return True

    def close(self) -> None:
        pass

    def remove(self) -> None:
        self.path.unlink()


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[SlowCopy]:
    SlowCopy.made = []
    monkeypatch.setattr(warehouse.actors.compactor, "Copy", SlowCopy)
    return SlowCopy.made


async def test_a_copy_that_is_stopped_leaves_nothing(site: Site, copies: list[SlowCopy]) -> None:
    async with at_work(site) as master:
        await master.ask(master.copy(rate=None))
        await until(lambda: bool(copies) and copies[0].position > 5 * MIB)
        assert copies[0].command == {"uuid": UUID, "generation": 1, "end_offset": 4096, "horizon": 0}
        state = await master.poll()
        assert state.written_bytes > 0
        assert (state.end_offset, state.generation) == (1 << 30, 1)
        assert copies[0].path.exists()
        assert await master.ask(master.stop()) == Done()
        assert not copies[0].path.exists()


async def test_a_compactor_that_ends_takes_its_copy_along(site: Site, copies: list[SlowCopy]) -> None:
    async with at_work(site) as master:
        await master.ask(master.copy(rate=MIB))
        await until(lambda: bool(copies))
    assert not copies[0].path.exists()


async def test_a_master_that_was_restarted_starts_anew(site: Site, copies: list[SlowCopy]) -> None:
    first, second = Master(1), Master(2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.compactor().run)
        async with first.listening(site.endpoint):
            await first.ask(first.copy(1, rate=MIB))
            await until(lambda: bool(copies))
        async with second.listening(site.endpoint):
            await until(lambda: second.peer is not None)
            for old in (
                PollTask(incarnation=1, task_id=1, rate=None),
                StopTask(incarnation=1, task_id=1),
                first.copy(1),
                first.verify(9),
            ):
                with pytest.raises(StaleIncarnation):
                    await second.ask(old)
            await until(lambda: not copies[0].path.exists(), 20)
            assert await second.ask(second.copy(1, rate=MIB)) == Done(), "numbers start anew with the master"
            await until(lambda: len(copies) == 2)
            assert (await second.poll(1, rate=MIB)).state == "running"
        nursery.cancel_scope.cancel()


async def test_a_connection_that_breaks_costs_no_attempt(site: Site, copies: list[SlowCopy]) -> None:
    master = Master()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.compactor().run)
        async with master.listening(site.endpoint):
            await master.ask(master.copy(rate=MIB))
            await until(lambda: bool(copies))
        master.peer = None
        async with master.listening(site.endpoint):
            assert (await master.poll(rate=MIB)).state == "running"
            assert len(master.greetings) == 2
            assert len(copies) == 1
        nursery.cancel_scope.cancel()


async def test_a_copy_that_does_not_fit_says_so(site: Site, copies: list[SlowCopy]) -> None:
    async with at_work(site) as master:
        command = StartCopy(
            incarnation=1,
            task_id=1,
            volume_id=7,
            uuid=UUID,
            generation=1,
            end_offset=4096,
            horizon=13,
            rate=None,
        )
        await master.ask(command)
        state = await master.until_over()
        assert (state.state, state.code, state.message) == (
            "failed",
            "no_room_to_compact",
            "there is no room",
        )


async def test_a_wrong_join_secret_ends_it(site: Site) -> None:
    async with Master().listening(site.endpoint):
        with trio.fail_after(40), pytest.raises(BaseExceptionGroup) as raised:
            await site.compactor("wrong").run()
    assert raised.group_contains(BadCredentials)


# --- its process ----------------------------------------------------------------------------------


class Process:
    """`python -m actors.compactor`, with its standard streams in our hands."""

    def __init__(self, disk: Path, join: Path) -> None:
        command = [
            sys.executable,
            "-m",
            "warehouse.actors.compactor",
            "--disk",
            str(disk),
            "--join",
            str(join),
        ]
        self.popen = subprocess.Popen(
            [*command, "--json", "--stop-with-parent"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    async def line(self) -> dict[str, object]:
        assert self.popen.stdout is not None
        with trio.fail_after(30):
            line = await trio.to_thread.run_sync(self.popen.stdout.readline, abandon_on_cancel=True)
        found = json.loads(line)
        assert isinstance(found, dict)
        return found

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait()
        for stream in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            assert stream is not None
            stream.close()


async def test_its_process_waits_for_the_disk_yields_to_others_and_stops_with_its_parent(
    tmp_path: Path,
) -> None:
    master, endpoint = Master(), free_endpoint()
    join = tmp_path / "join.toml"
    Join(master=endpoint, server_key=HUB_KEYS.public.decode(), secret="secret").save(join)
    disk = tmp_path / "disk-1"
    async with master.listening(endpoint):
        with Process(disk, join) as process:
            await trio.sleep(1)
            assert process.popen.poll() is None
            assert not disk.exists(), "the volume actor makes it"
            disk.mkdir()
            identity = load_identity(disk, created_ms=1)
            keys = CurveKeys.load_or_make(disk / "node.key")
            assert await process.line() == {"event": "ready", "disk": "disk-1"}
            assert master.greetings[0].disk_id == identity.disk_id
            assert master.peer is not None
            assert master.peer.user_id == keys.public.decode()
            assert os.getpriority(os.PRIO_PROCESS, process.popen.pid) >= 10
            assert (disk / "compactor.lock").read_text() == f"{process.popen.pid}\n"
            with Process(disk, join) as second:
                status = await trio.to_thread.run_sync(partial(second.popen.wait, timeout=120))
                assert status == 1
                assert second.popen.stderr is not None
                assert f"in use by process {process.popen.pid}" in second.popen.stderr.read().decode()
            assert process.popen.stdin is not None
            process.popen.stdin.close()
            assert await trio.to_thread.run_sync(partial(process.popen.wait, timeout=120)) == 0


async def test_a_compactor_that_waits_for_a_disk_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(warehouse.actors.compactor, "IDENTITY_S", 0.001)
    caplog.set_level("INFO")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(warehouse.actors.compactor._identity, tmp_path)
        await until(lambda: "waiting for the volume actor" in caplog.text)
        load_identity(tmp_path, created_ms=1)
    assert caplog.text.count("waiting for") == 1
