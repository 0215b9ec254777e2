"""Orders to a volume actor that come twice, the second while the first is under way."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
import trio
import trio.testing

from warehouse.actors.data.master_session import DiskAddress, Membership
from warehouse.actors.process import Announcer
from warehouse.actors.volume import VolumeActor
from warehouse.auth.data_tokens import DataClaims, sign_data_token
from warehouse.conf.join import Join
from warehouse.conf.settings import Settings
from warehouse.errors import BadRequest, StaleIncarnation, TokenInvalid, TokenRevoked
from warehouse.storage.disk import OsDisk
from warehouse.storage.format.needle import NeedleMetadata
from warehouse.storage.volume import Volume
from warehouse.transport.messages import CreateVolume, Done, KeysRevoked, ReplaceTokenKeys, VolumeCreated
from warehouse.transport.zeromq.curve import CurveKeys


def make_actor(folder: Path, nursery: trio.Nursery) -> VolumeActor:
    actor = VolumeActor(
        disk=OsDisk(folder),
        address=DiskAddress("d" * 32, "disk-1", "http://127.0.0.1:1", is_read_only=False),
        membership=Membership(
            Join("tcp://127.0.0.1:1", CurveKeys.generate().public.decode()), CurveKeys.generate()
        ),
        settings=Settings(),
        announcer=Announcer(is_json=True),
    )
    actor._volumes._nursery = nursery
    actor._session.master_incarnation = 1
    return actor


async def order_volume(actor: VolumeActor, order: CreateVolume) -> VolumeCreated:
    answer = await actor._commands.answer(order)
    assert isinstance(answer, VolumeCreated)
    return answer


async def test_a_volume_that_is_ordered_again_while_it_is_made_is_made_once(
    tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second order used to make the files of the first anew, under the needles that it had taken."""
    actor = make_actor(tmp_path, nursery)
    order = CreateVolume(incarnation=1, volume_id=7, uuid=str(UUID(int=1)), capacity=2**20)
    create = Volume.create
    made: list[Volume] = []
    may_go_on = threading.Event()

    def slow_create(*args: Any, **fields: Any) -> Volume:
        volume = create(*args, **fields)
        made.append(volume)
        may_go_on.wait(10)
        return volume

    monkeypatch.setattr(Volume, "create", slow_create)
    answers: list[VolumeCreated] = []

    async def carry_out() -> None:
        answers.append(await order_volume(actor, order))

    with trio.fail_after(40):
        async with trio.open_nursery() as orders:
            orders.start_soon(carry_out)
            while not made:
                await trio.sleep(0.001)
            orders.start_soon(carry_out)
            await trio.testing.wait_all_tasks_blocked(0.05)
            may_go_on.set()
    assert len(made) == 1
    assert [answer.report.volume_id for answer in answers] == [7, 7]
    pipeline = actor._volumes.pipelines[7]
    assert pipeline.volume is made[0]
    pipeline.volume.append(1, NeedleMetadata("b", 1, "a", 1), b"kept", stamp=1)
    again = await order_volume(actor, order)
    assert again.report.live_count == 1
    other = CreateVolume(incarnation=1, volume_id=7, uuid=str(UUID(int=2)), capacity=2**20)
    with pytest.raises(BadRequest, match="another uuid"):
        await order_volume(actor, other)
    nursery.cancel_scope.cancel()
    pipeline.volume.close()


async def test_keys_are_revoked_by_their_master_and_nobody_else(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    actor = make_actor(tmp_path, nursery)
    claims = DataClaims(
        operation="get",
        audience="d" * 32,
        volume_id=1,
        expires_at_s=int(time.time()) + 60,
        bucket_id=1,
        bucket="b",
        key_id="WHA",
        epoch=1,
    )
    actor._session._verifier.replace_keys({"key": b"k" * 32})
    token = sign_data_token(claims, key_id="key", key=b"k" * 32).encode()
    authorizer = actor._http.authorizer
    with pytest.raises(StaleIncarnation):
        await actor._commands.answer(KeysRevoked(incarnation=2, epochs={"WHA": 2}))
    assert authorizer.claims_of_token(token) == claims
    assert await actor._commands.answer(KeysRevoked(incarnation=1, epochs={"WHA": 2})) == Done()
    with pytest.raises(TokenRevoked):
        authorizer.claims_of_token(token)


async def test_new_token_keys_count_at_once_and_void_tokens_of_the_others(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    actor = make_actor(tmp_path, nursery)
    claims = DataClaims(
        operation="get",
        audience="d" * 32,
        volume_id=1,
        expires_at_s=int(time.time()) + 60,
        bucket_id=1,
        bucket="b",
        key_id="WHA",
        epoch=1,
    )
    old, new = b"k" * 32, b"n" * 32
    actor._session._verifier.replace_keys({"old": old}, {"WHB": 5})
    earlier, later = (
        sign_data_token(claims, key_id=key_id, key=key).encode()
        for key_id, key in (("old", old), ("new", new))
    )
    authorizer = actor._http.authorizer
    assert authorizer.claims_of_token(earlier) == claims
    with pytest.raises(StaleIncarnation):
        await actor._commands.answer(ReplaceTokenKeys(incarnation=2, token_keys={"new": new}))
    both = ReplaceTokenKeys(incarnation=1, token_keys={"old": old, "new": new})
    assert await actor._commands.answer(both) == Done()
    assert authorizer.claims_of_token(earlier) == authorizer.claims_of_token(later) == claims
    assert await actor._commands.answer(ReplaceTokenKeys(incarnation=1, token_keys={"new": new})) == Done()
    assert authorizer.claims_of_token(later) == claims
    with pytest.raises(TokenInvalid):
        authorizer.claims_of_token(earlier)
    void = sign_data_token(msgspec.structs.replace(claims, key_id="WHB"), key_id="new", key=new).encode()
    with pytest.raises(TokenRevoked):
        authorizer.claims_of_token(void)  # what was revoked stays revoked
