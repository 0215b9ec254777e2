"""Logging: fields are shown, secrets are not, whichever way they try to get out."""

import io
import json
import logging
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.auth.data_tokens import DataClaims, sign_data_token
from warehouse.auth.keys import generate_api_key
from warehouse.conf.logging import redact_text, set_up_logging
from warehouse.conf.profile import Profile

TOKEN = sign_data_token(
    DataClaims(
        operation="get",
        audience="disk",
        volume_id=1,
        expires_at_s=2_000_000_000,
        bucket_id=1,
        bucket="photos",
    ),
    key_id="k1",
    key=b"k" * 32,
)
SECRET = "canary-5f1e"
PEM = "-----BEGIN PRIVATE KEY-----\ncanary-5f1e\n-----END PRIVATE KEY-----"


@pytest.fixture(params=["text", "json"])
def lines(request):
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = io.StringIO()
    set_up_logging("debug", request.param, actor="volume", stream=stream)
    yield stream.getvalue
    logging.captureWarnings(False)
    root.handlers[:], _ = before
    root.setLevel(before[1])


@pytest.fixture
def json_lines():
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = io.StringIO()
    set_up_logging("info", "json", actor="master", stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logging.captureWarnings(False)
    root.handlers[:], _ = before
    root.setLevel(before[1])


log = logging.getLogger("actors.test")


def test_an_event_and_its_fields_are_shown(lines):
    log.warning("volume sealed", extra={"volume_id": 7, "cause": "fsync"})
    for part in ("volume sealed", "volume_id", "7", "cause", "fsync", "volume", "actors.test", "warning"):
        assert part in lines()
    assert lines().count("\n") == 1


def test_a_json_line_is_an_object_with_the_documented_fields(json_lines):
    log.info("volume sealed", extra={"volume_id": 7, "sizes": [1, 2], "is_open": False, "cause": None})
    (line,) = json_lines()
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "volume sealed",
        "level": "info",
        "logger": "actors.test",
        "actor": "master",
        "volume_id": 7,
        "sizes": [1, 2],
        "is_open": False,
        "cause": None,
    }


def test_the_level_is_kept(json_lines):
    log.debug("detail")
    log.info("change")
    assert [line["event"] for line in json_lines()] == ["change"]


def test_a_second_set_up_replaces_the_first(json_lines):
    stream = io.StringIO()
    set_up_logging("info", "json", stream=stream)
    log.info("once")
    assert json_lines() == []
    assert stream.getvalue().count("once") == 1


@pytest.mark.parametrize(
    "extra",
    [
        {"secret": SECRET},
        {"join_secret": SECRET},
        {"access_token": SECRET},
        {"Authorization": SECRET},
        {"client-password": SECRET},
        {"session_cookie": SECRET},
        {"token_keys": {"k1": SECRET}},
        {"headers": {"authorization": SECRET, "cookie": [SECRET]}},
        {"nested": {"deep": [{"secret": SECRET}]}},
        {"request": f"GET /v1/needles/1/2?token={SECRET}&x=1"},
        {"header": f"Authorization: Bearer {SECRET}"},
        {"header": f"bearer {SECRET}".encode()},
        {"cause": ValueError(f"secret={SECRET}")},
        {"text": f"Login(key_id='WHA', secret='{SECRET}')"},
        {"text": f'{{"token": "{SECRET}"}}'},
        {"pem": PEM},
        {"text": PEM},
    ],
    ids=str,
)
def test_a_secret_in_a_field_is_blanked(lines, extra):
    log.warning("something happened", extra=extra)
    assert "something happened" in lines()
    assert "redacted" in lines()
    assert SECRET not in lines()


def test_tokens_are_blanked_wherever_they_stand(lines):
    log.warning(
        f"refused {TOKEN}", extra={"url": f"http://a/?token={TOKEN}", "parts": [TOKEN], "raw": TOKEN.encode()}
    )
    log.warning("refused %s", TOKEN)
    try:
        raise ValueError(f"bad token in {TOKEN!r}")
    except ValueError:
        log.exception("failed")
    for segment in TOKEN.split("."):
        assert segment not in lines()
    assert "ValueError" in lines()


def test_a_traceback_shows_no_local_variables(lines):
    def fail(innocent_name):
        raise RuntimeError("the call failed")

    try:
        fail(SECRET)
    except RuntimeError:
        log.exception("failed")
    assert "the call failed" in lines()
    assert "in fail" in lines().replace("\\n", "\n")
    assert SECRET not in lines()


def test_objects_that_hold_secrets_show_none(lines):
    key = generate_api_key()
    profile = Profile(master="tcp://a:1", server_key="x" * 40, key_id=key.key_id, secret=key.secret)
    log.info("made", extra={"key": key, "profile": profile})
    assert key.key_id in lines()
    assert key.secret not in lines()


def test_a_library_that_writes_a_secret_into_its_message_is_blanked_too(lines):
    logging.getLogger("some.library").warning("connecting with password=%s to %s", SECRET, "host")
    assert "host" in lines()
    assert SECRET not in lines()


def test_warnings_become_log_lines(lines):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(f"old call with token={SECRET}", stacklevel=1)
    assert "old call" in lines()
    assert SECRET not in lines()


def test_a_line_break_in_a_field_cannot_forge_a_line(json_lines):
    log.info("put", extra={"key": 'a\n{"event": "forged"}'})
    assert [line["event"] for line in json_lines()] == ["put"]


def test_nesting_without_end_is_cut(json_lines):
    endless = []
    endless.append(endless)
    log.info("loop", extra={"value": endless})
    assert json_lines()[0]["event"] == "loop"


def test_ordinary_words_are_left_alone():
    for text in (
        "volume 7 sealed: fsync",
        "key photos/token.txt",
        "https://a.example/b?c=d",
        "the secret garden",
    ):
        assert redact_text(text) == text


@given(st.text())
def test_any_text_is_redacted_without_an_error(text):
    assert SECRET not in redact_text(f"{text}\n?token={SECRET}")
