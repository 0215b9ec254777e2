"""Console acts: what `console_browser` does in pages of a real Chromium, and how long that takes.

Times of acts are taken inside the page: from the act until what it brings is in the page and a frame with it
was drawn.  Bytes over the wire are those that Chromium itself counts, with heads, as they came (compressed).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Download, Page, sync_playwright

from bench.machine import peak_memory, reset_peak_memory
from console_kit import CHROMIUM, FLAGS, WIDE
from warehouse.conf.profile import Profile

PATIENCE_MS = 1_800_000  # of uploads and downloads; a stuck one is seen by who looks
WATCH = """
window.bench = {};
const began = new MutationObserver(() => {
  if (document.documentElement?.dataset.socket !== "on") return;
  window.bench.usable_ms ??= performance.now();
  began.disconnect();
});
began.observe(document, { attributes: true, childList: true, subtree: true });
window.bench.timed = (act, isDone) => new Promise((resolve, reject) => {
  const start = performance.now();
  const late = setTimeout(() => reject(new Error("what was waited for did not come")), 60_000);
  const look = () => {
    if (!isDone()) return;
    seen.disconnect();
    clearTimeout(late);
    requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - start)));
  };
  const seen = new MutationObserver(look);
  seen.observe(document, { attributes: true, childList: true, subtree: true });
  act();
  look();
});
"""
SUBMIT = """
([action, prefix]) => {
  const form = document.createElement("form");
  form.method = "post";
  form.action = action;
  form.setAttribute("hx-boost", "false");
  for (const [name, value] of [["csrf", document.body.dataset.csrf], ["prefix", prefix]]) {
    const field = document.createElement("input");
    [field.name, field.value] = [name, value];
    form.append(field);
  }
  document.getElementById("main").append(form);
  form.submit();
  form.remove();
}
"""


@contextmanager
def chromium(downloads: Path) -> Iterator[Browser]:
    """A browser that keeps what it downloads in this folder while it runs."""
    if CHROMIUM is None:
        raise SystemExit("needs Chromium (Debian: apt install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=FLAGS, downloads_path=downloads, traces_dir=downloads
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def person(browser: Browser, url: str, profile: Profile) -> Iterator[BrowserContext]:
    """Somebody who is signed in; the browser's cache is empty otherwise."""
    context = browser.new_context(viewport=WIDE)
    try:
        context.add_init_script(WATCH)
        page = context.new_page()
        page.goto(f"{url}/sign-in")
        page.get_by_label("Key id").fill(profile.key_id)
        page.get_by_label("Secret").fill(profile.secret)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(lambda found: "/sign-in" not in found)
        page.close()
        yield context
    finally:
        context.close()


def until_usable(page: Page) -> None:
    """Wait for the live connection of a page."""
    page.locator("html[data-socket=on]").wait_for(state="attached")


# --- loading --------------------------------------------------------------------------------------


def load(browser: Browser, signed_in: BrowserContext, url: str) -> dict[str, float]:
    """Open a page with an empty cache: `load_ms`, `usable_ms` (its live connection is up), and `bytes`."""
    context = browser.new_context(viewport=WIDE, storage_state=signed_in.storage_state())
    try:
        context.add_init_script(WATCH)
        page = context.new_page()
        session = context.new_cdp_session(page)
        session.send("Network.enable")
        received: list[float] = []
        session.on("Network.loadingFinished", lambda event: received.append(event["encodedDataLength"]))
        page.goto(url, wait_until="load")
        until_usable(page)
        page.wait_for_load_state("networkidle")
        load_ms: float = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
        usable_ms: float = page.evaluate("window.bench.usable_ms")
        return {"load_ms": load_ms, "usable_ms": max(load_ms, usable_ms), "bytes": sum(received)}
    finally:
        context.close()


# --- lists ----------------------------------------------------------------------------------------


