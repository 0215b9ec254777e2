"""Syncing, its pure part: which files are the same, which are copied, and whose contents decide."""

from __future__ import annotations

import random

import pytest
from crc32c import crc32c

from warehouse.cli.copying.contents import combine, crc_of_chunks, metadata_of, recorded_ns
from warehouse.cli.copying.differences import Entry, Rule, Verdict, judge
from warehouse.transport.messages import Chunk

SAME, COPY, LOOK = Verdict.SAME, Verdict.COPY, Verdict.LOOK
FILE = Entry("x", 5, 1000)


@pytest.mark.parametrize(
    ("source", "target", "default", "size_only", "checksum", "exact"),
    [
        (FILE, None, COPY, COPY, COPY, COPY),
        (FILE, Entry("x", 6, 1000), COPY, COPY, COPY, COPY),
        (FILE, Entry("x", 5, 1000), SAME, SAME, LOOK, SAME),
        (FILE, Entry("x", 5, 999), LOOK, SAME, LOOK, COPY),  # changed since
        (FILE, Entry("x", 5, 1001), LOOK, SAME, LOOK, COPY),  # brought back from a backup
        (FILE, Entry("x", 5, 1001, crc=7), LOOK, SAME, LOOK, COPY),  # of one side alone a CRC is known
        (Entry("x", 5, 1, crc=7), Entry("x", 5, 2, crc=7), SAME, SAME, SAME, COPY),
        (Entry("x", 5, 1, crc=7), Entry("x", 5, 1, crc=8), COPY, SAME, COPY, COPY),
        (Entry("x", 5, None, crc=7), Entry("x", 5, None, crc=7), SAME, SAME, SAME, SAME),
        (Entry("x", 5, None), Entry("x", 5, None), LOOK, SAME, LOOK, LOOK),  # large objects without a time
    ],
)
def test_each_rule_has_its_verdict(
    source: Entry,
    target: Entry | None,
    default: Verdict,
    size_only: Verdict,
    checksum: Verdict,
    exact: Verdict,
) -> None:
    assert judge(source, target) is default
    assert judge(source, target, Rule.SIZE_ONLY) is size_only
    assert judge(source, target, Rule.CHECKSUM) is checksum
    assert judge(source, target, Rule.EXACT) is exact


def test_the_crc_of_pieces_is_that_of_the_whole() -> None:
    chance = random.Random(1)
    for _ in range(50):
        pieces = [
            chance.randbytes(chance.choice([0, 1, 7, 4096, 70_001])) for _ in range(chance.randint(1, 5))
        ]
        chunks = [Chunk(1, number, len(piece), crc32c(piece)) for number, piece in enumerate(pieces, 1)]
        assert crc_of_chunks(chunks) == crc32c(b"".join(pieces))
    assert combine(0, 0, 1 << 45) == 0


@pytest.mark.parametrize(
    "changed_ns", [0, 1, 1_700_000_000_000_000_000, 1_700_000_000_123_456_789, -1, -1_500_000_000]
)
def test_a_time_comes_back_from_metadata_to_the_nanosecond(changed_ns: int) -> None:
    assert recorded_ns(metadata_of(changed_ns, now_ns=1_800_000_000_000_000_000)) == changed_ns


def test_a_file_that_was_changed_a_moment_ago_tells_no_time() -> None:
    now_ns = 1_800_000_000_000_000_000
    assert metadata_of(now_ns - 1_000_000, now_ns=now_ns) == {}
    assert metadata_of(now_ns, now_ns=now_ns) == {}
    assert metadata_of(now_ns - 1_000_000_000, now_ns=now_ns) != {}


@pytest.mark.parametrize("text", ["", "x", "1.2.3", "1.1234567891", "1e9", "nan", "9" * 20, "٣"])
def test_a_time_of_another_form_is_none(text: str) -> None:
    assert recorded_ns({"mtime": text}) is None
