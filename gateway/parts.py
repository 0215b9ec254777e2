"""Parts: what the store keeps of uploads and their parts for S3, and what S3 shows of them.  Pure

The attributes that an upload is begun with are those of its object.  They name the checksum that was asked
for; its digest follows from the parts, so one zero byte stands for it until then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from warehouse.client.writing.multipart import PartDigests
from warehouse.gateway.kept import storage_class_of
from warehouse.gateway.owners import owner_of
from warehouse.s3.checksums import ChecksumType, MultipartChecksum, algorithm_named, text_of
from warehouse.s3.completion import StoredPart, digest_of_whole, kind_of_whole, md5_of_parts
from warehouse.s3.integrity import Digests
from warehouse.s3.upload_ids import make_upload_id
from warehouse.s3.xml_out import Checksum, ListedPart, ListedUpload, UploadFacts
from warehouse.transport.messages import PartInfo, UploadInfo
from warehouse.transport.messages.attributes import ObjectAttributes, ObjectChecksum, decode_attributes

_UNKNOWN: Final = b"\0"


# --- uploads --------------------------------------------------------------------------------------


def begun_with(attributes: ObjectAttributes, kind: MultipartChecksum | None) -> ObjectAttributes:
    """What an upload is begun with whose object shall have this checksum; None: whatever its parts have."""
    if kind is None:
        return attributes
    asked = ObjectChecksum(kind.algorithm.name, kind.type is ChecksumType.COMPOSITE, _UNKNOWN)
    return msgspec.structs.replace(attributes, checksum=asked)


def kind_of(upload: UploadInfo) -> MultipartChecksum | None:
    """The checksum that the upload was begun with."""
    asked = decode_attributes(upload.attributes).checksum
    if asked is None:
        return None
    kind = ChecksumType.COMPOSITE if asked.is_composite else ChecksumType.FULL_OBJECT
    return MultipartChecksum(algorithm_named(asked.algorithm), kind)


def attributes_of_whole(upload: UploadInfo, parts: Sequence[StoredPart]) -> ObjectAttributes:
    """The attributes of the object that the upload becomes from these parts."""
    kind, checksum = kind_of_whole(kind_of(upload), parts), None
    if kind is not None:
        digest = digest_of_whole(kind, parts)
        checksum = ObjectChecksum(kind.algorithm.name, kind.type is ChecksumType.COMPOSITE, digest)
    return msgspec.structs.replace(
        decode_attributes(upload.attributes),
        md5=md5_of_parts(parts),
        part_count=len(parts),
        checksum=checksum,
    )


def facts_of(upload: UploadInfo, bucket_owner_id: str) -> UploadFacts:
    kind = kind_of(upload)
    return UploadFacts(
        owner=owner_of(upload.owner_id or bucket_owner_id),
        initiator=owner_of(upload.initiator_id or upload.owner_id or bucket_owner_id),
        storage_class=storage_class_of(decode_attributes(upload.attributes)),
        checksum_algorithm=None if kind is None else kind.algorithm.name,
        checksum_type=None if kind is None else kind.type.value,
    )


def listed_upload(bucket: str, upload: UploadInfo, bucket_owner_id: str) -> ListedUpload:
    facts = facts_of(upload, bucket_owner_id)
    return ListedUpload(
        upload.key,
        make_upload_id(bucket, upload.key, upload.upload_id),
        upload.created_ms,
        facts.owner,
        facts.initiator,
        facts.storage_class,
        facts.checksum_algorithm,
        facts.checksum_type,
    )


# --- parts ----------------------------------------------------------------------------------------


def part_digests(digests: Digests) -> PartDigests:
    """What the store keeps of the digests of a part."""
    if digests.algorithm is None or digests.checksum is None:
        return PartDigests(digests.md5)
    return PartDigests(digests.md5, ObjectChecksum(digests.algorithm.name, False, digests.checksum))


def stored_part(part: PartInfo) -> StoredPart:
    md5, checksum = bytes.fromhex(part.etag), part.checksum
    if checksum is None:
        return StoredPart(part.number, part.size, md5)
    return StoredPart(part.number, part.size, md5, algorithm_named(checksum.algorithm), checksum.digest)


def listed_part(part: PartInfo) -> ListedPart:
    return ListedPart(part.number, part.created_ms, part.etag, part.size, checksum_of_part(part))


def checksum_of_part(part: PartInfo) -> Checksum | None:
    checksum = part.checksum
    return None if checksum is None else Checksum(checksum.algorithm, text_of(checksum.digest))
