"""Checksums: the five algorithms of S3, how they stand in headers, and what they make of parts.  Pure

    algorithm   digest    of a multipart upload
    CRC32        4 bytes  COMPOSITE, or FULL_OBJECT where asked for
    CRC32C       4 bytes  COMPOSITE, or FULL_OBJECT where asked for
    CRC64NVME    8 bytes  FULL_OBJECT only
    SHA1        20 bytes  COMPOSITE only
    SHA256      32 bytes  COMPOSITE only

A digest stands in headers and documents as base64 of its bytes, the most significant first.  COMPOSITE is the
checksum of the digests of all parts, written with "-N" behind it.  FULL_OBJECT is that of all bytes; the CRCs
of the parts give it by their lengths, so nothing is read again.

S3 knows further algorithms (`_NOT_SERVED`).  To ask for one is answered with 501, never with silence: a
client that sends a checksum believes that somebody compares it.

Source: the Amazon S3 User Guide, "Checking object integrity in Amazon S3".
"""

from __future__ import annotations

import binascii
import enum
import hashlib
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

import anycrc
from crc32c import crc32c

from warehouse.s3.failures import Failure

Piece = bytes | bytearray | memoryview

HEADER_PREFIX: Final = b"x-amz-checksum-"
_NO_VALUES: Final = frozenset(
    (b"x-amz-checksum-algorithm", b"x-amz-checksum-mode", b"x-amz-checksum-type")
)  # they begin like checksums and are none
_NOT_SERVED: Final = frozenset(("SHA512", "MD5", "XXHASH64", "XXHASH3", "XXHASH128"))


class Digest(Protocol):
    """What takes pieces and says at the end what they are."""

    def update(self, piece: Piece, /) -> None: ...

    def digest(self) -> bytes: ...


class ChecksumType(enum.StrEnum):
    """What the checksum of a multipart upload is made of."""

    COMPOSITE = "COMPOSITE"
    FULL_OBJECT = "FULL_OBJECT"


class _Crc:
    __slots__ = ("_calculate", "_size", "_value")

    def __init__(self, calculate: Callable[[Piece, int], int], size: int) -> None:
        self._calculate = calculate
        self._size = size
        self._value = 0

    def update(self, piece: Piece, /) -> None:
        self._value = self._calculate(piece, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size, "big")


class Algorithm:
    """One algorithm.  There is one object for each, so they are compared by identity."""

    __slots__ = ("_combine", "header", "name", "new", "size", "types")

    def __init__(
        self,
        name: str,
        size: int,
        new: Callable[[], Digest],
        types: tuple[ChecksumType, ...],
        combine: Callable[[int, int, int], int] | None = None,
    ) -> None:
        self.name = name
        self.header = HEADER_PREFIX + name.lower().encode()
        self.size = size  # bytes of a digest
        self.new = new
        self.types = types  # of multipart uploads; the first counts where none is asked for
        self._combine = combine

    def __repr__(self) -> str:
        return self.name

    def of(self, data: Piece) -> bytes:
        digest = self.new()
        digest.update(data)
        return digest.digest()

    def composite(self, digests: Iterable[bytes]) -> bytes:
        """The checksum of the digests of all parts, in the order of the parts."""
        return self.of(b"".join(digests))

    def combined(self, parts: Iterable[tuple[bytes, int]]) -> bytes:
        """The checksum of all bytes, out of digest and size of each part in order.

        Raises:
            TypeError: the algorithm is no CRC, so nothing but all bytes gives it; a bug.
        """
        if self._combine is None:
            raise TypeError(f"{self.name} of a whole does not follow from its parts")
        whole = 0
        for digest, size in parts:
            whole = self._combine(whole, int.from_bytes(digest, "big"), size)
        return whole.to_bytes(self.size, "big")


_CRC32_MODEL: Final = anycrc.Model("CRC32")
_CRC32C_MODEL: Final = anycrc.Model("CRC32C")
_CRC64NVME_MODEL: Final = anycrc.Model("CRC64-NVME")
_EITHER: Final = (ChecksumType.COMPOSITE, ChecksumType.FULL_OBJECT)

