"""Login rates: honest crowds log in, who logs in without end is put off, and nobody is locked out by another."""

from __future__ import annotations

import pytest

from warehouse.actors.control.login_rates import (
    ADDRESS_BURST,
    ADDRESS_PER_S,
    KEY_BURST,
    KEY_PER_S,
    LoginRates,
)
from warehouse.errors import Busy

A, B = "192.0.2.1", "2001:db8::/64"


def use_up(rates: LoginRates, address: str = A) -> None:
    for _ in range(int(KEY_BURST + ADDRESS_BURST)):
        rates.admit("KEY", address, 0.0)


def test_a_thousand_clients_of_one_key_log_in_together_again_and_again() -> None:
    rates = LoginRates()
    for minute in range(10):
        for _ in range(1000):
            rates.admit("KEY", A, minute * 60.0)


def test_a_key_that_logs_in_without_end_is_told_when_to_come_back() -> None:
    rates = LoginRates()
    use_up(rates)
    with pytest.raises(Busy, match="too often") as caught:
        rates.admit("KEY", A, 0.0)
    assert 0.0 < caught.value.retry_after_s <= 1 / ADDRESS_PER_S
    rates.admit("KEY", A, caught.value.retry_after_s)


def test_who_uses_up_a_key_locks_out_neither_other_addresses_nor_other_keys() -> None:
    rates = LoginRates()
    use_up(rates)
    with pytest.raises(Busy):
        rates.admit("KEY", A, 0.0)
    for _ in range(int(ADDRESS_BURST)):
        rates.admit("KEY", B, 0.0)
    rates.admit("OTHER", A, 0.0)


def test_no_address_gets_more_than_the_rates_in_the_long_run() -> None:
    rates, count, refused = LoginRates(), 0, 0
    for tick in range(60_000):  # a minute, a thousand tries a second
        try:
            rates.admit("KEY", A, tick / 1000)
        except Busy:
            refused += 1
        else:
            count += 1
    assert refused
    assert count <= KEY_BURST + ADDRESS_BURST + 60 * (KEY_PER_S + ADDRESS_PER_S) + 2
