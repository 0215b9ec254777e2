"""Read grants: tokens with which clients read the needles of one bucket on one volume.

A grant is the same for all who come with the same API key and the same rights, so it is signed once and given
out again until half of its life is over.

A grant opens needles that were put one by one, and those of the uploads that it names: so nobody reads a
chunk of an upload that is not finished.  A grant that names uploads is signed for one answer.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import NamedTuple

import msgspec

from warehouse.actors.control.context import MasterContext
from warehouse.actors.control.fleet_state import DiskState
from warehouse.actors.control.holders import Holder
from warehouse.actors.control.keyring import Keyring
from warehouse.auth.data_tokens import DataClaims, named_upload
from warehouse.catalog.records import UPLOADS_NAMED_META, BucketRow
from warehouse.transport.messages import ReadGrant

READ_TOKEN_S = 600  # of a grant; given out again until half of it is over
KEPT_MAX = 10_000  # grants in memory
UPLOADS_MAX = 500  # that one grant names: 7 KiB

# Volume id -> the uploads whose needles are to be read there; few volumes have any.
Wanted = Mapping[int, Collection[int]]


class Reader(NamedTuple):
    """Who reads, and which keys: `prefixes` as `Rights.prefixes`."""

    holder: Holder
    prefixes: tuple[str, ...] | None


class _Kept(NamedTuple):
    grant: ReadGrant
    token_keys: Mapping[str, bytes]  # of the disk, at that moment
    expires_at: float  # monotonic
    again_until: float


class ReadGrants:
    def __init__(self, context: MasterContext, keyring: Keyring) -> None:
        self._fleet = context.fleet
        self._keyring = keyring
        self._named_after_ms = context.catalog.meta(UPLOADS_NAMED_META)
        self._kept: dict[tuple[Reader, int, int], _Kept] = {}  # by reader, bucket and volume

    def grant(
        self, reader: Reader, bucket: BucketRow, volume_id: int, upload_ids: Collection[int] = ()
    ) -> ReadGrant | None:
        """The right to read this bucket's needles of one volume; None while its disk is offline.

        Args:
            upload_ids: at most UPLOADS_MAX, of finished objects.
        """
        volume = self._fleet.volumes.get(volume_id)
        disk = self._fleet.disks[volume.disk_id] if volume else None
        if volume is None or disk is None or not disk.is_online or volume.report is None:
            return None
        if upload_ids:
            return self._sign(reader, bucket, volume_id, disk, upload_ids)
        now = time.monotonic()
        kept = self._kept.get((reader, bucket.id, volume_id))
        if (
            kept is not None
            and kept.again_until > now
            and kept.token_keys is disk.token_keys
            and kept.grant.url == disk.url
        ):
            return msgspec.structs.replace(kept.grant, expires_in_s=kept.expires_at - now)
        grant = self._sign(reader, bucket, volume_id, disk, ())
        if len(self._kept) > KEPT_MAX:
            self._kept.clear()
        life_s = grant.expires_in_s
        kept = _Kept(grant, disk.token_keys, now + life_s, now + life_s / 2)
        self._kept[reader, bucket.id, volume_id] = kept
        return grant

    def _sign(
        self, reader: Reader, bucket: BucketRow, volume_id: int, disk: DiskState, upload_ids: Collection[int]
    ) -> ReadGrant:
        life_s = reader.holder.life_s(READ_TOKEN_S)
        claims = DataClaims(
            operation="get",
            audience=disk.disk_id,
            volume_id=volume_id,
            expires_at_s=int(time.time() + life_s),
            bucket_id=bucket.id,
            bucket=bucket.name,
            prefixes=reader.prefixes,
            upload_ids=tuple(map(named_upload, upload_ids)) or None,
            named_after_ms=self._named_after_ms,
            **reader.holder.claims(),
        )
        token = self._keyring.sign(claims, disk.token_keys)
        return ReadGrant(volume_id=volume_id, url=disk.url, token=token, expires_in_s=life_s)

    def grants(
        self, reader: Reader, bucket: BucketRow, wanted: Wanted
    ) -> tuple[list[ReadGrant], dict[int, str]]:
        """Grants for these volumes; and the names of the disks that are offline, by volume."""
        grants, offline = [], {}
        for volume_id, upload_ids in wanted.items():
            grant = self.grant(reader, bucket, volume_id, upload_ids)
            if grant is not None:
                grants.append(grant)
            else:
                offline[volume_id] = self._disk_name(volume_id)
        return grants, offline

    def _disk_name(self, volume_id: int) -> str:
        volume = self._fleet.volumes.get(volume_id)
        return self._fleet.disks[volume.disk_id].name if volume else f"disk of volume {volume_id}"
