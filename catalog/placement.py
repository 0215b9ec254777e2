"""Placement: which volumes take the next bytes.

Pure: the candidates and a random generator come in, volume ids go out; the same seed gives the same ids.
Choosing at random, weighted by room, fills disks of different sizes evenly in proportion, and keeps many
clients that ask at the same moment from choosing the same volume, which "the emptiest" would.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from random import Random
from typing import NamedTuple


class Candidate(NamedTuple):
    volume_id: int
    disk_id: str
    room: int  # bytes that may still be promised


def choose_volumes(
    candidates: Sequence[Candidate], *, size: int, count: int, exclude: Collection[int] = (), random: Random
) -> list[int]:
    """Choose up to `count` different volumes that each have room for `size` bytes.

    Returns:
        Volume ids, on different disks as long as there are disks left, and only then on the same ones
        again; fewer than `count`, down to none, when not so many have room.
    """
    rest = [found for found in candidates if found.room >= size and found.volume_id not in exclude]
    uses = {found.disk_id: 0 for found in rest}
    chosen: list[int] = []
    while rest and len(chosen) < count:
        fewest = min(uses[found.disk_id] for found in rest)
        eligible = [found for found in rest if uses[found.disk_id] == fewest]
        # A volume without room can be chosen too when nothing has to fit, so no weight is zero.
        (found,) = random.choices(eligible, weights=[max(found.room, 1) for found in eligible])
        chosen.append(found.volume_id)
        uses[found.disk_id] += 1
        rest.remove(found)
    return chosen
