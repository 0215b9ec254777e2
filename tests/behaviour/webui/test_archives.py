"""Archives: how many are made at once, and what is too much for one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from http.client import IncompleteRead

import pytest

import warehouse
from console_http import PATIENCE_S, Visitor
from console_kit import ConsoleStore
from warehouse.webui.console import ARCHIVES_OF_KEY_MAX

JSON = {"Accept": "application/json"}
ALL = {"prefix": ""}


@pytest.fixture(scope="module")
def large(console: ConsoleStore) -> str:
    """A bucket whose archive is larger than what connections hold on the way."""
    console.put("large", {f"{number}.bin": os.urandom(8 * 1024 * 1024) for number in range(6)})
    return "large"


def test_one_key_makes_some_archives_at_once_and_leaves_room_for_others(
    console: ConsoleStore, root: Visitor, large: str
) -> None:
    other = Visitor(console.url).sign_in(console.make_key("another", preset="reader"))
    with ExitStack() as opened:
        answers = [
            opened.enter_context(root.begun(f"/buckets/{large}/zip", ALL)) for _ in range(ARCHIVES_OF_KEY_MAX)
        ]
        assert {answer.status for answer in answers} == {200}
        refused = root.post(f"/buckets/{large}/zip", ALL, JSON)
        assert (refused.status, refused.code) == (503, "overloaded")
        assert other.post("/buckets/photos/zip", ALL).status == 200
    deadline = time.monotonic() + PATIENCE_S  # whoever goes away gives their turn back
    while root.post("/buckets/photos/zip", ALL).status != 200:
        assert time.monotonic() < deadline


def test_refusals_and_whole_archives_give_their_turns_back(root: Visitor) -> None:
    for _ in range(2 * ARCHIVES_OF_KEY_MAX):
        assert root.post("/buckets/photos/zip", {"prefix": "nothing/"}, JSON).status == 400
        assert root.post("/buckets/none-such/zip", ALL, JSON).status == 404
        assert root.post("/buckets/photos/zip", ALL).status == 200


def test_names_that_are_too_long_together_are_refused_before_anything_is_sent(
    console: ConsoleStore, root: Visitor
) -> None:
    """Five hundred folders in a key are as many texts to remember."""
    console.put("deep", {f"{number}/" + "a/" * 500 + "x": b"" for number in range(300)})
    for chosen in (ALL, {"item": "p::"}):
        refused = root.post("/buckets/deep/zip", chosen, JSON)
        assert (refused.status, refused.code) == (400, "bad_request")
        assert b"too long together" in refused.body
    assert root.post("/buckets/deep/zip", {"prefix": "1/"}).status == 200


def disabled(console: ConsoleStore, person: Visitor, key_id: str) -> None:
    async def disable(store: warehouse.Store) -> None:
        await store.disable_key(key_id)

    console.ask(disable)


def signed_out(console: ConsoleStore, person: Visitor, key_id: str) -> None:
    assert person.post("/sign-out", {"all": "yes"}).status == 303


@pytest.mark.parametrize("end", [disabled, signed_out], ids=lambda end: end.__name__)
@pytest.mark.parametrize(
    ("path", "fields"),
    [("zip", ALL), ("download/0.bin?through=console", None)],
    ids=["archive", "download"],
)
def test_what_is_on_its_way_breaks_off_when_the_key_ends(
    console: ConsoleStore,
    large: str,
    path: str,
    fields: dict[str, str] | None,
    end: Callable[[ConsoleStore, Visitor, str], None],
) -> None:
    profile = console.make_key("soon without", preset="reader")
    person = Visitor(console.url).sign_in(profile)
    with person.begun(f"/buckets/{large}/{path}", fields) as answer:
        assert answer.status == 200
        end(console, person, profile.key_id)
        deadline = time.monotonic() + PATIENCE_S
        while person.get("/buckets").status != 303:
            assert time.monotonic() < deadline
        with pytest.raises((IncompleteRead, ConnectionError)):
            answer.read()
