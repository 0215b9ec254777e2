"""Safety: what strangers, other sites and broken clients cannot do to the console and its people."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
import trio

import warehouse
from console_http import PATIENCE_S, Answer, Socket, Visitor
from console_kit import ConsoleStore
from warehouse.conf.console_codes import Codes, console_folder
from warehouse.webui.app import BODY_MAX, create_app
from warehouse.webui.console import Console, ConsoleOptions
from warehouse.webui.live import KEY_ENDED, SESSION_CHANGED
from warehouse.webui.selection import ITEMS_MAX

JSON = {"Accept": "application/json"}
SAMPLES = {"bucket": "photos", "number": "1", "int": "1"}


def routes() -> list[tuple[str, str]]:
    """All routes of the console, with values in their places: (method, path)."""

    async def find() -> list[tuple[str, str]]:
        async with trio.open_nursery() as nursery:
            app = create_app(Console.make(ConsoleOptions(Path("/nowhere"), Path("/nowhere")), nursery))
            found = []
            for rule in app.url_map.iter_rules():
                if rule.websocket:
                    continue
                path = re.sub(r"<int:[^>]*>", "1", rule.rule)
                path = re.sub(r"<path:[^>]*>", "a/b.txt", path)
                path = re.sub(r"<[^>]*bucket>", "photos", path)
                path = re.sub(r"<[^>]*>", "x", path)
                found += [(method, path) for method in sorted(rule.methods or ())]
            return found

    return trio.run(find)


ROUTES = routes()
CHANGES = [
    *[(m, p) for m, p in ROUTES if m not in ("GET", "HEAD", "OPTIONS")],
    ("PUT", "/buckets/photos/uploads/1/0"),
]


def protected(answer: Answer) -> bool:
    policy = answer.headers.get("content-security-policy", "")
    return (
        "default-src 'none'" in policy
        and "unsafe" not in policy
        and "frame-ancestors 'none'" in policy
        and answer.headers.get("x-content-type-options") == "nosniff"
        and answer.headers.get("referrer-policy") == "same-origin"
        and answer.headers.get("x-frame-options") == "DENY"
        and answer.headers.get("cross-origin-opener-policy") == "same-origin"
        and answer.headers.get("cross-origin-resource-policy") == "same-origin"
        and "cache-control" in answer.headers
        and "server" not in answer.headers
    )


# --- changes come from the console's own pages ----------------------------------------------------


@pytest.mark.parametrize(("method", "path"), CHANGES, ids=lambda value: value)
def test_a_change_without_its_token_is_refused(root: Visitor, method: str, path: str) -> None:
    for headers in ({}, {"X-CSRF-Token": ""}, {"X-CSRF-Token": "é" * 10}, {"X-CSRF-Token": root.csrf[:-1]}):
        sent = {**JSON, "Origin": root.origin, **headers}
        answer = root.ask(method, path, {k: v.encode("utf-8").decode("latin-1") for k, v in sent.items()})
        assert (answer.status, answer.code) == (403, "request_forged"), (headers, answer.body)


@pytest.mark.parametrize(("method", "path"), CHANGES, ids=lambda value: value)
def test_a_change_that_another_site_asks_for_is_refused(root: Visitor, method: str, path: str) -> None:
    token = {**JSON, "X-CSRF-Token": root.csrf}
    host, _, port = urlsplit(root.url).netloc.partition(":")
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": f"http://{host}:{int(port) + 1}"},
        {"Origin": f"http://{host}:{port}.evil.example"},
        {"Origin": "http://["},
        {"Origin": root.origin, "Sec-Fetch-Site": "cross-site"},
        {"Origin": root.origin, "Sec-Fetch-Site": "same-site"},
    ):
        answer = root.ask(method, path, {**token, **headers})
        assert (answer.status, answer.code) == (403, "request_forged"), (headers, answer.body)


def test_no_other_site_signs_anybody_in(console: ConsoleStore, visitor: Visitor) -> None:
    """Otherwise a person would work in the session of somebody else, and show them what they upload."""
    who = {"key_id": console.root.key_id, "secret": console.root.secret}
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        answer = visitor.post("/sign-in", who, {**JSON, **headers})
        assert (answer.status, answer.code) == (403, "request_forged"), headers
        assert "set-cookie" not in answer.headers


@pytest.fixture(scope="module")
def foreign_token(console: ConsoleStore) -> str:
    """The token of another session, with the same key."""
    return Visitor(console.url).sign_in(console.root).csrf


@pytest.mark.parametrize(("method", "path"), CHANGES, ids=lambda value: value)
def test_the_token_of_another_session_is_refused(
    root: Visitor, foreign_token: str, method: str, path: str
) -> None:
    answer = root.ask(method, path, {**JSON, "Origin": root.origin, "X-CSRF-Token": foreign_token})
    assert (answer.status, answer.code) == (403, "request_forged"), answer.body


def test_a_page_of_one_key_changes_nothing_with_another(console: ConsoleStore) -> None:
    """Another tab has switched keys; without scripts, or a WebSocket, this one does not know."""
    other = console.make_key("of another tab", preset="admin")
    person = Visitor(console.url).sign_in(other)
    person.sign_in(console.root)
    tab = Visitor(console.url, cookie=person.cookie, csrf=person.csrf)
    assert person.post("/switch", {"key_id": other.key_id}).status == 303
    for path, form in (("/buckets", {"name": "made-by-mistake"}), ("/sign-out", {}), ("/switch", {})):
        answer = tab.post(path, form, JSON)
        assert (answer.status, answer.code) == (403, "request_forged"), path
    assert b"reload it" in answer.body
    assert "made-by-mistake" not in person.open_page().get("/buckets").text
    assert tab.open_page().post("/buckets", {"name": "made-on-purpose"}).status == 303


def test_each_page_has_a_token_of_its_own_and_all_are_good(root: Visitor) -> None:
    tokens = [token for _ in range(3) for token in re.findall(r'data-csrf="([^"]+)"', root.get("/help").text)]
    assert len(set(tokens)) == 3
    for token in tokens:
        answer = root.post("/buckets", {"name": "", "csrf": token}, JSON)
        assert answer.code not in ("", "request_forged")


@pytest.mark.parametrize(
    "path", ["/", "/buckets/photos", "/buckets/photos/rows", "/overview/history?range=hour"]
)
def test_what_others_can_write_into_is_not_compressed(root: Visitor, path: str) -> None:
    answer = root.get(path, {"Accept-Encoding": "gzip, deflate, br"})
    assert answer.status == 200
    assert "content-encoding" not in answer.headers
    assert "no-transform" in answer.headers["cache-control"]


def test_what_is_the_same_for_all_is_compressed(root: Visitor) -> None:
    found = re.search(r'src="([^"]+/main.js)"', root.get("/").text)
    assert found is not None
    assert root.get(found[1], {"Accept-Encoding": "gzip"}).headers["content-encoding"] == "gzip"


def test_messages_of_a_page_are_not_compressed(root: Visitor) -> None:
    with Socket(root, {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}) as live:
        assert live.status == 101
        assert "sec-websocket-extensions" not in live.headers


def test_no_route_changes_anything_by_get(root: Visitor) -> None:
    """What a link can do must be harmless: after all of them nothing has changed."""
    for path in sorted({path for method, path in ROUTES if method == "GET" and "/static/" not in path}):
        root.get(path)
    answer = root.get("/buckets")
    assert answer.status == 200
    assert "photos" in answer.text


# --- headers --------------------------------------------------------------------------------------


def test_every_answer_tells_browsers_to_be_strict(root: Visitor) -> None:
    for method, path in ROUTES:
        answer = root.ask(method, path, {"Origin": root.origin})
        assert protected(answer), (method, path, answer.status, answer.headers)
    for path in ("/nothing", "/static/x/nothing", "/static/x/..%2f..%2fmain.py", "/%00", "/\xff", "//", "/."):
        answer = root.get(quote(path, safe="/%"))
        assert protected(answer), (path, answer.headers)
        assert answer.status in (200, 303, 401, 404), (path, answer.status)
    for refused in (
        root.ask("PUT", "/buckets/photos/uploads/1/0"),
        root.ask("BREW", "/"),
        root.ask("POST", "/buckets", {"Content-Length": str(BODY_MAX + 1)}, b"x" * (BODY_MAX + 1)),
        Visitor(root.url).get("/"),
    ):
        assert protected(refused), refused.headers


def test_a_page_allows_no_script_but_files_of_the_console(root: Visitor) -> None:
    policy = dict(
        rule.strip().split(" ", 1) for rule in root.get("/").headers["content-security-policy"].split(";")
    )
    assert policy["script-src"] == "'self'"
    assert policy["style-src"] == "'self'"
    assert policy["base-uri"] == "'none'"


def test_strangers_are_not_told_where_the_volume_actors_are(
    console: ConsoleStore, root: Visitor, visitor: Visitor
) -> None:
    actor = f":{console.store.port_base + 10}"
    assert actor in root.get("/").headers["content-security-policy"]
    signed_out = Visitor(root.url, cookie=root.cookie)
    root.post("/sign-out", {"all": "yes"})
    for stranger in (visitor, signed_out, Visitor(root.url, cookie="warehouse_session=x")):
        for answer in (
            *(stranger.get(path) for path in ("/", "/sign-in", "/buckets", "/nothing", "/static/x/nothing")),
            stranger.try_to_sign_in("root", "wrong"),
            stranger.post("/buckets", {"name": "x"}),
        ):
            assert "form-action 'self';" in answer.headers["content-security-policy"]
            assert actor not in str(answer.headers) + answer.text


def test_signing_in_for_a_download_goes_on_from_a_page_and_not_from_the_form(console: ConsoleStore) -> None:
    visitor = Visitor(console.url)
    wanted = "/buckets/photos/download/a/b.txt"
    answer = visitor.try_to_sign_in(console.root.key_id, console.root.secret, next=wanted)
    assert answer.status == 200
    assert f'content="0; url={wanted}"' in answer.text
    assert visitor.get(wanted).status == 303


@pytest.mark.parametrize("path", ["/", "/buckets", "/sign-in", "/nothing"])
def test_pages_hold_no_inline_script_style_or_handler(root: Visitor, path: str) -> None:
    text = root.get(path).text
    assert not re.search(r"<script(?![^>]*\bsrc=)", text)
    assert not re.search(r"\s(style|on[a-z]+|hx-on[^=]*)\s*=", text, re.IGNORECASE)


# --- sessions -------------------------------------------------------------------------------------


def test_the_cookie_is_for_the_console_alone(root: Visitor) -> None:
    flags = {part.strip().lower() for part in root.set_cookie.split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/"} <= flags
    assert not any(flag.startswith("domain") for flag in flags)
    assert "secure" not in flags  # plain HTTP on loopback: a browser would not send it back


def test_a_cookie_that_was_there_before_signing_in_is_not_taken_over(console: ConsoleStore) -> None:
    victim = Visitor(console.url, cookie="warehouse_session=chosen-by-somebody")
    victim.sign_in(console.root)
    assert "chosen-by-somebody" not in victim.cookie
    assert Visitor(console.url, cookie="warehouse_session=chosen-by-somebody").get("/buckets").status == 303


def test_each_signing_in_makes_the_cookie_before_worthless(console: ConsoleStore, root: Visitor) -> None:
    before = Visitor(console.url, cookie=root.cookie)
    root.sign_in(console.make_key("another", preset="reader"))
    assert before.get("/buckets").status == 303
    assert root.get("/buckets").status == 200


def test_signing_out_makes_the_cookie_worthless_and_clears_the_browser(root: Visitor) -> None:
    before = Visitor(root.url, cookie=root.cookie)
    answer = root.post("/sign-out", {"all": "yes"})
    assert answer.status == 303
    assert re.search(r"warehouse_session=;.*(Max-Age=0|1970)", root.set_cookie)
    assert before.get("/buckets").status == 303
    with Socket(before) as live:
        assert live.close_code() == KEY_ENDED


def test_garbage_in_the_cookie_is_nobody(visitor: Visitor) -> None:
    for garbage in (
        "",
        "x",
        "é",
        "\xff\xfe",
        '"\\"',
        ";;;=",
        "a=b; " * 100,
        "x" * 8_000,
        "warehouse_session",
    ):
        for cookie in (garbage, "warehouse_session=" + garbage):
            answer = visitor.ask("GET", "/buckets", {"Cookie": cookie})
            assert answer.status == 303, (garbage, answer.status)
            assert answer.headers["location"].startswith("/sign-in")
            put = visitor.ask("PUT", "/buckets/photos/uploads/1/0", {"Cookie": cookie, **JSON})
            assert put.status in (401, 403)


def test_a_disabled_key_ends_its_sessions_and_closes_its_pages(console: ConsoleStore) -> None:
    profile = console.make_key("soon disabled", preset="read-only")
    person = Visitor(console.url).sign_in(profile)
    with Socket(person) as live:
        live.watch("buckets")

        async def disable(store: warehouse.Store) -> None:
            await store.disable_key(profile.key_id)

        console.ask(disable)
        began_s = time.monotonic()
        assert live.close_code() == KEY_ENDED
        assert time.monotonic() - began_s < 30
    for _ in range(2):  # whichever of the requests of a page is shown: it says why
        assert "cause=ended" in person.get("/buckets").headers["location"]


def test_a_rotated_key_ends_sessions_with_the_secret_before(console: ConsoleStore) -> None:
    profile = console.make_key("soon rotated", preset="read-only")
    person = Visitor(console.url).sign_in(profile)
    with Socket(person) as live:

        async def rotate(store: warehouse.Store) -> None:
            await store.rotate_key(profile.key_id, overlap_s=0)

        console.ask(rotate)
        assert live.close_code() == KEY_ENDED
    assert person.get("/buckets").status == 303


def test_signing_out_in_one_tab_closes_what_is_open_in_others(root: Visitor) -> None:
    with Socket(root) as live:
        live.watch("buckets")
        live.messages()
        root.post("/sign-out", {"all": "yes"})
        assert live.close_code() == SESSION_CHANGED


def test_another_key_of_a_session_does_not_see_what_the_first_one_saw(console: ConsoleStore) -> None:
    console.put("secret-bucket", {"x": b"x"})
    narrow = console.make_key("narrow", preset="reader", grants=[warehouse.KeyGrant(bucket="photos")])
    person = Visitor(console.url).sign_in(console.root)
    with Socket(person) as live:
        person.sign_in(narrow)
        assert live.close_code() == SESSION_CHANGED
    assert "secret-bucket" not in person.get("/buckets").text
    assert person.post("/switch", {"key_id": console.root.key_id}).status == 303
    assert "secret-bucket" in person.open_page().get("/buckets").text
    assert person.post("/switch", {"key_id": "somebody-elses"}, JSON).status == 404
    assert "secret-bucket" in person.get("/buckets").text, "the current key was signed out"


# --- signing in -----------------------------------------------------------------------------------

ELSEWHERE = (
    "//evil.example/",
    "///evil.example/",
    "/\\evil.example/",
    "\\\\evil.example/",
    "/\t/evil.example/",
    "\t//evil.example/",
    "/\n/evil.example/",
    " //evil.example/",
    "https://evil.example/",
    "HTTPS:evil.example",
    "javascript:alert(1)",
    "data:text/html,x",
    "@evil.example/",
    "user@evil.example",
    "evil.example",
    ":81/",
    "http://127.0.0.1:1/",
    "/" + "x" * 5_000,
    "/\r\nSet-Cookie: a=b",
    "/../x",
    "/./x",
    "/buckets/../../x",
    "/%2e%2E/x",
    "/.%2e?x",
    "",
)


@pytest.mark.parametrize("wanted", ELSEWHERE)
def test_signing_in_leads_to_no_other_place(console: ConsoleStore, wanted: str) -> None:
    answer = Visitor(console.url).try_to_sign_in(console.root.key_id, console.root.secret, next=wanted)
    assert answer.status == 303
    assert answer.headers["location"] == "/"


@pytest.mark.parametrize(
    "wanted",
    [
        "/buckets?find=a%2F%2Fb",
        "/buckets/photos/objects/?key=../up",
        "/%2f%2fevil.example",
        "/%5cevil.example",
        "/%09/evil.example",
        "/@evil.example",
        "/:81/",
        "/...",
    ],
)
def test_signing_in_leads_to_any_page_of_the_console(console: ConsoleStore, wanted: str) -> None:
    answer = Visitor(console.url).try_to_sign_in(console.root.key_id, console.root.secret, next=wanted)
    where = urlsplit(answer.headers["location"])
    assert (where.scheme, where.netloc) == ("", "")
    assert where.path.startswith("/")
    assert not where.path.startswith("//")


def test_a_link_in_a_mail_shows_no_sign_in_form_to_who_is_signed_in(root: Visitor) -> None:
    """Another site's link brings no strict cookie along; the page that answers asks again, and brings it."""
    followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    first = Visitor(root.url).get("/buckets?find=ph", followed)
    assert first.status == 200
    assert "photos" not in first.text
    again = re.search(r'http-equiv="refresh" content="0; url=([^"]+)"', first.text)
    assert again is not None
    where = again[1].replace("&amp;", "&")
    assert root.get(where).headers["location"] == "/buckets?find=ph"
    asked = Visitor(root.url).get(where)
    assert asked.status == 200
    assert 'name="secret"' in asked.text


