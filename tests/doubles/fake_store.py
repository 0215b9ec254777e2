"""A store in memory that speaks the real protocols, with switches for what may go wrong.

Two disks with one volume each (1 and 2), a master on a real `Hub`, needles on a real `HttpServer` per disk.
It keeps the promises a client relies on: leases name id ranges, a settled needle is final, slots are
replaced, an upload appears as a whole.  Tokens are random words.
"""

from __future__ import annotations

import itertools
import secrets
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

import msgspec
import trio
from crc32c import crc32c
from fake_finding import find, follow
from fake_identities import IDENTITY_REQUESTS, FakeIdentities
from fake_machines import FakeMachines

from fake_jobs import FakeJobs
from http_harness import start_server
from warehouse.conf.profile import Profile
from warehouse.errors import (
    BadCredentials,
    BucketExists,
    BucketNotEmpty,
    DiskFull,
    LeaseExhausted,
    NeedleVoid,
    NoSuchBucket,
    NoSuchNeedle,
    NoSuchObject,
    NoSuchUpload,
    NotAuthenticated,
    PermissionDenied,
    PreconditionFailed,
    StoreError,
    TokenExpired,
    TokenInvalid,
    UploadIncomplete,
    VolumeFormatOld,
    VolumeOffline,
)
from warehouse.transport.http.batch_format import (
    FRAME,
    GET_ROUTE,
    GET_SIZE_MAX,
    PUT_ROUTE,
    PUT_SIZE_MAX,
    STATE_OK,
    Outcome,
    PutHead,
    decode_head_size,
    decode_ids,
    decode_put_head,
    encode_outcomes,
    failed,
    state_of,
    stored,
)
from warehouse.transport.http.exchange import Exchange
from warehouse.transport.http.rules import parse_range
from warehouse.transport.messages import (
    AbortUpload,
    Answer,
    Attach,
    Attached,
    AuditEntry,
    AuditListed,
    BeginUpload,
    BucketFound,
    BucketGrowth,
    BucketHistory,
    BucketInfo,
    BucketPoint,
    Buckets,
    CancelJobs,
    Chunk,
    ClusterStatus,
    CreateBucket,
    DataUrls,
    DecideOrphans,
    DeleteBucket,
    Deleted,
    DeleteObjects,
    DiskStatus,
    Done,
    Figures,
    FindObjects,
    FinishUpload,
    History,
    HistoryPoint,
    Lease,
    Leased,
    LeaseNeedles,
    ListAudit,
    ListBuckets,
    ListDataUrls,
    ListEvents,
    Listing,
    ListJobs,
    ListObjects,
    ListVolumes,
    LocateObjects,
    LoggedIn,
    Login,
    ObjectFound,
    ObjectInfo,
    ObjectsLocated,
    ObjectWritten,
    PauseJobs,
    Presign,
    Presigned,
    Rates,
    ReadGrant,
    Request,
    RequestSlots,
    Resolved,
    ResolveNeedle,
    RotateSecret,
    SecretRotated,
    SetQuota,
    Slot,
    Slots,
    StartJobs,
    StatBucket,
    StatObject,
    Status,
    StoreFigures,
    StoreHistory,
    UploadBegun,
    VolumeReport,
    VolumesListed,
    VolumeStatus,
    WatchBucket,
    WatchStore,
    etag_of,
)
from warehouse.transport.messages.attributes import MANIFEST_INDEX, decode_attributes, decode_manifest
from warehouse.transport.zeromq.curve import CurveKeys
from warehouse.transport.zeromq.hub import Hub
from warehouse.transport.zeromq.peers import Peer

KEY_ID, SECRET = "WHFAKE", "a-secret"
CREATED_MS = 1_790_000_000_000


@dataclass
class Needle:
    data: bytes
    key: str
    content_type: str | None
    metadata: dict[str, str]
    is_deleted: bool = False

    @property
    def crc(self) -> int:
        return crc32c(self.data)


@dataclass
class Grant:
    """What a token of ours allows."""

    op: str
    bucket: str
    volume_id: int
    first: int = 0
    last: int = 2**32
    room: int = 2**60
    upload_id: int | None = None
    chunk_index: int = 0
    format: int = 1  # of the volume, as far as the client asked for it


@dataclass
class Upload:
    request: BeginUpload
    slots: dict[int, tuple[int, int]] = field(default_factory=dict)
    stored: dict[int, Chunk] = field(default_factory=dict)


