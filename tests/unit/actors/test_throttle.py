"""The throttle keeps a rate, whatever the pieces cost, and saves up no burst."""

from __future__ import annotations

import math
import random

from warehouse.actors.background.throttle import BURST_S, Throttle

MIB = 1024 * 1024


def run(throttle: Throttle, *, until: float, now: float = 0.0, piece: int = MIB, cost_s: float = 0.0) -> int:
    """Move pieces as soon as allowed; returns the bytes moved by `until`."""
    moved = 0
    while True:
        now += throttle.wait_s(now=now)
        if now >= until:
            return moved
        now += cost_s
        moved += piece
        throttle.spend(piece, now=now)


def test_the_rate_is_kept_over_time_whatever_a_piece_takes() -> None:
    for rate in (MIB, 3 * MIB, 32 * MIB, 500 * MIB):
        for cost_s in (0.0, 0.5 * MIB / rate, 0.9 * MIB / rate):
            moved = run(Throttle(rate, now=0.0), until=60.0, cost_s=cost_s)
            assert 0.97 * rate * 60 <= moved <= rate * 60 + rate * BURST_S + MIB


def test_an_idle_time_is_no_licence_for_a_burst() -> None:
    throttle = Throttle(8 * MIB, now=0.0)
    throttle.spend(MIB, now=0.0)
    moved = run(throttle, now=100.0, until=100.5)
    assert moved <= 8 * MIB * (BURST_S + 0.5) + MIB


def test_without_a_rate_nothing_waits() -> None:
    throttle = Throttle(None, now=0.0)
    for _ in range(100):
        throttle.spend(1 << 40, now=0.0)
    assert throttle.wait_s(now=0.0) == 0.0


def test_a_rate_of_zero_holds_and_another_lets_go_on() -> None:
    throttle = Throttle(0, now=0.0)
    assert throttle.wait_s(now=1000.0) == math.inf
    throttle.set_rate(MIB, now=1000.0)
    assert throttle.wait_s(now=1000.0) == 0.0, "the hold has saved up nothing, and owes nothing"
    throttle.spend(MIB, now=1000.0)
    assert throttle.wait_s(now=1000.0) == 1.0


def test_what_is_owed_is_paid_at_the_rate_that_holds_now() -> None:
    throttle = Throttle(MIB, now=0.0)
    throttle.spend(10 * MIB, now=0.0)
    assert throttle.wait_s(now=0.0) == 10.0
    throttle.set_rate(4 * MIB, now=2.0)
    assert throttle.wait_s(now=2.0) == 2.0
    throttle.set_rate(None, now=2.0)
    assert throttle.wait_s(now=2.0) == 0.0
    throttle.set_rate(MIB, now=2.0)
    assert throttle.wait_s(now=2.0) == 0.0


def test_a_rate_that_changes_all_the_time_is_kept_on_average() -> None:
    chance = random.Random(4)
    throttle, now, moved, allowed = Throttle(MIB, now=0.0), 0.0, 0, 0.0
    for _ in range(200):
        rate = chance.choice((MIB, 2 * MIB, 16 * MIB))
        throttle.set_rate(rate, now=now)
        moved += run(throttle, now=now, until=now + 0.5)
        allowed += rate * 0.5
        now += 0.5
    assert moved <= allowed + 17 * MIB
    assert moved >= 0.8 * allowed