def test_codes_that_are_none_sign_nobody_in(console: ConsoleStore, visitor: Visitor, tmp_path: Path) -> None:
    folder = console_folder(console.store.profile)
    codes = Codes(folder)
    expired = codes.make(console.store.profile)
    path = next(iter(sorted(folder.glob("code-*"), key=lambda p: -p.stat().st_mtime_ns)))
    path.write_text(json.dumps({**json.loads(path.read_text()), "expires_s": time.time() - 1}))
    linked = codes.make(console.store.profile)
    path = next(iter(sorted(folder.glob("code-*"), key=lambda p: -p.stat().st_mtime_ns)))
    path.chmod(0o644)  # others can read it
    for code in (expired, linked, "x" * 43, "../../profile.toml", "a/b", "\0" * 43, "é" * 43, "x" * 100):
        answer = visitor.post("/sign-in", {"code": code})
        assert answer.status in (400, 401), (code, answer.status)
        assert "set-cookie" not in answer.headers
        assert visitor.get("/sign-in?code=" + quote(code)).status in (400, 401)


def test_a_code_signs_in_once_even_when_many_try_at_a_time(console: ConsoleStore) -> None:
    code = Codes(console_folder(console.store.profile)).make(console.store.profile)
    statuses: list[int] = []

    async def race() -> None:
        async def one() -> None:
            answer = await trio.to_thread.run_sync(Visitor(console.url).post, "/sign-in", {"code": code})
            statuses.append(answer.status)

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(one)

    trio.run(race)
    assert sorted(statuses) == [303, *[401] * 7]


