"""Lines of the access log: one JSON object each, bounded, whatever a client calls itself."""

from __future__ import annotations

import json

import pytest

from warehouse.gateway.records import AGENT_MAX, BUCKET_MAX, KEY_ID_MAX, KEY_MAX, Record, line_of


def record(**fields: str) -> Record:
    return Record(1_764_522_000.25, 5.0, request_id="A1", operation="PutObject", status=200, **fields)  # type: ignore[arg-type]


def test_a_line_says_what_happened() -> None:
    one = record(
        method="PUT", bucket="photos", key="a/b", key_id="WH7", address="192.0.2.7:1", agent="rclone"
    )
    one.bytes_in, one.bytes_out, one.duration_s = 5, 7, 0.0123456
    assert json.loads(line_of(one)) == {
        "time": "2025-11-30T17:00:00.250Z",
        "request_id": "A1",
        "address": "192.0.2.7:1",
        "key_id": "WH7",
        "method": "PUT",
        "operation": "PutObject",
        "bucket": "photos",
        "key": "a/b",
        "status": 200,
        "code": "",
        "bytes_in": 5,
        "bytes_out": 7,
        "duration_ms": 12.346,
        "user_agent": "rclone",
    }


@pytest.mark.parametrize(
    "text", ["a\nb\r\n", '"}{"status": 500, "x": "', "\x00\x1b[31m", "\u2028\u202e", "ünïcödé/😀", "\\"]
)
def test_names_stay_inside_their_field(text: str) -> None:
    line = line_of(record(bucket=text, key=text, key_id=text, agent=text, method=text[:16]))
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert not any(byte < 0x20 for byte in line[:-1])
    read = json.loads(line)
    assert [read[name] for name in ("bucket", "key", "key_id", "user_agent")] == [text] * 4


def test_what_clients_choose_is_cut() -> None:
    read = json.loads(line_of(record(bucket="b" * 9999, key="k" * 9999, key_id="i" * 9999, agent="a" * 9999)))
    assert len(read["bucket"]) == BUCKET_MAX
    assert len(read["key"]) == KEY_MAX
    assert len(read["key_id"]) == KEY_ID_MAX
    assert len(read["user_agent"]) == AGENT_MAX
