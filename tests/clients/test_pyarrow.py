"""pyarrow, in an environment of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from client_kit import PROGRAMS, Endpoint, Program, commands_of

pytestmark = pytest.mark.long  # a complete run is bounded, and all of these take minutes of two cores


@pytest.fixture(scope="module")
def program(endpoint: Endpoint) -> Iterator[Program]:
    with Program("pyarrow", endpoint) as program:
        yield program


@pytest.mark.parametrize("command", commands_of(PROGRAMS / "pyarrow_program.py"))
def test_pyarrow(program: Program, command: str, bucket: str, work: Path) -> None:
    program.do(command, bucket, work)
