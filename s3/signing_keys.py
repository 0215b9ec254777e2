"""Signing keys: what an API key's secret is made into before it signs, and the signatures.  Pure

SigV4 never signs with the secret.  It derives a key for one day, one region and one service, so whoever
learns that key learns nothing about other days.  SigV2 signs with the secret.

Source: the Amazon S3 API reference, "Authenticating Requests (AWS Signature Version 4)" and "... Version 2".
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode

SERVICE = "s3"


def derive_signing_key(secret: str, date: str, region: str, service: str = SERVICE) -> bytes:
    """The key of SigV4 for one day and region, 32 bytes.

    Args:
        date: of the scope, such as "20261130".
    """
    key = hmac.digest(b"AWS4" + secret.encode(), date.encode(), hashlib.sha256)
    for part in (region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), hashlib.sha256)
    return key


def sign_v4(signing_key: bytes, string_to_sign: bytes) -> str:
    """The signature of SigV4: 64 hex digits."""
    return hmac.digest(signing_key, string_to_sign, hashlib.sha256).hex()


def sign_v2(secret: str, string_to_sign: bytes) -> str:
    """The signature of SigV2: base64 of an HMAC-SHA1."""
    return b64encode(hmac.digest(secret.encode(), string_to_sign, hashlib.sha1)).decode()
