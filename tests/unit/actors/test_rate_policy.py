"""The rate policy: a compactor yields to clients, and to nobody else."""

from __future__ import annotations

from warehouse.actors.control.rate_policy import RatePolicy, full_rate, spread_rate
from warehouse.conf.settings import Compaction, Verification

MIB = 1024 * 1024
GIB = 1024 * MIB


def test_a_disk_is_busy_while_requests_come_and_for_a_moment_after() -> None:
    policy = RatePolicy()
    policy.note_requests(1000, now=0.0)
    assert not policy.is_busy(now=0.0)  # what was before we listened does not count
    policy.note_requests(1005, now=1.0)
    assert not policy.is_busy(now=1.0)
    policy.note_requests(1011, now=2.0)
    assert policy.is_busy(now=2.0)
    assert policy.is_busy(now=4.9)
    assert not policy.is_busy(now=5.0)


def test_an_actor_that_counts_from_zero_again_is_not_taken_for_idle() -> None:
    policy = RatePolicy()
    policy.note_requests(1000, now=0.0)
    policy.note_requests(100, now=1.0)
    assert policy.is_busy(now=1.0)


def test_the_rate_is_that_of_the_settings() -> None:
    settings = Compaction(rate=8 * MIB, rate_idle=0)
    assert full_rate(settings, is_busy=True) == 8 * MIB
    assert full_rate(settings, is_busy=False) is None
    assert full_rate(Compaction(rate=8 * MIB, rate_idle=50 * MIB), is_busy=False) == 50 * MIB


def test_a_verification_that_nobody_waits_for_takes_a_quarter_of_the_period() -> None:
    settings, verification = Compaction(rate=8 * MIB), Verification(period_s=4000.0)
    assert spread_rate(settings, verification, is_busy=False, disk_bytes=10_000 * MIB) == 10 * MIB
    assert spread_rate(settings, verification, is_busy=True, disk_bytes=10_000 * MIB) == 8 * MIB
    assert spread_rate(settings, verification, is_busy=False, disk_bytes=0) == 1 * MIB
