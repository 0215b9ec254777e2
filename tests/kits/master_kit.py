"""A real master on loopback, with a volume actor and a compactor that are scripts: for tests of maintenance.

The scripts keep the contract of `transport.messages` and remember what they were asked; a test holds an answer
back, has it fail, or takes a connection away at any step.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import trio
from audit_kit import require_no_secret_in_the_audit_log

from links_kit import free_endpoint
from warehouse.actors.control.context import Intervals
from warehouse.actors.control.first_start import Initialized, initialize
from warehouse.actors.control.joining import LocalDisk, note_local_disks
from warehouse.actors.control.key_secrets import seal_secret
from warehouse.actors.control.keyring import Keyring
from warehouse.actors.master import Master
from warehouse.actors.monitoring import MonitoringPort
from warehouse.actors.process import Announcer
from warehouse.auth.data_tokens import DataClaims, sign_data_token
from warehouse.auth.keys import ApiKey, generate_api_key
from warehouse.auth.rights import Grant
from warehouse.catalog.identities import ApiKeyRow
from warehouse.catalog.nodes import NodeRow
from warehouse.catalog.sqlite.catalog import SqliteCatalog
from warehouse.conf.profile import Profile
from warehouse.conf.settings import Settings
from warehouse.errors import BadRequest, StoreError
from warehouse.transport.messages import (
    Answer,
    Attach,
    BeginCompaction,
    BucketsRecorded,
    ClusterStatus,
    CompactionBegun,
    CompactorWelcome,
    CreateBucket,
    CreateVolume,
    DeleteNeedles,
    DiskReport,
    Done,
    DropGeneration,
    Event,
    Events,
    GenerationSwitched,
    Job,
    Jobs,
    KeysRevoked,
    ListEvents,
    ListJobs,
    ListLive,
    LiveListed,
    LoggedIn,
    Login,
    Message,
    NeedleDamage,
    NeedlesCommitted,
    NeedlesDeleted,
    NeedlesStored,
    PollTask,
    RecordBuckets,
    Register,
    RegisterCompactor,
    ReplaceTokenKeys,
    Request,
    StartCopy,
    StartVerify,
    Status,
    StopTask,
    StoredNeedle,
    SwitchGeneration,
    TaskState,
    VolumeCreated,
    VolumeReport,
    Welcome,
)
from warehouse.transport.zeromq.curve import CurveKeys
from warehouse.transport.zeromq.link import Link

A = TypeVar("A", bound=Message)
MIB = 1024 * 1024
GIB = 1024 * MIB
DISK_ID = "d" * 32

QUICK = Intervals(
    poll=0.01, schedule=0.05, progress=0.02, retry=0.02, save=0.0, orphan=0.2, look=0.05, forget=0.1
)


async def until(condition: Callable[[], Any], timeout_s: float = 30) -> None:
    with trio.fail_after(timeout_s):
        while not condition():
            await trio.sleep(0.005)


class Script:
    """What a scripted actor was asked, and what is to happen when it is asked that."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.holds: dict[type, trio.Event] = {}  # answer this kind only when the event is set
        self.failures: dict[type, StoreError] = {}
        self.scope: trio.CancelScope | None = None
        self.incarnation = 0
        self.is_up = False

    def kinds(self) -> list[str]:
        return [type(request).__name__ for request in self.asked]

    def of(self, kind: type[A]) -> list[A]:
        return [request for request in self.asked if isinstance(request, kind)]

    async def answer(self, request: Request) -> Answer:
        if self.scope is not None and self.scope.cancel_called:
            await trio.sleep_forever()  # what came before the end of the connection is not answered after it
        self.asked.append(request)
        if (hold := self.holds.get(type(request))) is not None:
            await hold.wait()
        if (failure := self.failures.get(type(request))) is not None:
            raise failure
        return await self.carry_out(request)

    async def carry_out(self, request: Request) -> Answer:
        raise NotImplementedError

    def hold(self, kind: type) -> trio.Event:
        self.holds[kind] = trio.Event()
        return self.holds[kind]

    def disconnect(self) -> None:
        assert self.scope is not None
        self.scope.cancel()
        self.is_up = False


