"""Credits: an address pays for what it costs, and nobody else does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from warehouse.transport.credits import Credits

A, B = "192.0.2.1", "2001:db8::/64"


def test_an_address_without_credit_waits_and_no_other_does() -> None:
    credits = Credits(per_s=10, burst=5)
    assert [credits.take(A, 1, 0.0) for _ in range(6)] == [True] * 5 + [False]
    assert credits.take(B, 1, 0.0)
    assert not credits.take(A, 1, 0.0), "what was refused cost nothing more ..."
    assert credits.take(A, 1, 0.1), "... so the credit of a tenth of a second is enough"


def test_what_is_given_back_is_there_again_and_a_credit_is_never_more_than_full() -> None:
    credits = Credits(per_s=1, burst=3)
    for _ in range(100):  # a proxy: each of its connections shows a good token
        assert credits.take(A, 1, 0.0)
        credits.give_back(A, 1, 0.0)
    credits.give_back(A, 50, 0.0)
    assert credits.balance(A, 0.0) == 3
    assert credits.balance(B, 1000.0) == 3


def test_a_fine_leads_into_a_debt_that_ends() -> None:
    credits = Credits(per_s=10, burst=20)
    for _ in range(100):
        credits.fine(A, 10, 0.0)
    assert credits.balance(A, 0.0) == -20
    assert not credits.take(A, 1, 1.9)
    assert credits.take(A, 1, 2.1)


def test_the_books_are_bounded_and_forget_who_was_charged_longest_ago() -> None:
    credits = Credits(per_s=1, burst=1, addresses_max=100)
    for number in range(1000):
        credits.take(f"2001:db8:{number:x}::/64", 1, 0.0)
    assert len(credits._accounts) == 100
    assert not credits.take("2001:db8:3e7::/64", 1, 0.0)
    assert credits.take("2001:db8::/64", 1, 0.0)


def test_a_full_account_takes_no_room() -> None:
    credits = Credits(per_s=1, burst=5)
    credits.take(A, 1, 0.0)
    credits.give_back(A, 1, 0.0)
    assert not credits._accounts


@given(st.lists(st.floats(0, 3), max_size=60), st.integers(1, 10), st.integers(1, 20))
def test_nobody_takes_more_than_a_full_credit_and_what_grew_back(
    pauses: list[float], burst: int, per_s: int
) -> None:
    credits = Credits(per_s=per_s, burst=burst)
    now_s, taken = 0.0, 0
    for pause_s in pauses:
        now_s += pause_s
        while credits.take(A, 1, now_s):
            taken += 1
    assert taken <= burst + now_s * per_s + 1
