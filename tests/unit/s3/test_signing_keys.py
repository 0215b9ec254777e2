"""Signing keys of S3: the published examples, and botocore-free arithmetic that anybody can repeat."""

from __future__ import annotations

import hashlib

import pytest

from warehouse.s3.signing_keys import derive_signing_key, sign_v2, sign_v4

# Source: the Amazon S3 API reference, "Signature Calculations for the Authorization Header", its examples.
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
GET_OBJECT = (
    b"AWS4-HMAC-SHA256\n20130524T000000Z\n20130524/us-east-1/s3/aws4_request\n"
    b"7344ae5b7ee6c3e7e6b0fe0640412a37625d1fbfff95c48bbb2dc43964946972"
)


def test_the_published_example_of_sigv4() -> None:
    key = derive_signing_key(SECRET, "20130524", "us-east-1")
    assert len(key) == hashlib.sha256().digest_size
    assert sign_v4(key, GET_OBJECT) == "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"


def test_the_published_example_of_sigv2() -> None:
    # Source: the same, "Signing and Authenticating REST Requests".
    text = b"GET\n\n\nTue, 27 Mar 2007 19:36:42 +0000\n/awsexamplebucket1/photos/puppy.jpg"
    assert sign_v2(SECRET, text) == "qgk2+6Sv9/oM7G3qLEjTH1a1l1g="


@pytest.mark.parametrize(
    "changed",
    [("x", "20130524", "us-east-1"), (SECRET, "20130525", "us-east-1"), (SECRET, "20130524", "eu-west-1")],
)
def test_another_secret_day_or_region_has_another_key(changed: tuple[str, str, str]) -> None:
    assert derive_signing_key(*changed) != derive_signing_key(SECRET, "20130524", "us-east-1")
