"""Signature version 2: the older way to sign, by header or in the query of a presigned request.  Pure

    StringToSign   method, Content-MD5, Content-Type, date, the x-amz-* headers, the resource
    signature      HMAC-SHA1 of it with the secret, in base64

The secret itself is the key, so only who has the secret can check; here is what needs no secret.  A presigned
request has the time until which it counts in place of the date, and its query may hold x-amz-* headers.

Only some sub-resources are part of what is signed (`_SIGNED_PARAMETERS`); the others need version 4.
Source: the Amazon S3 developer guide, "Signing and authenticating REST requests" (version 2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from warehouse.s3 import dates
from warehouse.s3.failures import Failure
from warehouse.s3.operations import SUBRESOURCES
from warehouse.s3.query import Query
from warehouse.s3.request import Request
from warehouse.s3.target import Target

ACCESS_KEY_SIZE_MAX: Final = 128
SIGNATURE_SIZE_MAX: Final = 128

_SIGNED_PARAMETERS: Final = frozenset(
    {
        b"accelerate",
        b"acl",
        b"analytics",
        b"cors",
        b"delete",
        b"inventory",
        b"lifecycle",
        b"location",
        b"logging",
        b"metrics",
        b"notification",
        b"object-lock",
        b"partNumber",
        b"policy",
        b"replication",
        b"requestPayment",
        b"response-cache-control",
        b"response-content-disposition",
        b"response-content-encoding",
        b"response-content-language",
        b"response-content-type",
        b"response-expires",
        b"restore",
        b"select",
        b"select-type",
        b"tagging",
        b"torrent",
        b"uploadId",
        b"uploads",
        b"versionId",
        b"versioning",
        b"versions",
        b"website",
    }
)
# Sub-resources that are not part of what is signed, but only choose between two listings.
_HARMLESS_PARAMETERS: Final = frozenset({"list-type", "max-directory-buckets"})


class V2Claim(Struct, frozen=True):
    """What a request says about its signature.

    Attributes:
        date: the line of the date in what was signed: empty if x-amz-date has it.
        signed_at_s: when it was signed; None for a presigned request.
        expires_s: until when a presigned request counts, in seconds since 1970; None for one with a header.
    """

    access_key: str
    signature: str
    date: bytes
    signed_at_s: int | None = None
    expires_s: int | None = None


def header_claim(headers: Mapping[bytes, bytes]) -> V2Claim:
    """Read `AWS ACCESS_KEY:SIGNATURE`.

    Raises:
        Failure: InvalidArgument for another form; AccessDenied without a date that can be read.
    """
    access_key, colon, signature = headers[b"authorization"][len(b"AWS ") :].partition(b":")
    if not colon or not signature:
        raise Failure(
            "InvalidArgument",
            "AWS authorization header is invalid.  Expected AwsAccessKeyId:signature",
            {"ArgumentName": "Authorization"},
        )
    amz_date = headers.get(b"x-amz-date")
    date = headers.get(b"date", b"") if amz_date is None else b""
    signed_at_s = dates.signing_time(date if amz_date is None else amz_date)
    return V2Claim(_access_key(access_key), _signature(signature), date, signed_at_s)


def presigned_claim(query: Query) -> V2Claim:
    """Read the parameters AWSAccessKeyId, Expires and Signature.

    Raises:
        Failure: AccessDenied, if one is missing or the time is no number.
    """
    access_key, signature, expires = (query.get(name) for name in ("AWSAccessKeyId", "Signature", "Expires"))
    if access_key is None or signature is None or expires is None:
        raise Failure(
            "AccessDenied",
            "Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters",
        )
    if not (expires.isascii() and expires.isdigit()) or len(expires) > 18:
        shown = expires[:40]
        raise Failure("AccessDenied", f"Invalid date (should be seconds since epoch): {shown}")
    return V2Claim(
        _access_key(access_key.encode()),
        _signature(signature.encode()),
        expires.encode(),
        expires_s=int(expires),
    )


def _access_key(text: bytes) -> str:
    if not 0 < len(text) <= ACCESS_KEY_SIZE_MAX or not text.isascii() or not text.decode().isprintable():
        raise Failure(
            "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."
        )
    return text.decode()


def _signature(text: bytes) -> str:
    if len(text) > SIGNATURE_SIZE_MAX or not text.isascii() or not text.decode().isprintable():
        raise Failure("InvalidArgument", "The signature must be base64.", {"ArgumentName": "Signature"})
    return text.decode()


def check_claim(claim: V2Claim, request: Request, now_s: float) -> None:
    """Check what needs no secret: the time, and that the sub-resource is part of what is signed.

    Raises:
        Failure: RequestTimeTooSkewed; AccessDenied for a presigned request after its time, and for a
            sub-resource that anybody could have added; InvalidArgument for a parameter that could stand for
            other headers than those that were signed.
    """
    if claim.signed_at_s is not None:
        dates.check_skew(claim.signed_at_s, now_s)
    if claim.expires_s is not None and now_s >= claim.expires_s:
        raise Failure(
            "AccessDenied",
            "Request has expired",
            {"Expires": str(claim.expires_s), "ServerTime": dates.write_iso_extended(int(now_s))},
        )
    if claim.expires_s is not None:
        _check_hoisted(request.query)
    for name in request.query.values:
        is_signed = name.encode() in _SIGNED_PARAMETERS or name in _HARMLESS_PARAMETERS
        if name in SUBRESOURCES and not is_signed:
            raise Failure(
                "AccessDenied",
                f"Signature version 2 does not cover the sub-resource {name}. Please use AWS4-HMAC-SHA256.",
            )


def _check_hoisted(query: Query) -> None:
    """Headers are signed as lines: no parameter may look like several of them, or like another one."""
    for name, value in query.pairs:
        if name.lower().startswith(b"x-amz-") and (b":" in name or b"\n" in name or b"\n" in (value or b"")):
            shown = name[:100].decode("ascii", "backslashreplace")
            raise Failure(
                "InvalidArgument", f"The parameter {shown} cannot be a header.", {"ArgumentName": shown}
            )


def string_to_sign(claim: V2Claim, request: Request, target: Target) -> bytes:
    """What the client has signed, if the request came as it was sent.

    Args:
        request: its path must be the bytes that came: clients sign them as they are.
    """
    headers = request.headers
    lines = [
        request.method,
        headers.get(b"content-md5", b""),
        headers.get(b"content-type", b""),
        claim.date,
        *(name + b":" + value for name, value in _amz_headers(claim, request)),
    ]
    return b"\n".join(lines) + b"\n" + _resource(request, target)


def _amz_headers(claim: V2Claim, request: Request) -> list[tuple[bytes, bytes]]:
    found = {name: value for name, value in request.headers.items() if name.startswith(b"x-amz-")}
    if request.has_repeated:  # a header that comes twice is signed without the blank that we put between
        found = {name: value.replace(b", ", b",") for name, value in found.items()}
    if claim.expires_s is not None:
        for name, value in request.query.pairs:
            if name.lower().startswith(b"x-amz-"):
                found.setdefault(name.lower(), value or b"")
    return sorted(found.items())


def _resource(request: Request, target: Target) -> bytes:
    path = request.path
    if target.is_virtual:
        path = b"/" + target.bucket.encode() + path
    elif not target.key and not path.endswith(b"/"):
        path += b"/"  # S3 signs a bucket as a folder, whether the slash was sent or not
    signed = sorted(
        (pair for pair in request.query.pairs if pair[0] in _SIGNED_PARAMETERS), key=lambda pair: pair[0]
    )
    if not signed:
        return path
    return path + b"?" + b"&".join([name if value is None else name + b"=" + value for name, value in signed])


def mismatch(claim: V2Claim, text: bytes) -> Failure:
    """The failure of a signature that is another one, with all that people need to compare."""
    return Failure(
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided."
        " Check your key and signing method.",
        {
            "AWSAccessKeyId": claim.access_key,
            "StringToSign": text.decode("utf-8", "replace"),
            "SignatureProvided": claim.signature,
            "StringToSignBytes": text.hex(" "),
        },
    )


def not_accepted() -> Failure:
    """How a service that takes no signatures of version 2 refuses one."""
    return Failure(
        "InvalidRequest",
        "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.",
    )
