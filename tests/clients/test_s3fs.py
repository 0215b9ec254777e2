"""s3fs, in an environment of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from client_kit import PROGRAMS, Endpoint, Program, commands_of


@pytest.fixture(scope="module")
def program(endpoint: Endpoint) -> Iterator[Program]:
    with Program("s3fs", endpoint) as program:
        yield program


@pytest.mark.parametrize("command", commands_of(PROGRAMS / "s3fs_program.py"))
def test_s3fs(program: Program, command: str, bucket: str, work: Path) -> None:
    program.do(command, bucket, work)
