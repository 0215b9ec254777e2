"""Payload: how is this body framed, and what do its headers promise about it?  Pure

    x-amz-content-sha256                        the body is
    64 hexadecimal digits                       as it is; the digits are its SHA-256
    UNSIGNED-PAYLOAD, or nothing                as it is
    STREAMING-AWS4-HMAC-SHA256-PAYLOAD          in chunks, each signed            (`s3/chunked.py`)
    STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER  the same, and trailers, signed
    STREAMING-UNSIGNED-PAYLOAD-TRAILER          in chunks, and trailers

Without a promise about its bytes a body is in chunks, too, where Content-Encoding says aws-chunked or
x-amz-decoded-content-length is there: a proxy may have rewritten one of the three, and framing that is stored
as content is damage that nobody notices.  Where the headers contradict each other the request is refused.
All this is apart from HTTP's own chunked coding, in which a framed body may come besides.

Source: the Amazon S3 API reference, "Authenticating Requests: Using the Authorization Header" and "Signature
calculations for trailing headers".
"""

from __future__ import annotations

import binascii
import enum
from collections.abc import Mapping
from typing import Final

import msgspec

from warehouse.s3.checksums import HEADER_PREFIX, Algorithm, algorithm_of_header
from warehouse.s3.failures import Failure

UNSIGNED: Final = b"UNSIGNED-PAYLOAD"
AWS_CHUNKED: Final = b"aws-chunked"
LENGTH_DIGITS_MAX: Final = 18  # below 2**63, whatever the digits are


class Framing(enum.Enum):
    """What lies around the bytes of the object."""

    NONE = enum.auto()
    CHUNKS = enum.auto()
    SIGNED_CHUNKS = enum.auto()


_STREAMING: Final = {
    b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD": (Framing.SIGNED_CHUNKS, False),
    b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER": (Framing.SIGNED_CHUNKS, True),
    b"STREAMING-UNSIGNED-PAYLOAD-TRAILER": (Framing.CHUNKS, True),
}


class Payload(msgspec.Struct, frozen=True):
    """What the headers say about the body of one request."""

    framing: Framing
    sha256: bytes | None = None  # what all bytes of the body must have
    length: int | None = None  # bytes of the object; None: the end of the body says it
    may_have_trailers: bool = False
    trailer: Algorithm | None = None  # the checksum that must come behind the chunks


_PLAIN: Final = Payload(Framing.NONE)


def payload_of(
    headers: Mapping[bytes, bytes], content_length: int | None, signed: bytes = UNSIGNED
) -> Payload:
    """Read how the body comes.

    Args:
        content_length: of the HTTP body in bytes; None: it comes in HTTP's chunked coding.
        signed: what a signature of version 4 says about the body (`V4Claim.payload`).  A presigned request
            may have it in its query alone.
    Raises:
        Failure: InvalidRequest or InvalidArgument, and the connection closes: the headers contradict each
            other or cannot be read, so nobody knows what the bytes behind them are.  NotImplemented: the
            chunks are signed in a way that we do not know.
    """
    promise = headers.get(b"x-amz-content-sha256", signed)
    if signed not in (promise, UNSIGNED):
        raise _contradiction("The header x-amz-content-sha256 says something else than what was signed.")
    decoded_length = headers.get(b"x-amz-decoded-content-length")
    if decoded_length is None and b"x-amz-trailer" not in headers:  # nearly every request
        if len(promise) == 64:
            return Payload(Framing.NONE, _sha256_of(promise), content_length)
        if promise == UNSIGNED and b"content-encoding" not in headers:
            return _PLAIN if content_length is None else Payload(Framing.NONE, None, content_length)
    if len(promise) == 64:
        return _digested(promise, headers, content_length)
    return _unusual(promise, headers, content_length)


