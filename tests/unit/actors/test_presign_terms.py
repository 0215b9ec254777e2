"""Presign terms: what a URL may fix, and what is refused by name."""

from __future__ import annotations

import pytest

from warehouse.actors.control.presign_terms import PRESIGN_S_MAX, check_terms, get_terms
from warehouse.errors import BadKey, BadMetadata, BadRequest
from warehouse.transport.messages import Presign


def wish(method="GET", **terms):
    return Presign(**{"bucket": "b", "key": "k", "method": method, "expires_in_s": 60.0, **terms})


@pytest.mark.parametrize(
    ("method", "terms"),
    [
        (
            "GET",
            {"disposition": "inline", "file_name": "Grüße; ok.txt", "cache_control": "public, max-age=1"},
        ),
        ("GET", {"disposition": "attachment", "is_once": True, "expires_in_s": PRESIGN_S_MAX}),
        ("PUT", {"size_min": 0, "size_max": 0, "if_none_match": "*", "content_type": "text/plain"}),
        ("PUT", {"size_min": 5, "size_max": 5, "is_once": True}),
        ("PUT", {"size_min": 5}),
    ],
)
def test_terms_that_make_sense_are_taken(method, terms):
    request = wish(method, **terms)
    check_terms(request, None)
    if method == "GET":
        assert get_terms(request) == (
            request.disposition,
            request.file_name,
            request.cache_control,
        )


@pytest.mark.parametrize(
    ("method", "terms", "match"),
    [
        ("POST", {}, "GET and PUT"),
        ("HEAD", {}, "HEAD works where GET does"),
        ("GET", {"expires_in_s": 0.0}, "more than 0 s"),
        ("GET", {"expires_in_s": float("nan")}, "more than 0 s"),
        ("GET", {"expires_in_s": PRESIGN_S_MAX + 1}, "at most 7 d"),
        ("GET", {"size_min": 1}, "terms of a PUT"),
        ("GET", {"if_none_match": "*"}, "terms of a PUT"),
        ("GET", {"disposition": "form-data"}, "inline or as attachment"),
        ("GET", {"file_name": ""}, "file name"),
        ("GET", {"file_name": "a/b"}, "file name"),
        ("GET", {"file_name": "a\nb"}, "file name"),
        ("GET", {"file_name": "x" * 256}, "file name"),
        ("GET", {"cache_control": ""}, "cache rule"),
        ("GET", {"cache_control": "public\r\nSet-Cookie: a=b"}, "cache rule"),
        ("GET", {"cache_control": "größe"}, "cache rule"),
        ("GET", {"cache_control": "x" * 201}, "cache rule"),
        ("PUT", {"disposition": "inline"}, "terms of a GET"),
        ("PUT", {"cache_control": "public"}, "terms of a GET"),
        ("PUT", {"if_none_match": '"1-2-3"'}, "If-None-Match of a URL"),
        ("PUT", {"size_min": -1}, "least size"),
        ("PUT", {"size_min": 6, "size_max": 5}, "least size"),
    ],
)
def test_terms_that_make_none_are_refused(method, terms, match):
    with pytest.raises(BadRequest, match=match):
        check_terms(wish(method, **terms), None)


def test_names_are_checked_as_everywhere():
    with pytest.raises(BadKey):
        check_terms(wish(key=""), None)
    with pytest.raises((BadMetadata, BadRequest)):
        check_terms(wish("PUT", content_type="text/plain\r\nX: y"), None)


@pytest.mark.parametrize("is_longer", [False, True])
def test_a_key_says_how_long_its_urls_may_live(is_longer):
    request = wish(expires_in_s=3601.0 if is_longer else 3600.0)
    if not is_longer:
        check_terms(request, 3600)
    else:
        with pytest.raises(BadRequest, match="this API key works for more than 0 s and at most 1 h"):
            check_terms(request, 3600)
