"""Turns: some for each key, some for all, and always given back."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from warehouse.errors import Overloaded
from warehouse.webui.turns import Turns


def test_one_key_leaves_turns_to_others() -> None:
    turns = Turns("archives", of_key_max=2, all_max=3)
    with ExitStack() as first, ExitStack() as second:
        for _ in range(2):
            first.enter_context(turns.turn("a"))
        with pytest.raises(Overloaded, match="this key has 2 archives:"):
            first.enter_context(turns.turn("a"))
        second.enter_context(turns.turn("b"))
        with pytest.raises(Overloaded, match="this console"):
            second.enter_context(turns.turn("c"))
        first.close()
        with turns.turn("a"):
            assert turns.taken_count == 2
    assert turns.taken_count == 0


def test_a_turn_that_ends_in_a_failure_is_given_back() -> None:
    turns = Turns("archives", of_key_max=1, all_max=2)
    for _ in range(5):
        with pytest.raises(ValueError, match="broke"), turns.turn("a"):
            raise ValueError("broke")
    assert turns.taken_count == 0
