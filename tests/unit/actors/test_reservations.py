"""Reservations: reserved room is counted exactly, whatever order things happen in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from warehouse.actors.control.reservations import Reservations


def test_a_reservation_lasts_until_it_is_used() -> None:
    reservations = Reservations()
    reservations.reserve("lease", 1, 100, expires_at=10)
    reservations.use("lease", 30)
    assert reservations.reserved(1) == 70
    reservations.use("lease", 1000)
    assert reservations.reserved(1) == 0


def test_a_reservation_ends_at_its_expiry_and_not_before() -> None:
    reservations = Reservations()
    reservations.reserve("lease", 1, 100, expires_at=10)
    reservations.expire(9.9)
    assert reservations.reserved(1) == 100
    reservations.expire(10)
    assert reservations.reserved(1) == 0


def test_a_second_reservation_of_the_same_name_replaces_the_first() -> None:
    reservations = Reservations()
    reservations.reserve(("slot", 7, 0), 1, 100, expires_at=10)
    reservations.reserve(("slot", 7, 0), 2, 50, expires_at=10)
    assert (reservations.reserved(1), reservations.reserved(2)) == (0, 50)


def test_what_was_never_reserved_can_be_used_and_released() -> None:
    reservations = Reservations()
    reservations.use("unknown", 5)
    reservations.release("unknown")
    assert reservations.reserved(1) == 0


def test_a_group_is_released_as_a_whole_and_no_other_with_it() -> None:
    reservations = Reservations()
    reservations.reserve("a", 1, 10, expires_at=10, group=7)
    reservations.reserve("b", 1, 20, expires_at=10, group=8)
    reservations.reserve("c", 2, 40, expires_at=10, group=7)
    reservations.reserve("d", 1, 80, expires_at=10)
    reservations.release_group(7)
    assert (reservations.reserved(1), reservations.reserved(2)) == (100, 0)
    reservations.release_group(7)
    assert reservations.reserved(1) == 100


def test_the_reservations_of_an_owner_end_soon_after_it_has_left() -> None:
    reservations, owner, other = Reservations(), object(), object()
    reservations.reserve("a", 1, 10, expires_at=100, owner=owner)
    reservations.reserve("b", 1, 20, expires_at=5, owner=owner)
    reservations.reserve("c", 1, 40, expires_at=100, owner=other)
    reservations.reserve("d", 1, 80, expires_at=100)
    reservations.owner_left(owner, 10)
    reservations.expire(9)
    assert reservations.reserved(1) == 130
    reservations.expire(10)
    assert reservations.reserved(1) == 120


names = st.integers(0, 5)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), names, st.integers(1, 3), st.integers(0, 1000), st.integers(0, 50)),
        st.tuples(st.just("use"), names, st.integers(0, 1500)),
        st.tuples(st.just("release"), names),
        st.tuples(st.just("expire"), st.integers(0, 60)),
    ),
    max_size=60,
)


@given(steps)
def test_reserved_equals_the_sum_of_what_is_left(history: list[tuple[object, ...]]) -> None:
    reservations = Reservations()
    model: dict[object, list[int]] = {}  # name -> [volume, bytes left, expires at]
    for step in history:
        match step:
            case ("reserve", name, int(volume), int(size), int(expires_at)):
                reservations.reserve(name, volume, size, expires_at)
                model[name] = [volume, size, expires_at]
            case ("use", name, int(size)):
                reservations.use(name, size)
                if name in model:
                    model[name][1] = max(0, model[name][1] - size)
            case ("release", name):
                reservations.release(name)
                model.pop(name, None)
            case ("expire", int(now)):
                reservations.expire(now)
                model = {name: entry for name, entry in model.items() if entry[2] > now}
        for volume in (1, 2, 3):
            assert reservations.reserved(volume) == sum(
                entry[1] for entry in model.values() if entry[0] == volume
            )


def test_what_ended_is_not_kept_in_the_queue_of_expiries() -> None:
    reservations = Reservations()
    for number in range(10_000):
        reservations.reserve(number, 1, 10, expires_at=number, owner="client", group=number % 7)
        if number >= 10:
            reservations.release(number - 10)
    assert len(reservations) == 10
    assert reservations.queue_length < 200
    reservations.expire(10_000)
    assert (len(reservations), reservations.reserved(1)) == (0, 0)


def test_an_owner_that_leaves_twice_ends_its_reservations_at_the_earlier_time() -> None:
    reservations = Reservations()
    reservations.reserve("a", 1, 10, expires_at=100, owner="client")
    reservations.owner_left("client", 20)
    reservations.owner_left("client", 50)
    reservations.expire(20)
    assert reservations.reserved(1) == 0
