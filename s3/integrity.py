"""Integrity: all that a request promises about its body, compared with the bytes as they come.  Pure

    Content-MD5                       base64 of 16 bytes; InvalidDigest where it cannot be read
    x-amz-content-sha256              hexadecimal; XAmzContentSHA256Mismatch   (`s3/payload.py` reads it)
    x-amz-checksum-<algorithm>        base64, in a header or in a trailer      (`s3/checksums.py`)
    x-amz-sdk-checksum-algorithm      names the algorithm of the former

Every promise is kept or the request fails; none is dropped because another one was good.  What differs from
the body is BadDigest.  The MD5 of the body is always made: it is the ETag.

Source: the Amazon S3 User Guide, "Checking object integrity in Amazon S3"; RFC 1864.
"""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from warehouse.s3.checksums import (
    SHA256,
    Algorithm,
    Digest,
    Piece,
    Sent,
    algorithm_named,
    digest_of,
    sent_checksum,
    text_of,
)
from warehouse.s3.failures import Failure
from warehouse.s3.payload import Payload

MD5_SIZE: Final = 16


class Promises(msgspec.Struct, frozen=True):
    """What the headers of one request say about its body."""

    md5: bytes | None = None
    sha256: bytes | None = None
    sent: Sent | None = None  # a checksum whose value is known already
    trailer: Algorithm | None = None  # a checksum whose value comes behind the body

    @property
    def algorithm(self) -> Algorithm | None:
        """Of the checksum that the request brings; None: it brings none."""
        return self.trailer if self.sent is None else self.sent.algorithm

    def require_one(self) -> None:
        """For operations that S3 takes only with some promise, and any will do.

        Raises:
            Failure: InvalidRequest: there is none.
        """
        if self.md5 is None and self.sha256 is None and self.algorithm is None:
            raise Failure(
                "InvalidRequest",
                "This request needs Content-MD5, an x-amz-checksum- header or a signed body.",
            )


def promises_of(headers: Mapping[bytes, bytes], payload: Payload, *, is_object: bool = True) -> Promises:
    """Read the promises of a request.

    Args:
        payload: as `payload_of` has read it from the same headers.
        is_object: False for CompleteMultipartUpload, whose checksum is that of the completed object and not
            of the body (`check_whole`).
    Raises:
        Failure: InvalidDigest, BadDigest: a promise cannot be read.  InvalidRequest: two of them are one too
            many, or name different algorithms.  NotImplemented: an algorithm is none of ours.
    """
    md5 = headers.get(b"content-md5")
    sent = sent_checksum(headers) if is_object else None
    if sent is not None and payload.trailer is not None:
        raise Failure(
            "InvalidRequest", "A checksum comes in a header or in a trailer, and this request has both."
        )
    named = headers.get(b"x-amz-sdk-checksum-algorithm")
    promises = Promises(None if md5 is None else _md5_of(md5), payload.sha256, sent, payload.trailer)
    if named is not None:
        _check_named(algorithm_named(named.decode("latin-1")), promises.algorithm)
    return promises


def _md5_of(text: bytes) -> bytes:
    try:
        md5 = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        md5 = b""
    if len(md5) != MD5_SIZE:
        raise Failure("InvalidDigest", "The Content-MD5 you specified is not valid: 16 bytes in base64.")
    return md5


def _check_named(named: Algorithm, found: Algorithm | None) -> None:
    if found is None:
        raise Failure(
            "InvalidRequest",
            "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer"
            " headers were found.",
        )
    if found is not named:
        raise Failure(
            "BadDigest",
            f"x-amz-sdk-checksum-algorithm names {named.name}, and the request brings {found.name}.",
        )


class Digests(msgspec.Struct, frozen=True):
    """What a body was, once all promises have been kept."""

    size: int
    md5: bytes
    algorithm: Algorithm | None = None
    checksum: bytes | None = None  # of that algorithm


class Integrity:
    """Digests one body as it comes, and compares it at the end with what was promised."""

    __slots__ = ("_algorithm", "_checksum", "_digests", "_md5", "_promises", "_sha256", "_size")

    def __init__(self, promises: Promises, algorithm: Algorithm | None = None) -> None:
        """
        Args:
            algorithm: of the checksum to be made where the request brings none; None: make none.
        """
        self._promises = promises
        self._size = 0
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._digests: list[Digest] = [self._md5]
        self._sha256 = None
        if promises.sha256 is not None:
            self._sha256 = hashlib.sha256()
            self._digests.append(self._sha256)
        self._algorithm = promises.algorithm or algorithm
        self._checksum: Digest | None = None
        if self._algorithm is SHA256 and self._sha256 is not None:
            self._checksum = self._sha256
        elif self._algorithm is not None:
            self._checksum = self._algorithm.new()
            self._digests.append(self._checksum)

    def update(self, piece: Piece) -> None:
        """Take the next bytes of the object.  This takes milliseconds for a mebibyte."""
        self.count(piece)
        for digest in self.digests:
            digest(piece)

    def count(self, piece: Piece) -> None:
        """Take the next bytes of the object, which the caller gives to each of `digests`."""
        self._size += len(piece)

    @property
    def digests(self) -> Sequence[Callable[[Piece], None]]:
        """What takes each piece, in the order of the pieces; each may run in a thread of its own."""
        return [digest.update for digest in self._digests]

    def finish(self, trailers: Mapping[bytes, bytes] | None = None) -> Digests:
        """The body is over.

        Args:
            trailers: as `ChunkedDecoder.finish` returns them.
        Raises:
            Failure: BadDigest, XAmzContentSHA256Mismatch: the body is not what was promised.
        """
        md5 = self._md5.digest()
        self._check_md5(md5)
        self._check_sha256()
        return Digests(self._size, md5, self._algorithm, self._finish_checksum(trailers or {}))

    def _check_md5(self, md5: bytes) -> None:
        promised = self._promises.md5
        if promised is not None and promised != md5:
            raise Failure(
                "BadDigest",
                "The Content-MD5 you specified did not match what we received.",
                {"ExpectedDigest": text_of(promised), "CalculatedDigest": text_of(md5)},
            )

    def _check_sha256(self) -> None:
        if self._sha256 is None or self._promises.sha256 is None:
            return
        promised, found = self._promises.sha256, self._sha256.digest()
        if promised != found:
            raise Failure(
                "XAmzContentSHA256Mismatch",
                "The provided 'x-amz-content-sha256' header does not match what was computed.",
                {
                    "ClientComputedContentSHA256": promised.hex(),
                    "S3ComputedContentSHA256": found.hex(),
                },
            )

    def _finish_checksum(self, trailers: Mapping[bytes, bytes]) -> bytes | None:
        if self._checksum is None or self._algorithm is None:
            return None
        checksum = self._checksum.digest()
        promised = self._promised_checksum(trailers)
        if promised is not None and promised != checksum:
            raise Failure(
                "BadDigest",
                f"The {self._algorithm.name} you specified did not match the calculated checksum.",
                {"ExpectedDigest": text_of(promised), "CalculatedDigest": text_of(checksum)},
            )
        return checksum

    def _promised_checksum(self, trailers: Mapping[bytes, bytes]) -> bytes | None:
        if self._promises.sent is not None:
            return self._promises.sent.digest
        trailer = self._promises.trailer
        if trailer is None:
            return None
        if trailer.header not in trailers:
            raise Failure("MalformedTrailerError", f"The trailer {trailer.header.decode()} did not come.")
        return digest_of(trailer, trailers[trailer.header])
