"""Copies: which source a copy names, and what of it the target gets.  Pure

    x-amz-copy-source          bucket/key, percent-encoded; a slash before it and a version after it may come
    x-amz-metadata-directive   COPY: headers and metadata of the source.  REPLACE: those of the request
    x-amz-tagging-directive    the same of tags

Storage class and redirect location always come from the request.  A copy onto itself must change something.

Source: the Amazon S3 API reference, "CopyObject" and "UploadPartCopy".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from warehouse.s3 import percent
from warehouse.s3.failures import Failure
from warehouse.s3.headers import StoredHeaders
from warehouse.s3.target import KEY_SIZE_MAX

COPY_SIZE_MAX: Final = 5 * 1024**3  # larger sources are copied by parts
_VERSION: Final = b"?versionId="
_REDIRECT: Final = b"x-amz-website-redirect-location"
# What a copy onto itself may change, apart from metadata.
_CHANGES: Final = (_REDIRECT, b"x-amz-storage-class", b"x-amz-checksum-algorithm")


class CopySource(Struct, frozen=True):
    bucket: str
    key: str
    version_id: str | None = None


def parse_copy_source(value: bytes) -> CopySource:
    """Read `x-amz-copy-source`.  It is decoded once, as a query is: a plus sign is a blank.

    AWS does so, and clients know it: some send blanks as plus signs here, all others encode plus signs.

    Raises:
        Failure: InvalidArgument: it names no object; KeyTooLongError; NotImplemented for an access point.
    """
    source, question, version = value.strip().partition(_VERSION)
    if source.startswith((b"arn:", b"/arn:")):
        raise Failure("NotImplemented", "Access points are not implemented.", {"Header": "x-amz-copy-source"})
    bucket, slash, key = _decoded(source).removeprefix("/").partition("/")
    if not bucket or not slash or not key:
        raise _refused(value, "it must name a bucket and a key")
    if len(key.encode()) > KEY_SIZE_MAX:
        raise Failure(
            "KeyTooLongError",
            "Your key is too long",
            {"Size": str(len(key.encode())), "MaxSizeAllowed": str(KEY_SIZE_MAX)},
        )
    if question and not version:
        raise _refused(value, "the version is empty")
    return CopySource(bucket, key, _decoded(version) if question else None)


def _decoded(text: bytes) -> str:
    try:
        return percent.decode_text(text.replace(b"+", b" "))
    except Failure as failure:
        raise _refused(text, failure.message) from None


class Directives(Struct, frozen=True):
    """Whether the request's own headers and tags take the place of the source's."""

    replaces_metadata: bool
    replaces_tags: bool


def read_directives(headers: Mapping[bytes, bytes]) -> Directives:
    """
    Raises:
        Failure: InvalidArgument: a directive is neither COPY nor REPLACE.
    """
    return Directives(
        _replaces(headers, b"x-amz-metadata-directive"), _replaces(headers, b"x-amz-tagging-directive")
    )


def _replaces(headers: Mapping[bytes, bytes], name: bytes) -> bool:
    value = headers.get(name, b"COPY")
    if value not in (b"COPY", b"REPLACE"):
        raise Failure(
            "InvalidArgument",
            f"Unknown directive: {name.decode()} must be COPY or REPLACE.",
            {"ArgumentName": name.decode(), "ArgumentValue": ascii(value[:100].decode("latin-1"))[1:-1]},
        )
    return value == b"REPLACE"


def check_onto_itself(
    source: CopySource, bucket: str, key: str, directives: Directives, headers: Mapping[bytes, bytes]
) -> None:
    """
    Raises:
        Failure: InvalidRequest: the copy would change nothing.
    """
    if (source.bucket, source.key) != (bucket, key) or source.version_id is not None:
        return
    if directives.replaces_metadata or any(headers.get(name) for name in _CHANGES):
        return
    raise Failure(
        "InvalidRequest",
        "This copy request is illegal because it is trying to copy an object to itself without changing the"
        " object's metadata, storage class, website redirect location or encryption attributes.",
    )


def check_copy_size(size: int) -> None:
    """
    Raises:
        Failure: InvalidRequest: the source is too large for one copy, or for one part.
    """
    if size > COPY_SIZE_MAX:
        raise Failure(
            "InvalidRequest",
            "The specified copy source is larger than the maximum allowable size for a copy source:"
            f" {COPY_SIZE_MAX}",
        )


def target_headers(source: StoredHeaders, asked: StoredHeaders, directives: Directives) -> StoredHeaders:
    """What the target of a copy gets.

    Args:
        asked: what the copy's request says, by `read_stored`.
    """
    if directives.replaces_metadata:
        return asked
    named = {name: value for name, value in source.named.items() if name != _REDIRECT}
    if _REDIRECT in asked.named:
        named[_REDIRECT] = asked.named[_REDIRECT]
    return StoredHeaders(named, source.metadata, asked.storage_class)


def _refused(value: bytes, why: str) -> Failure:
    return Failure(
        "InvalidArgument",
        f"Invalid copy source: {why}",
        {
            "ArgumentName": "x-amz-copy-source",
            "ArgumentValue": value[:200].decode("ascii", "backslashreplace"),
        },
    )
