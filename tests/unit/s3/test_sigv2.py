"""SigV2: the examples that Amazon published, requests that botocore signed, and every way to be wrong."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from s3_bodies import ACCESS_KEY, SECRET
from s3_requests import ENDPOINT, client, parameters, received, sent, signed
from warehouse.s3 import sigv2
from warehouse.s3.credentials import claim_of
from warehouse.s3.failures import Failure
from warehouse.s3.query import parse_query
from warehouse.s3.request import Request
from warehouse.s3.signing_keys import sign_v2
from warehouse.s3.sigv2 import V2Claim
from warehouse.s3.target import target_of

DOMAINS = ("s3.amazonaws.com", "s3.example.org")


def claimed(request: Request) -> V2Claim:
    claim = claim_of(request)
    assert isinstance(claim, V2Claim)
    return claim


def text_of(request: Request) -> bytes:
    target = target_of(request.path, request.headers[b"host"], DOMAINS)
    return sigv2.string_to_sign(claimed(request), request, target)


def is_signed(request: Request) -> bool:
    return sign_v2(SECRET, text_of(request)) == claimed(request).signature


# --- the examples of the documentation ----------------------------------------------------------------
# Amazon S3 developer guide, "Signing and authenticating REST requests", API version 2006-03-01.


def documented(method: str, url: str, signature: str, headers: dict[str, str]) -> Request:
    return received(method, f"http://{url}", {"Authorization": f"AWS {ACCESS_KEY}:{signature}", **headers})


DOCUMENTED = {
    "get an object": (
        documented(
            "GET",
            "johnsmith.s3.amazonaws.com/photos/puppy.jpg",
            "bWq2s1WEIj+Ydj0vQ697zp+IXMU=",
            {"Date": "Tue, 27 Mar 2007 19:36:42 +0000"},
        ),
        "GET\n\n\nTue, 27 Mar 2007 19:36:42 +0000\n/johnsmith/photos/puppy.jpg",
    ),
    "put an object": (
        documented(
            "PUT",
            "johnsmith.s3.amazonaws.com/photos/puppy.jpg",
            "MyyxeRY7whkBe+bq8fHCL/2kKUg=",
            {
                "Content-Type": "image/jpeg",
                "Content-Length": "94328",
                "Date": "Tue, 27 Mar 2007 21:15:45 +0000",
            },
        ),
        "PUT\n\nimage/jpeg\nTue, 27 Mar 2007 21:15:45 +0000\n/johnsmith/photos/puppy.jpg",
    ),
    "list objects": (
        documented(
            "GET",
            "johnsmith.s3.amazonaws.com/?prefix=photos&max-keys=50&marker=puppy",
            "htDYFYduRNen8P9ZfE/s9SuKy0U=",
            {"Date": "Tue, 27 Mar 2007 19:42:41 +0000"},
        ),
        "GET\n\n\nTue, 27 Mar 2007 19:42:41 +0000\n/johnsmith/",
    ),
    "get an access control list": (
        documented(
            "GET",
            "johnsmith.s3.amazonaws.com/?acl",
            "c2WLPFtWHVgbEmeEG93a4cG37dM=",
            {"Date": "Tue, 27 Mar 2007 19:44:46 +0000"},
        ),
        "GET\n\n\nTue, 27 Mar 2007 19:44:46 +0000\n/johnsmith/?acl",
    ),
    "list buckets": (
        documented(
            "GET",
            "s3.amazonaws.com/",
            "qGdzdERIC03wnaRNKh6OqZehG9s=",
            {"Date": "Wed, 28 Mar 2007 01:29:59 +0000"},
        ),
        "GET\n\n\nWed, 28 Mar 2007 01:29:59 +0000\n/",
    ),
    "a key beyond ASCII": (
        documented(
            "GET",
            "s3.amazonaws.com/dictionary/fran%C3%A7ais/pr%c3%a9f%c3%a8re",
            "DNEZGsoieTZ92F3bUfSPQcbGmlM=",
            {"Date": "Wed, 28 Mar 2007 01:49:49 +0000"},
        ),
        "GET\n\n\nWed, 28 Mar 2007 01:49:49 +0000\n/dictionary/fran%C3%A7ais/pr%c3%a9f%c3%a8re",
    ),
    "presigned": (
        received(
            "GET",
            f"http://johnsmith.s3.amazonaws.com/photos/puppy.jpg?AWSAccessKeyId={ACCESS_KEY}&Expires=1175139620&Signature=NpgCjnDzrM%2BWFzoENXmpNDUsSn8%3D",
            {},
        ),
        "GET\n\n\n1175139620\n/johnsmith/photos/puppy.jpg",
    ),
}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_documented_examples_are_signed(name: str) -> None:
    request, text = DOCUMENTED[name]
    assert text_of(request).decode() == text
    assert is_signed(request)


def test_amz_headers_are_sorted_and_repeated_ones_joined_without_a_blank() -> None:
    """After the documentation's example of an upload; there the header comes twice."""
    request = documented(
        "PUT",
        "s3.amazonaws.com/static.johnsmith.net/db-backup.dat.gz",
        "x",
        {
            "Date": "Tue, 27 Mar 2007 21:06:08 +0000",
            "x-amz-acl": "public-read",
            "content-type": "application/x-download",
            "Content-MD5": "4gJE4saaMU4BqNR0kLY+lw==",
            "X-Amz-Meta-ReviewedBy": "joe@johnsmith.net, jane@johnsmith.net",
            "X-Amz-Meta-FileChecksum": "0x02661779",
            "X-Amz-Meta-ChecksumAlgorithm": "crc32",
        },
    )
    assert text_of(replace(request, has_repeated=True)).decode().split("\n") == [
        "PUT",
        "4gJE4saaMU4BqNR0kLY+lw==",
        "application/x-download",
        "Tue, 27 Mar 2007 21:06:08 +0000",
        "x-amz-acl:public-read",
        "x-amz-meta-checksumalgorithm:crc32",
        "x-amz-meta-filechecksum:0x02661779",
        "x-amz-meta-reviewedby:joe@johnsmith.net,jane@johnsmith.net",
        "/static.johnsmith.net/db-backup.dat.gz",
    ]


