"""Put request: what a put says about its object, read and checked; the same rules for one and for many.

Everything that a request says is honoured, or the request is refused.  What the token fixes (key, type,
metadata) takes precedence.  Values in, values out.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec

from warehouse.actors.data.scope import require_writable
from warehouse.auth.data_tokens import DataClaims
from warehouse.catalog.names import check_key, check_metadata
from warehouse.errors import BadKey, BadMetadata, BadRequest, ExpectationFailed, UnsupportedCoding
from warehouse.storage.extent import Placed
from warehouse.storage.format.needle import (
    NEEDLE_ID_MAX,
    ROLE_AMENDMENT,
    ROLE_MANIFEST,
    ROLE_OBJECT,
    ROLE_PART,
    NeedleMetadata,
)
from warehouse.transport.http.batch_format import PutHead
from warehouse.transport.http.conditions import check_etag_condition, refuse_conditions, write_conditions
from warehouse.transport.http.header_text import check_content_type
from warehouse.transport.http.heads import CONTINUE_ASKED, expectations
from warehouse.transport.http.integrity import CRC32C_FIELD, Checks, read_checks, read_crc32c
from warehouse.transport.messages import METADATA_SIZE_MAX, StoredNeedle
from warehouse.transport.messages.attributes import decode_attributes

NO_PROMISE = "-"  # of a token of 0.1.0
KEY_FIELD, METADATA_FIELD = b"x-warehouse-key", b"x-warehouse-metadata"
_OURS = b"x-warehouse-"
_KNOWN = frozenset((KEY_FIELD, METADATA_FIELD, CRC32C_FIELD))
_NOT_KEPT = frozenset((b"content-disposition", b"content-language", b"expires"))
# What clients of other stores ask for, and rely on.
_IS_OF_OTHER_STORES = re.compile(
    rb"x-(?:amz|goog|ms|oss|obs|cos)-(?:acl$|grant-|tag|storage-class|access-tier|server-side-encryption"
    rb"|encryption|copy-source|object-lock|immutability|legal-hold|website-redirect|trailer|decoded-content"
    rb"|write-offset|expected-bucket-owner|content-(?:disposition|encoding|language)|blob-content-)"
).match
_BAD_PERCENT = re.compile(rb"%(?![\da-fA-F]{2})").search
# What the library sends.  A put with no other header needs no further checks.
_PLAIN = frozenset(
    (*_KNOWN, b"host", b"authorization", b"content-length", b"content-type", b"expect", b"accept")
)


_ROLES_OF_CHUNKS = frozenset((ROLE_OBJECT, ROLE_PART, ROLE_MANIFEST))

Conditions = tuple[str | None, str | None]  # If-Match and If-None-Match
_NO_CONDITIONS: Conditions = (None, None)


class PutDetails(msgspec.Struct, frozen=True, gc=False):
    """What a put says about its needle.  With the needle's place and stamp, it is what the master is told."""

    claims: DataClaims
    needle_id: int
    size: int  # bytes of data
    metadata: NeedleMetadata
    conditions: Conditions

    @property
    def promise(self) -> str:
        """What shows the master that it has promised this needle."""
        return self.claims.proof or NO_PROMISE

    def stored(self, placed: Placed, stamp: int) -> StoredNeedle:
        """The needle as it is announced to the master, once it has been appended."""
        claims, metadata = self.claims, self.metadata
        if_match, if_none_match = self.conditions
        return StoredNeedle(
            claims.volume_id,
            self.needle_id,
            stamp,
            self.size,
            placed.crc,
            placed.stored_size,
            metadata.bucket_id,
            metadata.key,
            metadata.created_ms,
            metadata.content_type,
            metadata.metadata,
            claims.lease_id,
            metadata.upload_id,
            metadata.chunk_index,
            if_match,
            if_none_match,
            claims.key_id,
            claims.epoch,
            "",
            metadata.attributes,
            metadata.target,
        )


