"""S3 clients as their users have them: programs and libraries in environments of their own, against real processes."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from client_environments import environment_of
from harness import ROOT, free_port
from s3_kit import REGION, RunningGateway, root_client, s3_store
from warehouse.conf.profile import Profile

PROGRAMS = ROOT / "tests" / "clients" / "programs"
PROXIES = ROOT / "docs" / "s3-proxies.md"
DOMAIN = "s3.localhost"
SETTINGS = f'[s3]\ndomains = ["{DOMAIN}"]\nsignature_v2 = "on"\n'
COMMAND_S = 120.0
NGINX = """
daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  {server}
}}
"""


@dataclass(frozen=True)
class Endpoint:
    """A gateway of a store, and nginx in front of it; the keys are those of the root.

    Attributes:
        virtual_url: its buckets have hosts of their own below this one, which no resolver needs to know.
        proxy_url: of nginx; as an HTTP proxy it also reaches every host of `virtual_url`.
    """

    gateway: RunningGateway
    key_id: str
    secret: str
    url: str
    virtual_url: str
    proxy_url: str
    looker: Any  # making one takes longer than what a test does with it
    region: str = REGION

    @contextmanager
    def client(self) -> Iterator[Any]:
        """botocore's client, to look at what another one did."""
        yield self.looker
        self.looker.close()  # its connections; it makes new ones

    def make_bucket(self, name: str) -> str:
        with self.client() as client:
            client.create_bucket(Bucket=name)
        return name

    def put(self, bucket: str, objects: Mapping[str, bytes]) -> None:
        with self.client() as client:
            for key, data in objects.items():
                client.put_object(Bucket=bucket, Key=key, Body=data)

    def stored(self, bucket: str) -> dict[str, bytes]:
        """All objects of a bucket."""
        with self.client() as client:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
            keys = [one["Key"] for page in pages for one in page.get("Contents", ())]
            return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


@contextmanager
def running_endpoint(folder: Path) -> Iterator[Endpoint]:
    """A store, its gateway, and nginx."""
    with (
        s3_store(folder, config=SETTINGS) as gateway,
        nginx_before(gateway.port, folder) as proxy_port,
        root_client(gateway) as looker,
    ):
        profile = Profile.load(gateway.store.profile)
        yield Endpoint(
            gateway,
            profile.key_id,
            profile.secret,
            url=gateway.url,
            virtual_url=f"http://{DOMAIN}:{gateway.port}",
            proxy_url=f"http://127.0.0.1:{proxy_port}",
            looker=looker,
        )


@contextmanager
def nginx_before(gateway_port: int, folder: Path) -> Iterator[int]:
    """nginx before a gateway, with the server that docs/s3-proxies.md shows, but for TLS; its port."""
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, server=nginx_server(port, gateway_port)))
    nginx = subprocess.Popen(["nginx", "-c", str(config), "-e", str(folder / "error.log")])
    try:
        wait_for(lambda: _listens(port), "nginx does not listen")
        yield port
    finally:
        nginx.terminate()
        nginx.wait(30)


def nginx_server(port: int, gateway_port: int) -> str:
    """The server of docs/s3-proxies.md, with other ports."""
    [server] = re.findall(r"(?s)```nginx\n(.*?)```", PROXIES.read_text())
    for shown, here in (
        ("listen 443 ssl;", f"listen 127.0.0.1:{port};"),
        ("http://127.0.0.1:7490;", f"http://127.0.0.1:{gateway_port};"),
    ):
        assert shown in server
        server = server.replace(shown, here)
    return str(server)


def _listens(port: int) -> bool:
    want = f"0100007F:{port:04X} 00000000:0000 0A"
    return want in Path("/proc/net/tcp").read_text()


def wait_for(condition: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


class Tool:
    """A program of the command line, in a folder of its own that is its home, too."""

    def __init__(self, program: Path, folder: Path, variables: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self._program = program
        self.variables = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(folder),
            **(variables or {}),
        }

    def run(
        self,
        *words: str | Path,
        data: bytes | None = None,
        variables: Mapping[str, str] | None = None,
        timeout_s: float = COMMAND_S,
    ) -> bytes:
        """Its output; it must succeed."""
        done = self.try_to_run(*words, data=data, variables=variables, timeout_s=timeout_s)
        assert done.returncode == 0, (words, done.returncode, done.stdout[-2000:], done.stderr[-4000:])
        return done.stdout

    def lines(self, *words: str | Path, **options: Any) -> list[str]:
        return self.run(*words, **options).decode().splitlines()

    def try_to_run(
        self,
        *words: str | Path,
        data: bytes | None = None,
        variables: Mapping[str, str] | None = None,
        timeout_s: float = COMMAND_S,
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [str(self._program), *map(str, words)],
            input=data if data is not None else b"",
            capture_output=True,
            cwd=self.folder,
            env={**self.variables, **(variables or {})},
            timeout=timeout_s,
        )

    @contextmanager
    def running(self, *words: str | Path) -> Iterator[subprocess.Popen[bytes]]:
        """The program while it runs; ended with SIGTERM."""
        with (self.folder / "running.log").open("ab") as log:
            process = subprocess.Popen(
                [str(self._program), *map(str, words)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=self.variables,
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(60)

    def file(self, name: str, size: int) -> tuple[Path, bytes]:
        """A new file of random bytes in its folder, and these."""
        data = os.urandom(size)
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path, data


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def command(words: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """This test runs what `words` say: they stand in the table of docs/s3.md."""
    return lambda function: function


def commands_of(path: Path) -> dict[str, str]:
    """The functions of a module that do commands of its client, and the words of each."""
    found = {}
    for node in ast.parse(path.read_text()).body:
        if not isinstance(node, ast.FunctionDef):
            continue
        for decorator in node.decorator_list:
            match decorator:
                case ast.Call(func=ast.Name(id="command"), args=[ast.Constant(value=str(words))]):
                    found[node.name] = words
    assert found, f"{path.name} has no commands"
    return found


class Program:
    """A program below tests/clients/programs, in the environment of its library; `with` ends it."""

    def __init__(self, client: str, endpoint: Endpoint) -> None:
        self._client = client
        self._endpoint = endpoint
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Program:
        self._process = subprocess.Popen(
            [str(environment_of(self._client) / "python"), str(PROGRAMS / f"{self._client}_program.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
        )
        return self

    def __exit__(self, *error: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def do(self, name: str, bucket: str, folder: Path, *, url: str | None = None) -> None:
        """Have it do a command, in an empty bucket and folder."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        end = self._endpoint
        asked = {
            "command": name,
            "url": url or end.url,
            "virtual_url": end.virtual_url,
            "key_id": end.key_id,
            "secret": end.secret,
            "region": end.region,
            "bucket": bucket,
            "folder": str(folder),
        }
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"{self._client} ended during {name}"
        error = json.loads(line)["error"]
        if error is not None:
            pytest.fail(f"{self._client}: {name}\n{error}", pytrace=False)
