"""Fleet scale: what many disks and volumes cost a master.

    python bench/fleet_scale.py [--disks N] [--volumes N] [--busy-disks N] [--rounds N] [--json FILE]

A real master with a catalog of that many volumes, and disks that are made up: they register, report and obey
at once, in this process.  All figures are processor time of the loop's thread.  A figure is the median of
many repetitions, and the least of some rounds, because a loaded machine adds something to each (caches, a
shared core).  They compare well between two states of the code on one machine.

What is timed, each with its goal for 100 disks of 204 volumes:

    lease      LeaseNeedles for 256 needles on four volumes: the handler.  What receiving, decoding and
               sending cost is the same for any number of volumes, and left out
    commit     what a NeedlesStored of one overwritten object costs the loop next to its transaction, with
               the turns of all tasks that it wakes; the way to the writer's thread and back is left out, too
    report     DiskReport of a busy disk (two of its volumes changed): decoded, taken, and the answer encoded
    reports    of so many busy disks, one a second each, for some seconds: over connections to a real hub, one
               by one as they come, with all that the loop does meanwhile.  Some disks send for all
    status     ClusterStatus of all disks, page by page, decoded questions to encoded answers; and the longest
               page, for which the loop stands still
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import msgspec
import trio
import zmq

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]  # runs from any checkout

from warehouse.actors.control.first_start import CATALOG_NAME, initialize  # noqa: E402
from warehouse.actors.control.keyring import Keyring  # noqa: E402
from warehouse.actors.control.sessions import ClientSession  # noqa: E402
from warehouse.actors.master import Master  # noqa: E402
from warehouse.actors.process import Announcer  # noqa: E402
from warehouse.auth.rights import EVERYTHING, Rights  # noqa: E402
from warehouse.catalog.sqlite.catalog import SqliteCatalog  # noqa: E402
from warehouse.conf.files import write_whole  # noqa: E402
from warehouse.conf.settings import Settings  # noqa: E402
from warehouse.transport.messages import (  # noqa: E402
    Answer,
    BucketsRecorded,
    ClusterStatus,
    Commit,
    CreateVolume,
    DeleteNeedles,
    DiskReport,
    Envelope,
    LeaseNeedles,
    NeedlesDeleted,
    NeedlesStored,
    RecordBuckets,
    Register,
    Request,
    Status,
    StoredNeedle,
    VolumeCreated,
    VolumeReport,
    decode_envelope,
    encode_envelope,
)
from warehouse.transport.zeromq.curve import CurveKeys  # noqa: E402

SENDERS = 20  # real connections, which report for all busy disks
GIB = 1024**3
BUCKET = "photos"
JOIN_SECRET = "a secret of all machines"


@dataclass(frozen=True)
class Figure:
    name: str
    value: float
    unit: str
    goal: float | None

    @property
    def is_reached(self) -> bool:
        return self.goal is None or self.value < self.goal


class MadeUpDisk:
    """A volume actor as far as a master can tell: it registers, reports, and obeys at once."""

    is_gone = False
    session: Any = None
    user_id = address = ""

    def __init__(self, number: int, volume_ids: range) -> None:
        self.disk_id = f"{number:032x}"
        self.name = f"disk-{number}"
        self.reports = {volume_id: _report(volume_id) for volume_id in volume_ids}

    def register(self) -> Register:
        return Register(
            join_secret=JOIN_SECRET,
            disk_id=self.disk_id,
            disk_name=self.name,
            incarnation=1,
            url="http://127.0.0.1:1",
            volumes=list(self.reports.values()),
            disk_capacity=20_000 * GIB,
            disk_free=10_000 * GIB,
        )

    async def request(self, command: Request, *, timeout_s: float) -> Answer:
        match command:
            case DeleteNeedles():
                return NeedlesDeleted(report=self.reports[command.volume_id])
            case RecordBuckets():
                return BucketsRecorded(report=self.reports[command.volume_id])
            case CreateVolume():
                self.reports[command.volume_id] = _report(command.volume_id, uuid=command.uuid)
                return VolumeCreated(report=self.reports[command.volume_id])
        raise AssertionError(command)


class MadeUpClient:
    is_gone = False

    def __init__(self) -> None:
        rights = Rights(permissions=EVERYTHING, buckets=None)
        self.session = ClientSession(key_id="k", rights=rights, expires_at=float("inf"), epoch=1)


def _report(volume_id: int, **changes: Any) -> VolumeReport:
    values: dict[str, Any] = {
        "volume_id": volume_id,
        "uuid": f"uuid-{volume_id}",
        "generation": 1,
        "capacity": 32 * GIB,
        "file_size": volume_id % 30 * GIB,
        "live_count": 100_000,
        "live_bytes": volume_id % 30 * GIB,
        "dead_bytes": 0,
        "needle_id_max": 200_000,
        "stamp_max": 0,
        "created_ms": 1_700_000_000_000,
    }
    return VolumeReport(**{**values, **changes})


@contextmanager
def made_master(
    folder: Path, disk_count: int, volumes_each: int
) -> Iterator[tuple[Master, list[MadeUpDisk], Keyring]]:
    initialize(folder)
    # As in a store of 0.1.0: the disks here have no keys of their own.
    write_whole(folder / "keys" / "join.secret", JOIN_SECRET.encode())
    keyring = Keyring.load_or_create(folder / "keys")
    catalog = SqliteCatalog.open(folder / CATALOG_NAME)
    disks = []
    with catalog.transaction() as transaction:
        for number in range(disk_count):
            first = 1 + number * volumes_each
            disk = MadeUpDisk(number, range(first, first + volumes_each))
            transaction.add_disk(disk.disk_id, disk.name, 1)
            for volume_id in disk.reports:
                transaction.add_volume(
                    volume_id, f"uuid-{volume_id}", 32 * GIB, disk.disk_id, state="open", created_ms=1
                )
                transaction.reserve_needle_ids(volume_id, 200_000)
            disks.append(disk)
        transaction.create_bucket(BUCKET, 1)
    master = Master(
        catalog=catalog,
        keyring=keyring,
        settings=Settings(),
        announcer=Announcer(is_json=True),
    )
    try:
        yield master, disks, keyring
    finally:
        catalog.close()


def _median_us(work: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        begin = time.thread_time()
        work()
        times.append(time.thread_time() - begin)
    return statistics.median(times) * 1e6


async def measure(
    folder: Path, disk_count: int, volumes_each: int, busy_disks: int, rounds: int
) -> list[Figure]:
    with made_master(folder, disk_count, volumes_each) as (master, disks, keyring):
        async with trio.open_nursery() as nursery:
            await nursery.start(master.context.writer.run)
            await nursery.start(master.provisioner.run)
            master.load()
            for disk in disks:
                peer: Any = disk
                register = disk.register()
                if master.answer_now(peer, register) is None:
                    await master.routes.answer(peer, register)
            with trio.fail_after(120):
                while not all(disk.session.is_provisioned for disk in disks):
                    await trio.sleep(0.05)
            is_goal = (disk_count, volumes_each) == (100, 204)
            lease_us = [await _lease_us(master) for _ in range(rounds)]
            commit_us = [await _commit_us(master, disks[0]) for _ in range(rounds)]
            report_us = [_report_us(master, disks) for _ in range(rounds)]
            status_us, page_us = zip(*(_status_us(master) for _ in range(rounds)), strict=True)
            endpoint = await nursery.start(master.hub.run, "tcp://127.0.0.1:*")
            share = await _share_of_reports(master, disks[:SENDERS], endpoint, keyring, busy_disks, rounds)
            nursery.cancel_scope.cancel()
    return [
        Figure("a lease", min(lease_us), "us", 300 if is_goal else None),
        Figure("a commit, next to its transaction", min(commit_us), "us", 50 if is_goal else None),
        Figure("a report", min(report_us), "us", None),
        Figure(f"reports of {busy_disks:,} disks", share, "% of a core", 10 if is_goal else None),
        Figure("status", min(status_us) / 1000, "ms", 100 if is_goal else None),
        Figure("its longest page", min(page_us) / 1000, "ms", None),
    ]


async def _lease_us(master: Master) -> float:
    client: Any = MadeUpClient()
    request = LeaseNeedles(bucket=BUCKET, needle_count=256, byte_count=4 * 1024 * 1024)

    costs = []
    while len(costs) < 300:
        begin = time.thread_time()
        answer = master.answer_now(client, request)
        if answer is not None:
            costs.append(time.thread_time() - begin)
        # Needle ids are reserved meanwhile, as between two requests.
        await trio.sleep(0 if answer is not None else 0.02)
    return statistics.median(costs) * 1e6


async def _commit_us(master: Master, disk: MadeUpDisk) -> float:
    """Time on the loop of one commit and of the turns of all that it wakes.

    The transaction itself is left out: a writer stands there that has the answer, and the garbage, of one.
    """
    writer = master.context.writer
    real_write = writer.write
    (bucket_id,) = (row.id for row in master.context.catalog.buckets())
    volume_id = next(iter(disk.reports))
    stamps = itertools.count((time.time_ns() // 1_000_000) << 16)
    needle_ids = itertools.count(master.context.fleet.volumes[volume_id].next_needle_id)
    peer: Any = disk

    async def write(work: Callable[[Any], Any], **_: Any) -> Any:
        writer.on_garbage({volume_id})
        return [Commit("1-1-00000001", None)]

    costs = []
    writer.write = write  # type: ignore[method-assign]
    for _ in range(2000):
        needle = StoredNeedle(
            volume_id=volume_id,
            needle_id=next(needle_ids),
            stamp=next(stamps),
            size=4096,
            crc=1,
            stored_size=4200,
            bucket_id=bucket_id,
            key="the-same",
            created_ms=1,
        )
        begin = time.thread_time()
        await master.routes.answer(peer, NeedlesStored(needles=[needle]))
        await trio.lowlevel.checkpoint()  # whoever it woke has a turn
        costs.append(time.thread_time() - begin)
    writer.write = real_write  # type: ignore[method-assign]
    return statistics.median(costs) * 1e6


def _report_us(master: Master, disks: list[MadeUpDisk]) -> float:
    frames = []
    reports = [_reports_of(disk) for disk in disks]
    for _ in range(2000 // len(disks) + 1):
        for disk, growing in zip(disks, reports, strict=True):
            frames.append((disk, encode_envelope(Envelope(1, 1, 1000, next(growing)))))
    rest = iter(frames)

    def take() -> None:
        disk, frame = next(rest)
        peer: Any = disk
        answer = master.answer_now(peer, decode_envelope(frame).body)  # type: ignore[arg-type]
        assert answer is not None
        encode_envelope(Envelope(1, 1, None, answer))

    return _median_us(take, 2000)


class Sender:
    """A disk on a real connection, which says what it is told and throws the answers away."""

    def __init__(self, context: zmq.Context[Any], endpoint: str, server_key: bytes, disk: MadeUpDisk) -> None:
        keys = CurveKeys.generate()
        self.disk = disk
        self._socket = context.socket(zmq.DEALER)
        self._socket.linger = 0
        self._socket.curve_serverkey = server_key
        self._socket.curve_publickey, self._socket.curve_secretkey = keys.public, keys.secret
        self._socket.connect(endpoint)
        self._request_id = 0

    def say(self, body: Request) -> None:
        self._request_id += 1
        self._socket.send(encode_envelope(Envelope(1, self._request_id, 10_000, body)))
        while self._socket.poll(0):
            self._socket.recv()

    def close(self) -> None:
        self._socket.close()


def _reports_of(disk: MadeUpDisk) -> Iterator[DiskReport]:
    """Two volumes that grow, without end."""
    first, second, *_ = [*disk.reports, *disk.reports]
    for number in itertools.count(1):
        grown = number % 1000 * 65_536
        changed = [_report(first, file_size=GIB + grown), _report(second, file_size=2 * GIB + grown)]
        yield DiskReport(volumes=changed, disk_free=9_000 * GIB - 2 * grown, request_count=7 * number)


def send_reports(
    endpoint: str, server_key: bytes, numbers: list[tuple[int, range]], reports_per_s: int
) -> None:
    """In a process of its own: register disks, then report for them without end, one after the other."""
    context: zmq.Context[Any] = zmq.Context()
    senders = [
        Sender(context, endpoint, server_key, MadeUpDisk(number, volume_ids))
        for number, volume_ids in numbers
    ]
    for sender in senders:
        sender.say(msgspec.structs.replace(sender.disk.register(), incarnation=time.time_ns()))
    time.sleep(2.0)
    reports = [_reports_of(sender.disk) for sender in senders]
    due = time.monotonic()
    for sender, growing in itertools.cycle(zip(senders, reports, strict=True)):
        due += 1 / reports_per_s
        time.sleep(max(0.0, due - time.monotonic()))
        sender.say(next(growing))


async def _share_of_reports(
    master: Master, disks: list[MadeUpDisk], endpoint: str, keyring: Keyring, busy_disks: int, rounds: int
) -> float:
    """Percent of a core that the loop's thread takes while so many reports a second come, one by one."""
    hub, fleet = master.hub, master.context.fleet
    for disk in disks:  # they come back over a connection
        fleet.went(cast(Any, disk), now_ms=1)
    numbers = [(int(disk.disk_id, 16), range(min(disk.reports), max(disk.reports) + 1)) for disk in disks]
    sending = multiprocessing.get_context("spawn").Process(
        target=send_reports,
        args=(endpoint, keyring.curve.public, numbers, busy_disks),
        daemon=True,
    )
    sending.start()
    try:
        with trio.fail_after(60):
            while not all(fleet.disks[disk.disk_id].is_online for disk in disks):
                await trio.sleep(0.05)
        await trio.sleep(3.0)
        shares = []
        for _ in range(rounds):
            begin, cpu, count = time.monotonic(), time.thread_time(), hub.counters.requests
            await trio.sleep(1.0)
            passed_s, took_s = time.monotonic() - begin, time.thread_time() - cpu
            came = (hub.counters.requests - count) / passed_s
            # Fewer come on a busy machine.  Each costs a little more then, because it comes alone.
            assert came > 0.3 * busy_disks, f"only {came:.0f} of {busy_disks} reports a second came"
            shares.append(took_s / passed_s * busy_disks / came * 100)
        return min(shares)
    finally:
        sending.kill()
        await trio.to_thread.run_sync(sending.join)
        with trio.fail_after(30):
            while any(fleet.disks[disk.disk_id].is_online for disk in disks):
                await trio.sleep(0.05)


