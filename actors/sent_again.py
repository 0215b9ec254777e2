"""Sent again: a client that lost our answer sends its needle once more, and gets the same answer."""

from __future__ import annotations

from actors.commit_line import CommitLine
from errors import NeedleExists
from storage.extent import Placed
from storage.needle import NeedleMetadata, stored_size


def placed_before(
    line: CommitLine, needle_id: int, metadata: NeedleMetadata, size: int, crc: int | None
) -> tuple[Placed, NeedleMetadata, int]:
    """Where the needle lies that came before, with its metadata and its stamp.

    Raises:
        NeedleExists: the bytes or the key were others.
    """
    reader = line.volume.open_needle(needle_id)
    is_same = crc is not None and (reader.size, reader.crc) == (size, crc)
    if not is_same or reader.metadata.key != metadata.key:
        raise NeedleExists(f"this URL was used already, with other bytes: needle {needle_id} is written once")
    size_on_disk = stored_size(len(reader.metadata_bytes), reader.size)
    return Placed(size_on_disk, reader.crc, 0), reader.metadata, reader.stamp
