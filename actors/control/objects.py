"""Objects: buckets, and the objects in them, as clients list, locate and delete them.

Reads are answered at once from the catalog's read connection.  Writes go through the `CatalogWriter`; their
answers are sent after the commit.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from warehouse.actors.control.context import MasterContext, now_ms
from warehouse.actors.control.lineage import Lineage
from warehouse.actors.control.provisioning import Provisioner
from warehouse.actors.control.read_grants import UPLOADS_MAX, Reader, ReadGrants, Wanted
from warehouse.actors.control.routes import Routes
from warehouse.actors.control.sessions import ClientSession, Sessions, require_on, require_seen
from warehouse.actors.control.sight import bucket_info, seen_buckets
from warehouse.auth.rights import Permission, Rights
from warehouse.catalog.interface import Transaction
from warehouse.catalog.listing import spans
from warehouse.catalog.names import check_bucket_name, check_key
from warehouse.catalog.records import BucketRow, ChunkRow, ObjectRow, Page
from warehouse.errors import BadRequest, PermissionDenied
from warehouse.transport.http.batch_format import HEAD_SIZE_MAX, ITEM_SIZE_MAX
from warehouse.transport.http.conditions import check_etag_condition
from warehouse.transport.http.header_text import served_type
from warehouse.transport.messages import (
    BUCKET_CONFIG_KINDS,
    BucketConfigFound,
    BucketFound,
    Buckets,
    Chunk,
    CreateBucket,
    DeleteBucket,
    Deleted,
    DeleteObjects,
    Done,
    ListBuckets,
    Listing,
    ListObjects,
    LocateObjects,
    ObjectFound,
    ObjectInfo,
    ObjectsLocated,
    ReadBucketConfig,
    ReadGrant,
    SetBucketConfig,
    SetQuota,
    StatBucket,
    StatObject,
)
from warehouse.transport.messages.paging import ANSWER_SIZE_MAX, first_that_fit, fitting
from warehouse.transport.zeromq.peers import Peer

LOCATE_MAX = 1000
LIST_MAX = 1000
DELETE_MAX = 1000
BUCKETS_MAX = 10_000  # in one answer
CHUNKS_MAX = 8192  # chunks in one answer
ALWAYS_FIT = ANSWER_SIZE_MAX // HEAD_SIZE_MAX  # objects, whatever is known of them: a put says as much of one
CHUNKS_UNPAGED_MAX = 128 * 1024  # for clients that cannot ask for the rest: an object of 1 TiB
RESTART_S = 5.0  # a disk that went away less than this ago may be restarting: readers wait for it


class ObjectHandlers:
    def __init__(
        self,
        context: MasterContext,
        sessions: Sessions,
        *,
        lineage: Lineage,
        provisioner: Provisioner,
        grants: ReadGrants,
    ) -> None:
        self._context = context
        self._catalog = context.catalog
        self._fleet = context.fleet
        self._sessions = sessions
        self._lineage = lineage
        self._provisioner = provisioner
        self._grants = grants

    def routes(self) -> Routes:
        return (
            Routes()
            .later(CreateBucket, self.create_bucket)
            .later(DeleteBucket, self.delete_bucket)
            .now(StatBucket, self.stat_bucket)
            .later(SetQuota, self.set_quota)
            .later(SetBucketConfig, self.set_config)
            .now(ReadBucketConfig, self.read_config)
            .now(ListBuckets, self.list_buckets)
            .now(StatObject, self.stat)
            .now(LocateObjects, self.locate)
            .now(ListObjects, self.list_objects)
            .later(DeleteObjects, self.delete)
        )

    # --- buckets ----------------------------------------------------------------------------------

    async def create_bucket(self, peer: Peer, request: CreateBucket) -> Done:
        check_bucket_name(request.bucket)
        session = self._sessions.require_name(peer, Permission.MANAGE_BUCKETS, request.bucket)
        created_ms, owner_id = now_ms(), session.account_id
        row = await self._context.writer.write(
            self._sessions.guarded(
                peer, lambda t: t.create_bucket(request.bucket, created_ms, owner_id, region=request.region)
            ),
            is_growth=True,
        )
        self._context.events.record("bucket_created", row, bucket=row.name)
        self._context.changes.bucket_changed(row)
        self._provisioner.note_buckets()
        return Done()

    async def delete_bucket(self, peer: Peer, request: DeleteBucket) -> Done:
        row = self._sessions.bucket_for(peer, Permission.MANAGE_BUCKETS, request.bucket)
        if request.force:  # the beginning of every key: a part of the bucket is not enough
            self._sessions.bucket_for(peer, Permission.DELETE, request.bucket, "")
        stamp = self._context.stamp()
        await self._context.writer.write(
            self._sessions.guarded(
                peer, lambda t: t.delete_bucket(row.name, row.id, force=request.force, stamp=stamp)
            )
        )
        self._context.events.record("bucket_deleted", row, bucket=row.name)
        self._context.changes.bucket_changed(row, is_gone=True)
        self._provisioner.note_buckets()
        return Done()

    def list_buckets(self, peer: Peer, request: ListBuckets) -> Buckets:
        rights = self._sessions.session_of(peer).rights
        limit = min(request.limit, BUCKETS_MAX) if request.limit > 0 else None
        rows = seen_buckets(self._catalog, rights, after=request.after, limit=limit)
        return Buckets(
            buckets=[bucket_info(row, rights) for row in rows],
            next_after=rows[-1].name if len(rows) == limit else "",
        )

    def stat_bucket(self, peer: Peer, request: StatBucket) -> BucketFound:
        rights = self._sessions.session_of(peer).rights
        row = self._catalog.bucket(request.bucket)
        require_seen(rights, row)
        return BucketFound(bucket=bucket_info(row, rights))

    async def set_quota(self, peer: Peer, request: SetQuota) -> BucketFound:
        rights = self._sessions.session_of(peer).rights
        bucket = self._sessions.bucket_for(peer, Permission.MANAGE_BUCKETS, request.bucket)

        def change(t: Transaction) -> None:
            t.set_quota(
                bucket.id,
                object_count=request.quota_objects if request.sets_objects else ...,
                byte_count=request.quota_bytes if request.sets_bytes else ...,
            )

        await self._context.writer.write(self._sessions.guarded(peer, change))
        row = self._catalog.bucket_by_id(bucket.id)
        self._context.events.record(
            "quota_set", row, bucket=row.name, quota_objects=row.quota_objects, quota_bytes=row.quota_bytes
        )
        self._context.changes.bucket_changed(row)
        return BucketFound(bucket=bucket_info(row, rights))

    async def set_config(self, peer: Peer, request: SetBucketConfig) -> Done:
        row = self._sessions.bucket_for(peer, Permission.MANAGE_BUCKETS, request.bucket)
        if request.config not in BUCKET_CONFIG_KINDS:
            raise BadRequest(f"a bucket has no configuration of the kind {request.config!r}")
        await self._context.writer.write(
            self._sessions.guarded(
                peer, lambda t: t.set_bucket_config(row.id, request.config, request.document)
            ),
            is_growth=bool(request.document),
        )
        self._context.changes.bucket_changed(row)
        self._provisioner.note_buckets()
        return Done()

    def read_config(self, peer: Peer, request: ReadBucketConfig) -> BucketConfigFound:
        rights = self._sessions.session_of(peer).rights
        row = self._catalog.bucket(request.bucket)
        require_seen(rights, row)
        return BucketConfigFound(document=self._catalog.bucket_configs(row.id).get(request.config, b""))

    # --- reading ----------------------------------------------------------------------------------

    def stat(self, peer: Peer, request: StatObject) -> ObjectFound:
        check_key(request.key)
        _, row = self._sessions.object_for(peer, request.bucket, request.key)
        return ObjectFound(object=object_info(row))

    def locate(self, peer: Peer, request: LocateObjects) -> ObjectsLocated:
        if len(request.keys) > LOCATE_MAX:
            raise BadRequest(f"at most {LOCATE_MAX} keys can be located at once, {len(request.keys)} came")
        if request.first_chunk and len(request.keys) != 1:
            raise BadRequest("a first chunk is named for one key alone")
        session = self._sessions.require(peer, Permission.READ)
        is_paged = request.chunk_limit > 0
        keys: Sequence[str] = request.keys
        denied: list[int] = []
        with self._catalog.one_moment():
            rights = session.rights
            if not rights.is_everywhere:
                # Before anything is read: how long an answer takes tells nothing of what is not granted.
                denied = _denied(rights, self._catalog.bucket(request.bucket), keys)
                gone = frozenset(denied)
                keys = [key for position, key in enumerate(keys) if position not in gone]
            bucket, found = self._catalog.locate(
                request.bucket,
                keys,
                first_chunk=request.first_chunk,
                chunk_limit=min(request.chunk_limit, CHUNKS_MAX) if is_paged else CHUNKS_UNPAGED_MAX,
            )
        objects = [None if one is None else object_info(one[0], chunks_of(*one)) for one in found]
        # Nothing but metadata and attributes makes a page long, and few objects never do.
        if len(objects) > ALWAYS_FIT and any(
            info is not None and (info.metadata or info.attributes) for info in objects
        ):
            objects = first_that_fit(objects)
        wanted: dict[int, set[int]] = {}
        objects = objects[: _count_named(wanted, found[: len(objects)])]
        if not is_paged:
            _require_all(objects, len(keys))
        for position in denied:
            if position <= len(objects):
                objects.insert(position, None)
        grants, offline = self._grants.grants(_reader(session, bucket), bucket, wanted)
        return ObjectsLocated(
            objects=objects,
            grants=grants,
            offline=offline,
            back_soon=self._fleet.back_soon(offline, grace_s=RESTART_S) if offline else [],
            why_unknown=self._lineage.why_behind if None in objects else "",
            denied=[position for position in denied if position < len(objects)],
        )

    def list_objects(self, peer: Peer, request: ListObjects) -> Listing:
        if request.delimiter == "":
            raise BadRequest("a delimiter has at least one character")
        flags = Permission.LIST | (Permission.READ if request.with_locations else Permission.LIST)
        session = self._sessions.require(peer, flags)
        rights = session.rights
        bucket, page = self._page(request, rights, flags)
        if not request.with_locations:
            objects, grants = [object_info(row) for row in page.objects], list[ReadGrant]()
        else:
            readable = rights.prefixes(Permission.READ, bucket)
            # The chunks of larger objects could fill any message.
            near = [
                row.chunk_count == 1 and (readable is None or row.key.startswith(readable))
                for row in page.objects
            ]
            objects = [
                object_info(row, [first_chunk(row)] if is_near else None)
                for row, is_near in zip(page.objects, near, strict=True)
            ]
            wanted = _wanted_of_page(itertools.compress(page.objects, near))
            grants, _ = self._grants.grants(_reader(session, bucket), bucket, wanted)
        return Listing(objects=objects, prefixes=page.prefixes, next_after=page.next_after, grants=grants)

    def _page(self, request: ListObjects, rights: Rights, flags: Permission) -> tuple[BucketRow, Page]:
        """One page of what the key may list, as if there were no other keys."""
        # A bucket that is deleted by force vanishes at once, and its objects piece by piece after that.
        with self._catalog.one_moment():
            bucket = self._catalog.bucket(request.bucket)
            require_on(rights, flags, bucket, None)
            within = require_part(rights, bucket, request.prefix)
            page = self._catalog.list_objects(
                bucket.id,
                prefix=request.prefix,
                delimiter=request.delimiter,
                after=request.after,
                limit=max(1, min(request.limit, LIST_MAX)),
                within=within,
            )
        return bucket, _that_fits(page)

    # --- deleting ---------------------------------------------------------------------------------

    async def delete(self, peer: Peer, request: DeleteObjects) -> Deleted:
        if len(request.keys) > DELETE_MAX:
            raise BadRequest(f"at most {DELETE_MAX} keys can be deleted at once, {len(request.keys)} came")
        for key in request.keys:
            check_key(key)
        if_match = check_etag_condition(request.if_match)
        bucket = self._sessions.bucket_for(peer, Permission.DELETE, request.bucket)
        rights = self._sessions.session_of(peer).rights
        rights.require_all(Permission.DELETE, bucket, request.keys)
        stamp = self._context.stamp()
        existed = await self._context.writer.write(
            self._sessions.guarded(
                peer, lambda t: t.delete_objects(bucket.id, request.keys, if_match=if_match, stamp=stamp)
            )
        )
        changes = self._context.changes
        if changes.is_watched:
            changes.objects_changed(bucket.id, itertools.compress(request.keys, existed))
        return Deleted(existed=existed)


def require_part(rights: Rights, bucket: BucketRow, prefix: str) -> tuple[str, ...] | None:
    """How the keys begin that these rights may list in the bucket; None: all of them.

    Raises:
        PermissionDenied: none of them begins with `prefix`, or is the beginning of it.
    """
    within = rights.prefixes(Permission.LIST, bucket)
    if within is not None and not spans(prefix, within):
        raise PermissionDenied(f"this key has no list right on bucket {bucket.name!r} for {prefix!r}")
    return within


def _reader(session: ClientSession, bucket: BucketRow) -> Reader:
    return Reader(session.holder, session.rights.prefixes(Permission.READ, bucket))


def _count_named(
    wanted: dict[int, set[int]], found: Sequence[tuple[ObjectRow, Sequence[ChunkRow]] | None]
) -> int:
    """Note which volumes have these objects, and which of their uploads the grants must name.

    Returns:
        How many of the objects one answer can grant the right to read: at least one, nearly always all.
    """
    for count, one in enumerate(found):
        if one is None:
            continue
        row, chunks = one
        if row.upload_id is None and row.chunk_count == 1:  # nearly all
            if row.volume_id not in wanted:
                wanted[row.volume_id] = set()
            continue
        for volume_id in {chunk.volume_id for chunk in chunks} if row.chunk_count > 1 else (row.volume_id,):
            uploads = wanted.setdefault(volume_id, set())
            if row.upload_id is not None:
                if len(uploads) == UPLOADS_MAX:
                    return count
                uploads.add(row.upload_id)
    return len(found)


def _wanted_of_page(rows: Iterable[ObjectRow]) -> Wanted:
    """Which volumes have these objects of one chunk; their grants name uploads of small objects, and not too
    many, because clients locate all others."""
    wanted: dict[int, set[int]] = {}
    for row in rows:
        uploads = wanted.setdefault(row.volume_id, set())
        if row.upload_id is not None and row.size <= ITEM_SIZE_MAX and len(uploads) < UPLOADS_MAX:
            uploads.add(row.upload_id)
    return wanted


def _denied(rights: Rights, bucket: BucketRow, keys: Sequence[str]) -> list[int]:
    """The positions of the keys that may not be read.

    Raises:
        NoSuchBucket, PermissionDenied: as `require_on`; also if none of the keys may be read.
    """
    require_on(rights, Permission.READ, bucket, None)
    prefixes = rights.prefixes(Permission.READ, bucket)
    if prefixes is None:
        return []
    denied = [position for position, key in enumerate(keys) if not key.startswith(prefixes)]
    if denied and len(denied) == len(keys):
        rights.require(Permission.READ, bucket, keys[0])
    return denied


# --- rows for messages ----------------------------------------------------------------------------


def object_info(row: ObjectRow, chunks: list[Chunk] | None = None) -> ObjectInfo:
    return ObjectInfo(
        key=row.key,
        size=row.size,
        etag=row.etag,
        created_ms=row.created_ms,
        content_type=served_type(row.content_type),
        metadata=row.metadata,
        chunk_count=row.chunk_count,
        chunks=chunks or [],
        owner_id=row.owner_id or "",
        attributes=row.attributes,
    )


def first_chunk(row: ObjectRow) -> Chunk:
    """The first chunk of an object, with the object's size: right for an object of one chunk."""
    return Chunk(row.volume_id, row.needle_id, row.size, row.crc)


