"""ETags: of plain objects, of uploads in parts, and in conditions."""

from __future__ import annotations

import hashlib

import pytest

from warehouse.s3 import etags
from warehouse.s3.failures import Failure

MD5 = hashlib.md5(b"hello").hexdigest()


def test_an_object_in_one_piece_is_named_by_its_md5() -> None:
    assert etags.plain_etag(hashlib.md5(b"hello").digest()) == "5d41402abc4b2a76b9719d911017c592"
    assert etags.quoted(MD5) == f'"{MD5}"'


def test_an_object_in_parts_is_named_by_the_md5_of_their_md5s() -> None:
    parts = [hashlib.md5(part).digest() for part in (b"one", b"two", b"three")]
    assert etags.multipart_etag(parts) == hashlib.md5(b"".join(parts)).hexdigest() + "-3"
    assert etags.multipart_etag(parts[:1]).endswith("-1")


@pytest.mark.parametrize(
    ("text", "etag"),
    [
        (MD5, MD5),
        (f'"{MD5}"', MD5),
        (f' "{MD5.upper()}"\t', MD5),
        (f"{MD5.upper()}-12", f"{MD5}-12"),
        ('"1-2-ABC"', "1-2-ABC"),
        ('"', '"'),
        ("", ""),
    ],
)
def test_an_etag_is_read_with_and_without_quotes(text: str, etag: str) -> None:
    assert etags.unquoted(text) == etag


@pytest.mark.parametrize(
    ("value", "matches", "matches_weakly"),
    [
        (b"*", True, True),
        (MD5.encode(), True, True),
        (f'"{MD5}"'.encode(), True, True),
        (f'"{MD5.upper()}"'.encode(), True, True),
        (f'W/"{MD5}"'.encode(), False, True),
        (f'"a", "{MD5}"'.encode(), True, True),
        (f'"a","b,c" , {MD5},'.encode(), True, True),
        (f',, "a" ,W/"{MD5}"'.encode(), False, True),
        (b'"a", *', True, True),
        (f'"{MD5}-1"'.encode(), False, False),
        (b"ABC", False, False),
        (b'"*"', False, False),
        (b'""', False, False),
        (b'"\xe9"', False, False),
    ],
)
def test_conditions_name_etags(value: bytes, matches: bool, matches_weakly: bool) -> None:
    tags = etags.parse_tags(value)
    assert (tags.match(MD5), tags.match_weakly(MD5)) == (matches, matches_weakly)
    assert not tags.match(None)
    assert not tags.match_weakly(None), "no condition names an object that is not there"


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b" , ",
        b'"abc',
        b'abc"',
        b'"a" "b"',
        b'"a"b',
        b'W/ "a"',
        b"a b",
        b",".join([b'"a"'] * (etags.TAG_COUNT_MAX + 1)),
    ],
)
def test_a_condition_that_cannot_be_read_is_refused(value: bytes) -> None:
    with pytest.raises(Failure) as refused:
        etags.parse_tags(value)
    assert refused.value.code == "InvalidArgument"


def test_many_etags_are_read() -> None:
    value = b", ".join(b'"%d"' % number for number in range(etags.TAG_COUNT_MAX))
    assert etags.parse_tags(value).match("99")
