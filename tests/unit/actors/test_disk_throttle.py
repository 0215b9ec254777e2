"""Disk throttle: a key gets what its limits allow at one disk, bytes and requests, and hears when to come back."""

from __future__ import annotations

from typing import Any

import pytest

from warehouse.actors.data import disk_throttle
from warehouse.actors.data.disk_throttle import DiskThrottle
from warehouse.errors import Busy
from warehouse.transport.messages import DataLimits


class Request:
    """An exchange, as far as the throttle looks at it."""

    def __init__(self, method: bytes = b"GET", *, body: int = 0, answer: int = 0) -> None:
        self.method = method
        self.content_length = body
        self.answer_size = answer
        self.has_started = True


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(disk_throttle, "time", clock)
    return clock


def throttle_with(**limits: Any) -> DiskThrottle:
    throttle = DiskThrottle()
    throttle.replace({"KEY": DataLimits(**limits)})
    return throttle


def done(throttle: DiskThrottle, request: Any = None) -> Busy | None:
    try:
        with throttle.one_request("KEY", request or Request()):  # type: ignore[arg-type]
            return None
    except Busy as error:
        return error


def test_a_second_s_worth_of_requests_comes_at_once_and_then_the_rate_is_kept(clock: Clock) -> None:
    throttle = throttle_with(requests_per_s=5.0)
    assert [done(throttle) is None for _ in range(7)] == [True] * 5 + [False] * 2
    error = done(throttle)
    assert error is not None
    assert error.retry_after_s == pytest.approx(0.2)
    clock.now += 0.2
    assert done(throttle) is None
    assert done(throttle) is not None
    clock.now += 1e6
    assert [done(throttle) is None for _ in range(7)] == [True] * 5 + [False] * 2


def test_a_large_answer_is_paid_before_the_next_request(clock: Clock) -> None:
    throttle = throttle_with(bytes_per_s=1000.0)
    assert done(throttle, Request(answer=5000)) is None
    error = done(throttle)
    assert error is not None
    assert error.retry_after_s == pytest.approx(4.0)
    clock.now += 3.9
    assert done(throttle) is not None
    clock.now += 0.1
    assert done(throttle) is None


def test_a_body_is_paid_before_it_is_read_and_a_head_costs_nothing(clock: Clock) -> None:
    throttle = throttle_with(bytes_per_s=1000.0)
    for _ in range(50):
        assert done(throttle, Request(b"HEAD", answer=10**9)) is None
    with throttle.one_request("KEY", Request(b"PUT", body=1001)):  # type: ignore[arg-type]
        assert done(throttle) is not None


def test_requests_at_once_are_given_back_also_by_those_that_fail(clock: Clock) -> None:
    throttle = throttle_with(requests_at_once=1)
    with pytest.raises(RuntimeError), throttle.one_request("KEY", Request()):  # type: ignore[arg-type]
        assert done(throttle) is not None
        raise RuntimeError
    assert done(throttle) is None


def test_limits_that_change_keep_what_was_used(clock: Clock) -> None:
    throttle = throttle_with(requests_at_once=1)
    with throttle.one_request("KEY", Request()):  # type: ignore[arg-type]
        throttle.replace({"KEY": DataLimits(requests_at_once=2)})
        assert done(throttle) is None
        throttle.replace({"KEY": DataLimits(requests_at_once=1)})
        assert done(throttle) is not None
        throttle.replace({})
    assert throttle.limits == {}
    throttle.replace({})
    assert throttle._uses == {}


def test_bytes_that_came_while_none_were_counted_are_not_owed_later(clock: Clock) -> None:
    throttle = throttle_with(requests_per_s=5.0)
    assert done(throttle, Request(answer=10**12)) is None
    throttle.replace({"KEY": DataLimits(bytes_per_s=1000.0)})
    assert done(throttle, Request(answer=5000)) is None
    assert done(throttle) is not None
    throttle.replace({"KEY": DataLimits(requests_per_s=5.0)})
    assert done(throttle) is None
    throttle.replace({"KEY": DataLimits(bytes_per_s=1000.0)})
    assert done(throttle) is None


def test_no_rate_at_all_is_a_long_wait_and_no_error(clock: Clock) -> None:
    throttle = throttle_with(requests_per_s=0.0)
    assert done(throttle) is None
    error = done(throttle)
    assert error is not None
    assert 0 < error.retry_after_s <= 60
