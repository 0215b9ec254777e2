"""Bad input at a running gateway: each has its code, changes nothing, and ends the connection where it must.

What each module says about it stands in tests/unit/s3/test_bad_input.py; here it comes through sockets, signed by
botocore.
"""

from __future__ import annotations

import socket
import zlib
from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pytest

from s3_kit import RunningGateway, root_client, s3_store
from s3_wire import Heard, Wire

BUCKET = "bad"
HELLO = b"hello"
HELLO_MD5 = "XUFAKrxLKna5cZ2REBfFkg=="
CHUNKS = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
SIGNED_CHUNKS = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
FIVE = {"x-amz-decoded-content-length": "5"}
TRAILER = {**FIVE, "x-amz-trailer": "x-amz-checksum-crc32"}
CRC = b64encode(zlib.crc32(HELLO).to_bytes(4, "big")).decode()
OBJECT = b"<Object><Key>kept</Key></Object>"


class Case(NamedTuple):
    """One request, and what it must be answered."""

    what: str
    code: str
    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = {}
    payload: str | None = None
    closes: bool = False
    status: int = 400


def put(
    what: str,
    code: str,
    body: bytes,
    headers: Mapping[str, str],
    payload: str | None = CHUNKS,
    *,
    closes: bool = True,
    status: int = 400,
) -> Case:
    return Case(what, code, "PUT", f"/{BUCKET}/new", body, headers, payload, closes, status)


def delete(what: str, document: bytes, headers: Mapping[str, str] | None = None) -> Case:
    return Case(what, "MalformedXML", "POST", f"/{BUCKET}?delete", document, headers or {})


