"""Previews: what an object is shown as, and that hostile content stays bounded text."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samples_kit import EVIL, tarred, zipped
from warehouse.webui.previews import archives, formatter_process, json_trees
from warehouse.webui.previews.archives import Listing, list_archive
from warehouse.webui.previews.kinds import KINDS, kind_of, looks_like_text, raw_kind
from warehouse.webui.previews.tables import CELL_MAX, ROWS_MAX, read_table
from warehouse.webui.previews.texts import decode, hex_lines
from warehouse.webui.rendering import when


@pytest.mark.parametrize(
    ("content_type", "key", "head", "kind"),
    [
        ("image/png", "a.txt", b"", "image"),
        ("application/octet-stream", "a/b.JSON", b"", "json"),
        ("text/plain", "read.me.md", b"", "markdown"),
        ("text/plain; charset=utf-8", "a", b"", "text"),
        ("video/mp2t", "src/main.ts", b"", "code"),
        ("text/html", "page", b"", "code"),
        (None, "Makefile", b"", "code"),
        (None, "unknown", b"%PDF-1.7", "pdf"),
        (None, "unknown", b"just text \xc3", "text"),
        (None, "unknown", b"\x00\x01", "hex"),
        ("application/vnd.api+json", "a", b"", "json"),
    ],
)
def test_type_ending_and_first_bytes_say_the_kind(
    content_type: str | None, key: str, head: bytes, kind: str
) -> None:
    assert kind_of(content_type, key, head) == kind


@given(st.text(max_size=40), st.text(max_size=40), st.binary(max_size=600))
def test_every_object_has_a_kind_and_a_raw_one(content_type: str, key: str, head: bytes) -> None:
    kind = kind_of(content_type, key, head)
    assert kind in KINDS
    assert raw_kind(kind, key, content_type) in ("text", "hex")


def test_a_character_cut_at_the_end_is_text_and_left_out() -> None:
    cut = "aü".encode()[:-1]
    assert looks_like_text(cut)
    assert decode(cut, is_cut=True) == ("a", "UTF-8", True)
    assert decode(cut, is_cut=False) == ("a\ufffd", "UTF-8", False)
    assert decode("\ufeffhi".encode("utf-16"), is_cut=False).text.strip("\ufeff") == "hi"


def test_bytes_are_sixteen_in_a_line() -> None:
    lines = hex_lines(b"<script>" + bytes(10))
    assert [line.offset for line in lines] == ["00000000", "00000010"]
    assert lines[0].digits == "3c 73 63 72 69 70 74 3e  00 00 00 00 00 00 00 00"
    assert lines[0].letters == "<script>········"


def test_a_table_is_bounded_and_its_formulas_are_cells() -> None:
    text = "a;b\n" + '=1+1;"x;y"\n' * (ROWS_MAX + 10) + "cut;o"
    table = read_table(text, is_tabs=False, is_cut=True)
    assert table.head == ["a", "b"]
    assert table.rows[0] == ["=1+1", "x;y"]
    assert (len(table.rows), table.has_more_rows) == (ROWS_MAX, True)
    assert len(read_table("x" * 5000, is_tabs=False, is_cut=False).head[0]) == CELL_MAX + 1
    with pytest.raises(ValueError, match="no table"):
        read_table("", is_tabs=False, is_cut=False)


def test_a_tree_keeps_digits_and_names_that_come_twice() -> None:
    node = json_trees.read_tree('{"a": 1.50, "a": [true, null, 123456789012345678901]}')
    assert [(child.name, child.text) for child in node.children] == [("a", "1.50"), ("a", "3 items")]
    assert [child.text for child in node.children[1].children] == ["true", "null", "123456789012345678901"]


def test_half_a_character_is_shown_and_does_not_break_the_page() -> None:
    node = json_trees.read_tree(r'{"\ud800a": "b\udfff", "c": ["\ud83d\ude00"]}')
    first, second = node.children
    assert (first.name, first.text) == ("\ufffda", '"b\ufffd"')
    assert second.children[0].text == '"\N{GRINNING FACE}"'


def test_a_tree_is_bounded_however_large_or_deep_the_text_is() -> None:
    wide = json_trees.read_tree("[" + "1," * 100_000 + "1]")
    assert (len(wide.children), wide.more) == (json_trees.CHILDREN_MAX, 100_001 - json_trees.CHILDREN_MAX)
    node, depth = json_trees.read_tree("[" * 200 + "]" * 200), 0
    while node.children:
        node, depth = node.children[0], depth + 1
    assert (depth, node.more) == (json_trees.DEPTH_MAX, 1)
    for bad in ("[" * 200_000, "{", "", '{"a": 1e}', "nul"):
        with pytest.raises(ValueError, match=r"deeply|line"):
            json_trees.read_tree(bad)


def test_lines_of_json_are_items_and_a_cut_one_is_left_out() -> None:
    node = json_trees.read_lines('{"a": 1}\n\n[2]\n{"cut', is_cut=True)
    assert [child.kind for child in node.children] == ["object", "array"]
    with pytest.raises(ValueError, match="line 2"):
        json_trees.read_lines("1\nx\n", is_cut=False)


async def listed(data: bytes) -> tuple[Listing, int]:
    """What is in an archive, and how many bytes were read for it."""
    count = 0

    async def read_at(start: int, length: int) -> bytes:
        nonlocal count
        count += length
        return data[start : start + length]

    return await list_archive(read_at, len(data), data[:4096]), count


@pytest.mark.parametrize("mode", ["zip", "w", "w:gz", "w:bz2", "w:xz"])
async def test_an_archive_is_listed_with_whatever_names_it_has(mode: str) -> None:
    names = ("a/b.txt", "../../etc/passwd", EVIL, "n" * 300, "مرحبا\u202e.txt")
    data = zipped(*names) if mode == "zip" else tarred(*names, mode=mode)
    listing, _ = await listed(data)
    assert [entry.name for entry in listing.entries] == [*names]
    assert {entry.size for entry in listing.entries} == {7}
    assert {entry.modified_ms for entry in listing.entries} == {1_767_323_046_000}
    assert (listing.count, listing.cause) == (5, "")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "zip"])
async def test_a_bomb_is_listed_like_any_other_archive(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "UNPACKED_MAX", 2 << 20)
    content = bytes(16 << 20)
    data = (
        zipped("bomb", content=content) if mode == "zip" else tarred("bomb", "b", content=content, mode=mode)
    )
    listing, read_count = await listed(data)
    assert listing.entries[0].size == len(content)
    assert read_count < 1 << 20
    if mode in ("w:gz", "w:xz"):
        assert "beginning" in listing.cause, "it was unpacked to its end"


async def test_a_long_archive_is_cut_and_says_how_long_it_is() -> None:
    names = [f"{number:05}" for number in range(2000)]
    listing, _ = await listed(zipped(*names))
    assert (len(listing.entries), listing.count) == (archives.ENTRIES_MAX, 2000)
    listing, _ = await listed(tarred(*names))
    assert (len(listing.entries), listing.count) == (archives.ENTRIES_MAX, None)


@pytest.mark.parametrize(
    "make", [lambda: zipped("a", "b"), lambda: tarred("a", "b"), lambda: tarred("a", mode="w:gz")]
)
async def test_broken_archives_are_refused_in_words(make: object) -> None:
    data: bytes = make()  # type: ignore[operator]
    for end in range(0, len(data), 97):
        try:
            await listed(data[:end])
        except ValueError as error:
            assert str(error)  # noqa: PT017 (each is either listed in part or refused)
    for at in range(0, min(len(data), 3000), 13):
        broken = data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]
        try:
            await listed(broken)
        except ValueError as error:
            assert str(error)  # noqa: PT017


async def test_a_zip_that_lies_about_its_list_is_refused() -> None:
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 9, 9, 0xFFFFFF, 0xFFFFF, 0)
    with pytest.raises(ValueError, match="outside"):
        await listed(b"PK\x03\x04" + bytes(100) + end)
    with pytest.raises(ValueError, match="no zip or tar"):
        await listed(b"hello")
    with pytest.raises(ValueError, match="no tar"):
        await listed(zlib.compress(b"x" * 5000, wbits=31))


def test_code_is_escaped_in_lines() -> None:
    html = formatter_process.code(f"x = '{EVIL}'\n# <b>\n", "a.py")
    assert html is not None
    assert "<script" not in html
    assert "<img" not in html
    assert html.count('<span class="l">') == 2
    assert formatter_process.code("x", "a.nosuchlanguage") is None


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        " javascript:x",
        "data:text/html,x",
        "vbscript:x",
        "/sign-out",
        "//x",
        "file:///x",
        "java\tscript:x",
    ],
)
def test_links_of_documents_lead_to_the_web_alone(address: str) -> None:
    assert not formatter_process.is_web_link(address)
    html = formatter_process.markdown(f"[a](<{address}>) <{address}>\n\n[r]\n\n[r]: <{address}>")
    assert "<a " not in html


@pytest.mark.parametrize("address", ["../SECURITY.md", "#connections", "a.md#b", "/sign-out", "?x=1"])
def test_a_link_to_a_neighbour_is_its_words_alone(address: str) -> None:
    html = formatter_process.markdown(f"see [how *to* do it]({address}), or [the web](https://e/)")
    assert f'see <span title="{address}">how <em>to</em> do it</span>, or <a href="https://e/"' in html
    assert html.count("</span>") == html.count("</a>") == 1


def test_markdown_has_no_markup_of_its_own() -> None:
    html = formatter_process.markdown(
        f'{EVIL}\n\n![x" onerror="y](http://e/x.png)\n\n[a"b](http://e/?"onx="y)\n\n|a|\n|:-:|\n|b|\n\n```a" onx="y\n{EVIL}\n```'
    )
    for word in ("<script", "<img", "style=", ' onerror="', ' onx="', 'class="language'):
        assert word not in html


@pytest.mark.parametrize("ms", [1 << 60, 1 << 90, -(1 << 70)])
def test_a_time_that_no_calendar_has_is_words(ms: int) -> None:
    assert "out of range" in when(ms)
