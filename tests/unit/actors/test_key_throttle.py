"""Key throttle: a key gets what its limits allow, no more, and hears when to come back."""

from __future__ import annotations

import pytest

from warehouse.actors.control.key_throttle import KeyThrottle
from warehouse.actors.control.reservations import Reservations
from warehouse.auth.limits import KeyLimits
from warehouse.errors import BadRequest, Busy


def admitted(throttle: KeyThrottle, now: float) -> bool:
    try:
        throttle.admit(now)
    except Busy:
        return False
    return True


def test_a_rate_is_kept_over_any_time_and_a_second_s_worth_may_come_at_once() -> None:
    throttle = KeyThrottle(KeyLimits(requests_per_s=10.0))
    assert sum(admitted(throttle, 5.0) for _ in range(50)) == 10
    assert sum(admitted(throttle, 5.0 + n / 1000) for n in range(10_000)) in range(99, 101)
    assert sum(admitted(throttle, 1e6) for _ in range(50)) == 10


def test_a_refusal_says_when_the_next_request_is_let_in() -> None:
    throttle = KeyThrottle(KeyLimits(requests_per_s=0.5))
    throttle.admit(0.0)
    with pytest.raises(Busy, match=r"0\.5 requests a second") as caught:
        throttle.admit(0.5)
    assert caught.value.retry_after_s == pytest.approx(1.5)
    assert not admitted(throttle, 0.5 + 1.4)
    throttle.admit(0.5 + 1.51)


def test_a_clock_that_stands_still_or_goes_back_lets_nobody_in() -> None:
    throttle = KeyThrottle(KeyLimits(requests_per_s=1.0))
    throttle.admit(100.0)
    assert not admitted(throttle, 100.0)
    assert not admitted(throttle, 50.0)


def test_limits_that_are_raised_count_at_once() -> None:
    throttle = KeyThrottle(KeyLimits(requests_per_s=1.0, requests_at_once=1))
    with throttle.at_once():
        with pytest.raises(Busy), throttle.at_once():
            pass
        throttle.limits = KeyLimits(requests_at_once=2)
        with throttle.at_once():
            pass
    assert all(admitted(throttle, 0.0) for _ in range(100))


def test_a_request_that_fails_gives_its_place_back() -> None:
    throttle = KeyThrottle(KeyLimits(requests_at_once=1))
    with pytest.raises(RuntimeError), throttle.at_once():
        raise RuntimeError
    with throttle.at_once():
        pass


def test_uploads_that_have_ended_count_no_more() -> None:
    throttle, still_open = KeyThrottle(KeyLimits(open_uploads=2)), set[int]()

    def begin(upload_id: int) -> None:
        with throttle.one_more_upload(lambda: len(still_open)):
            still_open.add(upload_id)

    begin(1)
    begin(2)
    with pytest.raises(Busy, match="2 uploads"):
        begin(3)
    still_open.discard(1)
    begin(4)
    with pytest.raises(Busy):
        begin(5)


def test_uploads_that_are_being_begun_count() -> None:
    throttle = KeyThrottle(KeyLimits(open_uploads=1))
    with (
        throttle.one_more_upload(lambda: 0),
        pytest.raises(Busy),
        throttle.one_more_upload(lambda: 0),
    ):
        pass
    with throttle.one_more_upload(lambda: 0):  # the other one came to nothing
        pass


def test_room_under_lease_is_what_is_left_of_it() -> None:
    throttle = KeyThrottle(KeyLimits(lease_bytes=1000))
    assert throttle.room(0, 100) == 1000
    assert throttle.room(900, 100) == 100
    with pytest.raises(Busy, match="901 of 1,000 bytes"):
        throttle.room(901, 100)
    with pytest.raises(BadRequest, match="1,001"):
        throttle.room(0, 1001)
    assert KeyThrottle(KeyLimits(requests_per_s=1.0)).room(10**15, 10**15) is None


def test_what_is_held_follows_every_change_of_a_reservation() -> None:
    book = Reservations()
    book.reserve("a", 1, 100, 10.0, payer="KEY")
    book.reserve("b", 2, 50, 20.0, payer="KEY")
    book.reserve("c", 1, 7, 20.0, payer="OTHER")
    book.reserve("d", 1, 7, 20.0)
    assert (book.held("KEY"), book.held("OTHER"), book.held(None)) == (150, 7, 0)
    book.use("a", 30)
    assert book.held("KEY") == 120
    book.expire(15.0)
    assert book.held("KEY") == 50
    book.reserve("b", 2, 60, 20.0, payer="KEY")
    book.release("b")
    assert book.held("KEY") == 0
    assert not book._held.keys() - {"OTHER"}


@pytest.mark.parametrize("rate", [1e-5, 5e-324])
def test_the_slowest_of_limits_lets_one_in_and_nobody_waits_for_ever(rate: float) -> None:
    throttle = KeyThrottle(KeyLimits(requests_per_s=rate))
    throttle.admit(5.0)
    with pytest.raises(Busy) as caught:
        throttle.admit(6.0)
    assert caught.value.retry_after_s == 3600.0
