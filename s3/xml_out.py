"""XML out: every document that S3 answers with, from values to bytes.  Pure

Documents are put together by hand: a page of 1,000 keys takes 2 ms, by ElementTree 15 ms.  Text gets
into a document through `escape` alone.  ETags come without their quotes and are written with them.

XML 1.0 cannot hold some characters, such as `\\x01`.  Listings write them as character references, as S3 does
it.  Most parsers refuse these, so clients ask for `encoding-type=url`, and then names are percent-encoded
instead.  Other documents have no such way: there these characters are replaced, because a client that cannot
read the answer does not learn the id of its upload, or why it was refused.

Source: the Amazon S3 API reference.  The tests read these documents with botocore's parser and model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta
from functools import lru_cache
from typing import Final
from urllib.parse import quote

from msgspec import Struct

from warehouse.s3.cors import CorsRule
from warehouse.s3.failures import Failure
from warehouse.s3.listing import (
    NULL_VERSION,
    ListBuckets,
    ListObjects,
    ListObjectsV2,
    ListParts,
    ListUploads,
    ListVersions,
)
from warehouse.s3.paging import Page, UploadPage

CONTENT_TYPE: Final = b"application/xml"
# A long copy sends this at once, then blanks while it lasts, then what is left of its document.
DECLARATION: Final = b'<?xml version="1.0" encoding="UTF-8"?>\n'
STANDARD: Final = "STANDARD"

_DECLARATION: Final = DECLARATION.decode()
_NAMESPACE: Final = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
_SCHEMA: Final = ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
_EPOCH: Final = date(1970, 1, 1)

_NOT_IN_XML: Final = "\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff"
# CR is legal, but a parser turns it into LF unless it is a reference.
_find_special: Final = re.compile(f'[&<>"\r{_NOT_IN_XML}]').search
_replace_special: Final = re.compile(f'[&<>"\r{_NOT_IN_XML}]').sub
_replace_illegal: Final = re.compile(f"[{_NOT_IN_XML}]").sub
_NAMED: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}


class Owner(Struct, frozen=True):
    id: str
    display_name: str


class Checksum(Struct, frozen=True):
    """A checksum as clients see it: `CRC32`, its value in base64, `FULL_OBJECT` or `COMPOSITE`."""

    algorithm: str
    value: str
    type: str | None = None


class ListedBucket(Struct, frozen=True):
    name: str
    created_ms: int
    region: str | None = None


class ListedObject(Struct, frozen=True):
    key: str
    modified_ms: int
    etag: str
    size: int
    storage_class: str = STANDARD
    owner: Owner | None = None  # written where the listing asks for owners
    checksum_algorithm: str | None = None
    checksum_type: str | None = None


class ListedUpload(Struct, frozen=True):
    key: str
    upload_id: str
    initiated_ms: int
    owner: Owner
    initiator: Owner
    storage_class: str = STANDARD
    checksum_algorithm: str | None = None
    checksum_type: str | None = None


class ListedPart(Struct, frozen=True):
    number: int
    modified_ms: int
    etag: str
    size: int
    checksum: Checksum | None = None


class UploadFacts(Struct, frozen=True):
    """What a listing of parts says of their upload."""

    owner: Owner
    initiator: Owner
    storage_class: str = STANDARD
    checksum_algorithm: str | None = None
    checksum_type: str | None = None


class Deleted(Struct, frozen=True):
    key: str
    version_id: str | None = None  # as it was asked for
    is_marker: bool = False  # a delete marker was made or deleted
    marker_version_id: str | None = None


class NotDeleted(Struct, frozen=True):
    key: str
    failure: Failure
    version_id: str | None = None


class AttributeParts(Struct, frozen=True):
    """The parts of a multipart object as GetObjectAttributes shows them."""

    total: int
    after: int
    limit: int
    is_truncated: bool
    parts: Sequence[ListedPart]


class Attributes(Struct, frozen=True):
    """What GetObjectAttributes shows; None: was not asked for, or the object has none."""

    etag: str | None = None
    checksum: Checksum | None = None
    parts: AttributeParts | None = None
    storage_class: str | None = None
    size: int | None = None


# --- text ---------------------------------------------------------------------------------------------


def escape(text: str) -> str:
    """`text` as the content of an element.  `>` and `"` are escaped too, as S3 does it."""
    if _find_special(text) is None:
        return text
    return _replace_special(_reference, text)


def _reference(found: re.Match[str]) -> str:
    character = found[0]
    return _NAMED.get(character) or f"&#x{ord(character):X};"


def url_encoded(text: str) -> str:
    """`text` as `encoding-type=url` writes names: percent-encoded but for letters, digits and `-._~/`."""
    return quote(text, safe="/")


def timestamp(time_ms: int) -> str:
    """A time in milliseconds since 1970, as `2009-10-12T17:50:30.000Z`."""
    day, of_day_ms = divmod(time_ms, 86_400_000)
    second, millisecond = divmod(of_day_ms, 1000)
    return f"{_date(day)}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}.{millisecond:03}Z"


@lru_cache(1024)  # most objects of a page were stored on a few days
def _date(day: int) -> str:
    return (_EPOCH + timedelta(days=day)).isoformat()


def _writer(is_url_encoded: bool) -> Callable[[str], str]:
    return url_encoded if is_url_encoded else escape


def _document(root: str, content: str, attributes: str = _NAMESPACE) -> bytes:
    return f"{_DECLARATION}<{root}{attributes}>{content}</{root}>".encode()


def _text(name: str, text: str | None) -> str:
    """An element, or nothing for None."""
    return "" if text is None else f"<{name}>{escape(text)}</{name}>"


def _legal_text(name: str, text: str | None) -> str:
    """`_text` without the characters that XML cannot hold."""
    return "" if text is None else _text(name, _replace_illegal("\ufffd", text))


def _key(key: str) -> str:
    return _legal_text("Key", key)


def _number(name: str, number: int | None) -> str:
    return "" if number is None else f"<{name}>{number}</{name}>"


def _bool(name: str, value: bool) -> str:
    return f"<{name}>{'true' if value else 'false'}</{name}>"


def _etag(etag: str) -> str:
    return f"<ETag>&quot;{escape(etag)}&quot;</ETag>"


@lru_cache(256)  # the objects of a page have few owners
def _owner(owner: Owner | None, name: str = "Owner") -> str:
    if owner is None:
        return ""
    return f"<{name}>{_text('ID', owner.id)}{_text('DisplayName', owner.display_name)}</{name}>"


def _checksum(checksum: Checksum | None) -> str:
    if checksum is None:
        return ""
    value = _text(f"Checksum{checksum.algorithm}", checksum.value)
    return value + _text("ChecksumType", checksum.type)


def _checksum_kind(algorithm: str | None, kind: str | None) -> str:
    return _text("ChecksumAlgorithm", algorithm) + _text("ChecksumType", kind)


# --- listings -----------------------------------------------------------------------------------------


def list_buckets(request: ListBuckets, page: Page[ListedBucket], owner: Owner) -> bytes:
    buckets = "".join(
        f"<Bucket>{_text('Name', bucket.name)}<CreationDate>{timestamp(bucket.created_ms)}</CreationDate>"
        f"{_text('BucketRegion', bucket.region)}</Bucket>"
        for bucket in page.rows
    )
    token = None if page.next_after is None else request.token_after(page.next_after)
    return _document(
        "ListAllMyBucketsResult",
        f"{_owner(owner)}<Buckets>{buckets}</Buckets>"
        f"{_text('Prefix', request.prefix or None)}{_text('ContinuationToken', token)}",
    )


def list_objects(request: ListObjects, page: Page[ListedObject]) -> bytes:
    name = _writer(request.is_url_encoded)
    # S3 sends NextMarker with a delimiter only; clients that do not know loop without it.
    next_marker = "" if page.next_after is None else f"<NextMarker>{name(page.next_after)}</NextMarker>"
    # botocore asks for encoded names by itself, and decodes them all but this one.
    prefix = (_legal_text if request.is_url_encoded else _text)("Prefix", request.prefix)
    return _document(
        "ListBucketResult",
        f"{_text('Name', request.bucket)}{prefix}"
        f"<Marker>{name(request.marker)}</Marker>{next_marker}"
        + _listing_end(request, page.is_truncated)
        + _contents(page.rows, name)
        + _common_prefixes(page.prefixes, name),
    )


def list_objects_v2(request: ListObjectsV2, page: Page[ListedObject]) -> bytes:
    name = _writer(request.is_url_encoded)
    start_after = request.start_after
    return _document(
        "ListBucketResult",
        f"{_text('Name', request.bucket)}<Prefix>{name(request.prefix)}</Prefix>"
        + _text("ContinuationToken", request.token)
        + ("" if start_after is None else f"<StartAfter>{name(start_after)}</StartAfter>")
        + (
            ""
            if page.next_after is None
            else _text("NextContinuationToken", request.token_after(page.next_after))
        )
        + _number("KeyCount", len(page.rows) + len(page.prefixes))
        + _listing_end(request, page.is_truncated)
        + _contents(page.rows, name)
        + _common_prefixes(page.prefixes, name),
    )


def list_versions(request: ListVersions, page: Page[ListedObject]) -> bytes:
    """Objects as their one version, `null`, which is the latest."""
    name = _writer(request.is_url_encoded)
    next_marker = ""
    if page.next_after is not None:
        next_marker = f"<NextKeyMarker>{name(page.next_after)}</NextKeyMarker>"
        if page.rows and page.rows[-1].key == page.next_after:
            next_marker += _text("NextVersionIdMarker", NULL_VERSION)
    return _document(
        "ListVersionsResult",
        f"{_text('Name', request.bucket)}<Prefix>{name(request.prefix)}</Prefix>"
        f"<KeyMarker>{name(request.key_marker)}</KeyMarker>"
        f"{_text('VersionIdMarker', request.version_id_marker)}{next_marker}"
        + _listing_end(request, page.is_truncated)
        + "".join(_version(row, name) for row in page.rows)
        + _common_prefixes(page.prefixes, name),
    )


def list_uploads(request: ListUploads, page: UploadPage[ListedUpload]) -> bytes:
    name = _writer(request.is_url_encoded)
    next_marker = ""
    if page.is_truncated:
        next_marker = f"<NextKeyMarker>{name(page.next_key)}</NextKeyMarker>"
        next_marker += _text("NextUploadIdMarker", page.next_id)
    delimiter = "" if request.delimiter is None else f"<Delimiter>{name(request.delimiter)}</Delimiter>"
    return _document(
        "ListMultipartUploadsResult",
        f"{_text('Bucket', request.bucket)}<KeyMarker>{name(request.key_marker)}</KeyMarker>"
        f"{_text('UploadIdMarker', request.upload_id_marker)}{next_marker}"
        f"<Prefix>{name(request.prefix)}</Prefix>{delimiter}"
        f"{_number('MaxUploads', request.limit)}{_encoding_type(request.is_url_encoded)}"
        + _bool("IsTruncated", page.is_truncated)
        + "".join(_upload(row, name) for row in page.rows)
        + _common_prefixes(page.prefixes, name),
    )


def list_parts(
    request: ListParts, parts: Sequence[ListedPart], is_truncated: bool, upload: UploadFacts
) -> bytes:
    return _document(
        "ListPartsResult",
        f"{_text('Bucket', request.bucket)}{_key(request.key)}"
        f"{_text('UploadId', request.upload_id)}"
        f"{_owner(upload.initiator, 'Initiator')}{_owner(upload.owner)}"
        f"{_text('StorageClass', upload.storage_class)}"
        + _checksum_kind(upload.checksum_algorithm, upload.checksum_type)
        + _number("PartNumberMarker", request.after)
        + _number("NextPartNumberMarker", parts[-1].number if parts else request.after)
        + _number("MaxParts", request.limit)
        + _bool("IsTruncated", is_truncated)
        + "".join(_part(part) for part in parts),
    )


def _listing_end(request: ListObjects | ListObjectsV2 | ListVersions, is_truncated: bool) -> str:
    name = _writer(request.is_url_encoded)
    delimiter = "" if request.delimiter is None else f"<Delimiter>{name(request.delimiter)}</Delimiter>"
    return (
        f"<MaxKeys>{request.limit}</MaxKeys>{delimiter}{_encoding_type(request.is_url_encoded)}"
        f"{_bool('IsTruncated', is_truncated)}"
    )


def _encoding_type(is_url_encoded: bool) -> str:
    return "<EncodingType>url</EncodingType>" if is_url_encoded else ""


def _contents(rows: Iterable[ListedObject], name: Callable[[str], str]) -> str:
    # The hot loop of all listings: one f-string, and calls only where there is something to write.
    return "".join(
        [
            f"<Contents><Key>{name(row.key)}</Key><LastModified>{timestamp(row.modified_ms)}</LastModified>"
            f"{_etag(row.etag)}"
            f"{_checksum_kind(row.checksum_algorithm, row.checksum_type) if row.checksum_algorithm else ''}"
            f"<Size>{row.size}</Size>{_owner(row.owner) if row.owner is not None else ''}"
            f"<StorageClass>{row.storage_class}</StorageClass></Contents>"
            for row in rows
        ]
    )


def _version(row: ListedObject, name: Callable[[str], str]) -> str:
    return (
        f"<Version><Key>{name(row.key)}</Key><VersionId>{NULL_VERSION}</VersionId><IsLatest>true</IsLatest>"
        f"<LastModified>{timestamp(row.modified_ms)}</LastModified>{_etag(row.etag)}"
        f"{_checksum_kind(row.checksum_algorithm, row.checksum_type)}"
        f"<Size>{row.size}</Size>{_owner(row.owner)}<StorageClass>{row.storage_class}</StorageClass></Version>"
    )


def _upload(row: ListedUpload, name: Callable[[str], str]) -> str:
    return (
        f"<Upload><Key>{name(row.key)}</Key>{_text('UploadId', row.upload_id)}"
        f"{_owner(row.initiator, 'Initiator')}{_owner(row.owner)}"
        f"<StorageClass>{row.storage_class}</StorageClass>"
        f"<Initiated>{timestamp(row.initiated_ms)}</Initiated>"
        f"{_checksum_kind(row.checksum_algorithm, row.checksum_type)}</Upload>"
    )


def _part(part: ListedPart) -> str:
    return (
        f"<Part><PartNumber>{part.number}</PartNumber>"
        f"<LastModified>{timestamp(part.modified_ms)}</LastModified>{_etag(part.etag)}"
        f"<Size>{part.size}</Size>{_checksum(part.checksum)}</Part>"
    )


def _common_prefixes(prefixes: Iterable[str], name: Callable[[str], str]) -> str:
    return "".join(
        [f"<CommonPrefixes><Prefix>{name(prefix)}</Prefix></CommonPrefixes>" for prefix in prefixes]
    )


# --- uploads, copies, deletions -----------------------------------------------------------------------


def initiate_upload(bucket: str, key: str, upload_id: str) -> bytes:
    return _document(
        "InitiateMultipartUploadResult",
        f"{_text('Bucket', bucket)}{_key(key)}{_text('UploadId', upload_id)}",
    )


def complete_upload(location: str, bucket: str, key: str, etag: str, checksum: Checksum | None) -> bytes:
    return _document(
        "CompleteMultipartUploadResult",
        f"{_text('Location', location)}{_text('Bucket', bucket)}{_key(key)}{_etag(etag)}"
        f"{_checksum(checksum)}",
    )


def copy_object(etag: str, modified_ms: int, checksum: Checksum | None) -> bytes:
    return _copied("CopyObjectResult", etag, modified_ms, checksum)


def copy_part(etag: str, modified_ms: int, checksum: Checksum | None) -> bytes:
    return _copied("CopyPartResult", etag, modified_ms, checksum)


def _copied(root: str, etag: str, modified_ms: int, checksum: Checksum | None) -> bytes:
    modified = f"<LastModified>{timestamp(modified_ms)}</LastModified>"
    return _document(root, f"{modified}{_etag(etag)}{_checksum(checksum)}")


def delete_result(outcomes: Iterable[Deleted | NotDeleted]) -> bytes:
    """What became of each key.  In quiet mode, hand in the failures alone."""
    return _document(
        "DeleteResult",
        "".join(
            _deleted(outcome) if isinstance(outcome, Deleted) else _not_deleted(outcome)
            for outcome in outcomes
        ),
    )


def _deleted(outcome: Deleted) -> str:
    return (
        f"<Deleted>{_key(outcome.key)}{_legal_text('VersionId', outcome.version_id)}"
        f"{_bool('DeleteMarker', True) if outcome.is_marker else ''}"
        f"{_text('DeleteMarkerVersionId', outcome.marker_version_id)}</Deleted>"
    )


def _not_deleted(outcome: NotDeleted) -> str:
    failure = outcome.failure
    return (
        f"<Error>{_key(outcome.key)}{_legal_text('VersionId', outcome.version_id)}"
        f"{_text('Code', failure.code)}{_legal_text('Message', failure.message)}</Error>"
    )


def post_response(location: str, bucket: str, key: str, etag: str) -> bytes:
    """The answer to a form with `success_action_status` 201."""
    return _document(
        "PostResponse",
        f"{_text('Location', location)}{_text('Bucket', bucket)}{_key(key)}{_etag(etag)}",
        attributes="",
    )


# --- what an object or a bucket has -------------------------------------------------------------------


def object_attributes(attributes: Attributes) -> bytes:
    checksum = attributes.checksum
    return _document(
        "GetObjectAttributesResponse",
        _text("ETag", attributes.etag)  # without quotes, here alone
        + (f"<Checksum>{_checksum(checksum)}</Checksum>" if checksum is not None else "")
        + (_attribute_parts(attributes.parts) if attributes.parts is not None else "")
        + _text("StorageClass", attributes.storage_class)
        + _number("ObjectSize", attributes.size),
    )


def _attribute_parts(shown: AttributeParts) -> str:
    parts = "".join(
        f"<Part><PartNumber>{part.number}</PartNumber><Size>{part.size}</Size>"
        f"{_checksum_value(part.checksum)}</Part>"
        for part in shown.parts
    )
    return (
        f"<ObjectParts>{_number('PartsCount', shown.total)}{_number('PartNumberMarker', shown.after)}"
        f"{_number('NextPartNumberMarker', shown.parts[-1].number if shown.parts else shown.after)}"
        f"{_number('MaxParts', shown.limit)}{_bool('IsTruncated', shown.is_truncated)}{parts}</ObjectParts>"
    )


def _checksum_value(checksum: Checksum | None) -> str:
    return "" if checksum is None else _text(f"Checksum{checksum.algorithm}", checksum.value)


def tagging(tags: Iterable[tuple[str, str]]) -> bytes:
    tag_set = "".join(f"<Tag>{_text('Key', key)}{_text('Value', value)}</Tag>" for key, value in tags)
    return _document("Tagging", f"<TagSet>{tag_set}</TagSet>")


def cors(rules: Iterable[CorsRule]) -> bytes:
    return _document("CORSConfiguration", "".join(map(_cors_rule, rules)))


def _cors_rule(rule: CorsRule) -> str:
    lists = (
        ("AllowedHeader", rule.allowed_headers),
        ("AllowedMethod", rule.methods),
        ("AllowedOrigin", rule.origins),
        ("ExposeHeader", rule.exposed_headers),
    )
    texts = "".join(_text(name, text) for name, found in lists for text in found)
    max_age = None if rule.max_age_s is None else str(rule.max_age_s)
    return f"<CORSRule>{_text('ID', rule.id)}{texts}{_text('MaxAgeSeconds', max_age)}</CORSRule>"


def location_constraint(region: str) -> bytes:
    """Where a bucket is; the empty text is us-east-1."""
    return _document("LocationConstraint", escape(region))


def access_control_policy(owner: Owner) -> bytes:
    """The access control list of what belongs to its owner alone."""
    grantee = (
        f'<Grantee{_SCHEMA} xsi:type="CanonicalUser">{_text("ID", owner.id)}'
        f"{_text('DisplayName', owner.display_name)}</Grantee>"
    )
    return _document(
        "AccessControlPolicy",
        f"{_owner(owner)}<AccessControlList><Grant>{grantee}<Permission>FULL_CONTROL</Permission></Grant>"
        "</AccessControlList>",
    )


def configuration(root: str, fields: Iterable[tuple[str, str]] = ()) -> bytes:
    """A configuration that nobody has made: its outermost element, and what little it says."""
    return _document(root, "".join(_text(name, text) for name, text in fields))


# --- errors -------------------------------------------------------------------------------------------


def error_document(failure: Failure, resource: str, request_id: str, host_id: str) -> bytes:
    """What a refused request is answered with, unless it is a HEAD.

    Args:
        resource: the path of the request, as it was sent.
        request_id: that of the header `x-amz-request-id`.
        host_id: that of the header `x-amz-id-2`.
    """
    elements = [
        ("Code", failure.code),
        ("Message", failure.message),
        *failure.fields.items(),
        ("Resource", resource),
        ("RequestId", request_id),
        ("HostId", host_id),
    ]
    content = "".join(_legal_text(name, text) for name, text in elements)
    return _document("Error", content, attributes="")
