"""Concurrent clients on a few keys while actors are killed and frozen: all of it fits into one order of versions.

The checker (`linearizable.py`) is tested first: it must see what it is for.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio

import warehouse
from harness import RunningStore
from linearizable import LATE_S, Kind, Operation, Outcome, judge

CLIENTS, TASKS = 3, 4
SETTINGS = {
    "WAREHOUSE_STORE_DISK_RESERVE": "0",
    "WAREHOUSE_STORE_VOLUME_SIZE": "64MiB",
    "WAREHOUSE_STORE_CHUNK_SIZE": "64KiB",
    "WAREHOUSE_COMPACTION_WASTED_MIN": "0",
    "WAREHOUSE_COMPACTION_WASTED_PERCENT": "10",
}


# --- the checker --------------------------------------------------------------------------------------


def put(value: str, called_s: float, returned_s: float, **fields: Any) -> Operation:
    return Operation("k", fields.pop("kind", Kind.PUT), called_s, returned_s, value=value, **fields)


def get(value: str | None, called_s: float, returned_s: float) -> Operation:
    return Operation("k", Kind.READ, called_s, returned_s, value=value)


def delete(existed: bool, called_s: float, returned_s: float, **fields: Any) -> Operation:
    return Operation("k", fields.pop("kind", Kind.DELETE), called_s, returned_s, existed=existed, **fields)


UNKNOWN = {"outcome": Outcome.UNKNOWN}
UNMET = {"outcome": Outcome.UNMET}
IF_ABSENT = {"kind": Kind.PUT_IF_ABSENT}


def if_match(value: str) -> dict[str, Any]:
    return {"kind": Kind.PUT_IF_MATCH, "expected": value}


@pytest.mark.parametrize(
    "history",
    [
        [put("1", 0, 1), put("2", 2, 9), get("1", 3, 4), get("2", 5, 6)],
        [put("1", 0, 3, **IF_ABSENT), put("2", 1, 2, **IF_ABSENT, **UNMET)],
        [put("1", 0, 9), get("1", 1, 2), delete(True, 3, 4), get(None, 5, 6)],
        [put("1", 0, 9), put("2", 0, 9), get("2", 1, 2), get("1", 3, 4)],
        [put("1", 0, 1, **UNKNOWN), get(None, 2, 3), get("1", 4, 5)],
        [put("1", 0, 1, **UNKNOWN), get(None, 2, 3), get(None, LATE_S + 2, LATE_S + 3)],
        [put("1", 0, 1), put("2", 2, 3, **if_match("1")), put("3", 4, 5, **if_match("1"), **UNMET)],
        [put("1", 0, 1), delete(True, 2, 3, kind=Kind.DELETE_IF_MATCH, expected="1"), get(None, 4, 5)],
        [delete(False, 0, 1), delete(False, 2, 3, kind=Kind.DELETE_IF_MATCH, expected="9")],
    ],
)
def test_a_history_that_fits_into_one_order_passes(history: list[Operation]) -> None:
    verdict = judge(history)
    assert (verdict.violations, verdict.undecided) == ([], [])


@pytest.mark.parametrize(
    ("history", "culprit"),
    [
        pytest.param([put("1", 0, 1), put("2", 2, 3), get("1", 4, 5)], 2, id="a stale read"),
        pytest.param([put("1", 0, 1), get(None, 2, 3)], 1, id="a lost put"),
        pytest.param([put("1", 0, 1), delete(True, 2, 3), get("1", 4, 5)], 2, id="a delete undone"),
        pytest.param([put("1", 0, 3, **IF_ABSENT), put("2", 1, 2, **IF_ABSENT)], 0, id="two that were first"),
        pytest.param(
            [put("0", 0, 1), put("1", 2, 5, **if_match("0")), put("2", 3, 6, **if_match("0"))],
            2,
            id="a lost update",
        ),
        pytest.param([put("1", 0, 1), delete(False, 2, 3)], 1, id="a delete of what was there"),
        pytest.param(
            [put("1", 0, 9), get("1", 1, 2), delete(True, 3, 4), get(None, 5, 6), get("1", 7, 8)],
            4,
            id="a put applied twice",
        ),
        pytest.param(
            [put("1", 0, 1), put("2", 2, 9), get("2", 3, 4), get("1", 5, 6)],
            3,
            id="the new one, then the old",
        ),
        pytest.param(
            [put("1", 0, 1, **UNKNOWN), get(None, LATE_S + 2, LATE_S + 3), get("1", LATE_S + 4, LATE_S + 5)],
            2,
            id="a put that takes effect too late",
        ),
        pytest.param([put("1", 0, 1, **if_match("9"))], 0, id="a condition that did not hold"),
        pytest.param([put("1", 0, 1, **IF_ABSENT, **UNMET)], 0, id="a refusal without a reason"),
        pytest.param([get("1", 0, 1)], 0, id="a value of nobody"),
    ],
)
def test_a_history_that_fits_into_no_order_is_found(history: list[Operation], culprit: int) -> None:
    (violation,) = judge(history).violations
    assert violation.operation is history[culprit]
    assert ">>" in str(violation)


def test_keys_are_judged_one_by_one() -> None:
    def at(key: str, operation: Operation) -> Operation:
        fields = {name: getattr(operation, name) for name in Operation.__dataclass_fields__}
        return Operation(**{**fields, "key": key})

    history = [at("a", put("1", 0, 1)), at("b", get(None, 2, 3)), at("a", get("1", 2, 3))]
    assert judge(history).violations == []


# --- a real store -------------------------------------------------------------------------------------


@dataclass
class Chaos:
    """Kills and freezes actors."""

    store: RunningStore
    random: random.Random
    done: Counter[str] = field(default_factory=Counter)

    def strike(self) -> None:
        pids = self.store.pids()
        # A compactor matters less than who holds the data.
        names = [name for name in sorted(pids) for _ in range(1 if name.startswith("compactor") else 3)]
        if not names:
            return
        name = self.random.choice(names)
        dice = self.random.random()
        try:
            if dice < 0.7:
                os.kill(pids[name], signal.SIGKILL)
                self.done[f"kill {name}"] += 1
                if dice < 0.2:
                    self._strike_again(name, pids[name])
            else:
                os.kill(pids[name], signal.SIGSTOP)
                time.sleep(self.random.uniform(0.1, 5.0) if dice < 0.9 else 0.1)
                os.kill(pids[name], signal.SIGCONT)
                self.done[f"freeze {name}"] += 1
        except ProcessLookupError:
            pass  # it was about to be started again

    def _strike_again(self, name: str, pid: int) -> None:
        """As soon as it is back."""
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            again = self.store.pids().get(name, pid)
            if again != pid:
                time.sleep(self.random.uniform(0.0, 1.5))
                os.kill(again, signal.SIGKILL)
                self.done[f"kill {name}"] += 1
                return
            time.sleep(0.02)


class Clients:
    """The processes that make the history."""

    def __init__(self, store: RunningStore, folder: Path, seed: int) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        self._folder = folder
        script = Path(__file__).parents[1] / "kits" / "linearizable_client.py"
        epoch_start_s = time.monotonic()
        for number in range(CLIENTS):
            arguments = [str(store.profile), f"client-{number}", str(seed), str(TASKS), str(epoch_start_s)]
            with (
                (folder / f"{number}.jsonl").open("wb") as history,
                (folder / f"{number}.log").open("wb") as log,
            ):
                self._processes.append(
                    subprocess.Popen(
                        [sys.executable, str(script), *arguments],
                        stdin=subprocess.PIPE,
                        stdout=history,
                        stderr=log,
                        env=store.env,
                    )
                )

    def count(self) -> int:
        """Operations so far, as far as they have been written down."""
        return sum(path.read_bytes().count(b"\n") for path in self._folder.glob("*.jsonl"))

    def end(self, within_s: float) -> list[dict[str, Any]]:
        """Let them finish what is under way; the history."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        deadline = time.monotonic() + within_s
        stuck = []
        for number, process in enumerate(self._processes):
            try:
                process.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGUSR1)
                time.sleep(1)
                process.kill()
                process.wait()
                stuck.append(number)
        logs = "\n".join(path.read_text()[-6000:] for path in sorted(self._folder.glob("*.log")))
        assert not stuck, f"clients {stuck} did not end; where they wait:\n{logs}"
        assert [process.returncode for process in self._processes] == [0] * CLIENTS, logs
        return [
            json.loads(line)
            for path in sorted(self._folder.glob("*.jsonl"))
            for line in path.read_text().splitlines()
        ]

    def kill(self) -> None:
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
            if process.poll() is None:
                process.kill()
                process.wait()


