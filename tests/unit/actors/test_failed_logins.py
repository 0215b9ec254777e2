"""Failed logins: bounded for each address and each key id, counted, and told of once a minute."""

from __future__ import annotations

import logging

import pytest
import trio

from warehouse.actors.control.events import EventLog
from warehouse.actors.control.failed_logins import (
    ADDRESS_BURST,
    ADDRESS_PER_S,
    FAILED_S,
    KEY_BURST,
    PUT_OFF_S,
    FailedLogins,
)
from warehouse.errors import Overloaded

A, B = "192.0.2.1", "2001:db8::/64"


def test_an_address_has_a_budget_of_its_own() -> None:
    logins = FailedLogins(EventLog())
    waits = [logins.note(A, f"key-{number}", 0.0) for number in range(int(ADDRESS_BURST) + 3)]
    assert waits == [0.0] * int(ADDRESS_BURST) + [1 / ADDRESS_PER_S, 2 / ADDRESS_PER_S, 3 / ADDRESS_PER_S]
    assert logins.note(B, "another", 0.0) == 0.0
    assert logins.note(A, "another", 1000.0) == 0.0
    assert (logins.total, logins.put_off_count) == (len(waits) + 2, 3)


def test_a_key_id_has_a_budget_wherever_they_come_from() -> None:
    logins = FailedLogins(EventLog())
    for number in range(int(KEY_BURST)):
        assert logins.note(f"192.0.2.{number}", "key", 0.0) == 0.0
    assert logins.note("198.51.100.1", "key", 0.0) > 0.0
    assert logins.note("198.51.100.1", "another", 0.0) == 0.0


async def test_a_failure_is_answered_slowly_and_more_slowly_beyond_the_budget(
    autojump_clock: trio.testing.MockClock,
) -> None:
    logins = FailedLogins(EventLog())
    began_s = trio.current_time()
    await logins.slow_down(A, "key")
    assert trio.current_time() - began_s == pytest.approx(FAILED_S)
    for number in range(int(ADDRESS_BURST)):
        logins.note(A, f"key-{number}", trio.current_time())
    began_s = trio.current_time()
    with pytest.raises(Overloaded, match=r"try again in \d+ s"):
        await logins.slow_down(A, "key")
    assert trio.current_time() - began_s == pytest.approx(PUT_OFF_S)


def test_they_are_told_of_together(caplog: pytest.LogCaptureFixture) -> None:
    events = EventLog()
    logins = FailedLogins(events)
    logins.tell()
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        for number in range(5000):
            logins.note(f"10.0.{number // 250}.{number % 250}", "key", 0.0)
        for _ in range(7):
            logins.note(A, "key", 0.0)
        logins.tell()
        logins.tell()
    [record] = caplog.records
    assert vars(record)["count"] == 5007
    assert len(vars(record)["addresses"]) == 10
    [entry] = events.after(0, 10)
    assert (entry.event.name, entry.event.fields["count"]) == ("logins_failed", 5007)
