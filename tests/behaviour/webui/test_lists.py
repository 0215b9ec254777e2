"""Pages of lists: rows in order, and pages of which the store tells a part at a time."""

from __future__ import annotations

from typing import Any, cast

import pytest

import warehouse
from warehouse.webui.lines import line_of
from warehouse.webui.listing import FOLDERS_MAX, View, read
from warehouse.webui.selection import Query, Selection, Sum


def info(key: str, size: int = 1) -> warehouse.ObjectInfo:
    return warehouse.ObjectInfo(key=key, size=size, etag="e", created_ms=1_764_450_000_123)


def page(
    keys: str = "", prefixes: str = "", cursor: str = "", *, is_complete: bool = True
) -> warehouse.FoundPage:
    return warehouse.FoundPage(
        objects=[info(key) for key in keys.split()],
        prefixes=prefixes.split(),
        cursor=cursor,
        scanned_count=1000,
        is_complete=is_complete,
    )


class ScriptedBucket:
    """Answers with pages by their cursors, and keeps what it was asked."""

    name = "photos"

    def __init__(self, **pages: warehouse.FoundPage) -> None:
        self.pages = pages
        self.asked: list[dict[str, Any]] = []

    async def find(self, prefix: str = "", **question: Any) -> warehouse.FoundPage:
        self.asked.append({"prefix": prefix, **question})
        return self.pages[question["cursor"] or "first"]

    def as_bucket(self) -> warehouse.Bucket:
        return cast(warehouse.Bucket, self)


async def test_folders_and_objects_come_in_the_order_of_their_names() -> None:
    bucket = ScriptedBucket(first=page("a b.txt z é", "b/ c/"))
    rows = await read(bucket.as_bucket(), View("photos"))
    assert [row.key for row in rows.rows] == ["a", "b.txt", "b/", "c/", "z", "é"]
    back = await read(bucket.as_bucket(), View("photos", is_descending=True))
    assert [row.key for row in back.rows] == ["é", "z", "c/", "b/", "b.txt", "a"]


async def test_a_part_of_a_page_says_so_and_what_follows_is_added() -> None:
    bucket = ScriptedBucket(first=page("a", cursor="more", is_complete=False))
    rows = await read(bucket.as_bucket(), View("photos", find="x"))
    assert (rows.is_complete, rows.cursor, rows.replaces, rows.scanned_count) == (False, "more", False, 1000)


async def test_a_part_of_a_ranking_is_replaced_by_what_follows() -> None:
    bucket = ScriptedBucket(first=page("a", cursor="more", is_complete=False), more=page("b c", "f/"))
    by_size = View("photos", sort="size")
    assert (await read(bucket.as_bucket(), by_size)).replaces
    whole = await read(bucket.as_bucket(), by_size, settles=True)
    assert [row.key for row in whole.rows] == ["f/", "b", "c"]
    assert whole.is_complete


async def test_a_page_that_settles_has_what_follows_too() -> None:
    bucket = ScriptedBucket(first=page("a", cursor="more", is_complete=False), more=page("b"))
    rows = await read(bucket.as_bucket(), View("photos", find="x"), 10, settles=True)
    assert [row.key for row in rows.rows] == ["a", "b"]
    assert [question["limit"] for question in bucket.asked] == [10, 9]


async def test_in_order_of_time_some_folders_are_shown_and_the_others_counted() -> None:
    bucket = ScriptedBucket(first=page("a", " ".join(f"{number}/" for number in range(FOLDERS_MAX + 7))))
    rows = await read(bucket.as_bucket(), View("photos", sort="time"))
    assert (len(rows.rows), rows.hidden_folder_count) == (FOLDERS_MAX + 1, 7)


@pytest.mark.parametrize(
    ("view", "name", "where"),
    [
        (View("photos", "a/"), "c.txt", ""),
        (View("photos", "a/", "c"), "c.txt", "b/"),
        (View("photos", "", "c"), "c.txt", "a/b/"),
    ],
)
def test_an_object_that_was_found_below_says_where_it_is(view: View, name: str, where: str) -> None:
    line = line_of(cast(Any, ("a/b/c.txt", info("a/b/c.txt"))), view)
    assert (line.name, line.where, line.path) == (name, where, "/buckets/photos/objects/a/b/c.txt")
    assert (line.at, line.exact_at) == ("2025-11-29T21:00:00.123Z", "2025-11-29 21:00:00 UTC")


async def test_a_selection_is_all_that_it_names() -> None:
    bucket = ScriptedBucket(first=page("f/1 f/2", cursor="more"), more=page("f/3"))
    selection = Selection(keys=[("a", 5)], prefixes=["f/"])
    found = [chosen async for batch in selection.objects(bucket.as_bucket()) for chosen in batch]
    assert found == [("a", 5), ("f/1", 1), ("f/2", 1), ("f/3", 1)]
    assert await selection.sum(bucket.as_bucket(), 1.0) == Sum(4, 8, True)
    assert await selection.sum(bucket.as_bucket(), -1.0) == Sum(1, 5, False)


async def test_all_that_matches_in_a_folder_has_its_folders_with_all_in_them() -> None:
    bucket = ScriptedBucket(first=page("cat", "cats/"))
    selection = Selection(query=Query("", "cat", "here"))
    found = [chosen.key async for batch in selection.objects(bucket.as_bucket()) for chosen in batch]
    assert found == ["cat", "cat"]  # the second one is what the folder was said to have
    assert bucket.asked[1]["prefix"] == "cats/"
