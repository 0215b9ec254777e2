"""Leases: room and needle ids on a few volumes, with which one client puts small objects.

A client asks once (`LeaseNeedles`) and then puts up to a thousand objects without asking again.  The master
reserves the room before the client sends a byte, so no volume accepts a byte that has no place.  The
reservation outlives the token by a little, because a put that began in time may still be on its way.
"""

from __future__ import annotations

import itertools
import secrets
import time

from warehouse.actors.control.allocation import Room
from warehouse.actors.control.context import MasterContext
from warehouse.actors.control.fleet_state import NEWEST_FORMAT, VolumeState
from warehouse.actors.control.keyring import Keyring
from warehouse.actors.control.quotas import require_room_for_any
from warehouse.actors.control.reservations import Reservations
from warehouse.actors.control.routes import Routes
from warehouse.actors.control.sessions import ClientSession, Sessions
from warehouse.auth.data_tokens import DataClaims
from warehouse.auth.rights import Permission
from warehouse.catalog.records import BucketRow
from warehouse.errors import BadRequest
from warehouse.transport.messages import Lease, Leased, LeaseNeedles
from warehouse.transport.zeromq.peers import Peer

OVERHEAD_RESERVED = 1024  # headers and metadata of a leased needle, in the reservation of its room
LEASE_COUNT_MAX = 1024
LEASE_BYTES_MAX = 256 * 1024 * 1024
LEASE_BYTES_MIN = 64 * 1024
LEASE_VOLUMES_MAX = 4
SMALL_PUT_MAX = 1024 * 1024 + 16 * 1024  # what one put on a lease takes at most
LEASE_SHARE = 64  # a lease reserves this part of all room at most, or what one needle needs
LATE_PUT_S = 30.0  # a put that began before its token expired arrives within this
GONE_LEASE_S = 10.0  # puts of a client that has gone are still on their way; so is a client that comes back


class LeaseHandlers:
    def __init__(
        self,
        context: MasterContext,
        sessions: Sessions,
        *,
        keyring: Keyring,
        room: Room,
        reservations: Reservations,
    ) -> None:
        self._store = context.settings.store
        self._fleet = context.fleet
        self._sessions = sessions
        self._keyring = keyring
        self._room = room
        self._reservations = reservations
        self._lease_ids = itertools.count(secrets.randbits(42) << 20)  # never those of an earlier start

    def routes(self) -> Routes:
        return Routes().now_or_later(LeaseNeedles, self.lease, self.lease_later)

    def lease(self, peer: Peer, request: LeaseNeedles) -> Leased | None:
        """Lease on as many volumes as there are, up to a few; None: room for the lease is on its way."""
        bucket = self._sessions.bucket_for(peer, Permission.WRITE, request.bucket)
        session = self._sessions.session_of(peer)
        require_room_for_any(bucket, rights=session.rights)
        if not 1 <= request.format <= NEWEST_FORMAT:
            raise BadRequest(f"volumes have formats 1 to {NEWEST_FORMAT}, not {request.format}")
        if request.needle_count < 1 or request.byte_count < 0:
            raise BadRequest("a lease is for at least one needle and no negative number of bytes")
        needle_count, byte_count = _bounded(request)
        least = _least_lease(needle_count, byte_count)
        # No lease reserves more than a part of the room there is, or the leases of a few clients would fill
        # a small store.
        byte_count = max(least, min(byte_count, self._fleet.room.takes_at_most // LEASE_SHARE))
        throttle = session.key.throttle
        most = None
        if throttle is not None:
            most = throttle.room(self._reservations.held(session.key_id), least + OVERHEAD_RESERVED)
        if most is not None:
            byte_count = max(least, min(byte_count, most - OVERHEAD_RESERVED))
            needle_count = max(1, min(needle_count, (most - byte_count) // OVERHEAD_RESERVED))
        while True:
            volumes = self._volumes_for(needle_count, byte_count, request)
            if volumes:
                break
            if byte_count <= least and needle_count == 1:
                self._room.require_coming(byte_count + OVERHEAD_RESERVED, request.format)
                return None
            # Nearly full: a smaller lease may still find a place.
            byte_count, needle_count = max(byte_count // 2, least), max(needle_count // 2, 1)
        share = max(1, needle_count // len(volumes))
        if most is not None:  # on each volume the lease is for all bytes
            volumes = volumes[: max(1, most // (byte_count + share * OVERHEAD_RESERVED))]
        return Leased(
            leases=[self._lease_on(volume, peer, session, bucket, share, byte_count) for volume in volumes]
        )

    async def lease_later(self, peer: Peer, request: LeaseNeedles) -> Leased:
        """Wait for room that is on its way, and lease it."""
        least = _least_lease(*_bounded(request)) + OVERHEAD_RESERVED
        return await self._room.until(least, lambda: self.lease(peer, request), format_min=request.format)

    def _volumes_for(self, needle_count: int, byte_count: int, request: LeaseNeedles) -> list[VolumeState]:
        return self._room.find_now(
            byte_count + needle_count * OVERHEAD_RESERVED,
            count=LEASE_VOLUMES_MAX,
            exclude=request.exclude_volumes,
            format_min=request.format,
        )

    def _lease_on(
        self,
        volume: VolumeState,
        peer: Peer,
        session: ClientSession,
        bucket: BucketRow,
        needle_count: int,
        byte_count: int,
    ) -> Lease:
        needle_count = min(needle_count, volume.ids_left)
        lease_s = session.holder.life_s(self._store.lease_s)
        lease_id = next(self._lease_ids)
        first = self._fleet.take_ids(volume, needle_count)
        last = first + needle_count - 1
        disk = self._fleet.disks[volume.disk_id]
        self._reservations.reserve(
            lease_id,
            volume.volume_id,
            byte_count + needle_count * OVERHEAD_RESERVED,
            time.monotonic() + lease_s + LATE_PUT_S,
            owner=peer,
            payer=session.key_id,
        )
        claims = DataClaims(
            operation="put",
            audience=disk.disk_id,
            volume_id=volume.volume_id,
            expires_at_s=int(time.time() + lease_s),
            bucket_id=bucket.id,
            bucket=bucket.name,
            first_needle_id=first,
            last_needle_id=last,
            body_size_max=min(byte_count, self._store.chunk_size),
            room=byte_count,
            lease_id=lease_id,
            prefixes=session.rights.prefixes(Permission.WRITE, bucket),
            **session.holder.claims(),
        )
        return Lease(
            volume_id=volume.volume_id,
            first_needle_id=first,
            last_needle_id=last,
            byte_count=byte_count,
            url=disk.url,
            token=self._keyring.sign(claims, disk.token_keys),
            expires_in_s=lease_s,
        )

    def client_left(self, peer: Peer) -> None:
        """The connection of `peer` ended: its leases expire soon."""
        self._reservations.owner_left(peer, time.monotonic() + GONE_LEASE_S)


def _bounded(request: LeaseNeedles) -> tuple[int, int]:
    """Needles and bytes of a lease that a client asks for, within what one lease gives."""
    needle_count = min(request.needle_count, LEASE_COUNT_MAX)
    return needle_count, min(max(request.byte_count, LEASE_BYTES_MIN), LEASE_BYTES_MAX)


def _least_lease(needle_count: int, byte_count: int) -> int:
    """Bytes below which a lease may be of no use: what the largest needle of the request may need."""
    return max(LEASE_BYTES_MIN, -(-byte_count // needle_count), min(byte_count, SMALL_PUT_MAX))
