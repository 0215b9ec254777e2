"""Power cuts, simulated: after every single change on disk, of histories that nobody chose."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auditor import Auditor
from simdisk import CHANGES, SimDisk
from warehouse.storage.files import index_path
from warehouse.storage.format.needle import BLOCK_SIZE
from warehouse.storage.volume import Volume

SMALL = st.sampled_from([0, 1, 100, 470, 512, 700, 4096, 5000])
LARGE = st.sampled_from([BLOCK_SIZE, BLOCK_SIZE + 1, 2 * BLOCK_SIZE + 4000])


def operations(sizes: st.SearchStrategy[int]) -> st.SearchStrategy[tuple[str, object]]:
    return st.one_of(
        st.tuples(st.just("put"), sizes),
        st.tuples(st.just("put_together"), st.lists(sizes, min_size=2, max_size=4).map(tuple)),
        st.tuples(
            st.sampled_from(["sync", "begin_sync", "end_sync", "checkpoint", "delete", "restamp"]), st.none()
        ),
        st.tuples(st.just("reserve"), sizes),
        st.tuples(st.just("write"), st.sampled_from([0.3, 1.0])),
        st.tuples(st.sampled_from(["finish", "finish", "abort"]), st.none()),
        st.tuples(st.just("reopen"), st.none()),
        st.tuples(st.sampled_from(["copy", "copy", "switch"]), st.none()),
    )


def histories(sizes: st.SearchStrategy[int], length: int) -> st.SearchStrategy[list[tuple[str, object]]]:
    return st.lists(operations(sizes), min_size=length // 3, max_size=length)


class Cutter:
    """Cuts the power after each change that a history makes on its disk."""

    def __init__(self, seed: int, *, after_calls: frozenset[str] = CHANGES) -> None:
        self.chance = random.Random(seed)
        self.disk = SimDisk()
        self.auditor = Auditor(self.disk, random.Random(seed + 1))
        self.cut_count = 0
        self._after_calls = after_calls
        self.disk.after = self._cut

    def run(self, history: list[tuple[str, object]]) -> None:
        for name, argument in history:
            operation = getattr(self.auditor, name)
            operation(*(() if argument is None else (argument,)))
            if self.chance.random() < 0.1:
                self.disk.write_back(self.chance)

    def _cut(self, call: str, path: str) -> None:
        if call in self._after_calls:
            self.cut_count += 1
            keep = self.chance.choice((0.0, 0.5, 0.9, 1.0))
            disk = self.disk.crash(self.chance, keep, tear=self.chance.random() < 0.5)
            self._check(disk)

    def _check(self, disk: SimDisk) -> None:
        what = self.chance.random()
        if what < 0.1:
            self._check_cuts_in_recovery(disk)
        elif what < 0.2:
            self._check_without_index(disk)
        else:
            volume = self.auditor.check_after_cut(disk)
            if what < 0.5:
                self.auditor.check_rebuild(disk, volume)
            elif what < 0.7:
                self._check_life_goes_on(disk, volume)

    def _check_cuts_in_recovery(self, disk: SimDisk) -> None:
        def cut_again(call: str, path: str) -> None:
            self.auditor.check_after_cut(disk.crash(self.chance, 0.5))

        disk.after = cut_again
        self.auditor.check_after_cut(disk)

    def _check_without_index(self, disk: SimDisk) -> None:
        """Index and power lost at once: then a torn end may be reported as damage, but nothing is lost."""
        for generation in range(1, self.auditor.volume.generation + 2):
            path = index_path("volumes/7", generation)
            if disk.exists(path):
                disk.remove(path)
        self.auditor.check(Volume.open(disk, "volumes/7"), is_index_lost=True)

    def _check_life_goes_on(self, disk: SimDisk, volume: Volume) -> None:
        """What is written after the recovery survives the next cut, beside all the rest."""
        needle_id = 2_000
        metadata = next(iter(self.auditor.needles.values())).metadata if self.auditor.needles else None
        if metadata is None:
            return
        volume.append(needle_id, metadata, b"after the cut", stamp=1 << 40)
        volume.sync()
        again = Volume.open(disk.crash(self.chance, self.chance.choice((0.0, 0.5, 1.0))), "volumes/7")
        assert again.recovery.damages == ()
        assert bytes(again.read(needle_id).data) == b"after the cut"
        for known in self.auditor.needles:
            self.auditor.check_needle(again, known)


# Function-scoped state is made anew in each example; a slow machine is no failure.
common = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)


@pytest.mark.timeout(600)  # a thousand histories: a quarter of a minute of processor time, more beside others
@settings(common, max_examples=1000)
@given(seed=st.integers(0, 1 << 32), history=histories(SMALL, 21))
def test_nothing_acknowledged_is_lost_and_nothing_torn_is_served(
    seed: int, history: list[tuple[str, object]]
) -> None:
    Cutter(seed).run(history)


@settings(common, max_examples=300)
@given(seed=st.integers(0, 1 << 32), history=histories(SMALL, 14), end=st.sampled_from(["compact", "switch"]))
def test_a_cut_at_any_step_of_a_compaction_leaves_one_whole_generation(
    seed: int, history: list[tuple[str, object]], end: str
) -> None:
    Cutter(seed).run(
        [*history, ("compact", None), ("put", 100), ("delete", None), ("copy", None), (end, None)]
    )


@settings(common, max_examples=40)
@given(seed=st.integers(0, 1 << 32), history=histories(LARGE, 8))
def test_the_same_holds_for_needles_of_several_blocks(seed: int, history: list[tuple[str, object]]) -> None:
    Cutter(seed).run(history)


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("is_synced", [False, True])
def test_a_cut_around_the_return_of_an_uploads_room_loses_nothing(keep: float, is_synced: bool) -> None:
    """Right before the hole is made, right after it, and after the next sync: the scan steps over all of it."""
    for seed in range(12):
        chance = random.Random(seed)
        disk = SimDisk()
        auditor = Auditor(disk, random.Random(seed))
        auditor.put(700)
        auditor.reserve(2 * BLOCK_SIZE + 4000)
        auditor.put(5000)
        auditor.write(0.7)
        auditor.put(300)
        if is_synced:
            auditor.sync()
        cuts: list[str] = []

        def cut(call: str, *_: object, cuts: list[str] = cuts, chance: random.Random = chance) -> None:
            if call in ("punch", "fdatasync"):
                cuts.append(call)
                after = disk.crash(chance, keep)  # noqa: B023 - called within this round
                auditor.check_rebuild(after, auditor.check_after_cut(after))  # noqa: B023

        disk.before = cut
        disk.after = cut
        auditor.abort()
        auditor.put(100)
        auditor.sync()
        assert cuts[:2] == ["punch", "punch"]
        assert "fdatasync" in cuts
        disk.before = disk.after = None
        auditor.reopen()
        auditor.check(auditor.volume)


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
@settings(common, max_examples=50_000)
@given(seed=st.integers(0, 1 << 32), history=histories(SMALL, 40))
def test_the_same_holds_in_longer_histories(seed: int, history: list[tuple[str, object]]) -> None:
    Cutter(seed).run(history)


@pytest.mark.parametrize("seed", range(20))
def test_a_volume_is_made_whole_or_not_at_all(seed: int) -> None:
    from auditor import DIRECTORY, make_volume
    from warehouse.errors import NoSuchVolume

    chance, disk = random.Random(seed), SimDisk()
    cuts = []

    def cut(call: str, path: str) -> None:
        cuts.append(disk.crash(chance, chance.choice((0.0, 0.5, 1.0))))

    disk.after = cut
    make_volume(disk)
    disk.after = None
    assert len(cuts) > 8
    for after in cuts:
        try:
            volume = Volume.open(after, DIRECTORY)
        except NoSuchVolume:
            volume = make_volume(after)
        assert volume.stats().live_count == 0
        assert volume.recovery.damages == ()
    Volume.open(disk.crash(chance, 0.0), DIRECTORY)
