"""Post policy: what the owner of a bucket has signed about a form, and whether the form keeps to it.  Pure

    policy      base64 of {"expiration": "2026-11-30T12:00:00.000Z", "conditions": [condition, ...]}
    condition   {"field": "value"}                  the field has this value
                ["eq", "$field", "value"]           the same
                ["starts-with", "$field", "value"]  it begins so; of Content-Type, each of a list with commas
                ["content-length-range", 0, 1024]   bytes of the file

The base64 text is what was signed, so a form is signed by the fields `policy`, `x-amz-credential`,
`x-amz-date`, `x-amz-algorithm` and `x-amz-signature` (version 4), or `policy`, `AWSAccessKeyId` and
`signature` (version 2), or by none.  Names of fields and operators count in any case; `expiration` and
`conditions` do not.

Each field of a form needs a condition, and so does its bucket: what the owner has not thought of is refused.
Left out are the signature itself, names that begin with x-ignore-, and checksums, which can only refuse.

Source: the Amazon S3 API reference, "POST Policy", "POST Object" and "Authenticating Requests: Browser-Based
Uploads Using POST".
"""

from __future__ import annotations

import binascii
import hmac
import json
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from warehouse.s3 import dates
from warehouse.s3.failures import Failure
from warehouse.s3.signing_keys import sign_v4
from warehouse.s3.sigv4 import ALGORITHM, Scope, read_credential

Fields = Mapping[str, str]  # of a form, by names in lower case

_V4_FIELDS: Final = ("x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature")
_V2_FIELDS: Final = ("AWSAccessKeyId", "signature")
_NEEDS_NO_CONDITION: Final = frozenset(("policy", "content-md5", "x-amz-sdk-checksum-algorithm")).union(
    _V4_FIELDS, (name.lower() for name in _V2_FIELDS)
)
_NEED_NO_CONDITION: Final = ("x-ignore-", "x-amz-checksum-")
_SIZE_RANGE: Final = "content-length-range"
SIZE_DIGITS_MAX: Final = 18
REDIRECT_SIZE_MAX: Final = 2048


# --- who has signed -------------------------------------------------------------------------------


class FormClaim(msgspec.Struct, frozen=True):
    """What a form says about its signature.  Nothing is proven yet."""

    access_key: str
    string_to_sign: bytes  # the policy as it was sent
    signature: str
    scope: Scope | None = None  # None: version 2, which only who has the secret can check


def claim_of(fields: Fields) -> FormClaim | None:
    """Find out who a form says it is from; None: from nobody.

    Raises:
        Failure: InvalidArgument: a field of the signature is missing or cannot be read, or there are two.
            InvalidToken: there is a token of temporary keys.  NotImplemented: another algorithm.
    """
    is_v4 = any(name in fields for name in _V4_FIELDS)
    is_v2 = any(name.lower() in fields for name in _V2_FIELDS)
    if "x-amz-security-token" in fields:
        raise Failure("InvalidToken", "The provided token is malformed: there are no temporary keys here.")
    if is_v4 and is_v2:
        raise Failure("InvalidArgument", "A form is signed by version 2 or 4 of signatures, not by both.")
    if is_v4:
        return _v4_claim(fields)
    if is_v2 or "policy" in fields:
        access_key, signature, policy = _required(fields, *_V2_FIELDS, "policy")
        return FormClaim(access_key, policy.encode(), signature)
    return None


def _v4_claim(fields: Fields) -> FormClaim:
    algorithm, credential, date, signature, policy = _required(fields, *_V4_FIELDS, "policy")
    if algorithm != ALGORITHM:
        raise Failure("NotImplemented", f"Forms signed by {algorithm[:40]!a} are not implemented.")
    access_key, scope = read_credential(credential, _bad_credential)
    if dates.read_iso_basic(date.encode()) is None or not date.startswith(scope.date):
        raise Failure(
            "InvalidArgument",
            "X-Amz-Date must be as 20261130T101544Z, of the day that X-Amz-Credential names.",
            {"ArgumentName": "x-amz-date", "ArgumentValue": date[:40]},
        )
    return FormClaim(access_key, policy.encode(), signature, scope)


