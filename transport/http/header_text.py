"""Header text: which content types of users may stand in a header of ours.  Pure.

A content type arrives with a put and leaves with every answer to a get.  The same rule holds wherever one
arrives.  An older release accepted more, so the rule is checked again wherever a content type leaves.
"""

from __future__ import annotations

from warehouse.errors import BadMetadata

CONTENT_TYPE_SIZE_MAX = 255
CONTENT_TYPE_DEFAULT = "application/octet-stream"


def is_content_type(text: str) -> bool:
    return 0 < len(text) <= CONTENT_TYPE_SIZE_MAX and text.isascii() and text.isprintable()


def check_content_type(content_type: str | None) -> None:
    """Raise BadMetadata unless the content type is None or can be a header."""
    if content_type is not None and not is_content_type(content_type):
        raise BadMetadata(
            f"a content type must be 1 to {CONTENT_TYPE_SIZE_MAX} printable ASCII characters,"
            f" not {content_type!r:.100}"
        )


def served_type(content_type: str | None) -> str:
    """Return the content type to send with an answer."""
    if content_type is None or not is_content_type(content_type):
        return CONTENT_TYPE_DEFAULT
    return content_type