def chunks_of(row: ObjectRow, chunks: Sequence[ChunkRow]) -> list[Chunk]:
    """What `Catalog.locate` found, for a message."""
    if row.chunk_count == 1:
        return [first_chunk(row)]
    return [Chunk(chunk.volume_id, chunk.needle_id, chunk.size, chunk.crc) for chunk in chunks]


def _require_all(objects: Sequence[ObjectInfo | None], key_count: int) -> None:
    """For a client that cannot ask for the rest of an answer.

    Raises:
        BadRequest: an object is missing from `objects`, or a chunk from the last one.
    """
    last = objects[-1] if objects else None
    is_cut = last is not None and len(last.chunks) < last.chunk_count
    if len(objects) < key_count or is_cut:
        raise BadRequest(
            f"the places of these {key_count} objects do not fit into one message: ask for fewer"
            " keys, or as later releases of this library do, for some chunks at once"
        )


def _that_fits(page: Page) -> Page:
    """The entries of a page of a listing that fit into a message, and where the next page begins."""
    if not any(row.metadata for row in page.objects):
        return page  # a thousand keys and prefixes always fit
    count = fitting(object_info(row) for row in page.objects)
    if count == len(page.objects):
        return page
    left_out = page.objects[count].key
    prefixes = [prefix for prefix in page.prefixes if prefix < left_out]
    last = max([page.objects[count - 1].key, *prefixes[-1:]])
    return Page(page.objects[:count], prefixes, last)
