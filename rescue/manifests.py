"""Manifests: which objects are the uploads that end with one, and which attributes count by now?

    upload      one whose manifest lives, and all chunks that it names.  Of several manifests the best counts,
                as of several chunks with one index, but none that names a chunk with a tombstone: chunks of
                an object go together with its manifest.  Chunks that it does not name are none of the object
    amendment   of those for one version the newest counts, if it leaves the ETag alone

A manifest that is damaged cannot say what its object was.  Its version counts all the same, with the damaged
needle as its only one, so nobody is served an older version; and its chunks are kept for a person to look at.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from crc32c import crc32c

from warehouse.errors import BadMetadata, ReadFailed
from warehouse.rescue.console import reading
from warehouse.rescue.staging import (
    Amendment,
    Part,
    Staging,
    Version,
    needle_id_of,
    place_of,
    volume_number_of,
)
from warehouse.storage.disk import Disk, read_fully
from warehouse.storage.files import data_path, volume_directory
from warehouse.storage.format.superblock import VolumeIdentity
from warehouse.storage.reader import read_header
from warehouse.transport.messages.attributes import (
    Manifest,
    decode_attributes,
    decode_manifest,
    part_of_index,
)

if TYPE_CHECKING:
    from warehouse.rescue.survey import FoundVolume

MANIFEST_SIZE_MAX: Final = 64 * 1024 * 1024  # bytes; 5 TiB in 10,000 parts take a tenth


class ManifestReader:
    """Reads manifests out of the volumes that were surveyed."""

    def __init__(self, volumes: list[FoundVolume], staging: Staging) -> None:
        """
        Args:
            volumes: the index is the number in the places of the staging.
        """
        self._volumes = volumes
        self._staging = staging
        self._numbers = numbers_of(volumes)

    def read(self, found: Part) -> Manifest:
        """The content of a manifest.

        Raises:
            BadMetadata: it is none.
            ReadFailed: the disk refused.
        """
        volume = self._volumes[volume_number_of(found.place)]
        content = _read(volume.holder.disk, volume.identity, found)
        if crc32c(content) != found.crc:
            raise BadMetadata("its content changed while it was read")
        return decode_manifest(content)

    def best_of(self, manifests: list[Part]) -> Part:
        """The one that counts of the living manifests of one upload.

        Args:
            manifests: at least one, the best first, but for what they say.
        """
        if len(manifests) > 1:  # a disk that was away has not got the tombstones of those that were given up
            manifests = [found for found in manifests if not self._is_given_up(found)] or manifests
        return manifests[0]

    def _is_given_up(self, found: Part) -> bool:
        """Whether a chunk that it names has a tombstone."""
        try:
            named = [] if found.is_damaged else self.read(found).chunks
        except (BadMetadata, ReadFailed):
            return False
        return any(
            chunk.volume_id in self._numbers
            and self._staging.has_tombstone(place_of(self._numbers[chunk.volume_id], chunk.needle_id))
            for chunk in named
        )

    def judge(self, found: Part) -> tuple[Version, list[int]] | str:
        """The version that a manifest makes, and the places of its chunks; or why it makes none."""
        try:
            manifest = self.read(found)
        except (BadMetadata, ReadFailed) as error:
            return f"its manifest cannot be used: {error.message}"
        chunks = self._chunks_of(manifest, found)
        if isinstance(chunks, str):
            return chunks
        if (problem := _parts_problem(manifest, chunks)) is not None:
            return problem
        first = chunks[0]
        version = Version(
            found.bucket_id,
            found.key,
            max(found.stamp, *(chunk.stamp for chunk in chunks)),
            first.place,
            manifest.size,
            first.crc,
            first.created_ms,
            found.content_type,
            found.metadata,
            first.offset,
            any(chunk.is_damaged for chunk in chunks),
            found.upload_id,
            len(chunks),
            manifest.attributes or None,
            found.place,
        )
        return version, [chunk.place for chunk in chunks]

    def _chunks_of(self, manifest: Manifest, found: Part) -> list[Part] | str:
        chunks: list[Part] = []
        for named in manifest.chunks:
            number = self._numbers.get(named.volume_id)
            chunk = None if number is None else self._staging.piece_at(place_of(number, named.needle_id))
            if chunk is None:
                continue
            if _upload_of(chunk) != _upload_of(found) or chunk.size != named.size:
                return f"its manifest names needle {named.needle_id}, which is none of its chunks"
            if not chunk.is_damaged and chunk.crc != named.crc:
                return f"its manifest knows another content of needle {named.needle_id}"
            chunks.append(chunk)
        if len(chunks) != len(manifest.chunks) or not chunks:
            return f"{len(chunks)} of {len(manifest.chunks)} chunks"
        if any(chunk.chunk_index >= after.chunk_index for chunk, after in itertools.pairwise(chunks)):
            return "its manifest names its chunks in another order than they were sent in"
        return chunks


def numbers_of(volumes: list[FoundVolume]) -> Mapping[int, int]:
    """Of each volume id, its number in the places."""
    return {volume.identity.volume_id: number for number, volume in enumerate(volumes)}


def _read(disk: Disk, identity: VolumeIdentity, found: Part) -> bytes:
    what = f"volume {identity.volume_id}, needle {needle_id_of(found.place)}"
    if found.size > MANIFEST_SIZE_MAX:
        raise BadMetadata(f"{what} has {found.size} bytes; a manifest has up to {MANIFEST_SIZE_MAX}")
    with reading(what):
        file = disk.open(data_path(volume_directory(identity.volume_id), identity.generation), read_only=True)
        try:
            header = read_header(file, identity.seed, found.offset, metadata_size=0, nowait=False)
            if header is None:
                raise BadMetadata(f"{what} has no header any more")
            content = bytearray(found.size)
            read_fully(file, content, found.offset + header[0].data_offset)
            return bytes(content)
        finally:
            file.close()


def _parts_problem(manifest: Manifest, chunks: list[Part]) -> str | None:
    """Why the parts of a manifest are not those of its chunks; None: they are."""
    rest = iter(chunks)
    for part in manifest.parts:
        own = list(itertools.islice(rest, part.chunk_count))
        origins = {part_of_index(chunk.chunk_index)[:2] for chunk in own}
        if len(origins) != 1 or {number for number, _ in origins} != {part.number}:
            return f"its manifest gives part {part.number} the chunks of another part"
        if sum(chunk.size for chunk in own) != part.size:
            return f"the chunks of part {part.number} do not add up to it"
    return None


def damaged_version(found: Part) -> Version:
    """What a damaged manifest leaves of its version: that there was one."""
    return Version(
        found.bucket_id,
        found.key,
        found.stamp,
        found.place,
        found.size,
        found.crc,
        found.created_ms,
        found.content_type,
        found.metadata,
        found.offset,
        True,
        None,
        1,
    )


def manifests_of_uploads(staging: Staging) -> Iterator[list[Part]]:
    """The living manifests of each upload that has any, the best first, but for what they say."""
    for _, group in itertools.groupby(staging.manifests(), key=_upload_of):
        yield [*group]


def apply_amendments(staging: Staging) -> None:
    """Give versions the attributes that their newest amendments say."""
    for target, group in itertools.groupby(staging.amendments(), key=_target_of):
        for amendment in group:
            version = staging.version_at(amendment.bucket_id, amendment.key, target)
            if version is not None and _etag(version.attributes) == _etag(amendment.attributes):
                staging.amend(amendment)
                break


def _etag(attributes: bytes | None) -> str | None:
    return decode_attributes(attributes or b"").etag


def _target_of(amendment: Amendment) -> int:
    return amendment.target


def _upload_of(part: Part) -> tuple[int, int, str]:
    return part.upload_id, part.bucket_id, part.key
