"""Finding: whatever the question, the pages together are what a plain look at all objects finds.

The catalog is given no time, so that each step looks at as little as it can, or all the time that it needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog_kit import Kit, OpenCatalog
from warehouse.catalog import finding
from warehouse.catalog.finding import Cursor, Found, Question, Rank, Search, fold, read_cursor, write_cursor
from warehouse.catalog.listing import common_prefix
from warehouse.catalog.sqlite import find
from warehouse.errors import BadRequest, NoSuchBucket

# Few letters, so that keys meet; among them capitals, and the ends of the code point range and of its gap.
LETTERS = "abA/\0äÄ\ud7ff\ue000\uffff\U00010000\U0010ffff"
texts = st.text(st.sampled_from(LETTERS), max_size=5)


class Stored(NamedTuple):
    key: str
    size: int
    created_ms: int


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory, open_catalog: OpenCatalog) -> Iterator[Kit]:
    kit = Kit(tmp_path_factory.mktemp("finding"), open_catalog=open_catalog)
    yield kit
    kit.close()


def bucket_of(kit: Kit, stored: list[Stored]) -> int:
    bucket_id = kit.bucket(f"b{kit._next_id()}")
    with kit.catalog.transaction() as transaction:
        for one in stored:
            needle = kit.needle(bucket_id, one.key, size=one.size, created_ms=one.created_ms)
            assert transaction.commit_needle(needle).etag
    return bucket_id


def question_of(bucket_id: int, **changes: Any) -> Question:
    plain = Question(bucket_id, "", "", "name", False, None, None)
    return plain._replace(**changes)


# --- what is expected -----------------------------------------------------------------------------


def expected(stored: list[Stored], question: Question) -> tuple[list[str], set[str]]:
    """Keys in order, and common prefixes."""
    rest = len(question.prefix)
    within = ("",) if question.within is None else question.within
    seen = [one for one in stored if one.key.startswith(question.prefix) and one.key.startswith(within)]
    folders = {common_prefix(one.key, question.prefix, question.delimiter) for one in seen} - {None}
    plain = [
        one
        for one in seen
        if common_prefix(one.key, question.prefix, question.delimiter) is None
        and question.contains in fold(one.key[rest:])
    ]
    sign = -1 if question.is_descending else 1
    match question.order:
        case "name":
            plain.sort(key=lambda one: one.key, reverse=question.is_descending)
        case "size":
            plain.sort(key=lambda one: (sign * one.size, one.key))
        case "time":
            plain.sort(key=lambda one: (sign * one.created_ms, one.key))
    named = {folder for folder in folders if folder and question.contains in fold(folder[rest:])}
    return [one.key for one in plain], named


class Walked(NamedTuple):
    keys: list[str]
    prefixes: list[str]
    pages: list[Found]


def walk(kit: Kit, question: Question, limit: int, budget_s: float) -> Walked:
    """All pages, as a master and its client put them together."""
    by_name = question.is_by_name
    keys, prefixes, pages = list[str](), list[str](), list[Found]()
    search, after = Search.begin(question), None
    for _ in range(10_000):
        if not by_name and not search.knows(after, limit):
            search = Search.begin(question, after)
        found = kit.catalog.find_objects(search, after=after, limit=limit, budget_s=budget_s)
        assert len(found.objects) + (len(found.prefixes) if by_name else 0) <= limit
        if by_name or found.is_complete:
            keys += [row.key for row in found.objects]
            prefixes += found.prefixes
            pages.append(found)
        if not found.has_more:
            assert found.is_complete
            return Walked(keys, prefixes, pages)
        if by_name:  # a cursor is all that is left between two pages
            cursor = read_cursor(write_cursor(Cursor(question.mark, search.position)), question)
            search = Search(question, cursor.position)
        elif found.is_complete:
            after = found.last
    raise AssertionError("the search never ended")


# --- tests ----------------------------------------------------------------------------------------


@settings(deadline=None)
@given(data=st.data())
def test_every_search_finds_what_a_look_at_all_objects_finds(kit: Kit, data: st.DataObject) -> None:
    sizes, times = st.integers(0, 3), st.integers(1, 3)
    keys = data.draw(st.sets(texts.filter(bool), max_size=25))
    stored = [Stored(key, data.draw(sizes), data.draw(times)) for key in sorted(keys)]
    bucket_of(kit, [Stored("a/neighbour", 1, 1)])
    bucket_id = bucket_of(kit, stored)
    bucket_of(kit, [Stored("", 1, 1)._replace(key="A")])
    question = question_of(
        bucket_id,
        prefix=data.draw(texts),
        contains=fold(data.draw(st.text(st.sampled_from(LETTERS), max_size=2))),
        order=data.draw(st.sampled_from(finding.ORDERS)),
        is_descending=data.draw(st.booleans()),
        delimiter=data.draw(st.none() | st.sampled_from(["/", "a", "a/", "\U0010ffff", "ä"])),
        within=data.draw(st.none() | st.lists(texts, max_size=3).map(tuple)),
    )
    found = walk(kit, question, data.draw(st.integers(1, 10)), data.draw(st.sampled_from([0.0, 10.0])))
    keys_in_order, prefixes = expected(stored, question)
    assert found.keys == keys_in_order
    assert set(found.prefixes) == prefixes
    assert found.prefixes == sorted(prefixes, reverse=question.is_backwards)


@pytest.mark.parametrize("order", finding.ORDERS)
@pytest.mark.parametrize("is_descending", [False, True])
@pytest.mark.parametrize("budget_s", [0.0, 10.0])
def test_slices_and_what_is_kept_of_a_ranking_have_no_seams(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, order: str, is_descending: bool, budget_s: float
) -> None:
    monkeypatch.setattr(find, "SLICE_MIN", 2)
    monkeypatch.setattr(find, "SLICE_FIRST", 4)
    monkeypatch.setattr(find, "SLICE_MAX", 8)
    monkeypatch.setattr(find, "RANKED_MAX", 10)
    stored = [Stored(f"f{n % 3}/{n:03}", n * 7 % 50, n * 11 % 60) for n in range(50)]
    stored += [Stored(f"x{n:03}", n * 7 % 50, n * 11 % 60) for n in range(50, 100)]
    bucket_id = bucket_of(kit, stored)
    for changes in ({}, {"contains": "1"}, {"delimiter": "/"}, {"within": ("f1/", "x07")}, {"prefix": "f"}):
        question = question_of(bucket_id, order=order, is_descending=is_descending, **changes)
        for limit in (1, 7, 10):
            found = walk(kit, question, limit, budget_s)
            assert found.keys == expected(stored, question)[0], (changes, limit)


def test_a_page_says_how_many_keys_were_looked_at(kit: Kit) -> None:
    stored = [Stored(f"{n:03}", 1, 1) for n in range(500)]
    bucket_id = bucket_of(kit, stored)
    for changes, limit, count in (
        ({}, 100, 100),
        ({"contains": "9"}, 3, 39),
        ({"contains": "9", "is_descending": True}, 3, 3),
        ({"contains": "none"}, 100, 500),
        ({"order": "size"}, 100, 500),
    ):
        search = Search.begin(question_of(bucket_id, **changes))
        found = kit.catalog.find_objects(search, after=None, limit=limit, budget_s=10.0)
        assert found.scanned_count == count, changes


def test_a_step_without_time_looks_at_one_slice_and_says_that_it_is_not_all(kit: Kit) -> None:
    bucket_id = bucket_of(kit, [Stored(f"{n:05}", n, n) for n in range(3000)])
    for order in finding.ORDERS:
        search = Search.begin(question_of(bucket_id, order=order, contains="02999"))
        found = kit.catalog.find_objects(search, after=None, limit=10, budget_s=0.0)
        assert (found.objects, found.is_complete, found.has_more) == ([], False, True)
        assert found.scanned_count == find.SLICE_FIRST


def test_objects_that_went_after_they_were_ranked_are_left_out(kit: Kit) -> None:
    bucket_id = bucket_of(kit, [Stored(f"{n}", n, n) for n in range(6)])
    search = Search.begin(question_of(bucket_id, order="size"))
    first = kit.catalog.find_objects(search, after=None, limit=2, budget_s=10.0)
    kit.do(lambda t: t.delete_objects(bucket_id, ["2", "5"], if_match=None, stamp=1))
    second = kit.catalog.find_objects(search, after=first.last, limit=2, budget_s=10.0)
    third = kit.catalog.find_objects(search, after=second.last, limit=2, budget_s=10.0)
    assert [[row.key for row in page.objects] for page in (first, second, third)] == [
        ["0", "1"],
        ["3"],
        ["4"],
    ]
    assert [page.has_more for page in (first, second, third)] == [True, True, False]


def test_a_page_of_much_metadata_ends_earlier_and_the_next_one_goes_on(kit: Kit) -> None:
    bucket_id = kit.bucket(f"b{kit._next_id()}")
    metadata = {"text": "m" * 8000}
    with kit.catalog.transaction() as transaction:
        for n in range(500):
            transaction.commit_needle(kit.needle(bucket_id, f"{n:03}", metadata=metadata))
    for order in finding.ORDERS:
        walked = walk(kit, question_of(bucket_id, order=order), 1000, 10.0)
        assert walked.keys == [f"{n:03}" for n in range(500)]
        assert len(walked.pages) == 2
        assert all(page.is_complete for page in walked.pages)


def test_nothing_is_found_in_a_bucket_that_was_deleted(kit: Kit) -> None:
    name = f"b{kit._next_id()}"
    bucket_id = kit.bucket(name)
    kit.do(lambda t: t.commit_needle(kit.needle(bucket_id, "a")))
    search = Search.begin(question_of(bucket_id))
    kit.do(lambda t: t.delete_bucket(name, bucket_id, force=True, stamp=1))
    with pytest.raises(NoSuchBucket):
        kit.catalog.find_objects(search, after=None, limit=1, budget_s=1.0)


def test_a_page_has_at_least_one_entry(kit: Kit) -> None:
    search = Search.begin(question_of(bucket_of(kit, [])))
    with pytest.raises(BadRequest):
        kit.catalog.find_objects(search, after=None, limit=0, budget_s=1.0)


def test_a_cursor_is_good_for_its_question_alone_and_always_short() -> None:
    question = question_of(1, prefix="p")
    longest: Rank = (-(2**62), "\U0010ffff" * 256)
    cursor = Cursor(question.mark, "\U0010ffff" * 257, 2**62, longest)
    text = write_cursor(cursor)
    assert read_cursor(text, question) == cursor
    assert len(text) <= 4096  # the bound of its field
    for other in (question._replace(contains="x"), question._replace(within=("p",))):
        with pytest.raises(BadRequest, match="another question"):
            read_cursor(text, other)


@given(text=st.text(max_size=40) | st.binary(max_size=40).map(lambda data: data.decode("latin-1")))
def test_nonsense_is_no_cursor(text: str) -> None:
    with pytest.raises(BadRequest):
        read_cursor(text, question_of(1))


@given(data=st.binary(max_size=60))
def test_a_forged_cursor_is_a_cursor_or_refused(data: bytes) -> None:
    question = question_of(1)
    text = write_cursor(Cursor(question.mark, "key"))
    forged = text[:8] + msgspec.json.encode(data).decode().strip('"')
    try:
        cursor = read_cursor(forged, question)
    except BadRequest:
        return
    question.stretches(cursor.position)
