"""Request: what a client asks, as the HTTP server hands it over.  Pure"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from warehouse.s3.query import Query


class Request(Struct, frozen=True):
    """The head of one request.

    Attributes:
        path: as it was sent: neither decoded nor normalised, without the query.  Signatures of version 2
            cover these very bytes.
        headers: names in small letters; values without blanks at the ends, in the bytes that came.
        has_repeated: some header came more than once, and its values were joined with a comma and a blank.
    """

    method: bytes
    path: bytes
    query: Query
    headers: Mapping[bytes, bytes]
    has_repeated: bool = False
