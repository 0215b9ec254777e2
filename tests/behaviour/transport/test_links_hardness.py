"""A hub among strangers: wrong keys, wrong frames, floods, borrowed names, peers that do not read."""

from __future__ import annotations

import logging
import os
import random
import socket
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import msgspec
import pytest
import trio
import zmq

from links_kit import KEYS, Owner, RawDealer, free_endpoint, open_hub, open_link, until
from warehouse.errors import BadCredentials, LinkDown, Overloaded
from warehouse.transport.messages import (
    FRAME_SIZE_MAX,
    Attach,
    Attached,
    Buckets,
    CreateBucket,
    Done,
    Envelope,
    ListBuckets,
    LocateObjects,
    Refused,
    StatObject,
    encode_envelope,
)
from warehouse.transport.zeromq.curve import CurveKeys
from warehouse.transport.zeromq.hub import Hub
from warehouse.transport.zeromq.limits import HubLimits
from warehouse.transport.zeromq.peers import Peer
from warehouse.transport.zeromq.tcp import received_bytes

pack = msgspec.msgpack.encode


def code_of(envelope: Envelope) -> str:
    assert isinstance(envelope.body, Refused), envelope
    return envelope.body.code


def let_successors_in(hub: Hub) -> None:
    """Have libzmq hear a connection under a routing id at once, though it has not done with the one before it.

    It does that in its own time, and sets the newcomer aside for good until then.
    """
    hub._router.socket.router_handover = True


def arrived(descriptor: int, size: int) -> None:
    """Wait, without a checkpoint, until a connection has delivered so many bytes."""
    if received_bytes(descriptor) is None:  # this kernel does not tell
        time.sleep(0.3)
        return
    deadline = time.monotonic() + 30
    while (received_bytes(descriptor) or 0) < size:
        assert time.monotonic() < deadline, "they never came"
        time.sleep(0.005)


def without_hints(hub: Hub) -> None:
    """Have the monitor's events come too late, as they sometimes do."""
    hub._liveness.act_on_hints = lambda: None  # type: ignore[method-assign]


# --- who may speak --------------------------------------------------------------------------------


async def test_a_routing_id_of_another_key_is_refused_and_never_carried_out():
    owner, thief = Owner(), CurveKeys.generate()
    async with open_hub(owner) as (hub, endpoint):
        with RawDealer(endpoint, ident=b"volume-1") as victim:
            await victim.ask(Attach(token="good"), request_id=1)
            (peer,) = hub.peers.values()
            with RawDealer(endpoint, ident=b"volume-1", keys=thief) as early:
                early.socket.send(encode_envelope(Envelope(7, 1, 5000, ListBuckets())))
                assert await early.receive(0.2) is None
                assert isinstance((await victim.ask(Attach(token="good"), request_id=2)).body, Attached)
            assert owner.answered == []
            let_successors_in(hub)
        with RawDealer(endpoint, ident=b"volume-1", keys=thief) as late:
            for request_id in (1, 2, 3):
                assert code_of(await late.ask(ListBuckets(), request_id=request_id)) == "permission_denied"
            assert owner.gone == [peer]
            assert not hub.peers
        assert owner.answered == []
        assert hub.counters.spoofed_ids == 3
        # The key it belongs to may come back, as somebody new.
        with RawDealer(endpoint, ident=b"volume-1") as victim:
            assert isinstance((await victim.ask(ListBuckets(), request_id=1)).body, Buckets)
            (returned,) = hub.peers.values()
            assert returned is not peer
            assert returned.session is None


async def test_a_message_through_a_new_connection_ends_the_old_session_before_it_is_heard():
    owner = Owner()
    async with open_hub(owner, prepare=without_hints, limits=HubLimits(sweep_s=60)) as (hub, endpoint):
        with RawDealer(endpoint, ident=b"client-1") as first:
            await first.ask(Attach(token="good"), request_id=5)
            (old,) = hub.peers.values()
            let_successors_in(hub)
        with RawDealer(endpoint, ident=b"client-1") as second:
            # Request ids start again, and nothing of the old session is left.
            assert isinstance((await second.ask(ListBuckets(), request_id=1)).body, Buckets)
            (new,) = hub.peers.values()
            assert old.is_gone
            assert new.session is None
            assert owner.gone == [old]


