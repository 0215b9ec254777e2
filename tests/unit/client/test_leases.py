from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from warehouse.client.writing.leases import (
    AVOID_S,
    BUSY_S,
    BYTE_COUNT_MAX,
    IDLE_S,
    LEASES_MAX,
    NEEDLE_COUNT_FIRST,
    NEEDLE_COUNT_MAX,
    LeasePool,
)
from warehouse.transport.messages import Lease


def lease(
    volume_id: int = 1, first: int = 1, count: int = 10, room: int = 10**9, expires_in_s: float = 60.0
) -> Lease:
    return Lease(
        volume_id=volume_id,
        first_needle_id=first,
        last_needle_id=first + count - 1,
        byte_count=room,
        url=f"http://disk-{volume_id}",
        token=f"token-{volume_id}-{first}",
        expires_in_s=expires_in_s,
    )


def take(pool: LeasePool, size: int = 1000, now_s: float = 0.0) -> tuple[int, int] | None:
    ticket = pool.take(size, now_s)
    return None if ticket is None else (ticket.volume_id, ticket.needle_id)


def test_ids_are_handed_out_once_and_volume_by_volume() -> None:
    pool = LeasePool()
    pool.add([lease(1, 1, 2), lease(2, 5, 3)], 0)
    assert [take(pool) for _ in range(6)] == [(1, 1), (2, 5), (1, 2), (2, 6), (2, 7), None]


def test_a_ticket_says_where_to_go() -> None:
    pool = LeasePool()
    pool.add([lease(7, 41)], 0)
    ticket = pool.take(10, 0)
    assert ticket is not None
    assert (ticket.url, ticket.target) == ("http://disk-7", "/v1/needles/7/41")
    assert ticket.authorization == ("Authorization", "Bearer token-7-41")


def test_a_lease_ends_before_it_expires() -> None:
    pool = LeasePool()
    pool.add([lease(expires_in_s=60)], 100)
    assert take(pool, now_s=149) == (1, 1)
    assert take(pool, now_s=151) is None
    pool.add([lease(expires_in_s=4)], 200)
    assert take(pool, now_s=202.9) == (1, 1)
    assert take(pool, now_s=203.1) is None


def test_room_is_never_given_twice() -> None:
    pool = LeasePool()
    pool.add([lease(room=2500)], 0)
    assert [take(pool, 1000) for _ in range(3)] == [(1, 1), (1, 2), None]


def test_a_lease_too_small_for_a_large_put_serves_small_ones() -> None:
    pool = LeasePool()
    pool.add([lease(1, 100, room=5000)], 0)
    assert take(pool, 500_000) is None
    assert take(pool, 100) == (1, 100)


def test_spent_leases_do_not_pile_up() -> None:
    pool = LeasePool()
    for number in range(1000):
        pool.add([lease(1, number * 100, 100, room=2500)], 0)
        while pool.take(1000, 0) is not None:
            pass
    assert len(pool._leases) == LEASES_MAX
    assert pool._left_count == 98 * LEASES_MAX


def test_a_run_is_as_long_as_its_lease_has_ids_and_room() -> None:
    pool = LeasePool()
    pool.add([lease(1, 1, 3), lease(2, 5, 100, room=2500)], 0)
    ranges = [pool.take_range([1000] * 10, 0) for _ in range(3)]
    assert [tickets and (tickets.volume_id, tickets.first_id, tickets.count) for tickets in ranges] == [
        (1, 1, 3),
        (2, 5, 2),
        None,
    ]
    tickets = ranges[0]
    assert tickets is not None
    assert (tickets.ticket(2).needle_id, tickets.ticket(2).target) == (3, "/v1/needles/1/3")
    assert tickets.ticket(2).authorization == tickets.authorization == ("Authorization", "Bearer token-1-1")


def test_runs_go_volume_by_volume() -> None:
    pool = LeasePool()
    pool.add([lease(1, 1, 100), lease(2, 1, 100)], 0)
    ranges = [pool.take_range([10] * 30, 0) for _ in range(4)]
    assert [tickets and tickets.volume_id for tickets in ranges] == [1, 2, 1, 2]


