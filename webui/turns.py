"""Turns: how much of something costly goes on at once, of one key and of all.

A request takes its turn before it awaits anything, so no two of them see the same free place, and holds it
until its answer has ended (`held.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from warehouse.errors import Overloaded


class Turns:
    """
    Args:
        what: there are so many of, in the plural, for the refusal.
        of_key_max: at once, of one key.
        all_max: at once, of all keys.
    """

    def __init__(self, what: str, *, of_key_max: int, all_max: int) -> None:
        assert 0 < of_key_max < all_max, "one key leaves room for others"
        self._what = what
        self._of_key_max = of_key_max
        self._all_max = all_max
        self._taken: Counter[str] = Counter()

    @property
    def taken_count(self) -> int:
        return self._taken.total()

    @contextmanager
    def turn(self, key_id: str) -> Iterator[None]:
        """One turn of a key, for as long as the block lasts.

        Raises:
            Overloaded: the key, or all keys together, have as many as they get.
        """
        if self._taken[key_id] >= self._of_key_max:
            raise Overloaded(f"this key has {self._of_key_max} {self._what}: try again when one has ended")
        if self.taken_count >= self._all_max:
            raise Overloaded(f"this console has as many {self._what} as it takes: try again shortly")
        self._taken[key_id] += 1
        try:
            yield
        finally:
            self._taken[key_id] -= 1
            self._taken += Counter()  # forgets keys that have none