def test_x_amz_date_takes_the_place_of_the_date() -> None:
    request = documented(
        "DELETE",
        "s3.amazonaws.com/a/b",
        "x",
        {"Date": "Tue, 27 Mar 2007 21:20:27 +0000", "x-amz-date": "Tue, 27 Mar 2007 21:20:26 +0000"},
    )
    assert text_of(request) == b"DELETE\n\n\n\nx-amz-date:Tue, 27 Mar 2007 21:20:26 +0000\n/a/b"
    assert claimed(request).signed_at_s == 1_175_030_426


# --- what botocore signs ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "operation",
    [
        "ListBuckets",
        "CreateBucket",
        "PutObject",
        "GetObject",
        "CopyObject",
        "ListObjects",
        "ListObjectsV2",
        "DeleteObjects",
        "GetObjectTagging",
        "ListObjectVersions",
        "CreateMultipartUpload",
        "UploadPart",
        "CompleteMultipartUpload",
        "ListParts",
        "AbortMultipartUpload",
        "ListMultipartUploads",
        "GetBucketLocation",
    ],
)
@pytest.mark.parametrize("style", ["path", "virtual"])
def test_what_a_client_of_botocore_sends_is_signed(operation: str, style: str) -> None:
    by = client("s3", style=style, endpoint="http://s3.example.org:7490")
    request = sent(by, operation, **parameters(operation))
    assert is_signed(request)
    sigv2.check_claim(claimed(request), request, claimed(request).signed_at_s or 0)


