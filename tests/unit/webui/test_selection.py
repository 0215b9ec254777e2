"""What somebody selected, as scripts and forms send it."""

from __future__ import annotations

import pytest
from werkzeug.datastructures import MultiDict

from console_kit import HARD_KEYS
from warehouse.errors import BadRequest
from warehouse.webui.selection import Query, Selection, item


def test_a_form_without_script_brings_every_key_back() -> None:
    items = [item(key, 5) for key in HARD_KEYS] + [item("raw/\r\n\0/", None)]
    assert all(text.isascii() and text.isprintable() for text in items)
    found = Selection.read(MultiDict([("item", text) for text in items]))
    assert found.keys == [(key, 5) for key in HARD_KEYS]
    assert found.prefixes == ["raw/\r\n\0/"]


def test_json_brings_every_key_back() -> None:
    selection = Selection(
        keys=[(key, 7) for key in HARD_KEYS], prefixes=["a/"], query=Query("b/", "c", "here")
    )
    assert Selection.read(MultiDict({"selection": selection.to_json()})) == selection


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"selection": "{}"},
        {"selection": "["},
        {"selection": '{"keys": [["a"]]}'},
        {"selection": '{"keys": [["a", -1]]}'},
        {"selection": '{"query": {"how": "x"}}'},
        {"selection": '{"more": 1}'},
        {"item": "o"},
        {"item": "o:x:a"},
        {"item": "o:5:%ff"},
    ],
)
def test_what_is_no_selection_is_refused(form: dict[str, str]) -> None:
    with pytest.raises(BadRequest):
        Selection.read(MultiDict(form))


def test_one_object_is_single_and_a_folder_is_not() -> None:
    assert Selection(keys=[("a", 1)]).single == "a"
    assert Selection(prefixes=["a/"]).single is None
    assert Selection(keys=[("a", 1), ("b", 1)]).single is None
    assert Selection(query=Query()).single is None
