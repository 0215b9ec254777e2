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


def command_of(tmp_path: Path, *words: str) -> tuple[list[str], dict[str, str]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "WAREHOUSE_PROFILE": str(tmp_path / "profile.toml")}
    return [sys.executable, "-m", "warehouse", *words], environment


async def process(tmp_path: Path, *words: str, stdin: bytes = b"") -> Ran:
    command, environment = command_of(tmp_path, *words)
    ran = await trio.run_process(
        command, env=environment, stdin=stdin, capture_stdout=True, capture_stderr=True, check=False
    )
    return Ran(ran.returncode, ran.stdout.decode(), ran.stderr.decode())
