"""Peer machine: environments, processes, disks and caches, for the comparison with other stores.

What is installed goes into environments of its own below a cache folder, never into the machine; what is
started is ended by its process id.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from bench.machine import peak_memory
from warehouse.conf.programs import module_command

START_S = 30.0
STOP_S = 20.0
_STARTED = time.monotonic()


class NotHere(Exception):
    """A system cannot be installed or started here; the message says what is missing."""


def say(text: str) -> None:
    """A line on standard error, with minutes and seconds since the start."""
    minutes, seconds = divmod(int(time.monotonic() - _STARTED), 60)
    print(f"{minutes:3}:{seconds:02}  {text}", file=sys.stderr, flush=True)


class Environments:
    """Virtual environments of our own, made when they are first wanted.

    Args:
        folder: where they are kept from one run to the next.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def with_packages(self, name: str, packages: Sequence[str]) -> Path:
        """The `bin` folder of an environment with these packages.

        Raises:
            NotHere: pip could not install them.
        """
        home = self._folder / name
        done = home / "installed"
        if done.exists() and done.read_text() == " ".join(packages):
            return home / "bin"
        say(f"installing {' '.join(packages)} into {home}")
        shutil.rmtree(home, ignore_errors=True)
        commands: list[list[str]] = [
            module_command("venv", str(home)),
            [str(home / "bin" / "pip"), "install", "-q", "--disable-pip-version-check", *packages],
        ]
        for command in commands:
            ran = subprocess.run(command, capture_output=True, text=True)
            if ran.returncode:
                raise NotHere(f"{' '.join(packages)}: {ran.stderr.strip()[-500:]}")
        done.write_text(" ".join(packages))
        return home / "bin"

    def debian_program(self, package: str, program: str) -> Path | None:
        """A program of a Debian package: the machine's own, or unpacked beside the environments."""
        found = shutil.which(program)
        if found:
            return Path(found)
        home = self._folder / package
        if not (home / "usr" / "bin" / program).exists():
            home.mkdir(parents=True, exist_ok=True)
            say(f"unpacking Debian's {package} into {home}")
            try:
                subprocess.run(
                    ["apt-get", "-q", "download", package], cwd=home, capture_output=True, check=True
                )
                (archive,) = home.glob("*.deb")
                subprocess.run(["dpkg-deb", "-x", archive, home], capture_output=True, check=True)
            except (OSError, ValueError, subprocess.CalledProcessError):
                return None
        return home / "usr" / "bin" / program


class Processes:
    """What we started, and its children."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, command: Sequence[str | Path], log: Path, env: dict[str, str] | None = None) -> None:
        with log.open("ab") as output:
            self._started.append(
                subprocess.Popen(
                    [str(word) for word in command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=env,
                )
            )

    def pids(self) -> list[int]:
        return sorted({pid for process in self._started for pid in family_of(process.pid)})

    def ended(self) -> list[int]:
        return [process.pid for process in self._started if process.poll() is not None]

    def stop(self) -> None:
        for process in reversed(self._started):
            process.send_signal(signal.SIGTERM)
        for process in self._started:
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                for pid in family_of(process.pid):
                    os.kill(pid, signal.SIGKILL)
                process.wait()
        self._started.clear()


def family_of(pid: int) -> list[int]:
    """A process and all below it that run now."""
    found = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in children.read_text().split():
                found += family_of(int(child))
    return found


def wait_for(url: str, processes: Processes, log: Path) -> None:
    """Wait until a server answers anything at all."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if processes.ended():
            break
        try:
            urllib.request.urlopen(url, timeout=2).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
        else:
            return
    tail = log.read_text(errors="replace")[-1500:] if log.exists() else ""
    raise NotHere(f"{url} does not answer:\n{tail}")


def disk_usage(folder: Path) -> int:
    """Bytes that the files below a folder take on disk, directories included."""
    os.sync()  # or what the kernel has not yet allocated is missing
    total = 0
    for path, _, names in os.walk(folder):
        total += os.lstat(path).st_blocks * 512
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(path, name)).st_blocks * 512
    return total


def busy_cores(seconds: float) -> float:
    """How many cores anybody used during so many seconds: to be asked before anything is started."""

    def times() -> tuple[int, int]:
        first_line = Path("/proc/stat").read_text().splitlines()[0]
        fields = [int(word) for word in first_line.split()[1:9]]
        return sum(fields), fields[3] + fields[4]  # idle, and waiting for disks

    total_before, idle_before = times()
    time.sleep(seconds)
    total, idle = times()
    share = 1 - (idle - idle_before) / max(total - total_before, 1)
    return share * (os.cpu_count() or 1)


def drop_caches(folder: Path) -> str:
    """Have the kernel forget what it has cached of a folder's files; says how that was done."""
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3")
    except OSError:
        forget_pages(folder)
        return "the data's pages were dropped before (`posix_fadvise`), names and inodes stayed cached"
    return "the kernel's caches were dropped before"


def forget_pages(folder: Path) -> None:
    """Have the kernel forget the contents of a folder's files, and nothing else of anybody's."""
    for path, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                fd = os.open(os.path.join(path, name), os.O_RDONLY)
                try:
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                finally:
                    os.close(fd)


def read_through(folder: Path, size_min: int = 0) -> None:
    """Have the kernel read the files of a folder, those of so many bytes and more."""
    buffer = bytearray(1 << 20)
    for path, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                fd = os.open(os.path.join(path, name), os.O_RDONLY | os.O_NONBLOCK)
                try:
                    if os.fstat(fd).st_size >= size_min:
                        while os.readv(fd, [buffer]):
                            pass
                finally:
                    os.close(fd)


def total_peak(pids: Sequence[int]) -> int:
    """Resident bytes, at their most, of all these processes together."""
    return sum(peak_memory([pid]) for pid in pids)
