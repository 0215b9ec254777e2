"""Dispatcher: what a frame of a peer leads to: an answer now, a task that answers later, or a refusal.

What a peer may say, and how much, depends on its role (`roles`), which the owner tells.  A peer has a credit
of bytes, which every frame uses up and the sweep tops up.  The hub refuses the requests of a peer beyond its
credit unread, and disconnects a peer beyond its credit that has not said who it is.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial

import trio

from warehouse.errors import NodeUnknown, Overloaded, StoreError
from warehouse.transport.messages import Answer, Envelope, Request
from warehouse.transport.zeromq.conversation import refusal_of, refusal_of_bug
from warehouse.transport.zeromq.gate import Gate
from warehouse.transport.zeromq.limits import HubCounters, HubLimits
from warehouse.transport.zeromq.peers import Peer
from warehouse.transport.zeromq.roles import MALFORMED_COST, NOBODY_FRAME_MAX, Role

log = logging.getLogger(__name__)


class Dispatcher:
    """Handles the frames of one hub's peers.

    Args:
        answer_now, answer, role_of, in_flight_max: see `Hub`.
        disconnect: ends the connection of a peer.
    """

    nursery: trio.Nursery | None = None  # of the tasks that answer later; the hub sets it while it runs

    def __init__(
        self,
        *,
        answer_now: Callable[[Peer, Request], Answer | None],
        answer: Callable[[Peer, Request], Awaitable[Answer]],
        role_of: Callable[[Peer], Role],
        in_flight_max: int,
        gate: Gate,
        limits: HubLimits,
        counters: HubCounters,
        disconnect: Callable[[Peer, str], None],
    ) -> None:
        self.in_flight = 0  # requests that have a task
        self.answer = answer
        self._answer_now = answer_now
        self._role_of = role_of
        self._in_flight_max = in_flight_max
        self._in_work: dict[str, int] = {}  # role -> bytes of its requests in flight
        self._gate = gate
        self._limits = limits
        self._counters = counters
        self._disconnect = disconnect

    # --- frames -----------------------------------------------------------------------------------

    def handle_frame(self, peer: Peer, frame: memoryview) -> None:
        role = self._charge(peer, len(frame))
        budget = peer.budget
        if budget.credit < 0:
            self._refuse_over_budget(peer, role, frame)
            return
        try:
            envelope = peer.conversation.open(frame, role.decode)
        except StoreError as error:
            if not isinstance(error, NodeUnknown):  # an honest machine says that once, before it joins
                budget.credit -= (MALFORMED_COST - 1) * len(frame)
            self.log_bad_frame(peer, error.message)
            return
        if envelope is not None:
            self._handle_request(peer, role, envelope, len(frame))

    def refuse_frames(self, peer: Peer, size: int) -> None:
        """Throw away a message of several frames: no message of this protocol is one."""
        role = self._charge(peer, MALFORMED_COST * size)
        if peer.budget.credit < 0 and role.is_nobody:
            self._cut_off(peer, role)
        else:
            self.log_bad_frame(peer, "a message of several frames")

    def _charge(self, peer: Peer, size: int) -> Role:
        """Charge a peer for a frame; return its role."""
        role, budget = self._role_of(peer), peer.budget
        if role.name != budget.role_name:
            budget.role_name, budget.credit = role.name, role.burst
        price = max(size, role.frame_price)
        # A longer frame of nobody is not read: it shows the join secret in front, or is refused.
        budget.credit -= min(price, NOBODY_FRAME_MAX) if role.is_nobody else price
        return role

    def log_bad_frame(self, peer: Peer, cause: str) -> None:
        self._counters.malformed += 1
        # Once a peer: a peer that sends a million broken frames must not fill the log.
        level = logging.DEBUG if peer.has_sent_bad_frame else logging.WARNING
        peer.has_sent_bad_frame = True
        log.log(level, "bad frame", extra={"peer": peer.name, "user_id": peer.user_id, "cause": cause})

    def _refuse_over_budget(self, peer: Peer, role: Role, frame: memoryview) -> None:
        """Refuse a frame of a peer beyond its credit unread, or disconnect a peer that is nobody yet."""
        if role.is_nobody:
            self._cut_off(peer, role)
            return
        self._counters.over_budget += 1
        error = Overloaded(f"more than {role.bytes_per_s} bytes/s from one {role.name}: try again shortly")
        peer.conversation.refuse_unread(frame, error)

    def _cut_off(self, peer: Peer, role: Role) -> None:
        """Disconnect a peer beyond its credit that has not said who it is."""
        self._counters.over_budget += 1
        self._gate.note_offence(peer)
        self._disconnect(peer, f"more than {role.bytes_per_s} bytes/s, and no word of who it is")

    # --- requests ---------------------------------------------------------------------------------

    def _handle_request(self, peer: Peer, role: Role, envelope: Envelope, size: int) -> None:
        self._counters.requests += 1
        request: Request = envelope.body  # type: ignore[assignment]  # `open` returns nothing else
        answer: Answer | None
        try:
            answer = self._answer_now(peer, request)
        except StoreError as error:
            answer = refusal_of(error)
        except Exception as error:
            answer = refusal_of_bug(error)
        if answer is None:
            self._answer_later(peer, role, envelope, size)
            return
        if role.is_nobody:
            self._note_introduction(peer)
        peer.conversation.reply(envelope.request_id, answer)

    def _answer_later(self, peer: Peer, role: Role, envelope: Envelope, size: int) -> None:
        assert self.nursery is not None
        conversation = peer.conversation
        peer_max = role.in_flight_max or self._limits.peer_in_flight
        cause = None
        if self.in_flight >= self._in_flight_max or conversation.running_count >= peer_max:
            cause = f"{self.in_flight} requests in work already, try again later"
        elif self._in_work.get(role.name, 0) + size > role.in_work_max:
            cause = f"{role.in_work_max} bytes of requests in work already, try again later"
        if cause is not None:
            self._counters.overloads += 1
            conversation.reply(envelope.request_id, refusal_of(Overloaded(cause)))
            return
        self.in_flight += 1
        self._in_work[role.name] = self._in_work.get(role.name, 0) + size
        conversation.begin(envelope)
        self.nursery.start_soon(self._run_answer, peer, role, envelope, size)

    async def _run_answer(self, peer: Peer, role: Role, envelope: Envelope, size: int) -> None:
        request: Request = envelope.body  # type: ignore[assignment]  # `open` returns nothing else
        try:
            await peer.conversation.answer(envelope, partial(self.answer, peer, request))
        finally:
            self.in_flight -= 1
            self._in_work[role.name] -= size
            if not peer.is_gone:
                self._note_introduction(peer)

    def _note_introduction(self, peer: Peer) -> None:
        """Before the next connection is accepted: from here on, others do not push this one out."""
        if not self._role_of(peer).is_nobody:
            self._gate.became_known(peer.descriptor)

    # --- budgets ----------------------------------------------------------------------------------

    def keep_account(self, peer: Peer, passed_s: float) -> None:
        """Top up a peer's credit, and see whether it has said who it is."""
        role, budget = self._role_of(peer), peer.budget
        budget.credit = min(budget.credit + role.bytes_per_s * passed_s, role.burst)
        if not role.is_nobody:
            budget.nobody_s = 0.0
            self._gate.became_known(peer.descriptor)
            return
        budget.nobody_s += passed_s
        if budget.nobody_s > self._limits.nobody_s:
            self._counters.turned_away += 1
            self._disconnect(peer, f"it has not said for {self._limits.nobody_s:.3g} s who it is")
