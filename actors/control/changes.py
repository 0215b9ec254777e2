"""Changes: what changed lately in buckets that somebody watches; which buckets and API keys did; and whether
disks, nodes or jobs did.

    a commit, a deletion        Changes                       a follower (long poll)
        | objects_changed           |                                | wait
        |-------------------------->| keys by number, per bucket     |
        |                           |------------------------------->| what changed after its number

Only buckets that are watched have such a memory, so a put costs a look into an empty dict while nobody
watches, and one entry otherwise, however many followers there are.  A memory is bounded: what it has
forgotten it calls missed, and then the follower looks again at all it shows.

Numbers begin with the start of the master, in microseconds: a number of an earlier master, or of a memory
that was given up, is lower than the first one that is known.  So a follower outlasts a restart.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from warehouse.auth.rights import BucketLike
from warehouse.errors import Busy

GATHER_S = 0.03  # changes of the same moment are told together
WAIT_S_MAX = 60.0  # a longer wait is cut to this; a follower asks again
IDLE_S = 90.0  # a bucket that nobody asks about for so long is watched no more
LOOK_S = 10.0
TOLD_MAX = 20  # keys, or names of buckets, in an answer
KEYS_MAX, KEYS_OF_BUCKET_MAX = 16_384, 4096  # kept
FOLLOWERS_MAX, FOLLOWERS_OF_KEY_MAX = 512, 64  # that wait at the same time
BUCKETS_MAX = 256
NEWS_MAX = 1024  # changes of buckets and API keys that are kept
BUSY_S = 5.0

Filter = Callable[[str], bool]


@dataclass
class Told:
    """What a follower is told: what changed between its number and `last`."""

    last: int
    count: int = 0
    keys: list[str] = field(default_factory=list)
    is_missed: bool = False
    is_gone: bool = False  # the bucket was deleted

    @property
    def is_news(self) -> bool:
        return bool(self.count) or self.is_missed or self.is_gone


@dataclass
class _Watched:
    """One bucket: its keys that changed after number `base`, each with the number of its last change."""

    base: int
    used_at: float  # monotonic
    keys: OrderedDict[str, int] = field(default_factory=OrderedDict)
    news: trio.Event = field(default_factory=trio.Event)
    is_gone: bool = False

    def wake(self) -> None:
        self.news.set()
        self.news = trio.Event()

    def forget(self, size: int) -> None:
        while len(self.keys) > size:
            _, self.base = self.keys.popitem(last=False)


@dataclass(frozen=True)
class News:
    """A change that is not about objects.

    Attributes:
        subject: "bucket", "key" or "account".
    """

    number: int
    subject: str
    bucket: BucketLike | None = None
    key_id: str = ""


class Changes:
    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = self._first = time.time_ns() // 1000
        self._watched: dict[int, _Watched] = {}  # by id of bucket
        self._followers: Counter[str] = Counter()  # by key id
        self._news: deque[News] = deque(maxlen=NEWS_MAX)
        self._news_arrived = trio.Event()
        self._cluster: dict[str, int] = {}  # the number of the latest change of each subject

    # --- what changes -----------------------------------------------------------------------------

    @property
    def is_watched(self) -> bool:
        """Does anybody want to know which objects change?"""
        return bool(self._watched)

    def objects_changed(self, bucket_id: int, keys: Iterable[str]) -> None:
        """Objects were stored, replaced or deleted; the change is durable."""
        watched = self._watched.get(bucket_id)
        if watched is None:
            return
        for key in keys:
            self._last += 1
            watched.keys[key] = self._last
            watched.keys.move_to_end(key)
        watched.forget(self._kept_max())
        watched.wake()

    def lost_track(self) -> None:
        """Objects of any buckets may have changed: too many to be named."""
        for watched in self._watched.values():
            self._last += 1
            watched.keys.clear()
            watched.base = self._last
            watched.wake()

    def bucket_changed(self, bucket: BucketLike, *, is_gone: bool = False) -> None:
        """A bucket was created, got other settings or another owner, or was deleted."""
        self._note("bucket", bucket=bucket)
        watched = self._watched.get(bucket.id)
        if is_gone and watched is not None:
            watched.is_gone = True
            watched.wake()

    def key_changed(self, key_id: str) -> None:
        """An API key was created, changed or deleted."""
        self._note("key", key_id=key_id)

    def account_changed(self) -> None:
        self._note("account")

    def _note(self, subject: str, *, bucket: BucketLike | None = None, key_id: str = "") -> None:
        self._last += 1
        if len(self._news) == NEWS_MAX:
            self._first = self._news[0].number
        self._news.append(News(self._last, subject, bucket, key_id))
        self._wake()

    def cluster_changed(self, *subjects: str) -> None:
        """Something about these subjects (`event_subjects.py`) has changed; a follower asks what."""
        if subjects:
            self._last += 1
            self._cluster |= dict.fromkeys(subjects, self._last)
            self._wake()

    def _wake(self) -> None:
        self._news_arrived.set()
        self._news_arrived = trio.Event()

    def _kept_max(self) -> int:
        return min(KEYS_OF_BUCKET_MAX, KEYS_MAX // len(self._watched))

    # --- who follows ------------------------------------------------------------------------------

    @contextmanager
    def follower(self, key_id: str) -> Iterator[None]:
        """A request that waits, for an API key.

        Raises:
            Busy: too many wait already.
        """
        if self._followers[key_id] >= FOLLOWERS_OF_KEY_MAX:
            raise Busy(f"this key may follow {FOLLOWERS_OF_KEY_MAX} things at once", retry_after_s=BUSY_S)
        if self._followers.total() >= FOLLOWERS_MAX:
            raise Busy("too many follow changes already", retry_after_s=BUSY_S)
        self._followers[key_id] += 1
        try:
            yield
        finally:
            self._followers[key_id] -= 1
            if not self._followers[key_id]:
                del self._followers[key_id]

    def _watch(self, bucket_id: int) -> _Watched:
        watched = self._watched.get(bucket_id)
        if watched is None:
            if len(self._watched) >= BUCKETS_MAX:
                raise Busy(f"{BUCKETS_MAX} buckets are watched already", retry_after_s=BUSY_S)
            self._last += 1
            watched = self._watched[bucket_id] = _Watched(self._last, self._clock())
            for other in self._watched.values():
                other.forget(self._kept_max())
        watched.used_at = self._clock()
        return watched

    def of_bucket(self, bucket_id: int, after: int, is_wanted: Filter) -> Told:
        """What changed in a bucket after a number, which is watched from now on.

        Raises:
            Busy: too many buckets are watched already.
        """
        watched = self._watch(bucket_id)
        if not watched.base <= after <= self._last:
            return Told(self._last, is_missed=True, is_gone=watched.is_gone)
        told = Told(self._last, is_gone=watched.is_gone)
        for key, number in reversed(watched.keys.items()):
            if number <= after:
                break
            if is_wanted(key):
                told.count += 1
                if len(told.keys) < TOLD_MAX:
                    told.keys.append(key)
        return told

    async def wait_bucket(self, bucket_id: int, after: int, is_wanted: Filter, wait_s: float) -> Told:
        """As `of_bucket`, but wait up to `wait_s` seconds for something to tell."""
        told = self.of_bucket(bucket_id, after, is_wanted)
        with trio.move_on_after(max(0.0, min(wait_s, WAIT_S_MAX))):
            while not told.is_news:
                await self._watch(bucket_id).news.wait()
                await trio.sleep(GATHER_S)
                told = self.of_bucket(bucket_id, told.last, is_wanted)
        return told

    def news_after(self, after: int) -> tuple[Collection[News], bool]:
        """The news after a number, the latest first; and whether there may have been more."""
        if not self._first <= after <= self._last:
            return (), True
        found = []
        for news in reversed(self._news):
            if news.number <= after:
                break
            found.append(news)
        return found, False

    def cluster_after(self, after: int) -> list[str]:
        """The subjects that have changed after a number."""
        return [subject for subject, number in self._cluster.items() if number > after]

    async def wait_news(self) -> None:
        """Wait for any news, and for what comes in the same moment."""
        await self._news_arrived.wait()
        await trio.sleep(GATHER_S)

    @property
    def last(self) -> int:
        """The number of the latest change."""
        return self._last

    async def run(self) -> None:
        """Give up the memories that nobody asks for, until cancelled."""
        while True:
            await trio.sleep(LOOK_S)
            self.forget_idle()

    def forget_idle(self) -> None:
        before = self._clock() - IDLE_S
        for bucket_id in [number for number, watched in self._watched.items() if watched.used_at < before]:
            self._watched.pop(bucket_id).wake()
