"""Change requests: long polls about objects, buckets, API keys and the cluster; data ports."""

from __future__ import annotations

import trio

from warehouse.actors.control.changes import TOLD_MAX, WAIT_S_MAX, Changes, News
from warehouse.actors.control.context import MasterContext
from warehouse.actors.control.objects import require_part
from warehouse.actors.control.routes import Routes
from warehouse.actors.control.sessions import ClientSession, Sessions
from warehouse.auth.rights import Permission
from warehouse.catalog.records import BucketRow
from warehouse.errors import NoSuchBucket
from warehouse.transport.messages import (
    BucketChanged,
    DataUrls,
    ListDataUrls,
    StoreChanged,
    WatchBucket,
    WatchStore,
)
from warehouse.transport.zeromq.peers import Peer

# What is told to programs that name no subject, which hear nothing that they did not know of.
UNASKED = ("buckets", "key", "keys")


class ChangeHandlers:
    def __init__(self, context: MasterContext, sessions: Sessions) -> None:
        self._fleet = context.fleet
        self._changes: Changes = context.changes
        self._sessions = sessions

    def routes(self) -> Routes:
        return (
            Routes()
            .later(WatchBucket, self.watch_bucket)
            .later(WatchStore, self.watch_store)
            .now(ListDataUrls, self.data_urls)
        )

    # --- objects ----------------------------------------------------------------------------------

    async def watch_bucket(self, peer: Peer, request: WatchBucket) -> BucketChanged:
        bucket, within = self._part(peer, request)

        def is_wanted(key: str) -> bool:
            return key.startswith(request.prefix) and (within is None or key.startswith(within))

        with self._changes.follower(self._sessions.session_of(peer).key_id):
            told = await self._changes.wait_bucket(bucket.id, request.after, is_wanted, request.wait_s)
        # The bucket may be gone now, and the key may have changed.
        now, within_now = self._part(peer, request)
        if now.id != bucket.id:
            raise NoSuchBucket("the bucket was deleted")
        return BucketChanged(
            next_after=told.last,
            count=told.count,
            keys=told.keys,
            is_missed=told.is_missed or within_now != within,
        )

    def _part(self, peer: Peer, request: WatchBucket) -> tuple[BucketRow, tuple[str, ...] | None]:
        """The bucket, and how the keys begin that the asker may hear of; None: as the prefix."""
        rights = self._sessions.require(peer, Permission.LIST).rights
        bucket = self._sessions.bucket_for(peer, Permission.LIST, request.bucket)
        return bucket, require_part(rights, bucket, request.prefix)

    # --- buckets, API keys and the cluster ------------------------------------------------------------

    async def watch_store(self, peer: Peer, request: WatchStore) -> StoreChanged:
        changed = self._news(self._sessions.session_of(peer), request, request.after)
        with (
            self._changes.follower(self._sessions.session_of(peer).key_id),
            trio.move_on_after(max(0.0, min(request.wait_s, WAIT_S_MAX))),
        ):
            while not changed.subjects and not changed.is_missed:
                await self._changes.wait_news()
                changed = self._news(self._sessions.session_of(peer), request, changed.next_after)
        self._sessions.session_of(peer)  # it may have ended
        return changed

    def _news(self, session: ClientSession, request: WatchStore, after: int) -> StoreChanged:
        """What this key may know of what happened after a number."""
        found, is_missed = self._changes.news_after(after)
        wanted = request.subjects or UNASKED
        subjects, buckets = set[str](), dict[str, None]()
        for news in found:
            for subject in _subjects(news, session):
                if subject not in wanted:
                    continue
                subjects.add(subject)
                if news.bucket is not None:
                    buckets[news.bucket.name] = None
        if session.rights.permissions & Permission.SEE_CLUSTER:
            subjects |= {*self._changes.cluster_after(after)} & {*wanted}
        return StoreChanged(
            next_after=self._changes.last,
            subjects=sorted(subjects),
            buckets=list(buckets)[:TOLD_MAX],
            is_missed=is_missed,
        )

    # --- data ports -------------------------------------------------------------------------------

    def data_urls(self, peer: Peer, request: ListDataUrls) -> DataUrls:
        return DataUrls(
            urls=sorted({disk.url for disk in self._fleet.disks.values() if disk.is_online}),
            s3_urls=sorted({gateway.url for gateway in self._fleet.gateways.values() if gateway.url}),
        )


def _subjects(news: News, session: ClientSession) -> list[str]:
    """What of the news is told to this key."""
    if news.bucket is not None:
        return ["buckets"] if session.rights.sees(news.bucket) else []
    subjects = ["keys"] if session.rights.permissions & Permission.MANAGE_KEYS else []
    return [*subjects, "key"] if news.key_id == session.key_id else subjects
