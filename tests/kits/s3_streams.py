"""Twisted requests over S3: signed by botocore and then changed, or changed and then signed all the same."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from typing import Any, Final

from s3_forms import BOUNDARY, CONTENT_TYPE, written
from s3_wire import Wire

BUCKET: Final = "fuzz"
KEPT: Final = "kept"
_CHUNKS: Final = (
    "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
    "UNSIGNED-PAYLOAD",
)
_PATHS: Final = (
    *("/", f"/{BUCKET}", f"/{BUCKET}/", f"/{BUCKET}/{KEPT}", f"/{BUCKET}/a%00b", f"/{BUCKET}//..", "//"),
    *(f"/{BUCKET}/%zz", f"/{BUCKET}/%FF", f"/{BUCKET}/" + "k" * 1025, "/UPPER", "/none/a", "/" + "b" * 300),
)
_QUERIES: Final = (
    *("list-type=2", "prefix=%00", "prefix=k&delimiter=e", "max-keys=-1", "max-keys=99999999999999999999"),
    *("continuation-token=x&list-type=2", "marker=%F0%9F%98%80", "encoding-type=url", "versions", "uploads"),
    *("acl", "policy", "tagging", "attributes", "partNumber=0", "partNumber=1", "partNumber=x", "uploadId=x"),
    *(
        "versionId=null",
        "versionId=%00",
        "response-content-type=a%0d%0ab",
        "x-id=GetObject",
        "delete",
        "a=b=c",
    ),
    *(
        "prefix=%zz",
        "location",
        "cors",
        "lifecycle",
        "newthing",
        "uploadId=x&partNumber=1",
        "&&&",
        "=",
        "%3D",
    ),
)
_HEADERS: Final = (
    *(("Range", "bytes=0-1"), ("Range", "bytes=-0"), ("Range", "bytes=5-2"), ("Range", "bytes=" + "9" * 50)),
    *(("If-Match", "*"), ("If-Match", '"'), ("If-None-Match", '"a", "b"'), ("If-Modified-Since", "yesterday")),
    *(("x-amz-acl", "private"), ("x-amz-acl", "x"), ("x-amz-tagging", "a=%zz"), ("x-amz-meta-a", "b" * 9000)),
    *(("x-amz-copy-source", f"{BUCKET}/{KEPT}"), ("x-amz-copy-source", "%2F%2F?versionId=")),
    *(("x-amz-metadata-directive", "REPLACE"), ("x-amz-storage-class", "?"), ("x-amz-meta-", "")),
    *(("x-amz-checksum-crc32", "AAAAAA=="), ("x-amz-checksum-crc32", "?"), ("x-amz-checksum-mode", "ENABLED")),
    *(("x-amz-object-attributes", "ETag,?"), ("x-amz-max-parts", "-1"), ("Content-MD5", "x")),
    *(("Content-Encoding", "aws-chunked,gzip"), ("Expires", "\x7f"), ("Cache-Control", "é")),
    *(("Expect", "100-continue"), ("x-amz-expected-bucket-owner", "x"), ("Date", "x"), ("x-amz-if-match-size", "x")),
)  # fmt: skip
_METHODS: Final = ("GET", "PUT", "POST", "DELETE", "OPTIONS", "PATCH")

_OBJECT: Final = b"<Object><Key>new</Key><VersionId>null</VersionId><ETag>x</ETag></Object>"
_PART: Final = b"<Part><PartNumber>1</PartNumber><ETag>x</ETag><ChecksumCRC32>AAAAAA==</ChecksumCRC32></Part>"
_TAG: Final = b"<Tag><Key>k</Key><Value>v</Value></Tag>"
_GRANT: Final = (
    b'<Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser"><ID>x</ID>'
    b"</Grantee><Permission>READ</Permission></Grant>"
)
_DOCUMENTS: Final = (
    ("POST", f"/{BUCKET}?delete=", b"<Delete><Quiet>true</Quiet>" + _OBJECT * 3 + b"</Delete>"),
    ("POST", f"/{BUCKET}/new?uploadId=x", b"<CompleteMultipartUpload>" + _PART * 3 + b"</CompleteMultipartUpload>"),
    ("PUT", f"/{BUCKET}/{KEPT}?tagging=", b"<Tagging><TagSet>" + _TAG * 2 + b"</TagSet></Tagging>"),
    ("PUT", f"/{BUCKET}?tagging=", b"<Tagging><TagSet>" + _TAG * 2 + b"</TagSet></Tagging>"),
    (
        "PUT",
        f"/{BUCKET}?acl=",
        b"<AccessControlPolicy><AccessControlList>" + _GRANT + b"</AccessControlList></AccessControlPolicy>",
    ),
    (
        "PUT",
        f"/{BUCKET}",
        b"<CreateBucketConfiguration><LocationConstraint>us-east-1</LocationConstraint>"
        b"</CreateBucketConfiguration>",
    ),
)  # fmt: skip

_BITS: Final = (
    *(b"\r", b"\n", b"\r\n", b"\n\r", b" ", b"\t", b"\0", b"\x7f", b"\xff", b"%", b"%zz", b"%00", b"%2F"),
    *(b";", b":", b",", b"=", b'"', b"\\", b"<", b">", b"&", b"</", b"/>", b"<!--", b"-->", b"]]>", b"<![CDATA["),
    *(b"&#0;", b"&#x1F600;", b"&a;", b"<!DOCTYPE a [<!ENTITY a 'b'>]>", b"<?xml version='1.1'?>", b"<a>" * 30),
    *(b"0", b"-", b"+", b"0\r\n\r\n", b"\r\n\r\n", b"1\r\na\r\n", b"ffffffffffffffff\r\n", b"5;chunk-signature="),
    *(b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"x-amz-trailer: x-amz-checksum-crc32\r\n"),
    *(b"--" + BOUNDARY.encode(), b"--" + BOUNDARY.encode() + b"--\r\n", b"filename*=utf-8''%FF", b"${filename}"),
)  # fmt: skip


def twisted(rng: random.Random, data: bytes) -> bytes:
    """The same with something put in, left out, repeated or replaced; now and then as it is."""
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3, 8))):
        start = rng.randint(0, len(data))
        if rng.random() < 0.5:  # where things begin and end
            start = max(0, data.find(rng.choice((b"\r\n", b"<", b"=", b":")), start) + rng.randint(-1, 2))
        end = min(len(data), start + rng.choice((0, 0, 1, 2, 5, 40)))
        match rng.randint(0, 4):
            case 0 | 1:
                new = rng.choice(_BITS)
            case 2:
                new = rng.randbytes(rng.randint(1, 3))
            case 3:
                other = rng.randint(0, len(data))
                new = data[other : other + rng.randint(1, 60)]
            case _:
                new = b""
        data = data[:start] + new + data[end:]
    return data


class Requests:
    """Makes requests of four kinds; what is in them depends on the random numbers alone.

    Args:
        fields: of a form that was signed for the bucket.
    """

    KINDS: Final = ("heads", "framing", "forms", "xml")

    def __init__(self, wire: Wire, fields: Mapping[str, str]) -> None:
        self._wire = wire
        self._fields = dict(fields)

    def make(self, kind: str, rng: random.Random) -> bytes:
        makers: Mapping[str, Any] = {
            "heads": self._head,
            "framing": self._framing,
            "forms": self._form,
            "xml": self._document,
        }
        request: bytes = makers[kind](rng)
        return request

    def _head(self, rng: random.Random) -> bytes:
        path = rng.choice(_PATHS)
        if rng.random() < 0.6:
            path += "?" + "&".join(rng.sample(_QUERIES, rng.choice((1, 1, 2))))
        headers = dict(rng.sample(_HEADERS, rng.choice((0, 1, 1, 2, 3))))
        body = rng.choice((b"", b"", b"hello"))
        if body or rng.random() < 0.5:
            headers["Content-Length"] = str(len(body))
        head = self._wire.head(rng.choice(_METHODS), path, headers, payload=_digest(body))
        return (twisted(rng, head) if rng.random() < 0.5 else head) + body

    def _framing(self, rng: random.Random) -> bytes:
        """A signed head, and a body that is not framed as it says."""
        data = rng.randbytes(rng.choice((0, 5, 5, 1000, 70_000)))
        signature = rng.choice((b"", b";chunk-signature=" + b"0" * 64))
        at = rng.randint(0, len(data))
        pieces = [piece for piece in (data[:at], data[at:]) if piece]
        body = b"".join(b"%x%b\r\n%b\r\n" % (len(piece), signature, piece) for piece in pieces)
        body += b"0" + signature + rng.choice((b"\r\n\r\n", b"\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"))
        body = twisted(rng, body)
        headers = {"x-amz-decoded-content-length": str(len(data))} if rng.random() < 0.8 else {}
        if rng.random() < 0.5:
            headers["x-amz-trailer"] = "x-amz-checksum-crc32"
        if rng.random() < 0.3:
            headers["Transfer-Encoding"] = "chunked"
            body = twisted(rng, b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        else:
            headers["Content-Length"] = str(len(body) + rng.choice((0, 0, 0, -1, 1)))
        key = rng.randint(0, 50)
        return self._wire.head("PUT", f"/{BUCKET}/{key}", headers, payload=rng.choice(_CHUNKS)) + body

    def _form(self, rng: random.Random) -> bytes:
        body = written(
            self._fields, rng.randbytes(rng.choice((0, 5, 1000, 70_000))), rng.choice(("", "a/é.txt"))
        )
        body = twisted(rng, body)
        content_type = CONTENT_TYPE if rng.random() < 0.9 else twisted(rng, CONTENT_TYPE)
        return (
            f"POST /{BUCKET} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\nContent-Type: ".encode()
            + content_type
            + b"\r\n\r\n"
            + body
        )

    def _document(self, rng: random.Random) -> bytes:
        """A document that was twisted first and signed then, so that it is read."""
        method, path, document = rng.choice(_DOCUMENTS)
        document = twisted(rng, document)
        sent = {"Content-Length": str(len(document))}
        return self._wire.head(method, path, sent, payload=_digest(document)) + document


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
