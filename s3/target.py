"""Target: which bucket and which object a request is about.  Pure

    path style      /bucket/key at any host
    virtual host    /key at bucket.DOMAIN, for the domains that the operator has named

The path is decoded once, after it was split: a slash in a key may come as `/` or as `%2F`, and `//`, `..` and
a slash at the end stay what they are.  No key is a path.  The name of a bucket is not judged here
(`names.py`), so that a request for an impossible one learns that there is no such bucket.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from warehouse.s3 import percent
from warehouse.s3.failures import Failure

KEY_SIZE_MAX: Final = 1024  # bytes of UTF-8


class Target(Struct, frozen=True):
    """What a request is about: an object, a bucket (no key), or the service (neither)."""

    bucket: str
    key: str
    is_virtual: bool = False  # the bucket comes from the host, so the path does not hold it


SERVICE: Final = Target("", "")


def target_of(path: bytes, host: bytes, domains: Sequence[str]) -> Target:
    """Find the bucket and key of a request.

    Args:
        path: as it was sent, without the query.  Raw UTF-8 in it is taken, though clients encode it.
        host: the Host header; empty if there is none.
        domains: names of this service in small letters, below which each bucket has a host of its own.
    Raises:
        Failure: InvalidURI for a path that cannot be decoded; KeyTooLongError; InvalidBucketName for a key
            without a bucket.
    """
    if not path.startswith(b"/"):
        raise percent.invalid_uri(path, "it must begin with a slash")
    bucket = bucket_of_host(host, domains) if domains else None
    if bucket is not None:
        return Target(bucket, _key_of(path[1:]), is_virtual=True)
    raw_bucket, _, raw_key = path[1:].partition(b"/")
    if raw_bucket:
        return Target(percent.decode_text(raw_bucket), _key_of(raw_key))
    if path == b"/":
        return SERVICE
    raise Failure("InvalidBucketName", "The path names no bucket.", {"BucketName": ""})


def bucket_of_host(host: bytes, domains: Sequence[str]) -> str | None:
    """The bucket that a Host header names, or None for a request in path style.

    A host that is itself a domain is none of another one's buckets, and the longest domain counts.
    """
    name = host.decode("latin-1").partition(":")[0].lower().removesuffix(".")
    if name in domains:
        return None
    below = [domain for domain in domains if name.endswith("." + domain)]
    if not below:
        return None
    bucket = name.removesuffix("." + max(below, key=len))
    if not bucket:
        raise Failure("InvalidBucketName", "The host names no bucket.", {"BucketName": ""})
    return bucket


def _key_of(raw: bytes) -> str:
    # A key has 1,024 bytes, and each of them takes at most three characters of a path.
    if len(raw) > KEY_SIZE_MAX and len(percent.decode(raw)) > KEY_SIZE_MAX:
        size = len(percent.decode(raw))
        raise Failure(
            "KeyTooLongError",
            "Your key is too long",
            {"Size": str(size), "MaxSizeAllowed": str(KEY_SIZE_MAX)},
        )
    return percent.decode_text(raw)
