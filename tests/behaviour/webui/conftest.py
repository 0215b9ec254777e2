"""A store with a console for each module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from console_http import Visitor
from console_kit import ConsoleStore, running_console


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleStore]:
    with running_console(tmp_path_factory.mktemp("console")) as found:
        found.put("photos", {"a/b.txt": b"text"})
        yield found


@pytest.fixture
def visitor(console: ConsoleStore) -> Visitor:
    """Nobody is signed in."""
    return Visitor(console.url)


@pytest.fixture
def root(console: ConsoleStore) -> Visitor:
    """The root key is signed in."""
    return Visitor(console.url).sign_in(console.root)
