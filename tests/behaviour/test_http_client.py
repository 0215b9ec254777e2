"""The HTTP client against the real server, and against servers that misbehave."""

from __future__ import annotations

import trio
from http_harness import echo, serving

from transport.http_client import HttpPool

MEBIBYTE = 1024 * 1024


async def test_a_round_trip_carries_method_target_headers_and_body():
    async with serving(echo) as served:
        pool = HttpPool()
        status, headers, body = await pool.request("PUT", served.url, "/a/b?c=d", body=b"hello")
        assert (status, body) == (200, b"PUT|/a/b|c=d|5|hello")
        assert headers["content-type"] == "text/plain"
        await pool.aclose()


async def test_connections_are_used_again():
    async with serving(echo) as served:
        pool = HttpPool()
        for number in range(5):
            assert (await pool.request("GET", served.url, f"/{number}"))[0] == 200
        assert served.server.connection_count == 1
        await pool.aclose()


async def test_a_large_body_flows_both_ways_in_pieces():
    async def handler(exchange):
        piece = memoryview(bytearray(MEBIBYTE))
        await exchange.start(200, [], exchange.content_length)
        while count := await exchange.read_into(piece):
            await exchange.write(piece[:count])

    async with serving(handler) as served:
        pool = HttpPool()
        async with pool.stream(
            "PUT", served.url, "/", body_length=MEBIBYTE, body_pieces=one(bytes(MEBIBYTE))
        ) as response:
            assert await response.read() == bytes(MEBIBYTE)
        await pool.aclose()


async def one(piece):
    yield piece
    await trio.lowlevel.checkpoint()
