"""What a flood from strangers costs another client, at the control port and at the data port.

    python bench/abuse.py [--seconds 20] [--strangers 4] [--kinds KIND ...] [--bare] [--json]

Runs a store and one honest client, which lists buckets, puts and gets 4 KiB, logs in on connections of its
own, and opens a URL on connections of its own, all the time.  Then some strangers, each a process with an
address of its own (127.0.0.11 and on), flood one of the two ports in one way after the other
(`tests/kits/strangers.py` names them).  The table shows the client's p50 and p99 of each operation and how
many failed, and compares the p99 with that of the quiet turns before and after the flood.

The strangers run when nobody else wants the processor: on a network they have machines of their own, and what
they take of this one is not the store's failing.  The rates of what they got through are in the table.
"""

from __future__ import annotations

import argparse
import json
import os
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "kits")]

from strangers import CONTROL_KINDS, DATA_KINDS, TLS_KINDS  # noqa: E402

import warehouse  # noqa: E402
from bench.machine import Machine, cpu_seconds, resident_memory  # noqa: E402
from harness import RunningStore, environment  # noqa: E402
from warehouse.conf.profile import Profile  # noqa: E402

STRANGERS = ROOT / "tests" / "kits" / "strangers.py"
BUCKET = "abuse"
SIZE = 4096
TLS_SETTINGS = '[tls]\nmode = "on"\n'
OPERATIONS = ("list", "put", "get", "log in", "url")


@dataclass
class Turn:
    """What the client felt during one turn."""

    taken_ms: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in OPERATIONS})
    failures: list[str] = field(default_factory=list)
    strangers: dict[str, float] = field(default_factory=dict)  # a second, all together
    cpu: dict[str, float] = field(default_factory=dict)  # share of a core, by actor
    memory_mib: dict[str, float] = field(default_factory=dict)

    def p(self, name: str, share: float) -> float:
        taken = sorted(self.taken_ms[name])
        return taken[min(len(taken) - 1, int(len(taken) * share))] if taken else float("nan")

    def summary(self) -> dict[str, list[float]]:
        return {name: [self.p(name, 0.5), self.p(name, 0.99)] for name in OPERATIONS}

    def joined(self, *others: Turn) -> Turn:
        turns = (self, *others)
        return Turn(
            {name: [ms for turn in turns for ms in turn.taken_ms[name]] for name in OPERATIONS},
            [failure for turn in turns for failure in turn.failures],
        )


class Client:
    """An honest client; notes what it feels in `turn`."""

    def __init__(self, profile: Path) -> None:
        self._profile = profile
        self.turn = Turn()

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        async with warehouse.connect(self._profile) as store:
            bucket = await store.create_bucket(BUCKET)
            body = bytes(SIZE)
            await bucket.put("fixed", body)
            url = await bucket.presign_get("fixed", expires_s=3600)
            count = 0

            async def put() -> None:
                nonlocal count
                count += 1
                await bucket.put(f"key-{count % 100}", body)

            async def get() -> None:
                assert await bucket.get("fixed") == body

            async def list_buckets() -> None:
                assert [one.name for one in await store.buckets()] == [BUCKET]

            async def log_in() -> None:
                async with warehouse.connect(self._profile):
                    pass

            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._repeat, "list", list_buckets, 0.02)
                nursery.start_soon(self._repeat, "put", put, 0.02)
                nursery.start_soon(self._repeat, "get", get, 0.02)
                nursery.start_soon(self._repeat, "log in", log_in, 0.03)
                nursery.start_soon(self._repeat, "url", lambda: open_url(url), 0.05)
                task_status.started()

    async def _repeat(self, name: str, operation: Callable[[], Awaitable[None]], pause_s: float) -> None:
        while True:
            began, turn = time.perf_counter(), self.turn
            try:
                with trio.fail_after(30):
                    await operation()
            except Exception as error:
                turn.failures.append(f"{name}: {type(error).__name__}: {error}"[:200])
            turn.taken_ms[name].append((time.perf_counter() - began) * 1000)
            await trio.sleep(pause_s)


