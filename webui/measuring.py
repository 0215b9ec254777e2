"""Measuring: `warehouse bench`, run from the console for an operator who wants to see what the disks give.

One measurement at a time for each console.  It is a process of its own, with the key of the person who asked
for it, in a file for its owner alone that is removed afterwards.  The command makes its own bucket and
removes it in the end, also when it is cancelled.  A measurement ends with its key.
"""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from warehouse.client.nurseries import background
from warehouse.conf.formatting import format_size
from warehouse.conf.programs import module_command, module_environment
from warehouse.errors import Overloaded
from warehouse.webui.abilities import Abilities

if TYPE_CHECKING:
    from warehouse.webui.stores import OpenStore

log = logging.getLogger(__name__)

NEEDED = ("read", "write", "list", "delete", "manage_buckets")
BUCKET = "bench-00000000"  # like those that the command makes, and removes in the end
TESTS = ("put", "get", "mixed", "list", "delete", "large-put", "large-get")
LARGE = frozenset({"large-put", "large-get"})
PREPARE_S = 60.0  # of each test, besides its seconds
CLEAN_UP_S = 75.0  # after a person has cancelled; the command gives its own clean-up 60
LEAVE_S = 3.0  # when the console stops
LINE_MAX = 64 * 1024  # bytes of one result
OUTPUT_MAX = 1024 * 1024  # bytes of one measurement
COMPLAINT_MAX = 2_000  # characters that are shown
KEPT_MAX = 6  # measurements of a key that are remembered
FOLDER = "measure-"  # beginning of the names of private folders
LEFT_S = 3600.0  # a folder that is so old was left by a console that was killed: no measurement takes so long


def may_measure(can: Abilities) -> bool:
    """May the key do all that a measurement does?"""
    return all(can.may(permission, BUCKET) for permission in NEEDED)


@dataclass(frozen=True)
class Order:
    """What is to be measured; `pages/measure.py` bounds it."""

    tests: Sequence[str]
    size: int
    large_size: int
    concurrency: int
    seconds: int
    object_count: int
    process_count: int

    @property
    def steps(self) -> list[str]:
        """The tests in the order in which the command runs them."""
        ordered = ("put", "get", "list", "delete", "mixed", "large-put", "large-get")
        return [test for test in ordered if test in self.tests]

    @property
    def time_max_s(self) -> float:
        return len(self.tests) * (self.seconds + PREPARE_S) + CLEAN_UP_S

    def words(self, profile: Path) -> list[str]:
        found = ["bench", *self.steps, "--json", "--profile", str(profile)]
        found += ["--concurrency", str(self.concurrency), "--seconds", str(self.seconds)]
        found += ["--processes", str(self.process_count)]
        if set(self.tests) - LARGE:
            found += ["--size", str(self.size)]
        if set(self.tests) & {"get", "list", "mixed", "delete"}:
            found += ["--objects", str(self.object_count)]
        if set(self.tests) & LARGE:
            found += ["--large-size", str(self.large_size)]
        return found