# The head of a PUT of one needle; a plain tuple, for it is made for each.  The number is what the sender
# says the CRC-32C of the body is, the last what else it says of that.
PutRequest = tuple[NeedleMetadata, Conditions, int | None, Checks | None]


def read_put(headers: Mapping[bytes, bytes], claims: DataClaims) -> PutRequest:
    """Read the head of a PUT.

    Raises:
        BadKey, BadMetadata, BadRequest, ExpectationFailed, PreconditionFailed, UnsupportedCoding:
            something is wrong, or would not be honoured.
        TokenScope: the token is for other keys.
    """
    if b"expect" in headers:
        _require_known_expectations(headers)
    metadata = _metadata_of(headers, claims)
    crc = read_crc32c(headers)
    if headers.keys() <= _PLAIN:
        return metadata, _with_signed(claims, _NO_CONDITIONS), crc, None
    _refuse_what_would_be_lost(headers)
    return metadata, _with_signed(claims, write_conditions(headers)), crc, read_checks(headers)


def _with_signed(claims: DataClaims, conditions: Conditions) -> Conditions:
    """The conditions of a put: one that its token makes takes the place of the request's."""
    return conditions if claims.if_none_match is None else (conditions[0], claims.if_none_match)


def _require_known_expectations(headers: Mapping[bytes, bytes]) -> None:
    for expectation in expectations(headers) - {CONTINUE_ASKED}:
        raise ExpectationFailed(
            f"Expect: 100-continue is all that is understood here, not {ascii(expectation)[1:100]}"
        )


def _refuse_what_would_be_lost(headers: Mapping[bytes, bytes]) -> None:
    if headers.get(b"content-encoding", b"").strip().lower() not in (b"", b"identity"):
        raise UnsupportedCoding(
            "the store keeps no Content-Encoding: leave out the header, and the bytes are kept as they are"
        )
    for name in (b"content-range", b"range"):  # RFC 9110, 14.5
        if name in headers:
            raise BadRequest(f"a PUT stores a whole object: {name.decode().title()} is not supported")
    if b"trailer" in headers:
        raise BadRequest("a body has a length and no trailer: leave out the header Trailer")
    for name in headers:
        if name.startswith((b"x-amz-meta-", b"x-goog-meta-", b"x-ms-meta-")):
            raise BadMetadata("user metadata comes in X-Warehouse-Metadata, as name=value&name=value")
        if name in _NOT_KEPT or _IS_OF_OTHER_STORES(name) is not None:
            raise BadRequest(f"the header {name.decode('latin-1')} is not supported: leave it out")
        if name.startswith(_OURS) and name not in _KNOWN:
            raise BadRequest(f"there is no header {name.decode('latin-1')}")


def check_batch(headers: Mapping[bytes, bytes]) -> None:
    """Refuse headers about one needle: in a batch each item has its own.

    Raises:
        BadRequest, BadMetadata, UnsupportedCoding: the request has one.
        ExpectationFailed: the client expects something other than 100-continue.
    """
    if b"expect" in headers:
        _require_known_expectations(headers)
    if headers.keys() <= _PLAIN and _KNOWN.isdisjoint(headers):
        return
    refuse_conditions(headers, "each item of a batch put carries its own")
    _refuse_what_would_be_lost(headers)
    if not _KNOWN.isdisjoint(headers) or read_checks(headers) is not None:
        raise BadRequest("a batch carries keys, metadata and checksums in its items, not in its headers")


def _metadata_of(headers: Mapping[bytes, bytes], claims: DataClaims) -> NeedleMetadata:
    key = claims.key
    if key is None:
        key = _key_of(headers.get(KEY_FIELD))
    require_writable(claims, key)
    content_type = claims.content_type
    if content_type is None:
        content_type = headers.get(b"content-type", b"").decode("latin-1") or None
    if content_type is not None:
        check_content_type(content_type)
    pairs = claims.metadata
    if pairs is None:
        header = headers.get(METADATA_FIELD)
        pairs = _user_metadata_of(header) if header is not None else {}
    return NeedleMetadata(
        bucket=claims.bucket,
        bucket_id=claims.bucket_id,
        key=key,
        created_ms=time.time_ns() // 1_000_000,
        content_type=content_type,
        metadata=pairs,
        upload_id=claims.upload_id,
        chunk_index=claims.chunk_index,
        chunk_count=claims.chunk_count,
        object_size=claims.object_size,
        role=_role_of(claims),
    )


