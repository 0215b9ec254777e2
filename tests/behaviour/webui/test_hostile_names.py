"""Names that people choose to harm: in headers, in paths and in pages."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest

from console_http import Answer, Visitor
from console_kit import ConsoleStore
from warehouse.webui.names import object_url
from warehouse.webui.selection import item

NAMES = (
    "a\r\nSet-Cookie: evil=1",
    "b\nX-Injected: yes",
    "c\u2028\u2029\x85\x0b\x0cd",
    'e"; filename="evil.html',
    "f\\\"; filename*=UTF-8''evil.html",
    "g%0d%0aSet-Cookie: evil=1",
    "h\u202egnp.exe",
    "i\U0010ffff\ufeff\x7f",
    "//evil.example/j",
    "/\\evil.example/k",
    "https://evil.example/l",
    "javascript:alert(1)",
    "m/../../n",
    "?key=o&through=console",
    "#p",
    "q;r=s,t",
    "x" * 1000,
)


@pytest.fixture(scope="module")
def hostile(console: ConsoleStore) -> str:
    console.put("hostile", dict.fromkeys(NAMES, b"text"))
    return "hostile"


def harmless(answer: Answer) -> bool:
    """It sets no header of somebody else's making, and leads to no strange place."""
    where = answer.headers.get("location", "")
    return (
        answer.status < 500
        and "evil" not in answer.headers.get("set-cookie", "")
        and "x-injected" not in answer.headers
        and not re.match(r"[a-z]+://evil|//|/\\", where)
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_name_adds_no_header_and_leads_nowhere(root: Visitor, hostile: str, name: str) -> None:
    for action in ("download", "objects", "state", "check"):
        address = object_url(hostile, name, action)
        for more in ("", "through=console&etag=x"):
            answer = root.get(f"{address}{'&' if '?' in address else '?'}{more}")
            assert answer.status in (200, 303, 400), (action, answer.status)
            assert harmless(answer), (action, answer.headers)
    saved = root.get(
        object_url(hostile, name, "download") + ("&" if "?" in object_url(hostile, name) else "?")
    )
    assert saved.status == 303
    through = root.get(f"/buckets/{hostile}/download/?through=console&key={quote(name, safe='')}")
    assert through.body == b"text"
    disposition = through.headers["content-disposition"]
    assert re.fullmatch(
        r"""attachment; filename="[^"\\%]*"; filename\*=UTF-8''[A-Za-z0-9%._~-]+""", disposition
    )
    assert through.headers["content-type"] == "application/octet-stream"
    assert "sandbox" in through.headers["content-security-policy"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_acted_upon_stays_text(root: Visitor, hostile: str, name: str) -> None:
    chosen = {"item": item(name, 4)}
    for action in ("delete", "copy", "rename", "link"):
        answer = root.post(f"/buckets/{hostile}/selection/{action}", chosen)
        assert answer.status == 200, (action, answer.text)
        assert harmless(answer)
        assert "<script>alert" not in answer.text
        assert not re.search(r'(?:href|src|action)="(?:javascript:|//|https?://evil)', answer.text)
    for form in (chosen, {"item": item(name.rpartition("/")[0] + "/", None)}, {"at": name, **chosen}):
        archive = root.post(f"/buckets/{hostile}/zip", form)
        assert archive.status in (200, 400), archive.text
        assert harmless(archive)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_the_words_of_a_list_stays_text(root: Visitor, hostile: str, name: str) -> None:
    word = quote(name, safe="")
    for path in (
        f"/buckets/{hostile}?prefix={word}",
        f"/buckets/{hostile}?find={word[:3000]}",
        f"/buckets/{hostile}?cursor={word}",
        f"/buckets/{hostile}/open?key={word}",
        f"/buckets/{word}",
        f"/buckets?find={word}",
        f"/keys?find={word}",
        f"/activity?find={word}",
        f"/activity/audit?find={word[:150]}&until={word[:30]}",
        f"/me?at={word}",
        f"/sign-in?next={word}&cause={word}",
        f"/volumes?disk={word}",
    ):
        answer = root.get(path)
        assert harmless(answer), (path, answer.status, answer.headers)
        assert not re.search(r'(?:href|src|action)="(?:javascript:|//|https?://evil)', answer.text), path
