"""A store with an S3 gateway, as real processes, and botocore's client of it."""

from __future__ import annotations

import gc
import json
import os
import select
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import botocore.session
from botocore.config import Config

from harness import RunningStore, environment, free_port
from warehouse.conf.profile import Profile
from warehouse.conf.programs import module_command

START_S = 60.0
REGION = "us-east-1"


class RunningGateway:
    """A gateway process of a store; `with` ends it.

    Attributes:
        url: of its port.
        metrics_port: where it shows health and metrics.
    """

    def __init__(self, store: RunningStore, folder: Path, arguments: Sequence[str] = ()) -> None:
        self.store = store
        self.port, self.metrics_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "gateway.log"
        self._folder = folder
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> RunningGateway:
        join = self._folder / "gateway-join.toml"
        if not join.exists():
            self.store_command(
                "join-token", "create", "--role", "gateway", "--expires", "1h", "--output", str(join)
            )
        words = ["--join", str(join), "--data", str(self._folder / "gateway"), "--port", str(self.port)]
        words += ["--metrics-port", str(self.metrics_port)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*module_command("warehouse.gateway"), *words, "--json", *self._arguments],
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment(),
            )
        self._wait_ready()
        return self

    def store_command(self, *words: str) -> None:
        """Run `warehouse WORDS` with the root key of the store."""
        subprocess.run(
            [*module_command("warehouse"), *words, "--profile", str(self.store.profile)],
            env=environment(),
            check=True,
            timeout=60,
            stdout=subprocess.DEVNULL,
        )

    def _wait_ready(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], START_S)
        line = self._process.stdout.readline() if readable else b""
        if not line or json.loads(line)["event"] != "ready":
            self.stop()
            raise AssertionError(f"no gateway: {line!r}\n{self.log.read_text()[-4000:]}")

    def stop(self, number: int = 15) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            os.kill(process.pid, number)
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()

    def __enter__(self) -> RunningGateway:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()


def client_of(url: str, key_id: str, secret: str, **options: Any) -> Any:
    """botocore's client, as boto3 makes it."""
    session = botocore.session.Session()
    config = Config(
        s3={"addressing_style": "path"},
        signature_version="s3v4",
        retries={"max_attempts": 0},
        connect_timeout=10,
        read_timeout=60,
    )
    return session.create_client(
        "s3",
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        config=config.merge(Config(**options)),
    )


@contextmanager
def s3_store(folder: Path, *, volumes: int = 1, config: str = "") -> Iterator[RunningGateway]:
    """A store and a gateway of it.

    Args:
        config: settings of the gateway, TOML.
    """
    settings = folder / "gateway-settings.toml"
    settings.write_text(config)
    with (
        RunningStore(folder / "store", volumes=volumes) as store,
        RunningGateway(store, folder, ["--config", str(settings)]) as gateway,
    ):
        yield gateway


@contextmanager
def root_client(gateway: RunningGateway, **options: Any) -> Iterator[Any]:
    """A client with the root key of the store."""
    profile = Profile.load(gateway.store.profile)
    client = client_of(gateway.url, profile.key_id, profile.secret, **options)
    try:
        yield client
    finally:
        client.close()
        del client
        gc.collect()  # its connections hang in circles
