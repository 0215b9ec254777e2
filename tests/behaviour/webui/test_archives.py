"""Archives: how many are made at once, and what is too much for one."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlencode

import pytest

from console_http import PATIENCE_S, Visitor
from console_kit import ConsoleStore
from warehouse.webui.console import ARCHIVES_OF_KEY_MAX

JSON = {"Accept": "application/json"}
ALL = {"prefix": ""}


@pytest.fixture(scope="module")
def large(console: ConsoleStore) -> str:
    """A bucket whose archive is larger than what connections hold on the way."""
    console.put("large", {f"{number}.bin": os.urandom(8 * 1024 * 1024) for number in range(6)})
    return "large"


@contextmanager
def unread(visitor: Visitor, bucket: str) -> Iterator[int]:
    """An archive that somebody asks for and does not read; the status of its answer."""
    body = urlencode({"csrf": visitor.csrf, **ALL}).encode()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        connection.settimeout(PATIENCE_S)
        connection.connect((visitor.connect().host, visitor.connect().port))
        lines = [
            f"POST /buckets/{bucket}/zip HTTP/1.1",
            f"Host: {visitor.origin.partition('//')[2]}",
            f"Origin: {visitor.origin}",
            f"Cookie: {visitor.cookie}",
            "Accept: application/json",
            "Content-Type: application/x-www-form-urlencoded",
            f"Content-Length: {len(body)}",
        ]
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        yield int(connection.recv(12).split()[1])


def test_one_key_makes_some_archives_at_once_and_leaves_room_for_others(
    console: ConsoleStore, root: Visitor, large: str
) -> None:
    other = Visitor(console.url).sign_in(console.make_key("another", preset="reader"))
    with ExitStack() as opened:
        statuses = [opened.enter_context(unread(root, large)) for _ in range(ARCHIVES_OF_KEY_MAX)]
        assert set(statuses) == {200}
        refused = root.post(f"/buckets/{large}/zip", ALL, JSON)
        assert (refused.status, refused.code) == (503, "overloaded")
        assert other.post("/buckets/photos/zip", ALL).status == 200
    deadline = time.monotonic() + PATIENCE_S  # whoever goes away gives their turn back
    while root.post("/buckets/photos/zip", ALL).status != 200:
        assert time.monotonic() < deadline


def test_refusals_and_whole_archives_give_their_turns_back(root: Visitor) -> None:
    for _ in range(2 * ARCHIVES_OF_KEY_MAX):
        assert root.post("/buckets/photos/zip", {"prefix": "nothing/"}, JSON).status == 400
        assert root.post("/buckets/none-such/zip", ALL, JSON).status == 404
        assert root.post("/buckets/photos/zip", ALL).status == 200


def test_names_that_are_too_long_together_are_refused_before_anything_is_sent(
    console: ConsoleStore, root: Visitor
) -> None:
    """Five hundred folders in a key are as many texts to remember."""
    console.put("deep", {f"{number}/" + "a/" * 500 + "x": b"" for number in range(300)})
    for chosen in (ALL, {"item": "p::"}):
        refused = root.post("/buckets/deep/zip", chosen, JSON)
        assert (refused.status, refused.code) == (400, "bad_request")
        assert b"too long together" in refused.body
    assert root.post("/buckets/deep/zip", {"prefix": "1/"}).status == 200
