"""Four strangers flood a port, and an honest client goes on; `bench/abuse.py` measures what it feels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import trio

from bench.abuse import OPERATIONS, Client, Flood, Turn, take_turn
from harness import RunningStore

QUIET_S, FLOOD_S = 1.0, 2.0
P99_MS_MAX = 5000.0  # on any machine, whatever else it does

# At the control port, then at the data port.  A kind is worth its time here if it once did harm.
KINDS = ("half-open", "logins", "large", "requests", "bad-tokens", "heads")


async def flood_in_turn(store: RunningStore) -> dict[str, tuple[Turn, Mapping[str, float]]]:
    client = Client(store.profile)
    found: dict[str, tuple[Turn, Mapping[str, float]]] = {}
    async with trio.open_nursery() as nursery:
        await nursery.start(client.run)
        await take_turn(client, store, QUIET_S)
        for kind in KINDS:
            for _ in range(
                5
            ):  # strangers run when nobody else wants the processor: on a busy machine, perhaps not at all
                async with Flood(kind, 4, store) as flood:
                    turn = await take_turn(client, store, FLOOD_S)
                if flood.rates.get("opened"):
                    break
            found[kind] = (turn, flood.rates)
        nursery.cancel_scope.cancel()
    return found


@pytest.mark.timeout(300)
async def test_a_flood_from_four_strangers_fails_no_request_of_another_client(tmp_path: Path) -> None:
    with RunningStore(tmp_path / "store") as store:
        for kind, (turn, rates) in (await flood_in_turn(store)).items():
            assert rates.get("opened", 0) > 0, f"{kind} was no flood: {rates}"
            assert turn.failures == [], kind
            done = {name: len(turn.taken_ms[name]) for name in OPERATIONS}
            assert all(done.values()), f"{kind}: {done}"
            slowest = {name: round(turn.p(name, 0.99)) for name in OPERATIONS}
            assert max(slowest.values()) < P99_MS_MAX, f"{kind}: {slowest}"
        log = store.log.read_text()
        assert "Traceback" not in log
        assert len(log.splitlines()) < 300, "strangers fill no log"
