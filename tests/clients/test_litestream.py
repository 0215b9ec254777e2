"""Litestream: a SQLite database that is replicated while it changes, and restored."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from client_environments import environment_of
from client_kit import Endpoint, Tool, command, wait_for

CONFIG = """
dbs:
  - path: {database}
    replica:
      type: s3
      bucket: {bucket}
      path: database
      endpoint: {url}
      region: {region}
      force-path-style: true
      sync-interval: 100ms
"""


@command("replicate, restore")
def test_replication(endpoint: Endpoint, bucket: str, work: Path) -> None:
    database = work / "live.db"
    config = work / "litestream.yml"
    config.write_text(
        CONFIG.format(database=database, bucket=bucket, url=endpoint.url, region=endpoint.region)
    )
    keys = {"LITESTREAM_ACCESS_KEY_ID": endpoint.key_id, "LITESTREAM_SECRET_ACCESS_KEY": endpoint.secret}
    litestream = Tool(environment_of("litestream") / "litestream", work, keys)
    rows = [(number, os.urandom(500)) for number in range(300)]
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY, data BLOB)")
        with connection:
            connection.executemany("INSERT INTO rows VALUES (?, ?)", rows[:100])
        with litestream.running("replicate", "-config", config) as process:
            wait_for(lambda: bool(_keys(endpoint, bucket)), "nothing was replicated")
            for row in rows[100:]:
                with connection:
                    connection.execute("INSERT INTO rows VALUES (?, ?)", row)
            process.terminate()  # it replicates what is left, and ends
            assert process.wait(60) in (0, -15), (work / "running.log").read_text()
    litestream.run("restore", "-config", config, "-o", work / "restored.db", database)
    with closing(sqlite3.connect(work / "restored.db")) as restored:
        assert restored.execute("SELECT number, data FROM rows ORDER BY number").fetchall() == rows
        assert restored.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def _keys(endpoint: Endpoint, bucket: str) -> list[str]:
    with endpoint.client() as client:
        return [one["Key"] for one in client.list_objects_v2(Bucket=bucket).get("Contents", ())]
