"""A store with a console for each module, and a browser for each test process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from console_kit import CHROMIUM, ConsoleStore, Watched, running_browser, running_console, watched_context


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium (Debian: apt install chromium)")
    with running_browser() as found:
        yield found


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleStore]:
    folder: Path = tmp_path_factory.mktemp("console")
    with running_console(folder) as found:
        yield found


@pytest.fixture
def watched(browser: Browser) -> Iterator[Watched]:
    with watched_context(browser) as found:
        yield found


@pytest.fixture
def page(watched: Watched) -> Page:
    return watched.context.new_page()
