"""Deletions: what is refused, what is asked about, and what simply goes."""

from __future__ import annotations

import pytest

from warehouse.cli.copying.deletions import Case, Limit, Wish, judge, parse_limit
from warehouse.cli.usage import UsageError
from warehouse.errors import DeletionRefused


def case(source: int, surplus: int, kept: int) -> Case:
    return Case("wh://photos/bakcup", "./folder", source, surplus, kept)


@pytest.mark.parametrize(
    ("source", "surplus", "kept", "wish"),
    [
        (5, 0, 5, Wish()),
        (0, 0, 0, Wish()),
        (5, 1, 0, Wish()),  # one file took the place of another
        (5, 1, 1, Wish()),
        (5, 10, 1, Wish()),  # a few
        (5, 11, 11, Wish()),  # half
        (5, 100, 1, Wish(is_sure=True)),
        (0, 100, 0, Wish(may_be_empty=True)),
        (5, 100, 0, Wish(limit=Limit(count=100))),
        (5, 50, 50, Wish(limit=Limit(percent=50.0))),
    ],
)
def test_what_can_be_meant_is_deleted_without_a_question(
    source: int, surplus: int, kept: int, wish: Wish
) -> None:
    assert judge(case(source, surplus, kept), wish) is None


@pytest.mark.parametrize(("surplus", "kept"), [(2, 0), (11, 10), (7500, 0), (7500, 3)])
def test_most_of_a_target_goes_only_after_a_question(surplus: int, kept: int) -> None:
    question = judge(case(5, surplus, kept), Wish())
    assert question is not None
    assert f"{surplus:,}" in question
    assert "./folder" in question


@pytest.mark.parametrize("wish", [Wish(), Wish(is_sure=True), Wish(limit=Limit(percent=100.0))])
def test_an_empty_source_deletes_nothing_whatever_else_is_said(wish: Wish) -> None:
    with pytest.raises(DeletionRefused, match=r"wh://photos/bakcup is empty.*nothing was deleted"):
        judge(case(0, 1, 0), wish)


@pytest.mark.parametrize(
    ("surplus", "kept", "limit"), [(101, 1000, "100"), (1, 9, "9%"), (1, 0, "0"), (1, 999, "0%")]
)
def test_more_than_the_limit_is_refused_as_a_whole(surplus: int, kept: int, limit: str) -> None:
    with pytest.raises(DeletionRefused, match=f"--max-delete {limit}"):
        judge(case(5, surplus, kept), Wish(limit=parse_limit(limit), is_sure=True))


@pytest.mark.parametrize("text", ["", "x", "-1", "101%", "1.5", "%", "5 %%"])
def test_a_limit_is_a_count_or_a_share(text: str) -> None:
    with pytest.raises(UsageError, match="max-delete"):
        parse_limit(text)
