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
from warehouse.catalog.sqlite.plausibility import are_configs
from warehouse.errors import StoreError
from warehouse.storage.format.needle import (
    NEEDLE_ID_MAX,
    ROLE_AMENDMENT,
    ROLE_MANIFEST,
    ROLE_OBJECT,
    ROLE_PART,
    ROLES,
    BucketRecord,
    NeedleMetadata,
)
from warehouse.transport.messages.attributes import MANIFEST_INDEX, decode_attributes

TIME_MS_MAX: Final = 1 << 48  # the year 10889
BUCKET_ID_MAX: Final = 1 << 48  # ids follow the clock, see `last_bucket_id`
UPLOAD_ID_MAX: Final = (1 << 63) - 1
CHUNK_COUNT_MAX: Final = 1 << 31
VOLUME_ID_MAX: Final = 1 << 31
WORD_LENGTH_MAX: Final = 128  # of an id of an account, or a region
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
        if metadata.attributes:
            decode_attributes(metadata.attributes)
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
        and metadata.role == ROLE_OBJECT
        and metadata.target is None
    ):
        return None
    if (problem := _role_problem(metadata)) is not None:
        return problem
    is_of_manifest = metadata.role in (ROLE_PART, ROLE_MANIFEST)
    index_max = MANIFEST_INDEX if is_of_manifest else CHUNK_COUNT_MAX - 1
    numbers = (
        ("bucket id", metadata.bucket_id, 1, BUCKET_ID_MAX),
        ("time of creation", metadata.created_ms, 0, TIME_MS_MAX),
        ("upload id", upload_id, 0, UPLOAD_ID_MAX),
        ("chunk index", metadata.chunk_index, 0, index_max),
        ("chunk count", count, 1, CHUNK_COUNT_MAX),
        ("object size", size, 0, OBJECT_SIZE_MAX),
    )
    for what, number, least, most in numbers:
        if number is not None and not least <= number <= most:
            return f"its {what} is {number}; expected {least} to {most}"
    if count is not None and metadata.chunk_index >= count and not is_of_manifest:
        return f"it is chunk {metadata.chunk_index}, counted from 0, of only {count}"
    return None


def _role_problem(metadata: NeedleMetadata) -> str | None:
    role, target = metadata.role, metadata.target
    if role not in ROLES:
        return f"its role is {role}, which this release does not know"
    if (role in (ROLE_PART, ROLE_MANIFEST)) and metadata.upload_id is None:
        return f"it belongs to no upload, though its role is {role}"
    if (role == ROLE_MANIFEST) != (metadata.chunk_index == MANIFEST_INDEX):
        return f"it stands at index {metadata.chunk_index}, though its role is {role}"
    if role != ROLE_AMENDMENT:
        return None if target is None else "it has a target, and changes nothing"
    if target is None or not (1 <= target[0] < VOLUME_ID_MAX and 1 <= target[1] <= NEEDLE_ID_MAX):
        return f"it is to change the version with the first needle {target}, which cannot be"
    return None if metadata.upload_id is None else "it changes a version, and belongs to an upload"


def bucket_problem(record: BucketRecord) -> str | None:
    """Why no honest store wrote this about a bucket; None: one may have."""
    if not 1 <= record.bucket_id <= BUCKET_ID_MAX:
        return f"its bucket id is {record.bucket_id}; expected 1 to {BUCKET_ID_MAX}"
    if not 0 <= record.created_ms <= TIME_MS_MAX:
        return f"its time of creation is {record.created_ms}; expected 0 to {TIME_MS_MAX}"
    for what, text in (("owner", record.owner_id), ("region", record.region)):
        if len(text) > WORD_LENGTH_MAX:
            return f"its {what} has {len(text)} characters; expected up to {WORD_LENGTH_MAX}"
    if not are_configs(record.configs):
        return "its configurations are more than a bucket has"
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
