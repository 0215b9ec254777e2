"""CORS: which pages of other origins may use a bucket, and what browsers are told of it.  Pure

A browser asks before it sends what a page could not send without a script (a preflight), and looks at the
answer of everything else.  The first rule counts that allows origin, method and headers; without one nothing
is said, and the browser keeps the answer from the page.  What a request may do, its signature decides.

Source: the Amazon S3 user guide, "Using cross-origin resource sharing"; the Fetch standard, section 3.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from warehouse.s3.failures import Failure

METHODS: Final = ("GET", "PUT", "POST", "DELETE", "HEAD")
RULES_MAX: Final = 100
ID_LENGTH_MAX: Final = 255
HEADERS_ASKED_MAX: Final = 100  # in one preflight
_VARY: Final = (b"Vary", b"Origin, Access-Control-Request-Headers, Access-Control-Request-Method")

Headers = Sequence[tuple[bytes, bytes]]


class CorsRule(Struct, frozen=True):
    """
    Attributes:
        origins: each with one `*` at most, for any text.
        allowed_headers: which a request may have, likewise; in any letters.
        exposed_headers: of answers, which the page may read.
        max_age_s: for how long a browser may remember the answer to a preflight.
    """

    origins: tuple[str, ...]
    methods: tuple[str, ...]
    allowed_headers: tuple[str, ...] = ()
    exposed_headers: tuple[str, ...] = ()
    max_age_s: int | None = None
    id: str | None = None


class Asked(Struct, frozen=True):
    """What a browser says of a request: from which origin, with which method, and with which headers."""

    origin: str
    method: str
    headers: tuple[str, ...] = ()  # in small letters


def check_rules(rules: Sequence[CorsRule]) -> tuple[CorsRule, ...]:
    """
    Raises:
        Failure: InvalidRequest: a rule says what S3 does not allow.
    """
    for rule in rules:
        if rule.id is not None and len(rule.id) > ID_LENGTH_MAX:
            raise _invalid(f"The ID of a rule has {len(rule.id)} characters, at most {ID_LENGTH_MAX}")
        for method in rule.methods:
            if method not in METHODS:
                raise _invalid(
                    f"Found unsupported HTTP method in CORS config. Unsupported method is {method[:100]}"
                )
        for name, patterns in (("AllowedOrigin", rule.origins), ("AllowedHeader", rule.allowed_headers)):
            for pattern in patterns:
                if pattern.count("*") > 1:
                    raise _invalid(f'{name} "{pattern[:100]}" can not have more than one wildcard.')
        for header in rule.exposed_headers:
            if "*" in header:
                raise _invalid(
                    f'ExposeHeader "{header[:100]}" contains wildcard. We currently do not support'
                    " wildcard for ExposeHeader."
                )
        for text in (*rule.origins, *rule.allowed_headers, *rule.exposed_headers):
            if not text or not text.isascii() or not text.isprintable():
                raise _invalid(f"A rule of CORS has a text that no header can hold: {text[:100]!a}")
    return tuple(rules)


def asked_of(method: bytes, headers: Mapping[bytes, bytes]) -> Asked | None:
    """What a request says; None: it comes from no page of another origin."""
    origin = headers.get(b"origin", b"")
    if not origin:
        return None
    wanted = headers.get(b"access-control-request-method") or method
    names = headers.get(b"access-control-request-headers", b"").decode("latin-1").lower().split(",")
    return Asked(
        origin.decode("latin-1"),
        wanted.decode("latin-1"),
        tuple(name for name in map(str.strip, names[: HEADERS_ASKED_MAX + 1]) if name),
    )


def answer_of(rules: Iterable[CorsRule], asked: Asked, *, is_preflight: bool) -> Headers | None:
    """The headers that tell a browser what the first rule allows that counts; None: none does."""
    for rule in rules:
        pattern = next((one for one in rule.origins if _matches(one, asked.origin)), None)
        if pattern is None or asked.method not in rule.methods:
            continue
        if len(asked.headers) > HEADERS_ASKED_MAX or not all(
            any(_matches(one.lower(), name) for one in rule.allowed_headers) for name in asked.headers
        ):
            continue
        return _headers(rule, asked, is_any=pattern == "*", is_preflight=is_preflight)
    return None


def require_preflight(method: bytes, headers: Mapping[bytes, bytes]) -> Asked:
    """
    Raises:
        Failure: BadRequest: it does not say from where, or what it is to be.
    """
    asked = asked_of(method, headers)
    if asked is None:
        raise Failure("BadRequest", "Insufficient information. Origin request header needed.")
    if not headers.get(b"access-control-request-method"):
        raise Failure("BadRequest", "Invalid Access-Control-Request-Method: null")
    return asked


def not_allowed(*, has_rules: bool) -> Failure:
    """How a preflight is refused."""
    if not has_rules:
        return Failure("AccessForbidden", "CORSResponse: CORS is not enabled for this bucket.")
    return Failure(
        "AccessForbidden",
        "CORSResponse: This CORS request is not allowed. This is usually because the evaluation of Origin,"
        " request method / Access-Control-Request-Method or Access-Control-Request-Headers are not"
        " whitelisted by the resource's CORS spec.",
    )


def _headers(rule: CorsRule, asked: Asked, *, is_any: bool, is_preflight: bool) -> Headers:
    told = [("Access-Control-Allow-Origin", "*" if is_any else asked.origin)]
    if not is_any:
        told.append(("Access-Control-Allow-Credentials", "true"))
    told.append(("Access-Control-Allow-Methods", ", ".join(rule.methods)))
    if asked.headers:
        told.append(("Access-Control-Allow-Headers", ", ".join(asked.headers)))
    if rule.exposed_headers:
        told.append(("Access-Control-Expose-Headers", ", ".join(rule.exposed_headers)))
    if is_preflight and rule.max_age_s is not None:
        told.append(("Access-Control-Max-Age", str(rule.max_age_s)))
    return (*((name.encode(), value.encode("latin-1")) for name, value in told), _VARY)


def _matches(pattern: str, text: str) -> bool:
    before, star, after = pattern.partition("*")
    if not star:
        return pattern == text
    return len(text) >= len(before) + len(after) and text.startswith(before) and text.endswith(after)


def _invalid(why: str) -> Failure:
    return Failure("InvalidRequest", why)
