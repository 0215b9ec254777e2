"""rescue/ on real volume files, made here without any actor: damage, marks, copies, disks that take no writes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import sqlite3
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from rescue_kit import CREATED_MS, PHOTOS, QUIET, Disk, rebuilt
from warehouse.catalog.sqlite.catalog import SqliteCatalog
from warehouse.errors import (
    BackupCorrupt,
    BadRequest,
    CatalogCorrupt,
    DiskInUse,
    DiskMismatch,
    FormatUnsupported,
    ReadFailed,
    SchemaNewer,
)
from warehouse.rescue.archive import opened_backup
from warehouse.rescue.backup import back_up
from warehouse.rescue.console import NoProgress
from warehouse.rescue.export import ExportReport, export
from warehouse.rescue.restore import restore
from warehouse.rescue.survey import disk_folders
from warehouse.storage.disk import OsDisk
from warehouse.storage.files import volume_directory
from warehouse.storage.format.needle import BucketRecord, NeedleMetadata
from warehouse.storage.identity import DiskLock, load_identity, read_identity
from warehouse.storage.volume import Volume


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def disk(data: Path) -> Disk:
    return Disk(data, 1)


def exported(
    data: Path, to: Path, *, is_resumed: bool = False
) -> tuple[ExportReport, list[dict[str, object]]]:
    report = export(data, to, QUIET, is_resumed=is_resumed)
    return report, [json.loads(line) for line in (to / "export.jsonl").read_text().splitlines()]


@pytest.fixture
def opened(data: Path) -> Iterator[list[SqliteCatalog]]:
    """Catalogs that a test has opened: closed at its end."""
    catalogs: list[SqliteCatalog] = []
    yield catalogs
    for catalog in catalogs:
        catalog.close()


def keys_in(data: Path) -> list[str]:
    catalog = SqliteCatalog.open(data / "master" / "catalog.sqlite3")
    try:
        return [row.key for bucket in catalog.buckets() for row in catalog.list_objects(bucket.id).objects]
    finally:
        catalog.close()


# --- rebuild --------------------------------------------------------------------------------------


def test_what_the_new_catalog_says_of_an_object_is_what_its_needle_says(
    data: Path, disk: Disk, opened: list[SqliteCatalog]
) -> None:
    disk.put(1, "a.txt", b"hello", 10)
    disk.put(2, "old", b"old", 11)
    disk.close()
    rebuilt(data)
    catalog = SqliteCatalog.open(data / "master" / "catalog.sqlite3")
    opened.append(catalog)
    (bucket,) = catalog.buckets()
    assert (bucket.id, bucket.name, bucket.created_ms) == (PHOTOS, "photos", CREATED_MS + 10)
    row = catalog.object(PHOTOS, "a.txt")
    assert row is not None
    assert (row.size, row.stamp, row.created_ms) == (5, 10, CREATED_MS + 10)
    assert (row.content_type, row.metadata) == ("text/plain", {"a": "b"})
    assert (row.volume_id, row.needle_id, row.crc) == (1, 1, 0x9A71BB4C)
    (volume,) = catalog.volumes()
    assert volume.needle_id_reserved >= 2 + 262_144, "tokens of the old master may name greater ids"
    assert catalog.stamp_max() == 11
    with catalog.transaction() as transaction:
        made = transaction.create_bucket("new", CREATED_MS)
    assert made.id > PHOTOS


def test_a_deletion_reaches_the_versions_in_other_volumes(data: Path, disk: Disk) -> None:
    other = Disk(data, 2)
    other.put(1, "key", b"older", 5)
    other.close()
    disk.put(1, "key", b"newer", 10)
    disk.volume.delete(1, stamp=20, object_deleted=True)
    disk.put(2, "kept", b"x", 30)
    disk.close()
    report = rebuilt(data)
    assert keys_in(data) == ["kept"]
    assert report.deleted_objects == 1
    assert report.garbage_needles == 1, "the older version gets a tombstone, too"


def test_after_a_compaction_the_volumes_still_tell_what_was_deleted_and_what_is_newest(
    data: Path, disk: Disk
) -> None:
    other = Disk(data, 2)
    other.put(1, "deleted", b"older", 5)
    other.put(2, "overwritten", b"older", 6)
    other.close()
    disk.put(1, "deleted", b"newer", 10)
    disk.put(2, "overwritten", b"newer", 4)
    disk.volume.restamp(2, stamp=11)
    disk.put(3, "replaced in place", b"older", 12)
    disk.put(4, "replaced in place", b"newer", 13)
    disk.volume.delete(3, stamp=13)
    disk.volume.delete(1, stamp=20, object_deleted=True)
    disk.volume.record_bucket(BucketRecord(9, "empty", CREATED_MS, is_deleted=False), stamp=21)
    disk.compact()
    disk.put(5, "since", b"x", 30)
    disk.close()
    assert disk.volume.generation == 2
    report = rebuilt(data)
    assert keys_in(data) == ["overwritten", "replaced in place", "since"]
    assert (report.buckets, report.damaged_count) == (2, 0)
    catalog = SqliteCatalog.open(data / "master" / "catalog.sqlite3")
    row = catalog.object(PHOTOS, "overwritten")
    catalog.close()
    assert row is not None
    assert (row.volume_id, row.needle_id, row.stamp) == (1, 2, 11)


def test_damage_that_a_compaction_carried_over_is_still_damage(
    data: Path, disk: Disk, tmp_path: Path
) -> None:
    disk.put(1, "bad", b"y" * 1000, 11)
    disk.put(2, "last", b"z", 12)
    disk.volume.sync()
    disk.flip(1, 500)
    disk.compact()
    disk.close()
    report = rebuilt(data)
    assert [(lost.needle_id, lost.key) for lost in report.damaged] == [(1, "bad")]
    assert keys_in(data) == ["bad", "last"]
    assert exported(data, tmp_path / "out")[0].damaged == ["photos/bad"]


def test_bucket_records_bring_back_empty_buckets_and_keep_deleted_ones_dead(data: Path, disk: Disk) -> None:
    disk.put(1, "key", b"in a bucket that was deleted", 10)
    disk.volume.record_bucket(BucketRecord(PHOTOS, "photos", CREATED_MS, is_deleted=True), stamp=20)
    disk.volume.record_bucket(BucketRecord(9, "empty", CREATED_MS, is_deleted=False), stamp=21)
    disk.close()
    report = rebuilt(data)
    assert (report.buckets, report.deleted_buckets, report.objects) == (1, 1, 0)
    assert report.garbage_needles == 1


def test_a_damaged_needle_comes_back_damaged_and_is_reported(data: Path, disk: Disk) -> None:
    disk.put(1, "good", b"x" * 1000, 10)
    disk.put(2, "bad", b"y" * 1000, 11)
    disk.put(3, "last", b"z", 12)
    disk.close()
    disk.flip(2, 500)
    report = rebuilt(data)
    assert keys_in(data) == ["bad", "good", "last"]
    (lost,) = report.damaged
    assert (lost.volume_id, lost.needle_id, lost.bucket, lost.key) == (1, 2, "photos", "bad")
    assert not report.keeps_orphans
    assert any("photos/bad" in line for line in report.lines())


def test_a_needle_whose_header_is_lost_is_reported_and_nothing_incomplete_is_given_up(
    data: Path, disk: Disk
) -> None:
    disk.chunk(1, "film", b"x" * 1000, 10, 0, 2)
    disk.chunk(2, "film", b"y" * 1000, 11, 1, 2)
    disk.put(3, "last", b"z", 12)
    disk.close()
    disk.flip(2, 0)
    report = rebuilt(data)
    assert keys_in(data) == ["last"]
    assert report.incomplete_upload_count == 1
    assert [(lost.needle_id, lost.key) for lost in report.damaged] == [(2, None)]
    assert report.keeps_orphans
    assert report.garbage_needles == 0, "the other chunk may be of use to somebody"


def test_a_needle_stays_dead_when_its_tombstone_is_lost_but_the_index_has_it(data: Path, disk: Disk) -> None:
    disk.put(1, "key", b"x" * 1000, 10)
    disk.put(2, "other", b"y", 11)
    disk.volume.delete(1, stamp=12, object_deleted=True)
    disk.put(3, "last", b"z", 13)
    disk.close()
    disk.offsets[0] = disk.offsets[3] - 40
    disk.flip(0, 0)
    rebuilt(data)
    assert keys_in(data) == ["last", "other"]


def test_a_volume_that_nobody_can_read_is_reported_and_its_id_not_used_again(data: Path, disk: Disk) -> None:
    disk.put(1, "key", b"x", 10)
    disk.close()
    other = Disk(data, 2)
    other.close()
    (other.directory / "manifest").write_bytes(b"ruined")
    other.data_file.write_bytes(b"ruined")
    report = rebuilt(data)
    assert [volume.volume_id for volume in report.unreadable_volumes] == [2]
    assert report.keeps_orphans
    catalog = SqliteCatalog.open(data / "master" / "catalog.sqlite3")
    try:
        with catalog.transaction() as transaction:
            new_id = transaction.add_volume(None, "new", 1 << 30, "disk")
    finally:
        catalog.close()
    assert new_id == 3


def test_an_index_is_made_anew_when_asked_for(data: Path, disk: Disk) -> None:
    disk.put(1, "key", b"x", 10)
    disk.close()
    index = disk.directory / "g1.idx"
    good = index.read_bytes()
    index.write_bytes(good[:8192] + bytes(len(good) - 8192))  # the entries are gone, and nothing says so
    rebuilt(data, indexes=True)
    volume = Volume.open(OsDisk(disk.root), volume_directory(1))
    assert volume.read(1).data == b"x"
    volume.close()


def test_a_rebuild_that_is_interrupted_leaves_the_old_catalog(
    data: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.put(1, "key", b"x", 10)
    disk.close()
    rebuilt(data)
    before = (data / "master" / "catalog.sqlite3").read_bytes()

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("warehouse.rescue.rebuild._add_objects", fail)
    with pytest.raises(KeyboardInterrupt):
        rebuilt(data, replace=True)
    assert (data / "master" / "catalog.sqlite3").read_bytes() == before
    names = {path.name for path in (data / "master").iterdir()}
    assert names == {"catalog.sqlite3", "catalog.sqlite3.lock"}, "and nothing half done beside it"


def test_a_volume_that_is_on_two_disks_is_refused(data: Path, disk: Disk) -> None:
    disk.put(1, "key", b"x", 10)
    disk.close()
    shutil.copytree(disk.root, data / "disk-2")
    with pytest.raises(DiskMismatch, match="same disk"):
        rebuilt(data)
    (data / "disk-2" / "disk.json").unlink()
    load_identity(data / "disk-2", created_ms=CREATED_MS)
    with pytest.raises(DiskMismatch, match="volume 1"):
        rebuilt(data)


@pytest.mark.parametrize("is_first", [False, True])
def test_an_empty_volume_gives_way_to_the_one_that_had_its_number(
    data: Path, disk: Disk, is_first: bool
) -> None:
    """A store that was started once without its catalog made it: the data is not out of reach for that."""
    disk.put(1, "key", b"x", 10)
    disk.close()
    other = Disk(data.parent / "other", 1)
    other.close()
    other.root.rename(data / ("disk-0" if is_first else "disk-2"))
    assert rebuilt(data).objects == 1


def test_a_copy_of_a_disk_in_its_place_can_be_read(data: Path, disk: Disk) -> None:
    disk.put(1, "key", b"x", 10)
    disk.close()
    shutil.copytree(disk.root, data / "copy")
    shutil.rmtree(disk.root)
    (data / "copy").rename(disk.root)
    assert rebuilt(data).objects == 1


def test_nothing_is_read_while_an_actor_has_the_disk(data: Path, disk: Disk, tmp_path: Path) -> None:
    disk.close()
    with DiskLock(disk.root):
        with pytest.raises(DiskInUse):
            rebuilt(data)
        with pytest.raises(DiskInUse):
            exported(data, tmp_path / "out")


# --- export ---------------------------------------------------------------------------------------


def test_a_damaged_object_is_exported_as_far_as_it_can_be_read(
    data: Path, disk: Disk, tmp_path: Path
) -> None:
    content = bytes(range(256)) * 4
    disk.put(1, "good", b"good", 10)
    disk.put(2, "bad", content, 11)
    disk.put(3, "bad.damaged", b"a key of its own", 12)
    disk.close()
    disk.flip(2, 600)
    report, lines = exported(data, tmp_path / "out")
    assert (report.whole, report.damaged_count, report.damaged) == (2, 1, ["photos/bad"])
    states = {line["key"]: (line["state"], line["path"]) for line in lines}
    assert states == {
        "good": ("whole", "photos/good"),
        "bad": ("damaged", "photos/bad%.damaged"),
        "bad.damaged": ("whole", "photos/bad.damaged"),
    }
    found = (tmp_path / "out" / "photos" / "bad%.damaged").read_bytes()
    assert len(found) == len(content)
    assert sum(a != b for a, b in zip(found, content, strict=True)) == 1
    assert not (tmp_path / "out" / "photos" / "bad").exists()


def test_an_upload_that_lacks_a_chunk_is_listed_as_incomplete(data: Path, disk: Disk, tmp_path: Path) -> None:
    disk.chunk(1, "film", b"x" * 1000, 10, 0, 2)
    disk.close()
    report, lines = exported(data, tmp_path / "out")
    assert report.incomplete == 1
    assert lines == [
        {"bucket": "photos", "key": "film", "state": "incomplete", "problems": ["1 of 2 chunks"]}
    ]


def test_an_export_that_was_cut_off_is_resumed(data: Path, disk: Disk, tmp_path: Path) -> None:
    for number in range(1, 6):
        disk.put(number, f"key-{number}", b"x" * number, number)
    disk.close()
    out = tmp_path / "out"
    exported(data, out)
    with pytest.raises(BadRequest):
        exported(data, out)
    listing = (out / "export.jsonl").read_bytes().splitlines(keepends=True)
    (out / "export.jsonl").write_bytes(b"".join(listing[:3]) + listing[3][:20])
    (out / "photos" / "key-2").write_bytes(b"")  # a power cut before it was synced
    (out / ".rescue-left").mkdir()  # by a process that was killed
    report, lines = exported(data, out, is_resumed=True)
    assert (report.whole, report.skipped) == (5, 2)
    assert sorted(str(line["key"]) for line in lines) == [f"key-{number}" for number in range(1, 6)]
    assert [(out / "photos" / f"key-{n}").stat().st_size for n in range(1, 6)] == [1, 2, 3, 4, 5]
    assert not (out / ".rescue-left").exists()


@contextlib.contextmanager
def read_only(root: Path, folders: Sequence[Path]) -> Iterator[None]:
    """Nobody can write there meanwhile: for root, who may write anywhere, it is mounted so."""
    if os.geteuid() == 0:
        if subprocess.run(["mount", "--bind", root, root]).returncode:
            pytest.skip("this root may not mount anything")
        try:
            subprocess.run(["mount", "-o", "remount,ro,bind", root], check=True)
            yield
        finally:
            subprocess.run(["umount", root], check=True)
        return
    for folder in folders:
        folder.chmod(0o555)
    try:
        yield
    finally:
        for folder in folders:
            folder.chmod(0o755)


def test_a_disk_that_takes_no_writes_is_exported(data: Path, disk: Disk, tmp_path: Path) -> None:
    disk.put(1, "key", b"x", 10)
    disk.close()
    with read_only(disk.root, [disk.root, disk.root / "volumes", disk.directory]):
        with pytest.raises(OSError, match=r"Read-only|denied"):
            (disk.directory / "written").touch()
        report, _ = exported(data, tmp_path / "out")
    assert report.whole == 1


def test_a_lock_that_cannot_be_written_still_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_open = os.open

    def refuse_writing(path: Path, flags: int, *rest: int, **more: int) -> int:
        if flags & os.O_RDWR:
            raise OSError(30, "Read-only file system")
        return real_open(path, flags, *rest, **more)

    monkeypatch.setattr("os.open", refuse_writing)
    with pytest.raises(OSError, match="Read-only"):
        DiskLock(tmp_path)
    DiskLock(tmp_path, is_read_only_ok=True).release()  # nobody can have made a lock there
    (tmp_path / "lock").write_text("4711\n")
    holder = real_open(tmp_path / "lock", os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    with pytest.raises(DiskInUse, match="4711"):
        DiskLock(tmp_path, is_read_only_ok=True)
    os.close(holder)
    DiskLock(tmp_path, is_read_only_ok=True).release()


def test_the_identity_of_a_copy_can_be_read_by_who_only_reads(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    identity = load_identity(tmp_path / "a", created_ms=1)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    with pytest.raises(DiskMismatch):
        read_identity(tmp_path / "b")
    assert read_identity(tmp_path / "b", is_copy_ok=True) == identity


# --- backup and restore ---------------------------------------------------------------------------


@pytest.fixture
def backup(data: Path, disk: Disk, tmp_path: Path) -> Path:
    """A backup of a store with one object."""
    disk.put(1, "key", b"x", 10)
    disk.close()
    rebuilt(data)
    keys = data / "master" / "keys"
    keys.mkdir(mode=0o700)
    (keys / "join.secret").write_text("sesame")
    back_up(tmp_path / "backup.tar", data, QUIET)
    return tmp_path / "backup.tar"


def test_a_backup_is_a_tar_file_that_only_its_owner_reads(backup: Path, tmp_path: Path) -> None:
    assert backup.stat().st_mode & 0o777 == 0o600
    with tarfile.open(backup) as tar:
        assert tar.getnames() == ["manifest.json", "catalog.sqlite3", "keys/join.secret"]
    with opened_backup(backup, tmp_path) as unpacked:
        assert unpacked.manifest.object_count == 1
        assert unpacked.manifest.stamp_max == 10
        assert (unpacked.keys / "join.secret").read_text() == "sesame"
        folder = unpacked.folder
    assert not folder.exists()


def test_a_backup_replaces_a_backup_or_an_empty_file_and_nothing_else(
    data: Path, backup: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    for path in (backup, empty):
        back_up(path, data, QUIET)
        assert tarfile.is_tarfile(path)
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    other = tmp_path / "other.tar"
    with tarfile.open(other, "w") as tar:
        tar.add(notes, "notes.txt")
    before = other.read_bytes()
    for path in (notes, other):
        with pytest.raises(BadRequest, match="is not a backup"):
            back_up(path, data, QUIET)
    with pytest.raises(BadRequest, match="is a folder"):
        back_up(tmp_path, data, QUIET)
    assert notes.read_text() == "mine"
    assert other.read_bytes() == before


def test_a_backup_that_cannot_be_made_leaves_the_one_before(data: Path, backup: Path) -> None:
    before = backup.read_bytes()
    (data / "master" / "catalog.sqlite3").write_bytes(b"ruined" * 1000)
    with pytest.raises(CatalogCorrupt):
        back_up(backup, data, QUIET)
    assert backup.read_bytes() == before
    assert [path.name for path in backup.parent.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("at", [0.1, 0.3, 0.6, 0.9])
def test_a_flipped_byte_anywhere_in_a_backup_is_noticed_before_anything_changes(
    data: Path, backup: Path, at: float
) -> None:
    content = bytearray(backup.read_bytes().rstrip(b"\0"))
    content[int(len(content) * at)] ^= 0x55
    backup.write_bytes(content + bytes(10_240))
    before = (data / "master" / "catalog.sqlite3").read_bytes()
    with pytest.raises(BackupCorrupt):
        restore(backup, data, QUIET)
    assert (data / "master" / "catalog.sqlite3").read_bytes() == before


def test_a_backup_that_was_cut_off_is_refused(data: Path, backup: Path) -> None:
    backup.write_bytes(backup.read_bytes()[:5000])
    with pytest.raises(BackupCorrupt):
        restore(backup, data, QUIET)


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/evil", "/warehouse-evil", "keys/../../evil", "keys/a/b", "keys//evil"]
)
def test_a_backup_cannot_write_outside_its_folder(data: Path, tmp_path: Path, name: str) -> None:
    crafted = tmp_path / "crafted.tar"
    manifest = {
        "format": 1,
        "release": "1",
        "created_ms": 1,
        "schema": 2,
        "stamp_max": 1,
        "bucket_count": 0,
        "object_count": 0,
        "byte_count": 0,
        "sha256": {"catalog.sqlite3": "", name: ""},
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "evil").write_text("evil")
    with tarfile.open(crafted, "w") as tar:
        tar.add(tmp_path / "manifest.json", "manifest.json")
        entry = tar.gettarinfo(tmp_path / "evil")
        entry.name = name  # as it is: `add` would take a slash at its start away
        with (tmp_path / "evil").open("rb") as content:
            tar.addfile(entry, content)
    with pytest.raises(BackupCorrupt, match="which its manifest does not name"):
        restore(crafted, data, QUIET)


def test_a_backup_of_a_later_release_is_refused(data: Path, backup: Path, tmp_path: Path) -> None:
    crafted = tmp_path / "crafted.tar"
    (tmp_path / "manifest.json").write_text('{"format": 2}')
    with tarfile.open(crafted, "w") as tar:
        tar.add(tmp_path / "manifest.json", "manifest.json")
    with pytest.raises(FormatUnsupported):
        restore(crafted, data, QUIET)


def test_a_restore_moves_what_was_there_aside_with_its_log(data: Path, backup: Path) -> None:
    master = data / "master"
    (master / "catalog.sqlite3").write_bytes(b"ruined")
    (master / "catalog.sqlite3-wal").write_bytes(b"its log")
    report = restore(backup, data, QUIET)
    assert report.rebuild is None
    assert keys_in(data) == ["key"]
    aside = [path.name for path in master.iterdir() if "before-restore" in path.name]
    assert len(aside) == 3, "catalog, log and keys"
    assert not (master / "catalog.sqlite3-wal").exists()
    assert (master / "keys" / "join.secret").read_text() == "sesame"


def test_a_restore_finds_a_needle_that_is_older_than_the_newest_thing_the_backup_knows(
    data: Path, backup: Path
) -> None:
    """Two puts at once: the one with the lesser stamp may be committed last, after the backup."""
    volume = Volume.open(OsDisk(data / "disk-1"), volume_directory(1))
    volume.append(2, NeedleMetadata("photos", PHOTOS, "late", CREATED_MS), b"y", stamp=9)
    volume.close()
    report = restore(backup, data, QUIET)
    assert report.rebuild is not None
    assert keys_in(data) == ["key", "late"]


def test_an_exact_restore_gives_no_id_out_that_its_later_self_may_have_given_out(
    data: Path, backup: Path
) -> None:
    restore(backup, data, QUIET, is_exact=True)
    catalog = SqliteCatalog.open(data / "master" / "catalog.sqlite3")
    try:
        assert catalog.meta("keep_orphans") == 1
        with catalog.transaction() as transaction:
            assert transaction.create_bucket("new", CREATED_MS).id >= PHOTOS + 1000
            assert transaction.add_volume(None, "new", 1 << 30, "disk") > 1000
    finally:
        catalog.close()


def test_a_catalog_of_a_later_release_is_not_replaced(data: Path, backup: Path) -> None:
    connection = sqlite3.connect(data / "master" / "catalog.sqlite3")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(SchemaNewer):
        rebuilt(data, replace=True)


def leave_only_the_log(catalog: Path) -> None:
    """A killed master's catalog was moved away, and its log was not."""
    writer = sqlite3.connect(catalog, isolation_level=None)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("DELETE FROM objects")
    log = catalog.with_name("catalog.sqlite3-wal").read_bytes()
    writer.close()
    catalog.unlink()
    catalog.with_name("catalog.sqlite3-wal").write_bytes(log)


