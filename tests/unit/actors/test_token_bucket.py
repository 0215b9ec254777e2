"""The token bucket keeps a rate, lets a second's worth come at once, and says how long to wait."""

from __future__ import annotations

import math

import pytest

from warehouse.actors.token_bucket import TokenBucket


def test_a_new_bucket_is_full_and_no_pause_makes_it_fuller() -> None:
    bucket = TokenBucket()
    for now in (5.0, 1e6):
        bucket.fill(10.0, now)
        assert bucket.left == 10.0


def test_what_is_owed_is_paid_at_the_rate() -> None:
    bucket = TokenBucket()
    bucket.fill(10.0, 0.0)
    bucket.left -= 40.0
    assert bucket.wait_s(0.0) == pytest.approx(3.0)
    bucket.fill(10.0, 2.0)
    assert bucket.wait_s(0.0) == pytest.approx(1.0)
    assert bucket.wait_s(1.0) == pytest.approx(1.1)
    bucket.fill(10.0, 3.0)
    assert bucket.wait_s(0.0) == 0.0


def test_one_fits_however_low_the_rate_is() -> None:
    bucket = TokenBucket(burst_min=1.0)
    bucket.fill(0.01, 0.0)
    assert bucket.wait_s(1.0) == 0.0
    bucket.left -= 1.0
    assert bucket.wait_s(1.0) == pytest.approx(100.0)


def test_without_a_rate_nobody_waits_and_at_a_rate_of_0_for_ever() -> None:
    bucket = TokenBucket()
    bucket.fill(None, 0.0)
    assert bucket.wait_s(1e18) == 0.0
    bucket.fill(0.0, 1.0)
    assert bucket.wait_s(1.0) == math.inf


def test_a_clock_that_goes_back_fills_nothing() -> None:
    bucket = TokenBucket()
    bucket.fill(1.0, 100.0)
    bucket.left -= 1.0
    bucket.fill(1.0, 50.0)
    assert bucket.left == 0.0


def test_what_was_spent_without_a_rate_is_not_owed_under_the_next_one() -> None:
    bucket = TokenBucket()
    bucket.fill(10.0, 0.0)
    bucket.fill(None, 1.0)
    bucket.left -= 1e12
    bucket.fill(10.0, 1.0)
    assert bucket.left == 10.0
