"""Kept: what the store keeps of an object for S3, and what S3 shows of it.  Pure: values in, values out.

    content type      the store's own, if it can be one; else among the headers, as it came
    user metadata     the store's own where it is text in UTF-8; else raw, in the attributes
    other headers     in the attributes, with the storage class unless it is STANDARD
    MD5, checksum     in the attributes; the MD5 is the ETag
    tags, owner       in the attributes

So the library and the console show an object of S3 as they show their own, as far as they can.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from warehouse.s3.checksums import ChecksumType, text_of
from warehouse.s3.failures import Failure
from warehouse.s3.headers import DEFAULT_TYPE, Described, StoredHeaders
from warehouse.s3.integrity import Digests
from warehouse.s3.tags import Tags
from warehouse.s3.xml_out import STANDARD, Checksum
from warehouse.transport.http.header_text import is_content_type
from warehouse.transport.messages import ObjectInfo
from warehouse.transport.messages.attributes import ObjectAttributes, ObjectChecksum, decode_attributes

HEADER_SIZE_MAX: Final = 8 * 1024  # bytes of one stored header, as attributes have it
_CONTENT_TYPE: Final = b"content-type"
_STORAGE_CLASS: Final = "x-amz-storage-class"
_is_name: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch  # RFC 9110, 5.6.2
_has_control: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f]").search


class Kept(msgspec.Struct, frozen=True):
    """What a put tells the store of an object, before its bytes are known."""

    content_type: str
    metadata: dict[str, str]
    attributes: ObjectAttributes

    def with_digests(self, digests: Digests) -> ObjectAttributes:
        """The attributes of an object of these bytes, all of them."""
        checksum = None
        if digests.algorithm is not None and digests.checksum is not None:
            checksum = ObjectChecksum(digests.algorithm.name, False, digests.checksum)
        return msgspec.structs.replace(self.attributes, md5=digests.md5, checksum=checksum)


def kept_of(stored: StoredHeaders, tags: Tags, owner_id: str) -> Kept:
    """
    Args:
        owner_id: of the account that the object will belong to.
    Raises:
        Failure: MetadataTooLarge: a header is longer than one may be.
    """
    headers = {name.decode("latin-1"): value for name, value in stored.named.items()}
    content_type = stored.named.get(_CONTENT_TYPE, DEFAULT_TYPE).decode("latin-1")
    if is_content_type(content_type):
        headers.pop(_CONTENT_TYPE.decode(), None)
    else:
        content_type = DEFAULT_TYPE.decode()
    if stored.storage_class != STANDARD:
        headers[_STORAGE_CLASS] = stored.storage_class.encode()
    for name, value in headers.items():
        _check_size(name, value)
    metadata, raw = _metadata_of(stored.metadata)
    attributes = ObjectAttributes(owner_id=owner_id, headers=headers, raw_metadata=raw, tags=tags)
    return Kept(content_type, metadata, attributes)


def _check_size(name: str, value: bytes) -> None:
    if len(value) > HEADER_SIZE_MAX:
        raise Failure(
            "MetadataTooLarge",
            f"The header {name} exceeds the maximum allowed size",
            {"Size": str(len(value)), "MaxSizeAllowed": str(HEADER_SIZE_MAX)},
        )


def _metadata_of(given: Mapping[bytes, bytes]) -> tuple[dict[str, str], dict[str, bytes]]:
    """User metadata as text, and what is no text."""
    metadata: dict[str, str] = {}
    raw: dict[str, bytes] = {}
    for name, value in given.items():
        try:
            metadata[name.decode("latin-1")] = value.decode()
        except UnicodeDecodeError:
            raw[name.decode("latin-1")] = value
    return metadata, raw


def stored_of(info: ObjectInfo) -> StoredHeaders:
    """What was stored, as the headers of a put would say it."""
    return _stored_of(info, decode_attributes(info.attributes))


def _stored_of(info: ObjectInfo, attributes: ObjectAttributes) -> StoredHeaders:
    if not info.metadata and not attributes.raw_metadata and not attributes.headers:  # many
        return StoredHeaders({_CONTENT_TYPE: _type_of(info)}, {})
    metadata = {name: value.encode() for name, value in info.metadata.items()}
    metadata |= attributes.raw_metadata
    named = {_CONTENT_TYPE: _type_of(info)}
    named |= {name.encode(): value for name, value in attributes.headers.items() if name != _STORAGE_CLASS}
    shown = {name.encode(): value for name, value in metadata.items() if _is_shown(name, value)}
    return StoredHeaders(named, shown, storage_class_of(attributes))


def _type_of(info: ObjectInfo) -> bytes:
    return info.content_type.encode("latin-1", "replace") if info.content_type else DEFAULT_TYPE


def _is_shown(name: str, value: bytes) -> bool:
    """Whether it can be a header: objects of the library have names and values that cannot."""
    return bool(_is_name(name)) and not _has_control(value.decode("latin-1"))


def storage_class_of(attributes: ObjectAttributes) -> str:
    return attributes.headers.get(_STORAGE_CLASS, STANDARD.encode()).decode("latin-1")


def described_of(info: ObjectInfo, *, with_checksum: bool = False) -> Described:
    """An object as GET and HEAD show it.

    Args:
        with_checksum: all bytes of it are sent, and whoever asks compares them.
    """
    attributes = decode_attributes(info.attributes)
    stored = _stored_of(info, attributes)
    return Described(
        info.etag,
        info.created_ms,
        info.size,
        stored,
        tag_count=len(attributes.tags),
        part_count=attributes.part_count,
        checksum=checksum_of(attributes) if with_checksum else None,
        missing_count=len(info.metadata) + len(attributes.raw_metadata) - len(stored.metadata),
    )


def checksum_of(attributes: ObjectAttributes) -> Checksum | None:
    """The checksum of the whole object, as S3 writes it."""
    found = attributes.checksum
    if found is None:
        return None
    part_count = attributes.part_count if found.is_composite else None
    kind = ChecksumType.COMPOSITE if found.is_composite else ChecksumType.FULL_OBJECT
    return Checksum(found.algorithm, text_of(found.digest, part_count), kind)
