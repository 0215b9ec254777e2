"""SigV4: the examples that Amazon published, requests that botocore signed, and every way to be wrong."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from s3_bodies import ACCESS_KEY, SECRET
from s3_requests import ENDPOINT, client, key_for, parameters, received, sent, signed
from warehouse.s3 import sigv4
from warehouse.s3.credentials import claim_of
from warehouse.s3.failures import Failure
from warehouse.s3.query import parse_query
from warehouse.s3.request import Request
from warehouse.s3.signing_keys import derive_signing_key
from warehouse.s3.sigv4 import Reading, Scope, V4Claim

EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
DOCUMENTED_S = 1_369_353_600  # 24 May 2013, 00:00:00


def claimed(request: Request) -> V4Claim:
    claim = claim_of(request)
    assert isinstance(claim, V4Claim)
    return claim


def checked(request: Request, *, later_s: float = 0, other_hosts: tuple[bytes, ...] = ()) -> Reading:
    """Check a request with the right key, so much later than it was signed."""
    claim = claimed(request)
    return sigv4.check(claim, request, key_for(claim), claim.signed_at_s + later_s, other_hosts)


def refused(request: Request, **options: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        checked(request, **options)
    return caught.value


# --- the examples of the documentation ----------------------------------------------------------------
# Amazon S3 API reference, "Signature calculations for the Authorization header: transferring payload in a
# single chunk" and "Authenticating requests: using query parameters".


def documented(
    method: str, path: str, query: str, signature: str, signed_headers: str, headers: dict[str, str]
) -> Request:
    authorization = (
        f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20130524/us-east-1/s3/aws4_request,"
        f"SignedHeaders={signed_headers},Signature={signature}"
    )
    fields = {
        "Host": "examplebucket.s3.amazonaws.com",
        "x-amz-content-sha256": EMPTY_SHA256,
        "x-amz-date": "20130524T000000Z",
        "Authorization": authorization,
        **headers,
    }
    return received(method, f"http://examplebucket.s3.amazonaws.com{path}?{query}", fields)


DOCUMENTED = {
    "get an object": documented(
        "GET",
        "/test.txt",
        "",
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        "host;range;x-amz-content-sha256;x-amz-date",
        {"Range": "bytes=0-9"},
    ),
    "put an object": documented(
        "PUT",
        "/test%24file.text",
        "",
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
        {
            "Date": "Fri, 24 May 2013 00:00:00 GMT",
            "x-amz-content-sha256": "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
            "x-amz-storage-class": "REDUCED_REDUNDANCY",
        },
    ),
    "get a bucket's life cycle": documented(
        "GET",
        "/",
        "lifecycle",
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        "host;x-amz-content-sha256;x-amz-date",
        {},
    ),
    "list objects": documented(
        "GET",
        "/",
        "max-keys=2&prefix=J",
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        "host;x-amz-content-sha256;x-amz-date",
        {},
    ),
}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_documented_examples_are_accepted(name: str) -> None:
    request = DOCUMENTED[name]
    claim = claimed(request)
    assert claim.scope == Scope("20130524", "us-east-1", "s3")
    assert (claim.access_key, claim.signed_at_s) == (ACCESS_KEY, DOCUMENTED_S)
    checked(request)


def test_the_documented_canonical_request_is_ours() -> None:
    request = DOCUMENTED["put an object"]
    reading = next(sigv4.readings(claimed(request), request))
    assert reading.canonical_request.decode().split("\n") == [
        "PUT",
        "/test%24file.text",
        "",
        "date:Fri, 24 May 2013 00:00:00 GMT",
        "host:examplebucket.s3.amazonaws.com",
        "x-amz-content-sha256:44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
        "x-amz-date:20130524T000000Z",
        "x-amz-storage-class:REDUCED_REDUNDANCY",
        "",
        "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
        "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
    ]
    assert reading.string_to_sign.decode().split("\n") == [
        "AWS4-HMAC-SHA256",
        "20130524T000000Z",
        "20130524/us-east-1/s3/aws4_request",
        "9e0e90d9c76de8fa5b200d8c849cd5b8dc7a3be3951ddb7f6a76b4158342019d",
    ]


def presigned_example() -> Request:
    query = (
        "X-Amz-Algorithm=AWS4-HMAC-SHA256"
        f"&X-Amz-Credential={ACCESS_KEY}%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )
    return received("GET", f"https://examplebucket.s3.amazonaws.com/test.txt?{query}", {})


def test_the_documented_presigned_example_is_accepted() -> None:
    request = presigned_example()
    assert claimed(request).expires_s == 86_400
    assert checked(request).host == b"examplebucket.s3.amazonaws.com"


# --- what botocore signs ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "operation",
    [
        "ListBuckets",
        "PutObject",
        "GetObject",
        "CopyObject",
        "ListObjectsV2",
        "UploadPart",
        "DeleteObjects",
        "CreateBucket",
    ],
)
@pytest.mark.parametrize("style", ["path", "virtual"])
def test_what_a_client_of_botocore_sends_is_accepted(operation: str, style: str) -> None:
    by = client(style=style, endpoint="http://s3.example.org:7490")
    request = sent(by, operation, **parameters(operation))
    assert checked(request).host == request.headers[b"host"]


@pytest.mark.parametrize("way", ["v4", "v4-presigned"])
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/photos",
        "/photos/",
        "/photos//a//",
        "/photos/a%20b%2Bc",
        "/photos/.././/.",
        "/photos/%E2%82%AC?prefix=%C3%A9%20&acl",
        "/photos?b=2&a=1&B=3&a-b=4&a=0",
        "/photos?x=%2B%2F%3D%26~",
        "/photos?uploads",
        "/photos?uploads=&=x",
    ],
)
def test_what_botocore_signs_is_accepted(path: str, way: str) -> None:
    checked(signed(way, "GET", ENDPOINT + path, {"Range": "bytes=0-9", "x-amz-meta-a": "one  two   three"}))


def test_a_plus_sign_in_a_query_is_a_blank_to_both_sides() -> None:
    """Clients sign the blank; some of them then write it as forms do."""
    request = signed("v4", "GET", ENDPOINT + "/photos?prefix=a%20b")
    checked(replace(request, query=parse_query(b"prefix=a+b")))


def test_raw_utf_8_is_signed_as_its_octets() -> None:
    request = signed("v4", "GET", ENDPOINT + "/photos/%C3%A9?prefix=%C3%A9")
    checked(replace(request, path="/photos/é".encode(), query=parse_query("prefix=é".encode())))


def test_a_date_without_x_amz_date_is_enough() -> None:
    request = signed("v4", "GET", ENDPOINT + "/photos", {"Date": "Mon, 30 Nov 2026 10:15:44 GMT"})
    assert b"x-amz-date" not in request.headers
    assert request.headers[b"date"].endswith(b"-0000"), "botocore writes the date anew, and so"
    checked(request)


@pytest.mark.parametrize("later_s", [-900, 0, 900])
def test_a_quarter_of_an_hour_is_forgiven(later_s: int) -> None:
    checked(signed("v4", "GET", ENDPOINT + "/photos"), later_s=later_s)


# --- refusals -----------------------------------------------------------------------------------------


def test_a_wrong_signature_gets_back_what_we_would_have_signed() -> None:
    request = signed("v4", "PUT", ENDPOINT + "/photos/a", {"x-amz-meta-a": "é"}, b"data")
    claim = claimed(request)
    with pytest.raises(Failure) as caught:
        sigv4.check(
            claim, request, derive_signing_key("another", claim.scope.date, "us-east-1"), claim.signed_at_s
        )
    failure = caught.value
    assert (failure.code, failure.status) == ("SignatureDoesNotMatch", 403)
    reading = next(sigv4.readings(claim, request))
    assert failure.fields == {
        "AWSAccessKeyId": ACCESS_KEY,
        "StringToSign": reading.string_to_sign.decode(),
        "SignatureProvided": claim.signature,
        "StringToSignBytes": reading.string_to_sign.hex(" "),
        "CanonicalRequest": reading.canonical_request.decode(),
        "CanonicalRequestBytes": reading.canonical_request.hex(" "),
    }
    assert SECRET not in str(failure.fields)


def test_octets_that_are_no_text_are_shown_as_octets() -> None:
    request = signed("v4", "GET", ENDPOINT + "/photos", {"x-amz-meta-a": "b"})
    failure = refused(replace(request, headers={**request.headers, b"x-amz-meta-a": b"\xff"}))
    assert "\N{REPLACEMENT CHARACTER}" in failure.fields["CanonicalRequest"]
    assert " ff " in failure.fields["CanonicalRequestBytes"]


@pytest.mark.parametrize(
    ("name", "value"),
    [(b"x-amz-meta-new", b"1"), (b"x-amz-acl", b"private"), (b"x-amz-copy-source", b"/a/b")],
)
@pytest.mark.parametrize("way", ["v4", "v4-presigned"])
def test_every_x_amz_header_that_is_sent_must_be_signed(name: bytes, value: bytes, way: str) -> None:
    request = signed(way, "GET", ENDPOINT + "/photos/a")
    failure = refused(replace(request, headers={**request.headers, name: value}))
    assert (failure.code, failure.status) == ("AccessDenied", 403)
    assert failure.fields == {"HeadersNotSigned": name.decode()}


def test_host_must_be_signed() -> None:
    request = signed("v4", "GET", ENDPOINT + "/photos/a")
    authorization = request.headers[b"authorization"].replace(b"host;", b"")
    failure = refused(replace(request, headers={**request.headers, b"authorization": authorization}))
    assert failure.fields == {"HeadersNotSigned": "host"}


def test_other_headers_may_come_unsigned() -> None:
    request = signed("v4", "GET", ENDPOINT + "/photos/a")
    checked(replace(request, headers={**request.headers, b"x-amzn-trace-id": b"Root=1", b"via": b"proxy"}))


def test_a_header_may_repeat_what_a_presigned_query_says() -> None:
    request = signed("v4-presigned", "PUT", ENDPOINT + "/photos/a?x-amz-acl=private")
    checked(replace(request, headers={**request.headers, b"x-amz-acl": b"private"}))
    failure = refused(replace(request, headers={**request.headers, b"x-amz-acl": b"public-read"}))
    assert failure.fields == {"HeadersNotSigned": "x-amz-acl"}


def test_a_query_stands_for_no_header_of_other_requests() -> None:
    request = signed("v4", "PUT", ENDPOINT + "/photos/a?x-amz-acl=private")
    failure = refused(replace(request, headers={**request.headers, b"x-amz-acl": b"private"}))
    assert failure.fields == {"HeadersNotSigned": "x-amz-acl"}


@pytest.mark.parametrize("later_s", [-901, 901, 86_400, 10**9])
def test_a_request_far_from_now_is_skewed(later_s: float) -> None:
    failure = refused(signed("v4", "GET", ENDPOINT + "/photos"), later_s=later_s)
    assert (failure.code, failure.status) == ("RequestTimeTooSkewed", 403)


@pytest.mark.parametrize(
    ("later_s", "message"),
    [(3600, "Request has expired"), (10**9, "Request has expired"), (-901, "Request is not yet valid")],
)
def test_a_presigned_request_has_its_time(later_s: float, message: str) -> None:
    failure = refused(signed("v4-presigned", "GET", ENDPOINT + "/photos/a"), later_s=later_s)
    assert (failure.code, failure.status, failure.message) == ("AccessDenied", 403, message)


@pytest.mark.parametrize("later_s", [-900, 0, 3599])
def test_until_then_a_presigned_request_is_accepted(later_s: float) -> None:
    checked(signed("v4-presigned", "GET", ENDPOINT + "/photos/a"), later_s=later_s)


def test_a_presigned_request_is_for_its_method_alone() -> None:
    failure = refused(replace(signed("v4-presigned", "GET", ENDPOINT + "/photos/a"), method=b"HEAD"))
    assert failure.code == "SignatureDoesNotMatch"


def test_a_presigned_request_may_promise_a_body() -> None:
    """Then its digest was signed, as a header or as a parameter, and stands for the body."""
    promised = signed("v4-presigned", "PUT", ENDPOINT + "/photos/a", {"X-Amz-Content-SHA256": EMPTY_SHA256})
    assert claimed(promised).payload == EMPTY_SHA256.encode()
    checked(promised)
    request = signed("v4-presigned", "PUT", ENDPOINT + "/photos/a")
    assert claimed(request).payload == b"UNSIGNED-PAYLOAD"
    pairs = (*request.query.pairs, (b"X-Amz-Content-Sha256", EMPTY_SHA256.encode()))
    query = parse_query(b"&".join(name + b"=" + (value or b"") for name, value in pairs))
    assert claimed(replace(request, query=query)).payload == EMPTY_SHA256.encode()


# --- between the client and us ------------------------------------------------------------------------


@pytest.mark.parametrize("signed_coding", ["identity", "gzip"])
@pytest.mark.parametrize("sent_coding", [b"gzip, br", b"identity", b"gzip", b"", None])
def test_a_proxy_may_rewrite_accept_encoding(signed_coding: str, sent_coding: bytes | None) -> None:
    request = signed("v4", "GET", ENDPOINT + "/photos/a", {"Accept-Encoding": signed_coding})
    headers = {**request.headers, b"accept-encoding": sent_coding or b""}
    if sent_coding is None:
        del headers[b"accept-encoding"]
    checked(replace(request, headers=headers))


def test_no_other_header_may_be_rewritten() -> None:
    request = signed(
        "v4", "GET", ENDPOINT + "/photos/a", {"Accept-Encoding": "identity", "Accept": "identity"}
    )
    headers = {**request.headers, b"accept-encoding": b"br", b"accept": b"br"}
    failure = refused(replace(request, headers=headers))
    assert "accept-encoding:br" in failure.fields["CanonicalRequest"], "people compare with what we were sent"


def test_the_host_that_a_trusted_proxy_names_is_tried_and_told() -> None:
    request = signed("v4", "GET", "http://photos.s3.example.org/a", {"Accept-Encoding": "identity"})
    moved = replace(
        request, headers={**request.headers, b"host": b"10.0.0.7:7490", b"accept-encoding": b"br"}
    )
    assert refused(moved).code == "SignatureDoesNotMatch"
    hosts = (b"elsewhere.org", b"photos.s3.example.org")
    assert checked(moved, other_hosts=hosts).host == b"photos.s3.example.org"
    assert refused(moved, other_hosts=(b"elsewhere.org",)).code == "SignatureDoesNotMatch"


def test_a_host_of_a_proxy_does_not_displace_the_one_that_was_signed() -> None:
    request = signed("v4", "GET", ENDPOINT + "/photos/a")
    assert checked(request, other_hosts=(b"elsewhere.org",)).host == b"127.0.0.1:7490"


def test_a_header_that_came_twice_is_signed_without_a_blank() -> None:
    request = signed("v4", "GET", ENDPOINT + "/photos/a", {"x-amz-meta-a": "one,two", "x-amz-meta-b": "c"})
    joined = {**request.headers, b"x-amz-meta-a": b"one, two"}
    checked(replace(request, headers=joined, has_repeated=True))
    assert refused(replace(request, headers=joined)).code == "SignatureDoesNotMatch"


# --- headers that cannot be read ----------------------------------------------------------------------

GOOD = f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20261130/us-east-1/s3/aws4_request, SignedHeaders=host, Signature={'0' * 64}"
FIELDS = {b"x-amz-date": b"20261130T101544Z", b"x-amz-content-sha256": b"UNSIGNED-PAYLOAD"}


def header_refusal(authorization: str | bytes, fields: dict[bytes, bytes] | None = None) -> Failure:
    raw = authorization.encode() if isinstance(authorization, str) else authorization
    with pytest.raises(Failure) as caught:
        sigv4.header_claim({**(FIELDS if fields is None else fields), b"authorization": raw})
    return caught.value


@pytest.mark.parametrize(
    "authorization",
    [
        GOOD.replace(", Signature=", ",Signature=").replace(", SignedHeaders", ",SignedHeaders"),
        GOOD.replace(", ", ",   "),
        GOOD + " ",
        f"AWS4-HMAC-SHA256 Signature={'0' * 64}, SignedHeaders=host, Credential={ACCESS_KEY}/20261130/us-east-1/s3/aws4_request",
        f"AWS4-HMAC-SHA256 SignedHeaders=host, Signature={'0' * 64}, Credential={ACCESS_KEY}/20261130/us-east-1/s3/aws4_request",
    ],
)
def test_blanks_and_the_order_of_fields_do_not_matter(authorization: str) -> None:
    expected = sigv4.header_claim({**FIELDS, b"authorization": GOOD.encode()})
    assert sigv4.header_claim({**FIELDS, b"authorization": authorization.encode()}) == expected


@pytest.mark.parametrize(
    "authorization",
    [
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 ",
        "AWS4-HMAC-SHA1 " + GOOD.partition(" ")[2],
        "AWS4-HMAC-SHA256  nonsense",
        GOOD.replace("Credential=", "credential="),
        GOOD.replace("SignedHeaders=", "Headers="),
        GOOD.replace(", Signature=", ", Sig="),
        GOOD + ", Signature=" + "1" * 64,
        GOOD + ", Credential=" + ACCESS_KEY,
        GOOD + ", Extra=1",
        GOOD.replace("0" * 64, "0" * 63),
        GOOD.replace("0" * 64, "0" * 65),
        GOOD.replace("0" * 64, "g" * 64),
        GOOD.replace("0" * 64, "A" * 64),
        GOOD.replace("SignedHeaders=host", "SignedHeaders=Host"),
        GOOD.replace("SignedHeaders=host", "SignedHeaders=höst"),
        GOOD.replace(ACCESS_KEY, ""),
        GOOD.replace(ACCESS_KEY, "A" * 300),
        GOOD.replace(ACCESS_KEY, "A\tB"),
        GOOD.replace("/aws4_request", ""),
        GOOD.replace("/aws4_request", "/aws4"),
        GOOD.replace("/us-east-1", ""),
        GOOD.replace("/us-east-1/", "//"),
        GOOD.replace("/s3/", "/sts/"),
        GOOD.replace("/s3/", "/s3express/"),
        GOOD.replace("20261130", "2026113"),
        GOOD.replace("20261130", "2026-11-30"),
        GOOD.replace("20261130", "20261129"),  # another day than that of the request
        GOOD.encode() + b"\xff",
    ],
)
def test_an_authorization_that_cannot_be_read_is_malformed(authorization: str | bytes) -> None:
    failure = header_refusal(authorization)
    assert (failure.code, failure.status) == ("AuthorizationHeaderMalformed", 400)
    assert failure.message.startswith("The authorization header is malformed; ")


def test_an_access_key_may_hold_a_slash_and_a_region_may_be_any() -> None:
    text = GOOD.replace(ACCESS_KEY, "team/ann").replace("us-east-1", "the-cellar")
    claim = sigv4.header_claim({**FIELDS, b"authorization": text.encode()})
    assert (claim.access_key, claim.scope.region) == ("team/ann", "the-cellar")


def test_signatures_for_several_regions_are_not_implemented() -> None:
    failure = header_refusal(GOOD.replace("HMAC-SHA256", "ECDSA-P256-SHA256"))
    assert (failure.code, failure.status) == ("NotImplemented", 501)


@pytest.mark.parametrize("date", [None, b"", b"Bad Date", b"Tue, 07 Jul 1950 21:53:04 GMT"])
@pytest.mark.parametrize("name", [b"x-amz-date", b"date"])
def test_a_date_that_cannot_be_read_is_access_denied(name: bytes, date: bytes | None) -> None:
    fields = {b"x-amz-content-sha256": b"UNSIGNED-PAYLOAD"} | ({} if date is None else {name: date})
    failure = header_refusal(GOOD, fields)
    assert (failure.code, failure.status) == ("AccessDenied", 403)


def test_an_empty_x_amz_date_is_not_made_good_by_a_date() -> None:
    failure = header_refusal(GOOD, {b"x-amz-date": b"", b"date": b"Mon, 30 Nov 2026 10:15:44 GMT"})
    assert failure.code == "AccessDenied"


def test_a_word_about_the_body_is_required() -> None:
    failure = header_refusal(GOOD, {b"x-amz-date": FIELDS[b"x-amz-date"]})
    assert (failure.code, failure.status) == ("InvalidRequest", 400)
    assert "x-amz-content-sha256" in failure.message


# --- queries that cannot be read ----------------------------------------------------------------------

PARAMETERS = {
    "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
    "X-Amz-Credential": f"{ACCESS_KEY}/20261130/us-east-1/s3/aws4_request",
    "X-Amz-Date": "20261130T101544Z",
    "X-Amz-Expires": "3600",
    "X-Amz-SignedHeaders": "host",
    "X-Amz-Signature": "0" * 64,
}


def query_refusal(**changed: str | None) -> Failure:
    values = PARAMETERS | {f"X-Amz-{name}": value for name, value in changed.items()}
    raw = "&".join(f"{name}={value}" for name, value in values.items() if value is not None)
    with pytest.raises(Failure) as caught:
        sigv4.presigned_claim(parse_query(raw.encode()), {})
    return caught.value


@pytest.mark.parametrize(
    "changed",
    [
        *({name.removeprefix("X-Amz-"): None} for name in PARAMETERS),
        {"Algorithm": "AWS4"},
        {"Credential": ACCESS_KEY},
        {"Credential": f"{ACCESS_KEY}/20261129/us-east-1/s3/aws4_request"},
        {"Credential": f"{ACCESS_KEY}/20261130/us-east-1/ec2/aws4_request"},
        {"Date": "Mon, 30 Nov 2026 10:15:44 GMT"},
        {"Date": ""},
        {"Date": "19500707T215304Z"},
        {"Expires": "soon"},
        {"Expires": ""},
        {"Expires": "1.5"},
        {"Expires": "+1"},
        {"Expires": "9" * 30},
        {"SignedHeaders": "Host"},
        {"Signature": "0" * 63},
        {"Signature": "x" * 64},
    ],
    ids=str,
)
def test_a_query_that_cannot_be_read_is_a_wrong_query(changed: dict[str, str | None]) -> None:
    failure = query_refusal(**changed)
    assert (failure.code, failure.status) == ("AuthorizationQueryParametersError", 400)


@pytest.mark.parametrize("expires", ["0", "-1", "-7", "604801", "609901"])
def test_a_time_that_cannot_be_is_access_denied(expires: str) -> None:
    failure = query_refusal(Expires=expires)
    assert (failure.code, failure.status) == ("AccessDenied", 403)


@pytest.mark.parametrize("expires", ["1", "604800"])
def test_a_second_and_a_week_are_times(expires: str) -> None:
    raw = "&".join(f"{name}={value}" for name, value in (PARAMETERS | {"X-Amz-Expires": expires}).items())
    assert sigv4.presigned_claim(parse_query(raw.encode()), {}).expires_s == int(expires)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_parameter_of_the_signature_must_come_once(name: str) -> None:
    raw = "&".join(f"{each}={value}" for each, value in [*PARAMETERS.items(), (name, PARAMETERS[name])])
    with pytest.raises(Failure) as caught:
        sigv4.presigned_claim(parse_query(raw.encode()), {})
    assert caught.value.code == "InvalidArgument"
