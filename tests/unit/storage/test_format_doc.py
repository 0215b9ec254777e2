"""The worked example of docs/format.md is what this release writes, and can be read back from the page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from simdisk import SimDisk
from warehouse.errors import NoSuchNeedle
from warehouse.storage.files import data_path, index_path, manifest_path
from warehouse.storage.format.needle import MARK_SIZE, NeedleMetadata
from warehouse.storage.format.superblock import SUPERBLOCK_SIZE
from warehouse.storage.index import entry_offset
from warehouse.storage.scan import State
from warehouse.storage.volume import Volume

PAGE = Path(__file__).parents[3] / "docs/format.md"
DIRECTORY = "volumes/7"
STAMP = 1_750_000_000_000 << 16
METADATA = NeedleMetadata("photos", 3, "a.jpg", 1_750_000_000_000)
_EXAMPLE = re.compile(r"<!-- example: [^\n]* -->\n```\n(.*?)```", re.DOTALL)
_FILE = re.compile(r"^(\S+)$", re.MULTILINE)
_LINE = re.compile(r"^([0-9a-f]{8})  ((?:[0-9a-f]{2} ?)+)", re.MULTILINE)


def make_example() -> SimDisk:
    disk = SimDisk()
    volume = Volume.create(
        disk,
        DIRECTORY,
        volume_id=7,
        uuid="0f14d0ab-9605-4a62-a9e4-5ed26688389b",
        capacity=32 << 30,
        created_ms=1_750_000_000_000,
    )
    volume.append(1, METADATA, b"hello", stamp=STAMP)
    volume.delete(1, stamp=STAMP + 1)
    volume.close()
    return disk


def dump(content: bytes, start: int, end: int, what: str) -> Iterator[str]:
    yield f"  {what}"
    for at in range(start, end, 16):
        row = content[at : min(at + 16, end)]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield f"{at:08x}  {row.hex(' '):<47}  |{text}|"


def example_text(disk: SimDisk) -> str:
    manifest = bytes(disk.node(manifest_path(DIRECTORY)).platter)
    data = bytes(disk.node(data_path(DIRECTORY, 1)).platter)
    index = bytes(disk.node(index_path(DIRECTORY, 1)).platter)
    tombstone = len(data) - MARK_SIZE
    lines = [
        manifest_path(DIRECTORY),
        *dump(manifest, 0, len(manifest), "one line of text"),
        "",
        data_path(DIRECTORY, 1),
        *dump(data, 0, 64, "superblock"),
        *dump(data, SUPERBLOCK_SIZE, tombstone, "needle 1: header, metadata, data, footer, padding"),
        *dump(data, tombstone, len(data), "its tombstone"),
        "",
        index_path(DIRECTORY, 1),
        *dump(index, 0, 96, "header slot A, sequence 0: the empty volume"),
        *dump(index, 512, 608, "header slot B, sequence 1: the checkpoint of closing"),
        *dump(index, 1024, 1040, "watermark"),
        *dump(index, entry_offset(1), entry_offset(2), "entry of needle 1: deleted"),
    ]
    return "\n".join(lines) + "\n"


def shown_text() -> str:
    match = _EXAMPLE.search(PAGE.read_text())
    assert match is not None, "the example is gone from docs/format.md"
    return match[1]


def test_the_example_on_the_page_is_what_is_written() -> None:
    assert shown_text() == example_text(make_example())


def test_the_example_can_be_read_back_from_the_page() -> None:
    """Every later release has to read these bytes."""
    disk = SimDisk()
    disk.make_directory(DIRECTORY)
    sizes = {data_path(DIRECTORY, 1): 0, index_path(DIRECTORY, 1): 0, manifest_path(DIRECTORY): 0}
    parts = _FILE.split(shown_text())[1:]
    for path, lines in zip(parts[::2], parts[1::2], strict=True):
        file = disk.open(path, create=True)
        for offset, row in _LINE.findall(lines):
            file.pwritev([bytes.fromhex(row)], int(offset, 16))
        sizes[path] = file.size()
    assert all(sizes.values())
    volume = Volume.open(disk, DIRECTORY)
    assert (volume.volume_id, volume.capacity) == (7, 32 << 30)
    assert volume.recovery.rebuilt_because is None
    assert volume.recovery.damages == ()
    with pytest.raises(NoSuchNeedle):
        volume.read(1)
    needle, tombstone = volume.records()
    assert needle.state is tombstone.state is State.WHOLE
    assert needle.metadata == METADATA
    assert (needle.stamp, needle.data_size) == (STAMP, 5)
    assert (tombstone.needle_id, tombstone.stamp) == (1, STAMP + 1)
