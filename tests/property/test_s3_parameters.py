"""What botocore says in queries and headers is read as it was meant: listings, reads, copies, stored headers."""

from __future__ import annotations

import string
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import botocore.handlers
from hypothesis import given
from hypothesis import strategies as st

from botocore_kit import Serialized, serialized
from warehouse.s3 import conditions, copying, headers, listing, ranges, tags
from warehouse.s3.etags import parse_tags
from warehouse.s3.query import Query, parse_query

names = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from("a/+% \x00\x01é😀&=?#\r\n"), max_size=10
)
given_names = names.filter(bool)
limits = st.integers(0, 3000)
moments = st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)).map(
    lambda moment: moment.replace(microsecond=0)
)
etags = st.text(string.hexdigits.lower() + "-", min_size=1, max_size=40)
header_texts = (
    st.text(string.ascii_letters + string.digits + "/;=., -", min_size=1, max_size=20)
    .map(str.strip)
    .filter(bool)
)


def optional(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=members)


def query_of(sent: Serialized) -> Query:
    return parse_query(sent.query)


@given(
    asked=optional(Prefix=names, Delimiter=names, Marker=names, MaxKeys=limits, EncodingType=st.just("url"))
)
def test_list_objects(asked: dict[str, Any]) -> None:
    request = listing.read_list_objects("b", query_of(serialized("ListObjects", Bucket="b", **asked)))
    assert request == listing.ListObjects(
        "b",
        asked.get("Prefix", ""),
        asked.get("Delimiter") or None,
        asked.get("Marker", ""),
        min(asked.get("MaxKeys", 1000), 1000),
        "EncodingType" in asked,
    )


@given(
    asked=optional(
        Prefix=names,
        Delimiter=names,
        StartAfter=names,
        MaxKeys=limits,
        FetchOwner=st.booleans(),
        EncodingType=st.just("url"),
    ),
    last=st.none() | names,
)
def test_list_objects_v2(asked: dict[str, Any], last: str | None) -> None:
    first = listing.read_list_objects_v2("b", query_of(serialized("ListObjectsV2", Bucket="b", **asked)))
    if last is not None:
        asked["ContinuationToken"] = first.token_after(last)
    request = listing.read_list_objects_v2("b", query_of(serialized("ListObjectsV2", Bucket="b", **asked)))
    assert request == listing.ListObjectsV2(
        "b",
        asked.get("Prefix", ""),
        asked.get("Delimiter") or None,
        asked.get("ContinuationToken"),
        asked.get("StartAfter"),
        asked.get("StartAfter", "") if last is None else last,
        min(asked.get("MaxKeys", 1000), 1000),
        "EncodingType" in asked,
        asked.get("FetchOwner", False),
    )


@given(asked=optional(Prefix=names, Delimiter=names, KeyMarker=given_names, MaxKeys=limits), version=names)
def test_list_versions(asked: dict[str, Any], version: str) -> None:
    if "KeyMarker" in asked:
        asked["VersionIdMarker"] = version
    request = listing.read_list_versions("b", query_of(serialized("ListObjectVersions", Bucket="b", **asked)))
    assert (request.key_marker, request.version_id_marker) == (
        asked.get("KeyMarker", ""),
        asked.get("VersionIdMarker", ""),
    )
    assert (request.prefix, request.delimiter) == (asked.get("Prefix", ""), asked.get("Delimiter") or None)


@given(asked=optional(Prefix=names, Delimiter=names, KeyMarker=given_names, MaxUploads=limits), upload=names)
def test_list_uploads(asked: dict[str, Any], upload: str) -> None:
    sent = serialized("ListMultipartUploads", Bucket="b", UploadIdMarker=upload, **asked)
    request = listing.read_list_uploads("b", query_of(sent))
    assert (request.key_marker, request.upload_id_marker) == (
        asked.get("KeyMarker", ""),
        upload if "KeyMarker" in asked else "",
    )
    assert request.limit == min(asked.get("MaxUploads", 1000), 1000)


@given(
    asked=optional(PartNumberMarker=st.integers(0, 10_000), MaxParts=limits),
    key=given_names,
    upload=given_names,
)
def test_list_parts(asked: dict[str, Any], key: str, upload: str) -> None:
    query = query_of(serialized("ListParts", Bucket="b", Key=key, UploadId=upload, **asked))
    request = listing.read_list_parts("b", key, query.get("uploadId") or "", query)
    assert (request.upload_id, request.after) == (upload, asked.get("PartNumberMarker", 0))
    assert request.limit == min(asked.get("MaxParts", 1000), 1000)


@given(asked=optional(Prefix=names, MaxBuckets=st.integers(1, 10_000), BucketRegion=header_texts))
def test_list_buckets(asked: dict[str, Any]) -> None:
    request = listing.read_list_buckets(query_of(serialized("ListBuckets", **asked)))
    assert (request.prefix, request.limit, request.region) == (
        asked.get("Prefix", ""),
        asked.get("MaxBuckets", 10_000),
        asked.get("BucketRegion"),
    )


@given(
    asked=optional(
        IfMatch=etags.map(lambda etag: f'"{etag}"'),
        IfNoneMatch=etags,
        IfModifiedSince=moments,
        IfUnmodifiedSince=moments,
    )
)
def test_conditions_of_reads(asked: dict[str, Any]) -> None:
    for operation in ("GetObject", "HeadObject"):
        found = conditions.read_conditions(serialized(operation, Bucket="b", Key="k", **asked).headers)
        check_conditions(found, asked, "")
    copied = {f"CopySource{name}": value for name, value in asked.items()}
    sent = serialized("CopyObject", Bucket="b", Key="k", CopySource="b/k", **copied)
    check_conditions(conditions.copy_conditions(sent.headers), copied, "CopySource")


