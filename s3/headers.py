"""Headers: what a client stores beside the bytes of an object, and what GET and HEAD answer of it.  Pure

    stored     Content-Type, Cache-Control, Content-Disposition, Content-Encoding (but for aws-chunked),
               Content-Language, Expires (as text), x-amz-website-redirect-location, x-amz-meta-*,
               x-amz-storage-class
    answered   these, with ETag, Last-Modified, checksums, counts of tags and parts
    replaced   six of them, by a signed request's `response-*` parameters

Values are bytes and go back as they came, whatever they are: metadata in Latin-1, in UTF-8 or as encoded
words of RFC 2047.  Names come in small letters, as HTTP has them.

Source: the Amazon S3 user guide, "Working with object metadata"; the Amazon S3 API reference, "GetObject".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, timedelta
from functools import lru_cache
from typing import Final, TypeAlias

from msgspec import Struct

from warehouse.s3.failures import Failure
from warehouse.s3.listing import Parameters
from warehouse.s3.payload import stored_encoding
from warehouse.s3.ranges import Slice, content_range
from warehouse.s3.xml_out import STANDARD, Checksum

Header: TypeAlias = tuple[bytes, bytes]

METADATA_SIZE_MAX: Final = 8 * 1024  # names and values together; S3 has 2 KiB
REDIRECT_SIZE_MAX: Final = 2 * 1024
STORAGE_CLASSES: Final = frozenset((STANDARD, "REDUCED_REDUNDANCY"))
DEFAULT_TYPE: Final = b"binary/octet-stream"

CHECKSUM_MODE: Final = b"x-amz-checksum-mode"
_ENCODING: Final = b"content-encoding"
_REDIRECT: Final = b"x-amz-website-redirect-location"
_META: Final = b"x-amz-meta-"
_META_LENGTH: Final = len(_META)
_STORAGE_CLASS: Final = b"x-amz-storage-class"
# The headers that are stored, and how they are spelled in answers.
_SPELLED: Final = {
    b"content-type": b"Content-Type",
    b"cache-control": b"Cache-Control",
    b"content-disposition": b"Content-Disposition",
    _ENCODING: b"Content-Encoding",
    b"content-language": b"Content-Language",
    b"expires": b"Expires",
    _REDIRECT: _REDIRECT,
}
_OVERRIDES: Final = {
    "response-content-type": b"content-type",
    "response-content-language": b"content-language",
    "response-expires": b"expires",
    "response-cache-control": b"cache-control",
    "response-content-disposition": b"content-disposition",
    "response-content-encoding": _ENCODING,
}
_is_redirect: Final = re.compile(rb"/|https?://").match
_find_control: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f]").search

_EPOCH: Final = date(1970, 1, 1)
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class StoredHeaders(Struct, frozen=True):
    """What a client says of an object when it stores it.

    Attributes:
        named: those of the list above, by name; none of them is empty.
        metadata: by name without `x-amz-meta-`; a value may be empty.
    """

    named: Mapping[bytes, bytes]
    metadata: Mapping[bytes, bytes]
    storage_class: str = STANDARD


def read_stored(headers: Mapping[bytes, bytes]) -> StoredHeaders:
    """
    Args:
        headers: of a PUT, a copy or the start of an upload; or the fields of a form.
    Raises:
        Failure: MetadataTooLarge, InvalidStorageClass, InvalidArgument.
    """
    named: dict[bytes, bytes] = {}
    metadata: dict[bytes, bytes] = {}
    for name, value in headers.items():
        if name in _SPELLED:
            if value:
                named[name] = value
        elif name.startswith(_META):
            metadata[name[_META_LENGTH:]] = value
    if _ENCODING in named:
        encoding = stored_encoding(named.pop(_ENCODING))
        if encoding is not None:
            named[_ENCODING] = encoding
    if _REDIRECT in named:
        _check_redirect(named[_REDIRECT])
    if metadata:
        _check_metadata(metadata)
    return StoredHeaders(named, metadata, read_storage_class(headers))


def _check_metadata(metadata: Mapping[bytes, bytes]) -> None:
    if b"" in metadata:
        raise Failure("InvalidArgument", "The name of user metadata must not be empty.")
    size = sum(map(len, metadata)) + sum(map(len, metadata.values()))
    if size > METADATA_SIZE_MAX:
        raise Failure(
            "MetadataTooLarge",
            "Your metadata headers exceed the maximum allowed metadata size",
            {"Size": str(size), "MaxSizeAllowed": str(METADATA_SIZE_MAX)},
        )


def read_storage_class(headers: Mapping[bytes, bytes]) -> str:
    """
    Raises:
        Failure: InvalidStorageClass: it is no class that objects can have here.
    """
    value = headers.get(_STORAGE_CLASS)
    if not value:
        return STANDARD
    name = value.decode("latin-1")
    if name not in STORAGE_CLASSES:
        raise Failure(
            "InvalidStorageClass",
            "The storage class you specified is not valid",
            {"StorageClassRequested": ascii(name[:100])[1:-1]},
        )
    return name


def _check_redirect(value: bytes) -> None:
    if not _is_redirect(value) or len(value) > REDIRECT_SIZE_MAX:
        raise Failure(
            "InvalidArgument",
            "The website redirect location must begin with /, http:// or https://, and have at most"
            f" {REDIRECT_SIZE_MAX} bytes.",
            {"ArgumentName": _REDIRECT.decode()},
        )


# --- answers ------------------------------------------------------------------------------------------


class Described(Struct, frozen=True):
    """An object as GET and HEAD describe it."""

    etag: str  # without quotes
    modified_ms: int
    size: int
    stored: StoredHeaders
    tag_count: int = 0
    part_count: int | None = None  # of a multipart object
    checksum: Checksum | None = None  # of the bytes that are sent; of none where a range is
    missing_count: int = 0  # user metadata that no header can hold


def object_headers(
    described: Described,
    found: Slice | None = None,
    *,
    by_part: bool = False,
    overrides: Mapping[bytes, bytes] | None = None,
) -> list[Header]:
    """The headers of a 200 or 206, all but Content-Length.

    Args:
        found: the bytes that are sent; None: all.
        by_part: whether the request named a part, and so asks how many there are.
        overrides: from `read_overrides`.
    """
    stored = described.stored
    named = {**stored.named, **overrides} if overrides else stored.named
    headers: list[Header] = [
        (b"ETag", _as_etag(described.etag)),
        (b"Last-Modified", http_date(described.modified_ms // 1000)),
        (b"Accept-Ranges", b"bytes"),
    ]
    if b"content-type" not in named:
        headers.append((b"Content-Type", DEFAULT_TYPE))
    for name, value in named.items():
        headers.append((_SPELLED[name], value))
    for name, value in stored.metadata.items():
        headers.append((_META + name, value))
    if is_partial(found):
        assert found is not None
        headers.append((b"Content-Range", content_range(found, described.size)))
    if stored.storage_class != STANDARD:
        headers.append((_STORAGE_CLASS, stored.storage_class.encode()))
    if described.missing_count:
        headers.append((b"x-amz-missing-meta", b"%d" % described.missing_count))
    if described.tag_count:
        headers.append((b"x-amz-tagging-count", b"%d" % described.tag_count))
    if by_part and described.part_count is not None:
        headers.append((b"x-amz-mp-parts-count", b"%d" % described.part_count))
    if described.checksum is not None:
        headers += checksum_headers(described.checksum)
    return headers


def not_modified_headers(described: Described) -> list[Header]:
    """The headers of a 304: RFC 9110, 15.4.5."""
    headers = [
        (b"ETag", _as_etag(described.etag)),
        (b"Last-Modified", http_date(described.modified_ms // 1000)),
    ]
    for name in (b"cache-control", b"expires"):
        if name in described.stored.named:
            headers.append((_SPELLED[name], described.stored.named[name]))
    return headers


def is_partial(found: Slice | None) -> bool:
    """Whether the answer is a 206: not for part 1 of an empty object, whose range nobody could write."""
    return found is not None and found.length > 0


def checksum_headers(checksum: Checksum) -> list[Header]:
    headers = [(b"x-amz-checksum-" + checksum.algorithm.lower().encode(), checksum.value.encode())]
    if checksum.type is not None:
        headers.append((b"x-amz-checksum-type", checksum.type.encode()))
    return headers


def wants_checksum(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a GET or HEAD asks for the checksum.

    Send it with all bytes of an object, or with one part and the part's own; never with a range: clients
    compare it with the bytes that they get.
    """
    return headers.get(CHECKSUM_MODE, b"").upper() == b"ENABLED"


