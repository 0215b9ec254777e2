"""Fsync: makes volumes durable, by the kernel where it can (`storage/kernel_sync.py`), else in a thread.

    sync ── begin_sync ── KernelSync.submit ── (eventfd) ── end_sync
              | not now       | not taken                      | nothing proved: another sync or
              v               v                                v a generation switch got in between
            sync_in_thread: Volume.sync

Why there are two ways, and what the first one saves: docs/decisions/0002-kernel-sync.md.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable

import trio

from warehouse.storage.kernel_sync import KernelSync
from warehouse.storage.volume import Volume

log = logging.getLogger(__name__)

CLOSE_S = 10.0  # for syncs that are still running; after that they are left alone

Sync = Callable[[Volume], Awaitable[None]]


async def sync_in_thread(volume: Volume) -> None:
    """Like `Volume.sync`."""
    await trio.to_thread.run_sync(volume.sync)


class _Sleeper:
    __slots__ = ("code", "task")

    def __init__(self) -> None:
        self.task = trio.lowlevel.current_task()
        self.code = 0  # the error number; 0: success


class Syncer:
    """Syncs the volumes of one disk, for any number of tasks, each with a volume of its own."""

    def __init__(self, open_kernel: Callable[[], KernelSync] = KernelSync) -> None:
        self._open_kernel = open_kernel
        self._kernel: KernelSync | None = None  # None: threads sync
        self._last_tag = 0
        self._sleepers: dict[int, _Sleeper] = {}  # by tag

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take the kernel's results and wake the tasks that wait for them, until cancelled."""
        try:
            kernel = self._open_kernel()
        except OSError as error:
            log.info("threads sync the volumes: the kernel alone does not", extra={"cause": str(error)})
            task_status.started()
            return
        self._kernel = kernel
        try:
            task_status.started()
            while True:
                await trio.lowlevel.wait_readable(kernel.fileno())
                for tag, code in kernel.take_results():
                    sleeper = self._sleepers.pop(tag, None)
                    if sleeper is not None:
                        sleeper.code = code
                        trio.lowlevel.reschedule(sleeper.task)
        finally:
            self._kernel = None
            with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_S):
                await trio.to_thread.run_sync(kernel.close, abandon_on_cancel=True)

    async def sync(self, volume: Volume) -> None:
        """Like `Volume.sync`.  When cancelled, the kernel finishes the sync, and its result is dropped."""
        begun = volume.begin_sync() if self._kernel is not None else None
        if begun is not None:
            code = await self._sync_by_kernel(begun.handle)
            if code is not None and volume.end_sync(
                begun, OSError(code, os.strerror(code)) if code else None
            ):
                return
        await sync_in_thread(volume)

    async def _sync_by_kernel(self, handle: int) -> int | None:
        """The error number, 0 for success; None: the kernel did not take the request."""
        assert self._kernel is not None
        self._last_tag = tag = self._last_tag + 1
        try:
            self._kernel.submit(handle, tag)
        except OSError as error:
            log.debug("the kernel does not take a sync", extra={"cause": str(error)})
            return None

        def forget(_: object) -> trio.lowlevel.Abort:
            del self._sleepers[tag]
            return trio.lowlevel.Abort.SUCCEEDED

        self._sleepers[tag] = sleeper = _Sleeper()
        await trio.lowlevel.wait_task_rescheduled(forget)
        return sleeper.code
