"""Percent coding: how octets that a URL cannot hold are written in one.  Pure

Each octet is decoded once and encoded once.  Encoding leaves the unreserved characters of RFC 3986 alone and
nothing else, which is what signatures are made of.  A plus sign in a path is a plus sign.
Source: RFC 3986, 2.1 and 2.3; the Amazon S3 API reference, "Signature calculations", UriEncode().
"""

from __future__ import annotations

from typing import Final

from warehouse.s3.failures import Failure

_UNRESERVED: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
_UNRESERVED_OR_SLASH: Final = _UNRESERVED + b"/"
_HEX_DIGITS: Final = b"0123456789ABCDEFabcdef"

# What the two digits after a percent sign mean.
_OCTET_OF: Final = {
    bytes((high, low)): bytes((int(bytes((high, low)), 16),)) for high in _HEX_DIGITS for low in _HEX_DIGITS
}
_ENCODED: Final = [bytes((octet,)) if octet in _UNRESERVED else b"%%%02X" % octet for octet in range(256)]
_ENCODED_BUT_SLASH: Final = [b"/" if octet == ord("/") else text for octet, text in enumerate(_ENCODED)]


def decode(raw: bytes) -> bytes:
    """Decode each `%XX` once.

    Raises:
        Failure: InvalidURI, if two hexadecimal digits do not follow a percent sign.
    """
    if b"%" not in raw:
        return raw
    first, *rest = raw.split(b"%")
    try:
        return first + b"".join([_OCTET_OF[piece[:2]] + piece[2:] for piece in rest])
    except KeyError:
        raise invalid_uri(raw, "two hexadecimal digits must follow each percent sign") from None


def decode_text(raw: bytes) -> str:
    """Decode each `%XX` once, and the octets as UTF-8.

    Raises:
        Failure: InvalidURI, if a percent sign stands alone or the octets are no UTF-8.
    """
    try:
        return raw.decode() if b"%" not in raw else decode(raw).decode()
    except UnicodeDecodeError:
        raise invalid_uri(raw, "its octets must be UTF-8") from None


def encode(octets: bytes) -> bytes:
    """Encode whatever is not unreserved."""
    if not octets.translate(None, _UNRESERVED):
        return octets
    return b"".join([_ENCODED[octet] for octet in octets])


def canonical_path(raw: bytes) -> bytes:
    """Decode a path once, and encode whatever is neither unreserved nor a slash.

    Raises:
        Failure: InvalidURI, if two hexadecimal digits do not follow a percent sign.
    """
    if not raw.translate(None, _UNRESERVED_OR_SLASH):
        return raw
    return b"".join([_ENCODED_BUT_SLASH[octet] for octet in decode(raw)])


def invalid_uri(raw: bytes, why: str) -> Failure:
    """The failure of an address that cannot be read."""
    shown = raw[:200].decode("ascii", "backslashreplace")
    return Failure("InvalidURI", f"Couldn't parse the specified URI: {why}.", {"URI": shown})
