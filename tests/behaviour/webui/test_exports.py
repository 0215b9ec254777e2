"""Exports of events and of the audit log: streamed, whole, and for who may read them."""

from __future__ import annotations

import json

import pytest

from console_http import Visitor
from console_kit import ConsoleStore

JSON = {"Accept": "application/json"}


def test_the_audit_log_is_a_stream_of_lines(root: Visitor) -> None:
    answer = root.get("/activity/audit.jsonl?since=all&action=bucket_created")
    assert answer.status == 200
    assert "content-length" not in answer.headers
    assert [json.loads(line)["target"] for line in answer.text.splitlines()] == ["wh://photos"]
    table = root.get("/activity/audit.csv?since=all&action=bucket_created")
    assert table.headers["content-type"] == "text/csv; charset=utf-8"
    assert [line.split(",")[1] for line in table.text.splitlines()] == ["action", "bucket_created"]


@pytest.mark.parametrize("log", ["audit", "events"])
def test_a_form_that_is_none_is_refused_before_anything_is_read(root: Visitor, log: str) -> None:
    assert root.get(f"/activity/{log}.xlsx", JSON).code == "bad_request"


def test_the_head_of_an_export_has_no_body(root: Visitor) -> None:
    answer = root.ask("HEAD", "/activity/audit.csv")
    assert (answer.status, answer.body) == (200, b"")


def test_a_key_without_the_right_is_told_so_before_the_answer_begins(console: ConsoleStore) -> None:
    reader = Visitor(console.url).sign_in(console.make_key("reads no log", preset="reader"))
    assert reader.get("/activity/audit.csv", JSON).status == 403
