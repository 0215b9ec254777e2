"""Whoever is behind is told so: disks by catalogs, catalogs by disks; a crash between two steps never is."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from warehouse.storage.epoch import NEVER, Claim, Known, Verdict, judge, next_offer
from warehouse.storage.identity import IdentityKeeper, load_identity

OURS, OTHER = 77, 88
STAMP = 1000


class Disk:
    """What a disk has written down, and how it registers."""

    def __init__(self) -> None:
        self.epoch = self.offered = NEVER
        self.catalog_id = 0
        self.heard = 0

    def copy(self) -> Disk:
        other = Disk()
        other.__dict__.update(self.__dict__)
        return other


class Catalog:
    def __init__(self, catalog_id: int = OURS) -> None:
        self.catalog_id = catalog_id
        self.epoch = NEVER
        self.expected_id = 0
        self.stamp = STAMP

    def copy(self) -> Catalog:
        other = Catalog()
        other.__dict__.update(self.__dict__)
        return other


def register(disk: Disk, catalog: Catalog, *, crash_after: int = 3, can_write: bool = True) -> Verdict:
    offer = next_offer(disk.epoch, disk.offered) if can_write else NEVER
    if can_write:
        disk.offered = offer
    if crash_after == 1:
        return Verdict.AGREE
    verdict = judge(
        Known(catalog.epoch, catalog.expected_id, catalog.stamp),
        Claim(disk.epoch, offer, disk.catalog_id, disk.heard),
        catalog_id=catalog.catalog_id,
    )
    if verdict is Verdict.RAISE:
        catalog.epoch, catalog.expected_id = offer, 0
    if crash_after == 2 or verdict in (Verdict.DISK_BEHIND, Verdict.CATALOG_BEHIND):
        return verdict
    if catalog.epoch == offer != NEVER:
        if disk.catalog_id != catalog.catalog_id:
            disk.heard = 0
        disk.epoch, disk.offered, disk.catalog_id = offer, NEVER, catalog.catalog_id
    return verdict


def registered(times: int = 3) -> tuple[Disk, Catalog]:
    disk, catalog = Disk(), Catalog()
    for _ in range(times):
        assert register(disk, catalog) is Verdict.RAISE
    return disk, catalog


def test_every_registration_is_counted_on_both_sides() -> None:
    disk, catalog = registered(5)
    assert disk.epoch == catalog.epoch
    assert disk.epoch.number == 5


@pytest.mark.parametrize("crashes", [[1], [2], [1, 2], [2, 1, 2, 2], [2, 2, 2]])
def test_a_crash_between_the_steps_never_locks_an_honest_disk_out(crashes: list[int]) -> None:
    disk, catalog = registered()
    for crash in crashes:
        assert register(disk, catalog, crash_after=crash) in (Verdict.RAISE, Verdict.AGREE)
    assert register(disk, catalog) in (Verdict.RAISE, Verdict.AGREE)
    assert register(disk, catalog) is Verdict.RAISE
    assert disk.epoch == catalog.epoch


def test_the_very_first_registration_may_crash_at_every_step_as_well() -> None:
    for crash in (1, 2):
        disk, catalog = Disk(), Catalog()
        register(disk, catalog, crash_after=crash)
        assert register(disk, catalog) in (Verdict.RAISE, Verdict.AGREE)
        assert register(disk, catalog) is Verdict.RAISE


def test_a_disk_that_was_rolled_back_is_behind() -> None:
    disk, catalog = registered()
    older = disk.copy()
    register(disk, catalog)
    assert register(older, catalog) is Verdict.DISK_BEHIND
    for _ in range(3):
        register(disk, catalog)
    assert register(older, catalog) is Verdict.DISK_BEHIND


def test_of_two_copies_the_one_that_registers_second_is_behind() -> None:
    disk, catalog = registered()
    twin = disk.copy()
    assert register(twin, catalog) is Verdict.RAISE
    assert register(disk, catalog) is Verdict.DISK_BEHIND


def test_a_catalog_that_was_rolled_back_is_behind() -> None:
    disk, catalog = registered()
    older = catalog.copy()
    register(disk, catalog)
    assert register(disk, older) is Verdict.CATALOG_BEHIND


def test_a_catalog_that_lost_commits_since_the_latest_registration_is_behind() -> None:
    disk, catalog = registered()
    disk.heard = catalog.stamp = STAMP + 5
    assert register(disk, catalog) is Verdict.RAISE
    catalog.stamp = STAMP
    assert register(disk, catalog) is Verdict.CATALOG_BEHIND


def test_a_catalog_from_before_anything_was_counted_is_behind_a_disk_that_was() -> None:
    disk, _ = registered()
    assert register(disk, Catalog(OTHER)) is Verdict.CATALOG_BEHIND


def test_a_disk_from_before_anything_was_counted_is_taken_in_once_and_behind_afterwards() -> None:
    disk, catalog = Disk(), Catalog()
    older = disk.copy()
    assert register(disk, catalog) is Verdict.RAISE
    assert register(older, catalog) is Verdict.DISK_BEHIND


def test_a_rebuilt_catalog_knows_its_disks_and_the_one_before_it_is_behind_from_then_on() -> None:
    disk, before = registered()
    rebuilt = Catalog(OTHER)
    rebuilt.epoch, rebuilt.expected_id = disk.epoch, disk.catalog_id
    disk.heard = before.stamp + 10**6  # of the catalog before: tells nothing of this one
    assert register(disk, rebuilt) is Verdict.RAISE
    assert register(disk, rebuilt) is Verdict.RAISE
    assert register(disk, before) is Verdict.CATALOG_BEHIND


def test_a_rebuilt_catalog_takes_a_disk_whose_latest_registration_broke_off() -> None:
    disk, before = registered()
    register(disk, before, crash_after=2)
    rebuilt = Catalog(OTHER)
    rebuilt.epoch, rebuilt.expected_id = disk.epoch, disk.catalog_id
    assert register(disk, rebuilt) is Verdict.RAISE
    # And where the rebuilt catalog takes what was offered to the one before.
    disk, before = registered()
    register(disk, before, crash_after=2)
    rebuilt = Catalog(OTHER)
    rebuilt.epoch, rebuilt.expected_id = disk.offered, disk.catalog_id
    assert register(disk, rebuilt) is Verdict.AGREE
    assert register(disk, rebuilt) is Verdict.RAISE


def test_a_disk_that_cannot_write_is_taken_and_not_counted() -> None:
    disk, catalog = registered()
    assert register(disk, catalog, can_write=False) is Verdict.AGREE
    assert register(disk, catalog) is Verdict.RAISE


# --- what a disk keeps ------------------------------------------------------------------------------


def keeper_of(root: Path) -> IdentityKeeper:
    return IdentityKeeper(root, load_identity(root, created_ms=1))


def test_an_offer_lasts_until_it_is_answered_and_is_not_made_twice(tmp_path: Path) -> None:
    first = keeper_of(tmp_path).offer()
    assert first.number == 1
    again = keeper_of(tmp_path)
    assert again.offer() == first
    again.confirm(first, 5)
    later = keeper_of(tmp_path)
    assert (later.identity.current, later.identity.offer, later.identity.catalog_id) == (first, NEVER, 5)
    assert later.offer().number == 2
    assert later.problem() is None


def test_what_was_heard_of_one_catalog_is_nothing_to_another(tmp_path: Path) -> None:
    keeper = keeper_of(tmp_path)
    keeper.confirm(keeper.offer(), 5)
    keeper.heard(5, 100)
    keeper.heard(5, 50)
    keeper.heard(6, 1000)
    assert keeper_of(tmp_path).identity.heard_stamp == 100
    keeper.confirm(keeper.offer(), 6)
    assert keeper_of(tmp_path).identity.heard_stamp == 0


def test_an_identity_of_a_release_that_did_not_count_reads_as_never(tmp_path: Path) -> None:
    identity = load_identity(tmp_path, created_ms=1)
    path = tmp_path / "disk.json"
    old = {"format": 1, "disk_id": identity.disk_id, "created_ms": 1, "inode": identity.inode}
    path.write_bytes(msgspec.json.encode(old))
    assert load_identity(tmp_path, created_ms=2).current == NEVER


def remove(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    path.rename(path.with_name("aside"))
    path.write_bytes(path.with_name("aside").read_bytes())


@pytest.mark.parametrize("harm", [remove, replace])
def test_an_identity_that_is_not_there_any_more_is_not_made_anew(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    keeper = keeper_of(tmp_path)
    path = tmp_path / "disk.json"
    harm(path)
    before = path.read_bytes() if path.exists() else None
    assert keeper.problem() is not None
    assert keeper.offer() == NEVER
    assert (path.read_bytes() if path.exists() else None) == before


def test_a_disk_that_cannot_be_written_offers_nothing(tmp_path: Path) -> None:
    keeper = IdentityKeeper(tmp_path, load_identity(tmp_path, created_ms=1), is_read_only=True)
    assert keeper.offer() == NEVER


def test_an_identity_that_may_not_last_is_still_the_disks_own_and_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = keeper_of(tmp_path)
    sync, is_failing = os.fsync, True

    def sync_or_fail(descriptor: int) -> None:
        if is_failing and stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "Input/output error")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", sync_or_fail)
    assert keeper.offer() == NEVER
    assert keeper.problem() is None, "it was not taken away, and no volume is to be sealed for that"
    is_failing = False
    offer = keeper.offer()
    assert offer.number == 1
    assert keeper_of(tmp_path).identity.offer == offer
