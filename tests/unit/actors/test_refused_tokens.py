"""Refused tokens: counts by address and code, bounded, told at most every ten seconds, and never forgotten."""

from __future__ import annotations

from warehouse.actors.data.refused_tokens import OTHERS, ROWS_MAX, TOLD_EVERY_S, RefusedTokens
from warehouse.errors import NoSuchNeedle, TokenExpired, TokenInvalid


def told(refused: RefusedTokens, now: float) -> dict[tuple[str, str], int]:
    return {(row.address, row.code): row.count for row in refused.take(now=now)}


def test_only_tokens_are_counted_and_ports_make_no_difference() -> None:
    refused = RefusedTokens()
    refused.note("192.0.2.7:1000", TokenInvalid("no"))
    refused.note("192.0.2.7:1001", TokenInvalid("no"))
    refused.note("192.0.2.7:1001", NoSuchNeedle("gone"))
    refused.note("[2001:db8::1]:5", TokenExpired("late"))
    refused.note("local", TokenExpired("late"))
    assert told(refused, 0.0) == {
        ("192.0.2.7", "token_invalid"): 2,
        ("2001:db8::1", "token_expired"): 1,
        ("local", "token_expired"): 1,
    }


def test_counts_are_told_at_most_every_ten_seconds() -> None:
    refused = RefusedTokens()
    assert told(refused, 0.0) == {}
    refused.note("a:1", TokenInvalid("no"))
    assert told(refused, 1.0)
    refused.note("a:1", TokenInvalid("no"))
    assert told(refused, 1.0 + TOLD_EVERY_S / 2) == {}
    assert told(refused, 1.0 + TOLD_EVERY_S) == {("a", "token_invalid"): 1}


def test_many_addresses_are_counted_together() -> None:
    refused = RefusedTokens()
    for number in range(5000):
        refused.note(f"10.0.{number >> 8}.{number & 255}:1", TokenInvalid("no"))
    counts = told(refused, 0.0)
    assert len(counts) == ROWS_MAX + 1
    assert counts[OTHERS, "token_invalid"] == 5000 - ROWS_MAX


def test_what_was_not_delivered_is_told_again() -> None:
    refused = RefusedTokens()
    refused.note("a:1", TokenInvalid("no"))
    rows = refused.take(now=0.0)
    refused.note("a:1", TokenInvalid("no"))
    refused.give_back(rows)
    assert told(refused, 100.0) == {("a", "token_invalid"): 2}
