"""Header text: what may stand in a header of ours because a user said so.  Pure.

A content type comes in with a put and goes out with every answer to a get.  So the same rule holds at all
doors where it comes in; and where it goes out, what an older release let in is not sent.
"""

from __future__ import annotations

from warehouse.errors import BadMetadata

CONTENT_TYPE_SIZE_MAX = 255
CONTENT_TYPE_DEFAULT = "application/octet-stream"


def is_content_type(text: str) -> bool:
    return 0 < len(text) <= CONTENT_TYPE_SIZE_MAX and text.isascii() and text.isprintable()


def check_content_type(content_type: str | None) -> None:
    """Raises BadMetadata unless it is None or fit to be a header."""
    if content_type is not None and not is_content_type(content_type):
        raise BadMetadata(
            f"a content type is 1 to {CONTENT_TYPE_SIZE_MAX} printable ASCII characters,"
            f" not {content_type!r:.100}"
        )


def served_type(content_type: str | None) -> str:
    """The type to serve something as."""
    if content_type is None or not is_content_type(content_type):
        return CONTENT_TYPE_DEFAULT
    return content_type
