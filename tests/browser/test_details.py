"""The page of an object: hard names, previews of every kind, and what they must not do."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from console_kit import HARD_KEYS, PATIENCE_MS, ConsoleStore, running_console, watched_context
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
    for kind in ("video", "audio"):  # each is there only after the page has changed
        reader.get_by_label("View as").select_option(kind.capitalize())
        until(reader, f"document.querySelector('{kind}[data-shows]')?.duration === 10")
        reader.evaluate(f"document.querySelector('{kind}').currentTime = 8")
        until(reader, f"document.querySelector('{kind}').currentTime === 8")


@pytest.mark.parametrize("key", ["rows.parquet", "zstd.parquet"])
def test_parquet_shows_its_first_rows_and_schema(stored: ConsoleStore, reader: Page, key: str) -> None:
    look_at(stored, reader, key)
    expect(reader.get_by_role("cell", name="<script>window.pwned=1</script>")).to_be_visible()
    expect(reader.get_by_role("cell", name="1152921504606846976")).to_be_visible()
    expect(reader.get_by_text("3 rows in 1 group,")).to_be_visible()
    reader.get_by_text("Schema: 5 columns").click()
    expect(reader.get_by_role("cell", name="int64", exact=True)).to_be_visible()


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


def test_a_damaged_pdf_says_so(stored: ConsoleStore, reader: Page) -> None:
    whole = pdf("Hello", pages=7)
    one_page = whole.replace(b"16 0 obj\n<<", b"16 0 obj\n((")
    assert one_page != whole
    stored.put("kinds", {"cut.pdf": whole[:300], "one-page.pdf": one_page})
    look_at(stored, reader, "cut.pdf")
    expect(reader.get_by_text("your browser cannot show them")).to_be_visible()
    look_at(stored, reader, "one-page.pdf")
    reader.get_by_role("button", name="More pages").click()
    expect(reader.get_by_text("Page 7 of 7 is damaged and cannot be shown")).to_be_visible()
    expect(reader.get_by_role("img", name="Page 6 of 7")).to_be_visible()


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


def test_changes_by_others_are_told_at_once(stored: ConsoleStore, reader: Page) -> None:
    stored.put("kinds", {"lively.txt": b"first"})
    look_at(stored, reader, "lively.txt")
    expect(reader.get_by_text("first", exact=True)).to_be_visible()
    stored.put("kinds", {"lively.txt": b"second"})
    reader.get_by_role("link", name="Show the new version").click()
    expect(reader.get_by_text("second", exact=True)).to_be_visible()
    stored.ask(lambda store: store.bucket("kinds").delete("lively.txt"))
    expect(reader.get_by_text("This object was deleted")).to_be_visible()
    reader.reload()
    expect(reader.get_by_role("heading", name="There is no object of this name")).to_be_visible()
    reader.get_by_role("link", name="To its folder").click()
    expect(reader.get_by_role("link", name="plain.txt")).to_be_visible()


def test_metadata_is_changed_unless_somebody_was_quicker(stored: ConsoleStore, reader: Page) -> None:
    stored.put("kinds", {"marked.txt": b"content"})
    look_at(stored, reader, "marked.txt")
    reader.get_by_role("button", name="Edit").click()
    reader.get_by_label("Content type").fill("text/x-note")
    reader.get_by_label("New name 1").fill("<b>mood</b>")
    reader.get_by_label("New value 1").fill("fine = good")
    reader.get_by_role("button", name="Save").click()
    expect(reader.get_by_text("Type and metadata changed")).to_be_visible()
    expect(reader.get_by_role("definition").filter(has_text="fine = good")).to_be_visible()
    info = stored.ask(lambda store: store.bucket("kinds").stat("marked.txt"))
    assert (info.content_type, dict(info.metadata)) == ("text/x-note", {"<b>mood</b>": "fine = good"})

    reader.get_by_role("button", name="Edit").click()
    reader.get_by_label("Value 1", exact=True).fill("lost?")
    stored.put("kinds", {"marked.txt": b"by another"})
    expect(reader.get_by_text("This object was replaced just now")).to_be_visible()
    reader.get_by_role("button", name="Save").click()
    expect(reader.get_by_text("Somebody changed the object meanwhile")).to_be_visible()
    assert stored.ask(lambda store: store.bucket("kinds").get("marked.txt")) == b"by another"


def test_deleting_leads_to_the_folder_and_a_link_is_made(stored: ConsoleStore, reader: Page) -> None:
    stored.put("kinds", {"doomed/a.txt": b"a", "doomed/b.txt": b"b"})
    look_at(stored, reader, "doomed/a.txt")
    reader.get_by_role("button", name="Copy link").click()
    dialog = reader.get_by_role("dialog")
    dialog.get_by_role("button", name="Make link").click()
    expect(dialog.get_by_role("textbox", name="Link")).to_have_value(re.compile("^http"))
    dialog.get_by_role("button", name="Close").first.click()
    reader.get_by_role("button", name="Delete").click()
    dialog.get_by_role("button", name="Delete").click()
    reader.wait_for_url("**/buckets/kinds?prefix=doomed*")
    expect(reader.get_by_role("link", name="b.txt")).to_be_visible()
    expect(reader.get_by_role("link", name="a.txt", exact=True)).to_have_count(0)


def test_a_key_sees_what_it_may_and_no_more(stored: ConsoleStore, browser: Browser) -> None:
    lister = stored.make_key("lister", permissions=["list"])
    uploader = stored.make_key("uploader", preset="upload-only")
    reads = stored.make_key("reads", permissions=["read"])
    for profile, words in (
        (lister, "This key may not read the object"),
        (uploader, "This key may not look at this object"),
        (reads, EVIL),
    ):
        with watched_context(browser) as watched:
            page = watched.context.new_page()
            stored.sign_in(page, profile, object_url("kinds", "plain.txt"))
            expect(page.get_by_text(words)).to_be_visible()
            for name in ("Delete", "Edit", "Copy link", "Rename"):
                expect(page.get_by_role("button", name=name)).to_have_count(0)
            expect(page.get_by_role("link", name="Download")).to_have_count(int(profile is reads))


def test_a_key_that_may_not_sign_sees_pictures_through_the_console(
    stored: ConsoleStore, browser: Browser
) -> None:
    with watched_context(browser) as watched:
        page = watched.context.new_page()
        stored.sign_in(
            page, stored.make_key("looks", permissions=["read"]), object_url("kinds", "picture.png")
        )
        until(page, "document.querySelector('[data-shows]').naturalWidth === 40")
        look_at(stored, page, "zstd.parquet")
        expect(page.get_by_role("cell", name="<script>window.pwned=1</script>")).to_be_visible()


def test_a_damaged_object_says_so(tmp_path: Path, browser: Browser) -> None:
    content = b"these bytes are to be found on the disk"
    with running_console(tmp_path) as console, watched_context(browser) as watched:
        console.put("kinds", {"hurt.txt": content, "well.txt": b"well"})
        for path in (tmp_path / "data").rglob("*"):
            if path.is_file() and content in (found := path.read_bytes()):
                with path.open("r+b") as file:
                    file.seek(found.index(content))
                    file.write(b"THESE")
        page = watched.context.new_page()
        console.sign_in(page, path=object_url("kinds", "hurt.txt"))
        expect(page.get_by_text("This object is damaged")).to_be_visible()
        expect(page.get_by_role("heading", name="hurt.txt")).to_be_visible()
        look_at(console, page, "well.txt")
        expect(page.get_by_text("well", exact=True)).to_be_visible()
