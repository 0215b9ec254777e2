"""The overview: the state in words, figures that follow the store, the plot, and keys that see no cluster."""

from __future__ import annotations

import json
import os
import re
import signal

import pytest
from playwright.sync_api import Page, expect

from console_kit import ConsoleStore

# The machine of the tests may be full; nothing else may be wrong.
WELL = re.compile("All well|Full soon")


def test_a_store_that_is_well_says_so_in_its_first_line(console: ConsoleStore, page: Page) -> None:
    console.sign_in(page)
    header = page.locator("main > header")
    expect(header.get_by_role("heading", name="Overview")).to_be_visible()
    expect(header.locator(".pill")).to_have_text(WELL)
    expect(page.get_by_role("row", name=re.compile("disk-1"))).to_contain_text("online")


def test_a_disk_that_goes_away_is_told_in_the_first_line_and_so_is_its_return(
    console: ConsoleStore, page: Page
) -> None:
    console.sign_in(page)
    pill = page.locator("main > header .pill")
    expect(pill).to_have_text(WELL)
    disk = console.store.pids()["disk-1"]
    os.kill(disk, signal.SIGSTOP)
    try:
        expect(pill).to_have_text("The disk is offline", timeout=60_000)
        expect(page.get_by_role("list", name="What is wrong, and what to do")).to_contain_text(
            "Nothing can be read"
        )
        expect(page.get_by_role("row", name=re.compile("disk-1"))).to_contain_text("offline")
    finally:
        os.kill(disk, signal.SIGCONT)
    expect(pill).to_have_text(WELL, timeout=60_000)


def test_figures_are_replaced_in_place_when_the_store_changes(console: ConsoleStore, page: Page) -> None:
    console.put("counted", {"first": b"1"})
    console.sign_in(page)
    objects = page.locator("[data-figure=objects]")
    before = int(objects.inner_text().replace(",", ""))
    page.evaluate("document.querySelector('[data-figure=objects]').dataset.same = 'yes'")
    console.put("counted", {f"{number}": b"x" for number in range(7)})
    expect(objects).to_have_text(str(before + 7))
    expect(objects).to_have_attribute("data-same", "yes")


def test_what_happens_elsewhere_appears_just_now(console: ConsoleStore, page: Page) -> None:
    console.sign_in(page)
    expect(page.locator("html")).to_have_attribute("data-socket", "on")
    console.put("appears-now", {})
    recent = page.get_by_role("list").filter(has=page.get_by_role("link", name="appears-now"))
    expect(recent.get_by_role("listitem").first).to_contain_text("Bucket appears-now created")
    recent.get_by_role("link", name="appears-now").click()
    page.wait_for_url(console.url + "/buckets/appears-now")


def test_the_plot_is_drawn_and_told_in_words_and_as_a_table(console: ConsoleStore, page: Page) -> None:
    console.sign_in(page)
    expect(page.locator(".plot canvas")).to_be_visible()
    expect(page.get_by_role("img", name=re.compile("Requests, last hour; now gets"))).to_be_visible()
    page.get_by_label("Show").select_option("Space")
    page.get_by_label("Over").select_option("30 days")
    expect(page.get_by_role("img", name=re.compile("Space, last 30 days; now stored"))).to_be_visible()
    page.get_by_text("The plot as a table").click()
    table = page.get_by_role("region", name="The plot as a table")
    expect(table.get_by_role("columnheader")).to_have_text(["Time", "stored", "wasted"])


def test_plots_are_loaded_only_where_one_is(console: ConsoleStore, page: Page) -> None:
    loaded: list[str] = []
    page.on("request", lambda request: loaded.append(request.url))
    console.sign_in(page, path="/buckets")
    expect(page.get_by_role("heading", name="Buckets")).to_be_visible()
    assert not [url for url in loaded if "uPlot" in url]
    page.get_by_role("link", name="Overview").click()
    expect(page.locator(".plot canvas")).to_be_visible()
    page.get_by_role("link", name="Buckets", exact=True).first.click()
    expect(page.locator(".plot canvas")).to_have_count(0)


def test_the_first_load_is_light(console: ConsoleStore, page: Page) -> None:
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    console.sign_in(page)
    page.context.clear_cookies()
    sizes: list[float] = []
    session.send("Network.setCacheDisabled", {"cacheDisabled": True})
    session.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    console.sign_in(page)
    expect(page.locator(".plot canvas")).to_be_visible()
    assert 20_000 < sum(sizes) < 250_000


def test_endpoints_are_those_of_the_profile_without_its_secret(console: ConsoleStore, page: Page) -> None:
    console.sign_in(page)
    endpoints = page.get_by_role("region", name="Endpoints")
    for text in (console.root.master, console.root.server_key, console.root.key_id, console.url):
        expect(endpoints).to_contain_text(text)
    assert console.root.secret not in page.content()


@pytest.mark.parametrize("preset", ["reader", "upload-only"])
def test_a_key_that_sees_no_cluster_is_shown_what_it_can_do(
    console: ConsoleStore, page: Page, preset: str
) -> None:
    console.put("of-everybody", {"a": b"1"})
    console.sign_in(page, console.make_key(f"sees-{preset}", preset=preset))
    expect(page.get_by_role("heading", name="What this key can do")).to_be_visible()
    expect(page.get_by_text("cannot see the state of the store")).to_be_visible()
    expect(page.get_by_role("link", name="of-everybody")).to_be_visible()
    expect(page.get_by_role("link", name="Disks")).to_have_count(0)
    answer = page.request.get(console.url + "/overview/history", headers={"Accept": "application/json"})
    assert (answer.status, json.loads(answer.text())["code"]) == (403, "permission_denied")


def test_a_key_without_any_right_sees_a_page_and_no_refusal(console: ConsoleStore, page: Page) -> None:
    console.sign_in(page, console.make_key("nothing", permissions=["read"], grants=["no-such-bucket-*:read"]))
    expect(page.get_by_role("heading", name="No buckets")).to_be_visible()
