"""Features: which headers ask for something that is not there.  Pure

A header that would change what is stored, or who may read it, is refused when nobody obeys it: to store
plainly what was to be encrypted is the worst answer.  The value that asks for nothing is taken.  Headers of
presigned requests may stand in the query, so callers pass those, too (`credentials.headers_meant`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from warehouse.s3.failures import Failure

_NO_CHECKSUM: Final = "checksums other than CRC32, CRC32C, CRC64NVME, SHA1 and SHA256"

# The feature, and the values with which the header asks for nothing.
REFUSED: Final[Mapping[bytes, tuple[str, frozenset[bytes]]]] = {
    b"x-amz-acl": (
        "access control lists",
        # What an object has anyway: the bucket's owner may do everything, and nobody else anything.
        frozenset({b"", b"private", b"bucket-owner-full-control", b"bucket-owner-read"}),
    ),
    b"x-amz-bucket-namespace": ("namespaces of buckets", frozenset({b"", b"global"})),
    b"x-amz-bucket-object-lock-enabled": ("object lock", frozenset({b"", b"false", b"False"})),
    b"x-amz-checksum-md5": (_NO_CHECKSUM, frozenset()),
    b"x-amz-checksum-sha512": (_NO_CHECKSUM, frozenset()),
    b"x-amz-checksum-xxhash128": (_NO_CHECKSUM, frozenset()),
    b"x-amz-checksum-xxhash3": (_NO_CHECKSUM, frozenset()),
    b"x-amz-checksum-xxhash64": (_NO_CHECKSUM, frozenset()),
    b"x-amz-if-match-initiated-time": ("conditions on the start of an upload", frozenset()),
    b"x-amz-object-ownership": ("ownership controls", frozenset({b"", b"BucketOwnerEnforced"})),
    b"x-amz-write-offset-bytes": ("appending to objects", frozenset()),
}
REFUSED_PREFIXES: Final[Mapping[bytes, str]] = {
    b"x-amz-server-side-encryption": "server-side encryption",
    b"x-amz-copy-source-server-side-encryption": "server-side encryption",
    b"x-amz-grant-": "access control lists",
    b"x-amz-object-lock-": "object lock",
}

# Nobody reads these, because they change nothing here: nobody charges or archives, no bucket asks for a
# second factor, nothing is locked, and objects have no annotations.
IGNORED: Final = frozenset(
    {
        b"x-amz-bypass-governance-retention",
        b"x-amz-mfa",
        b"x-amz-object-annotation-directive",
        b"x-amz-optional-object-attributes",
        b"x-amz-request-payer",
    }
)

CANNED_ACLS: Final = frozenset(
    {
        b"private",
        b"public-read",
        b"public-read-write",
        b"authenticated-read",
        b"aws-exec-read",
        b"bucket-owner-read",
        b"bucket-owner-full-control",
        b"log-delivery-write",
    }
)

_REFUSED_NAMES: Final = frozenset(REFUSED)
_PREFIXES: Final = tuple(REFUSED_PREFIXES)


def check_headers(headers: Mapping[bytes, bytes]) -> None:
    """
    Raises:
        Failure: NotImplemented, if a header asks for a feature that is not there; InvalidArgument for an
            access control list that nobody knows.
    """
    if not _REFUSED_NAMES.isdisjoint(headers):
        for name in _REFUSED_NAMES.intersection(headers):
            _check(name, headers[name])
    # One search for all prefixes is faster than one comparison for each header.
    if _is_hinted(b"\n".join(headers)):
        for name in headers:
            if name.startswith(_PREFIXES):
                feature = next(text for prefix, text in REFUSED_PREFIXES.items() if name.startswith(prefix))
                raise _not_implemented(name, feature)


def _is_hinted(names: bytes) -> bool:
    return b"-server-side-" in names or b"x-amz-grant-" in names or b"-object-lock-" in names


def _check(name: bytes, value: bytes) -> None:
    feature, taken = REFUSED[name]
    if value in taken:
        return
    if name == b"x-amz-acl" and value not in CANNED_ACLS:
        raise Failure(
            "InvalidArgument",
            "This is no canned access control list.",
            {"ArgumentName": "x-amz-acl", "ArgumentValue": value[:100].decode("ascii", "backslashreplace")},
        )
    raise _not_implemented(name, feature)


def _not_implemented(name: bytes, feature: str) -> Failure:
    return Failure(
        "NotImplemented",
        f"A header you provided implies functionality that is not implemented: {feature}.",
        {"Header": name.decode("ascii", "backslashreplace"), "Feature": feature},
    )
