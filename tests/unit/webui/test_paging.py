"""Paging: which rows a page has, and where the next one begins."""

from __future__ import annotations

import pytest

from warehouse.errors import BadRequest
from warehouse.webui.paging import rows_of


@pytest.mark.parametrize(
    ("query", "first", "following"), [({}, 0, 2), ({"start": "2"}, 2, 4), ({"start": "4"}, 4, 0)]
)
def test_pages_follow_each_other_to_the_last_row(query: dict[str, str], first: int, following: int) -> None:
    rows = rows_of(range(5), query, size=2)
    assert (rows.start, rows.following, rows.total_count) == (first, following, 5)
    assert [*rows.items] == [*range(first, min(first + 2, 5))]


def test_a_list_that_ends_with_its_page_has_no_next_one() -> None:
    assert rows_of(range(4), {"start": "2"}, size=2).following == 0
    assert rows_of([], {}).following == 0


def test_a_page_that_is_gone_is_empty() -> None:
    assert not rows_of(range(5), {"start": "100"}).items


def test_two_lists_of_one_page_have_words_of_their_own() -> None:
    query = {"start": "1", "damage": "2"}
    assert (rows_of(range(5), query).start, rows_of(range(5), query, word="damage").start) == (1, 2)


@pytest.mark.parametrize("word", ["-1", "x", "1e9", "9" * 30])
def test_a_start_that_is_none_is_refused(word: str) -> None:
    with pytest.raises(BadRequest):
        rows_of(range(5), {"start": word})
