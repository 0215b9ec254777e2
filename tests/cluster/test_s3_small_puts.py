"""Small puts of many clients at a running gateway: they share requests, and nothing else."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import signal
import socket
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from s3_kit import RunningGateway, s3_store
from s3_wire import TIMEOUT_S, Heard, Wire

BUCKET = "small"
METRICS = 110  # behind the port base: of the first disk


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with s3_store(tmp_path_factory.mktemp("small")) as gateway:
        assert Wire(gateway).ask("PUT", f"/{BUCKET}").status == 200
        yield gateway


def put(wire: Wire, key: str, body: bytes, payload: str | None = None, **headers: str) -> bytes:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    named["Content-Length"] = str(len(body))
    digest = hashlib.sha256(body).hexdigest() if payload is None else payload
    return wire.head("PUT", f"/{BUCKET}/{key}", named, payload=digest) + body


def at_once(gateway: RunningGateway, requests: Sequence[bytes]) -> list[Heard]:
    """Have the gateway find all requests at the same moment, each on a connection of its own."""
    heard = []
    with ExitStack() as stack:
        connections = []
        for _ in requests:
            connection = socket.create_connection(("127.0.0.1", gateway.port), timeout=TIMEOUT_S)
            connections.append(stack.enter_context(connection))
        os.kill(gateway.pid, signal.SIGSTOP)
        try:
            for connection, request in zip(connections, requests, strict=True):
                connection.sendall(request)
        finally:
            os.kill(gateway.pid, signal.SIGCONT)
        for connection in connections:
            answer = http.client.HTTPResponse(connection, method="PUT")
            answer.begin()
            heard.append(Heard(answer.status, dict(answer.headers), answer.read()))
            answer.close()
    return heard


def sync_count(gateway: RunningGateway) -> float:
    url = f"http://127.0.0.1:{gateway.store.port_base + METRICS}/metrics"
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
        text = answer.read().decode()
    return sum(
        float(count) for count in re.findall(r"^warehouse_volume_syncs_total\{.*\} (\S+)$", text, re.M)
    )


def test_puts_of_one_moment_are_synced_together(gateway: RunningGateway) -> None:
    wire = Wire(gateway)
    for turn in range(6):  # the first leases are short, and each is a request of its own
        before = sync_count(gateway)
        heard = at_once(gateway, [put(wire, f"{turn}-{number}", b"%d" % number) for number in range(48)])
        assert [one.status for one in heard] == [200] * 48
        counted = sync_count(gateway) - before
    assert counted <= 12
    for number in range(48):
        assert wire.ask("GET", f"/{BUCKET}/5-{number}").body == b"%d" % number


def test_a_put_that_fails_hurts_no_other_of_its_moment(gateway: RunningGateway) -> None:
    wire = Wire(gateway)
    wire.ask("PUT", f"/{BUCKET}/taken", b"first")
    bad = {
        5: (
            put(wire, "changed", b"x" * 4096, hashlib.sha256(b"other").hexdigest()),
            "XAmzContentSHA256Mismatch",
        ),
        10: (put(wire, "taken", b"second", If_None_Match="*"), "PreconditionFailed"),
        15: (put(wire, "digest", b"x", Content_MD5="1B2M2Y8AsgTpgAmY7PhCfg=="), "BadDigest"),
        20: (put(wire, "absent", b"x", If_Match='"0123456789abcdef0123456789abcdef"'), "NoSuchKey"),
        25: (put(wire, "k" * 1025, b"x"), "KeyTooLongError"),
    }
    requests = [
        bad[number][0] if number in bad else put(wire, f"good-{number}", b"%d" % number * 1000)
        for number in range(40)
    ]
    heard = at_once(gateway, requests)
    for number, one in enumerate(heard):
        if number in bad:
            assert one.code == bad[number][1], number
        else:
            assert one.status == 200
            body = wire.ask("GET", f"/{BUCKET}/good-{number}").body
            assert body == b"%d" % number * 1000
            assert one.headers["ETag"].strip('"') == hashlib.md5(body, usedforsecurity=False).hexdigest()
    assert wire.ask("GET", f"/{BUCKET}/taken").body == b"first"
    for key in ("changed", "digest", "absent"):
        assert wire.ask("GET", f"/{BUCKET}/{key}").status == 404


def test_an_empty_object_and_one_that_comes_with_the_next_request_are_stored(gateway: RunningGateway) -> None:
    wire = Wire(gateway)
    pair = put(wire, "empty", b"") + put(wire, "next", b"behind")
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=TIMEOUT_S) as connection:
        connection.sendall(pair)
        heard = b""
        while heard.count(b"\r\n\r\n") < 2:
            piece = connection.recv(65536)
            assert piece
            heard += piece
    assert heard.count(b"HTTP/1.1 200 ") == 2
    assert wire.ask("GET", f"/{BUCKET}/empty").body == b""
    assert wire.ask("GET", f"/{BUCKET}/next").body == b"behind"


def test_a_gateway_that_ends_leaves_each_put_stored_or_not(tmp_path: Path) -> None:
    with s3_store(tmp_path) as gateway:
        wire = Wire(gateway)
        assert wire.ask("PUT", f"/{BUCKET}").status == 200
        with ExitStack() as stack:
            for number in range(40):
                connection = socket.create_connection(("127.0.0.1", gateway.port), timeout=TIMEOUT_S)
                stack.enter_context(connection)
                connection.sendall(put(wire, f"{number}", b"%d" % number))
            gateway.stop()
        gateway.start()
        for number in range(40):
            one = wire.ask("GET", f"/{BUCKET}/{number}")
            assert one.status == 404 or one.body == b"%d" % number
