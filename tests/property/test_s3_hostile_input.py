"""Whatever a client sends, it is taken or refused with a code of its own: never a 500, never another error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.s3 import attributes, conditions, copying, headers, listing, ranges, tags, xml_in
from warehouse.s3.failures import Failure

HEADER_NAMES = (
    *(b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range", b"range"),
    *(b"x-amz-copy-source-if-match", b"x-amz-copy-source-if-none-match"),
    *(b"x-amz-copy-source-if-modified-since", b"x-amz-copy-source-if-unmodified-since"),
    *(b"x-amz-if-match-size", b"x-amz-if-match-last-modified-time", b"x-amz-storage-class"),
    *(b"x-amz-metadata-directive", b"x-amz-tagging-directive", b"x-amz-website-redirect-location"),
    *(
        b"x-amz-object-attributes",
        b"x-amz-max-parts",
        b"x-amz-part-number-marker",
        b"x-amz-meta-",
        b"x-amz-meta-a",
    ),
    *(b"content-encoding", b"content-type", b"expires", b"x-amz-checksum-mode"),
)
PIECES = (
    *(
        b"bytes=",
        b"0",
        b"1",
        b"9" * 30,
        b"-",
        b",",
        b'"',
        b"W/",
        b"*",
        b"a",
        b" ",
        b"\t",
        b"%",
        b"%zz",
        b"%2F",
    ),
    *(b"/", b"?versionId=", b"=", b"&", b"+", b";", b"\xff", "é😀".encode(), b"\x00", b"COPY", b"REPLACE"),
    *(
        b"Sun, 06 Nov 1994 08:49:37 GMT",
        b"20261130T101544Z",
        b"STANDARD",
        b"aws-chunked",
        b"ETag",
        b"ObjectParts",
    ),
)
values = st.lists(st.sampled_from(PIECES) | st.binary(max_size=4), max_size=8).map(b"".join)
sent = st.dictionaries(st.sampled_from(HEADER_NAMES), values, max_size=6)
OBJECT = conditions.Facts("0" * 32, 1_790_000_000_000, 10)
REFUSALS = range(400, 500)


def refusal(read: Callable[..., Any], *arguments: Any) -> int | None:
    try:
        read(*arguments)
    except Failure as failure:
        found = failure
    else:
        return None
    assert found.status in REFUSALS or found.code == "NotImplemented"
    return found.status


@given(sent=sent)
def test_headers(sent: dict[bytes, bytes]) -> None:
    refusal(headers.read_stored, sent)
    refusal(lambda: conditions.is_not_modified(conditions.read_conditions(sent), OBJECT))
    refusal(lambda: conditions.check_copy(conditions.copy_conditions(sent), OBJECT))
    refusal(lambda: conditions.check_write(conditions.write_conditions(sent), OBJECT.etag))
    refusal(lambda: conditions.check_delete(conditions.delete_conditions(sent), OBJECT))
    assert isinstance(conditions.is_range_current(sent, OBJECT), bool)
    refusal(attributes.read_attributes_request, sent)
    refusal(copying.read_directives, sent)


@given(value=values, size=st.integers(0, 20))
def test_ranges(value: bytes, size: int) -> None:
    for read in (ranges.parse_range, ranges.parse_copy_range):
        if refusal(read, value, size) is None:
            found = read(value, size)
            assert found is None or (
                found.length > 0 and 0 <= found.start <= found.start + found.length <= size
            )


@given(value=values)
def test_sources_and_tags(value: bytes) -> None:
    if refusal(copying.parse_copy_source, value) is None:
        source = copying.parse_copy_source(value)
        assert source.bucket
        assert 1 <= len(source.key.encode()) <= copying.KEY_SIZE_MAX
    if refusal(tags.read_tagging_header, value) is None:
        assert len(tags.read_tagging_header(value)) <= tags.OBJECT_TAGS_MAX


PARAMETERS = (
    *("prefix", "delimiter", "marker", "max-keys", "encoding-type", "start-after", "continuation-token"),
    *("fetch-owner", "key-marker", "version-id-marker", "upload-id-marker", "max-uploads", "max-parts"),
    *("part-number-marker", "max-buckets", "bucket-region", "partNumber"),
)
texts = st.sampled_from(["0", "1", "-1", "url", "true", "9" * 30, "x" * 1025, "٣"]) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=8
)


@given(query=st.dictionaries(st.sampled_from(PARAMETERS), texts, max_size=8))
def test_parameters(query: dict[str, str]) -> None:
    for read in (
        listing.read_list_objects,
        listing.read_list_objects_v2,
        listing.read_list_versions,
        listing.read_list_uploads,
    ):
        if refusal(read, "photos", query) is None:
            assert 0 <= read("photos", query).limit <= 1000
    refusal(listing.read_list_parts, "photos", "a", "7", query)
    refusal(listing.read_list_buckets, query)
    refusal(ranges.read_part_number, query.get("partNumber"))


@given(
    pieces=st.lists(
        st.sampled_from(["<a>", "</a>", "<Tag>", "</Tag>", "<Key>", "</Key>", "x", "&lt;", "&#0;", "é"])
    )
)
@pytest.mark.parametrize(
    ("root", "read"),
    [
        ("Delete", xml_in.read_delete),
        ("CompleteMultipartUpload", xml_in.read_complete),
        ("Tagging", xml_in.read_tagging),
        ("VersioningConfiguration", xml_in.read_versioning),
        ("CreateBucketConfiguration", xml_in.read_bucket_configuration),
    ],
)
def test_documents(root: str, read: Callable[[bytes], Any], pieces: list[str]) -> None:
    assert refusal(read, f"<{root}>{''.join(pieces)}</{root}>".encode()) in (None, 400)