@pytest.mark.parametrize("way", ["v2", "v2-presigned"])
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/photos/",
        "/photos/a%20b%2Bc",
        "/photos//..",
        "/photos/a?response-content-type=text%2Fplain&versionId=null",
        "/photos/?uploads",
        "/photos/?uploads=&prefix=x",
        "/photos/a?uploadId=x%2By&partNumber=1",
        "/photos/?delete&acl",
    ],
)
def test_what_botocore_signs_is_signed(path: str, way: str) -> None:
    request = signed(
        way,
        "GET",
        ENDPOINT + path,
        {
            "Content-MD5": "4gJE4saaMU4BqNR0kLY+lw==",
            "Content-Type": "text/plain",
            "x-amz-meta-b": "2",
            "x-amz-meta-a": "1",
        },
    )
    if (
        way == "v2-presigned"
    ):  # botocore has moved the x-amz-* headers into the query, and a client need not send them
        kept = {name: value for name, value in request.headers.items() if not name.startswith(b"x-amz-")}
        request = replace(request, headers=kept)
    assert is_signed(request)
    assert not is_signed(replace(request, method=b"PUT"))


def test_a_header_that_a_presigned_query_does_not_hold_breaks_the_signature() -> None:
    request = signed("v2-presigned", "GET", ENDPOINT + "/photos/a")
    assert is_signed(request)
    assert not is_signed(replace(request, headers={**request.headers, b"x-amz-acl": b"public-read"}))


# --- refusals -----------------------------------------------------------------------------------------


def refusal(request: Request, now_s: float | None = None) -> Failure:
    with pytest.raises(Failure) as caught:
        claim = claimed(request)
        if now_s is not None:
            sigv2.check_claim(claim, request, now_s)
    return caught.value


@pytest.mark.parametrize(
    "authorization",
    ["AWS HAHAHA", "AWS ", "AWS :", "AWS KEY:", "AWS KEY:" + "x" * 200, "AWS KEY:a\tb", "AWS KEY:é"],
)
def test_an_authorization_that_cannot_be_read_is_a_wrong_argument(authorization: str) -> None:
    failure = refusal(
        received(
            "PUT",
            ENDPOINT + "/photos/a",
            {"Authorization": authorization, "Date": "Tue, 27 Mar 2007 19:36:42 +0000"},
        )
    )
    assert (failure.code, failure.status) == ("InvalidArgument", 400)


@pytest.mark.parametrize("key", ["", "é", "K" * 200, "K\x7f"])
def test_an_access_key_that_cannot_be_is_one_that_nobody_has(key: str) -> None:
    failure = refusal(
        received(
            "PUT",
            ENDPOINT + "/a",
            {"Authorization": f"AWS {key}:c2ln", "Date": "Tue, 27 Mar 2007 19:36:42 +0000"},
        )
    )
    assert (failure.code, failure.status) == ("InvalidAccessKeyId", 403)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, "AccessDenied"),
        ({"Date": ""}, "AccessDenied"),
        ({"Date": "Bad Date"}, "AccessDenied"),
        ({"x-amz-date": "Bad Date", "Date": "Mon, 30 Nov 2026 10:15:44 GMT"}, "AccessDenied"),
        ({"x-amz-date": "", "Date": "Mon, 30 Nov 2026 10:15:44 GMT"}, "AccessDenied"),
        ({"x-amz-date": "Tue, 07 Jul 1950 21:53:04 GMT"}, "AccessDenied"),
        ({"x-amz-date": "Tue, 07 Jul 2010 21:53:04 GMT"}, "RequestTimeTooSkewed"),
        ({"x-amz-date": "Tue, 07 Jul 2030 21:53:04 GMT"}, "RequestTimeTooSkewed"),
        ({"x-amz-date": "Tue, 07 Jul 9999 21:53:04 GMT"}, "RequestTimeTooSkewed"),
        ({"Date": "Mon, 30 Nov 2026 10:30:45 GMT"}, "RequestTimeTooSkewed"),
    ],
)
def test_dates_of_the_conformance_suite(fields: dict[str, str], code: str) -> None:
    request = received("PUT", ENDPOINT + "/photos/a", {"Authorization": "AWS KEY:c2ln", **fields})
    failure = refusal(request, 1_796_033_744)
    assert (failure.code, failure.status) == (code, 403)


