"""Planted bugs: the model of the store has to notice one that breaks a rule of its protocol.

Each breaks one rule in the real code, the way such rules are broken in practice.  A model that stays green
under them would prove nothing about the code without them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from test_store_model import StoreModel, common
from warehouse.catalog.records import Garbage
from warehouse.catalog.sqlite import catalog, cross_check, deletion_stamps, upkeep
from warehouse.errors import StoreError
from warehouse.rescue import staging
from warehouse.storage.compaction import next_generation, record_copier
from warehouse.storage.volume import Volume

Patch = pytest.MonkeyPatch


def forget_that_a_deletion_was_the_last_word(patch: Patch) -> None:
    original = catalog.SqliteCatalog.outbox

    def outbox(self: catalog.SqliteCatalog, volume_id: int, limit: int) -> list[Garbage]:
        return [garbage._replace(reason="replaced") for garbage in original(self, volume_id, limit)]

    patch.setattr(catalog.SqliteCatalog, "outbox", outbox)


def drop_records_of_deletions_too_early(patch: Patch) -> None:
    patch.setattr(catalog.SqliteCatalog, "tombstone_horizon", catalog.SqliteCatalog.stamp_max)


def forget_what_waits_for_its_tombstone(patch: Patch) -> None:
    """The horizon of records that are needed is where all volumes were swept to, whatever has no tombstone yet."""
    patch.setattr(cross_check, "_HORIZON", "SELECT coalesce(min(swept_stamp), 0) FROM volumes")


def forget_what_waits_unseen(patch: Patch) -> None:
    """Only what was visible once, although others tell by their stamp nothing of how old their needle is."""
    patch.setattr(
        cross_check,
        "_HORIZON",
        "SELECT min(stamp) FROM (SELECT coalesce(min(swept_stamp), 0) AS stamp FROM volumes"
        " UNION ALL SELECT stamp FROM outbox)",
    )


def commit_below_a_deletion(patch: Patch) -> None:
    patch.setattr(deletion_stamps.DeletionStamps, "bound", lambda self, bucket_id, key: 0)


def forget_deletions_of_before(patch: Patch) -> None:
    """Only those count that are remembered one by one."""

    def bound(self: deletion_stamps.DeletionStamps, bucket_id: int, key: str) -> int:
        return self._stamps.get((bucket_id, key), 0)

    patch.setattr(deletion_stamps.DeletionStamps, "bound", bound)


def answer_before_the_new_stamp_is_written(patch: Patch) -> None:
    patch.setattr(Volume, "restamp", lambda self, needle_id, *, stamp: None)


def answer_before_the_sync(patch: Patch) -> None:
    patch.setattr(Volume, "sync", lambda self: None)


def use_ids_again_that_a_compaction_forgot(patch: Patch) -> None:
    patch.setattr(next_generation.NextGeneration, "void", lambda self, content, stamp: None)


def keep_deletions_without_their_names(patch: Patch) -> None:
    patch.setattr(next_generation.NextGeneration, "copy_deletion", lambda self, needle_id, metadata, stamp: 0)


def forget_buckets_in_a_compaction(patch: Patch) -> None:
    patch.setattr(record_copier.RecordCopier, "_copy_buckets", lambda self, end: None)


def give_up_needles_that_something_names_by_now(patch: Patch) -> None:
    def void_orphans(self: upkeep.Upkeep, volume_id: int, needle_ids: list[int], stamp: int) -> list[int]:
        self._discard([(volume_id, needle_id) for needle_id in needle_ids], stamp, "void")
        return list(needle_ids)

    patch.setattr(catalog.SqliteTransaction, "void_orphans", void_orphans)


def rebuild_without_asking_when_keys_were_deleted(patch: Patch) -> None:
    original = staging.Staging.versions

    def versions(self: staging.Staging) -> Iterator[tuple[staging.Version, int]]:
        return ((version, -1) for version, _ in original(self))

    patch.setattr(staging.Staging, "versions", versions)


def rebuild_in_the_order_of_needle_ids(patch: Patch) -> None:
    patch.setattr(staging.Staging, "add_restamp", lambda self, place, stamp: None)


def rebuild_without_what_the_old_catalog_gave_up(patch: Patch) -> None:
    patch.setattr(staging.Staging, "add_pending_deletion", lambda self, place, stamp, reason: None)


BUGS: list[Callable[[Patch], None]] = [
    forget_that_a_deletion_was_the_last_word,
    drop_records_of_deletions_too_early,
    forget_what_waits_for_its_tombstone,
    commit_below_a_deletion,
    forget_deletions_of_before,
    answer_before_the_new_stamp_is_written,
    answer_before_the_sync,
    use_ids_again_that_a_compaction_forgot,
    keep_deletions_without_their_names,
    forget_buckets_in_a_compaction,
    give_up_needles_that_something_names_by_now,
    rebuild_without_asking_when_keys_were_deleted,
    rebuild_in_the_order_of_needle_ids,
    rebuild_without_what_the_old_catalog_gave_up,
]

EXAMPLES = 1000


@pytest.mark.timeout(900)
@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_caught(bug: Callable[[Patch], None], monkeypatch: Patch) -> None:
    bug(monkeypatch)
    # The first failure is enough, and always the same.
    quick = settings(common, max_examples=EXAMPLES, phases=[Phase.generate], derandomize=True, database=None)
    with pytest.raises((AssertionError, StoreError)):
        run_state_machine_as_test(StoreModel, settings=quick)


# --- bugs that a random history meets once in thousands --------------------------------------------


def take_slots_for_looked_at(patch: Patch) -> None:
    patch.setattr(catalog.SqliteCatalog, "slot_bitmap", lambda self, volume_id, first_id, count: b"")


def forget_the_stamps_of_sweeps(patch: Patch) -> None:
    def set_swept(self: upkeep.Upkeep, volume_id: int, stamp: int) -> None:
        self._change_volume("UPDATE volumes SET swept_stamp = ? WHERE id = ?", stamp, volume_id)

    patch.setattr(catalog.SqliteTransaction, "set_swept", set_swept)


def history_of_an_orphan_that_was_given_up(model: StoreModel) -> None:
    model.begin_put_and_crash("photos", "a", 1)
    model.put_here("photos", "a", 3)
    model.delete("photos", "a", "", 0, True)
    model.look_everywhere(is_late=False)
    model.look_everywhere(is_late=True)


def history_of_a_chunk_that_was_not_confirmed(model: StoreModel) -> None:
    model.store.skew_ms = 600_000
    model.begin_upload("photos", "a", [9], "", True, "begun", 1)
    model.store.skew_ms = 0
    model.go_on_with_an_upload(0, 1, "chunk")
    model.crash_and_be_back(1)
    model.put_here("photos", "a", 3)
    model.delete("photos", "a", "", 0, True)
    model.look_everywhere(is_late=False)


def history_of_clocks_that_were_set_back(model: StoreModel) -> None:
    model.store.skew_ms = 600_000
    model.look_everywhere(is_late=False)
    model.store.skew_ms = 0
    for volume_id in (1, 3):
        model.crashed(model.disk(volume_id), has_power=True)
    model.store.restart_master()
    model.be_back()
    model.begin_put_and_crash("photos", "a", 1)
    model.put_here("photos", "a", 3)
    model.delete("photos", "a", "", 0, True)


RARE_BUGS = [
    (forget_what_waits_unseen, history_of_an_orphan_that_was_given_up),
    (take_slots_for_looked_at, history_of_a_chunk_that_was_not_confirmed),
    (forget_the_stamps_of_sweeps, history_of_clocks_that_were_set_back),
]


def run_history(history: Callable[[StoreModel], None]) -> None:
    """A history on which a record of a deletion hangs, up to the rebuild that needs it."""
    model = StoreModel()
    try:
        model.set_out(seed=0, skews=(0, 0, 0), stamps_kept=1000, purged=500)
        model.write_tombstones(1, "all")
        history(model)
        model.compact_now(3)
        model.lose_the_catalog(has_power=True)
    finally:
        model.teardown()


@pytest.mark.parametrize(("bug", "history"), RARE_BUGS)
def test_a_rare_planted_bug_is_caught(
    bug: Callable[[Patch], None], history: Callable[[StoreModel], None], monkeypatch: Patch
) -> None:
    run_history(history)
    bug(monkeypatch)
    with pytest.raises(AssertionError):
        run_history(history)
