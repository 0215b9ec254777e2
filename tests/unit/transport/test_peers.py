"""Peers: how a peer moves between its states, and who is at the end of a connection."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from warehouse.errors import LinkDown, PermissionDenied
from warehouse.transport.messages import ListBuckets
from warehouse.transport.zeromq.descriptors import Descriptors
from warehouse.transport.zeromq.limits import HubCounters
from warehouse.transport.zeromq.peers import GONE, MOVES, PRESENT, STALLED, Peer, Peers, PeerState

DESCRIPTOR = 1_000_000  # no process has that many: its connection has no name


class FakeRouter:
    """A socket on which some routing ids have a connection."""

    def __init__(self) -> None:
        self.connected = {b"one-1", b"two-2"}

    def has_message(self) -> bool:
        return False

    def send_unless_gone(self, ident: bytes, frame: bytes) -> bool:
        return ident in self.connected


class Site:
    """The peers of a hub without sockets."""

    def __init__(self) -> None:
        self.router, self.descriptors, self.counters = FakeRouter(), Descriptors(), HubCounters()
        self.denied: set[str] = set()
        self.gone: list[Peer] = []
        self.peers = Peers(
            router=self.router,  # type: ignore[arg-type]
            descriptors=self.descriptors,
            counters=self.counters,
            denied=self.denied,
            make=self.make,
            on_gone=self.gone.append,
        )

    def make(self, ident: bytes, user_id: str, descriptor: int) -> Peer:
        return Peer(
            ident=ident,
            user_id=user_id,
            address="",
            descriptor=descriptor,
            generation=self.descriptors.generation_of(descriptor),
            incarnation=1,
            send=lambda peer, frame: None,
        )

    def find(self, ident: bytes = b"one-1", user_id: str = "key", descriptor: int = DESCRIPTOR) -> Any:
        return self.peers.find(ident, user_id, descriptor)


@pytest.mark.parametrize(("before", "after"), [*itertools.product(PeerState, repeat=2)])
def test_a_peer_moves_as_the_diagram_says_and_not_otherwise(before: PeerState, after: PeerState) -> None:
    peer = Site().find()
    peer.state = before
    if after in MOVES[before]:
        peer.move_to(after)
        assert peer.is_gone == (after is GONE)
    else:
        with pytest.raises(AssertionError, match=after.name):
            peer.move_to(after)


def test_gone_is_final_and_whatever_else_may_end() -> None:
    assert set(MOVES) == set(PeerState)
    assert MOVES[GONE] == set()
    assert all(GONE in MOVES[state] for state in (PRESENT, STALLED))


def test_a_peer_is_found_again_until_it_is_lost_and_the_next_one_is_another() -> None:
    site = Site()
    peer = site.find()
    assert site.find() is peer
    site.peers.lose(peer, "a test")
    site.peers.lose(peer, "twice is harmless")
    assert site.gone == [peer]
    assert not site.peers.by_ident
    assert not site.peers.by_descriptor
    assert site.find() is not peer
    assert (site.counters.arrivals, site.counters.departures) == (2, 1)


async def test_a_lost_peer_answers_no_question() -> None:
    site = Site()
    peer = site.find()
    site.peers.lose(peer, "a test")
    with pytest.raises(LinkDown, match="a test"):
        await peer.request(ListBuckets(), timeout_s=1)


def test_the_last_words_of_a_connection_that_is_gone_make_no_peer() -> None:
    site = Site()
    site.router.connected.clear()
    assert site.find() is None
    assert site.counters.arrivals == 0


def test_what_comes_through_a_connection_that_was_shut_makes_no_peer() -> None:
    site = Site()
    site.descriptors.accepted(DESCRIPTOR)
    site.descriptors.note_shut(DESCRIPTOR, "two ends")
    assert site.find() is None
    site.descriptors.accepted(DESCRIPTOR)  # the descriptor carries another connection
    assert site.find() is not None


def test_a_routing_id_belongs_to_the_key_that_used_it_first() -> None:
    site = Site()
    peer = site.find()
    site.peers.lose(peer, "a test")
    with pytest.raises(PermissionDenied, match="another key"):
        site.find(user_id="thief")
    assert site.counters.spoofed_ids == 1
    assert site.find().user_id == "key"


def test_another_connection_under_the_same_routing_id_ends_the_peer() -> None:
    site = Site()
    peer = site.find()
    other = site.find(descriptor=DESCRIPTOR + 1)
    assert peer.is_gone
    assert site.gone == [peer]
    assert site.peers.by_ident == {b"one-1": other}


def test_a_denied_key_makes_no_peer() -> None:
    site = Site()
    site.denied.add("key")
    with pytest.raises(PermissionDenied, match="denied"):
        site.find()
