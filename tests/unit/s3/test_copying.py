"""Copies: sources as botocore writes them, and what a target gets."""

from __future__ import annotations

import botocore.handlers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.s3.copying import (
    COPY_SIZE_MAX,
    CopySource,
    Directives,
    check_copy_size,
    check_onto_itself,
    parse_copy_source,
    read_directives,
    target_headers,
)
from warehouse.s3.failures import Failure
from warehouse.s3.headers import StoredHeaders


@pytest.mark.parametrize(
    ("value", "source"),
    [
        (b"photos/a", CopySource("photos", "a")),
        (b"/photos/a", CopySource("photos", "a")),
        (b"/photos//a", CopySource("photos", "/a")),
        (b"photos/a/../b//", CopySource("photos", "a/../b//")),
        (b"photos%2Fa%2Fb", CopySource("photos", "a/b")),
        (b"photos/a+b%20c%2Bd", CopySource("photos", "a b c+d")),
        (b"photos/a%2525", CopySource("photos", "a%25")),
        (b"photos/%C3%A9%F0%9F%98%80", CopySource("photos", "é😀")),
        ("photos/é".encode(), CopySource("photos", "é")),
        (b"photos/a?versionId=null", CopySource("photos", "a", "null")),
        (b"photos/a?versionId=x%2By", CopySource("photos", "a", "x+y")),
        (b"photos/a%3FversionId=7", CopySource("photos", "a?versionId=7")),
        (b"photos/a?b=c", CopySource("photos", "a?b=c")),
        (b"photos/a%00", CopySource("photos", "a\0")),
    ],
)
def test_sources(value: bytes, source: CopySource) -> None:
    assert parse_copy_source(value) == source


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"", "InvalidArgument"),
        (b"/", "InvalidArgument"),
        (b"photos", "InvalidArgument"),
        (b"photos/", "InvalidArgument"),
        (b"//a", "InvalidArgument"),
        (b"//photos/a", "InvalidArgument"),
        (b"photos/%zz", "InvalidArgument"),
        (b"photos/%", "InvalidArgument"),
        (b"photos/%FF", "InvalidArgument"),
        (b"photos/\xff", "InvalidArgument"),
        (b"photos/a?versionId=", "InvalidArgument"),
        (b"photos/" + b"a" * 1025, "KeyTooLongError"),
        (b"arn:aws:s3:eu-west-1:1:accesspoint/x/object/a", "NotImplemented"),
    ],
)
def test_sources_that_name_nothing(value: bytes, code: str) -> None:
    with pytest.raises(Failure) as refused:
        parse_copy_source(value)
    assert refused.value.code == code


@given(
    key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50),
    version=st.none() | st.just("7"),
)
def test_a_source_of_botocore_is_read(key: str, version: str | None) -> None:
    asked = {"Bucket": "photos", "Key": key, **({"VersionId": version} if version else {})}
    parameters = {"CopySource": asked}
    botocore.handlers.handle_copy_source_param(parameters)
    assert parse_copy_source(parameters["CopySource"].encode()) == CopySource("photos", key, version)  # type: ignore[attr-defined]


def test_directives() -> None:
    assert read_directives({}) == Directives(False, False)
    headers = {b"x-amz-metadata-directive": b"REPLACE", b"x-amz-tagging-directive": b"COPY"}
    assert read_directives(headers) == Directives(True, False)
    for name in headers:
        for value in (b"replace", b"", b"MERGE"):
            with pytest.raises(Failure, match="InvalidArgument"):
                read_directives({name: value})


SOURCE = CopySource("photos", "a")
COPY, REPLACE = Directives(False, False), Directives(True, False)


@pytest.mark.parametrize(
    ("source", "directives", "headers", "is_good"),
    [
        (SOURCE, COPY, {}, False),
        (SOURCE, Directives(False, True), {}, False),
        (SOURCE, REPLACE, {}, True),
        (SOURCE, COPY, {b"x-amz-storage-class": b"STANDARD"}, True),
        (SOURCE, COPY, {b"x-amz-website-redirect-location": b"/b"}, True),
        (SOURCE, COPY, {b"x-amz-checksum-algorithm": b"SHA256"}, True),
        (SOURCE, COPY, {b"x-amz-storage-class": b""}, False),
        (CopySource("photos", "a", "7"), COPY, {}, True),
        (CopySource("photos", "b"), COPY, {}, True),
        (CopySource("films", "a"), COPY, {}, True),
    ],
)
def test_a_copy_onto_itself_changes_something(
    source: CopySource, directives: Directives, headers: dict[bytes, bytes], is_good: bool
) -> None:
    if is_good:
        check_onto_itself(source, "photos", "a", directives, headers)
    else:
        with pytest.raises(Failure) as refused:
            check_onto_itself(source, "photos", "a", directives, headers)
        assert (refused.value.code, refused.value.status) == ("InvalidRequest", 400)


def test_sizes() -> None:
    check_copy_size(COPY_SIZE_MAX)
    with pytest.raises(Failure, match="InvalidRequest"):
        check_copy_size(COPY_SIZE_MAX + 1)


def test_what_a_target_gets() -> None:
    redirect = b"x-amz-website-redirect-location"
    source = StoredHeaders({b"content-type": b"a/b", redirect: b"/x"}, {b"m": b"1"}, "REDUCED_REDUNDANCY")
    asked = StoredHeaders({b"content-type": b"c/d", redirect: b"/y"}, {b"n": b"2"})
    assert target_headers(source, asked, REPLACE) == asked
    assert target_headers(source, asked, COPY) == StoredHeaders(
        {b"content-type": b"a/b", redirect: b"/y"}, {b"m": b"1"}, "STANDARD"
    )
    plain = StoredHeaders({}, {}, "REDUCED_REDUNDANCY")
    assert target_headers(source, plain, COPY) == StoredHeaders(
        {b"content-type": b"a/b"}, {b"m": b"1"}, "REDUCED_REDUNDANCY"
    )
