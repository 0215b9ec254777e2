"""The barrier: who knocks too often waits outside, and comes in again as its credit grows."""

from __future__ import annotations

import socket

from warehouse.transport.barrier import ROOM, Barrier
from warehouse.transport.syn_filter import ADDRESSES_MAX, program_of

A, B = "192.0.2.1", "2001:db8::/64"


class Kernel:
    """Notes the programs that it is given."""

    def __init__(self, *, is_able: bool = True) -> None:
        self.programs: list[bytes] = []
        self._is_able = is_able

    def __call__(self, listener: socket.socket, program: bytes) -> bool:
        self.programs.append(program)
        return self._is_able


def barrier_before(kernel: Kernel, *, per_s: float = 8, burst: float = 4) -> Barrier:
    barrier = Barrier(per_s=per_s, burst=burst, set_filter=kernel)
    with socket.socket() as listener:
        barrier.stand_before(listener)
    return barrier


def test_who_knocks_too_often_is_barred_until_there_is_credit_for_another() -> None:
    kernel = Kernel()
    barrier = barrier_before(kernel)
    for _ in range(int(4 * ROOM) - 1):
        barrier.came(A, 0.0)
    barrier.came(B, 0.0)
    assert not barrier.barred
    barrier.came(A, 0.0)
    assert list(barrier.barred) == [A]
    barrier.let_in_again(0.9 / (8 * ROOM))
    assert list(barrier.barred) == [A]
    barrier.let_in_again(1.1 / (8 * ROOM))
    assert not barrier.barred
    assert kernel.programs == [program_of([A]), program_of([])]


def test_who_shows_that_it_is_honest_is_never_barred() -> None:
    barrier = barrier_before(Kernel())
    for _ in range(1000):  # a proxy
        barrier.came(A, 0.0)
        barrier.came(A, 0.0)
        barrier.give_back(A, 0.0)
        barrier.give_back(A, 0.0)
    assert not barrier.barred


def test_what_came_while_nobody_looked_is_paid_for_later() -> None:
    barrier = barrier_before(Kernel())
    for _ in range(100):
        barrier.came(A, 0.0)
    barrier.let_in_again(0.5)
    assert list(barrier.barred) == [A]
    barrier.let_in_again((4 * ROOM + 1.1) / (8 * ROOM))
    assert not barrier.barred, "a debt ends"


def test_only_so_many_are_barred_at_once() -> None:
    barrier = barrier_before(Kernel(), burst=1)
    for number in range(ADDRESSES_MAX + 10):
        for _ in range(2):
            barrier.came(f"10.0.{number // 256}.{number % 256}", 0.0)
    assert len(barrier.barred) == ADDRESSES_MAX
    assert "10.0.0.9" not in barrier.barred, "the first ones are let go"


def test_a_socket_that_comes_later_has_the_filter_too() -> None:
    kernel = Kernel()
    barrier = barrier_before(kernel)
    for _ in range(10):
        barrier.came(A, 0.0)
    barrier.step_aside()
    kernel.programs.clear()
    with socket.socket() as listener:
        barrier.stand_before(listener)
    assert kernel.programs == [program_of([A])]


def test_where_the_kernel_takes_no_filter_nobody_is_barred() -> None:
    kernel = Kernel(is_able=False)
    barrier = barrier_before(kernel)
    for _ in range(100):
        barrier.came(A, 0.0)
    assert not barrier.barred
    assert len(kernel.programs) == 1


def test_without_a_rate_nobody_is_barred() -> None:
    barrier = barrier_before(Kernel(), per_s=0, burst=0)
    for _ in range(100):
        barrier.came(A, 0.0)
        barrier.give_back(A, 0.0)
    assert not barrier.barred
