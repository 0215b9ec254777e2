"""The list of objects: folders, hard names, finding, order, pages."""

from __future__ import annotations

from urllib.parse import quote, urlencode
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, Page, Route, expect

import warehouse
from console_kit import HARD_KEYS, ConsoleStore, watched_context
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
    expect(names).to_have_text(["a", "b", "c"])  # the head leads elsewhere when the list is here
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


def test_who_may_only_upload_into_a_folder_begins_there(console: ConsoleStore, page: Page) -> None:
    console.put("drop", {"secret": b""})
    console.sign_in(
        page, console.make_key("one drop", grants=["drop/in/*:write"], permissions=["write"]), "/buckets/drop"
    )
    expect(page.get_by_role("heading", name="in", exact=True)).to_be_visible()
    expect(page.get_by_label("Upload files")).to_have_count(1)
    page.get_by_role("link", name="drop", exact=True).click()
    expect(page.get_by_text("It may store them below in/.")).to_be_visible()
    expect(page.get_by_label("Upload files")).to_have_count(0)
    page.get_by_role("link", name="in/", exact=True).click()
    expect(page.get_by_label("Upload files")).to_have_count(1)


# --- actions --------------------------------------------------------------------------------------


def select(page: Page, *names: str) -> None:
    for name in names:
        page.get_by_label(f"Select {name}", exact=True).check()


@pytest.mark.parametrize("clicked", ["Select a", "Select all"])
def test_what_is_clicked_before_the_script_has_come_counts(
    console: ConsoleStore, page: Page, clicked: str
) -> None:
    console.put("early", {"a": b"1", "b": b"1"})
    held: list[Route] = []
    console.sign_in(page, path="/buckets")
    page.route("**/pages/objects.js", lambda route: held.append(route))
    page.goto(console.url + "/buckets/early", wait_until="commit")
    page.get_by_label(clicked, exact=True).check()
    while not held:
        page.wait_for_timeout(10)
    held.pop().continue_()
    count = "2 objects, 2 B" if clicked == "Select all" else "1 object, 1 B"
    expect(page.get_by_text(f"{count} selected")).to_be_visible()
    expect(page.get_by_label("Select a", exact=True)).to_be_checked()


def test_deleting_asks_once_in_words_that_name_what_goes(console: ConsoleStore, page: Page) -> None:
    console.put("rm", {"a": b"1" * 1000, "b": b"2" * 1000, "c": b"", "d/1": b"x", "d/2": b"x"})
    console.sign_in(page, path="/buckets/rm")
    select(page, "a", "b")
    expect(page.get_by_text("2 objects, 2.0 KiB selected")).to_be_visible()
    page.get_by_role("button", name="Delete").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Delete 2 objects, 2.0 KiB", exact=True).click()
    expect(page.get_by_text("Deleted 2 objects, 2.0 KiB")).to_be_visible()
    expect(page.locator("#rows td.name")).to_have_text(["c", "d/"])
    select(page, "d/")
    expect(page.get_by_text("2 objects, 2 B selected")).to_be_visible()
    page.get_by_role("button", name="Delete").click()
    dialog.get_by_role("button", name="Delete 2 objects, 2 B").click()
    expect(page.locator("#rows td.name")).to_have_text(["c"])


def test_hard_keys_are_renamed_copied_and_deleted(console: ConsoleStore, page: Page) -> None:
    hard = [key for key in HARD_KEYS if "/" not in key]
    console.put("hard2", dict.fromkeys(hard, b"12"))
    console.put("copies", {})
    console.sign_in(page, path="/buckets/hard2")
    expect(page.locator("#rows > tr")).to_have_count(len(hard))
    page.get_by_label("Select all").check()
    page.get_by_role("button", name="Copy", exact=True).click()
    page.get_by_label("Bucket").select_option("copies")
    page.get_by_role("textbox", name="Folder", exact=True).fill("to <b>/here")
    page.get_by_role("dialog").get_by_role("button", name="Copy").click()
    expect(page.get_by_text(f"Copied {len(hard)} objects")).to_be_visible()
    assert listed(console, "copies") == sorted("to <b>/here/" + key for key in hard)
    select(page, "<img src=x onerror=alert(1)>")
    page.get_by_role("button", name="Rename").click()
    page.get_by_label("New name").fill("%2e%2e # ?.txt")
    page.get_by_role("dialog").get_by_role("button", name="Rename").click()
    expect(page.get_by_role("link", name="%2e%2e # ?.txt", exact=True)).to_be_visible()
    page.get_by_label("Select all").check()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="This bucket is empty")).to_be_visible()
    assert listed(console, "hard2") == []


def listed(console: ConsoleStore, bucket: str) -> list[str]:
    async def keys(store: warehouse.Store) -> list[str]:
        return [info.key async for info in store.bucket(bucket).list()]

    return sorted(console.ask(keys))


