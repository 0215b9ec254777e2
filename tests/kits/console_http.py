"""Console over HTTP: a person without a browser, for tests of what the console answers.

visitor = Visitor(console.url)
visitor.sign_in(profile)
answer = visitor.get("/buckets")
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

from warehouse.conf.profile import Profile

PATIENCE_S = 30.0


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]  # names in small letters
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def code(self) -> str:
        """The code of a refusal that was asked for as JSON."""
        try:
            return str(json.loads(self.body)["code"])
        except (ValueError, KeyError, TypeError):
            return ""


@dataclass
class Visitor:
    """A client with a cookie jar of one cookie.

    Attributes:
        url: where the console is, with the path of a proxy.
        address: to connect to; that of `url` if not given.
    """

    url: str
    address: tuple[str, int] | None = None
    cookie: str = ""
    set_cookie: str = ""
    csrf: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def root(self) -> str:
        return urlsplit(self.url).path.rstrip("/")

    def connect(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        host, port = self.address or (parts.hostname or "", parts.port or 80)
        return http.client.HTTPConnection(host, port, timeout=PATIENCE_S)

    def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | str | None = None,
        *,
        connection: http.client.HTTPConnection | None = None,
    ) -> Answer:
        """One request; the path is below the root."""
        used = connection or self.connect()
        try:
            sent = {"Host": urlsplit(self.url).netloc, **self.headers, **(headers or {})}
            if self.cookie and "Cookie" not in sent:
                sent["Cookie"] = self.cookie
            used.request(method, self.root + path, body=body, headers=sent)
            got = used.getresponse()
            answer = Answer(got.status, {k.lower(): v for k, v in got.getheaders()}, got.read())
        finally:
            if connection is None:
                used.close()
        if found := answer.headers.get("set-cookie"):
            self.set_cookie, self.cookie = found, found.partition(";")[0]
        return answer

    @contextmanager
    def begun(self, path: str, fields: Mapping[str, str] | None = None) -> Iterator[http.client.HTTPResponse]:
        """An answer that has begun, and is read as somebody who takes little at a time does.

        Args:
            fields: of a form to be sent; None: GET.
        """
        connection = self.connect()
        connection.sock = socket.socket()
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        connection.sock.settimeout(PATIENCE_S)
        connection.sock.connect((connection.host, connection.port))
        sent = {"Host": urlsplit(self.url).netloc, "Cookie": self.cookie, "Origin": self.origin}
        sent |= {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
        body = None if fields is None else urlencode({"csrf": self.csrf, **fields})
        try:
            connection.request("GET" if body is None else "POST", self.root + path, body, sent)
            with connection.getresponse() as answer:
                yield answer
        finally:
            connection.close()

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self.ask("GET", path, headers)

    def post(self, path: str, fields: Mapping[str, str], headers: Mapping[str, str] | None = None) -> Answer:
        """Send a form, as a page of the console does."""
        sent = {"Content-Type": "application/x-www-form-urlencoded", "Origin": self.origin, **(headers or {})}
        return self.ask("POST", path, sent, urlencode({"csrf": self.csrf, **fields}))

    def try_to_sign_in(self, key_id: str, secret: str, **fields: str) -> Answer:
        return self.post("/sign-in", {"key_id": key_id, "secret": secret, **fields})

    def sign_in(self, profile: Profile) -> Visitor:
        answer = self.try_to_sign_in(profile.key_id, profile.secret)
        assert answer.status == 303, (answer.status, answer.text)
        return self.open_page()

    def open_page(self) -> Visitor:
        """Load a page, and take the token that it has."""
        found = re.search(r'data-csrf="([^"]+)"', self.get("/buckets").text)
        assert found is not None
        self.csrf = found[1]
        return self


class Socket:
    """A WebSocket, as far as these tests need one: text messages without fragments."""

    def __init__(self, visitor: Visitor, headers: Mapping[str, str] | None = None) -> None:
        parts = urlsplit(visitor.url)
        self._socket = socket.create_connection(
            visitor.address or (parts.hostname or "", parts.port or 80), timeout=PATIENCE_S
        )
        sent = {
            "Host": parts.netloc,
            "Origin": visitor.origin,
            "Cookie": visitor.cookie,
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
            **(headers or {}),
        }
        lines = [f"GET {visitor.root}/live HTTP/1.1", *(f"{k}: {v}" for k, v in sent.items() if v), "", ""]
        self._socket.sendall("\r\n".join(lines).encode())
        self._stream = self._socket.makefile("rb")
        self.status = int(self._stream.readline().split()[1])
        self.headers: dict[str, str] = {}  # names in small letters
        while line := self._stream.readline().decode().strip():
            name, _, value = line.partition(":")
            self.headers[name.lower()] = value.strip()

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._socket.close()

    def send(self, message: bytes | str, opcode: int = 1) -> None:
        data = message.encode() if isinstance(message, str) else message
        if len(data) < 126:
            length = bytes([0x80 | len(data)])
        elif len(data) < 65536:
            length = struct.pack("!BH", 0x80 | 126, len(data))
        else:
            length = struct.pack("!BQ", 0x80 | 127, len(data))
        self._socket.sendall(bytes([0x80 | opcode]) + length + bytes(4) + data)

    def watch(self, *topics: str) -> None:
        self.send(json.dumps({"watch": topics}))

    def receive(self) -> tuple[int, bytes]:
        """The next frame: (opcode, content); pings are passed over."""
        while True:
            head = self._stream.read(2)
            if len(head) < 2:
                raise ConnectionError("the WebSocket was cut")
            length = head[1] & 127
            if length >= 126:
                size = 2 if length == 126 else 8
                length = int.from_bytes(self._stream.read(size), "big")
            content = self._stream.read(length)
            if head[0] & 15 != 9:
                return head[0] & 15, content

    def messages(self) -> list[dict[str, Any]]:
        opcode, content = self.receive()
        assert opcode == 1, (opcode, content)
        found: list[dict[str, Any]] = json.loads(content)
        return found

    def close_code(self) -> int:
        """Receive until the other end closes; why it does."""
        while True:
            opcode, content = self.receive()
            if opcode == 8:
                return int.from_bytes(content[:2], "big")
