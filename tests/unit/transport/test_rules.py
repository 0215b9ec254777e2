"""Ranges, methods and cross-origin rules, without a socket in sight."""

from __future__ import annotations

import pytest

from warehouse.errors import Overloaded, RangeNotSatisfiable, TokenExpired
from warehouse.transport.http.rules import CorsRule, NotAllowed, parse_range, refusal_headers, require_method


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"bytes=0-0", (0, 1)),
        (b"bytes=0-99", (0, 100)),
        (b"bytes=0-", (0, 100)),
        (b"bytes=99-", (99, 1)),
        (b"bytes=10-19", (10, 10)),
        (b"bytes=10-1000", (10, 90)),
        (b"bytes=-1", (99, 1)),
        (b"bytes=-100", (0, 100)),
        (b"bytes=-1000", (0, 100)),
        (b"Bytes = 5-6", (5, 2)),
        (b"bytes=5-6 ", (5, 2)),
    ],
)
def test_one_range_is_clipped_to_the_object(header, expected):
    assert parse_range(header, 100) == expected


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"bytes",
        b"bytes=",
        b"bytes=-",
        b"bytes=a-b",
        b"bytes=1",
        b"bytes=5-4",
        b"bytes=+1-2",
        b"bytes=1-2-3",
        b"bytes=--1",
        b"bytes=0-1,5-6",
        b"bytes=0-1,",
        b"items=0-1",
        b"bytes=" + b"9" * 30 + b"-",
        b"bytes=\xb2-3",
    ],
)
def test_a_range_that_is_not_understood_is_ignored(header):
    assert parse_range(header, 100) is None


@pytest.mark.parametrize(
    ("header", "size"), [(b"bytes=100-", 100), (b"bytes=500-600", 100), (b"bytes=-0", 100), (b"bytes=0-", 0)]
)
def test_a_range_without_a_byte_of_the_object_is_refused_with_its_size(header, size):
    with pytest.raises(RangeNotSatisfiable) as caught:
        parse_range(header, size)
    assert refusal_headers(caught.value) == [(b"Content-Range", b"bytes */%d" % size)]


def test_the_last_bytes_of_an_empty_object_are_none():
    with pytest.raises(RangeNotSatisfiable):
        parse_range(b"bytes=-5", 0)


def test_refusals_carry_the_headers_their_status_asks_for():
    assert refusal_headers(TokenExpired("late")) == [(b"WWW-Authenticate", b'Bearer realm="warehouse"')]
    assert refusal_headers(Overloaded("busy")) == [(b"Retry-After", b"1")]


def test_an_allowed_origin_is_named_and_sees_the_headers_of_the_answer():
    rule = CorsRule(["https://console.example/"])
    added = dict(rule.answer_headers(b"https://console.example", [(b"X-Warehouse-CRC32C", b"0")]))
    assert added[b"Access-Control-Allow-Origin"] == b"https://console.example"
    assert b"ETag" in added[b"Access-Control-Expose-Headers"]
    assert b"X-Warehouse-CRC32C" in added[b"Access-Control-Expose-Headers"]
    assert added[b"Vary"] == b"Origin"


def test_another_origin_gets_nothing_but_the_cache_is_told_that_it_matters():
    rule = CorsRule(["https://console.example"])
    assert rule.answer_headers(b"https://evil.example", []) == [(b"Vary", b"Origin")]
    assert rule.answer_headers(None, []) == [(b"Vary", b"Origin")]


def test_any_origin_may_be_allowed():
    added = dict(CorsRule(["*"]).answer_headers(b"https://anybody.example", []))
    assert added[b"Access-Control-Allow-Origin"] == b"*"
    assert b"Vary" not in added


def test_a_preflight_of_an_allowed_page_is_answered_with_what_it_asked_for():
    rule = CorsRule(["https://console.example"])
    asked = {
        b"origin": b"https://console.example",
        b"access-control-request-method": b"PUT",
        b"access-control-request-headers": b"authorization,x-warehouse-key",
    }
    answer = dict(rule.preflight_headers(b"OPTIONS", asked) or ())
    assert b"PUT" in answer[b"Access-Control-Allow-Methods"]
    assert answer[b"Access-Control-Allow-Headers"] == b"authorization,x-warehouse-key"


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        (b"GET", {b"origin": b"https://console.example", b"access-control-request-method": b"PUT"}),
        (b"OPTIONS", {b"origin": b"https://console.example"}),
        (b"OPTIONS", {b"origin": b"https://evil.example", b"access-control-request-method": b"PUT"}),
        (b"OPTIONS", {b"access-control-request-method": b"PUT"}),
    ],
)
def test_what_is_no_preflight_of_an_allowed_page_is_left_to_the_handler(method, headers):
    assert CorsRule(["https://console.example"]).preflight_headers(method, headers) is None


def test_a_method_that_is_not_allowed_is_refused_with_those_that_are():
    require_method(b"HEAD", b"GET", b"HEAD")
    with pytest.raises(NotAllowed) as caught:
        require_method(b"DELETE", b"GET", b"HEAD")
    assert caught.value.status == 405
    assert refusal_headers(caught.value) == [(b"Allow", b"GET, HEAD")]
