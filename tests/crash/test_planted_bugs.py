"""Planted bugs: the histories that prove the volume must also convict one that cheats.

Each case breaks one rule the way it is broken in practice, and random histories with power cuts have to
notice.  A test that stays green under its planted bug would prove nothing about the real code.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from simdisk import SimDisk
from test_simulated_cuts import Cutter
from warehouse.errors import StoreError
from warehouse.storage import files, recovery, volume
from warehouse.storage.compaction import generation_switch, next_generation, record_copier
from warehouse.storage.entries import EntryTable
from warehouse.storage.index import IndexFile, Tally
from warehouse.storage.scan import State
from warehouse.storage.volume import Volume
from warehouse.storage.writing.state import VolumeState
from warehouse.storage.writing.syncing import BegunSync, Syncing

Patch = pytest.MonkeyPatch


def acknowledge_before_the_sync(patch: Patch) -> None:
    def sync(self: Volume) -> None:
        pass

    patch.setattr(Volume, "sync", sync)


def write_index_entries_at_once(patch: Patch) -> None:
    """The entry is on disk while the needle is not: a needle that a cut took away counts as damaged."""

    def put(self: EntryTable, needle_id: int, entry: bytes) -> None:
        assert self.index is not None
        self.index.put_many({needle_id: entry})

    patch.setattr(EntryTable, "put", put)


def move_the_checkpoint_before_the_entries_are_durable(patch: Patch) -> None:
    original = IndexFile.put_header

    def put_header(self: IndexFile, header: object) -> None:
        original(self, header)  # type: ignore[arg-type]
        self._file.fdatasync()

    def sync(self: IndexFile) -> None:
        pass

    def put_many(self: IndexFile, entries: object) -> None:
        """Entries that stay in memory only."""

    patch.setattr(IndexFile, "put_header", put_header)
    patch.setattr(IndexFile, "sync", sync)
    patch.setattr(IndexFile, "put_many", put_many)


def move_the_checkpoint_past_open_extents(patch: Patch) -> None:
    def settled(self: VolumeState) -> tuple[int, Tally]:
        return self.tail, self.tally.copy()

    patch.setattr(VolumeState, "settled", settled)


def count_from_now_instead_of_from_the_checkpoint(patch: Patch) -> None:
    original = VolumeState.settled

    def settled(self: VolumeState) -> tuple[int, Tally]:
        return original(self)[0], self.tally.copy()

    patch.setattr(VolumeState, "settled", settled)


def cut_everything_behind_a_bad_record(patch: Patch) -> None:
    original = recovery.Recovery.run

    def run(self: recovery.Recovery, records: object) -> None:
        def up_to_the_first_bad_one():
            for record in records:  # type: ignore[attr-defined]
                if record.state is not State.WHOLE:
                    return
                yield record

        original(self, up_to_the_first_bad_one())

    patch.setattr(recovery.Recovery, "run", run)


def forget_tombstones_on_open(patch: Patch) -> None:
    patch.setattr(recovery.Recovery, "_apply_tombstone", recovery.Recovery._count_dead)


def believe_headers_without_their_footers(patch: Patch) -> None:
    """Serves needles whose data never came."""
    original = recovery.Recovery._take

    def take(self: recovery.Recovery, record: object) -> None:
        if record.state is not State.GAP:  # type: ignore[attr-defined]
            record.state = State.WHOLE  # type: ignore[attr-defined]
        original(self, record)  # type: ignore[arg-type]

    patch.setattr(recovery.Recovery, "_take", take)


def take_every_torn_write_for_damage(patch: Patch) -> None:
    patch.setattr(recovery.Recovery, "_cut_tail", lambda self: None)
    patch.setattr(recovery.Recovery, "_was_synced", lambda self, record: record.state is not State.UNFINISHED)


def forget_torn_stretches(patch: Patch) -> None:
    """No note: the next rebuild of the index takes them for damage."""
    patch.setattr(volume, "encode_note", lambda torn: [])


def reuse_the_place_of_synced_bytes(patch: Patch) -> None:
    """The watermark passes open extents, which are then taken back."""

    def settled(self: VolumeState) -> tuple[int, Tally]:
        for first in self.in_flight.values():
            return self.tail, first.before.copy()
        return self.tail, self.tally.copy()

    patch.setattr(VolumeState, "settled", settled)


def skip_the_sync_of_the_directory(patch: Patch) -> None:
    patch.setattr(SimDisk, "sync_directory", lambda self, path: None)


def leave_the_torn_end_in_place(patch: Patch) -> None:
    """New needles go behind the torn end, as if it were a record."""
    original = recovery.Recovery._cut_tail

    def keep(self: recovery.Recovery) -> None:
        tail = self.tail
        original(self)
        self.tally.dead_bytes += tail - self.tail
        self.tail = tail

    patch.setattr(recovery.Recovery, "_cut_tail", keep)


def promise_more_than_the_kernel_was_asked_for(patch: Patch) -> None:
    """What came while the kernel synced gets its entries and the watermark, too."""

    def end_sync(self: Syncing, begun: BegunSync, error: OSError | None) -> bool:
        with self._state.lock:
            self._forget_begun(begun)
            reach, _ = self._state.settled()
            batch = self._state.generation.entries.begin_flush()
        return self._end_flush(batch, reach)

    patch.setattr(Syncing, "end_sync", end_sync)


# --- in compactions -------------------------------------------------------------------------------


def publish_before_the_copy_is_durable(patch: Patch) -> None:
    original = generation_switch.GenerationSwitch._publish

    def publish(self: generation_switch.GenerationSwitch) -> str | None:
        problem = original(self)
        self._next.checkpoint()
        return problem

    patch.setattr(generation_switch.GenerationSwitch, "_publish", publish)
    patch.setattr(generation_switch.GenerationSwitch, "flush", lambda self: None)
    patch.setattr(next_generation.NextGeneration, "sync", lambda self: None)
    patch.setattr(next_generation.NextGeneration, "checkpoint", next_generation.NextGeneration.checkpoint)


def remove_the_old_generation_first(patch: Patch) -> None:
    original = generation_switch.GenerationSwitch._publish

    def publish(self: generation_switch.GenerationSwitch) -> str | None:
        directory, generation = self._volume.directory, self._volume.generation
        for path in (files.data_path(directory, generation), files.index_path(directory, generation)):
            self._disk.remove(path)
        return original(self)

    patch.setattr(generation_switch.GenerationSwitch, "_publish", publish)


def replace_two_names_instead_of_one(patch: Patch) -> None:
    """The manifest goes first, and whoever finds the data file missing makes do with the old one."""

    def publish(disk: SimDisk, directory: str, identity: object) -> None:
        files.write_file(disk, files.manifest_path(directory), files.encode_manifest(identity))  # type: ignore[arg-type]

    patch.setattr(generation_switch, "publish", publish)
    patch.setattr(next_generation, "create_generation", _create_without_syncing_names)


def _create_without_syncing_names(disk: SimDisk, directory: str, identity: object) -> None:
    silent = disk.sync_directory
    disk.sync_directory = lambda path: None  # type: ignore[method-assign]
    try:
        files.create_generation(disk, directory, identity)  # type: ignore[arg-type]
    finally:
        disk.sync_directory = silent  # type: ignore[method-assign]


def miss_what_came_behind_the_copy(patch: Patch) -> None:
    patch.setattr(generation_switch.GenerationSwitch, "catch_up", lambda self: 0)
    patch.setattr(generation_switch.GenerationSwitch, "_compare", lambda self: None)


def lose_deletions_behind_the_copy(patch: Patch) -> None:
    patch.setattr(record_copier.RecordCopier, "_take_tombstone", lambda self, record: None)
    patch.setattr(generation_switch.GenerationSwitch, "_compare", lambda self: None)


def lose_newer_stamps(patch: Patch) -> None:
    patch.setattr(next_generation.NextGeneration, "fold_stamp", lambda self, needle_id, stamp: None)


def forget_which_ids_are_gone(patch: Patch) -> None:
    patch.setattr(next_generation.NextGeneration, "void", lambda self, content, stamp: None)


COMPACTION_BUGS: list[Callable[[Patch], None]] = [
    publish_before_the_copy_is_durable,
    remove_the_old_generation_first,
    replace_two_names_instead_of_one,
    miss_what_came_behind_the_copy,
    lose_deletions_behind_the_copy,
    lose_newer_stamps,
    forget_which_ids_are_gone,
]

BUGS: list[Callable[[Patch], None]] = [
    acknowledge_before_the_sync,
    write_index_entries_at_once,
    move_the_checkpoint_before_the_entries_are_durable,
    move_the_checkpoint_past_open_extents,
    count_from_now_instead_of_from_the_checkpoint,
    cut_everything_behind_a_bad_record,
    forget_tombstones_on_open,
    believe_headers_without_their_footers,
    take_every_torn_write_for_damage,
    forget_torn_stretches,
    reuse_the_place_of_synced_bytes,
    skip_the_sync_of_the_directory,
    leave_the_torn_end_in_place,
    promise_more_than_the_kernel_was_asked_for,
]


def random_history(chance: random.Random, *, is_compacting: bool = False) -> list[tuple[str, object]]:
    names = ["put", "put", "sync", "sync", "checkpoint", "delete", "restamp", "reserve", "write", "finish"]
    names += ["begin_sync", "end_sync", "put_together"]
    if is_compacting:
        names += ["copy", "switch", "put_void"]
    history: list[tuple[str, object]] = []
    for _ in range(chance.randrange(5, 25)):
        name = chance.choice([*names, "abort", "reopen"])
        argument: object = None
        if name in ("put", "reserve"):
            argument = chance.choice([0, 100, 512, 700, 4096, 5000])
        elif name == "put_together":
            argument = tuple(chance.choice([0, 100, 4096, 5000]) for _ in range(3))
        elif name == "write":
            argument = chance.choice([0.3, 1.0])
        history.append((name, argument))
    return history


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_caught(bug: Callable[[Patch], None], monkeypatch: Patch) -> None:
    bug(monkeypatch)
    with pytest.raises((AssertionError, StoreError)):
        run_histories(1000)


@pytest.mark.parametrize("bug", COMPACTION_BUGS)
def test_a_planted_bug_in_compactions_is_caught(bug: Callable[[Patch], None], monkeypatch: Patch) -> None:
    bug(monkeypatch)
    with pytest.raises((AssertionError, StoreError, KeyError, pytest.fail.Exception)):
        run_histories(500, is_compacting=True)


def test_without_a_bug_the_same_histories_pass() -> None:
    run_histories(150)
    run_histories(100, is_compacting=True)


def run_histories(count: int, *, is_compacting: bool = False) -> None:
    for seed in range(count):
        Cutter(seed).run(random_history(random.Random(seed), is_compacting=is_compacting))
