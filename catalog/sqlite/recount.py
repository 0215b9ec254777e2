"""Recount: checks what the catalog keeps incrementally, and looks for needles with two owners or none."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from warehouse.catalog.records import CountDifference
from warehouse.catalog.sqlite.driver import connect, name_error
from warehouse.transport.messages.attributes import MANIFEST_INDEX

# Each query: what, recorded, counted.
_QUERIES = (
    """
    SELECT 'objects of bucket ' || quote(name), object_count,
           (SELECT count(*) FROM objects WHERE bucket_id = buckets.id) AS counted
    FROM buckets WHERE name IS NOT NULL AND object_count != counted
    """,
    """
    SELECT 'bytes of bucket ' || quote(name), byte_count,
           (SELECT coalesce(sum(size), 0) FROM objects WHERE bucket_id = buckets.id) AS counted
    FROM buckets WHERE name IS NOT NULL AND byte_count != counted
    """,
    """
    SELECT 'garbage of volume ' || id, garbage_count,
           (SELECT count(*) FROM outbox WHERE volume_id = volumes.id) AS counted
    FROM volumes WHERE garbage_count != counted
    """,
    f"""
    SELECT 'chunks of object ' || quote(key), chunk_count,
           (SELECT count(*) FROM chunks WHERE upload_id = objects.upload_id AND is_stored
            AND chunk_index < {MANIFEST_INDEX}) AS counted
    FROM objects WHERE chunk_count > 1 AND chunk_count != counted
    """,
    # A library may copy an object with its ETag and without its parts.
    """
    SELECT 'parts of object ' || quote(key), part_count,
           (SELECT count(*) FROM parts WHERE upload_id = objects.upload_id) AS counted
    FROM objects WHERE part_count IS NOT NULL AND counted > 0 AND part_count != counted
    """,
    """
    SELECT 'parts outside all uploads and objects', 0, count(*) AS counted
    FROM parts WHERE upload_id NOT IN (SELECT id FROM uploads WHERE NOT is_finished)
        AND upload_id NOT IN
            (SELECT upload_id FROM objects WHERE part_count IS NOT NULL AND upload_id IS NOT NULL)
    HAVING counted > 0
    """,
    """
    SELECT 'amendments of object ' || quote(key), is_amended,
           (SELECT count(*) FROM amendments
            WHERE target_volume_id = objects.volume_id AND target_needle_id = objects.needle_id) AS counted
    FROM objects WHERE is_amended AND is_amended != counted
    """,
    """
    SELECT 'amendments of objects that have none', 0, count(*) AS counted
    FROM amendments LEFT JOIN objects
        ON objects.volume_id = target_volume_id AND objects.needle_id = target_needle_id AND is_amended
    WHERE objects.needle_id IS NULL HAVING counted > 0
    """,
    # Within one table an index forbids two owners.  Each pair of tables is joined by index, from the smaller
    # one: sorting all needles would take more memory than everything else in the master.
    """
    SELECT DISTINCT 'owners of needle ' || needle_id || ' of volume ' || volume_id, 1, 2
    FROM (
        SELECT volume_id, needle_id FROM chunks JOIN objects USING (volume_id, needle_id)
            WHERE chunks.upload_id IS NOT objects.upload_id
        UNION ALL SELECT volume_id, needle_id FROM amendments JOIN objects USING (volume_id, needle_id)
        UNION ALL SELECT volume_id, needle_id FROM amendments JOIN chunks USING (volume_id, needle_id)
        UNION ALL SELECT volume_id, needle_id FROM amendments JOIN outbox USING (volume_id, needle_id)
        UNION ALL SELECT volume_id, needle_id FROM amendments JOIN buried USING (volume_id, needle_id)
        UNION ALL SELECT volume_id, needle_id FROM outbox JOIN objects USING (volume_id, needle_id)
        UNION ALL SELECT volume_id, needle_id FROM outbox JOIN chunks USING (volume_id, needle_id)
        UNION ALL SELECT volume_id, needle_id FROM outbox JOIN buried USING (volume_id, needle_id)
        UNION ALL SELECT volume_id, needle_id FROM buried JOIN objects USING (volume_id, needle_id)
        UNION ALL SELECT volume_id, needle_id FROM buried JOIN chunks USING (volume_id, needle_id)
    )
    """,
    """
    SELECT 'objects outside all buckets', 0, count(*) AS counted
    FROM objects WHERE bucket_id NOT IN (SELECT id FROM buckets) HAVING counted > 0
    """,
    """
    SELECT 'chunks outside all uploads and objects', 0, count(*) AS counted
    FROM chunks WHERE upload_id NOT IN (SELECT id FROM uploads WHERE NOT is_finished)
        AND upload_id NOT IN (SELECT upload_id FROM objects WHERE upload_id IS NOT NULL)
    HAVING counted > 0
    """,
    """
    SELECT 'needles in volumes that are not there', 0, count(*) AS counted
    FROM (
        SELECT volume_id FROM objects
        UNION ALL SELECT volume_id FROM chunks
        UNION ALL SELECT volume_id FROM amendments
        UNION ALL SELECT volume_id FROM outbox
    ) WHERE volume_id NOT IN (SELECT id FROM volumes) HAVING counted > 0
    """,
    # A restart would hand out a greater id again.
    """
    SELECT 'ids reserved in volume ' || id, needle_id_reserved,
           max(coalesce((SELECT max(needle_id) FROM objects WHERE volume_id = volumes.id), 0),
               coalesce((SELECT max(needle_id) FROM chunks WHERE volume_id = volumes.id), 0),
               coalesce((SELECT max(needle_id) FROM amendments WHERE volume_id = volumes.id), 0)) AS counted
    FROM volumes WHERE counted > needle_id_reserved
    """,
    """
    SELECT 'notes that contradict the buckets', 0, count(*) AS counted
    FROM bucket_notes WHERE is_deleted = (bucket_id IN (SELECT id FROM buckets WHERE name IS NOT NULL))
    HAVING counted > 0
    """,
    """
    SELECT 'configurations outside all buckets', 0, count(*) AS counted
    FROM bucket_configs WHERE bucket_id NOT IN (SELECT id FROM buckets WHERE name IS NOT NULL)
    HAVING counted > 0
    """,
    """
    SELECT 'jobs of volumes that are not there', 0, count(*) AS counted
    FROM jobs WHERE volume_id NOT IN (SELECT id FROM volumes) HAVING counted > 0
    """,
)


def check_counts(path: Path) -> list[CountDifference]:
    """Compare every incremental number with a recount of one moment; takes seconds for a million objects."""
    try:
        with closing(connect(path, is_read_only=True)) as connection:
            connection.execute("BEGIN")  # one snapshot for all queries
            return [CountDifference(*found) for query in _QUERIES for found in connection.execute(query)]
    except sqlite3.Error as error:
        raise name_error(path, error, is_write=False) from error
