"""Upload ids: how clients of S3 name a multipart upload.  Pure

An id is opaque to clients, and bound to bucket and key: with another key, it names no upload.  It is no
secret and gives no right.

    byte 0       version of the format, 1
    bytes 1-8    the id in the store, most significant byte first
    bytes 9-16   BLAKE2b of version, id, bucket and key

In URLs and XML it is base64 with the alphabet for URLs, without padding.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final

from warehouse.s3.failures import Failure

_VERSION: Final = b"\x01"
_NUMBER_SIZE: Final = 8
_DIGEST_SIZE: Final = 8
_SIZE: Final = len(_VERSION) + _NUMBER_SIZE + _DIGEST_SIZE


def make_upload_id(bucket: str, key: str, number: int) -> str:
    """
    Args:
        number: the id in the store.
    """
    head = _VERSION + number.to_bytes(_NUMBER_SIZE, "big")
    return base64.urlsafe_b64encode(head + _digest(head, bucket, key)).rstrip(b"=").decode()


def read_upload_id(bucket: str, key: str, text: str) -> int:
    """
    Returns:
        The id in the store.
    Raises:
        Failure: NoSuchUpload: it is none of ours, or of another key.
    """
    number = _number_of(bucket, key, text)
    if number is None:
        raise no_such_upload(text)
    return number


def read_upload_marker(bucket: str, key: str, text: str) -> int:
    """The id behind which a listing goes on.

    Raises:
        Failure: InvalidArgument.
    """
    number = _number_of(bucket, key, text)
    if number is None:
        raise Failure(
            "InvalidArgument",
            "Invalid uploadId marker",
            {"ArgumentName": "upload-id-marker", "ArgumentValue": text[:100]},
        )
    return number


def no_such_upload(text: str) -> Failure:
    return Failure(
        "NoSuchUpload",
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been"
        " aborted or completed.",
        {"UploadId": text[:100]},
    )


def _number_of(bucket: str, key: str, text: str) -> int | None:
    try:
        raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), b"-_", validate=True)
    except (ValueError, binascii.Error):
        return None
    if len(raw) != _SIZE or raw[:1] != _VERSION:
        return None
    number = int.from_bytes(raw[1 : 1 + _NUMBER_SIZE], "big")
    return number if make_upload_id(bucket, key, number) == text else None  # its padding bits, too


def _digest(head: bytes, bucket: str, key: str) -> bytes:
    # A bucket's name has no slash, so the two cannot be cut elsewhere.
    return hashlib.blake2b(head + f"{bucket}/{key}".encode(), digest_size=_DIGEST_SIZE).digest()
