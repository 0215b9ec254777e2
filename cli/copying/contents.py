"""Contents: does a file have the contents of an object, and which time has an object of a file?

An upload of the command line writes the time of the file's last change into the user metadata, under `mtime`,
as seconds since the epoch with up to nine decimals; rclone writes it in the same way.  A file that was
changed a moment ago gets no `mtime`, because it may change again without a new time.

Contents are compared by size and CRC-32C.  The store knows the CRC of every chunk, so nothing is downloaded.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import trio
from crc32c import crc32c

from warehouse.client.bucket import Bucket
from warehouse.client.headers import crc_of_etag
from warehouse.transport.messages import Chunk, ObjectInfo

MTIME = "mtime"
SETTLED_NS = 50_000_000  # file systems keep time in steps of some milliseconds
SLICE = 64 * 1024 * 1024  # read in one call: the longest wait of Ctrl-C
PIECE = 1024 * 1024
_TIME = re.compile(r"(-?)([0-9]{1,11})(?:\.([0-9]{1,9}))?")
_POLYNOMIAL = 0x82F63B78  # CRC-32C (Castagnoli), its bits reversed: RFC 3720, appendix B.4


# --- times ----------------------------------------------------------------------------------------


def metadata_of(changed_ns: int, *, now_ns: int | None = None) -> dict[str, str]:
    """The user metadata of a file that was last changed at `changed_ns`."""
    now_ns = time.time_ns() if now_ns is None else now_ns
    if 0 <= now_ns - changed_ns < SETTLED_NS:
        return {}
    seconds, fraction = divmod(abs(changed_ns), 1_000_000_000)
    decimals = f".{fraction:09}".rstrip("0") if fraction else ""
    return {MTIME: f"{'-' if changed_ns < 0 else ''}{seconds}{decimals}"}


def metadata_of_path(path: str | os.PathLike[str]) -> dict[str, str]:
    """The user metadata of a file, taken before it is read; empty for a missing file."""
    try:
        return metadata_of(os.stat(path).st_mtime_ns)
    except OSError:
        return {}


def recorded_ns(metadata: Mapping[str, str]) -> int | None:
    """The time in an object's metadata; None: the metadata has no time."""
    found = _TIME.fullmatch(metadata.get(MTIME, ""))
    if found is None:
        return None
    value = int(found[2]) * 1_000_000_000 + int((found[3] or "").ljust(9, "0"))
    return -value if found[1] else value


def file_time_of(info: ObjectInfo) -> int:
    """The time for a file made of this object: that of its source, or when the object was stored."""
    recorded = recorded_ns(info.metadata)
    return info.created_ms * 1_000_000 if recorded is None else recorded


# --- contents -------------------------------------------------------------------------------------


def known_crc(info: ObjectInfo) -> int | None:
    """The CRC of a whole object, if a listing has it."""
    return crc_of_etag(info.etag) if info.chunk_count == 1 and info.etag.count("-") == 2 else None


async def is_same_file(path: Path, info: ObjectInfo, bucket: Bucket) -> bool:
    """Whether a file has the contents of an object.

    Raises:
        OSError: the file cannot be read.
    """
    wanted = await crc_of_object(info, bucket)
    return wanted is not None and await crc_of_file(path, info.size) == wanted


async def is_same_object(ours: ObjectInfo, our_bucket: Bucket, theirs: ObjectInfo, bucket: Bucket) -> bool:
    """Whether two objects have the same contents."""
    crc = await crc_of_object(ours, our_bucket)
    return ours.size == theirs.size and crc is not None and crc == await crc_of_object(theirs, bucket)


async def crc_of_object(info: ObjectInfo, bucket: Bucket) -> int | None:
    """The CRC of a whole object; None when the object was replaced."""
    if (crc := known_crc(info)) is not None:
        return crc
    now = await bucket.chunks(info.key)
    return crc_of_chunks(now.chunks) if now.etag == info.etag else None


async def crc_of_file(path: Path, size: int) -> int | None:
    """The CRC of a file; None when the file has another size."""
    crc, position = 0, 0
    while position < size:
        end = min(position + SLICE, size)
        crc, read_to = await trio.to_thread.run_sync(
            _crc_of_slice, path, position, end, crc, abandon_on_cancel=True
        )
        if read_to != end:
            return None
        position = end
    return crc if os.stat(path).st_size == size else None


def _crc_of_slice(path: Path, position: int, end: int, crc: int) -> tuple[int, int]:
    # O_NONBLOCK: if a pipe has replaced the file, opening it would wait for a writer.
    file_number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        while position < end:
            piece = os.pread(file_number, min(PIECE, end - position), position)
            if not piece:
                break
            crc = crc32c(piece, crc)
            position += len(piece)
    finally:
        os.close(file_number)
    return crc, position


def crc_of_chunks(chunks: Sequence[Chunk]) -> int:
    """The CRC of consecutive chunks, from the CRC of each."""
    crc = 0
    for chunk in chunks:
        crc = combine(crc, chunk.crc, chunk.size)
    return crc


def combine(first: int, second: int, second_size: int) -> int:
    """The CRC of two consecutive pieces of data, from the CRC of each and the size of the second.

    A CRC is a remainder of polynomials over GF(2).  The first piece counts as if followed by as many zeros as
    the second has bits, which multiplies its polynomial by a power of x.
    """
    shift, square = 1 << 31, 1 << 23  # x^0, and x^8: a byte of zeros
    while second_size:
        if second_size & 1:
            shift = _multiply(shift, square)
        square = _multiply(square, square)
        second_size >>= 1
    return _multiply(shift, first) ^ second


def _multiply(one: int, other: int) -> int:
    """The product of two polynomials modulo that of CRC-32C, bits reversed: the highest bit is x^0."""
    product = 0
    for bit in range(31, -1, -1):
        if one >> bit & 1:
            product ^= other
        other = other >> 1 ^ (_POLYNOMIAL if other & 1 else 0)
    return product
