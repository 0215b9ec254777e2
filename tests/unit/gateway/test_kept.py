"""Kept: what clients say of an object is what they hear of it again, whatever bytes it is made of."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.gateway.kept import HEADER_SIZE_MAX, Kept, checksum_of, described_of, kept_of, stored_of
from warehouse.s3.checksums import CRC32
from warehouse.s3.failures import Failure
from warehouse.s3.headers import DEFAULT_TYPE, StoredHeaders
from warehouse.s3.integrity import Digests
from warehouse.transport.http.header_text import is_content_type
from warehouse.transport.messages import ObjectInfo
from warehouse.transport.messages.attributes import ObjectAttributes, ObjectChecksum, encode_attributes

VALUES = st.binary(max_size=40).map(lambda value: bytes(byte for byte in value if byte >= 32 and byte != 127))
NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_.", min_size=1, max_size=20).map(str.encode)
HEADERS = (b"cache-control", b"content-disposition", b"content-encoding", b"content-language", b"expires")
OWNER = "0123456789abcdef" * 2


def info_of(kept: Kept, metadata: dict[str, str] | None = None) -> ObjectInfo:
    return ObjectInfo(
        key="k",
        size=1,
        etag="x",
        created_ms=5,
        content_type=kept.content_type,
        metadata=kept.metadata if metadata is None else metadata,
        attributes=encode_attributes(kept.attributes),
    )


@given(
    named=st.dictionaries(st.sampled_from([*HEADERS, b"content-type"]), VALUES.filter(bool)),
    metadata=st.dictionaries(NAMES, VALUES, max_size=5),
    storage_class=st.sampled_from(["STANDARD", "REDUCED_REDUNDANCY"]),
)
def test_what_was_stored_comes_back_byte_for_byte(
    named: dict[bytes, bytes], metadata: dict[bytes, bytes], storage_class: str
) -> None:
    kept = kept_of(StoredHeaders(named, metadata, storage_class), (("a", "b"),), OWNER)
    assert is_content_type(kept.content_type)
    found = stored_of(info_of(kept))
    assert found.named == {b"content-type": DEFAULT_TYPE, **named}
    assert (found.metadata, found.storage_class) == (metadata, storage_class)


def test_text_is_user_metadata_that_the_library_shows_and_other_bytes_are_not() -> None:
    stored = StoredHeaders({}, {b"a": "café".encode(), b"b": "café".encode("latin-1")})
    kept = kept_of(stored, (), OWNER)
    assert (kept.metadata, kept.attributes.raw_metadata) == ({"a": "café"}, {"b": b"caf\xe9"})


def test_a_header_that_is_too_long_is_refused() -> None:
    kept_of(StoredHeaders({b"expires": b"x" * HEADER_SIZE_MAX}, {}), (), OWNER)
    with pytest.raises(Failure) as refused:
        kept_of(StoredHeaders({b"expires": b"x" * (HEADER_SIZE_MAX + 1)}, {}), (), OWNER)
    assert refused.value.code == "MetadataTooLarge"


def test_metadata_of_the_library_that_no_header_can_hold_is_counted_and_not_shown() -> None:
    kept = kept_of(StoredHeaders({}, {}), (), "")
    info = info_of(kept, metadata={"a b": "x", "ok": "line\nbreak", "ü": "x", "": "x", "good": "ü"})
    described = described_of(info)
    assert described.stored.metadata == {b"good": "ü".encode()}
    assert described.missing_count == 4


def test_digests_become_etag_and_checksum() -> None:
    md5 = hashlib.md5(b"x", usedforsecurity=False).digest()
    kept = kept_of(StoredHeaders({}, {}), (), OWNER)
    attributes = kept.with_digests(Digests(1, md5, CRC32, CRC32.of(b"x")))
    assert (attributes.etag, attributes.owner_id) == (md5.hex(), OWNER)
    checksum = checksum_of(attributes)
    assert checksum is not None
    assert (checksum.algorithm, checksum.value, checksum.type) == ("CRC32", "jNwWgw==", "FULL_OBJECT")


def test_a_checksum_of_parts_tells_how_many_there_are() -> None:
    attributes = ObjectAttributes(
        md5=bytes(16), part_count=3, checksum=ObjectChecksum("SHA1", True, bytes(20))
    )
    checksum = checksum_of(attributes)
    assert checksum is not None
    assert (checksum.value[-2:], checksum.type) == ("-3", "COMPOSITE")
