"""What is remembered of heads: whatever comes back is what the parser says."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.errors import BadRequest, HeadersTooLarge, LengthRequired, MethodUnknown
from warehouse.transport.http.head_memo import FIELDS_MAX, MEMO_COUNT, HeadMemo
from warehouse.transport.http.heads import HeadRules, RequestHead, parse_request_head

LIBERAL = HeadRules(takes_chunked=True, takes_utf8=True, is_literal=True)
SAME_FIELDS = b"Host: a\r\nX-A: b\r\n\r\n"
FIRST_LINES = {
    "plain": b"GET /v1/needles/1/2 HTTP/1.1",
    "another path": b"GET /other.txt HTTP/1.1",
    "a query": b"GET /v1/needles/1/2?token=x HTTP/1.1",
    "percent": b"GET /a%20b HTTP/1.1",
    "an address": b"GET http://a/b HTTP/1.1",
    "another method": b"HEAD /v1/needles/1/2 HTTP/1.1",
    "an old version": b"GET / HTTP/1.0",
    "a new version": b"GET / HTTP/2.0",
    "two blanks": b"GET  / HTTP/1.1",
    "no slash": b"GET x HTTP/1.1",
    "a fragment": b"GET /#x HTTP/1.1",
    "bytes beyond ASCII": b"GET /\xc3\xa9 HTTP/1.1",
    "a bare line feed": b"GET /\nX: y HTTP/1.1",
    "lower case": b"get / HTTP/1.1",
}


def outcome(read: Callable[[bytes, RequestHead], None], head: bytes) -> tuple:
    request = RequestHead()
    try:
        read(head, request)
    except (BadRequest, HeadersTooLarge, LengthRequired, MethodUnknown) as error:
        return (error.message,)
    names = [*RequestHead.__slots__]
    return tuple(
        (name, getattr(request, name))
        for name in names
        if name not in ("_fields", "fields", "repeated_count")
    )


def read(memo: HeadMemo, head: bytes, request: RequestHead) -> None:
    """As the server does."""
    recalled = memo.recall(head)
    if recalled is not None:
        request.recalled(*recalled)
    else:
        memo.learn(head, request)


SIGNED = HeadRules(takes_chunked=True, takes_utf8=True, is_literal=True, are_signed=True)
parse_signed = partial(parse_request_head, rules=SIGNED)


def signed(path: str, digits: str, fields: str = "", after: str = "") -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: a\r\n{fields}"
        f"Authorization: AWS4-HMAC-SHA256 Credential=K/1/r/s3/aws4_request, Signature={digits}\r\n{after}\r\n"
    ).encode()


A, B = "a1" * 32, "b2" * 32


@pytest.mark.parametrize("path", ["/b/k", "/b/other", "/b/%41", "/b?acl", "/"])
def test_a_signed_head_is_remembered_whatever_its_signature_is(path: str) -> None:
    memo = HeadMemo(SIGNED)
    read(memo, signed("/b/k", A, "X: 1\r\n"), RequestHead())
    head = signed(path, B, "X: 1\r\n")
    assert (memo.recall(head) is not None) == (path.isascii() and not set("%?") & set(path))
    assert outcome(partial(read, memo), head) == outcome(parse_signed, head)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(signed("/k", A, "X: 1\r\n"), signed("/k", B, "X: 2\r\n"), id="another field"),
        pytest.param(
            signed("/k", A, f"X: Signature={A}\r\n"),
            signed("/k", A, f"X: Signature={B}\r\n"),
            id="two places, before",
        ),
        pytest.param(
            signed("/k", A, after=f"X: Signature={A}\r\n"),
            signed("/k", A, after=f"X: Signature={B}\r\n"),
            id="two places, behind",
        ),
        pytest.param(signed("/k", A, "X: 1\r\nX: 2\r\n"), signed("/k", B, "X: 1\r\nX: 2\r\n"), id="repeated"),
        pytest.param(signed("/k", A), signed("/k", B.upper()), id="other digits"),
        pytest.param(signed("/k", A), signed("/k", B + "00"), id="longer"),
        pytest.param(signed("/k", A), signed("/k", f"{B}\r\nX: 1"), id="a field behind it"),
        pytest.param(
            f"GET /k HTTP/1.1\r\nHost: a\r\nX: Signature={A}\r\n\r\n".encode(),
            f"GET /k HTTP/1.1\r\nHost: a\r\nX: Signature={B}\r\n\r\n".encode(),
            id="of another field",
        ),
    ],
)
def test_a_signed_head_that_differs_elsewhere_is_read_anew(first: bytes, second: bytes) -> None:
    memo = HeadMemo(SIGNED)
    read(memo, first, RequestHead())
    assert memo.recall(second) is None
    assert outcome(partial(read, memo), second) == outcome(parse_signed, second)


def test_signed_heads_share_what_is_noted_of_them() -> None:
    memo = HeadMemo(SIGNED)
    first, second = RequestHead(), RequestHead()
    read(memo, signed("/k", A), first)
    assert first.fields is not None
    first.fields.note = "noted"
    read(memo, signed("/other", B), second)
    assert second.fields is first.fields
    assert first.headers[b"authorization"].endswith(A.encode())


@pytest.mark.parametrize("name", FIRST_LINES)
def test_a_head_whose_fields_are_remembered_is_read_as_if_they_were_not(name):
    memo = HeadMemo()
    read(memo, b"GET /before HTTP/1.1\r\n" + SAME_FIELDS, RequestHead())
    head = FIRST_LINES[name] + b"\r\n" + SAME_FIELDS
    assert outcome(partial(read, memo), head) == outcome(parse_request_head, head)


@pytest.mark.parametrize(
    "fields",
    [
        b"",
        b"X-A: b",
        b"Host: a\r\nHost: b",
        b"Host: a\r\nTransfer-Encoding: chunked",
        b"Host: a\r\n X: folded",
    ],
)
def test_fields_that_are_refused_are_refused_each_time(fields):
    memo = HeadMemo()
    for _ in range(3):
        with pytest.raises((BadRequest, LengthRequired)):
            read(memo, b"GET / HTTP/1.1\r\n" + fields + b"\r\n\r\n", RequestHead())


def test_a_get_with_a_body_keeps_its_length_each_time():
    memo = HeadMemo()
    for size in (3, 3, 0, 4):
        request = RequestHead()
        read(memo, b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size, request)
        assert request.content_length == size


def test_a_get_with_a_body_in_chunks_has_one_each_time():
    memo = HeadMemo(LIBERAL)
    for _ in range(3):
        request = RequestHead()
        read(memo, b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", request)
        assert request.is_chunked


def test_what_is_remembered_is_bounded():
    memo = HeadMemo()
    for number in range(3 * MEMO_COUNT):
        read(memo, b"GET / HTTP/1.1\r\nHost: a\r\nX-N: %d\r\n\r\n" % number, RequestHead())
    read(memo, b"GET / HTTP/1.1\r\nHost: a\r\nX-N: %b\r\n\r\n" % (b"x" * 10_000), RequestHead())
    assert len(memo._known) <= MEMO_COUNT
    assert max(map(len, memo._known)) < 100


def test_connections_that_are_to_close_are_remembered_as_such():
    memo = HeadMemo()
    for _ in range(2):
        request = RequestHead()
        read(memo, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", request)
        assert not request.is_keep_alive


@pytest.mark.parametrize("name", FIRST_LINES)
def test_liberal_rules_remember_as_well(name):
    memo = HeadMemo(LIBERAL)
    read(memo, b"GET /before HTTP/1.1\r\n" + SAME_FIELDS, RequestHead())
    head = FIRST_LINES[name] + b"\r\n" + SAME_FIELDS
    assert outcome(partial(read, memo), head) == outcome(partial(parse_request_head, rules=LIBERAL), head)


# --- ranges and conditions, which are others in each request -----------------------------------------


def asked(*lines: str, path: str = "/v1/needles/1/2?token=x", method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: a", *lines, "", ""]).encode("latin-1")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(("Range: bytes=0-1",), ("Range: bytes=2-30",), id="ranges"),
        pytest.param((), ("Range: bytes=2-30",), id="the first without"),
        pytest.param(("range: bytes=0-1",), (), id="the second without"),
        pytest.param(('If-None-Match: "a"',), ('if-none-match: "b", W/"c"',), id="conditions"),
        pytest.param(("Range: bytes=0-1", "X: y"), ("X: y", 'If-Range: "a"', "Range: a"), id="in any order"),
    ],
)
def test_a_head_that_differs_in_range_and_conditions_alone_is_remembered(
    first: tuple[str, ...], second: tuple[str, ...]
) -> None:
    memo = HeadMemo()
    read(memo, asked(*first), RequestHead())
    head = asked(*second, path="/v1/needles/3/4?token=y", method="HEAD")
    assert memo.recall(head) is not None
    assert outcome(partial(read, memo), head) == outcome(parse_request_head, head)


def test_heads_with_ranges_share_what_is_noted_of_them() -> None:
    memo = HeadMemo()
    request = RequestHead()
    read(memo, asked("Range: bytes=0-1"), request)
    assert request.fields is not None
    request.fields.note = "known"
    recalled = memo.recall(asked("Range: bytes=5-6"))
    assert recalled is not None
    assert (recalled[3].note, recalled[4][b"range"]) == ("known", b"bytes=5-6")
    assert b"range" not in recalled[3].headers


def test_fields_near_the_greatest_number_are_not_remembered() -> None:
    memo = HeadMemo()
    many = [f"X-{number}: a" for number in range(FIELDS_MAX)]
    read(memo, asked(*many), RequestHead())
    assert memo.recall(asked(*many)) is None


LINES = st.sampled_from(
    [
        *("Range: bytes=0-1", "range: bytes=2-3", "Range:bytes=4-5", "Range:\tx", "Range : x", "Range: "),
        *('If-None-Match: "a"', 'If-None-Match: "b"', "If-None-Match:  two", "If-Match: *", "If-Range: x "),
        *("If-Range: \xe9", " folded", "\tfolded", "X: a\nRange: x", "X: a\rRange: x", "XRange: bytes=0-1"),
        *("X: a", "X: b", "Host: b", "Content-Length: 0", "Content-Length: 5", "Connection: close", "", ":"),
        *("Authorization: Bearer a", "Authorization: Bearer b", "Expect: 100-continue", "If: x"),
    ]
)
HEADS = st.tuples(
    st.sampled_from(["GET", "HEAD", "PUT"]),
    st.sampled_from(["/a", "/a?b", "/a?b=c&d", "/a?%", "/a#b", "/a?b?c"]),
    st.lists(LINES, max_size=4),
)


@given(st.lists(HEADS, min_size=2, max_size=6))
def test_whatever_came_before_a_head_is_read_as_the_parser_reads_it(
    heads: list[tuple[str, str, list[str]]],
) -> None:
    memo = HeadMemo()
    for method, path, lines in heads:
        head = asked(*lines, path=path, method=method)
        head = head[: head.index(b"\r\n\r\n") + 4]  # as a connection cuts it
        assert outcome(partial(read, memo), head) == outcome(parse_request_head, head)
