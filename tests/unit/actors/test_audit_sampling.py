"""Audit sampling: the first refusals of a minute are written, then one of many, and none is forgotten."""

from __future__ import annotations

from collections import Counter

from warehouse.actors.control.audit_sampling import NAMES_MAX, Allowance, Repeated, Repeats, Sampler


def sampler(per_minute: int = 3, every: int = 10) -> Sampler[str]:
    return Sampler(per_minute=per_minute, every=every, others="others")


def test_the_first_of_each_minute_are_written_and_then_one_of_many() -> None:
    several = sampler()
    told = [several.admit("a", now=100.0) for _ in range(25)]
    assert told[:3] == [0, 0, 0]
    assert [index for index, count in enumerate(told) if count is not None] == [0, 1, 2, 12, 22]
    assert told[12] == told[22] == 9
    assert several.take_left_out() == {"a": 2}
    assert several.take_left_out() == {}


def test_a_new_minute_begins_with_what_the_last_left_out() -> None:
    several = sampler()
    for _ in range(8):
        several.admit("a", now=100.0)
    assert several.admit("a", now=160.0) == 5
    assert several.admit("a", now=160.0) == 0


def test_names_are_counted_apart() -> None:
    several = sampler(per_minute=1)
    assert several.admit("a", 100.0) == several.admit("b", 100.0) == 0
    assert several.admit("a", 100.0) is None


def test_every_refusal_is_written_or_told_of_however_many_names_there_are() -> None:
    several, written, left_out = sampler(per_minute=1, every=7), 0, 0
    for number in range(20_000):
        count = several.admit(f"name {number % 3000}", now=100.0 + number / 100)
        if count is not None:
            written += 1
            left_out += count
    assert written + left_out + Counter(several.take_left_out()).total() == 20_000
    assert len(several._seen) <= NAMES_MAX + 1
    assert len(several._left_out) <= NAMES_MAX + 1


def test_with_nothing_in_full_one_of_many_is_written() -> None:
    several = sampler(per_minute=0, every=5)
    assert [several.admit("a", 100.0) is not None for _ in range(10)] == [False] * 4 + [True] + [
        False
    ] * 4 + [True]


# --- what a key repeats ---------------------------------------------------------------------------

FEW = Allowance(burst=3, per_s=1.0)


def again(key: str = "KEY", address: str = "192.0.2.1") -> Repeated:
    return Repeated("login", key, address)


def test_what_a_key_repeats_is_written_up_to_its_allowance_and_then_one_of_many() -> None:
    repeats = Repeats(every=10)
    told = [repeats.admit(again(), FEW, 0.0) for _ in range(25)]
    assert [index for index, count in enumerate(told) if count is not None] == [0, 1, 2, 12, 22]
    assert told[12] == told[22] == 9
    assert repeats.admit(again("OTHER"), FEW, 0.0) == 0
    assert repeats.admit(again(), FEW, 10.0) == 2, "with time it is written again, and says what was not"
    assert repeats.take_left_out() == {}


def test_a_key_has_one_allowance_for_all_addresses_and_each_is_counted() -> None:
    repeats, written = Repeats(every=100), 0
    for number in range(300):
        written += repeats.admit(again(address=f"192.0.2.{number % 30}"), FEW, 0.0) is not None
    assert written == 3 + 2
    left_out = repeats.take_left_out()
    assert {name.address for name in left_out} == {f"192.0.2.{number}" for number in range(30)}
    assert sum(left_out.values()) <= 300 - written


def test_every_repetition_is_written_or_told_of_however_many_addresses_there_are() -> None:
    repeats, seen = Repeats(every=7), 0
    for number in range(20_000):
        name = again(f"KEY{number % 1500}", f"192.0.2.{number % 3000}")
        count = repeats.admit(name, Allowance(burst=1, per_s=0.01), number / 1000)
        if count is not None:
            seen += 1 + count
    assert len(repeats._left_out) <= NAMES_MAX + 1
    assert len(repeats._beyond) <= NAMES_MAX + 1
    assert seen + sum(repeats.take_left_out().values()) == 20_000
