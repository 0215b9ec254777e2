"""Attributes: which of them a copy of an object has.  Pure"""

from __future__ import annotations

import msgspec

from warehouse.transport.messages.attributes import NO_ATTRIBUTES, ObjectAttributes, decode_attributes


def attributes_of_copy(encoded: bytes, *, keeps_metadata: bool) -> ObjectAttributes | None:
    """Headers and tags, and the digests that are those of all bytes: digests of parts say nothing of a copy,
    which has none.  The copy belongs to the owner of its bucket.

    Args:
        encoded: the attributes of the object.
        keeps_metadata: whether its user metadata is copied, too.
    Returns:
        The attributes of the copy; None: it has none.
    """
    found = decode_attributes(encoded)
    checksum = found.checksum
    kept = msgspec.structs.replace(
        found,
        md5=found.md5 if found.part_count is None else None,
        part_count=None,
        owner_id="",
        raw_metadata=found.raw_metadata if keeps_metadata else {},
        checksum=None if checksum is None or checksum.is_composite else checksum,
        version_id=None,
    )
    return None if kept == NO_ATTRIBUTES else kept
