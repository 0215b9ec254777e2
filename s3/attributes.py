"""Attributes: which facts of an object GetObjectAttributes is asked for.  Pure

The names stand in `x-amz-object-attributes`, the page of parts in `x-amz-max-parts` and
`x-amz-part-number-marker`.  `xml_out.Attributes` is the answer.

Source: the Amazon S3 API reference, "GetObjectAttributes".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from warehouse.s3.failures import Failure
from warehouse.s3.listing import PAGE_SIZE_MAX, read_number
from warehouse.s3.paging import cut
from warehouse.s3.xml_out import AttributeParts, Attributes, Checksum, ListedPart

NAMES: Final = frozenset(("ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"))
_HEADER: Final = b"x-amz-object-attributes"


class AttributesRequest(Struct, frozen=True):
    names: frozenset[str]
    parts_after: int
    parts_limit: int


def read_attributes_request(headers: Mapping[bytes, bytes]) -> AttributesRequest:
    """
    Raises:
        Failure: InvalidRequest: nothing is asked for; InvalidArgument: something that objects do not have.
    """
    names = {name.strip().decode("latin-1") for name in headers.get(_HEADER, b"").split(b",")} - {""}
    if not names:
        raise Failure(
            "InvalidRequest",
            "The x-amz-object-attributes header, which names what is to be retrieved, is missing or empty",
        )
    if unknown := names - NAMES:
        raise Failure(
            "InvalidArgument",
            "Invalid attribute name specified.",
            {"ArgumentName": _HEADER.decode(), "ArgumentValue": ascii(min(unknown)[:100])[1:-1]},
        )
    return AttributesRequest(
        frozenset(names),
        parts_after=_number(headers, b"x-amz-part-number-marker", 0),
        parts_limit=min(_number(headers, b"x-amz-max-parts", PAGE_SIZE_MAX), PAGE_SIZE_MAX),
    )


def _number(headers: Mapping[bytes, bytes], name: bytes, default: int) -> int:
    return read_number(name.decode(), headers.get(name, b"").decode("latin-1"), default)


def attributes_of(
    request: AttributesRequest,
    etag: str,
    size: int,
    storage_class: str,
    checksum: Checksum | None,
    parts: Sequence[ListedPart],
) -> Attributes:
    """What is asked for of an object.

    Args:
        checksum: of the whole object; None: it has none.
        parts: all of them, in order; empty for an object that is no multipart.
    """
    names = request.names
    return Attributes(
        etag=etag if "ETag" in names else None,
        checksum=checksum if "Checksum" in names else None,
        parts=_page(request, parts) if parts and "ObjectParts" in names else None,
        storage_class=storage_class if "StorageClass" in names else None,
        size=size if "ObjectSize" in names else None,
    )


def _page(request: AttributesRequest, parts: Sequence[ListedPart]) -> AttributeParts:
    after = [part for part in parts if part.number > request.parts_after]
    shown, is_truncated = cut(after, request.parts_limit)
    return AttributeParts(len(parts), request.parts_after, request.parts_limit, is_truncated, shown)
