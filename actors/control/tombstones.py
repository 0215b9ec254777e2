"""Tombstones: has the volumes of a disk write down which of their needles are garbage.

The outbox of the catalog lists the needles that no object names any more.  The master sends each of them to
its volume, which appends a tombstone, and then removes it from the outbox.  Sending a needle twice is
harmless, so a master that ends in between starts again from the outbox.
"""

from __future__ import annotations

import logging
import time

import trio

from warehouse.actors.control import rpc
from warehouse.actors.control.backoff import Backoff
from warehouse.actors.control.context import MasterContext
from warehouse.actors.control.fleet_state import DiskState, VolumeState
from warehouse.errors import StoreError
from warehouse.transport.messages import DeleteNeedles, NeedlesDeleted
from warehouse.transport.zeromq.peers import Peer

log = logging.getLogger(__name__)

BATCH_SIZE = 1000  # needles in one command
GATHER_S = 0.05  # garbage of one moment shares the fsync of its tombstones
# Volumes of a disk that get tombstones at the same time.  One that hangs delays the others only when this
# many hang, and then only until their calls time out.
VOLUMES_AT_ONCE_MAX = 8
BATCHES_IN_A_ROW_MAX = 20  # for one volume, before the volumes that wait have their turn


class TombstoneWriter:
    """Writes the tombstones of one disk, from its registration until it goes."""

    def __init__(self, context: MasterContext, disk: DiskState, peer: Peer) -> None:
        self._context = context
        self._disk = disk
        self._peer = peer
        self._news = trio.Event()
        # Volumes with garbage, the one that has waited longest first.
        self._waiting: dict[int, None] = {
            volume_id: None for volume_id in context.catalog.outbox_counts() if volume_id in disk.volumes
        }
        self._busy: set[int] = set()
        self._backoffs: dict[int, Backoff] = {}

    def note_garbage(self, volume_id: int) -> None:
        """Needles of this volume have become garbage."""
        self._waiting[volume_id] = None
        self._news.set()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                self._news = trio.Event()
                next_at = float("inf")
                for volume_id in list(self._waiting):
                    if len(self._busy) >= VOLUMES_AT_ONCE_MAX:
                        break  # a volume that is finished wakes us
                    backoff = self._backoffs.get(volume_id)
                    if volume_id in self._busy:
                        continue
                    if backoff is not None and backoff.is_waiting:
                        next_at = min(next_at, backoff.until)
                        continue
                    del self._waiting[volume_id]
                    self._busy.add(volume_id)
                    nursery.start_soon(self._serve, volume_id)
                with trio.CancelScope(deadline=next_at):
                    await self._news.wait()

    async def _serve(self, volume_id: int) -> None:
        volume = self._context.fleet.volumes[volume_id]
        try:
            await trio.sleep(GATHER_S)
            for _ in range(BATCHES_IN_A_ROW_MAX):
                if volume.report is None or volume.report.sealed_cause is not None:
                    break  # its garbage waits until its disk registers again and the volume takes writes
                if not await write_tombstones(self._context, self._peer, volume):
                    break
            else:
                self._waiting[volume_id] = None
            self._backoffs.pop(volume_id, None)
        except StoreError as error:
            log.warning("tombstones not written", extra={"volume_id": volume_id, "cause": error.message})
            self._backoffs.setdefault(volume_id, Backoff()).failed()
            self._waiting[volume_id] = None
        finally:
            self._busy.discard(volume_id)
            self._news.set()


async def write_tombstones(context: MasterContext, peer: Peer, volume: VolumeState) -> bool:
    """Have a volume write tombstones for one batch of its garbage; a batch that is sent twice is harmless.

    One batch a call, so that other volumes have their turn where garbage keeps coming.

    Returns:
        Whether there is more garbage.
    """
    rows = context.catalog.outbox(volume.volume_id, BATCH_SIZE)
    if not rows:
        return False
    command = DeleteNeedles(
        incarnation=context.incarnation,
        volume_id=volume.volume_id,
        needles=[(needle_id, stamp) for needle_id, stamp, _ in rows],
        stamp=context.clock.last,
        object_deleted=[garbage.needle_id for garbage in rows if garbage.object_deleted],
    )
    answer = await rpc.call(peer, command, NeedlesDeleted)
    context.fleet.take_report(volume, answer.report)
    needle_ids = [needle_id for needle_id, _, _ in rows]
    now_s, now_ms = time.monotonic(), time.time_ns() // 1_000_000
    await context.writer.write(
        lambda t: t.clear_outbox(volume.volume_id, needle_ids, now_s=now_s, now_ms=now_ms)
    )
    return len(rows) == BATCH_SIZE