def test_what_is_there_is_not_replaced_by_mistake(console: ConsoleStore, page: Page) -> None:
    console.put("mv", {"a": b"new", "to/a": b"old", "b": b"b"})
    console.sign_in(page, path="/buckets/mv")
    select(page, "a", "b")
    page.get_by_role("button", name="Move").click()
    page.get_by_role("textbox", name="Folder", exact=True).fill("to")
    page.get_by_role("dialog").get_by_role("button", name="Move").click()
    expect(page.get_by_text("a: there is an object of that name already")).to_be_visible()
    assert listed(console, "mv") == ["a", "to/a", "to/b"]
    assert console.ask(lambda store: store.bucket("mv").get("to/a")) == b"old"


def test_a_list_that_renews_itself_while_a_dialog_closes_takes_no_message_away(
    console: ConsoleStore, page: Page
) -> None:
    console.put("closing", {"a": b"1"})
    console.sign_in(page, path="/buckets/closing")
    select(page, "a")
    page.get_by_role("button", name="Move").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("button", name="Move").click()  # the same question is asked again
    expect(page.get_by_role("dialog")).to_be_visible()
    # What an answer brings, and a swap elsewhere on the page before the browser tells that the dialog is closed.
    page.evaluate(
        """() => {
          const tell = (name, detail) => document.dispatchEvent(new CustomEvent(name, { detail }));
          tell("toasts", { toasts: [{ kind: "bad", text: "it did not work" }] });
          tell("done");
          tell("htmx:after:swap");
        }"""
    )
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_text("it did not work")).to_be_visible()


def test_all_that_match_goes_beyond_what_is_shown(console: ConsoleStore, page: Page) -> None:
    console.put("many", {f"{number:04}.{'jpg' if number % 2 else 'txt'}": b"1" for number in range(300)})
    console.sign_in(page, path="/buckets/many?find=.jpg")
    expect(page.locator("#rows > tr[data-kind]")).to_have_count(100)
    page.get_by_label("Select all").check()
    page.get_by_role("button", name="Select all that match").click()
    expect(page.get_by_text("150 objects, 150 B selected")).to_be_visible()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete 150 objects, 150 B").click()
    expect(page.get_by_text("Deleted 150 objects, 150 B")).to_be_visible()
    assert {key[-3:] for key in listed(console, "many")} == {"txt"}


def test_a_selection_outlives_further_pages_and_changes(console: ConsoleStore, page: Page) -> None:
    console.put("keep", {f"{number:03}": b"" for number in range(120)})
    console.sign_in(page, path="/buckets/keep")
    select(page, "000")
    page.get_by_role("link", name="099", exact=True).scroll_into_view_if_needed()
    select(page, "119")
    console.put("keep", {"001": b"longer"})
    expect(page.locator("#rows tr", has_text="001")).to_contain_text("6 B")
    expect(page.get_by_text("2 objects, 0 B selected")).to_be_visible()
    expect(page.get_by_label("Select 119")).to_be_checked()


def test_a_link_opens_without_a_key_for_as_long_as_the_key_may_sign(
    console: ConsoleStore, page: Page
) -> None:
    console.put("share", {"a #1.txt": b"shared"})
    signer = console.make_key("signer", permissions=["read", "list", "sign"], sign_s_max=7200)
    console.sign_in(page, signer, "/buckets/share")
    select(page, "a #1.txt")
    page.get_by_role("button", name="Share").click()
    options = page.get_by_label("Works for").locator("option")
    expect(options).to_have_text(["10 min", "1 h", "2 h (the longest of this key)"])
    page.get_by_role("button", name="Make link").click()
    expect(page.get_by_role("img", name="QR code of the link")).to_be_visible()
    with urlopen(page.get_by_role("textbox", name="Link").input_value()) as answer:
        assert answer.read() == b"shared"
        assert answer.headers["Content-Disposition"].startswith("inline")
    expect(page.get_by_text("the link works there, and nowhere else")).to_be_visible()


def test_long_work_goes_on_in_a_panel_while_one_moves_around(console: ConsoleStore, page: Page) -> None:
    console.put("long-work", {f"from/{number:05}": b"1" for number in range(6000)})
    console.sign_in(page, path="/buckets/long-work")
    select(page, "from/")
    page.get_by_role("button", name="Copy", exact=True).click()
    page.get_by_role("textbox", name="Folder", exact=True).fill("to")
    page.get_by_role("dialog").get_by_role("button", name="Copy").click()
    panel = page.get_by_label("Running tasks")
    expect(panel).to_contain_text("of 6,000 objects")
    page.get_by_role("link", name="Buckets").click()
    expect(page.get_by_role("link", name="long-work")).to_be_visible()
    before = panel.get_by_role("progressbar").get_attribute("value")
    expect(panel.get_by_role("progressbar")).not_to_have_attribute("value", before or "")
    page.reload()
    panel.get_by_role("button", name="Cancel").click()
    expect(panel.get_by_text("Cancelled after")).to_be_visible()
    panel.get_by_role("button", name="Dismiss").click()
    expect(panel).to_be_hidden()


