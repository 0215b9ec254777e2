"""Read grants: tokens with which clients read the needles of one bucket on one volume.

A grant is the same for everybody who may read the bucket, so it is signed once and given out again until half
of its life is over.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import msgspec

from warehouse.actors.control.fleet import Fleet
from warehouse.actors.control.keyring import Keyring
from warehouse.auth.data_tokens import DataClaims
from warehouse.catalog.records import BucketRow
from warehouse.transport.messages import ReadGrant

READ_TOKEN_S = 600  # of a grant; given out again until half of it is over
KEPT_MAX = 10_000  # grants in memory


class ReadGrants:
    def __init__(self, fleet: Fleet, keyring: Keyring) -> None:
        self._fleet = fleet
        self._keyring = keyring
        self._kept: dict[tuple[int, int], tuple[float, ReadGrant]] = {}  # by bucket and volume

    def grant(self, bucket: BucketRow, volume_id: int) -> ReadGrant | None:
        """The right to read this bucket's needles of one volume; None while its disk is offline."""
        volume = self._fleet.volumes.get(volume_id)
        disk = self._fleet.disks[volume.disk_id] if volume else None
        if volume is None or disk is None or not disk.is_online or volume.report is None:
            return None
        now = time.monotonic()
        kept = self._kept.get((bucket.id, volume_id))
        if kept is not None and kept[0] > now + READ_TOKEN_S / 2 and kept[1].url == disk.url:
            return msgspec.structs.replace(kept[1], expires_in_s=kept[0] - now)
        claims = DataClaims(
            operation="get",
            audience=disk.disk_id,
            volume_id=volume_id,
            expires_at_s=int(time.time()) + READ_TOKEN_S,
            bucket_id=bucket.id,
            bucket=bucket.name,
        )
        token = self._keyring.sign(claims, disk.token_keys)
        grant = ReadGrant(volume_id=volume_id, url=disk.url, token=token, expires_in_s=READ_TOKEN_S)
        if len(self._kept) > KEPT_MAX:
            self._kept.clear()
        self._kept[bucket.id, volume_id] = (now + READ_TOKEN_S, grant)
        return grant

    def grants(self, bucket: BucketRow, volume_ids: Iterable[int]) -> tuple[list[ReadGrant], dict[int, str]]:
        """Grants for these volumes; and the names of the disks that are offline, by volume."""
        grants, offline = [], {}
        for volume_id in volume_ids:
            grant = self.grant(bucket, volume_id)
            if grant is not None:
                grants.append(grant)
            else:
                offline[volume_id] = self._disk_name(volume_id)
        return grants, offline

    def _disk_name(self, volume_id: int) -> str:
        volume = self._fleet.volumes.get(volume_id)
        return self._fleet.disks[volume.disk_id].name if volume else f"disk of volume {volume_id}"
