"""Any range of any needle, however its bytes came in, is exactly those bytes."""

from __future__ import annotations

import random

from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from simdisk import SimDisk
from warehouse.storage.format.needle import BLOCK_SIZE, NeedleMetadata
from warehouse.storage.volume import Volume

METADATA = NeedleMetadata("photos", 3, "a.jpg", 1_750_000_000_000)


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(0, 3 * BLOCK_SIZE) | st.sampled_from([BLOCK_SIZE, BLOCK_SIZE + 1, 2 * BLOCK_SIZE]),
    seed=st.integers(0, 1 << 32),
    data=st.data(),
)
def test_a_range_is_what_was_written_there(size: int, seed: int, data: st.DataObject) -> None:
    content = random.Random(seed).randbytes(size)
    volume = Volume.create(
        SimDisk(),
        "volumes/1",
        volume_id=1,
        uuid="0f14d0ab-9605-4a62-a9e4-5ed26688389b",
        capacity=1 << 30,
        created_ms=1,
    )
    extent = volume.reserve(1, METADATA, size)
    cuts = sorted(data.draw(st.lists(st.integers(0, size), max_size=6)))
    for cut in (*cuts, size):
        extent.write(memoryview(content)[extent.written : cut])
    assert extent.finish(stamp=1, crc=crc32c(content)).crc == crc32c(content)
    volume.append(2, METADATA, content, stamp=2)
    start = data.draw(st.integers(0, size))
    length = data.draw(st.integers(0, size - start))
    used = memoryview(bytearray(b"\xff" * (4 * BLOCK_SIZE)))
    for needle_id in (1, 2):
        reader = volume.open_needle(needle_id)
        assert bytes(reader.read(start, length)) == content[start : start + length]
        assert bytes(reader.read(start, length, into=used)) == content[start : start + length]
        assert bytes(volume.read(needle_id).data) == content
