"""Requests to a gateway byte by byte: signed by botocore, whatever they say, and sent through a socket."""

from __future__ import annotations

import hashlib
import http.client
import socket
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from unittest.mock import patch
from xml.etree import ElementTree

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from s3_kit import REGION, RunningGateway
from warehouse.conf.profile import Profile

TIMEOUT_S = 30.0


class Heard(NamedTuple):
    """One answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """Of an error document; "": it is none."""
        return (ElementTree.fromstring(self.body).findtext("Code") or "") if self.body else ""

    @property
    def closes(self) -> bool:
        return self.headers.get("Connection", "") == "close"


class _Auth(S3SigV4Auth):
    """Signs what a request says about its body, whatever that is."""

    def __init__(self, credentials: Credentials, payload: str) -> None:
        super().__init__(credentials, "s3", REGION)
        self._payload = payload

    def payload(self, request: AWSRequest) -> str:
        return self._payload


class Wire:
    """Sends requests in the name of the root key of a store."""

    def __init__(self, gateway: RunningGateway) -> None:
        profile = Profile.load(gateway.store.profile)
        self._credentials = Credentials(profile.key_id, profile.secret)
        self._gateway = gateway

    def head(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        *,
        payload: str = "UNSIGNED-PAYLOAD",
        late_s: float = 0.0,
        sent_path: str | None = None,
    ) -> bytes:
        """The head of a request.

        Args:
            path: with the query, as it is signed.
            headers: all but those that signing adds; nobody looks whether they fit the body.
            payload: what is signed about the body.
            late_s: how long ago it was signed.
            sent_path: another way to write the same path; None: as it is signed.
        """
        url = f"http://127.0.0.1:{self._gateway.port}{path}"
        request = AWSRequest(method=method, url=url, headers=dict(headers or {}))
        signed_at = datetime.now(UTC) - timedelta(seconds=late_s)
        with patch("botocore.auth.get_current_datetime", lambda *_: signed_at):
            _Auth(self._credentials, payload).add_auth(request)
        lines = [f"{method} {sent_path or path} HTTP/1.1", f"Host: 127.0.0.1:{self._gateway.port}"]
        lines += [f"{name}: {value}" for name, value in request.headers.items()]
        return "\r\n".join([*lines, "", ""]).encode()

    def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        payload: str | None = None,
        late_s: float = 0.0,
        sent_path: str | None = None,
    ) -> Heard:
        """Send a request; its Content-Length is that of the body unless the headers frame it otherwise.

        Args:
            payload: None: the digest of the body.
        """
        framed = {name.lower() for name in headers or {}} & {"content-length", "transfer-encoding"}
        sent = {**(headers or {}), **({} if framed else {"Content-Length": str(len(body))})}
        payload = hashlib.sha256(body).hexdigest() if payload is None else payload
        head = self.head(method, path, sent, payload=payload, late_s=late_s, sent_path=sent_path)
        return self.say(head + body)

    def say(self, sent: bytes) -> Heard:
        return self.talk([sent])[0]

    def talk(self, pieces: Sequence[bytes]) -> list[Heard]:
        """Send each piece and take one answer after it, all on one connection."""
        heard = []
        with socket.create_connection(("127.0.0.1", self._gateway.port), timeout=TIMEOUT_S) as connection:
            for sent in pieces:
                connection.sendall(sent)
                answer = http.client.HTTPResponse(connection, method=sent.partition(b" ")[0].decode())
                answer.begin()
                heard.append(Heard(answer.status, dict(answer.headers), answer.read()))
                answer.close()
        return heard
