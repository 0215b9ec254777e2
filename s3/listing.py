"""Listings: what a request to list asks for, with every bound checked.  Pure

Each listing has one value.  Its `after` and `limit` are what a caller fetches: entries greater than `after`,
at most `limit`.  A page (`paging.py`) says where the next one begins, and `xml_out.py` writes both.

    ListObjects      marker                        NextMarker
    ListObjectsV2    start-after, then a token     NextContinuationToken
    ListVersions     key-marker, version-id-marker NextKeyMarker, NextVersionIdMarker
    ListUploads      key-marker, upload-id-marker  NextKeyMarker, NextUploadIdMarker
    ListParts        part-number-marker            NextPartNumberMarker
    ListBuckets      a token                       ContinuationToken

Order is that of UTF-8 bytes, which is that of code points and so of Python's strings.  An empty parameter is
one that was not sent.  A limit of 0 gives an empty page, after which nothing follows.

Source: the Amazon S3 API reference, the six operations.
"""

from __future__ import annotations

from typing import Final, Protocol

from msgspec import Struct

from warehouse.s3.failures import Failure
from warehouse.s3.target import KEY_SIZE_MAX
from warehouse.s3.tokens import make_token, read_token

PAGE_SIZE_MAX: Final = 1000
BUCKETS_MAX: Final = 10_000
NUMBER_MAX: Final = 2**31 - 1  # S3 reads limits and part numbers as numbers of 32 bits
NULL_VERSION: Final = "null"


class Parameters(Protocol):
    """The query of a request, decoded."""

    def get(self, name: str, /) -> str | None: ...


class ListObjects(Struct, frozen=True):
    bucket: str
    prefix: str
    delimiter: str | None
    marker: str
    limit: int
    is_url_encoded: bool

    @property
    def after(self) -> str:
        return self.marker


class ListObjectsV2(Struct, frozen=True):
    bucket: str
    prefix: str
    delimiter: str | None
    token: str | None  # as it was sent; it may be empty, which is as good as none
    start_after: str | None
    after: str  # from the token, else from start-after
    limit: int
    is_url_encoded: bool
    with_owner: bool

    def token_after(self, last: str) -> str:
        """The token of a page that ends with the entry `last`."""
        return make_token(_objects_listing(self.bucket, self.prefix, self.delimiter), last)


class ListVersions(Struct, frozen=True):
    """`after` is enough while every object has one version: a page begins after a key."""

    bucket: str
    prefix: str
    delimiter: str | None
    key_marker: str
    version_id_marker: str
    limit: int
    is_url_encoded: bool

    @property
    def after(self) -> str:
        return self.key_marker


class ListUploads(Struct, frozen=True):
    bucket: str
    prefix: str
    delimiter: str | None
    key_marker: str
    upload_id_marker: str
    limit: int
    is_url_encoded: bool


class ListParts(Struct, frozen=True):
    bucket: str
    key: str
    upload_id: str
    after: int  # part numbers greater than this one
    limit: int


class ListBuckets(Struct, frozen=True):
    prefix: str
    region: str | None  # only buckets of this region
    token: str | None
    after: str
    limit: int

    def token_after(self, last: str) -> str:
        return make_token(_buckets_listing(self.prefix, self.region), last)


# --- from requests ------------------------------------------------------------------------------------


def read_list_objects(bucket: str, query: Parameters) -> ListObjects:
    """
    Raises:
        Failure: a parameter cannot be what it is; so do the other five.
    """
    return ListObjects(
        bucket=bucket,
        prefix=_text(query, "prefix"),
        delimiter=_text(query, "delimiter") or None,
        marker=_text(query, "marker"),
        limit=_limit(query, "max-keys"),
        is_url_encoded=_is_url_encoded(query),
    )


def read_list_objects_v2(bucket: str, query: Parameters) -> ListObjectsV2:
    prefix, delimiter = _text(query, "prefix"), _text(query, "delimiter") or None
    token, start_after = query.get("continuation-token"), query.get("start-after")
    after = _text(query, "start-after")
    if token:  # it says where the client is; start-after is only where it began
        after = read_token(_objects_listing(bucket, prefix, delimiter), token)
    return ListObjectsV2(
        bucket=bucket,
        prefix=prefix,
        delimiter=delimiter,
        token=token,
        start_after=start_after,
        after=after,
        limit=_limit(query, "max-keys"),
        is_url_encoded=_is_url_encoded(query),
        with_owner=_flag(query, "fetch-owner"),
    )


