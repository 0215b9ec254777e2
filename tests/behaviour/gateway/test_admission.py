"""Admission: requests that differ from a known one in path and signature alone are admitted as that one was."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import cast

import pytest

from bench.s3_load import Signer
from warehouse.gateway.admission import Admission, Terms
from warehouse.gateway.ask import Ask
from warehouse.gateway.askers import Asker, Askers
from warehouse.gateway.journal import Journal, record_of
from warehouse.gateway.records import Record
from warehouse.gateway.service import RULES
from warehouse.s3.failures import Failure
from warehouse.s3.signing_keys import derive_signing_key
from warehouse.transport.http.connection import Clock, Connection, HttpLimits
from warehouse.transport.http.exchange import Exchange
from warehouse.transport.http.server import HttpServer
from warehouse.transport.messages import CheckSignature, SignatureChecked

HOST, KEY_ID, SECRET = "s3.example:7490", "KEY", "a-secret"


class OneAsker:
    """Knows one key, from its first signature on."""

    def __init__(self) -> None:
        self.asker: Asker | None = None

    def known(self, shown: CheckSignature) -> Asker | None:
        if self.asker is None:
            key = derive_signing_key(SECRET, shown.date, shown.region)
            checked = SignatureChecked(account_id="a", signing_key=key, token="t" * 20, expires_in_s=900)
            self.asker = Asker(checked, shown)
        return self.asker if self.asker.has_signed(shown) else None


class Gate:
    """An admission, and requests as the server reads them."""

    def __init__(self, connection: Connection, terms: Terms) -> None:
        async def answer_nothing(exchange: Exchange) -> None:
            raise AssertionError("nobody is served")

        self.admission = Admission(cast(Askers, OneAsker()), terms)
        self._connection = connection
        self._shared = HttpServer(answer_nothing, rules=RULES)._shared
        self._journal = Journal()

    def exchange(self, head: bytes) -> Exchange:
        exchange = Exchange(self._connection, self._shared)
        recalled = self._shared.heads.recall(head)
        if recalled is None:
            self._shared.heads.learn(head, exchange)
        else:
            exchange.recalled(*recalled)
        self._journal.begin(exchange)
        return exchange

    def again(self, head: bytes) -> tuple[Ask | None, Record]:
        exchange = self.exchange(head)
        return self.admission.ask_again(exchange), record_of(exchange)

    def at_length(self, head: bytes) -> tuple[Ask | None, Record]:
        exchange = self.exchange(head)
        return self.admission.ask_of_known(exchange, self.admission.look(exchange)), record_of(exchange)


@pytest.fixture
def connection() -> Iterator[Connection]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Connection(ours, "192.0.2.1:50000", HttpLimits(), Clock(2.0), host="192.0.2.1")


@pytest.fixture
def gate(connection: Connection) -> Gate:
    return Gate(connection, Terms(domains=("s3.example",)))


def get(path: str, fields: str = "") -> bytes:
    return Signer(HOST, KEY_ID, SECRET).head("GET", path).replace(b"\r\n\r\n", f"\r\n{fields}\r\n".encode())


def facts(found: tuple[Ask | None, Record]) -> tuple[object, ...]:
    ask, record = found
    assert ask is not None
    return (
        *(ask.asker, ask.operation, ask.target, ask.query, dict(ask.headers), ask.signed_body),
        *(record.key_id, record.address, record.bucket, record.key, record.operation),
    )


async def test_the_first_request_is_looked_at(gate: Gate) -> None:
    assert gate.again(get("/bucket/a"))[0] is None
    ask, _ = gate.at_length(get("/bucket/a"))
    assert ask is not None
    assert ask.asker.key_id == KEY_ID


@pytest.mark.parametrize("path", ["/bucket/a", "/bucket/another/key", "/other/a"])
async def test_what_differs_in_path_and_signature_alone_is_admitted_as_if_it_were_looked_at(
    gate: Gate, path: str
) -> None:
    assert gate.at_length(get("/bucket/a"))[0] is not None
    assert facts(gate.again(get(path))) == facts(gate.at_length(get(path)))


async def test_a_signature_of_another_path_is_nobodys(gate: Gate) -> None:
    good = get("/bucket/a")
    assert gate.at_length(good)[0] is not None
    stolen = good.replace(b"/bucket/a", b"/bucket/b")
    assert gate.again(stolen)[0] is None
    assert gate.at_length(stolen)[0] is None


async def test_a_digit_that_is_wrong_is_noticed(gate: Gate) -> None:
    good = get("/bucket/a")
    assert gate.at_length(good)[0] is not None
    digit = good[-5:-4]
    assert gate.again(good[:-5] + (b"0" if digit != b"0" else b"1") + good[-4:])[0] is None
    assert gate.again(good)[0] is not None


@pytest.mark.parametrize("path", ["/", "/bucket", "/bucket/"])
async def test_what_is_about_no_object_is_looked_at(gate: Gate, path: str) -> None:
    assert gate.at_length(get("/bucket/a"))[0] is not None
    assert gate.again(get(path))[0] is None
    assert gate.at_length(get(path))[0] is not None


@pytest.mark.parametrize("fields", ["X-Forwarded-For: 192.0.2.7\r\n", "X-Forwarded-Host: b.s3.example\r\n"])
async def test_what_a_proxy_has_changed_is_always_looked_at(gate: Gate, fields: str) -> None:
    gate.at_length(get("/bucket/a", fields))
    assert gate.again(get("/bucket/a", fields))[0] is None


async def test_a_request_becomes_too_old(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    head = get("/bucket/a")
    assert gate.at_length(head)[0] is not None
    now_s = time.time()
    monkeypatch.setattr(time, "time", lambda: now_s + 901)
    with pytest.raises(Failure) as found:
        gate.again(head)
    assert found.value.code == "RequestTimeTooSkewed"


async def test_a_host_that_names_the_bucket_does_so_again(connection: Connection, gate: Gate) -> None:
    def at_bucket(path: str) -> bytes:
        return Signer("photos.s3.example", KEY_ID, SECRET).head("GET", path)

    assert gate.at_length(at_bucket("/a"))[0] is not None
    ask, record = gate.again(at_bucket("/folder/b"))
    assert ask is not None
    assert (ask.target.bucket, ask.target.key, ask.target.is_virtual) == ("photos", "folder/b", True)
    assert (record.bucket, record.key) == ("photos", "folder/b")
