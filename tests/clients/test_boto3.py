"""boto3, directly and through nginx."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from client_kit import PROGRAMS, Endpoint, Program, commands_of

COMMANDS = commands_of(PROGRAMS / "boto3_program.py")
OWN_WAY = {"large_file", "virtual_hosts"}  # the former is long, the latter chooses its own host


@pytest.fixture(scope="module")
def program(endpoint: Endpoint) -> Iterator[Program]:
    with Program("boto3", endpoint) as program:
        yield program


@pytest.mark.parametrize("command", COMMANDS)
def test_boto3(program: Program, command: str, bucket: str, work: Path) -> None:
    program.do(command, bucket, work)


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in OWN_WAY])
def test_boto3_through_nginx(
    program: Program, endpoint: Endpoint, command: str, bucket: str, work: Path
) -> None:
    program.do(command, bucket, work, url=endpoint.proxy_url)
