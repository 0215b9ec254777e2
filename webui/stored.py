"""Stored: what an object carries from S3 beside its bytes, as a page shows it.  Pure"""

from __future__ import annotations

from dataclasses import dataclass

from warehouse.transport.messages.attributes import decode_attributes


@dataclass(frozen=True)
class StoredFacts:
    """Names and values are texts of strangers.

    Attributes:
        headers: other than the content type, name and value.
        raw_metadata: user metadata that is no text, name and value; bytes of it look like `\\xe9`.
        tags: key and value.
        checksum: algorithm and digest, in hexadecimal digits; "": none.
        owner_id: of the account that the object belongs to; "": the owner of the bucket.
        part_count: None: it did not come in parts.
    """

    headers: list[tuple[str, str]]
    raw_metadata: list[tuple[str, str]]
    tags: list[tuple[str, str]]
    checksum: str
    owner_id: str
    part_count: int | None


def stored_facts(attributes: bytes) -> StoredFacts | None:
    """
    Args:
        attributes: of `ObjectInfo`.
    Returns:
        None: the object carries nothing.
    """
    if not attributes:
        return None
    found = decode_attributes(attributes)
    checksum = found.checksum
    return StoredFacts(
        headers=[(name, _text(value)) for name, value in found.headers.items()],
        raw_metadata=[(name, _text(value)) for name, value in found.raw_metadata.items()],
        tags=[*found.tags],
        checksum="" if checksum is None else f"{checksum.algorithm} {checksum.digest.hex()}",
        owner_id=found.owner_id,
        part_count=found.part_count,
    )


def _text(value: bytes) -> str:
    return value.decode(errors="backslashreplace")
