"""Credentials: in which way does a request say who asks?  Pure

    Authorization: AWS4-HMAC-SHA256 ...     V4Claim
    ?X-Amz-Algorithm=AWS4-HMAC-SHA256...    V4Claim with a time to expire: presigned
    Authorization: AWS KEY:SIGNATURE        V2Claim
    ?AWSAccessKeyId=KEY&Signature=...       V2Claim with a time to expire: presigned
    none of them                            Anonymous

Two ways at once are refused: two readers could take the request for two people's.  The way of forms is in
their fields (`post_policy.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from warehouse.s3 import sigv2, sigv4
from warehouse.s3.failures import Failure
from warehouse.s3.query import Query
from warehouse.s3.request import Request

_V4_PARAMETERS: Final = frozenset({"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature"})
_V2_PARAMETERS: Final = frozenset({"AWSAccessKeyId", "Signature"})
_TOKENS: Final = frozenset({"X-Amz-Security-Token", "x-amz-security-token"})

# Parameters of the signature itself, which stand for no header.
_OF_THE_SIGNATURE: Final = frozenset(
    {
        b"x-amz-algorithm",
        b"x-amz-content-sha256",
        b"x-amz-credential",
        b"x-amz-date",
        b"x-amz-expires",
        b"x-amz-security-token",
        b"x-amz-signature",
        b"x-amz-signedheaders",
    }
)
# The SDK for JavaScript writes the checksum of an empty body into each presigned upload, because it has no
# body yet.  S3 takes no notice of it, or nobody could use such a request.  Nor can a query say how a body is
# framed that somebody sends later.
_OF_THE_BODY: Final = (
    b"x-amz-checksum-",
    b"x-amz-decoded-content-length",
    b"x-amz-sdk-checksum-algorithm",
    b"x-amz-trailer",
)


class Anonymous(Struct, frozen=True):
    """Nobody in particular."""


Claim = Anonymous | sigv4.V4Claim | sigv2.V2Claim


def claim_of(request: Request) -> Claim:
    """Find out who a request says it is from.  Nothing is proven yet.

    Raises:
        Failure: InvalidArgument for two ways at once or one that S3 does not have; InvalidToken for the
            temporary keys of other services; NotImplemented for SigV4A; what is wrong within the one way.
    """
    headers, query = request.headers, request.query
    authorization = headers.get(b"authorization", b"")
    names = query.values
    is_v4_presigned = bool(names) and not _V4_PARAMETERS.isdisjoint(names)
    is_v2_presigned = bool(names) and not _V2_PARAMETERS.isdisjoint(names)
    if not authorization and not is_v4_presigned and not is_v2_presigned:
        return Anonymous()
    if bool(authorization) + is_v4_presigned + is_v2_presigned > 1:
        raise Failure(
            "InvalidArgument",
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query"
            " string parameter or the Authorization header should be specified",
            {"ArgumentName": "Authorization"},
        )
    if b"x-amz-security-token" in headers or (names and not _TOKENS.isdisjoint(names)):
        raise Failure(
            "InvalidToken",
            "The provided token is malformed or otherwise invalid: there are no temporary keys here.",
        )
    if is_v4_presigned:
        return sigv4.presigned_claim(query, headers)
    if is_v2_presigned:
        return sigv2.presigned_claim(query)
    return _header_claim(authorization, headers)


def _header_claim(authorization: bytes, headers: Mapping[bytes, bytes]) -> Claim:
    if authorization.startswith(b"AWS4-"):
        return sigv4.header_claim(headers)
    if authorization.startswith(b"AWS "):
        return sigv2.header_claim(headers)
    raise Failure("InvalidArgument", "Unsupported Authorization Type", {"ArgumentName": "Authorization"})


def headers_meant(request: Request, claim: Claim) -> Mapping[bytes, bytes]:
    """The headers of a request together with those that a presigned one has in its query.

    SDKs move `x-amz-*` headers into the query when they presign, so that whoever uses the request need not
    send them.  All of the query is signed then.

    Raises:
        Failure: InvalidArgument, if header and query disagree, or one came twice.
    """
    if isinstance(claim, Anonymous) or claim.expires_s is None:
        return request.headers
    hoisted = {name.lower(): value for name, value in request.query.pairs if _is_hoisted(name.lower())}
    for name, value in hoisted.items():
        _require_once(request.query, name)
        if request.headers.get(name, value) != value:
            raise Failure(
                "InvalidArgument",
                "A header says something else than the parameter of the same name.",
                {"ArgumentName": name.decode("ascii", "backslashreplace")},
            )
    return {**request.headers, **{name: value or b"" for name, value in hoisted.items()}}


def _is_hoisted(name: bytes) -> bool:
    return name.startswith(b"x-amz-") and name not in _OF_THE_SIGNATURE and not name.startswith(_OF_THE_BODY)


def _require_once(query: Query, name: bytes) -> None:
    if sum(key.lower() == name for key, _ in query.pairs) > 1:
        shown = name.decode("ascii", "backslashreplace")
        raise Failure("InvalidArgument", f"The parameter {shown} must come once.", {"ArgumentName": shown})
