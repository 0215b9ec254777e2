"""DeletionStamps: the stamps of the latest deletions, so that no later version seems older than one.

A deletion is written into the volumes with its stamp, and a rebuild takes every version with a lesser stamp
for dead.  While an object exists, its own stamp says what the next version must exceed; after a deletion,
only this memory does.  The memory is bounded: the stamps of forgotten deletions, and of those before the
catalog was opened, were not greater than `floor`.

A remembered deletion whose transaction was rolled back costs the next put a restamp.  A missing one could
cost an object, so a deletion is remembered the moment an object goes, and never taken back.
"""

from __future__ import annotations

# Some 10 MiB.  A put that overtakes a deletion is seconds old: fewer deletions than this happen in between.
DELETION_STAMPS_MAX = 50_000


class DeletionStamps:
    __slots__ = ("_stamps", "floor")

    def __init__(self, floor: int) -> None:
        self.floor = floor  # no forgotten deletion has a greater stamp
        self._stamps: dict[tuple[int, str], int] = {}  # (bucket id, key) -> stamp; the oldest first

    def remember(self, bucket_id: int, key: str, stamp: int) -> None:
        """An object was deleted at `stamp`."""
        name = (bucket_id, key)
        self._stamps.pop(name, None)
        self._stamps[name] = stamp
        if len(self._stamps) > DELETION_STAMPS_MAX:
            forgotten = self._stamps.pop(next(iter(self._stamps)))
            self.floor = max(self.floor, forgotten)

    def bound(self, bucket_id: int, key: str) -> int:
        """The stamp that the next version of an absent object must exceed."""
        return self._stamps.get((bucket_id, key), self.floor)
