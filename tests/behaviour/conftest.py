"""What every behaviour test gets: HTTP connections that check their moves."""

from __future__ import annotations

import pytest

from http_harness import CheckedConnection, CheckedMoves, CheckedTlsConnection
from warehouse.transport.http.connection import State


@pytest.fixture(autouse=True)
def moves(monkeypatch: pytest.MonkeyPatch) -> set[tuple[State, State]]:
    """The moves that connections of HTTP servers made in this test; a move outside of the table fails it."""
    monkeypatch.setattr("warehouse.transport.http.server.Connection", CheckedConnection)
    monkeypatch.setattr("warehouse.transport.http.server.TlsConnection", CheckedTlsConnection)
    CheckedMoves.moves.clear()
    return CheckedMoves.moves


@pytest.fixture
def no_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel takes no filter, as on other systems than Linux: whoever knocks too often is let in, too."""
    monkeypatch.setattr("warehouse.transport.barrier.attach", lambda listener, program: False)
