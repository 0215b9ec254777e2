"""Sent again: a client that lost our answer sends its needle once more, and gets the same answer."""

from __future__ import annotations

from warehouse.actors.data.commit_pipeline import CommitPipeline
from warehouse.errors import NeedleExists, Overloaded
from warehouse.storage.extent import Placed
from warehouse.storage.format.needle import NeedleMetadata, stored_size


def find_existing(
    pipeline: CommitPipeline, needle_id: int, metadata: NeedleMetadata, size: int, crc: int | None
) -> tuple[Placed, NeedleMetadata, int]:
    """Where the needle lies that came before, with its metadata and its stamp.

    Raises:
        Overloaded: it is still coming; the same request will be answered when it has come.
        NeedleExists: the bytes or the key were others, or nobody can tell.
    """
    if pipeline.volume.is_being_filled(needle_id):
        raise Overloaded("another request with this URL or token is under way: try again when it has ended")
    reader = pipeline.volume.open_needle(needle_id)
    is_same = crc is not None and (reader.size, reader.crc) == (size, crc)
    if not is_same or reader.metadata.key != metadata.key:
        raise NeedleExists("this URL was used already, with other bytes: a needle is written once")
    size_on_disk = stored_size(len(reader.metadata_bytes), reader.size)
    return Placed(size_on_disk, reader.crc, 0), reader.metadata, reader.stamp
