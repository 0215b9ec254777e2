"""Admission: which names and numbers on a disk can be those of an honest store?  Pure.

A CRC says that bytes are as somebody wrote them, not that a store wrote them.  So records on a disk have to
pass the same checks as requests of a client, and have numbers that catalog and arithmetic can hold.  This
module decides that for rebuild and export alike.  A record that does not pass counts as damaged, and gets a
made-up name in the list.  `storage/format/stamp.py` judges stamps.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from warehouse.catalog.names import check_bucket_name, check_key, check_metadata
from warehouse.errors import StoreError
from warehouse.storage.format.needle import BucketRecord, NeedleMetadata

TIME_MS_MAX: Final = 1 << 48  # the year 10889
BUCKET_ID_MAX: Final = 1 << 48  # ids follow the clock, see `last_bucket_id`
UPLOAD_ID_MAX: Final = (1 << 63) - 1
CHUNK_COUNT_MAX: Final = 1 << 31
OBJECT_SIZE_MAX: Final = (1 << 63) - 1

UNNAMED_BUCKET: Final = "(unnamed)"  # not a valid name of a bucket


def needle_problem(metadata: NeedleMetadata) -> str | None:
    """Why no honest store wrote a needle, or the tombstone of one, with this metadata; None: one may have."""
    if (problem := _number_problem(metadata)) is not None:
        return problem
    if (problem := _bucket_name_problem(metadata.bucket)) is not None:
        return problem
    try:
        check_key(metadata.key)
        if metadata.metadata:
            # Release 0.1.0 accepted a value without a name: such an object is whole, and stays as it is.
            check_metadata({name or "-": value for name, value in metadata.metadata.items()})
    except StoreError as error:
        return error.message
    return None


def _number_problem(metadata: NeedleMetadata) -> str | None:
    upload_id, count, size = metadata.upload_id, metadata.chunk_count, metadata.object_size
    if (  # the usual case first: a rebuild asks for each needle
        1 <= metadata.bucket_id <= BUCKET_ID_MAX
        and 0 <= metadata.created_ms <= TIME_MS_MAX
        and upload_id is None
        and metadata.chunk_index == 0
        and count == 1
        and size is None
    ):
        return None
    numbers = (
        ("bucket id", metadata.bucket_id, 1, BUCKET_ID_MAX),
        ("time of creation", metadata.created_ms, 0, TIME_MS_MAX),
        ("upload id", upload_id, 0, UPLOAD_ID_MAX),
        ("chunk index", metadata.chunk_index, 0, CHUNK_COUNT_MAX - 1),
        ("chunk count", count, 1, CHUNK_COUNT_MAX),
        ("object size", size, 0, OBJECT_SIZE_MAX),
    )
    for what, number, least, most in numbers:
        if number is not None and not least <= number <= most:
            return f"its {what} is {number}; expected {least} to {most}"
    if count is not None and metadata.chunk_index >= count:
        return f"it is chunk {metadata.chunk_index}, counted from 0, of only {count}"
    return None


def bucket_problem(record: BucketRecord) -> str | None:
    """Why no honest store wrote this about a bucket; None: one may have."""
    if not 1 <= record.bucket_id <= BUCKET_ID_MAX:
        return f"its bucket id is {record.bucket_id}; expected 1 to {BUCKET_ID_MAX}"
    if not 0 <= record.created_ms <= TIME_MS_MAX:
        return f"its time of creation is {record.created_ms}; expected 0 to {TIME_MS_MAX}"
    if record.is_deleted and not record.name:
        return None  # a deletion may have been recorded without the name
    return _bucket_name_problem(record.name)


@lru_cache(maxsize=1024)  # needles of one bucket follow each other
def _bucket_name_problem(name: str) -> str | None:
    try:
        check_bucket_name(name)
    except StoreError as error:
        return error.message
    return None
