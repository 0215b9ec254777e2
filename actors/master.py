"""Master: owns the catalog, decides placement, signs tokens.

    warehouse master [--data DIR] [--host H] [--port N] [--http-port N] [--init] [--json]

Every other actor and every client connects to its ROUTER socket.  Object bytes never pass through here:
the master only says where they go (leases, slots), makes them visible once their volume has them durably
(`NeedlesStored`), and says where they are (`LocateObjects`).

Reads are answered at once from the catalog's read connection; writes travel through one `CatalogWriter`,
which commits all that are waiting in one transaction.  An answer is sent after its commit.
"""

from __future__ import annotations

import argparse
import hmac
import itertools
import logging
import secrets
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal, cast

import msgspec
import trio
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from warehouse.actors.ballast import Ballast
from warehouse.actors.control import rpc
from warehouse.actors.control.allocation import Room, needed_for
from warehouse.actors.control.catalog_space import CatalogRoom
from warehouse.actors.control.context import Intervals, MasterContext
from warehouse.actors.control.events import EventLog
from warehouse.actors.control.failed_logins import FailedLogins
from warehouse.actors.control.first_start import (
    BALLAST_NAME,
    CATALOG_NAME,
    JOIN_NAME,
    initialize,
)
from warehouse.actors.control.fleet import CompactorSession, DiskState, Fleet, VolumeState
from warehouse.actors.control.job_scheduler import JobScheduler
from warehouse.actors.control.keyring import Keyring
from warehouse.actors.control.lineage import Lineage
from warehouse.actors.control.provisioning import Provisioner
from warehouse.actors.control.reservations import Reservations
from warehouse.actors.control.troubles import Troubles
from warehouse.actors.listening import known_as, open_listeners
from warehouse.actors.process import Announcer, add_common_arguments, run_actor, set_up_actor
from warehouse.auth.access_tokens import AccessClaims, AccessSigner
from warehouse.auth.data_tokens import DataClaims, DataTokenVerifier, sign_data_token
from warehouse.auth.keys import verify_secret
from warehouse.auth.rights import Permission, Rights
from warehouse.catalog.names import check_bucket_name, check_key, check_metadata
from warehouse.catalog.records import Page
from warehouse.catalog.sqlite.catalog import BucketRow, Catalog, ChunkRow, ObjectRow, Transaction, UploadRow
from warehouse.catalog.writer import CatalogWriter
from warehouse.conf.arguments import Parser
from warehouse.conf.arguments import host as host_argument
from warehouse.conf.formatting import format_size, format_span
from warehouse.conf.join import Join
from warehouse.conf.settings import Settings
from warehouse.errors import (
    BadCredentials,
    BadRequest,
    BodyTooLarge,
    DiskMismatch,
    LinkDown,
    NoSuchBucket,
    NoSuchObject,
    NoSuchRoute,
    NoSuchUpload,
    NoSuchVolume,
    NotAuthenticated,
    ObjectInconsistent,
    PermissionDenied,
    StaleIncarnation,
    StampRefused,
    StoreError,
    TokenScope,
    Unavailable,
    VolumeOffline,
)
from warehouse.storage.epoch import Epoch
from warehouse.storage.format.stamp import AHEAD_MS_MAX, StampClock, wall_ms_of
from warehouse.transport.descriptors import control_connections_within, raise_limit
from warehouse.transport.endpoints import endpoint_of
from warehouse.transport.http.conditions import check_etag_condition
from warehouse.transport.http.header_text import check_content_type, is_content_type, served_type
from warehouse.transport.http.rules import require_method
from warehouse.transport.http.server import Exchange, HttpServer
from warehouse.transport.messages import (
    DAMAGES_MAX,
    AbortUpload,
    Answer,
    Attach,
    Attached,
    BeginUpload,
    BucketInfo,
    Buckets,
    CancelJobs,
    Chunk,
    ChunksLocated,
    ClusterStatus,
    Commit,
    CompactorWelcome,
    CreateBucket,
    DecideOrphans,
    DeleteBucket,
    Deleted,
    DeleteObjects,
    DiskReport,
    Done,
    Events,
    FinishUpload,
    Jobs,
    Lease,
    Leased,
    LeaseNeedles,
    ListBuckets,
    ListEvents,
    Listing,
    ListJobs,
    ListObjects,
    LocateChunks,
    LocateObjects,
    LoggedIn,
    Login,
    NeedleRestamped,
    NeedlesCommitted,
    NeedlesStored,
    ObjectFound,
    ObjectInfo,
    ObjectsLocated,
    ObjectWritten,
    PauseJobs,
    Presign,
    Presigned,
    ReadGrant,
    Register,
    RegisterCompactor,
    ReportSeen,
    Request,
    RequestSlots,
    RestampNeedle,
    Settled,
    SettleNeedle,
    Slot,
    Slots,
    StartJobs,
    StatObject,
    Status,
    StoredNeedle,
    UploadBegun,
    Welcome,
)
from warehouse.transport.messages.paging import ANSWER_SIZE_MAX, first_that_fit, fitting
from warehouse.transport.zeromq import roles
from warehouse.transport.zeromq.hub import CONNECTIONS_MAX, NEWCOMERS_MAX, Hub, HubLimits, Peer
from warehouse.transport.zeromq.roles import Role
from warehouse.version import package_version

log = logging.getLogger("warehouse.actors.master")  # run as a module it would be "__main__"

BucketRight = Literal["r", "w", "rw"]

ACCESS_TOKEN_S = 900.0
READ_TOKEN_S = 600  # of a ReadGrant; given out again until half of it is over
OVERHEAD_RESERVED = 1024  # headers and metadata of a leased needle, for the promise of room
LEASE_COUNT_MAX = 1024
LEASE_BYTES_MAX = 256 * 1024 * 1024
LEASE_BYTES_MIN = 64 * 1024
LEASE_VOLUMES_MAX = 4
SMALL_PUT_MAX = 1024 * 1024 + 16 * 1024  # what one put on a lease takes at most
LEASE_SHARE = 64  # a lease is promised this part of all room at most, or what one needle needs
EXPIRE_EVERY_S = 5.0
DISKS_AWAITED_S = 60.0  # after the start, before uploads expire though some disk is not there
GONE_LEASE_S = 10.0  # puts of a client that has gone are still on their way; so is a client that comes back
LOCATE_MAX = 1000
LIST_MAX = 1000
DELETE_MAX = 1000
SLOTS_MAX = 64
PRESIGN_S_MAX = 7 * 24 * 3600.0  # as S3 has it
TRIES = 2  # times its body that a token for one needle may take up of the file, should its upload break off
PRESIGN_PROMISE_S = 3600.0
URL_SIZE_MAX = 1536  # many proxies, mails and logs take no more than 2 KiB
PARTS_MAX = 8  # chunks that a URL may name; more of them are asked for when it is used
CHUNKS_MAX = 8192  # chunks in one answer
CHUNKS_UNPAGED_MAX = 128 * 1024  # for whoever cannot ask for the rest: an object of 1 TiB
BUCKETS_MAX = 10_000  # in one answer
LESSER_SIZE_MAX = ANSWER_SIZE_MAX // 4  # bytes of each list that comes with what is paged
MASTER_AUDIENCE = "master"  # of tokens that are for nobody but this master; disks are named by UUIDs
SENDING_S = 24 * 3600.0  # for how long after its expiry the object of a URL may still be on its way
FINISH_TRIES = 8
DISK_TWICE_S = 60.0  # a second actor of a disk that goes on asking does so within this
CLOCK_SKEW_S = 5.0  # a disk's clock may differ from ours by this before anybody is told
RESTART_S = 5.0  # a disk that went away less than this ago may be restarting: readers wait for it


# What is refused while the catalog is older than a disk.
CHANGES = frozenset(
    (
        CreateBucket,
        DeleteBucket,
        DeleteObjects,
        LeaseNeedles,
        SettleNeedle,
        BeginUpload,
        RequestSlots,
        FinishUpload,
        AbortUpload,
        Presign,
        NeedlesStored,
    )
)

# What makes the catalog grow, now or when its promise is used: refused while the catalog's disk is full.
GROWING = (LeaseNeedles, BeginUpload, RequestSlots, CreateBucket, Presign)


@dataclass
class ClientSession:
    """What one control connection may do; ends with its access token."""

    key_id: str
    rights: Rights
    expires_at: float  # monotonic
    epoch: int


_ROLES: dict[type, Role] = {
    ClientSession: roles.CLIENT,
    DiskState: roles.VOLUME,
    CompactorSession: roles.COMPACTOR,
}


