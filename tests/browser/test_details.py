"""The page of an object: hard names, previews of every kind, and what they must not do."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from console_kit import HARD_KEYS, PATIENCE_MS, ConsoleStore, watched_context
from samples_kit import EVIL, PARQUET_SNAPPY, PARQUET_ZSTD, pdf, png, svg, tarred, wav, zipped
from warehouse.webui.names import last_part, object_url, visible

KINDS = {
    "plain.txt": EVIL.encode(),
    "code.py": f"# {EVIL}\ndef f():\n    return '{EVIL}'\n".encode(),
    "page.html": f"<h1>Page</h1>{EVIL}".encode(),
    "data.json": b'{"<script>window.pwned = 1</script>": "<img src=x onerror=window.pwned=2>", "n": 1.50}',
    "table.csv": f'name,"{EVIL}"\n=HYPERLINK("http://x/"),@SUM(1)\n'.encode(),
    "notes.md": f"# Title\n\n{EVIL}\n\n[bad](javascript:alert(1)) [good](https://example.org/) ![far](http://x/y.png)".encode(),
    "picture.png": png(),
    "drawing.svg": svg(),
    "sound.wav": wav(),
    "list.zip": zipped("a.txt", "../up", EVIL),
    "list.tar": tarred("a.txt", "../up", EVIL),
    "list.tar.gz": tarred("b.txt", EVIL, mode="w:gz"),
    "rows.parquet": PARQUET_SNAPPY,
    "zstd.parquet": PARQUET_ZSTD,
    "paper.pdf": pdf("Hello", pages=7),
    "bytes.bin": bytes(range(256)) * 40,
    "empty": b"",
}


@pytest.fixture(scope="module")
def stored(console: ConsoleStore) -> ConsoleStore:
    console.put("kinds", KINDS)
    return console


@pytest.fixture(scope="module")
def signed_in(stored: ConsoleStore, browser: Browser) -> Iterator[Page]:
    """One page for all: signing in takes longer than looking."""
    with watched_context(browser) as watched:
        page = watched.context.new_page()
        stored.sign_in(page, path="/buckets")
        yield page


@pytest.fixture
def reader(signed_in: Page) -> Iterator[Page]:
    """A page of somebody who is signed in; nothing that they look at has run."""
    yield signed_in
    assert signed_in.evaluate("window.pwned") is None


def until(page: Page, says: str) -> None:
    """Wait until an expression is true there; the page's policy forbids `wait_for_function`."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not page.evaluate(says):
        assert time.monotonic() < deadline, f"it did not become true: {says}"
        page.wait_for_timeout(50)


def look_at(console: ConsoleStore, page: Page, key: str, more: str = "", bucket: str = "kinds") -> None:
    path = object_url(bucket, key)
    page.goto(console.url + path + (("&" if "?" in path else "?") + more if more else ""))


def test_every_hard_key_has_its_page(console: ConsoleStore, reader: Page) -> None:
    console.put("hard", dict.fromkeys(HARD_KEYS, b"twelve bytes"))
    for key in HARD_KEYS:
        look_at(console, reader, key, bucket="hard")
        heading = reader.get_by_role("heading", level=1)
        expect(heading).to_have_text(visible(last_part(key)), use_inner_text=False)
        expect(reader.get_by_text("twelve bytes")).to_be_visible()
        expect(reader.get_by_role("link", name="Download")).to_be_visible()


def test_a_list_leads_to_the_page_and_raw_shows_the_text(console: ConsoleStore, page: Page) -> None:
    console.put("walk", {"a/list.json": b'{"name": [1, 2.50, "x"]}'})
    console.sign_in(page, path="/buckets/walk?prefix=a/")
    page.get_by_role("link", name="list.json").click()
    expect(page.get_by_text("2.50")).to_be_visible()
    page.get_by_role("link", name="Raw").click()
    expect(page.get_by_text('{"name": [1, 2.50, "x"]}')).to_be_visible()
    page.get_by_label("View as").select_option("Bytes")
    expect(page.get_by_label("Content", exact=True)).to_contain_text("00000000  7b 22 6e 61")


@pytest.mark.parametrize("key", ["plain.txt", "code.py", "page.html", "list.zip", "list.tar", "list.tar.gz"])
def test_markup_in_an_object_is_text(stored: ConsoleStore, reader: Page, key: str) -> None:
    look_at(stored, reader, key)
    expect(reader.locator("#preview .content")).to_contain_text(EVIL)
    expect(reader.locator("#preview script, #preview img")).to_have_count(0)


def test_code_has_colours(stored: ConsoleStore, reader: Page) -> None:
    look_at(stored, reader, "code.py")
    expect(reader.locator(".t-key", has_text="def")).to_be_visible()


def test_json_is_a_tree_of_text(stored: ConsoleStore, reader: Page) -> None:
    look_at(stored, reader, "data.json")
    expect(reader.get_by_text("<script>window.pwned = 1</script>")).to_be_visible()
    expect(reader.get_by_text('"<img src=x onerror=window.pwned=2>"')).to_be_visible()
    reader.get_by_text("{…}").click()
    expect(reader.get_by_text("1.50")).not_to_be_visible()


