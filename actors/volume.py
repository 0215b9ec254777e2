"""Volume actor: owns one disk; nobody else writes its volume files.

    warehouse volume --disk DIR --join FILE [--host H] [--port N] [--advertise URL]

It opens the disk's volumes, connects to the master and registers; while registered it serves needles over
HTTP, confirms what it stored, and carries out the master's commands (create a volume, append tombstones,
stamp a needle anew, switch to a compacted generation).  When the link breaks it goes on serving reads and
registers again by itself.

The rules of storing are in `storage`, those of the data port in `needle_http`, the way of a put to its
answer in `commit_pipeline`; this file ties them to one process.
"""

from __future__ import annotations

import argparse
import errno
import logging
import time
from collections.abc import Iterator, Sequence
from typing import assert_never

import msgspec
import trio
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from warehouse.actors.ballast import Ballast, free_names, make_way
from warehouse.actors.data.chunk_lists import ASK_S
from warehouse.actors.data.cold_reads import ColdReads
from warehouse.actors.data.commit_pipeline import CommitPipeline
from warehouse.actors.data.fsync import Syncer
from warehouse.actors.data.needle_http import NeedleHttp
from warehouse.actors.data.reporting import Reporting
from warehouse.actors.data.switching import Switching
from warehouse.actors.listening import known_as, open_listeners
from warehouse.actors.process import (
    Announcer,
    add_common_arguments,
    add_disk_arguments,
    held_disk,
    run_actor,
    set_up_actor,
)
from warehouse.auth.data_tokens import DataTokenVerifier
from warehouse.conf.arguments import Parser, base_url
from warehouse.conf.arguments import host as host_argument
from warehouse.conf.join import Join
from warehouse.conf.settings import Settings
from warehouse.errors import (
    BadRequest,
    DiskFull,
    NoSuchVolume,
    RequestRefused,
    SetupError,
    StaleIncarnation,
    StampRefused,
    StoreError,
    VolumeSealed,
)
from warehouse.storage.compaction.free_space import free_bytes_needed
from warehouse.storage.disk import OsDisk
from warehouse.storage.epoch import NEVER, Epoch
from warehouse.storage.files import volume_directory, volume_ids
from warehouse.storage.format.needle import BucketRecord
from warehouse.storage.format.stamp import StampClock
from warehouse.storage.identity import LOCK_NAME, IdentityKeeper, load_identity
from warehouse.storage.presence import Watch
from warehouse.storage.volume import Volume
from warehouse.transport.descriptors import connections_within, raise_limit
from warehouse.transport.endpoints import endpoint_of
from warehouse.transport.http.connection import HttpLimits
from warehouse.transport.http.pool import HttpPool
from warehouse.transport.http.server import HttpServer
from warehouse.transport.messages import (
    DAMAGES_MAX,
    LIVE_LISTED_MAX,
    Answer,
    BeginCompaction,
    BucketsRecorded,
    CompactionBegun,
    CreateVolume,
    DeleteNeedles,
    DiskReport,
    Done,
    DropGeneration,
    GenerationSwitched,
    ListLive,
    LiveListed,
    NeedleDamage,
    NeedleRestamped,
    NeedlesDeleted,
    RecordBuckets,
    Register,
    ReportSeen,
    Request,
    RestampNeedle,
    SwitchGeneration,
    VolumeCommand,
    VolumeCreated,
    VolumeReport,
    Welcome,
)
from warehouse.transport.zeromq.curve import CurveKeys
from warehouse.transport.zeromq.link import Link

# What is ordered of a volume that is there.
PipelineCommand = (
    RestampNeedle
    | DeleteNeedles
    | RecordBuckets
    | ListLive
    | BeginCompaction
    | SwitchGeneration
    | DropGeneration
)

log = logging.getLogger("warehouse.actors.volume")  # run as a module it would be "__main__"