@dataclass(eq=False)
class Measurement:
    """One run of the command.

    Attributes:
        results: what each test gave, as the command says it.
        state: "running", "cancelling", "done", "failed" or "cancelled".
        message: why it failed, or what came of it.
    """

    order: Order
    on_change: Callable[[], None]
    results: list[dict[str, Any]] = field(default_factory=list)
    state: str = "running"
    message: str = ""
    began_ms: int = field(default_factory=lambda: time.time_ns() // 1_000_000)
    ended_ms: int = 0
    stop: trio.Event = field(default_factory=trio.Event)
    _began_s: float = field(default_factory=time.monotonic)

    @property
    def is_running(self) -> bool:
        return self.state in ("running", "cancelling")

    @property
    def step(self) -> str:
        """The test that runs now; "": none any more."""
        steps = self.order.steps
        return steps[len(self.results)] if len(self.results) < len(steps) else ""

    @property
    def done_s(self) -> float:
        """Seconds of measuring that are done, for a bar; it waits for the test that it is at."""
        done = len(self.results) * self.order.seconds
        elapsed = time.monotonic() - self._began_s
        return min(max(done, elapsed * 0.8), done + 0.95 * self.order.seconds)

    @property
    def total_s(self) -> float:
        return float(len(self.order.steps) * self.order.seconds)

    def as_json(self) -> dict[str, Any]:
        order = {name: getattr(self.order, name) for name in Order.__dataclass_fields__}
        return {
            "began_ms": self.began_ms,
            "ended_ms": self.ended_ms,
            "state": self.state,
            "order": {**order, "tests": self.order.steps},
            "results": self.results,
        }


class MeasurementsOfKey:
    """What was measured with one key's connection, the oldest first."""

    def __init__(self) -> None:
        self.kept: list[Measurement] = []
        self._changed = trio.Event()

    @property
    def running(self) -> Measurement | None:
        return next((one for one in self.kept if one.is_running), None)

    def add(self, one: Measurement) -> None:
        self.kept = [*self.kept, one][-KEPT_MAX:]
        self.change()

    def change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def cancel(self) -> None:
        one = self.running
        if one is not None and one.state == "running":
            one.state = "cancelling"
            one.stop.set()
            self.change()

    async def versions(self, tick_s: float) -> AsyncGenerator[int, None]:
        """A number now, after each change, and each `tick_s` while a measurement runs."""
        for version in itertools.count():
            changed = self._changed
            yield version
            with trio.move_on_after(tick_s if self.running is not None else float("inf")):
                await changed.wait()


class Measuring:
    """Runs measurements, one at a time.

    Args:
        folder: private; each measurement gets a folder in it, which is removed at its end.
        nursery: owns the measurements.
    """

    def __init__(self, folder: Path, nursery: trio.Nursery) -> None:
        self._folder = folder
        self._nursery = nursery
        self.is_busy = False

    def start(self, opened: OpenStore, order: Order) -> Measurement:
        """
        Raises:
            Overloaded: another measurement runs; two would disturb each other.
        """
        if self.is_busy:
            raise Overloaded("another measurement is running: two would disturb each other")
        one = Measurement(order, on_change=opened.measurements.change)
        opened.measurements.add(one)
        self.is_busy = True
        self._nursery.start_soon(self._run, one, opened)
        return one

    # --- one measurement ---

    async def _run(self, one: Measurement, opened: OpenStore) -> None:
        folder: Path | None = None
        try:
            folder = await trio.to_thread.run_sync(self._make_folder)
            path = folder / "profile.toml"
            await trio.to_thread.run_sync(opened.profile.save, path)
            one.message = await self._bench(one, opened, path)
            one.state = "cancelled" if one.state == "cancelling" else "failed" if one.message else "done"
        except OSError as error:
            one.state, one.message = "failed", f"it could not be started: {error.strerror}"
        except Exception:
            log.exception("a measurement broke")
            one.state, one.message = "failed", "the console made a mistake; its log says which"
        finally:
            if one.is_running:
                one.state = "cancelled"
            one.ended_ms = time.time_ns() // 1_000_000
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)  # now, also while the console stops
            self.is_busy = False
            one.on_change()

    def _make_folder(self) -> Path:
        """A folder for its owner alone; what a killed console has left behind goes away.

        Another console of the same profile may be measuring: its folder stays.
        """
        for left in self._folder.glob(f"{FOLDER}*"):
            with suppress(OSError):
                if time.time() - left.stat().st_mtime > LEFT_S:
                    shutil.rmtree(left, ignore_errors=True)
        return Path(tempfile.mkdtemp(prefix=FOLDER, dir=self._folder))

    async def _bench(self, one: Measurement, opened: OpenStore, profile: Path) -> str:
        """Run the command; return what it complained of, "" if all went well."""
        process = await trio.lowlevel.open_process(
            module_command("warehouse", *one.order.words(profile)),
            env=module_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        complaint = bytearray()
        try:
            with trio.move_on_after(one.order.time_max_s) as limit:
                async with background() as nursery:
                    nursery.start_soon(_cancel_with, one, opened, process)
                    nursery.start_soon(_keep_tail, process, complaint)
                    await self._take_results(one, process)
                    await process.wait()
        finally:
            await _end(process)
        if limit.cancelled_caught:
            return "it took too long and was ended"
        if process.returncode == 0 or one.state == "cancelling":
            return ""
        text = complaint.decode(errors="replace").strip()[-COMPLAINT_MAX:]
        return text.removeprefix("warehouse: ") or f"the command ended with {process.returncode}"

    async def _take_results(self, one: Measurement, process: trio.Process) -> None:
        assert process.stdout is not None
        rest, size = b"", 0
        async for piece in process.stdout:
            size += len(piece)
            *lines, rest = (rest + piece).split(b"\n")
            if size > OUTPUT_MAX or len(rest) > LINE_MAX:
                return
            for line in lines:
                with suppress(msgspec.DecodeError):
                    result = msgspec.json.decode(line, type=dict[str, Any])
                    if result.get("event") == "measured":
                        one.results.append(result)
                        one.on_change()


async def _cancel_with(one: Measurement, opened: OpenStore, process: trio.Process) -> None:
    """Interrupt the command when its person wants that, or when the key ends; it cleans up after itself."""

    async def interrupt_at(event: trio.Event) -> None:
        await event.wait()
        one.state = "cancelling"
        _signal(process, signal.SIGINT)
        await trio.sleep(CLEAN_UP_S)
        _signal(process, signal.SIGKILL)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(interrupt_at, one.stop)
        nursery.start_soon(interrupt_at, opened.ended)


async def _keep_tail(process: trio.Process, tail: bytearray) -> None:
    assert process.stderr is not None
    async for piece in process.stderr:
        tail += piece
        del tail[: -4 * COMPLAINT_MAX]


async def _end(process: trio.Process) -> None:
    """Nothing of it stays, whatever happens."""
    if process.returncode is None:
        _signal(process, signal.SIGINT)
        with trio.move_on_after(LEAVE_S, shield=True):
            await process.wait()
    _signal(process, signal.SIGKILL)  # and clients of it that it left
    with trio.move_on_after(LEAVE_S, shield=True):
        await process.wait()


def _signal(process: trio.Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        if number == signal.SIGINT:
            if process.returncode is None:
                process.send_signal(number)
        else:
            os.killpg(process.pid, number)


def title_of(result: dict[str, Any]) -> str:
    """`put 4.0 KiB, 32 at once`"""
    size = result.get("size") or 0
    words = f"{result.get('test', '?')}{f' {format_size(size)}' if size else ''}"
    return f"{words}, {result.get('concurrency', '?')} at once"
