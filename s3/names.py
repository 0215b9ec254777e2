"""Names of buckets: which ones S3 allows, and which ones the store can have.  Pure

S3 allows less than the store does: names of 3 to 63 characters, without "_", and some more.  A bucket that is
made by S3 follows both rules; a bucket that the library made is reached by S3 whatever its name is.

    by either    a-z, 0-9, ".", "-", first and last a letter or digit, at most 63, no IP address
    S3           at least 3; no "..", ".-", "-."; reserved beginnings and ends
    the store    at least 1; "_" too

Source: the Amazon S3 user guide, "General purpose bucket naming rules".
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from warehouse.s3.failures import Failure

NAME_LENGTH_MAX: Final = 63
NAME_LENGTH_MIN: Final = 3
RESERVED_PREFIXES: Final = ("xn--", "sthree-", "amzn-s3-demo-")
RESERVED_SUFFIXES: Final = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?", re.ASCII).fullmatch
_ADDRESS: Final = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}", re.ASCII).fullmatch
_NEIGHBOURS: Final = ("..", ".-", "-.")


def check_new_bucket(name: str) -> None:
    """
    Raises:
        Failure: InvalidBucketName: S3 does not make such a bucket.
    """
    check_bucket(name)
    if len(name) < NAME_LENGTH_MIN:
        raise _invalid(name, f"it has {len(name)} characters, at least {NAME_LENGTH_MIN} are needed")
    if "_" in name:
        raise _invalid(name, "it has an underscore")
    if _ADDRESS(name):
        raise _invalid(name, "it looks like an IP address")
    for pair in _NEIGHBOURS:
        if pair in name:
            raise _invalid(name, f"{pair} is not allowed in it")
    for reserved in RESERVED_PREFIXES:
        if name.startswith(reserved):
            raise _invalid(name, f"names that begin with {reserved} are reserved")
    for reserved in RESERVED_SUFFIXES:
        if name.endswith(reserved):
            raise _invalid(name, f"names that end with {reserved} are reserved")


def check_bucket(name: str) -> None:
    """
    Raises:
        Failure: InvalidBucketName: the store cannot have such a bucket, so nothing needs to be looked up.
    """
    if not 1 <= len(name) <= NAME_LENGTH_MAX:
        raise _invalid(name, f"it has {len(name)} characters, at most {NAME_LENGTH_MAX} are possible")
    if not _NAME(name):
        raise _invalid(name, "it has characters that no bucket's name can have there")


def object_url(origin: str, bucket: str, key: str, is_virtual: bool) -> str:
    """Where an object is, as the answers to Complete and to forms say it.

    Args:
        origin: scheme and host as the client sees them, `http://localhost:7490`; with `is_virtual` the host
            names the bucket already.
    """
    path = quote(key, safe="/~")
    return f"{origin}/{path}" if is_virtual else f"{origin}/{bucket}/{path}"


def _invalid(name: str, why: str) -> Failure:
    return Failure(
        "InvalidBucketName",
        f"The specified bucket is not valid: {why}.",
        {"BucketName": name[:NAME_LENGTH_MAX]},
    )
