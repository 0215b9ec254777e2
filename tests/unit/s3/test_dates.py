"""Dates: five ways to write a moment, and what S3 says to those that it cannot take."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime, formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.s3 import dates
from warehouse.s3.failures import Failure

NOW_S = 1_796_033_744  # 30 November 2026, 10:15:44


@pytest.mark.parametrize(
    "text",
    [
        b"20261130T101544Z",
        b"2026-11-30T10:15:44Z",
        b"2026-11-30T10:15:44.000Z",
        b"2026-11-30T10:15:44.999999Z",
        b"Mon, 30 Nov 2026 10:15:44 GMT",
        b"mon, 30 nov 2026 10:15:44 gmt",
        b"Mon, 30 Nov 2026 10:15:44 UTC",
        b"Mon, 30 Nov 2026 10:15:44 +0000",
        b"Mon, 30 Nov 2026 10:15:44 -0000",
        b"Mon, 30 Nov 2026 11:15:44 +0100",
        b"Mon, 30 Nov 2026 02:45:44 -0730",
        b"30 Nov 2026 10:15:44 GMT",
        b"Tue, 30 Nov 2026 10:15:44 GMT",  # the name of the day is not compared
        b"Monday, 30-Nov-26 10:15:44 GMT",
        b"Mon, 30-Nov-2026 10:15:44 GMT",
        b"Mon Nov 30 10:15:44 2026",
    ],
)
def test_the_same_moment_in_every_form(text: bytes) -> None:
    assert dates.read_date(text) == NOW_S


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"Thu, 01 Jan 1970 00:00:00 GMT", 0),
        (b"Thursday, 01-Jan-70 00:00:01 GMT", 1),
        (b"Thu Jan  1 00:00:02 1970", 2),
        (b"Tue, 07 Jul 1950 21:53:04 GMT", -614_916_416),
        (b"Fri, 31 Dec 9999 23:59:59 GMT", 253_402_300_799),
        (b"Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
        (b"Sunday, 06-Nov-94 08:49:37 GMT", 784_111_777),
        (b"Sun Nov  6 08:49:37 1994", 784_111_777),
        (b"Sun, 6 Nov 1994 08:49:37 GMT", 784_111_777),
        (b"20240229T000000Z", 1_709_164_800),
        (b"Monday, 01-Jan-69 00:00:00 GMT", 3_124_224_000),
    ],
)
def test_moments_near_and_far(text: bytes, seconds: int) -> None:
    assert dates.read_date(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"Bad Date",
        b"\x07",
        b"now",
        b"1796033744",
        b"20261130",
        b"20261130T101544",
        b"20261130T101544z",
        b"20261130T10154+Z",
        b"2026_130T101544Z",
        b"20261330T101544Z",
        b"20260229T000000Z",
        b"20261130T246060Z",
        b"20261130T101560Z",
        b"00000101T000000Z",
        b"2026-11-30",
        b"2026-11-30 10:15:44Z",
        b"2026-11-30T10:15:44",
        b"Mon, 30 Nov 2026",
        b"Mon, 30 Nov 2026 10:15:44",
        b"Mon, 30 Nov 2026 10:15:44 CET",
        b"Mon, 31 Nov 2026 10:15:44 GMT",
        b"Mon, 30 Foo 2026 10:15:44 GMT",
        b"Mon, 30 Nov 2026 25:15:44 GMT",
        b"Mon Foo 30 10:15:44 2026",
        b"Mon, 30 Nov 2026 10:15:44 GMT, Mon, 30 Nov 2026 10:15:44 GMT",
        "Mon, 30 Nov ２０２６ 10:15:44 GMT".encode(),
    ],
)
def test_what_is_no_date_is_none(text: bytes) -> None:
    assert dates.read_date(text) is None
    with pytest.raises(Failure) as caught:
        dates.signing_time(text)
    assert (caught.value.code, caught.value.status) == ("AccessDenied", 403)


def test_a_request_is_not_signed_before_1970() -> None:
    with pytest.raises(Failure) as caught:
        dates.signing_time(b"Tue, 07 Jul 1950 21:53:04 GMT")
    assert (caught.value.code, caught.value.status) == ("AccessDenied", 403)


@pytest.mark.parametrize(
    "text",
    [
        b"Tue, 07 Jul 2010 21:53:04 GMT",
        b"Tue, 07 Jul 2030 21:53:04 GMT",
        b"Tue, 07 Jul 9999 21:53:04 GMT",
        b"20261130T100043Z",
        b"20261130T103045Z",
    ],
)
def test_a_date_too_far_from_now_is_refused_as_skewed(text: bytes) -> None:
    signed_at_s = dates.signing_time(text)
    with pytest.raises(Failure) as caught:
        dates.check_skew(signed_at_s, NOW_S)
    assert (caught.value.code, caught.value.status) == ("RequestTimeTooSkewed", 403)
    assert caught.value.fields["ServerTime"] == "2026-11-30T10:15:44Z"
    assert caught.value.fields["MaxAllowedSkewMilliseconds"] == "900000"


@pytest.mark.parametrize("text", [b"20261130T100044Z", b"20261130T101544Z", b"20261130T103044Z"])
def test_a_quarter_of_an_hour_is_forgiven(text: bytes) -> None:
    dates.check_skew(dates.signing_time(text), NOW_S)


@given(moment=st.datetimes(datetime(1000, 1, 1), datetime(9999, 12, 31, 23, 59, 59), timezones=st.just(UTC)))
def test_dates_of_the_standard_library_are_read(moment: datetime) -> None:
    seconds = int((moment.replace(microsecond=0) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
    assert dates.read_http(format_datetime(moment, usegmt=True).encode()) == seconds
    assert dates.read_http(formatdate(seconds).encode()) == seconds  # "-0000"
    assert dates.read_iso_basic(f"{moment:%Y%m%dT%H%M%SZ}".encode()) == seconds
    assert dates.read_iso_extended(f"{moment.replace(tzinfo=None).isoformat()}Z".encode()) == seconds
    assert dates.write_iso_basic(seconds) == f"{moment:%Y%m%dT%H%M%SZ}"
    assert dates.write_iso_extended(seconds) == f"{moment:%Y-%m-%dT%H:%M:%SZ}"


@given(text=st.binary(max_size=40))
def test_no_text_breaks_the_reader(text: bytes) -> None:
    seconds = dates.read_date(text)
    assert seconds is None or isinstance(seconds, int)
