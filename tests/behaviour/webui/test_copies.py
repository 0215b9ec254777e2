"""Copies and moves to where the originals are: nothing is copied twice, and no folder goes into itself."""

from __future__ import annotations

import json
import time

import pytest

import warehouse
from console_http import PATIENCE_S, Answer, Visitor
from console_kit import ConsoleStore

MANY = 1_200  # more than a job asks for at once


def ask_for(root: Visitor, bucket: str, action: str, selection: object, **fields: str) -> Answer:
    words = {"selection": json.dumps(selection), "to": bucket, **fields}
    return root.post(f"/buckets/{bucket}/selection/{action}/go", words, {"Accept": "application/json"})


def names(console: ConsoleStore, bucket: str) -> list[str]:
    async def find(store: warehouse.Store) -> list[str]:
        return [entry.key async for entry in store.bucket(bucket).list() if hasattr(entry, "key")]

    return console.ask(find)


def wait_until_done(root: Visitor) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while "Cancel: " in root.get("/tasks").text:
        assert time.monotonic() < deadline, "the work goes on and on"
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("action", "fields"),
    [("copy", {"folder": "own/in"}), ("move", {"folder": "own/in"}), ("rename", {"name": "own/in"})],
)
def test_a_folder_goes_not_into_itself(
    console: ConsoleStore, root: Visitor, action: str, fields: dict[str, str]
) -> None:
    console.put("folders", {"own/1": b"1", "own/2": b"2"})
    answer = ask_for(root, "folders", action, {"prefixes": ["own/"]}, **fields)
    assert (answer.status, answer.code) == (400, "bad_request")
    assert names(console, "folders") == ["own/1", "own/2"]


@pytest.mark.parametrize("action", ["copy", "move"])
def test_all_that_match_go_once_into_a_folder_among_them(
    console: ConsoleStore, root: Visitor, action: str
) -> None:
    bucket = f"all-{action}"
    console.put(bucket, {f"{number:04}": b"x" for number in range(MANY)} | {"to/before": b"y"})
    assert ask_for(root, bucket, action, {"query": {}}, folder="to").status == 303
    wait_until_done(root)
    found = names(console, bucket)
    expected = {f"to/{number:04}" for number in range(MANY)} | {"to/before"}
    if action == "copy":
        expected |= {f"{number:04}" for number in range(MANY)}
    assert {*found} == expected