@dataclass
class Faults:
    """Each count is used up by the next requests that meet it."""

    put_dropped_before_commit: int = 0
    put_dropped_after_commit: int = 0
    put_answer_endless: int = 0  # something on the way answers instead, at length
    put_error_before_commit: list[StoreError] = field(default_factory=list)
    put_error_after_commit: list[StoreError] = field(default_factory=list)
    put_garbled: int = 0  # the volume stores other bytes than were sent
    get_dropped: int = 0
    get_cut_short: int = 0
    get_garbled: int = 0
    get_error: list[StoreError] = field(default_factory=list)
    not_authenticated: int = 0
    refused: dict[str, list[StoreError]] = field(default_factory=dict)  # by message class, before it acts
    answer_lost: dict[str, int] = field(default_factory=dict)  # by message class: done, and the link breaks
    offline: set[int] = field(default_factory=set)
    full: set[int] = field(default_factory=set)  # volumes that answer disk_full
    put_delay_s: float = 0.0
    answers_held: trio.Event | None = None  # puts are stored, and their answers wait for it
    put_dropped_late: int = 0
    stuck: dict[int, float] = field(default_factory=dict)  # volume -> seconds that each put takes longer
    locate_delay_s: float = 0.0


FIGURES = Figures(
    at_ms=9,
    window_s=10.0,
    health="ok",
    bucket_count=1,
    object_count=2,
    byte_count=3,
    stored_bytes=4,
    dead_bytes=5,
    free=6,
    capacity=7,
    rates=Rates(gets_per_s=1234.5, puts_per_s=0.01, bytes_in_per_s=1024.0),
    disks=[],
)