CRC32: Final = Algorithm("CRC32", 4, lambda: _Crc(_CRC32_MODEL.calc, 4), _EITHER, _CRC32_MODEL.combine)
CRC32C: Final = Algorithm("CRC32C", 4, lambda: _Crc(crc32c, 4), _EITHER, _CRC32C_MODEL.combine)
CRC64NVME: Final = Algorithm(
    "CRC64NVME",
    8,
    lambda: _Crc(_CRC64NVME_MODEL.calc, 8),
    (ChecksumType.FULL_OBJECT,),
    _CRC64NVME_MODEL.combine,
)
SHA1: Final = Algorithm("SHA1", 20, lambda: hashlib.sha1(usedforsecurity=False), (ChecksumType.COMPOSITE,))
SHA256: Final = Algorithm("SHA256", 32, hashlib.sha256, (ChecksumType.COMPOSITE,))

ALGORITHMS: Final = (CRC32, CRC32C, CRC64NVME, SHA1, SHA256)
DEFAULT: Final = CRC64NVME  # what S3 computes of an object for which its client asks for nothing
_BY_NAME: Final = {algorithm.name: algorithm for algorithm in ALGORITHMS}
_BY_HEADER: Final = {algorithm.header: algorithm for algorithm in ALGORITHMS}


# --- names ----------------------------------------------------------------------------------------


def algorithm_named(name: str) -> Algorithm:
    """The algorithm that x-amz-checksum-algorithm or x-amz-sdk-checksum-algorithm names, in any case.

    Raises:
        Failure: NotImplemented for one that S3 has and we do not, InvalidRequest for any other text.
    """
    algorithm = _BY_NAME.get(name.upper())
    if algorithm is None or not name.isascii():  # a long s is an S in capitals
        raise _unknown(name)
    return algorithm


def algorithm_of_header(name: bytes) -> Algorithm:
    """The algorithm whose value stands in the header or trailer `name`, given in lower case.

    Raises:
        Failure: as `algorithm_named` raises it.
    """
    algorithm = _BY_HEADER.get(name)
    if algorithm is None:
        raise _unknown(name.removeprefix(HEADER_PREFIX).decode("latin-1"))
    return algorithm


def _unknown(name: str) -> Failure:
    if name.upper() in _NOT_SERVED:
        return Failure("NotImplemented", f"Checksums by {name.upper()} are not implemented; {_served()}.")
    return Failure("InvalidRequest", f"There is no checksum algorithm {name[:40]!a}; {_served()}.")


def _served() -> str:
    return f"this server has {', '.join(_BY_NAME)}"


# --- values ---------------------------------------------------------------------------------------


def text_of(digest: bytes, part_count: int | None = None) -> str:
    """A digest as headers and documents have it; a COMPOSITE one with the number of its parts."""
    text = b64encode(digest).decode()
    return text if part_count is None else f"{text}-{part_count}"


def digest_of(algorithm: Algorithm, text: bytes) -> bytes:
    """Read a digest of a header, a trailer, a form or a list of parts.

    Raises:
        Failure: BadDigest: the text is not base64 of as many bytes as the algorithm has.
    """
    try:
        digest = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        digest = b""
    if len(digest) != algorithm.size:
        raise Failure(
            "BadDigest",
            f"{algorithm.header.decode()} must be {algorithm.size} bytes in base64,"
            f" not {text[:60].decode('latin-1')!a}.",
        )
    return digest


class Sent(NamedTuple):
    """A checksum that came in a header or a field: what the body must have."""

    algorithm: Algorithm
    digest: bytes


def sent_checksum(headers: Mapping[bytes, bytes]) -> Sent | None:
    """The checksum that the headers promise for the body; None: they promise none.

    Raises:
        Failure: BadDigest: it cannot be read.  InvalidRequest: there are several.  NotImplemented: its
            algorithm is none of ours.
    """
    name = _value_header(headers)
    if name is None:
        return None
    algorithm = algorithm_of_header(name)
    return Sent(algorithm, digest_of(algorithm, headers[name]))


def _value_header(headers: Mapping[bytes, bytes]) -> bytes | None:
    """The name of the one header that holds a checksum."""
    found = None
    for name in headers:
        if name.startswith(HEADER_PREFIX) and name not in _NO_VALUES:
            if found is not None:
                raise Failure("InvalidRequest", "A request has one x-amz-checksum- header, not several.")
            found = name
    return found


