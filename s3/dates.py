"""Dates: every way in which clients of S3 write a moment.  Pure

    20261130T101544Z                   ISO 8601, basic: X-Amz-Date
    2026-11-30T10:15:44.000Z           ISO 8601, extended: policies of forms
    Mon, 30 Nov 2026 10:15:44 GMT      RFC 9110; also "-0000", "+0100", "UTC", or without the day
    Monday, 30-Nov-26 10:15:44 GMT     RFC 850; years from 70 on are of the last century
    Mon Nov 30 10:15:44 2026           asctime

A moment is in seconds since 1970, and may lie before it.  The name of the day is not compared with the date.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from warehouse.s3.failures import Failure

SKEW_MAX_S: Final = 900  # a request's date may differ this much from our clock

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)
_MONTHS: Final = {
    name: number
    for number, name in enumerate(b"jan feb mar apr may jun jul aug sep oct nov dec".split(), start=1)
}
_HTTP_DATE: Final = re.compile(
    rb"(?:[a-z]{3,9}, ?)?(\d{1,2})[ -]([a-z]{3})[ -](\d{4}|\d{2}) (\d{2}):(\d{2}):(\d{2}) "
    rb"(?:gmt|utc|ut|([+-])(\d{2})(\d{2}))"
)
_ASCTIME: Final = re.compile(rb"[a-z]{3} ([a-z]{3}) ([ \d]\d) (\d{2}):(\d{2}):(\d{2}) (\d{4})")
_ISO_EXTENDED: Final = re.compile(rb"(\d{4})-(\d{2})-(\d{2})t(\d{2}):(\d{2}):(\d{2})(?:\.\d{1,9})?z")


def read_iso_basic(text: bytes) -> int | None:
    """Read `20261130T101544Z`; None if it is anything else."""
    if len(text) != 16 or text[8] != 0x54 or text[15] != 0x5A:  # "T", "Z"
        return None
    digits = text[:8] + text[9:15]
    if not digits.isdigit():
        return None
    return _moment(
        int(digits[:4]), int(digits[4:6]), int(digits[6:8]), digits[8:10], digits[10:12], digits[12:]
    )


def read_iso_extended(text: bytes) -> int | None:
    """Read `2026-11-30T10:15:44Z`, without the fraction that it may have; None if it is anything else."""
    found = _ISO_EXTENDED.fullmatch(text.lower())
    if found is None:
        return None
    year, month, day, hour, minute, second = found.groups()
    return _moment(int(year), int(month), int(day), hour, minute, second)


def read_http(text: bytes) -> int | None:
    """Read a date of RFC 9110, of RFC 850 or by asctime; None if it is anything else."""
    text = text.lower()
    found = _HTTP_DATE.fullmatch(text)
    if found is None:
        return _read_asctime(text)
    day, month, year, hour, minute, second, sign, zone_hours, zone_minutes = found.groups()
    if month not in _MONTHS:
        return None
    moment = _moment(_full_year(year), _MONTHS[month], int(day), hour, minute, second)
    if moment is None or sign is None:
        return moment
    east_s = (int(zone_hours) * 60 + int(zone_minutes)) * 60
    return moment + east_s if sign == b"-" else moment - east_s


def read_date(text: bytes) -> int | None:
    """Read a date in any of the five forms; None if it is in none of them."""
    seconds = read_iso_basic(text)
    if seconds is None:
        seconds = read_http(text)
    if seconds is None:
        seconds = read_iso_extended(text)
    return seconds


def write_iso_basic(seconds: int) -> str:
    return f"{_EPOCH + seconds * _SECOND:%Y%m%dT%H%M%SZ}"


def write_iso_extended(seconds: int) -> str:
    return f"{_EPOCH + seconds * _SECOND:%Y-%m-%dT%H:%M:%SZ}"


def signing_time(text: bytes) -> int:
    """Read the date of a signed request.

    Raises:
        Failure: AccessDenied, if it cannot be read or lies before 1970.
    """
    seconds = read_date(text)
    if seconds is None or seconds < 0:
        raise Failure("AccessDenied", "AWS authentication requires a valid Date or x-amz-date header")
    return seconds


def check_skew(signed_at_s: int, now_s: float) -> None:
    """
    Raises:
        Failure: RequestTimeTooSkewed, if a request was signed too far from now.
    """
    if abs(signed_at_s - now_s) > SKEW_MAX_S:
        raise Failure(
            "RequestTimeTooSkewed",
            "The difference between the request time and the current time is too large.",
            {
                "RequestTime": write_iso_extended(signed_at_s),
                "ServerTime": write_iso_extended(int(now_s)),
                "MaxAllowedSkewMilliseconds": str(SKEW_MAX_S * 1000),
            },
        )


def _read_asctime(text: bytes) -> int | None:
    found = _ASCTIME.fullmatch(text)
    if found is None or found[1] not in _MONTHS:
        return None
    return _moment(int(found[6]), _MONTHS[found[1]], int(found[2]), found[3], found[4], found[5])


def _full_year(digits: bytes) -> int:
    year = int(digits)
    if len(digits) == 4:
        return year
    return year + (1900 if year >= 70 else 2000)


def _moment(year: int, month: int, day: int, hour: bytes, minute: bytes, second: bytes) -> int | None:
    """Seconds since 1970; None if there is no such day or time."""
    try:
        there = datetime(year, month, day, int(hour), int(minute), int(second), tzinfo=UTC)
    except ValueError:
        return None
    return (there - _EPOCH) // _SECOND
