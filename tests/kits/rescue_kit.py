"""Disks for the tests of rescue/: real volume files, made without any actor."""

from __future__ import annotations

import os
from pathlib import Path

from warehouse.catalog.sqlite.recount import check_counts
from warehouse.rescue.console import NoProgress
from warehouse.rescue.rebuild import Options, RebuildReport, rebuild
from warehouse.storage.compaction.copying import Copy
from warehouse.storage.compaction.generation_switch import GenerationSwitch
from warehouse.storage.disk import OsDisk
from warehouse.storage.files import volume_directory
from warehouse.storage.format.needle import NeedleMetadata
from warehouse.storage.identity import load_identity
from warehouse.storage.volume import Volume

PHOTOS = 3
CREATED_MS = 1_750_000_000_000
QUIET = NoProgress()


class Disk:
    """A disk directory with one volume, written to as a volume actor would."""

    def __init__(self, data: Path, number: int) -> None:
        self.root = data / f"disk-{number}"
        self.root.mkdir(parents=True)
        load_identity(self.root, created_ms=CREATED_MS)
        self.directory = self.root / volume_directory(number)
        self.volume = Volume.create(
            OsDisk(self.root),
            volume_directory(number),
            volume_id=number,
            uuid=f"0f14d0ab-9605-4a62-a9e4-5ed26688389{number}",
            capacity=1 << 30,
            created_ms=CREATED_MS,
        )
        self.offsets: dict[int, int] = {}

    def put(self, needle_id: int, key: str, data: bytes, stamp: int) -> None:
        metadata = NeedleMetadata("photos", PHOTOS, key, CREATED_MS + stamp, "text/plain", {"a": "b"})
        self.offsets[needle_id] = self.volume.append(needle_id, metadata, data, stamp=stamp).offset

    def chunk(self, needle_id: int, key: str, data: bytes, stamp: int, index: int, count: int) -> None:
        metadata = NeedleMetadata(
            "photos", PHOTOS, key, CREATED_MS, None, {}, upload_id=77, chunk_index=index, chunk_count=count
        )
        self.offsets[needle_id] = self.volume.append(needle_id, metadata, data, stamp=stamp).offset

    def compact(self) -> None:
        volume, disk = self.volume, OsDisk(self.root)
        copy = Copy(
            disk,
            volume.directory,
            uuid=volume.uuid,
            generation=volume.generation,
            end_offset=volume.begin_compaction(),
            horizon=0,
        )
        while copy.step():
            pass
        copy.close()
        GenerationSwitch(volume, disk, generation=copy.generation, end_offset=copy.end_offset).switch()

    def close(self) -> None:
        self.volume.sync()
        self.volume.close()

    @property
    def data_file(self) -> Path:
        return self.directory / f"g{self.volume.generation}.vol"

    def flip(self, needle_id: int, at: int) -> None:
        """Change a byte of a needle; `at` counts from the start of its record."""
        with self.data_file.open("r+b") as file:
            file.seek(self.offsets[needle_id] + at)
            byte = file.read(1)[0]
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ 0x55]))


def rebuilt(data: Path, **options: bool) -> RebuildReport:
    report = rebuild(Options(data=data, **options), QUIET)  # type: ignore[arg-type]
    assert check_counts(data / "master" / "catalog.sqlite3") == []
    return report