# --- multipart uploads ----------------------------------------------------------------------------


class MultipartChecksum(NamedTuple):
    """What a multipart upload was begun with: how each part is checked, and what the whole gets."""

    algorithm: Algorithm
    type: ChecksumType


def multipart_checksum(headers: Mapping[bytes, bytes]) -> MultipartChecksum | None:
    """Read x-amz-checksum-algorithm and x-amz-checksum-type of CreateMultipartUpload; None: neither came.

    Raises:
        Failure: InvalidRequest: the type cannot be read, does not go with the algorithm, or stands alone.
            NotImplemented: the algorithm is none of ours.
    """
    name, kind = headers.get(b"x-amz-checksum-algorithm"), headers.get(b"x-amz-checksum-type")
    if name is None:
        if kind is not None:
            raise Failure("InvalidRequest", "x-amz-checksum-type needs x-amz-checksum-algorithm beside it.")
        return None
    algorithm = algorithm_named(name.decode("latin-1"))
    return MultipartChecksum(algorithm, algorithm.types[0] if kind is None else _type_of(algorithm, kind))


def _type_of(algorithm: Algorithm, text: bytes) -> ChecksumType:
    kind = checksum_type_of(text)
    if kind not in algorithm.types:
        raise Failure(
            "InvalidRequest", f"The {kind} checksum type cannot be used with the {algorithm.name} algorithm."
        )
    return kind


def checksum_type_of(text: bytes) -> ChecksumType:
    """Read a value of x-amz-checksum-type, in any case.

    Raises:
        Failure: InvalidRequest: it is neither of the two.
    """
    try:
        return ChecksumType(text.decode("latin-1").upper())
    except ValueError:
        raise Failure(
            "InvalidRequest",
            f"x-amz-checksum-type is COMPOSITE or FULL_OBJECT, not {text[:40].decode('latin-1')!a}.",
        ) from None


def part_algorithm(upload: MultipartChecksum | None, sent: Algorithm | None) -> Algorithm | None:
    """Which checksum a part gets: that of its upload, else the one that came with it; None: any.

    Raises:
        Failure: InvalidRequest: the part came with another algorithm than its upload was begun with.
    """
    if upload is None:
        return sent
    if sent is not None and sent is not upload.algorithm:
        raise Failure(
            "InvalidRequest",
            f"The upload was begun with {upload.algorithm.name}, and the part came with {sent.name}.",
        )
    return upload.algorithm


def whole_checksum(kind: MultipartChecksum, parts: Sequence[tuple[bytes, int]]) -> str:
    """The checksum of a completed upload as headers and documents have it.

    Args:
        parts: digest and size in bytes of each part, in order.
    """
    if kind.type is ChecksumType.FULL_OBJECT:
        return text_of(kind.algorithm.combined(parts))
    return text_of(kind.algorithm.composite(digest for digest, _ in parts), len(parts))


def check_whole(kind: MultipartChecksum | None, headers: Mapping[bytes, bytes], whole: str | None) -> None:
    """Compare what CompleteMultipartUpload says of the whole object with what its parts give.

    Args:
        whole: as `whole_checksum` returns it; None where the upload has no checksum.
    Raises:
        Failure: BadDigest: another value, or another type.  InvalidRequest: another algorithm than the
            upload has, or several values.
    """
    asked = headers.get(b"x-amz-checksum-type")
    if asked is not None and kind is not None and checksum_type_of(asked) is not kind.type:
        raise Failure(
            "BadDigest", f"The upload was begun with {kind.type}, x-amz-checksum-type says otherwise."
        )
    name = _value_header(headers)
    if name is None:
        return
    algorithm = algorithm_of_header(name)
    if kind is None or whole is None or algorithm is not kind.algorithm:
        begun = "no checksum" if kind is None else kind.algorithm.name
        raise Failure("InvalidRequest", f"The upload was begun with {begun}, not with {algorithm.name}.")
    # Some clients send a COMPOSITE value without the number of its parts.
    if headers[name].decode("latin-1") not in (whole, whole.partition("-")[0]):
        raise Failure(
            "BadDigest",
            f"The {algorithm.name} you specified did not match the calculated checksum.",
            {"CalculatedDigest": whole},
        )