REPORT_S = 1.0  # how old the master's picture of this disk may get
SETTLING_S = 0.02  # between reports until the master has given this disk what it needs
DELETES_IN_A_ROW = 50
WATCH_S = 2.0  # between looks at whether the files that are written are still where the next start looks
SKEW_MS = 1000  # a difference of the wall clocks up to this is none
SKEW_STEP_MS = 300  # what is measured anew counts when it differs by more than this
SKEW_ANSWER_MS = 2000  # an answer that took longer tells nothing about clocks
CHECKPOINT_S = 10.0  # bounds the tail that the next start scans
REGISTER_S = 10.0
BALLAST_NAME = "ballast"
BALLAST_SIZE = 4 * 1024 * 1024  # tombstones of 60,000 needles, or the files of a nearly empty generation
NAMES_NEEDED = 3  # a compaction makes two files, and replaces the manifest by a third
CAUSE_SIZE_MAX = 300  # characters of why a volume cannot be opened, in a registration


class VolumeActor:
    """One disk: its volumes, its data port, its link to the master."""

    def __init__(
        self,
        *,
        disk: OsDisk,
        disk_id: str,
        disk_name: str,
        join: Join,
        settings: Settings,
        url: str,
        announcer: Announcer,
        is_read_only: bool,
        identity: IdentityKeeper | None = None,
        is_adopted: bool = False,
    ) -> None:
        self._disk = disk
        self._disk_id = disk_id
        self._disk_name = disk_name
        self._join = join
        self._settings = settings
        self._url = url
        self._announcer = announcer
        self._is_read_only = is_read_only
        self._identity = identity
        self._ballast = Ballast(disk.root / BALLAST_NAME, BALLAST_SIZE)
        self._is_adopted = is_adopted
        self._catalog_id = 0  # of the catalog that this disk is registered with
        self._committed_stamp = 0  # up to here that catalog is durable
        self._skew_ms: int | None = None  # our wall clock less the master's
        self._incarnation = time.time_ns() // 1_000_000  # greater than that of any earlier start
        self._master_incarnation = 0
        self._clock = StampClock()
        self._watch = Watch(
            {
                disk.root: "the disk's folder",
                disk.root / "volumes": "the folder of the volumes",
                disk.root / LOCK_NAME: "the disk's lock",
            }
        )
        self._capacity = disk.capacity()
        self._displaced: str | None = None  # why nothing may be made on this disk any more
        self._pipelines: dict[int, CommitPipeline] = {}
        self._broken: dict[int, str] = {}  # volumes that could not be opened, and why
        self._verifier = DataTokenVerifier(disk_id, {})
        self._pool = HttpPool(connections_max=32)
        self._switching = Switching(disk)
        self._syncer = Syncer()
        self._reporting = Reporting()
        self._cold_reads = ColdReads()
        self._creating = trio.Lock()  # of volumes, one after the other
        self._nursery: trio.Nursery | None = None
        self._link = Link(
            endpoint=join.master,
            server_key=join.server_key.encode(),
            keys=CurveKeys.generate(),
            name=f"volume-{disk_id[:8]}",
            incarnation=self._incarnation,
            greet=self._greet,
            answer=self._answer,
        )
        self._http = NeedleHttp(
            pipelines=self._pipelines,
            broken=self._broken,
            verifier=self._verifier,
            clock=self._clock,
            pool=self._pool,
            is_ready=lambda: self._link.is_up,
            render_metrics=self._render_metrics,
            cold_reads=self._cold_reads,
            ask_master=lambda question: self._link.request(question, timeout_s=ASK_S),
        )
        limits = settings.http
        self._server = HttpServer(
            self._http.handle,
            handle_nowait=self._http.get_nowait,
            limits=HttpLimits(
                header_size=limits.header_size,
                connections=connections_within(raise_limit(), limits.connections),
                header_s=limits.header_s,
                idle_s=limits.idle_s,
                rate_min=limits.body_rate_min,
                write_stall_s=limits.write_stall_s,
                drain_size=limits.drain_size,
            ),
            cors_origins=limits.cors_origins,
        )
        self._registry = CollectorRegistry()
        self._registry.register(_Figures(self))

    # --- life -------------------------------------------------------------------------------------

    async def run(self, listeners: list[trio.SocketListener]) -> None:
        await trio.to_thread.run_sync(self._open_volumes)
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                await nursery.start(self._syncer.run)
                await nursery.start(self._cold_reads.run)
                for pipeline in self._pipelines.values():
                    await nursery.start(pipeline.run)
                await nursery.start(self._server.serve, listeners)
                await nursery.start(self._link.run)
                nursery.start_soon(self._report_forever)
                nursery.start_soon(self._checkpoint_forever)
                nursery.start_soon(self._keep_ballast)
                nursery.start_soon(self._watch_files_forever)
        finally:
            # Closing writes a checkpoint, which only saves the next start a scan: bounded, then let go.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 10):
                await trio.to_thread.run_sync(self._close_volumes, abandon_on_cancel=True)
                await self._pool.aclose()

    def _open_volumes(self) -> None:
        try:
            found = volume_ids(self._disk)
        except OSError as error:
            raise SetupError(f"cannot use the disk {self._disk_name}: {error}") from error
        for volume_id in found:
            try:
                volume = Volume.open(self._disk, volume_directory(volume_id), read_only=self._is_read_only)
            except NoSuchVolume as error:
                log.warning(
                    "unfinished volume left alone", extra={"volume_id": volume_id, "cause": error.message}
                )
                continue  # its creation was interrupted: the master orders it again
            except StoreError as error:
                # One damaged volume must not keep the others from being read.
                self._broken[volume_id] = error.message
                log.error("volume not opened", extra={"volume_id": volume_id, "cause": error.message})
                continue
            self._broken.pop(volume_id, None)
            self._adopt(volume)
            recovery = volume.recovery
            if recovery.rebuilt_because or recovery.cut_bytes or recovery.torn or recovery.repairs:
                log.warning("volume recovered", extra=msgspec.structs.asdict(recovery))

    def _hear_stamp(self, stamp: int) -> None:
        """Take a stamp of the master's along, if it can be one: it must not end this disk's clock."""
        try:
            self._clock.admit(stamp, time.time_ns() // 1_000_000)
        except StampRefused as error:
            log.error("stamp of the master not believed", extra={"cause": error.message})

    def _require_stamps(self, *stamps: int) -> None:
        """Believe the stamps of an order.

        Raises:
            StampRefused: one of them cannot be; nothing was done.
        """
        for stamp in stamps:
            self._clock.admit(stamp, time.time_ns() // 1_000_000)

    def _adopt(self, volume: Volume) -> CommitPipeline:
        stamp_max = volume.stats().stamp_max
        try:
            self._clock.found(stamp_max)  # whether it is too far ahead, the master judges
        except StampRefused as error:
            log.error(
                "volume has a stamp that cannot be",
                extra={"volume_id": volume.volume_id, "cause": error.message},
            )
        pipeline = CommitPipeline(
            volume,
            self._link,
            self._clock,
            is_synced=self._settings.store.durability == "fsync",
            on_master_stamp=self._hear_stamp,
            sync=self._syncer.sync,
        )
        self._pipelines[volume.volume_id] = pipeline
        return pipeline

    def _close_volumes(self) -> None:
        if self._identity is not None:
            self._identity.heard(self._catalog_id, self._committed_stamp)
        for pipeline in self._pipelines.values():
            try:
                pipeline.volume.close()
            except StoreError as error:
                log.error(
                    "volume not closed cleanly",
                    extra={"volume_id": pipeline.volume.volume_id, "cause": error.message},
                )

    # --- talking to the master --------------------------------------------------------------------

    async def _greet(self, link: Link) -> None:
        offer, known = NEVER, None
        if self._identity is not None:
            offer = await trio.to_thread.run_sync(self._identity.offer)
            known = self._identity.identity
        sent_at, sent_ms = trio.current_time(), time.time_ns() // 1_000_000
        volumes = self._reports()
        welcome = await link.ask_now(
            Register(
                join_secret=self._join.secret,
                disk_id=self._disk_id,
                disk_name=self._disk_name,
                incarnation=self._incarnation,
                url=self._url,
                volumes=volumes,
                disk_capacity=self._capacity,
                disk_free=self._free_for_puts(),
                is_read_only=self._is_read_only,
                broken={number: cause[:CAUSE_SIZE_MAX] for number, cause in self._broken.items()},
                epoch=known.epoch if known is not None else 0,
                mark=known.mark if known is not None else 0,
                offered_epoch=offer.number,
                offered_mark=offer.mark,
                catalog_id=known.catalog_id if known is not None else 0,
                heard_stamp=known.heard_stamp if known is not None else 0,
                is_adopted=self._is_adopted,
            ),
            timeout_s=REGISTER_S,
        )
        if not isinstance(welcome, Welcome):
            raise BadRequest(f"the master answered {type(welcome).__name__} to a registration")
        self._compare_clocks(welcome.now_ms, sent_at, sent_ms)
        if self._identity is not None and welcome.epoch:
            epoch = Epoch(welcome.epoch, welcome.mark)
            await trio.to_thread.run_sync(self._identity.confirm, epoch, welcome.catalog_id)
            self._is_adopted = False
        self._catalog_id = welcome.catalog_id
        self._master_incarnation = welcome.incarnation
        self._reporting.registered(volumes, now=trio.current_time())
        try:
            self._clock.found(welcome.stamp)
        except StampRefused as error:
            log.error("clock of the master not believed", extra={"cause": error.message})
        self._verifier.replace_keys(welcome.token_keys)
        log.info("registered with the master", extra={"master": self._join.master, "url": self._url})

    def _compare_clocks(self, master_ms: int, sent_at: float, sent_ms: int) -> None:
        """Learn how far our wall clock is from the master's, who told it in answer to a message.

        Tokens are good by the master's clock, and stamps follow it, so that a disk whose clock is wrong
        stamps nothing that others could not believe.

        Args:
            sent_at, sent_ms: when the message was sent, by the monotonic clock and by the wall clock.
        """
        took_ms = (trio.current_time() - sent_at) * 1000
        if not master_ms or took_ms > SKEW_ANSWER_MS:
            return
        skew_ms = round(sent_ms + took_ms / 2 - master_ms)
        if self._skew_ms is None or abs(skew_ms - self._skew_ms) > SKEW_STEP_MS:
            self._skew_ms = skew_ms
            is_off = abs(skew_ms) > SKEW_MS
            self._clock.correction_ms = -skew_ms if is_off else 0
            self._verifier.ahead_s = skew_ms / 1000 if is_off else 0.0
            if is_off:
                log.warning("the clock differs from the master's", extra={"ahead_s": skew_ms / 1000})

    async def _answer(self, request: Request) -> Answer:
        if not isinstance(request, VolumeCommand):
            raise BadRequest(f"a volume actor does not answer {type(request).__name__}")
        if request.incarnation != self._master_incarnation:
            raise StaleIncarnation(
                f"registered with master {self._master_incarnation:x}, this came from {request.incarnation:x}"
            )
        if isinstance(request, CreateVolume):
            return await self._create_volume(request)
        pipeline = self._pipelines.get(request.volume_id)
        if pipeline is None:
            raise NoSuchVolume(f"volume {request.volume_id} is not on this disk")
        while True:
            try:
                return await self._obey(pipeline, request)
            except DiskFull as error:
                # A switch has thrown its copy away by now; all else is as it was, and can be done again.
                if isinstance(request, SwitchGeneration) or not await self._give_up_ballast():
                    raise
                log.warning("ballast given up: the disk is full", extra={"cause": error.message})

    async def _obey(self, pipeline: CommitPipeline, request: PipelineCommand) -> Answer:
        match request:
            case RestampNeedle():
                return await self._restamp(pipeline, request)
            case DeleteNeedles():
                return await self._delete(pipeline, request)
            case RecordBuckets():
                return await self._record_buckets(pipeline, request)
            case ListLive():
                return await self._list_live(pipeline, request)
            case BeginCompaction():
                return await self._begin_compaction(pipeline)
            case SwitchGeneration():
                done = await self._switching.switch(
                    pipeline, generation=request.generation, upto=request.end_offset
                )
                return GenerationSwitched(
                    is_done=done.is_done,
                    remaining_bytes=done.remaining_bytes,
                    pause_ms=done.pause_ms,
                    report=self._report(pipeline),
                    freed_bytes=done.freed_bytes,
                )
            case DropGeneration():
                await self._switching.drop(pipeline)
                return Done()
            case _:
                assert_never(request)

    async def _give_up_ballast(self) -> bool:
        return await trio.to_thread.run_sync(self._ballast.release)

    async def _make_way(self, pipeline: CommitPipeline) -> None:
        """Give ballast up where a compaction needs it, and has enough with it: that is what it is for."""
        figures = pipeline.volume.stats()
        needed = free_bytes_needed(
            live_bytes=figures.live_bytes,
            kept_bytes=figures.kept_bytes,
            live_count=figures.live_count,
            dead_count=figures.dead_count,
            needle_id_max=figures.needle_id_max,
        )
        if self._free_bytes() + self._ballast.held_bytes < needed:
            return
        while self._free_bytes() < needed or not self._has_names():
            if not await self._give_up_ballast():
                return

    def _has_names(self) -> bool:
        names = free_names(self._disk.root)
        return names is None or names >= NAMES_NEEDED

    def _free_for_puts(self) -> int:
        """What the master may promise: the reserve for deletes and compactions is made again first."""
        return max(0, self._free_bytes() - self._ballast.missing_bytes)

    async def _keep_ballast(self) -> None:
        while not self._is_read_only:
            await trio.to_thread.run_sync(self._ballast.restore)
            await trio.sleep(CHECKPOINT_S)

    async def _restamp(self, pipeline: CommitPipeline, request: RestampNeedle) -> NeedleRestamped:
        self._require_stamps(request.restamp_above)
        await pipeline.pass_write_barrier()
        stamp = self._clock.tick(time.time_ns() // 1_000_000)
        pipeline.volume.restamp(request.needle_id, stamp=stamp)
        await pipeline.make_durable()
        return NeedleRestamped(stamp=stamp)

    async def _delete(self, pipeline: CommitPipeline, request: DeleteNeedles) -> NeedlesDeleted:
        self._require_stamps(request.stamp, *(stamp for _, stamp in request.needles))
        ended = frozenset(request.object_deleted)
        for number, (needle_id, stamp) in enumerate(request.needles):
            await pipeline.pass_write_barrier()
            pipeline.volume.delete(needle_id, stamp=stamp, object_deleted=needle_id in ended)
            if number % DELETES_IN_A_ROW == DELETES_IN_A_ROW - 1:
                await trio.lowlevel.checkpoint()  # readers come in between
        await pipeline.make_durable()
        return NeedlesDeleted(report=self._report(pipeline))

    async def _record_buckets(self, pipeline: CommitPipeline, request: RecordBuckets) -> BucketsRecorded:
        self._require_stamps(*(note.stamp for note in request.notes))
        for note in request.notes:
            await pipeline.pass_write_barrier()
            record = BucketRecord(note.bucket_id, note.name, note.created_ms, note.is_deleted)
            pipeline.volume.record_bucket(record, stamp=note.stamp)
        await pipeline.make_durable()
        return BucketsRecorded(report=self._report(pipeline))

    async def _list_live(self, pipeline: CommitPipeline, request: ListLive) -> LiveListed:
        if not 1 <= request.count <= LIVE_LISTED_MAX or not 1 <= request.first_id < 2**32:
            raise BadRequest(f"1 to {LIVE_LISTED_MAX} needles can be listed at once, not {request.count}")
        self._require_stamps(request.stamp)
        bitmap = await trio.to_thread.run_sync(pipeline.volume.live_bitmap, request.first_id, request.count)
        return LiveListed(bitmap=bitmap, needle_id_max=pipeline.volume.stats().needle_id_max)

    async def _begin_compaction(self, pipeline: CommitPipeline) -> CompactionBegun:
        await self._switching.drop(pipeline)  # of an earlier one, that its master did not live to see
        await self._make_way(pipeline)
        upto = await trio.to_thread.run_sync(pipeline.volume.begin_compaction)
        return CompactionBegun(
            generation=pipeline.volume.generation,
            end_offset=upto,
            report=self._report(pipeline),
            disk_free=self._free_bytes(),
        )

    async def _create_volume(self, request: CreateVolume) -> VolumeCreated:
        # The master orders it again when an answer is late, and then the first order is under way still: two
        # that make the same files would each write over what the other has in use.
        async with self._creating:
            return await self._create_volume_once(request)

    async def _create_volume_once(self, request: CreateVolume) -> VolumeCreated:
        pipeline = self._pipelines.get(request.volume_id)
        if pipeline is None and (problem := self._displaced or self._find_displaced()) is not None:
            raise VolumeSealed(f"no volume is made on disk {self._disk_name}: {problem}")
        if pipeline is None:
            volume = await trio.to_thread.run_sync(
                lambda: Volume.create(
                    self._disk,
                    f"volumes/{request.volume_id}",
                    volume_id=request.volume_id,
                    uuid=request.uuid,
                    capacity=request.capacity,
                    created_ms=time.time_ns() // 1_000_000,
                )
            )
            pipeline = self._adopt(volume)
            assert self._nursery is not None
            self._nursery.start_soon(pipeline.run)
            log.info("volume created", extra={"volume_id": volume.volume_id, "capacity": volume.capacity})
        elif pipeline.volume.uuid != request.uuid:
            raise BadRequest(f"volume {request.volume_id} exists here with another uuid")
        return VolumeCreated(report=self._report(pipeline))

    def _report(self, pipeline: CommitPipeline) -> VolumeReport:
        volume, figures = pipeline.volume, pipeline.volume.stats()
        return VolumeReport(
            volume_id=volume.volume_id,
            uuid=volume.uuid,
            generation=volume.generation,
            capacity=volume.capacity,
            file_size=figures.file_size,
            live_count=figures.live_count,
            live_bytes=figures.live_bytes,
            dead_bytes=figures.dead_bytes,
            needle_id_max=figures.needle_id_max,
            stamp_max=figures.stamp_max,
            sealed_cause=volume.sealed_cause,
            damaged_count=figures.damaged_count,
            dead_count=figures.dead_count,
            kept_bytes=figures.kept_bytes,
            created_ms=volume.created_ms,
        )

    def _damages(self) -> list[NeedleDamage]:
        """What is known to be damaged; the master knows the names."""
        return [
            NeedleDamage(
                volume_id=damage.volume_id,
                offset=damage.offset,
                problem=damage.problem,
                needle_id=damage.needle_id,
            )
            for pipeline in self._pipelines.values()
            for damage in pipeline.volume.damages()
        ][:DAMAGES_MAX]

    def _reports(self) -> list[VolumeReport]:
        return [self._report(pipeline) for pipeline in self._pipelines.values()]

    async def _report_forever(self) -> None:
        """Keep the master's figures fresh; say nothing while nothing changes, so that idle costs nothing."""
        lacking = ""
        while True:
            try:
                await self._link.wait_up()
            except RequestRefused as error:
                if not self._announcer.is_ready:
                    raise  # a wrong join secret: whoever starts us should hear of it now
                log.error("the master refuses this disk", extra={"cause": error.message})
                await trio.sleep(REGISTER_S)  # reads go on meanwhile
                continue
            whole = DiskReport(
                volumes=self._reports(),
                disk_free=self._free_for_puts(),
                is_read_only=self._is_read_only,
                request_count=self._http.counters.requests,
                damages=self._damages(),
                clock_skew_ms=self._skew_ms,
            )
            report = self._reporting.due(whole, now=trio.current_time())
            if report is None and not self._announcer.is_ready:
                report = msgspec.structs.replace(whole, volumes=[], damages=[])  # only to hear of its answer
            if report is not None:
                sent_at, sent_ms = trio.current_time(), time.time_ns() // 1_000_000
                try:
                    seen = await self._link.request(report, timeout_s=REGISTER_S)
                except StoreError as error:
                    log.debug("report not delivered", extra={"cause": error.message})
                else:
                    self._reporting.delivered(report, whole, now=trio.current_time())
                    assert isinstance(seen, ReportSeen)
                    self._hear_stamp(seen.stamp)
                    self._compare_clocks(seen.now_ms, sent_at, sent_ms)
                    self._committed_stamp = max(self._committed_stamp, seen.committed_stamp)
                    if seen.is_supplied:
                        self._announcer.ready(url=self._url, disk=self._disk_name)
                    elif seen.lacking and seen.lacking != lacking:
                        lacking = seen.lacking
                        self._announcer.say("serving", url=self._url, disk=self._disk_name, lacking=lacking)
            await trio.sleep(REPORT_S if self._announcer.is_ready else SETTLING_S)

    async def _checkpoint_forever(self) -> None:
        checkpointed: dict[int, int] = {}
        while True:
            await trio.sleep(CHECKPOINT_S)
            if self._identity is not None:
                await trio.to_thread.run_sync(self._identity.heard, self._catalog_id, self._committed_stamp)
            for volume_id, pipeline in list(self._pipelines.items()):
                file_size = pipeline.volume.stats().file_size
                if checkpointed.get(volume_id) == file_size or pipeline.volume.sealed_cause is not None:
                    continue
                try:
                    await trio.to_thread.run_sync(pipeline.volume.checkpoint)
                    checkpointed[volume_id] = file_size
                except StoreError as error:
                    log.error("checkpoint failed", extra={"volume_id": volume_id, "cause": error.message})

    def _free_bytes(self) -> int:
        """Bytes free; none while the folder is not there: its actor goes on for those who read."""
        try:
            return self._disk.free_bytes()
        except OSError:
            return 0

    def _find_displaced(self) -> str | None:
        return self._watch.problem() or (self._identity.problem() if self._identity is not None else None)

    async def _watch_files_forever(self) -> None:
        """Seal what is not where the next start would look for it: what is put there now would be lost."""
        while True:
            await trio.sleep(WATCH_S)
            pipelines = [
                pipeline for pipeline in self._pipelines.values() if pipeline.volume.sealed_cause is None
            ]
            self._displaced = await trio.to_thread.run_sync(self._find_displaced)
            for pipeline in pipelines:
                volume = pipeline.volume
                problem = self._displaced or await trio.to_thread.run_sync(volume.displaced, self._disk.root)
                if problem is not None:
                    volume.seal(problem)

    # --- figures ----------------------------------------------------------------------------------

    def _render_metrics(self) -> bytes:
        return generate_latest(self._registry)

    def metrics(self) -> Iterator[Metric]:
        counters = self._http.counters
        for name, text, value in (
            ("puts", "Needles stored and confirmed", counters.puts),
            ("gets", "Needles or ranges sent", counters.gets),
            ("received_bytes", "Body bytes of confirmed puts", counters.bytes_in),
            ("sent_bytes", "Body bytes sent", counters.bytes_out),
            ("cold_reads", "Reads that had to wait for the disk", counters.cold_reads),
        ):
            yield CounterMetricFamily(f"warehouse_volume_{name}", text, value=value)
        failures = CounterMetricFamily(
            "warehouse_volume_failures", "Requests refused, by code", labels=["code"]
        )
        for code, count in counters.failures.items():
            failures.add_metric([code], count)
        yield failures
        syncs = CounterMetricFamily("warehouse_volume_syncs", "fdatasync calls", labels=["volume"])
        waits = CounterMetricFamily("warehouse_volume_sync_seconds", "Time in fdatasync", labels=["volume"])
        for volume_id, pipeline in self._pipelines.items():
            syncs.add_metric([str(volume_id)], pipeline.sync_count)
            waits.add_metric([str(volume_id)], pipeline.sync_s)
        yield from (syncs, waits)
        figures = {
            name: GaugeMetricFamily(f"warehouse_volume_{name}", text, labels=["volume"])
            for name, text in (
                ("capacity", "Bytes the file may grow to"),
                ("file_size", "Bytes appended"),
                ("live_count", "Live needles"),
                ("live_bytes", "Stored bytes of live needles"),
                ("dead_count", "Needles among them"),
                ("dead_bytes", "Bytes that compaction would give back"),
                ("kept_bytes", "Bytes of records that compaction carries over"),
                ("damaged_count", "Damaged needles seen"),
            )
        }
        for report in self._reports():
            for name, family in figures.items():
                family.add_metric([str(report.volume_id)], getattr(report, name))
        yield from figures.values()
        pauses = GaugeMetricFamily(
            "warehouse_volume_switch_pause_seconds",
            "For how long the last switch to a compacted generation kept writes waiting",
            labels=["volume"],
        )
        for volume_id, pause_ms in self._switching.pauses_ms.items():
            pauses.add_metric([str(volume_id)], pause_ms / 1000)
        yield pauses
        yield GaugeMetricFamily(
            "warehouse_volume_disk_free", "Bytes free on the disk", value=self._free_bytes()
        )
        yield GaugeMetricFamily(
            "warehouse_volume_cold_reads_waiting",
            "Small needles that requests wait for the disk to bring",
            value=self._cold_reads.waiting_count,
        )
        yield GaugeMetricFamily(
            "warehouse_volume_connections", "Open data connections", value=self._server.connection_count
        )


class _Figures(Collector):
    def __init__(self, actor: VolumeActor) -> None:
        self._actor = actor

    def collect(self) -> Iterator[Metric]:
        return self._actor.metrics()


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="warehouse volume",
        description="Serve one disk: store needles, answer reads, obey the master.",
    )
    add_disk_arguments(parser, disk_help="the directory that this actor owns")
    parser.add_argument(
        "--host",
        type=host_argument,
        default="127.0.0.1",
        help="address to listen on (default: %(default)s)",
    )
    parser.add_argument(
        "--port", type=int, default=7410, help="port to listen on, 0 for any (default: %(default)s)"
    )
    parser.add_argument(
        "--advertise",
        metavar="URL",
        type=base_url,
        help="URL that clients shall use, if not http://HOST:PORT",
    )
    parser.add_argument(
        "--adopt",
        action="store_true",
        help="accept a directory that was copied or moved from elsewhere; its original must be gone for good",
    )
    add_common_arguments(parser)
    return parser


async def _main(arguments: argparse.Namespace, settings: Settings, announcer: Announcer) -> None:
    if arguments.advertise is None:
        known_as(arguments.host, None, example="--advertise http://NAME:PORT")
    join = Join.load(arguments.join)
    try:
        arguments.disk.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise SetupError(f"cannot use {arguments.disk}: {error.strerror}") from error
    make_way(arguments.disk / BALLAST_NAME)
    with held_disk(arguments.disk) as is_read_only:
        identity = load_identity(
            arguments.disk, created_ms=time.time_ns() // 1_000_000, adopt=arguments.adopt
        )
        listeners = await open_listeners(arguments.host, arguments.port)
        port = listeners[0].socket.getsockname()[1]
        actor = VolumeActor(
            disk=OsDisk(arguments.disk),
            disk_id=identity.disk_id,
            disk_name=arguments.disk.resolve().name,
            join=join,
            settings=settings,
            url=arguments.advertise or endpoint_of(arguments.host, port, scheme="http"),
            announcer=announcer,
            is_read_only=is_read_only,
            identity=IdentityKeeper(arguments.disk, identity, is_read_only=is_read_only),
            is_adopted=arguments.adopt,
        )
        await actor.run(listeners)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    settings = set_up_actor(arguments, name="volume")
    return run_actor(arguments, settings, _main)


if __name__ == "__main__":
    raise SystemExit(main())
