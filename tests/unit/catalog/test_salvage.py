"""What a catalog file still tells is read without changing it, table by table."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from catalog_kit import CREATED_MS, SqliteKit, stamp
from warehouse.auth.keys import generate_api_key
from warehouse.auth.rights import Grant
from warehouse.catalog.sqlite.salvage import salvage_catalog
from warehouse.errors import CatalogCorrupt, ReadFailed, SchemaNewer

HERE = Path(__file__).parent
OLD_RW = 1 | 2 | 4 | 8 | 16 | 256  # what "rw" on a bucket allowed in the first release


@pytest.fixture
def kit(tmp_path):
    kit = SqliteKit(tmp_path)
    kit.add_key(hashed=generate_api_key().hashed, grants=(Grant(1, 1),), created_ms=5, sealed=b"sealed")
    kit.put(kit.bucket(), at=3)
    kit.do(lambda t: t.delete_bucket("photos", force=True, stamp=stamp(9)))
    return kit


def test_what_was_revoked_stays_revoked(kit):
    """Deleted keys, too, have signed URLs that live for days."""
    kit.add_key("GONE")
    kit.do(lambda t: t.delete_api_key("GONE", now_ms=77))
    kit.do(lambda t: t._execute("INSERT INTO revocations VALUES ('MADE UP', -5, 77)", ()))
    assert salvage_catalog(kit.path).revocations == [("GONE", 2, 77)]
    kit.close()


def check(kit, salvaged):
    assert salvaged.disks == kit.catalog.disks()
    assert salvaged.volumes == kit.catalog.volumes()
    assert salvaged.api_keys == kit.catalog.api_keys()
    assert salvaged.accounts == kit.catalog.accounts()
    assert (salvaged.bucket_id_max, salvaged.volume_id_max, salvaged.stamp_max) == (1, 2, stamp(9))
    assert salvaged.problems == []


def test_a_closed_catalog_is_read_and_nothing_appears_beside_it(kit, tmp_path):
    kit.close()
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    salvaged = salvage_catalog(kit.path)
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == before
    kit.catalog = kit._open()
    check(kit, salvaged)
    kit.close()


def test_what_is_still_in_the_log_counts(kit):
    salvaged = salvage_catalog(kit.path)  # nobody writes, and nothing was folded into the file yet
    check(kit, salvaged)
    kit.close()


def test_a_name_with_signs_of_a_url_is_a_name(kit, tmp_path):
    kit.close()
    odd = tmp_path / "50%?#ü.sqlite3"
    kit.path.rename(odd)
    assert len(salvage_catalog(odd).api_keys) == 1


def test_the_catalog_of_the_first_release_is_read(tmp_path):
    path = tmp_path / "old.sqlite3"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript((HERE / "catalog_schema_1.sql").read_text())
    salvaged = salvage_catalog(path)
    assert [(row.uuid, row.created_ms, row.verified_ms, row.disk_ids) for row in salvaged.volumes] == [
        ("uuid-1", 0, None, ["disk-1"]),
        ("uuid-2", 0, None, ["disk-1"]),
    ]
    assert [(row.id, row.grants) for row in salvaged.api_keys] == [
        ("WHAAAAAAAAAAAAAAAAAAAA", (Grant(OLD_RW, 1),))
    ]
    assert (salvaged.bucket_id_max, salvaged.volume_id_max, salvaged.problems) == (2, 2, [])
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,), "it was not brought up to date"


def spoil(path, table):
    """Fill the page that holds a table's rows with nonsense."""
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)


def test_a_damaged_table_does_not_hide_the_others(kit):
    kit.close()
    spoil(kit.path, "copies")
    salvaged = salvage_catalog(kit.path)
    assert salvaged.volumes == []
    assert len(salvaged.api_keys) == len(salvaged.disks) == 1
    assert len(salvaged.problems) == 1
    assert salvaged.problems[0].startswith(f"the volumes in {kit.path} cannot be read: ")


@pytest.mark.parametrize("content", [b"x" * 10_000, b"", b"\0" * 4096])
def test_what_is_no_catalog_is_said_to_be_none(tmp_path, content):
    path = tmp_path / "catalog.sqlite3"
    path.write_bytes(content)
    with pytest.raises(CatalogCorrupt):
        salvage_catalog(path)
    assert path.read_bytes() == content


def test_a_newer_or_absent_catalog_is_refused(kit, tmp_path):
    kit.close()
    with closing(sqlite3.connect(kit.path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(SchemaNewer):
        salvage_catalog(kit.path)
    with pytest.raises(ReadFailed, match="no catalog"):
        salvage_catalog(tmp_path / "absent.sqlite3")
    assert not (tmp_path / "absent.sqlite3").exists()


def test_times_of_disks_and_keys_survive(kit):
    kit.close()
    salvaged = salvage_catalog(kit.path)
    assert salvaged.disks[0].added_ms == CREATED_MS
    assert salvaged.api_keys[0].created_ms == 5
