"""Uploads: objects of many chunks, written slot by slot and finished in one commit.

    BeginUpload     the catalog has the upload, with the object's key, type and metadata
    RequestSlots    room, a needle id and a token for each of the next chunks; asked for again as needed
    FinishUpload    the object is visible, whole
    AbortUpload     the upload is gone; its chunks become garbage.  `expiry.py` does the same when nobody
                    asked for slots or finished for too long

A chunk may be stored with a lesser stamp than the version it replaces.  Its volume then gives it a greater
one (`RestampNeedle`) before the upload can finish.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from functools import partial

import msgspec

from warehouse.actors.control import rpc
from warehouse.actors.control.allocation import Room, needed_for
from warehouse.actors.control.context import MasterContext, now_ms
from warehouse.actors.control.keyring import Keyring
from warehouse.actors.control.leases import LATE_PUT_S
from warehouse.actors.control.quotas import knows_size, require_room_for, told_to
from warehouse.actors.control.reservations import Reservations, slot_name
from warehouse.actors.control.routes import Routes
from warehouse.actors.control.sessions import Sessions
from warehouse.actors.control.stamps import StampAdmission
from warehouse.auth.data_tokens import DataClaims
from warehouse.auth.rights import Permission
from warehouse.catalog.interface import Transaction
from warehouse.catalog.names import check_key, check_metadata
from warehouse.catalog.records import BucketRow, UploadEnd, UploadRow
from warehouse.errors import (
    BadRequest,
    BodyTooLarge,
    NoSuchBucket,
    NoSuchUpload,
    PreconditionFailed,
    QuotaExceeded,
    VolumeOffline,
)
from warehouse.storage.format.needle import ROLE_MANIFEST, ROLE_OBJECT, ROLE_PART
from warehouse.transport.http.conditions import check_etag_condition
from warehouse.transport.http.header_text import check_content_type
from warehouse.transport.messages import (
    MANIFEST,
    MULTIPART,
    AbortUpload,
    BeginUpload,
    Done,
    FinishUpload,
    NeedleRestamped,
    ObjectWritten,
    RequestSlots,
    RestampNeedle,
    Slot,
    Slots,
    SlotWanted,
    UploadBegun,
)
from warehouse.transport.messages.attributes import (
    MANIFEST_INDEX,
    PART_COUNT_MAX,
    decode_attributes,
    part_of_index,
)
from warehouse.transport.zeromq.peers import Peer

SLOTS_MAX = 64
CHUNK_INDEX_LIMIT = 1_000_000
TRIES = 2  # a token for one needle allows this many times its body: a put that breaks off takes up room, too
FINISH_TRIES = 8


class UploadHandlers:
    def __init__(
        self,
        context: MasterContext,
        sessions: Sessions,
        *,
        keyring: Keyring,
        room: Room,
        reservations: Reservations,
        stamps: StampAdmission,
    ) -> None:
        self._context = context
        self._store = context.settings.store
        self._catalog = context.catalog
        self._writer = context.writer
        self._fleet = context.fleet
        self._sessions = sessions
        self._keyring = keyring
        self._room = room
        self._reservations = reservations
        self._stamps = stamps

    def routes(self) -> Routes:
        return (
            Routes()
            .later(BeginUpload, self.begin)
            .later(RequestSlots, self.request_slots)
            .later(FinishUpload, self.finish)
            .later(AbortUpload, self.abort)
        )

    async def begin(self, peer: Peer, request: BeginUpload) -> UploadBegun:
        check_key(request.key)
        check_metadata(request.metadata)
        check_content_type(request.content_type)
        if request.style not in ("", MANIFEST, MULTIPART):
            raise BadRequest(f"there is no style {request.style!r} of uploads")
        owner_id = decode_attributes(request.attributes).owner_id
        conditions = check_etag_condition(request.if_match), check_etag_condition(request.if_none_match)
        bucket = self._sessions.bucket_for(peer, Permission.WRITE, request.bucket, request.key)
        session = self._sessions.session_of(peer)
        rights, key = session.rights, session.key
        if owner_id not in ("", session.account_id):
            raise BadRequest("an object belongs to the account of the key that puts it, or to nobody")
        require_room_for(self._catalog, bucket, request.key, request.byte_count or 0, rights=rights)
        if request.byte_count is not None:
            self._room.require_in_all(request.byte_count)
        is_multipart = request.style == MULTIPART
        expires_s = self._store.multipart_expires_s if is_multipart else self._store.upload_expires_s
        begun_ms = now_ms()
        expires_ms = begun_ms + int(expires_s * 1000)
        begin = self._sessions.guarded(
            peer,
            lambda t: t.begin_upload(
                bucket.id,
                request.key,
                request.content_type,
                request.metadata,
                *conditions,
                begun_ms,
                expires_ms,
                key.key_id,
                style=request.style,
                attributes=request.attributes,
                owner_id=owner_id,
                initiator_id=session.account_id,
            ),
        )
        if key.throttle is None:
            upload_id = await self._writer.write(begin, is_growth=True)
        else:
            with key.throttle.one_more_upload(partial(self._catalog.upload_count_of_key, key.key_id)):
                upload_id = await self._writer.write(begin, is_growth=True)
        return UploadBegun(upload_id=upload_id, chunk_size=self._store.chunk_size, expires_in_s=expires_s)

    def upload(self, peer: Peer, upload_id: int) -> tuple[UploadRow, BucketRow]:
        """An upload and its bucket, for a peer that may write there.

        Raises:
            NotAuthenticated, PermissionDenied: as `Sessions.require`.
            NoSuchUpload: the catalog does not have it or its bucket, or it is of a key that the peer may not
                write: nobody learns which uploads others have.
        """
        rights = self._sessions.require(peer, Permission.WRITE).rights
        absence = NoSuchUpload(f"there is no upload {upload_id}: it was aborted, or it expired")
        if not 0 < upload_id < 2**63:
            raise absence
        try:
            upload = self._catalog.upload(upload_id)
            bucket = self._catalog.bucket_by_id(upload.bucket_id)
        except (NoSuchUpload, NoSuchBucket):
            raise absence from None
        if not rights.allows(Permission.WRITE, bucket, upload.key):
            raise absence
        return upload, bucket

    # --- slots ------------------------------------------------------------------------------------

    async def request_slots(self, peer: Peer, request: RequestSlots) -> Slots:
        upload, bucket = self.upload(peer, request.upload_id)
        if not 1 <= len(request.slots) <= SLOTS_MAX:
            raise BadRequest(f"1 to {SLOTS_MAX} slots can be asked for at once, not {len(request.slots)}")
        slots: list[Slot] = []
        try:
            for wanted in request.slots:
                slots.append(await self._slot(peer, upload, bucket, wanted, request.exclude_volumes))
            await self._record_slots(peer, upload, bucket, slots, request.slots)
        except BaseException:  # also when the time for this is over: nobody has the slots then
            for slot in slots:
                self._release_slot(upload.id, slot.volume_id, slot.needle_id)
            raise
        return Slots(slots=slots)

    async def _slot(
        self, peer: Peer, upload: UploadRow, bucket: BucketRow, wanted: SlotWanted, exclude: Collection[int]
    ) -> Slot:
        """Find room for one chunk, and reserve it."""
        if not 0 <= wanted.size <= self._store.chunk_size:
            raise BodyTooLarge(f"a chunk has at most {self._store.chunk_size} bytes, not {wanted.size}")
        role = _role_of(upload, wanted.chunk_index)
        needed = needed_for(wanted.size)
        volume = await self._room.find(needed, exclude=exclude, format_min=1 if role == ROLE_OBJECT else 2)
        # No checkpoint from here on, so that the room found is the room reserved.
        session = self._sessions.session_of(peer)
        if session.key.throttle is not None:
            session.key.throttle.room(self._reservations.held(session.key_id), needed)
        holder = session.holder
        disk = self._fleet.disks[volume.disk_id]
        needle_id = self._fleet.take_ids(volume, 1)
        expires_s = holder.life_s(self._store.upload_expires_s)
        claims = self._claims(disk.disk_id, volume.volume_id, needle_id, upload, bucket, wanted)
        slot = Slot(
            chunk_index=wanted.chunk_index,
            volume_id=volume.volume_id,
            needle_id=needle_id,
            url=disk.url,
            token=self._keyring.sign(
                msgspec.structs.replace(claims, expires_at_s=int(time.time() + expires_s), **holder.claims()),
                disk.token_keys,
            ),
            expires_in_s=expires_s,
        )
        self._reservations.reserve(
            slot_name(upload.id, volume.volume_id, needle_id),
            volume.volume_id,
            needed,
            time.monotonic() + expires_s + LATE_PUT_S,
            group=upload.id,
            payer=session.key_id,
        )
        return slot

    def _claims(
        self,
        disk_id: str,
        volume_id: int,
        needle_id: int,
        upload: UploadRow,
        bucket: BucketRow,
        wanted: SlotWanted,
    ) -> DataClaims:
        return DataClaims(
            operation="put",
            audience=disk_id,
            volume_id=volume_id,
            expires_at_s=0,  # the caller adds it, and whose token it is
            bucket_id=bucket.id,
            bucket=bucket.name,
            first_needle_id=needle_id,
            last_needle_id=needle_id,
            key=upload.key,
            body_size=wanted.size,
            room=TRIES * wanted.size,
            upload_id=upload.id,
            chunk_index=wanted.chunk_index,
            chunk_count=None if upload.style else wanted.chunk_count,
            object_size=None if upload.style else wanted.object_size,
            content_type=upload.content_type,
            metadata=upload.metadata if wanted.chunk_index == (MANIFEST_INDEX if upload.style else 0) else {},
            role=_role_of(upload, wanted.chunk_index),
        )

    async def _record_slots(
        self,
        peer: Peer,
        upload: UploadRow,
        bucket: BucketRow,
        slots: Sequence[Slot],
        wanted: Sequence[SlotWanted],
    ) -> None:
        """Write slots into the catalog; the ones that they replace give their room back."""
        rights = self._sessions.session_of(peer).rights
        knows_sizes = knows_size(rights, bucket, upload.key)
        rows = [
            (slot.chunk_index, slot.volume_id, slot.needle_id, chunk.size)
            for slot, chunk in zip(slots, wanted, strict=True)
        ]
        stamp = self._context.stamp()
        expires_ms = now_ms() + int(self._store.upload_expires_s * 1000)

        def set_slots(t: Transaction) -> list[tuple[int, int]]:
            replaced = t.set_slots(upload.id, rows, stamp=stamp, knows_sizes=knows_sizes)
            t.touch_upload(upload.id, expires_ms)
            return replaced

        work = self._sessions.guarded(peer, set_slots)
        with told_to(rights, bucket):
            replaced = await self._writer.write(work, is_growth=True)
        for volume_id, needle_id in replaced:
            self._release_slot(upload.id, volume_id, needle_id)

    def _release_slot(self, upload_id: int, volume_id: int, needle_id: int) -> None:
        self._reservations.release(slot_name(upload_id, volume_id, needle_id))

    # --- the end of an upload ---------------------------------------------------------------------

    async def finish(self, peer: Peer, request: FinishUpload) -> ObjectWritten:
        upload, bucket = self.upload(peer, request.upload_id)
        rights = self._sessions.session_of(peer).rights
        end = UploadEnd(
            request.attributes,
            request.part_numbers,
            check_etag_condition(request.if_match),
            check_etag_condition(request.if_none_match),
        )
        for _ in range(FINISH_TRIES):
            finish = self._sessions.guarded(
                peer,
                lambda t: t.finish_upload(request.upload_id, request.chunk_count, request.object_size, end),
            )
            try:
                with told_to(rights, bucket):
                    result = await self._writer.write(finish, is_growth=True)
            except (PreconditionFailed, QuotaExceeded):
                if upload.style:  # the upload may stay for days, and its manifest says that it has ended
                    await self._writer.write(self._void_manifest(upload.id))
                raise
            if result.object is not None:
                self._reservations.release_group(request.upload_id)
                row = result.object
                self._context.changes.objects_changed(row.bucket_id, [row.key])
                return ObjectWritten(etag=row.etag, size=row.size, created_ms=row.created_ms)
            assert result.restamp is not None
            await self._restamp(request.upload_id, *result.restamp)
        raise VolumeOffline(f"upload {request.upload_id} was overtaken {FINISH_TRIES} times: try again")

    def _void_manifest(self, upload_id: int) -> Callable[[Transaction], None]:
        stamp = self._context.stamp()
        return lambda t: t.void_manifest(upload_id, stamp)

    async def _restamp(
        self, upload_id: int, chunk_index: int, volume_id: int, needle_id: int, restamp_above: int
    ) -> None:
        """Have one of our chunks stamped again: the version to be replaced carries a greater stamp."""
        volume = self._fleet.volumes[volume_id]
        disk = self._fleet.disks[volume.disk_id]
        if disk.peer is None:
            raise VolumeOffline(f"disk {disk.name} is offline; the upload can be finished when it is back")
        command = RestampNeedle(
            incarnation=self._context.incarnation,
            volume_id=volume_id,
            needle_id=needle_id,
            restamp_above=restamp_above,
        )
        answer = await rpc.call(disk.peer, command, NeedleRestamped)
        self._stamps.admit(disk, answer.stamp)
        await self._writer.write(lambda t: t.set_stamp_of_chunk(upload_id, chunk_index, answer.stamp))

    async def abort(self, peer: Peer, request: AbortUpload) -> Done:
        self.upload(peer, request.upload_id)
        stamp = self._context.stamp()
        abort = self._sessions.guarded(peer, lambda t: t.abort_upload(request.upload_id, stamp))
        await self._writer.write(abort)
        self._reservations.release_group(request.upload_id)
        return Done()


def _role_of(upload: UploadRow, chunk_index: int) -> int:
    """The role of the needle of a chunk, see `storage/format/needle.py`.

    Raises:
        BadRequest: an upload of this style has no such chunk.
    """
    if upload.style and chunk_index == MANIFEST_INDEX:
        return ROLE_MANIFEST
    if upload.style == MULTIPART:
        number, _, _ = part_of_index(chunk_index)
        if chunk_index < 0 or not 1 <= number <= PART_COUNT_MAX:
            raise BadRequest(f"a chunk of a part has a part from 1 to {PART_COUNT_MAX}, not {number}")
    elif not 0 <= chunk_index < CHUNK_INDEX_LIMIT:
        raise BadRequest(f"a chunk index goes from 0 to 999999, not {chunk_index}")
    return ROLE_PART if upload.style else ROLE_OBJECT
