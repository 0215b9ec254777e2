"""Uploads through the console: a chunk is stored as it came, and its sender can tell."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack, closing
from typing import Any

from crc32c import crc32c

from console_http import PATIENCE_S, Answer, Visitor
from console_kit import ConsoleStore
from warehouse.webui.console import CHUNKS_OF_KEY_MAX

BUCKET = "/buckets/photos/uploads"


def asked(visitor: Visitor, path: str, body: dict[str, Any]) -> dict[str, Any]:
    headers = {"Content-Type": "application/json", "Origin": visitor.origin, "X-CSRF-Token": visitor.csrf}
    answer = visitor.ask("POST", BUCKET + path, headers, json.dumps(body))
    assert answer.status == 200, answer.text
    result: dict[str, Any] = json.loads(answer.body)["results"][0]
    return result


def put(visitor: Visitor, upload_id: str, index: int, size: int, body: bytes) -> Answer:
    headers = {"Origin": visitor.origin, "X-CSRF-Token": visitor.csrf, "Accept": "application/json"}
    return visitor.ask("PUT", f"{BUCKET}/{upload_id}/{index}?size={size}&chunk_size=4", headers, body)


def test_the_console_tells_the_checksum_of_each_chunk_that_it_has_stored(
    console: ConsoleStore, root: Visitor
) -> None:
    begun = asked(root, "", {"files": [{"key": "chunks", "size": 6, "chunk_size": 4}]})
    for index, body in enumerate((b"0123", b"45")):
        answer = put(root, begun["id"], index, 6, body)
        assert (answer.status, json.loads(answer.body)) == (201, {"crc32c": f"{crc32c(body):08x}"})
    stored = asked(root, "/finish", {"uploads": [{"id": begun["id"], "size": 6, "chunk_size": 4}]})
    assert stored["size"] == 6

    async def get(store: Any) -> bytes:
        found: bytes = await store.bucket("photos").get("chunks")
        return found

    assert console.ask(get) == b"012345"


def test_of_two_cookies_a_chunk_takes_the_one_that_pages_take(console: ConsoleStore, root: Visitor) -> None:
    """A neighbour on the same host has set one of the same name: it is not for one route more than for others."""
    begun = asked(root, "", {"files": [{"key": "two", "size": 4, "chunk_size": 4}]})
    twice = Visitor(root.url, cookie=f'odd[]="1; {root.cookie}; warehouse_session=other', csrf=root.csrf)
    assert twice.get("/buckets").status == 200
    assert put(twice, begun["id"], 0, 4, b"0123").status == 201


def test_a_chunk_of_another_size_is_refused_and_the_upload_goes_on(root: Visitor) -> None:
    begun = asked(root, "", {"files": [{"key": "short", "size": 4, "chunk_size": 4}]})
    assert (put(root, begun["id"], 0, 4, b"012").status, put(root, begun["id"], 0, 4, b"0123").status) == (
        400,
        201,
    )


def test_one_key_sends_some_chunks_at_once_and_leaves_room_for_others(
    console: ConsoleStore, root: Visitor
) -> None:
    other = Visitor(console.url).sign_in(console.make_key("sends too", preset="writer"))
    count = CHUNKS_OF_KEY_MAX + 1
    begun = asked(root, "", {"files": [{"key": "slow", "size": 4 * count, "chunk_size": 4}]})
    theirs = asked(other, "", {"files": [{"key": "quick", "size": 4, "chunk_size": 4}]})
    deadline = time.monotonic() + PATIENCE_S
    with ExitStack() as opened:
        for index in range(CHUNKS_OF_KEY_MAX):
            slow = opened.enter_context(closing(root.connect()))
            slow.putrequest("PUT", f"{BUCKET}/{begun['id']}/{index}?size={4 * count}&chunk_size=4")
            for name, value in (
                ("Cookie", root.cookie),
                ("Origin", root.origin),
                ("X-CSRF-Token", root.csrf),
                ("Content-Length", "4"),
            ):
                slow.putheader(name, value)
            slow.endheaders(b"0")  # and never the rest
        while (last := put(root, begun["id"], count - 1, 4 * count, b"0123")).status == 201:
            assert time.monotonic() < deadline
        assert (last.status, last.code) == (503, "overloaded")
        assert put(other, theirs["id"], 0, 4, b"0123").status == 201
    while put(root, begun["id"], count - 1, 4 * count, b"0123").status != 201:
        assert time.monotonic() < deadline


def test_a_key_that_may_only_upload_leaves_no_refusals_in_the_audit_log(
    console: ConsoleStore, root: Visitor
) -> None:
    """Nobody asks in its name whether there is such a file already: the store would refuse, and write it down."""
    profile = console.make_key("leaves no trace", preset="upload-only")
    sender = Visitor(console.url).sign_in(profile)
    for code in (None, "precondition_failed"):  # the second time the store says that there is one
        begun = asked(sender, "", {"files": [{"key": "quiet", "size": 4, "chunk_size": 4}]})
        assert put(sender, begun["id"], 0, 4, b"0123").status == 201
        stored = asked(sender, "/finish", {"uploads": [{"id": begun["id"], "size": 4, "chunk_size": 4}]})
        assert stored.get("code") == code
    lines = root.get(f"/activity/audit?key={profile.key_id}").text
    assert "signed in" in lines
    assert "was refused" not in lines.partition("<tbody")[2]