def _status_us(master: Master) -> tuple[float, float]:
    """All pages together, and the longest one."""
    client: Any = MadeUpClient()
    totals, longest = [], []
    for _ in range(7):
        costs, question = [], ClusterStatus(is_paged=True)
        while True:
            begin = time.thread_time()
            answer = master.answer_now(client, question)
            assert isinstance(answer, Status)
            encode_envelope(Envelope(1, 1, None, answer))
            costs.append(time.thread_time() - begin)
            if not answer.next_disk:
                break
            question = ClusterStatus(
                is_paged=True, from_disk=answer.next_disk, from_volume=answer.next_volume
            )
        totals.append(sum(costs))
        longest.append(max(costs))
    return statistics.median(totals) * 1e6, statistics.median(longest) * 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description="What many disks and volumes cost a master.")
    parser.add_argument("--disks", type=int, default=100, help="disks (default: %(default)s)")
    parser.add_argument("--volumes", type=int, default=204, help="volumes of each (default: %(default)s)")
    parser.add_argument(
        "--busy-disks", type=int, default=1200, help="disks that report each second (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument(
        "--rounds", type=int, default=7, help="of which the least counts (default: %(default)s)"
    )
    arguments = parser.parse_args()
    logging.disable(logging.ERROR)  # disks come and go
    sizes = [(2, 1), (arguments.disks, arguments.volumes)]
    is_reached = True
    result = []
    for disk_count, volumes_each in sizes:
        with tempfile.TemporaryDirectory(prefix="fleet-scale-") as folder:
            figures = trio.run(
                measure, Path(folder), disk_count, volumes_each, arguments.busy_disks, arguments.rounds
            )
        print(f"{disk_count} disks of {volumes_each} volumes")
        for figure in figures:
            goal = "" if figure.goal is None else f"   goal: under {figure.goal:g}"
            mark = "" if figure.is_reached else "   MISSED"
            print(f"  {figure.name:36} {figure.value:10.1f} {figure.unit}{goal}{mark}")
            is_reached &= figure.is_reached
            row = {"disks": disk_count, "volumes": volumes_each, "name": figure.name}
            result.append({**row, "value": figure.value, "unit": figure.unit, "goal": figure.goal})
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if is_reached else 1


if __name__ == "__main__":
    raise SystemExit(main())
