"""Choosing: which of the versions, uploads and buckets on the disks count?  Pure.

    object   the version with the greatest stamp, if that is greater than the stamp of the latest deletion
    upload   counts when all its chunks live: 0 to n-1, with n known from any of them, and sizes that add up
             to the announced size; its stamp is the greatest stamp of its chunks.  One that ends with a
             manifest: when the chunks live that the manifest names (`manifests.py`)
    bucket   lives unless a record says that it was deleted, or a later bucket had its name (names are unique,
             so the earlier bucket must have been deleted); without any record, when an object lives in it

A damaged version counts like any other.  Serving an older version instead would be a lie that nobody notices;
answering that the object is damaged is the truth.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from warehouse.rescue.staging import Part, Version


class Verdict(enum.Enum):
    CHOSEN = "chosen"
    REPLACED = "replaced"  # a newer version counts
    DELETED = "deleted"  # the object was deleted after this version
    BUCKET_DELETED = "bucket deleted"


class Choice(msgspec.Struct, frozen=True, gc=False):
    """What became of one version."""

    version: Version
    verdict: Verdict
    stamp: int  # of what made it dead; its own if it is alive


def choose_versions(
    versions: Iterable[tuple[Version, int]], is_living_bucket: Callable[[int], bool]
) -> Iterator[Choice]:
    """Judge versions.

    Args:
        versions: by bucket and key, newest first, each with the stamp of the latest deletion of its key.
    """
    current: Version | None = None  # what counts for this key
    for version, killed_at in versions:
        if not is_living_bucket(version.bucket_id):
            yield Choice(version, Verdict.BUCKET_DELETED, max(version.stamp, killed_at))
        elif version.stamp <= killed_at:
            yield Choice(version, Verdict.DELETED, killed_at)
        elif current and current.key == version.key and current.bucket_id == version.bucket_id:
            yield Choice(version, Verdict.REPLACED, current.stamp)
        else:
            current = version
            yield Choice(version, Verdict.CHOSEN, version.stamp)


# --- uploads --------------------------------------------------------------------------------------


class Upload(msgspec.Struct, frozen=True):
    """The living chunks of one upload."""

    upload_id: int
    parts: list[Part]  # by index, one for each
    surplus: list[Part]  # others that claim the same index, because its slot was given again
    problem: str | None  # why this is not an object; None: it is one

    def version(self) -> Version:
        """The object that a complete upload makes."""
        first = self.parts[0]
        return Version(
            first.bucket_id,
            first.key,
            max(part.stamp for part in self.parts),
            first.place,
            sum(part.size for part in self.parts),
            first.crc,
            first.created_ms,
            first.content_type,
            first.metadata,
            first.offset,
            any(part.is_damaged for part in self.parts),
            first.upload_id,
            len(self.parts),
        )


def gather_uploads(parts: Iterable[Part]) -> Iterator[Upload]:
    """Put chunks together again; they come by upload, object and index, the best of each index first.

    An id names an upload of one object.  Chunks of another object with the same id are not part of the
    upload, so they cannot spoil it.
    """
    for (upload_id, _, _), group in itertools.groupby(parts, key=_upload_of):
        chosen: list[Part] = []
        surplus: list[Part] = []
        for part in group:
            is_taken = chosen and chosen[-1].chunk_index == part.chunk_index
            (surplus if is_taken else chosen).append(part)
        yield Upload(upload_id, chosen, surplus, _problem(chosen))


def _upload_of(part: Part) -> tuple[int, int, str]:
    return part.upload_id, part.bucket_id, part.key


def _problem(parts: Sequence[Part]) -> str | None:
    counts = {part.chunk_count for part in parts} - {None}
    sizes = {part.object_size for part in parts} - {None}
    if len(counts) != 1:
        return "its number of chunks is unknown" if not counts else "its chunks contradict each other"
    (count,) = counts
    assert count is not None
    if len(parts) != count or any(part.chunk_index != index for index, part in enumerate(parts)):
        return f"{len(parts)} of {count} chunks"
    found = sum(part.size for part in parts)
    if sizes and sizes != {found}:
        return (
            f"its chunks have {found} bytes together, not {max(filter(None, sizes), default=0)} as announced"
        )
    return None


# --- buckets --------------------------------------------------------------------------------------


class FoundBucket(msgspec.Struct, frozen=True):
    """What the volumes say about a bucket."""

    bucket_id: int
    name: str
    created_ms: int  # the earliest known
    is_recorded: bool = False
    is_deleted: bool = False
    stamp: int = 0  # of the latest record
    owner_id: str = ""  # of an account; "": no record says, like the next one
    region: str = ""
    is_lock_enabled: bool = False
    configs: dict[str, bytes] = {}  # of the latest record


def choose_buckets(
    found: Mapping[int, FoundBucket], has_living: Callable[[int], bool]
) -> dict[int, FoundBucket]:
    """The buckets that live, by id.

    Args:
        found: every bucket that a record or a needle names, also dead ones.
        has_living: does any version in the bucket live, as far as the deletions of keys tell?
    """
    last_id: dict[str, int] = {}
    for bucket in found.values():
        last_id[bucket.name] = max(bucket.bucket_id, last_id.get(bucket.name, 0))
    return {
        bucket.bucket_id: bucket
        for bucket in found.values()
        if last_id[bucket.name] == bucket.bucket_id
        and not bucket.is_deleted
        and (bucket.is_recorded or has_living(bucket.bucket_id))
    }
