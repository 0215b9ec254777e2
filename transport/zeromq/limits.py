"""Limits: bounds and intervals of a hub, and counters of what it has seen."""

from __future__ import annotations

from dataclasses import dataclass

from warehouse.transport.messages import FRAME_SIZE_MAX
from warehouse.transport.zeromq.deaf import UNHEARD_MAX
from warehouse.transport.zeromq.newcomers import NOBODY_S

IN_FLIGHT_MAX = 20_000
UNTAKEN_MAX = 8 * FRAME_SIZE_MAX  # bytes of answers that one peer has not taken yet
CONNECTIONS_MAX = 8192
NEWCOMERS_MAX = 1024

# What an address costs before its clients have logged in (`transport/credits.py`), in connections.
CONNECTIONS_PER_S = 50.0
CONNECTIONS_BURST = 200.0
OFFENCE_PRICE = 10.0  # of a connection that is shut for what it did


@dataclass(frozen=True)
class HubLimits:
    """Bounds and intervals of a hub; the defaults are the ones to use."""

    peer_in_flight: int = 5_000  # requests of one peer in work: no peer uses up what is there for all
    queue: int = 10_000  # messages to one peer that wait in libzmq
    untaken: int = UNTAKEN_MAX  # and bytes of them
    sweep_s: float = 0.25
    probe_s: float = 1.0  # how often the hub probes a peer that says nothing, or that it says nothing to
    silence_s: float = 3.0  # a peer that answers no probe for this long is gone; see `liveness`
    stall_s: float = 10.0  # the hub disconnects a peer whose queue stays full for this long
    handshake_ms: int = 5000  # a connection that is not authenticated by then is closed
    backlog: int = 1024  # connections that the kernel holds while the hub is busy (a restart: all at once)
    connections: int = CONNECTIONS_MAX  # all together; the number of descriptors decides, see `master`
    newcomers: int = NEWCOMERS_MAX  # of them, those that have not said who they are
    nobody_s: float = NOBODY_S  # and for how long
    newcomers_of_address: int = 0  # of one address; 0: a quarter of all
    connections_per_s: float = CONNECTIONS_PER_S  # of newcomers, from one address
    connections_burst: float = CONNECTIONS_BURST
    unheard: int = UNHEARD_MAX  # bytes by which memory may grow after connections that nobody heard

    def per_address(self) -> int:
        """Newcomers of one address."""
        return self.newcomers_of_address or max(8, self.newcomers // 4)


@dataclass
class HubCounters:
    """What the hub has seen since it started."""

    requests: int = 0
    malformed: int = 0  # frames that nobody could understand or that break the protocol
    spoofed_ids: int = 0  # messages under the routing id of somebody else
    overloads: int = 0
    arrivals: int = 0
    departures: int = 0
    floods: int = 0  # connections shut for the bytes they made the hub hold
    reopenings: int = 0  # sockets closed for what they held of connections that nobody heard
    over_budget: int = 0  # requests refused unread, because their sender had sent too much lately
    turned_away: int = 0  # connections shut because they did not say who they are, or too many came
    held_off: int = 0  # connections that came while their address had no credit