def check_conditions(found: conditions.ReadConditions, asked: dict[str, Any], prefix: str) -> None:
    tags_of = {name: parse_tags(asked[name].encode()) for name in asked if name.endswith("Match")}
    seconds_of = {name: int(asked[name].timestamp()) for name in asked if name.endswith("Since")}
    assert found == conditions.ReadConditions(
        tags_of.get(f"{prefix}IfMatch"),
        tags_of.get(f"{prefix}IfNoneMatch"),
        seconds_of.get(f"{prefix}IfModifiedSince"),
        seconds_of.get(f"{prefix}IfUnmodifiedSince"),
    )


@given(asked=optional(IfMatch=etags, IfMatchLastModifiedTime=moments, IfMatchSize=st.integers(0, 2**40)))
def test_conditions_of_deletions(asked: dict[str, Any]) -> None:
    found = conditions.delete_conditions(serialized("DeleteObject", Bucket="b", Key="k", **asked).headers)
    assert found == conditions.DeleteConditions(
        parse_tags(asked["IfMatch"].encode()) if "IfMatch" in asked else None,
        int(asked["IfMatchLastModifiedTime"].timestamp()) if "IfMatchLastModifiedTime" in asked else None,
        asked.get("IfMatchSize"),
    )


@given(first=st.integers(0, 100), last=st.integers(0, 100), part=st.integers(1, 10_000))
def test_ranges_and_parts(first: int, last: int, part: int) -> None:
    sent = serialized("GetObject", Bucket="b", Key="k", Range=f"bytes={first}-{last}", PartNumber=part)
    found = ranges.parse_range(sent.headers[b"range"], 1000)
    assert found == (None if last < first else ranges.Slice(first, last - first + 1))
    assert ranges.read_part_number(query_of(sent).get("partNumber")) == part


@given(
    asked=optional(
        ResponseCacheControl=header_texts,
        ResponseContentDisposition=st.text(string.printable[:95], max_size=20)
        | st.just('inline; filename="é😀"'),
        ResponseContentEncoding=header_texts,
        ResponseContentLanguage=header_texts,
        ResponseContentType=header_texts,
        ResponseExpires=moments,
    )
)
def test_overrides(asked: dict[str, Any]) -> None:
    query = query_of(serialized("GetObject", Bucket="b", Key="k", **asked))
    found = headers.read_overrides(query, is_signed=True)
    moment = asked.pop("ResponseExpires", None)
    if moment is not None:
        assert found.pop(b"expires") == headers.http_date(int(moment.timestamp()))
    expected = {name.removeprefix("Response"): text for name, text in asked.items() if text}
    assert {name.replace(b"-", b"").lower(): value for name, value in found.items()} == {
        name.lower().encode(): text.encode() for name, text in expected.items()
    }


@given(
    asked=optional(
        CacheControl=header_texts,
        ContentDisposition=header_texts,
        ContentEncoding=header_texts,
        ContentLanguage=header_texts,
        ContentType=header_texts,
        WebsiteRedirectLocation=header_texts.map(lambda text: "/" + text),
        StorageClass=st.sampled_from(sorted(headers.STORAGE_CLASSES)),
        Metadata=st.dictionaries(
            st.text(string.ascii_lowercase + "-", min_size=1, max_size=8), header_texts, max_size=3
        ),
    )
)
def test_stored_headers(asked: dict[str, Any]) -> None:
    for operation in ("PutObject", "CreateMultipartUpload"):
        stored = headers.read_stored(serialized(operation, Bucket="b", Key="k", **asked).headers)
        assert stored.metadata == {
            name.encode(): value.encode() for name, value in asked.get("Metadata", {}).items()
        }
        assert stored.storage_class == asked.get("StorageClass", "STANDARD")
        assert sorted(stored.named.values()) == sorted(
            value.encode() for name, value in asked.items() if name not in ("Metadata", "StorageClass")
        )


@given(
    key=given_names,
    metadata=st.sampled_from(["COPY", "REPLACE"]),
    tagging=st.sampled_from(["COPY", "REPLACE"]),
    first=st.integers(0, 50),
    length=st.integers(1, 50),
)
def test_copies(key: str, metadata: str, tagging: str, first: int, length: int) -> None:
    asked: dict[str, Any] = {"CopySource": {"Bucket": "b", "Key": key}}
    botocore.handlers.handle_copy_source_param(asked)
    sent = serialized(
        "CopyObject", Bucket="c", Key="k", MetadataDirective=metadata, TaggingDirective=tagging, **asked
    )
    assert copying.parse_copy_source(sent.headers[b"x-amz-copy-source"]) == copying.CopySource("b", key)
    assert copying.read_directives(sent.headers) == copying.Directives(
        metadata == "REPLACE", tagging == "REPLACE"
    )
    asked["CopySourceRange"] = f"bytes={first}-{first + length - 1}"
    sent = serialized("UploadPartCopy", Bucket="c", Key="k", PartNumber=1, UploadId="7", **asked)
    value = sent.headers[b"x-amz-copy-source-range"]
    assert ranges.parse_copy_range(value, 100) == ranges.Slice(first, length)


@given(
    tagging=st.dictionaries(
        header_texts.filter(lambda text: not set(text) & set(";,")), st.just("x"), max_size=10
    )
)
def test_tags(tagging: dict[str, str]) -> None:
    sent = serialized("PutObject", Bucket="b", Key="k", Tagging=urlencode(tagging))
    assert tags.read_tagging_header(sent.headers[b"x-amz-tagging"]) == tuple(sorted(tagging.items()))
