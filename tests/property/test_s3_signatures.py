"""Signatures: what botocore signs is accepted and understood; whatever else was changed is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from botocore.utils import percent_encode_sequence
from hypothesis import given, settings
from hypothesis import strategies as st

from s3_bodies import ACCESS_KEY, SECRET
from s3_requests import ENDPOINT, client, key_for, parameters, sent, signed
from warehouse.s3 import percent, sigv2, sigv4
from warehouse.s3.credentials import Anonymous, Claim, claim_of, headers_meant
from warehouse.s3.failures import Failure
from warehouse.s3.operations import OPERATIONS
from warehouse.s3.query import parse_query
from warehouse.s3.request import Request
from warehouse.s3.route import route
from warehouse.s3.signing_keys import sign_v2
from warehouse.s3.sigv2 import V2Claim
from warehouse.s3.sigv4 import V4Claim
from warehouse.s3.target import target_of

# What trips servers: separators of paths, queries, forms and headers, octets beyond ASCII, dots.
HOSTILE = st.sampled_from(
    list("aZ0/+%&=?#;:,.~*'\"<>[]{}|\\^`!$@ \t\x01\x7f") + ["é", "€", "\N{GRINNING FACE}", "..", "//"]
)
KEYS = st.lists(HOSTILE, min_size=1, max_size=20).map("".join)
VALUES = st.lists(HOSTILE, max_size=12).map("".join)
METHODS = st.sampled_from(["GET", "PUT", "POST", "HEAD", "DELETE"])
PARAMETERS = st.dictionaries(
    st.one_of(st.sampled_from(["prefix", "marker", "versionId", "response-content-type", "x-id"]), KEYS),
    VALUES,
    max_size=4,
)
# Header fields: what HTTP can carry, without blanks at the ends.
FIELD_VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20).map(str.strip)
FIELDS = st.dictionaries(
    st.one_of(
        st.sampled_from(
            ["x-amz-acl", "x-amz-tagging", "content-type", "content-md5", "range", "accept-encoding"]
        ),
        st.from_regex(r"x-amz-meta-[a-z0-9-]{1,8}", fullmatch=True),
    ),
    FIELD_VALUES,
    max_size=4,
)


class Shape(NamedTuple):
    """A request before anybody has signed it."""

    method: str
    key: str
    parameters: dict[str, str]
    fields: dict[str, str]

    def signed(self, way: str) -> Request:
        """This request, signed by botocore, with the address that botocore's clients would make of it."""
        path = quote(f"/photos/{self.key}", safe="/~")
        query = percent_encode_sequence(self.parameters)
        return signed(way, self.method, f"{ENDPOINT}{path}{'?' * bool(query)}{query}", self.fields)


SHAPES = st.builds(Shape, METHODS, KEYS, PARAMETERS, FIELDS)


def claimed(request: Request) -> V4Claim | V2Claim:
    claim = claim_of(request)
    assert not isinstance(claim, Anonymous)
    return claim


def check(request: Request) -> None:
    """Check a request at the time at which it was signed, as somebody would who has the secret.

    Raises:
        Failure: it is refused.
    """
    claim = claimed(request)
    if claim.access_key != ACCESS_KEY:
        raise Failure("InvalidAccessKeyId", "nobody has this key")
    if isinstance(claim, V4Claim):
        sigv4.check(claim, request, key_for(claim), claim.signed_at_s)
        return
    sigv2.check_claim(claim, request, claim.signed_at_s or 0)
    text = sigv2.string_to_sign(claim, request, target_of(request.path, request.headers[b"host"], ()))
    if sign_v2(SECRET, text) != claim.signature:
        raise sigv2.mismatch(claim, text)


# --- what botocore signs is accepted, and means the same ----------------------------------------------


