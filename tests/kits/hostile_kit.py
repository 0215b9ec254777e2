"""Disks that somebody else has made: records with right CRCs that say whatever their maker wants."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crc32c import crc32c

from warehouse.catalog.sqlite.catalog import SqliteCatalog
from warehouse.catalog.sqlite.recount import check_counts
from warehouse.rescue.console import NoProgress
from warehouse.rescue.export import ExportReport, export
from warehouse.rescue.rebuild import Options, RebuildReport, rebuild
from warehouse.storage.disk import OsDisk
from warehouse.storage.files import volume_directory
from warehouse.storage.format.needle import (
    FLAG_OBJECT_DELETED,
    KIND_BUCKET,
    KIND_TOMBSTONE,
    PADDINGS,
    BucketRecord,
    NeedleMetadata,
    encode_footer,
    encode_header,
    encode_metadata,
    place_seed,
)
from warehouse.storage.format.superblock import SUPERBLOCK_SIZE
from warehouse.storage.identity import load_identity
from warehouse.storage.volume import Volume
from warehouse.storage.writing.appending import NewNeedle

CREATED_MS = 1_750_000_000_000
STAMP = CREATED_MS << 16
PHOTOS = 3
HONEST_ID = 1000
HONEST_KEY = "a/honest key"
HONEST = b"honest bytes" * 100


class HostileDisk:
    """A disk with one volume of one honest object and of whatever else is put there."""

    def __init__(self, data: Path, number: int = 1) -> None:
        self.data, self.number = data, number
        self.root = data / f"disk-{number}"
        self.root.mkdir(parents=True)
        load_identity(self.root, created_ms=CREATED_MS)
        self.folder = self.root / volume_directory(number)
        self.volume = Volume.create(
            OsDisk(self.root),
            volume_directory(number),
            volume_id=number,
            uuid=f"0f14d0ab-9605-4a62-a9e4-5ed26688389{number}",
            capacity=1 << 30,
            created_ms=CREATED_MS,
        )
        self.seed = self.volume.identity.seed
        self.volume.record_bucket(BucketRecord(PHOTOS, "photos", CREATED_MS, False), stamp=STAMP)
        honest = encode_metadata(NeedleMetadata("photos", PHOTOS, HONEST_KEY, CREATED_MS, "text/plain"))
        self.put_raw(HONEST_ID, honest, HONEST, stamp=STAMP + 1)

    def put_raw(self, needle_id: int, metadata: bytes, data: bytes, *, stamp: int = STAMP + 2) -> None:
        """A needle with these bytes for metadata."""
        (outcome,) = self.volume.append_many([NewNeedle(needle_id, metadata, data)], lambda: stamp)
        assert isinstance(outcome, tuple), outcome

    def put_record(self, kind: int, needle_id: int, content: bytes, metadata: bytes = b"") -> None:
        """Any record; nothing but its CRCs is right.  The volume is closed afterwards."""
        self.close()
        path = self.folder / "g1.vol"
        offset = path.stat().st_size
        assert offset > SUPERBLOCK_SIZE
        flags = FLAG_OBJECT_DELETED if kind == KIND_TOMBSTONE else 0
        head, crc = encode_header(
            kind, flags, needle_id, metadata, len(content), place_seed(self.seed, offset)
        )

        record = head + content + encode_footer(crc, STAMP + 3, crc32c(content))
        with path.open("ab") as file:
            file.write(record + PADDINGS[-len(record) % 8])

    def put_bucket(self, content: bytes) -> None:
        self.put_record(KIND_BUCKET, 0, content)

    def close(self) -> None:
        self.volume.close()


@contextmanager
def hostile_store() -> Iterator[HostileDisk]:
    """A data folder with such a disk, for one example of many."""
    folder = Path(tempfile.mkdtemp(prefix="hostile-"))
    try:
        disk = HostileDisk(folder / "store")
        yield disk
        disk.close()
    finally:
        shutil.rmtree(folder)


def honest_after_rebuild(data: Path, **options: bool) -> tuple[RebuildReport, bytes | None]:
    """Rebuild; the honest object as the new catalog and its volume give it."""
    report = rebuild(Options(data=data, replace=True, **options), NoProgress())  # type: ignore[arg-type]
    path = data / "master" / "catalog.sqlite3"
    assert check_counts(path) == []
    catalog = SqliteCatalog.open(path)
    try:
        row = catalog.object(PHOTOS, HONEST_KEY)
        if row is None:
            return report, None
    finally:
        catalog.close()
    return report, read_by_actor(data / f"disk-{row.volume_id}", row.volume_id, row.needle_id)


def honest_after_export(data: Path, to: Path) -> tuple[ExportReport, bytes | None]:
    report = export(data, to, NoProgress())
    path = to / "photos" / HONEST_KEY
    return report, path.read_bytes() if path.is_file() else None


def read_by_actor(root: Path, volume_id: int, needle_id: int) -> bytes:
    """What a volume actor reads, with the index that is there and with one that it makes from the data."""
    found = []
    for without_index in (False, True):
        if without_index:
            (root / volume_directory(volume_id) / "g1.idx").unlink()
        volume = Volume.open(OsDisk(root), volume_directory(volume_id))
        try:
            found.append(bytes(volume.read(needle_id).data))
        finally:
            volume.close()
    assert found[0] == found[1]
    return found[0]
