"""Real power cuts: a file system on a loop device that can be shut down without flushing anything.

`EXT4_IOC_SHUTDOWN` with the flag "no log flush" makes the kernel behave, for one mounted file system, as if
the power had gone: nothing more reaches the image, neither data nor journal, and the next mount recovers
what is there.  The loop device hands writes to the image's own file system, which keeps them.

The order matters.  Whoever writes is frozen first, then its acknowledgements are collected, then the power
goes; otherwise a sync may return in the middle of the cut and look like a promise.

    with CutDisk(directory) as disk:
        writer = start_something(disk.root)
        promised = disk.cut([writer.pid], collect)    # freeze, collect, cut, kill
        writer.wait()
        disk.remount()
        check(disk.root, promised)

Needs root and loop devices (`unavailable` says why not).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

T = TypeVar("T")

SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN, and XFS's XFS_IOC_GOINGDOWN
NO_LOG_FLUSH = 2
IMAGE_SIZE = 256 * 1024 * 1024
WAIT_S = 10.0
TOOLS = ("mkfs.ext4", "losetup", "mount", "umount")


def unavailable() -> str | None:
    """Why there can be no power cuts on this machine; None when there can."""
    if os.name != "posix" or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "power cuts need root, for loop devices and mounts"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"power cuts need {', '.join(missing)}"
    found = subprocess.run(["losetup", "--find"], capture_output=True, text=True)
    if found.returncode != 0:
        return f"no loop device: {found.stderr.strip()}"
    return None


def _run(*command: str | Path) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout.strip()


class CutDisk:
    """An ext4 file system of its own, whose power can be cut.  Leaves no mount and no loop device behind."""

    def __init__(self, directory: Path, *, image_size: int = IMAGE_SIZE, options: Sequence[str] = ()) -> None:
        """
        Args:
            options: for mkfs.ext4.
        """
        self.root = directory / "mount"
        self._image = directory / "image"
        self._image_size = image_size
        self._options = options
        self._loop = ""
        self._is_mounted = False

    def __enter__(self) -> CutDisk:
        self.root.mkdir()
        with self._image.open("wb") as image:
            image.truncate(self._image_size)
        _run("mkfs.ext4", "-q", "-F", *self._options, self._image)
        try:
            self._loop = _run("losetup", "--find", "--show", self._image)
            self._mount()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def cut(self, pids: Iterable[int], collect: Callable[[], T]) -> T:
        """Cut the power under some processes, and kill them.

        Args:
            pids: all processes that write to this disk.  Whoever started them still has to wait for them.
            collect: takes in what they have acknowledged so far; nothing later counts.
        """
        pids = list(pids)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        for pid in pids:
            _wait_for_state(pid, "TtZX")
        collected = collect()
        self.shut_down()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            _wait_for_state(pid, "ZX")
        return collected

    def shut_down(self) -> None:
        """Let nothing more reach the image."""
        fd = os.open(self.root, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def remount(self) -> None:
        """Power on again: the file system recovers from its journal."""
        self._unmount()
        self._mount()

    def _mount(self) -> None:
        _run("mount", "-t", "ext4", self._loop, self.root)
        self._is_mounted = True

    def _unmount(self) -> None:
        if not self._is_mounted:
            return
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                _run("umount", self.root)
                break
            except OSError:
                if time.monotonic() > deadline:
                    _run("umount", "--lazy", self.root)
                    self._is_mounted = False
                    raise
                time.sleep(0.01)  # a killed process lets go of its files a moment later
        self._is_mounted = False

    def _release(self) -> None:
        with contextlib.suppress(OSError):
            self._unmount()
        if self._loop:
            with contextlib.suppress(OSError):
                _run("losetup", "--detach", self._loop)
            self._loop = ""
        self._image.unlink(missing_ok=True)


def _wait_for_state(pid: int, states: str) -> None:
    """Wait until every thread of a process is in one of some states (proc(5)), or gone."""
    deadline = time.monotonic() + WAIT_S
    while not _threads_are(pid, states):
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {pid} did not get to {states}")
        time.sleep(0.0002)


def _threads_are(pid: int, states: str) -> bool:
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except FileNotFoundError:
        return True
    for task in tasks:
        try:
            status = Path(f"/proc/{pid}/task/{task}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if status.rpartition(")")[2].split()[0] not in states:
            return False
    return True
