"""Measuring from the console: what a run shows, how it is cancelled, and that nothing of it stays."""

from __future__ import annotations

import json
import re

import pytest
import trio
from playwright.sync_api import Page, expect

import warehouse
from console_kit import ConsoleStore

EVERYTHING = re.compile(r"Store|Read|Mixed|List|Delete")


def order(page: Page, *tests: str, seconds: int) -> None:
    """Fill in the form and start."""
    for box in page.get_by_role("checkbox", name=EVERYTHING).all():
        box.set_checked(False)
    for test in tests:
        page.get_by_role("checkbox", name=test).check()
    page.get_by_label("Seconds for each test").fill(str(seconds))
    page.get_by_label("Objects to read from").fill("50")
    page.get_by_label("Requests at once").fill("4")
    page.get_by_role("button", name="Start").click()


def leftovers(console: ConsoleStore) -> tuple[list[str], list[str]]:
    """Buckets of benchmarks, and private folders."""

    async def buckets(store: warehouse.Store) -> list[str]:
        return [info.name for info in await store.buckets() if info.name.startswith("bench-")]

    folder = console.store.data / "console"
    return console.ask(buckets), [path.name for path in folder.glob("measure-*")]


def require_nothing_left(console: ConsoleStore) -> None:
    async def wait() -> None:
        with trio.fail_after(20):
            while await trio.to_thread.run_sync(leftovers, console) != ([], []):
                await trio.sleep(0.2)

    trio.run(wait)


def test_a_measurement_ends_in_rates_pictures_and_json(console: ConsoleStore, page: Page) -> None:
    console.sign_in(page, path="/measure")
    order(page, "Store small objects", "Read small objects", seconds=1)
    expect(page.get_by_role("progressbar", name="Measurement")).to_be_visible()
    results = page.get_by_role("region", name="Results of the tests")
    expect(results.get_by_role("row")).to_have_count(3, timeout=60_000)
    page.get_by_text("As JSON").click()
    found = json.loads(page.locator("#results-json").inner_text())
    assert [result["test"] for result in found["results"]] == ["put", "get"]
    assert all(result["rate"] > 0 and result["failed_count"] == 0 for result in found["results"])
    expect(page.get_by_role("img", name="put 4.0 KiB, 4 at once")).to_be_visible()
    require_nothing_left(console)


def test_a_cancelled_measurement_cleans_up_after_itself(console: ConsoleStore, page: Page) -> None:
    console.sign_in(page, path="/measure")
    order(page, "Store small objects", seconds=30)
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("button", name="Start")).to_be_visible(timeout=60_000)
    require_nothing_left(console)


@pytest.mark.parametrize("preset", ["reader", "upload-only"])
def test_a_key_that_could_not_do_it_is_told_so_and_refused(
    console: ConsoleStore, page: Page, preset: str
) -> None:
    console.sign_in(page, console.make_key(f"measures-{preset}", preset=preset), path="/measure")
    expect(page.get_by_role("heading", name="Not with this key")).to_be_visible()
    csrf = page.evaluate("document.body.dataset.csrf")
    answer = page.request.post(
        console.url + "/measure", form={"csrf": csrf, "test": "put"}, headers={"Origin": console.url}
    )
    assert answer.status == 403
