"""Listings: parameters with their bounds, as AWS has them."""

from __future__ import annotations

from typing import Any

import pytest

from warehouse.s3.failures import Failure
from warehouse.s3.listing import (
    BUCKETS_MAX,
    ListBuckets,
    ListVersions,
    read_list_buckets,
    read_list_objects,
    read_list_objects_v2,
    read_list_parts,
    read_list_uploads,
    read_list_versions,
)


def refusal(read: Any, *arguments: Any) -> Failure:
    with pytest.raises(Failure) as refused:
        read(*arguments)
    return refused.value


def test_nothing_asked_for_is_a_thousand_keys_from_the_first_on() -> None:
    request = read_list_objects("photos", {})
    assert (request.prefix, request.delimiter, request.after, request.limit) == ("", None, "", 1000)
    assert not request.is_url_encoded


def test_an_empty_parameter_is_one_that_was_not_sent() -> None:
    empty = dict.fromkeys(
        ("prefix", "delimiter", "marker", "max-keys", "encoding-type", "start-after", "fetch-owner"), ""
    )
    assert read_list_objects("photos", empty) == read_list_objects("photos", {})
    second = read_list_objects_v2("photos", {**empty, "continuation-token": ""})
    assert (second.token, second.after, second.delimiter, second.limit) == ("", "", None, 1000)


@pytest.mark.parametrize(
    ("asked", "limit"),
    [("0", 0), ("1", 1), ("1000", 1000), ("1001", 1000), ("2147483647", 1000), ("007", 7)],
)
def test_a_limit_is_cut_at_a_thousand(asked: str, limit: int) -> None:
    assert read_list_objects("photos", {"max-keys": asked}).limit == limit
    assert read_list_objects_v2("photos", {"max-keys": asked}).limit == limit
    assert read_list_versions("photos", {"max-keys": asked}).limit == limit
    assert read_list_uploads("photos", {"max-uploads": asked}).limit == limit
    assert read_list_parts("photos", "a", "1", {"max-parts": asked}).limit == limit


@pytest.mark.parametrize("asked", ["-1", "blah", "1.5", "2147483648", "9" * 5000, "٣", "0x10", " 1", "+1"])
@pytest.mark.parametrize(
    "name", ["max-keys", "max-uploads", "max-parts", "part-number-marker", "max-buckets"]
)
def test_a_limit_that_is_no_number_is_refused(name: str, asked: str) -> None:
    query = {name: asked}
    reading = {
        "max-keys": lambda: read_list_objects("photos", query),
        "max-uploads": lambda: read_list_uploads("photos", query),
        "max-parts": lambda: read_list_parts("photos", "a", "1", query),
        "part-number-marker": lambda: read_list_parts("photos", "a", "1", query),
        "max-buckets": lambda: read_list_buckets(query),
    }
    failure = refusal(reading[name])
    assert failure.code == "InvalidArgument"
    assert failure.fields["ArgumentName"] == name


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"encoding-type": "base64"}, "InvalidArgument"),
        ({"prefix": "x" * 1025}, "KeyTooLongError"),
        ({"prefix": "é" * 513}, "KeyTooLongError"),
        ({"delimiter": "x" * 1025}, "KeyTooLongError"),
    ],
)
def test_bad_parameters_of_every_listing(query: dict[str, str], code: str) -> None:
    for read in (read_list_objects, read_list_objects_v2, read_list_versions, read_list_uploads):
        assert refusal(read, "photos", query).code == code


def test_a_prefix_of_1024_bytes_is_taken() -> None:
    assert read_list_objects("photos", {"prefix": "é" * 512}).prefix == "é" * 512


def test_a_delimiter_may_be_any_text() -> None:
    for delimiter in ("/", "%", "\n", "ab", "😀", " "):
        assert read_list_objects_v2("photos", {"delimiter": delimiter}).delimiter == delimiter


def test_the_token_rules_over_start_after() -> None:
    token = read_list_objects_v2("photos", {}).token_after("m")
    request = read_list_objects_v2("photos", {"continuation-token": token, "start-after": "z"})
    assert (request.after, request.start_after, request.token) == ("m", "z", token)
    assert read_list_objects_v2("photos", {"start-after": "z"}).after == "z"


@pytest.mark.parametrize("other", [{"prefix": "a"}, {"delimiter": "/"}])
def test_a_token_of_another_bucket_prefix_or_delimiter_is_refused(other: dict[str, str]) -> None:
    token = read_list_objects_v2("photos", {}).token_after("m")
    assert refusal(read_list_objects_v2, "films", {"continuation-token": token}).code == "InvalidArgument"
    query = {"continuation-token": token, **other}
    assert refusal(read_list_objects_v2, "photos", query).code == "InvalidArgument"


def test_a_token_of_buckets_lists_no_objects() -> None:
    token = read_list_buckets({}).token_after("m")
    assert refusal(read_list_objects_v2, "photos", {"continuation-token": token}).code == "InvalidArgument"


@pytest.mark.parametrize(("sent", "owner"), [(None, False), ("false", False), ("true", True), ("True", True)])
def test_owners_come_when_they_are_asked_for(sent: str | None, owner: bool) -> None:
    query = {} if sent is None else {"fetch-owner": sent}
    assert read_list_objects_v2("photos", query).with_owner is owner
    assert refusal(read_list_objects_v2, "photos", {"fetch-owner": "1"}).code == "InvalidArgument"


def test_a_version_marker_needs_a_key_marker() -> None:
    assert refusal(read_list_versions, "photos", {"version-id-marker": "null"}).code == "InvalidArgument"
    request = read_list_versions("photos", {"version-id-marker": "null", "key-marker": "a"})
    assert request == ListVersions("photos", "", None, "a", "null", 1000, False)
    assert request.after == "a"


def test_an_upload_id_without_a_key_is_ignored() -> None:
    assert read_list_uploads("photos", {"upload-id-marker": "7"}).upload_id_marker == ""
    request = read_list_uploads("photos", {"upload-id-marker": "7", "key-marker": "a"})
    assert (request.key_marker, request.upload_id_marker) == ("a", "7")


def test_parts_begin_after_a_number() -> None:
    assert read_list_parts("photos", "a", "7", {}).after == 0
    assert read_list_parts("photos", "a", "7", {"part-number-marker": "12"}).after == 12


def test_buckets_are_listed_in_pages_of_up_to_ten_thousand() -> None:
    assert read_list_buckets({}) == ListBuckets("", None, None, "", BUCKETS_MAX)
    first = read_list_buckets({"max-buckets": "1", "prefix": "a", "bucket-region": "eu-central-1"})
    assert (first.limit, first.prefix, first.region) == (1, "a", "eu-central-1")
    query = {"prefix": "a", "bucket-region": "eu-central-1", "continuation-token": first.token_after("ab")}
    assert read_list_buckets(query).after == "ab"
    assert refusal(read_list_buckets, {**query, "prefix": "b"}).code == "InvalidArgument"
    for limit in ("0", "10001"):
        assert refusal(read_list_buckets, {"max-buckets": limit}).code == "InvalidArgument"
