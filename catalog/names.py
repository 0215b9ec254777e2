"""Names: what users may call buckets and objects, and which metadata they may add.

Keys are opaque: nothing here or elsewhere gives "/" or ".." a meaning, and no key ever becomes a path.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

from warehouse.errors import BadBucketName, BadKey, BadMetadata
from warehouse.transport.messages import KEY_SIZE_MAX, METADATA_SIZE_MAX

BUCKET_NAME_SIZE_MAX = 63
_BUCKET_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?", re.ASCII)


def check_bucket_name(name: str) -> None:
    """Raises BadBucketName unless `name` follows the rule of the message below."""
    if not 1 <= len(name) <= BUCKET_NAME_SIZE_MAX or not _BUCKET_NAME.fullmatch(name) or _is_address(name):
        raise BadBucketName(
            f"a bucket name has 1 to {BUCKET_NAME_SIZE_MAX} of a-z, 0-9, '.', '-' and '_', begins and ends"
            f" with a letter or digit, and is not an IP address; this one is {name[:100]!r}"
        )


def _is_address(name: str) -> bool:
    try:
        ipaddress.IPv4Address(name)  # IPv6 has ":", which no name may hold
    except ValueError:
        return False
    return True


def check_key(key: str) -> None:
    """Raises BadKey unless `key` has 1 to 1024 bytes of valid UTF-8."""
    size = _utf8_size(key)
    if size is None:
        raise BadKey(f"a key is text that UTF-8 can hold; {key[:100]!r} has a lone surrogate")
    if not 1 <= size <= KEY_SIZE_MAX:
        raise BadKey(f"a key has 1 to {KEY_SIZE_MAX} bytes of UTF-8, this one has {size}")


def check_metadata(metadata: Mapping[str, str]) -> None:
    """Raises BadMetadata unless names and values are valid and fit the size limit, and no name is empty."""
    total = 0
    for name, value in metadata.items():
        name_size, value_size = _utf8_size(name), _utf8_size(value)
        if name_size is None or value_size is None:
            raise BadMetadata(f"user metadata is text that UTF-8 can hold; {name[:100]!r} is not")
        if name_size == 0:
            raise BadMetadata("a metadata name has at least one character")
        total += name_size + value_size
    if total > METADATA_SIZE_MAX:
        raise BadMetadata(f"user metadata has at most {METADATA_SIZE_MAX} bytes, this has {total}")


def _utf8_size(text: str) -> int | None:
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return None
