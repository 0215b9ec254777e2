"""Revocations: a key that loses a right takes what it opened with it, within a moment.

    change of a key       LiveKeys                    Revocations
        | durable            | on_change                  |
        |------------------->|--------------------------->|  connections of clients: ended
        |                    |                            |  volume actors: KeysRevoked, "from this epoch on"
        |                    |                            |  actors that register later: in their Welcome

A volume actor that does not answer is disconnected: it registers again, and hears of everything in its
welcome.  A key that expires changes nothing in the catalog, so a timer looks for the connections of those.
Tokens never outlive their key (`holders.py`), so the volume actors need not hear of it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping

import trio

from warehouse.actors.control import rpc
from warehouse.actors.control.context import MasterContext, now_ms
from warehouse.actors.control.fleet_state import DiskState
from warehouse.actors.control.live_keys import LiveKey, LiveKeys
from warehouse.actors.control.sessions import ClientSession
from warehouse.errors import StoreError
from warehouse.transport.messages import Done, KeysRevoked
from warehouse.transport.zeromq.peers import Peer

log = logging.getLogger(__name__)

LOOK_S = 0.5  # between looks for connections whose keys have expired
SPREAD_EVERY_S = 0.05  # changes that come at once are spread together
TELL_S = 5.0  # a volume actor that has not answered by then is disconnected
KEPT_MS = 8 * 24 * 3600 * 1000  # longer than any token lives
FORGET_S = 3600.0


class Revocations:
    """Tells whoever must know which tokens count no more."""

    def __init__(
        self,
        context: MasterContext,
        keys: LiveKeys,
        *,
        peers: Callable[[], Collection[Peer]],
        disconnect: Callable[[Peer, str], None],
    ) -> None:
        """
        Args:
            peers: who is connected.
        """
        self._context = context
        self._peers = peers
        self._disconnect = disconnect
        self._changed: set[str] = set()  # ids of keys
        self._wanted = trio.Event()
        self._told: dict[str, int] = {}  # key id -> the epoch that the volume actors have been told
        keys.on_change.append(self._note)

    def epochs(self) -> Mapping[str, int]:
        """Key id -> the first epoch whose tokens count, of the keys that lost rights lately."""
        return self._context.catalog.revocations()

    def _note(self, key: LiveKey) -> None:
        self._changed.add(key.key_id)
        self._wanted.set()

    async def run(self) -> None:
        self._told = dict(self.epochs())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look_forever)
            nursery.start_soon(self._forget_forever)
            while True:
                await self._wanted.wait()
                self._wanted = trio.Event()
                self._spread(nursery)
                await trio.sleep(SPREAD_EVERY_S)

    def _spread(self, nursery: trio.Nursery) -> None:
        changed, self._changed = self._changed, set()
        news = {
            key_id: epoch
            for key_id in changed
            if (epoch := self._context.catalog.revocation(key_id)) not in (None, self._told.get(key_id))
        }
        if news:
            self._told |= news
            for disk in self._context.fleet.disks.values():
                if disk.peer is not None:
                    nursery.start_soon(self._tell, disk, disk.peer, news)
        self._end_sessions()

    async def _tell(self, disk: DiskState, peer: Peer, news: Mapping[str, int]) -> None:
        command = KeysRevoked(incarnation=self._context.incarnation, epochs=dict(news))
        try:
            await rpc.call(peer, command, Done, timeout_s=TELL_S)
        except StoreError as error:
            if peer.is_gone:
                return
            log.warning(
                "a volume actor did not take in a revocation",
                extra={"disk": disk.name, "cause": error.message},
            )
            self._disconnect(peer, "it hears in its welcome which keys were revoked")

    # --- connections ------------------------------------------------------------------------------

    def _end_sessions(self) -> None:
        at_ms = now_ms()
        for peer in list(self._peers()):
            session = peer.session
            if not isinstance(session, ClientSession) or time.monotonic() < session.answer_until:
                continue
            if not session.key.is_good(session.epoch, at_ms):
                self._disconnect(peer, "its API key was changed, disabled or deleted, or has expired")

    async def _look_forever(self) -> None:
        while True:
            await trio.sleep(LOOK_S)
            self._end_sessions()

    # --- the catalog ------------------------------------------------------------------------------

    async def _forget_forever(self) -> None:
        """Forget what was revoked so long ago that everything it was about has expired."""
        while True:
            before_ms = now_ms() - KEPT_MS
            try:
                await self._context.writer.write(lambda t: t.forget_revocations(before_ms))  # noqa: B023
            except StoreError as error:
                log.warning("old revocations not forgotten", extra={"cause": error.message})
            epochs = self.epochs()
            self._told = {key_id: epoch for key_id, epoch in self._told.items() if key_id in epochs}
            await trio.sleep(FORGET_S)
