"""Exact: what the store says of an object is checked, and what is delivered of it is counted.  Pure.

A reader gets exactly as many bytes as `ObjectInfo.size` says, those of one version, or an error.  Two checks
see to that, and they trust nobody:

    where the object is     `require_consistent`: the chunks that an answer names add up to the object
    what was delivered      `Count`: a stream that is at its end has delivered all, and never more

What lies between, the bytes of one chunk, has its own check: their CRC (`require_chunk`).
"""

from __future__ import annotations

from warehouse.errors import NeedleCorrupt, ObjectInconsistent
from warehouse.transport.messages import Chunk, ObjectInfo

ADDRESS_MAX = 2**32 - 1  # of volumes, needles and CRCs


def require_consistent(info: ObjectInfo, key: str) -> None:
    """Refuse what a master says about the place of `key` when its parts contradict each other.

    Raises:
        ObjectInconsistent: the message says what was expected and what came.
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
            return f"a chunk at volume {chunk.volume_id}, needle {chunk.needle_id}, which cannot be"
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
        wanted: bytes that it is to deliver.
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
        """Note bytes just before they are handed out.

        Raises:
            ObjectInconsistent: they are more than the object has.
        """
        if size > self.left:
            raise ObjectInconsistent(
                f"{self.name}: {self.delivered + size} bytes came, {self.wanted} were to be read"
            )
        self.delivered += size

    def require_all(self) -> None:
        """The read is at its end.

        Raises:
            ObjectInconsistent: it has delivered less than it was to.
        """
        if self.delivered != self.wanted:
            raise ObjectInconsistent(
                f"{self.name}: its chunks end after {self.delivered} of {self.wanted} bytes to be read"
            )


def require_chunk(chunk: Chunk, size: int, crc: int) -> None:
    """Compare a whole chunk with what the catalog holds of it.

    Raises:
        NeedleCorrupt: it has another size or CRC.
    """
    if size != chunk.size or crc != chunk.crc:
        raise NeedleCorrupt(
            f"volume {chunk.volume_id}, needle {chunk.needle_id}: expected {chunk.size} bytes with CRC "
            f"{chunk.crc:08x}, received {size} with CRC {crc:08x}"
        )


def require_range(content_range: str | None, chunk: Chunk, start: int, length: int) -> None:
    """Refuse a partial answer that says it is another part than the one that was asked for.

    Raises:
        NeedleCorrupt: as the name says; an answer that does not say which part it is passes.
    """
    wanted = f"bytes {start}-{start + length - 1}/{chunk.size}"
    if content_range is not None and content_range.strip() not in (wanted, wanted.partition("/")[0] + "/*"):
        raise NeedleCorrupt(
            f"volume {chunk.volume_id}, needle {chunk.needle_id}: asked for {wanted!r},"
            f" {content_range[:100]!r} came"
        )