CASES = [
    # Framing
    put("a chunk longer than it says", "InvalidRequest", b"4\r\nhello\r\n0\r\n\r\n", FIVE),
    put("a chunk shorter than it says", "IncompleteBody", b"6\r\nhello", FIVE),
    put("a chunk size that is no number", "InvalidRequest", b"zz\r\nhello\r\n0\r\n\r\n", FIVE),
    put("a chunk size below zero", "InvalidRequest", b"-5\r\nhello\r\n0\r\n\r\n", FIVE),
    put("more than was announced", "IncompleteBody", b"6\r\nhello!\r\n0\r\n\r\n", FIVE),
    put("less than was announced", "IncompleteBody", b"4\r\nhell\r\n0\r\n\r\n", FIVE),
    put("bytes behind the last chunk", "IncompleteBody", b"5\r\nhello\r\n0\r\n\r\nmore", FIVE),
    put("a trailer that is missing", "MalformedTrailerError", b"5\r\nhello\r\n0\r\n\r\n", TRAILER, closes=False),
    put("a trailer that was not named", "MalformedTrailerError", b"5\r\nhello\r\n0\r\nx-amz-checksum-sha1:x\r\n\r\n", TRAILER),
    put("a trailer that is wrong", "BadDigest", b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n", TRAILER, closes=False),
    put("a checksum in a header and in a trailer", "InvalidRequest", b"5\r\nhello\r\n0\r\n\r\n", {**TRAILER, "x-amz-checksum-crc32": CRC}, closes=False),
    put("a trailer and no chunks", "InvalidRequest", HELLO, {"x-amz-trailer": "x-amz-checksum-crc32"}, None),
    put("chunks that are no longer than the object", "InvalidRequest", HELLO, FIVE),
    put("a length of the object that is none", "InvalidArgument", HELLO, {"x-amz-decoded-content-length": "+5"}),
    put("a chunk that another key has signed", "SignatureDoesNotMatch", b"5;chunk-signature=" + b"0" * 64 + b"\r\nhello\r\n0;chunk-signature=" + b"0" * 64 + b"\r\n\r\n", FIVE, SIGNED_CHUNKS, status=403),
    put("two lengths of HTTP", "InvalidRequest", b"5\r\nhello\r\n0\r\n\r\n", {"Content-Length": "15", "Transfer-Encoding": "chunked"}, "UNSIGNED-PAYLOAD"),
    put("a chunk size of HTTP that is no number", "InvalidRequest", b"zz\r\nhello\r\n0\r\n\r\n", {"Transfer-Encoding": "chunked"}, "UNSIGNED-PAYLOAD"),
    # Promises
    put("another body than was signed", "XAmzContentSHA256Mismatch", HELLO, {}, "0" * 64, closes=False),
    put("a digest that is none", "InvalidArgument", HELLO, {}, "x" * 64),
    put("a way to frame that nobody knows", "NotImplemented", HELLO, {}, "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", status=501),
    put("an empty Content-MD5", "InvalidDigest", HELLO, {"Content-MD5": ""}, None, closes=False),
    put("a Content-MD5 that is none", "InvalidDigest", HELLO, {"Content-MD5": "YWJyYWNhZGFicmE="}, None, closes=False),
    put("another Content-MD5", "BadDigest", HELLO, {"Content-MD5": "rL0Y20zC+Fzt72VPzMSk2A=="}, None, closes=False),
    put("a good digest and a bad one", "BadDigest", HELLO, {"Content-MD5": HELLO_MD5, "x-amz-checksum-crc32": "AAAAAA=="}, None, closes=False),
    put("two checksums", "InvalidRequest", HELLO, {"x-amz-checksum-crc32": CRC, "x-amz-checksum-sha1": "qvTGHdzF6KLavt4PO0gs2a6pQ00="}, None, closes=False),
    put("a checksum that is none", "BadDigest", HELLO, {"x-amz-checksum-crc32": "?"}, None, closes=False),
    put("a checksum that nobody knows", "NotImplemented", HELLO, {"x-amz-checksum-md5": HELLO_MD5}, None, closes=False, status=501),
    # Documents
    delete("a DOCTYPE", b"<!DOCTYPE Delete><Delete>" + OBJECT + b"</Delete>"),
    delete("entities", b'<!DOCTYPE d [<!ENTITY a "kept">]><Delete><Object><Key>&a;</Key></Object></Delete>'),
    delete("nesting that is too deep", b"<Delete>" + OBJECT + b"<a>" * 50 + b"</a>" * 50 + b"</Delete>"),
    delete("a document that is not UTF-8", b"<Delete>" + OBJECT + b"<Object><Key>\xff</Key></Object></Delete>"),
    delete("a document in UTF-16", ("<Delete>" + OBJECT.decode() + "</Delete>").encode("utf-16")),
    delete("a document that ends early", b"<Delete>" + OBJECT),
    delete("no document", b""),
    delete("1,001 keys", b"<Delete>" + OBJECT * 1001 + b"</Delete>"),
    delete("no key", b"<Delete></Delete>"),
    delete("two roots", (b"<Delete>" + OBJECT + b"</Delete>") * 2),
    Case("a document of 3 MiB", "MaxMessageLengthExceeded", "POST", f"/{BUCKET}?delete", b"<Delete>" + OBJECT + b" " * (3 << 20) + b"</Delete>", closes=True),
    Case("no promise about a document", "InvalidRequest", "POST", f"/{BUCKET}?delete", b"<Delete>" + OBJECT + b"</Delete>", {}, "UNSIGNED-PAYLOAD"),
    # Addresses
    Case("%zz in a path", "InvalidURI", "GET", f"/{BUCKET}/%zz"),
    Case("half a percent sign", "InvalidURI", "GET", f"/{BUCKET}/a%2"),
    Case("no UTF-8 in a path", "InvalidURI", "GET", f"/{BUCKET}/%FF"),
    Case("%zz in a query", "InvalidURI", "GET", f"/{BUCKET}?prefix=%zz"),
    Case("a key of 1,025 bytes", "KeyTooLongError", "PUT", f"/{BUCKET}/" + "a" * 1025),
    Case("a bucket's name in capitals", "InvalidBucketName", "PUT", "/Photos"),
    Case("a bucket's name that is an address", "InvalidBucketName", "PUT", "/192.168.5.4"),
    Case("a sub-resource that nobody knows", "NotImplemented", "GET", f"/{BUCKET}/kept?newthing", status=501),
    Case("two sub-resources", "InvalidArgument", "GET", f"/{BUCKET}?acl=&policy="),
    Case("encryption", "NotImplemented", "PUT", f"/{BUCKET}/new", HELLO, {"x-amz-server-side-encryption": "AES256"}, status=501),
    # Ranges and numbers
    Case("a range after the end", "InvalidRange", "GET", f"/{BUCKET}/kept", headers={"Range": "bytes=4-"}, status=416),
    Case("part number 0", "InvalidArgument", "GET", f"/{BUCKET}/kept?partNumber=0"),
    Case("part number 10,001", "InvalidArgument", "GET", f"/{BUCKET}/kept?partNumber=10001"),
    Case("part number 2 of one", "InvalidPart", "GET", f"/{BUCKET}/kept?partNumber=2"),
    Case("max-keys below 0", "InvalidArgument", "GET", f"/{BUCKET}?max-keys=-1"),
    Case("max-keys that is no number", "InvalidArgument", "GET", f"/{BUCKET}?max-keys=blah"),
    Case("a token that is none", "InvalidArgument", "GET", f"/{BUCKET}?list-type=2&continuation-token=x"),
    Case("a prefix of 1,025 bytes", "KeyTooLongError", "GET", f"/{BUCKET}?prefix=" + "a" * 1025),
    # Headers
    Case("a condition without an ETag", "InvalidArgument", "PUT", f"/{BUCKET}/kept", HELLO, {"If-Match": ""}),
    Case("metadata of 8,193 bytes", "MetadataTooLarge", "PUT", f"/{BUCKET}/new", HELLO, {"x-amz-meta-a": "x" * 8192}),
    Case("a class of storage that is not there", "InvalidStorageClass", "PUT", f"/{BUCKET}/new", HELLO, {"x-amz-storage-class": "GLACIER"}),
    Case("a source without a key", "InvalidArgument", "PUT", f"/{BUCKET}/new", headers={"x-amz-copy-source": BUCKET}),
    Case("a source with %zz", "InvalidArgument", "PUT", f"/{BUCKET}/new", headers={"x-amz-copy-source": f"{BUCKET}/%zz"}),
    Case("a version that is not there", "NoSuchVersion", "DELETE", f"/{BUCKET}/kept?versionId=1", status=404),
]  # fmt: skip


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with s3_store(tmp_path_factory.mktemp("bad")) as gateway:
        with root_client(gateway) as client:
            client.create_bucket(Bucket=BUCKET)
            client.create_bucket(Bucket="other")
            for key in ("kept", "more"):
                client.put_object(Bucket=BUCKET, Key=key, Body=b"kept")
        yield gateway


@pytest.fixture(scope="module")
def wire(gateway: RunningGateway) -> Wire:
    return Wire(gateway)


def require_as_it_was(wire: Wire) -> None:
    listed = wire.ask("GET", f"/{BUCKET}")
    assert (listed.status, listed.body.count(b"<Contents>")) == (200, 2), listed
    assert wire.ask("GET", f"/{BUCKET}/kept").body == b"kept"


@pytest.mark.parametrize("case", CASES, ids=[case.what for case in CASES])
def test_bad_input_has_its_code_and_changes_nothing(wire: Wire, case: Case) -> None:
    sent = case.path.replace(" ", "%20")
    heard = wire.ask(case.method, sent, case.body, case.headers, payload=case.payload)
    assert (heard.status, heard.code) == (case.status, case.code), heard
    assert heard.closes == case.closes
    assert b"<RequestId>" in heard.body
    require_as_it_was(wire)


@pytest.mark.parametrize(
    ("sent", "signed", "key"),
    [
        ("a%00b", "a%00b", b"a&#x0;b"),
        ("a%2Fb", "a/b", b"a/b"),
        ("//a", "//a", b"//a"),
        ("../a/.", "../a/.", b"../a/."),
        ("a+b", "a%2Bb", b"a+b"),
        ("%25zz", "%25zz", b"%zz"),
        ("a" * 1024, "a" * 1024, b"a" * 1024),
    ],
)
def test_what_looks_bad_and_is_a_key(wire: Wire, sent: str, signed: str, key: bytes) -> None:
    path, sent_path = f"/other/{signed}", f"/other/{sent}"
    assert wire.ask("PUT", path, HELLO, sent_path=sent_path).status == 200
    assert wire.ask("GET", path, sent_path=sent_path).body == HELLO
    assert b"<Key>" + key + b"</Key>" in wire.ask("GET", "/other").body
    assert wire.ask("DELETE", path).status == 204


def test_a_delimiter_may_be_a_key_and_a_range_backwards_is_no_range(wire: Wire) -> None:
    listed = wire.ask("GET", f"/{BUCKET}?delimiter=kept")
    assert b"<CommonPrefixes><Prefix>kept</Prefix></CommonPrefixes>" in listed.body
    heard = wire.ask("GET", f"/{BUCKET}/kept", headers={"Range": "bytes=2-1"})
    assert (heard.status, heard.body) == (200, b"kept")


def test_a_token_is_for_its_own_bucket(wire: Wire) -> None:
    page = wire.ask("GET", f"/{BUCKET}?list-type=2&max-keys=1").body
    token = page.partition(b"<NextContinuationToken>")[2].partition(b"<")[0].decode()
    assert wire.ask("GET", f"/{BUCKET}?continuation-token={token}&list-type=2").status == 200
    heard = wire.ask("GET", f"/other?continuation-token={token}&list-type=2")
    assert (heard.status, heard.code) == (400, "InvalidArgument")


@pytest.mark.parametrize("late_s", [960, -960])
def test_a_clock_that_is_wrong_is_told(wire: Wire, late_s: float) -> None:
    heard = wire.ask("GET", f"/{BUCKET}", late_s=late_s)
    assert (heard.status, heard.code) == (403, "RequestTimeTooSkewed")
    assert wire.ask("GET", f"/{BUCKET}", late_s=late_s * 0.9).status == 200


def test_a_signature_that_does_not_match_comes_with_what_should_have_been_signed(wire: Wire) -> None:
    sent = wire.head("GET", f"/{BUCKET}?prefix=b")
    heard = wire.say(sent.replace(b"?prefix=b", b"?prefix=a"))
    assert (heard.status, heard.code) == (403, "SignatureDoesNotMatch")
    assert b"<CanonicalRequest>GET\n/bad\nprefix=a\nhost:127.0.0.1:" in heard.body
    assert b"<StringToSign>AWS4-HMAC-SHA256\n" in heard.body


# --- Expect: 100-continue ----------------------------------------------------------------------------


def _first_answer(gateway: RunningGateway, head: bytes, body: bytes) -> tuple[bytes, bytes]:
    """What comes before the body is sent, and after it."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection:
        connection.sendall(head)
        first = connection.recv(65536)
        if not first.startswith(b"HTTP/1.1 100 "):
            return first, b""
        connection.sendall(body)
        return first, connection.recv(65536)


def test_a_client_that_waits_for_leave_gets_it_or_an_answer_at_once(
    gateway: RunningGateway, wire: Wire
) -> None:
    expects = {"Expect": "100-continue", "Content-Length": "5"}
    first, last = _first_answer(gateway, wire.head("PUT", "/other/waited", expects), HELLO)
    assert (first, last[:12]) == (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200")
    assert wire.ask("GET", "/other/waited").body == HELLO
    wire.ask("DELETE", "/other/waited")
    head = wire.head("PUT", "/other/refused", expects)
    first, _ = _first_answer(gateway, head.replace(b"/other/refused", b"/other/another"), HELLO)
    assert first.startswith(b"HTTP/1.1 403 ")
    refused: Heard = wire.ask("GET", "/other/another")
    assert refused.status == 404


def test_a_client_that_leaves_in_the_middle_leaves_nothing(gateway: RunningGateway, wire: Wire) -> None:
    for size in (10, 300_000, 9_000_000):
        head = wire.head("PUT", f"/{BUCKET}/new", {"Content-Length": str(size)})
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection:
            connection.sendall(head + bytes(size // 2))
    require_as_it_was(wire)
