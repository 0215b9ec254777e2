"""Ranges: parts of an object, by bytes or by lines, to standard output.

All reads of one object are of one version: if it is replaced in between, the command fails.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from warehouse.cli.copying.plan import write_all
from warehouse.cli.output.formats import NUMBER_DIGITS_MAX, shortened
from warehouse.cli.usage import UsageError
from warehouse.client.bucket import Bucket
from warehouse.errors import ObjectReplaced, RangeNotSatisfiable
from warehouse.transport.messages import ObjectInfo

BLOCK_SIZE = 64 * 1024  # bytes that are read at first, from the end, to find the beginning of a line
BLOCK_SIZE_MAX = 4 * 1024 * 1024  # each further block is twice as large, up to this


@dataclass(frozen=True)
class ByteRange:
    """Bytes `first` to `last`, counted from 0, both of them included; without `first`: the `last` last."""

    first: int | None
    last: int | None

    def within(self, size: int) -> tuple[int, int]:
        """Start and length in an object of this size.

        Raises:
            RangeNotSatisfiable: the range begins behind the end.
        """
        if self.first is None:
            assert self.last is not None
            length = min(self.last, size)
            return size - length, length
        if self.first > size or (self.first == size and size):
            raise RangeNotSatisfiable(f"the object has {size:,} bytes, there is no byte {self.first:,}")
        end = size if self.last is None else min(self.last + 1, size)
        return self.first, end - self.first


def parse_range(text: str) -> ByteRange:
    """`"0-99"`, `"100-"` or `"-100"`, as HTTP writes ranges."""
    found = re.fullmatch(r"([0-9]*)-([0-9]*)", text.strip())
    if found is None or not (found[1] or found[2]):
        raise UsageError(f"a range must look like 0-99, 100- or -100, not {shortened(repr(text))}")
    if max(len(found[1]), len(found[2])) > NUMBER_DIGITS_MAX:
        raise UsageError(f"the range {shortened(repr(text))} is too large")
    first, last = (int(number) if number else None for number in found.groups())
    if first is not None and last is not None and last < first:
        raise UsageError(f"the range {text} ends before it begins")
    return ByteRange(first, last)


async def write_span(bucket: Bucket, info: ObjectInfo, start: int, length: int) -> None:
    """Write bytes of this version of an object to standard output."""
    if not length:
        return
    async with bucket.open(info.key, start, length) as stream:
        _require_same(info, stream.info)
        while (view := await stream.next_view()) is not None:
            await write_all(view)


async def write_first_lines(bucket: Bucket, info: ObjectInfo, count: int) -> None:
    """Write the first lines; no more is asked for than a block beyond them."""
    start, size = 0, BLOCK_SIZE
    while count and start < info.size:
        async with bucket.open(info.key, start, size) as stream:
            _require_same(info, stream.info)
            data = await stream.read()
        end = 0
        while count and (found := data.find(b"\n", end)) >= 0:
            end, count = found + 1, count - 1
        await write_all(memoryview(data)[: end if not count else None])
        start, size = start + len(data), min(2 * size, BLOCK_SIZE_MAX)


async def start_of_last_lines(bucket: Bucket, info: ObjectInfo, count: int) -> int:
    """Where the last lines begin; reads backwards, in bounded memory.

    A line break at the very end ends the last line and begins no other.
    """
    if not count:
        return info.size
    end, size = info.size, BLOCK_SIZE
    while end:
        start = max(0, end - size)
        async with bucket.open(info.key, start, end - start) as stream:
            _require_same(info, stream.info)
            data = await stream.read()
        at = len(data) - 1 if end == info.size else len(data)
        while (at := data.rfind(b"\n", 0, at)) >= 0:
            count -= 1
            if not count:
                return start + at + 1
        end, size = start, min(2 * size, BLOCK_SIZE_MAX)
    return 0


def _require_same(expected: ObjectInfo, found: ObjectInfo) -> None:
    if found.etag != expected.etag:
        raise ObjectReplaced(f"object {expected.key!r} was replaced while it was read")
