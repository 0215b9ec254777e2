"""Data limits: tells every volume actor which API keys have limits, and which they are.

A volume actor hears of all of them in its welcome, and of the new state with every change.  One that does not
answer is told again a second later.  One of an earlier release does not know the command, and refuses it:
there the limits do not hold.
"""

from __future__ import annotations

import logging

import trio

from warehouse.actors.control import rpc
from warehouse.actors.control.context import MasterContext
from warehouse.actors.control.fleet_state import DiskState
from warehouse.actors.control.live_keys import LiveKey, LiveKeys
from warehouse.auth.limits import KeyLimits
from warehouse.errors import DeadlineExceeded, LinkDown, StoreError
from warehouse.transport.messages import DataLimits, Done, LimitKeys
from warehouse.transport.zeromq.peers import Peer

log = logging.getLogger(__name__)

TELL_S = 5.0
TELL_EVERY_S = 0.25  # each message has the limits of all keys
NONE = DataLimits()


class DataLimitsNews:
    def __init__(self, context: MasterContext, keys: LiveKeys) -> None:
        self._context = context
        self._limits: dict[str, DataLimits] = {}
        self._wanted = trio.Event()
        keys.on_change.append(self._note)

    def load(self) -> None:
        for row in self._context.catalog.api_keys():
            if (limits := _of(row.limits)) != NONE:
                self._limits[row.id] = limits

    def all(self) -> dict[str, DataLimits]:
        """Those of every key that has some."""
        return dict(self._limits)

    def _note(self, key: LiveKey) -> None:
        limits = NONE if key.row is None else _of(key.row.limits)
        if limits == self._limits.get(key.key_id, NONE):
            return
        if limits == NONE:
            del self._limits[key.key_id]
        else:
            self._limits[key.key_id] = limits
        self._wanted.set()

    async def run(self) -> None:
        """Tell the volume actors of every change, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                await self._wanted.wait()
                self._wanted = trio.Event()
                for disk in self._context.fleet.disks.values():
                    if disk.peer is not None:
                        nursery.start_soon(self._tell, disk, disk.peer)
                await trio.sleep(TELL_EVERY_S)

    async def _tell(self, disk: DiskState, peer: Peer) -> None:
        command = LimitKeys(incarnation=self._context.incarnation, limits=self.all())
        try:
            await rpc.call(peer, command, Done, timeout_s=TELL_S)
        except (LinkDown, DeadlineExceeded) as error:
            log.warning("limits not told", extra={"disk": disk.name, "cause": error.message})
            self._wanted.set()
            await trio.sleep(1.0)
        except StoreError as error:
            log.warning("limits not taken", extra={"disk": disk.name, "cause": error.message})


def _of(limits: KeyLimits) -> DataLimits:
    return DataLimits(
        requests_per_s=limits.requests_per_s,
        bytes_per_s=limits.bytes_per_s,
        requests_at_once=limits.requests_at_once,
    )
