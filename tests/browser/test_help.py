"""Help: shortcuts, the authority, and a support bundle without any secret."""

from __future__ import annotations

import io
import json
import zipfile

from playwright.sync_api import Page, expect

from console_kit import ConsoleStore
from secret_search import forms_of, secrets_of


def bundle(page: Page, console: ConsoleStore) -> dict[str, bytes]:
    answer = page.request.get(console.url + "/help/support.zip")
    assert answer.status == 200, answer.text()
    with zipfile.ZipFile(io.BytesIO(answer.body())) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def test_the_support_bundle_holds_no_secret_and_no_name(console: ConsoleStore, page: Page) -> None:
    console.put("very-private-bucket", {"very-private-object": b"very-private-content"})
    made = console.make_key("very-private-key", preset="reader")
    console.sign_in(page, path="/help")
    files = bundle(page, console)
    secrets = secrets_of(console.store.data)
    assert len(secrets) > 5
    secrets |= {"the new key's secret": made.secret.encode(), "the root key's": console.root.secret.encode()}
    everything = b"\n".join(files.values())
    for place, secret in secrets.items():
        assert not any(form in everything for form in forms_of(secret)), place
    assert b"very-private" not in everything
    cookie = page.context.cookies()[0]["value"].encode()
    assert cookie not in everything


def test_the_support_bundle_says_what_a_helper_asks(console: ConsoleStore, page: Page) -> None:
    console.sign_in(page, path="/help")
    files = bundle(page, console)
    assert json.loads(files["status.json"])["health"] in ("ok", "degraded")
    assert json.loads(files["figures.json"])["disks"][0]["name"] == "disk-1"
    assert json.loads(files["versions.json"])["master"]
    assert b"[cluster]" in files["settings.toml"]
    assert files["troubles.txt"].startswith((b"good", b"warn", b"bad"))
    assert [json.loads(line)["name"] for line in files["events.jsonl"].splitlines()]


def test_a_key_that_may_not_see_the_cluster_gets_no_bundle(console: ConsoleStore, page: Page) -> None:
    console.sign_in(page, console.make_key("helped", preset="reader"), path="/help")
    expect(page.get_by_role("heading", name="Keyboard")).to_be_visible()
    expect(page.get_by_role("link", name="support bundle")).to_have_count(0)
    assert page.request.get(console.url + "/help/support.zip").status == 403


def test_the_authority_is_downloaded_as_the_profile_has_it(console: ConsoleStore, page: Page) -> None:
    console.sign_in(page, path="/help")
    answer = page.request.get(console.url + "/help/authority.pem")
    assert answer.text() == console.root.authority
    assert "PRIVATE" not in answer.text()


def test_g_and_a_letter_go_to_a_page(console: ConsoleStore, page: Page) -> None:
    console.sign_in(page, path="/help")
    for letter, path in (
        ("b", "/buckets"),
        ("d", "/volumes"),
        ("a", "/activity"),
        ("k", "/keys"),
        ("o", "/"),
    ):
        page.keyboard.press("g")
        page.keyboard.press(letter)
        page.wait_for_url(console.url + path)


def test_shortcuts_rest_while_somebody_types_and_when_switched_off(console: ConsoleStore, page: Page) -> None:
    console.put("typed", {})
    console.sign_in(page, path="/buckets")
    page.keyboard.press("/")
    field = page.get_by_label("Find a bucket")
    expect(field).to_be_focused()
    page.keyboard.type("g?b/")
    expect(field).to_have_value("g?b/")
    field.fill("")
    field.blur()
    page.keyboard.press("?")
    page.wait_for_url(console.url + "/help")
    page.get_by_role("checkbox", name="use shortcuts").uncheck()
    page.get_by_role("link", name="Buckets", exact=True).first.click()
    page.wait_for_url(console.url + "/buckets")
    page.keyboard.press("/")
    expect(page.get_by_label("Find a bucket")).not_to_be_focused()
    page.keyboard.press("?")
    page.get_by_role("link", name="Help").click()
    expect(page.get_by_role("checkbox", name="use shortcuts")).not_to_be_checked()


def test_colours_are_chosen_for_this_browser_and_shown_on_every_open_page(
    console: ConsoleStore, page: Page
) -> None:
    page.emulate_media(color_scheme="light")
    console.sign_in(page, path="/help")
    light, dark = "rgb(247, 247, 245)", "rgb(20, 22, 26)"
    other = page.context.new_page()
    other.goto(console.url + "/buckets")
    for one in (page, other):
        expect(one.locator("body")).to_have_css("background-color", light)
    page.get_by_label("in this browser").select_option("dark")
    for one in (page, other):
        expect(one.locator("body")).to_have_css("background-color", dark)
    page.reload()
    expect(page.get_by_label("in this browser")).to_have_value("dark")
    page.get_by_label("in this browser").select_option("as the system")
    for one in (page, other):
        expect(one.locator("body")).to_have_css("background-color", light)
