"""Credentials: five ways to say who asks, never two at once; and the headers that a query holds."""

from __future__ import annotations

import pytest

from s3_requests import ENDPOINT, received, signed
from warehouse.s3.credentials import Anonymous, claim_of, headers_meant
from warehouse.s3.failures import Failure
from warehouse.s3.request import Request
from warehouse.s3.sigv2 import V2Claim
from warehouse.s3.sigv4 import V4Claim

V4 = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=0"
V2 = "AWSAccessKeyId=KEY&Signature=c2ln&Expires=1796033745"


@pytest.mark.parametrize(
    ("way", "kind", "is_presigned"),
    [
        ("v4", V4Claim, False),
        ("v4-presigned", V4Claim, True),
        ("v2", V2Claim, False),
        ("v2-presigned", V2Claim, True),
    ],
)
def test_each_way_is_recognised(way: str, kind: type, is_presigned: bool) -> None:
    claim = claim_of(signed(way, "GET", ENDPOINT + "/photos/a"))
    assert type(claim) is kind
    assert (claim.expires_s is not None) is is_presigned


@pytest.mark.parametrize(
    "query", ["", "acl", "Expires=1", "response-content-type=a", "x-amz-signature=0", "x-id=GetObject"]
)
@pytest.mark.parametrize("authorization", [None, ""])
def test_who_says_nothing_is_nobody_in_particular(query: str, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    assert claim_of(received("GET", f"{ENDPOINT}/photos/a?{query}", headers)) == Anonymous()


@pytest.mark.parametrize(
    ("query", "authorization"),
    [
        (V4, "AWS4-HMAC-SHA256 x"),
        (V4, "AWS KEY:c2ln"),
        (V4, "Bearer x"),
        (V2, "AWS4-HMAC-SHA256 x"),
        (V2, "AWS KEY:c2ln"),
        (f"{V4}&{V2}", None),
        ("X-Amz-Credential=x", "AWS KEY:c2ln"),
        ("Signature=x", "AWS KEY:c2ln"),
    ],
)
def test_two_ways_at_once_are_refused(query: str, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    with pytest.raises(Failure) as caught:
        claim_of(received("GET", f"{ENDPOINT}/photos/a?{query}", headers))
    assert (caught.value.code, caught.value.status) == ("InvalidArgument", 400)
    assert caught.value.message.startswith("Only one auth mechanism allowed")


@pytest.mark.parametrize(
    "authorization", ["Bearer abc", "Basic YTpi", "AWS", "aws KEY:c2ln", "AWS3-HTTPS x", "\x07"]
)
def test_ways_that_s3_does_not_have_are_refused(authorization: str) -> None:
    with pytest.raises(Failure) as caught:
        claim_of(received("GET", ENDPOINT + "/photos/a", {"Authorization": authorization}))
    assert (caught.value.code, caught.value.status) == ("InvalidArgument", 400)
    assert caught.value.fields == {"ArgumentName": "Authorization"}


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("", {"Authorization": "AWS4-HMAC-SHA256 x", "x-amz-security-token": "t"}),
        ("", {"Authorization": "AWS KEY:c2ln", "x-amz-security-token": "t"}),
        (f"{V4}&X-Amz-Security-Token=t", {}),
        (f"{V2}&x-amz-security-token=t", {}),
    ],
)
def test_temporary_keys_are_refused_clearly(query: str, headers: dict[str, str]) -> None:
    with pytest.raises(Failure) as caught:
        claim_of(received("GET", f"{ENDPOINT}/photos/a?{query}", headers))
    assert (caught.value.code, caught.value.status) == ("InvalidToken", 400)
    assert "temporary" in caught.value.message


# --- headers in the query -----------------------------------------------------------------------------


def meant(request: Request) -> dict[bytes, bytes]:
    return dict(headers_meant(request, claim_of(request)))


@pytest.mark.parametrize("way", ["v4-presigned", "v2-presigned"])
def test_headers_in_a_presigned_query_are_meant(way: str) -> None:
    request = signed(way, "PUT", ENDPOINT + "/photos/a?x-amz-meta-a=b%20c&X-Amz-Tagging=a%3Db&x-amz-acl=")
    more = {b"x-amz-meta-a": b"b c", b"x-amz-tagging": b"a=b", b"x-amz-acl": b""}
    assert meant(request) == {**request.headers, **more}


@pytest.mark.parametrize(
    "query",
    [
        "x-amz-checksum-crc32=AAAAAA%3D%3D&x-amz-sdk-checksum-algorithm=CRC32",
        "x-amz-trailer=x-amz-checksum-crc32&X-Amz-Decoded-Content-Length=0",
        "X-Amz-Content-Sha256=UNSIGNED-PAYLOAD",
    ],
)
def test_what_a_query_says_of_itself_or_of_a_body_is_no_header(query: str) -> None:
    """The SDK for JavaScript signs the checksum of an empty body when it has none yet."""
    request = signed("v4-presigned", "PUT", f"{ENDPOINT}/photos/a?{query}")
    assert meant(request) == request.headers


@pytest.mark.parametrize("way", ["v4", "v2"])
def test_parameters_of_other_requests_are_no_headers(way: str) -> None:
    """The query of version 2 is not signed, so nobody may add a header there."""
    request = signed(way, "PUT", ENDPOINT + "/photos/a?x-amz-acl=public-read")
    assert meant(request) == request.headers
    anonymous = received("PUT", ENDPOINT + "/photos/a?x-amz-acl=public-read", {})
    assert meant(anonymous) == anonymous.headers


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("x-amz-acl=private", {"x-amz-acl": "public-read"}),
        ("x-amz-acl=private&x-amz-acl=private", {}),
        ("x-amz-acl=private&X-Amz-Acl=public-read", {}),
    ],
)
def test_what_is_said_twice_is_refused(query: str, headers: dict[str, str]) -> None:
    request = signed("v4-presigned", "PUT", f"{ENDPOINT}/photos/a")
    raw = b"&".join(name + b"=" + (value or b"") for name, value in request.query.pairs).decode()
    twice = received("PUT", f"{ENDPOINT}/photos/a?{raw}&{query}", headers)
    with pytest.raises(Failure) as caught:
        meant(twice)
    assert caught.value.code == "InvalidArgument"
    assert caught.value.fields["ArgumentName"] == "x-amz-acl"


def test_the_same_in_header_and_query_is_said_once() -> None:
    request = signed(
        "v4-presigned", "PUT", f"{ENDPOINT}/photos/a?x-amz-acl=private", {"x-amz-acl": "private"}
    )
    assert meant(request)[b"x-amz-acl"] == b"private"