def _digested(promise: bytes, headers: Mapping[bytes, bytes], content_length: int | None) -> Payload:
    """A body whose SHA-256 is known stands for itself, whatever Content-Encoding says."""
    _refuse_trailers(headers)
    length = _decoded_length(headers)
    if length is not None and length != content_length:
        raise _contradiction(
            "The digest in x-amz-content-sha256 is that of a body without framing, and"
            f" x-amz-decoded-content-length, {length}, is not its length."
        )
    return Payload(Framing.NONE, _sha256_of(promise), content_length)


def _unusual(promise: bytes, headers: Mapping[bytes, bytes], content_length: int | None) -> Payload:
    length = _decoded_length(headers)
    if promise == UNSIGNED:
        _refuse_trailers(headers)
        if length is None and not _is_aws_chunked(headers):
            return Payload(Framing.NONE, None, content_length)
        framing, may_have_trailers = Framing.CHUNKS, False
    elif promise in _STREAMING:
        framing, may_have_trailers = _STREAMING[promise]
        if not may_have_trailers:
            _refuse_trailers(headers)
    else:
        raise _unknown(promise)
    if length is not None and content_length is not None and content_length <= length:
        raise _contradiction(
            f"A body of {content_length} bytes cannot hold {length} bytes of an object and the framing."
        )
    return Payload(framing, None, length, may_have_trailers, _trailer_of(headers))


def _sha256_of(promise: bytes) -> bytes:
    try:
        return binascii.unhexlify(promise)
    except binascii.Error:
        raise _unknown(promise) from None


def _unknown(promise: bytes) -> Failure:
    if promise.startswith(b"STREAMING-"):
        return Failure("NotImplemented", f"Bodies like {_shown(promise)} are not implemented.", closes=True)
    return Failure(
        "InvalidArgument",
        "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER,"
        " STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER, or a SHA-256 in 64"
        f" hexadecimal digits, not {_shown(promise)}.",
        {"ArgumentName": "x-amz-content-sha256", "ArgumentValue": promise[:80].decode("latin-1")},
        closes=True,
    )


def _decoded_length(headers: Mapping[bytes, bytes]) -> int | None:
    text = headers.get(b"x-amz-decoded-content-length")
    if text is None:
        return None
    if not text.isdigit() or len(text) > LENGTH_DIGITS_MAX:  # no sign, no blank, nothing repeated
        raise Failure(
            "InvalidArgument",
            f"x-amz-decoded-content-length must be a number of bytes, not {_shown(text)}.",
            closes=True,
        )
    return int(text)


def _refuse_trailers(headers: Mapping[bytes, bytes]) -> None:
    if b"x-amz-trailer" in headers:
        raise _contradiction(
            "The header x-amz-trailer names a trailer, and x-amz-content-sha256 says that none will come."
        )


def _trailer_of(headers: Mapping[bytes, bytes]) -> Algorithm | None:
    """The algorithm of the one trailer that x-amz-trailer names."""
    value = headers.get(b"x-amz-trailer")
    if value is None:
        return None
    name = value.strip().lower()
    if not name.startswith(HEADER_PREFIX) or b"," in name:
        raise _contradiction(
            f"The header x-amz-trailer must name one x-amz-checksum- trailer, not {_shown(value)}."
        )
    return algorithm_of_header(name)


def _shown(value: bytes) -> str:
    return ascii(value[:80].decode("latin-1"))


def _contradiction(message: str) -> Failure:
    return Failure("InvalidRequest", message, closes=True)


# --- Content-Encoding -----------------------------------------------------------------------------


def _is_aws_chunked(headers: Mapping[bytes, bytes]) -> bool:
    codings = headers.get(b"content-encoding", b"").lower().split(b",")
    return any(coding.strip() == AWS_CHUNKED for coding in codings)


def stored_encoding(value: bytes) -> bytes | None:
    """What of a Content-Encoding belongs to the object: all but aws-chunked; None: nothing is left."""
    if AWS_CHUNKED not in value.lower():
        return value
    kept = [coding.strip() for coding in value.split(b",")]
    return b", ".join(coding for coding in kept if coding and coding.lower() != AWS_CHUNKED) or None
