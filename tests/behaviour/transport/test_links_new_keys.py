"""A hub gets other keys while it runs; links that were told of them come back on their own."""

from __future__ import annotations

import pytest
import trio

from links_kit import HUB_KEYS, KEYS, Owner, free_endpoint, open_hub, open_link, until
from warehouse.errors import LinkDown
from warehouse.transport.messages import Buckets, ListBuckets
from warehouse.transport.zeromq.curve import CurveKeys
from warehouse.transport.zeromq.link import Link

NEW = CurveKeys.generate()


async def test_a_link_that_was_told_of_the_next_keys_comes_back_with_them() -> None:
    async with open_hub(Owner()) as (hub, endpoint), open_link(endpoint) as link:
        assert await link.request(ListBuckets(), timeout_s=30) == Buckets(buckets=[])
        link.expect_keys(NEW.public)
        hub.listen_with(NEW)
        await until(lambda: link.connect_count == 2, timeout_s=20)
        assert link.server_key == NEW.public
        assert await link.request(ListBuckets(), timeout_s=30) == Buckets(buckets=[])
        link.expect_keys(None)
        hub.listen_with(HUB_KEYS)
        await link.wait_down()
        with trio.move_on_after(1.5) as scope:
            await link.wait_up()
        assert scope.cancelled_caught, "the key before was forgotten"
        assert link.server_key == NEW.public
    assert hub.counters.reopenings == 0


async def test_a_link_that_was_not_told_stays_out() -> None:
    async with open_hub(Owner()) as (hub, endpoint), open_link(endpoint) as link:
        await link.wait_up()
        hub.listen_with(NEW)
        await link.wait_down()
        with pytest.raises(LinkDown):
            await link.request(ListBuckets(), timeout_s=1)
        assert [peer.name for peer in hub.peers.values()] == []


@pytest.mark.parametrize("is_switched", [False, True])
async def test_a_new_link_that_knows_two_keys_finds_the_right_one(is_switched: bool) -> None:
    """The profile was written before the switch, or the switch came before its time."""
    endpoint = free_endpoint()
    link = Link(
        endpoint=endpoint,
        server_key=HUB_KEYS.public + b" " + NEW.public,
        keys=KEYS,
        name="tester",
        incarnation=7,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(link.run)
        await trio.sleep(0.05)  # the hub is not there yet: no reason to change keys for good
        async with open_hub(
            Owner(), endpoint, prepare=lambda hub: hub.listen_with(NEW if is_switched else HUB_KEYS)
        ):
            with trio.fail_after(20):
                await link.wait_up()
            assert link.server_key == (NEW if is_switched else HUB_KEYS).public
            assert await link.request(ListBuckets(), timeout_s=30) == Buckets(buckets=[])
        nursery.cancel_scope.cancel()
