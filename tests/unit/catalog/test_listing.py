"""Where in the order of keys a page begins, and what one cost on SQLite."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog_kit import SqliteKit
from warehouse.catalog.listing import common_prefix, first_key, key_after_prefix, spans

# Few letters, so that keys meet; among them the ends of the code point range and of its gap.
LETTERS = "ab/\0\ud7ff\ue000\uffff\U00010000\U0010ffff"
texts = st.text(st.sampled_from(LETTERS), max_size=5)


@given(texts, texts)
def test_the_key_after_a_prefix_parts_those_that_have_it_from_all_greater_ones(prefix, key):
    bound = key_after_prefix(prefix)
    below = bound is None or key < bound
    assert key.startswith(prefix) == (key >= prefix and below)


@given(texts, texts)
def test_python_orders_keys_as_their_utf_8_bytes(one, other):
    assert (one < other) == (one.encode() < other.encode())


def test_a_common_prefix_ends_with_the_first_delimiter_behind_the_prefix():
    assert common_prefix("a/b/c", "", "/") == "a/"
    assert common_prefix("a/b/c", "a/", "/") == "a/b/"
    assert common_prefix("a/b/c", "a", "/") == "a/"
    assert common_prefix("a/b", "a/", "/") is None
    assert common_prefix("a--b--c", "a", "--") == "a--"
    assert common_prefix("a/b", "", None) is None
    assert common_prefix("/", "", "/") == "/"


@given(
    st.sets(texts.filter(bool), max_size=20),
    texts,
    st.none() | st.sampled_from(["/", "a", "/a", "\U0010ffff"]),
    texts,
)
def test_no_key_before_the_first_one_would_have_been_shown(keys, prefix, delimiter, after):
    start = first_key(prefix, delimiter, after)
    for key in keys:
        entry = common_prefix(key, prefix, delimiter) or key
        is_shown = key.startswith(prefix) and entry > after
        is_skipped = start is None or key < start
        assert not (is_shown and is_skipped)


@given(texts, st.lists(texts, max_size=6) | st.none(), st.lists(texts, max_size=10))
def test_spans_hold_the_keys_that_begin_with_the_prefix_and_a_part_and_no_other(prefix, within, keys):
    found = spans(prefix, within)
    for (_, end), (low, _) in pairwise(found):
        assert end is not None
        assert end <= low
    for key in keys:
        is_meant = key.startswith(prefix) and (within is None or key.startswith(tuple(within)))
        assert any(low <= key and (end is None or key < end) for low, end in found) == is_meant


# --- on SQLite ------------------------------------------------------------------------------------


@pytest.fixture
def kit(tmp_path):
    kit = SqliteKit(tmp_path)
    yield kit
    kit.close()


def test_many_keys_behind_one_common_prefix_cost_one_seek(kit):
    bucket_id = kit.bucket("seeks")
    with kit.catalog.transaction() as transaction:
        for number in range(3000):
            transaction.commit_needle(kit.needle(bucket_id, f"{number // 1000}/{number}"))
    steps = 0

    def count():
        nonlocal steps
        steps += 1

    kit.catalog._reader.set_progress_handler(count, 1)  # rounding would depend on earlier statements
    try:
        page = kit.catalog.list_objects(bucket_id, delimiter="/")
        few = steps
        kit.catalog.list_objects(bucket_id, limit=3000)
    finally:
        kit.catalog._reader.set_progress_handler(None, 0)
    assert page.prefixes == ["0/", "1/", "2/"]
    assert steps - few > 10_000, "the count counts"
    assert few <= 300


def test_the_keys_between_the_parts_of_a_page_cost_nothing(kit):
    bucket_id = kit.bucket("parts")
    with kit.catalog.transaction() as transaction:
        for number in range(3000):
            transaction.commit_needle(kit.needle(bucket_id, f"m{number:04}"))
        for key in ("a/1", "z/1"):
            transaction.commit_needle(kit.needle(bucket_id, key))
    steps = 0

    def count():
        nonlocal steps
        steps += 1

    kit.catalog._reader.set_progress_handler(count, 1)
    try:
        page = kit.catalog.list_objects(bucket_id, within=("a/", "z/"))
    finally:
        kit.catalog._reader.set_progress_handler(None, 0)
    assert [row.key for row in page.objects] == ["a/1", "z/1"]
    assert steps <= 300


def test_no_cursor_stays_open_when_a_page_is_full(kit):
    bucket_id = kit.bucket("cursors")
    for number in range(10):
        kit.put(bucket_id, f"{number}/x")
    kit.catalog.list_objects(bucket_id, delimiter="/", limit=3)
    with kit.raw() as execute:
        busy, in_log, folded_in = execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert (busy, in_log, folded_in) == (0, 0, 0)
