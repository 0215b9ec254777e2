"""Looking at what is there: ls in every order, du by depth, tree, find, and parts of objects."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import warehouse
from cli_kit import Run, process
from fake_store import FakeStore
from warehouse.cli.copying import ranges
from warehouse.errors import NoSuchObject

SIZES = {"2026/a.jpg": 30, "2026/in/b.JPG": 10, "2026/in/c.txt": 2000, "d.txt": 20, "2026-old/e.txt": 1}


@pytest.fixture
async def store(store: FakeStore) -> FakeStore:
    store.buckets |= {"photos": {}, "empty": {}}
    async with warehouse.connect(store.profile) as client:
        for key, size in SIZES.items():
            await client.bucket("photos").put(key, bytes(size), metadata={"from": f"camera/{key[-1]}"})
    return store


async def put(store: FakeStore, key: str, data: bytes) -> None:
    async with warehouse.connect(store.profile) as client:
        await client.bucket("photos").put(key, data)


# --- ls -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("-r --sort size wh://photos", "2026/in/c.txt 2026/a.jpg d.txt 2026/in/b.JPG 2026-old/e.txt"),
        ("-r --sort size --reverse wh://photos/2026", "in/b.JPG a.jpg in/c.txt"),
        ("-r --sort time wh://photos/2026", "in/c.txt in/b.JPG a.jpg"),
        ("--sort size wh://photos", "2026-old/ 2026/ d.txt"),
        ("--reverse wh://photos", "d.txt 2026/ 2026-old/"),
        ("--sort size wh://photos/2026/in/*", "c.txt b.JPG"),
        ("--sort size wh://photos/2026*", "2026-old/ 2026/"),
        ("-r --sort size wh://photos/2026*/*", "2026/in/c.txt 2026/a.jpg 2026/in/b.JPG 2026-old/e.txt"),
        ("--sort size wh://photos/2026/in/c", "c.txt"),
    ],
)
async def test_a_listing_is_in_the_order_that_was_asked_for(
    store: FakeStore, run: Run, words: str, names: str
) -> None:
    assert (await run("ls", *words.split())).out.split() == names.split()


async def test_a_long_listing_tells_exact_bytes_zones_and_etags(store: FakeStore, run: Run) -> None:
    out = (await run("ls", "-l", "--bytes", "--etag", "wh://photos/2026/in")).out
    etag = store.buckets["photos"]["2026/in/c.txt"].etag
    line = rf" +2000  \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{{4}}  {re.escape(etag)} +c\.txt"
    assert re.fullmatch(line, out.splitlines()[1])
    assert re.search(r"2,?000 bytes|2\.0 KiB", (await run("ls", "-l", "wh://photos/2026/in")).out)
    assert re.search(r"[+-]\d{4}", (await run("stat", "wh://photos/d.txt")).out)


# --- du, tree, find -------------------------------------------------------------------------------


async def test_sums_by_depth_are_those_of_the_objects(store: FakeStore, run: Run) -> None:
    ran = await run("du", "--depth", "2", "wh://photos", "--json")
    assert {one["place"]: (one["byte_count"], one["object_count"]) for one in ran.objects} == {
        "wh://photos/2026-old": (1, 1),
        "wh://photos/2026/in": (2010, 2),
        "wh://photos/2026": (2040, 3),
        "wh://photos": (2061, 5),
    }
    ran = await run("du", "--depth", "1", "wh://photos/2026", "--json")
    assert [one["place"] for one in ran.objects] == ["wh://photos/2026/in", "wh://photos/2026"]
    assert len((await run("du", "--depth", "0", "wh://photos", "--json")).objects) == 1


async def test_a_tree_shows_folders_and_what_is_in_them(store: FakeStore, run: Run) -> None:
    assert (await run("tree", "wh://photos")).out == (
        "wh://photos\n├── 2026-old/\n│   └── e.txt\n├── 2026/\n│   ├── a.jpg\n│   └── in/\n"
        "│       ├── b.JPG\n│       └── c.txt\n└── d.txt\n\n3 folders, 5 objects\n"
    )
    assert (await run("tree", "--depth", "1", "wh://photos/2026")).out.endswith("\n1 folder, 1 object\n")
    assert (await run("tree", "wh://empty")).out.endswith("0 folders, 0 objects\n")
    assert len((await run("tree", "wh://photos", "--json")).objects) == 8
    with pytest.raises(NoSuchObject):
        await run("tree", "wh://photos/none")


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        ("wh://photos/2026", "2026/a.jpg 2026/in/b.JPG 2026/in/c.txt"),
        ("wh://photos --name *.jpg", "2026/a.jpg"),
        ("wh://photos --name ?.txt --smaller 21", "2026-old/e.txt d.txt"),
        ("wh://photos --type image/*", "2026/a.jpg 2026/in/b.JPG"),
        ("wh://photos --larger 30", "2026/in/c.txt"),
        ("wh://photos --metadata from=camera/t --larger 1", "2026/in/c.txt d.txt"),
        ("wh://photos --metadata from=*g", "2026/a.jpg"),
        ("wh://photos --metadata none", ""),
        ("wh://photos --older 2001-01-01", ""),
        ("wh://photos --newer 2001-01-01 --name d*", "d.txt"),
        ("wh://photos/2026*/** --larger 1000", "2026/in/c.txt"),
    ],
)
async def test_what_meets_all_conditions_is_found(store: FakeStore, run: Run, words: str, keys: str) -> None:
    ran = await run("find", *words.split(), "--json")
    assert [one["key"] for one in ran.objects] == keys.split()
    ran = await run("find", *words.split())
    assert ran.out.split() == [f"wh://photos/{key}" for key in keys.split()]


async def test_nothing_found_is_no_failure_but_a_place_that_is_not_there_is_one(
    store: FakeStore, tmp_path: Path
) -> None:
    ran = await process(tmp_path, "find", "wh://photos/2026", "--name", "none")
    assert (ran.status, ran.out) == (0, "")
    ran = await process(tmp_path, "find", "wh://photos/2027", "--json")
    assert (ran.status, ran.objects[0]["code"]) == (1, "no_such_object")


# --- parts of objects -----------------------------------------------------------------------------

TEXTS = (
    b"",
    b"\n",
    b"one",
    b"one\n",
    b"one\ntwo\nthree",
    b"one\ntwo\nthree\n",
    b"\n\n\n",
    b"a" * 50 + b"\nb",
)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("count", [0, 1, 2, 5])
async def test_lines_are_those_of_a_file(
    store: FakeStore, run: Run, monkeypatch: pytest.MonkeyPatch, text: bytes, count: int
) -> None:
    monkeypatch.setattr(ranges, "BLOCK_SIZE", 4)  # so that lines lie in several blocks
    monkeypatch.setattr(ranges, "BLOCK_SIZE_MAX", 8)
    await put(store, "text", text)
    lines = text.decode().splitlines(keepends=True)
    assert (await run("head", "-n", str(count), "wh://photos/text")).out == "".join(lines[:count])
    last = lines[-count:] if count else []
    assert (await run("tail", "-n", str(count), "wh://photos/text")).out == "".join(last)
    raw = text.decode()
    assert (await run("head", "-c", str(count), "wh://photos/text")).out == raw[:count]
    assert (await run("tail", "-c", str(count), "wh://photos/text")).out == (raw[-count:] if count else "")


async def test_a_range_is_that_of_http(store: FakeStore, run: Run) -> None:
    await put(store, "text", b"0123456789")
    for words, seen in (
        ("2-4", "234"),
        ("7-", "789"),
        ("-3", "789"),
        ("0-99", "0123456789"),
        ("-99", "0123456789"),
    ):
        assert (await run("cat", "--range", words, "wh://photos/text")).out == seen
    assert (await run("cat", "--range", "0-1", "wh://photos/text", "wh://photos/text")).out == "0101"


async def test_a_failure_of_a_part_is_an_event_beside_the_bytes(store: FakeStore, tmp_path: Path) -> None:
    for words in (["head"], ["tail"], ["cat", "--range", "0-1"]):
        ran = await process(tmp_path, *words, "wh://photos/2026", "--json")
        assert (ran.status, ran.out) == (1, "")
        assert '"code":"no_such_object"' in ran.err
