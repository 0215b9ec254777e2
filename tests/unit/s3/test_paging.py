"""Paging of uploads: what is fetched, and what is shown.  The listings as a whole: tests/property."""

from __future__ import annotations

from typing import NamedTuple

from warehouse.catalog import listing as catalog_listing
from warehouse.s3.listing import ListUploads
from warehouse.s3.paging import Fetch, UploadPager, common_prefix, cut, key_after_prefix


class Row(NamedTuple):
    key: str
    upload_id: str


def request(**changes: object) -> ListUploads:
    values = {
        "bucket": "photos",
        "prefix": "",
        "delimiter": None,
        "key_marker": "",
        "upload_id_marker": "",
        "limit": 2,
        "is_url_encoded": False,
    }
    return ListUploads(**{**values, **changes})  # type: ignore[arg-type]


def test_a_page_is_truncated_only_when_something_follows() -> None:
    for more in (False, True):
        pager = UploadPager[Row](request())
        assert pager.fetch() == Fetch("", "", 3)
        pager.feed([Row("a", "1"), Row("a", "2"), Row("b", "3")][: 3 if more else 2])
        assert pager.fetch() is None
        page = pager.page()
        assert page.rows == [Row("a", "1"), Row("a", "2")]
        assert page.is_truncated is more
        assert (page.next_key, page.next_id) == (("a", "2") if more else ("", ""))


def test_what_a_common_prefix_stands_for_is_skipped() -> None:
    pager = UploadPager[Row](request(delimiter="/"))
    pager.feed([Row("a/1", "1"), Row("a/1", "2"), Row("a/2", "3")])
    assert pager.fetch() == Fetch("a0", "", 2)
    pager.feed([Row("b", "4"), Row("c", "5")])
    page = pager.page()
    assert (page.prefixes, page.rows) == (["a/"], [Row("b", "4")])
    assert (page.next_key, page.next_id) == ("b", "4")


def test_a_page_that_ends_with_a_common_prefix_names_no_upload() -> None:
    pager = UploadPager[Row](request(delimiter="/", limit=1))
    pager.feed([Row("a/1", "1"), Row("b", "2")])
    page = pager.page()
    assert (page.next_key, page.next_id, page.prefixes) == ("a/", "", ["a/"])
    following = UploadPager[Row](request(delimiter="/", limit=1, key_marker="a/"))
    assert following.fetch() == Fetch("a0", "", 2)


def test_where_a_page_begins() -> None:
    cases: list[tuple[dict[str, object], Fetch | None]] = [
        ({"prefix": "b"}, Fetch("b", "", 3)),
        ({"prefix": "b", "key_marker": "a"}, Fetch("b", "", 3)),
        ({"prefix": "b", "key_marker": "c"}, None),
        ({"key_marker": "a"}, Fetch("a\0", "", 3)),
        ({"key_marker": "a", "upload_id_marker": "7"}, Fetch("a", "7", 3)),
        ({"key_marker": "a/1", "upload_id_marker": "7", "delimiter": "/"}, Fetch("a0", "", 3)),
        ({"limit": 0}, None),
        ({"key_marker": "\U0010ffff", "delimiter": "\U0010ffff"}, None),
    ]
    for changes, first in cases:
        pager = UploadPager[Row](request(**changes))
        assert pager.fetch() == first, changes
        if first is None:
            assert not pager.page().is_truncated


def test_rows_past_the_prefix_end_the_page() -> None:
    pager = UploadPager[Row](request(prefix="a", limit=5))
    pager.feed([Row("a", "1"), Row("b", "2")])
    assert pager.fetch() is None
    assert pager.page().rows == [Row("a", "1")]


def test_prefixes_are_those_of_the_catalog() -> None:
    """S3 and the catalog may not import each other; they must mean the same."""
    for prefix in ("", "a", "a/", "a\U0010ffff", "\U0010ffff", "\ud7ff", "é", "\x7f"):
        assert key_after_prefix(prefix) == catalog_listing.key_after_prefix(prefix)
        for key in ("a", "a/b", "a/b/c", "a//", "éa/"):
            for delimiter in (None, "", "/", "b/", "//"):
                assert common_prefix(key, prefix, delimiter) == catalog_listing.common_prefix(
                    key, prefix, delimiter
                )


def test_rows_are_cut_at_the_limit() -> None:
    assert cut([1, 2, 3], 2) == ([1, 2], True)
    assert cut([1, 2], 2) == ([1, 2], False)
    assert cut([1], 0) == ([], False)
