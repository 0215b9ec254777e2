"""Exchange: what is on its way between a caller and the loop is bounded in bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import trio
import trio.testing

from warehouse import GetResult
from warehouse.client.faces.exchange import BLOCK_BYTES, Exchange

MIB = 1024 * 1024


async def test_results_that_nobody_takes_are_bounded() -> None:
    made = 0

    async def results(source: Exchange[str, GetResult]) -> AsyncIterator[GetResult]:
        nonlocal made
        for _ in range(100):
            made += 1
            await trio.lowlevel.checkpoint()
            yield GetResult(key="k", error=None, data=bytes(MIB))

    begin: Any = results
    exchange = Exchange[str, GetResult](begin)
    taken = 0
    while taken < 100:
        found, _ = await exchange.trade([], is_last=True, waits=True)
        taken += len(found)
        await trio.testing.wait_all_tasks_blocked()
        assert made - taken <= BLOCK_BYTES // MIB + 1


async def test_items_that_nobody_takes_hold_up_the_caller() -> None:
    async def results(source: Exchange[tuple[str, bytes], str]) -> AsyncIterator[str]:
        await trio.sleep(1)
        async for key, _ in source:
            yield key

    begin: Any = results
    exchange = Exchange[tuple[str, bytes], str](begin)
    items = [(f"k{number}", bytes(MIB)) for number in range(10)]
    with trio.move_on_after(0.1) as scope:
        await exchange.trade(items, is_last=True, waits=False)
    assert scope.cancelled_caught
    taken: list[str] = []
    while len(taken) < 10:
        taken += (await exchange.trade([], is_last=True, waits=True))[0]
    assert taken == [key for key, _ in items]