def _bad_credential(why: str) -> Failure:
    return Failure("InvalidArgument", f"X-Amz-Credential: {why}", {"ArgumentName": "x-amz-credential"})


def _required(fields: Fields, *names: str) -> Iterator[str]:
    for name in names:
        value = fields.get(name.lower())
        if value is None:
            raise Failure(
                "InvalidArgument",
                f"Bucket POST must contain a field named '{name}'.  If it is specified, please check the"
                " order of the fields.",
                {"ArgumentName": name, "ArgumentValue": ""},
            )
        yield value


def check_signature(claim: FormClaim, signing_key: bytes) -> None:
    """Compare a signature of version 4 with the policy.

    Args:
        signing_key: of the access key, for day and region of the claim's scope.
    Raises:
        Failure: SignatureDoesNotMatch.
    """
    signature = sign_v4(signing_key, claim.string_to_sign)
    if not hmac.compare_digest(signature.encode(), claim.signature.encode()):
        raise does_not_match(claim)


def does_not_match(claim: FormClaim) -> Failure:
    """The refusal of a signature, of either version, with what should have been signed."""
    return Failure(
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided.  Check your key and"
        " signing method.",
        {
            "AWSAccessKeyId": claim.access_key,
            "StringToSign": claim.string_to_sign.decode(),
            "SignatureProvided": claim.signature,
            "StringToSignBytes": claim.string_to_sign.hex(" "),
        },
    )


# --- what was signed ------------------------------------------------------------------------------


class Condition(msgspec.Struct, frozen=True):
    """One thing that must hold for one field."""

    field: str  # in lower case
    value: str
    is_prefix: bool

    def holds_for(self, found: str | None) -> bool:
        """Whether a field has what it should; None: the form lacks it, and then nothing holds."""
        if found is None:
            return False
        if not self.is_prefix:
            return found == self.value
        if self.field == "content-type":
            return all(one.strip(" ").startswith(self.value) for one in found.split(","))
        return found.startswith(self.value)

    def __str__(self) -> str:
        operator = "starts-with" if self.is_prefix else "eq"
        return json.dumps([operator, f"${self.field}", self.value])


class Policy(msgspec.Struct, frozen=True):
    """What a form may say, and how long its file may be."""

    expires_s: int
    conditions: tuple[Condition, ...] = ()
    size_min: int = 0
    size_max: int | None = None

    def check(self, fields: Fields, bucket: str, now_s: float) -> None:
        """Compare the policy with a form.

        Args:
            bucket: to which the form was sent, whatever its fields say.
        Raises:
            Failure: AccessDenied: the policy has expired, a condition does not hold, or a field has none.
        """
        if now_s >= self.expires_s:
            raise _denied("Policy expired.")
        values = {**fields, "bucket": bucket}
        for condition in self.conditions:
            if not condition.holds_for(values.get(condition.field)):
                raise _denied(f"Policy Condition failed: {condition}")
        covered = {condition.field for condition in self.conditions}
        extra = [name for name in values if name not in covered and _needs_condition(name)]
        if extra:
            raise _denied(f"Extra input fields: {', '.join(extra)[:200]}")
        if fields.get("bucket", bucket) != bucket:
            raise _denied(f"The form was sent to {bucket}, and its field names another bucket.")

    def check_size(self, size: int, *, is_whole: bool) -> None:
        """Compare the size of the file with the policy, as it comes and once it is whole.

        Raises:
            Failure: EntityTooLarge, EntityTooSmall.
        """
        if self.size_max is not None and size > self.size_max:
            raise Failure(
                "EntityTooLarge",
                "Your proposed upload exceeds the maximum allowed size.",
                {"ProposedSize": str(size), "MaxSizeAllowed": str(self.size_max)},
                closes=not is_whole,
            )
        if is_whole and size < self.size_min:
            raise Failure(
                "EntityTooSmall",
                "Your proposed upload is smaller than the minimum allowed size.",
                {"ProposedSize": str(size), "MinSizeAllowed": str(self.size_min)},
            )


