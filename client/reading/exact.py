"""Exact: check what the store says about an object, and count what is delivered of it.  Pure.

A reader gets exactly `ObjectInfo.size` bytes of one version, or an error.  Three checks ensure this, and they
trust no peer:

    where the object is     `require_consistent`: the chunks in an answer add up to the object
    the bytes of a chunk    `require_chunk`: their CRC is that of the catalog
    what was delivered      `Count`: a stream at its end has delivered all bytes, and no more
"""

from __future__ import annotations

from warehouse.errors import NeedleCorrupt, ObjectInconsistent
from warehouse.transport.messages import Chunk, ObjectInfo

ADDRESS_MAX = 2**32 - 1  # of volumes, needles and CRCs


def require_consistent(info: ObjectInfo, key: str) -> None:
    """Refuse a master's answer about the place of `key` when its parts contradict each other.

    Raises:
        ObjectInconsistent: the message says what was expected and what was answered.
    """
    problem = _contradiction(info, key)
    if problem is not None:
        raise ObjectInconsistent(f"the master's answer about {key!r} contradicts itself: {problem}")


def _contradiction(info: ObjectInfo, key: str) -> str | None:
    chunks = info.chunks
    if info.key != key:
        return f"it names the object {info.key!r}"
    if len(chunks) != info.chunk_count or not chunks:
        return f"an object of {info.chunk_count} chunks, {len(chunks)} of them named"
    total = 0
    for chunk in chunks:
        total += chunk.size
        if chunk.size < 0:
            return f"a chunk of {chunk.size} bytes"
        if not (0 < chunk.volume_id <= ADDRESS_MAX and 0 < chunk.needle_id <= ADDRESS_MAX):
            return f"a chunk at volume {chunk.volume_id}, needle {chunk.needle_id}, which cannot exist"
        if not 0 <= chunk.crc <= ADDRESS_MAX:
            return f"a CRC of {chunk.crc}, which has more than 32 bits"
    if total != info.size:
        return f"{info.size} bytes, the chunks have {total}"
    if len(chunks) > 1 and len({(chunk.volume_id, chunk.needle_id) for chunk in chunks}) != len(chunks):
        return "one needle is named as two chunks"
    return None


def is_consistent(info: ObjectInfo, key: str) -> bool:
    return _contradiction(info, key) is None


class Count:
    """Counts the bytes that one read delivers.

    Args:
        wanted: bytes that it must deliver.
        name: bucket and key, for the error.
    """

    __slots__ = ("delivered", "name", "wanted")

    def __init__(self, wanted: int, name: str) -> None:
        self.wanted = wanted
        self.name = name
        self.delivered = 0

    @property
    def left(self) -> int:
        return self.wanted - self.delivered

    def add(self, size: int) -> None:
        """Count bytes just before they are handed out.

        Raises:
            ObjectInconsistent: more bytes than the read should deliver.
        """
        if size > self.left:
            raise ObjectInconsistent(
                f"{self.name}: received {self.delivered + size} bytes, expected {self.wanted}"
            )
        self.delivered += size

    def require_all(self) -> None:
        """Check that the read, at its end, has delivered all bytes.

        Raises:
            ObjectInconsistent: bytes are missing.
        """
        if self.delivered != self.wanted:
            raise ObjectInconsistent(
                f"{self.name}: its chunks end after {self.delivered} of {self.wanted} bytes to be read"
            )


def require_chunk(chunk: Chunk, size: int, crc: int) -> None:
    """Compare a whole chunk with its size and CRC in the catalog.

    Raises:
        NeedleCorrupt: size or CRC differ.
    """
    if size != chunk.size or crc != chunk.crc:
        raise NeedleCorrupt(
            f"volume {chunk.volume_id}, needle {chunk.needle_id}: expected {chunk.size} bytes with CRC "
            f"{chunk.crc:08x}, received {size} with CRC {crc:08x}"
        )


def require_range(content_range: str | None, chunk: Chunk, start: int, length: int) -> None:
    """Refuse a partial answer that names another range than the requested one.

    Raises:
        NeedleCorrupt: the range differs.  An answer that names no range passes.
    """
    wanted = f"bytes {start}-{start + length - 1}/{chunk.size}"
    if content_range is not None and content_range.strip() not in (wanted, wanted.partition("/")[0] + "/*"):
        raise NeedleCorrupt(
            f"volume {chunk.volume_id}, needle {chunk.needle_id}: asked for {wanted!r},"
            f" received {content_range[:100]!r}"
        )
