"""A whole bucket, or all that matches a search, as one archive; and objects whose names begin with a space."""

from __future__ import annotations

import io
import json
import zipfile

import pytest

from console_http import Visitor
from console_kit import ConsoleStore


@pytest.mark.parametrize(
    "chosen",
    [
        {"prefix": ""},
        {"at": ""},
        {"selection": json.dumps({"query": {}})},
        {"selection": json.dumps({"query": {"find": "b"}}), "prefix": ""},
    ],
)
def test_an_archive_of_all_is_named_after_its_bucket(root: Visitor, chosen: dict[str, str]) -> None:
    answer = root.post("/buckets/photos/zip", chosen)
    assert answer.status == 200, answer.text
    assert 'filename="photos.zip"' in answer.headers["content-disposition"]
    assert zipfile.ZipFile(io.BytesIO(answer.body)).namelist() == ["a/b.txt"]


def test_an_archive_of_a_folder_is_named_after_it(root: Visitor) -> None:
    answer = root.post("/buckets/photos/zip", {"item": "p::a%2F"})
    assert 'filename="a.zip"' in answer.headers["content-disposition"]


def test_a_name_is_opened_with_its_spaces(console: ConsoleStore, root: Visitor) -> None:
    console.put("spaces", {" a ": b"text"})
    opened = root.get("/buckets/spaces/open?key=%20a%20")
    assert (opened.status, root.get(opened.headers["location"]).status) == (303, 200)