def read_list_versions(bucket: str, query: Parameters) -> ListVersions:
    key_marker, version_id_marker = _text(query, "key-marker"), _text(query, "version-id-marker")
    if version_id_marker and not key_marker:
        raise _argument(
            "version-id-marker",
            version_id_marker,
            "A version-id marker cannot be specified without a key marker.",
        )
    return ListVersions(
        bucket=bucket,
        prefix=_text(query, "prefix"),
        delimiter=_text(query, "delimiter") or None,
        key_marker=key_marker,
        version_id_marker=version_id_marker,
        limit=_limit(query, "max-keys"),
        is_url_encoded=_is_url_encoded(query),
    )


def read_list_uploads(bucket: str, query: Parameters) -> ListUploads:
    key_marker = _text(query, "key-marker")
    return ListUploads(
        bucket=bucket,
        prefix=_text(query, "prefix"),
        delimiter=_text(query, "delimiter") or None,
        key_marker=key_marker,
        # S3 ignores an upload id without a key.
        upload_id_marker=_text(query, "upload-id-marker") if key_marker else "",
        limit=_limit(query, "max-uploads"),
        is_url_encoded=_is_url_encoded(query),
    )


def read_list_parts(bucket: str, key: str, upload_id: str, query: Parameters) -> ListParts:
    return ListParts(
        bucket=bucket,
        key=key,
        upload_id=upload_id,
        after=read_number("part-number-marker", query.get("part-number-marker"), 0),
        limit=_limit(query, "max-parts"),
    )


def read_list_buckets(query: Parameters) -> ListBuckets:
    prefix, region = _text(query, "prefix"), _text(query, "bucket-region") or None
    token = query.get("continuation-token")
    limit = read_number("max-buckets", query.get("max-buckets"), BUCKETS_MAX)
    if not 1 <= limit <= BUCKETS_MAX:
        raise _argument(
            "max-buckets", str(limit), f"Argument max-buckets must be an integer between 1 and {BUCKETS_MAX}."
        )
    return ListBuckets(
        prefix=prefix,
        region=region,
        token=token,
        after=read_token(_buckets_listing(prefix, region), token) if token else "",
        limit=limit,
    )


def _objects_listing(bucket: str, prefix: str, delimiter: str | None) -> tuple[str, ...]:
    return ("objects", bucket, prefix, delimiter or "")


def _buckets_listing(prefix: str, region: str | None) -> tuple[str, ...]:
    return ("buckets", prefix, region or "")


# --- parameters ---------------------------------------------------------------------------------------


def _text(query: Parameters, name: str) -> str:
    text = query.get(name)
    if not text:
        return ""
    if len(text) > KEY_SIZE_MAX // 4 and (size := len(text.encode())) > KEY_SIZE_MAX:
        raise Failure(
            "KeyTooLongError",
            f"{name} is longer than any key can be.",
            {"Size": str(size), "MaxSizeAllowed": str(KEY_SIZE_MAX)},
        )
    return text


def read_number(name: str, text: str | None, default: int) -> int:
    """A number of digits that fits 32 bits.

    Raises:
        Failure: it is not (InvalidArgument).
    """
    if not text:
        return default
    # str.isdigit takes the digits of all scripts, as int() does.
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= NUMBER_MAX):
        raise _argument(name, text, f"Provided {name} not an integer or within integer range.")
    return int(text)


def _limit(query: Parameters, name: str) -> int:
    return min(read_number(name, query.get(name), PAGE_SIZE_MAX), PAGE_SIZE_MAX)


def _flag(query: Parameters, name: str) -> bool:
    text = query.get(name)
    if text and text.lower() not in ("true", "false"):
        raise _argument(name, text, f"{name} must be true or false.")
    return text is not None and text.lower() == "true"


def _is_url_encoded(query: Parameters) -> bool:
    text = query.get("encoding-type")
    if text and text.lower() != "url":
        raise _argument("encoding-type", text, "Invalid Encoding Method specified in Request.")
    return bool(text)


def _argument(name: str, value: str, message: str) -> Failure:
    return Failure("InvalidArgument", message, {"ArgumentName": name, "ArgumentValue": value[:KEY_SIZE_MAX]})
