"""Signing in: with id and secret, with a link, with several keys, and out again."""

from __future__ import annotations

import subprocess
import sys
import time

from playwright.sync_api import Page, expect

import warehouse
from console_kit import NARROW, ConsoleStore
from warehouse.conf.profile import Profile


def test_whoever_signs_in_is_where_they_wanted_to_be(console: ConsoleStore, page: Page) -> None:
    console.sign_in(page, path="/volumes")
    expect(page).to_have_url(console.url + "/volumes")
    expect(page.get_by_role("link", name="Disks")).to_have_attribute("aria-current", "page")


def test_signing_in_on_the_way_to_a_download_ends_in_the_download(console: ConsoleStore, page: Page) -> None:
    """A browser lets the form of a stranger lead to this console alone, and to no volume actor."""
    console.put("wanted", {"a.txt": b"hello"})
    page.goto(console.url + "/buckets/wanted/download/a.txt")
    page.get_by_label("Key id").fill(console.root.key_id)
    page.get_by_label("Secret").fill(console.root.secret)
    with page.expect_download() as found:
        page.get_by_role("button", name="Sign in").click()
    assert found.value.path().read_bytes() == b"hello"
    assert f":{console.store.port_base + 10}/v1/needles/" in found.value.url
    page.get_by_role("link", name="Go on to the console").click()
    expect(page).to_have_url(console.url + "/")


def test_a_wrong_secret_is_refused_and_the_key_id_stays(console: ConsoleStore, page: Page) -> None:
    page.goto(console.url)
    page.get_by_label("Key id").fill(console.root.key_id)
    page.get_by_label("Secret").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("does not know this key")
    expect(page.get_by_label("Key id")).to_have_value(console.root.key_id)


def test_a_link_with_a_code_signs_in_once(console: ConsoleStore, page: Page) -> None:
    command = [sys.executable, "-m", "warehouse", "console", "--open", "--print"]
    command += ["--profile", str(console.store.profile)]
    link = subprocess.check_output(command, env=console.store.env, text=True).strip()
    page.goto(link)
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(console.url + "/")
    page.goto(link)
    expect(page.get_by_role("alert")).to_contain_text("used already")


def test_asking_for_help_makes_no_link(console: ConsoleStore) -> None:
    command = [sys.executable, "-m", "warehouse", "console", "--open", "--help"]
    told = subprocess.check_output(command, env=console.store.env, text=True)
    assert told.startswith("usage: warehouse console")
    assert "code=" not in told


def test_keys_can_be_switched_and_signed_out_one_by_one(console: ConsoleStore, page: Page) -> None:
    reader = console.make_key("a reader", preset="reader")
    console.sign_in(page)
    page.get_by_text("Switch key").click()
    page.get_by_role("link", name="Sign in with another key").click()
    page.get_by_label("Key id").fill(reader.key_id)
    page.get_by_label("Secret").fill(reader.secret)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("a reader", exact=True)).to_be_visible()
    page.get_by_text("Switch key").click()
    page.get_by_role("button", name="root").click()
    expect(page.get_by_role("link", name="Keys")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_text("a reader", exact=True)).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()


def test_a_phone_signs_out_too(console: ConsoleStore, page: Page) -> None:
    page.set_viewport_size(NARROW)
    console.sign_in(page)
    expect(page.get_by_role("navigation", name="Main").get_by_role("link", name="Help")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()


def test_a_key_that_is_disabled_leaves_the_page_within_seconds(console: ConsoleStore, page: Page) -> None:
    profile = console.make_key("to end", preset="read-only")
    console.sign_in(page, profile)

    async def disable(store: warehouse.Store) -> None:
        await store.disable_key(profile.key_id)

    console.ask(disable)
    deadline = time.monotonic() + 20
    while "/sign-in" not in page.url and time.monotonic() < deadline:
        page.goto(console.url + "/buckets")
    expect(page.get_by_text("This key was signed out")).to_be_visible()


def test_a_link_elsewhere_is_not_followed_after_signing_in(console: ConsoleStore, page: Page) -> None:
    for elsewhere in ("//evil.example/", "https://evil.example/", "/\\evil.example", "/\t/evil.example"):
        page.goto(console.url + "/sign-in?next=" + elsewhere)
        page.get_by_label("Key id").fill(console.root.key_id)
        page.get_by_label("Secret").fill(console.root.secret)
        page.get_by_role("button", name="Sign in").click()
        expect(page).to_have_url(console.url + "/")


def test_the_profile_of_the_kit_is_the_root_key(console: ConsoleStore) -> None:
    assert Profile.load(console.store.profile) == console.root
