"""CORS: which rule counts, what browsers are told, and what rules may not say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.s3 import xml_in, xml_out
from warehouse.s3.cors import Asked, CorsRule, answer_of, asked_of, check_rules, require_preflight
from warehouse.s3.failures import Failure

words = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="*"), min_size=1, max_size=9
)
patterns = words | st.just("*") | st.tuples(words, words).map("*".join)
rules = st.builds(
    CorsRule,
    st.lists(patterns, min_size=1, max_size=3).map(tuple),
    st.lists(st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD"]), min_size=1, max_size=3).map(tuple),
    st.lists(patterns, max_size=3).map(tuple),
    st.lists(words, max_size=3).map(tuple),
    st.none() | st.integers(0, 999_999_999),
    st.none() | words,
)
RULES = (
    CorsRule(("https://*.example.org",), ("GET", "HEAD"), ("x-amz-*",), ("ETag",), 600),
    CorsRule(("https://app.test",), ("PUT",), ("*",)),
    CorsRule(("*",), ("GET",)),
)


def told(origin, method="GET", headers=(), *, is_preflight=False):
    found = answer_of(RULES, Asked(origin, method, headers), is_preflight=is_preflight)
    return None if found is None else {name.decode().lower(): value.decode() for name, value in found}


@given(st.lists(rules, min_size=1, max_size=5).map(tuple))
def test_rules_are_the_same_after_they_were_written_and_read(given_rules):
    assert xml_in.read_cors(xml_out.cors(given_rules)) == given_rules


def test_the_first_rule_that_allows_everything_counts():
    mine = told("https://a.example.org", headers=("x-amz-date",), is_preflight=True)
    assert mine["access-control-allow-origin"] == "https://a.example.org"
    assert mine["access-control-allow-credentials"] == "true"
    assert mine["access-control-allow-methods"] == "GET, HEAD"
    assert mine["access-control-allow-headers"] == "x-amz-date"
    assert mine["access-control-expose-headers"] == "ETag"
    assert mine["access-control-max-age"] == "600"
    assert "Origin" in mine["vary"]
    anyone = told("https://elsewhere.test")
    assert anyone["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in anyone
    assert told("https://app.test", "PUT", ("x-anything",))["access-control-allow-methods"] == "PUT"


@pytest.mark.parametrize(
    ("origin", "method", "headers"),
    [
        ("https://app.test", "DELETE", ()),
        ("https://app.test.evil", "PUT", ()),
        ("https://elsewhere.test", "GET", ("x-other",)),
        ("https://app.test", "PUT", ("x",) * 101),
    ],
)
def test_without_a_rule_nothing_is_said(origin, method, headers):
    assert told(origin, method, headers) is None


def test_a_wildcard_needs_room_for_both_of_its_sides():
    overlapping = (CorsRule(("ab*ba",), ("GET",)),)
    assert answer_of(overlapping, Asked("aba", "GET"), is_preflight=False) is None
    assert answer_of(overlapping, Asked("abba", "GET"), is_preflight=False) is not None


@pytest.mark.parametrize(
    "rule",
    [
        CorsRule(("a*b*",), ("GET",)),
        CorsRule(("a",), ("PATCH",)),
        CorsRule(("a",), ("get",)),
        CorsRule(("a",), ("GET",), ("*x*",)),
        CorsRule(("a",), ("GET",), (), ("x-*",)),
        CorsRule(("a\r\nSet-Cookie: x",), ("GET",)),
        CorsRule(("a",), ("GET",), (), ("é",)),
        CorsRule(("",), ("GET",)),
        CorsRule(("a",), ("GET",), id="x" * 256),
    ],
)
def test_what_a_rule_may_not_say(rule):
    with pytest.raises(Failure) as refused:
        check_rules((rule,))
    assert refused.value.code == "InvalidRequest"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "<CORSRule><AllowedMethod>GET</AllowedMethod></CORSRule>",
        "<CORSRule><AllowedOrigin>*</AllowedOrigin></CORSRule>",
        "<CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod>"
        "<MaxAgeSeconds>-1</MaxAgeSeconds></CORSRule>",
        "<CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule>" * 101,
    ],
)
def test_a_document_without_sound_rules_is_malformed(content):
    with pytest.raises(Failure) as refused:
        xml_in.read_cors(f"<CORSConfiguration>{content}</CORSConfiguration>".encode())
    assert refused.value.code == "MalformedXML"


def test_what_a_browser_says():
    assert asked_of(b"GET", {}) is None
    assert asked_of(b"GET", {b"origin": b"o"}) == Asked("o", "GET")
    headers = {
        b"origin": b"o",
        b"access-control-request-method": b"PUT",
        b"access-control-request-headers": b"X-Amz-Date, ,content-type",
    }
    assert asked_of(b"OPTIONS", headers) == Asked("o", "PUT", ("x-amz-date", "content-type"))
    for missing in (b"origin", b"access-control-request-method"):
        with pytest.raises(Failure) as refused:
            require_preflight(b"OPTIONS", {name: value for name, value in headers.items() if name != missing})
        assert (refused.value.code, refused.value.status) == ("BadRequest", 400)
