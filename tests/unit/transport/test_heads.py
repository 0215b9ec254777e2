"""Request and answer heads, byte by byte and without a socket.

What a whole server does with a malformed head is in `tests/behaviour/transport/test_http_server.py`; here stand
the values that are read from good ones, and the writing.
"""

from __future__ import annotations

import pytest

from warehouse.errors import BadRequest, HeadersTooLarge, LengthRequired
from warehouse.transport.http.heads import (
    HEADER_COUNT_MAX,
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
