"""Duplicates: a client that lost our answer sends its needle again, and gets the same answer."""

from __future__ import annotations

import msgspec

from warehouse.actors.data.commit_pipeline import CommitPipeline
from warehouse.actors.data.put_request import PutDetails
from warehouse.errors import NeedleExists, Overloaded
from warehouse.storage.extent import Placed
from warehouse.storage.format.needle import stored_size


def find_existing(
    pipeline: CommitPipeline, details: PutDetails, crc: int | None
) -> tuple[PutDetails, Placed, int]:
    """The needle that a put finds in its place: what the earlier put said, where it lies, and its stamp.

    Args:
        crc: CRC-32C of the data that came now; None: not known, so nobody can tell that it is the same.
    Raises:
        Overloaded: the earlier put is still coming in; the same request will be answered after it.
        NeedleExists: the earlier put had other bytes or another key, or nobody can tell.
    """
    needle_id = details.needle_id
    if pipeline.volume.is_being_filled(needle_id):
        raise Overloaded("another request with this URL or token is under way: try again when it has ended")
    reader = pipeline.volume.open_needle(needle_id)
    is_same = crc is not None and (reader.size, reader.crc) == (details.size, crc)
    if not is_same or reader.metadata.key != details.metadata.key:
        raise NeedleExists("this URL was used already, with other bytes: a needle is written once")
    size_on_disk = stored_size(len(reader.metadata_bytes), reader.size)
    earlier = msgspec.structs.replace(details, metadata=reader.metadata)
    return earlier, Placed(size_on_disk, reader.crc, 0), reader.stamp