def operations_of(history: list[dict[str, Any]]) -> list[Operation]:
    """What of a history has to fit into one order: reads that failed and refused writes did nothing."""
    value_of = {
        entry["etag"]: entry["value"] for entry in history if entry.get("etag") and entry.get("value")
    }
    operations = []
    for entry in history:
        kind = Kind(entry["kind"])
        outcome = entry.get("outcome")
        if outcome is None:
            # Cancelled, or stuck: the library promises that it is done or not done, not which.
            if kind is Kind.READ or entry["error"] not in ("cancelled", "stuck"):
                continue
            outcome = "unknown"
        if kind is Kind.READ:
            if "value" not in entry and entry["etag"] not in value_of:
                continue  # listed, and put by somebody who never learned its ETag
            value = entry["value"] if "value" in entry else value_of[entry["etag"]]
        else:
            value = entry.get("value")
        expected = entry.get("expected")
        operations.append(
            Operation(
                key=entry["key"],
                kind=kind,
                called_s=entry["called_s"],
                returned_s=entry["returned_s"],
                outcome=Outcome(outcome),
                value=value,
                expected=None if expected is None else value_of.get(expected, expected),
                existed=entry.get("existed"),
                who=entry["who"],
            )
        )
    return operations


def run(
    folder: Path, *, seed: int, operations_min: int, strikes_min: int, pause_s: tuple[float, float]
) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    with RunningStore(folder / "store", volumes=2, env=SETTINGS) as store:

        async def make_bucket() -> None:
            async with warehouse.connect(store.profile) as client:
                await client.create_bucket("shared")

        trio.run(make_bucket)
        chaos = Chaos(store, rng)
        (folder / "history").mkdir()
        clients = Clients(store, folder / "history", seed)
        try:
            while chaos.done.total() < strikes_min or clients.count() < operations_min:
                time.sleep(rng.uniform(*pause_s))
                chaos.strike()
                if chaos.done.total() % 50 == 0:
                    print(clients.count(), "operations,", chaos.done.total(), "strikes", flush=True)
            history = clients.end(within_s=180)
        finally:
            clients.kill()
    kinds = Counter(f"{entry['kind']} {entry.get('outcome', entry.get('error'))}" for entry in history)
    print(len(history), "operations", dict(sorted(kinds.items())), dict(sorted(chaos.done.items())))
    assert [entry for entry in history if "wrong" in entry] == []
    assert [entry for entry in history if entry.get("error") == "stuck"] == []
    verdict = judge(operations_of(history))
    assert not verdict.violations, "\n\n".join(str(violation) for violation in verdict.violations[:5])
    print(verdict.operation_count, "in order, keys:", verdict.key_count, "undecided:", verdict.undecided)
    assert len(verdict.undecided) * 20 <= verdict.key_count
    assert verdict.operation_count >= 0.5 * len(history), "hardly anything succeeded"


@pytest.mark.timeout(600)
def test_clients_see_one_order_of_versions_while_actors_are_killed_and_frozen(tmp_path: Path) -> None:
    run(tmp_path, seed=random.randrange(2**31), operations_min=500, strikes_min=5, pause_s=(0.3, 1.5))


@pytest.mark.long
@pytest.mark.timeout(6 * 3600)
def test_a_hundred_thousand_operations_and_two_hundred_strikes_fit_into_one_order(tmp_path: Path) -> None:
    seed = int(os.environ.get("WAREHOUSE_TEST_SEED", "0")) or random.randrange(2**31)
    run(tmp_path, seed=seed, operations_min=100_000, strikes_min=200, pause_s=(0.3, 4.0))
