"""Running `warehouse` commands against a fake store, in this process or in one of their own."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from warehouse.cli import main as cli

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Ran:
    status: int
    out: str
    err: str

    @property
    def objects(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Awaitable[Ran]]


def runner(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs commands in this process, as `main` does, with the profile that lies in `tmp_path`."""

    async def run(*words: str) -> Ran:
        capfd.readouterr()
        words = (*words, "--profile", str(tmp_path / "profile.toml"))
        command, bound, _ = cli.app.parse_args(list(words), exit_on_error=False, print_error=False)
        status = await command(*bound.args, **bound.kwargs)
        captured = capfd.readouterr()
        return Ran(status, captured.out, captured.err)

    return run


PROFILE = "profile.toml"


def command_of(
    tmp_path: Path, *words: str, profile: str | None = PROFILE
) -> tuple[list[str], dict[str, str]]:
    """
    Args:
        profile: what WAREHOUSE_PROFILE names, below `tmp_path`; None: it is not set.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("WAREHOUSE_PROFILE", None)
    if profile is not None:
        environment["WAREHOUSE_PROFILE"] = str(tmp_path / profile)
    return [sys.executable, "-m", "warehouse", *words], environment


async def process(tmp_path: Path, *words: str, stdin: bytes = b"", profile: str | None = PROFILE) -> Ran:
    command, environment = command_of(tmp_path, *words, profile=profile)
    ran = await trio.run_process(
        command, env=environment, stdin=stdin, capture_stdout=True, capture_stderr=True, check=False
    )
    return Ran(ran.returncode, ran.stdout.decode(), ran.stderr.decode())
