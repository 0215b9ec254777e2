"""Tokens: how a client that lists page by page says where the next page begins.  Pure

A token is opaque to clients.  It holds the last entry that the client has seen, and a digest of what was
listed: with a token, a client can only go on with the same listing.  A token is no secret and gives no right;
everything that it allows, a marker allows too.

    byte 0       version of the format, 1
    bytes 1-8    BLAKE2b of the texts that name the listing
    bytes 9-     the last entry, in UTF-8

In URLs and XML it is base64 with the alphabet for URLs, without padding.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final

from warehouse.s3.failures import Failure

VERSION: Final = b"\x01"
DIGEST_SIZE: Final = 8
TOKEN_SIZE_MAX: Final = 2048  # characters; an entry has at most 1,024 bytes


def make_token(listing: tuple[str, ...], last: str) -> str:
    """A token to go on after the entry `last`.

    Args:
        listing: what the listing is of: its kind, its bucket, prefix, delimiter.
    """
    raw = VERSION + _digest(listing) + last.encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def read_token(listing: tuple[str, ...], token: str) -> str:
    """The last entry that the client has seen.

    Raises:
        Failure: the token is none of ours, or is of another listing (InvalidArgument).
    """
    if len(token) > TOKEN_SIZE_MAX:
        raise _refused(f"it has {len(token)} characters, at most {TOKEN_SIZE_MAX} are possible")
    try:
        raw = base64.b64decode(token.encode("ascii") + b"=" * (-len(token) % 4), b"-_", validate=True)
        last = raw[1 + DIGEST_SIZE :].decode()
    except (ValueError, binascii.Error):
        raise _refused("it does not come from this store") from None
    if raw[:1] != VERSION or len(raw) < 1 + DIGEST_SIZE:
        raise _refused("it does not come from this release")
    if make_token(listing, last) != token:  # also when only its padding bits differ
        raise _refused("it comes from a listing of another bucket, prefix or delimiter")
    return last


def _digest(listing: tuple[str, ...]) -> bytes:
    # Each text with its length: ("a", "bc") must not be ("ab", "c").
    whole = b"".join(b"%d:%b" % (len(text), text) for text in (one.encode() for one in listing))
    return hashlib.blake2b(whole, digest_size=DIGEST_SIZE).digest()


def _refused(why: str) -> Failure:
    return Failure(
        "InvalidArgument",
        f"The continuation token provided is incorrect: {why}",
        {"ArgumentName": "continuation-token"},
    )
