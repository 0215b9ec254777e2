"""Promises: a needle that nobody was promised never becomes visible, whatever its disk says."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from master_kit import DISK_ID, RunningMaster, open_master
from warehouse.auth.data_tokens import DataClaims, sign_data_token
from warehouse.transport.messages import NeedlesCommitted, NeedlesStored, StoredNeedle
from warehouse.transport.zeromq.curve import CurveKeys


def needle(needle_id: int, bucket_id: int, key: str = "a", **changes: Any) -> StoredNeedle:
    made = StoredNeedle(
        volume_id=1,
        needle_id=needle_id,
        stamp=needle_id << 16,
        size=3,
        crc=1,
        stored_size=64,
        bucket_id=bucket_id,
        key=key,
        created_ms=1,
    )
    return msgspec.structs.replace(made, **changes)


async def told(master: RunningMaster, *needles: StoredNeedle) -> list[str | None]:
    """The code of each; None: it is visible."""
    assert master.disk.link is not None
    answer = await master.disk.link.request(NeedlesStored(needles=[*needles]), timeout_s=30)
    assert isinstance(answer, NeedlesCommitted)
    return [one.code for one in answer.commits]


LEASE: dict[str, Any] = {
    "first_needle_id": 1000,
    "last_needle_id": 1009,
    "lease_id": 5,
    "room": 10,
    "body_size_max": 8,
}

# What the needle says otherwise than it was promised, and what the promise says.
LIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "another needle": ({"needle_id": 1010}, LEASE),
    "a needle before": ({"needle_id": 999}, LEASE),
    "another bucket": ({"bucket_id": 2}, LEASE),
    "another key": ({"key": "b"}, {"key": "a"}),
    "a key outside": ({"key": "2025/a"}, {"prefixes": ("2026/",)}),
    "a larger one": ({"size": 9}, LEASE),
    "another size": ({"size": 4}, {"body_size": 3}),
    "another lease": ({"lease_id": 6}, LEASE),
    "no lease": ({"lease_id": None}, LEASE),
    "an upload": ({"upload_id": 9}, LEASE),
    "another upload": ({"upload_id": 9, "lease_id": None}, {"upload_id": 8}),
    "another chunk": ({"upload_id": 8, "chunk_index": 1, "lease_id": None}, {"upload_id": 8}),
    "another API key": ({"key_id": "WH2"}, {**LEASE, "key_id": "WH1"}),
    "another epoch": ({"key_id": "WH1", "epoch": 2}, {**LEASE, "key_id": "WH1", "epoch": 1}),
    "no API key": ({"key_id": ""}, {**LEASE, "key_id": "WH1"}),
    "without its condition": ({"if_none_match": None}, {**LEASE, "if_none_match": "*"}),
    "too late": ({}, {**LEASE, "expires_at_s": 1}),
    "another disk's": ({}, {**LEASE, "audience": "e" * 32}),
    "a right to read": ({}, {**LEASE, "operation": "get"}),
    "another volume's": ({}, {**LEASE, "volume_id": 2}),
}


@pytest.mark.parametrize("name", LIES)
async def test_a_needle_is_believed_only_as_it_was_promised(tmp_path: Path, name: str) -> None:
    lie, promise = LIES[name]
    async with open_master(tmp_path, has_compactor=False) as master:
        bucket_id, _ = await master.create_bucket("photos"), await master.create_bucket("films")
        honest = needle(1000, bucket_id, lease_id=promise.get("lease_id"))
        text = master.promise_of(honest, **promise)
        false = msgspec.structs.replace(honest, **lie, promise=text)
        assert await told(master, false) == ["not_promised"]
        assert master.read("SELECT count(*) FROM objects") == [(0,)]
        assert master.read("SELECT count(*) FROM outbox") == [(0,)], "nobody's needle is voided for it"
        [trouble] = (await master.status()).troubles
        assert (trouble.name, trouble.subject) == ("not_promised", DISK_ID)


async def test_a_disk_makes_no_promises_itself(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        bucket_id = await master.create_bucket("photos")
        wanted = needle(1000, bucket_id)
        claims = DataClaims(
            operation="put", audience=DISK_ID, volume_id=1, expires_at_s=int(time.time()) + 60,
            bucket_id=bucket_id, bucket="photos", first_needle_id=1, last_needle_id=9999,
        )  # fmt: skip
        own = [*master.disk.token_keys.values()]
        texts = [sign_data_token(claims, key_id="k", key=key, proof_key=key).split(".")[1] for key in own]
        texts += [sign_data_token(claims, key_id="k", key=own[0]).split(".")[1], "", "-", "x" * 30_000]
        for text in texts:
            assert await told(master, msgspec.structs.replace(wanted, promise=text)) == ["not_promised"]


async def test_a_lease_is_believed_up_to_its_room_and_a_needle_counts_once(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        bucket_id = await master.create_bucket("photos")
        text = master.promise_of(needle(1000, bucket_id, lease_id=5), **LEASE)
        puts = [needle(1000 + n, bucket_id, f"k{n}", lease_id=5) for n in range(4)]
        first = msgspec.structs.replace(puts[0], promise=text)
        assert await told(master, first, *puts[1:3]) == [None] * 3
        assert await told(master, first, *puts[1:3]) == [None] * 3, "the answer was lost"
        assert await told(master, msgspec.structs.replace(puts[3], promise=text)) == ["not_promised"]
        # Not the needles beside it: each is judged by itself.
        other = needle(2000, bucket_id, "other")
        shown = msgspec.structs.replace(other, promise=master.promise_of(other))
        assert await told(master, msgspec.structs.replace(puts[3], promise=text), shown) == [
            "not_promised",
            None,
        ]


async def test_puts_on_their_way_are_believed_by_the_next_start_of_the_master(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        bucket_id = await master.create_bucket("photos")
        [put] = master.promised(needle(1000, bucket_id))
        await master.restart()
        assert master.disk.link is not None
        await master.disk.link.wait_up()
        assert await told(master, put) == [None]


async def test_after_an_upgrade_ids_that_were_handed_out_before_need_no_proof_for_a_week(
    tmp_path: Path,
) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        bucket_id = await master.create_bucket("photos")
        promises = master.running._promises
        promises._unproven, promises._unproven_until_ms = {1: 1000}, int(time.time() * 1000) + 60_000
        assert await told(master, needle(1000, bucket_id), needle(1001, bucket_id, "b")) == [
            None,
            "not_promised",
        ]
        promises._unproven_until_ms = int(time.time() * 1000) - 1
        assert await told(master, needle(999, bucket_id, "c")) == ["not_promised"]


async def test_an_actor_of_0_1_0_whose_disk_has_no_node_needs_none(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        bucket_id = await master.create_bucket("photos")
        disk = master.running.context.fleet.disks[DISK_ID]
        disk.node_key = ""
        assert await told(master, needle(1000, bucket_id)) == [None]
        disk.node_key = CurveKeys.generate().public.decode()
        assert await told(master, needle(1001, bucket_id, "b")) == ["not_promised"]
