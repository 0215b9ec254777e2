"""Conditions: what If-Match and its four siblings ask, and whether it holds.  Values in, values out.

This module reads every condition of every request, whether it is a header or a field of a message or of a
batch.  A condition guards something, so the store never ignores one: it holds the condition, or refuses the
request.

    If-Match              strong comparison     412 unless the object has one of these ETags
    If-Unmodified-Since   without If-Match      412 if the object was stored after that second
    If-None-Match         weak comparison       GET and HEAD: 304, others: 412, if it has one of these ETags
    If-Modified-Since     without If-None-Match 304 unless the object was stored after that second
    If-Range              strong comparison     the whole object instead of a range of another version

They are checked in this order.  A value that cannot be read is a 400.  An If-Match that cannot be read names
no ETag, so it is a 412, as if it named other ETags.

In messages a single ETag stands without its quotes, as the first release wrote it.

Source: RFC 9110, section 13; section 8.8.3 for ETags, 5.6.7 for dates.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from warehouse.errors import BadRequest, PreconditionFailed

CONDITION_SIZE_MAX = 1024  # of a condition in a put: more than thirty ETags

# A request with one of these headers is conditional.
CONDITIONS = frozenset(
    (b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range")
)
# Matches foreign conditions also: WebDAV's If, x-goog-if-generation-match, x-amz-copy-source-if-match.
_IS_CONDITION = re.compile(rb"(?:^|-)if(?:-|$)").search

_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_SEPARATOR = re.compile(r"[ \t]*(?:,[ \t]*)*")
_BARE = re.compile(r"[\x21\x23-\x29\x2b\x2d-\x7e]+")  # no quote, star, comma or blank
_PLAIN = re.compile(r"[\w-]+", re.ASCII)


class Tags(NamedTuple):
    """The ETags that an If-Match or If-None-Match names."""

    is_any: bool  # "*": any ETag of an object that exists
    strong: tuple[str, ...]
    weak: tuple[str, ...]

    def match_strongly(self, etag: str | None) -> bool:
        """Whether the object has one of these ETags, byte for byte; None: the object does not exist."""
        return etag is not None and (self.is_any or etag in self.strong)

    def match_weakly(self, etag: str | None) -> bool:
        return etag is not None and (self.is_any or etag in self.strong or etag in self.weak)


def parse_tags(text: str) -> Tags:
    """Read "*" or a list of ETags in quotes.  The list may be empty.

    Raises:
        BadRequest: the text is neither.
    """
    is_any = False
    strong: list[str] = []
    weak: list[str] = []
    start = _SEPARATOR.match(text)
    position = start.end() if start else 0
    while position < len(text):
        tag = _TAG.match(text, position)
        if tag is not None:
            (weak if tag[1] else strong).append(tag[2])
            end = tag.end()
        elif text[position] == "*":
            is_any = True
            end = position + 1
        else:
            raise _no_tags(text)
        separator = _SEPARATOR.match(text, end)
        position = separator.end() if separator else end
        if position < len(text) and "," not in text[end:position]:
            raise _no_tags(text)
    return Tags(is_any, tuple(strong), tuple(weak))


def _no_tags(text: str) -> BadRequest:
    return BadRequest(
        f'a condition must be * or ETags in quotes, as in "1-2-abc", "1-3-def", not {text!r:.100}'
    )


def parse_field(text: str) -> Tags:
    """Read a condition of a message: as `parse_tags` does, or one ETag without its quotes."""
    bare = text.strip()
    if _BARE.fullmatch(bare):
        return Tags(False, (bare,), ())
    return parse_tags(text)


def check_etag_condition(text: str | None) -> str | None:
    """Check a condition of a message or a batch, and return it in the form that the catalog keeps.

    Raises:
        BadRequest: the text is not a condition, or is too long.
    """
    if text is None:
        return None
    if len(text) > CONDITION_SIZE_MAX:
        raise BadRequest(f"a condition has at most {CONDITION_SIZE_MAX} characters, not {len(text)}")
    return _written(parse_field(text))


def _written(tags: Tags) -> str:
    if tags.is_any:
        return "*"
    if len(tags.strong) == 1 and not tags.weak and _PLAIN.fullmatch(tags.strong[0]):
        return tags.strong[0]
    return ", ".join([f'"{tag}"' for tag in tags.strong] + [f'W/"{tag}"' for tag in tags.weak])


def require_conditions(if_match: str | None, if_none_match: str | None, etag: str | None) -> None:
    """Compare the conditions of a write with the object as it is now.

    Args:
        if_match, if_none_match: as `check_etag_condition` returns them; an older release checked less.
        etag: of the object; None: the object does not exist.
    Raises:
        PreconditionFailed: a condition does not hold, or cannot be read.
    """
    # Never which ETag the object has: whoever may write it may not be allowed to read it.
    state = "does not exist" if etag is None else "has another ETag"
    try:
        if if_match is not None and not parse_field(if_match).match_strongly(etag):
            raise PreconditionFailed(f"if_match asks for {if_match:.200}, the object {state}")
        if if_none_match is not None and parse_field(if_none_match).match_weakly(etag):
            raise PreconditionFailed(f"if_none_match excludes {if_none_match:.200}, and so this object")
    except BadRequest as error:
        raise PreconditionFailed(error.message) from error


# --- of HTTP requests -----------------------------------------------------------------------------


def is_not_modified(headers: Mapping[bytes, bytes], etag: str, modified_s: int) -> bool:
    """Compare the conditions of a GET or HEAD with the object, in the order of RFC 9110, 13.2.2.

    Args:
        headers: of the request, their names in lower case.
        etag: of the object, without quotes.
        modified_s: when the object was stored, in seconds since 1970.
    Returns:
        Whether the answer is a 304.
    Raises:
        PreconditionFailed: the answer is a 412.
        BadRequest: a condition that counts cannot be read.
    """
    if (value := headers.get(b"if-match")) is not None:
        if not _match_of(value).match_strongly(etag):
            raise PreconditionFailed(f'If-Match asks for {_shown(value)}, the object has the ETag "{etag}"')
    elif (value := headers.get(b"if-unmodified-since")) is not None and (
        modified_s > _date_of("If-Unmodified-Since", value)
    ):
        raise PreconditionFailed(f"the object was stored after {_shown(value)}")
    if (value := headers.get(b"if-none-match")) is not None:
        if (
            value[1:-1] == etag.encode("latin-1") and value[:1] == value[-1:] == b'"'
        ):  # nearly always, if it is
            return True
        return parse_tags(value.decode("latin-1")).match_weakly(etag)
    if (value := headers.get(b"if-modified-since")) is not None:
        return modified_s <= _date_of("If-Modified-Since", value)
    return False


def is_range_current(headers: Mapping[bytes, bytes], etag: str, modified_s: int) -> bool:
    """Whether If-Range allows a range of this version of the object.

    A weak ETag never does.  A date does when it is exactly that of the object.

    Raises:
        BadRequest: If-Range is neither an ETag nor a date.
    """
    value = headers.get(b"if-range")
    if value is None:
        return True
    tag = _TAG.fullmatch(value.decode("latin-1").strip())
    if tag is not None:
        return not tag[1] and tag[2] == etag
    return modified_s == _date_of("If-Range", value, "an ETag in quotes or a date")


def write_conditions(headers: Mapping[bytes, bytes]) -> tuple[str | None, str | None]:
    """Read If-Match and If-None-Match of a PUT; return them as `check_etag_condition` does.

    Raises:
        BadRequest: a condition cannot be read or is too long, or is of another kind: the catalog compares
            ETags only.
        PreconditionFailed: If-Match cannot be read.
    """
    _refuse_all_but(
        (b"if-match", b"if-none-match"), headers, "for a PUT: send If-Match or If-None-Match with an ETag"
    )
    if_match, if_none_match = headers.get(b"if-match"), headers.get(b"if-none-match")
    for value in (if_match, if_none_match):
        if value is not None and len(value) > CONDITION_SIZE_MAX:
            raise BadRequest(f"a condition has at most {CONDITION_SIZE_MAX} bytes, not {len(value)}")
    return (
        None if if_match is None else _written(_match_of(if_match)),
        None if if_none_match is None else _written(parse_tags(if_none_match.decode("latin-1"))),
    )


def refuse_conditions(headers: Mapping[bytes, bytes], where: str) -> None:
    """Refuse a conditional request where a condition has no object to be about.

    Raises:
        BadRequest: the request has a condition.
    """
    _refuse_all_but((), headers, f"here: {where}")


def _refuse_all_but(known: tuple[bytes, ...], headers: Mapping[bytes, bytes], where: str) -> None:
    for name in headers:
        if name not in known and _IS_CONDITION(name) is not None:
            raise BadRequest(f"{name.decode('latin-1').title()} is not supported {where}")


def _match_of(value: bytes) -> Tags:
    try:
        return parse_tags(value.decode("latin-1"))
    except BadRequest as error:
        raise PreconditionFailed(f"If-Match names no ETag: {error.message}") from None


def _date_of(name: str, value: bytes, expected: str = "a date") -> int:
    date_s = parse_date(value.decode("latin-1").strip(), now_s=time.time())
    if date_s is None:
        raise BadRequest(
            f"{name} must be {expected}, as in Sun, 06 Nov 1994 08:49:37 GMT, not {_shown(value)}"
        )
    return date_s


def _shown(value: bytes) -> str:
    return ascii(value.decode("latin-1"))[1:-1][:100]


# --- dates ----------------------------------------------------------------------------------------

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH = f"(?P<month>{'|'.join(_MONTHS)})"
_TIME = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_FORMATS = tuple(
    re.compile(pattern, re.ASCII)
    for pattern in (
        rf"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (?P<day>\d\d) {_MONTH} (?P<year>\d{{4}}) {_TIME} GMT",
        rf"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, (?P<day>\d\d)-{_MONTH}-(?P<year>\d\d) {_TIME} GMT",
        rf"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) {_MONTH} (?P<day>[ \d]\d) {_TIME} (?P<year>\d{{4}})",
    )
)


def parse_date(text: str, *, now_s: float) -> int | None:
    """Read a date of HTTP in any of its three formats, as seconds since 1970; None: this is not a date.

    Args:
        now_s: a year of two digits lies at most 50 years after this (RFC 9110, 5.6.7).
    """
    for pattern in _FORMATS:
        found = pattern.fullmatch(text)
        if found is not None:
            break
    else:
        return None
    year, second = int(found["year"]), int(found["second"])
    if len(found["year"]) == 2:
        year += datetime.fromtimestamp(now_s, UTC).year // 100 * 100
    month, day, hour, minute = (
        _MONTHS.index(found["month"]) + 1,
        *(int(found[n]) for n in ("day", "hour", "minute")),
    )
    try:
        date = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=UTC)  # 60: a leap second
        if len(found["year"]) == 2 and date > datetime.fromtimestamp(now_s, UTC) + timedelta(
            days=50 * 365.25
        ):
            date = date.replace(year=year - 100)
    except ValueError:
        return None
    return int(date.timestamp()) if second <= 60 else None