async def open_url(url: str) -> None:
    """GET a URL on a connection of its own."""
    scheme, _, rest = url.partition("://")
    host, _, target = rest.partition("/")
    name, port = host.rsplit(":", 1)
    stream: trio.abc.Stream = await trio.open_tcp_stream(name, int(port))
    if scheme == "https":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        assert isinstance(stream, trio.SocketStream)
        stream = trio.SSLStream(stream, context, https_compatible=True)
    async with stream:
        await stream.send_all(f"GET /{target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        received = b""
        while piece := await stream.receive_some(65536):
            received += piece
    if not received.startswith(b"HTTP/1.1 200 ") or len(received) < SIZE:
        raise AssertionError(received[:200])


class Flood:
    """Some strangers, each a process, until the end of the block."""

    def __init__(self, kind: str, count: int, store: RunningStore, *, target: str = "") -> None:
        """
        Args:
            target: host and port of somebody else who is flooded instead of the store.
        """
        profile = Profile.load(store.profile)
        data = store.events[-1]["volumes"][0].partition("://")[2]
        target = target or (profile.master.removeprefix("tcp://") if kind in CONTROL_KINDS else data)
        self._commands = [
            [sys.executable, str(STRANGERS), kind, "--to", target]
            + ["--from", f"127.0.0.{11 + number}"]
            + ["--server-key", profile.server_key, "--key-id", profile.key_id]
            for number in range(count)
        ]
        self._processes: list[subprocess.Popen[str]] = []
        self.rates: dict[str, float] = {}

    async def __aenter__(self) -> Flood:
        self._began = time.monotonic()
        for command in self._commands:
            self._processes.append(
                subprocess.Popen(
                    command,
                    env=environment(),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        # In a thread: on a busy machine the strangers take seconds to end, and the client's loop goes on.
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._end)

    def _end(self) -> None:
        took_s = time.monotonic() - self._began
        for process in self._processes:
            with suppress(AttributeError, OSError):  # they are idle no more: it is their turn to tell
                os.sched_setscheduler(process.pid, os.SCHED_OTHER, os.sched_param(0))
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in self._processes:
            assert process.stdout is not None
            with process.stdout:
                try:
                    counts = json.loads(process.stdout.readline() or "{}")
                    process.wait(20)
                finally:
                    process.kill()
                    process.wait()
            for name, number in counts.items():
                self.rates[name] = self.rates.get(name, 0.0) + number / took_s


async def take_turn(client: Client, store: RunningStore, seconds: float) -> Turn:
    pids = store.pids()
    before = {name: cpu_seconds([pid]) for name, pid in pids.items()}
    began = time.monotonic()
    client.turn = turn = Turn()
    await trio.sleep(seconds)
    client.turn = Turn()
    took_s = time.monotonic() - began
    turn.cpu = {name: (cpu_seconds([pid]) - before[name]) / took_s for name, pid in pids.items()}
    turn.memory_mib = {name: resident_memory(pid) / 2**20 for name, pid in pids.items()}
    return turn


@dataclass
class Found:
    """What the client felt in a flood, and in the quiet turns before and after it."""

    quiet: Turn
    noisy: Turn
    bare: Turn | None = None  # while somebody else was flooded

    def ratio(self, name: str) -> float:
        return self.noisy.p(name, 0.99) / self.quiet.p(name, 0.99)


async def measure(arguments: argparse.Namespace, store: RunningStore, kinds: list[str]) -> dict[str, Found]:
    """Each kind: a quiet turn, one in a flood, and a quiet one, which is also the first of the next kind."""
    client, found = Client(store.profile), {}
    async with trio.open_nursery() as nursery:
        await nursery.start(client.run)
        await trio.sleep(2)
        before = await take_turn(client, store, arguments.seconds / 2)
        for kind in kinds:
            noisy = await flooded(arguments, client, store, kind)
            bare = None
            if arguments.bare:
                with bare_listener() as target:
                    bare = await flooded(arguments, client, store, kind, target=target)
            await trio.sleep(1)
            after = await take_turn(client, store, arguments.seconds / 2)
            found[kind] = Found(before.joined(after), noisy, bare)
            before = after
            if not arguments.json:
                print(end=".", flush=True, file=sys.stderr)
        nursery.cancel_scope.cancel()
    return found


async def flooded(
    arguments: argparse.Namespace, client: Client, store: RunningStore, kind: str, *, target: str = ""
) -> Turn:
    async with Flood(kind, arguments.strangers, store, target=target) as flood:
        await trio.sleep(1)
        turn = await take_turn(client, store, arguments.seconds)
    turn.strangers = flood.rates
    return turn


@contextmanager
def bare_listener() -> Iterator[str]:
    """A process that accepts connections and closes them, and nothing else."""
    command = [sys.executable, str(STRANGERS), "listener", "--from", "127.0.0.1", "--to", "127.0.0.1:0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        with process.stdout:
            yield f"127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()


def as_record(kind: str, found: Found) -> dict[str, Any]:
    noisy = found.noisy
    return {
        "kind": kind,
        "quiet_ms": found.quiet.summary(),
        "flood_ms": noisy.summary(),
        "bare_ms": found.bare and found.bare.summary(),
        "p99_ratio": {name: found.ratio(name) for name in OPERATIONS},
        "requests": sum(map(len, noisy.taken_ms.values())),
        "failures": noisy.failures,
        "strangers_per_s": noisy.strangers,
        "cpu": noisy.cpu,
        "memory_mib": noisy.memory_mib,
    }


def print_table(found: dict[str, Found]) -> None:
    print("p50 / p99 in ms, and how many times the p99 of the quiet turns before and after that is")
    print(f"{'':12}" + "".join(f"{name:>21}" for name in OPERATIONS) + "  failed  strangers, a second")

    def row(name: str, turn: Turn, found: Found | None = None, rest: str = "") -> None:
        cells = (
            f"{turn.p(one, 0.5):9.1f} /{turn.p(one, 0.99):5.0f} "
            + (f"{turn.p(one, 0.99) / found.quiet.p(one, 0.99):4.1f}x" if found else "     ")
            for one in OPERATIONS
        )
        print(f"{name:12}{''.join(cells)}  {rest}".rstrip())

    row("quiet", Turn().joined(*(one.quiet for one in found.values())))
    for kind, one in found.items():
        row(kind, one.noisy, one, described(one.noisy))
        for failure in sorted(set(one.noisy.failures))[:3]:
            print(f"             {failure}")
        if one.bare is not None:
            row("  elsewhere", one.bare, one, described(one.bare))


def described(turn: Turn) -> str:
    rates = ", ".join(f"{name} {rate:,.0f}" for name, rate in turn.strangers.items())
    busy = ", ".join(f"{name} {share:.0%}" for name, share in turn.cpu.items() if share > 0.02)
    return f"{len(turn.failures):6}  {rates}; {busy}"


def main() -> None:
    parser = argparse.ArgumentParser(description="What a flood from strangers costs another client.")
    kinds = (*CONTROL_KINDS, *DATA_KINDS, *TLS_KINDS)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each flood (default: %(default)s)")
    parser.add_argument("--strangers", type=int, default=4, metavar="N")
    parser.add_argument("--kinds", nargs="+", choices=kinds, default=kinds, metavar="KIND")
    parser.add_argument(
        "--bare", action="store_true", help="also flood a process that is no store, on the same machine"
    )
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if not arguments.json:
        print(f"{Machine.this()}; {arguments.strangers} strangers")
    for config in (None, TLS_SETTINGS):
        chosen = [kind for kind in arguments.kinds if (kind in TLS_KINDS) == (config is not None)]
        if not chosen:
            continue
        with (
            tempfile.TemporaryDirectory(prefix="abuse-") as folder,
            RunningStore(Path(folder) / "store", config=config) as store,
        ):
            found = trio.run(measure, arguments, store, chosen)
        if arguments.json:
            for kind, one in found.items():
                print(json.dumps(as_record(kind, one)))
        else:
            print("\nwith TLS on the data port" if config else "")
            print_table(found)


if __name__ == "__main__":
    main()
