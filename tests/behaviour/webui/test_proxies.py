"""The console behind nginx, below a path: whether the proxy takes the path away or not."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from http.client import HTTPException

import pytest

from console_http import PATIENCE_S, Socket, Visitor
from console_kit import HARD_KEYS, ConsoleStore, running_console
from harness import free_port
from warehouse.webui.attempts import BURST
from warehouse.webui.live import KEY_ENDED
from warehouse.webui.names import object_url

URL = "https://store.example/ware-house"  # as people type it; the proxy ends TLS
SERVER = """
server {{
  listen 127.0.0.1:{port};
  client_max_body_size 0;
  location /ware-house/ {{
    proxy_pass http://127.0.0.1:{console}{path};
    proxy_http_version 1.1;
    proxy_request_buffering off;
    proxy_buffering off;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $keep;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    {host}
  }}
}}
"""
NGINX = """
daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  map $http_upgrade $keep {{ default upgrade; '' ''; }}
  {servers}
}}
"""


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleStore]:
    with running_console(tmp_path_factory.mktemp("proxied"), config=f'[console]\nurl = "{URL}"\n') as found:
        found.put("photos", dict.fromkeys(HARD_KEYS, b"text"))
        yield found


def wait_until_it_answers(visitor: Visitor) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            assert visitor.get("/sign-in").status == 200
            return
        except (OSError, HTTPException):
            assert time.monotonic() < deadline, "nginx does not answer"
            time.sleep(0.02)


@pytest.fixture(scope="module", params=["takes the path away", "keeps the path"])
def proxied(
    request: pytest.FixtureRequest, console: ConsoleStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Visitor]:
    """Nobody is signed in."""
    folder, port = tmp_path_factory.mktemp("nginx"), free_port()
    keeps = request.param == "keeps the path"
    server = SERVER.format(
        port=port,
        console=console.store.port_base + 80,
        path="" if keeps else "/",
        host="proxy_set_header Host $http_host;" if keeps else "",
    )
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, servers=server))
    nginx = subprocess.Popen(["nginx", "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")])
    try:
        visitor = Visitor(URL, address=("127.0.0.1", port))
        wait_until_it_answers(visitor)
        yield visitor
    finally:
        nginx.terminate()
        nginx.wait(PATIENCE_S)


def person(proxied: Visitor) -> Visitor:
    return Visitor(proxied.url, address=proxied.address)


def test_people_sign_in_and_every_link_stays_below_the_path(console: ConsoleStore, proxied: Visitor) -> None:
    visitor = person(proxied)
    asked = visitor.get("/buckets/photos")
    assert asked.status == 303
    assert asked.headers["location"].startswith("/ware-house/sign-in?next=%2Fware-house%2Fbuckets%2Fphotos")
    visitor.sign_in(console.root)
    for path in ("/", "/volumes", "/buckets", "/buckets/photos", "/keys", "/activity", "/help"):
        answer = visitor.get(path)
        assert answer.status == 200, path
        targets = re.findall(
            r'\s(?:href|src|action|hx-(?:get|post|delete|put)|formaction)="(/[^"]*)"', answer.text
        )
        assert targets
        assert [target for target in targets if not target.startswith("/ware-house/")] == [], path


def test_styles_and_scripts_come_through(proxied: Visitor) -> None:
    text = proxied.get("/sign-in").text
    for target in re.findall(r'(?:href|src)="/ware-house(/static/[^"]+)"', text):
        assert proxied.get(target).status == 200, target


def test_the_cookie_goes_to_the_console_alone_and_by_https_alone(
    console: ConsoleStore, proxied: Visitor
) -> None:
    visitor = person(proxied).sign_in(console.root)
    flags = {part.strip().lower() for part in visitor.set_cookie.split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/ware-house/", "secure"} <= flags
    assert visitor.cookie.startswith("__Secure-warehouse_session=")
    plain = person(proxied)
    plain.cookie = visitor.cookie.removeprefix("__Secure-")
    assert plain.get("/buckets").status == 303, "a neighbour has put it there"
    visitor.post("/sign-out", {"all": "yes"})
    assert "Secure" in visitor.set_cookie, "otherwise a browser would not let it go"
    assert "Max-Age=0" in visitor.set_cookie
    visitor.sign_in(console.root)
    assert "max-age" in visitor.get("/").headers["strict-transport-security"]


def test_changes_of_the_console_are_taken_and_those_of_other_sites_are_not(
    console: ConsoleStore, proxied: Visitor
) -> None:
    visitor = person(proxied).sign_in(console.root)
    name = f"bucket-{visitor.address[1] if visitor.address else 0}"
    made = visitor.post("/buckets", {"name": name})
    assert (made.status, made.headers["location"]) == (303, "/ware-house/buckets")
    for origin in (
        "https://evil.example",
        "https://store.example.evil.example",
        "https://store.example:8443",
    ):
        assert visitor.post("/buckets", {"name": "forged"}, {"Origin": origin}).status == 403


def test_the_websocket_comes_through(console: ConsoleStore, proxied: Visitor) -> None:
    visitor = person(proxied).sign_in(console.root)
    with Socket(visitor) as live:
        live.watch("buckets")
        console.put(f"new-{visitor.address[1] if visitor.address else 0}", {})
        while all(message["topic"] != "buckets" for message in live.messages()):
            pass
    with Socket(visitor, {"Origin": "https://evil.example"}) as live:
        assert live.status == 403
    with Socket(person(proxied)) as live:
        assert live.close_code() == KEY_ENDED


def test_objects_with_hard_names_are_found_through_the_proxy(console: ConsoleStore, proxied: Visitor) -> None:
    visitor = person(proxied).sign_in(console.root)
    for key in HARD_KEYS:
        assert visitor.get(object_url("photos", key)).status == 200, key


ABOVE = ("/ware-house/../x", "/ware-house/%2e%2e/x", "/ware-house/a/../../x?y", "/ware-house/..#")


def test_signing_in_leads_to_no_place_above_the_path(console: ConsoleStore, proxied: Visitor) -> None:
    for wanted in ("/", "/elsewhere", "/ware-house", "/ware-houses/", "//evil.example/ware-house/", *ABOVE):
        answer = person(proxied).try_to_sign_in(console.root.key_id, console.root.secret, next=wanted)
        assert answer.headers["location"] == "/ware-house/"


def test_one_address_that_guesses_waits_and_the_others_do_not(
    console: ConsoleStore, proxied: Visitor
) -> None:
    """nginx adds the true address; what a stranger claims in front of it changes nothing."""
    direct = Visitor(URL, address=("127.0.0.1", console.store.port_base + 80))
    number = proxied.address[1] % 250 if proxied.address else 0
    statuses = [
        direct.post(
            "/sign-in",
            {"key_id": console.root.key_id, "secret": "guess"},
            {"X-Forwarded-For": f"203.0.113.{guess}, 198.51.100.{number}"},
        ).status
        for guess in range(int(BURST) + 3)
    ]
    assert statuses[0] == 401
    assert set(statuses[-2:]) == {429} or set(statuses[-2:]) == {503}
    assert person(proxied).sign_in(console.root).get("/").status == 200
