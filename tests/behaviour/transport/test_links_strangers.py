"""A hub whose peers have roles: how much a stranger gets of its time, its memory and its descriptors."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from functools import partial

import pytest
import trio
import zmq

from links_kit import HUB_KEYS, Owner, RawDealer, open_hub, open_link, until
from warehouse.errors import Overloaded
from warehouse.transport.messages import (
    Attach,
    Attached,
    Buckets,
    CreateBucket,
    Done,
    Envelope,
    ListBuckets,
    LocateObjects,
    Refused,
    encode_envelope,
)
from warehouse.transport.zeromq.curve import CurveKeys
from warehouse.transport.zeromq.limits import HubLimits
from warehouse.transport.zeromq.link import Link
from warehouse.transport.zeromq.peers import Peer
from warehouse.transport.zeromq.roles import CLIENT, Role, nobody
from warehouse.transport.zeromq.tcp import connection_name

NOBODY = nobody(lambda frame: False)
LIST_BUCKETS = encode_envelope(Envelope(7, 1, 5000, ListBuckets()))


def role_of(peer: Peer) -> Role:
    return NOBODY if peer.session is None else CLIENT


async def greet(link: Link) -> None:
    await link.ask_now(Attach(token="good"), timeout_s=10)


def address_of(endpoint: str) -> tuple[str, int]:
    host, port = endpoint.removeprefix("tcp://").split(":")
    return host, int(port)


async def test_a_stranger_says_who_it_is_before_anything_else():
    owner = Owner()
    async with open_hub(owner, role_of=role_of) as (_, endpoint), open_link(endpoint, greet=greet) as link:
        with RawDealer(endpoint, keys=CurveKeys.generate()) as dealer:
            answer = await dealer.ask(ListBuckets(), request_id=1)
            assert isinstance(answer.body, Refused)
            assert answer.body.code == "not_authenticated"
            assert isinstance((await dealer.ask(Attach(token="good"), request_id=2)).body, Attached)
            assert isinstance((await dealer.ask(ListBuckets(), request_id=3)).body, Buckets)
        assert await link.request(ListBuckets(), timeout_s=30) == Buckets(buckets=[])


async def test_who_does_not_say_who_it_is_is_shut_and_the_known_stay():
    """Half open, open and mute, and with much to say that is not it: all of them go."""
    owner, limits = Owner(), HubLimits(nobody_s=1.0)
    async with (
        open_hub(owner, role_of=role_of, limits=limits) as (hub, endpoint),
        open_link(endpoint, greet=greet) as link,
    ):
        await link.wait_up()
        with (
            RawDealer(endpoint, keys=CurveKeys.generate()) as mute,
            RawDealer(endpoint, keys=CurveKeys.generate()) as chatty,
            socket.create_connection(address_of(endpoint)) as half_open,
        ):
            monitor = mute.socket.get_monitor_socket(zmq.Event.DISCONNECTED)
            half_open.settimeout(10)
            await chatty.ask(ListBuckets(), request_id=1)
            assert len(hub.peers) == 2
            (stranger,) = [peer for peer in hub.peers.values() if peer.session is None]
            with trio.fail_after(30):
                while not stranger.is_gone or not monitor.poll(0):
                    await trio.sleep(0.05)
                    chatty.socket.send(b"\xc1", zmq.NOBLOCK)
            mute.socket.disable_monitor()
            monitor.close()
            await trio.to_thread.run_sync(lambda: [*iter(lambda: half_open.recv(4096), b"")])
        assert hub.counters.turned_away >= 3
        await trio.sleep(1.2)
        assert await link.request(ListBuckets(), timeout_s=30) == Buckets(buckets=[])
        assert link.connect_count == 1


async def test_who_has_the_descriptor_of_a_connection_that_was_shut_is_heard_from_its_first_word():
    """It may speak before the hub is told that there is another connection."""
    async with open_hub(Owner(), role_of=role_of) as (hub, endpoint):
        with RawDealer(endpoint, keys=CurveKeys.generate()) as dealer:
            await until(lambda: len(hub._descriptors.generations) == 1)
            [(descriptor, generation)] = hub._descriptors.generations.items()
            hub._descriptors.shut[descriptor] = generation, "('127.0.0.1', 1)-('127.0.0.1', 2)"
            assert isinstance((await dealer.ask(Attach(token="good"), request_id=1)).body, Attached)
        with RawDealer(endpoint, keys=CurveKeys.generate()) as shut:
            await until(
                lambda: (
                    len(hub._descriptors.generations) == 2
                    or hub._descriptors.generations[descriptor] > generation
                )
            )
            descriptor = max(hub._descriptors.generations, key=lambda one: (connection_name(one) != "", one))
            hub._descriptors.shut[descriptor] = (
                hub._descriptors.generations[descriptor],
                connection_name(descriptor),
            )
            shut.socket.send(LIST_BUCKETS)
            assert await shut.receive(0.5) is None


@pytest.mark.usefixtures("no_filter")  # this thread connects: it must not wait for the hub
async def test_thousands_of_half_open_connections_leave_room_for_those_who_come_honestly():
    limits = HubLimits(connections=60, newcomers=40)
    async with (
        open_hub(Owner(), role_of=role_of, limits=limits) as (hub, endpoint),
        open_link(endpoint, greet=greet) as early,
    ):
        await early.wait_up()
        before = len(os.listdir("/proc/self/fd"))
        sockets: list[socket.socket] = []
        try:
            for number in range(600):
                sockets.append(socket.create_connection(address_of(endpoint)))
                if number % 20 == 0:
                    await trio.sleep(0.002)
            # Ours and the hub's are in one process here: it holds no more than its budget of them.
            await until(lambda: len(os.listdir("/proc/self/fd")) - before - len(sockets) <= 45)
            async with open_link(endpoint, keys=CurveKeys.generate(), greet=greet) as late:
                started = time.monotonic()
                assert await late.request(ListBuckets(), timeout_s=30) == Buckets(buckets=[])
                assert time.monotonic() - started < 8, "who says nothing is shut after ten"
            assert await early.request(ListBuckets(), timeout_s=30) == Buckets(buckets=[])
            assert early.connect_count == 1
        finally:
            for connection in sockets:
                connection.close()
        assert hub.counters.turned_away >= 500


async def test_a_stranger_beyond_its_budget_of_bytes_is_shut():
    async with open_hub(Owner(), role_of=role_of) as (hub, endpoint):
        with RawDealer(endpoint, keys=CurveKeys.generate()) as dealer:
            for number in range(400):  # 24 MiB of messages that are small enough, one after the other
                frame = encode_envelope(Envelope(7, number + 1, 5000, Attach(token="x" * 30_000)))
                dealer.socket.send(frame + bytes(30_000))
            await until(lambda: hub.counters.over_budget > 0, timeout_s=10)
            await until(lambda: not hub.peers, timeout_s=10)


async def test_a_stranger_beyond_its_budget_of_frames_is_shut_however_short_they_are():
    async with open_hub(Owner(), role_of=role_of) as (hub, endpoint):
        with RawDealer(endpoint, keys=CurveKeys.generate()) as dealer:
            for _ in range(40):
                dealer.socket.send(LIST_BUCKETS)
            await until(lambda: hub.counters.over_budget > 0, timeout_s=10)
            await until(lambda: not hub.peers, timeout_s=10)
        assert hub.counters.requests <= 32
        with RawDealer(endpoint, keys=CurveKeys.generate()) as dealer:
            for _ in range(40):
                dealer.socket.send_multipart([b"two", b"frames"])
            await until(lambda: hub.counters.over_budget > 1, timeout_s=10)
            await until(lambda: not hub.peers, timeout_s=10)


async def test_an_address_without_credit_is_held_off_and_gets_it_back_by_logging_in():
    """All come from one address here; what this shows of an honest client holds for one at that address."""
    limits = HubLimits(connections_burst=4, connections_per_s=5)
    async with (
        open_hub(Owner(), role_of=role_of, limits=limits) as (hub, endpoint),
        open_link(endpoint, greet=greet) as early,
    ):
        await early.wait_up()
        for _ in range(20):  # each logs in, so it costs nothing
            async with open_link(endpoint, keys=CurveKeys.generate(), greet=greet) as link:
                await link.wait_up()
        assert hub.counters.held_off == 0
        sockets = [socket.create_connection(address_of(endpoint)) for _ in range(50)]
        try:
            await until(lambda: hub.counters.held_off >= 30)
            assert await early.request(ListBuckets(), timeout_s=30) == Buckets(buckets=[])
            async with open_link(endpoint, keys=CurveKeys.generate(), greet=greet) as late:
                with trio.fail_after(30):
                    await late.wait_up()
            await until(lambda: not hub._gate._held_off)  # the others said nothing for a second
            assert hub.counters.turned_away >= 30
        finally:
            for connection in sockets:
                connection.close()
        assert early.connect_count == 1


async def test_a_connection_that_is_shut_for_what_it_did_costs_its_address_more():
    limits = HubLimits(connections_burst=12, connections_per_s=0.1)
    async with open_hub(Owner(), role_of=role_of, limits=limits) as (hub, endpoint):
        with RawDealer(endpoint, keys=CurveKeys.generate()) as dealer:
            for _ in range(40):
                dealer.socket.send(LIST_BUCKETS)
            await until(lambda: hub.counters.over_budget > 0, timeout_s=10)
            assert hub.counters.held_off == 0
            sockets = [socket.create_connection(address_of(endpoint)) for _ in range(3)]
            await until(lambda: hub.counters.held_off > 0, timeout_s=10)
            for connection in sockets:
                connection.close()


async def test_a_client_beyond_its_budget_is_told_so_and_not_cut_off():
    small = Role("client", CLIENT.decode, bytes_per_s=20_000, in_work_max=1 << 30)
    async with (
        open_hub(Owner(), role_of=lambda peer: NOBODY if peer.session is None else small) as (hub, endpoint),
        open_link(endpoint, greet=greet) as link,
    ):
        await link.wait_up()
        refused = 0
        for _ in range(200):
            try:
                await link.request(Attach(token="good"), timeout_s=30)
                await link.request(Attach(token="bad" * 1000), timeout_s=30)
            except Overloaded:
                refused += 1
            except Exception:
                continue
        assert refused > 0
        assert hub.counters.over_budget >= refused  # an answer to a probe counts, too
        await until(lambda: all(peer.budget.credit > 0 for peer in hub.peers.values()), timeout_s=10)
        assert await link.request(ListBuckets(), timeout_s=30) == Buckets(buckets=[])
        assert link.connect_count == 1


async def test_requests_in_work_have_a_budget_of_bytes_that_all_peers_of_a_role_share():
    owner = Owner()
    small = Role("client", CLIENT.decode, bytes_per_s=1 << 30, in_work_max=5000)
    async with (
        open_hub(owner, role_of=lambda peer: NOBODY if peer.session is None else small) as (hub, endpoint),
        open_link(endpoint, greet=greet) as first,
        open_link(endpoint, keys=CurveKeys.generate(), greet=greet) as second,
        trio.open_nursery() as nursery,
    ):
        await first.wait_up()
        await second.wait_up()
        for number in range(4):  # none of them is answered yet
            nursery.start_soon(partial(first.request, CreateBucket(bucket=f"{number}" * 1000), timeout_s=10))
        await until(lambda: len(owner.answered) == 4)
        with pytest.raises(Overloaded, match="5000 bytes of requests"):
            await second.request(CreateBucket(bucket="5" * 1000), timeout_s=10)
        assert await second.request(ListBuckets(), timeout_s=10) == Buckets(buckets=[]), "not put off"
        owner.release.set()
        await until(lambda: hub.in_flight == 0)
        assert await second.request(CreateBucket(bucket="6" * 1000), timeout_s=10) == Done()


async def test_what_cannot_be_read_uses_up_a_budget_sooner():
    role = Role("client", CLIENT.decode, bytes_per_s=100_000, in_work_max=1 << 30)
    junk = b"\x94\x01\x02\xcd\x13\x88\xc0" + bytes(20_000)
    async with (
        open_hub(Owner(), role_of=lambda peer: role) as (hub, endpoint),
        open_link(endpoint, greet=greet) as link,
    ):
        await link.wait_up()
        with RawDealer(endpoint, keys=CurveKeys.generate()) as dealer:
            for _ in range(10):  # 200,000 of the 400,000 bytes that it may send at once
                dealer.socket.send(junk)
            await until(lambda: hub.counters.over_budget >= 7)
            assert hub.counters.malformed <= 3
        assert await link.request(ListBuckets(), timeout_s=30) == Buckets(buckets=[])


async def test_who_does_not_take_its_answers_has_us_hold_no_more_than_a_bound():
    owner = Owner()  # its ObjectsLocated has half a megabyte
    ask = [
        encode_envelope(Envelope(7, number, 5000, LocateObjects(bucket="b", keys=[])))
        for number in range(1, 400)
    ]
    async with (
        open_hub(owner, limits=HubLimits(untaken=20_000_000)) as (hub, endpoint),
        open_link(endpoint, greet=greet) as link,
    ):
        await link.wait_up()
        with RawDealer(endpoint, keys=CurveKeys.generate(), queue=1) as deaf:
            with trio.fail_after(20):
                for frame in ask:
                    while hub.counters.departures == 0:
                        with suppress(zmq.Again):
                            deaf.socket.send(frame, zmq.NOBLOCK)
                            break
                        await trio.sleep(0.001)
            assert hub.counters.departures == 1
            assert hub.counters.requests < 200, "the others were never answered"
        for _ in range(100):  # 50 MB for one who takes them
            await link.request(LocateObjects(bucket="b", keys=[]), timeout_s=10)
        assert link.connect_count == 1


async def test_while_much_is_left_of_ended_connections_nobody_new_comes_in_and_the_known_stay():
    limits = HubLimits(sweep_s=1.0)
    async with open_hub(Owner(), limits=limits) as (hub, endpoint), open_link(endpoint, greet=greet) as link:
        await link.wait_up()
        hub._gate.guard.left_behind = 1.0
        await until(lambda: hub._gate.guard.left_behind == 0.0)  # a sweep saw that nothing is left to be read
        hub._gate.guard.left_behind = float("inf")
        async with open_link(endpoint, keys=CurveKeys.generate(), greet=greet) as late:
            await until(lambda: hub.counters.turned_away > 0)
            assert await link.request(ListBuckets(), timeout_s=30) == Buckets(buckets=[])
            with trio.fail_after(30):
                await late.wait_up()  # from the next sweep on
        assert hub._gate.guard.left_behind == 0.0
        assert link.connect_count == 1


async def test_the_hub_tells_where_a_peer_comes_from():
    async with open_hub(Owner()) as (hub, endpoint), open_link(endpoint, greet=greet) as link:
        await link.request(ListBuckets(), timeout_s=30)
        assert [peer.address for peer in hub.peers.values()] == ["127.0.0.1"]
    assert HUB_KEYS.public
