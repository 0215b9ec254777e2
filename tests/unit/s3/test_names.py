"""Names of buckets: the rules of S3, and those of the store."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.catalog.names import check_bucket_name
from warehouse.errors import BadBucketName
from warehouse.s3.failures import Failure
from warehouse.s3.names import check_bucket, check_new_bucket, object_url


def is_good(check: object, name: str) -> bool:
    assert callable(check)
    try:
        check(name)
    except (Failure, BadBucketName):
        return False
    return True


@pytest.mark.parametrize(
    "name", ["abc", "a.b", "my-photos", "bucket.with.dots", "0a0", "a" * 63, "192.168.5", "1.2.3.4.5"]
)
def test_names_that_s3_makes(name: str) -> None:
    check_new_bucket(name)


@pytest.mark.parametrize(
    "name",
    [
        *("", "a", "aa", "a" * 64, "Abc", "abc_def", "_abc", "abc-", "-abc", ".abc", "abc."),
        *(
            "foo..bar",
            "foo.-bar",
            "foo-.bar",
            "192.168.5.123",
            "999.168.5.123",
            "a b",
            "ab/c",
            "ab\n",
            "é" * 3,
        ),
        *("xn--abc", "sthree-abc", "amzn-s3-demo-abc", "abc-s3alias", "abc--ol-s3", "abc.mrap"),
        *("abc--x-s3", "abc--table-s3", "٣٣٣"),
    ],
)
def test_names_that_s3_does_not_make(name: str) -> None:
    with pytest.raises(Failure) as refused:
        check_new_bucket(name)
    assert (refused.value.code, refused.value.status) == ("InvalidBucketName", 400)


@pytest.mark.parametrize("name", ["a", "ab", "a_b", "a..b", "a.-b", "xn--abc"])
def test_a_bucket_of_the_library_is_reached_whatever_its_name_is(name: str) -> None:
    check_bucket_name(name)
    check_bucket(name)


@given(name=st.text("ab01.-_A/é", max_size=66) | st.from_regex(r"\A[0-9]{1,3}(\.[0-9]{1,3}){3}\Z"))
def test_the_rules_of_the_store_lie_between_the_two(name: str) -> None:
    if is_good(check_new_bucket, name):
        assert is_good(check_bucket_name, name)
    if is_good(check_bucket_name, name):
        assert is_good(check_bucket, name)


def test_where_an_object_is() -> None:
    assert object_url("http://h:7490", "b", "a b/é+", is_virtual=False) == "http://h:7490/b/a%20b/%C3%A9%2B"
    assert object_url("https://b.s3.example", "b", "../~x", is_virtual=True) == "https://b.s3.example/../~x"