def _role_of(claims: DataClaims) -> int:
    """Of a needle that is put alone: a master says what a chunk of an upload is to its object."""
    if claims.role not in _ROLES_OF_CHUNKS or (claims.role != ROLE_OBJECT and claims.upload_id is None):
        raise BadRequest(
            f"this token is for a needle of role {claims.role}, which this release does not know"
        )
    return claims.role


def _key_of(header: bytes | None) -> str:
    if header is None:
        raise BadKey("the header X-Warehouse-Key must name the object's key, percent-encoded")
    raw = header
    if b"%" in header:
        if _BAD_PERCENT(header) is not None:
            raise BadKey(
                "in X-Warehouse-Key two hexadecimal digits follow each '%'; write a percent sign as %25"
            )
        raw = unquote_to_bytes(header)
    try:
        key = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadKey(f"a key is UTF-8; byte {error.start} of this one is not") from error
    check_key(key)
    return key


def _user_metadata_of(header: bytes) -> dict[str, str]:
    if len(header) > 3 * METADATA_SIZE_MAX:
        raise BadMetadata(f"user metadata has at most {METADATA_SIZE_MAX} bytes")
    try:
        if _BAD_PERCENT(header) is not None:
            raise ValueError("a percent sign without two hexadecimal digits")
        text = header.decode("ascii")
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True, errors="strict") if text else []
    except ValueError as error:
        raise BadMetadata(
            "X-Warehouse-Metadata must be name=value pairs, percent-encoded, joined by '&'"
        ) from error
    metadata = dict(pairs)
    if len(metadata) != len(pairs):
        raise BadMetadata("user metadata names each name once")
    check_metadata(metadata)
    return metadata


def read_put_head(head: PutHead, claims: DataClaims, created_ms: int) -> tuple[NeedleMetadata, Conditions]:
    """Read the head of one item of a batch: its metadata and its conditions.

    Raises:
        BadKey, BadMetadata, BadRequest: something is wrong.
        TokenScope: the token is for other keys.
    """
    check_key(head.key)
    require_writable(claims, head.key)
    check_content_type(head.content_type)
    if head.metadata:
        check_metadata(head.metadata)
    metadata = NeedleMetadata(
        claims.bucket, claims.bucket_id, head.key, created_ms, head.content_type, head.metadata
    )
    if head.attributes or head.amends is not None:
        metadata = _with_attributes(metadata, head)
    if head.if_match is None and head.if_none_match is None:
        return metadata, _NO_CONDITIONS
    return metadata, (check_etag_condition(head.if_match), check_etag_condition(head.if_none_match))


def _with_attributes(metadata: NeedleMetadata, head: PutHead) -> NeedleMetadata:
    """The metadata with what the head says besides: attributes, and the version that they are to change.

    Raises:
        BadMetadata: the attributes cannot be read.
        BadRequest: an amendment has data or metadata, or changes what cannot be.
    """
    decode_attributes(head.attributes)
    if head.amends is None:
        return msgspec.structs.replace(metadata, attributes=head.attributes)
    if head.size or head.metadata:
        raise BadRequest("what changes the attributes of a version has no data or metadata of its own")
    if not all(0 < number <= NEEDLE_ID_MAX for number in head.amends):
        raise BadRequest(f"there is no version whose first needle is {head.amends}")
    return msgspec.structs.replace(
        metadata,
        content_type=None,  # its sender may name one, as with every put
        attributes=head.attributes,
        role=ROLE_AMENDMENT,
        target=head.amends,
    )
