"""The columns of each table are there, in the order of the fields of the record that is made of them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from warehouse.catalog import identities, nodes, records
from warehouse.catalog.sqlite import columns, key_columns
from warehouse.catalog.sqlite.catalog import SqliteCatalog
from warehouse.transport.messages import BucketNote

TABLES = {
    "buckets": (columns.BUCKET_COLUMNS, records.BucketRow),
    "objects": (columns.OBJECT_COLUMNS, records.ObjectRow),
    "chunks": (columns.CHUNK_COLUMNS, records.ChunkRow),
    "uploads": (columns.UPLOAD_COLUMNS, records.UploadRow),
    "disks": (columns.DISK_COLUMNS, records.DiskRow),
    "volumes": (columns.VOLUME_COLUMNS, records.VolumeRow),
    "jobs": (columns.JOB_COLUMNS, records.JobRow),
    "parts": (columns.PART_COLUMNS, records.PartRow),
    "amendments": (columns.AMENDMENT_COLUMNS, None),
    "outbox": (columns.GARBAGE_COLUMNS, None),
    "bucket_notes": (columns.NOTE_COLUMNS, BucketNote),
    "damages": (columns.DAMAGE_COLUMNS, None),
    "accounts": (columns.ACCOUNT_COLUMNS, identities.AccountRow),
    "api_keys": (key_columns.API_KEY_COLUMNS, None),
    "nodes": (columns.NODE_COLUMNS, nodes.NodeRow),
    "join_tokens": (columns.JOIN_COLUMNS, nodes.JoinTokenRow),
}


@pytest.mark.parametrize("table", TABLES)
def test_columns_are_named_and_ordered_like_the_fields_of_their_record(table: str) -> None:
    names, record = TABLES[table]
    if record is not None:
        of_other_tables = ("disk_ids", "configs")
        fields = [field for field in record.__struct_fields__ if field not in of_other_tables]
        assert columns.names_of(names) == fields


@pytest.mark.parametrize("table", TABLES)
def test_a_new_catalog_has_every_column(tmp_path: Path, table: str) -> None:
    SqliteCatalog.open(tmp_path / "catalog.sqlite").close()
    connection = sqlite3.connect(tmp_path / "catalog.sqlite")
    try:
        there = {name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")}
    finally:
        connection.close()
    assert set(columns.names_of(TABLES[table][0])) <= there
