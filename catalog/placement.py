"""Placement: which volumes take the next bytes.

Pure: rooms and a random generator come in, volume ids go out; the same seed gives the same ids.
A random choice, weighted by room, fills disks of different sizes in proportion.  It also keeps many clients
that ask at the same moment from getting the same volume, as a rule such as "the emptiest" would not.

`Places` keeps the room of every volume in trees of sums, one for each disk and one above them, so that a
change and a choice both cost the logarithm of the number of volumes, never their number.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from random import Random
from typing import Generic, NamedTuple, TypeVar

MISSES_MAX = 16  # draws of places that are too small, before the large enough ones are listed
FAN_OUT = 16
_NONE = -1  # the largest room where no place exists

K = TypeVar("K")


class Candidate(NamedTuple):
    volume_id: int
    disk_id: str
    room: int  # bytes that may still be reserved


class _Leaf(NamedTuple):
    weight: int
    largest: int


_EMPTY = _Leaf(0, _NONE)


class _Tree(Generic[K]):
    """Leaves with a weight and a largest room; the sum and the maximum of all of them are at the root.

    A node has FAN_OUT children, which keeps paths short: two steps for 256 leaves.
    """

    def __init__(self) -> None:
        # Level 0 holds the leaves, the last one a single node, the root.
        self._sums: list[list[int]] = [[0] * FAN_OUT, [0]]
        self._largest: list[list[int]] = [[_NONE] * FAN_OUT, [_NONE]]
        self._slots: dict[K, int] = {}
        self._keys: list[K | None] = [None] * FAN_OUT
        self._free = list(reversed(range(FAN_OUT)))
        self.step_count = 0  # nodes visited: tests of the cost look at this

    @property
    def total(self) -> int:
        return self._sums[-1][0]

    @property
    def largest(self) -> int:
        """The largest room of any leaf; -1 without a leaf."""
        return self._largest[-1][0]

    def get(self, key: K) -> _Leaf:
        slot = self._slots.get(key)
        return _EMPTY if slot is None else _Leaf(self._sums[0][slot], self._largest[0][slot])

    def set(self, key: K, leaf: _Leaf) -> None:
        slot = self._slots.get(key)
        if slot is None:
            if leaf.largest == _NONE:
                return
            if not self._free:
                self._grow()
            slot = self._slots[key] = self._free.pop()
            self._keys[slot] = key
        elif leaf == (self._sums[0][slot], self._largest[0][slot]):
            return
        elif leaf.largest == _NONE:
            del self._slots[key]
            self._keys[slot] = None
            self._free.append(slot)
        self._write(slot, leaf)

    def hide(self, key: K) -> None:
        """Do not draw this leaf until it is set again; its slot is kept."""
        self._write(self._slots[key], _EMPTY)

    def __len__(self) -> int:
        return len(self._slots)

    def draw(self, random: Random) -> K:
        """A leaf at random, in proportion to the weights; there must be one."""
        point = min(int(random.random() * self.total), self.total - 1)
        node = 0
        for sums in self._sums[-2::-1]:
            node *= FAN_OUT
            self.step_count += 1
            while point >= sums[node]:
                point -= sums[node]
                node += 1
        key = self._keys[node]
        assert key is not None, "a leaf without a key has no weight"
        return key

    def at_least(self, size: int) -> Iterator[K]:
        """The leaves whose room is `size` or more; branches without such a leaf are skipped."""
        rest = [(len(self._largest) - 1, 0)]
        while rest:
            level, node = rest.pop()
            self.step_count += 1
            if self._largest[level][node] < size:
                continue
            if level:
                first = node * FAN_OUT
                rest += [(level - 1, child) for child in range(first + FAN_OUT - 1, first - 1, -1)]
            elif (key := self._keys[node]) is not None:
                yield key

    def _write(self, slot: int, leaf: _Leaf) -> None:
        delta, largest = leaf.weight - self._sums[0][slot], leaf.largest
        self._sums[0][slot], self._largest[0][slot] = leaf
        node, below = slot, self._largest[0]
        for sums, maxima in zip(self._sums[1:], self._largest[1:], strict=True):
            self.step_count += 1
            node //= FAN_OUT
            sums[node] += delta
            if maxima[node] <= largest:
                maxima[node] = largest
            else:
                first = node * FAN_OUT
                largest = maxima[node] = max(below[first : first + FAN_OUT])
            below = maxima

    def _grow(self) -> None:
        """Double the leaves and rebuild the levels above, once for each doubling."""
        count = len(self._keys)
        self._keys += [None] * count
        self._free = list(reversed(range(count, 2 * count)))
        sums, largest = self._sums[0] + [0] * count, self._largest[0] + [_NONE] * count
        self._sums, self._largest = [sums], [largest]
        while len(sums) > 1:
            starts = range(0, len(sums), FAN_OUT)
            sums, largest = (
                [sum(sums[start : start + FAN_OUT]) for start in starts],
                [max(largest[start : start + FAN_OUT]) for start in starts],
            )
            padding = -len(sums) % FAN_OUT if len(sums) > 1 else 0
            sums += [0] * padding
            largest += [_NONE] * padding
            self._sums.append(sums)
            self._largest.append(largest)


class Places:
    """The volumes that take writes: how much room each has, and how much its whole disk takes."""

    def __init__(self) -> None:
        self._disks: _Tree[str] = _Tree()
        self._volumes: dict[str, _Tree[int]] = {}
        self._bounds: dict[str, int] = {}
        self._disk_of: dict[int, str] = {}
        self._told: dict[str, int] = {}  # the largest room of each disk at the latest `set_disk`

    @property
    def largest(self) -> int:
        """The most that fits into one volume; -1 when no volume takes writes."""
        return self._disks.largest

    @property
    def step_count(self) -> int:
        """Nodes of the trees that were visited so far."""
        return self._disks.step_count + sum(tree.step_count for tree in self._volumes.values())

    def set_volume(self, disk_id: str, volume_id: int, room: int | None) -> None:
        """A volume has this room by its own size; None: it takes no writes.

        It counts from the next `set_disk` of its disk on.
        """
        self._disk_of[volume_id] = disk_id
        self._tree(disk_id).set(volume_id, _EMPTY if room is None else _Leaf(max(room, 1), max(room, 0)))

    def set_disk(self, disk_id: str, bound: int | None) -> bool:
        """A disk takes this many bytes, however large its volumes are; None: it takes no writes.

        Returns:
            Whether more fits into one volume of this disk than before the latest call.
        """
        before = self._told.get(disk_id, _NONE)
        self._bounds[disk_id] = _NONE if bound is None else max(bound, 0)
        self._refresh(disk_id)
        now = self._told[disk_id] = self._disks.get(disk_id).largest
        return now > before

    def largest_on(self, disk_id: str) -> int:
        """The most that fits into one volume of this disk by the volume's size; -1 without a volume."""
        return self._tree(disk_id).largest

    def first_on(self, disk_id: str, exclude: Collection[int] = ()) -> int | None:
        """The first volume of this disk that takes at least one byte."""
        found = self._tree(disk_id).at_least(1)
        return next((volume_id for volume_id in found if volume_id not in exclude), None)

    def total_of(self, disk_id: str) -> int:
        """Bytes that the volumes of this disk together take by their own sizes."""
        return self._tree(disk_id).total

    def candidates(self) -> list[Candidate]:
        """All volumes that take at least one byte.  Looks at every volume: for tests and for people."""
        return [
            Candidate(volume_id, disk_id, room)
            for volume_id, disk_id in sorted(self._disk_of.items())
            if (room := min(self._tree(disk_id).get(volume_id).largest, self._bounds.get(disk_id, _NONE))) > 0
        ]

    def choose(self, *, size: int, count: int, exclude: Collection[int] = (), random: Random) -> list[int]:
        """Choose up to `count` different volumes that each have room for `size` bytes.

        Returns:
            Volume ids, on different disks as long as there are disks left, and only then on the same ones
            again; fewer than `count`, down to none, when fewer have room.
        """
        withdrawn: dict[int, _Leaf] = {}  # volumes that are excluded or chosen already
        misses: dict[str, _Leaf] = {}  # disks without a volume that is large enough
        resting: dict[str, int] = {}  # disks that gave a volume in this round
        chosen: list[int] = []
        try:
            for volume_id in exclude:
                self._withdraw(volume_id, withdrawn)
            while len(chosen) < count:
                disk_id = _draw(self._disks, size, random, misses)
                if disk_id is not None:
                    volume_id = resting[disk_id] = self._draw_on(disk_id, size, random)
                    chosen.append(volume_id)
                    if len(chosen) < count:
                        self._disks.hide(disk_id)
                elif any(len(self._tree(disk_id)) > 1 for disk_id in resting):
                    # The next round: all disks again, without the chosen volumes.
                    for volume_id in resting.values():
                        self._withdraw(volume_id, withdrawn)
                    resting.clear()
                else:
                    break
        finally:
            for volume_id, leaf in withdrawn.items():
                self._tree(self._disk_of[volume_id]).set(volume_id, leaf)
            for disk_id in {*misses, *resting, *(self._disk_of[volume_id] for volume_id in withdrawn)}:
                self._refresh(disk_id)
        return chosen

    def _draw_on(self, disk_id: str, size: int, random: Random) -> int:
        tree = self._tree(disk_id)
        misses: dict[int, _Leaf] = {}
        try:
            volume_id = _draw(tree, size, random, misses)
        finally:
            for missed, leaf in misses.items():
                tree.set(missed, leaf)
        assert volume_id is not None, "the tree of the disks knows the largest volume of each"
        return volume_id

    def _withdraw(self, volume_id: int, withdrawn: dict[int, _Leaf]) -> None:
        disk_id = self._disk_of.get(volume_id)
        if disk_id is None or volume_id in withdrawn:
            return
        tree = self._tree(disk_id)
        leaf = tree.get(volume_id)
        if leaf != _EMPTY:
            withdrawn[volume_id] = leaf
            tree.set(volume_id, _EMPTY)
            self._refresh(disk_id)

    def _tree(self, disk_id: str) -> _Tree[int]:
        tree = self._volumes.get(disk_id)
        if tree is None:
            tree = self._volumes[disk_id] = _Tree()
        return tree

    def _refresh(self, disk_id: str) -> None:
        """Update the tree of the disks from a disk's volumes and its bound."""
        bound, tree = self._bounds.get(disk_id, _NONE), self._tree(disk_id)
        if bound == _NONE or tree.largest == _NONE:
            self._disks.set(disk_id, _EMPTY)
        else:
            self._disks.set(disk_id, _Leaf(max(1, min(bound, tree.total)), min(bound, tree.largest)))


def _draw(tree: _Tree[K], size: int, random: Random, misses: dict[K, _Leaf]) -> K | None:
    """A leaf with room for `size` bytes at random, by weight; leaves that are too small go to `misses`.

    Removing a leaf that is too small does not change the odds of the others.
    """
    for _ in range(MISSES_MAX):
        if tree.largest < size or tree.largest == _NONE:
            return None
        key = tree.draw(random)
        leaf = tree.get(key)
        if leaf.largest >= size:
            return key
        misses[key] = leaf
        tree.hide(key)
    found = list(tree.at_least(size))
    return random.choices(found, weights=[tree.get(key).weight for key in found])[0] if found else None
