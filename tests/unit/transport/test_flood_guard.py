"""Flood guard: who delivers much and says nothing is found, everybody else is left alone."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from warehouse.transport.zeromq.flood_guard import QUIET_BYTES_PER_S, FloodGuard
from warehouse.transport.zeromq.tcp import connection_name, received_bytes, shut_connection

pytestmark = pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="the kernel's count is Linux's")


@contextmanager
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
        listener.accept()[0] as server,
    ):
        yield client, server


@contextmanager
def guarded(count: int = 1) -> Iterator[tuple[FloodGuard, list[int], dict[int, int]]]:
    """A guard of real connections whose counts the test makes up: (guard, descriptors, counts)."""
    counts: dict[int, int] = {}
    guard = FloodGuard(connection_max=1000, total_max=3000, count_of=counts.get)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ends = []
        for _ in range(count):
            ends.append(socket.create_connection(listener.getsockname()))
            ends.append(listener.accept()[0])
            counts[ends[-1].fileno()] = 0
            guard.opened(ends[-1].fileno())
        yield guard, list(counts), counts
        for end in ends:
            end.close()


def test_much_without_a_message_is_found_once_all_there_was_had_been_read():
    with guarded() as (guard, (one,), counts):
        counts[one] = 1001
        assert not guard.is_alert
        assert guard.check(elapsed_s=0) == []  # it may be a message that nobody has come to read yet
        assert guard.is_alert
        assert guard.check(elapsed_s=0) == [one]


def test_much_in_messages_is_not():
    with guarded() as (guard, (one,), counts):
        for _ in range(10):
            counts[one] += 100_000
            guard.heard.add(one)
            assert guard.check(elapsed_s=0) == []
            assert not guard.is_alert


def test_a_message_clears_what_came_before_it():
    with guarded() as (guard, (one,), counts):
        counts[one] = 900
        guard.check(elapsed_s=0)
        guard.heard.add(one)
        guard.check(elapsed_s=0)
        counts[one] = 1900
        assert guard.check(elapsed_s=0) == []
        assert guard.check(elapsed_s=0) == []
        counts[one] = 1901
        assert guard.check(elapsed_s=0) == []
        assert guard.check(elapsed_s=0) == [one]


def test_heartbeats_of_a_quiet_month_are_no_flood():
    with guarded() as (guard, (one,), counts):
        for _ in range(30 * 24):
            counts[one] += 3600 * QUIET_BYTES_PER_S // 4
            assert guard.check(elapsed_s=3600) == []


def test_many_that_are_moderate_are_a_flood_together_and_the_largest_go():
    with guarded(count=5) as (guard, descriptors, counts):
        for number, descriptor in enumerate(descriptors):
            counts[descriptor] = 600 + 100 * number  # 4000 together
        guard.check(elapsed_s=0)
        assert guard.check(elapsed_s=0) == [descriptors[4]]


@contextmanager
def bounded(message_max: int = 0) -> Iterator[tuple[FloodGuard, int, dict[int, int]]]:
    """A guard that bounds a backlog at 100,000 bytes and 100 messages, of one connection."""
    counts: dict[int, int] = {}
    guard = FloodGuard(
        connection_max=1_000_000,
        total_max=3_000_000,
        backlog_max=100_000,
        backlog_count_max=100,
        message_max=message_max,
        count_of=counts.get,
    )
    with connection() as (_, server):
        counts[server.fileno()] = 0
        guard.opened(server.fileno())
        yield guard, server.fileno(), counts


def test_a_backlog_of_many_small_messages_is_found_while_we_read_them():
    with bounded() as (guard, one, counts):
        for _ in range(50):
            guard.took(one, 65)  # 100 on the wire
        counts[one] = 50 * 100 + 100 * 100
        assert guard.backlogged() == []
        counts[one] += 100
        assert guard.backlogged() == [one]


def test_a_large_message_behind_small_ones_is_no_backlog_of_many():
    with bounded(message_max=50_000) as (guard, one, counts):
        guard.took(one, 65)
        counts[one] = 100 + 50_000
        assert guard.backlogged() == []
        counts[one] += 100 * 100
        assert guard.backlogged() == []
        counts[one] += 100
        assert guard.backlogged() == [one]


def test_a_backlog_of_many_bytes_is_found_before_anything_was_read():
    with bounded() as (guard, one, counts):
        counts[one] = 100_000
        assert guard.backlogged() == []
        counts[one] = 100_001
        assert guard.backlogged() == [one]


def test_who_waits_for_answers_has_no_backlog_however_much_it_says():
    with bounded() as (guard, one, counts):
        for _ in range(1000):
            counts[one] += 10 * 1035
            assert guard.backlogged() == []
            for _ in range(10):
                guard.took(one, 1000)
        assert guard.backlogged() == []


def test_bytes_that_are_no_messages_do_not_add_up_to_a_backlog():
    with bounded() as (guard, one, counts):
        for _ in range(1000):
            counts[one] += 10_000  # heartbeats of a month
            guard.check(elapsed_s=3600)
            assert guard.backlogged() == []


def test_a_descriptor_that_was_reused_starts_again():
    with guarded() as (guard, (one,), counts):
        counts[one] = 900
        guard.check(elapsed_s=0)
        counts[one] = 50
        guard.check(elapsed_s=0)
        counts[one] = 1040
        guard.check(elapsed_s=0)
        assert guard.check(elapsed_s=0) == []


def test_a_closed_connection_is_forgotten():
    with guarded(count=2) as (guard, (one, two), counts):
        counts[one] = counts[two] = 5000
        guard.check(elapsed_s=0)
        guard.closed(one)
        del counts[two]  # gone, and the kernel is the first to know
        assert guard.check(elapsed_s=0) == []


def test_the_kernel_counts_what_a_connection_delivered():
    with connection() as (client, server):
        assert received_bytes(server.fileno()) == 0
        client.sendall(b"x" * 10_000)
        received = 0
        while received < 10_000:
            received += len(server.recv(4096))
        assert received_bytes(server.fileno()) == 10_000


def test_a_connection_is_shut_only_under_its_name():
    with connection() as (client, server):
        name = connection_name(server.fileno())
        assert name
        assert not shut_connection(server.fileno(), "")
        assert not shut_connection(server.fileno(), name + "0")
        client.sendall(b"still there")
        assert server.recv(100) == b"still there"
        assert shut_connection(server.fileno(), name)
        assert client.recv(100) == b""


def test_what_is_no_connection_has_no_name_and_no_count(tmp_path):
    with (tmp_path / "file").open("wb") as file:
        assert connection_name(file.fileno()) == ""
        assert received_bytes(file.fileno()) is None
        assert not shut_connection(file.fileno(), "name")
    assert connection_name(10_000) == ""
    assert received_bytes(10_000) is None


def test_what_a_connection_leaves_behind_counts_until_it_was_taken():
    counts: dict[int, int] = {}
    guard = FloodGuard(
        connection_max=1000,
        total_max=10**9,
        backlog_max=10**8,
        backlog_count_max=10**6,
        count_of=counts.get,
    )
    with connection() as (_, server):
        one = server.fileno()
        for _ in range(3):  # whoever comes back on the same descriptor again and again
            guard.opened(one)
            counts[one] = 200_000
            guard.took(one, 65)
            assert guard.backlogged() == []
            guard.closed(one)
        left = guard.left_behind
        assert left > 3 * 199_000, "with what each message takes besides its bytes"
        guard.took_left_behind(65)
        assert guard.left_behind < left
        guard.opened(one)
        counts[one] = 1000
        guard.took_left_behind(10_000)  # of those before it: nothing to its credit
        guard.backlogged()
        guard.closed(one)
        assert guard.left_behind > left - 20_000
