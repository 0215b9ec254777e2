"""Signature version 4: was a request signed by whoever has the secret of an access key?  Pure

    CanonicalRequest   method, path, query, the signed headers, their names, a word about the body
    StringToSign       AWS4-HMAC-SHA256, date, scope (day, region, s3), SHA-256 of the canonical request
    signature          HMAC of the string to sign with the key of that day and region (`signing_keys.py`)

A signature stands in the Authorization header, or in the query of a presigned request, which then needs no
header and expires.  Host and every `x-amz-*` header that came must be signed.

Checking has three steps, because the secret is elsewhere: `check_claim` needs no key, `readings` gives what
may have been signed, and the key of the day and region says whether it was.  `check` does all three.  There
are several readings only where something between the client and us rewrites headers: they are tried when
the first one fails, and cost nothing before.

Source: the Amazon S3 API reference, "Authenticating requests (AWS Signature Version 4)".
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from warehouse.s3 import dates, percent
from warehouse.s3.failures import Failure
from warehouse.s3.query import Query
from warehouse.s3.request import Request
from warehouse.s3.signing_keys import SERVICE, sign_v4

ALGORITHM: Final = "AWS4-HMAC-SHA256"
EXPIRES_MAX_S: Final = 604_800  # a week, as S3 says
CREDENTIAL_SIZE_MAX: Final = 256  # characters of access key and scope
UNSIGNED_PAYLOAD: Final = b"UNSIGNED-PAYLOAD"

_TERMINATOR: Final = "aws4_request"
SIGNATURE_SIZE: Final = 64
_HEX: Final = "0123456789abcdef"
_QUERY_FIELDS: Final = (
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Signature",
    "X-Amz-Date",
    "X-Amz-SignedHeaders",
    "X-Amz-Expires",
)
_RECALLED_SIZE_MAX: Final = 512
# Proxies replace what a client accepts; these are what clients sign.
_CODINGS_SIGNED: Final = (b"identity", b"gzip")

Refusal = Callable[[str], Failure]  # makes the failure of a header, or of a query, from a reason


class Scope(Struct, frozen=True):
    """Where a signature counts: one day, one region, this service."""

    date: str
    region: str
    service: str

    def __str__(self) -> str:
        return f"{self.date}/{self.region}/{self.service}/{_TERMINATOR}"


class V4Claim(Struct, frozen=True):
    """What a request says about its signature.

    Attributes:
        amz_date: when it was signed, as `20261130T101544Z`; `signed_at_s` is the same.
        payload: what was signed about the body: its SHA-256, or a word such as UNSIGNED-PAYLOAD.
        expires_s: how long a presigned request counts from then on; None for one with a header.
    """

    access_key: str
    scope: Scope
    signed_headers: tuple[bytes, ...]
    signature: str
    amz_date: str
    signed_at_s: int
    payload: bytes
    expires_s: int | None = None


class Reading(Struct, frozen=True):
    """One way to understand what a client signed.

    `host` is the host that it signed, so it is the one that says which bucket is meant (`target_of`).
    """

    host: bytes
    canonical_request: bytes
    string_to_sign: bytes


# --- claims -------------------------------------------------------------------------------------------


def header_claim(headers: Mapping[bytes, bytes]) -> V4Claim:
    """Read the Authorization header and what belongs to it.

    Raises:
        Failure: AuthorizationHeaderMalformed; AccessDenied without a date that can be read;
            InvalidRequest without x-amz-content-sha256.
    """
    authorization = headers[b"authorization"]
    fields, _, tail = authorization.rpartition(b"Signature=")
    signature, _, after = tail.partition(b",")
    fields += after
    # One client's requests differ in nothing but the signature, so the rest is read once.
    read = _recall_fields if len(fields) <= _RECALLED_SIZE_MAX else _read_fields
    access_key, scope, names = read(fields)
    amz_date, signed_at_s = _read_date(headers.get(b"x-amz-date", headers.get(b"date", b"")))
    if not amz_date.startswith(scope.date):
        raise _malformed(
            f'the credential date "{scope.date}" is not the day of the request, which is "{amz_date[:8]}"'
        )
    payload = headers.get(b"x-amz-content-sha256")
    if payload is None:
        raise Failure("InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
    return V4Claim(
        access_key,
        scope,
        names,
        _read_signature(signature.decode("latin-1").rstrip(" "), _malformed),
        amz_date,
        signed_at_s,
        payload,
    )


def presigned_claim(query: Query, headers: Mapping[bytes, bytes]) -> V4Claim:
    """Read the parameters of a presigned request.

    Raises:
        Failure: AuthorizationQueryParametersError; AccessDenied for a time that nothing may be valid for.
    """
    fields = [query.get(name) for name in _QUERY_FIELDS]
    if None in fields:
        raise _bad_parameters(
            "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential,"
            " X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters."
        )
    algorithm, credential, signature, date, signed_headers, expires = (text or "" for text in fields)
    _require_algorithm(algorithm, _bad_parameters)
    access_key, scope = read_credential(credential, _bad_parameters)
    signed_at_s = dates.read_iso_basic(date.encode())
    if signed_at_s is None or signed_at_s < 0:
        raise _bad_parameters("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
    if not date.startswith(scope.date):
        raise _bad_parameters(
            f'Invalid credential date "{scope.date}". This date is not the same as X-Amz-Date: "{date[:8]}".'
        )
    names = _read_signed_headers(signed_headers, _bad_parameters)
    return V4Claim(
        access_key,
        scope,
        names,
        _read_signature(signature, _bad_parameters),
        date,
        signed_at_s,
        _presigned_payload(query, headers, names),
        _read_expires(expires),
    )


@lru_cache(maxsize=64)  # many requests of one second
def _read_date(sent: bytes) -> tuple[str, int]:
    """When a request with a header was signed.  Clients that send a Date alone sign it as X-Amz-Date."""
    seconds = dates.read_iso_basic(sent)
    if seconds is not None and seconds >= 0:
        return sent.decode(), seconds
    seconds = dates.signing_time(sent)
    return dates.write_iso_basic(seconds), seconds


def _read_fields(text: bytes) -> tuple[str, Scope, tuple[bytes, ...]]:
    """Read an Authorization header without its signature: access key, scope, and names of signed headers."""
    try:
        algorithm, _, rest = text.decode("ascii").partition(" ")
    except UnicodeDecodeError:
        raise _malformed("it must be ASCII") from None
    _require_algorithm(algorithm, _malformed)
    fields = [part.strip(" ").partition("=") for part in rest.split(",") if part.strip(" ")]
    values = {name: value for name, _, value in fields}
    if len(fields) != 2 or values.keys() != {"Credential", "SignedHeaders"}:
        raise _malformed("it must have the fields Credential, SignedHeaders and Signature, each of them once")
    access_key, scope = read_credential(values["Credential"], _malformed)
    return access_key, scope, _read_signed_headers(values["SignedHeaders"], _malformed)


_recall_fields = lru_cache(maxsize=1024)(_read_fields)


def _require_algorithm(algorithm: str, failure: Refusal) -> None:
    if algorithm == ALGORITHM:
        return
    if algorithm == "AWS4-ECDSA-P256-SHA256":
        feature = "signatures for several regions (SigV4A)"
        raise Failure("NotImplemented", f"{feature} are not implemented.", {"Feature": feature})
    raise failure(f"the algorithm must be {ALGORITHM}")


def read_credential(text: str, failure: Refusal) -> tuple[str, Scope]:
    """Read an access key and its scope: `KEY/20261130/us-east-1/s3/aws4_request`.

    Raises:
        Failure: what `failure` makes of the reason.
    """
    access_key, *scope = text.rsplit("/", 4)
    if len(scope) != 4 or not access_key or len(text) > CREDENTIAL_SIZE_MAX or not text.isprintable():
        raise failure(
            'the Credential is mal-formed; expecting "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request"'
        )
    date, region, service, terminator = scope
    if len(date) != 8 or not (date.isascii() and date.isdigit()):
        raise failure(f'incorrect date format "{date[:40]}". This date must be in the format "yyyyMMdd".')
    if not region or not text.isascii():
        raise failure("a non-empty region must be provided in the credential")
    if service != SERVICE:
        raise failure(f'incorrect service "{service[:40]}". This endpoint belongs to "{SERVICE}".')
    if terminator != _TERMINATOR:
        raise failure(f'incorrect terminal "{terminator[:40]}". This endpoint uses "{_TERMINATOR}".')
    return access_key, Scope(date, region, service)


def _read_signed_headers(text: str, failure: Refusal) -> tuple[bytes, ...]:
    if not text.isascii() or text != text.lower():
        raise failure("SignedHeaders must be the names of headers in small letters")
    return tuple(text.encode().split(b";"))


def _read_signature(text: str, failure: Refusal) -> str:
    if len(text) != SIGNATURE_SIZE or text.strip(_HEX):
        raise failure(f"the Signature must be {SIGNATURE_SIZE} hexadecimal digits in small letters")
    return text


def _read_expires(text: str) -> int:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(text) > 20:
        raise _bad_parameters("X-Amz-Expires should be a number")
    if not 0 < int(text) <= EXPIRES_MAX_S:
        # S3 says 400 here, and Ceph 403, which its tests ask for: nothing can make the request valid.
        raise Failure(
            "AccessDenied",
            f"X-Amz-Expires must be at least 1 and at most a week ({EXPIRES_MAX_S} seconds).",
            {"X-Amz-Expires": text},
        )
    return int(text)


def _presigned_payload(query: Query, headers: Mapping[bytes, bytes], signed: tuple[bytes, ...]) -> bytes:
    if b"x-amz-content-sha256" in signed:
        return headers.get(b"x-amz-content-sha256", b"")
    hoisted = query.get("X-Amz-Content-Sha256")
    return UNSIGNED_PAYLOAD if hoisted is None else hoisted.encode()


def _malformed(why: str) -> Failure:
    return Failure("AuthorizationHeaderMalformed", f"The authorization header is malformed; {why}.")


def _bad_parameters(why: str) -> Failure:
    return Failure("AuthorizationQueryParametersError", f"Error parsing the X-Amz-* parameters; {why}")


# --- what was signed ----------------------------------------------------------------------------------


def readings(claim: V4Claim, request: Request, other_hosts: Sequence[bytes] = ()) -> Iterator[Reading]:
    """What the client may have signed, likeliest first; the first one is the request as it came.

    Args:
        other_hosts: what a trusted proxy says that the client's Host header was.
    """
    yield first_reading(claim, request)
    for headers in _rewritten(claim, request, other_hosts):
        yield first_reading(claim, replace(request, headers=headers))


def _rewritten(
    claim: V4Claim, request: Request, other_hosts: Sequence[bytes]
) -> Iterator[Mapping[bytes, bytes]]:
    """The headers as they may have been before a proxy, or our own HTTP server, changed them."""
    headers = request.headers
    codings = [headers.get(b"accept-encoding", b"")]
    if b"accept-encoding" in claim.signed_headers:
        codings += [coding for coding in _CODINGS_SIGNED if coding != codings[0]]
    joined = [headers]
    if request.has_repeated:  # a header that comes twice is signed without the blank that we put between
        joined.append({name: value.replace(b", ", b",") for name, value in headers.items()})
    for host in (headers.get(b"host", b""), *other_hosts):
        for coding in codings:
            for index, fields in enumerate(joined):
                if host != headers.get(b"host", b"") or coding != codings[0] or index:
                    yield {**fields, b"host": host, b"accept-encoding": coding}


def first_reading(claim: V4Claim, request: Request) -> Reading:
    """The likeliest of `readings`: the request as it came."""
    canonical = canonical_request(claim, request)
    digest = hashlib.sha256(canonical).hexdigest()
    text = f"{ALGORITHM}\n{claim.amz_date}\n{claim.scope}\n{digest}"
    return Reading(request.headers.get(b"host", b""), canonical, text.encode())


def canonical_request(claim: V4Claim, request: Request) -> bytes:
    """The text that stands for a request.  It needs no key, so a refused client may see it."""
    headers, names = request.headers, claim.signed_headers
    fields = [name + b":" + headers.get(name, b"") for name in names]
    signed = b"\n".join(fields)
    if b"  " in signed or b"\t" in signed:
        signed = b"\n".join([b" ".join(field.split()) for field in fields])
    return b"\n".join(
        (
            request.method,
            percent.canonical_path(request.path),
            _canonical_query(request.query, claim) if request.query.pairs else b"",
            signed,
            b"",
            b";".join(names),
            claim.payload,
        )
    )


def _canonical_query(query: Query, claim: V4Claim) -> bytes:
    pairs = [(percent.encode(name), percent.encode(value or b"")) for name, value in query.pairs]
    if claim.expires_s is not None:
        pairs = [pair for pair in pairs if pair[0] != b"X-Amz-Signature"]
    pairs.sort()
    return b"&".join([name + b"=" + value for name, value in pairs])


class Pattern(Struct, frozen=True):
    """What the requests of one client have in common that differ in path and signature alone.

    Such have no query.

    Attributes:
        claim: with the signature of one of them.
        before, after: the string to sign before the digest; the canonical request after the path.
    """

    claim: V4Claim
    before: bytes
    after: bytes


def pattern_of(claim: V4Claim, request: Request) -> Pattern:
    """The pattern of a request with a header and without a query."""
    canonical = canonical_request(claim, request)
    after = canonical[len(request.method) + 1 + len(percent.canonical_path(request.path)) :]
    return Pattern(claim, f"{ALGORITHM}\n{claim.amz_date}\n{claim.scope}\n".encode(), after)


def string_to_sign(pattern: Pattern, method: bytes, path: bytes) -> bytes:
    """As in the first of `readings`, for a request of this pattern."""
    canonical = b"%b\n%b%b" % (method, percent.canonical_path(path), pattern.after)
    return pattern.before + hashlib.sha256(canonical).hexdigest().encode()


# --- checking -----------------------------------------------------------------------------------------


def check_claim(claim: V4Claim, request: Request, now_s: float) -> None:
    """Check what needs no key: the time, and that whatever matters is signed.

    Raises:
        Failure: RequestTimeTooSkewed; AccessDenied for a presigned request before or after its time, and
            for headers that came but are not signed.
    """
    if claim.expires_s is None:
        dates.check_skew(claim.signed_at_s, now_s)
    else:
        _check_lifetime(claim, claim.expires_s, now_s)
    _check_signed_headers(claim, request)


def _check_lifetime(claim: V4Claim, expires_s: int, now_s: float) -> None:
    if claim.signed_at_s > now_s + dates.SKEW_MAX_S:
        raise Failure(
            "AccessDenied",
            "Request is not yet valid",
            {"X-Amz-Date": claim.amz_date, "ServerTime": dates.write_iso_extended(int(now_s))},
        )
    if now_s >= claim.signed_at_s + expires_s:
        raise Failure(
            "AccessDenied",
            "Request has expired",
            {
                "X-Amz-Expires": str(expires_s),
                "Expires": dates.write_iso_extended(claim.signed_at_s + expires_s),
                "ServerTime": dates.write_iso_extended(int(now_s)),
            },
        )


def _check_signed_headers(claim: V4Claim, request: Request) -> None:
    signed = claim.signed_headers
    unsigned = [
        name
        for name, value in request.headers.items()
        if name.startswith(b"x-amz-") and name not in signed and not _is_in_query(claim, request, name, value)
    ]
    if b"host" not in signed:
        unsigned.append(b"host")
    if unsigned:
        names = b", ".join(unsigned).decode("ascii", "backslashreplace")
        raise Failure(
            "AccessDenied",
            "There were headers present in the request which were not signed",
            {"HeadersNotSigned": names},
        )


def _is_in_query(claim: V4Claim, request: Request, name: bytes, value: bytes) -> bool:
    """Whether the query of a presigned request, all of which is signed, says the same as a header."""
    if claim.expires_s is None:
        return False
    return any(key.lower() == name and said == value for key, said in request.query.pairs)


def check(
    claim: V4Claim,
    request: Request,
    signing_key: bytes,
    now_s: float,
    other_hosts: Sequence[bytes] = (),
) -> Reading:
    """Check a claim whose signing key is at hand, and return what was signed.

    Raises:
        Failure: SignatureDoesNotMatch, or what `check_claim` raises.
    """
    check_claim(claim, request, now_s)
    first = None
    for reading in readings(claim, request, other_hosts):
        if hmac.compare_digest(sign_v4(signing_key, reading.string_to_sign), claim.signature):
            return reading
        first = first or reading
    assert first is not None
    raise mismatch(claim, first)


def mismatch(claim: V4Claim, reading: Reading) -> Failure:
    """The failure of a signature that is another one, with all that people need to compare."""
    return Failure(
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided."
        " Check your key and signing method.",
        {
            "AWSAccessKeyId": claim.access_key,
            "StringToSign": _shown(reading.string_to_sign),
            "SignatureProvided": claim.signature,
            "StringToSignBytes": reading.string_to_sign.hex(" "),
            "CanonicalRequest": _shown(reading.canonical_request),
            "CanonicalRequestBytes": reading.canonical_request.hex(" "),
        },
    )


def _shown(text: bytes) -> str:
    return text.decode("utf-8", "replace")
