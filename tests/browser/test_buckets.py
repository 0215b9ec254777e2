"""The page of buckets: making, deleting, and what each kind of key is shown."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, Request, expect

import warehouse
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


def test_what_a_page_asks_of_itself_is_no_use_of_its_session(console: ConsoleStore, page: Page) -> None:
    """Otherwise a page that is left open would keep somebody signed in forever."""

    def is_of_script(request: Request) -> bool:
        return request.headers.get("hx-request") == "true" and "/buckets" in request.url

    console.sign_in(page, path="/buckets")
    expect(page.locator("html")).to_have_attribute("data-socket", "on")
    with page.expect_request(is_of_script) as of_itself:
        console.put("made-elsewhere", {})
    assert of_itself.value.headers.get("x-by-itself") == "yes"
    with page.expect_request(lambda request: "find=m" in request.url) as of_a_person:
        page.get_by_label("Find a bucket").press_sequentially("m")
    assert "x-by-itself" not in of_a_person.value.headers


def test_a_quota_is_set_in_units_and_shown_as_a_meter(console: ConsoleStore, page: Page) -> None:
    console.put("limited", {"a": b"1" * 700_000})
    console.sign_in(page, path="/buckets/limited/settings")
    page.get_by_label("Size").fill("1 MiB")
    page.get_by_role("button", name="Save quota").click()
    expect(page.get_by_text("Quota saved")).to_be_visible()
    expect(page.get_by_label("Size")).to_have_value("1MiB")
    page.get_by_label("Size").fill("some")
    page.get_by_role("button", name="Save quota").click()
    expect(page.get_by_text("write 5 GiB, for example")).to_be_visible()
    page.get_by_role("link", name="Buckets").click()
    meter = page.get_by_role("row", name="limited").get_by_role("img", name="700,000 of 1,048,576 bytes")
    expect(meter).to_be_visible()


def test_the_page_of_a_bucket_shows_its_quota_and_follows_it(console: ConsoleStore, page: Page) -> None:
    console.put("half-full", {"a": b"1" * 500_000})
    console.sign_in(page, path="/buckets/half-full")
    expect(page.get_by_role("heading", name="half-full")).to_be_visible()
    quota = page.get_by_role("group", name="Quota")
    expect(quota).to_have_count(0)  # it has none

    async def limit(store: warehouse.Store) -> None:
        await store.bucket("half-full").set_quota(byte_count=1_000_000, object_count=2)

    console.ask(limit)
    page.reload()
    expect(quota.get_by_role("img", name="500,000 of 1,000,000 bytes")).to_be_visible()
    expect(quota.get_by_role("img", name="1 of 2 objects")).to_be_visible()
    expect(page.locator("html")).to_have_attribute("data-socket", "on")
    console.put("half-full", {"b": b"2" * 300_000})
    expect(quota.get_by_role("img", name="800,000 of 1,000,000 bytes")).to_be_visible()
    expect(quota).to_contain_text("2 of 2 objects, full")
    quota.get_by_role("link").first.click()
    expect(page.get_by_role("textbox", name="Objects")).to_have_value("2")
    expect(page.get_by_role("img", name="2 of 2 objects")).to_be_visible()


def test_who_may_not_change_a_quota_sees_it_without_a_link(console: ConsoleStore, page: Page) -> None:
    console.put("read-quota", {"a": b"1" * 10})

    async def limit(store: warehouse.Store) -> None:
        await store.bucket("read-quota").set_quota(byte_count=100)

    console.ask(limit)
    console.sign_in(page, console.make_key("quota reader", preset="read-only"), path="/buckets/read-quota")
    quota = page.get_by_role("group", name="Quota")
    expect(quota.get_by_role("img", name="10 of 100 bytes")).to_be_visible()
    expect(quota.get_by_role("link")).to_have_count(0)


def test_settings_say_who_may_do_what_and_give_the_bucket_away(console: ConsoleStore, page: Page) -> None:
    console.put("told", {})
    console.make_key("thumbnails", grants=["told/2026/*:read,list"])

    async def make_account(store: warehouse.Store) -> None:
        await store.create_account("family")

    console.ask(make_account)
    console.sign_in(page, path="/buckets/told")
    page.get_by_role("link", name="Settings").click()
    row = page.get_by_role("row", name="thumbnails")
    expect(row).to_contain_text("2026/")
    expect(row).to_contain_text("read, list")
    page.get_by_label("Owner").select_option("family")
    page.get_by_role("button", name="Give to this account").click()
    expect(page.get_by_text("The bucket belongs to family now")).to_be_visible()
    expect(page.get_by_text("Not in this release")).to_be_visible()


@pytest.mark.parametrize("preset", ["reader", "upload-only"])
def test_who_may_not_manage_buckets_is_shown_no_button(
    console: ConsoleStore, page: Page, preset: str
) -> None:
    console.put("shown", {})
    console.sign_in(page, console.make_key(preset, preset=preset), "/buckets")
    expect(page.get_by_role("link", name="shown")).to_be_visible()
    for name in ("Create bucket", "Delete", "Settings"):
        expect(page.get_by_text(name)).to_have_count(0)
    for path, form in (
        ("", {"name": "forced"}),
        ("/shown/delete", {"typed": "shown"}),
        ("/shown/settings/quota", {"size": "1 B"}),
        ("/shown/settings/owner", {"account": "main"}),
    ):
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
