"""What the tests of S3 clients share: one store with a gateway for each test process, and a bucket for each test."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from client_kit import Endpoint, running_endpoint

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    with running_endpoint(tmp_path_factory.mktemp("clients")) as endpoint:
        yield endpoint


@pytest.fixture
def bucket(endpoint: Endpoint) -> str:
    """A new bucket, empty."""
    return endpoint.make_bucket(f"b{os.getpid()}-{next(_numbers)}")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """An empty folder, the home of a program."""
    folder = tmp_path / "work"
    folder.mkdir()
    return folder