def test_going_back_shows_the_folder_before(console: ConsoleStore, page: Page) -> None:
    console.put("back", {"a/b/c": b"", "top": b""})
    console.sign_in(page, path="/buckets/back")
    page.get_by_role("link", name="a/", exact=True).click()
    page.get_by_role("link", name="b/", exact=True).click()
    expect(page.get_by_role("link", name="c", exact=True)).to_be_visible()
    page.go_back()
    expect(page.get_by_role("link", name="b/", exact=True)).to_be_visible()
    page.go_back()
    expect(page.get_by_role("link", name="top", exact=True)).to_be_visible()
    select(page, "top")
    expect(page.get_by_text("1 object, 0 B selected")).to_be_visible()


SEES_THE_END_OF = """(name) => {
  const isThere = () => [...document.querySelectorAll("#rows td.name a")].some((link) => link.textContent === name);
  window.seen = new Promise((seen) => new MutationObserver(() => isThere() || seen(Date.now()))
    .observe(document.body, { childList: true, subtree: true }));
}"""


def test_two_browsers_see_each_others_changes_within_a_second(
    console: ConsoleStore, page: Page, browser: Browser
) -> None:
    console.put("both", {"a": b"", "b": b"", "c": b"", "d/e": b""})
    console.sign_in(page, path="/buckets/both")
    with watched_context(browser) as other:
        there = other.context.new_page()
        console.sign_in(there, path="/buckets/both")
        expect(there.locator("html[data-socket=on]")).to_be_attached()
        took_ms = []
        for name in ("a", "b", "c"):  # a busy machine may stand still once
            expect(there.get_by_role("link", name=name, exact=True)).to_be_visible()
            there.evaluate(SEES_THE_END_OF, name)
            select(page, name)
            page.get_by_role("button", name="Delete").click()
            page.get_by_role("dialog").get_by_role("button", name="Delete").click()
            expect(page.get_by_role("link", name=name, exact=True)).to_have_count(0)
            took_ms.append(there.evaluate("window.seen") - page.evaluate("Date.now()"))
        expect(there.locator("#rows td.name")).to_have_text(["d/"])
        assert min(took_ms) < 1000, took_ms


def test_all_of_it_works_without_scripts(console: ConsoleStore, browser: Browser) -> None:
    console.put("plain", {f"{number:03}": b"1" for number in range(120)} | {"new\nline": b"2"})
    with watched_context(browser, java_script_enabled=False) as plain:
        page = plain.context.new_page()
        console.sign_in(page, path="/buckets/plain")
        page.get_by_role("link", name="Load more").click()
        select(page, "119", "new line")
        page.get_by_role("button", name="Delete").click()
        page.get_by_role("button", name="Delete 2 objects, 2 B").click()
        expect(page.get_by_text("Deleted 2 objects, 2 B")).to_be_visible()
        page.get_by_label("Find in this folder").fill("11")
        page.get_by_role("button", name="Find").click()
        expect(page.locator("#rows td.name")).to_have_text(
            ["011", "110", "111", "112", "113", "114", "115", "116", "117", "118"]
        )


ACTIONS = ("Delete", "Copy", "Move", "Rename", "Share: copy link", "New folder", "Settings")


@pytest.mark.parametrize(
    ("wish", "shown"),
    [
        ({"preset": "admin"}, set(ACTIONS)),
        ({"preset": "reader"}, set()),
        ({"permissions": ["list"]}, set()),
        ({"permissions": ["list", "delete"]}, {"Delete"}),
    ],
)
def test_only_what_the_key_may_do_is_shown_and_all_else_is_refused(
    console: ConsoleStore, page: Page, wish: dict[str, object], shown: set[str]
) -> None:
    console.put("rights", {"a": b"1"})
    console.sign_in(page, console.make_key("some", **wish), "/buckets/rights")
    select(page, "a")
    for name in ACTIONS:
        button = page.get_by_role("button", name=name, exact=True).or_(
            page.get_by_role("link", name=name, exact=True)
        )
        expect(button).to_have_count(1 if name in shown else 0)
    if "Delete" in shown:
        return
    form = {"selection": '{"keys": [["a", 1]]}', "name": "b", "to": "rights", "folder": "c", "life_s": "60"}
    for action in ("delete", "copy", "move", "rename", "link"):
        answer = page.evaluate(POST, [f"/buckets/rights/selection/{action}/go", form])
        assert answer == 403, action
    assert listed(console, "rights") == ["a"]


POST = """async ([path, form]) => {
  const body = new URLSearchParams({ ...form, csrf: document.body.dataset.csrf });
  return (await fetch(path, { method: "POST", body, headers: { Accept: "application/json" } })).status;
}"""
