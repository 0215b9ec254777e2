"""A volume that is compacted again and again, against a dict: whatever happens in between.

Copy and switch are taken step by step, with puts, deletes, uploads, syncs and kills between any two steps.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from test_volume_model import DIRECTORY, IDS, SIZES, VolumeModel, metadata_of
from warehouse.errors import NeedleVoid
from warehouse.storage.compaction.copying import Copy
from warehouse.storage.compaction.generation_switch import GenerationSwitch
from warehouse.storage.format.needle import KIND_DATA, KIND_TOMBSTONE
from warehouse.storage.scan import State


class CompactionModel(VolumeModel):
    """`VolumeModel` with a copy that may be under way, and a switch that may be waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.copy: Copy | None = None
        self.is_copied = False
        self.under_way: GenerationSwitch | None = None
        self.horizon = 0
        self.last_deletes: dict[int, int] = {}  # needle id -> stamp, of objects that were deleted

    def forget_compaction(self) -> None:
        self.copy, self.is_copied, self.under_way = None, False, None

    def check_stamp(self, needle_id: int, stamp: int) -> None:
        # As written, or as a compaction has folded a later one in.
        assert stamp == self.live[needle_id][1] or stamp in self.all_restamps[needle_id]

    @rule(size=SIZES, byte=st.integers(0, 255), count=st.integers(1, 4))
    def put_fresh(self, size: int, byte: int, count: int) -> None:
        """Ids that nothing has happened to, as the master hands them out."""
        used = self.live.keys() | self.dead | self.in_flight.keys()
        for needle_id in [number for number in range(20, 999) if number not in used][:count]:
            self.put(needle_id, size, byte, False)

    @precondition(lambda self: self.live)
    @rule(choice=st.randoms(use_true_random=False), how=st.sampled_from(["delete", "delete_last", "restamp"]))
    def touch(self, choice: random.Random, how: str) -> None:
        getattr(self, how)(choice.choice(sorted(self.live)))

    @rule(needle_id=IDS)
    def delete_last(self, needle_id: int) -> None:
        stamp = self.next_stamp()
        was_live = needle_id in self.live
        assert self.volume.delete(needle_id, stamp=stamp, object_deleted=True) is was_live
        if was_live:
            self.last_deletes[needle_id] = stamp
        self.live.pop(needle_id, None)
        self.dead.add(needle_id)

    @precondition(lambda self: self.copy is None and self.under_way is None)
    @rule(is_forgetful=st.booleans())
    def begin_copy(self, is_forgetful: bool) -> None:
        end_offset = self.volume.begin_compaction()
        self.horizon = self.stamp + 1 if is_forgetful else 0
        self.copy = Copy(
            self.disk,
            DIRECTORY,
            uuid=self.volume.uuid,
            generation=self.volume.generation,
            end_offset=end_offset,
            horizon=self.horizon,
        )

    @precondition(lambda self: self.copy is not None and not self.is_copied)
    @rule()
    def step(self) -> None:
        assert self.copy is not None
        self.is_copied = not self.copy.step()
        if self.is_copied:
            assert self.copy.damaged_count == 0
            self.copy.close()

    @precondition(lambda self: self.copy is not None and not self.is_copied)
    @rule()
    def finish_copy(self) -> None:
        while not self.is_copied:
            self.step()

    @precondition(lambda self: self.copy is not None)
    @rule()
    def give_copy_up(self) -> None:
        assert self.copy is not None
        self.copy.remove()
        self.copy, self.is_copied = None, False

    @precondition(lambda self: self.is_copied)
    @rule()
    def begin_switch(self) -> None:
        assert self.copy is not None
        copy = self.copy
        self.forget_compaction()
        self.under_way = GenerationSwitch(
            self.volume, self.disk, generation=copy.generation, end_offset=copy.end_offset
        )

    @precondition(lambda self: self.under_way is not None)
    @rule()
    def catch_up(self) -> None:
        assert self.under_way is not None
        self.under_way.catch_up()
        self.under_way.flush()

    @precondition(lambda self: self.under_way is not None)
    @rule()
    def abandon(self) -> None:
        assert self.under_way is not None
        self.under_way.abandon()
        self.forget_compaction()

    @precondition(lambda self: self.under_way is not None)
    @rule()
    def switch(self) -> None:
        assert self.under_way is not None
        before, generation = self.volume.stats(), self.volume.generation
        self.under_way.switch()
        self.forget_compaction()
        after = self.volume.stats()
        assert self.volume.generation == generation + 1
        assert (after.live_count, after.live_bytes) == (before.live_count, before.live_bytes)
        assert after.needle_id_max == before.needle_id_max
        self.check_kept()

    @precondition(lambda self: self.copy is None and self.under_way is None)
    @rule()
    def compact(self) -> None:
        self.begin_copy(False)
        self.finish_copy()
        self.begin_switch()
        self.switch()
        stats = self.volume.stats()
        # Of what was there when it began nothing dead is left but uploads that end later.
        if not self.in_flight:
            assert stats.dead_bytes == 0
            assert stats.dead_count == 0

    def check_kept(self) -> None:
        """Ids that are gone stay gone, and deletions speak for their objects."""
        named = {}
        for record in self.volume.records():
            if record.kind == KIND_TOMBSTONE and record.metadata_size:
                assert record.object_deleted
                assert record.metadata.key == metadata_of(record.needle_id).key
                assert record.needle_id not in named
                named[record.needle_id] = record.stamp
        written = {
            r.needle_id for r in self.volume.records() if r.kind == KIND_DATA and r.state is State.WHOLE
        }
        self.last_deletes = {i: stamp for i, stamp in self.last_deletes.items() if stamp >= self.horizon}
        for needle_id, stamp in self.last_deletes.items():
            assert needle_id in written or named.get(needle_id) == stamp
        for needle_id in self.dead - set(self.in_flight):
            with pytest.raises(NeedleVoid):
                self.volume.append(needle_id, metadata_of(needle_id), b"again", stamp=self.stamp + 1)

    @rule(is_index_lost=st.booleans())
    def reopen(self, is_index_lost: bool) -> None:
        if self.under_way is not None:
            self.under_way.abandon()
        self.forget_compaction()
        VolumeModel.reopen(self, is_index_lost)

    @rule()
    def kill(self) -> None:
        self.forget_compaction()
        VolumeModel.kill(self)
        assert self.disk.list(DIRECTORY) == [
            f"g{self.volume.generation}.idx",
            f"g{self.volume.generation}.vol",
            "manifest",
        ]


TestCompactionModel = CompactionModel.TestCase
TestCompactionModel.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)


def test_a_stamp_that_is_folded_while_an_upload_is_open_is_known_after_a_restart() -> None:
    """It goes into the footer of a needle that was copied before: behind the checkpoint of the copy."""
    model = CompactionModel()
    model.make()
    model.put_fresh(byte=0, count=1, size=0)
    model.reserve(byte=0, needle_id=1, size=0)
    (needle_id,) = model.live
    model.restamp(needle_id)
    model.compact()
    model.reopen(is_index_lost=False)
    model.figures_are_exact()
    model.reopen(is_index_lost=True)
    model.teardown()