def test_a_table_shows_formulas_as_they_are(stored: ConsoleStore, reader: Page) -> None:
    look_at(stored, reader, "table.csv")
    expect(reader.get_by_role("columnheader", name=EVIL)).to_be_visible()
    expect(reader.get_by_role("cell", name='=HYPERLINK("http://x/")')).to_be_visible()


def test_markdown_has_links_to_the_web_alone_and_no_pictures(stored: ConsoleStore, reader: Page) -> None:
    look_at(stored, reader, "notes.md")
    document = reader.locator(".document")
    expect(document.get_by_role("heading", name="Title")).to_be_visible()
    expect(document.locator("a")).to_have_count(1)
    expect(document.get_by_role("link", name="good")).to_have_attribute("rel", "noopener noreferrer nofollow")
    expect(document).to_contain_text("[bad](javascript:alert(1))")
    expect(document.locator("img, script")).to_have_count(0)


@pytest.mark.parametrize("key", ["picture.png", "drawing.svg"])
def test_pictures_come_from_the_volume_actor_and_run_nothing(
    stored: ConsoleStore, reader: Page, key: str
) -> None:
    look_at(stored, reader, key)
    picture = reader.get_by_role("img", name=key)
    expect(picture).to_be_visible()
    until(reader, "document.querySelector('[data-shows]').naturalWidth === 40")
    assert not (picture.get_attribute("src") or "").startswith(stored.url)


def test_sound_can_be_sought(stored: ConsoleStore, reader: Page) -> None:
    look_at(stored, reader, "sound.wav")
    for kind in ("audio", "video"):
        reader.get_by_label("View as").select_option(kind.capitalize())
        until(reader, f"document.querySelector('{kind}[data-shows]')?.duration === 10")
        reader.evaluate(f"document.querySelector('{kind}').currentTime = 8")
        until(reader, f"document.querySelector('{kind}').currentTime === 8")


@pytest.mark.parametrize("key", ["rows.parquet", "zstd.parquet"])
def test_parquet_shows_its_first_rows_and_schema(stored: ConsoleStore, reader: Page, key: str) -> None:
    look_at(stored, reader, key)
    expect(reader.get_by_role("cell", name="<script>window.pwned=1</script>")).to_be_visible()
    expect(reader.get_by_role("cell", name="1152921504606846976")).to_be_visible()
    expect(reader.get_by_text("3 rows in 1 groups")).to_be_visible()
    reader.get_by_text("Schema: 5 columns").click()
    expect(reader.get_by_role("cell", name="int64")).to_be_visible()


def test_a_pdf_is_drawn_page_by_page(stored: ConsoleStore, reader: Page) -> None:
    look_at(stored, reader, "paper.pdf")
    expect(reader.get_by_role("img", name="Page 5 of 7")).to_be_visible()
    expect(reader.get_by_text("The first 5 of 7 pages are shown.")).to_be_visible()
    dark = (
        "c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].filter(v => v < 99).length"
    )
    assert reader.get_by_role("img", name="Page 1 of 7").evaluate(dark) > 100, "nothing is written on it"
    reader.get_by_role("button", name="More pages").click()
    expect(reader.get_by_role("img", name="Page 7 of 7")).to_be_visible()


def test_what_a_browser_cannot_show_says_so(stored: ConsoleStore, reader: Page) -> None:
    for kind in ("image", "parquet", "pdf"):
        look_at(stored, reader, "bytes.bin", f"as={kind}")
        expect(reader.get_by_text("your browser cannot show them")).to_be_visible()


def test_unknown_bytes_are_shown_as_digits_and_an_empty_object_says_so(
    stored: ConsoleStore, reader: Page
) -> None:
    look_at(stored, reader, "bytes.bin")
    expect(reader.get_by_text("The first 4.0 KiB of 10.0 KiB are shown")).to_be_visible()
    reader.get_by_role("link", name="Show more").click()
    expect(reader.get_by_label("Content", exact=True)).to_contain_text("000027f0")
    look_at(stored, reader, "empty")
    expect(reader.get_by_text("This object is empty")).to_be_visible()


def test_a_long_text_shows_a_part_and_then_more(stored: ConsoleStore, reader: Page) -> None:
    stored.put("kinds", {"long.log": b"".join(b"line %07d\n" % number for number in range(50_000))})
    look_at(stored, reader, "long.log")
    expect(reader.get_by_text("The first 256.0 KiB of 634.8 KiB are shown")).to_be_visible()
    content = reader.get_by_label("Content", exact=True)
    expect(content).not_to_contain_text("line 0049999")
    reader.get_by_role("link", name="Show more").click()
    expect(content).to_contain_text("line 0049999")
    expect(reader.get_by_role("link", name="Show more")).to_have_count(0)