def test_the_log_of_a_catalog_that_is_gone_does_not_get_into_the_rebuilt_one(data: Path, disk: Disk) -> None:
    disk.put(1, "key", b"x", 10)
    disk.close()
    rebuilt(data)
    leave_only_the_log(data / "master" / "catalog.sqlite3")
    assert rebuilt(data).objects == 1
    assert keys_in(data) == ["key"]


def test_the_log_of_a_catalog_that_is_gone_does_not_get_into_the_restored_one(
    data: Path, backup: Path
) -> None:
    leave_only_the_log(data / "master" / "catalog.sqlite3")
    restore(backup, data, QUIET)
    assert keys_in(data) == ["key"]


def test_what_waits_for_its_tombstone_stays_dead_where_the_old_catalog_still_tells(
    data: Path, disk: Disk, opened: list[SqliteCatalog]
) -> None:
    """Its disk is offline, or sealed: nothing on it says that the object was deleted."""
    disk.put(1, "older", b"x", 5)
    disk.put(2, "deleted", b"x", 10)
    disk.put(3, "kept", b"x", 11)
    disk.close()
    rebuilt(data)
    path = data / "master" / "catalog.sqlite3"
    catalog = SqliteCatalog.open(path)
    with catalog.transaction() as transaction:
        assert transaction.delete_objects(PHOTOS, ["deleted", "older"], stamp=20) == [True, True]
    catalog.close()
    back_up(data / "backup.tar", data, QUIET)
    report = rebuilt(data, replace=True)
    assert keys_in(data) == ["kept"]
    assert report.garbage_needles == 2
    restore(data / "backup.tar", data, QUIET)
    assert keys_in(data) == ["kept"]
    opened.append(SqliteCatalog.open(path))
    assert opened[0].outbox(1, 10) == [(1, 20, "deleted"), (2, 20, "deleted")], (
        "they still get their tombstones"
    )


# --- names that are mistaken ----------------------------------------------------------------------


def test_a_stream_or_a_missing_folder_is_no_place_for_a_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "master").mkdir()
    (tmp_path / "master" / "catalog.sqlite3").touch()
    with pytest.raises(BadRequest, match="does not mean a standard stream"):
        back_up(Path("-"), tmp_path, NoProgress())
    with pytest.raises(BadRequest, match="there is no folder gone: make it first"):
        back_up(Path("gone/backup.tar"), tmp_path, NoProgress())
    with pytest.raises(BadRequest, match="does not mean a standard stream"):
        export(tmp_path, Path("-"), NoProgress())
    assert [path.name for path in tmp_path.iterdir()] == ["master"]


def test_a_folder_that_is_no_disk_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "cat.jpg").touch()
    with pytest.raises(ReadFailed, match="pictures is not a disk"):
        disk_folders(tmp_path, [tmp_path / "pictures"])
    for sign in ("disk.json", "volumes"):
        disk = tmp_path / f"has-{sign}"
        (disk / sign).mkdir(parents=True)
        assert disk_folders(tmp_path, [disk]) == [disk]
