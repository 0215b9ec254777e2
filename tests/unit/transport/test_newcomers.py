"""Newcomers: a bounded number of connections, and whoever says who it is gets in."""

from __future__ import annotations

from warehouse.transport.zeromq.newcomers import NOBODY_S, Newcomers


def test_within_the_budgets_nobody_is_shut():
    newcomers = Newcomers(total_max=100, newcomers_max=10)
    for number in range(10):
        assert newcomers.accepted(number, "10.0.0.1", 0.0) == []
    assert newcomers.newcomer_count == newcomers.count == 10


def test_the_oldest_of_the_address_with_the_most_goes_first():
    newcomers = Newcomers(total_max=100, newcomers_max=4)
    newcomers.accepted(1, "10.0.0.9", 0.0)  # the oldest of all, alone at its address
    for number in (2, 3, 4):
        newcomers.accepted(number, "10.0.0.1", 1.0)
    assert newcomers.accepted(5, "10.0.0.1", 2.0) == [2]
    assert newcomers.accepted(6, "10.0.0.2", 2.0) == [3]
    assert newcomers.newcomer_count == 4


def test_an_honest_newcomer_at_the_attackers_address_has_as_long_as_the_budget_lasts():
    newcomers = Newcomers(total_max=100, newcomers_max=50)
    for number in range(50):
        newcomers.accepted(number, "127.0.0.1", 0.0)
    assert newcomers.accepted(1000, "127.0.0.1", 0.0) == [0]
    shut: list[int] = []
    for number in range(2000, 2040):
        shut += newcomers.accepted(number, "127.0.0.1", 0.0)
    assert 1000 not in shut
    newcomers.became_known(1000)
    for number in range(3000, 3200):
        shut += newcomers.accepted(number, "127.0.0.1", 0.0)
    assert 1000 not in shut


def test_the_known_stay_when_all_descriptors_are_in_use_and_the_newcomer_goes():
    newcomers = Newcomers(total_max=20, newcomers_max=10)
    for number in range(20):
        assert newcomers.accepted(number, "10.0.0.1", 0.0) == []
        newcomers.became_known(number)
    assert newcomers.accepted(99, "10.0.0.2", 0.0) == [99]
    newcomers.closed(99)
    newcomers.closed(3)
    assert newcomers.accepted(100, "10.0.0.2", 0.0) == []


def test_who_says_nothing_is_overdue_once():
    newcomers = Newcomers(total_max=100, newcomers_max=10)
    newcomers.accepted(1, "a", 0.0)
    newcomers.accepted(2, "a", 5.0)
    newcomers.accepted(3, "a", 0.0)
    newcomers.became_known(3)
    assert newcomers.overdue(NOBODY_S) == []
    assert newcomers.overdue(NOBODY_S + 0.1) == [1]
    assert newcomers.overdue(NOBODY_S + 0.2) == []
    assert newcomers.overdue(NOBODY_S + 5.1) == [2]


def test_a_descriptor_that_is_used_again_is_somebody_new():
    newcomers = Newcomers(total_max=100, newcomers_max=10)
    newcomers.accepted(1, "a", 0.0)
    newcomers.became_known(1)
    newcomers.accepted(1, "b", 7.0)
    assert newcomers.address_of(1) == "b"
    assert newcomers.overdue(12.0) == []
    assert newcomers.overdue(17.5) == [1]
    assert newcomers.count == 1


def test_an_address_has_a_budget_of_its_own_and_loses_its_own_oldest():
    newcomers = Newcomers(total_max=100, newcomers_max=50, per_address=3)
    newcomers.accepted(1, "10.0.0.2", 0.0)
    for number in (2, 3, 4):
        assert newcomers.accepted(number, "10.0.0.1", 0.0) == []
    assert newcomers.accepted(5, "10.0.0.1", 0.0) == [2]
    newcomers.became_known(3)
    assert newcomers.accepted(6, "10.0.0.1", 0.0) == [], "who is known counts no longer"
    assert newcomers.accepted(7, "10.0.0.2", 0.0) == []


def test_a_connection_becomes_known_once():
    newcomers = Newcomers(total_max=100, newcomers_max=50)
    newcomers.accepted(1, "a", 0.0)
    assert newcomers.is_newcomer(1)
    assert newcomers.became_known(1)
    assert not newcomers.became_known(1)
    assert not newcomers.is_newcomer(1)