async def test_without_curve_nobody_is_heard():
    owner = Owner()
    async with open_hub(owner) as (hub, endpoint):
        with RawDealer(endpoint, keys=None) as stranger:
            stranger.socket.send(encode_envelope(Envelope(1, 1, 5000, ListBuckets())))
            assert await stranger.receive(0.3) is None
        assert not hub.peers
        assert not owner.answered
        assert hub.counters.arrivals == 0


async def test_raw_bytes_on_the_port_harm_nobody():
    owner, chance = Owner(), random.Random(5)
    async with (
        open_hub(owner, limits=HubLimits(handshake_ms=300)) as (hub, endpoint),
        open_link(endpoint) as link,
    ):
        host, port = endpoint.removeprefix("tcp://").split(":")
        greeting = bytes.fromhex("ff00000000000000017f0300") + b"CURVE".ljust(20, b"\0") + b"\0" * 32
        huge = b"\x06" + (1 << 62).to_bytes(8, "big")
        openings = [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", greeting, greeting + huge, b"\xff" * 10, b""]
        openings += [chance.randbytes(chance.randint(1, 200)) for _ in range(20)]
        connections = []
        for opening in openings:
            connection = await trio.open_tcp_stream(host, int(port))
            await connection.send_all(opening)
            connections.append(connection)
        assert await link.request(ListBuckets(), timeout_s=30) == Buckets(buckets=[])
        # None of them is kept for longer than a handshake may take.
        for connection in connections:
            with trio.fail_after(20):
                try:
                    while await connection.receive_some(4096):
                        pass
                except trio.BrokenResourceError:
                    pass
            await connection.aclose()
        assert len(hub.peers) == 1


async def test_a_denied_key_loses_its_connections_and_gets_no_new_one():
    owner, other = Owner(), CurveKeys.generate()
    async with (
        open_hub(owner) as (hub, endpoint),
        open_link(endpoint) as revoked,
        open_link(endpoint, keys=other) as bystander,
        trio.open_nursery() as nursery,
    ):
        await revoked.request(ListBuckets(), timeout_s=30)
        await bystander.request(ListBuckets(), timeout_s=30)
        failed = []

        async def ask() -> None:
            with pytest.raises(LinkDown):
                await revoked.request(CreateBucket(bucket="b"), timeout_s=30)
            failed.append(True)

        nursery.start_soon(ask)
        await until(lambda: hub.in_flight == 1)
        assert hub.drop(KEYS.public.decode()) == 1
        assert [peer.user_id for peer in owner.gone] == [KEYS.public.decode()]
        await until(lambda: bool(failed))
        with pytest.raises(BadCredentials):
            await revoked.request(ListBuckets(), timeout_s=30)
        assert [peer.user_id for peer in hub.peers.values()] == [other.public.decode()]
        assert bystander.connect_count == 1
        hub.denied.clear()
        await until(lambda: revoked.is_up)
        owner.release.set()


async def test_messages_of_a_denied_key_that_are_still_under_way_are_refused():
    owner = Owner()
    async with open_hub(owner) as (hub, endpoint):
        with RawDealer(endpoint, ident=b"client-1") as dealer:
            await dealer.ask(ListBuckets(), request_id=1)
            hub.denied.add(KEYS.public.decode())
            (peer,) = hub.peers.values()
            hub._peers.lose(peer, "its key was denied, but its connection could not be shut")
            assert code_of(await dealer.ask(ListBuckets(), request_id=2)) == "permission_denied"
            assert len(owner.answered) == 1


async def test_a_disconnected_peer_comes_back_as_a_new_one():
    owner = Owner()
    async with open_hub(owner) as (hub, endpoint), open_link(endpoint) as link:
        await link.request(ListBuckets(), timeout_s=30)
        (before,) = hub.peers.values()
        hub.disconnect(before)
        hub.disconnect(before)  # once is enough, twice is harmless
        assert before.is_gone
        with trio.fail_after(30):
            await link.wait_down()
        await link.request(ListBuckets(), timeout_s=30)
        (after,) = hub.peers.values()
        assert after.ident != before.ident
        assert owner.gone == [before]


async def test_a_successor_with_the_same_routing_id_ends_the_session_of_the_dead():
    owner = Owner()
    async with open_hub(owner) as (hub, endpoint):
        with RawDealer(endpoint, ident=b"client-1") as first:
            await first.ask(Attach(token="good"), request_id=5)
            (old,) = hub.peers.values()
            with RawDealer(endpoint, ident=b"client-1"):
                await trio.sleep(0.2)  # libzmq lets it in, and will not hear it while the first one lives
                assert not old.is_gone
                first.socket.close(linger=0)
                await until(lambda: owner.gone == [old])
                assert not hub.peers


async def test_the_sweep_finds_whom_the_monitor_did_not_name():
    owner = Owner()
    async with open_hub(owner, prepare=without_hints) as (hub, endpoint):
        with RawDealer(endpoint) as dealer:
            await dealer.ask(ListBuckets(), request_id=1)
            (peer,) = hub.peers.values()
        await until(lambda: owner.gone == [peer])


async def test_the_monitor_alone_names_whoever_leaves_at_once():
    owner = Owner()
    async with open_hub(owner, limits=HubLimits(sweep_s=60)) as (hub, endpoint):
        for _ in range(20):
            with RawDealer(endpoint) as dealer:
                await dealer.ask(ListBuckets(), request_id=1)
                (peer,) = hub.peers.values()
            await until(lambda left=peer: left in owner.gone)  # type: ignore[misc]
        assert not hub._peers.by_descriptor


async def test_the_last_words_of_the_dead_make_no_peer():
    owner, heard = Owner(), []

    def listen(hub: Hub) -> None:
        judge = hub._peers.find

        def note(ident: bytes, user_id: str, descriptor: int) -> Peer | None:
            heard.append(ident)
            return judge(ident, user_id, descriptor)

        hub._peers.find = note  # type: ignore[method-assign]

    async with open_hub(owner, prepare=listen) as (hub, endpoint):
        with RawDealer(endpoint, ident=b"late") as dealer:
            monitor = dealer.socket.get_monitor_socket(zmq.Event.HANDSHAKE_SUCCEEDED)
            await until(lambda: monitor.poll(0))
            dealer.socket.disable_monitor()
            monitor.close()
            await until(lambda: hub._descriptors.generations)
            (descriptor,) = hub._descriptors.generations
            frame = encode_envelope(Envelope(7, 1, 5000, ListBuckets()))
            size = (received_bytes(descriptor) or 0) + len(frame)
            dealer.socket.send(frame)
            arrived(descriptor, size)  # from here to the next checkpoint it comes, and its sender goes
        assert hub._router._monitor.poll(30_000), "the monitor tells of its end"
        time.sleep(0.2)
        await until(lambda: heard == [b"late"])
        assert owner.answered == []
        assert hub.counters.arrivals == 0
        assert not owner.gone


async def test_what_a_disconnected_peer_had_still_said_is_not_heard():
    owner = Owner()
    async with open_hub(owner) as (hub, endpoint):
        with RawDealer(endpoint) as dealer:
            await dealer.ask(ListBuckets(), request_id=1)
            (peer,) = hub.peers.values()
            size = received_bytes(peer.descriptor) or 0
            for request_id in range(2, 50):
                frame = encode_envelope(Envelope(7, request_id, 5000, ListBuckets()))
                dealer.socket.send(frame)
                size += len(frame)
            arrived(peer.descriptor, size)  # all of it is here, and unread
            hub.disconnect(peer)
            await trio.sleep(0.1)
            assert len(owner.answered) == 1
            assert owner.gone == [peer]
            assert hub.counters.arrivals == 1
            dealer.socket.connect(endpoint)
            # The same socket comes back on a connection of its own: somebody new.
            assert isinstance((await dealer.ask(ListBuckets(), request_id=60)).body, Buckets)


# --- what may be said -----------------------------------------------------------------------------

MALFORMED = {
    "an unknown kind": [7, 1, 5000, {"kind": "reformat_all_disks"}],
    "no kind": [7, 1, 5000, {}],
    "a field of the wrong type": [7, 1, 5000, {"kind": "create_bucket", "bucket": 5}],
    "a missing field": [7, 1, 5000, {"kind": "create_bucket"}],
    "a body that is no map": [7, 1, 5000, "create_bucket"],
    "an answer that asks": [7, 1, 5000, {"kind": "done"}],
}
UNREADABLE = {
    "nothing that is msgpack": b"\xc1",
    "too short": pack([7, 1]),
    "a map": pack({"incarnation": 7}),
    "text as request id": pack([7, "1", 5000, {"kind": "list_buckets"}]),
    "trailing bytes": pack([7, 1, 5000, {"kind": "list_buckets"}]) + b"\0",
    "forged length": b"\x94\x07\x01\xcd\x13\x88\xdf\xff\xff\xff\xff",
    "a request without budget": pack([7, 1, None, {"kind": "list_buckets"}]),
}


@pytest.mark.parametrize("frame", MALFORMED.values(), ids=MALFORMED)
async def test_what_cannot_be_understood_is_refused_and_its_sender_lives(frame):
    owner = Owner()
    async with open_hub(owner) as (hub, endpoint):
        with RawDealer(endpoint) as dealer:
            dealer.socket.send(pack(frame))
            answer = await dealer.answer()
            assert (answer.request_id, answer.budget_ms, code_of(answer)) == (1, None, "malformed_message")
            assert isinstance((await dealer.ask(ListBuckets(), request_id=2)).body, Buckets)
            assert hub.counters.malformed == 1
            assert len(owner.answered) == 1
            assert not owner.gone


@pytest.mark.parametrize("frame", UNREADABLE.values(), ids=UNREADABLE)
async def test_what_cannot_be_answered_is_dropped_and_its_sender_lives(frame):
    owner = Owner()
    async with open_hub(owner) as (hub, endpoint):
        with RawDealer(endpoint) as dealer:
            dealer.socket.send(frame)
            answer = await dealer.ask(ListBuckets(), request_id=2)
            if answer.request_id == 1:  # its head could be read after all
                assert code_of(answer) == "malformed_message"
                answer = await dealer.answer()
            assert isinstance(answer.body, Buckets)
            assert hub.counters.malformed == 1
            assert len(owner.answered) == 1


@pytest.mark.parametrize("depth", [2000, 1_000_000])
async def test_deep_nesting_is_malformed(depth):
    owner = Owner()
    async with open_hub(owner) as (hub, endpoint):
        with RawDealer(endpoint) as dealer:
            nested = b"\x91" * depth + b"\x90"
            dealer.socket.send(b"\x94\x07\x01\xcd\x13\x88\x82\xa4kind\xaccreate_extra\xa1x" + nested)
            dealer.socket.send(b"\x94\x07\x01\xcd\x13\x88\x82\xa1x" + nested + b"\xa4kind\xacdelete_extra")
            answer = await dealer.ask(ListBuckets(), request_id=2)
            while isinstance(answer.body, Refused):
                assert code_of(answer) == "malformed_message"
                answer = await dealer.answer()
            assert isinstance(answer.body, Buckets)
            assert hub.counters.malformed == 2


async def test_text_that_is_not_utf8_is_malformed():
    async with open_hub(Owner()) as (_, endpoint):
        with RawDealer(endpoint) as dealer:
            dealer.socket.send(b"\x94\x07\x01\xcd\x13\x88\x82\xa4kind\xadcreate_bucket\xa6bucket\xa2\xff\xfe")
            assert code_of(await dealer.answer()) == "malformed_message"


async def test_messages_of_several_frames_are_dropped_whole():
    owner = Owner()
    async with open_hub(owner) as (hub, endpoint):
        with RawDealer(endpoint) as dealer:
            request = encode_envelope(Envelope(7, 1, 5000, ListBuckets()))
            for parts in ([b"", request], [request, b""], [request] * 5, [b"x"] * 5000):
                dealer.socket.send_multipart(parts)
            dealer.socket.send(b"")
            assert isinstance((await dealer.ask(ListBuckets(), request_id=2)).body, Buckets)
            assert len(owner.answered) == 1
            assert hub.counters.malformed == 5


async def test_a_giant_frame_ends_its_connection_and_no_other():
    owner = Owner()
    async with open_hub(owner) as (hub, endpoint), open_link(endpoint) as link:
        await link.request(ListBuckets(), timeout_s=30)
        with RawDealer(endpoint) as dealer:
            await dealer.ask(ListBuckets(), request_id=1)
            (giant,) = [peer for peer in hub.peers.values() if peer.name != "tester"]
            dealer.socket.send(b"x" * (FRAME_SIZE_MAX + 1000))
            await until(lambda: giant.is_gone)
        assert await link.request(ListBuckets(), timeout_s=30) == Buckets(buckets=[])
        assert link.connect_count == 1


async def test_request_ids_that_do_not_grow_are_never_carried_out():
    owner = Owner()
    async with open_hub(owner) as (hub, endpoint):
        with RawDealer(endpoint) as dealer:
            assert isinstance((await dealer.ask(ListBuckets(), request_id=10)).body, Buckets)
            for request_id in (10, 9, 0):
                answer = await dealer.ask(ListBuckets(), request_id=request_id)
                assert (answer.request_id, code_of(answer)) == (request_id, "malformed_message")
            # A repetition of what is in work is dropped: the first one will be answered.
            for _ in range(3):
                dealer.socket.send(encode_envelope(Envelope(7, 11, 5000, CreateBucket(bucket="b"))))
            await until(lambda: hub.in_flight == 1)
            assert isinstance((await dealer.ask(ListBuckets(), request_id=12)).body, Buckets)
            owner.release.set()
            answer = await dealer.answer()
            assert (answer.request_id, answer.body) == (11, Done())
            assert await dealer.receive(0.05) is None
            assert [type(request) for request in owner.answered] == [ListBuckets, CreateBucket, ListBuckets]


@pytest.mark.parametrize("budget_ms", [0, -1, -(2**63)])
async def test_a_request_whose_time_is_over_is_not_carried_out(budget_ms):
    owner = Owner()
    async with open_hub(owner) as (_, endpoint):
        with RawDealer(endpoint) as dealer:
            answer = await dealer.ask(ListBuckets(), request_id=1, budget_ms=budget_ms)
            assert code_of(answer) == "deadline_exceeded"
            assert owner.answered == []


async def test_the_hub_ends_work_with_its_budget_whether_or_not_anybody_waits():
    owner = Owner()
    async with open_hub(owner) as (hub, endpoint):
        with RawDealer(endpoint) as dealer:
            answer = await dealer.ask(CreateBucket(bucket="b"), request_id=1, budget_ms=50)
            assert code_of(answer) == "deadline_exceeded"
            assert hub.in_flight == 0
            await dealer.ask(ListBuckets(), request_id=2, budget_ms=2**63)  # any number is a budget
            dealer.socket.send(encode_envelope(Envelope(7, 3, 2**63, CreateBucket(bucket="b"))))
            await until(lambda: hub.in_flight == 1)


async def test_a_connection_keeps_its_incarnation():
    owner = Owner()
    async with open_hub(owner) as (_, endpoint):
        with RawDealer(endpoint) as dealer:
            assert isinstance((await dealer.ask(ListBuckets(), request_id=1, incarnation=7)).body, Buckets)
            answer = await dealer.ask(ListBuckets(), request_id=2, incarnation=8)
            assert code_of(answer) == "stale_incarnation"
            assert isinstance((await dealer.ask(ListBuckets(), request_id=3, incarnation=7)).body, Buckets)
            assert len(owner.answered) == 2


async def test_answers_to_questions_that_nobody_asked_are_dropped():
    owner = Owner()
    async with open_hub(owner) as (hub, endpoint), trio.open_nursery() as nursery:
        with RawDealer(endpoint) as dealer:
            await dealer.ask(ListBuckets(), request_id=1)
            (peer,) = hub.peers.values()
            for request_id in (0, 1, 2**63):
                dealer.socket.send(encode_envelope(Envelope(7, request_id, None, Done())))
            await dealer.ask(ListBuckets(), request_id=2)
            answers = []

            async def ask() -> None:
                answers.append(await peer.request(ListBuckets(), timeout_s=30))

            nursery.start_soon(ask)
            question = await dealer.answer()
            for body in (Done(), Buckets(buckets=[])):  # answered twice: the second one is nobody's
                dealer.socket.send(encode_envelope(Envelope(7, question.request_id, None, body)))
            await until(lambda: bool(answers))
            await dealer.ask(ListBuckets(), request_id=3)
            assert answers == [Done()]
            assert hub.counters.malformed == 0


async def test_an_answer_of_an_unknown_kind_fails_the_question_at_once():
    async with open_hub(Owner()) as (hub, endpoint), trio.open_nursery() as nursery:
        with RawDealer(endpoint) as dealer:
            await dealer.ask(ListBuckets(), request_id=1)
            (peer,) = hub.peers.values()
            failures = []

            async def ask() -> None:
                try:
                    await peer.request(ListBuckets(), timeout_s=30)
                except Exception as error:
                    failures.append(error)

            nursery.start_soon(ask)
            question = await dealer.answer()
            dealer.socket.send(pack([7, question.request_id, None, {"kind": "of_a_later_release"}]))
            await until(lambda: bool(failures))
            assert [getattr(failure, "code", None) for failure in failures] == ["malformed_message"]


async def test_a_port_scan_while_the_loop_stands_still_deafens_nobody():
    """Undrained, a bounded queue of monitor events stops the I/O thread after some 768 connections."""
    owner = Owner()
    async with open_hub(owner) as (_, endpoint), open_link(endpoint) as link:
        await link.request(ListBuckets(), timeout_s=30)
        host, port = endpoint.removeprefix("tcp://").split(":")
        for _ in range(1500):  # without a checkpoint: nobody takes the events meanwhile
            socket.create_connection((host, int(port))).close()
        assert await link.request(ListBuckets(), timeout_s=30) == Buckets(buckets=[])
        async with open_link(endpoint, keys=CurveKeys.generate()) as newcomer:
            assert await newcomer.request(ListBuckets(), timeout_s=30) == Buckets(buckets=[])
        assert link.connect_count == 1
        assert not [peer for peer in owner.gone if peer.user_id == KEYS.public.decode()]


# --- too much -------------------------------------------------------------------------------------


async def test_a_flood_of_bad_frames_fills_no_log_and_stalls_nobody(caplog):
    caplog.set_level(logging.INFO)
    owner = Owner()
    async with open_hub(owner) as (hub, endpoint), open_link(endpoint) as link:
        await link.request(ListBuckets(), timeout_s=30)
        with RawDealer(endpoint) as dealer:
            took_s, sent = list[float](), 0
            while sent < 20_000:
                for _ in range(500):
                    try:
                        dealer.socket.send(b"\xc1 flood", zmq.NOBLOCK)
                        sent += 1
                    except zmq.Again:
                        break
                started = time.monotonic()
                await link.request(ListBuckets(), timeout_s=30)
                took_s.append(time.monotonic() - started)
            assert statistics.median(took_s) < 1
            await until(lambda: hub.counters.malformed == sent)
        assert sum(record.message == "bad frame" for record in caplog.records) == 1
        assert link.connect_count == 1


async def test_other_tasks_have_their_turns_while_a_flood_is_drained():
    owner, turns = Owner(), 0
    async with open_hub(owner) as (hub, endpoint):
        with RawDealer(endpoint) as dealer:
            await dealer.ask(ListBuckets(), request_id=1)
            (peer,) = hub.peers.values()
            size = received_bytes(peer.descriptor) or 0
            for _ in range(900):
                dealer.socket.send(b"\xc1", zmq.NOBLOCK)
            arrived(peer.descriptor, size + 900)  # all of it waits at the hub before its owner gets its turn
            time.sleep(0.3)
            while hub.counters.malformed < 900:
                turns += 1
                await trio.lowlevel.checkpoint()
        assert turns >= 900 // 64


async def test_a_peer_that_never_reads_is_disconnected_and_the_others_are_served():
    owner = Owner()
    limits = HubLimits(queue=20, stall_s=0.3)
    async with open_hub(owner, limits=limits) as (hub, endpoint), open_link(endpoint) as link:
        await link.request(ListBuckets(), timeout_s=30)
        with RawDealer(endpoint, queue=1) as dealer:
            await dealer.ask(ListBuckets(), request_id=1)
            (deaf,) = [peer for peer in hub.peers.values() if peer.name != "tester"]
            request_id = 1
            with trio.fail_after(20):
                while not deaf.is_gone:
                    request_id += 1
                    with suppress(zmq.Again):
                        question = LocateObjects(bucket="b", keys=[])  # half a megabyte comes back
                        dealer.socket.send(
                            encode_envelope(Envelope(7, request_id, 5000, question)), zmq.NOBLOCK
                        )
                    assert await link.request(ListBuckets(), timeout_s=30) == Buckets(buckets=[])
            # A message that was still on its way may be taken for that of a new peer, which is gone at once.
            assert owner.gone[0] is deaf
            assert {peer.name for peer in owner.gone} == {deaf.name}
        assert link.connect_count == 1


async def test_a_peer_with_a_full_queue_refuses_more_questions():
    async with open_hub(Owner(), limits=HubLimits(queue=10)) as (hub, endpoint):
        with RawDealer(endpoint, queue=1) as dealer:
            await dealer.ask(ListBuckets(), request_id=1)
            (peer,) = hub.peers.values()
            question = CreateBucket(bucket="b" * 1_000_000)

            async def ask_and_forget() -> None:
                with trio.move_on_after(0.001):
                    await peer.request(question, timeout_s=30)

            async def ask_many() -> None:
                for _ in range(200):
                    await ask_and_forget()

            with pytest.raises(Overloaded):
                await ask_many()
            assert peer.conversation.waiting_count == 0


# --- nothing stays behind -------------------------------------------------------------------------


async def test_closing_leaves_no_descriptor_behind():
    async def live_once() -> None:
        async with open_hub(Owner(), endpoint) as (_, _), open_link(endpoint) as link:
            await link.request(ListBuckets(), timeout_s=30)
            with RawDealer(endpoint) as dealer:
                await dealer.ask(ListBuckets(), request_id=1)

    endpoint = free_endpoint()
    await live_once()
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(5):
        await live_once()
    await until(lambda: len(os.listdir("/proc/self/fd")) <= len(before))


async def test_random_frames_never_end_the_hub():
    """Random bytes, and requests with random bytes changed, from several seeds; the hub answers afterwards."""
    owner = Owner()
    owner.release.set()
    async with open_hub(owner) as (hub, endpoint), open_link(endpoint) as link:
        for seed in range(4):
            chance = random.Random(seed)
            with RawDealer(endpoint) as dealer:
                for number in range(1, 1500):
                    request = StatObject(bucket=f"b{number}", key="k" * chance.randint(0, 20))
                    frame = bytearray(
                        encode_envelope(Envelope(7, number, chance.choice((None, 5000)), request))
                    )
                    for _ in range(chance.randint(0, 4)):
                        frame[chance.randrange(len(frame))] = chance.randrange(256)
                    if chance.random() < 0.2:
                        frame = bytearray(chance.randbytes(chance.randint(0, 40)))
                    dealer.socket.send_multipart([bytes(frame)] * (1 + (chance.random() < 0.05)))
                    if number % 100 == 0:
                        await trio.sleep(0)
                await until(lambda: hub.in_flight == 0)
                assert await link.request(ListBuckets(), timeout_s=30) == Buckets(buckets=[])
        assert hub.counters.malformed > 1000


@asynccontextmanager
async def slow_line(endpoint: str, bytes_per_s: int) -> AsyncIterator[str]:
    """Another endpoint for the same hub, which takes time for what comes in."""
    host, port = endpoint.removeprefix("tcp://").split(":")

    async def carry(source: trio.SocketStream, target: trio.SocketStream, *, is_slow: bool) -> None:
        async for piece in source:
            if is_slow:
                await trio.sleep(len(piece) / bytes_per_s)
            await target.send_all(piece)

    async def serve(near: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with await trio.open_tcp_stream(host, int(port)) as far, trio.open_nursery() as nursery:
                nursery.start_soon(partial(carry, near, far, is_slow=True))
                nursery.start_soon(partial(carry, far, near, is_slow=False))

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        await nursery.start(trio.serve_listeners, serve, listeners)
        yield f"tcp://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


async def test_a_large_message_of_a_peer_of_few_words_takes_its_time_on_a_slow_line():
    """A disk of thousands of volumes registers, or names them all after months of a word a second."""
    large = LocateObjects(bucket="b", keys=["k" * 4000] * 1900)
    async with (
        open_hub(Owner()) as (hub, endpoint),
        slow_line(endpoint, 4_000_000) as slow,
        open_link(slow) as link,
    ):
        for _ in range(3):
            await link.request(ListBuckets(), timeout_s=10)
        await link.request(large, timeout_s=30)
        assert (hub.counters.floods, link.connect_count) == (0, 1)
