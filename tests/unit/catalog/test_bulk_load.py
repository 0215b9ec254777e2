"""A catalog filled in bulk is one that its transactions could have made."""

import os
import sqlite3
import stat
import time
from contextlib import closing

import pytest

from catalog_kit import CREATED_MS, RESERVED, SqliteKit, stamp
from warehouse.auth.keys import generate_api_key
from warehouse.auth.rights import Grant
from warehouse.catalog.identities import AccountRow, ApiKeyRow
from warehouse.catalog.records import UPLOADS_NAMED_META, ChunkRow, ObjectRow
from warehouse.catalog.sqlite import bulk_load
from warehouse.catalog.sqlite.bulk_load import BucketSettings, NewCatalog
from warehouse.catalog.sqlite.catalog import SqliteCatalog
from warehouse.catalog.sqlite.recount import check_counts
from warehouse.errors import BadRequest, CatalogExists, DiskFull, WriteFailed
from warehouse.transport.messages import BucketNote, NeedleDamage


@pytest.fixture
def path(tmp_path):
    return tmp_path / "rebuilt.sqlite3"


def small(key="a", needle_id=1, *, bucket_id=1, at=1, size=100, metadata=None):
    return ObjectRow(
        bucket_id, key, size, stamp(at), CREATED_MS, "text/plain", 1, needle_id, 77, 1, None, metadata or {}
    )


def fill(new):
    new.add_disk("disk-1", "first", CREATED_MS)
    new.add_volume(1, "uuid-1", 1 << 30, "disk-1", needle_id_reserved=500, created_ms=CREATED_MS + 1)
    new.add_bucket(1, "photos", CREATED_MS)


