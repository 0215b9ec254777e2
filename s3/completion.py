"""Completion: whether the parts that a client lists become an object, and which digests it has.  Pure

    every part listed      is there, with this ETag and, where one is listed, this checksum
    all but the last one   have 5 MiB or more
    the ETag               MD5 of the parts' MD5s, "-", their number
    the checksum           of the digests of the parts, or of all bytes: `checksums.py`

Source: the Amazon S3 API reference, "CompleteMultipartUpload"; the user guide, "Multipart upload limits".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from warehouse.s3.checksums import Algorithm, ChecksumType, MultipartChecksum
from warehouse.s3.etags import multipart_etag
from warehouse.s3.failures import Failure
from warehouse.s3.xml_in import CompletedPart

PART_SIZE_MIN: Final = 5 * 1024 * 1024  # bytes, of all parts but the last one
_WHOLE_SIZE: Final = b"x-amz-mp-object-size"


class StoredPart(Struct, frozen=True):
    """A part that is there."""

    number: int
    size: int
    md5: bytes
    algorithm: Algorithm | None = None
    digest: bytes | None = None  # of that algorithm


def check_parts(listed: Sequence[CompletedPart], stored: Iterable[StoredPart]) -> list[StoredPart]:
    """
    Returns:
        The parts that are listed, in order.
    Raises:
        Failure: InvalidPart, EntityTooSmall.
    """
    there = {part.number: part for part in stored}
    chosen: list[StoredPart] = []
    for one in listed:
        part = there.get(one.number)
        if part is None or part.md5.hex() != one.etag:
            raise _invalid_part(one)
        sent = one.checksum
        if sent is not None and (part.algorithm is not sent.algorithm or part.digest != sent.digest):
            raise _invalid_part(one)
        chosen.append(part)
    for part in chosen[:-1]:
        if part.size < PART_SIZE_MIN:
            raise Failure(
                "EntityTooSmall",
                "Your proposed upload is smaller than the minimum allowed size",
                {
                    "ProposedSize": str(part.size),
                    "MinSizeAllowed": str(PART_SIZE_MIN),
                    "PartNumber": str(part.number),
                    "ETag": part.md5.hex(),
                },
            )
    return chosen


def _invalid_part(part: CompletedPart) -> Failure:
    return Failure(
        "InvalidPart",
        "One or more of the specified parts could not be found.  The part may not have been uploaded, or the"
        " specified entity tag may not match the part's entity tag.",
        {"PartNumber": str(part.number), "ETag": part.etag[:100]},
    )


def check_whole_size(headers: Mapping[bytes, bytes], size: int) -> None:
    """Compare with the size that CompleteMultipartUpload may tell.

    Raises:
        Failure: InvalidRequest.
    """
    told = headers.get(_WHOLE_SIZE)
    if told is not None and told.strip() != b"%d" % size:
        raise Failure(
            "InvalidRequest",
            f"The x-amz-mp-object-size you specified, {told[:40].decode('latin-1')!a}, is not the size of all"
            f" parts: {size}.",
        )


def etag_listed(listed: Sequence[CompletedPart]) -> str | None:
    """The ETag of an object of the parts that are listed; None: of no parts of ours."""
    try:
        return multipart_etag(bytes.fromhex(part.etag) for part in listed)
    except ValueError:
        return None


def md5_of_parts(parts: Iterable[StoredPart]) -> bytes:
    """The digest that stands in the ETag of the object."""
    return bytes.fromhex(multipart_etag(part.md5 for part in parts).partition("-")[0])


def kind_of_whole(begun: MultipartChecksum | None, parts: Sequence[StoredPart]) -> MultipartChecksum | None:
    """Which checksum the object gets: that of its upload, else the one that all parts have; None: none."""
    algorithms = {part.algorithm for part in parts}
    algorithm = algorithms.pop()
    if algorithms or algorithm is None or (begun is not None and begun.algorithm is not algorithm):
        return None
    return begun or MultipartChecksum(algorithm, algorithm.types[0])


def digest_of_whole(kind: MultipartChecksum, parts: Sequence[StoredPart]) -> bytes:
    """
    Args:
        kind: as `kind_of_whole` has chosen it.
    """
    digests = [part.digest or b"" for part in parts]
    if kind.type is ChecksumType.FULL_OBJECT:
        sizes = (part.size for part in parts)
        return kind.algorithm.combined(zip(digests, sizes, strict=True))
    return kind.algorithm.composite(digests)
