"""Accessibility: axe-core finds nothing, on every page, light and dark, wide and narrow; the keyboard is enough.

axe-core comes from npm: `npm ci` in webui/assets.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from console_kit import HARD_KEYS, WIDE, ConsoleStore, running_console, watched_context
from warehouse.webui.names import bucket_url, object_url

AXE = Path(__file__).resolve().parents[2] / "webui" / "assets" / "node_modules" / "axe-core" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
PAGES = [
    "/",
    "/volumes",
    "/buckets",
    "/buckets/photos/settings",
    "/buckets/photos/delete",
    "/keys",
    "/keys/new",
    "/accounts",
    "/nodes",
    "/activity",
    "/activity/audit",
    "/activity/jobs",
    "/measure",
    "/help",
    "/nothing",
]
EMPTY_PAGES = ["/", "/volumes", "/buckets", "/keys", "/accounts", "/nodes", "/activity", "/activity/jobs"]
CONTENT_PAGES = [
    *PAGES,
    bucket_url("photos"),
    bucket_url("photos", "a/"),
    *(
        object_url("photos", key)
        for key in ("plain.txt", "data.json", "table.csv", "<img src=x onerror=alert(1)>")
    ),
]
SMALLEST = ViewportSize(width=320, height=640)  # WCAG 2.2, 1.4.10: nothing scrolls sideways there
SAMPLES = {
    **dict.fromkeys(HARD_KEYS, b"some text\n"),
    "data.json": b'{"name": "warehouse", "list": [1, 2, {"deep": null}]}',
    "table.csv": b"name,size\nphotos,12\nbackups,40\n",
    "read me.md": b"# Title\n\nText with `code` and a [link](https://example.org).\n",
    "a/very/deep/folder/with-a-name-that-is-longer-than-a-phone-is-wide-and-has-no-place-to-break.txt": b"x",
}


def axe_source() -> str:
    if not AXE.is_file():
        raise AssertionError(f"{AXE} is missing: run `npm ci` in webui/assets")
    return AXE.read_text()


def violations(page: Page) -> list[str]:
    """What axe-core finds: rule, how bad, and the elements."""
    page.evaluate(axe_source())
    found: dict[str, Any] = page.evaluate(
        "rules => axe.run(document, {runOnly: {type: 'tag', values: rules}, resultTypes: ['violations']})",
        RULES,
    )
    return [
        f"{rule['id']} ({rule['impact']}): "
        + "; ".join(f"{node['html'][:160]} [{node['failureSummary'][:200]}]" for node in rule["nodes"][:3])
        for rule in found["violations"]
    ]


def complaints_of(page: Page) -> list[str]:
    """What is wrong with the page as it is: wide and light, narrow and dark."""
    found = []
    for size, scheme in ((WIDE, "light"), (SMALLEST, "dark")):
        page.set_viewport_size(size)
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        found += [f"{size['width']} px, {scheme}: {one}" for one in violations(page)]
        wide = page.evaluate("document.scrollingElement.scrollWidth")
        if wide > size["width"]:
            what = page.evaluate(
                "w => [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > w + 1)"
                ".slice(0, 3).map(e => e.outerHTML.slice(0, 120))",
                size["width"],
            )
            found.append(f"{size['width']} px: the page is {wide} px wide: {what}")
    return found


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleStore]:
    """A store in which nobody has stored anything."""
    with running_console(tmp_path_factory.mktemp("empty")) as found:
        yield found


@pytest.fixture(scope="module")
def filled(console: ConsoleStore) -> ConsoleStore:
    console.put("photos", SAMPLES)
    console.put("backups-of-a-machine-with-a-name-that-is-as-long-as-it-can-be", {"x": b"x"})
    console.make_key(
        "<b>a key</b> with a name that is rather long, longer than anybody would make it", preset="reader"
    )
    return console


@pytest.fixture(scope="module")
def signed_in(browser: Browser, filled: ConsoleStore) -> Iterator[Page]:
    with watched_context(browser) as person:
        page = person.context.new_page()
        filled.sign_in(page)
        yield page


@pytest.fixture(scope="module")
def signed_in_to_empty(browser: Browser, empty: ConsoleStore) -> Iterator[Page]:
    with watched_context(browser) as person:
        page = person.context.new_page()
        empty.sign_in(page)
        yield page


@pytest.mark.parametrize("path", CONTENT_PAGES)
def test_a_page_with_content_has_no_violation(filled: ConsoleStore, signed_in: Page, path: str) -> None:
    signed_in.goto(filled.url + path)
    assert complaints_of(signed_in) == []


@pytest.mark.parametrize("path", EMPTY_PAGES)
def test_a_page_of_an_empty_store_has_no_violation(
    empty: ConsoleStore, signed_in_to_empty: Page, path: str
) -> None:
    signed_in_to_empty.goto(empty.url + path)
    assert complaints_of(signed_in_to_empty) == []


def test_the_sign_in_page_has_no_violation_also_after_a_refusal(filled: ConsoleStore, page: Page) -> None:
    page.goto(filled.url)
    assert complaints_of(page) == []
    page.get_by_label("Key id").fill("nobody")
    page.get_by_label("Secret").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    assert complaints_of(page) == []


def test_an_open_dialog_has_no_violation(filled: ConsoleStore, page: Page) -> None:
    filled.sign_in(page, path="/buckets")
    page.get_by_role("button", name="Create bucket").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.get_by_label("Name").fill("UPPER")
    assert complaints_of(page) == []


# --- by keyboard alone ----------------------------------------------------------------------------


def focused(page: Page) -> str:
    return str(
        page.evaluate("document.activeElement?.textContent?.trim() || document.activeElement?.name || ''")
    )


def is_ringed(page: Page) -> bool:
    """Does the focused element show that it has the focus?"""
    return bool(
        page.evaluate(
            "(s => s.outlineStyle !== 'none' && s.outlineWidth !== '0px')(getComputedStyle(document.activeElement))"
        )
    )


def test_somebody_signs_in_and_opens_a_dialog_by_keyboard_alone(filled: ConsoleStore, page: Page) -> None:
    page.goto(filled.url + "/buckets")
    page.keyboard.type(filled.root.key_id)  # the first field has the focus
    page.keyboard.press("Tab")
    page.keyboard.type(filled.root.secret)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Buckets")).to_be_visible()
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("Tab")
    assert focused(page) == "Create bucket"
    assert is_ringed(page)
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    assert page.evaluate("document.activeElement.closest('dialog') !== null")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert focused(page) == "Create bucket"


@pytest.mark.parametrize("path", ["/", "/buckets", bucket_url("photos"), "/keys", "/activity"])
def test_whatever_gets_the_focus_shows_it(filled: ConsoleStore, signed_in: Page, path: str) -> None:
    signed_in.set_viewport_size(WIDE)
    signed_in.goto(filled.url + path)
    for _ in range(25):
        signed_in.keyboard.press("Tab")
        if signed_in.evaluate("document.activeElement === document.body"):
            break
        assert is_ringed(signed_in), signed_in.evaluate("document.activeElement.outerHTML.slice(0, 200)")
