"""What a catalog file still tells is read without changing it, table by table."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from catalog_kit import CREATED_MS, Kit, stamp

from warehouse.auth.keys import generate_api_key
from warehouse.catalog.sqlite.salvage import read_catalog_facts
from warehouse.errors import CatalogCorrupt, ReadFailed, SchemaNewer

HERE = Path(__file__).parent


@pytest.fixture
def kit(tmp_path):
    kit = Kit(tmp_path)
    key = generate_api_key()
    kit.do(lambda t: t.add_api_key(key.key_id, key.hashed, permissions=3, buckets={"a": "r"}, created_ms=5))
    kit.put(kit.bucket(), at=3)
    kit.do(lambda t: t.delete_bucket("photos", force=True, stamp=stamp(9)))
    return kit


def check(kit, facts):
    assert facts.disks == kit.catalog.disks()
    assert facts.volumes == kit.catalog.volumes()
    assert facts.api_keys == kit.catalog.api_keys()
    assert (facts.bucket_id_max, facts.volume_id_max, facts.stamp_max) == (1, 2, stamp(9))
    assert facts.problems == []


def test_a_closed_catalog_is_read_and_nothing_appears_beside_it(kit, tmp_path):
    kit.close()
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    facts = read_catalog_facts(kit.path)
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == before
    kit.catalog = kit._open()
    check(kit, facts)
    kit.close()


def test_what_is_still_in_the_log_counts(kit):
    facts = read_catalog_facts(kit.path)  # nobody writes, and nothing was folded into the file yet
    check(kit, facts)
    kit.close()


def test_a_name_with_signs_of_a_url_is_a_name(kit, tmp_path):
    kit.close()
    odd = tmp_path / "50%?#ü.sqlite3"
    kit.path.rename(odd)
    assert len(read_catalog_facts(odd).api_keys) == 1


def test_the_catalog_of_the_first_release_is_read(tmp_path):
    path = tmp_path / "old.sqlite3"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript((HERE / "catalog_schema_1.sql").read_text())
    facts = read_catalog_facts(path)
    assert [(row.uuid, row.created_ms, row.verified_ms, row.disk_ids) for row in facts.volumes] == [
        ("uuid-1", 0, None, ["disk-1"]),
        ("uuid-2", 0, None, ["disk-1"]),
    ]
    assert [row.id for row in facts.api_keys] == ["WHAAAAAAAAAAAAAAAAAAAA"]
    assert (facts.bucket_id_max, facts.volume_id_max, facts.problems) == (2, 2, [])
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
    facts = read_catalog_facts(kit.path)
    assert facts.volumes == []
    assert len(facts.api_keys) == len(facts.disks) == 1
    assert len(facts.problems) == 1
    assert facts.problems[0].startswith(f"the volumes in {kit.path} cannot be read: ")


@pytest.mark.parametrize("content", [b"x" * 10_000, b"", b"\0" * 4096])
def test_what_is_no_catalog_is_said_to_be_none(tmp_path, content):
    path = tmp_path / "catalog.sqlite3"
    path.write_bytes(content)
    with pytest.raises(CatalogCorrupt):
        read_catalog_facts(path)
    assert path.read_bytes() == content


def test_a_newer_or_absent_catalog_is_refused(kit, tmp_path):
    kit.close()
    with closing(sqlite3.connect(kit.path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(SchemaNewer):
        read_catalog_facts(kit.path)
    with pytest.raises(ReadFailed, match="no catalog"):
        read_catalog_facts(tmp_path / "absent.sqlite3")
    assert not (tmp_path / "absent.sqlite3").exists()


def test_times_of_disks_and_keys_survive(kit):
    kit.close()
    facts = read_catalog_facts(kit.path)
    assert facts.disks[0].added_ms == CREATED_MS
    assert facts.api_keys[0].created_ms == 5
