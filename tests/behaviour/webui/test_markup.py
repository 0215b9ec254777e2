"""Markup: whatever people have named is text on every page."""

from __future__ import annotations

import pytest

import warehouse
from console_http import Visitor
from console_kit import ConsoleStore
from warehouse.webui.names import bucket_url, object_url

MARKUP = "<img src=x onerror=alert(1)>"
BREAKS = "\"'><script>alert(2)</script>{{ 7*7 }}"
KEYS = (MARKUP, f"{MARKUP}/{BREAKS}", f"folder/{BREAKS}")
PAGES = (
    *(
        "/",
        "/volumes",
        "/buckets",
        "/keys",
        "/keys/new",
        "/accounts",
        "/nodes",
        "/measure",
        "/help",
        "/me",
        "/tasks",
    ),
    *("/activity", "/activity/audit", "/activity/jobs", "/buckets/photos/settings"),
    *(bucket_url("photos", prefix) for prefix in ("", MARKUP + "/", "folder/", BREAKS)),
    *(object_url("photos", key) for key in KEYS),
    bucket_url("photos") + "?find=%3Cimg+src%3Dx+onerror%3Dalert(1)%3E",
    "/buckets?find=%22%3E%3Cscript%3Ealert(2)%3C/script%3E",
    "/sign-in?next=/%22%3E%3Cscript%3Ealert(2)%3C/script%3E&cause=%3Cscript%3Ealert(2)%3C/script%3E",
    "/%3Cscript%3Ealert(2)%3C/script%3E",
)


@pytest.fixture(scope="module")
def named(console: ConsoleStore) -> Visitor:
    """The root key is signed in to a store in which all that has a name is named badly."""

    async def name_all(store: warehouse.Store) -> None:
        photos = store.bucket("photos")
        for key in KEYS:
            await photos.put(key, MARKUP.encode(), metadata={"note": BREAKS}, content_type="text/plain")
        await store.create_account(MARKUP)
        await store.create_key(BREAKS, preset="reader", description=MARKUP)
        await store.create_key(MARKUP, preset="reader", description=BREAKS)

    console.ask(name_all)
    return Visitor(console.url).sign_in(console.root)


@pytest.mark.parametrize("path", PAGES)
def test_names_are_text(named: Visitor, path: str) -> None:
    text = named.get(path).text
    assert "<img src=x" not in text
    assert "<script>" not in text


def test_names_are_shown(named: Visitor) -> None:
    assert "&lt;img src=x onerror=alert(1)&gt;" in named.get("/buckets/photos").text
    assert "&lt;img src=x onerror=alert(1)&gt;" in named.get("/keys").text