def timed(page: Page, act: str, is_done: str) -> float:
    """Milliseconds from an act, a statement of JavaScript, until an expression holds and is on the screen."""
    took: float = page.evaluate(f"() => window.bench.timed(() => {{ {act} }}, () => {is_done})")
    return took


def first_page(page: Page, url: str, bucket: str) -> float:
    """From the list of buckets, by a click on one."""
    page.goto(f"{url}/buckets")
    until_usable(page)
    link = f"""document.querySelector('td a[href$="/buckets/{bucket}"]').click()"""
    return timed(page, link, "document.querySelectorAll('#rows tr').length > 50")


def next_rows(page: Page) -> float:
    """From scrolling to the end of the rows that are there."""
    act = (
        "window.bench.shown = document.querySelectorAll('#rows tr').length;"
        "document.querySelector('#more').scrollIntoView()"
    )
    return timed(page, act, "document.querySelectorAll('#rows tr').length > window.bench.shown")


def typed(page: Page, text: str) -> float:
    """From the last key of a text that is looked for; the page waits 150 ms whether another follows."""
    act = (
        f"const field = document.querySelector('#find-text'); field.value = '{text}';"
        "field.dispatchEvent(new InputEvent('input', { bubbles: true }))"
    )
    query = "JSON.parse(document.querySelector('#list')?.dataset.query ?? '{}').find"
    return timed(page, act, f"{query} === '{text}' && document.querySelector('#rows tr')")


def newest_first(page: Page) -> float:
    """From a click on the head of the column."""
    act = "document.querySelector('#list th a[href*=\"sort=time\"]').click()"
    done = "document.querySelector('#list th[aria-sort=descending] a[href*=\"sort=time\"]')"
    return timed(page, act, f"{done} && document.querySelectorAll('#rows tr').length > 50")


# --- bytes ----------------------------------------------------------------------------------------


def renderers(browser: Browser) -> list[int]:
    """The processes that pages run in."""
    found: dict[str, Any] = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")
    return [process["id"] for process in found["processInfo"] if process["type"] == "renderer"]


def spent(browser: Browser, console_pid: int, act: Callable[[], None]) -> dict[str, float]:
    """Seconds of an act, and the largest memory of the console and of a page meanwhile, in bytes."""
    before = renderers(browser)
    reset_peak_memory([console_pid, *before])
    began = time.perf_counter()
    act()
    took_s = time.perf_counter() - began
    pages = [pid for pid in renderers(browser) if pid in before]
    return {"s": took_s, "console_bytes": peak_memory([console_pid]), "page_bytes": peak_memory(pages)}


def upload(page: Page, path: Path) -> None:
    """Choose a file, until the page says that it is stored."""
    panel = page.get_by_role("region", name="Uploads")
    page.get_by_label("Upload files").set_input_files(path)
    panel.get_by_role("heading", name="stored in").wait_for(timeout=PATIENCE_MS)
    panel.get_by_role("button", name="Close the uploads").click()


def block(page: Page, address: str) -> None:
    """Let the page reach nothing below this address, as behind a firewall."""
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.send("Network.setBlockedURLs", {"urls": [f"{address}/v1/*"]})


def _whole(download: Download) -> None:
    if (failure := download.failure()) is not None:  # waits for its end
        raise SystemExit(f"{download.url} was not downloaded: {failure}")
    download.delete()


def download(page: Page, address: str) -> None:
    """Follow a link to a file, until it is whole."""
    act = """address => {
      const link = document.createElement("a");
      link.href = address;
      link.setAttribute("hx-boost", "false");
      document.getElementById("main").append(link);
      link.click();
      link.remove();
    }"""
    with page.expect_download(timeout=PATIENCE_MS) as found:
        page.evaluate(act, address)
    _whole(found.value)


def archive(page: Page, bucket: str) -> None:
    """All of a bucket as a ZIP, until it is whole."""
    with page.expect_download(timeout=PATIENCE_MS) as found:
        page.evaluate(SUBMIT, [f"/buckets/{bucket}/zip", ""])
    _whole(found.value)
