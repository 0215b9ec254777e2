"""Schema: every older catalog is brought up to date in one step or not at all, a newer one is refused."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from catalog_kit import CREATED_MS, SqliteKit, stamp
from warehouse.auth.keys import verify_secret
from warehouse.auth.rights import Grant
from warehouse.catalog.sqlite import schema
from warehouse.catalog.sqlite.catalog import SqliteCatalog
from warehouse.catalog.sqlite.schema import STEPS, bring_up_to_date, statements_of
from warehouse.errors import CatalogCorrupt, FormatUnsupported, SchemaNewer
from warehouse.transport.messages import BucketNote, etag_of

HERE = Path(__file__).parent
STEPS_KEPT = 3  # there is a dump after each of these; the next one is kept with the release that has step 4


def connect(path):
    return closing(sqlite3.connect(path, isolation_level=None))


def pragma(path, name):
    with connect(path) as connection:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]


def structure(path):
    with connect(path) as connection:
        return set(connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall())


def dumped(path):
    """All that a catalog holds, but for the id and the times that each one draws for itself."""
    with connect(path) as connection:
        connection.execute("UPDATE accounts SET id = 'id', created_ms = 0")
        connection.execute("UPDATE facts SET value = 0 WHERE name LIKE '%_ms'")
        objects = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()
        return set(objects), sorted(line for line in connection.iterdump() if line.startswith("INSERT"))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "catalog.sqlite3"


def test_a_new_catalog_has_gone_through_all_steps(path):
    SqliteCatalog.open(path).close()
    assert pragma(path, "user_version") == len(STEPS)
    assert pragma(path, "application_id") == schema.APPLICATION_ID


def test_a_new_catalog_is_what_all_steps_one_after_the_other_make(path, tmp_path):
    new, by_steps = tmp_path / "new", tmp_path / "by-steps"
    with connect(new) as connection:
        bring_up_to_date(connection, new)
    for count in range(1, len(STEPS) + 1):
        with connect(by_steps) as connection:
            bring_up_to_date(connection, by_steps, STEPS[:count])
    assert dumped(new) == dumped(by_steps)


def test_an_up_to_date_catalog_is_left_as_it_is(path):
    SqliteCatalog.open(path).close()
    before = path.read_bytes()
    SqliteCatalog.open(path).close()
    assert path.read_bytes() == before


@pytest.mark.parametrize("version", range(1, STEPS_KEPT + 1))
def test_the_catalog_of_every_release_is_opened_with_all_it_held(path, version):
    with connect(path) as connection:
        connection.executescript((HERE / f"catalog_schema_{version}.sql").read_text())
    catalog = SqliteCatalog.open(path)
    try:
        assert [(row.name, row.object_count, row.byte_count) for row in catalog.buckets()] == [
            ("films", 0, 0),
            ("photos", 3, 500),
        ]
        bucket_id = catalog.bucket("photos").id
        small, big = catalog.objects(bucket_id, ["a/ü", "big"])
        assert (small.etag, small.metadata, small.content_type) == (
            etag_of(1, 1, 7919),
            {"colour": "blau"},
            "text/plain",
        )
        assert (big.size, big.chunk_count, big.metadata, big.stamp) == (300, 3, {"n": "v"}, stamp(22))
        assert [chunk.size for chunk in catalog.chunks(big.upload_id)] == [100, 100, 100]  # type: ignore[arg-type]
        assert catalog.upload_count() == 1
        assert catalog.outbox_counts() == {1: 1}
        assert [(row.name, row.added_ms) for row in catalog.disks()] == [("first", CREATED_MS)]
        assert [(row.uuid, row.disk_ids) for row in catalog.volumes()] == [
            ("uuid-1", ["disk-1"]),
            ("uuid-2", ["disk-1"]),
        ]
        key = catalog.api_key("WHAAAAAAAAAAAAAAAAAAAA")
        assert verify_secret("a secret of a test", key.hashed)
        assert (key.grants, key.epoch) == ((Grant(1 | 2 | 4 | 8 | 16 | 256, bucket_id),), 1)
        (account,) = catalog.accounts()
        owner_id = catalog.bucket("photos").owner_id
        assert (account.name, account.id, account.id) == ("main", key.account_id, owner_id)
        assert catalog.stamp_max() == stamp(22)
        assert catalog.check_counts() == []
        assert [row.created_ms for row in catalog.volumes()] == [CREATED_MS, CREATED_MS]
        with catalog.transaction() as transaction:  # needles that have tombstones are remembered
            assert transaction.resolve_needle(bucket_id, "gone", 1, 2, stamp(50)) is True
    finally:
        catalog.close()
    assert pragma(path, "user_version") == len(STEPS)
    fresh = path.with_name("fresh.sqlite3")
    SqliteCatalog.open(fresh).close()
    assert structure(path) == structure(fresh), "an old file ends with the same tables as a new one"


def test_the_steps_note_every_bucket_for_every_disk_with_its_owner(path):
    with connect(path) as connection:
        connection.executescript((HERE / "catalog_schema_1.sql").read_text())
        connection.execute("INSERT INTO disks VALUES ('disk-2', 'second', 1700000000001)")
        connection.execute("UPDATE buckets SET name = NULL WHERE name = 'films'")  # half deleted
    with closing(SqliteCatalog.open(path)) as catalog:
        for disk_id in ("disk-1", "disk-2"):
            assert catalog.bucket_notes(disk_id, 10) == [
                BucketNote(1, "photos", CREATED_MS, False, stamp(22), catalog.accounts()[0].id),
                BucketNote(2, "", CREATED_MS, True, stamp(22)),
            ]


def test_what_the_second_schema_added_survives(path):
    with connect(path) as connection:
        connection.executescript((HERE / "catalog_schema_2.sql").read_text())
    with closing(SqliteCatalog.open(path)) as catalog:
        assert [(row.id, row.work, row.volume_id, row.origin) for row in catalog.jobs()] == [
            (1, "verify", 1, "policy"),
            (3, "compact", 2, "operator"),
        ]
        first, second = catalog.volumes()
        assert (first.verified_ms, first.verify_started_ms) == (CREATED_MS + 8, CREATED_MS + 9)
        assert (first.verify_generation, first.verify_offset, first.swept_stamp) == (2, 4096, stamp(10))
        assert (second.verified_ms, second.verify_started_ms, second.swept_stamp) == (None, 0, 0)
        assert catalog.meta("is_paused") == 1
        assert [(row.needle_id, row.offset, row.key) for row in catalog.damage_records(10)] == [
            (None, 8192, None),
            (1, 4096, "a/ü"),
        ]
        assert [(note.bucket_id, note.name) for note in catalog.bucket_notes("disk-1", 10)] == [
            (1, "photos"),  # once more, with its owner
            (2, "films"),
        ]
        with catalog.transaction() as transaction:
            assert transaction.add_job("compact", 1, "policy", CREATED_MS) == 4, "ids are never given again"


def test_the_fifth_step_leaves_objects_and_uploads_as_they_were(path):
    with connect(path) as connection:
        connection.executescript((HERE / "catalog_schema_3.sql").read_text())
        assert bring_up_to_date(connection, path, STEPS[:4]) == 3
        connection.execute("UPDATE buckets SET name = NULL WHERE name = 'films'")  # half deleted
        connection.execute("UPDATE uploads SET key_id = 'WHA'")
        connection.execute("DELETE FROM bucket_notes")  # the disk has written all of them down
        (owner_id,) = connection.execute("SELECT id FROM accounts").fetchone()
    with closing(SqliteCatalog.open(path)) as catalog:
        bucket = catalog.bucket("photos")
        assert (bucket.owner_id, bucket.region, bucket.is_lock_enabled) == (owner_id, "", False)
        for row in catalog.list_objects(bucket.id).objects:
            assert (row.md5, row.part_count, row.owner_id, row.attributes) == (None, None, None, b"")
            assert row.etag == etag_of(row.volume_id, row.needle_id, row.crc, row.chunk_count)
        (upload_id,) = [found[0] for found in catalog._all("SELECT id FROM uploads WHERE is_finished = 0")]
        upload = catalog.upload(upload_id)
        assert (upload.key_id, upload.style, upload.attributes, upload.initiator_id) == ("WHA", "", b"", "")
        assert catalog.open_uploads(bucket.id).uploads == []
        assert catalog.bucket_notes("disk-1", 10) == [
            BucketNote(bucket.id, "photos", CREATED_MS, False, stamp(22), owner_id)
        ]
        assert catalog.check_counts() == []


NEXT_STEPS = (
    *STEPS,
    """
    ALTER TABLE buckets ADD COLUMN owner TEXT;
    UPDATE buckets SET owner = 'of ' || name;
    """,
    "CREATE INDEX buckets_by_owner ON buckets (owner);",
)


def test_the_steps_that_a_file_lacks_are_run_in_order(path):
    kit = SqliteKit(path.parent)
    kit.bucket()
    kit.close()
    with connect(path) as connection:
        assert bring_up_to_date(connection, path, NEXT_STEPS) == len(STEPS)
        assert connection.execute("SELECT name, owner FROM buckets").fetchall() == [("photos", "of photos")]
        assert bring_up_to_date(connection, path, NEXT_STEPS) == len(NEXT_STEPS)
    assert pragma(path, "user_version") == len(NEXT_STEPS)


def test_a_step_that_fails_leaves_the_file_as_it_was(path):
    SqliteCatalog.open(path).close()
    before = structure(path)
    with connect(path) as connection:
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            bring_up_to_date(connection, path, (*NEXT_STEPS, "DROP TABLE absent;"))
        assert not connection.in_transaction
    assert structure(path) == before
    assert pragma(path, "user_version") == len(STEPS)
    SqliteCatalog.open(path).close()


def test_a_newer_catalog_is_refused_in_one_line_and_not_touched(path):
    SqliteCatalog.open(path).close()
    with connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(SchemaNewer) as caught:
        SqliteCatalog.open(path)
    assert str(caught.value) == (
        f"the catalog {path} has schema 99, this release knows up to {len(STEPS)}:"
        " run the release that wrote it, or a later one"
    )
    assert path.read_bytes() == before


def test_an_sqlite_that_is_too_old_is_named(path, monkeypatch):
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    with pytest.raises(FormatUnsupported, match=r"3\.37\.0 or later is needed"):
        SqliteCatalog.open(path)


@pytest.mark.parametrize("version", [0, 1])
def test_the_file_of_another_program_is_refused(path, version):
    with connect(path) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
        connection.execute(f"PRAGMA user_version = {version}")
    with pytest.raises(CatalogCorrupt, match="not a catalog of Warehouse"):
        SqliteCatalog.open(path)
    assert {name for _, name, _ in structure(path)} == {"bookmarks"}


def test_a_script_is_split_at_the_ends_of_statements():
    script = "CREATE TABLE a (\n  b TEXT DEFAULT 'x;y'\n);\n\n-- a comment; with a semicolon\nDROP TABLE a;\n"
    assert statements_of(script) == [
        "CREATE TABLE a (\n  b TEXT DEFAULT 'x;y'\n);",
        "-- a comment; with a semicolon\nDROP TABLE a;",
    ]
    with pytest.raises(AssertionError, match="middle of a statement"):
        statements_of("DROP TABLE a")


def test_every_step_can_be_split():
    for step in STEPS:
        assert all(sqlite3.complete_statement(statement) for statement in statements_of(step))
