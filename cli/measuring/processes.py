"""Bench clients: the clients of a measurement, in this process or each in a process of its own.

A Python process uses one core, so a single process seldom shows what a store can do.  Each process runs a
`Worker` with its own connection.  This module starts the processes, gives all of them the same step at the
same moment, and adds up their results.

    parent -> child   one line of JSON each: Hello, then Steps, one at a time
    child -> parent   one line of JSON each: Reports: the result so far, then the final one, or a failure

A child ends when its standard input ends, so no child outlives the parent.
"""

from __future__ import annotations

import contextlib
import math
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec
import trio

from warehouse.cli.measuring.latencies import BenchResult, shares, together
from warehouse.cli.measuring.worker import Plan, Step, Tick, Worker
from warehouse.client.nurseries import background, bounded_nursery
from warehouse.client.store import Store, connect
from warehouse.conf.programs import module_command, module_environment
from warehouse.errors import StoreError, from_code

STOP_GRACE_S = 5.0


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    profile: str | None  # path; None: found in the usual places
    plan: Plan


class Report(msgspec.Struct, frozen=True, kw_only=True):
    result: BenchResult = msgspec.field(default_factory=BenchResult)
    is_finished: bool = False
    code: str | None = None  # of an error that ended the step
    message: str = ""


Do = Callable[[Step, Tick], Awaitable[BenchResult]]


class Clients:
    """All clients of a measurement; made by `start_clients`."""

    def __init__(self, clients: Sequence[Do]) -> None:
        self._clients = clients

    async def do(self, test: str, *, concurrency: int, seconds: float, count: int, tick: Tick) -> BenchResult:
        """Let all clients do one step at the same time.

        Args:
            concurrency: requests in flight, of all clients together.
            count: objects to prepare, of all clients together.
            tick: called with the joint result so far.
        """
        parts = [BenchResult() for _ in self._clients]

        async def run(index: int, do: Do, tasks: int) -> None:
            async def on_tick(result: BenchResult) -> None:
                parts[index] = result
                await tick(together(parts))

            each = math.ceil(count / len(self._clients))
            parts[index] = await do(Step(test=test, tasks=tasks, seconds=seconds, count=each), on_tick)

        async with bounded_nursery(len(self._clients)) as tasks:
            for index, share in enumerate(shares(concurrency, len(self._clients))):
                tasks.start(partial(run, index, self._clients[index], share))
        return together(parts)


@contextlib.asynccontextmanager
async def start_clients(
    store: Store, plan: Plan, process_count: int, profile: Path | None
) -> AsyncIterator[Clients]:
    """The clients of a measurement, for as long as the block lasts.

    Args:
        store: used when one process is enough.
        profile: path of the profile for the other processes; None: they find it as this process did.
    """
    if process_count == 1:
        yield Clients([Worker(plan, store.bucket(plan.bucket)).do])
        return
    async with background() as nursery:
        named = None if profile is None else str(profile)
        children = []
        for number in range(process_count):
            one = msgspec.structs.replace(plan, worker=number)
            child: _Child = await nursery.start(_keep_child, Hello(profile=named, plan=one))
            children.append(child)
        yield Clients([child.do for child in children])


# --- the parent's side ----------------------------------------------------------------------------


class _Child:
    def __init__(self, process: trio.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin = process.stdin
        self._lines = _Lines(process.stdout)

    async def send(self, message: Hello | Step) -> None:
        await self._stdin.send_all(msgspec.json.encode(message) + b"\n")

    async def do(self, step: Step, tick: Tick) -> BenchResult:
        await self.send(step)
        while (line := await self._lines.next()) is not None:
            report = msgspec.json.decode(line, type=Report)
            if report.code is not None:
                raise from_code(report.code, report.message)
            if report.is_finished:
                return report.result
            await tick(report.result)
        raise OSError("a client process of the measurement ended unexpectedly")


async def _keep_child(hello: Hello, *, task_status: trio.TaskStatus[_Child]) -> None:
    process = await trio.lowlevel.open_process(
        module_command("warehouse.cli.measuring.processes"),
        env=module_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the parent, which ends the children in its own order
    )
    try:
        child = _Child(process)
        await child.send(hello)
        task_status.started(child)
        await process.wait()
    finally:
        with trio.CancelScope(shield=True):
            assert process.stdin is not None
            await process.stdin.aclose()
            with trio.move_on_after(STOP_GRACE_S):
                await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()
            assert process.stdout is not None
            await process.stdout.aclose()


class _Lines:
    """The lines that come out of a pipe."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._buffer = bytearray()

    async def next(self) -> bytes | None:
        """The next line without its line break; None at the end."""
        while (end := self._buffer.find(b"\n")) < 0:
            piece = await self._stream.receive_some()
            if not piece:
                return None
            self._buffer += piece
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line


# --- the child's side -----------------------------------------------------------------------------


async def _run_child() -> None:
    lines = _Lines(trio.lowlevel.FdStream(0))
    stdout = trio.lowlevel.FdStream(1)
    turn = trio.Lock()
    steps_in, steps = trio.open_memory_channel[Step](1)  # the parent sends the next step when one is finished

    async def send(report: Report) -> None:
        # A report that is cancelled when its step ends would leave half a line.
        with trio.CancelScope(shield=True):
            async with turn:
                await stdout.send_all(msgspec.json.encode(report) + b"\n")

    async def tick(result: BenchResult) -> None:
        await send(Report(result=result))

    async def work(hello: Hello) -> None:
        try:
            async with connect(hello.profile) as store:
                worker = Worker(hello.plan, store.bucket(hello.plan.bucket))
                async for step in steps:
                    try:
                        result = await worker.do(step, tick)
                    except StoreError as error:
                        await send(Report(code=error.code, message=error.message))
                    else:
                        await send(Report(result=result, is_finished=True))
        except StoreError as error:  # of the connection
            await send(Report(code=error.code, message=error.message))

    first = await lines.next()
    if first is None:
        return
    async with background() as nursery:
        nursery.start_soon(work, msgspec.json.decode(first, type=Hello))
        while (line := await lines.next()) is not None:
            await steps_in.send(msgspec.json.decode(line, type=Step))


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(trio.BrokenResourceError):  # the parent is gone: nobody reads our reports
        trio.run(_run_child)


if __name__ == "__main__":
    main()
