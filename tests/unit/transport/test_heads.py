"""Request and answer heads, byte by byte and without a socket.

What a whole server does with a malformed head is in `tests/behaviour/transport/test_http_server.py`; here stand
the values that are read from good ones, and the writing.
"""

from __future__ import annotations

from functools import partial

import pytest

from warehouse.errors import BadRequest, HeadersTooLarge, LengthRequired, MethodUnknown
from warehouse.transport.http.heads import (
    HEADER_COUNT_MAX,
    MEMO_COUNT,
    HeadMemo,
    HeadRules,
    RequestHead,
    header_lines,
    parse_answer_head,
    parse_request_head,
    status_line,
)


def parse(*lines: bytes) -> RequestHead:
    request = RequestHead()
    parse_request_head(b"\r\n".join([*lines, b"", b""]), request)
    return request


def test_a_request_head_is_read_into_its_parts():
    request = parse(
        b"PUT /v1/needles/1/2?token=x HTTP/1.1",
        b"Host: a:7410",
        b"Content-Length: 42",
        b"EXPECT: 100-Continue",
        b"X-Warehouse-Key: caf%C3%A9 ",
    )
    assert (request.method, request.path, request.query) == (b"PUT", b"/v1/needles/1/2", b"token=x")
    assert (request.content_length, request.expects_continue) == (42, True)
    assert (request.is_http_11, request.is_keep_alive) == (True, True)
    assert request.headers == {
        b"host": b"a:7410",
        b"content-length": b"42",
        b"expect": b"100-Continue",
        b"x-warehouse-key": b"caf%C3%A9",
    }


def test_nothing_is_expected_without_a_body_or_by_an_old_client():
    assert not parse(b"PUT / HTTP/1.1", b"Host: a", b"Expect: 100-continue").expects_continue
    old = parse(b"PUT / HTTP/1.0", b"Content-Length: 1", b"Expect: 100-continue")
    assert not old.expects_continue
    assert not old.is_http_11


@pytest.mark.parametrize(
    "value", [b"100-continue", b"100-Continue", b"100-continue, 100-continue", b", 100-continue"]
)
def test_the_known_expectation_may_stand_in_a_list(value):
    assert parse(b"PUT / HTTP/1.1", b"Host: a", b"Content-Length: 1", b"Expect: " + value).expects_continue


@pytest.mark.parametrize(
    "host", [b"", b"a", b"a.b:80", b"127.0.0.1:7410", b"[::1]:80", b"[fe80::1%25eth0]", b"a_b-c", b":80"]
)
def test_a_host_is_a_name_or_an_address(host):
    parse(b"GET / HTTP/1.1", b"Host: " + host)
    if host:
        assert parse(b"GET http://" + host + b"/p HTTP/1.1", b"Host: a").path == b"/p"


@pytest.mark.parametrize(
    "host", [b"a b", b"a/b", b"u@a", b"a, b", b"a:b", b"[::1", b"a?b", b"a\\b", b"a:80:80"]
)
def test_what_is_no_host_is_refused(host):
    with pytest.raises(BadRequest):
        parse(b"GET / HTTP/1.1", b"Host: " + host)
    with pytest.raises(BadRequest):
        parse(b"GET / HTTP/1.0", b"Host: " + host)


@pytest.mark.parametrize("target", [b"http://u@a/p", b"http://u:p@a/p", b"http:///p", b"http://a:b/p"])
def test_an_absolute_target_names_a_host_and_nobody(target):
    with pytest.raises(BadRequest):
        parse(b"GET " + target + b" HTTP/1.1", b"Host: a")


def test_letters_that_need_no_encoding_mean_the_same_in_a_path():
    request = parse(b"GET /v%31/%6eeedles/1%2f2/%00%zz%?a=%31 HTTP/1.1", b"Host: a")
    assert (request.path, request.query) == (b"/v1/needles/1%2f2/%00%zz%", b"a=%31")


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"PUT", b"POST", b"DELETE", b"OPTIONS", b"PATCH"])
def test_methods_come_through(method):
    assert parse(method + b" / HTTP/1.1", b"Host: a").method == method


def test_the_number_of_headers_is_bounded_repeated_ones_included():
    lines = [b"X-A: b"] * (HEADER_COUNT_MAX - 1)
    assert parse(b"GET / HTTP/1.1", b"Host: a", *lines).headers[b"x-a"].count(b"b") == len(lines)
    with pytest.raises(HeadersTooLarge):
        parse(b"GET / HTTP/1.1", b"Host: a", b"X-B: c", *lines)


def test_a_refusal_says_what_was_wrong():
    with pytest.raises(BadRequest, match="authorization must come once"):
        parse(b"GET / HTTP/1.1", b"Host: a", b"Authorization: b", b"authorization: c")
    with pytest.raises(BadRequest, match="Host"):
        parse(b"GET / HTTP/1.1")
    with pytest.raises(LengthRequired, match="Content-Length"):
        parse(b"PUT / HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked")


