"""A small store of real parts, without sockets and event loop: catalog, volumes, compaction, sweeps, rebuild.

Two disks that forget what was not synced (`SimDisk`), each with its volumes and the clock of its actor, and
a master with a real catalog.  Each method is one step of the protocol, made as the actors make it:

    append, finish, sync, tell_master, restamp     actors/data/needle_http.py, actors/data/commit_pipeline.py
    write_tombstones, record_buckets, take_id       actors/control/provisioning.py
    begin_copy .. switch                           actors/control/job_runner.py, actors/data/switching.py
    look                                           actors/control/cross_check.py
    lose_catalog                                   rescue/rebuild.py

Anywhere in a step the actor of a disk can end, with its page cache or without: see `Fuse`.

The store also keeps a ledger of what each disk was told and what it had to promise, and holds the volumes to
it whenever they are opened (`_observe`).  What users may see of all this is not known here.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from in_memory import make_folder
from simdisk import SimDisk
from warehouse.catalog.records import CommitResult
from warehouse.catalog.sqlite.catalog import SqliteCatalog
from warehouse.catalog.sqlite.salvage import PendingDeletion, read_pending_deletions, salvage_catalog
from warehouse.catalog.sqlite.transaction import SqliteTransaction
from warehouse.errors import NoSuchNeedle
from warehouse.rescue.console import NoProgress
from warehouse.rescue.rebuild import KEEP_ORPHANS_META, RebuildReport, make_catalog
from warehouse.rescue.survey import HeldDisk
from warehouse.storage.compaction.copying import Copy
from warehouse.storage.compaction.generation_switch import GenerationSwitch
from warehouse.storage.compaction.scrub import Scrub
from warehouse.storage.extent import Extent
from warehouse.storage.files import remove_leftovers, volume_directory
from warehouse.storage.format.needle import (
    KIND_BUCKET,
    KIND_DATA,
    KIND_RESTAMP,
    KIND_VOID,
    BucketRecord,
    NeedleMetadata,
    decode_bucket,
)
from warehouse.storage.format.stamp import StampClock
from warehouse.storage.format.superblock import SUPERBLOCK_SIZE
from warehouse.storage.scan import State
from warehouse.storage.volume import Volume
from warehouse.transport.messages import StoredNeedle

START_MS = 1_750_000_000_000
ORPHAN_MS = 120_000  # between the two looks that make a needle an orphan
IDS_AT_ONCE = 64  # the real number, 262,144, would make every index megabytes long
UPLOAD_MS = 1_000_000
CAPACITY = 1 << 30
LOOK_IDS = 256

Name = tuple[int, int]  # volume id, needle id
Key = tuple[int, str]  # bucket id, key


class Crash(BaseException):
    """The actor of a disk ends here.  Not an Exception, so that nothing takes it for an error to handle."""

    def __init__(self, disk: MiniDisk, *, has_power: bool) -> None:
        super().__init__(disk.disk_id)
        self.disk = disk
        self.has_power = has_power


@dataclass
class Fuse:
    """Ends the actor of whichever disk makes the `left`-th change from now on, or passes the `left`-th point
    of the protocol where only memory changes."""

    left: int
    has_power: bool


@dataclass
class Written:
    """A needle that a volume was given."""

    metadata: NeedleMetadata
    data: bytes
    stamp: int  # the latest one
    durable_stamp: int = 0  # the latest that was promised; 0: nothing was
    tombstone: tuple[int, bool] | None = None  # stamp, object_deleted
    is_tombstoned: bool = False  # that was promised


@dataclass
class Compaction:
    """A compaction under way, and its three stages."""

    copy: Copy | None = None
    end_offset: int = 0
    is_copied: bool = False
    switch: GenerationSwitch | None = None


@dataclass
class Look:
    """See `actors.cross_check`."""

    stamp: int
    at_ms: int
    strangers: set[int]
    has_unconfirmed: bool = False


@dataclass
class MiniDisk:
    """A disk and its volume actor."""

    disk_id: str
    sim: SimDisk
    volume_ids: list[int]
    skew_ms: int = 0  # of its wall clock
    was_cut: bool = False  # lost its power, and was not opened since
    is_online: bool = False  # registered with the master
    volumes: dict[int, Volume] = field(default_factory=dict)  # none while the actor does not run
    clock: StampClock = field(default_factory=StampClock)

    @property
    def is_running(self) -> bool:
        return bool(self.volumes)


class MiniStore:
    """Everything but the users."""

    def __init__(self, *, layout: tuple[int, ...] = (2, 1), chance: Random | None = None) -> None:
        """
        Args:
            layout: how many volumes each disk has.
            chance: decides what a power cut leaves.
        """
        self.folder = make_folder("warehouse-model-")
        self.chance = chance or Random(0)
        self.now_ms = START_MS
        self.skew_ms = 0  # of the master's wall clock
        self.fuse: Fuse | None = None
        # The ledger.
        self.written: dict[Name, Written] = {}
        self.voided: dict[Name, bool] = {}  # ids that got a tombstone and no needle: was it promised?
        self.kills: dict[Key, int] = {}  # promised deletions: the greatest stamp of each key
        self.recorded: set[tuple[int, bool]] = set()  # promised records: bucket id, is_deleted
        self._pending: dict[int, list[Callable[[], None]]] = {}  # volume -> what its next sync promises
        self.compactions: dict[int, Compaction] = {}
        self.looks: dict[int, Look] = {}
        self._next_id: dict[int, int] = {}
        self._reserved: dict[int, int] = {}
        self._upload_ids = itertools.count(1)
        self.catalog = SqliteCatalog.open(self.path, random_id=lambda: next(self._upload_ids))
        self.clock = StampClock()
        self.disks: list[MiniDisk] = []
        for number, volume_count in enumerate(layout, 1):
            self._add_disk(f"disk-{number}", volume_count)
        for disk in self.disks:
            self.start(disk)

    @property
    def path(self) -> Path:
        return self.folder / "catalog.sqlite3"

    def close(self) -> None:
        self.catalog.close()
        shutil.rmtree(self.folder)

    def _add_disk(self, disk_id: str, volume_count: int) -> None:
        disk = MiniDisk(disk_id, SimDisk(), [])
        self.disks.append(disk)
        self.do(lambda t: t.add_disk(disk_id, disk_id, self.now_ms))
        for _ in range(volume_count):
            uuid = f"0f14d0ab-9605-4a62-a9e4-{len(self._next_id) + 1:012}"
            volume_id = self.do(lambda t: t.add_volume(None, uuid, CAPACITY, disk_id, state="open"))  # noqa: B023
            Volume.create(
                disk.sim,
                volume_directory(volume_id),
                volume_id=volume_id,
                uuid=uuid,
                capacity=CAPACITY,
                created_ms=self.now_ms,
            )
            disk.volume_ids.append(volume_id)
            self._next_id[volume_id], self._reserved[volume_id] = 1, 0

    # --- small things -----------------------------------------------------------------------------

    def do(self, work: Callable[[SqliteTransaction], Any]) -> Any:
        """One request in a transaction of its own, as the writer runs it."""
        with self.catalog.transaction() as transaction, transaction.savepoint():
            return work(transaction)

    def stamp(self) -> int:
        """A stamp of the master."""
        return self.clock.tick(self.wall_ms)

    @property
    def wall_ms(self) -> int:
        return self.now_ms + self.skew_ms

    def disk_of(self, volume_id: int) -> MiniDisk:
        return next(disk for disk in self.disks if volume_id in disk.volume_ids)

    def volume(self, volume_id: int) -> Volume:
        return self.disk_of(volume_id).volumes[volume_id]

    def tick(self, disk: MiniDisk) -> int:
        return disk.clock.tick(self.now_ms + disk.skew_ms)

    def take_id(self, volume_id: int) -> int:
        """The master hands out a needle id."""
        if self._next_id[volume_id] > self._reserved[volume_id]:
            upto = self._next_id[volume_id] + IDS_AT_ONCE - 1
            self.do(lambda t: t.reserve_needle_ids(volume_id, upto))
            self._reserved[volume_id] = upto
        self._next_id[volume_id] += 1
        return self._next_id[volume_id] - 1

    def was_handed_out(self, name: Name) -> bool:
        return name[1] < self._next_id[name[0]]

    # --- crashes ----------------------------------------------------------------------------------

    def point(self, disk: MiniDisk) -> None:
        """A moment at which the actor may end, between one step and the next."""
        if self.fuse is not None:
            self.fuse.left -= 1
            if self.fuse.left <= 0:
                crash = Crash(disk, has_power=self.fuse.has_power)
                self.fuse = None
                disk.sim.before = _refuse(crash)  # whatever would still clean up: there is nobody any more
                raise crash

    def end(self, disk: MiniDisk, *, has_power: bool) -> None:
        """The actor of a disk, and its compactor, are gone."""
        disk.sim.before = disk.sim.after = None
        for volume_id in disk.volume_ids:
            if has_power:
                self._promise(volume_id)  # the page cache stays
            self._pending.pop(volume_id, None)
            self.compactions.pop(volume_id, None)
        if not has_power:
            keep = self.chance.choice((0.0, 0.5, 0.9, 1.0))
            disk.sim = disk.sim.crash(self.chance, keep, tear=self.chance.random() < 0.5)
            disk.was_cut = True
        disk.volumes, disk.is_online = {}, False

    def start(self, disk: MiniDisk) -> None:
        """The actor opens its volumes and registers."""
        disk.sim.after = lambda call, path: self.point(disk)
        volumes = {}
        for volume_id in disk.volume_ids:
            volumes[volume_id] = Volume.open(disk.sim, volume_directory(volume_id))
            assert volumes[volume_id].recovery.damages == (), "what a crash left was taken for damage"
            assert volumes[volume_id].sealed_cause is None
        disk.volumes, disk.clock, disk.was_cut = volumes, StampClock(), False
        for volume_id, volume in volumes.items():
            disk.clock.observe(volume.stats().stamp_max)
            self._observe(volume_id)
        self.connect(disk)

    def connect(self, disk: MiniDisk) -> None:
        """Registration: both sides show each other the greatest stamp they know."""
        for volume in disk.volumes.values():
            self.clock.observe(volume.stats().stamp_max)
        disk.clock.observe(self.clock.last)
        disk.is_online = True

    def lose_index(self, volume_id: int) -> None:
        """While its actor does not run; together with the power nobody could tell torn from damaged."""
        assert not self.disk_of(volume_id).was_cut
        disk, directory = self.disk_of(volume_id), volume_directory(volume_id)
        for name in disk.sim.list(directory):
            if name.endswith(".idx"):
                disk.sim.remove(f"{directory}/{name}")

    def restart_master(self) -> None:
        self.catalog.close()
        self._open_catalog()
        for disk in self.disks:
            if disk.is_online:
                self.connect(disk)

    def _open_catalog(self) -> None:
        self.catalog = SqliteCatalog.open(self.path, random_id=lambda: next(self._upload_ids))
        self.clock = StampClock()
        self.clock.observe(self.catalog.stamp_max())
        self.looks.clear()
        for volume in self.catalog.volumes():
            self._reserved[volume.id] = volume.needle_id_reserved
            self._next_id[volume.id] = volume.needle_id_reserved + 1

    def lose_catalog(self, *, is_readable: bool = False) -> dict[Name, PendingDeletion]:
        """The catalog is made anew from the disks, while no actor runs.

        Args:
            is_readable: the old one is not gone; `rebuild --replace` takes from it what it can.
        Returns:
            The needles that it says to be garbage.
        """
        assert not any(disk.is_running for disk in self.disks)
        self.catalog.close()
        known, pending_deletions = None, []
        if is_readable:
            known, pending_deletions = salvage_catalog(self.path), list(read_pending_deletions(self.path))
        for path in self.folder.iterdir():
            path.unlink()
        self.fuse = None
        self.now_ms += 1000  # it takes its time
        report = RebuildReport(catalog=str(self.path))
        held = [HeldDisk(Path("/") / disk.disk_id, disk.sim, disk.disk_id, START_MS) for disk in self.disks]
        make_catalog(
            self.path,
            held,
            known,
            report,
            NoProgress(),
            now_ms=self.wall_ms,
            pending_deletions=pending_deletions,
        )
        assert report.damaged == [], report.damaged
        assert not report.keeps_orphans
        self._open_catalog()
        for disk in self.disks:
            self.start(disk)
        volume_ids = {volume.uuid: volume.id for volume in self.catalog.volumes()}
        return {(volume_ids[needle.volume_uuid], needle.needle_id): needle for needle in pending_deletions}

    # --- the ledger -------------------------------------------------------------------------------

    def _on_sync(self, volume_id: int, promise: Callable[[], None]) -> None:
        self._pending.setdefault(volume_id, []).append(promise)

    def _promise(self, volume_id: int) -> None:
        """All that the volume was told is durable now."""
        for promise in self._pending.pop(volume_id, []):
            promise()

    def _keep_dead(self, name: Name) -> None:
        written = self.written.get(name)
        if written is None:
            self.voided[name] = True
            return
        assert written.tombstone is not None
        written.is_tombstoned = True
        stamp, object_deleted = written.tombstone
        if object_deleted:
            key = written.metadata.bucket_id, written.metadata.key
            self.kills[key] = max(stamp, self.kills.get(key, 0))

    def _observe(self, volume_id: int) -> None:
        """Hold a volume that was opened to what was promised; what was not promised is as it says now."""
        volume, stamps, recorded = self.volume(volume_id), {}, set()
        for record in volume.records():
            if record.kind in (KIND_DATA, KIND_RESTAMP) and record.state is State.WHOLE:
                stamps[record.needle_id] = max(stamps.get(record.needle_id, 0), record.stamp)
            elif record.kind == KIND_BUCKET:
                bucket = decode_bucket(record.content)
                recorded.add((bucket.bucket_id, bucket.is_deleted))
        self.recorded |= recorded
        for name in [name for name in self.written if name[0] == volume_id]:
            written, found = self.written[name], volume.find(name[1])
            assert found is None or not found.is_damaged
            if found is not None and not found.is_deleted:
                assert not written.is_tombstoned, f"needle {name} came back to life"
                assert stamps[name[1]] >= written.durable_stamp, f"the later stamp of needle {name} was lost"
                written.stamp = written.durable_stamp = stamps[name[1]]
                written.tombstone = None
            elif found is not None:
                assert written.tombstone is not None, f"needle {name} died of nothing"
                self._keep_dead(name)
            else:
                assert not written.durable_stamp, f"needle {name} was lost"
                del self.written[name]
        for name, is_promised in self.voided.items():
            if name[0] == volume_id:
                found = volume.find(name[1])
                assert not is_promised or (found is not None and found.is_deleted), (
                    f"{name} may be used again"
                )
                self.voided[name] = found is not None

    def is_live(self, name: Name) -> bool:
        found = self.volume(name[0]).find(name[1])
        return found is not None and not found.is_deleted

    def is_void(self, name: Name) -> bool:
        found = self.volume(name[0]).find(name[1])
        return found is not None and found.is_deleted

    # --- writing ----------------------------------------------------------------------------------

    def append(self, name: Name, metadata: NeedleMetadata, data: bytes) -> StoredNeedle:
        """The needle is in the volume; nothing is promised."""
        with self._writing(name, metadata, data) as (disk, volume):
            stamp = self.written[name].stamp = self.tick(disk)
            placed = volume.append(name[1], metadata, data, stamp=stamp)
        return self._stored(name, placed.stored_size, placed.crc)

    def reserve(self, name: Name, metadata: NeedleMetadata, data: bytes) -> Extent:
        with self._writing(name, metadata, data) as (_, volume):
            return volume.reserve(name[1], metadata, len(data))

    @contextmanager
    def _writing(
        self, name: Name, metadata: NeedleMetadata, data: bytes
    ) -> Iterator[tuple[MiniDisk, Volume]]:
        self.written[name] = Written(metadata, data, 0)  # from here on it may be found there
        try:
            yield self.disk_of(name[0]), self.volume(name[0])
        except Exception:
            del self.written[name]
            raise

    def finish(self, name: Name, extent: Extent) -> StoredNeedle:
        """The last byte has come."""
        written, disk = self.written[name], self.disk_of(name[0])
        extent.write(written.data[extent.written :])
        written.stamp = self.tick(disk)
        placed = extent.finish(stamp=written.stamp)
        return self._stored(name, placed.stored_size, placed.crc)

    def forget(self, name: Name) -> None:
        """It never became a needle."""
        if self.written.pop(name).tombstone is not None:
            self.voided.setdefault(name, False)

    def _stored(self, name: Name, size: int, crc: int) -> StoredNeedle:
        written = self.written[name]
        self._on_sync(name[0], lambda: self._promise_needle(written, stamp))
        metadata, stamp = written.metadata, written.stamp
        return StoredNeedle(
            *name,
            stamp,
            len(written.data),
            crc,
            size,
            metadata.bucket_id,
            metadata.key,
            metadata.created_ms,
            metadata.content_type,
            metadata.metadata,
            None,
            metadata.upload_id,
            metadata.chunk_index,
        )

    def _promise_needle(self, written: Written, stamp: int) -> None:
        written.durable_stamp = max(written.durable_stamp, stamp)

    def sync(self, volume_id: int) -> None:
        self.volume(volume_id).sync()
        self._promise(volume_id)

    def checkpoint(self, volume_id: int) -> None:
        self.volume(volume_id).checkpoint()
        self._promise(volume_id)

    def tell_master(self, disk: MiniDisk, needles: list[StoredNeedle]) -> list[CommitResult]:
        """NeedlesStored; the actor may end before it hears the answer."""
        assert disk.is_online
        with self.catalog.transaction() as transaction:
            results = [transaction.commit_needle(needle) for needle in needles]
        for needle in needles:
            self.clock.observe(needle.stamp)
        self.point(disk)
        disk.clock.observe(self.clock.last)
        return results

    def restamp(self, name: Name, above: int) -> int:
        """A fresh stamp for a needle; nothing is promised.

        Raises:
            NoSuchNeedle: it is garbage already.
        """
        disk = self.disk_of(name[0])
        disk.clock.observe(above)
        stamp = self.tick(disk)
        disk.volumes[name[0]].restamp(name[1], stamp=stamp)
        written = self.written[name]
        written.stamp = stamp
        self._on_sync(name[0], lambda: self._promise_needle(written, stamp))
        return stamp

    # --- garbage, buckets -------------------------------------------------------------------------

    def write_tombstones(self, volume_id: int, limit: int = 1000) -> int:
        """Tombstones for what waits in the outbox; returns for how many."""
        rows = self.catalog.outbox(volume_id, limit)
        if rows:
            disk = self.disk_of(volume_id)
            disk.clock.observe(self.clock.last)
            for garbage in rows:
                self._delete(
                    (volume_id, garbage.needle_id), garbage.stamp, object_deleted=garbage.object_deleted
                )
            self.sync(volume_id)
            self.point(disk)
            self.do(lambda t: t.clear_outbox(volume_id, [needle_id for needle_id, _, _ in rows]))
        return len(rows)

    def _delete(self, name: Name, stamp: int, *, object_deleted: bool) -> None:
        written = self.written.get(name)
        if written is None:
            self.voided.setdefault(name, False)
        elif written.tombstone is None:
            written.tombstone = stamp, object_deleted  # from here on it may be found dead
        self.volume(name[0]).delete(name[1], stamp=stamp, object_deleted=object_deleted)
        self._on_sync(name[0], lambda: self._keep_dead(name))

    def record_buckets(self, disk: MiniDisk, limit: int = 1000) -> None:
        """One volume of the disk writes down which buckets came and went."""
        notes = self.catalog.bucket_notes(disk.disk_id, limit)
        if not notes:
            return
        volume_id = disk.volume_ids[0]
        for note in notes:
            record = BucketRecord(note.bucket_id, note.name, note.created_ms, note.is_deleted)
            disk.volumes[volume_id].record_bucket(record, stamp=note.stamp)
            name = note.bucket_id, note.is_deleted
            self._on_sync(volume_id, lambda name=name: self.recorded.add(name))  # type: ignore[misc]
        self.sync(volume_id)
        self.point(disk)
        self.do(lambda t: t.clear_bucket_notes(disk.disk_id, notes))

    # --- compaction, step by step -----------------------------------------------------------------

    def begin_copy(self, volume_id: int) -> None:
        """The garbage gets its tombstones, what may be forgotten is asked, and a copy begins."""
        disk = self.disk_of(volume_id)
        while self.write_tombstones(volume_id):
            pass
        horizon = self.catalog.tombstone_horizon()
        volume = disk.volumes[volume_id]
        remove_leftovers(disk.sim, volume.directory, volume.generation)
        end_offset = volume.begin_compaction()
        self._promise(volume_id)
        copy = Copy(
            disk.sim,
            volume.directory,
            uuid=volume.uuid,
            generation=volume.generation,
            end_offset=end_offset,
            horizon=horizon,
        )
        self.compactions[volume_id] = Compaction(copy)

    def step_copy(self, volume_id: int) -> bool:
        """Returns whether there is more to copy."""
        compaction = self.compactions[volume_id]
        assert compaction.copy is not None
        if not compaction.copy.step():
            assert compaction.copy.damaged_count == 0
            compaction.is_copied, compaction.end_offset = True, compaction.copy.end_offset
            compaction.copy.close()
        return not compaction.is_copied

    def drop_compaction(self, volume_id: int) -> None:
        compaction, disk = self.compactions.pop(volume_id), self.disk_of(volume_id)
        volume = disk.volumes[volume_id]
        if compaction.switch is not None:
            compaction.switch.abandon()
        elif compaction.copy is not None and not compaction.is_copied:
            compaction.copy.remove()
        else:
            remove_leftovers(disk.sim, volume.directory, volume.generation)

    def catch_up(self, volume_id: int, *, is_flushed: bool = False) -> None:
        compaction, disk = self.compactions[volume_id], self.disk_of(volume_id)
        if compaction.switch is None:
            volume = disk.volumes[volume_id]
            compaction.switch = GenerationSwitch(
                volume, disk.sim, generation=volume.generation + 1, end_offset=compaction.end_offset
            )
        compaction.switch.catch_up()
        if is_flushed:
            compaction.switch.flush()

    def switch(self, volume_id: int) -> None:
        self.catch_up(volume_id)
        switch = self.compactions[volume_id].switch
        assert switch is not None
        generation = self.volume(volume_id).generation
        switch.switch()
        del self.compactions[volume_id]
        assert self.volume(volume_id).generation == generation + 1
        self._promise(volume_id)

    def compact(self, volume_id: int) -> None:
        """All of it."""
        self.begin_copy(volume_id)
        while self.step_copy(volume_id):
            pass
        self.catch_up(volume_id, is_flushed=True)
        self.switch(volume_id)

    # --- looking for what is wrong ----------------------------------------------------------------

    def look(self, volume_id: int, meanwhile: Callable[[], None] = lambda: None) -> list[int]:
        """Compare a volume with the catalog; returns the needles that were given up.

        Args:
            meanwhile: what happens before the catalog decides.
        """
        disk = self.disk_of(volume_id)
        look = Look(self.stamp(), self.now_ms, set())
        disk.clock.observe(look.stamp)
        for first_id in range(1, self._next_id[volume_id], LOOK_IDS):
            live = _ids(disk.volumes[volume_id].live_bitmap(first_id, LOOK_IDS), first_id)
            named = _ids(self.catalog.row_bitmap(volume_id, first_id, LOOK_IDS), first_id)
            known = _ids(self.catalog.known_bitmap(volume_id, first_id, LOOK_IDS), first_id)
            assert named <= live, f"volume {volume_id} lacks needles {named - live}"
            slots = _ids(self.catalog.slot_bitmap(volume_id, first_id, LOOK_IDS), first_id)
            look.strangers |= live - known
            look.has_unconfirmed |= bool(live & slots)
        meanwhile()
        return self._resolve(volume_id, look)

    def _resolve(self, volume_id: int, look: Look) -> list[int]:
        assert not self.catalog.meta(KEEP_ORPHANS_META)
        earlier = self.looks.get(volume_id)
        if earlier is None:
            if look.strangers:
                self.looks[volume_id] = look
            else:
                self._swept(volume_id, look)
            return []
        if look.at_ms - earlier.at_ms < ORPHAN_MS:
            return []
        orphans = sorted(earlier.strangers & look.strangers)
        voided: list[int] = self.do(lambda t: t.void_orphans(volume_id, orphans, self.stamp()))
        del self.looks[volume_id]
        self._swept(volume_id, earlier)
        return voided

    def _swept(self, volume_id: int, look: Look) -> None:
        if not look.has_unconfirmed:
            self.do(lambda t: t.set_swept(volume_id, look.stamp))

    def scrub(self, volume_id: int) -> None:
        volume = self.volume(volume_id)
        scrub = Scrub(
            self.disk_of(volume_id).sim,
            volume.directory,
            uuid=volume.uuid,
            generation=volume.generation,
            start=0,
        )
        while scrub.step():
            pass
        scrub.close()
        assert scrub.damages == []

    def read(self, name: Name) -> bytes | None:
        """A needle's bytes; None when the volume does not have it."""
        try:
            return bytes(self.volume(name[0]).read(name[1]).data)
        except NoSuchNeedle:
            return None

    def check_figures(self, volume_id: int) -> None:
        """What a volume says of itself is what a scan of its file counts."""
        volume = self.volume(volume_id)
        stats = volume.stats()
        live = dead = kept = live_count = dead_count = 0
        for record in volume.records():
            is_needle = record.kind == KIND_DATA
            found = volume.find(record.needle_id) if is_needle else None
            if record.kind in (KIND_BUCKET, KIND_VOID) or (record.metadata_size and not is_needle):
                kept += record.stored_size
            elif found is not None and not found.is_deleted and found.offset == record.offset:
                live += record.stored_size
                live_count += 1
            else:
                dead += record.stored_size
                dead_count += is_needle
        assert stats.in_flight_bytes == 0
        assert (stats.live_count, stats.live_bytes) == (live_count, live)
        assert (stats.dead_count, stats.dead_bytes, stats.kept_bytes) == (dead_count, dead, kept)
        assert stats.file_size == SUPERBLOCK_SIZE + live + dead + kept


def _refuse(crash: Crash) -> Callable[[str, str, int, int], int | None]:
    def refuse(call: str, path: str, offset: int, size: int) -> int | None:
        raise crash

    return refuse


def _ids(bitmap: bytes, first_id: int) -> set[int]:
    bits = int.from_bytes(bitmap, "little")
    return {first_id + number for number in range(bits.bit_length()) if bits >> number & 1}