def _hub_limits() -> HubLimits:
    """The control port shares the descriptors with the port for metrics and with the catalog's files."""
    budget = control_connections_within(raise_limit())
    return HubLimits(
        connections=min(CONNECTIONS_MAX, budget), newcomers=min(NEWCOMERS_MAX, max(8, budget // 2))
    )


class Master:
    """The one decider: everything in here runs on one event loop."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        keyring: Keyring,
        settings: Settings,
        announcer: Announcer,
        join: Join,
        intervals: Intervals = Intervals(),  # noqa: B008 - frozen
    ) -> None:
        self._catalog = catalog
        self._events = EventLog()
        self._troubles = Troubles(self._events)
        ballast = Ballast(catalog.path.parent / BALLAST_NAME, settings.store.catalog_reserve)
        self._catalog_room = CatalogRoom(catalog, ballast, self._troubles)
        self._writer = CatalogWriter(catalog, make_room=self._catalog_room.make_room)
        self._keyring = keyring
        self._settings = settings
        self._announcer = announcer
        self._join = join
        self._incarnation = time.time_ns() // 1_000_000
        self._started_at = time.monotonic()
        self._clock = StampClock()
        self._access = AccessSigner(keyring.access_pem)
        self._reservations = Reservations()
        self._fleet = Fleet(
            self._reservations,
            disk_reserve=settings.store.disk_reserve,
            chunk_size=settings.store.chunk_size,
            volume_size=settings.store.volume_size,
        )
        self._lineage = Lineage(catalog, self._writer, self._fleet, self._troubles)
        parts = MasterContext(
            catalog=catalog,
            writer=self._writer,
            fleet=self._fleet,
            clock=self._clock,
            events=self._events,
            troubles=self._troubles,
            settings=settings,
            incarnation=self._incarnation,
            intervals=intervals,
        )
        self._provisioner = Provisioner(parts)
        self._scheduler = JobScheduler(parts, provisioner=self._provisioner)
        self._room = Room(self._fleet, Random())  # noqa: S311 - spreads load, guards nothing
        self._lease_ids = itertools.count(secrets.randbits(42) << 20)  # never those of an earlier start
        self._read_grants: dict[tuple[int, int], tuple[float, ReadGrant]] = {}
        self._count_differences = 0
        self._hub = Hub(
            keys=keyring.curve,
            incarnation=self._incarnation,
            answer_now=self._answer_now,
            answer=self._answer,
            on_gone=self._on_gone,
            role_of=self._role_of,
            limits=_hub_limits(),
        )
        self._nobody = roles.nobody(self._shows_join_secret)
        self._failed_logins = FailedLogins()
        self._now: dict[type[Any], Callable[[Peer, Any], Answer | None]] = {
            Attach: self._attach,
            ClusterStatus: self._cluster_status,
            ListBuckets: self._list_buckets,
            ListObjects: self._list_objects,
            LocateObjects: self._locate,
            LocateChunks: self._locate_chunks,
            StatObject: self._stat,
            LeaseNeedles: self._lease,
            Presign: self._presign,
            DiskReport: self._disk_report,
            RegisterCompactor: self._register_compactor,
            ListJobs: self._list_jobs,
        }
        self._later: dict[type[Any], Callable[[Peer, Any], Awaitable[Answer]]] = {
            Login: self._login,
            CreateBucket: self._create_bucket,
            DeleteBucket: self._delete_bucket,
            DeleteObjects: self._delete_objects,
            SettleNeedle: self._settle,
            LeaseNeedles: self._lease_later,
            Presign: self._presign_later,
            BeginUpload: self._begin_upload,
            RequestSlots: self._request_slots,
            FinishUpload: self._finish_upload,
            AbortUpload: self._abort_upload,
            NeedlesStored: self._needles_stored,
            Register: self._register,
            StartJobs: self._start_jobs,
            CancelJobs: self._cancel_jobs,
            PauseJobs: self._pause_jobs,
            DecideOrphans: self._decide_orphans,
            ListEvents: self._list_events,
        }

    # --- life -------------------------------------------------------------------------------------

    async def run(self, endpoint: str, http_listeners: list[trio.SocketListener]) -> None:
        self._load()
        self._lineage.load()
        registry = CollectorRegistry()
        registry.register(_Figures(self))

        async def handle(exchange: Exchange) -> None:
            await _answer_http(
                exchange,
                registry,
                is_healthy=self._catalog.failure is None and self._catalog.displaced is None,
            )

        async with trio.open_nursery() as nursery:
            await nursery.start(self._writer.run)
            await nursery.start(self._provisioner.run)
            await nursery.start(self._scheduler.run)
            await nursery.start(HttpServer(handle).serve, http_listeners)
            bound = await nursery.start(self._hub.run, endpoint)
            nursery.start_soon(self._catalog_room.run)
            nursery.start_soon(self._expire_forever)
            nursery.start_soon(self._check_counts)
            nursery.start_soon(self._failed_logins.run)
            log.info("master is up", extra={"endpoint": bound, "incarnation": f"{self._incarnation:x}"})
            self._announcer.ready(endpoint=bound, server_key=self._keyring.curve.public.decode())

    def _load(self) -> None:
        for row in self._catalog.disks():
            self._fleet.add_disk(
                DiskState(
                    row.id, row.name, since_ms=row.added_ms, token_keys=self._keyring.token_keys_of(row.id)
                )
            )
        for volume in self._catalog.volumes():
            self._fleet.add_volume(
                VolumeState(
                    volume_id=volume.id,
                    uuid=volume.uuid,
                    capacity=volume.capacity,
                    disk_id=volume.disk_ids[0],  # one copy for now; the catalog has room for more
                    is_created=volume.state != "creating",
                    is_open_in_catalog=volume.state != "creating",
                    next_needle_id=volume.needle_id_reserved + 1,
                    needle_ids_reserved=volume.needle_id_reserved,
                    created_ms=volume.created_ms,
                    verified_ms=volume.verified_ms,
                    verify_started_ms=volume.verify_started_ms,
                    verify_generation=volume.verify_generation,
                    verify_offset=volume.verify_offset,
                )
            )
        stamp_max = self._catalog.stamp_max()
        try:
            self._clock.found(stamp_max)
        except StampRefused:
            self._clock.observe(stamp_max)  # in order as long as there are stamps left
            self._troubles.tell(
                "clock_spent",
                "catalog",
                f"the catalog's clock stands at {stamp_max}, close to its end: stop the store, run `warehouse"
                " rebuild --replace`, which deals the stamps out anew, and start it",
            )
        ahead_s = wall_ms_of(stamp_max) / 1000 - time.time()
        if ahead_s > AHEAD_MS_MAX / 1000:
            log.warning("the store's clock is ahead of the wall clock", extra={"ahead_s": round(ahead_s)})

    def _stamp(self) -> int:
        return self._clock.tick(time.time_ns() // 1_000_000)

    def _admit_stamp(self, disk: DiskState, stamp: int) -> None:
        """Believe a stamp of a disk.

        Raises:
            StampRefused: no sound clock shows it.  The disk is set aside: nothing is written to it until it
                registers with stamps that can be.
        """
        try:
            self._clock.admit(stamp, time.time_ns() // 1_000_000)
        except StampRefused as error:
            self._set_aside_for_stamp(disk, error)
            raise

    def _set_aside_for_stamp(self, disk: DiskState, error: StampRefused) -> None:
        cause = (
            f"disk {disk.name} is set aside: {error.message}. Set its machine's clock; if that is right, stop"
            " the store and run `warehouse rebuild --replace`, which deals such stamps out anew"
        )
        self._fleet.set_aside(disk, disk.set_aside or cause)
        self._troubles.tell("stamp_refused", disk.disk_id, cause, disk=disk.name, disk_id=disk.disk_id)

    # --- requests ---------------------------------------------------------------------------------

    def _answer_now(self, peer: Peer, request: Request) -> Answer | None:
        if self._lineage.is_behind and type(request) in CHANGES and not _is_presigned_get(request):
            self._lineage.require_current()
        handler = self._now.get(type(request))
        if isinstance(request, GROWING) and (not isinstance(request, Presign) or request.method == "PUT"):
            self._catalog_room.require()
        try:
            return None if handler is None else handler(peer, request)
        except (NoSuchBucket, NoSuchObject, NoSuchUpload):
            self._lineage.require_current()  # else it may well be there
            raise

    async def _answer(self, peer: Peer, request: Request) -> Answer:
        handler = self._later.get(type(request))
        if handler is None:
            raise BadRequest(f"a master does not answer {type(request).__name__}")
        return await handler(peer, request)

    def _role_of(self, peer: Peer) -> Role:
        """What this connection may say; by what its session is, so that the two never differ."""
        return _ROLES.get(type(peer.session), self._nobody)

    def _shows_join_secret(self, frame: bytes | memoryview) -> bool:
        """Does a frame begin with a Register that shows our join secret?"""
        shown = roles.join_secret_of(frame)
        secret = self._keyring.join_secret
        return shown is not None and hmac.compare_digest(shown[: len(secret)].encode(), secret.encode())

    def _session(self, peer: Peer) -> ClientSession:
        session = peer.session
        if not isinstance(session, ClientSession):
            raise NotAuthenticated("present an access token first (Attach)")
        if session.expires_at <= time.monotonic():
            peer.session = None
            raise NotAuthenticated("the access token of this connection has expired: attach a fresh one")
        return session

    def _require(self, peer: Peer, permission: Permission, bucket: str | None = None) -> ClientSession:
        session = self._session(peer)
        session.rights.require(permission, bucket)
        return session

    def _bucket(self, peer: Peer, permission: Permission, name: str) -> BucketRow:
        self._require(peer, permission, name)
        return self._catalog.bucket(name)

    def _find(self, peer: Peer, bucket: str, key: str) -> tuple[BucketRow, ObjectRow | None]:
        self._require(peer, Permission.READ, bucket)
        return self._catalog.bucket_and_object(bucket, key)

    def _disk(self, peer: Peer) -> DiskState:
        disk = self._fleet.disk_of(peer)
        if disk is None:
            raise NotAuthenticated("register this disk first")
        return disk

    # --- who is speaking --------------------------------------------------------------------------

    async def _login(self, peer: Peer, request: Login) -> LoggedIn:
        row = self._catalog.api_key(request.key_id)
        is_right = verify_secret(request.secret, row.hashed if row is not None else None)
        if row is None or not is_right or not row.is_enabled:
            self._failed_logins.note(peer.address)
            await trio.sleep(0.5)  # guessing is slow, and tells nothing about which half was wrong
            raise BadCredentials("this API key is unknown, disabled, or its secret is wrong")
        claims = AccessClaims(
            key_id=row.id,
            permissions=int(row.permissions),
            buckets=cast("dict[str, BucketRight] | None", row.buckets),  # checked when they were granted
            epoch=row.epoch,
            expires_at_s=int(time.time() + ACCESS_TOKEN_S),
        )
        return LoggedIn(token=self._access.sign(claims), expires_in_s=ACCESS_TOKEN_S)

    def _attach(self, peer: Peer, request: Attach) -> Attached:
        now_s = time.time()
        claims = self._access.verify(request.token, now_s=now_s)
        row = self._catalog.api_key(claims.key_id)
        if row is None or not row.is_enabled or row.epoch != claims.epoch:
            raise NotAuthenticated(
                "the API key behind this token was changed, disabled or deleted: log in again"
            )
        if isinstance(peer.session, DiskState | CompactorSession):
            raise PermissionDenied("the connection of one of our actors cannot act as a client")
        expires_in_s = claims.expires_at_s - now_s
        peer.session = ClientSession(
            key_id=claims.key_id,
            rights=claims.rights,
            expires_at=time.monotonic() + expires_in_s,
            epoch=claims.epoch,
        )
        return Attached(
            incarnation=self._incarnation,
            chunk_size=self._settings.store.chunk_size,
            expires_in_s=expires_in_s,
        )

    # --- buckets ----------------------------------------------------------------------------------

    async def _create_bucket(self, peer: Peer, request: CreateBucket) -> Done:
        check_bucket_name(request.bucket)
        self._require(peer, Permission.MANAGE_BUCKETS, request.bucket)
        now_ms = time.time_ns() // 1_000_000
        await self._writer.write(lambda t: t.create_bucket(request.bucket, now_ms), is_growth=True)
        self._events.record("bucket_created", bucket=request.bucket)
        self._provisioner.note_buckets()
        return Done()

    async def _delete_bucket(self, peer: Peer, request: DeleteBucket) -> Done:
        self._require(peer, Permission.MANAGE_BUCKETS, request.bucket)
        stamp = self._stamp()
        await self._writer.write(lambda t: t.delete_bucket(request.bucket, force=request.force, stamp=stamp))
        self._events.record("bucket_deleted", bucket=request.bucket)
        self._provisioner.note_buckets()
        return Done()

    def _list_buckets(self, peer: Peer, request: ListBuckets) -> Buckets:
        session = self._session(peer)
        limit = min(request.limit, BUCKETS_MAX) if request.limit > 0 else None
        rows = self._catalog.buckets(after=request.after, limit=limit)
        return Buckets(
            buckets=[
                BucketInfo(
                    name=row.name,
                    created_ms=row.created_ms,
                    object_count=row.object_count,
                    byte_count=row.byte_count,
                )
                for row in rows
                if session.rights.sees(row.name)
            ],
            next_after=rows[-1].name if len(rows) == limit else "",
        )

    # --- reading ----------------------------------------------------------------------------------

    def _stat(self, peer: Peer, request: StatObject) -> ObjectFound:
        check_key(request.key)
        _, row = self._find(peer, request.bucket, request.key)
        if row is None:
            raise NoSuchObject(f"bucket {request.bucket!r} has no object {request.key!r}")
        return ObjectFound(object=_object_info(row))

    def _locate(self, peer: Peer, request: LocateObjects) -> ObjectsLocated:
        if len(request.keys) > LOCATE_MAX:
            raise BadRequest(f"at most {LOCATE_MAX} keys can be located at once, {len(request.keys)} came")
        if request.first_chunk and len(request.keys) != 1:
            raise BadRequest("a first chunk is named for one key alone")
        self._require(peer, Permission.READ, request.bucket)
        is_paged = request.chunk_limit > 0
        bucket, found = self._catalog.locate(
            request.bucket,
            request.keys,
            first_chunk=request.first_chunk,
            chunk_limit=min(request.chunk_limit, CHUNKS_MAX) if is_paged else CHUNKS_UNPAGED_MAX,
        )
        objects = [None if one is None else _object_info(one[0], _chunks_of(*one)) for one in found]
        if any(info is not None and info.metadata for info in objects):  # nothing else makes a page long
            objects = first_that_fit(objects)
        last = objects[-1] if objects else None
        is_cut = last is not None and len(last.chunks) < last.chunk_count
        if not is_paged and (len(objects) < len(request.keys) or is_cut):
            raise BadRequest(
                f"the places of these {len(request.keys)} objects do not fit into one message: ask for fewer"
                " keys, or as later releases of this library do, for some chunks at once"
            )
        volume_ids = {chunk.volume_id for info in objects if info is not None for chunk in info.chunks}
        grants, offline = [], {}
        for volume_id in volume_ids:
            grant = self._read_grant(bucket, volume_id)
            if grant is not None:
                grants.append(grant)
            else:
                offline[volume_id] = self._disk_name(volume_id)
        back_soon = self._fleet.back_soon(offline, grace_s=RESTART_S) if offline else []
        return ObjectsLocated(
            objects=objects,
            grants=grants,
            offline=offline,
            back_soon=back_soon,
            why_unknown=self._lineage.why_behind if None in objects else "",
        )

    def _disk_name(self, volume_id: int) -> str:
        volume = self._fleet.volumes.get(volume_id)
        return self._fleet.disks[volume.disk_id].name if volume else f"disk of volume {volume_id}"

    def _read_grant(self, bucket: BucketRow, volume_id: int) -> ReadGrant | None:
        """The right to read this bucket's needles of one volume; None while its disk is offline."""
        volume = self._fleet.volumes.get(volume_id)
        disk = self._fleet.disks[volume.disk_id] if volume else None
        if volume is None or disk is None or not disk.is_online or volume.report is None:
            return None
        now = time.monotonic()
        known = self._read_grants.get((bucket.id, volume_id))
        if known is not None and known[0] > now + READ_TOKEN_S / 2 and known[1].url == disk.url:
            return msgspec.structs.replace(known[1], expires_in_s=known[0] - now)
        claims = DataClaims(
            operation="get",
            audience=disk.disk_id,
            volume_id=volume_id,
            expires_at_s=int(time.time()) + READ_TOKEN_S,
            bucket_id=bucket.id,
            bucket=bucket.name,
        )
        grant = ReadGrant(
            volume_id=volume_id, url=disk.url, token=self._sign(disk, claims), expires_in_s=READ_TOKEN_S
        )
        if len(self._read_grants) > 10_000:
            self._read_grants.clear()
        self._read_grants[bucket.id, volume_id] = (now + READ_TOKEN_S, grant)
        return grant

    def _sign(self, disk: DiskState, claims: DataClaims) -> str:
        key_id = self._keyring.signing_key_id
        return sign_data_token(claims, key_id=key_id, key=disk.token_keys[key_id])

    def _list_objects(self, peer: Peer, request: ListObjects) -> Listing:
        self._require(peer, Permission.LIST, request.bucket)
        if request.with_locations:
            self._require(peer, Permission.READ, request.bucket)
        if request.delimiter == "":
            raise BadRequest("a delimiter has at least one character")
        # A bucket that is deleted by force vanishes at once, and its objects piece by piece behind that.
        with self._catalog.one_moment():
            bucket = self._catalog.bucket(request.bucket)
            page = self._catalog.list_objects(
                bucket.id,
                prefix=request.prefix,
                delimiter=request.delimiter,
                after=request.after,
                limit=max(1, min(request.limit, LIST_MAX)),
            )
        page = _that_fits(page)
        if not request.with_locations:
            objects, grants = [_object_info(row) for row in page.objects], []
        else:
            # The chunks of larger ones could fill any message.
            in_one = [row for row in page.objects if row.chunk_count == 1]
            objects = [
                _object_info(row, _chunks_of(row, []) if row.chunk_count == 1 else None)
                for row in page.objects
            ]
            found = [self._read_grant(bucket, volume_id) for volume_id in {row.volume_id for row in in_one}]
            grants = [grant for grant in found if grant is not None]
        return Listing(objects=objects, prefixes=page.prefixes, next_after=page.next_after, grants=grants)

    # --- writing: leases, uploads, commits --------------------------------------------------------

    def _lease(self, peer: Peer, request: LeaseNeedles) -> Leased | None:
        """Leases on as many volumes as there are, up to a few; None: room for them is on its way."""
        bucket = self._bucket(peer, Permission.WRITE, request.bucket)
        if request.needle_count < 1 or request.byte_count < 0:
            raise BadRequest("a lease is for at least one needle and no negative number of bytes")
        needle_count, byte_count = _bounded(request)
        least = _least_lease(needle_count, byte_count)
        # Nobody is promised more than a part of what is there, or a few clients would fill a small store
        # with promises.
        byte_count = max(least, min(byte_count, self._fleet.takes_at_most // LEASE_SHARE))
        while True:
            wanted = byte_count + needle_count * OVERHEAD_RESERVED
            volumes = self._room.find_now(wanted, count=LEASE_VOLUMES_MAX, exclude=request.exclude_volumes)
            if volumes:
                break
            if byte_count <= least and needle_count == 1:
                self._room.require_coming(wanted)
                return None
            # Nearly full: a smaller lease may still find a place.
            byte_count, needle_count = max(byte_count // 2, least), max(needle_count // 2, 1)
        share = max(1, needle_count // len(volumes))
        return Leased(leases=[self._lease_on(volume, peer, bucket, share, byte_count) for volume in volumes])

    async def _lease_later(self, peer: Peer, request: LeaseNeedles) -> Leased:
        least = _least_lease(*_bounded(request)) + OVERHEAD_RESERVED
        return await self._room.until(least, lambda: self._lease(peer, request))

    def _lease_on(
        self, volume: VolumeState, peer: Peer, bucket: BucketRow, needle_count: int, byte_count: int
    ) -> Lease:
        needle_count = min(needle_count, volume.ids_left)
        lease_s = self._settings.store.lease_s
        lease_id = next(self._lease_ids)
        first = self._fleet.take_ids(volume, needle_count)
        disk = self._fleet.disks[volume.disk_id]
        # The promise outlives the token a little: a put that began in time is still on its way.
        expires_at = time.monotonic() + lease_s + 30
        self._reservations.promise(
            lease_id,
            volume.volume_id,
            byte_count + needle_count * OVERHEAD_RESERVED,
            expires_at,
            owner=peer,
        )
        claims = DataClaims(
            operation="put",
            audience=disk.disk_id,
            volume_id=volume.volume_id,
            expires_at_s=int(time.time() + lease_s),
            bucket_id=bucket.id,
            bucket=bucket.name,
            first_needle_id=first,
            last_needle_id=first + needle_count - 1,
            body_size_max=min(byte_count, self._settings.store.chunk_size),
            room=byte_count,
            lease_id=lease_id,
        )
        return Lease(
            volume_id=volume.volume_id,
            first_needle_id=first,
            last_needle_id=first + needle_count - 1,
            byte_count=byte_count,
            url=disk.url,
            token=self._sign(disk, claims),
            expires_in_s=lease_s,
        )

    async def _settle(self, peer: Peer, request: SettleNeedle) -> Settled:
        bucket = self._bucket(peer, Permission.WRITE, request.bucket)
        issued_ms = self._require_own_needle(bucket, request)
        stamp = self._stamp()
        is_committed = await self._writer.write(
            lambda t: t.resolve_needle(
                bucket.id, request.key, request.volume_id, request.needle_id, stamp, issued_ms
            )
        )
        return Settled(is_committed=is_committed)

    def _require_own_needle(self, bucket: BucketRow, request: SettleNeedle) -> int:
        """Only the token that a put was made with settles it, also when it has expired meanwhile.

        Returns:
            When the token was made, in milliseconds since 1970; 0: nobody knows.
        """
        volume = self._fleet.volumes.get(request.volume_id)
        if volume is None:
            raise NoSuchVolume(f"there is no volume {request.volume_id}")
        disk = self._fleet.disks[volume.disk_id]
        claims = DataTokenVerifier(disk.disk_id, disk.token_keys).verify(request.token.encode(), now_s=0.0)
        is_for_it = (
            claims.operation == "put"
            and claims.bucket_id == bucket.id
            and claims.volume_id == request.volume_id
        )
        if not is_for_it or not claims.first_needle_id <= request.needle_id <= claims.last_needle_id:
            raise TokenScope(f"this token is not the one of needle {request.needle_id}")
        lease_ms = int(self._settings.store.lease_s * 1000)
        return 0 if claims.lease_id is None else max(claims.expires_at_s * 1000 - lease_ms, 0)

    async def _begin_upload(self, peer: Peer, request: BeginUpload) -> UploadBegun:
        check_key(request.key)
        check_metadata(request.metadata)
        check_content_type(request.content_type)
        conditions = check_etag_condition(request.if_match), check_etag_condition(request.if_none_match)
        bucket = self._bucket(peer, Permission.WRITE, request.bucket)
        if request.byte_count is not None:
            self._room.require_in_all(request.byte_count)
        expires_s = self._settings.store.upload_expires_s
        now_ms = time.time_ns() // 1_000_000
        upload_id = await self._writer.write(
            lambda t: t.begin_upload(
                bucket.id,
                request.key,
                request.content_type,
                request.metadata,
                *conditions,
                now_ms,
                now_ms + int(expires_s * 1000),
            ),
            is_growth=True,
        )
        return UploadBegun(
            upload_id=upload_id, chunk_size=self._settings.store.chunk_size, expires_in_s=expires_s
        )

    def _upload(self, peer: Peer, upload_id: int) -> tuple[UploadRow, BucketRow]:
        self._session(peer)  # a stranger does not even learn which uploads there are
        if not 0 < upload_id < 2**63:
            raise NoSuchUpload(f"there is no upload {upload_id}")
        upload = self._catalog.upload(upload_id)
        bucket = self._catalog.bucket_by_id(upload.bucket_id)
        self._require(peer, Permission.WRITE, bucket.name)
        return upload, bucket

    async def _request_slots(self, peer: Peer, request: RequestSlots) -> Slots:
        upload, bucket = self._upload(peer, request.upload_id)
        store = self._settings.store
        if not 1 <= len(request.slots) <= SLOTS_MAX:
            raise BadRequest(f"1 to {SLOTS_MAX} slots can be asked for at once, not {len(request.slots)}")
        slots: list[Slot] = []
        rows: list[tuple[int, int, int, int]] = []
        names: list[tuple[str, int, int, int]] = []
        try:
            for wanted in request.slots:
                if not 0 <= wanted.size <= store.chunk_size:
                    raise BodyTooLarge(f"a chunk has at most {store.chunk_size} bytes, not {wanted.size}")
                if not 0 <= wanted.chunk_index < 1_000_000:
                    raise BadRequest(f"a chunk index goes from 0 to 999999, not {wanted.chunk_index}")
                needed = needed_for(wanted.size)
                volume = await self._room.find(needed, exclude=request.exclude_volumes)
                disk = self._fleet.disks[volume.disk_id]
                needle_id = self._fleet.take_ids(volume, 1)
                name = ("slot", request.upload_id, volume.volume_id, needle_id)
                expires_at = time.monotonic() + store.upload_expires_s + 30
                self._reservations.promise(
                    name, volume.volume_id, needed, expires_at, group=request.upload_id
                )
                names.append(name)
                rows.append((wanted.chunk_index, volume.volume_id, needle_id, wanted.size))
                claims = DataClaims(
                    operation="put",
                    audience=disk.disk_id,
                    volume_id=volume.volume_id,
                    expires_at_s=int(time.time() + store.upload_expires_s),
                    bucket_id=bucket.id,
                    bucket=bucket.name,
                    first_needle_id=needle_id,
                    last_needle_id=needle_id,
                    key=upload.key,
                    body_size=wanted.size,
                    room=TRIES * wanted.size,
                    upload_id=request.upload_id,
                    chunk_index=wanted.chunk_index,
                    chunk_count=wanted.chunk_count,
                    object_size=wanted.object_size,
                    content_type=upload.content_type,
                    metadata=upload.metadata if wanted.chunk_index == 0 else {},
                )
                slots.append(
                    Slot(
                        chunk_index=wanted.chunk_index,
                        volume_id=volume.volume_id,
                        needle_id=needle_id,
                        url=disk.url,
                        token=self._sign(disk, claims),
                        expires_in_s=store.upload_expires_s,
                    )
                )
            stamp = self._stamp()
            expires_ms = time.time_ns() // 1_000_000 + int(store.upload_expires_s * 1000)

            def set_slots(t: Transaction) -> list[tuple[int, int]]:
                replaced = t.set_slots(request.upload_id, rows, stamp=stamp)
                t.touch_upload(request.upload_id, expires_ms)
                return replaced

            for volume_id, needle_id in await self._writer.write(set_slots, is_growth=True):
                self._reservations.release(("slot", request.upload_id, volume_id, needle_id))
        except BaseException:  # also when the time for this is over: nobody has the slots then
            for name in names:
                self._reservations.release(name)
            raise
        return Slots(slots=slots)

    async def _needles_stored(self, peer: Peer, request: NeedlesStored) -> NeedlesCommitted:
        """Make a batch of durable needles visible: one transaction, an answer for each."""
        disk = self._disk(peer)
        for needle in request.needles:
            if needle.volume_id not in disk.volumes:
                raise BadRequest(f"volume {needle.volume_id} does not belong to disk {disk.name}")

        refused = self._refused_stamps(disk, request.needles)
        stamp = self._stamp() if refused else 0

        def commit(t: Transaction) -> list[Commit]:
            commits = []
            for place, needle in enumerate(request.needles):
                if place in refused:
                    # It can never become visible, so that whoever put it may put it elsewhere.
                    t.void_orphans(needle.volume_id, [needle.needle_id], stamp)
                    commits.append(Commit(None, None, refused[place].code, refused[place].message))
                    continue
                result = t.commit_needle(_with_servable_type(needle))
                error = result.error
                commits.append(
                    Commit(result.etag, result.restamp_above)
                    if error is None
                    else Commit(None, None, error.code, error.message)
                )
            return commits

        commits = await self._writer.write(commit, is_growth=True)
        self._note_written(
            disk,
            [
                needle
                for needle, done in zip(request.needles, commits, strict=True)
                if done.restamp_above is None
            ],
        )
        return NeedlesCommitted(commits=commits, stamp=self._clock.last)

    def _refused_stamps(self, disk: DiskState, needles: Sequence[StoredNeedle]) -> dict[int, StampRefused]:
        """Believe the stamps of these needles; those that cannot be believed come back by their place."""
        latest = max((needle.stamp for needle in needles), default=0)
        try:
            self._clock.admit(latest, time.time_ns() // 1_000_000)
            return {}
        except StampRefused:
            pass  # one of them cannot be: which?
        refused = {}
        for place, needle in enumerate(needles):
            try:
                self._admit_stamp(disk, needle.stamp)
            except StampRefused as error:
                refused[place] = error
        return refused

    def _note_written(self, disk: DiskState, needles: Sequence[StoredNeedle]) -> None:
        """These needles are in their volumes: what was promised for them is used."""
        used: dict[int, int] = {}  # lease -> bytes: most needles of a message are of a few leases
        written: dict[int, list[tuple[int, int]]] = {}
        for needle in needles:
            written.setdefault(needle.volume_id, []).append((needle.stored_size, needle.stamp))
            if needle.upload_id is not None:
                self._reservations.release(("slot", needle.upload_id, needle.volume_id, needle.needle_id))
            elif needle.lease_id is not None:
                used[needle.lease_id] = used.get(needle.lease_id, 0) + needle.stored_size
            else:
                self._reservations.release(("presigned", needle.volume_id, needle.needle_id))
        for volume_id, sizes in written.items():
            self._fleet.wrote_all(disk.volumes[volume_id], sizes)
        for lease_id, size in used.items():
            self._reservations.use(lease_id, size)

    async def _finish_upload(self, peer: Peer, request: FinishUpload) -> ObjectWritten:
        self._upload(peer, request.upload_id)
        for _ in range(FINISH_TRIES):
            result = await self._writer.write(
                lambda t: t.finish_upload(request.upload_id, request.chunk_count, request.object_size),
                is_growth=True,
            )
            if result.object is not None:
                self._release_slots({request.upload_id})
                row = result.object
                return ObjectWritten(etag=row.etag, size=row.size, created_ms=row.created_ms)
            assert result.restamp is not None
            await self._restamp(request.upload_id, *result.restamp)
        raise VolumeOffline(f"upload {request.upload_id} was overtaken {FINISH_TRIES} times: try again")

    async def _restamp(
        self, upload_id: int, chunk_index: int, volume_id: int, needle_id: int, restamp_above: int
    ) -> None:
        """The version to be replaced carries a greater stamp: have one of our chunks stamped anew first."""
        volume = self._fleet.volumes[volume_id]
        disk = self._fleet.disks[volume.disk_id]
        if disk.peer is None:
            raise VolumeOffline(f"disk {disk.name} is offline; the upload can be finished when it is back")
        command = RestampNeedle(
            incarnation=self._incarnation,
            volume_id=volume_id,
            needle_id=needle_id,
            restamp_above=restamp_above,
        )
        answer = await rpc.call(disk.peer, command, NeedleRestamped)
        self._admit_stamp(disk, answer.stamp)
        await self._writer.write(lambda t: t.set_stamp_of_chunk(upload_id, chunk_index, answer.stamp))

    async def _abort_upload(self, peer: Peer, request: AbortUpload) -> Done:
        self._upload(peer, request.upload_id)
        stamp = self._stamp()
        await self._writer.write(lambda t: t.abort_upload(request.upload_id, stamp))
        self._release_slots({request.upload_id})
        return Done()

    def _release_slots(self, upload_ids: set[int]) -> None:
        for upload_id in upload_ids:
            self._reservations.release_group(upload_id)

    async def _delete_objects(self, peer: Peer, request: DeleteObjects) -> Deleted:
        if len(request.keys) > DELETE_MAX:
            raise BadRequest(f"at most {DELETE_MAX} keys can be deleted at once, {len(request.keys)} came")
        for key in request.keys:
            check_key(key)
        if_match = check_etag_condition(request.if_match)
        bucket = self._bucket(peer, Permission.DELETE, request.bucket)
        stamp = self._stamp()
        existed = await self._writer.write(
            lambda t: t.delete_objects(bucket.id, request.keys, if_match=if_match, stamp=stamp)
        )
        return Deleted(existed=existed)

    def _presign(self, peer: Peer, request: Presign) -> Presigned | None:
        """None: room for a PUT is on its way."""
        if not 0 < request.expires_in_s <= PRESIGN_S_MAX:
            raise BadRequest(
                f"a URL works for more than 0 s and at most {format_span(PRESIGN_S_MAX)},"
                f" not for {request.expires_in_s:g} s"
            )
        check_key(request.key)
        check_content_type(request.content_type)
        if request.method == "GET":
            return self._presign_get(peer, request)
        if request.method == "PUT":
            return self._presign_put(peer, request)
        raise BadRequest(f"GET and PUT can be presigned, not {request.method!r}")

    def _presign_get(self, peer: Peer, request: Presign) -> Presigned:
        bucket, row = self._find(peer, request.bucket, request.key)
        if row is None:
            raise NoSuchObject(f"bucket {request.bucket!r} has no object {request.key!r}")
        expires_s = int(time.time() + request.expires_in_s)
        url = None
        if row.chunk_count == 1:
            content_type = None if row.content_type is None else served_type(row.content_type)
            url = self._url_of(bucket, _first_chunk(row), expires_s, content_type=content_type)
        elif row.chunk_count <= PARTS_MAX:
            # It then needs no master to be read.
            url = self._url_of_parts(bucket, request.key, expires_s)
        if url is None or (len(url) > URL_SIZE_MAX and row.chunk_count > 1):
            url = self._url_of_many(bucket, row, expires_s)
        return Presigned(url=url, expires_in_s=request.expires_in_s)

    def _url_of_parts(self, bucket: BucketRow, key: str, expires_s: int) -> str:
        """A URL whose token names all chunks."""
        _, (found,) = self._catalog.locate(bucket.name, [key], chunk_limit=PARTS_MAX)
        if found is None:
            raise NoSuchObject(f"bucket {bucket.name!r} has no object {key!r}")
        row, chunks = found[0], _chunks_of(*found)
        if len(chunks) != row.chunk_count or sum(chunk.size for chunk in chunks) != row.size:
            raise ObjectInconsistent(
                f"the catalog has {row.size} bytes in {row.chunk_count} chunks for {key!r}, and names"
                f" {len(chunks)} chunks of {sum(chunk.size for chunk in chunks)} bytes"
            )
        first = chunks[0]
        first_disk = self._fleet.volumes[first.volume_id].disk_id
        parts = []
        for chunk in chunks:
            # Only chunks of other disks need a right of their own: the first disk reads its own.
            is_near = self._fleet.volumes[chunk.volume_id].disk_id == first_disk
            where, right = ("", "") if is_near else self._right_to(bucket, chunk, expires_s)
            parts.append((chunk.volume_id, chunk.needle_id, chunk.size, where, right))
        return self._url_of(
            bucket,
            first,
            expires_s,
            content_type=row.content_type,
            key=row.key,
            parts=parts,
            etag=row.etag,
            created_ms=row.created_ms,
        )

    def _url_of_many(self, bucket: BucketRow, row: ObjectRow, expires_s: int) -> str:
        """A URL of any number of chunks: the first one's actor asks for their list (`LocateChunks`)."""
        first = _first_chunk(row)
        question = DataClaims(
            operation="get",
            audience=MASTER_AUDIENCE,
            volume_id=first.volume_id,
            first_needle_id=first.needle_id,
            last_needle_id=first.needle_id,
            expires_at_s=expires_s,
            bucket_id=bucket.id,
            bucket=bucket.name,
            etag=row.etag,
        )
        key_id = self._keyring.signing_key_id
        via = sign_data_token(
            question, key_id=key_id, key=self._keyring.token_keys_of(MASTER_AUDIENCE)[key_id]
        )
        return self._url_of(
            bucket,
            first,
            expires_s,
            upload_id=row.upload_id,
            chunk_count=row.chunk_count,
            object_size=row.size,
            etag=row.etag,
            created_ms=row.created_ms,
            chunk_list_token=via,
        )

    def _url_of(self, bucket: BucketRow, first: Chunk, expires_s: int, **claims: Any) -> str:
        url, token = self._right_to(bucket, first, expires_s, **claims)
        return f"{url}/v1/needles/{first.volume_id}/{first.needle_id}?token={token}"

    def _right_to(self, bucket: BucketRow, chunk: Chunk, expires_s: int, **claims: Any) -> tuple[str, str]:
        """URL of the disk of a chunk, and a token to read it."""
        volume = self._fleet.volumes[chunk.volume_id]
        disk = self._fleet.disks[volume.disk_id]
        if not disk.is_online:
            raise VolumeOffline(f"disk {disk.name}, which holds part of this object, is offline")
        token = self._sign(
            disk,
            DataClaims(
                operation="get",
                audience=disk.disk_id,
                volume_id=chunk.volume_id,
                expires_at_s=expires_s,
                bucket_id=bucket.id,
                bucket=bucket.name,
                first_needle_id=chunk.needle_id,
                last_needle_id=chunk.needle_id,
                **claims,
            ),
        )
        return disk.url, token

    def _locate_chunks(self, peer: Peer, request: LocateChunks) -> ChunksLocated:
        """For a volume actor that was given a URL of many chunks."""
        self._disk(peer)
        if request.first < 0 or not 1 <= request.limit <= CHUNKS_MAX:
            raise BadRequest(f"1 to {CHUNKS_MAX} chunks can be located at once, not {request.limit}")
        verifier = DataTokenVerifier(MASTER_AUDIENCE, self._keyring.token_keys_of(MASTER_AUDIENCE))
        # The actor has held the URL's expiry against the clock; what it is sending it may send to the end.
        claims = verifier.verify(request.token.encode(), now_s=time.time() - SENDING_S)
        chunks = self._catalog.chunks_of_version(
            claims.volume_id,
            claims.first_needle_id,
            claims.etag or "",
            first=request.first,
            limit=request.limit,
        )
        if chunks is None:
            raise NoSuchObject("the object was replaced or deleted after this URL was made")
        bucket = self._catalog.bucket_by_id(claims.bucket_id)
        grants, offline = [], {}
        for volume_id in {chunk.volume_id for chunk in chunks}:
            grant = self._read_grant(bucket, volume_id)
            if grant is not None:
                grants.append(grant)
            else:
                offline[volume_id] = self._disk_name(volume_id)
        return ChunksLocated(
            chunks=[Chunk(one.volume_id, one.needle_id, one.size, one.crc) for one in chunks],
            grants=grants,
            offline=offline,
        )

    async def _presign_later(self, peer: Peer, request: Presign) -> Presigned:
        size_max = self._settings.store.chunk_size if request.size_max is None else request.size_max
        return await self._room.until(needed_for(size_max), lambda: self._presign(peer, request))

    def _presign_put(self, peer: Peer, request: Presign) -> Presigned | None:
        bucket = self._bucket(peer, Permission.WRITE, request.bucket)
        store = self._settings.store
        size_max = store.chunk_size if request.size_max is None else request.size_max
        if not 0 <= size_max <= store.chunk_size:
            raise BodyTooLarge(
                f"a presigned PUT carries at most one chunk, {format_size(store.chunk_size)}, not"
                f" {size_max:,} bytes"
            )
        needed = needed_for(size_max)
        volumes = self._room.find_now(needed)
        if not volumes:
            self._room.require_coming(needed)
            return None
        volume, disk = volumes[0], self._fleet.disks[volumes[0].disk_id]
        needle_id = self._fleet.take_ids(volume, 1)
        # The URL may live for days, its promise of room does not: it would block others for nothing.
        promise_s = min(request.expires_in_s, PRESIGN_PROMISE_S) + 30
        name = ("presigned", volume.volume_id, needle_id)
        self._reservations.promise(name, volume.volume_id, needed, time.monotonic() + promise_s)
        claims = DataClaims(
            operation="put",
            audience=disk.disk_id,
            volume_id=volume.volume_id,
            expires_at_s=int(time.time() + request.expires_in_s),
            bucket_id=bucket.id,
            bucket=bucket.name,
            first_needle_id=needle_id,
            last_needle_id=needle_id,
            key=request.key,
            body_size_max=size_max,
            room=TRIES * size_max,
            content_type=request.content_type,
        )
        return Presigned(
            url=f"{disk.url}/v1/needles/{volume.volume_id}/{needle_id}?token={self._sign(disk, claims)}",
            expires_in_s=request.expires_in_s,
        )

    # --- disks ------------------------------------------------------------------------------------

    def _require_join_secret(self, secret: str) -> None:
        if not hmac.compare_digest(secret.encode(), self._keyring.join_secret.encode()):
            raise BadCredentials("this is not the join secret of this cluster")

    async def _register(self, peer: Peer, request: Register) -> Welcome:
        self._require_join_secret(request.join_secret)
        if request.disk_id == MASTER_AUDIENCE:
            # It would get the keys to what the master signs for itself.
            raise BadRequest("a disk is named by a UUID")
        self._lineage.require_not_behind(request)
        self._require_only_one(peer, request)
        was_behind = self._lineage.is_behind
        epoch = await self._lineage.take(request)
        if was_behind and not self._lineage.is_behind:
            self._register_anew(but=peer)
        if peer.is_gone:
            raise LinkDown("the disk's connection ended while it was registered")
        self._require_only_one(peer, request)
        if request.disk_id not in self._fleet.disks:
            log.info("new disk", extra={"disk": request.disk_name, "disk_id": request.disk_id})
        disk = self._fleet.add_disk(
            DiskState(
                request.disk_id, request.disk_name, token_keys=self._keyring.token_keys_of(request.disk_id)
            )
        )
        return self._welcome(peer, request, disk, epoch)

    def _require_only_one(self, peer: Peer, request: Register) -> None:
        """Refuse whoever says to be a disk that another one serves, and is not known to have gone."""
        disk = self._fleet.disks.get(request.disk_id)
        if disk is None or disk.peer is None or disk.peer is peer or disk.peer.is_gone:
            return
        if request.incarnation == disk.incarnation:
            raise DiskMismatch(f"disk {disk.name} is connected twice: was its directory copied?")
        if request.incarnation < disk.incarnation:
            raise StaleIncarnation(f"disk {disk.name} is served by a newer actor: stop one of the two")
        if request.epoch:
            # An actor that was restarted asks once more when the end of the earlier one has been noticed,
            # which takes moments; a second one that runs on a copy asks forever.
            self._troubles.tell(
                "disk_twice",
                disk.disk_id,
                f"disk {disk.name} is served at {disk.url}, and an actor at {request.url} says to be it, too:"
                " two run on copies of one disk; stop the wrong one",
                lasting_s=DISK_TWICE_S,
                disk=disk.name,
                disk_id=disk.disk_id,
                url=request.url,
            )
            raise StaleIncarnation(f"disk {disk.name} is connected already, at {disk.url}")

    def _welcome(self, peer: Peer, request: Register, disk: DiskState, epoch: Epoch) -> Welcome:
        if disk.peer is not None and disk.peer is not peer:
            disk.peer.session = None  # fenced: whatever it still sends is refused
        unknown = self._fleet.came(request, peer, now_ms=time.time_ns() // 1_000_000)
        peer.session = disk
        self._fleet.set_aside(disk, None)
        try:
            for report in request.volumes:
                self._admit_stamp(disk, report.stamp_max)
        except StampRefused:
            pass  # set aside: what it holds can be read all the same
        else:
            self._troubles.over("stamp_refused", disk.disk_id)
        if (why := self._lineage.why_set_aside(disk, request.volumes)) is not None:
            self._fleet.set_aside(disk, why)
        for volume_id in unknown:
            log.error(
                "disk has a volume that the catalog does not know; it is left alone",
                extra={"disk": disk.name, "volume_id": volume_id},
            )
        log.info(
            "disk is online", extra={"disk": disk.name, "url": disk.url, "volumes": len(request.volumes)}
        )
        self._events.record("disk_online", disk=disk.name, disk_id=disk.disk_id, url=disk.url)
        if self._lineage.is_behind:
            for other in self._fleet.disks:
                self._provisioner.stop(other)
        elif disk.set_aside is None:
            self._provisioner.start(disk, peer, request.broken)
        self._scheduler.disk_came(disk)
        return Welcome(
            incarnation=self._incarnation,
            stamp=self._clock.last,
            token_keys=disk.token_keys,
            cors_origins=list(self._settings.http.cors_origins),
            epoch=epoch.number,
            mark=epoch.mark,
            catalog_id=self._lineage.catalog_id,
            now_ms=time.time_ns() // 1_000_000,
        )

    def _disk_report(self, peer: Peer, request: DiskReport) -> ReportSeen:
        disk = self._disk(peer)
        if disk.set_aside is None:
            self._admit_stamp(disk, max((report.stamp_max for report in request.volumes), default=0))
            if (why := self._lineage.why_set_aside(disk, request.volumes)) is not None:
                self._fleet.set_aside(disk, why)
        self._note_clock(disk, request.clock_skew_ms)
        self._fleet.reported(disk, request)
        self._provisioner.look(disk)
        self._scheduler.reported(disk, request)
        return ReportSeen(
            stamp=self._clock.last,
            committed_stamp=self._catalog.stamp_max(),
            now_ms=time.time_ns() // 1_000_000,
            # One that is set aside gets nothing more, and is ready for those who read.
            is_supplied=disk.is_supplied or disk.set_aside is not None or self._lineage.is_behind,
            lacking=f"disk {disk.name}: {disk.cause}" if disk.cause else "",
        )

    def _note_clock(self, disk: DiskState, skew_ms: int | None) -> None:
        """A disk has compared its wall clock with ours."""
        if skew_ms is None:
            return
        skew_s = skew_ms / 1000
        if skew_s == disk.clock_skew_s:
            return
        life_s = min(self._settings.store.lease_s, READ_TOKEN_S)
        self._fleet.set_clock_skew(disk, skew_s, is_off=abs(skew_s) >= life_s)
        if abs(skew_s) > CLOCK_SKEW_S:
            ahead = "ahead of" if skew_s > 0 else "behind"
            self._troubles.tell(
                "clock_skew",
                disk.disk_id,
                f"the clock of disk {disk.name} is {abs(skew_s):,.0f} s {ahead} the master's: set both by a"
                " time service"
                + (". Tokens do not live that long, so nothing is put there" if disk.is_clock_off else ""),
                disk=disk.name,
                disk_id=disk.disk_id,
                skew_s=skew_s,
            )
        elif abs(skew_s) < CLOCK_SKEW_S / 2:
            self._troubles.over("clock_skew", disk.disk_id)

    def _on_gone(self, peer: Peer) -> None:
        self._reservations.owner_left(peer, time.monotonic() + GONE_LEASE_S)
        disk = self._fleet.went(peer, now_ms=time.time_ns() // 1_000_000)
        if disk is not None:
            log.warning("disk is offline", extra={"disk": disk.name, "url": disk.url})
            self._events.record("disk_offline", disk=disk.name, disk_id=disk.disk_id)
            self._provisioner.stop(disk.disk_id)
        disk = self._fleet.compactor_went(peer)
        if disk is not None:
            log.warning("compactor is gone", extra={"disk": disk.name})
            self._events.record("compactor_offline", disk=disk.name, disk_id=disk.disk_id)

    def _register_compactor(self, peer: Peer, request: RegisterCompactor) -> CompactorWelcome:
        self._require_join_secret(request.join_secret)
        disk = self._fleet.disks.get(request.disk_id)
        if disk is None:
            raise Unavailable(
                f"disk {request.disk_name} is not known yet: its volume actor registers it first"
            )
        if disk.compactor is not None and disk.compactor is not peer:
            if request.incarnation < disk.compactor_incarnation:
                raise StaleIncarnation(f"disk {disk.name} has a newer compactor: stop one of the two")
            if request.incarnation == disk.compactor_incarnation and not disk.compactor.is_gone:
                raise DiskMismatch(f"the compactor of disk {disk.name} is connected twice")
            disk.compactor.session = None
        self._fleet.compactor_came(disk, peer, incarnation=request.incarnation)
        log.info("compactor is online", extra={"disk": disk.name})
        self._events.record("compactor_online", disk=disk.name, disk_id=disk.disk_id)
        self._scheduler.compactor_came(disk)
        return CompactorWelcome(incarnation=self._incarnation)

    # --- compaction, verification, events -----------------------------------------------------------

    async def _start_jobs(self, peer: Peer, request: StartJobs) -> Jobs:
        self._require(peer, Permission.MANAGE_CLUSTER)
        return await self._scheduler.start_jobs(
            request.work, request.volume_ids, is_all=request.is_all, is_forced=request.is_forced
        )

    def _list_jobs(self, peer: Peer, request: ListJobs) -> Jobs:
        self._require(peer, Permission.SEE_CLUSTER)
        return self._scheduler.list_jobs(request.job_ids)

    async def _cancel_jobs(self, peer: Peer, request: CancelJobs) -> Jobs:
        self._require(peer, Permission.MANAGE_CLUSTER)
        return await self._scheduler.cancel_jobs(request.job_ids)

    async def _pause_jobs(self, peer: Peer, request: PauseJobs) -> Jobs:
        self._require(peer, Permission.MANAGE_CLUSTER)
        return await self._scheduler.pause(request.is_paused)

    async def _decide_orphans(self, peer: Peer, request: DecideOrphans) -> Done:
        self._require(peer, Permission.MANAGE_CLUSTER)
        if request.decision not in ("keep", "drop"):
            raise BadRequest(f"orphans are for 'keep' or 'drop', not {request.decision!r}")
        was_behind = self._lineage.is_behind
        await self._lineage.decide(is_kept=request.decision == "keep")
        self._scheduler.orphans_decided(may_drop=request.decision == "drop")
        if was_behind:
            self._register_anew()
        self._events.record("orphans_decided", decision=request.decision)
        return Done()

    def _register_anew(self, but: Peer | None = None) -> None:
        """The catalog may go on: every disk comes anew, and is given what was withheld."""
        for disk in list(self._fleet.disks.values()):
            if disk.peer is not None and disk.peer is not but:
                self._hub.disconnect(disk.peer, "it registers anew: the catalog is to go on")

    async def _list_events(self, peer: Peer, request: ListEvents) -> Events:
        self._require(peer, Permission.SEE_CLUSTER)
        if request.after < 0:
            return Events(events=[], next_after=self._events.last, incarnation=self._incarnation)
        found = first_that_fit(await self._events.wait_after(request.after, request.limit, request.wait_s))
        next_after = found[-1].sequence if found else min(request.after, self._events.last)
        return Events(events=found, next_after=next_after, incarnation=self._incarnation)

    # --- time passing -----------------------------------------------------------------------------

    async def _expire_forever(self) -> None:
        while True:
            await trio.sleep(EXPIRE_EVERY_S)
            if self._catalog.failure is not None:
                # What a failed fsync left on the disk is unknown; opening the catalog anew reads what is
                # there.  So this process ends, and whoever supervises it starts the next one.
                raise self._catalog.failure
            try:
                self._catalog.require_in_place()
            except StoreError as error:
                # What is open is the last copy of it, so this process goes on for those who read.
                self._troubles.tell("catalog_unlinked", "catalog", error.message)
            self._reservations.expire(time.monotonic())
            if self._catalog.upload_count() == 0 or not self._may_expire():
                continue
            now_ms, stamp = time.time_ns() // 1_000_000, self._stamp()
            try:
                expired = await self._writer.write(lambda t: t.expire_uploads(now_ms, stamp, 100))  # noqa: B023
            except StoreError as error:
                log.error("uploads not expired", extra={"cause": error.message})
                continue
            if expired:
                log.info("uploads expired", extra={"count": len(expired)})
                self._events.record("uploads_expired", count=len(expired))
                self._release_slots(set(expired))

    def _may_expire(self) -> bool:
        """An older catalog may take uploads for unfinished that were finished since: ask its disks first."""
        are_all_here = all(disk.is_online for disk in self._fleet.disks.values())
        is_late = time.monotonic() - self._started_at > DISKS_AWAITED_S
        return (are_all_here or is_late) and not self._lineage.is_behind

    async def _check_counts(self) -> None:
        """Compare the incremental figures with a recount, now and once a day."""
        while True:
            try:
                differences = await trio.to_thread.run_sync(self._catalog.check_counts)
            except (StoreError, sqlite3.Error) as error:
                log.error("figures not checked", extra={"cause": str(error)})
            else:
                self._count_differences = len(differences)
                for difference in differences:
                    log.error("figures differ from a recount", extra={"difference": str(difference)})
            await trio.sleep(24 * 3600)

    # --- figures ----------------------------------------------------------------------------------

    def _cluster_status(self, peer: Peer, request: ClusterStatus) -> Status:
        self._require(peer, Permission.SEE_CLUSTER)
        now_ms = time.time_ns() // 1_000_000
        disks, following = self._fleet.status(
            self._scheduler.jobs_under_way(),
            now_ms=now_ms,
            from_disk=request.from_disk,
            from_volume=request.from_volume,
        )
        if following is not None and not request.is_paged:
            raise BadRequest(
                "the status of so many volumes does not fit into one message: ask for it page by page, as"
                " later releases of this library do"
            )
        is_first = not request.from_disk
        bucket_count, object_count, byte_count = self._catalog.totals()
        damage_count = self._catalog.damage_count()
        damages = self._catalog.damages(DAMAGES_MAX) if damage_count and is_first else []
        return Status(
            version=package_version(),
            incarnation=self._incarnation,
            uptime_s=time.monotonic() - self._started_at,
            health=self._health(damage_count),
            disks=disks,
            bucket_count=bucket_count,
            object_count=object_count,
            byte_count=byte_count,
            garbage_count=sum(self._catalog.outbox_counts().values()),
            upload_count=self._catalog.upload_count(),
            client_count=sum(isinstance(other.session, ClientSession) for other in self._hub.peers.values()),
            damages=first_that_fit(damages, LESSER_SIZE_MAX),
            damage_count=damage_count,
            unchecked_s=self._fleet.unchecked_s(now_ms),
            orphan_count=self._scheduler.orphan_count,
            is_paused=self._scheduler.is_paused,
            left_alone=first_that_fit(self._scheduler.left_alone(), LESSER_SIZE_MAX) if is_first else [],
            catalog_free=self._catalog_room.free,
            stalled_job_count=self._scheduler.stalled_count,
            compactors=sorted(disk.name for disk in self._fleet.disks.values() if disk.compactor is not None),
            troubles=first_that_fit(self._troubles.listed(), LESSER_SIZE_MAX) if is_first else [],
            trouble_count=len(self._troubles),
            next_disk=following[0] if following is not None else "",
            next_volume=following[1] if following is not None else 0,
        )

    def _health(self, damage_count: int) -> str:
        if self._catalog.failure is not None or self._catalog.displaced is not None:
            return "down"
        health = self._fleet.health()
        is_troubled = damage_count or len(self._troubles)
        return "degraded" if health == "ok" and is_troubled else health

    def _skews(self) -> Metric:
        skews = GaugeMetricFamily(
            "warehouse_master_disk_clock_skew_seconds",
            "How far the wall clock of a disk is ahead of the master's",
            labels=["disk"],
        )
        for disk in self._fleet.disks.values():
            if disk.clock_skew_s is not None:
                skews.add_metric([disk.disk_id], disk.clock_skew_s)
        return skews

    def metrics(self) -> list[Metric]:
        bucket_count, object_count, byte_count = self._catalog.totals()
        figures = (
            ("buckets", "Buckets", bucket_count),
            ("objects", "Objects", object_count),
            ("object_bytes", "Bytes of all objects", byte_count),
            ("uploads", "Uploads that are not finished", self._catalog.upload_count()),
            ("garbage", "Needles that wait for their tombstone", sum(self._catalog.outbox_counts().values())),
            ("connections", "Control connections", len(self._hub.peers)),
            ("failed_logins", "Logins that failed since the start", self._failed_logins.total),
            ("disks_online", "Disks online", sum(disk.is_online for disk in self._fleet.disks.values())),
            ("disks", "Disks known", len(self._fleet.disks)),
            ("writable_volumes", "Volumes that take writes", self._fleet.writable_count()),
            ("troubles", "Things that are wrong now: `warehouse status` names them", len(self._troubles)),
            ("catalog_free", "Bytes free on the disk of the catalog", self._catalog_room.free or 0),
            (
                "catalog_full",
                "Whether the disk of the catalog is too full for anything new",
                self._catalog_room.is_short,
            ),
            ("count_differences", "Figures that differed from the last recount", self._count_differences),
        )
        return [
            *(
                GaugeMetricFamily(f"warehouse_master_{name}", text, value=value)
                for name, text, value in figures
            ),
            self._skews(),
            *self._scheduler.metrics(),
        ]


class _Figures(Collector):
    def __init__(self, master: Master) -> None:
        self._master = master

    def collect(self) -> list[Metric]:
        return self._master.metrics()


def _with_servable_type(needle: StoredNeedle) -> StoredNeedle:
    """A volume actor of an older release checks less."""
    if needle.content_type is None or is_content_type(needle.content_type):
        return needle
    return msgspec.structs.replace(needle, content_type=None)


def _first_chunk(row: ObjectRow) -> Chunk:
    """Its size is that of the object: for those of one chunk."""
    return Chunk(row.volume_id, row.needle_id, row.size, row.crc)


def _that_fits(page: Page) -> Page:
    """The entries of a page of a listing that fit into a message, and where the next page begins."""
    if not any(row.metadata for row in page.objects):
        return page  # a thousand keys and prefixes always fit
    count = fitting(_object_info(row) for row in page.objects)
    if count == len(page.objects):
        return page
    left_out = page.objects[count].key
    prefixes = [prefix for prefix in page.prefixes if prefix < left_out]
    last = max([page.objects[count - 1].key, *prefixes[-1:]])
    return Page(page.objects[:count], prefixes, last)


def _chunks_of(row: ObjectRow, chunks: Sequence[ChunkRow]) -> list[Chunk]:
    """What `Catalog.locate` found, for a message."""
    if row.chunk_count == 1:
        return [_first_chunk(row)]
    return [Chunk(chunk.volume_id, chunk.needle_id, chunk.size, chunk.crc) for chunk in chunks]


def _bounded(request: LeaseNeedles) -> tuple[int, int]:
    """Needles and bytes of a lease that was asked for, within what is given at once."""
    needle_count = min(request.needle_count, LEASE_COUNT_MAX)
    return needle_count, min(max(request.byte_count, LEASE_BYTES_MIN), LEASE_BYTES_MAX)


def _least_lease(needle_count: int, byte_count: int) -> int:
    """Bytes below which a lease may be of no use: what the largest needle that was asked for may need."""
    return max(LEASE_BYTES_MIN, -(-byte_count // needle_count), min(byte_count, SMALL_PUT_MAX))


def _is_presigned_get(request: Request) -> bool:
    return isinstance(request, Presign) and request.method == "GET"


def _object_info(row: ObjectRow, chunks: list[Chunk] | None = None) -> ObjectInfo:
    return ObjectInfo(
        key=row.key,
        size=row.size,
        etag=row.etag,
        created_ms=row.created_ms,
        content_type=served_type(row.content_type),
        metadata=row.metadata,
        chunk_count=row.chunk_count,
        chunks=chunks or [],
    )


async def _answer_http(exchange: Exchange, registry: CollectorRegistry, *, is_healthy: bool) -> None:
    if exchange.path == b"/healthz":
        require_method(exchange.method, b"GET", b"HEAD")
        body = b'{"status":"ok"}' if is_healthy else b'{"status":"catalog failed"}'
        await exchange.respond(200 if is_healthy else 503, [(b"Content-Type", b"application/json")], body)
    elif exchange.path == b"/metrics":
        require_method(exchange.method, b"GET", b"HEAD")
        body = generate_latest(registry)
        await exchange.respond(200, [(b"Content-Type", b"text/plain; version=0.0.4")], body)
    else:
        raise NoSuchRoute("a master serves /healthz and /metrics")


# --- start ----------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="warehouse master",
        description="Own the catalog: answer clients, place needles, sign tokens.",
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("warehouse-data/master"),
        metavar="DIR",
        help="catalog and keys (default: %(default)s)",
    )
    parser.add_argument(
        "--host",
        type=host_argument,
        default="127.0.0.1",
        help="address to listen on (default: %(default)s)",
    )
    parser.add_argument("--port", type=int, default=7400, help="control port (default: %(default)s)")
    parser.add_argument(
        "--http-port", type=int, default=7401, help="health and metrics (default: %(default)s)"
    )
    parser.add_argument(
        "--advertise",
        metavar="HOST",
        type=host_argument,
        help="host that others shall connect to, if not --host",
    )
    parser.add_argument(
        "--init", action="store_true", help="make keys and the root key, print them, and stop"
    )
    add_common_arguments(parser)
    return parser


async def _main(arguments: argparse.Namespace, settings: Settings, announcer: Announcer) -> None:
    reached_as = known_as(arguments.host, arguments.advertise)
    initialized = initialize(arguments.data)
    join = Join(
        master=endpoint_of(reached_as, arguments.port),
        server_key=initialized.keyring.curve.public.decode(),
        secret=initialized.keyring.join_secret,
    )
    join.save(arguments.data / JOIN_NAME)
    if initialized.root_key is not None:
        announcer.say(
            "founded",
            key_id=initialized.root_key.key_id,
            secret=initialized.root_key.secret,
            master=join.master,
            server_key=join.server_key,
            join_file=str(arguments.data / JOIN_NAME),
        )
    if arguments.init:
        if initialized.root_key is None:
            announcer.say("exists", master=join.master, server_key=join.server_key)
        return
    listeners = await open_listeners(arguments.host, arguments.http_port)
    catalog = Catalog.open(arguments.data / CATALOG_NAME)
    try:
        master = Master(
            catalog=catalog,
            keyring=initialized.keyring,
            settings=settings,
            announcer=announcer,
            join=join,
        )
        await master.run(endpoint_of(arguments.host, arguments.port), listeners)
    finally:
        catalog.close()


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    settings = set_up_actor(arguments, name="master")
    return run_actor(arguments, settings, _main)


if __name__ == "__main__":
    raise SystemExit(main())
