"""The page of buckets: making, deleting, and what each kind of key is shown."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, expect

from console_kit import ConsoleStore, watched_context


def create(page: Page, name: str) -> None:
    page.get_by_role("button", name="Create bucket").first.click()
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Create", exact=True).click()


def test_a_store_without_buckets_says_how_to_begin(console: ConsoleStore, page: Page) -> None:
    console.sign_in(page, path="/buckets")
    expect(page.get_by_role("heading", name="No buckets yet")).to_be_visible()
    expect(page.get_by_text("warehouse mb")).to_be_visible()


def test_a_bucket_is_made_and_deleted_again(console: ConsoleStore, page: Page) -> None:
    console.sign_in(page, path="/buckets")
    create(page, "made-here")
    expect(page.get_by_text("Bucket made-here created")).to_be_visible()
    row = page.get_by_role("row", name="made-here")
    row.get_by_role("link", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete made-here").click()
    expect(page.get_by_role("link", name="made-here")).to_have_count(0)
    expect(page.get_by_text("Bucket made-here deleted")).to_be_visible()


def test_a_bucket_with_objects_wants_its_name_typed(console: ConsoleStore, page: Page) -> None:
    console.put("full", {"a": b"1", "b": b"22"})
    console.sign_in(page, path="/buckets")
    page.get_by_role("row", name="full").get_by_role("link", name="Delete").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("2 objects, 3 B")
    dialog.get_by_label("Type full to confirm").fill("ful")
    dialog.get_by_role("button", name="Delete full").click()
    expect(page.get_by_role("alert")).to_contain_text("Type full to delete it")
    page.get_by_label("Type full to confirm").fill("full")
    page.get_by_role("button", name="Delete full").click()
    expect(page.get_by_text("Bucket full deleted, with 2 objects")).to_be_visible()


def test_the_rules_of_names_are_explained_while_somebody_types(console: ConsoleStore, page: Page) -> None:
    console.sign_in(page, path="/buckets")
    page.get_by_role("button", name="Create bucket").first.click()
    field = page.get_by_label("Name")
    field.fill("Photos-")
    expect(page.locator(".rules .broken")).to_have_text(
        ["only a to z, 0 to 9, dots, hyphens and underscores", "a letter or digit at both ends"]
    )
    page.get_by_role("button", name="Create", exact=True).click()
    expect(field).to_be_visible()  # the browser does not send it
    field.fill("photos")
    expect(page.locator(".rules .broken")).to_have_count(0)


def test_the_store_decides_about_a_name_and_the_dialog_stays(console: ConsoleStore, page: Page) -> None:
    console.put("taken", {})
    console.sign_in(page, path="/buckets")
    create(page, "taken")
    expect(page.get_by_text("bucket_exists")).to_be_visible()
    expect(page.get_by_label("Name")).to_have_value("taken")


def test_two_browsers_see_each_others_buckets(console: ConsoleStore, page: Page, browser: Browser) -> None:
    console.put("stays", {})
    console.sign_in(page, path="/buckets")
    expect(page.get_by_role("link", name="stays")).to_be_visible()
    with watched_context(browser) as other:
        there = other.context.new_page()
        console.sign_in(there, path="/buckets")
        create(there, "seen-by-both")
        expect(page.get_by_role("link", name="seen-by-both")).to_be_visible()


@pytest.mark.parametrize("preset", ["reader", "upload-only"])
def test_who_may_not_manage_buckets_is_shown_no_button(
    console: ConsoleStore, page: Page, preset: str
) -> None:
    console.put("shown", {})
    console.sign_in(page, console.make_key(preset, preset=preset), "/buckets")
    expect(page.get_by_role("link", name="shown")).to_be_visible()
    for name in ("Create bucket", "Delete", "Settings"):
        expect(page.get_by_text(name)).to_have_count(0)
    for path, form in (("", {"name": "forced"}), ("/shown/delete", {"typed": "shown"})):
        answer = page.evaluate(POST, [f"/buckets{path}", form])
        assert answer == 403, (path, answer)


def test_a_key_without_rights_sees_no_bucket(console: ConsoleStore, page: Page) -> None:
    console.put("hidden-one", {})
    nobody = console.make_key("nobody", grants=["elsewhere-*:read"])
    console.sign_in(page, nobody, "/buckets")
    expect(page.get_by_text("This key sees no bucket")).to_be_visible()
    page.goto(console.url + "/buckets/hidden-one")
    expect(page.get_by_role("alert")).to_be_visible()


POST = """async ([path, form]) => {
  const body = new URLSearchParams({ ...form, csrf: document.body.dataset.csrf });
  return (await fetch(path, { method: "POST", body, headers: { Accept: "application/json" } })).status;
}"""
