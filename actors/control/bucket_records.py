"""Bucket records: has each disk note which buckets exist, so that a rebuild from one disk knows them."""

from __future__ import annotations

import logging

import trio

from warehouse.actors.control import rpc
from warehouse.actors.control.backoff import Backoff
from warehouse.actors.control.context import MasterContext
from warehouse.actors.control.fleet_state import DiskState, VolumeState
from warehouse.errors import StoreError
from warehouse.transport.messages import BucketsRecorded, RecordBuckets
from warehouse.transport.zeromq.peers import Peer

log = logging.getLogger(__name__)

BATCH_SIZE = 1000  # notes in one command
NO_ROOM_S = 60.0  # between looks for a volume that can take bucket records


class BucketRecorder:
    """Writes the bucket records of one disk, from its registration until it goes."""

    def __init__(self, context: MasterContext, disk: DiskState, peer: Peer) -> None:
        self._context = context
        self._disk = disk
        self._peer = peer
        self._news = trio.Event()

    def wake(self) -> None:
        """There may be a bucket to record, or a volume that can take a record."""
        self._news.set()

    async def run(self) -> None:
        backoff = Backoff()
        fleet = self._context.fleet
        avoided: set[int] = set()  # volumes that failed to take a record
        while True:
            self._news = trio.Event()
            volume = fleet.room.first_open(self._disk, avoided) or fleet.room.first_open(self._disk)
            wait_until = float("inf")
            try:
                if volume is None:
                    wait_until = trio.current_time() + NO_ROOM_S
                elif await self._record(volume):
                    continue
                backoff.worked()
                avoided.clear()
            except StoreError as error:
                log.warning("buckets not recorded", extra={"disk": self._disk.name, "cause": error.message})
                if volume is not None:
                    avoided.add(volume.volume_id)
                backoff.failed()
                await trio.sleep_until(backoff.until)
                continue
            with trio.CancelScope(deadline=wait_until):
                await self._news.wait()

    async def _record(self, volume: VolumeState) -> bool:
        """Have a volume record which buckets came and went; return whether there are more."""
        context, disk_id = self._context, self._disk.disk_id
        notes = context.catalog.bucket_notes(disk_id, BATCH_SIZE)
        if not notes:
            return False
        command = RecordBuckets(incarnation=context.incarnation, volume_id=volume.volume_id, notes=notes)
        answer = await rpc.call(self._peer, command, BucketsRecorded)
        context.fleet.take_report(volume, answer.report)
        await context.writer.write(lambda t: t.clear_bucket_notes(disk_id, notes))
        return True  # the next look tells