def test_a_failed_volume_is_left_alone_for_a_while() -> None:
    pool = LeasePool()
    pool.add([lease(1), lease(2), lease(1, 100)], 0)
    pool.avoid(1, 0)
    assert [take(pool) for _ in range(3)] == [(2, 1), (2, 2), (2, 3)]
    assert pool.ask(1000, 1, 1)[2] == [1]
    assert pool.ask(1000, 1, AVOID_S + 1)[2] == []


def test_a_dropped_lease_is_the_one_of_the_ticket() -> None:
    pool = LeasePool()
    pool.add([lease(1, 1), lease(1, 50)], 0)
    ticket = pool.take(10, 0)
    assert ticket is not None
    pool.drop(ticket)
    assert take(pool) == (1, 50)
    pool.drop(ticket)  # twice, as two puts in flight would


def test_a_busy_client_asks_for_more_and_a_quiet_one_for_less() -> None:
    pool = LeasePool()
    counts = [pool.ask(1000, 1, now_s)[0] for now_s in range(10)]
    assert counts[0] == NEEDLE_COUNT_FIRST
    assert counts == sorted(counts)
    assert counts[-1] == NEEDLE_COUNT_MAX
    quiet = [pool.ask(1000, 1, 100 + number * (IDLE_S + 1))[0] for number in range(10)]
    assert quiet[-1] == NEEDLE_COUNT_FIRST
    assert pool.ask(1000, 1, 1000 + 2 * BUSY_S)[0] == NEEDLE_COUNT_FIRST


def test_it_is_short_before_it_is_empty() -> None:
    pool = LeasePool()
    assert pool.is_short()
    pool.add([lease(count=NEEDLE_COUNT_FIRST)], 0)
    assert not pool.is_short()
    for _ in range(NEEDLE_COUNT_FIRST - 2):
        take(pool)
    assert pool.is_short()
    assert take(pool) is not None


def test_those_who_wait_are_counted() -> None:
    assert LeasePool().ask(1000, 100, 0)[0] == 100
    assert LeasePool().ask(1000, 10**6, 0)[0] == NEEDLE_COUNT_MAX


def test_large_puts_reserve_a_bounded_room() -> None:
    pool = LeasePool()
    for now_s in range(20):
        pool.take(2**20, now_s)
        needle_count, byte_count, _ = pool.ask(2**20, 1, now_s)
        assert needle_count >= 1
        assert 2**20 <= byte_count <= BYTE_COUNT_MAX * 5 // 4


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(1, 3), st.integers(1, 20), st.integers(0, 20_000)),
            st.tuples(st.just("take"), st.integers(1, 5000), st.just(0), st.just(0)),
            st.tuples(st.just("tickets"), st.integers(1, 5000), st.integers(1, 30), st.just(0)),
            st.tuples(st.just("avoid"), st.integers(1, 3), st.just(0), st.just(0)),
            st.tuples(st.just("pass"), st.integers(1, 40), st.just(0), st.just(0)),
        ),
        max_size=60,
    )
)
def test_no_id_is_given_twice_and_no_lease_beyond_its_room(steps: list[tuple[str, int, int, int]]) -> None:
    pool, now_s, next_id = LeasePool(), 0.0, 1
    room: dict[str, int] = {}
    seen: set[tuple[int, int]] = set()
    for step, number, count, byte_count in steps:
        if step == "add":
            granted = lease(number, next_id, count, byte_count)
            next_id += count
            room[f"Bearer {granted.token}"] = byte_count
            pool.add([granted], now_s)
        elif step == "take":
            ticket = pool.take(number, now_s)
            if ticket is not None:
                assert (ticket.volume_id, ticket.needle_id) not in seen
                seen.add((ticket.volume_id, ticket.needle_id))
                room[ticket.authorization[1]] -= number
                assert room[ticket.authorization[1]] >= 0
        elif step == "tickets":
            tickets = pool.take_range([number] * count, now_s)
            if tickets is not None:
                assert 1 <= tickets.count <= count
                ids = {(tickets.volume_id, tickets.first_id + position) for position in range(tickets.count)}
                assert not ids & seen
                seen |= ids
                room[tickets.authorization[1]] -= number * tickets.count
                assert room[tickets.authorization[1]] >= 0
        elif step == "avoid":
            pool.avoid(number, now_s)
        else:
            now_s += number
        assert pool._left_count == sum(held.left_count for held in pool._leases)
