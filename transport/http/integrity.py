"""Integrity: the checksums that a PUT sends for its body.  Values in, values out.

A client that sends a checksum believes that somebody checks it.  So this module checks each one, or refuses
it with a message that lists the supported ones.

    X-Warehouse-CRC32C           8 hexadecimal digits
    Content-MD5                  base64 (RFC 1864)
    Content-Digest, Repr-Digest  sha-256, sha-512, sha, md5, crc32c (RFC 9530)
    Digest                       the same, as RFC 3230 spells them
    x-amz-checksum-…             crc32, crc32c, sha1, sha256, in base64
    x-amz-content-sha256         64 hexadecimal digits, or UNSIGNED-PAYLOAD
    x-goog-hash                  crc32c, md5

The server accepts no content coding and no part of a representation, so content and representation are the
same bytes.  A digest field may name several algorithms.  At least one of them must be supported, and all
supported ones are checked.
"""

from __future__ import annotations

import binascii
import hashlib
import re
import zlib
from base64 import b64decode
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from crc32c import crc32c

from warehouse.errors import BadRequest, ChecksumMismatch

CRC32C_FIELD = b"x-warehouse-crc32c"
SUPPORTED = (
    "X-Warehouse-CRC32C, Content-MD5, Content-Digest, Repr-Digest and Digest (sha-256, sha-512, sha, md5,"
    " crc32c), x-amz-checksum-crc32, -crc32c, -sha1 and -sha256, x-amz-content-sha256, x-goog-hash"
)

# Names of headers that promise something about the body, those of other stores included.
_IS_INTEGRITY = re.compile(rb"checksum|digest|hash|(?:^|-)(?:md5|sha-?\d*|crc-?\d*\w*)(?:-|$)").search
_PROMISES_NOTHING = re.compile(rb"^want-|^x-amz-sdk-checksum-algorithm$").search


class Digest(Protocol):
    def update(self, data: Any, /) -> None: ...

    def digest(self) -> bytes: ...


class _Crc:
    def __init__(self, function: Any) -> None:
        self._function = function
        self._value = 0

    def update(self, data: Any, /) -> None:
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


def _md5() -> Digest:
    return hashlib.md5(usedforsecurity=False)


def _sha1() -> Digest:
    return hashlib.sha1(usedforsecurity=False)


_ALGORITHMS: dict[str, Any] = {
    "md5": _md5,
    "sha": _sha1,
    "sha1": _sha1,
    "sha-256": hashlib.sha256,
    "sha256": hashlib.sha256,
    "sha-512": hashlib.sha512,
    "crc32": lambda: _Crc(zlib.crc32),
    "crc32c": lambda: _Crc(crc32c),
}
_IN_DIGEST_FIELDS = frozenset(("md5", "sha", "sha-256", "sha-512", "crc32c"))
_AMZ = {b"x-amz-checksum-" + name.encode(): name for name in ("crc32", "crc32c", "sha1", "sha256")}


class Promise(NamedTuple):
    field: str
    algorithm: str
    digest: bytes


class Checks:
    """Compares the promises of one request with its body as it arrives."""

    def __init__(self, promises: list[Promise]) -> None:
        self._promises = promises
        self._digests: dict[str, Digest] = {p.algorithm: _ALGORITHMS[p.algorithm]() for p in promises}

    def update(self, data: bytes | bytearray | memoryview) -> None:
        for digest in self._digests.values():
            digest.update(data)

    def finish(self) -> None:
        """Raise ChecksumMismatch when the body differs from a promise."""
        for field, algorithm, expected in self._promises:
            found = self._digests[algorithm].digest()
            if found != expected:
                raise ChecksumMismatch(
                    f"{field} says {algorithm} {expected.hex()}, the body has {found.hex()}"
                )


def read_crc32c(headers: Mapping[bytes, bytes]) -> int | None:
    """Read the checksum of the store itself.  Raises BadRequest when it is malformed."""
    header = headers.get(CRC32C_FIELD)
    if header is None:
        return None
    try:
        if len(header) == 8 and header.isalnum() and header[1] not in b"xX":  # int() accepts "0x"
            return int(header, 16)
    except ValueError:
        pass
    raise BadRequest("X-Warehouse-CRC32C must be 8 hexadecimal digits")


def read_checks(headers: Mapping[bytes, bytes]) -> Checks | None:
    """Read all other promises about the body; None: there are none.

    Raises:
        BadRequest: a promise cannot be read, or its kind is not supported.
    """
    promises: list[Promise] = []
    for name, value in headers.items():
        if name == CRC32C_FIELD or _IS_INTEGRITY(name) is None or _PROMISES_NOTHING(name) is not None:
            continue
        promises += _promises_of(name, value.strip().decode("latin-1"))
    return Checks(promises) if promises else None


def _promises_of(name: bytes, value: str) -> list[Promise]:
    field = name.decode("latin-1")
    if name == b"content-md5":
        return [Promise(field, "md5", _unpacked(field, "md5", value))]
    if name in _AMZ:
        return [Promise(field, _AMZ[name], _unpacked(field, _AMZ[name], value))]
    if name == b"x-amz-content-sha256":
        return _payload_hash(field, value)
    if name in (b"content-digest", b"repr-digest"):
        members = [_structured_member(field, member) for member in value.split(",")]
    elif name in (b"digest", b"x-goog-hash"):
        members = [_plain_member(field, member) for member in value.split(",")]
    else:
        raise BadRequest(f"this server does not support {field}; it checks {SUPPORTED}")
    promises = [
        Promise(field, algorithm, _unpacked(field, algorithm, text))
        for algorithm, text in members
        if algorithm in _IN_DIGEST_FIELDS
    ]
    if not promises:
        named = ", ".join(algorithm for algorithm, _ in members)
        raise BadRequest(
            f"{field} names {named[:100]}, and this server supports none of them; it checks {SUPPORTED}"
        )
    return promises


def _payload_hash(field: str, value: str) -> list[Promise]:
    if value.upper() == "UNSIGNED-PAYLOAD":
        return []
    if not re.fullmatch(r"[0-9a-fA-F]{64}", value):
        raise BadRequest(
            f"{field} must be 64 hexadecimal digits or UNSIGNED-PAYLOAD; signed streams are not supported"
        )
    return [Promise(field, "sha256", bytes.fromhex(value))]


def _structured_member(field: str, member: str) -> tuple[str, str]:
    """Read one member of a dictionary of byte sequences: name=:base64:, with parameters (RFC 9651, 3.2)."""
    found = re.fullmatch(r"[ \t]*([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/=]*):(?:;[^,]*)?[ \t]*", member)
    if found is None:
        raise BadRequest(f"{field} must be a list such as sha-256=:base64:, not {member.strip()[:80]!r}")
    return found[1], found[2]


def _plain_member(field: str, member: str) -> tuple[str, str]:
    algorithm, equals, text = member.strip().partition("=")
    if not equals:
        raise BadRequest(f"{field} must be a list such as sha-256=base64, not {member.strip()[:80]!r}")
    return algorithm.lower(), text


def _unpacked(field: str, algorithm: str, text: str) -> bytes:
    size = len(_ALGORITHMS[algorithm]().digest())
    try:
        digest = b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != size:
        raise BadRequest(f"{field}: {algorithm} must be {size} bytes in base64, not {text[:80]!r}")
    return digest
