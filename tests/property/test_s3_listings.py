"""Listings against a model: a sorted set of keys and AWS's rules, page by page until nothing follows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botocore_kit import parsed
from warehouse.catalog.listing import common_prefix
from warehouse.s3 import xml_out
from warehouse.s3.failures import Failure
from warehouse.s3.listing import (
    read_list_buckets,
    read_list_objects,
    read_list_objects_v2,
    read_list_parts,
    read_list_uploads,
    read_list_versions,
)
from warehouse.s3.paging import Fetch, Page, UploadPager, cut
from warehouse.s3.xml_out import ListedBucket, ListedObject, ListedPart, ListedUpload, Owner, UploadFacts

ALPHABET = "a/+%\x01é😀"
text = st.text(ALPHABET, max_size=3)
key = st.text(ALPHABET, min_size=1, max_size=6)
keys = st.lists(key, max_size=20, unique=True).map(sorted)
ANN = Owner("1", "ann")


def by_bytes(text: str) -> bytes:
    return text.encode()


def entries_of(keys: list[str], prefix: str, delimiter: str, after: str) -> list[str]:
    """The entries of the whole listing after `after`, as the documentation has it: slow and literal."""
    found: list[str] = []
    for one in sorted(keys, key=by_bytes):
        if not one.startswith(prefix):
            continue
        rest = one[len(prefix) :]
        entry = one
        if delimiter and delimiter in rest:
            entry = prefix + rest[: rest.index(delimiter) + len(delimiter)]
        if entry not in found and entry.encode() > after.encode():
            found.append(entry)
    return found


class Catalog(NamedTuple):
    """What the catalog promises of a listing: entries greater than `after`, at most `limit`, and whether more."""

    keys: list[str]

    def page(self, prefix: str, delimiter: str | None, after: str, limit: int) -> Page[ListedObject]:
        if limit == 0:
            return Page([])
        entries = entries_of(self.keys, prefix, delimiter or "", after)
        shown, more = entries[:limit], len(entries) > limit
        rows = [one for one in shown if common_prefix(one, prefix, delimiter) is None]
        return Page(
            [ListedObject(one, 0, "x", 1) for one in rows],
            [one for one in shown if one not in rows],
            shown[-1] if more else None,
        )


def shown_by(found: dict[str, Any], rows: str) -> list[str]:
    names = [row["Key"] for row in found.get(rows, [])]
    names += [row["Prefix"] for row in found.get("CommonPrefixes", [])]
    return sorted((unquote(name) for name in names), key=by_bytes)


def query(prefix: str, delimiter: str, limit: int, **more: str) -> dict[str, str]:
    return {
        "prefix": prefix,
        "delimiter": delimiter,
        "encoding-type": "url",
        "max-keys": str(limit),
        "max-uploads": str(limit),
        **more,
    }


def pages_v1(keys: list[str], prefix: str, delimiter: str, limit: int, marker: str) -> Iterator[list[str]]:
    while True:
        request = read_list_objects("b", query(prefix, delimiter, limit, marker=marker))
        page = Catalog(keys).page(request.prefix, request.delimiter, request.after, request.limit)
        found = parsed("ListObjects", xml_out.list_objects(request, page))
        yield shown_by(found, "Contents")
        if not found["IsTruncated"]:
            assert "NextMarker" not in found
            return
        assert unquote(found["NextMarker"]) > marker
        marker = unquote(found["NextMarker"])


def pages_v2(keys: list[str], prefix: str, delimiter: str, limit: int, after: str) -> Iterator[list[str]]:
    token = ""
    while True:
        sent = query(prefix, delimiter, limit, **{"start-after": after, "continuation-token": token})
        request = read_list_objects_v2("b", sent)
        page = Catalog(keys).page(request.prefix, request.delimiter, request.after, request.limit)
        found = parsed("ListObjectsV2", xml_out.list_objects_v2(request, page))
        assert found["KeyCount"] == len(shown_by(found, "Contents"))
        yield shown_by(found, "Contents")
        if not found["IsTruncated"]:
            assert "NextContinuationToken" not in found
            return
        token = found["NextContinuationToken"]
        with pytest.raises(Failure, match="InvalidArgument"):
            read_list_objects_v2("b", {**sent, "prefix": prefix + "x", "continuation-token": token})


def pages_of_versions(
    keys: list[str], prefix: str, delimiter: str, limit: int, marker: str
) -> Iterator[list[str]]:
    version = ""
    while True:
        sent = query(prefix, delimiter, limit, **{"key-marker": marker, "version-id-marker": version})
        request = read_list_versions("b", sent)
        page = Catalog(keys).page(request.prefix, request.delimiter, request.after, request.limit)
        found = parsed("ListObjectVersions", xml_out.list_versions(request, page))
        yield shown_by(found, "Versions")
        if not found["IsTruncated"]:
            return
        marker, version = unquote(found["NextKeyMarker"]), found.get("NextVersionIdMarker", "")


@given(keys=keys, prefix=text, delimiter=text, limit=st.integers(1, 5), after=text)
def test_pages_show_every_entry_once_and_in_order(
    keys: list[str], prefix: str, delimiter: str, limit: int, after: str
) -> None:
    expected = entries_of(keys, prefix, delimiter, after)
    for pages in (pages_v1, pages_v2, pages_of_versions):
        found = list(pages(keys, prefix, delimiter, limit, after))
        assert [entry for page in found for entry in page] == expected
        assert all(len(page) == limit for page in found[:-1])


@given(keys=keys, prefix=text, delimiter=text)
def test_a_limit_of_nothing_is_an_end(keys: list[str], prefix: str, delimiter: str) -> None:
    for pages in (pages_v1, pages_v2, pages_of_versions):
        assert list(pages(keys, prefix, delimiter, 0, "")) == [[]]


# --- uploads ------------------------------------------------------------------------------------------


def fetched(rows: list[ListedUpload], fetch: Fetch) -> list[ListedUpload]:
    """What a catalog returns: it knows no delimiter."""
    return [
        row
        for row in rows
        if row.key > fetch.first_key
        or (row.key == fetch.first_key and (not fetch.after_id or row.upload_id > fetch.after_id))
    ][: fetch.limit]


def pages_of_uploads(
    rows: list[ListedUpload], prefix: str, delimiter: str, limit: int, marker: str
) -> Iterator[tuple[list[tuple[str, str]], list[str], int]]:
    upload_id = ""
    while True:
        sent = query(prefix, delimiter, limit, **{"key-marker": marker, "upload-id-marker": upload_id})
        request = read_list_uploads("b", sent)
        pager, fetches = UploadPager[ListedUpload](request), 0
        while (fetch := pager.fetch()) is not None:
            assert 1 <= fetch.limit <= limit + 1
            pager.feed(fetched(rows, fetch))
            fetches += 1
        found = parsed("ListMultipartUploads", xml_out.list_uploads(request, pager.page()))
        uploads = [(unquote(row["Key"]), row["UploadId"]) for row in found.get("Uploads", [])]
        prefixes = [unquote(row["Prefix"]) for row in found.get("CommonPrefixes", [])]
        yield uploads, prefixes, fetches
        if not found["IsTruncated"]:
            return
        marker, upload_id = unquote(found["NextKeyMarker"]), found["NextUploadIdMarker"]


@given(
    keys=st.lists(key, max_size=25).map(sorted),
    prefix=text,
    delimiter=text,
    limit=st.integers(1, 5),
    marker=text,
)
def test_pages_of_uploads_show_every_upload_once(
    keys: list[str], prefix: str, delimiter: str, limit: int, marker: str
) -> None:
    rows = [ListedUpload(one, f"{number:03}", 0, ANN, ANN) for number, one in enumerate(keys)]
    expected = entries_of(keys, prefix, delimiter, marker)
    uploads: list[tuple[str, str]] = []
    prefixes: list[str] = []
    for page_uploads, page_prefixes, fetches in pages_of_uploads(rows, prefix, delimiter, limit, marker):
        assert len(page_uploads) + len(page_prefixes) <= limit
        assert fetches <= len(page_prefixes) + 1
        uploads += page_uploads
        prefixes += page_prefixes
    assert uploads == [(row.key, row.upload_id) for row in rows if row.key in set(expected) - set(prefixes)]
    assert prefixes == [one for one in expected if common_prefix(one, prefix, delimiter) == one]


# --- parts and buckets --------------------------------------------------------------------------------


@given(numbers=st.sets(st.integers(1, 10_000), max_size=20).map(sorted), limit=st.integers(1, 7))
def test_pages_of_parts_show_every_part_once(numbers: list[int], limit: int) -> None:
    found: list[int] = []
    marker, is_truncated = 0, True
    while is_truncated:
        sent = {"part-number-marker": str(marker), "max-parts": str(limit)}
        request = read_list_parts("b", "k", "7", sent)
        rows, is_truncated = cut(
            [n for n in numbers if n > request.after][: request.limit + 1], request.limit
        )
        parts = [ListedPart(number, 0, "x", 1) for number in rows]
        page = parsed("ListParts", xml_out.list_parts(request, parts, is_truncated, UploadFacts(ANN, ANN)))
        found += [part["PartNumber"] for part in page.get("Parts", [])]
        marker, is_truncated = page["NextPartNumberMarker"], page["IsTruncated"]
    assert found == numbers


@given(
    names=st.sets(st.text("ab-", min_size=1, max_size=4), max_size=20).map(sorted), limit=st.integers(1, 5)
)
def test_pages_of_buckets_show_every_bucket_once(names: list[str], limit: int) -> None:
    found: list[str] = []
    token: str | None = ""
    while token is not None:
        request = read_list_buckets({"max-buckets": str(limit), "continuation-token": token, "prefix": "a"})
        after = [name for name in names if name > request.after and name.startswith(request.prefix)]
        rows, is_truncated = cut([ListedBucket(name, 0) for name in after[: limit + 1]], limit)
        page = Page(rows, next_after=rows[-1].name if is_truncated else None)
        answer = parsed("ListBuckets", xml_out.list_buckets(request, page, ANN))
        found += [bucket["Name"] for bucket in answer["Buckets"]]
        token = answer.get("ContinuationToken")
    assert found == [name for name in names if name.startswith("a")]
