"""The HTTP server over raw sockets: what it answers, and that it lives after whatever it is sent."""

from __future__ import annotations

import pytest
from http_harness import echo, no_descriptor_left, serving

__all__ = ["no_descriptor_left"]

pytestmark = pytest.mark.usefixtures("no_descriptor_left")

GOOD = b"GET /good HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


async def test_a_request_gets_its_answer():
    async with serving(echo) as served:
        answer = await served.talk(GOOD)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\nGET|/good||0|")