def test_an_answer_head_is_read_into_its_parts():
    answer = parse_answer_head(b'HTTP/1.1 206 Partial Content\r\nETag: "x" \r\nContent-Length: 7\r\n\r\n')
    assert (answer.status, answer.content_length, answer.is_keep_alive) == (206, 7, True)
    assert answer.headers == {"etag": '"x"', "content-length": "7"}


@pytest.mark.parametrize(
    ("first", "connection", "is_kept"),
    [
        (b"HTTP/1.1 200 OK", b"", True),
        (b"HTTP/1.1 200 OK", b"Connection: close\r\n", False),
        (b"HTTP/1.0 200 OK", b"", False),
        (b"HTTP/1.0 200 OK", b"Connection: keep-alive\r\n", True),
    ],
)
def test_an_answer_says_whether_its_connection_lives_on(first, connection, is_kept):
    assert (
        parse_answer_head(first + b"\r\n" + connection + b"Content-Length: 0\r\n\r\n").is_keep_alive
        is is_kept
    )


def test_an_answer_without_a_length_is_told_from_an_empty_one():
    assert parse_answer_head(b"HTTP/1.1 200 OK\r\n\r\n").content_length is None
    assert parse_answer_head(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").content_length == 0


def test_headers_are_written_one_a_line():
    assert header_lines([]) == b""
    assert header_lines([(b"A", b"b"), (b"C", b"d, e")]) == b"A: b\r\nC: d, e\r\n"


@pytest.mark.parametrize("bad", [b"\r", b"\n", b"\0", b"\r\n"])
@pytest.mark.parametrize("position", [0, 1])
def test_a_header_that_would_forge_another_is_not_written(bad, position):
    header = [b"Name", b"value"]
    header[position] += bad
    with pytest.raises(ValueError, match="line break"):
        header_lines([(b"A", b"b"), (header[0], header[1])])


def test_status_lines_name_known_reasons_and_carry_unknown_numbers():
    assert status_line(404) == b"HTTP/1.1 404 Not Found\r\n"
    assert status_line(799) == b"HTTP/1.1 799 Status\r\n"


# --- what is remembered of heads -------------------------------------------------------------------

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


def outcome(read, head: bytes) -> tuple:
    request = RequestHead()
    try:
        read(head, request)
    except (BadRequest, MethodUnknown) as error:
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


# --- what some servers take --------------------------------------------------------------------------

LIBERAL = HeadRules(takes_chunked=True, takes_utf8=True, is_literal=True)


def parse_liberally(*lines: bytes) -> RequestHead:
    request = RequestHead()
    parse_request_head(b"\r\n".join([*lines, b"", b""]), request, LIBERAL)
    return request


def test_chunked_coding_is_taken_where_the_rules_say_so():
    request = parse_liberally(b"PUT / HTTP/1.1", b"Host: a", b"Transfer-Encoding: Chunked")
    assert (request.is_chunked, request.content_length) == (True, 0)
    assert not parse_liberally(b"PUT / HTTP/1.1", b"Host: a", b"Content-Length: 3").is_chunked


def test_a_body_in_chunks_may_be_waited_for():
    lines = b"PUT / HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked", b"Expect: 100-continue"
    assert parse_liberally(*lines).expects_continue


BAD_CODINGS = {
    "a length before it": [b"Content-Length: 3", b"Transfer-Encoding: chunked"],
    "a length after it": [b"Transfer-Encoding: chunked", b"Content-Length: 3"],
    "a length of 0": [b"Transfer-Encoding: chunked", b"Content-Length: 0"],
    "another coding first": [b"Transfer-Encoding: gzip, chunked"],
    "identity first": [b"Transfer-Encoding: identity, chunked"],
    "identity last": [b"Transfer-Encoding: chunked, identity"],
    "identity alone": [b"Transfer-Encoding: identity"],
    "another coding alone": [b"Transfer-Encoding: gzip"],
    "twice in one line": [b"Transfer-Encoding: chunked, chunked"],
    "twice in two lines": [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
    "two codings in two lines": [b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked"],
    "an empty member first": [b"Transfer-Encoding: , chunked"],
    "an empty member last": [b"Transfer-Encoding: chunked,"],
    "nothing": [b"Transfer-Encoding:"],
    "a parameter": [b"Transfer-Encoding: chunked;q=1"],
    "in quotes": [b'Transfer-Encoding: "chunked"'],
    "a letter more": [b"Transfer-Encoding: xchunked"],
    "a letter less": [b"Transfer-Encoding: chunke"],
    "a byte above ASCII": [b"Transfer-Encoding: chunked\xa0"],
    "a vertical tab before": [b"Transfer-Encoding: \x0bchunked"],
    "a vertical tab behind": [b"Transfer-Encoding: chunked\x0b"],
    "a form feed behind": [b"Transfer-Encoding: chunked\x0c"],
    "NUL behind": [b"Transfer-Encoding: chunked\0"],
    "a blank before the colon": [b"Transfer-Encoding : chunked"],
    "a tab before the colon": [b"Transfer-Encoding\t: chunked"],
    "folded": [b"Transfer-Encoding:", b" chunked"],
    "folded behind another header": [b"X-A: b", b" Transfer-Encoding: chunked"],
    "a bare line feed before": [b"X-A: b\nTransfer-Encoding: chunked"],
    "a bare carriage return before": [b"X-A: b\rTransfer-Encoding: chunked"],
}


@pytest.mark.parametrize("method", [b"PUT", b"GET"])
@pytest.mark.parametrize("name", BAD_CODINGS)
def test_no_other_coding_is_taken_in_any_spelling(name, method):
    with pytest.raises(BadRequest):
        parse_liberally(method + b" / HTTP/1.1", b"Host: a", *BAD_CODINGS[name])


def test_an_old_client_knows_no_codings():
    with pytest.raises(BadRequest, match=r"HTTP/1\.0"):
        parse_liberally(b"PUT / HTTP/1.0", b"Host: a", b"Transfer-Encoding: chunked")


def test_a_get_with_a_body_in_chunks_has_one_each_time():
    memo = HeadMemo(LIBERAL)
    for _ in range(3):
        request = RequestHead()
        read(memo, b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", request)
        assert request.is_chunked


@pytest.mark.parametrize("method", [b"GET", b"PUT", b"DELETE"])
@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
@pytest.mark.parametrize("target", ["/é", "/a/日本?b=ü", "/😀%C3%A9", "/\u0080"])
def test_utf8_in_a_target_comes_through_as_it_is(target, version, method):
    sent = target.encode()
    request = parse_liberally(b"%b %b %b" % (method, sent, version), b"Host: a", b"X-A: \xff")
    assert request.target == sent
    assert (request.path, request.query) == (sent.partition(b"?")[0], sent.partition(b"?")[2])
    assert request.headers[b"x-a"] == b"\xff"
    with pytest.raises(BadRequest):
        parse(b"%b %b %b" % (method, sent, version), b"Host: a")


@pytest.mark.parametrize(
    "line",
    [
        b"GET /\xff HTTP/1.1",
        b"GET /\xc3 HTTP/1.1",
        b"GET /\xe9 HTTP/1.1",
        b"GET /\xed\xa0\x80 HTTP/1.1",
        b"GET \xc3\xa9 HTTP/1.1",
        b"GET /\xc3\xa9 b HTTP/1.1",
        b"GET /\xc3\xa9\0 HTTP/1.1",
        b"GET /\xc3\xa9\x01 HTTP/1.1",
        b"GET /\xc3\xa9\nHTTP/1.1",
        b"GET /\xc3\xa9 HTTP/1.\xc2\xb1",
        b"GET /\xc3\xa9 HTTP/1.2",
        b"GET  /\xc3\xa9 HTTP/1.1",
        b"GET  /\xc3\xa9 HTTP/1.0",
        b"GET /\xc3\xa9  HTTP/1.1",
        b"GET /\xc3\xa9#a HTTP/1.1",
        b"G\xc3\xa9T / HTTP/1.1",
        b"\xc3\xa9",
        b"\xc3\xa9 / HTTP/1.1",
    ],
)
def test_what_is_no_utf8_or_no_request_line_is_refused(line):
    with pytest.raises(BadRequest):
        parse_liberally(line, b"Host: a")
    with pytest.raises(BadRequest):
        parse_liberally(line, b"Host: a", b"X-A: b c d")


def test_utf8_outside_of_the_target_is_as_it_was():
    with pytest.raises(BadRequest):
        parse_liberally(b"GET / HTTP/1.1", b"Host: a", "X-é: b".encode())
    with pytest.raises(BadRequest):
        parse_liberally(b"GET / HTTP/1.1", "Host: é".encode())


def test_a_literal_path_is_what_was_sent():
    request = parse_liberally(b"GET /v%31/%6e//a/../b/%2F%zz%?a=%31&+ HTTP/1.1", b"Host: a")
    assert (request.path, request.query) == (b"/v%31/%6e//a/../b/%2F%zz%", b"a=%31&+")


def test_an_address_names_the_host_that_the_header_names():
    request = parse_liberally(b"GET http://Bucket.a:80/%31 HTTP/1.1", b"Host: bucket.A:80")
    assert (request.path, request.headers[b"host"]) == (b"/%31", b"bucket.A:80")
    with pytest.raises(BadRequest, match="two hosts"):
        parse_liberally(b"GET http://a/p HTTP/1.1", b"Host: b")
    assert parse_liberally(b"GET http://a/p HTTP/1.0").path == b"/p"


@pytest.mark.parametrize("name", FIRST_LINES)
def test_liberal_rules_remember_as_well(name):
    memo = HeadMemo(LIBERAL)
    read(memo, b"GET /before HTTP/1.1\r\n" + SAME_FIELDS, RequestHead())
    head = FIRST_LINES[name] + b"\r\n" + SAME_FIELDS
    assert outcome(partial(read, memo), head) == outcome(partial(parse_request_head, rules=LIBERAL), head)