def contents(path):
    """Every row of every table, as far as its order and the sequence of its making do not matter."""
    with closing(sqlite3.connect(path)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {
            name: sorted(connection.execute(f"SELECT * FROM {name}").fetchall(), key=repr)
            for (name,) in tables
        }


def structure(path):
    with closing(sqlite3.connect(path)) as connection:
        return sorted(
            connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall(), key=repr
        )


@pytest.fixture
def original(tmp_path):
    """A catalog with everything that a rebuild can find in volumes."""
    folder = tmp_path / "original"
    folder.mkdir()
    kit = SqliteKit(folder)
    bucket_id = kit.bucket()
    kit.bucket("films")
    kit.put(bucket_id, "ü/1", metadata={"colour": "blau"}, content_type="a/b")
    kit.put(bucket_id, "replaced")
    kit.put(bucket_id, "replaced", at=2, volume_id=2)
    kit.put(bucket_id, "deleted", at=3)
    kit.do(lambda t: t.delete_objects(bucket_id, ["deleted"], stamp=stamp(9)))
    upload_id = kit.begin(bucket_id)
    for index in range(3):
        kit.send_chunk(upload_id, bucket_id, index, at=4 + index, volume_id=1 + index % 2)
    kit.do(lambda t: t.finish_upload(upload_id, 3, 300))
    kit.do(lambda t: t.expire_uploads(2**50, stamp(9), 10))  # finished ones are only known to a catalog
    kit.add_key(hashed=generate_api_key().hashed, grants=(Grant(1, 2),), created_ms=5)
    kit.do(lambda t: [t.set_volume_state(volume_id, "open") for volume_id in (1, 2)])
    yield kit
    kit.close()


def rebuild(catalog, path):
    """Fill a new catalog with what an old one answers."""
    with NewCatalog(path) as new:
        for disk in catalog.disks():
            new.add_disk(disk.id, disk.name, disk.added_ms)
        for volume in catalog.volumes():
            new.add_volume(
                volume.id,
                volume.uuid,
                volume.capacity,
                volume.disk_ids[0],
                needle_id_reserved=volume.needle_id_reserved,
                created_ms=volume.created_ms,
            )
            for needle_id, at, reason in catalog.outbox(volume.id, 100):
                new.add_garbage(volume.id, needle_id, at, reason)
        new.add_accounts(catalog.accounts())
        new.add_api_keys(catalog.api_keys())
        for bucket in catalog.buckets():
            new.add_bucket(bucket.id, bucket.name, bucket.created_ms, BucketSettings(bucket.owner_id))
            for row in catalog.list_objects(bucket.id).objects:
                new.add_object(row)
                if row.upload_id is not None:
                    for chunk in catalog.chunks(row.upload_id):
                        new.add_chunk(row.upload_id, chunk)
        new.finish()


def test_a_rebuilt_catalog_has_the_rows_sums_and_sequences_of_the_original(original, path):
    rebuild(original.catalog, path)
    before = os.listdir(path.parent)
    assert check_counts(path) == []
    expected = contents(original.path)
    assert len(expected["objects"]) == 3
    assert len(expected["outbox"]) == 2
    found = contents(path)
    # Needles may come with uploads that the rows do not name: all of them are older than the catalog.
    [(_, named_ms)] = set(found["facts"]) - set(expected["facts"])
    assert {**found, "facts": expected["facts"]} == expected
    assert dict(found["facts"])[UPLOADS_NAMED_META] == named_ms <= time.time_ns() // 1_000_000
    assert structure(path) == structure(original.path)
    assert sorted(before) == ["original", "rebuilt.sqlite3"], "nothing is left beside the file"


def test_what_was_revoked_is_taken_over(path):
    with NewCatalog(path) as new:
        new.add_revocations([("GONE", 2, 77), ("KEY", 5, 78)])
        new.finish()
    catalog = SqliteCatalog.open(path)
    try:
        assert catalog.revocations() == {"GONE": 2, "KEY": 5}
    finally:
        catalog.close()


def test_a_rebuilt_catalog_is_opened_and_goes_on_like_any_other(original, path):
    rebuild(original.catalog, path)
    catalog = SqliteCatalog.open(path)
    try:
        with catalog.transaction() as transaction:
            assert transaction.create_bucket("new", CREATED_MS).id == 3
            needle = original.needle(1, "deleted", at=9)
            assert transaction.commit_needle(needle).restamp_above == stamp(9), "what was before is not known"
            assert transaction.commit_needle(original.needle(1, "deleted", at=10)).etag is not None
        assert catalog.check_counts() == []
    finally:
        catalog.close()


def test_without_finish_there_is_no_file(path):
    with pytest.raises(ZeroDivisionError), NewCatalog(path) as new:
        fill(new)
        raise ZeroDivisionError
    assert not path.exists()


def test_nothing_is_overwritten(path):
    path.write_bytes(b"precious")
    with pytest.raises(CatalogExists, match=r"rebuilt\.sqlite3"):
        NewCatalog(path)
    assert path.read_bytes() == b"precious"


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(WriteFailed, match="No such file"):
        NewCatalog(tmp_path / "absent" / "catalog.sqlite3")


def test_nobody_else_may_read_it(path):
    old_mask = os.umask(0)
    try:
        with NewCatalog(path) as new:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            new.finish()
    finally:
        os.umask(old_mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_file_and_its_name_are_synced_when_all_is_written(path, monkeypatch):
    synced = []

    def fsync(descriptor):
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        synced.append((name, path.stat().st_size))

    with NewCatalog(path) as new:
        fill(new)
        monkeypatch.setattr(os, "fsync", fsync)
        new.finish()
    assert synced == [(str(path), path.stat().st_size), (str(path.parent), path.stat().st_size)]


def test_a_failed_sync_is_no_success(path, monkeypatch):
    def fsync(descriptor):
        raise OSError(5, "Input/output error")

    with pytest.raises(WriteFailed, match="durable"), NewCatalog(path) as new:
        monkeypatch.setattr(os, "fsync", fsync)
        new.finish()
    assert not path.exists()


@pytest.mark.parametrize("count", [3, 10])
def test_rows_beyond_one_batch_are_all_there(path, monkeypatch, count):
    monkeypatch.setattr(bulk_load, "BATCH_COUNT", 4)
    with NewCatalog(path) as new:
        fill(new)
        for number in range(count):
            new.add_object(small(f"{number:02}", 1 + number, size=number))
            new.add_garbage(1, 100 + number, stamp(2), "replaced")
        new.finish()
    with closing(SqliteCatalog.open(path)) as catalog:
        assert catalog.totals() == (1, count, sum(range(count)))
        assert catalog.outbox_counts() == {1: count}
        assert catalog.check_counts() == []


@pytest.mark.parametrize(
    "contradict",
    [
        lambda new: [new.add_object(small("a", 1)), new.add_object(small("a", 2))],
        lambda new: [new.add_object(small("a", 1)), new.add_object(small("b", 1))],
        lambda new: new.add_bucket(2, "photos", CREATED_MS),
        lambda new: new.add_bucket(1, "films", CREATED_MS),
        lambda new: new.add_volume(1, "uuid-2", 1 << 30, "disk-1", needle_id_reserved=1),
        lambda new: [
            new.add_chunk(upload_id, ChunkRow(0, 1, 9, 5, 5, stamp(1), True)) for upload_id in (1, 2)
        ],
    ],
)
def test_rows_that_contradict_each_other_make_no_catalog(path, contradict):
    with pytest.raises(BadRequest, match="contradict each other"), NewCatalog(path) as new:
        fill(new)
        contradict(new)
        new.finish()
    assert not path.exists()


def test_garbage_may_be_told_twice(path):
    with NewCatalog(path) as new:
        fill(new)
        for _ in range(2):
            new.add_garbage(1, 9, stamp(2), "void")
        new.finish()
    with closing(SqliteCatalog.open(path)) as catalog:
        assert catalog.outbox_counts() == {1: 1}


def test_ids_and_stamps_that_were_seen_are_never_used_again(path):
    with NewCatalog(path) as new:
        fill(new)
        new.see_bucket_id(40)
        new.see_volume_id(50)
        new.see_stamp(stamp(60))
        new.add_object(small(at=5))
        new.finish()
    with closing(SqliteCatalog.open(path)) as catalog:
        assert catalog.stamp_max() == stamp(60)
        with catalog.transaction() as transaction:
            assert transaction.create_bucket("next", CREATED_MS).id == 41
            assert transaction.add_volume(None, "new", 1 << 30, "disk-1") == 51


def test_every_disk_is_told_of_every_bucket_again_and_of_those_that_were_deleted(path):
    with NewCatalog(path) as new:
        fill(new)
        new.add_disk("disk-2", "second", CREATED_MS)
        new.add_deleted_bucket(7, "gone", CREATED_MS, stamp(3))
        new.finish()
    with closing(SqliteCatalog.open(path)) as catalog:
        for disk_id in ("disk-1", "disk-2"):
            assert catalog.bucket_notes(disk_id, 10) == [
                BucketNote(1, "photos", CREATED_MS, False, stamp(0), catalog.accounts()[0].id),
                BucketNote(7, "gone", CREATED_MS, True, stamp(3)),
            ]
        assert catalog.stamp_max() == stamp(3)
        with catalog.transaction() as transaction:
            assert transaction.create_bucket("gone", CREATED_MS).id == 8


def test_damages_and_facts_are_kept(path):
    damage = NeedleDamage(
        volume_id=1, needle_id=4, offset=4096, problem="CRC", bucket="photos", key="a", found_ms=CREATED_MS
    )
    with NewCatalog(path) as new:
        fill(new)
        new.add_damage(damage)
        new.set_meta("keep_orphans", 1)
        new.finish()
    with closing(SqliteCatalog.open(path)) as catalog:
        assert catalog.damage_records(10) == [damage]
        assert catalog.meta("keep_orphans") == 1


def test_an_api_key_that_was_disabled_stays_so(path):
    key = generate_api_key()
    row = ApiKeyRow(
        id=key.key_id,
        account_id="A" * 32,
        name="old",
        hashed=key.hashed,
        permissions=3,
        is_enabled=False,
        epoch=7,
        created_ms=CREATED_MS,
    )
    with NewCatalog(path) as new:
        new.add_accounts([AccountRow("A" * 32, "family", "us@example.org", 5)])
        new.add_api_keys([row])
        new.finish()
    with closing(SqliteCatalog.open(path)) as catalog:
        assert catalog.api_keys() == [row]
        assert [account.name for account in catalog.accounts()] == ["family"]


def test_what_has_no_owner_any_more_belongs_to_the_first_account(path):
    with NewCatalog(path) as new:
        new.add_bucket(1, "photos", CREATED_MS, BucketSettings("gone", 10, None))
        new.add_api_keys([ApiKeyRow(id="KEY", account_id="gone", permissions=1, created_ms=1)])
        new.finish()
    with closing(SqliteCatalog.open(path)) as catalog:
        (account,) = catalog.accounts()
        photos = catalog.bucket("photos")
        assert (photos.owner_id, photos.quota_bytes, photos.quota_objects) == (account.id, 10, None)
        assert catalog.api_keys()[0].account_id == account.id


def test_a_full_disk_is_named(path):
    with pytest.raises(DiskFull, match="is full"), NewCatalog(path) as new:
        fill(new)
        (pages,) = new._connection.execute("PRAGMA page_count").fetchone()
        new._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        for number in range(10_000):
            new.add_object(small(f"{number:05}", 1 + number))
        new.finish()
    assert not path.exists()


def test_needle_ids_go_on_above_those_that_were_used(path):
    with NewCatalog(path) as new:
        fill(new)
        new.add_volume(2, "uuid-2", 1 << 30, "disk-1", needle_id_reserved=RESERVED)
        new.finish()
    with closing(SqliteCatalog.open(path)) as catalog:
        assert [(row.needle_id_reserved, row.state) for row in catalog.volumes()] == [
            (500, "open"),
            (RESERVED, "open"),
        ]
