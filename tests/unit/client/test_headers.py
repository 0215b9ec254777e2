from __future__ import annotations

import re
from urllib.parse import parse_qsl, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.client.headers import (
    Condition,
    PutOptions,
    check_condition,
    check_metadata,
    crc_of_etag,
    guess_content_type,
    key_size,
    put_headers,
    read_failure,
    read_put_answer,
)
from warehouse.errors import BadKey, BadMetadata, BadRequest, NoSuchNeedle, StoreError, Unavailable
from warehouse.transport.http.header_text import check_content_type
from warehouse.transport.messages import etag_of

TEXT = st.text(st.characters(exclude_categories=("Cs",)))  # type: ignore[arg-type]


def options(**changes: object) -> PutOptions:
    fields: dict[str, object] = {
        "content_type": "text/plain",
        "metadata": {},
        "if_match": None,
        "if_none_match": None,
        "names_size": 0,
    }
    return PutOptions(**{**fields, **changes})  # type: ignore[arg-type]


@given(key=TEXT, metadata=st.dictionaries(TEXT, TEXT))
def test_whatever_a_name_holds_it_travels_as_plain_ascii_and_comes_back(
    key: str, metadata: dict[str, str]
) -> None:
    headers = dict(put_headers(key, options(metadata=metadata)))
    assert all(re.fullmatch(r"[\x21-\x7e]*", value) for value in headers.values())
    assert unquote(headers["X-Warehouse-Key"]) == key
    pairs = parse_qsl(headers.get("X-Warehouse-Metadata", ""), keep_blank_values=True)
    assert dict(pairs) == metadata


def test_conditions_are_written_as_http_wants_them() -> None:
    headers = dict(put_headers("a", options(if_match="1-2-3", if_none_match="*")))
    assert headers["If-Match"] == '"1-2-3"'
    assert headers["If-None-Match"] == "*"
    assert "If-Match" not in dict(put_headers("a", options()))


@pytest.mark.parametrize("given_etag", ["1-2-3", '"1-2-3"', ' "1-2-3" '])
def test_an_etag_may_come_with_its_quotes(given_etag: str) -> None:
    assert check_condition(given_etag) == "1-2-3"
    assert check_condition("*") == "*"
    assert check_condition(None) is None


@pytest.mark.parametrize("given_etag", ["", '""', '"a", "b"', 'W/"a"', "a, b", "a\r\nX: y", "é"])
def test_what_is_no_etag_is_refused(given_etag: str) -> None:
    with pytest.raises(BadRequest):
        check_condition(given_etag)


@pytest.mark.parametrize(
    ("read", "written"),
    [('"a", "b"', '"a", "b"'), ('W/"a"', 'W/"a"'), ("", ""), ('""', '""'), ("*", "*"), ("1-2-3", "1-2-3")],
)
def test_who_has_read_a_condition_may_name_several_etags(read: str, written: str) -> None:
    checked = check_condition(Condition(read))
    assert checked == written
    assert type(checked) is str, "msgpack takes no other"


def test_keys_are_measured_in_bytes() -> None:
    assert key_size("é" * 512) == 1024
    for key in ("", "é" * 512 + "a", "a\ud800"):
        with pytest.raises(BadKey):
            key_size(key)


@pytest.mark.parametrize(
    ("key", "content_type"),
    [
        ("a.jpg", "image/jpeg"),
        ("2026/A.JPG", "image/jpeg"),
        ("notes.txt", "text/plain"),
        ("table.csv.gz", "application/gzip"),
        ("backup.tar.xz", "application/x-xz"),
        ("archive.tar", "application/x-tar"),
        ("README.md", "text/markdown"),
        ("a.yaml", "application/yaml"),
        ("a.yml", "application/yaml"),
        ("a.jsonl", "application/jsonl"),
        ("a.parquet", "application/vnd.apache.parquet"),
        ("a.7z", "application/x-7z-compressed"),
        ("a.WEBP", "image/webp"),
        ("a.avif", "image/avif"),
        ("a.wasm", "application/wasm"),
        ("a.ipynb", "application/x-ipynb+json"),
        ("no-ending", "application/octet-stream"),
        ("v1.2/no-ending", "application/octet-stream"),
        ("odd.nobody-knows", "application/octet-stream"),
        ("", "application/octet-stream"),
        (".", "application/octet-stream"),
        ("a.", "application/octet-stream"),
    ],
)
def test_the_type_is_told_from_the_ending(key: str, content_type: str) -> None:
    assert guess_content_type(key) == content_type


@given(TEXT)
def test_every_key_has_some_type_that_can_be_sent(key: str) -> None:
    check_content_type(guess_content_type(key))


@pytest.mark.parametrize("content_type", ["", "a\nb", "text/é", "x" * 256])
def test_a_type_that_cannot_stand_in_a_header_is_refused(content_type: str) -> None:
    with pytest.raises(BadMetadata):
        check_content_type(content_type)


def test_metadata_is_bounded_text() -> None:
    assert check_metadata({"a": "é"}) == 3
    for metadata in ({"a": "x" * 8192}, {"": "x"}, {"a": "\ud800"}, {"a": 1}):
        with pytest.raises(BadMetadata):
            check_metadata(metadata)  # type: ignore[arg-type]


# --- answers --------------------------------------------------------------------------------------


def test_failures_keep_their_code() -> None:
    error = read_failure(404, b'{"code":"no_such_needle","message":"volume 1 has no needle 2"}')
    assert isinstance(error, NoSuchNeedle)
    assert error.message == "volume 1 has no needle 2"


def test_a_code_of_a_later_release_stays_readable() -> None:
    error = read_failure(418, b'{"code":"teapot","message":"short and stout"}')
    assert type(error) is StoreError
    assert error.message == "teapot: short and stout"


@pytest.mark.parametrize(("status", "kind"), [(502, Unavailable), (404, BadRequest), (200, Unavailable)])
def test_answers_of_something_else_are_named_as_such(status: int, kind: type[StoreError]) -> None:
    for body in (b"<html>", b"", b"[]", b'{"message":"x"}', b"\xff"):
        error = read_failure(status, body)
        assert isinstance(error, kind)
        assert str(status) in error.message


def test_a_put_answer_must_be_one() -> None:
    assert read_put_answer(b'{"etag":"1-2-3","created_ms":5,"new":1}').created_ms == 5
    with pytest.raises(Unavailable):
        read_put_answer(b"OK")


@given(volume=st.integers(1, 2**32), needle=st.integers(1, 2**32), crc=st.integers(0, 2**32 - 1))
def test_an_etag_tells_the_crc(volume: int, needle: int, crc: int) -> None:
    assert crc_of_etag(etag_of(volume, needle, crc)) == crc
    assert crc_of_etag("nonsense") is None
    assert crc_of_etag("1-2-xyz") is None
