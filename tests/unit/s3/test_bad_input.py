"""Bad input: what clients do wrong, each with the code that S3 has for it, over all of `s3/`.

The details stand in the tests of each module.  This table is the promise as a whole: a code of its own, a
status below 500 (or 501), none that asks to try again, and the connection ends where bytes would be left over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from s3_bodies import SECRET, chain
from s3_bodies import signed as signed_chunks
from s3_forms import END, decoded, part, policy
from s3_requests import ENDPOINT, received, signed
from warehouse.s3 import conditions, dates, headers, listing, names, ranges, sigv4, tags, tokens, xml_in
from warehouse.s3.checksums import CRC32
from warehouse.s3.chunked import ChunkedDecoder
from warehouse.s3.copying import parse_copy_source
from warehouse.s3.credentials import claim_of
from warehouse.s3.failures import Failure
from warehouse.s3.form import FIELDS_SIZE_MAX, Form
from warehouse.s3.integrity import Integrity, promises_of
from warehouse.s3.payload import Framing, Payload, payload_of
from warehouse.s3.post_policy import claim_of as form_claim_of
from warehouse.s3.post_policy import policy_of
from warehouse.s3.query import parse_query
from warehouse.s3.request import Request
from warehouse.s3.route import route
from warehouse.s3.signing_keys import derive_signing_key
from warehouse.s3.sigv4 import V4Claim
from warehouse.s3.target import target_of

CHUNKS = Payload(Framing.CHUNKS, None, 5)
WITH_TRAILER = Payload(Framing.CHUNKS, None, 5, True, CRC32)
KEY = b"<Object><Key>a</Key></Object>"
HOST = b"localhost:7490"
UNSIGNED_TRAILER = b"STREAMING-UNSIGNED-PAYLOAD-TRAILER"
SIGNED_CHUNKS = Payload(Framing.SIGNED_CHUNKS, None, 5)
FIELD, FILE = part("key", b"a"), part("file", b"x")
POLICY = policy_of(policy({"bucket": "photos"}, ["eq", "$key", "a"], ["content-length-range", 2, 3]))


def decode(payload: Payload, body: bytes) -> Callable[[], None]:
    def run() -> None:
        decoder = ChunkedDecoder(payload, chain())
        decoder.feed(body)
        decoder.finish()

    return run


def receive(sent: dict[bytes, bytes], body: bytes) -> Callable[[], None]:
    def run() -> None:
        integrity = Integrity(promises_of(sent, payload_of(sent, len(body))))
        integrity.update(body)
        integrity.finish()

    return run


def read(reader: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    return lambda: reader(*arguments)


def delete(inner: bytes) -> Callable[[], Any]:
    return read(xml_in.read_delete, b"<Delete>" + inner + b"</Delete>")


def query(text: bytes) -> Callable[[], Any]:
    return lambda: listing.read_list_objects_v2("photos", parse_query(text))


def asked(method: str, address: str, sent: dict[str, str] | None = None) -> Callable[[], Any]:
    """A request up to its operation, by nobody in particular."""

    def run() -> None:
        request = received(method, ENDPOINT + address, sent or {})
        target = target_of(request.path, request.headers[b"host"], ())
        route(request.method, target, request.query, request.headers)

    return run


def checked(
    change: Callable[[Request], Request] = lambda request: request, *, secret: str = SECRET, later_s: int = 0
) -> Callable[[], Any]:
    """A request that botocore has signed, changed on its way, and checked with a secret some time later."""

    def run() -> None:
        request = change(signed("v4", "PUT", ENDPOINT + "/photos/a", {"x-amz-meta-a": "b"}))
        claim = claim_of(request)
        assert isinstance(claim, V4Claim)
        key = derive_signing_key(secret, claim.scope.date, claim.scope.region)
        sigv4.check(claim, request, key, claim.signed_at_s + later_s)

    return run


def header(name: bytes, value: bytes) -> Callable[[Request], Request]:
    return lambda request: replace(request, headers={**request.headers, name: value})


TOKEN = tokens.make_token(("objects", "films", "", ""), "a").encode()
OBJECT = conditions.Facts("0" * 32, 0, 5)

CASES: Sequence[tuple[str, Callable[[], Any], str]] = [
    # Signatures
    ("another secret", checked(secret="another"), "SignatureDoesNotMatch"),
    ("another method", checked(lambda request: replace(request, method=b"DELETE")), "SignatureDoesNotMatch"),
    ("another key", checked(lambda request: replace(request, path=b"/photos/b")), "SignatureDoesNotMatch"),
    ("a changed header", checked(header(b"x-amz-meta-a", b"c")), "SignatureDoesNotMatch"),
    ("a header that nobody signed", checked(header(b"x-amz-acl", b"private")), "AccessDenied"),
    ("a request of 16 minutes ago", checked(later_s=960), "RequestTimeTooSkewed"),
    ("a request of in 16 minutes", checked(later_s=-960), "RequestTimeTooSkewed"),
    ("a date that was replaced", checked(header(b"x-amz-date", b"Bad Date")), "AccessDenied"),
    ("a way to sign that S3 does not have", checked(header(b"authorization", b"Bearer x")), "InvalidArgument"),
    ("half an authorization", checked(header(b"authorization", b"AWS4-HMAC-SHA256 Credential=a")), "AuthorizationHeaderMalformed"),
    ("a temporary key", checked(header(b"x-amz-security-token", b"t")), "InvalidToken"),
    # Operations
    ("a key without a bucket", asked("PUT", "//a"), "InvalidBucketName"),
    ("a sub-resource that nobody knows", asked("GET", "/photos/a?newthing"), "NotImplemented"),
    ("two sub-resources", asked("GET", "/photos?acl&policy"), "InvalidArgument"),
    ("a method that nobody knows", asked("PATCH", "/photos/a"), "MethodNotAllowed"),
    ("an upload's id twice", asked("POST", "/photos/a?uploadId=1&uploadId=2"), "InvalidArgument"),
    ("a part without its upload", asked("PUT", "/photos/a?partNumber=1"), "InvalidArgument"),
    ("a part without its number", asked("PUT", "/photos/a?uploadId=1"), "InvalidArgument"),
    ("encryption", asked("PUT", "/photos/a", {"x-amz-server-side-encryption": "AES256"}), "NotImplemented"),
    # Requests
    ("a date 16 minutes off", read(dates.check_skew, 0, 960.0), "RequestTimeTooSkewed"),
    ("a date that is none", read(dates.signing_time, b"yesterday"), "AccessDenied"),
    ("%zz in a path", read(target_of, b"/photos/%zz", HOST, ()), "InvalidURI"),
    ("no UTF-8 in a path", read(target_of, b"/photos/%FF", HOST, ()), "InvalidURI"),
    ("%zz in a query", read(parse_query, b"prefix=%zz"), "InvalidURI"),
    ("a key of 1,025 bytes", read(target_of, b"/photos/" + b"a" * 1025, HOST, ()), "KeyTooLongError"),
    ("a parameter twice", query(b"prefix=a&prefix=b"), "InvalidArgument"),
    # Bodies
    ("framing and a digest of all", read(payload_of, {b"x-amz-content-sha256": b"0" * 64, b"x-amz-trailer": b"x"}, 5), "InvalidRequest"),
    ("a chunk size that is none", decode(CHUNKS, b"zz\r\nhello\r\n0\r\n\r\n"), "InvalidRequest"),
    ("a chunk longer than it says", decode(CHUNKS, b"4\r\nhello\r\n0\r\n\r\n"), "InvalidRequest"),
    ("more than was announced", decode(CHUNKS, b"6\r\nhello!\r\n0\r\n\r\n"), "IncompleteBody"),
    ("less than was announced", decode(CHUNKS, b"4\r\nhell\r\n0\r\n\r\n"), "IncompleteBody"),
    ("a body that ends too early", decode(CHUNKS, b"5\r\nhel"), "IncompleteBody"),
    ("a trailer that is missing", decode(WITH_TRAILER, b"5\r\nhello\r\n0\r\n\r\n"), "MalformedTrailerError"),
    ("a trailer that was not named", decode(WITH_TRAILER, b"5\r\nhello\r\n0\r\nx-amz-checksum-sha1:x\r\n\r\n"), "MalformedTrailerError"),
    ("two checksums", receive({b"x-amz-checksum-crc32": b"AAAAAA==", b"x-amz-checksum-sha1": b"x"}, b""), "InvalidRequest"),
    ("two promises that disagree", receive({b"content-md5": b"1B2M2Y8AsgTpgAmY7PhCfg==", b"x-amz-checksum-crc32": b"AAAAAQ=="}, b""), "BadDigest"),
    ("an empty Content-MD5", receive({b"content-md5": b""}, b""), "InvalidDigest"),
    ("a signed chunk that was changed", decode(SIGNED_CHUNKS, signed_chunks([b"hello"], chain()).replace(b"hello", b"hallo")), "SignatureDoesNotMatch"),
    ("chunks of one byte", decode(Payload(Framing.CHUNKS), b"1\r\na\r\n" * 2000), "InvalidChunkSizeError"),
    # Forms
    ("a form without its end", read(decoded, FIELD + FILE), "MalformedPOSTRequest"),
    ("a field that comes twice", read(decoded, FIELD + FIELD + FILE + END), "MalformedPOSTRequest"),
    ("a form without a file", read(decoded, FIELD + END), "IncorrectNumberOfFilesInPostRequest"),
    ("a form with two files", read(decoded, FIELD + FILE + FILE + END), "IncorrectNumberOfFilesInPostRequest"),
    ("a field that is too long", read(decoded, part("key", b"a" * FIELDS_SIZE_MAX) + FILE + END), "MaxPostPreDataLengthExceededError"),
    ("a field that would be two headers", Form({"content-type": "a\r\nb: c"}, "").headers, "InvalidArgument"),
    ("a signature without its policy", read(form_claim_of, {"awsaccesskeyid": "a", "signature": "b"}), "InvalidArgument"),
    ("a policy that is none", read(policy_of, b"e30="), "InvalidPolicyDocument"),
    ("a policy that has expired", read(POLICY.check, {"key": "a"}, "photos", POLICY.expires_s), "AccessDenied"),
    ("a form to another bucket", read(POLICY.check, {"key": "a"}, "films", 0), "AccessDenied"),
    ("a field that the policy does not name", read(POLICY.check, {"key": "a", "acl": "b"}, "photos", 0), "AccessDenied"),
    ("a file that is too small", lambda: POLICY.check_size(1, is_whole=True), "EntityTooSmall"),
    ("a file that is getting too large", lambda: POLICY.check_size(4, is_whole=False), "EntityTooLarge"),
    # Documents
    ("a DOCTYPE", read(xml_in.read_delete, b"<!DOCTYPE d><Delete>" + KEY + b"</Delete>"), "MalformedXML"),
    ("entities that explode", read(xml_in.read_delete, b'<!DOCTYPE d [<!ENTITY a "x">]><Delete>&a;</Delete>'), "MalformedXML"),
    ("nesting that is too deep", delete(KEY + b"<a>" * 50 + b"</a>" * 50), "MalformedXML"),
    ("a document that is too long", delete(KEY + b" " * 2 * 1024 * 1024), "MalformedXML"),
    ("a document that is not UTF-8", delete(b"<Object><Key>\xff</Key></Object>"), "MalformedXML"),
    ("a document in UTF-16", read(xml_in.read_delete, "<Delete/>".encode("utf-16")), "MalformedXML"),
    ("a list of rights without rights", read(xml_in.read_grants, b"<AccessControlPolicy/>"), "MalformedXML"),
    ("a right of nobody", read(xml_in.read_grants, b"<AccessControlPolicy><AccessControlList><Grant/></AccessControlList></AccessControlPolicy>"), "MalformedXML"),
    ("1,001 keys to delete", delete(KEY * 1001), "MalformedXML"),
    ("no key to delete", delete(b""), "MalformedXML"),
    ("no part to complete", read(xml_in.read_complete, b"<CompleteMultipartUpload/>"), "MalformedXML"),
    (
        "parts out of order",
        read(
            xml_in.read_complete,
            b"<CompleteMultipartUpload><Part><PartNumber>2</PartNumber><ETag>x</ETag></Part>"
            b"<Part><PartNumber>1</PartNumber><ETag>x</ETag></Part></CompleteMultipartUpload>",
        ),
        "InvalidPartOrder",
    ),
    # Numbers and ranges
    ("part number 0", read(ranges.part_number, "0"), "InvalidArgument"),
    ("part number 10,001", read(ranges.part_number, "10001"), "InvalidArgument"),
    ("a part that is not there", read(ranges.part_slice, 5, 10, ((1, 5), (2, 5))), "InvalidPart"),
    ("a range and a part", read(ranges.requested_slice, {b"range": b"bytes=0-1"}, 1, 5, ()), "InvalidRequest"),
    ("a range after the end", read(ranges.parse_range, b"bytes=5-", 5), "InvalidRange"),
    ("a range of nothing", read(ranges.parse_range, b"bytes=0-0", 0), "InvalidRange"),
    ("a copied range backwards", read(ranges.parse_copy_range, b"bytes=3-2", 5), "InvalidArgument"),
    ("a copied range past the end", read(ranges.parse_copy_range, b"bytes=0-5", 5), "InvalidRange"),
    # Listings
    ("max-keys that is no number", query(b"max-keys=blah"), "InvalidArgument"),
    ("max-keys below 0", query(b"max-keys=-1"), "InvalidArgument"),
    ("an encoding that nobody knows", query(b"encoding-type=rot13"), "InvalidArgument"),
    ("a token of another bucket", query(b"continuation-token=" + TOKEN), "InvalidArgument"),
    ("a token that is none", query(b"continuation-token=x"), "InvalidArgument"),
    ("a prefix of 1,025 bytes", query(b"prefix=" + b"a" * 1025), "KeyTooLongError"),
    # What is stored
    ("a bucket's name in capitals", read(names.check_new_bucket, "Photos"), "InvalidBucketName"),
    ("a bucket's name that is an address", read(names.check_new_bucket, "192.168.5.4"), "InvalidBucketName"),
    ("metadata of 8,193 bytes", read(headers.read_stored, {b"x-amz-meta-a": b"x" * 8192}), "MetadataTooLarge"),
    ("a class of storage that is not there", read(headers.read_stored, {b"x-amz-storage-class": b"GLACIER"}), "InvalidStorageClass"),
    ("a header in a parameter", lambda: headers.read_overrides({"response-expires": "a\r\nb"}, is_signed=True), "InvalidArgument"),
    ("11 tags", read(tags.read_tagging_header, b"&".join(b"%d=x" % number for number in range(11))), "InvalidTag"),
    ("a tag twice", read(tags.read_tagging_header, b"a=1&a=2"), "InvalidTag"),
    ("tags that are no query", read(tags.read_tagging_header, b"a=%zz"), "InvalidArgument"),
    ("a source without a key", read(parse_copy_source, b"photos"), "InvalidArgument"),
    ("%zz in a source", read(parse_copy_source, b"photos/%zz"), "InvalidArgument"),
    # Conditions
    ("a condition without an ETag", read(conditions.write_conditions, {b"if-match": b""}), "InvalidArgument"),
    ("a size that is none", read(conditions.delete_conditions, {b"x-amz-if-match-size": b"-1"}), "InvalidArgument"),
    ("a condition of another kind", read(conditions.write_conditions, {b"if-modified-since": b"x"}), "NotImplemented"),
    ("If-Match on nothing", lambda: conditions.check_write(conditions.write_conditions({b"if-match": b"*"}), None), "NoSuchKey"),
]  # fmt: skip

# Framing that cannot be read: nobody knows where the request ends.
CLOSES = {
    "framing and a digest of all",
    "a chunk size that is none",
    "a chunk longer than it says",
    "more than was announced",
    "less than was announced",
    "a body that ends too early",
    "a trailer that was not named",
    "a signed chunk that was changed",
    "chunks of one byte",
    "a form without its end",
    "a field that comes twice",
    "a form with two files",
    "a field that is too long",
    "a file that is getting too large",
}


@pytest.mark.parametrize(("what", "run", "code"), CASES, ids=[what for what, _, _ in CASES])
def test_bad_input_has_its_code(what: str, run: Callable[[], Any], code: str) -> None:
    with pytest.raises(Failure) as refused:
        run()
    failure = refused.value
    assert failure.code == code
    assert failure.status in range(400, 500) or failure.status == 501
    assert failure.status not in (408, 425, 429), "clients would try again"
    assert failure.message
    assert failure.closes == (what in CLOSES)


@pytest.mark.parametrize(
    ("path", "key"),
    [
        (b"/photos/a%00b", "a\0b"),
        (b"/photos/a%2Fb", "a/b"),
        (b"/photos//a", "/a"),
        (b"/photos/a/", "a/"),
        (b"/photos/../a", "../a"),
        (b"/photos/a+b", "a+b"),
        (b"/photos/%25zz", "%zz"),
        (b"/photos/" + b"a" * 1024, "a" * 1024),
    ],
)
def test_what_looks_bad_and_is_a_key(path: bytes, key: str) -> None:
    assert target_of(path, HOST, ()).key == key


def test_a_range_backwards_is_the_whole_object() -> None:
    assert ranges.parse_range(b"bytes=5-2", 10) is None


@pytest.mark.parametrize("delimiter", ["a", "photos/2026/a", "a" * 1024])
def test_a_delimiter_may_be_a_key(delimiter: str) -> None:
    assert listing.read_list_objects("photos", {"delimiter": delimiter}).delimiter == delimiter


def test_a_signature_that_does_not_match_can_be_compared() -> None:
    with pytest.raises(Failure) as refused:
        checked(secret="another")()
    shown = {"CanonicalRequest", "StringToSign", "StringToSignBytes", "CanonicalRequestBytes"}
    assert shown <= refused.value.fields.keys()


def test_the_request_that_was_changed_above_is_good_as_it_is() -> None:
    checked()()
    asked("PUT", "/photos/a")()