# --- what broken and hostile clients send -----------------------------------------------------------


def test_a_body_that_is_too_large_is_refused_and_the_connection_goes_on(root: Visitor) -> None:
    connection = root.connect()
    form = {"Content-Type": "application/x-www-form-urlencoded", "Origin": root.origin}
    for path in ("/buckets", "/nothing", "/buckets/photos/uploads/1/0"):
        method = "PUT" if "uploads" in path else "POST"
        answer = root.ask(method, path, form, b"x" * (5 * 1024 * 1024), connection=connection)
        assert answer.status in (403, 404, 413), (path, answer.status)
        assert root.ask("GET", "/buckets", connection=connection).status == 200
    connection.close()


FORM = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}


def test_a_form_of_half_a_million_fields_is_refused_before_it_is_taken_apart(
    root: Visitor, visitor: Visitor
) -> None:
    for body in (b"a&" * (BODY_MAX // 2 - 1), b"a=&" * (BODY_MAX // 3 - 1)):
        for person, path in ((visitor, "/sign-in"), (root, "/buckets"), (visitor, "/buckets")):
            answer = person.ask("POST", path, {**FORM, "Origin": person.origin}, body)
            assert (answer.status, answer.code) == (413, "413"), (path, answer.body)


def test_a_stranger_sends_no_long_form(visitor: Visitor) -> None:
    form = {**FORM, "Origin": visitor.origin}
    assert visitor.ask("POST", "/sign-in", form, b"key_id=" + b"%41" * 20_000).status == 413
    assert visitor.ask("POST", "/sign-in", form, b"key_id=" + b"%41" * 150).status == 401


def test_the_longest_selection_without_scripts_is_taken(root: Visitor) -> None:
    chosen = "&".join(["item=o:1:a", *(f"item=o%3A1%3Aname-{n}.txt" for n in range(ITEMS_MAX - 1))])
    form = {**FORM, "Origin": root.origin, "X-CSRF-Token": root.csrf}
    answer = root.ask("POST", "/buckets/photos/selection/sum", form, chosen)
    assert json.loads(answer.body)["words"].startswith(f"{ITEMS_MAX:,} objects")


def test_a_body_without_an_end_costs_no_memory(console: ConsoleStore, root: Visitor) -> None:
    def resident_kib() -> int:
        status = Path(f"/proc/{console.store.pids()['console']}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0])

    before = resident_kib()
    with socket.create_connection(("127.0.0.1", urlsplit(root.url).port or 0), timeout=PATIENCE_S) as endless:
        head = (
            f"POST /buckets HTTP/1.1\r\nHost: {urlsplit(root.url).netloc}\r\nTransfer-Encoding: chunked\r\n"
        )
        endless.sendall(f"{head}Origin: {root.origin}\r\nCookie: {root.cookie}\r\n\r\n".encode())
        piece = b"%x\r\n" % 65536 + b"x" * 65536 + b"\r\n"
        sent = 0
        try:
            while sent < 256 * 1024 * 1024:
                endless.sendall(piece)
                sent += 65536
        except OSError:
            pass  # it was refused, and the rest was not wanted
        assert resident_kib() - before < 48 * 1024
    assert root.get("/buckets").status == 200


def raw(visitor: Visitor, sent: bytes) -> bytes:
    """What comes back for these bytes, until the console closes or waits for more."""
    with socket.create_connection(("127.0.0.1", urlsplit(visitor.url).port or 0), timeout=0.5) as connection:
        connection.sendall(sent)
        received = b""
        try:
            while piece := connection.recv(65536):
                received += piece
        except (TimeoutError, ConnectionError):
            pass
        return received


def test_garbage_instead_of_a_request_harms_nobody(root: Visitor) -> None:
    for sent in (
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a b/c@d\r\n\r\n",
        b"GET http://evil.example/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET //evil.example/%2e%2e HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /%ff%fe?%ff=%00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT evil.example:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
        b"POST /sign-in HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /sign-in HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /sign-in HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=\xff\r\n"
        b"Content-Length: 4\r\n\r\n--\xff\xff",
        b"GET /live HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\ngarbage",
    ):
        answer = raw(root, sent)
        assert b" 500 " not in answer.partition(b"\r\n")[0], (sent, answer[:200])
        assert b"Location: //" not in answer
        assert b"location: http://evil" not in answer.lower()
        assert b"root:" not in answer
        assert b"Traceback" not in answer
    assert root.get("/buckets").status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
def test_a_websocket_of_another_site_is_refused(root: Visitor, headers: dict[str, str]) -> None:
    with Socket(root, headers) as live:
        assert live.status == 403


def test_messages_that_a_page_never_sends_watch_nothing(root: Visitor) -> None:
    with Socket(root) as live:
        for message in (
            "",
            "x",
            "[]",
            '{"watch": 1}',
            '{"watch": ["nothing", ":", "bucket", "bucket:"], "more": 1}',
            '{"watch": [' + ",".join(f'"bucket:x{n}"' for n in range(500)) + "]}",
            '{"watch": ["' + "x" * 10_000 + '"]}',
            "[" * 30_000,
        ):
            live.send(message)
        live.send(b"\xff\xfe", opcode=2)
        live.watch("buckets")
        while all(message["topic"] != "buckets" for message in live.messages()):
            pass


def test_a_websocket_message_that_is_too_large_closes_it(root: Visitor) -> None:
    with Socket(root) as live:
        live.send("x" * 100_000)
        assert live.close_code() == 1009
    assert root.get("/buckets").status == 200


def test_a_session_has_a_hundred_open_pages_and_no_more(root: Visitor) -> None:
    opened = []
    try:
        for _ in range(101):
            opened.append(Socket(root))
        assert [live.status for live in opened] == [101] * 100 + [503]
    finally:
        for live in opened:
            live.__exit__()
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with Socket(root) as live:
            if live.status == 101:
                return
    raise AssertionError("pages that were closed still count")


@pytest.fixture
def silent(root: Visitor) -> Iterator[list[socket.socket]]:
    """Connections that begin a request and never end it."""
    port = urlsplit(root.url).port or 0
    found = [socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) for _ in range(300)]
    for number, connection in enumerate(found):
        connection.sendall(b"" if number % 2 else b"GET / HTTP/1.1\r\nHo")
    yield found
    for connection in found:
        connection.close()


def test_slow_strangers_do_not_keep_others_away(root: Visitor, silent: list[socket.socket]) -> None:
    began_s = time.monotonic()
    assert root.get("/buckets").status == 200
    assert time.monotonic() - began_s < 10
    for connection in silent:  # each is cut, whatever it has said
        connection.settimeout(60)
        assert connection.recv(1000) == b""


def test_who_reads_no_answer_does_not_keep_the_console_from_ending(
    tmp_path: Path, console: ConsoleStore
) -> None:
    command = [sys.executable, "-m", "warehouse.webui", "--profile", str(console.store.profile), "--json"]
    port = int(
        subprocess.check_output(
            [sys.executable, "-c", "from harness import free_port; print(free_port())"],
            env={**os.environ, "PYTHONPATH": "tests/kits:."},
            text=True,
        )
    )
    process = subprocess.Popen(
        [*command, "--port", str(port)], stdout=subprocess.PIPE, env=console.store.env, text=True
    )
    assert process.stdout is not None
    try:
        address = json.loads(process.stdout.readline())["url"]
        static = re.search(r"/static/[0-9a-f]+/js/main.js", Visitor(address).get("/sign-in").text)
        assert static is not None
        with socket.socket() as stuck:
            stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stuck.connect(("127.0.0.1", port))
            stuck.settimeout(2)
            request = f"GET {static[0]} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
            try:
                for _ in range(900):
                    stuck.sendall(request * 10)
            except TimeoutError:
                pass  # the console takes no more: it is stuck with an answer
            process.terminate()
            assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
