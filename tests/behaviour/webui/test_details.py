"""The page of an object over HTTP: facts, chunks, metadata, previews of every kind, and who sees what of it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from crc32c import crc32c

import warehouse
from console_http import Answer, Visitor
from console_kit import HARD_KEYS, ConsoleStore, running_console
from samples_kit import EVIL, PARQUET_SNAPPY, pdf, png, svg, tarred, wav, zipped
from warehouse.webui.names import last_part, object_url, visible

BUCKET = "kinds"
CONTROLS = b"bell \x07, colour \x1b[31m, null \x00, and a line\r\nmore"
OBJECTS = {
    "plain.txt": EVIL.encode(),
    "code.py": f"# {EVIL}\ndef f():\n    return '{EVIL}'\n".encode(),
    "page.html": f"<h1>Page</h1>{EVIL}".encode(),
    "data.json": b'{"<script>": "<img src=x onerror=1>", "n": 1.50, "n": 2}',
    "lines.jsonl": b'{"a": 1}\n["<script>"]\n',
    "table.csv": f'name,"{EVIL}"\n=HYPERLINK("http://x/"),@SUM(1)\n'.encode(),
    "table.tsv": b"name\tnumber\nfirst\t12\n",
    "notes.md": (
        f"# Title\n\n{EVIL}\n\n[bad](javascript:alert(1)) [good](https://example.org/) ![far](http://x/y.png)"
    ).encode(),
    "picture.png": png(),
    "drawing.svg": svg(),
    "sound.wav": wav(1),
    "film.mp4": b"no film",
    "list.zip": zipped("a.txt", "../up", EVIL),
    "list.tar": tarred("a.txt", "../up", EVIL),
    "list.tar.gz": tarred("a.txt", EVIL, mode="w:gz"),
    "list.tar.bz2": tarred("a.txt", EVIL, mode="w:bz2"),
    "list.tar.xz": tarred("a.txt", EVIL, mode="w:xz"),
    "rows.parquet": PARQUET_SNAPPY,
    "paper.pdf": pdf("Hello"),
    "bytes.bin": bytes(range(256)) * 40,
    "controls.txt": CONTROLS,
    "empty": b"",
}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    text: str = ""


@dataclass
class Section(HTMLParser):
    """A part of a page as a browser takes it: its elements in order, and all of its text."""

    html: str
    elements: list[Element] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.elements:
            self.elements[-1].text += data

    def all(self, tag: str) -> list[Element]:
        return [element for element in self.elements if element.tag == tag]

    def require_harmless(self) -> None:
        """Nothing in it runs, is loaded from elsewhere, or changes how it looks."""
        for element in self.elements:
            assert element.tag not in ("script", "iframe", "object", "embed", "style", "link", "meta", "base")
            assert not [name for name in element.attributes if name.startswith("on") or name == "style"]
            assert not element.attributes.get("href", "").lower().startswith(("javascript:", "data:"))


def section(answer: Answer, name: str) -> Section:
    """The section with this id, or with this label."""
    wanted = rf'<section (?:id="{name}"|[^>]*aria-labelledby="{name}").*?</section>'
    found = re.search(wanted, answer.text, re.DOTALL)
    assert found is not None, (name, answer.status, answer.text)
    return Section(found[0])


def pairs(found: Section) -> dict[str, str]:
    """Terms and what is said of them."""
    terms = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", found.html, re.DOTALL)
    return {Section(term).text: Section(said).text.strip() for term, said in terms}


def look(visitor: Visitor, key: str, query: str = "", bucket: str = BUCKET) -> Answer:
    path = object_url(bucket, key)
    return visitor.get(path + (("&" if "?" in path else "?") + query if query else ""))


def preview(visitor: Visitor, key: str, query: str = "") -> Section:
    answer = look(visitor, key, query)
    assert answer.status == 200, answer.text
    found = section(answer, "preview")
    found.require_harmless()
    return found


@pytest.fixture(scope="module")
def stored(console: ConsoleStore) -> ConsoleStore:
    console.put(BUCKET, OBJECTS)
    return console


@pytest.fixture(scope="module")
def signed_in(stored: ConsoleStore) -> Visitor:
    """The root key; signing in takes longer than looking."""
    return Visitor(stored.url).sign_in(stored.root)


# --- facts ------------------------------------------------------------------------------------------


def test_facts_are_those_of_the_store(stored: ConsoleStore, signed_in: Visitor) -> None:
    info = stored.ask(lambda store: store.bucket(BUCKET).stat("bytes.bin"))
    found = pairs(section(look(signed_in, "bytes.bin"), "facts-heading"))
    assert found["Name"].startswith("bytes.bin")
    assert (found["Bucket"], found["Type"], found["ETag"]) == (BUCKET, "application/octet-stream", info.etag)
    assert found["Size"].startswith("10.0 KiB")
    assert "10,240 bytes" in found["Size"]
    assert found["Chunks"] == "1"


def test_every_chunk_is_listed_with_its_disk_and_checksum(stored: ConsoleStore, signed_in: Visitor) -> None:
    chunks = [b"0123", b"4567", b"89"]

    async def upload(store: warehouse.Store) -> None:
        async def pieces(chunk: bytes) -> AsyncIterator[bytes]:
            yield chunk

        begun = await store.bucket(BUCKET).begin_upload("chunks.txt", 10, chunk_size=4)
        for index, chunk in enumerate(chunks):
            await begun.send(index, pieces(chunk))
        await begun.finish()

    stored.ask(upload)
    found = section(look(signed_in, "chunks.txt"), "chunks-heading")
    codes = [element.text.strip() for element in found.all("code")]
    assert codes == [f"{crc32c(chunk):08x}" for chunk in chunks]
    assert found.text.count("disk-1") == 3
    assert "offline" not in found.text
    assert "0123456789" in preview(signed_in, "chunks.txt").text


@pytest.mark.parametrize("key", HARD_KEYS)
def test_a_hard_key_has_its_page_and_its_name_is_text(
    stored: ConsoleStore, signed_in: Visitor, key: str
) -> None:
    stored.put("hard", {key: b"twelve bytes"})
    answer = look(signed_in, key, bucket="hard")
    assert answer.status == 200
    heading = re.search(r"<h1><bdi>(.*?)</bdi></h1>", answer.text, re.DOTALL)
    assert heading is not None
    assert unescape(heading[1]) == visible(last_part(key))
    assert "twelve bytes" in section(answer, "preview").text
    assert "<img src=x" not in answer.text


def test_an_object_that_is_not_there_has_a_page_that_says_so(signed_in: Visitor) -> None:
    for key in ("missing.txt", "a/../b", "x" * 1024):
        answer = look(signed_in, key)
        assert answer.status == 404
        assert "There is no object of this name" in answer.text
    assert signed_in.get(f"/buckets/{BUCKET}/objects/").status == 404
    assert look(signed_in, "a", bucket="nowhere").status == 404


# --- previews ---------------------------------------------------------------------------------------

# What a preview shows as text, and an element that it has.
SHOWN: list[tuple[str, str, str]] = [
    ("plain.txt", EVIL, "pre"),
    ("code.py", EVIL, "span"),
    ("page.html", f"<h1>Page</h1>{EVIL}", "pre"),
    ("data.json", '"<img src=x onerror=1>"', "details"),
    ("data.json", "1.50", "details"),
    ("lines.jsonl", '"<script>"', "details"),
    ("table.csv", EVIL, "table"),
    ("table.csv", '=HYPERLINK("http://x/")', "td"),
    ("table.tsv", "12", "td"),
    ("notes.md", "[bad](javascript:alert(1))", "h1"),
    ("list.zip", EVIL, "td"),
    ("list.zip", "../up", "td"),
    ("list.tar", "../up", "td"),
    ("list.tar.gz", EVIL, "td"),
    ("list.tar.bz2", EVIL, "td"),
    ("list.tar.xz", EVIL, "td"),
    ("bytes.bin", "00 01 02 03", "pre"),
    ("controls.txt", "bell ␇, colour ␛[31m, null ␀, and a line\nmore", "pre"),
    ("empty", "This object is empty", "p"),
]


@pytest.mark.parametrize(("key", "text", "tag"), SHOWN)
def test_a_preview_shows_the_content_as_text(signed_in: Visitor, key: str, text: str, tag: str) -> None:
    found = preview(signed_in, key)
    assert text in found.text
    assert found.all(tag)
    assert not found.all("img")


def test_links_of_a_document_lead_to_the_web_and_its_pictures_stay_there(signed_in: Visitor) -> None:
    found = preview(signed_in, "notes.md")
    links = [element for element in found.all("a") if element.attributes.get("target") == "_blank"]
    assert [link.attributes["href"] for link in links] == ["https://example.org/"]
    assert links[0].attributes["rel"] == "noopener noreferrer nofollow"


@pytest.mark.parametrize(
    ("key", "tag"),
    [
        ("picture.png", "img"),
        ("drawing.svg", "img"),
        ("sound.wav", "audio"),
        ("film.mp4", "video"),
        ("rows.parquet", "div"),
        ("paper.pdf", "div"),
    ],
)
def test_what_a_browser_loads_itself_comes_from_the_volume_actor(
    stored: ConsoleStore, signed_in: Visitor, key: str, tag: str
) -> None:
    found = preview(signed_in, key)
    sources = [e.attributes.get("src") or e.attributes.get("data-source", "") for e in found.all(tag)]
    source = next(filter(None, sources))
    assert urlsplit(source).netloc == f"127.0.0.1:{stored.store.port_base + 10}"
    other = Visitor(source.split("/v1/")[0])
    answer = other.get("/v1/" + source.split("/v1/")[1])
    assert (answer.status, answer.body) == (200, OBJECTS[key])
    assert answer.headers["x-content-type-options"] == "nosniff"
    if key == "drawing.svg":
        assert "sandbox" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("key", [*OBJECTS])
@pytest.mark.parametrize(
    "kind", ["text", "code", "json", "table", "markdown", "archive", "hex", "pdf", "nonsense"]
)
def test_whatever_is_chosen_to_show_it_as_nothing_breaks(signed_in: Visitor, key: str, kind: str) -> None:
    found = preview(signed_in, key, f"as={kind}")
    assert EVIL not in found.html


@pytest.mark.parametrize(
    ("key", "content", "words"),
    [
        ("broken.json", b'{"a": ', "This is no JSON"),
        ("broken.jsonl", b'{"a": 1}\nnonsense\n', "line 2"),
        ("latin.txt", "é".encode("latin-1") + b"t\xe9", "Some bytes are no UTF-8"),
        ("deep.json", b"[" * 100_000, "This is no JSON"),
        ("deep-and-whole.json", b"[" * 500 + b"]" * 500, "[…]"),
        ("cut.zip", zipped("a.txt")[:40], "This cannot be listed"),
        ("cut.tar.gz", tarred("a.txt", mode="w:gz")[:40], "tar"),
        ("no.tar", b"text", "This cannot be listed"),
        ("wide.csv", b"," * 20_000, "20,001 columns"),
        ("nested.md", b">" * 20_000 + b"text", ""),
        ("starred.md", b"*a **a " * 20_000, ""),
        ("brackets.md", b"[" * 50_000, ""),
        ("utf16.txt", "grün".encode("utf-16"), "grün"),
    ],
)
def test_content_that_is_damaged_or_hostile_is_told_in_words(
    stored: ConsoleStore, signed_in: Visitor, key: str, content: bytes, words: str
) -> None:
    stored.put(BUCKET, {key: content})
    assert words in preview(signed_in, key).text


@pytest.mark.parametrize(
    "content_type", ["text/html", "image/svg+xml", "application/xhtml+xml", "TEXT/HTML; x=1"]
)
def test_a_content_type_makes_no_page_of_an_object(
    stored: ConsoleStore, signed_in: Visitor, content_type: str
) -> None:
    async def put(store: warehouse.Store) -> None:
        await store.bucket(BUCKET).put("typed", EVIL.encode(), content_type=content_type)

    stored.ask(put)
    answer = look(signed_in, "typed")
    assert answer.headers["content-type"].startswith("text/html")  # the console's own page
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    section(answer, "preview").require_harmless()
    assert EVIL not in answer.text
    through = signed_in.get(object_url(BUCKET, "typed", "download") + "?through=console")
    assert through.body == EVIL.encode()
    assert through.headers["content-disposition"].startswith("attachment")


def test_long_content_is_shown_in_steps(stored: ConsoleStore, signed_in: Visitor) -> None:
    lines = b"".join(b"line %07d\n" % number for number in range(50_000))
    stored.put(BUCKET, {"long.log": lines})
    first = preview(signed_in, "long.log")
    assert "The first 256.0 KiB of 634.8 KiB are shown" in first.text
    more = next(link.attributes["href"] for link in first.all("a") if "bytes=" in link.attributes["href"])
    assert "line 0049999" in section(signed_in.get(more), "preview").text
    digits = preview(signed_in, "long.log", "as=hex&bytes=99999999")
    assert "The first 64.0 KiB" in digits.text
    for wrong in ("-1", "x", str(1 << 41)):
        assert look(signed_in, "long.log", f"bytes={wrong}").status == 400


# --- metadata ---------------------------------------------------------------------------------------


@dataclass
class Marked:
    """An object whose metadata is edited."""

    console: ConsoleStore
    visitor: Visitor
    key: str = "marked.txt"

    def put(self, metadata: dict[str, str] | None = None) -> str:
        async def put(store: warehouse.Store) -> str:
            written = await store.bucket(BUCKET).put(self.key, b"content", metadata=metadata)
            return written.etag

        return self.console.ask(put)

    def save(
        self, etag: str, fields: Mapping[str, str | Sequence[str]], who: Visitor | None = None
    ) -> Answer:
        path = object_url(BUCKET, self.key, "metadata")
        return (who or self.visitor).post(path, {"etag": etag, **fields})

    def look(self) -> tuple[str | None, dict[str, str], str]:
        info = self.console.ask(lambda store: store.bucket(BUCKET).stat(self.key))
        return info.content_type, dict(info.metadata), info.etag


@pytest.fixture
def marked(stored: ConsoleStore, signed_in: Visitor) -> Marked:
    return Marked(stored, signed_in)


def test_type_and_metadata_are_changed_and_the_bytes_stay(marked: Marked) -> None:
    etag = marked.put({"old": "1"})
    hard = {"<b>mood</b>": "fine = good & 'so'", "ü": "é"}
    answer = marked.save(
        etag,
        {
            "content_type": "text/x-note",
            "name": ["<b>mood</b>", "", "ü"],
            "value": [hard["<b>mood</b>"], "", "é"],
        },
    )
    assert answer.status == 303
    assert marked.look()[:2] == ("text/x-note", hard)
    page = marked.visitor.get(answer.headers["location"])
    assert "Type and metadata changed" in page.text
    shown = section(page, "metadata-heading")
    shown.require_harmless()
    assert pairs(shown) == hard
    assert "content" in section(page, "preview").text


def test_values_that_a_field_would_change_come_back_as_they_are(marked: Marked) -> None:
    hard = {"lines": "one\ntwo\r\n", "plain": "text", "a=b": "tab\t=\x7f"}
    etag = marked.put(hard)
    form = re.search(
        r'<dialog id="edit-metadata".*?</dialog>', look(marked.visitor, marked.key).text, re.DOTALL
    )
    assert form is not None
    inputs = [element.attributes for element in Section(form[0]).all("input")]
    fields = {
        name: [one.get("value", "") for one in inputs if one.get("name") == name]
        for name in ("name", "value", "kept")
    }
    assert marked.save(etag, {"content_type": "text/plain", **fields}).status == 303
    assert marked.look()[1] == hard


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ["a", "a"], "value": ["1", "2"]},
        {"name": [""], "value": ["1"]},
        {"name": ["a"], "value": ["1", "2"]},
        {"name": ["n"] * 201, "value": ["v"] * 201},
        {"content_type": "x" * 251},
        {"etag": ""},
    ],
)
def test_a_form_that_makes_no_sense_is_refused(marked: Marked, fields: dict[str, list[str]]) -> None:
    etag = marked.put({"old": "1"})
    assert marked.save(etag, fields).status == 400
    assert marked.look()[1:] == ({"old": "1"}, etag)


@pytest.mark.parametrize("fields", [{"name": "a", "value": "x" * 9000}, {"content_type": "no\ntype"}])
def test_what_the_store_refuses_is_told_and_changes_nothing(marked: Marked, fields: dict[str, str]) -> None:
    etag = marked.put({"old": "1"})
    answer = marked.save(etag, fields)
    assert answer.status in (303, 400)
    assert marked.look()[1:] == ({"old": "1"}, etag)
    if answer.status == 303:
        assert "Type and metadata changed" not in marked.visitor.get(answer.headers["location"]).text


def test_an_edit_of_what_somebody_has_replaced_changes_nothing(marked: Marked) -> None:
    seen = marked.put({"old": "1"})
    now = marked.put({"new": "1"})
    answer = marked.save(seen, {"name": "mood", "value": "fine"})
    assert "Somebody changed the object meanwhile" in marked.visitor.get(answer.headers["location"]).text
    assert marked.look()[1:] == ({"new": "1"}, now)


def test_an_edit_needs_the_token_of_its_page_and_the_right_to_write(marked: Marked) -> None:
    etag = marked.put({"old": "1"})
    assert marked.save(etag, {"csrf": "another", "name": "a", "value": "b"}).status == 403
    reader = Visitor(marked.console.url).sign_in(marked.console.make_key("edits not", preset="reader"))
    answer = marked.save(etag, {"name": "a", "value": "b"}, reader)
    assert "Type and metadata changed" not in reader.get(answer.headers.get("location", "/buckets")).text
    assert marked.look()[1:] == ({"old": "1"}, etag)


# --- what became of it ------------------------------------------------------------------------------


def test_a_page_learns_what_became_of_its_version(marked: Marked) -> None:
    def state(etag: str) -> str:
        answer = marked.visitor.get(object_url(BUCKET, marked.key, "state") + f"?etag={etag}")
        found = re.search(r'data-became="(\w+)"', answer.text)
        assert found is not None, answer.text
        return found[1]

    etag = marked.put()
    assert state(etag) == "same"
    later = marked.put()
    assert (state(etag), state(later)) == ("replaced", "same")
    marked.console.ask(lambda store: store.bucket(BUCKET).delete(marked.key))
    assert state(later) == "deleted"
    assert marked.visitor.get(object_url(BUCKET, marked.key, "state")).status == 400


def test_a_healthy_object_that_no_browser_shows_is_found_healthy(signed_in: Visitor) -> None:
    answer = signed_in.get(object_url(BUCKET, "film.mp4", "check"))
    assert "The bytes are as they were stored: your browser cannot show them" in answer.text
    assert signed_in.get(object_url(BUCKET, "missing", "check")).status == 404


# --- rights -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "status", "words", "actions"),
    [
        ({"preset": "admin"}, 200, EVIL, {"Share", "Rename", "Copy", "Delete", "Download", "Edit"}),
        ({"permissions": ["read"]}, 200, EVIL, {"Copy", "Download"}),
        ({"permissions": ["read", "write"]}, 200, EVIL, {"Copy", "Download", "Edit"}),
        ({"permissions": ["read", "sign"]}, 200, EVIL, {"Share", "Copy", "Download"}),
        ({"permissions": ["list"]}, 200, "This key may not read the object", set()),
        ({"permissions": ["list", "delete"]}, 200, "This key may not read the object", {"Delete"}),
        ({"preset": "upload-only"}, 403, "This key may not look at this object", set()),
        (
            {"grants": ["photos:read"]},
            403,
            "This key may not look at this object",
            set(),
        ),
    ],
)
def test_a_key_sees_what_it_may_and_no_more(
    stored: ConsoleStore, wish: dict[str, object], status: int, words: str, actions: set[str]
) -> None:
    who = Visitor(stored.url).sign_in(stored.make_key("looks", **wish))
    answer = look(who, "plain.txt")
    page = Section(answer.text)
    assert (answer.status, words in page.text) == (status, True)
    names = {
        element.text.strip() for element in page.elements if element.tag in ("button", "a", "path", "svg")
    }
    assert names & {"Share", "Rename", "Copy", "Delete", "Download", "Edit"} == actions
    assert ("Where it lies" in answer.text) == ("preset" in wish and status == 200)
    etag = stored.ask(lambda store: store.bucket(BUCKET).stat("plain.txt")).etag
    assert (etag in answer.text) == (status == 200)


@pytest.mark.parametrize("key", ["plain.txt", "missing.txt"])
def test_who_may_not_know_learns_not_even_whether_there_is_one(stored: ConsoleStore, key: str) -> None:
    who = Visitor(stored.url).sign_in(stored.make_key("guesses", preset="upload-only"))
    assert look(who, key).status == 403
    state = who.get(object_url(BUCKET, key, "state") + "?etag=1-1-00000000")
    assert 'data-became="same"' in state.text
    assert who.get(object_url(BUCKET, key, "check")).status == 403


def test_who_may_not_sign_gets_the_bytes_through_the_console(stored: ConsoleStore) -> None:
    who = Visitor(stored.url).sign_in(stored.make_key("looks through", permissions=["read"]))
    source = next(e.attributes["src"] for e in section(look(who, "picture.png"), "preview").all("img"))
    assert source.startswith("/")
    answer = who.get(source)
    assert (answer.status, answer.body) == (200, OBJECTS["picture.png"])


# --- damage -----------------------------------------------------------------------------------------


@pytest.fixture
def hurt(tmp_path: Path) -> Iterator[Visitor]:
    """A store with an object whose bytes on disk are others than those that were stored, and one that is well."""
    content = b"these bytes are to be found on the disk"
    with running_console(tmp_path) as console:
        console.put(BUCKET, {"hurt.txt": content, "hurt.mp4": content[::-1], "well.txt": b"well"})
        for wanted in (content, content[::-1]):
            for path in (tmp_path / "data").rglob("*.vol"):
                if wanted in (found := path.read_bytes()):
                    with path.open("r+b") as file:
                        file.seek(found.index(wanted))
                        file.write(b"THESE")
        yield Visitor(console.url).sign_in(console.root)


def test_damage_is_told_and_the_damaged_bytes_are_not_shown(hurt: Visitor) -> None:
    found = preview(hurt, "hurt.txt")
    assert "This object is damaged" in found.text
    assert "THESE" not in found.text
    assert [element for element in found.all("p") if element.attributes.get("role") == "alert"]
    assert pairs(section(look(hurt, "hurt.txt"), "facts-heading"))["Name"].startswith("hurt.txt")
    assert "This object is damaged" in hurt.get(object_url(BUCKET, "hurt.mp4", "check")).text
    assert "well" in preview(hurt, "well.txt").text
