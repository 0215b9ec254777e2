"""Query: parameters in order and by name; one that somebody acts on must come once."""

from __future__ import annotations

import pytest

from warehouse.s3.failures import Failure
from warehouse.s3.query import EMPTY, parse_query


@pytest.mark.parametrize(
    ("raw", "pairs"),
    [
        (b"acl", ((b"acl", None),)),
        (b"acl=", ((b"acl", b""),)),
        (b"prefix=a%2Fb&delimiter=/", ((b"prefix", b"a/b"), (b"delimiter", b"/"))),
        (b"prefix=a+b%2B", ((b"prefix", b"a b+"),)),
        (b"a%3Db=c=d", ((b"a=b", b"c=d"),)),
        (b"&&a&&", ((b"a", None),)),
        (b"=x", ((b"", b"x"),)),
        (b"b=2&a=1&b=1", ((b"b", b"2"), (b"a", b"1"), (b"b", b"1"))),
        (b"prefix=\xc3\xa9%C3%A9", ((b"prefix", "éé".encode()),)),
    ],
)
def test_pairs_are_decoded_and_keep_their_order(
    raw: bytes, pairs: tuple[tuple[bytes, bytes | None], ...]
) -> None:
    assert parse_query(raw).pairs == pairs


def test_a_name_that_stands_alone_is_there_and_empty() -> None:
    query = parse_query(b"uploads&prefix=")
    assert query.has("uploads")
    assert (query.get("uploads"), query.get("prefix"), query.get("delimiter")) == ("", "", None)
    assert not query.has("delimiter")


def test_no_query_is_the_empty_one() -> None:
    assert parse_query(b"") is EMPTY
    assert EMPTY.get("acl") is None


@pytest.mark.parametrize("raw", [b"uploadId=1&uploadId=2", b"uploadId=1&uploadId=1", b"uploadId&upload%49d"])
def test_a_parameter_that_somebody_acts_on_must_come_once(raw: bytes) -> None:
    query = parse_query(raw + b"&prefix=a")
    assert query.get("prefix") == "a"
    with pytest.raises(Failure) as caught:
        query.get("uploadId")
    assert caught.value.code == "InvalidArgument"
    assert caught.value.fields == {"ArgumentName": "uploadId"}


@pytest.mark.parametrize("raw", [b"%", b"prefix=%zz", b"%zz=1", b"prefix=%FF", b"\xff", b"a=1&prefix=\xc3"])
def test_what_cannot_be_decoded_is_refused(raw: bytes) -> None:
    with pytest.raises(Failure) as caught:
        parse_query(raw)
    assert caught.value.code == "InvalidURI"
