"""Presigning: URLs that carry their own right to read or write one object.

A PUT URL names one needle, for one chunk.  A GET URL leads to the volume actor of the object's first chunk,
and its token says where the rest is:

    one chunk           nothing more to say
    up to PARTS_MAX     the token names all chunks, so reading needs no master
    more, or too long   the token holds a second one, for the master alone, with which the volume actor asks
                        for the list of chunks (`LocateChunks`)
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from warehouse.actors.control.allocation import Room, needed_for
from warehouse.actors.control.context import MasterContext
from warehouse.actors.control.disks import DiskHandlers
from warehouse.actors.control.fleet_state import VolumeState
from warehouse.actors.control.holders import Holder
from warehouse.actors.control.keyring import MASTER_AUDIENCE, Keyring
from warehouse.actors.control.leases import LATE_PUT_S
from warehouse.actors.control.objects import CHUNKS_MAX, chunks_of, first_chunk
from warehouse.actors.control.presign_terms import check_terms, get_terms
from warehouse.actors.control.quotas import require_room_for
from warehouse.actors.control.read_grants import Reader, ReadGrants
from warehouse.actors.control.reservations import Reservations, presigned_name
from warehouse.actors.control.routes import Routes
from warehouse.actors.control.sessions import Sessions
from warehouse.actors.control.uploads import TRIES
from warehouse.auth.data_tokens import DataClaims, DataTokenVerifier
from warehouse.auth.rights import Permission
from warehouse.catalog.records import BucketRow, ObjectRow
from warehouse.conf.formatting import format_size
from warehouse.errors import (
    BadRequest,
    BodyTooLarge,
    NoSuchObject,
    ObjectInconsistent,
    TokenScope,
    VolumeOffline,
)
from warehouse.transport.http.header_text import served_type
from warehouse.transport.messages import Chunk, ChunksLocated, LocateChunks, Presign, Presigned
from warehouse.transport.zeromq.peers import Peer

RESERVED_S_MAX = 3600.0  # the URL of a PUT may live for days; its room must not be kept from others that long
URL_SIZE_MAX = 1536  # many proxies, mails and logs take no more than 2 KiB
PARTS_MAX = 8  # chunks that a URL may name; the list of more chunks is asked for when the URL is used
SENDING_S = 24 * 3600.0  # for how long after its expiry the object of a URL may still be on its way


class _Signing(NamedTuple):
    """What the tokens of one URL have in common."""

    bucket: BucketRow
    holder: Holder
    expires_s: int  # unix time
    terms: Mapping[str, Any]  # claims that the URL's own token has, and those of its parts do not


class PresignHandlers:
    def __init__(
        self,
        context: MasterContext,
        sessions: Sessions,
        *,
        keyring: Keyring,
        room: Room,
        reservations: Reservations,
        grants: ReadGrants,
        disks: DiskHandlers,
    ) -> None:
        self._store = context.settings.store
        self._catalog = context.catalog
        self._fleet = context.fleet
        self._sessions = sessions
        self._keyring = keyring
        self._room = room
        self._reservations = reservations
        self._grants = grants
        self._disks = disks

    def routes(self) -> Routes:
        return (
            Routes()
            .now_or_later(Presign, self.presign, self.presign_later)
            .now(LocateChunks, self.locate_chunks)
        )

    def presign(self, peer: Peer, request: Presign) -> Presigned | None:
        """None: room for a PUT is on its way."""
        session = self._sessions.require(peer, Permission.SIGN)
        check_terms(request, session.sign_s_max)
        holder = session.holder
        request = msgspec.structs.replace(request, expires_in_s=holder.life_s(request.expires_in_s))
        if request.method == "GET":
            return self._presign_get(peer, request, holder)
        return self._presign_put(peer, request, holder)

    async def presign_later(self, peer: Peer, request: Presign) -> Presigned:
        """Wait for room that is on its way, and presign a PUT for it."""
        return await self._room.until(
            needed_for(self._size_max(request)), lambda: self.presign(peer, request)
        )

    # --- PUT --------------------------------------------------------------------------------------

    def _size_max(self, request: Presign) -> int:
        return self._store.chunk_size if request.size_max is None else request.size_max

    def _presign_put(self, peer: Peer, request: Presign, holder: Holder) -> Presigned | None:
        bucket = self._sessions.bucket_for(
            peer, Permission.WRITE | Permission.SIGN, request.bucket, request.key
        )
        session = self._sessions.session_of(peer)
        require_room_for(self._catalog, bucket, request.key, 0, rights=session.rights)
        self._require_sizes(request)
        needed = needed_for(self._size_max(request))
        if session.key.throttle is not None:
            session.key.throttle.room(self._reservations.held(session.key_id), needed)
        volumes = self._room.find_now(needed)
        if not volumes:
            self._room.require_coming(needed)
            return None
        volume, needle_id = volumes[0], self._fleet.take_ids(volumes[0], 1)
        reserved_s = min(request.expires_in_s, RESERVED_S_MAX) + LATE_PUT_S
        name = presigned_name(volume.volume_id, needle_id)
        self._reservations.reserve(
            name, volume.volume_id, needed, time.monotonic() + reserved_s, payer=session.key_id
        )
        return Presigned(
            url=self._put_url(request, bucket, holder, volume, needle_id), expires_in_s=request.expires_in_s
        )

    def _require_sizes(self, request: Presign) -> None:
        """
        Raises:
            BodyTooLarge: the largest body would be more than a chunk.
            BadRequest: no body has such a size.
        """
        size_max = self._size_max(request)
        if not 0 <= size_max <= self._store.chunk_size:
            raise BodyTooLarge(
                f"a presigned PUT carries at most one chunk, {format_size(self._store.chunk_size)}, not"
                f" {size_max:,} bytes"
            )
        if request.size_min > size_max:
            raise BadRequest(f"no body has at least {request.size_min:,} and at most {size_max:,} bytes")

    def _put_url(
        self, request: Presign, bucket: BucketRow, holder: Holder, volume: VolumeState, needle_id: int
    ) -> str:
        disk, size_max = self._fleet.disks[volume.disk_id], self._size_max(request)
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
            body_size_min=request.size_min,
            room=TRIES * size_max,
            content_type=request.content_type,
            if_none_match="*" if request.if_none_match else None,
            **holder.claims(),
        )
        token = self._keyring.sign(claims, disk.token_keys)
        return f"{disk.url}/v1/needles/{volume.volume_id}/{needle_id}?token={token}"

    # --- GET --------------------------------------------------------------------------------------

    def _presign_get(self, peer: Peer, request: Presign, holder: Holder) -> Presigned:
        self._sessions.bucket_for(peer, Permission.SIGN, request.bucket, request.key)
        bucket, row = self._sessions.object_for(peer, request.bucket, request.key)
        signing = _Signing(
            bucket,
            holder,
            int(time.time() + request.expires_in_s),
            {**get_terms(request)._asdict(), "once": self._once(row) if request.is_once else None},
        )
        url, told_type = None, request.content_type  # what it says, whatever the object's own type is
        if row.chunk_count == 1:
            content_type = row.content_type if told_type is None else told_type
            content_type = None if content_type is None else served_type(content_type)
            # Where an object ends with a manifest, its only chunk does not tell its ETag.
            etag = row.etag if row.md5 is not None and row.upload_id is not None else None
            url = self._url_of(signing, first_chunk(row), content_type=content_type, etag=etag)
        elif row.chunk_count <= PARTS_MAX and not request.is_once:
            # Not for a URL that works once: the rights to its parts would work again and again.
            url = self._url_of_parts(signing, request.key, told_type)
        if url is None or (len(url) > URL_SIZE_MAX and row.chunk_count > 1):
            url = self._url_of_many(signing, row, told_type)
        return Presigned(url=url, expires_in_s=request.expires_in_s)

    def _once(self, row: ObjectRow) -> int:
        """Which run of which volume actor counts the uses of a URL that works once."""
        return self._fleet.disks[self._fleet.volumes[row.volume_id].disk_id].incarnation

    def _url_of_parts(self, signing: _Signing, key: str, told_type: str | None) -> str:
        """A URL whose token names all chunks."""
        row, chunks = self._all_chunks(signing.bucket, key)
        first = chunks[0]
        first_disk = self._fleet.volumes[first.volume_id].disk_id
        parts = []
        for chunk in chunks:
            # Only chunks of other disks need a right of their own: the first disk reads its own.
            is_near = self._fleet.volumes[chunk.volume_id].disk_id == first_disk
            where, right = ("", "") if is_near else self._right_to(signing, chunk)
            parts.append((chunk.volume_id, chunk.needle_id, chunk.size, where, right))
        return self._url_of(
            signing,
            first,
            content_type=row.content_type if told_type is None else told_type,
            key=row.key,
            parts=parts,
            etag=row.etag,
            created_ms=row.created_ms,
        )

    def _all_chunks(self, bucket: BucketRow, key: str) -> tuple[ObjectRow, list[Chunk]]:
        """An object of at most PARTS_MAX chunks.

        Raises:
            NoSuchObject: the catalog does not have it.
            ObjectInconsistent: its chunks do not add up to its size.
        """
        _, (found,) = self._catalog.locate(bucket.name, [key], chunk_limit=PARTS_MAX)
        if found is None:
            raise NoSuchObject(f"bucket {bucket.name!r} has no object {key!r}")
        row, chunks = found[0], chunks_of(*found)
        size = sum(chunk.size for chunk in chunks)
        if len(chunks) != row.chunk_count or size != row.size:
            raise ObjectInconsistent(
                f"the catalog has {row.size} bytes in {row.chunk_count} chunks for {key!r}, and names"
                f" {len(chunks)} chunks of {size} bytes"
            )
        return row, chunks

    def _url_of_many(self, signing: _Signing, row: ObjectRow, told_type: str | None) -> str:
        """A URL of any number of chunks: the first one's actor asks for their list (`LocateChunks`)."""
        first = first_chunk(row)
        question = DataClaims(
            operation="get",
            audience=MASTER_AUDIENCE,
            volume_id=first.volume_id,
            first_needle_id=first.needle_id,
            last_needle_id=first.needle_id,
            expires_at_s=signing.expires_s,
            bucket_id=signing.bucket.id,
            bucket=signing.bucket.name,
            etag=row.etag,
            **signing.holder.claims(),
        )
        return self._url_of(
            signing,
            first,
            content_type=told_type,
            upload_id=row.upload_id,
            chunk_count=row.chunk_count,
            object_size=row.size,
            etag=row.etag,
            created_ms=row.created_ms,
            chunk_list_token=self._keyring.sign(question, self._keyring.token_keys_of(MASTER_AUDIENCE)),
        )

    def _url_of(self, signing: _Signing, first: Chunk, **claims: Any) -> str:
        url, token = self._right_to(signing, first, **signing.terms, **claims)
        return f"{url}/v1/needles/{first.volume_id}/{first.needle_id}?token={token}"

    def _right_to(self, signing: _Signing, chunk: Chunk, **claims: Any) -> tuple[str, str]:
        """URL of the disk of a chunk, and a token to read it."""
        volume = self._fleet.volumes[chunk.volume_id]
        disk = self._fleet.disks[volume.disk_id]
        if not disk.is_online:
            raise VolumeOffline(f"disk {disk.name}, which holds part of this object, is offline")
        read = DataClaims(
            operation="get",
            audience=disk.disk_id,
            volume_id=chunk.volume_id,
            expires_at_s=signing.expires_s,
            bucket_id=signing.bucket.id,
            bucket=signing.bucket.name,
            first_needle_id=chunk.needle_id,
            last_needle_id=chunk.needle_id,
            **signing.holder.claims(),
            **claims,
        )
        return disk.url, self._keyring.sign(read, disk.token_keys)

    # --- the chunks behind a URL ------------------------------------------------------------------

    def locate_chunks(self, peer: Peer, request: LocateChunks) -> ChunksLocated:
        """For a volume actor that was given a URL of many chunks."""
        disk = self._disks.disk_of(peer)
        if request.first < 0 or not 1 <= request.limit <= CHUNKS_MAX:
            raise BadRequest(f"1 to {CHUNKS_MAX} chunks can be located at once, not {request.limit}")
        verifier = DataTokenVerifier(MASTER_AUDIENCE, self._keyring.token_keys_of(MASTER_AUDIENCE))
        # The actor has checked the URL's expiry; an object that it is sending it may send to the end.
        claims = verifier.verify(request.token.encode(), now_s=time.time() - SENDING_S)
        if claims.volume_id not in disk.volumes:
            raise TokenScope("this URL leads to another disk")
        holder = self._sessions.holder_of(claims.key_id, claims.epoch)
        found = self._catalog.chunks_of_version(
            claims.volume_id,
            claims.first_needle_id,
            claims.etag or "",
            first=request.first,
            limit=request.limit,
        )
        if found is None:
            raise NoSuchObject("the object was replaced or deleted after this URL was made")
        row, chunks = found
        bucket = self._catalog.bucket_by_id(claims.bucket_id)
        # For this object alone: a volume actor has no business with others of other disks.
        reader = Reader(holder, (row.key,))
        uploads = () if row.upload_id is None else (row.upload_id,)
        wanted = {chunk.volume_id: uploads for chunk in chunks}
        grants, offline = self._grants.grants(reader, bucket, wanted)
        return ChunksLocated(
            chunks=[Chunk(one.volume_id, one.needle_id, one.size, one.crc) for one in chunks],
            grants=grants,
            offline=offline,
        )
