"""Admission: requests that the master refuses while its catalog cannot take them.

    the catalog is older than a disk    requests that change it: `catalog_behind`, see `lineage.py`
    the catalog's disk is full          requests that make it grow, now or later: `catalog_full`

Everything else goes on: reads, deletes on a full disk, the reports of disks.
"""

from __future__ import annotations

from warehouse.actors.control.catalog_space import CatalogRoom
from warehouse.actors.control.lineage import Lineage
from warehouse.transport.messages import (
    AbortUpload,
    BeginUpload,
    CreateAccount,
    CreateBucket,
    CreateKey,
    DeleteAccount,
    DeleteBucket,
    DeleteObjects,
    EditAccount,
    FinishUpload,
    GiveBucket,
    ImportKey,
    LeaseNeedles,
    NeedlesStored,
    Presign,
    RemoveDisk,
    Request,
    RequestSlots,
    ResolveNeedle,
    RotateKey,
    SetBucketConfig,
    SetQuota,
)

# Makes the catalog grow at once, or when what it reserves is used.  `Presign` only for a PUT.
GROWING = frozenset(
    (LeaseNeedles, BeginUpload, RequestSlots, CreateBucket, Presign, CreateKey, ImportKey, CreateAccount)
)

# Changes the catalog, or reserves what will.  `EditKey` and `DeleteKey` are not here: whatever the state of
# the catalog, a key that leaked can be ended.
CHANGING = GROWING | {
    DeleteBucket,
    DeleteObjects,
    SetQuota,
    SetBucketConfig,
    ResolveNeedle,
    FinishUpload,
    AbortUpload,
    NeedlesStored,
    RotateKey,
    EditAccount,
    DeleteAccount,
    GiveBucket,
    RemoveDisk,
}


class Admission:
    def __init__(self, lineage: Lineage, catalog_room: CatalogRoom) -> None:
        self._lineage = lineage
        self._catalog_room = catalog_room

    def require(self, request: Request) -> None:
        """
        Raises:
            CatalogBehind: the catalog is older than a disk, and the request would change it.
            CatalogFull: the catalog's disk is full, and the request would make the catalog grow.
        """
        kind = type(request)
        if kind not in CHANGING:
            return
        method = request.method if isinstance(request, Presign) else "PUT"
        if method != "GET":
            self._lineage.require_current()
        if kind in GROWING and method == "PUT":
            self._catalog_room.require()
