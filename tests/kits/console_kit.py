"""Console kit: a store with a console, a real browser, and people who sign in.

    def test_a_bucket_that_is_created_is_listed(console: ConsoleStore, page: Page) -> None:
        console.sign_in(page)
        page.get_by_role("link", name="Buckets").click()
        ...

The browser is Chromium (Debian: chromium).  A page that logs an error, throws, or breaks its
Content-Security-Policy fails its test.
"""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import trio
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    ViewportSize,
    expect,
    sync_playwright,
)

import warehouse
from harness import RunningStore
from warehouse.conf.profile import Profile

CHROMIUM = next((found for name in ("chromium", "chromium-browser") if (found := shutil.which(name))), None)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--explicitly-allowed-ports=10080",  # browsers keep off it; a store that begins at 10000 has its console there
]
PATIENCE_MS = 40_000  # of every wait: machines that run tests are slow
WIDE, NARROW = ViewportSize(width=1280, height=900), ViewportSize(width=360, height=740)
# Keys that are hard to put into pages, URLs and selectors.
HARD_KEYS = (
    "plain.txt",
    "a/b/c.txt",
    "../up.txt",
    "./here",
    "//double//slash.txt",
    "trailing/",
    "100%25 #1?.txt",
    "quotes '\" and `ticks`.txt",
    "<img src=x onerror=alert(1)>",
    "emoji 🐈 ünïcödé.txt",
    "مرحبا بالعالم.txt",
    "new\nline.txt",
    "{{ 7*7 }}.txt",
)

T = TypeVar("T")
expect.set_options(timeout=PATIENCE_MS)


class ConsoleStore:
    """A running store with a console."""

    def __init__(self, store: RunningStore) -> None:
        self.store = store
        self.url: str = store.events[-1]["console"]
        self.root = Profile.load(store.profile)

    def ask(self, work: Callable[[warehouse.Store], Awaitable[T]], profile: Profile | None = None) -> T:
        """Do something with the library, as the root key or as another."""

        async def run() -> T:
            async with warehouse.connect(profile or self.root) as store:
                return await work(store)

        return trio.run(run)

    def make_key(self, name: str, **wish: object) -> Profile:
        """A new API key, as `Store.create_key` makes it."""

        async def make(store: warehouse.Store) -> Profile:
            return (await store.create_key(name, **wish)).profile  # type: ignore[arg-type]

        return self.ask(make)

    def put(self, bucket: str, objects: dict[str, bytes]) -> None:
        """Make the bucket if it is not there, and store these."""

        async def put(store: warehouse.Store) -> None:
            if bucket not in [info.name for info in await store.buckets()]:
                await store.create_bucket(bucket)
            async for result in store.bucket(bucket).put_many(objects.items()):
                assert result.error is None, result.error

        self.ask(put)

    def sign_in(self, page: Page, profile: Profile | None = None, path: str = "/") -> None:
        """Open a page of the console, signing in on the way."""
        who = profile or self.root
        page.goto(self.url + path)
        page.get_by_label("Key id").fill(who.key_id)
        page.get_by_label("Secret").fill(who.secret)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(lambda url: "/sign-in" not in url)


@contextmanager
def running_console(folder: Path, **options: object) -> Iterator[ConsoleStore]:
    with RunningStore(folder / "data", has_console=True, **options) as store:  # type: ignore[arg-type]
        yield ConsoleStore(store)


@contextmanager
def running_browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class Watched:
    """A browser context whose pages must not complain.

    Attributes:
        complaints: what pages logged as errors or threw; tests that provoke some clear it.
    """

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self.complaints: list[str] = []
        context.set_default_timeout(PATIENCE_MS)
        context.on("console", self._heard)
        context.on("weberror", lambda error: self.complaints.append(f"threw: {error.error}"))

    def _heard(self, message: ConsoleMessage) -> None:
        # What the store refuses is logged by the browser as a failed resource; tests look at what is shown.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)

    def require_quiet(self) -> None:
        assert not self.complaints, self.complaints


@contextmanager
def watched_context(browser: Browser, **options: object) -> Iterator[Watched]:
    """A person of their own: no cookies, no storage."""
    context = browser.new_context(**{"viewport": WIDE, **options})  # type: ignore[arg-type]
    try:
        watched = Watched(context)
        yield watched
        watched.require_quiet()
    finally:
        context.close()
