"""The list of objects: folders, hard names, finding, order, pages."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from playwright.sync_api import Page, expect

from console_kit import HARD_KEYS, ConsoleStore
from warehouse.webui.names import folders_of, last_part


def test_every_key_is_found_by_its_folders_and_is_a_link(console: ConsoleStore, page: Page) -> None:
    console.put("hard", dict.fromkeys(HARD_KEYS, b"12"))
    console.sign_in(page, path="/buckets/hard")
    for key in HARD_KEYS:
        page.goto(console.url + "/buckets/hard")
        for shown, prefix in folders_of(key):
            name = shown if shown == "/" else f"{shown}/"
            page.locator("#rows").get_by_role("link", name=name, exact=True).click()
            expect(page).to_have_url(f"{console.url}/buckets/hard?{urlencode({'prefix': prefix})}")
        expect(page.get_by_role("link", name=last_part(key), exact=True)).to_be_visible()


def test_pages_load_themselves_when_they_are_reached(console: ConsoleStore, page: Page) -> None:
    console.put("long", {f"{number:04}": b"" for number in range(250)})
    console.sign_in(page, path="/buckets/long")
    expect(page.get_by_role("link", name="0099", exact=True)).to_have_count(1)
    for last in ("0099", "0199", "0249"):
        page.get_by_role("link", name=last, exact=True).scroll_into_view_if_needed()
    expect(page.locator("#rows > tr")).to_have_count(250)
    expect(page.get_by_text("250 objects")).to_be_visible()


def test_heads_change_the_order(console: ConsoleStore, page: Page) -> None:
    console.put("order", {"a": b"1", "b": b"333", "c": b"22"})
    console.sign_in(page, path="/buckets/order")
    names = page.locator("#rows td.name")
    expect(names).to_have_text(["a", "b", "c"])
    page.get_by_role("link", name="Size").click()
    expect(names).to_have_text(["b", "c", "a"])
    expect(page.get_by_role("columnheader", name="Size")).to_have_attribute("aria-sort", "descending")
    page.get_by_role("link", name="Size").click()
    expect(names).to_have_text(["a", "c", "b"])
    page.get_by_role("link", name="Name").click()
    page.get_by_role("link", name="Name").click()
    expect(names).to_have_text(["c", "b", "a"])


def test_a_part_of_a_name_is_found_while_somebody_types(console: ConsoleStore, page: Page) -> None:
    console.put("find", {"cat.jpg": b"", "a/b/Cats.jpg": b"", "dog.jpg": b"", "catalog/x": b""})
    console.sign_in(page, path="/buckets/find")
    page.get_by_label("Find in this folder").press_sequentially("cat")
    names = page.locator("#rows td.name a")
    expect(names).to_have_text(["Cats.jpg", "cat.jpg", "x"])
    expect(page.get_by_label("Find in this folder")).to_be_focused()
    page.get_by_label("Where to look").select_option("names that begin so")
    expect(names).to_have_text(["cat.jpg", "catalog/"])
    page.get_by_label("Where to look").select_option("in this folder")
    page.get_by_label("Find in this folder").fill("zebra")
    expect(page.get_by_text("Nothing here is named like that")).to_be_visible()


def test_a_list_follows_changes_made_elsewhere(console: ConsoleStore, page: Page) -> None:
    console.put("lively", {"old": b"1"})
    console.sign_in(page, path="/buckets/lively")
    expect(page.get_by_role("link", name="old", exact=True)).to_be_visible()
    console.put("lively", {"new": b"1"})
    expect(page.get_by_role("link", name="new", exact=True)).to_be_visible()
    expect(page.get_by_text("2 objects")).to_be_visible()


def test_a_new_folder_is_an_empty_place_that_explains_itself(console: ConsoleStore, page: Page) -> None:
    console.put("folders", {})
    console.sign_in(page, path="/buckets/folders")
    page.get_by_role("button", name="New folder").click()
    page.get_by_label("Name of the folder").fill("a #1 <b>")
    page.get_by_role("button", name="Open folder").click()
    expect(page.get_by_role("heading", name="a #1 <b>")).to_be_visible()
    expect(page.get_by_role("heading", name="This folder is empty")).to_be_visible()
    assert page.url.endswith("?prefix=" + quote("a #1 <b>/", safe="").replace("%20", "+"))


def test_a_key_of_one_folder_begins_there(console: ConsoleStore, page: Page) -> None:
    console.put("shared", {"2025/a": b"", "2026/b": b""})
    profile = console.make_key("one folder", grants=["shared/2026/*:read,list"])
    console.sign_in(page, profile, "/buckets/shared")
    expect(page.get_by_role("heading", name="2026")).to_be_visible()
    expect(page.get_by_role("link", name="b", exact=True)).to_be_visible()
    page.get_by_role("link", name="shared").click()
    expect(page.locator("#rows td.name")).to_have_text(["2026/"])


def test_who_may_only_upload_is_told_so(console: ConsoleStore, page: Page) -> None:
    console.put("inbox", {"secret": b""})
    console.sign_in(page, console.make_key("uploader", preset="upload-only"), "/buckets/inbox")
    expect(page.get_by_role("heading", name="This key may not list objects here")).to_be_visible()
    expect(page.get_by_text("secret")).to_have_count(0)
    answer = page.goto(console.url + "/buckets/inbox/rows")
    assert answer is not None
    assert answer.status == 403