class ScriptedDisk(Script):
    """A volume actor whose volumes are numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.reports: dict[int, VolumeReport] = {}
        self.live: dict[int, set[int]] = {}
        self.free = 100 * GIB
        self.request_count = 0
        self.damages: list[NeedleDamage] = []
        self.link: Link | None = None
        self.welcome: Welcome | None = None  # of the latest registration
        self.switch_steps = 1
        self.makes_format = 1  # of new volumes
        self.token_keys: dict[str, bytes] = {}
        self.promise: Callable[[StoredNeedle], str] = lambda needle: ""

    def set(self, volume_id: int, **changes: Any) -> None:
        self.reports[volume_id] = msgspec.structs.replace(self.reports[volume_id], **changes)

    def waste(self, volume_id: int, dead_bytes: int, live_bytes: int = 10 * MIB) -> None:
        self.set(
            volume_id,
            dead_bytes=dead_bytes,
            live_bytes=live_bytes,
            file_size=4096 + dead_bytes + live_bytes,
        )

    async def report(self) -> None:
        assert self.link is not None
        await self.link.request(
            DiskReport(
                volumes=list(self.reports.values()),
                disk_free=self.free,
                request_count=self.request_count,
                damages=self.damages,
            ),
            timeout_s=30,
        )

    async def store(
        self, volume_id: int, needle_id: int, bucket_id: int, key: str, stamp: int = 1, **fields: Any
    ) -> Any:
        """Have a needle that is durable here made visible.

        Args:
            fields: of the `StoredNeedle`, besides.
        """
        assert self.link is not None
        self.live.setdefault(volume_id, set()).add(needle_id)
        needle = StoredNeedle(
            volume_id=volume_id,
            needle_id=needle_id,
            stamp=stamp << 16,
            size=3,
            crc=1,
            stored_size=64,
            bucket_id=bucket_id,
            key=key,
            created_ms=1,
            **fields,
        )
        needle = msgspec.structs.replace(needle, promise=self.promise(needle))
        answer = await self.link.request(NeedlesStored(needles=[needle]), timeout_s=30)
        assert isinstance(answer, NeedlesCommitted)
        return answer.commits[0]

    async def carry_out(self, request: Request) -> Answer:
        match request:
            case CreateVolume():
                self.live.setdefault(request.volume_id, set())
                report = self.reports.setdefault(
                    request.volume_id,
                    VolumeReport(
                        volume_id=request.volume_id,
                        uuid=request.uuid,
                        generation=1,
                        capacity=request.capacity,
                        file_size=4096,
                        live_count=0,
                        live_bytes=0,
                        dead_bytes=0,
                        needle_id_max=0,
                        stamp_max=0,
                        created_ms=1,
                        format=self.makes_format,
                    ),
                )
                return VolumeCreated(report=report)
            case DeleteNeedles():
                self.live[request.volume_id] -= {needle_id for needle_id, _ in request.needles}
                return NeedlesDeleted(report=self.reports[request.volume_id])
            case RecordBuckets():
                return BucketsRecorded(report=self.reports[request.volume_id])
            case ListLive():
                bits = sum(
                    1 << needle_id - request.first_id
                    for needle_id in self.live[request.volume_id]
                    if request.first_id <= needle_id < request.first_id + request.count
                )
                bitmap = bits.to_bytes((bits.bit_length() + 7) // 8, "little")
                return LiveListed(bitmap=bitmap, needle_id_max=10_000)
            case BeginCompaction():
                report = self.reports[request.volume_id]
                return CompactionBegun(
                    generation=report.generation,
                    end_offset=report.file_size,
                    report=report,
                    disk_free=self.free,
                )
            case SwitchGeneration():
                return self.switch(request)
            case DropGeneration() | KeysRevoked():
                return Done()
            case ReplaceTokenKeys():
                self.token_keys = request.token_keys
                return Done()
        raise BadRequest(f"the scripted disk does not answer {type(request).__name__}")

    def switch(self, request: SwitchGeneration) -> GenerationSwitched:
        report = self.reports[request.volume_id]
        is_done = len(self.of(SwitchGeneration)) >= self.switch_steps
        if is_done:
            self.set(
                request.volume_id,
                generation=request.generation,
                dead_bytes=0,
                file_size=report.file_size - report.dead_bytes,
            )
        return GenerationSwitched(is_done=is_done, report=self.reports[request.volume_id], pause_ms=1.5)


class ScriptedCompactor(Script):
    """A compactor whose tasks are done after `polls` looks at them."""

    def __init__(self) -> None:
        super().__init__()
        self.polls = 2
        self.damages: list[NeedleDamage] = []
        self.task_failure: StoreError | None = None
        self._tasks: dict[int, StartCopy | StartVerify] = {}
        self._polled: dict[int, int] = {}

    async def carry_out(self, request: Request) -> Answer:
        match request:
            case StartCopy() | StartVerify():
                self._tasks[request.task_id] = request
                return Done()
            case StopTask():
                self._tasks.pop(request.task_id, None)
                return Done()
            case PollTask():
                return self._state(request)
        raise BadRequest(f"the scripted compactor does not answer {type(request).__name__}")

    def _state(self, poll: PollTask) -> TaskState:
        task = self._tasks.get(poll.task_id)
        if task is None:
            raise BadRequest(f"there is no task {poll.task_id}")
        if poll.rate != 0:
            self._polled[poll.task_id] = self._polled.get(poll.task_id, 0) + 1
        polled = self._polled.get(poll.task_id, 0)
        start = task.start if isinstance(task, StartVerify) else 0
        state = "failed" if self.task_failure else "done" if polled >= self.polls else "running"
        return TaskState(
            task_id=poll.task_id,
            state=state,
            done_bytes=start + polled * MIB,
            total_bytes=start + self.polls * MIB,
            generation=task.generation,
            end_offset=start + polled * MIB,
            damages=self.damages,
            damaged_count=len(self.damages),
            code=self.task_failure.code if self.task_failure else None,
            message=self.task_failure.message if self.task_failure else "",
        )


class ReadyEvent(Announcer):
    def __init__(self) -> None:
        super().__init__(is_json=True)
        self.event = trio.Event()

    def say(self, event: str, **fields: Any) -> None:
        self.event.set()


class RunningMaster:
    """A master that can be ended and started again on the same folder, and the actors around it."""

    def __init__(self, folder: Path, nursery: trio.Nursery, settings: Settings, intervals: Intervals) -> None:
        self._folder = folder
        self._nursery = nursery
        self._settings = settings
        self._intervals = intervals
        self.endpoint = self._endpoint = free_endpoint()
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        roots: list[ApiKey] = []
        self.keys = CurveKeys.generate()  # of the disk and its compactor
        disk = LocalDisk("disk-1", self.keys.public.decode(), DISK_ID, "http://127.0.0.1:1")
        self.initialized: Initialized = initialize(
            folder,
            lambda keyring, root: roots.append(root),
            lambda keyring, catalog: note_local_disks(catalog, [disk]),
        )
        self.root = self._root = roots[0]
        self.disk = ScriptedDisk()
        self.disk.promise = self.promise_of
        self.compactor = ScriptedCompactor()
        self.client: Link = None  # type: ignore[assignment]  # connected before a test sees this
        self.running: Master = None  # type: ignore[assignment]  # likewise

    @property
    def profile(self) -> Profile:
        """Of the root key."""
        return self.profile_of(self.root)

    def profile_of(self, key: ApiKey) -> Profile:
        server_key = self.initialized.keyring.curve.public.decode()
        return Profile(master=self.endpoint, server_key=server_key, key_id=key.key_id, secret=key.secret)

    async def start(self) -> None:
        announcer = ReadyEvent()
        self._scope, self._ended = trio.CancelScope(), trio.Event()

        async def run() -> None:
            catalog = SqliteCatalog.open(self._folder / "catalog.sqlite3")
            keyring = self.initialized.keyring
            try:
                with self._scope:
                    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
                    master = self.running = Master(
                        catalog=catalog,
                        keyring=keyring,
                        settings=self._settings,
                        announcer=announcer,
                        intervals=self._intervals,
                    )
                    await master.run(self.endpoint, MonitoringPort(listeners))
            finally:
                catalog.close()
                self._ended.set()

        self._nursery.start_soon(run)
        with trio.fail_after(30):
            await announcer.event.wait()

    async def stop(self) -> None:
        self._scope.cancel()
        await self._ended.wait()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    # --- who connects to it -----------------------------------------------------------------------

    async def connect(
        self,
        name: str,
        greet: Callable[[Link], Awaitable[None]] | None,
        answer: Callable[[Request], Awaitable[Answer]] | None = None,
        incarnation: int = 7,
        scope: trio.CancelScope | None = None,
        keys: CurveKeys | None = None,
    ) -> Link:
        """
        Args:
            keys: None: those of a stranger.
        """
        link = Link(
            endpoint=self.endpoint,
            server_key=self.initialized.keyring.curve.public,
            keys=keys or CurveKeys.generate(),
            name=name,
            incarnation=incarnation,
            greet=greet,
            answer=answer,
        )

        async def run(task_status: trio.TaskStatus[None]) -> None:
            with scope or trio.CancelScope():
                await link.run(task_status=task_status)

        await self._nursery.start(run)
        return link

    def promise_of(self, needle: StoredNeedle, disk_id: str = DISK_ID, **changes: Any) -> str:
        """The proof that this needle was promised, as the token of a put has it."""
        values: dict[str, Any] = {
            "operation": "put",
            "audience": disk_id,
            "volume_id": needle.volume_id,
            "expires_at_s": int(time.time()) + 60,
            "bucket_id": needle.bucket_id,
            "bucket": "b",
            "first_needle_id": needle.needle_id,
            "last_needle_id": needle.needle_id,
            "upload_id": needle.upload_id,
            "lease_id": needle.lease_id,
            "chunk_index": needle.chunk_index,
            "key_id": needle.key_id,
            "epoch": needle.epoch,
        }
        *_, proof_key = self.initialized.keyring.proof_keys()
        claims = DataClaims(**{**values, **changes})
        return sign_data_token(claims, key_id="k", key=b"x", proof_key=proof_key).split(".")[1]

    def promised(self, *needles: StoredNeedle) -> list[StoredNeedle]:
        """These needles of the first disk, each with the proof that it was promised."""
        return [msgspec.structs.replace(one, promise=self.promise_of(one)) for one in needles]

    def load_keyring(self) -> None:
        """Read the files of the keyring again; the next start uses them."""
        self.initialized = replace(self.initialized, keyring=Keyring.load_or_create(self._folder / "keys"))

    async def new_node(self, name: str, disk_id: str | None = None) -> CurveKeys:
        """The keys of a node that has joined, for this disk or for the first one that it brings."""
        keys = CurveKeys.generate()
        row = NodeRow(keys.public.decode(), name, "both", "", 1, disk_id=disk_id)
        await self.running.context.writer.write(lambda t: t.put_node(row))
        self.running.nodes.load()
        return keys

    async def connect_disk(self) -> None:
        disk = self.disk
        disk.incarnation += 1
        incarnation, disk.scope = disk.incarnation, trio.CancelScope()

        async def greet(link: Link) -> None:
            answer = await link.ask_now(
                Register(
                    join_secret="",
                    disk_id=DISK_ID,
                    disk_name="disk-1",
                    incarnation=incarnation,
                    url="http://127.0.0.1:1",
                    volumes=list(disk.reports.values()),
                    disk_capacity=200 * GIB,
                    disk_free=disk.free,
                ),
                timeout_s=30,
            )
            assert isinstance(answer, Welcome)
            disk.token_keys = answer.token_keys
            disk.welcome = answer

        disk.link = await self.connect("disk", greet, disk.answer, incarnation, disk.scope, self.keys)
        with trio.fail_after(30):
            await disk.link.wait_up()
        disk.is_up = True

    async def connect_compactor(self) -> None:
        compactor = self.compactor
        compactor.incarnation += 1
        incarnation, compactor.scope = compactor.incarnation, trio.CancelScope()

        async def greet(link: Link) -> None:
            answer = await link.ask_now(
                RegisterCompactor(
                    join_secret="",
                    disk_id=DISK_ID,
                    disk_name="disk-1",
                    incarnation=incarnation,
                ),
                timeout_s=30,
            )
            assert isinstance(answer, CompactorWelcome)

        link = await self.connect(
            "compactor", greet, compactor.answer, incarnation, compactor.scope, self.keys
        )
        with trio.fail_after(30):
            await link.wait_up()
        compactor.is_up = True

    async def token(self, key: ApiKey | None = None) -> str:
        key = key or self.root
        return (await self.ask(Login(key_id=key.key_id, secret=key.secret), LoggedIn)).token

    async def add_key(
        self, permissions: int, grants: tuple[Grant, ...] | None = None, **columns: Any
    ) -> ApiKey:
        """A new API key, known to the running master."""
        key = generate_api_key()
        row = ApiKeyRow(
            id=key.key_id,
            sealed=seal_secret(self.initialized.keyring.sealer, key.key_id, key.secret),
            permissions=int(permissions),
            grants=grants,
            created_ms=1,
            **columns,
        )
        assert self.running is not None
        await self.running.keys.add(row)
        return key

    async def connect_as(self, key: ApiKey) -> Link:
        """A client with this key."""
        link = await self.connect("restricted", None)
        with trio.fail_after(30):
            await link.wait_up()
        await link.request(Attach(token=await self.token(key)), timeout_s=30)
        return link

    async def connect_with(self, permissions: int, grants: tuple[Grant, ...] | None = None) -> Link:
        """A client whose key grants no more than these."""
        return await self.connect_as(await self.add_key(permissions, grants))

    async def connect_client(self) -> None:
        async def greet(link: Link) -> None:
            login = Login(key_id=self.root.key_id, secret=self.root.secret)
            answer = await link.ask_now(login, timeout_s=30)
            assert isinstance(answer, LoggedIn)
            await link.ask_now(Attach(token=answer.token), timeout_s=30)

        self.client = await self.connect("client", greet)
        with trio.fail_after(30):
            await self.client.wait_up()

    # --- what a client sees -----------------------------------------------------------------------

    async def ask(self, request: Request, wanted: type[A]) -> A:
        with trio.fail_after(30):
            while True:
                await self.client.wait_up()
                answer = await self.client.request(request, timeout_s=30)
                assert isinstance(answer, wanted)
                return answer

    async def create_bucket(self, name: str) -> int:
        """Returns its id, which clients never see."""
        await self.ask(CreateBucket(bucket=name), Done)
        return next(bucket_id for bucket_id, of in self.read("SELECT id, name FROM buckets") if of == name)

    def read(self, sql: str) -> list[Any]:
        """Ask the catalog's file behind the master's back."""
        with closing(sqlite3.connect(self._folder / "catalog.sqlite3")) as connection:
            return connection.execute(sql).fetchall()

    async def jobs(self, *job_ids: int) -> list[Job]:
        return (await self.ask(ListJobs(job_ids=list(job_ids)), Jobs)).jobs

    async def job(self, job_id: int) -> Job:
        (job,) = await self.jobs(job_id)
        return job

    async def job_when(self, job_id: int, condition: Callable[[Job], bool], timeout_s: float = 30) -> Job:
        job: Job | None = None
        with trio.move_on_after(timeout_s):
            while True:
                job = await self.job(job_id)
                if condition(job):
                    return job
                await trio.sleep(0.01)
        raise AssertionError(
            f"not within {timeout_s} s: {job}\n{self.disk.kinds()}\n{self.compactor.kinds()}"
        )

    async def job_over(self, job_id: int) -> Job:
        return await self.job_when(job_id, lambda job: job.is_finished)

    async def status(self) -> Status:
        return await self.ask(ClusterStatus(), Status)

    async def events(self, name: str | None = None) -> list[Event]:
        answer = await self.ask(ListEvents(after=0), Events)
        return [event for event in answer.events if name in (None, event.name)]


@asynccontextmanager
async def open_master(
    folder: Path,
    *,
    settings: Settings | None = None,
    intervals: Intervals = QUICK,
    has_compactor: bool = True,
) -> AsyncIterator[RunningMaster]:
    """A master with one disk that has volume 1, one compactor, and a client with all rights."""
    async with trio.open_nursery() as nursery:
        master = RunningMaster(folder, nursery, settings or MANUAL, intervals)
        await master.start()
        await master.connect_disk()
        await master.connect_client()
        with trio.fail_after(30):
            while [volume.state for volume in (await master.status()).disks[0].volumes] != ["open"]:
                await trio.sleep(0.01)
        if has_compactor:
            await master.connect_compactor()
        yield master
        nursery.cancel_scope.cancel()
    require_no_secret_in_the_audit_log(folder, [master._root.secret])


def settings_with(**sections: dict[str, Any]) -> Settings:
    plain = Settings()
    changed = {
        name: msgspec.structs.replace(getattr(plain, name), **values) for name, values in sections.items()
    }
    return msgspec.structs.replace(plain, **changed)


MANUAL = settings_with(compaction={"automatic": "off"}, verification={"automatic": "off"})
