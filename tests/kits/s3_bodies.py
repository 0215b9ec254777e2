"""Bodies as clients of S3 frame and sign them, written from the documents and not with the code under test."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from typing import Final

from warehouse.s3.chunked import Chain
from warehouse.s3.failures import Failure

# The credentials of all examples in the documentation of Amazon S3.
ACCESS_KEY: Final = "AKIAIOSFODNN7EXAMPLE"
SECRET: Final = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


def signing_key(date: str, region: str = "us-east-1", secret: str = SECRET) -> bytes:
    key = f"AWS4{secret}".encode()
    for text in (date, region, "s3", "aws4_request"):
        key = hmac.new(key, text.encode(), hashlib.sha256).digest()
    return key


AMZ_DATE: Final = b"20130524T000000Z"
SCOPE: Final = b"20130524/us-east-1/s3/aws4_request"


def chain(seed: str = "0" * 64) -> Chain:
    return Chain(signing_key("20130524"), AMZ_DATE, SCOPE, seed.encode())


class ChunkSigner:
    """Signs chunk after chunk, and then the trailers."""

    def __init__(self, begun: Chain) -> None:
        self.key = begun.signing_key
        self.head = begun.amz_date.decode() + "\n" + begun.scope.decode()
        self.previous = begun.signature.decode()

    def chunk(self, data: bytes) -> str:
        empty, digest = hashlib.sha256(b"").hexdigest(), hashlib.sha256(data).hexdigest()
        return self._next(f"AWS4-HMAC-SHA256-PAYLOAD\n{self.head}\n{self.previous}\n{empty}\n{digest}")

    def trailers(self, lines: str) -> str:
        digest = hashlib.sha256(lines.encode()).hexdigest()
        return self._next(f"AWS4-HMAC-SHA256-TRAILER\n{self.head}\n{self.previous}\n{digest}")

    def _next(self, to_sign: str) -> str:
        self.previous = hmac.new(self.key, to_sign.encode(), hashlib.sha256).hexdigest()
        return self.previous


def framed(chunks: Iterable[bytes], trailer: str | None = None) -> bytes:
    """Unsigned chunks; `trailer` is a name, a colon and a value."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return body + b"0\r\n" + (f"{trailer}\r\n\r\n" if trailer else "\r\n").encode()


def signed(chunks: Iterable[bytes], begun: Chain, trailer: str | None = None) -> bytes:
    signer = ChunkSigner(begun)
    body = b"".join(
        b"%x;chunk-signature=%b\r\n%b\r\n" % (len(chunk), signer.chunk(chunk).encode(), chunk)
        for chunk in chunks
    )
    body += f"0;chunk-signature={signer.chunk(b'')}\r\n".encode()
    if trailer is not None:
        signature = signer.trailers(f"{trailer}\n")
        body += f"{trailer}\r\nx-amz-trailer-signature:{signature}\r\n".encode()
    return body + b"\r\n"


def code_of(failure: Failure) -> tuple[str, int, bool]:
    return failure.code, failure.status, failure.closes
