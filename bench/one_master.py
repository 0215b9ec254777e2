"""One master: a master in a process of its own, a catalog made for it in bulk, and whoever asks it things.

The volume actors of `master_rate` and the clients of both benchmarks are links of this process, so what the
master spends is what its process spends, and nothing of theirs is in it.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import trio

from warehouse.actors.control.keyring import Keyring
from warehouse.auth.keys import ApiKey, generate_api_key, hash_secret
from warehouse.auth.rights import EVERYTHING
from warehouse.catalog.identities import ApiKeyRow
from warehouse.catalog.records import ObjectRow
from warehouse.catalog.sqlite.bulk_load import NewCatalog
from warehouse.conf.files import write_whole
from warehouse.conf.profile import Profile
from warehouse.conf.programs import module_command
from warehouse.errors import BadRequest
from warehouse.transport.messages import (
    Answer,
    Attach,
    BucketsRecorded,
    DeleteNeedles,
    LoggedIn,
    Login,
    NeedlesDeleted,
    RecordBuckets,
    Register,
    Request,
    VolumeReport,
)
from warehouse.transport.zeromq.curve import CurveKeys
from warehouse.transport.zeromq.link import Link

FOLDERS = 1000
BUCKET = "bench"
BUCKET_ID = 1
CREATED_MS = 1_700_000_000_000
NEEDLE_IDS = 1 << 31  # reserved beforehand, so that no reservation falls into a round
CAPACITY = 1 << 50
ASK_S = 60.0
QUIET_S = 1.0
HTTP_OFFSET = 1


def key_of(number: int, folders: int = FOLDERS) -> str:
    """The key of an object; at most 10,000 folders keep the order of their numbers."""
    return f"folder-{number % folders:04}/object-{number:08}.bin"


def in_key_order(object_count: int, folders: int = FOLDERS) -> Iterator[int]:
    """The numbers of all objects, in the order of their keys."""
    return itertools.chain.from_iterable(
        range(folder, object_count, folders) for folder in range(min(folders, object_count))
    )


def disk_id_of(volume_id: int) -> str:
    return f"{volume_id:032x}"


def make_catalog(
    data: Path,
    object_count: int,
    *,
    volumes: int,
    progress: Callable[[int], None] = lambda count: None,
    folders: int = FOLDERS,
) -> ApiKey:
    """Make keys and a catalog of `object_count` objects in the master's folder; return a key that may all."""
    data.mkdir(parents=True, exist_ok=True)
    Keyring.load_or_create(data / "keys")
    # As in a store of 0.1.0: the disks that connect here have no keys of their own.
    write_whole(data / "keys" / "join.secret", b"a secret of all machines")
    root = generate_api_key()
    with NewCatalog(data / "catalog.sqlite3") as new:
        new.add_api_keys(
            [
                ApiKeyRow(
                    id=root.key_id,
                    hashed=root.hashed,
                    permissions=int(EVERYTHING),
                    created_ms=CREATED_MS,
                )
            ]
        )
        for volume_id in range(1, volumes + 1):
            new.add_disk(disk_id_of(volume_id), f"disk-{volume_id}", CREATED_MS)
            new.add_volume(
                volume_id,
                f"uuid-{volume_id}",
                CAPACITY,
                disk_id_of(volume_id),
                needle_id_reserved=NEEDLE_IDS,
                created_ms=CREATED_MS,
            )
        new.add_bucket(BUCKET_ID, BUCKET, CREATED_MS)
        for count, number in enumerate(in_key_order(object_count, folders)):
            new.add_object(_row(key_of(number, folders), number, 1 + number % volumes, 1 + number // volumes))
            if count % 10_000 == 0:
                progress(count)
        progress(object_count)
        new.finish()
    return root


def make_catalog_as(checkout: Path, data: Path, object_count: int, *, volumes: int) -> ApiKey:
    """`make_catalog` of another checkout: an earlier release does not read what this one writes."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom bench.one_master import make_catalog\n"
        "root = make_catalog(Path(sys.argv[1]), int(sys.argv[2]), volumes=int(sys.argv[3]))\n"
        "print(root.key_id, root.secret, root.hashed.salt.hex())"
    )
    program = data.with_name(f"make-{data.name}.py")
    program.write_text(code)
    made = subprocess.run(
        [sys.executable, str(program), str(data), str(object_count), str(volumes)],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    key_id, secret, salt = made.stdout.split()
    return ApiKey(key_id, secret, hash_secret(secret, salt=bytes.fromhex(salt)))


def _row(key: str, number: int, volume_id: int, needle_id: int) -> ObjectRow:
    stamp = (CREATED_MS << 16) + number
    content_type = "application/octet-stream"
    return ObjectRow(
        BUCKET_ID,
        key,
        4096,
        stamp,
        CREATED_MS,
        content_type,
        volume_id,
        needle_id,
        12345,
        1,
        None,
        {},
    )


def progress_bar(object_count: int) -> Callable[[int], None]:
    """Shows how far the making of a catalog is, on a terminal."""

    def show(count: int) -> None:
        if sys.stderr.isatty():
            done = count / object_count
            bar = "#" * round(40 * done)
            end = "\r" if count < object_count else "\r\x1b[K"
            print(f"  {object_count:,} objects [{bar:40}] {done:4.0%}", end=end, file=sys.stderr, flush=True)

    return show


def cpu_s(pid: int) -> float:
    """User and system time of a process so far, to the nanosecond: clock_getcpuclockid(3) on Linux."""
    return time.clock_gettime((~pid << 3) | 2)


class OneMaster:
    """A master's process: where it is reached, and what it has spent."""

    def __init__(self, data: Path, root: ApiKey, process: subprocess.Popen[bytes], endpoint: str) -> None:
        self.data = data
        self.root = root
        self.pid = process.pid
        self.endpoint = endpoint
        self.keyring = Keyring.load_or_create(data / "keys")

    @property
    def profile(self) -> Profile:
        return Profile(self.endpoint, self.keyring.curve.public.decode(), self.root.key_id, self.root.secret)

    def link(self, name: str, **options: object) -> Link:
        return Link(
            endpoint=self.endpoint,
            server_key=self.keyring.curve.public,
            keys=CurveKeys.generate(),
            name=name,
            incarnation=time.time_ns() // 1_000_000,
            **options,  # type: ignore[arg-type]
        )


@contextmanager
def running_master(
    data: Path, root: ApiKey, *, checkout: Path, port: int, settings: Mapping[str, str] | None = None
) -> Iterator[OneMaster]:
    """Run the master of a checkout of the code on a folder that `make_catalog` made.

    Args:
        settings: variables of the environment, as docs/settings.md names them.
    """
    command = module_command("warehouse.actors.master", "--data", str(data), "--json", "--stop-with-parent")
    command += ["--port", str(port), "--http-port", str(port + HTTP_OFFSET), "--log-level", "error"]
    process = subprocess.Popen(
        command,
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout), **(settings or {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "ready":
                yield OneMaster(data, root, process, event["endpoint"])
                break
        else:
            raise SystemExit("the master did not start; why is above")
    finally:
        process.terminate()
        process.communicate()  # also closes what leads there


async def until_quiet(pid: int) -> None:
    """Wait until a master has done what it does at its start: it recounts its catalog."""
    while True:
        before = cpu_s(pid)
        await trio.sleep(QUIET_S)
        if cpu_s(pid) - before < 0.05 * QUIET_S:
            return


@asynccontextmanager
async def connected(link: Link) -> AsyncIterator[Link]:
    async with trio.open_nursery() as nursery:
        await nursery.start(link.run)
        with trio.fail_after(ASK_S):
            await link.wait_up()
        yield link
        nursery.cancel_scope.cancel()


def client_of(master: OneMaster) -> Link:
    """A client that may do everything."""

    async def greet(link: Link) -> None:
        login = Login(key_id=master.root.key_id, secret=master.root.secret)
        answer = await link.ask_now(login, timeout_s=ASK_S)
        assert isinstance(answer, LoggedIn)
        await link.ask_now(Attach(token=answer.token), timeout_s=ASK_S)

    return master.link("client", greet=greet)


def report_of(volume_id: int, used_id_max: int) -> VolumeReport:
    """The figures of a volume that has room without end."""
    return VolumeReport(
        volume_id=volume_id,
        uuid=f"uuid-{volume_id}",
        generation=1,
        capacity=CAPACITY,
        file_size=4096,
        live_count=0,
        live_bytes=0,
        dead_bytes=0,
        needle_id_max=used_id_max,
        stamp_max=0,
        created_ms=CREATED_MS,
    )


def disk_of(master: OneMaster, volume_id: int, used_id_max: int) -> Link:
    """A volume actor of one volume that has room without end and obeys at once."""
    report = report_of(volume_id, used_id_max)

    async def greet(link: Link) -> None:
        register = Register(
            join_secret=master.keyring.join_secret or "",
            disk_id=disk_id_of(volume_id),
            disk_name=f"disk-{volume_id}",
            incarnation=link.incarnation,
            url=f"http://127.0.0.1:{volume_id}",
            volumes=[report],
            disk_capacity=CAPACITY,
            disk_free=CAPACITY,
        )
        await link.ask_now(register, timeout_s=ASK_S)

    async def answer(request: Request) -> Answer:
        match request:
            case DeleteNeedles():
                return NeedlesDeleted(report=report)
            case RecordBuckets():
                return BucketsRecorded(report=report)
        raise BadRequest(f"not asked of a disk without files: {type(request).__name__}")

    return master.link(f"disk-{volume_id}", greet=greet, answer=answer)
