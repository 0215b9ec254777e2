"""Completion: which parts become an object, and with which digests."""

from __future__ import annotations

import hashlib

import pytest

from warehouse.s3.checksums import (
    CRC32,
    CRC64NVME,
    SHA1,
    SHA256,
    Algorithm,
    ChecksumType,
    MultipartChecksum,
    Sent,
)
from warehouse.s3.completion import (
    PART_SIZE_MIN,
    StoredPart,
    check_parts,
    check_whole_size,
    digest_of_whole,
    etag_listed,
    kind_of_whole,
    md5_of_parts,
)
from warehouse.s3.failures import Failure
from warehouse.s3.xml_in import CompletedPart


def stored(number: int, size: int = PART_SIZE_MIN, algorithm: Algorithm | None = CRC32) -> StoredPart:
    data = b"%d" % number
    digest = None if algorithm is None else algorithm.of(data)
    return StoredPart(number, size, hashlib.md5(data).digest(), algorithm, digest)


def listed(part: StoredPart, **changes: object) -> CompletedPart:
    told = {"number": part.number, "etag": part.md5.hex(), **changes}
    return CompletedPart(**told)  # type: ignore[arg-type]


THERE = [stored(1), stored(2), stored(5), stored(9, 1)]


@pytest.mark.parametrize("numbers", [[1], [9], [1, 2, 5], [2, 9], [1, 2, 5, 9]])
def test_parts_that_are_there_are_chosen(numbers: list[int]) -> None:
    wanted = [part for part in THERE if part.number in numbers]
    asked = [listed(part, checksum=Sent(CRC32, CRC32.of(b"%d" % part.number))) for part in wanted]
    assert check_parts(asked, THERE) == wanted


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ([listed(stored(3))], "InvalidPart"),
        ([listed(stored(1)), listed(stored(2), etag="0" * 32)], "InvalidPart"),
        ([listed(stored(1), etag="")], "InvalidPart"),
        ([listed(stored(1), checksum=Sent(CRC32, bytes(4)))], "InvalidPart"),
        ([listed(stored(1), checksum=Sent(SHA1, SHA1.of(b"1")))], "InvalidPart"),
        ([listed(stored(9)), listed(stored(9))], "EntityTooSmall"),
    ],
)
def test_others_are_refused(asked: list[CompletedPart], code: str) -> None:
    with pytest.raises(Failure) as refused:
        check_parts(asked, THERE)
    assert refused.value.code == code


def test_the_etag_is_that_of_the_list() -> None:
    md5 = hashlib.md5(b"".join(part.md5 for part in THERE)).digest()
    assert md5_of_parts(THERE) == md5
    assert etag_listed([listed(part) for part in THERE]) == f"{md5.hex()}-4"
    assert etag_listed([listed(stored(1), etag="no digits")]) is None


COMPOSITE, FULL = ChecksumType.COMPOSITE, ChecksumType.FULL_OBJECT


@pytest.mark.parametrize(
    ("begun", "algorithms", "kind"),
    [
        (None, [CRC64NVME, CRC64NVME], MultipartChecksum(CRC64NVME, FULL)),
        (None, [SHA256], MultipartChecksum(SHA256, COMPOSITE)),
        (None, [CRC32, CRC64NVME], None),
        (None, [None, None], None),
        (MultipartChecksum(CRC32, FULL), [CRC32, CRC32], MultipartChecksum(CRC32, FULL)),
        (MultipartChecksum(CRC32, FULL), [CRC32, None], None),
        (MultipartChecksum(CRC32, FULL), [SHA1], None),
    ],
)
def test_the_checksum_is_that_which_all_parts_have(
    begun: MultipartChecksum | None, algorithms: list[Algorithm | None], kind: MultipartChecksum | None
) -> None:
    parts = [stored(number, algorithm=algorithm) for number, algorithm in enumerate(algorithms)]
    assert kind_of_whole(begun, parts) == kind


def test_the_digest_of_the_whole() -> None:
    parts = [stored(1, 1), stored(2, 1)]
    assert digest_of_whole(MultipartChecksum(CRC32, FULL), parts) == CRC32.of(b"12")
    assert digest_of_whole(MultipartChecksum(CRC32, COMPOSITE), parts) == CRC32.of(
        CRC32.of(b"1") + CRC32.of(b"2")
    )


def test_a_size_that_is_told_is_compared() -> None:
    check_whole_size({}, 5)
    check_whole_size({b"x-amz-mp-object-size": b"5"}, 5)
    for told in (b"6", b"", b"x"):
        with pytest.raises(Failure) as refused:
            check_whole_size({b"x-amz-mp-object-size": told}, 5)
        assert refused.value.code == "InvalidRequest"
