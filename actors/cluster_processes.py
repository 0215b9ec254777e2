"""Cluster processes: the actors of one machine are started in their order, watched, and stopped.

An actor that dies is started again, with back-off.  Each runs in a session of its own, so that Ctrl-C reaches
`warehouse up` alone, and watches its standard input, so that it stops even if that is killed.
"""

from __future__ import annotations

import json
import logging
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import trio

from warehouse.actors.process import STOP_GRACE_S
from warehouse.conf.programs import module_environment
from warehouse.errors import SetupError

log = logging.getLogger("warehouse.actors.cluster")

BACK_OFF_FIRST_S = 0.1
BACK_OFF_MAX_S = 10.0
HEALTHY_S = 30.0  # after a child lived this long, its back-off starts from the beginning
START_S = 60.0
DOORS_S = 10.0  # a store is ready without console and gateways, and waits this long for them
UNWRITABLE_S = 3.0  # how much longer a start waits for a disk that serves reads and takes no puts


@dataclass
class Child:
    """One actor's process, across its restarts."""

    name: str
    command: list[str]
    is_needed: bool = True  # the store waits for it, and does not start without
    is_door: bool = False  # the store waits a while for it, since people look for it at once
    started: trio.Event = field(default_factory=trio.Event)
    ready: trio.Event = field(default_factory=trio.Event)
    serving: trio.Event = field(default_factory=trio.Event)  # a disk's reads work; puts lack `lacking`
    lacking: str = ""
    announced: dict[str, Any] = field(default_factory=dict)
    process: trio.Process | None = None
    is_failed: bool = False  # it ended with an error before it was ever ready


class Cluster:
    def __init__(self, children: list[Child]) -> None:
        self._children = children
        self._master, *others = children
        self._disks = [child for child in others if child.is_needed]
        self._helpers = [child for child in others if not child.is_needed]
        self._doors = [child for child in self._helpers if child.is_door]
        self._is_stopping = False
        self._some_disk_ready = trio.Event()

    async def run(self, on_ready: Any, on_unwritable: Callable[[str], None] = lambda cause: None) -> None:
        """Start the master, the disks, then the compactors; keep them running until cancelled.

        A store that takes no puts starts as well: it serves reads, and its compactors free room.

        Args:
            on_ready: called with the children when a put would succeed.
            on_unwritable: called once before `on_ready`, if that takes long, with what the store lacks.
        """
        async with trio.open_nursery() as nursery:
            try:
                nursery.start_soon(self._keep_running, self._master)
                await self._master.ready.wait()
                for child in self._disks:
                    nursery.start_soon(self._keep_running, child)
                await self._wait_for_disks()
                for child in self._helpers:
                    nursery.start_soon(self._keep_running, child)
                    await child.started.wait()
                if not self._some_disk_ready.is_set():
                    on_unwritable(self._lacking())
                    await self._some_disk_ready.wait()
                with trio.move_on_after(DOORS_S):
                    for door in self._doors:
                        await door.ready.wait()
                on_ready(self._children)
                await trio.sleep_forever()
            finally:
                self._is_stopping = True
                with trio.CancelScope(shield=True):
                    await self._stop_all()

    async def _wait_for_disks(self) -> None:
        """Wait for all disks; a disk that cannot start holds up the others for START_S at most."""
        with trio.move_on_after(START_S):
            async with trio.open_nursery() as nursery:
                for disk in self._disks:
                    nursery.start_soon(self._wait_for_disk, disk)

    async def _wait_for_disk(self, disk: Child) -> None:
        """Wait until a disk takes puts, or has said for a while that it does not."""

        async def give_up(scope: trio.CancelScope) -> None:
            await disk.serving.wait()
            await trio.sleep(UNWRITABLE_S)
            scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(give_up, nursery.cancel_scope)
            await disk.ready.wait()
            nursery.cancel_scope.cancel()

    def _lacking(self) -> str:
        """Why no disk takes puts, one sentence for each disk."""
        return "; ".join(
            disk.lacking or f"{disk.name} has not registered with the master within {START_S:.0f} s"
            for disk in self._disks
        )

    async def _keep_running(self, child: Child) -> None:
        back_off_s = BACK_OFF_FIRST_S
        while True:
            started_at = trio.current_time()
            status = await self._run_once(child)
            if self._is_stopping:
                return
            lived_s = trio.current_time() - started_at
            if lived_s > HEALTHY_S:
                back_off_s = BACK_OFF_FIRST_S
            if not child.ready.is_set() and status == 1:
                # Its message is on standard error.  One bad disk must not keep the others from serving.
                child.is_failed = True
                if child is self._master or (
                    child in self._disks and all(disk.is_failed for disk in self._disks)
                ):
                    raise SetupError(f"{child.name} could not start; its message is above")
            log.warning(
                "actor died, restarting",
                extra={
                    "actor": child.name,
                    "status": status,
                    "lived_s": round(lived_s, 1),
                    "in_s": back_off_s,
                },
            )
            await trio.sleep(back_off_s)
            back_off_s = min(back_off_s * 2, BACK_OFF_MAX_S)

    async def _run_once(self, child: Child) -> int:
        child.process = process = await trio.lowlevel.open_process(
            child.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env=module_environment(),
        )
        child.started.set()
        if self._is_stopping:  # the stop came while this child was starting: `_stop_all` has missed it
            process.terminate()
        # Not cancelled with the rest: `_stop_all` stops the process in its turn; we reap it here.
        with trio.CancelScope(shield=True):
            assert process.stdout is not None
            await self._read_events(process.stdout, child)
            status = await process.wait()
            if process.stdin is not None:
                await process.stdin.aclose()
            await process.stdout.aclose()
        return status

    async def _read_events(self, stream: trio.abc.ReceiveStream, child: Child) -> None:
        buffered = b""
        async for piece in stream:
            *lines, buffered = (buffered + piece).split(b"\n")
            for line in lines:
                try:
                    event = json.loads(line)
                except ValueError:
                    log.warning("not an event", extra={"actor": child.name, "line": line[:200]})
                    continue
                if isinstance(event, dict) and event.get("event") == "serving":
                    child.announced, child.lacking = event, str(event.get("lacking"))
                    child.serving.set()
                if isinstance(event, dict) and event.get("event") == "ready":
                    child.announced = event
                    child.ready.set()
                    if child in self._disks:
                        self._some_disk_ready.set()
            buffered = buffered[-65_536:]

    async def _stop_all(self) -> None:
        """Stop the compactors first, as nobody waits for their work; then the volume actors, which can still
        confirm the puts on their way; the master last."""
        async with trio.open_nursery() as nursery:
            for child in self._helpers:
                nursery.start_soon(self._stop, child)
        for child in reversed([self._master, *self._disks]):
            await self._stop(child)

    async def _stop(self, child: Child) -> None:
        process = child.process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        with trio.move_on_after(STOP_GRACE_S + 5):
            await process.wait()
        if process.returncode is None:
            log.error("actor did not stop in time, killed", extra={"actor": child.name})
            process.kill()
            await process.wait()
