"""Lineage: has a disk that registers seen the same changes as the catalog?

Whichever of the two is behind must not decide anything.

    the disk is behind       It lacks what was acknowledged since.  The master refuses it, until an operator
                             brings the right disk, or says that it is the disk all the same (`--adopt`).
    the catalog is behind    It would hand out ids again, and take what it does not know for garbage.  As
                             long as one disk is ahead of it, the master answers reads and changes nothing,
                             until an operator rebuilds the catalog, or says that it is to go on.
    the disk is unknown      It names another catalog, and the present catalog has volumes and has never
                             heard of the disk: the disk is another store's, or was away during a rebuild.
                             That proves nothing about the catalog, so the master refuses this disk alone.

Three facts prove that the catalog is behind: the epoch of a disk (`storage/epoch.py`), a stamp that the disk
knows this catalog to have held durably, and a needle id in use that the catalog never reserved.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from warehouse.actors.control.cross_check import KEEP_ORPHANS
from warehouse.actors.control.fleet import Fleet
from warehouse.actors.control.fleet_state import DiskState
from warehouse.actors.control.troubles import Troubles
from warehouse.catalog.interface import Catalog, Transaction
from warehouse.catalog.records import NEEDLE_ID_MAX, REMOVED_DISK_META, DiskRow
from warehouse.catalog.writer import CatalogWriter
from warehouse.conf.formatting import format_count
from warehouse.errors import (
    CatalogBehind,
    DiskBehind,
    DiskFull,
    DiskMismatch,
    StaleIncarnation,
    StoreError,
    WriteFailed,
)
from warehouse.storage.epoch import NEVER, Claim, Epoch, Known, Verdict, judge
from warehouse.transport.messages import Register, VolumeReport

log = logging.getLogger(__name__)

DECIDE = (
    "Nothing is put or deleted until you decide: stop the store and run `warehouse rebuild --replace`, which"
    " brings back all that the disks hold; or run `warehouse orphans --keep` to go on with this catalog and"
    " keep aside what it does not know"
)
# A lost catalog may have given out this many ids of which no disk shows a trace.
NEEDLE_IDS_SKIPPED = 262_144
VOLUME_IDS_SKIPPED = 1_000
REFUSED_LASTING_S = 120.0  # a refused disk tries again within this


class Lineage:
    """Compares disks with the catalog, and knows the disks that are ahead of it."""

    def __init__(self, catalog: Catalog, writer: CatalogWriter, fleet: Fleet, troubles: Troubles) -> None:
        self._catalog = catalog
        self._writer = writer
        self._fleet = fleet
        self._troubles = troubles
        self._ahead: dict[str, str] = {}  # disk id -> why the catalog is behind it
        self._catalog_id = 0
        self._removing: set[str] = set()

    def load(self) -> None:
        """Learn the id of the catalog; give it one if it has none yet."""
        self._catalog_id = self._catalog.catalog_id
        if not self._catalog_id:
            try:
                with self._catalog.transaction() as transaction:
                    transaction.begin_lineage()
            except StoreError as error:  # full, perhaps: the next start tries again
                log.warning("the catalog gets no id", extra={"cause": error.message})
            self._catalog_id = self._catalog.catalog_id

    @property
    def catalog_id(self) -> int:
        return self._catalog_id

    @property
    def is_behind(self) -> bool:
        """Is the catalog older than at least one disk?"""
        return bool(self._ahead)

    def require_current(self) -> None:
        """Refuse to change anything while the catalog is older than a disk.

        Raises:
            CatalogBehind: the catalog is older.
        """
        if self.is_behind:
            raise CatalogBehind(self.why_behind)

    @property
    def why_behind(self) -> str:
        """Which disk shows that the catalog is older, and what to do; "" when no disk does."""
        return next(iter(self._ahead.values()), "")

    def require_not_behind(self, request: Register) -> None:
        """Refuse a disk that is behind or unknown, also while another actor serves the present disk.

        Raises:
            DiskBehind: the disk lacks what was acknowledged since, and no operator adopts it.
            DiskMismatch: the disk is another store's.
        """
        self.require_not_removed(request.disk_id, request.disk_name, request.url)
        _, epoch, claim, verdict = self._compare(request)
        if verdict is Verdict.DISK_UNKNOWN:
            raise self._refuse_unknown(request)
        if verdict is Verdict.DISK_BEHIND and not request.is_adopted:
            raise self._refuse(request, epoch, claim)

    def require_not_removed(self, disk_id: str, name: str, url: str = "") -> None:
        """
        Raises:
            DiskMismatch: an operator has removed the disk.
        """
        if disk_id not in self._removing and not self._catalog.meta(REMOVED_DISK_META + disk_id):
            return
        message = (
            f"disk {name} ({disk_id}) is refused: it was removed with `warehouse disks rm`, and its volumes"
            " are forgotten. To use it again, empty its folder, and start it with a new join token; it is a"
            " new disk then. To have back what it holds, stop the store and run `warehouse rebuild --replace`"
            " with its folder"
        )
        if url:
            self._troubles.tell(
                "disk_unknown",
                disk_id,
                message,
                lasting_s=REFUSED_LASTING_S,
                disk=name,
                disk_id=disk_id,
                url=url,
            )
        raise DiskMismatch(message)

    @contextmanager
    def removing(self, disk_id: str) -> Iterator[None]:
        """Refuse a disk that is being removed, also before the catalog says so."""
        self._removing.add(disk_id)
        try:
            yield
        finally:
            self._removing.discard(disk_id)

    def forget_disk(self, disk_id: str) -> None:
        """A disk was removed: what it showed of the catalog does not count any more."""
        self._ahead.pop(disk_id, None)

    def _compare(self, request: Register) -> tuple[DiskRow | None, Epoch, Claim, Verdict]:
        row = self._catalog.disk(request.disk_id)
        epoch = Epoch(row.epoch, row.mark) if row is not None else NEVER
        claim = Claim(
            Epoch(request.epoch, request.mark),
            Epoch(request.offered_epoch, request.offered_mark),
            request.catalog_id,
            request.heard_stamp,
        )
        return row, epoch, claim, self._verdict(row, epoch, claim, has_volumes=bool(request.volumes))

    async def take(self, request: Register) -> Epoch:
        """Compare a disk that registers with the catalog, and count its registration, durably.

        Returns:
            The epoch that the disk is to write down; NEVER: it cannot or must not write one.
        Raises:
            DiskBehind: the disk lacks what was acknowledged since.
            DiskMismatch: the disk is another store's.
            StaleIncarnation: another actor registered as this disk meanwhile: try again.
        """
        self.require_not_removed(request.disk_id, request.disk_name, request.url)
        row, epoch, claim, verdict = self._compare(request)
        if self._is_overruled(verdict, request):
            verdict = Verdict.RAISE if claim.offer != NEVER else Verdict.AGREE
        if verdict is Verdict.DISK_BEHIND:
            raise self._refuse(request, epoch, claim)
        if verdict is Verdict.DISK_UNKNOWN:
            raise self._refuse_unknown(request)
        if verdict is Verdict.CATALOG_BEHIND:
            known = f"registration {epoch.number}" if row is not None else "no such disk"
            self.set_behind(
                request.disk_id,
                request.disk_name,
                f"the catalog is older than disk {request.disk_name}: it knows {known}, the disk has"
                f" registration {claim.epoch.number} and has heard of changes that the catalog does not have",
            )
        offer = claim.offer if verdict is Verdict.RAISE else NEVER
        try:
            await self._write(request, row, epoch, offer)
        except (DiskFull, WriteFailed) as error:
            # A catalog that takes no writes still tells where everything is: a known disk is welcome.
            if row is None:
                raise
            log.warning("registration not counted", extra={"disk": row.name, "cause": error.message})
            offer = NEVER
        if verdict is not Verdict.CATALOG_BEHIND:
            self._ahead.pop(request.disk_id, None)
            for trouble in ("catalog_behind", "disk_behind", "disk_unknown"):
                self._troubles.over(trouble, request.disk_id)
        return claim.offer if claim.offer == epoch != NEVER else offer

    def _is_overruled(self, verdict: Verdict, request: Register) -> bool:
        """Did an operator decide that disk and catalog go on in spite of this verdict?

        Raises:
            DiskMismatch: as `_require_gone`.
        """
        if verdict is Verdict.DISK_BEHIND and request.is_adopted:
            self._require_gone(request)
            return True
        return verdict is Verdict.CATALOG_BEHIND and bool(self._catalog.meta(KEEP_ORPHANS, 0))

    def _verdict(self, row: DiskRow | None, epoch: Epoch, claim: Claim, *, has_volumes: bool) -> Verdict:
        catalog = self._catalog
        if row is None and claim.catalog_id != self._catalog_id:
            # The disk is another store's, or belongs to a catalog that this one replaced.  This catalog could
            # give the numbers of the disk's volumes to its next ones.
            if has_volumes and claim.catalog_id and not catalog.meta(KEEP_ORPHANS, 0):
                return Verdict.DISK_UNKNOWN if self._fleet.volumes else Verdict.CATALOG_BEHIND
            return Verdict.RAISE if claim.offer != NEVER else Verdict.AGREE
        known = Known(epoch, row.catalog_id if row is not None else 0, catalog.stamp_max())
        return judge(known, claim, catalog_id=self._catalog_id)

    async def _write(self, request: Register, row: DiskRow | None, before: Epoch, offer: Epoch) -> None:
        is_known = row is not None and row.name == request.disk_name
        if is_known and offer == NEVER:
            return
        added_ms = time.time_ns() // 1_000_000

        def write(t: Transaction) -> bool:
            t.add_disk(request.disk_id, request.disk_name, added_ms)
            return offer == NEVER or t.set_disk_epoch(request.disk_id, before, offer)

        if not await self._writer.write(write):
            raise StaleIncarnation(f"disk {request.disk_name} was registered by another actor meanwhile")

    def _require_gone(self, request: Register) -> None:
        """
        Raises:
            DiskMismatch: another actor serves the disk that is to be adopted.
        """
        disk = self._fleet.disks.get(request.disk_id)
        if disk is not None and disk.peer is not None and not disk.peer.is_gone:
            raise DiskMismatch(
                f"disk {request.disk_name} cannot be adopted while another actor serves it at {disk.url}:"
                " stop that one first, for good"
            )

    def _refuse(self, request: Register, epoch: Epoch, claim: Claim) -> DiskBehind:
        message = (
            f"disk {request.disk_name} at {request.url} is refused: the catalog knows registration"
            f" {epoch.number} of it, this one has registration {claim.epoch.number}, or another of that"
            " number. It is a copy of the disk or was rolled back to an older state, and lacks what was put"
            " since. Bring the present disk back; if that is gone for good, start this one once with"
            " `python -m actors.volume --adopt`, and `warehouse verify --all` names what it lacks"
        )
        self._tell_refused("disk_behind", request, message)
        return DiskBehind(message)

    def _refuse_unknown(self, request: Register) -> DiskMismatch:
        message = (
            f"disk {request.disk_name} at {request.url} is refused: it was registered with another catalog,"
            f" and has {format_count(len(request.volumes), 'volume')} that this one does not know. If it is"
            " another store's, start it with the join file of that one. If this catalog was rebuilt without"
            " it, stop the store and run `warehouse rebuild --replace` with it. If nothing on it is wanted,"
            " empty its folder"
        )
        self._tell_refused("disk_unknown", request, message)
        return DiskMismatch(message)

    def _tell_refused(self, name: str, request: Register, message: str) -> None:
        self._troubles.tell(
            name,
            request.disk_id,
            message,
            lasting_s=REFUSED_LASTING_S,
            disk=request.disk_name,
            disk_id=request.disk_id,
            url=request.url,
        )

    async def decide(self, *, is_kept: bool) -> None:
        """Carry out what an operator decided about needles that no object names.

        Args:
            is_kept: keep them aside, and go on with the catalog that there is.  Otherwise they are garbage;
                that is refused while the catalog is behind.
        Raises:
            CatalogBehind: `is_kept` is False, and the catalog is behind.
        """
        if not is_kept:
            self.require_current()
        skipped = {
            volume.volume_id: min(volume.needle_ids_reserved + NEEDLE_IDS_SKIPPED, NEEDLE_ID_MAX)
            for volume in self._fleet.volumes.values()
        }
        is_behind = self.is_behind

        def write(t: Transaction) -> None:
            t.set_meta(KEEP_ORPHANS, int(is_kept))
            if is_behind:  # the catalog that was lost may have given all of these out
                t.skip_ids(buckets_to=time.time_ns() // 1_000_000, volumes=VOLUME_IDS_SKIPPED)
                for volume_id, upto in skipped.items():
                    t.reserve_needle_ids(volume_id, upto)

        await self._writer.write(write)
        if not is_behind:
            return
        for volume in self._fleet.volumes.values():
            self._fleet.skip_ids(volume, skipped[volume.volume_id])
        for disk_id in [*self._ahead]:
            self._troubles.over("catalog_behind", disk_id)
        self._ahead.clear()

    def set_behind(self, disk_id: str, name: str, why: str) -> None:
        """Note that the catalog is older than a disk."""
        message = f"{why}. {DECIDE}"
        self._ahead[disk_id] = message
        self._troubles.tell("catalog_behind", disk_id, message, disk=name, disk_id=disk_id)

    def why_set_aside(self, disk: DiskState, reports: Iterable[VolumeReport]) -> str | None:
        """Why the master must not write to a disk that has registered; None: it may."""
        for report in reports:
            volume = disk.volumes.get(report.volume_id)
            if (
                volume is None
                or report.needle_id_max <= volume.needle_ids_reserved
                or volume.uuid != report.uuid
            ):
                continue
            if disk.disk_id not in self._ahead and not self._catalog.meta(KEEP_ORPHANS, 0):
                self.set_behind(
                    disk.disk_id,
                    disk.name,
                    f"the catalog is older than disk {disk.name}: its volume {report.volume_id} has a"
                    f" needle {report.needle_id_max}, the catalog has reserved ids up to"
                    f" {volume.needle_ids_reserved}",
                )
            break
        return self._ahead.get(disk.disk_id)
