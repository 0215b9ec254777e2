"""Listings: exactly the entries that a plain walk over all keys finds, in the order of UTF-8 bytes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog_kit import Kit
from warehouse.catalog.listing import common_prefix
from warehouse.errors import BadRequest

# Few letters, so that keys meet; among them the ends of the code point range and of its gap.
LETTERS = "ab/\0\ud7ff\ue000\uffff\U00010000\U0010ffff"
texts = st.text(st.sampled_from(LETTERS), max_size=5)


def expected_entries(keys, prefix, delimiter, after):
    entries = {
        (common_prefix(key, prefix, delimiter) or key, common_prefix(key, prefix, delimiter) is not None)
        for key in keys
        if key.startswith(prefix)
    }
    return sorted((entry for entry in entries if entry[0] > after), key=lambda entry: entry[0].encode())


def walk(kit, bucket_id, prefix, delimiter, after, limit, within=None):
    """All pages of a listing, as (entry, is_prefix) in the order they came."""
    entries = []
    for _ in range(10_000):
        page = kit.catalog.list_objects(
            bucket_id, prefix=prefix, delimiter=delimiter, after=after, limit=limit, within=within
        )
        found = sorted(
            [(row.key, False) for row in page.objects] + [(common, True) for common in page.prefixes]
        )
        assert len(found) <= limit
        assert [row.key for row in page.objects] == sorted(row.key for row in page.objects)
        entries += found
        if page.next_after is None:
            return entries
        assert found, "a page that is not the last has entries"
        assert page.next_after == found[-1][0]
        after = page.next_after
    raise AssertionError("the listing never ended")


@pytest.fixture(scope="module")
def kit(tmp_path_factory, open_catalog):
    kit = Kit(tmp_path_factory.mktemp("listing"), open_catalog=open_catalog)
    yield kit
    kit.close()


@settings(deadline=None)
@given(data=st.data())
def test_every_listing_is_what_a_walk_over_all_keys_finds(kit, data):
    keys = data.draw(st.sets(texts.filter(bool), max_size=25))
    bucket_id = kit.bucket(f"b{kit._next_id()}")
    with kit.catalog.transaction() as transaction:
        for key in keys:
            assert transaction.commit_needle(kit.needle(bucket_id, key)).etag
    for _ in range(5):
        prefix, after = data.draw(texts), data.draw(texts | st.sampled_from(["", "", *sorted(keys)]))
        delimiter = data.draw(st.none() | st.sampled_from(["/", "a", "/a", "\U0010ffff", "\0"]))
        limit = data.draw(st.integers(1, 8) | st.just(1000))
        assert walk(kit, bucket_id, prefix, delimiter, after, limit) == expected_entries(
            keys, prefix, delimiter, after
        )


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_a_listing_within_parts_is_as_if_there_were_no_other_keys(kit, data):
    keys = data.draw(st.sets(texts.filter(bool), max_size=25))
    bucket_id = kit.bucket(f"p{kit._next_id()}")
    with kit.catalog.transaction() as transaction:
        for key in keys:
            assert transaction.commit_needle(kit.needle(bucket_id, key)).etag
    for _ in range(5):
        within = data.draw(st.lists(texts, max_size=5))
        prefix, after = data.draw(texts), data.draw(texts | st.sampled_from(["", "", *sorted(keys)]))
        delimiter = data.draw(st.none() | st.sampled_from(["/", "a", "/a", "\U0010ffff", "\0"]))
        limit = data.draw(st.integers(1, 8) | st.just(1000))
        seen = {key for key in keys if key.startswith(tuple(within))}
        assert walk(kit, bucket_id, prefix, delimiter, after, limit, within) == expected_entries(
            seen, prefix, delimiter, after
        )


def test_buckets_whose_names_begin_alike(kit):
    for name in ("team-a", "team-b", "teal", "teams"):
        kit.bucket(name)
    assert [row.name for row in kit.catalog.buckets(prefix="team-")] == ["team-a", "team-b"]
    assert [row.name for row in kit.catalog.buckets(prefix="team", after="team-a", limit=2)] == [
        "team-b",
        "teams",
    ]
    assert kit.catalog.buckets(prefix="team-", after="u") == []


def test_a_listing_stays_in_its_bucket(kit):
    mine, theirs = kit.bucket("mine"), kit.bucket("theirs")
    kit.put(mine, "a")
    kit.put(theirs, "b")
    assert [row.key for row in kit.catalog.list_objects(mine).objects] == ["a"]
    assert kit.catalog.list_objects(theirs, prefix="a").objects == []


def test_a_page_that_ends_with_the_last_entry_is_the_last(kit):
    bucket_id = kit.bucket("ends")
    for key in ("a", "b/1", "b/2"):
        kit.put(bucket_id, key)
    page = kit.catalog.list_objects(bucket_id, delimiter="/", limit=2)
    assert (page.prefixes, page.next_after) == (["b/"], None)
    page = kit.catalog.list_objects(bucket_id, limit=3)
    assert (len(page.objects), page.next_after) == (3, None)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_page_without_entries_is_refused(kit, limit):
    with pytest.raises(BadRequest, match="at least one entry"):
        kit.catalog.list_objects(1, limit=limit)
