"""The store: connections to a cluster, and its buckets.

    async with warehouse.connect() as store:
        photos = await store.create_bucket("photos")
        await photos.put("2026/cat.jpg", Path("cat.jpg"))
        data = await photos.get("2026/cat.jpg")

The library is async on Trio; many tasks may call the same method at the same time.  Failures are the classes
of `warehouse.errors`, never wrapped in groups.  A cancelled put is stored or not stored, never half stored.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from warehouse.client.bucket import Bucket, Session
from warehouse.client.changes import StoreChanges
from warehouse.client.control import TIMEOUT_S, Control
from warehouse.client.identities import Identities
from warehouse.client.maintenance import Maintenance
from warehouse.client.membership import Membership
from warehouse.client.nurseries import background
from warehouse.conf.profile import Profile, load_profile
from warehouse.transport.http.pool import HttpPool
from warehouse.transport.messages import (
    BucketInfo,
    Buckets,
    CreateBucket,
    DataUrls,
    DeleteBucket,
    Done,
    ListBuckets,
    ListDataUrls,
)

BUCKETS_AT_ONCE = 10_000


@asynccontextmanager
async def connect(
    profile: Profile | str | os.PathLike[str] | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
) -> AsyncIterator[Store]:
    """Connect to a cluster until the block ends.

    Args:
        profile: a profile, its path or its name.  None: what variables say (`conf/profile.py`), then
            `./warehouse-data/profile.toml`, then the chosen one of the user.
        timeout_s: how long one request to the master may take, including reconnecting and repeating it.
    Raises:
        SecretMissing: no profile was found.
        BadCredentials: the cluster does not know this API key.
        LinkDown: no master answered at the profile's address.
    """
    if not isinstance(profile, Profile):
        path = None if profile is None else Path(profile)
        profile = await trio.to_thread.run_sync(
            load_profile, path, abandon_on_cancel=True
        )  # the file may be a pipe
    async with connected(Control(profile, timeout_s=timeout_s)) as store:
        yield store


@asynccontextmanager
async def connected(control: Control) -> AsyncIterator[Store]:
    """A store with this conversation, which lasts until the block ends.  Raises as `connect`."""
    # A copy reads while it writes.  With one pool, writes could hold all connections while they wait for
    # reads, and the reads wait for a connection.
    read_pool, write_pool = HttpPool(tls=control.tls), HttpPool(tls=control.tls)
    try:
        async with background() as nursery:
            await nursery.start(control.run)
            try:
                # Batches that are cut off resolve their puts in doubt: that needs the control connection.
                async with background() as batch_nursery:
                    yield Store(Session(control, read_pool, write_pool, nursery, batch_nursery))
            finally:
                control.stop()
    finally:
        with trio.CancelScope(shield=True):  # closes sockets; nothing in there waits for a peer
            await read_pool.aclose()
            await write_pool.aclose()


class Store(Maintenance, Membership, Identities):
    """A connection to a cluster; made by `connect`."""

    def __init__(self, session: Session) -> None:
        super().__init__(session.control)
        self._session = session

    def bucket(self, name: str) -> Bucket:
        """The bucket of that name.  This sends no request, so the bucket may not exist."""
        return self._session.bucket(name)

    async def create_bucket(self, name: str, *, region: str = "") -> Bucket:
        """Create a bucket.

        Args:
            region: a word that clients of S3 are told when they ask where the bucket is; changes nothing.
        Raises:
            BucketExists: a bucket of that name exists.
            BadBucketName: a name has 1 to 63 of a-z, 0-9, '.', '-', '_', starts and ends with a letter or
                digit, and is no IP address.
            OutcomeUnknown: the connection broke before the answer arrived.
        """
        await self._session.control.ask(CreateBucket(bucket=name, region=region), Done, is_repeatable=False)
        return self._session.bucket(name)

    async def delete_bucket(self, name: str, *, force: bool = False) -> None:
        """Delete a bucket; with `force`, also its objects.

        Raises:
            NoSuchBucket, BucketNotEmpty.
            OutcomeUnknown: the connection broke before the answer arrived.
        """
        await self._session.control.ask(DeleteBucket(bucket=name, force=force), Done, is_repeatable=False)
        self._session.forget_bucket(name)  # a later bucket of that name needs other leases

    async def buckets(self) -> list[BucketInfo]:
        """All buckets that this API key may see, ordered by name, with their counts."""
        found: list[BucketInfo] = []
        after = ""
        while True:
            request = ListBuckets(after=after, limit=BUCKETS_AT_ONCE)
            page = await self._session.control.ask(request, Buckets)
            found += page.buckets
            after = page.next_after
            if not after:  # release 0.1.0 answers with all buckets and leaves `next_after` empty
                return found

    def changes(self, only: Collection[str] = ()) -> StoreChanges:
        """Tells at once when buckets that this API key sees, or the key itself, have changed.

            async for change in store.changes():
                print(change.subjects, change.buckets, change.is_missed)

        It takes no permission of its own: any key hears what it could look up.  Otherwise as
        `Bucket.changes`; objects are told there.

        Args:
            only: hear of these subjects alone.  Besides those of `StoreChange` there are "disks" (disks came,
                went or are in trouble, volumes were made), "nodes" (these, or join tokens) and "jobs" (they
                began, ended or were paused), for keys with see_cluster.
        """
        return StoreChanges(self._session.control, only)

    async def data_urls(self) -> list[str]:
        """Where the data ports of the disks are that are online: "http://192.0.2.7:7410", in no order.

        Presigned URLs begin with one of these.

        Raises:
            PermissionDenied: it takes any permission about objects.
        """
        return (await self._session.control.ask(ListDataUrls(), DataUrls)).urls

    async def s3_urls(self) -> list[str]:
        """Where clients of S3 find the store: "http://192.0.2.7:7490", of the gateways that are connected, in
        no order.

        Raises:
            PermissionDenied: it takes any permission about objects.
        """
        return (await self._session.control.ask(ListDataUrls(), DataUrls)).s3_urls
