"""History requests: how the store was, and how a bucket has grown, for those who may know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import trio

from warehouse.actors.control.context import MasterContext, now_ms
from warehouse.actors.control.history import HistoryKeeper
from warehouse.actors.control.history_series import point_of
from warehouse.actors.control.routes import Routes
from warehouse.actors.control.sessions import Sessions
from warehouse.auth.rights import Permission
from warehouse.errors import BadRequest
from warehouse.transport.messages import (
    HISTORY_POINTS_MAX,
    BucketGrowth,
    BucketHistory,
    BucketPoint,
    History,
    HistoryPoint,
    StoreHistory,
)
from warehouse.transport.zeromq.peers import Peer

POINTS_AT_ONCE: Final = 200  # between two turns of the other tasks


class HistoryHandlers:
    def __init__(self, context: MasterContext, sessions: Sessions, keeper: HistoryKeeper) -> None:
        self._context = context
        self._sessions = sessions
        self._keeper = keeper

    def routes(self) -> Routes:
        return Routes().later(StoreHistory, self.of_store).later(BucketHistory, self.of_bucket)

    async def of_store(self, peer: Peer, request: StoreHistory) -> History:
        self._sessions.require(peer, Permission.SEE_CLUSTER)
        _check_count(request.points_max)
        samples = self._keeper.series.select(request.since_ms, request.points_max)
        points: list[HistoryPoint] = []
        for start in range(0, len(samples), POINTS_AT_ONCE):
            points += map(point_of, samples[start : start + POINTS_AT_ONCE])
            await trio.lowlevel.checkpoint()
        return History(points=points)

    async def of_bucket(self, peer: Peer, request: BucketHistory) -> BucketGrowth:
        bucket = self._sessions.bucket_for(peer, Permission.LIST, request.bucket, "")
        _check_count(request.points_max)
        points = await self._keeper.bucket_rows(bucket.id, request.since_ms)
        # The key may have lost the right during the wait, and the bucket may have gone.
        row = self._sessions.bucket_for(peer, Permission.LIST, request.bucket, "")
        if row.id != bucket.id:
            points = []
        at_ms = max(now_ms(), points[-1].at_ms) if points else now_ms()
        now = BucketPoint(at_ms=at_ms, object_count=row.object_count, byte_count=row.byte_count)
        return BucketGrowth(points=thinned([*points, now], request.points_max))


def _check_count(points_max: int) -> None:
    if not 1 <= points_max <= HISTORY_POINTS_MAX:
        raise BadRequest(f"a history has 1 to {HISTORY_POINTS_MAX} points, not {points_max}")


def thinned(points: Sequence[BucketPoint], points_max: int) -> list[BucketPoint]:
    """At most so many of the points, evenly chosen; the last one is among them."""
    step = -(-len(points) // points_max)
    return [*points[::-step]][::-1]
