"""Idle links: what it costs a master that disks are there at all.

    python bench/idle_links.py [--disks 100] [--seconds 20] [--json]

A real master in a process of its own; this process is the volume actors and the compactors of so many disks,
each with a connection of its own: heartbeats, and a report of each disk every ten seconds, as actors without
anything to do send them.  Then every disk reports each second, as a busy one does.  Prints processor time of
the master, its memory, and the bytes on the connections, each for one disk.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import socket
import struct
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import trio

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "kits")]

from bench.machine import resident_memory  # noqa: E402
from bench.one_master import (  # noqa: E402
    ASK_S,
    CAPACITY,
    OneMaster,
    cpu_s,
    disk_id_of,
    disk_of,
    make_catalog,
    report_of,
    running_master,
)
from bench.scaling_figures import IdleCosts  # noqa: E402
from harness import free_port_base  # noqa: E402
from warehouse.actors.data.master_session import REPORT_S  # noqa: E402
from warehouse.actors.data.reporting import REPEAT_S  # noqa: E402
from warehouse.transport.messages import DiskReport, RegisterCompactor, ReportSeen  # noqa: E402
from warehouse.transport.zeromq.link import Link  # noqa: E402

FILES_PER_LINK = 32  # descriptors of a link's own ZeroMQ context, generously
USED_ID_MAX = 1000
NOTHING_TO_DO = {"WAREHOUSE_VERIFICATION_AUTOMATIC": "off", "WAREHOUSE_COMPACTION_AUTOMATIC": "off"}
SETTLE_S = 2.0  # for the master to give each disk what it needs
_BYTES_ACKED, _TCP_INFO_SIZE = 120, 136  # linux/tcp.h: tcpi_bytes_acked, and tcpi_bytes_received behind it


async def measure(disks: int, seconds: float, folder: Path) -> IdleCosts:
    """Measure a master alone, then with disks that idle, then with disks that report each second."""
    _allow_files(2 * disks * FILES_PER_LINK)
    root = make_catalog(folder / "master", USED_ID_MAX, volumes=disks)
    with running_master(
        folder / "master", root, checkout=ROOT, port=free_port_base(), settings=NOTHING_TO_DO
    ) as master:
        await trio.sleep(SETTLE_S)
        memory_before = resident_memory(master.pid)
        alone_s = await _spent(master, seconds / 2) / (seconds / 2)
        async with _connected_disks(master, disks) as links:
            await trio.sleep(SETTLE_S)
            memory = (resident_memory(master.pid) - memory_before) / disks
            bytes_before = _bytes_with(master)
            async with _reporting(links, every_s=REPEAT_S):
                idle_s = await _spent(master, seconds) / seconds
            byte_rate = (_bytes_with(master) - bytes_before) / seconds / disks
            async with _reporting(links, every_s=REPORT_S):
                busy_s = await _spent(master, seconds) / seconds
    report_rate = disks * (1 / REPORT_S - 1 / REPEAT_S)  # more than while they idled
    return IdleCosts(
        disks=disks,
        idle_us=(idle_s - alone_s) * 1e6 / disks,
        report_us=(busy_s - idle_s) * 1e6 / report_rate,
        memory=memory,
        bytes_per_s=byte_rate,
    )


async def _spent(master: OneMaster, seconds: float) -> float:
    before = cpu_s(master.pid)
    await trio.sleep(seconds)
    return cpu_s(master.pid) - before


@asynccontextmanager
async def _connected_disks(master: OneMaster, count: int) -> AsyncIterator[Sequence[Link]]:
    disks = [disk_of(master, volume_id, USED_ID_MAX) for volume_id in range(1, count + 1)]
    compactors = [_compactor_of(master, volume_id) for volume_id in range(1, count + 1)]
    async with trio.open_nursery() as nursery:
        for link in (*disks, *compactors):
            await nursery.start(link.run)
        with trio.fail_after(ASK_S):
            for link in (*disks, *compactors):
                await link.wait_up()
        yield disks
        nursery.cancel_scope.cancel()


def _compactor_of(master: OneMaster, volume_id: int) -> Link:
    async def greet(link: Link) -> None:
        register = RegisterCompactor(
            join_secret=master.keyring.join_secret or "",
            disk_id=disk_id_of(volume_id),
            disk_name=f"disk-{volume_id}",
            incarnation=link.incarnation,
        )
        await link.ask_now(register, timeout_s=ASK_S)

    return master.link(f"compactor-{volume_id}", greet=greet)


@asynccontextmanager
async def _reporting(links: Sequence[Link], *, every_s: float) -> AsyncIterator[None]:
    """Each disk reports so often; they take turns evenly, as actors do that were not started together."""

    async def report(link: Link, volume_id: int) -> None:
        await trio.sleep(every_s * volume_id / len(links))
        while True:
            report = DiskReport(volumes=[report_of(volume_id, USED_ID_MAX)], disk_free=CAPACITY)
            assert isinstance(await link.request(report, timeout_s=ASK_S), ReportSeen)
            await trio.sleep(every_s)

    async with trio.open_nursery() as nursery:
        for volume_id, link in enumerate(links, start=1):
            nursery.start_soon(report, link, volume_id)
        yield
        nursery.cancel_scope.cancel()


def _bytes_with(master: OneMaster) -> int:
    """Bytes that our connections to a master have carried so far, both ways."""
    port, total = int(master.endpoint.rsplit(":", 1)[1]), 0
    for name in os.listdir("/proc/self/fd"):
        # What is not a socket, not connected, or closed meanwhile says so.
        with suppress(OSError), socket.socket(fileno=os.dup(int(name))) as copy:
            if copy.family == socket.AF_INET and copy.getpeername()[1] == port:
                info = copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)
                total += sum(struct.unpack_from("=QQ", info, _BYTES_ACKED))
    return total


def _allow_files(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--disks", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="warehouse-idle-") as folder:
        costs = trio.run(measure, arguments.disks, arguments.seconds, Path(folder))
    if arguments.json:
        print(json.dumps(asdict(costs)))
        return
    print(f"of a master, for each of {costs.disks} disks:")
    print(f"  {costs.idle_us:8.1f} us of processor time each second while idle")
    print(f"  {costs.report_us:8.1f} us of processor time for a report")
    print(f"  {costs.memory / 1024:8.1f} KiB of memory")
    print(f"  {costs.bytes_per_s:8.1f} bytes each second on its connections, above TCP")


if __name__ == "__main__":
    main()