def read_overrides(query: Parameters, *, is_signed: bool) -> dict[bytes, bytes]:
    """What the `response-*` parameters put in the place of stored headers, by name in small letters.

    Raises:
        Failure: InvalidRequest: the request is anonymous; InvalidArgument: a value that no header can have.
    """
    overrides: dict[bytes, bytes] = {}
    for parameter, name in _OVERRIDES.items():
        value = query.get(parameter)
        if not value:
            continue
        if not is_signed:
            raise Failure(
                "InvalidRequest",
                "Request specific response headers cannot be used for anonymous GET requests.",
            )
        if _find_control(value):
            raise Failure(
                "InvalidArgument",
                f"{parameter} has a control character.",
                {"ArgumentName": parameter},
            )
        overrides[name] = value.encode()
    return overrides


def _as_etag(etag: str) -> bytes:
    return b'"%b"' % etag.encode("latin-1")


def http_date(time_s: int) -> bytes:
    """A time in seconds since 1970, as `Sun, 06 Nov 1994 08:49:37 GMT`."""
    day, second = divmod(time_s, 86_400)
    return b"%b %02d:%02d:%02d GMT" % (_day(day), second // 3600, second // 60 % 60, second % 60)


@lru_cache(1024)
def _day(day: int) -> bytes:
    found = _EPOCH + timedelta(days=day)
    return f"{_DAYS[found.weekday()]}, {found.day:02} {_MONTHS[found.month - 1]} {found.year:04}".encode()
