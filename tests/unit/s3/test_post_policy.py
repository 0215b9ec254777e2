"""Post policy: who has signed a form, what the policy lets through, and how a stored form is answered."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import b64encode
from typing import Any

import botocore.session
import pytest
from botocore.config import Config

from s3_bodies import ACCESS_KEY, signing_key
from s3_forms import policy
from warehouse.s3 import post_policy
from warehouse.s3.failures import Failure
from warehouse.s3.post_policy import FormClaim, Success, claim_of, policy_of, success_of
from warehouse.s3.sigv4 import Scope

# "Example: Browser-Based Upload using HTTP POST (Using AWS Signature Version 4)", Amazon S3 API reference.
EXAMPLE_POLICY = b64encode(
    b"""{ "expiration": "2015-12-30T12:00:00.000Z",
  "conditions": [
    {"bucket": "sigv4examplebucket"},
    ["starts-with", "$key", "user/user1/"],
    {"acl": "public-read"},
    {"success_action_redirect": "http://sigv4examplebucket.s3.amazonaws.com/successful_upload.html"},
    ["starts-with", "$Content-Type", "image/"],
    {"x-amz-meta-uuid": "14365123651274"},
    {"x-amz-server-side-encryption": "AES256"},
    ["starts-with", "$x-amz-meta-tag", ""],

    {"x-amz-credential": "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request"},
    {"x-amz-algorithm": "AWS4-HMAC-SHA256"},
    {"x-amz-date": "20151229T000000Z" }
  ]
}""".replace(b"\n", b"\r\n")
).decode()
EXAMPLE = {
    "key": "user/user1/photo.png",
    "acl": "public-read",
    "success_action_redirect": "http://sigv4examplebucket.s3.amazonaws.com/successful_upload.html",
    "content-type": "image/jpeg",
    "x-amz-meta-uuid": "14365123651274",
    "x-amz-server-side-encryption": "AES256",
    "x-amz-credential": "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request",
    "x-amz-algorithm": "AWS4-HMAC-SHA256",
    "x-amz-date": "20151229T000000Z",
    "x-amz-meta-tag": "",
    "policy": EXAMPLE_POLICY,
    "x-amz-signature": "8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e",
}
EXAMPLE_EXPIRES_S = 1451476800  # 30 December 2015, noon


def test_the_example_of_the_documentation() -> None:
    claim = claim_of(EXAMPLE)
    assert claim is not None
    assert (claim.access_key, claim.scope) == (ACCESS_KEY, Scope("20151229", "us-east-1", "s3"))
    post_policy.check_signature(claim, signing_key("20151229"))
    signed = policy_of(claim.string_to_sign)
    assert signed.expires_s == EXAMPLE_EXPIRES_S
    signed.check(EXAMPLE, "sigv4examplebucket", EXAMPLE_EXPIRES_S - 1)
    with pytest.raises(Failure) as refused:
        signed.check(EXAMPLE, "sigv4examplebucket", EXAMPLE_EXPIRES_S)
    assert refused.value.code == "AccessDenied"


@pytest.mark.parametrize("field", ["policy", "x-amz-signature"])
def test_every_changed_character_of_a_signed_form_is_refused(field: str) -> None:
    key = signing_key("20151229")
    for position in range(0, len(EXAMPLE[field]), 5):
        text = EXAMPLE[field]
        changed = text[:position] + ("0" if text[position] != "0" else "1") + text[position + 1 :]
        claim = claim_of({**EXAMPLE, field: changed})
        assert claim is not None
        with pytest.raises(Failure) as refused:
            post_policy.check_signature(claim, key)
        assert (refused.value.code, refused.value.status) == ("SignatureDoesNotMatch", 403)
        assert refused.value.fields["StringToSign"] == claim.string_to_sign.decode()
        assert refused.value.fields["AWSAccessKeyId"] == ACCESS_KEY


def test_another_day_or_region_has_another_key() -> None:
    claim = claim_of(EXAMPLE)
    assert claim is not None
    for key in (signing_key("20151230"), signing_key("20151229", "eu-west-1")):
        with pytest.raises(Failure):
            post_policy.check_signature(claim, key)


# --- who has signed -------------------------------------------------------------------------------

V2 = {"awsaccesskeyid": "key", "signature": "c2lnbmF0dXJl", "policy": "cG9saWN5"}


def test_a_form_of_version_2_is_left_to_who_has_the_secret() -> None:
    claim = claim_of(V2)
    assert claim == FormClaim("key", b"cG9saWN5", "c2lnbmF0dXJl")
    assert post_policy.does_not_match(claim).code == "SignatureDoesNotMatch"


def test_a_form_may_be_from_nobody() -> None:
    assert claim_of({"key": "a", "acl": "public-read"}) is None


def without(fields: dict[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in fields.items() if key != name}


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        *[(without(V2, name), "InvalidArgument") for name in V2],
        *[
            (without(EXAMPLE, name), "InvalidArgument")
            for name in ("policy", "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature")
        ],
        ({"policy": "cG9saWN5"}, "InvalidArgument"),
        ({**EXAMPLE, **V2}, "InvalidArgument"),
        ({**EXAMPLE, "awsaccesskeyid": "key"}, "InvalidArgument"),
        ({**EXAMPLE, "x-amz-security-token": "t"}, "InvalidToken"),
        ({**V2, "x-amz-security-token": "t"}, "InvalidToken"),
        ({**EXAMPLE, "x-amz-algorithm": "AWS4-ECDSA-P256-SHA256"}, "NotImplemented"),
        ({**EXAMPLE, "x-amz-algorithm": ""}, "NotImplemented"),
        ({**EXAMPLE, "x-amz-credential": "key/20151229/us-east-1/s3"}, "InvalidArgument"),
        ({**EXAMPLE, "x-amz-credential": "key/20151229/us-east-1/ec2/aws4_request"}, "InvalidArgument"),
        ({**EXAMPLE, "x-amz-credential": "k\x00/20151229/us-east-1/s3/aws4_request"}, "InvalidArgument"),
        ({**EXAMPLE, "x-amz-credential": "x" * 1000}, "InvalidArgument"),
        ({**EXAMPLE, "x-amz-date": "20151230T000000Z"}, "InvalidArgument"),
        ({**EXAMPLE, "x-amz-date": "20151229"}, "InvalidArgument"),
        ({**EXAMPLE, "x-amz-date": "20151229T250000Z"}, "InvalidArgument"),
    ],
)
def test_a_signature_that_cannot_be_read_is_refused(fields: dict[str, str], code: str) -> None:
    with pytest.raises(Failure) as refused:
        claim_of(fields)
    assert refused.value.code == code


def test_a_signature_that_is_not_ascii_does_not_match() -> None:
    claim = claim_of({**EXAMPLE, "x-amz-signature": "é" * 64})
    assert claim is not None
    with pytest.raises(Failure) as refused:
        post_policy.check_signature(claim, signing_key("20151229"))
    assert refused.value.code == "SignatureDoesNotMatch"


# --- what the policy lets through -----------------------------------------------------------------

NOW_S = 1796040000.0  # 30 November 2026, noon
CONDITIONS: tuple[Any, ...] = (
    {"bucket": "photos"},
    ["starts-with", "$key", "foo"],
    {"acl": "private"},
    ["starts-with", "$Content-Type", "text/plain"],
    ["content-length-range", 0, 1024],
)
FORM = {"key": "foo.txt", "acl": "private", "content-type": "text/plain", "policy": "p", "signature": "s"}
LATER = "2026-11-30T12:00:01Z"


@pytest.mark.parametrize(
    ("conditions", "fields"),
    [
        (CONDITIONS, FORM),
        (CONDITIONS, {**FORM, "x-ignore-foo": "bar"}),
        (CONDITIONS, {**FORM, "awsaccesskeyid": "k", "x-amz-date": "d", "x-amz-credential": "c"}),
        (CONDITIONS, {**FORM, "x-amz-checksum-sha256": "x", "content-md5": "y"}),
        (CONDITIONS, {**FORM, "bucket": "photos"}),
        (CONDITIONS, {**FORM, "content-type": "text/plain, text/plain; charset=utf-8"}),
        ((*CONDITIONS, ["starts-with", "$x-amz-meta-foo", "bar"]), {**FORM, "x-amz-meta-foo": "barclamp"}),
        ((*CONDITIONS, ["starts-with", "$tagging", ""]), {**FORM, "tagging": "<Tagging/>"}),
        ((*CONDITIONS, ["eq", "$x", ""]), {**FORM, "x": ""}),
        (
            (
                {"bUcKeT": "photos"},
                ["StArTs-WiTh", "$KeY", "foo"],
                {"AcL": "private"},
                ["EQ", "$CoNtEnT-TyPe", "text/plain"],
                ["CONTENT-LENGTH-RANGE", 0, 1],
            ),
            FORM,
        ),
        (({"bucket": "photos"}, ["eq", "$key", r"\$foo"]), {"key": r"\$foo"}),
    ],
)
def test_a_form_that_keeps_to_its_policy(conditions: tuple[Any, ...], fields: dict[str, str]) -> None:
    policy_of(policy(*conditions, expiration=LATER)).check(fields, "photos", NOW_S)


@pytest.mark.parametrize(
    ("conditions", "fields", "bucket"),
    [
        (CONDITIONS, FORM, "other"),
        (CONDITIONS, {**FORM, "bucket": "photos"}, "other"),
        (CONDITIONS, {**FORM, "bucket": "other"}, "photos"),
        (CONDITIONS, {**FORM, "key": "fo"}, "photos"),
        (CONDITIONS, {**FORM, "key": "Foo"}, "photos"),
        (CONDITIONS, {**FORM, "acl": "public-read"}, "photos"),
        (CONDITIONS, {**FORM, "acl": "Private"}, "photos"),
        (CONDITIONS, {**FORM, "content-type": "text/plain,text/html"}, "photos"),
        (CONDITIONS, {**FORM, "content-type": ""}, "photos"),
        (CONDITIONS, without(FORM, "content-type"), "photos"),
        (CONDITIONS, without(FORM, "acl"), "photos"),
        (CONDITIONS, {**FORM, "x-amz-meta-foo": "bar"}, "photos"),
        (CONDITIONS, {**FORM, "success_action_redirect": "http://x"}, "photos"),
        (CONDITIONS, {**FORM, "tagging": "<Tagging/>"}, "photos"),
        (CONDITIONS, {**FORM, "x-ignore": "a"}, "photos"),
        (CONDITIONS[1:], FORM, "photos"),
        (CONDITIONS[:1] + CONDITIONS[2:], FORM, "photos"),
        ((*CONDITIONS, ["eq", "$x-amz-meta-foo", ""]), {**FORM, "x-amz-meta-foo": "barclamp"}, "photos"),
        ((*CONDITIONS, ["starts-with", "$x-amz-meta-foo", "bar"]), FORM, "photos"),
        ((*CONDITIONS, ["starts-with", "$x-amz-meta-foo", ""]), FORM, "photos"),
        ((*CONDITIONS, ["eq", "$key", "foo"]), FORM, "photos"),
        ((), FORM, "photos"),
    ],
)
def test_a_form_that_does_not_keep_to_its_policy(
    conditions: tuple[Any, ...], fields: dict[str, str], bucket: str
) -> None:
    with pytest.raises(Failure) as refused:
        policy_of(policy(*conditions, expiration=LATER)).check(fields, bucket, NOW_S)
    assert (refused.value.code, refused.value.status) == ("AccessDenied", 403)


@pytest.mark.parametrize("now_s", [NOW_S + 1, NOW_S + 10**9])
def test_a_policy_expires(now_s: float) -> None:
    signed = policy_of(policy(*CONDITIONS, expiration=LATER))
    signed.check(FORM, "photos", NOW_S + 0.99)
    with pytest.raises(Failure) as refused:
        signed.check(FORM, "photos", now_s)
    assert refused.value.code == "AccessDenied"


def text_of(document: Any) -> bytes:
    return b64encode(document if isinstance(document, bytes) else json.dumps(document).encode())


GOOD = {"expiration": LATER, "conditions": [{"bucket": "photos"}]}


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"not base64!",
        b"e30",
        b"!" + policy(),
        text_of(b""),
        text_of(b"\xff"),
        text_of(b'{"expiration": "\xff"}'),
        text_of([]),
        text_of({}),
        text_of({"expiration": LATER}),
        text_of({"conditions": []}),
        text_of({"EXPIRATION": LATER, "conditions": []}),
        text_of({"expiration": LATER, "CONDITIONS": []}),
        text_of({**GOOD, "expiration": "2026-11-30 12:00:00+00:00"}),
        text_of({**GOOD, "expiration": "2026-02-30T12:00:00Z"}),
        text_of({**GOOD, "expiration": 1796040000}),
        text_of({**GOOD, "conditions": {}}),
        text_of({**GOOD, "conditions": [{}]}),
        text_of({**GOOD, "conditions": [{"a": "b", "c": "d"}]}),
        text_of({**GOOD, "conditions": [{"a": 1}]}),
        text_of({**GOOD, "conditions": [[]]}),
        text_of({**GOOD, "conditions": [["eq", "$key"]]}),
        text_of({**GOOD, "conditions": [["eq", "key", "a"]]}),
        text_of({**GOOD, "conditions": [["eq", "$key", 1]]}),
        text_of({**GOOD, "conditions": [["ends-with", "$key", "a"]]}),
        text_of({**GOOD, "conditions": [["eq", "$key", "a", "b"]]}),
        text_of({**GOOD, "conditions": ["eq"]}),
        text_of({**GOOD, "conditions": [["content-length-range", 0]]}),
        text_of({**GOOD, "conditions": [["content-length-range", -1, 0]]}),
        text_of({**GOOD, "conditions": [["content-length-range", 0, 1.5]]}),
        text_of({**GOOD, "conditions": [["content-length-range", 0, "many"]]}),
        text_of({**GOOD, "conditions": [["content-length-range", 0, True]]}),
        text_of({**GOOD, "conditions": [["content-length-range", 0, 10**19]]}),
        text_of(b"[" * 15_000),
        text_of(b'{"expiration": "2026-11-30T12:00:01Z", "conditions": [], "x": ' + b"[" * 15_000),
        text_of(json.dumps(GOOD).encode() + b"x"),
    ],
)
def test_a_policy_that_cannot_be_read_is_refused(encoded: bytes) -> None:
    with pytest.raises(Failure) as refused:
        policy_of(encoded)
    assert (refused.value.code, refused.value.status) == ("InvalidPolicyDocument", 400)


def test_a_policy_may_have_line_breaks() -> None:
    encoded = policy(*CONDITIONS)
    assert policy_of(encoded[:20] + b"\r\n" + encoded[20:] + b"\n") == policy_of(encoded)


def test_conditions_on_the_size_of_the_file() -> None:
    signed = policy_of(policy(["content-length-range", 512, 1000], ["content-length-range", "0", "900"]))
    assert (signed.size_min, signed.size_max) == (512, 900)
    for size in (512, 900):
        signed.check_size(size, is_whole=True)
    signed.check_size(0, is_whole=False)
    for size, is_whole, code in (
        (901, False, "EntityTooLarge"),
        (901, True, "EntityTooLarge"),
        (511, True, "EntityTooSmall"),
    ):
        with pytest.raises(Failure) as refused:
            signed.check_size(size, is_whole=is_whole)
        assert (refused.value.code, refused.value.status) == (code, 400)
        assert refused.value.closes == (not is_whole)
        assert refused.value.fields["ProposedSize"] == str(size)
    for size in (0, 1 << 60):
        policy_of(policy()).check_size(size, is_whole=True)


@pytest.mark.parametrize("version", ["s3", "s3v4"])
def test_a_form_that_botocore_signs_is_read(version: str) -> None:
    client = botocore.session.get_session().create_client(
        "s3",
        region_name="eu-west-1",
        endpoint_url="http://127.0.0.1:7490",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key="secret",
        config=Config(signature_version=version),
    )
    post = client.generate_presigned_post(
        "photos",
        "foo/${filename}",
        Fields={"acl": "private"},
        Conditions=[{"acl": "private"}, ["content-length-range", 1, 10]],
        ExpiresIn=60,
    )
    fields = {name.lower(): value for name, value in post["fields"].items()}
    claim = claim_of(fields)
    assert claim is not None
    if version == "s3v4":
        assert claim.scope is not None
        post_policy.check_signature(claim, signing_key(claim.scope.date, "eu-west-1", "secret"))
    else:
        digest = hmac.new(b"secret", claim.string_to_sign, hashlib.sha1).digest()
        assert (claim.scope, claim.signature) == (None, b64encode(digest).decode())
    signed = policy_of(claim.string_to_sign)
    signed.check({**fields, "key": "foo/a.txt"}, "photos", signed.expires_s - 1)
    assert (signed.size_min, signed.size_max) == (1, 10)
    with pytest.raises(Failure):
        signed.check({**fields, "key": "bar/a.txt"}, "photos", signed.expires_s - 1)


# --- what is answered -----------------------------------------------------------------------------

ETAG = "5d41402abc4b2a76b9719d911017c592"
RESULT = f"bucket=photos&key=a%2F%C3%A9%26.txt&etag=%22{ETAG}%22"


@pytest.mark.parametrize(
    ("fields", "success"),
    [
        ({}, Success(204)),
        ({"success_action_status": "200"}, Success(200)),
        ({"success_action_status": "201"}, Success(201, None, True)),
        ({"success_action_status": "204"}, Success(204)),
        ({"success_action_status": "404"}, Success(204)),
        ({"success_action_status": "٢٠٠"}, Success(204)),
        ({"success_action_redirect": "http://x/done"}, Success(303, f"http://x/done?{RESULT}")),
        ({"redirect": "https://x/"}, Success(303, f"https://x/?{RESULT}")),
        ({"success_action_redirect": "http://x?a=b#c"}, Success(303, f"http://x?a=b&{RESULT}#c")),
        ({"success_action_redirect": "http://x/é%20"}, Success(303, f"http://x/%C3%A9%20?{RESULT}")),
        (
            {"success_action_redirect": "http://x/", "success_action_status": "201"},
            Success(303, f"http://x/?{RESULT}"),
        ),
        # What is no address counts as absent.
        ({"success_action_redirect": "/done", "success_action_status": "201"}, Success(201, None, True)),
        ({"success_action_redirect": ""}, Success(204)),
        ({"success_action_redirect": "javascript:alert(1)"}, Success(204)),
        ({"success_action_redirect": "http://"}, Success(204)),
        ({"success_action_redirect": "http://[x"}, Success(204)),
        ({"success_action_redirect": "http://x/\r\nSet-Cookie: a=b"}, Success(204)),
        ({"success_action_redirect": "http://x/ y"}, Success(204)),
        ({"success_action_redirect": "http://x/" + "a" * 3000}, Success(204)),
    ],
)
def test_how_a_stored_form_is_answered(fields: dict[str, str], success: Success) -> None:
    found = success_of(fields, "photos", "a/é&.txt", ETAG)
    assert found == success
    assert found.location is None or (found.location.isascii() and found.location.isprintable())