def _needs_condition(name: str) -> bool:
    return name not in _NEEDS_NO_CONDITION and not name.startswith(_NEED_NO_CONDITION)


def _denied(why: str) -> Failure:
    return Failure("AccessDenied", f"Invalid according to Policy: {why}")


class _Document(msgspec.Struct):
    expiration: str
    conditions: list[dict[str, str] | list[str | int]]


_decode: Final = msgspec.json.Decoder(_Document).decode


def policy_of(encoded: bytes) -> Policy:
    """Read the policy of a form, in base64 as it was signed.

    Raises:
        Failure: InvalidPolicyDocument: it cannot be read, or has no expiration or no conditions.
    """
    try:
        document = _decode(binascii.a2b_base64(b"".join(encoded.split()), strict_mode=True))
    except binascii.Error:
        raise _invalid("it must be base64") from None
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise _invalid(str(error)[:200]) from error
    expires_s = dates.read_iso_extended(document.expiration.encode())
    if expires_s is None:
        raise _invalid(f"expiration must be as 2026-11-30T12:00:00.000Z, not {document.expiration[:60]!a}")
    conditions: list[Condition] = []
    size_min, size_max = 0, None
    for written in document.conditions:
        match written:
            case [str() as operator, least, most] if operator.lower() == _SIZE_RANGE:
                size_min = max(size_min, _size_of(least))
                size_max = _size_of(most) if size_max is None else min(size_max, _size_of(most))
            case [str() as operator, str() as field, str() as value]:
                conditions.append(_condition(operator.lower(), field, value))
            case dict() if len(written) == 1:
                conditions += [Condition(field.lower(), value, False) for field, value in written.items()]
            case _:
                raise _invalid(f"{json.dumps(written)[:100]} is no condition")
    return Policy(expires_s, tuple(conditions), size_min, size_max)


def _condition(operator: str, field: str, value: str) -> Condition:
    if operator not in ("eq", "starts-with"):
        raise _invalid(f"{operator[:40]!a} is no operator")
    if not field.startswith("$"):
        raise _invalid(f"the field {field[:40]!a} must begin with $")
    return Condition(field[1:].lower(), value, operator == "starts-with")


def _size_of(written: str | int) -> int:
    text = str(written)
    if not (text.isascii() and text.isdigit()) or len(text) > SIZE_DIGITS_MAX:
        raise _invalid(f"{_SIZE_RANGE} has two numbers of bytes, not {text[:40]!a}")
    return int(text)


def _invalid(why: str) -> Failure:
    return Failure("InvalidPolicyDocument", f"Invalid Policy: {why}.")


# --- what is answered -----------------------------------------------------------------------------


class Success(msgspec.Struct, frozen=True):
    """How a form that was stored is answered."""

    status: int
    location: str | None = None  # where the browser goes next
    has_document: bool = False  # a PostResponse goes along


def success_of(fields: Fields, bucket: str, key: str, etag: str) -> Success:
    """Read success_action_redirect and success_action_status; what cannot be kept counts as absent.

    Args:
        etag: without quotes.
    """
    redirect = fields.get("success_action_redirect", fields.get("redirect"))
    if redirect is not None and _is_address(redirect):
        return Success(303, _with_result(redirect, bucket, key, etag))
    match fields.get("success_action_status"):
        case "200":
            return Success(200)
        case "201":
            return Success(201, None, True)
        case _:
            return Success(204)


def _is_address(text: str) -> bool:
    try:
        address = urlsplit(text)
    except ValueError:
        return False
    return (
        address.scheme in ("http", "https")
        and bool(address.netloc)
        and text.isprintable()
        and " " not in text
        and len(text) <= REDIRECT_SIZE_MAX
    )


def _with_result(redirect: str, bucket: str, key: str, etag: str) -> str:
    result = urlencode({"bucket": bucket, "key": key, "etag": f'"{etag}"'}, quote_via=quote, safe="")
    address, hash_mark, fragment = redirect.partition("#")
    joined = f"{address}{'&' if '?' in address else '?'}{result}{hash_mark}{fragment}"
    return quote(joined, safe="!#$%&'()*+,/:;=?@[]~")  # what is not ASCII cannot stand in a head