def accepts_and_understands(shape: Shape, way: str) -> None:
    request = shape.signed(way)
    check(request)
    target = target_of(request.path, request.headers[b"host"], ())
    assert (target.bucket, target.key) == ("photos", shape.key)
    for name, value in shape.parameters.items():
        assert request.query.get(name) == value
    meant = headers_meant(request, claimed(request))
    for name, value in shape.fields.items():
        if name.startswith("x-amz-"):
            assert meant[name.encode()] == value.encode()


@pytest.mark.parametrize("way", ["v4", "v4-presigned", "v2", "v2-presigned"])
@given(shape=SHAPES)
@settings(max_examples=150)
def test_what_botocore_signs_is_accepted_and_understood(way: str, shape: Shape) -> None:
    accepts_and_understands(shape, way)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("way", ["v4", "v4-presigned", "v2", "v2-presigned"])
@given(shape=SHAPES)
@settings(max_examples=25_000)
def test_a_hundred_thousand_requests_of_botocore_are_accepted(way: str, shape: Shape) -> None:
    accepts_and_understands(shape, way)


# --- every changed bit --------------------------------------------------------------------------------


class Wire(NamedTuple):
    """A request as octets: parts that a bit can be changed in."""

    method: bytes
    path: bytes
    query: bytes
    headers: tuple[tuple[bytes, bytes], ...]

    def parts(self) -> list[bytes]:
        return [self.method, self.path, self.query, *(part for field in self.headers for part in field)]

    def with_flipped_bit(self, place: int) -> Wire:
        """The same with one bit changed; `place` counts bits through all parts."""
        parts = self.parts()
        for index, part in enumerate(parts):
            if place < 8 * len(part):
                octets = bytearray(part)
                octets[place // 8] ^= 1 << place % 8
                parts[index] = bytes(octets)
                break
            place -= 8 * len(part)
        method, path, query, *fields = parts
        return Wire(method, path, query, tuple(zip(fields[::2], fields[1::2], strict=True)))

    def request(self) -> Request:
        headers = {b"host": b"127.0.0.1:7490"}  # version 2 does not cover it
        headers |= {name.lower(): value.strip() for name, value in self.headers}
        return Request(self.method, self.path, parse_query(self.query), headers)


def wire_of(request: Request) -> Wire:
    """The octets of a request; headers that no signature covers are left out."""
    pairs = [
        percent.encode(name) + (b"" if value is None else b"=" + percent.encode(value))
        for name, value in request.query.pairs
    ]
    covered = {b"host", b"date", b"authorization", b"content-md5", b"content-type"}
    claim = claimed(request)
    if isinstance(claim, V4Claim):
        covered |= set(claim.signed_headers)
    elif claim.expires_s is None:
        covered.remove(b"host")
    else:
        covered -= {b"host", b"date"}
    fields = (
        (name, value)
        for name, value in request.headers.items()
        if name in covered or name.startswith(b"x-amz-")
    )
    return Wire(request.method, request.path, b"&".join(pairs), tuple(fields))


def v4_meaning(request: Request) -> Any:
    """All that a request says: two requests that say the same may both be accepted."""
    claim = claimed(request)
    assert isinstance(claim, V4Claim)
    fields = {name: b" ".join(request.headers.get(name, b"").split()) for name in claim.signed_headers}
    if fields.get(b"accept-encoding") in (b"identity", b"gzip"):
        del fields[b"accept-encoding"]  # proxies rewrite it, and nothing here acts on it
    pairs = sorted((name, value or b"") for name, value in request.query.pairs)
    return request.method, percent.decode(request.path), pairs, sorted(fields.items()), claim


def v2_meaning(request: Request) -> Any:
    """All that a signature of version 2 covers: not the other parameters, and the path as it was sent."""
    claim = claimed(request)
    signed_pairs = [pair for pair in request.query.pairs if pair[0] in V2_PARAMETERS]
    meant = headers_meant(request, claim)
    fields = sorted((name, value) for name, value in meant.items() if name.startswith(b"x-amz-"))
    others = [meant.get(name, b"") for name in (b"content-md5", b"content-type")]
    return request.method, request.path, sorted(signed_pairs), fields, others, claim


V2_PARAMETERS = {b"versionId", b"response-content-type"}


def refuses_flipped_bit(request: Request, place: int, meaning: Callable[[Request], Any]) -> None:
    wire = wire_of(request)
    place %= 8 * sum(map(len, wire.parts()))
    said = meaning(wire.request())
    try:
        changed = wire.with_flipped_bit(place).request()
        claim = claim_of(changed)
        if isinstance(claim, Anonymous):
            return  # nobody's rights are asked for
        headers_meant(changed, claim)
        check(changed)
    except Failure:
        return
    assert meaning(changed) == said, f"bit {place} of {wire} means something else and was accepted"


def meaning_for(way: str) -> Callable[[Request], Any]:
    return v4_meaning if way.startswith("v4") else v2_meaning


@pytest.mark.parametrize("way", ["v4", "v4-presigned", "v2", "v2-presigned"])
@given(shape=SHAPES, places=st.lists(st.integers(0, 1 << 20), min_size=20, max_size=20))
@settings(max_examples=60)
def test_every_changed_bit_is_refused(way: str, shape: Shape, places: list[int]) -> None:
    request = shape.signed(way)
    for place in places:
        refuses_flipped_bit(request, place, meaning_for(way))


@pytest.mark.parametrize("way", ["v4", "v4-presigned", "v2", "v2-presigned"])
def test_each_bit_of_one_request_is_refused(way: str) -> None:
    shape = Shape(
        "PUT", "a b/é", {"prefix": "x y", "versionId": "null"}, {"x-amz-meta-a": "b c", "content-type": "a/b"}
    )
    request = shape.signed(way)
    for place in range(8 * sum(map(len, wire_of(request).parts()))):
        refuses_flipped_bit(request, place, meaning_for(way))


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("way", ["v4", "v4-presigned", "v2", "v2-presigned"])
@given(shape=SHAPES, places=st.lists(st.integers(0, 1 << 20), min_size=50, max_size=50))
@settings(max_examples=500)
def test_a_hundred_thousand_changed_bits_are_refused(way: str, shape: Shape, places: list[int]) -> None:
    request = shape.signed(way)
    for place in places:
        refuses_flipped_bit(request, place, meaning_for(way))


# --- whole clients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["path", "virtual"])
@pytest.mark.parametrize("signature", ["s3v4", "s3"])
@given(key=KEYS, texts=st.lists(VALUES.filter(bool), min_size=2, max_size=2), number=st.integers(1, 10_000))
@settings(max_examples=30)
def test_what_a_client_was_told_is_what_we_read(
    style: str, signature: str, key: str, texts: list[str], number: int
) -> None:
    by = client(signature, style, "http://s3.example.org:7490")
    told: list[tuple[str, dict[str, Any], Mapping[str, str]]] = [
        (
            "GetObject",
            {"Key": key, "PartNumber": number, "ResponseContentType": texts[0]},
            {"partNumber": str(number), "response-content-type": texts[0]},
        ),
        (
            "UploadPart",
            {"Key": key, "PartNumber": number, "UploadId": texts[0]},
            {"partNumber": str(number), "uploadId": texts[0]},
        ),
        (
            "ListObjectsV2",
            {"Prefix": texts[0], "StartAfter": texts[1], "MaxKeys": number},
            {"prefix": texts[0], "start-after": texts[1], "max-keys": str(number)},
        ),
        (
            "ListObjectVersions",
            {"KeyMarker": key, "Delimiter": texts[1]},
            {"key-marker": key, "delimiter": texts[1]},
        ),
    ]
    for operation, told_parameters, expected in told:
        request = sent(by, operation, **parameters(operation, **told_parameters))
        claim = claimed(request)
        target = target_of(request.path, request.headers[b"host"], ("s3.example.org",))
        assert target.bucket == "photos"
        assert target.key == told_parameters.get("Key", "")
        assert route(request.method, target, request.query, headers_meant(request, claim)).name == operation
        assert {name: request.query.get(name) for name in expected} == expected
        if isinstance(claim, V4Claim):
            sigv4.check(claim, request, key_for(claim), claim.signed_at_s)
        else:
            assert sign_v2(SECRET, sigv2.string_to_sign(claim, request, target)) == claim.signature


# --- nothing that a client sends is a fault of ours ---------------------------------------------------

OCTETS = st.one_of(st.binary(max_size=60), KEYS.map(str.encode))
AUTHORIZATIONS = st.one_of(
    st.builds(
        lambda scheme, rest: scheme + rest,
        st.sampled_from([b"AWS4-HMAC-SHA256 ", b"AWS4-", b"AWS ", b"Basic ", b""]),
        OCTETS,
    ),
    st.lists(
        st.sampled_from(
            [
                b"AWS4-HMAC-SHA256 ",
                b"Credential=",
                b"A/20261130/us-east-1/s3/aws4_request",
                b", ",
                b",",
                b"SignedHeaders=host",
                b"Signature=",
                b"0" * 64,
                b" ",
                b"=",
                b"\xff",
            ]
        ),
        max_size=12,
    ).map(b"".join),
)
NAMES = st.sampled_from(
    [
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Date",
        "X-Amz-Expires",
        "X-Amz-SignedHeaders",
        "X-Amz-Signature",
        "AWSAccessKeyId",
        "Signature",
        "Expires",
        "acl",
        "uploadId",
        "partNumber",
        "versionId",
        "list-type",
        "x-amz-acl",
        "x-id",
    ]
)
QUERIES = st.lists(
    st.tuples(NAMES, st.one_of(OCTETS, st.just(b"AWS4-HMAC-SHA256"), st.just(b"20261130T101544Z"))),
    max_size=8,
).map(lambda pairs: b"&".join(name.encode() + b"=" + value for name, value in pairs))


@given(
    method=st.one_of(
        st.sampled_from([b"GET", b"PUT", b"POST", b"HEAD", b"DELETE", b"OPTIONS", b"PATCH"]),
        st.binary(max_size=8),
    ),
    path=st.one_of(OCTETS, OCTETS.map(lambda octets: b"/" + octets)),
    query=st.one_of(OCTETS, QUERIES),
    host=st.one_of(OCTETS, st.sampled_from([b"photos.s3.example.org", b".s3.example.org:1"])),
    fields=st.dictionaries(
        st.sampled_from(
            [
                b"x-amz-date",
                b"date",
                b"x-amz-content-sha256",
                b"x-amz-acl",
                b"x-amz-copy-source",
                b"content-type",
            ]
        ),
        OCTETS,
        max_size=4,
    ),
    authorization=st.one_of(st.none(), AUTHORIZATIONS),
)
@settings(max_examples=400)
def test_whatever_a_client_sends_is_answered_or_refused(
    method: bytes,
    path: bytes,
    query: bytes,
    host: bytes,
    fields: dict[bytes, bytes],
    authorization: bytes | None,
) -> None:
    headers = {
        b"host": host,
        **fields,
        **({} if authorization is None else {b"authorization": authorization}),
    }
    with suppress(Failure):
        request = Request(method, path, parse_query(query), headers)
        claim: Claim = claim_of(request)
        target = target_of(path, host, ("s3.example.org",))
        if isinstance(claim, V4Claim):
            sigv4.check(claim, request, b"key", claim.signed_at_s, (b"other.example.org",))
        elif isinstance(claim, V2Claim):
            sigv2.mismatch(claim, sigv2.string_to_sign(claim, request, target))
            sigv2.check_claim(claim, request, 0)
        operation = route(method, target, request.query, headers_meant(request, claim))
        assert operation in OPERATIONS
