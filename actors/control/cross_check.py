"""Cross-check: do the catalog and the volumes name the same needles?

An *orphan* is a needle that is live in its volume and that nothing in the catalog names: its actor, or the
master, ended between the append and the commit.  A put that is under way looks the same for a moment.  So the
master gives a needle up only when two looks, far enough apart, both find it orphaned; the catalog decides
last, in the transaction that voids the needle.

A *missing* needle is named by a row, and its volume does not have it.  The master reads rows and live needles
one after the other while both change, so the claim needs three readings: named, then not live, then still
named.  No needle id is used twice, so a needle that was named at both ends should have been live in between.

A crash leaves a handful of orphans.  More than `ORPHANS_MAX` in one volume do not come from a crash, and
neither do orphans in a volume that also lacks named needles.  Such a catalog may be older than its volumes:
then it does not know what was acknowledged since, and still names what was replaced since.  So the master
keeps these orphans, asks an operator, and touches none of them until the operator decides (`decided`).

When a look finds no orphan, or the master has dealt with all orphans of an earlier look, the volume hides
nothing that was written before that look.  From then on the records of older deletions may be dropped
(`Catalog.tombstone_horizon`).  A live chunk of an upload that nobody has confirmed is no orphan, because its
slot names it, but it is hidden all the same: while a volume has one, its look does not count.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field

import trio

from warehouse.actors.control import rpc
from warehouse.actors.control.context import MasterContext, now_ms
from warehouse.actors.control.damage import NOT_THERE, DamageRegistry
from warehouse.actors.control.fleet_state import VolumeState
from warehouse.errors import StoreError
from warehouse.transport.messages import DAMAGES_MAX, LIVE_LISTED_MAX, ListLive, LiveListed, NeedleDamage
from warehouse.transport.zeromq.peers import Peer

log = logging.getLogger(__name__)

ORPHANS_MAX = 64  # in one volume, given up without asking: puts under way when an actor ended
VOIDED_AT_ONCE = 1000  # orphans in one transaction
RETRY_S = 60.0  # after a look that failed
KEEP_ORPHANS = "keep_orphans"  # meta: set after a restore, when the catalog is older than the volumes


@dataclass
class _Look:
    """What one look at a volume found: sets of needles as numbers, by the first id of their window."""

    stamp: int  # of its start: every later needle has a greater stamp
    at: float  # monotonic
    strangers: dict[int, int] = field(default_factory=dict)  # live, and not named
    missing: list[int] = field(default_factory=list)  # needle ids, the first DAMAGES_MAX
    has_unconfirmed: bool = False  # it has unconfirmed chunks, whose stamps nobody knows

    @property
    def stranger_count(self) -> int:
        return sum(bits.bit_count() for bits in self.strangers.values())


class CrossCheck:
    def __init__(self, context: MasterContext, *, damage: DamageRegistry) -> None:
        self._context = context
        self._damage = damage
        self._open: dict[int, _Look] = {}  # volume -> the look whose strangers need a second look
        self._due_at: dict[int, float] = {}  # volume -> when to look next; absent: now
        self._kept: dict[int, int] = {}  # volume -> orphans that must not be given up
        self._asked: set[int] = set()  # volumes with more orphans than a crash leaves: an operator is asked
        self._may_drop: set[int] = set()  # volumes whose orphans an operator has given up
        self._looking = trio.Lock()
        self.voided_count = 0

    @property
    def orphan_count(self) -> int:
        """Needles that nothing seems to name: watched for a second look, or kept."""
        return sum(look.stranger_count for look in self._open.values()) + sum(self._kept.values())

    def disk_came(self, disk_id: str) -> None:
        """Look at all volumes of this disk soon, because its actor may have ended in the middle of a put."""
        for volume_id in self._context.fleet.disks[disk_id].volumes:
            self._start_over(volume_id)

    def _start_over(self, volume_id: int) -> None:
        """Make the next look a first one, because a second one deals only with what the first has seen."""
        self._due_at.pop(volume_id, None)
        self._open.pop(volume_id, None)

    async def run(self) -> None:
        """Look at every volume that is online when it is due, forever."""
        while True:
            for volume in list(self._context.fleet.volumes.values()):
                disk = self._context.fleet.disks[volume.disk_id]
                is_due = time.monotonic() >= self._due_at.get(volume.volume_id, 0.0)
                actor = disk.peer
                if not is_due or actor is None or volume.report is None:
                    continue
                try:
                    await self.look(volume, actor)
                except StoreError as error:
                    if disk.peer is actor:  # an actor that came meanwhile is asked now
                        self._due_at[volume.volume_id] = time.monotonic() + RETRY_S
                    log.warning(
                        "volume not compared with the catalog",
                        extra={"volume_id": volume.volume_id, "cause": error.message},
                    )
            await trio.sleep(self._context.intervals.look)

    async def look(self, volume: VolumeState, actor: Peer) -> list[NeedleDamage]:
        """Compare one volume with the catalog; return the needles that it lacks (recorded as damage).

        Raises:
            StoreError: the volume or the catalog did not answer.
        """
        async with self._looking:  # one at a time, because a look keeps a thread and the disk busy
            look = await self._compare(volume, actor)
            missing = await self._report_missing(volume.volume_id, look)
            await self._resolve(volume, look)
            if self._context.fleet.disks[volume.disk_id].peer is not actor:
                self._start_over(volume.volume_id)  # this look did not see what came meanwhile
            return missing

    async def _compare(self, volume: VolumeState, actor: Peer) -> _Look:
        look = _Look(self._context.stamp(), time.monotonic())
        volume_id, first_id, last_id = volume.volume_id, 1, max(1, volume.next_needle_id - 1)
        catalog = self._context.catalog

        async def live() -> int:
            command = ListLive(
                incarnation=self._context.incarnation,
                volume_id=volume_id,
                first_id=first_id,
                count=LIVE_LISTED_MAX,
                stamp=look.stamp,
            )
            answer = await rpc.call(actor, command, LiveListed)
            nonlocal last_id
            last_id = max(last_id, answer.needle_id_max)
            return _bits(answer.bitmap)

        def read() -> tuple[int, int, int]:
            bitmaps = (catalog.row_bitmap, catalog.known_bitmap, catalog.slot_bitmap)
            named, known, slots = (_bits(read(volume_id, first_id, LIVE_LISTED_MAX)) for read in bitmaps)
            return named, known, slots

        while first_id <= last_id:
            live_bits = await live()
            named, known, slots = await trio.to_thread.run_sync(read)
            if strangers := live_bits & ~known:
                look.strangers[first_id] = strangers
            look.has_unconfirmed |= bool(live_bits & slots)
            if missing := named & ~live_bits:
                missing &= ~await live()
                missing &= (await trio.to_thread.run_sync(read))[0]
                look.missing += _ids(missing, first_id)[: DAMAGES_MAX - len(look.missing)]
            first_id += LIVE_LISTED_MAX
        return look

    async def _report_missing(self, volume_id: int, look: _Look) -> list[NeedleDamage]:
        found_ms = now_ms()
        missing = [
            NeedleDamage(
                volume_id=volume_id,
                needle_id=needle_id,
                offset=NOT_THERE,
                problem="the volume does not have it",
                found_ms=found_ms,
            )
            for needle_id in look.missing
        ]
        await self._damage.add(volume_id, missing)
        return missing

    async def _resolve(self, volume: VolumeState, look: _Look) -> None:
        volume_id, intervals, now = volume.volume_id, self._context.intervals, time.monotonic()
        self._due_at[volume_id] = now + intervals.sweep
        is_aside = self._context.fleet.disks[volume.disk_id].set_aside is not None
        is_behind = self._context.troubles.has("catalog_behind")
        is_decided = bool(self._context.catalog.meta(KEEP_ORPHANS, 0))
        if is_decided or is_aside or is_behind or (volume.report and volume.report.sealed_cause):
            self._keep(volume_id, look.stranger_count)
            return
        earlier = self._open.get(volume_id)
        if earlier is None:
            if look.strangers:
                self._open[volume_id] = look
                self._due_at[volume_id] = now + intervals.orphan
            else:
                self._no_more_kept(volume_id)
                await self._swept(volume_id, look)
        elif look.at - earlier.at < intervals.orphan:
            self._due_at[volume_id] = earlier.at + intervals.orphan  # an extra look, for a verification
        else:
            orphans = [
                needle_id
                for first_id, bits in earlier.strangers.items()
                for needle_id in _ids(bits & look.strangers.get(first_id, 0), first_id)
            ]
            is_missing = bool(earlier.missing or look.missing)
            too_many = len(orphans) > ORPHANS_MAX or (orphans and is_missing)
            if too_many and volume_id not in self._may_drop:
                self._ask(volume_id, len(orphans), is_missing=is_missing)
                return
            await self._give_up(volume_id, orphans)
            del self._open[volume_id]
            self._no_more_kept(volume_id)
            await self._swept(volume_id, earlier)

    def _ask(self, volume_id: int, count: int, *, is_missing: bool) -> None:
        self._keep(volume_id, count)
        self._asked.add(volume_id)
        self._context.troubles.tell(
            "orphans_kept",
            f"volume {volume_id}",
            f"volume {volume_id} has {count:,} needles that no object names,"
            f" {'and lacks some that objects name' if is_missing else 'more than a crash leaves'}: the"
            " catalog may be older than the volume. The master keeps these needles until you decide. To bring"
            " them back, stop the store and run `warehouse rebuild --replace`; to keep them aside, run"
            " `warehouse orphans --keep`; to give them up, run `warehouse orphans --drop`",
            volume_id=volume_id,
            count=count,
        )

    def _no_more_kept(self, volume_id: int) -> None:
        self._kept.pop(volume_id, None)
        self._asked.discard(volume_id)
        self._may_drop.discard(volume_id)
        self._context.troubles.over("orphans_kept", f"volume {volume_id}")

    def decided(self, *, may_drop: bool) -> None:
        """An operator has decided what becomes of the kept orphans: see `DecideOrphans`."""
        for volume_id in [*self._kept]:
            if may_drop:
                self._may_drop.add(volume_id)
            self._asked.discard(volume_id)
            self._context.troubles.over("orphans_kept", f"volume {volume_id}")
            self._due_at.pop(volume_id, None)

    def _keep(self, volume_id: int, count: int) -> None:
        self._open.pop(volume_id, None)
        if count and count != self._kept.get(volume_id):
            self._context.events.record("orphans_found", volume_id=volume_id, count=count, is_kept=True)
            log.warning("needles that nothing names are kept", extra={"volume_id": volume_id, "count": count})
        self._kept[volume_id] = count

    async def _give_up(self, volume_id: int, needle_ids: list[int]) -> None:
        voided = 0
        for start in range(0, len(needle_ids), VOIDED_AT_ONCE):
            batch, stamp = needle_ids[start : start + VOIDED_AT_ONCE], self._context.stamp()
            voided += len(
                await self._context.writer.write(
                    lambda t: t.void_orphans(volume_id, batch, stamp)  # noqa: B023 - awaited right here
                )
            )
        if voided:
            self.voided_count += voided
            self._context.events.record("orphans_found", volume_id=volume_id, count=voided, is_kept=False)
            log.warning(
                "needles that nothing names are garbage", extra={"volume_id": volume_id, "count": voided}
            )

    async def _swept(self, volume_id: int, look: _Look) -> None:
        """Note that everything written before this look is named or garbage; look again if it is not."""
        if look.has_unconfirmed:
            self._due_at[volume_id] = time.monotonic() + self._context.intervals.orphan
        else:
            await self._context.writer.write(lambda t: t.set_swept(volume_id, look.stamp))


def _bits(bitmap: bytes) -> int:
    return int.from_bytes(bitmap, "little")


def _ids(bits: int, first_id: int) -> list[int]:
    """The ids of the needles whose bit is set in a window, in order."""
    return [
        first_id + 8 * index + bit
        for index, byte in enumerate(bits.to_bytes((bits.bit_length() + 7) // 8, "little"))
        if byte
        for bit in range(8)
        if byte >> bit & 1
    ]
