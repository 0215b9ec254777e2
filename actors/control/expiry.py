"""Expiry: what ends because time passes, and whether the catalog is still good to go on with.

Reservations end by the monotonic clock.  Uploads end when nobody asked for slots or finished for
`store.upload_expires_s`; but a catalog that was restored may take an upload for unfinished that a disk knows
to be finished, so the master waits for its disks first.
"""

from __future__ import annotations

import logging
import time

import trio

from warehouse.actors.control.context import MasterContext, now_ms
from warehouse.actors.control.lineage import Lineage
from warehouse.actors.control.reservations import Reservations
from warehouse.errors import StoreError

log = logging.getLogger(__name__)

EXPIRE_EVERY_S = 5.0
UPLOADS_AT_ONCE = 100  # uploads that expire in one transaction
DISKS_AWAITED_S = 60.0  # after the start, before uploads expire though some disk is not there


class Expiry:
    def __init__(self, context: MasterContext, *, reservations: Reservations, lineage: Lineage) -> None:
        self._context = context
        self._catalog = context.catalog
        self._reservations = reservations
        self._lineage = lineage
        self._started_at = time.monotonic()

    async def run(self) -> None:
        """
        Raises:
            StoreError: the catalog failed.
        """
        while True:
            await trio.sleep(EXPIRE_EVERY_S)
            self._require_catalog()
            self._reservations.expire(time.monotonic())
            if self._catalog.upload_count():
                while self._may_expire_uploads() and await self._expire_uploads():
                    pass  # a transaction takes few, so that others need not wait for it

    def _require_catalog(self) -> None:
        if self._catalog.failure is not None:
            # Nobody knows what a failed fsync left on the disk; opening the catalog again reads what is
            # there.  So this process ends, and whoever supervises it starts the next one.
            raise self._catalog.failure
        try:
            self._catalog.require_in_place()
        except StoreError as error:
            # The open file is the last copy of the catalog, so this process goes on for those who read.
            self._context.troubles.tell("catalog_unlinked", "catalog", error.message)

    def _may_expire_uploads(self) -> bool:
        are_all_here = all(disk.is_online for disk in self._context.fleet.disks.values())
        is_late = time.monotonic() - self._started_at > DISKS_AWAITED_S
        return (are_all_here or is_late) and not self._lineage.is_behind

    async def _expire_uploads(self) -> bool:
        """Expire some uploads; return whether there were any."""
        at_ms, stamp = now_ms(), self._context.stamp()
        try:
            expired = await self._context.writer.write(
                lambda t: t.expire_uploads(at_ms, stamp, UPLOADS_AT_ONCE)
            )
        except StoreError as error:
            log.error("uploads not expired", extra={"cause": error.message})
            return False
        if expired:
            log.info("uploads expired", extra={"count": len(expired)})
            self._context.events.record("uploads_expired", count=len(expired))
            for upload_id in set(expired):
                self._reservations.release_group(upload_id)
        return bool(expired)
