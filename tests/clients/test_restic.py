"""restic: backups, which it reads again to the last byte."""

from __future__ import annotations

import json
import os
from pathlib import Path

from client_environments import system_program
from client_kit import Endpoint, Tool, command, files_below

SIZES = {"a": 0, "b/c é": 3_000_000, "b/d": 12_345, "e": 900_000}


@command("init, backup, snapshots, check --read-data, forget --prune, restore")
def test_backups(endpoint: Endpoint, bucket: str, work: Path) -> None:
    restic = Tool(
        system_program("restic"),
        work,
        {
            "AWS_ACCESS_KEY_ID": endpoint.key_id,
            "AWS_SECRET_ACCESS_KEY": endpoint.secret,
            "AWS_DEFAULT_REGION": endpoint.region,
            "RESTIC_REPOSITORY": f"s3:{endpoint.url}/{bucket}/backups",
            "RESTIC_PASSWORD": os.urandom(8).hex(),
        },
    )
    restic.run("init")
    first = {name: restic.file(f"tree/{name}", size)[1] for name, size in SIZES.items()}
    restic.run("backup", "tree")
    (work / "tree" / "e").unlink()
    second = {name: data for name, data in first.items() if name != "e"}
    second["b/d"] = restic.file("tree/b/d", 54_321)[1]
    restic.run("backup", "tree")
    restic.run("check", "--read-data")
    snapshots = json.loads(restic.run("snapshots", "--json"))
    assert len(snapshots) == 2
    for name, tree in (("old", first), ("new", second)):
        snapshot = snapshots[0 if name == "old" else 1]["id"]
        restic.run("restore", snapshot, "--target", name)
        assert {key.split("tree/", 1)[1]: data for key, data in files_below(work / name).items()} == tree
    before = sum(map(len, endpoint.stored(bucket).values()))
    restic.run("forget", "--prune", "--keep-last", "1")
    assert sum(map(len, endpoint.stored(bucket).values())) < before - 500_000, (
        "what only the first had is gone"
    )
    restic.run("check", "--read-data")
