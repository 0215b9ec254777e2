"""The page of an object: hard names, previews of every kind, and what they must not do."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from console_kit import HARD_KEYS, ConsoleStore
from warehouse.webui.names import last_part, object_url, visible

EVIL = "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'>"


def open_object(console: ConsoleStore, page: Page, bucket: str, key: str, more: str = "") -> None:
    path = object_url(bucket, key)
    page.goto(console.url + path + (("&" if "?" in path else "?") + more if more else ""))


def test_every_hard_key_has_its_page(console: ConsoleStore, page: Page) -> None:
    console.put("hard", dict.fromkeys(HARD_KEYS, b"twelve bytes"))
    console.sign_in(page, path="/buckets/hard")
    for key in HARD_KEYS:
        open_object(console, page, "hard", key)
        heading = page.get_by_role("heading", level=1)
        expect(heading).to_have_text(visible(last_part(key)), use_inner_text=False)
        expect(page.get_by_text("twelve bytes")).to_be_visible()
        expect(page.get_by_role("link", name="Download")).to_be_visible()
    assert page.evaluate("window.pwned") is None


def test_a_list_leads_to_the_page_and_raw_shows_the_text(console: ConsoleStore, page: Page) -> None:
    console.put("walk", {"a/list.json": b'{"name": [1, 2.50, "x"]}'})
    console.sign_in(page, path="/buckets/walk?prefix=a/")
    page.get_by_role("link", name="list.json").click()
    expect(page.get_by_text("2.50")).to_be_visible()
    page.get_by_role("link", name="Raw").click()
    expect(page.get_by_text('{"name": [1, 2.50, "x"]}')).to_be_visible()
    page.get_by_label("View as").select_option("Bytes")
    expect(page.get_by_label("Content", exact=True)).to_contain_text("00000000  7b 22 6e 61")
