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

from catalog import graves, store, upkeep
from errors import StoreError
from rescue import staging
from storage import building, carry
from storage.volume import Volume

Patch = pytest.MonkeyPatch


def forget_that_a_deletion_was_the_last_word(patch: Patch) -> None:
    original = store.Catalog.outbox

    def outbox(self: store.Catalog, volume_id: int, limit: int) -> list[tuple[int, int, bool]]:
        return [(needle_id, stamp, False) for needle_id, stamp, _ in original(self, volume_id, limit)]

    patch.setattr(store.Catalog, "outbox", outbox)


def drop_records_of_deletions_too_early(patch: Patch) -> None:
    patch.setattr(store.Catalog, "tombstone_horizon", store.Catalog.stamp_max)


def commit_below_a_deletion(patch: Patch) -> None:
    patch.setattr(graves.Graves, "bound", lambda self, bucket_id, key: 0)


def answer_before_the_new_stamp_is_written(patch: Patch) -> None:
    patch.setattr(Volume, "restamp", lambda self, needle_id, *, stamp: None)


def answer_before_the_sync(patch: Patch) -> None:
    patch.setattr(Volume, "sync", lambda self: None)


def use_ids_again_that_a_compaction_forgot(patch: Patch) -> None:
    patch.setattr(building.NextGeneration, "void", lambda self, content, stamp: None)


def keep_deletions_without_their_names(patch: Patch) -> None:
    patch.setattr(building.NextGeneration, "carry_deletion", lambda self, needle_id, metadata, stamp: 0)


def forget_buckets_in_a_compaction(patch: Patch) -> None:
    patch.setattr(carry.Carrier, "_take_bucket", lambda self, record: None)


def give_up_needles_that_something_names_by_now(patch: Patch) -> None:
    def void_orphans(self: upkeep.Upkeep, volume_id: int, needle_ids: list[int], stamp: int) -> list[int]:
        self._discard([(volume_id, needle_id) for needle_id in needle_ids], stamp, "void")
        return list(needle_ids)

    patch.setattr(store.Transaction, "void_orphans", void_orphans)


def rebuild_without_asking_when_keys_were_deleted(patch: Patch) -> None:
    original = staging.Staging.versions

    def versions(self: staging.Staging) -> Iterator[tuple[staging.Version, int]]:
        return ((version, -1) for version, _ in original(self))

    patch.setattr(staging.Staging, "versions", versions)


def rebuild_in_the_order_of_needle_ids(patch: Patch) -> None:
    patch.setattr(staging.Staging, "add_restamp", lambda self, place, stamp: None)


BUGS: list[Callable[[Patch], None]] = [
    forget_that_a_deletion_was_the_last_word,
    drop_records_of_deletions_too_early,
    commit_below_a_deletion,
    answer_before_the_new_stamp_is_written,
    answer_before_the_sync,
    use_ids_again_that_a_compaction_forgot,
    keep_deletions_without_their_names,
    forget_buckets_in_a_compaction,
    give_up_needles_that_something_names_by_now,
    rebuild_without_asking_when_keys_were_deleted,
    rebuild_in_the_order_of_needle_ids,
]

# These take the model a while: they need a catalog that is lost at the right moment.
SLOW = (drop_records_of_deletions_too_early, keep_deletions_without_their_names, commit_below_a_deletion)
CASES = [pytest.param(bug, marks=pytest.mark.long) if bug in SLOW else bug for bug in BUGS]

EXAMPLES = 1000


@pytest.mark.timeout(900)
@pytest.mark.parametrize("bug", CASES)
def test_a_planted_bug_is_caught(bug: Callable[[Patch], None], monkeypatch: Patch) -> None:
    bug(monkeypatch)
    # The first failure is enough, and always the same.
    quick = settings(common, max_examples=EXAMPLES, phases=[Phase.generate], derandomize=True, database=None)
    with pytest.raises((AssertionError, StoreError)):
        run_state_machine_as_test(StoreModel, settings=quick)
