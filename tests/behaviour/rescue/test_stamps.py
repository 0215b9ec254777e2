"""Stamps that no sound clock shows: a rebuild tells of them, deals them out anew, and the store can be written."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from rescue_kit import CREATED_MS, PHOTOS, Disk, rebuilt
from warehouse.catalog.sqlite.catalog import SqliteCatalog
from warehouse.storage.disk import OsDisk
from warehouse.storage.files import volume_directory
from warehouse.storage.format.needle import NeedleMetadata
from warehouse.storage.format.stamp import STAMP_KEPT_MAX, STAMP_SOUND_MAX, StampClock
from warehouse.storage.volume import Volume

BEYOND = [STAMP_KEPT_MAX + 1, STAMP_SOUND_MAX, STAMP_SOUND_MAX + 1, 2**63 - 1, 2**63, 2**64 - 1]
NOW = time.time_ns() // 1_000_000 << 16


def put(disk: Disk, needle_id: int, key: str, data: bytes, stamp: int) -> None:
    disk.volume.append(needle_id, NeedleMetadata("photos", PHOTOS, key, CREATED_MS), data, stamp=stamp)


def objects_of(data: Path) -> dict[str, tuple[int, int]]:
    """By key: the needle that counts, and its stamp."""
    catalog = SqliteCatalog.open(data / "master" / "catalog.sqlite3")
    try:
        bucket_id = catalog.bucket("photos").id
        return {row.key: (row.needle_id, row.stamp) for row in catalog.list_objects(bucket_id).objects}
    finally:
        catalog.close()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.mark.parametrize("stamp", BEYOND)
def test_a_rebuild_deals_stamps_that_cannot_be_out_anew_in_the_order_of_the_volume(
    data: Path, stamp: int
) -> None:
    disk = Disk(data, 1)
    put(disk, 1, "a", b"older", NOW)
    put(disk, 2, "a", b"newer", stamp)
    put(disk, 3, "b", b"first", stamp)
    put(disk, 4, "b", b"second", stamp)
    put(disk, 5, "c", b"poisoned", stamp)
    put(disk, 6, "c", b"sound again", NOW + 1000)
    put(disk, 7, "d", b"gone", NOW + 1001)
    disk.volume.delete(7, stamp=stamp, object_deleted=True)
    disk.close()
    for _ in range(2):  # and again, as if the first had never been
        report = rebuilt(data, replace=True)
        found = objects_of(data)
        assert {key: needle_id for key, (needle_id, _) in found.items()} == {"a": 2, "b": 4, "c": 6}
        assert all(NOW <= found_stamp <= NOW + 1100 for _, found_stamp in found.values())
        mended = [lost for lost in report.damaged if lost.is_mended]
        assert {lost.needle_id for lost in mended} >= {2, 3, 4, 5}
        assert (mended[0].bucket, mended[0].key) == ("photos", "a")
        catalog = SqliteCatalog.open(data / "master" / "catalog.sqlite3")
        try:
            assert catalog.stamp_max() <= NOW + 1100
            assert catalog.damage_count() == 0
            clock = StampClock()
            clock.found(catalog.stamp_max())
            assert clock.tick(0) > NOW
        finally:
            catalog.close()


@pytest.mark.parametrize("stamp", BEYOND)
def test_a_volume_that_holds_such_a_stamp_tells_of_those_that_can_be(data: Path, stamp: int) -> None:
    disk = Disk(data, 1)
    put(disk, 1, "a", b"sound", NOW)
    put(disk, 2, "b", b"poisoned", stamp)
    disk.volume.checkpoint()
    disk.close()
    for _ in range(2):
        volume = Volume.open(OsDisk(disk.root), volume_directory(1))
        assert volume.stats().stamp_max == NOW
        assert volume.read(2).data == b"poisoned"
        assert volume.recovery.damages == ()
        volume.close()


def test_what_an_old_catalog_had_given_up_with_such_a_stamp_does_not_hide_what_is_put_later(
    data: Path,
) -> None:
    disk = Disk(data, 1)
    put(disk, 1, "a", b"deleted", NOW)
    disk.close()
    rebuilt(data)
    path = data / "master" / "catalog.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO outbox VALUES (1, 1, ?, 'deleted')", (2**63 - 1,))
        connection.execute("UPDATE facts SET value = ? WHERE name = 'stamp_max'", (2**63 - 1,))
        connection.commit()
    rebuilt(data, replace=True)
    catalog = SqliteCatalog.open(path)
    try:
        assert catalog.stamp_max() < NOW * 2
        assert [stamp for _, stamp, _ in catalog.outbox(1, 10)] == [NOW]
    finally:
        catalog.close()


def test_stamps_of_a_clock_that_was_a_year_ahead_keep_their_order(data: Path) -> None:
    ahead = NOW + (365 * 24 * 3600 * 1000 << 16)
    disk = Disk(data, 1)
    put(disk, 1, "a", b"ahead", ahead)
    put(disk, 2, "a", b"replaced", NOW)
    disk.close()
    report = rebuilt(data)
    assert objects_of(data) == {"a": (1, ahead)}
    assert any("days ahead" in remark for remark in report.remarks)


@pytest.mark.parametrize("stamp", [STAMP_KEPT_MAX, STAMP_KEPT_MAX + 1, STAMP_SOUND_MAX])
def test_a_store_that_was_rebuilt_beside_the_greatest_stamp_can_be_written_and_started_again(
    data: Path, stamp: int
) -> None:
    disk = Disk(data, 1)
    put(disk, 1, "a", b"sound", NOW)
    put(disk, 2, "b", b"poisoned", stamp)
    disk.close()
    for _ in range(3):
        rebuilt(data, replace=True)
        catalog = SqliteCatalog.open(data / "master" / "catalog.sqlite3")
        try:
            clock = StampClock()
            clock.found(catalog.stamp_max())
            for _ in range(1000):
                written = clock.tick(0)
        finally:
            catalog.close()
        StampClock().found(written)  # as a master does that is started again
        volume = Volume.open(OsDisk(disk.root), volume_directory(1))
        assert StampClock().admit(volume.stats().stamp_max, written >> 16) is None
        volume.close()
