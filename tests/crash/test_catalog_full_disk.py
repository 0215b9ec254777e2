"""The catalog on a really full disk: writes are refused and undone, reads go on, and room ends it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from catalog_kit import SqliteKit
from warehouse.errors import DiskFull

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root"),
]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", folder], check=False)
    if mounted.returncode != 0:
        pytest.skip("mounting a tmpfs is not allowed here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill_up(kit: SqliteKit, bucket_id: int) -> list[str]:
    """Put until the disk is full; return the keys that were acknowledged."""
    acked: list[str] = []
    for number in range(100_000):
        key = f"key-{number:06}"
        try:
            kit.put(bucket_id, key, metadata={"note": "x" * 500})
        except DiskFull:
            return acked
        acked.append(key)
    raise AssertionError("the disk never filled up")


def test_a_full_disk_loses_nothing_and_room_ends_it(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 2_000_000)
    kit = SqliteKit(small_disk)
    bucket_id = kit.bucket()
    acked = fill_up(kit, bucket_id)
    assert len(acked) > 100
    with pytest.raises(DiskFull, match="is full"):
        kit.put(bucket_id, "one more", metadata={"note": "x" * 5000})
    for key in acked:
        assert kit.catalog.object(bucket_id, key) is not None
    kit.assert_consistent()
    ballast.unlink()
    kit.put(bucket_id, "after")
    kit.reopen()
    assert kit.catalog.totals()[1] == len(acked) + 1
    kit.assert_consistent()
    kit.close()
