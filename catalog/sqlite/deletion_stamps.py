"""DeletionStamps: the stamps of the latest deletions, so that no later version seems older than one.

A deletion is written into the volumes with its stamp, and a rebuild takes every version with a lesser one
for dead.  While an object is there its own stamp tells how great the next version's must be; once it is
gone, only this memory does.  It is bounded: of a deletion that was forgotten, or that happened before the
catalog was opened, no more is known than that its stamp was not greater than `floor`.

A stamp too many (its transaction was rolled back) costs somebody a fresh stamp.  A missing one could cost an
object, so a deletion is remembered the moment an object goes, and never taken back.
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
        """The stamp that the next version of an object that is not there must exceed."""
        return self._stamps.get((bucket_id, key), self.floor)
