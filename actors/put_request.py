"""Put request: what a put says about its object, read and checked; the same rules for one and for many.

Whatever a request says is honoured, or the request is refused.  What its token fixes (key, type, metadata)
counts.  Values in, values out.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote_to_bytes

from auth.tokens import DataClaims
from catalog.names import check_key, check_metadata
from errors import BadKey, BadMetadata, BadRequest, UnsupportedCoding
from storage.needle import NeedleMetadata
from transport.batches import PutHead
from transport.conditions import check_etag_condition, refuse_conditions, write_conditions
from transport.header_text import check_content_type
from transport.integrity import CRC32C_FIELD, Checks, read_checks, read_crc32c
from transport.messages import METADATA_SIZE_MAX

KEY_FIELD, METADATA_FIELD = b"x-warehouse-key", b"x-warehouse-metadata"
_OURS = b"x-warehouse-"
_KNOWN = frozenset((KEY_FIELD, METADATA_FIELD, CRC32C_FIELD))
# What the library sends.  A put with nothing else asks for nothing that would have to be looked for.
_PLAIN = frozenset(
    (*_KNOWN, b"host", b"authorization", b"content-length", b"content-type", b"expect", b"accept")
)


Conditions = tuple[str | None, str | None]  # If-Match and If-None-Match
_NO_CONDITIONS: Conditions = (None, None)

# The head of a PUT of one needle; a plain tuple, for it is made for each.  The number is what the sender
# says the CRC-32C of the body is, the last what else it says of that.
PutRequest = tuple[NeedleMetadata, Conditions, int | None, Checks | None]


def read_put(headers: Mapping[bytes, bytes], claims: DataClaims) -> PutRequest:
    """Read the head of a PUT.

    Raises:
        BadKey, BadMetadata, BadRequest, PreconditionFailed, UnsupportedCoding: something in it
            is wrong, or would not be honoured.
    """
    metadata = _metadata_of(headers, claims)
    crc = read_crc32c(headers)
    if headers.keys() <= _PLAIN:
        return metadata, _NO_CONDITIONS, crc, None
    _refuse_what_would_be_lost(headers)
    return metadata, write_conditions(headers), crc, read_checks(headers)


def _refuse_what_would_be_lost(headers: Mapping[bytes, bytes]) -> None:
    if headers.get(b"content-encoding", b"").strip().lower() not in (b"", b"identity"):
        raise UnsupportedCoding(
            "the store keeps no Content-Encoding: leave the header away, and the bytes are kept as they come"
        )
    if b"content-range" in headers:  # RFC 9110, 14.5
        raise BadRequest("a PUT stores a whole object: Content-Range is not supported")
    for name in headers:
        if name.startswith((b"x-amz-meta-", b"x-goog-meta-", b"x-ms-meta-")):
            raise BadMetadata("user metadata comes in X-Warehouse-Metadata, as name=value&name=value")
        if name.startswith(_OURS) and name not in _KNOWN:
            raise BadRequest(f"there is no header {name.decode('latin-1')}")


def check_batch(headers: Mapping[bytes, bytes]) -> None:
    """Refuse headers that are about one needle: in a batch each item says such things of itself.

    Raises:
        BadRequest, BadMetadata, UnsupportedCoding: there is one.
    """
    if headers.keys() <= _PLAIN and _KNOWN.isdisjoint(headers):
        return
    refuse_conditions(headers, "each item of a batch put carries its own")
    _refuse_what_would_be_lost(headers)
    if not _KNOWN.isdisjoint(headers) or read_checks(headers) is not None:
        raise BadRequest("key, metadata and checksums of a batch stand in its items, not in its headers")


def _metadata_of(headers: Mapping[bytes, bytes], claims: DataClaims) -> NeedleMetadata:
    key = claims.key
    if key is None:
        key = _key_of(headers.get(KEY_FIELD))
    content_type = claims.ct
    if content_type is None:
        content_type = headers.get(b"content-type", b"").decode("latin-1") or None
    if content_type is not None:
        check_content_type(content_type)
    pairs = claims.meta
    if pairs is None:
        header = headers.get(METADATA_FIELD)
        pairs = _user_metadata_of(header) if header is not None else {}
    return NeedleMetadata(
        bucket=claims.bkt,
        bucket_id=claims.bid,
        key=key,
        created_ms=time.time_ns() // 1_000_000,
        content_type=content_type,
        metadata=pairs,
        upload_id=claims.up,
        chunk_index=claims.idx,
        chunk_count=claims.cnt,
        object_size=claims.osz,
    )


def _key_of(header: bytes | None) -> str:
    if header is None:
        raise BadKey("the header X-Warehouse-Key must name the object's key, percent-encoded")
    raw = unquote_to_bytes(header) if b"%" in header else header
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
    """What an item of a batch says about its needle, and its conditions.

    Raises:
        BadKey, BadMetadata, BadRequest: something in it is wrong.
    """
    check_key(head.key)
    check_content_type(head.content_type)
    if head.metadata:
        check_metadata(head.metadata)
    metadata = NeedleMetadata(claims.bkt, claims.bid, head.key, created_ms, head.content_type, head.metadata)
    if head.if_match is None and head.if_none_match is None:
        return metadata, _NO_CONDITIONS
    return metadata, (check_etag_condition(head.if_match), check_etag_condition(head.if_none_match))
