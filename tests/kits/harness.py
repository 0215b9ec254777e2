"""A whole store of real processes for tests: `warehouse up` on loopback, in a temporary folder."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from audit_kit import require_no_secret_in_the_audit_log

from secret_search import places_of, secrets_of

ROOT = Path(__file__).resolve().parents[2]
START_S = 120.0
LOCKS = Path("/tmp")  # one folder for all test processes of the machine, whatever their TMPDIR


class _PortBases:
    """Port bases that no other process of these tests takes, far from the defaults and the ephemeral range.

    Test processes run side by side, and a store that is stopped and started again must find its ports as it
    left them. So each process locks a slice of the bases for as long as it lives.
    """

    BASES = range(10200, 31000, 200)  # not 10000: browsers refuse port 10080, which would be a console's
    SLICE = 5

    def __init__(self) -> None:
        self._lock: int | None = None
        self._turns: Iterator[int] = iter(())
        self._port_turns: Iterator[int] = iter(())

    def take(self, volumes: int) -> int:
        """The next base, in turns, of which a store of so many volumes finds all ports free now."""
        if self._lock is None:
            self._lock_a_slice()
        for base in itertools.islice(self._turns, self.SLICE):
            if all(
                self._is_free(base + offset)
                for offset in [0, 1, 80, 90, *range(10, 10 + volumes), *range(110, 110 + volumes)]
            ):
                return base
        raise AssertionError(f"all {self.SLICE} port bases of this test process are in use")

    def take_port(self) -> int:
        """The next port, in turns, that no store of these tests has, and that is free now."""
        if self._lock is None:
            self._lock_a_slice()
        return next(port for port in self._port_turns if self._is_free(port))

    def _lock_a_slice(self) -> None:
        for first in range(0, len(self.BASES), self.SLICE):
            path = LOCKS / f"warehouse-tests-ports-{self.BASES[first]}.lock"
            try:
                lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
            except PermissionError:  # another user's
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            bases = self.BASES[first : first + self.SLICE]
            self._lock, self._turns = lock, itertools.cycle(bases)
            self._port_turns = itertools.cycle(
                [base + offset for base in bases for offset in range(180, 190)]
            )
            return
        raise AssertionError(f"more than {len(self.BASES) // self.SLICE} processes test on this machine")

    @staticmethod
    def _is_free(port: int) -> bool:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # old connections are no listener
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
        return True


_PORT_BASES = _PortBases()


def free_port_base(volumes: int = 4) -> int:
    """A port base whose ports are free now, and which no other process of these tests takes."""
    return _PORT_BASES.take(volumes)


def free_port() -> int:
    """A port that is free now, and that nobody is given by the kernel or by another process of these tests."""
    return _PORT_BASES.take_port()


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WAREHOUSE_")}
    return {**kept, "PYTHONPATH": str(ROOT), **(extra or {})}


class RunningStore:
    """`with RunningStore(folder) as store:` a store that is ready; stopped, or killed, at the end."""

    def __init__(
        self,
        data: Path,
        *,
        volumes: int = 1,
        config: str | None = None,
        port_base: int | None = None,
        env: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        is_searched: bool = True,
        has_console: bool = False,
        has_s3: bool = False,
    ) -> None:
        """
        Args:
            has_console: start the console, too.
            has_s3: start the S3 gateways, too.
            is_searched: look for misplaced secrets at the end; False: a release runs that printed its root key.
        """
        self.data = data
        self.volumes = volumes
        self.port_base = port_base or free_port_base(volumes)
        self.env = environment(env)
        self.profile = data / "profile.toml"
        self.log = data.parent / f"{data.name}.log"
        self.events: list[dict[str, Any]] = []
        self._config = config
        self._arguments = [
            *arguments,
            *([] if has_console or not is_searched else ["--no-console"]),
            *([] if has_s3 or not is_searched else ["--no-s3"]),
        ]
        self._is_searched = is_searched
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> RunningStore:
        command = [sys.executable, "-m", "warehouse.actors.cluster", "--data", str(self.data), "--json"]
        command += ["--volumes", str(self.volumes), "--port-base", str(self.port_base), *self._arguments]
        if self._config is not None:
            path = self.data.parent / f"{self.data.name}-settings.toml"
            path.write_text(self._config)
            command += ["--config", str(path)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=self.env)
        try:
            self._wait_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def _wait_ready(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            readable, _, _ = select.select([self._process.stdout], [], [], 0.2)
            if readable:
                line = self._process.stdout.readline()
                if not line:
                    break
                event = json.loads(line)
                self.events.append(event)
                if event["event"] == "ready":
                    self._wait_seen(event["pids"])
                    for door, offset in (("console", 80), ("s3", 90)):  # the store is ready without
                        if door in event:
                            self._wait_listening(self.port_base + offset, deadline)
                    return
        raise AssertionError(f"the store did not become ready:\n{self.log.read_text()[-4000:]}")

    @staticmethod
    def _wait_listening(port: int, deadline: float) -> None:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
            except OSError:
                assert time.monotonic() < deadline, f"nothing listens at port {port}"
                time.sleep(0.05)
            else:
                return

    def _wait_seen(self, names: Mapping[str, int]) -> None:
        """A process that was started a moment ago has no command line yet, which `pids` goes by."""
        deadline = time.monotonic() + 10.0
        while not names.keys() <= self.pids().keys() and time.monotonic() < deadline:
            time.sleep(0.005)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def pids(self) -> dict[str, int]:
        """The actors that run now: "master", "disk-1", "compactor-1", ... -> process id."""
        found = {}
        for task in Path(f"/proc/{self.pid}/task").glob("*/children"):
            try:
                children = task.read_text().split()
            except OSError:  # the thread has ended meanwhile
                continue
            for pid in children:
                try:
                    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
                    state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
                except OSError:
                    continue
                if state == "Z":
                    continue
                if "warehouse.actors.master" in words:
                    found["master"] = int(pid)
                elif "warehouse.actors.volume" in words:
                    found[Path(words[words.index("--disk") + 1]).name] = int(pid)
                elif "warehouse.webui" in words:
                    found["console"] = int(pid)
                elif "warehouse.gateway" in words:
                    found[words[words.index("--name") + 1]] = int(pid)
                elif "warehouse.actors.compactor" in words:
                    disk = Path(words[words.index("--disk") + 1]).name
                    found[f"compactor-{disk.removeprefix('disk-')}"] = int(pid)
        return found

    def kill_actor(self, name: str) -> None:
        os.kill(self.pids()[name], signal.SIGKILL)

    def stop(self, timeout_s: float = 60.0) -> int:
        """SIGTERM, as Ctrl-C does; return the exit status."""
        assert self._process is not None
        pids = [self.pid, *self.pids().values()]
        misplaced = self._misplaced_secrets(pids) if self._is_searched else []
        self._process.terminate()
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        self._close()
        assert not misplaced, "\n".join(misplaced)
        return status

    def _misplaced_secrets(self, pids: Sequence[int]) -> list[str]:
        """Where secrets of the store are and should not be: every store of the tests is searched."""
        secrets = secrets_of(self.data)
        places = places_of(secrets, self.data, [self.log], pids)
        printed = json.dumps(self.events).encode()
        return places + [f"{name} was printed" for name, secret in secrets.items() if secret in printed]

    def kill(self) -> None:
        """SIGKILL for the supervisor; its children see their standard input close and stop."""
        if self._process is None or self._process.returncode is not None:
            return
        actors = self.pids()
        self._process.kill()
        self._process.wait()
        self._close()
        deadline = time.monotonic() + 60
        while any(Path(f"/proc/{pid}").exists() for pid in actors.values()):
            if time.monotonic() > deadline:
                for pid in actors.values():
                    if Path(f"/proc/{pid}").exists():
                        os.kill(pid, signal.SIGKILL)
                raise AssertionError("actors outlived their supervisor by a minute")
            time.sleep(0.02)

    def _close(self) -> None:
        assert self._process is not None
        if self._process.stdout is not None:
            self._process.stdout.close()

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def __enter__(self) -> RunningStore:
        return self if self._process is not None else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.is_running:
            if kind is None:
                status = self.stop()
                assert status == 0, f"the store ended with {status}:\n{self.log.read_text()[-4000:]}"
                if self._is_searched:
                    require_no_secret_in_the_audit_log(self.data / "master")
            else:
                self.kill()
