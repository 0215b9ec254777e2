"""The audit log as a page: plain words, and what is not in it."""

from __future__ import annotations

import warehouse
from console_http import Visitor
from console_kit import ConsoleStore


def test_the_page_tells_what_was_done_in_plain_words(console: ConsoleStore, root: Visitor) -> None:
    async def work(store: warehouse.Store) -> None:
        await store.bucket("photos").set_quota(byte_count=5 << 20)
        created = await store.create_key("told in words", preset="reader")
        await store.disable_key(created.key_id)

    console.ask(work)
    page = root.get("/activity/audit").text
    assert "set the quota of" in page
    assert "most bytes: 5.0 MiB" in page
    assert "changed the key" in page
    assert "changed: is enabled" in page
    assert "quota_set</option>" not in page
    assert '<option value="quota_set">Set a quota</option>' in page


def test_what_was_refused_was_tried_and_says_why(console: ConsoleStore, root: Visitor) -> None:
    assert root.post("/buckets", {"name": "photos"}).status >= 400
    page = root.get("/activity/audit?action=bucket_created").text
    assert "tried to create a bucket:" in page
    assert "bucket exists" in page


def test_the_page_says_what_the_log_leaves_out(root: Visitor) -> None:
    page = root.get("/activity/audit").text
    assert "Single uploads and reads of objects are not in this log" in page