@pytest.mark.parametrize(
    "query",
    [
        "AWSAccessKeyId=KEY&Signature=c2ln",
        "AWSAccessKeyId=KEY&Expires=1796033745",
        "Signature=c2ln&Expires=1796033745",
        "AWSAccessKeyId=KEY&Signature=c2ln&Expires=",
        "AWSAccessKeyId=KEY&Signature=c2ln&Expires=soon",
        "AWSAccessKeyId=KEY&Signature=c2ln&Expires=-1",
        "AWSAccessKeyId=KEY&Signature=c2ln&Expires=1e9",
        "AWSAccessKeyId=KEY&Signature=c2ln&Expires=" + "9" * 30,
        "AWSAccessKeyId=KEY&Signature=c2ln&Expires=1796033744",  # now
        "AWSAccessKeyId=KEY&Signature=c2ln&Expires=0",
        "AWSAccessKeyId=KEY&Signature=c2ln&Expires=1796033745&attributes",
        "AWSAccessKeyId=KEY&Signature=c2ln&Expires=1796033745&legal-hold=",
    ],
)
def test_a_presigned_request_that_is_not_for_now_or_not_covered_is_denied(query: str) -> None:
    failure = refusal(received("GET", f"{ENDPOINT}/photos/a?{query}", {}), 1_796_033_744)
    assert (failure.code, failure.status) == ("AccessDenied", 403)


@pytest.mark.parametrize(
    "parameters",
    [
        "x-amz-acl=private%0Ax-amz-copy-source:/photos/b",  # the value holds the line of another header
        "x-amz-acl:private%0Ax-amz-copy-source=/photos/b",  # and so does the name
        "x-amz-copy-source:/photos/b=1",  # a name of the same line
    ],
)
def test_a_presigned_header_is_not_hidden_in_a_parameter_that_is_signed_alike(parameters: str) -> None:
    """Without its source a copy would be a put, of whatever its sender likes."""
    query = "AWSAccessKeyId=KEY&Signature=c2ln&Expires=1796033745"
    assert (
        refusal(received("PUT", f"{ENDPOINT}/photos/a?{query}&{parameters}", {}), 1_796_033_744).code
        == "InvalidArgument"
    )
    sent_as_meant = f"{ENDPOINT}/photos/a?{query}&x-amz-acl=private&x-amz-copy-source=/photos/b"
    request = received("PUT", sent_as_meant, {})
    sigv2.check_claim(claimed(request), request, 1_796_033_744)


def test_a_presigned_request_counts_until_its_time() -> None:
    request = received(
        "GET", ENDPOINT + "/photos/a?AWSAccessKeyId=KEY&Signature=c2ln&Expires=1796033745&list-type=2", {}
    )
    sigv2.check_claim(claimed(request), request, 1_796_033_744)


@pytest.mark.parametrize("name", ["AWSAccessKeyId", "Signature", "Expires"])
def test_a_parameter_of_the_signature_must_come_once(name: str) -> None:
    raw = f"AWSAccessKeyId=KEY&Signature=c2ln&Expires=1796033745&{name}=1"
    with pytest.raises(Failure) as caught:
        sigv2.presigned_claim(parse_query(raw.encode()))
    assert caught.value.code == "InvalidArgument"


def test_a_wrong_signature_gets_back_what_we_would_have_signed() -> None:
    request = signed("v2", "PUT", ENDPOINT + "/photos/a", {"Content-Type": "text/plain"})
    claim, text = claimed(request), text_of(request)
    failure = sigv2.mismatch(claim, text)
    shown: dict[str, Any] = {
        "AWSAccessKeyId": ACCESS_KEY,
        "StringToSign": text.decode(),
        "SignatureProvided": claim.signature,
        "StringToSignBytes": text.hex(" "),
    }
    assert (failure.code, failure.status, failure.fields) == ("SignatureDoesNotMatch", 403, shown)


def test_whoever_takes_no_signatures_of_version_2_says_which_to_use() -> None:
    failure = sigv2.not_accepted()
    assert (failure.code, failure.status) == ("InvalidRequest", 400)
    assert "AWS4-HMAC-SHA256" in failure.message