class FakeStore:
    def __init__(self) -> None:
        self.faults = Faults()
        self.chunk_size = 4 * 1024 * 1024
        self.lease_s = 60.0
        self.quotas: dict[str, tuple[int | None, int | None]] = {}  # told, and not enforced
        self.audit: list[AuditEntry] = []  # read two at a time
        self.lease_room: int | None = None  # instead of what was asked for
        self.token_s = 900.0
        self.readable = ""  # how the keys begin that may be read
        self.is_counted = True  # the key is told how much is in a bucket
        self.buckets: dict[str, dict[str, ObjectInfo]] = {}
        self.needles: dict[tuple[int, int], Needle] = {}
        self.void: set[tuple[int, int]] = set()
        self.committed: set[tuple[int, int]] = set()
        self.uploads: dict[int, Upload] = {}
        self.aborted: list[int] = []
        self.asked: list[Request] = []  # every message, in order of arrival
        self.http: Counter[str] = Counter()
        self.batches: list[int] = []  # items of each batch request, in order
        self.before_get: Callable[[int, int], None] | None = None
        self.puts_in_flight = 0  # objects, however many requests carry them
        self.puts_in_flight_max = 0
        self.urls: dict[int, str] = {}
        self.secret = SECRET
        self._grants: dict[str, Grant] = {}
        self._token_error: type[StoreError] = TokenExpired
        self._sessions: set[str] = set()
        self._next_needle = {1: 1, 2: 1}
        self._turn = itertools.cycle((1, 2))
        self._upload_ids = itertools.count(1)
        self.upkeep = FakeJobs()
        self.machines = FakeMachines()
        self.identities = FakeIdentities(KEY_ID)
        self.orphan_count = 0
        self.history: list[HistoryPoint] = []
        self.without_compactor: set[int] = set()
        self.reports = {volume: _report(volume) for volume in (1, 2)}
        self._peers: set[Peer] = set()
        self.keys = CurveKeys.generate()
        self.hub = Hub(
            keys=self.keys,
            incarnation=1,
            answer_now=lambda peer, request: None,
            answer=self._answer,
            on_gone=self._peers.discard,
        )
        self.profile: Profile

    def count(self, kind: type[Request]) -> int:
        return sum(isinstance(request, kind) for request in self.asked)

    # --- control plane ----------------------------------------------------------------------------

    async def _answer(self, peer: Peer, request: Request) -> Answer:
        name = type(request).__name__
        self.asked.append(request)
        self._peers.add(peer)
        if errors := self.faults.refused.get(name):
            raise errors.pop(0)
        if not isinstance(request, Login | Attach):
            if self.faults.not_authenticated:
                self.faults.not_authenticated -= 1
                peer.session = None
            if peer.session is None:
                raise NotAuthenticated("attach first")
        if isinstance(request, LocateObjects):
            await trio.sleep(self.faults.locate_delay_s)
        if isinstance(request, ListEvents):
            return await self.upkeep.events(request)
        if isinstance(request, WatchBucket | WatchStore):
            return await follow(request)
        answer = self._decide(peer, request)
        if self.faults.answer_lost.get(name, 0):
            self.faults.answer_lost[name] -= 1
            await self._cut(peer)
        return answer

    async def restart_master(self) -> None:
        """Another process answers from now on, as after a crash: it has forgotten what was in memory alone."""
        self.upkeep.restart()
        for peer in [*self._peers]:
            await self._cut(peer)

    async def _cut(self, peer: Peer) -> None:
        """End a connection so that the answer at hand is never delivered."""
        self.hub.disconnect(peer, "a fault")
        while not peer.is_gone:
            await trio.sleep(0.005)

    def _decide(self, peer: Peer, request: Request) -> Answer:
        match request:
            case Login(key_id=key_id, secret=secret):
                if (key_id, secret) != (KEY_ID, self.secret):
                    raise BadCredentials("this API key is unknown")
                token = secrets.token_hex(8)
                self._sessions.add(token)
                return LoggedIn(token=token, expires_in_s=self.token_s)
            case Attach(token=token):
                if token not in self._sessions:
                    raise TokenInvalid("no such token")
                peer.session = token
                return Attached(incarnation=1, chunk_size=self.chunk_size, expires_in_s=self.token_s)
            case CreateBucket(bucket=bucket):
                if bucket in self.buckets:
                    raise BucketExists(f"bucket {bucket!r} exists")
                self.buckets[bucket] = {}
                return Done()
            case DeleteBucket(bucket=bucket, force=force):
                if self._bucket(bucket) and not force:
                    raise BucketNotEmpty(f"bucket {bucket!r} holds objects")
                del self.buckets[bucket]
                return Done()
            case ListAudit(cursor=cursor, key=key):
                place = int(cursor or 0)
                found = [entry for entry in self.audit[place : place + 2] if key in ("", entry.key)]
                is_last = place + 2 >= len(self.audit)
                following = str(min(place + 2, len(self.audit)))
                return AuditListed(entries=found, cursor=following, is_last=is_last)
            case ListBuckets():
                return Buckets(buckets=[self._bucket_info(name) for name in sorted(self.buckets)])
            case StatBucket(bucket=bucket):
                self._bucket(bucket)
                return BucketFound(bucket=self._bucket_info(bucket))
            case SetQuota(bucket=bucket):
                self._bucket(bucket)
                before = self.quotas.get(bucket, (None, None))
                self.quotas[bucket] = (
                    request.quota_objects if request.sets_objects else before[0],
                    request.quota_bytes if request.sets_bytes else before[1],
                )
                return BucketFound(bucket=self._bucket_info(bucket))
            case StatObject(bucket=bucket, key=key):
                return ObjectFound(object=self._object(bucket, key))
            case LocateObjects():
                return self._locate(request)
            case ListObjects():
                return self._list(request)
            case FindObjects(bucket=bucket):
                return find(self._bucket(bucket), request)
            case ListDataUrls():
                return DataUrls(urls=list(self.urls.values()))
            case DeleteObjects(bucket=bucket, keys=keys, if_match=if_match):
                objects = self._bucket(bucket)
                for key in keys:
                    _check_conditions(objects.get(key), if_match, None)
                return Deleted(existed=[self._remove(objects.pop(key, None)) for key in keys])
            case Presign(bucket=bucket, key=key, method=method):
                return Presigned(
                    url=f"http://fake/{bucket}/{key}?{method}", expires_in_s=request.expires_in_s
                )
            case LeaseNeedles():
                return self._lease(request)
            case ResolveNeedle(volume_id=volume_id, needle_id=needle_id):
                is_committed = (volume_id, needle_id) in self.committed
                if not is_committed:
                    self.void.add((volume_id, needle_id))
                return Resolved(is_committed=is_committed)
            case BeginUpload(bucket=bucket):
                self._bucket(bucket)
                upload_id = next(self._upload_ids)
                self.uploads[upload_id] = Upload(request)
                return UploadBegun(upload_id=upload_id, chunk_size=self.chunk_size, expires_in_s=3600)
            case RequestSlots():
                return self._slots(request)
            case FinishUpload():
                return self._finish(request)
            case AbortUpload(upload_id=upload_id):
                self._upload(upload_id)
                del self.uploads[upload_id]
                self.aborted.append(upload_id)
                return Done()
            case ClusterStatus():
                return self._status()
            case ListVolumes():
                return self._volumes(request)
            case StoreFigures():
                return FIGURES
            case BucketHistory():
                return BucketGrowth(points=[BucketPoint(at_ms=9, object_count=1, byte_count=2)])
            case StoreHistory():
                return History(points=self.history)
            case _ if isinstance(request, IDENTITY_REQUESTS):
                return self.identities.answer(request)
            case StartJobs():
                return self.upkeep.start(request)
            case ListJobs(job_ids=job_ids):
                return self.upkeep.list(job_ids)
            case CancelJobs(job_ids=job_ids):
                return self.upkeep.cancel(job_ids)
            case RotateSecret(what="seal"):
                return SecretRotated(resealed_count=3)
            case RotateSecret(overlap_s=0):
                return SecretRotated(unreached=["disk-2"])
            case RotateSecret():
                return SecretRotated(until_ms=CREATED_MS)
            case PauseJobs(is_paused=is_paused):
                return self.upkeep.pause(is_paused)
            case DecideOrphans(decision="drop"):
                self.orphan_count = 0
                return Done()
            case _:
                return self.machines.answer(request)

    def _bucket(self, name: str) -> dict[str, ObjectInfo]:
        if name not in self.buckets:
            raise NoSuchBucket(f"there is no bucket {name!r}")
        return self.buckets[name]

    def _bucket_info(self, name: str) -> BucketInfo:
        objects = self.buckets[name].values() if self.is_counted else ()
        return BucketInfo(
            name=name,
            created_ms=CREATED_MS,
            object_count=len(objects),
            byte_count=sum(info.size for info in objects),
            is_counted=self.is_counted,
            quota_objects=self.quotas.get(name, (None, None))[0],
            quota_bytes=self.quotas.get(name, (None, None))[1],
        )

    def _object(self, bucket: str, key: str) -> ObjectInfo:
        info = self._bucket(bucket).get(key)
        if info is None:
            raise NoSuchObject(f"bucket {bucket!r} has no object {key!r}")
        return info

    def _remove(self, info: ObjectInfo | None) -> bool:
        for chunk in info.chunks if info else ():
            self.needles[chunk.volume_id, chunk.needle_id].is_deleted = True
        return info is not None

    def _locate(self, request: LocateObjects) -> ObjectsLocated:
        bucket = self._bucket(request.bucket)
        denied = [position for position, key in enumerate(request.keys) if not key.startswith(self.readable)]
        if denied and len(denied) == len(request.keys):
            raise PermissionDenied(f"this key has no read right on bucket {request.bucket!r}")
        objects = [
            None if position in denied else bucket.get(key) for position, key in enumerate(request.keys)
        ]
        volumes = {chunk.volume_id for info in objects if info for chunk in info.chunks}
        offline = volumes & self.faults.offline
        grants = self._read_grants(request.bucket, volumes)
        return ObjectsLocated(
            objects=objects,
            grants=grants,
            offline={volume: f"disk-{volume}" for volume in offline},
            denied=denied,
        )

    def _read_grants(self, bucket: str, volumes: set[int]) -> list[ReadGrant]:
        return [
            ReadGrant(
                volume_id=volume,
                url=self.urls[volume],
                token=self._token(Grant("get", bucket, volume)),
                expires_in_s=600,
            )
            for volume in volumes - self.faults.offline
        ]

    def _list(self, request: ListObjects) -> Listing:
        page = self._page(request)
        volumes = {chunk.volume_id for info in page.objects for chunk in info.chunks}
        return msgspec.structs.replace(page, grants=self._read_grants(request.bucket, volumes))

    def _page(self, request: ListObjects) -> Listing:
        objects: list[ObjectInfo] = []
        prefixes: list[str] = []
        last = None
        for key in sorted(self._bucket(request.bucket), key=str.encode):
            if not key.startswith(request.prefix):
                continue
            entry, is_prefix = key, False
            rest = key[len(request.prefix) :]
            if request.delimiter and request.delimiter in rest:
                entry = request.prefix + rest[: rest.index(request.delimiter) + len(request.delimiter)]
                is_prefix = True
            if entry.encode() <= request.after.encode() or entry in prefixes:
                continue
            if len(objects) + len(prefixes) == request.limit:
                return Listing(objects=objects, prefixes=prefixes, next_after=last)
            last = entry
            if is_prefix:
                prefixes.append(entry)
            else:
                info = self.buckets[request.bucket][key]
                objects.append(
                    ObjectInfo(
                        key=key,
                        size=info.size,
                        etag=info.etag,
                        created_ms=info.created_ms,
                        content_type=info.content_type,
                        metadata=info.metadata,
                        chunk_count=info.chunk_count,
                        chunks=info.chunks if request.with_locations and info.chunk_count == 1 else [],
                    )
                )
        return Listing(objects=objects, prefixes=prefixes, next_after=None)

    def _writable(self, exclude: list[int]) -> list[int]:
        volumes = [volume for volume in (1, 2) if volume not in self.faults.offline]
        if not volumes:
            raise VolumeOffline("no volume takes writes now")
        preferred = [volume for volume in volumes if volume not in exclude] or volumes
        return sorted(preferred, key=lambda volume: self._next_needle[volume])

    def _lease(self, request: LeaseNeedles) -> Leased:
        self._bucket(request.bucket)
        leases = []
        for volume in self._writable(request.exclude_volumes):
            first = self._next_needle[volume]
            self._next_needle[volume] += request.needle_count
            last = first + request.needle_count - 1
            room = request.byte_count if self.lease_room is None else self.lease_room
            leases.append(
                Lease(
                    volume_id=volume,
                    first_needle_id=first,
                    last_needle_id=last,
                    byte_count=request.byte_count,
                    url=self.urls[volume],
                    token=self._token(
                        Grant("put", request.bucket, volume, first, last, room, format=request.format)
                    ),
                    expires_in_s=self.lease_s,
                )
            )
        return Leased(leases=leases)

    def _upload(self, upload_id: int) -> Upload:
        if upload_id not in self.uploads:
            raise NoSuchUpload(f"there is no upload {upload_id}")
        return self.uploads[upload_id]

    def _slots(self, request: RequestSlots) -> Slots:
        upload = self._upload(request.upload_id)
        slots = []
        for wanted in request.slots:
            assert wanted.size <= self.chunk_size
            volume = self._writable(request.exclude_volumes)[0]
            needle = self._next_needle[volume]
            self._next_needle[volume] += 1
            upload.slots[wanted.chunk_index] = (volume, needle)
            upload.stored.pop(wanted.chunk_index, None)
            grant = Grant("put", upload.request.bucket, volume, needle, needle)
            grant.upload_id, grant.chunk_index = request.upload_id, wanted.chunk_index
            slots.append(
                Slot(
                    chunk_index=wanted.chunk_index,
                    volume_id=volume,
                    needle_id=needle,
                    url=self.urls[volume],
                    token=self._token(grant),
                    expires_in_s=3600,
                )
            )
        return Slots(slots=slots)

    def _finish(self, request: FinishUpload) -> ObjectWritten:
        upload = self._upload(request.upload_id)
        begun = upload.request
        manifest = upload.stored.pop(MANIFEST_INDEX, None)
        if sorted(upload.stored) != [*range(request.chunk_count)]:
            raise UploadIncomplete(f"stored: {sorted(upload.stored)} of {request.chunk_count}")
        chunks = [upload.stored[index] for index in range(request.chunk_count)]
        assert sum(chunk.size for chunk in chunks) == request.object_size
        assert (manifest is not None) == (begun.style == "manifest")
        if manifest is not None:
            said = decode_manifest(self.needles[manifest.volume_id, manifest.needle_id].data)
            named = [(chunk.volume_id, chunk.needle_id, chunk.size, chunk.crc) for chunk in said.chunks]
            assert named == [(chunk.volume_id, chunk.needle_id, chunk.size, chunk.crc) for chunk in chunks]
            assert (said.size, said.attributes) == (request.object_size, request.attributes)
        info = self._switch(
            begun.bucket,
            begun.key,
            chunks,
            begun.content_type,
            begun.metadata,
            begun.if_match,
            begun.if_none_match,
            request.attributes,
        )
        del self.uploads[request.upload_id]
        return ObjectWritten(etag=info.etag, size=info.size, created_ms=info.created_ms)

    def _switch(
        self,
        bucket: str,
        key: str,
        chunks: list[Chunk],
        content_type: str | None,
        metadata: dict[str, str],
        if_match: str | None,
        if_none_match: str | None,
        attributes: bytes = b"",
    ) -> ObjectInfo:
        objects = self._bucket(bucket)
        _check_conditions(objects.get(key), if_match, if_none_match)
        self._remove(objects.get(key))
        first = chunks[0]
        etag = etag_of(first.volume_id, first.needle_id, first.crc, len(chunks))
        info = objects[key] = ObjectInfo(
            key=key,
            size=sum(chunk.size for chunk in chunks),
            etag=decode_attributes(attributes).etag or etag,
            created_ms=CREATED_MS,
            content_type=content_type,
            metadata=metadata,
            chunk_count=len(chunks),
            chunks=chunks,
            attributes=attributes,
        )
        return info

    def _status(self) -> Status:
        return Status(
            version="0.1.0",
            incarnation=self.upkeep.incarnation,
            uptime_s=3661,
            health="degraded" if self.faults.offline else "ok",
            disks=[self._disk_status(volume) for volume in (1, 2)],
            bucket_count=len(self.buckets),
            object_count=sum(len(objects) for objects in self.buckets.values()),
            byte_count=0,
            garbage_count=0,
            upload_count=len(self.uploads),
            client_count=1,
            damages=self.upkeep.damages,
            damage_count=len(self.upkeep.damages),
            unchecked_s=3 * 86_400.0,
            orphan_count=self.orphan_count,
            is_paused=self.upkeep.is_paused,
            compactors=[f"disk-{volume}" for volume in (1, 2) if volume not in self.without_compactor],
        )

    def _volumes(self, request: ListVolumes) -> VolumesListed:
        disks = [self._disk_status(volume) for volume in (1, 2)]
        found = [
            (disk.disk_id, volume)
            for disk in disks
            for volume in disk.volumes
            if disk.disk_id == request.disk_id or volume.report.volume_id in request.volume_ids
        ]
        return VolumesListed(
            volumes=[volume for _, volume in found],
            disk_ids={volume.report.volume_id: disk_id for disk_id, volume in found},
        )

    def _disk_status(self, volume: int) -> DiskStatus:
        return DiskStatus(
            disk_id=f"id-{volume}",
            name=f"disk-{volume}",
            url=self.urls[volume],
            is_online=volume not in self.faults.offline,
            since_ms=CREATED_MS,
            capacity=2000,
            free=1500,
            is_read_only=False,
            volumes=[
                VolumeStatus(
                    report=self.reports[volume],
                    reserved_bytes=0,
                    state="open",
                    verified_ms=CREATED_MS if volume == 1 else None,
                    unchecked_s=3 * 86_400.0,
                    job=self.upkeep.under_way(volume),
                )
            ],
        )

    # --- data plane -------------------------------------------------------------------------------

    def _token(self, grant: Grant) -> str:
        token = secrets.token_hex(8)
        self._grants[token] = grant
        return token

    def expire_tokens(self, error: type[StoreError] = TokenExpired) -> None:
        """Every data token given out so far is refused from now on, with this error."""
        self._grants.clear()
        self._token_error = error

    async def _serve(self, exchange: Exchange) -> None:
        self.http[exchange.method.decode()] += 1
        token = exchange.headers[b"authorization"].removeprefix(b"Bearer ").decode()
        grant = self._grants.get(token)
        if grant is None:
            raise self._token_error("this token is no longer good")
        if exchange.path.startswith(b"/v1/batch/"):
            await self._serve_batch(exchange, grant)
            return
        volume_id, needle_id = (int(part) for part in exchange.path.split(b"/")[3:])
        assert grant.volume_id == volume_id
        assert grant.first <= needle_id <= grant.last
        if volume_id in self.faults.offline:
            await _hang_up(exchange)
        elif exchange.method == b"PUT":
            with self._in_flight(1):
                await self._put(exchange, grant, volume_id, needle_id)
        else:
            await self._get(exchange, volume_id, needle_id)

    async def _put(self, exchange: Exchange, grant: Grant, volume_id: int, needle_id: int) -> None:
        faults, headers = self.faults, exchange.headers
        assert grant.op == "put"
        await trio.sleep(faults.put_delay_s + faults.stuck.get(volume_id, 0.0))
        if volume_id in faults.full:
            raise DiskFull(f"disk-{volume_id} is full")
        if exchange.content_length > grant.room:
            raise LeaseExhausted("no room is left")
        data = await exchange.read_body(self.chunk_size)
        if faults.put_dropped_before_commit:
            faults.put_dropped_before_commit -= 1
            await _hang_up(exchange)
            return
        header = headers.get(b"x-warehouse-crc32c")
        content_type = headers[b"content-type"].decode() if b"content-type" in headers else None
        metadata = parse_qsl(headers.get(b"x-warehouse-metadata", b"").decode(), keep_blank_values=True)
        head = PutHead(
            needle_id,
            unquote(headers[b"x-warehouse-key"].decode()) if grant.upload_id is None else "",
            len(data),
            crc32c(data) if header is None else int(header, 16),
            content_type,
            dict(metadata),
            _condition(headers.get(b"if-match")),
            _condition(headers.get(b"if-none-match")),
        )
        etag = self._store(grant, volume_id, head, data)
        if faults.put_dropped_after_commit:
            faults.put_dropped_after_commit -= 1
            await _hang_up(exchange)
            return
        if faults.put_answer_endless:
            faults.put_answer_endless -= 1
            await exchange.respond(502, [], bytes(2 * 1024 * 1024))
            return
        if faults.answers_held is not None:
            await faults.answers_held.wait()
        if faults.put_dropped_late:
            faults.put_dropped_late -= 1
            await _hang_up(exchange)
            return
        body = f'{{"etag":"{etag}","created_ms":{CREATED_MS}}}'.encode()
        await exchange.respond(201, [(b"ETag", f'"{etag}"'.encode())], body)

    def _store(self, grant: Grant, volume_id: int, head: PutHead, data: bytes) -> str:
        """Make a needle visible; what it says of its CRC must be so."""
        faults = self.faults
        if faults.put_error_before_commit:
            raise faults.put_error_before_commit.pop(0)
        assert crc32c(data) == head.crc
        if faults.put_garbled:
            faults.put_garbled -= 1
            data = bytes([data[0] ^ 1]) + data[1:]
        grant.room -= len(data)
        needle_id, crc = head.needle_id, crc32c(data)
        if (volume_id, needle_id) in self.void:
            raise NeedleVoid("settled as not committed")
        self.needles[volume_id, needle_id] = Needle(data, head.key, head.content_type, head.metadata)
        chunk = Chunk(volume_id, needle_id, len(data), crc)
        if (head.attributes or head.amends is not None) and grant.format < 2:
            raise VolumeFormatOld("this volume has format 1")
        if head.amends is not None:
            self._amend(grant.bucket, head)
        elif grant.upload_id is None:
            self._switch(
                grant.bucket,
                head.key,
                [chunk],
                head.content_type,
                head.metadata,
                head.if_match,
                head.if_none_match,
                head.attributes,
            )
        else:
            upload = self._upload(grant.upload_id)
            if upload.slots[grant.chunk_index] == (volume_id, needle_id):
                upload.stored[grant.chunk_index] = chunk
        self.committed.add((volume_id, needle_id))
        if faults.put_error_after_commit:
            raise faults.put_error_after_commit.pop(0)
        return decode_attributes(head.attributes).etag or etag_of(volume_id, needle_id, crc)

    def _amend(self, bucket: str, head: PutHead) -> None:
        info = self._object(bucket, head.key)
        _check_conditions(info, head.if_match, head.if_none_match)
        assert head.amends == (info.chunks[0].volume_id, info.chunks[0].needle_id)
        amended = msgspec.structs.replace(info, attributes=head.attributes)
        self.buckets[bucket][head.key] = amended

    async def _get(self, exchange: Exchange, volume_id: int, needle_id: int) -> None:
        faults = self.faults
        if self.before_get is not None:
            self.before_get(volume_id, needle_id)
        if faults.get_dropped:
            faults.get_dropped -= 1
            await _hang_up(exchange)
            return
        if faults.get_error:
            raise faults.get_error.pop(0)
        needle = self.needles.get((volume_id, needle_id))
        if needle is None or needle.is_deleted:
            raise NoSuchNeedle(f"volume {volume_id} has no needle {needle_id}")
        data = needle.data
        if faults.get_garbled:
            faults.get_garbled -= 1
            data = bytes([data[0] ^ 1]) + data[1:]
        status = 200
        if (header := exchange.headers.get(b"range")) is not None:
            start, length = parse_range(header, len(data)) or (0, len(data))
            data, status = data[start : start + length], 206
        if faults.get_cut_short:
            faults.get_cut_short -= 1
            await exchange.start(status, [], len(data))
            await exchange.write(data[: len(data) // 2])
            return
        await exchange.respond(status, [], data)

    # --- batches ----------------------------------------------------------------------------------

    async def _serve_batch(self, exchange: Exchange, grant: Grant) -> None:
        assert exchange.method == b"POST"
        if grant.volume_id in self.faults.offline:
            await _hang_up(exchange)
        elif exchange.path == PUT_ROUTE.encode():
            await self._put_batch(exchange, grant)
        else:
            assert exchange.path == GET_ROUTE.encode()
            await self._get_batch(exchange, grant)

    @contextmanager
    def _in_flight(self, count: int) -> Iterator[None]:
        self.puts_in_flight += count
        self.puts_in_flight_max = max(self.puts_in_flight, self.puts_in_flight_max)
        try:
            yield
        finally:
            self.puts_in_flight -= count

    async def wait_for_puts(self, count: int) -> None:
        """Until so many objects have been under way at once."""
        with trio.fail_after(30):
            while self.puts_in_flight_max < count:
                await trio.sleep(0.001)

    async def _put_batch(self, exchange: Exchange, grant: Grant) -> None:
        faults = self.faults
        assert grant.op == "put"
        assert grant.upload_id is None
        items = [*_items_of(memoryview(await exchange.read_body(PUT_SIZE_MAX)))]
        with self._in_flight(len(items)):
            await trio.sleep(faults.put_delay_s + faults.stuck.get(grant.volume_id, 0.0))
        if faults.put_dropped_before_commit:
            faults.put_dropped_before_commit -= 1
            await _hang_up(exchange)
            return
        outcomes: list[Outcome] = []
        for head, data in items:
            try:
                if grant.volume_id in faults.full:
                    raise DiskFull(f"disk-{grant.volume_id} is full")
                if head.size > grant.room:
                    raise LeaseExhausted("no room is left")
                assert grant.first <= head.needle_id <= grant.last
                etag = self._store(grant, grant.volume_id, head, data)
                outcomes.append(stored(etag, CREATED_MS))
            except StoreError as error:
                outcomes.append(failed(error))
        self.batches.append(len(outcomes))
        if faults.put_dropped_after_commit:
            faults.put_dropped_after_commit -= 1
            await _hang_up(exchange)
            return
        if faults.put_answer_endless:
            faults.put_answer_endless -= 1
            await exchange.respond(502, [], bytes(2 * 1024 * 1024))
            return
        await exchange.respond(200, [], encode_outcomes(outcomes))

    async def _get_batch(self, exchange: Exchange, grant: Grant) -> None:
        faults, volume_id = self.faults, grant.volume_id
        frames = []
        needle_ids = decode_ids(await exchange.read_body(GET_SIZE_MAX))
        for needle_id in needle_ids:
            if self.before_get is not None:
                self.before_get(volume_id, needle_id)
            needle = self.needles.get((volume_id, needle_id))
            try:
                if faults.get_error:
                    raise faults.get_error.pop(0)
                if needle is None or needle.is_deleted:
                    raise NoSuchNeedle(f"volume {volume_id} has no needle {needle_id}")
            except StoreError as error:
                frames.append(FRAME.pack(needle_id, state_of(error), 0, 0))
                continue
            data = needle.data
            if faults.get_garbled:
                faults.get_garbled -= 1
                data = bytes([data[0] ^ 1]) + data[1:]
            frames.append(FRAME.pack(needle_id, STATE_OK, len(data), crc32c(data)) + data)
        self.batches.append(len(frames))
        answer = b"".join(frames)
        if faults.get_dropped:
            faults.get_dropped -= 1
            await _hang_up(exchange)
        elif faults.get_cut_short:
            faults.get_cut_short -= 1
            await exchange.start(200, [], len(answer))
            await exchange.write(answer[: len(answer) // 2])
        else:
            await exchange.respond(200, [], answer)


def _report(volume: int) -> VolumeReport:
    return VolumeReport(
        volume_id=volume,
        uuid="u",
        generation=1,
        capacity=1000,
        file_size=250,
        live_count=1,
        live_bytes=200,
        dead_bytes=50,
        needle_id_max=1,
        stamp_max=1,
    )


def _check_conditions(present: ObjectInfo | None, if_match: str | None, if_none_match: str | None) -> None:
    etag = present.etag if present else None
    if if_match is not None and (etag is None or if_match not in ("*", etag)):
        raise PreconditionFailed(f"the object has ETag {etag}, not {if_match}")
    if if_none_match is not None and etag is not None and if_none_match in ("*", etag):
        raise PreconditionFailed(f"the object exists with ETag {etag}")


def _condition(header: bytes | None) -> str | None:
    return None if header is None else header.decode().strip('"')


def _items_of(body: memoryview) -> Iterator[tuple[PutHead, bytes]]:
    position = 0
    while position < len(body):
        head_end = position + 4 + decode_head_size(body[position : position + 4])
        head = decode_put_head(body[position + 4 : head_end])
        position = head_end + head.size
        yield head, bytes(body[head_end:position])


async def _hang_up(exchange: Exchange) -> None:
    """Close the connection without an answer."""
    sock = exchange._connection._sock
    sock.shutdown(socket.SHUT_RDWR)
    exchange.has_started, exchange.is_keep_alive = True, False
    await trio.lowlevel.checkpoint()


@asynccontextmanager
async def fake_store() -> AsyncIterator[FakeStore]:
    """A running fake store; `store.profile` reaches it."""
    store = FakeStore()
    async with trio.open_nursery() as nursery:
        for volume in (1, 2):
            store.urls[volume] = (await start_server(nursery, store._serve)).url
        endpoint = await nursery.start(store.hub.run, "tcp://127.0.0.1:*")
        store.profile = Profile(
            master=endpoint, server_key=store.keys.public.decode(), key_id=KEY_ID, secret=SECRET
        )
        yield store
        nursery.cancel_scope.cancel()
