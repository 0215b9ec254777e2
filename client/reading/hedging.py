"""Hedging: a small read whose answer is late is asked for once more, and the first answer wins.

    late             later than 95 of 100 recent answers of this store (`ReadTimes`), and than 5 ms at least
    the second       goes out on another connection, to the same volume actor: there is one copy of the bytes
    the loser        is cancelled, and its connection closed
    at most          5 % more requests, whatever is late; a store that is slow as a whole is left in peace

What it helps against is what befell one request: a connection that is stuck or lost a packet, a read that
waits behind others for a thread or a disk.  It does not help against a volume actor, or a disk, that is slow
for all.

Source: Dean and Barroso, "The Tail at Scale", CACM 2013: "hedged requests".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from warehouse.errors import StoreError
from warehouse.transport.http.channel import Body
from warehouse.transport.http.pool import Answer, Headers, HttpPool

WINDOW = 1000  # answers that are remembered
LEARN_COUNT = 100  # before so many have come, nobody knows what is late
LOOK_EVERY = 50  # answers between two looks at the percentile
LATE_SHARE = 0.95
LATE_MIN_S = 0.005  # a loop that was busy for a moment is not worth a request
EXTRA_SHARE = 0.05  # of requests that may be asked twice ...
EXTRA_MAX = 10.0  # ... so many at once, after a time without
assert LEARN_COUNT <= WINDOW


class ReadTimes:
    """How long answers take, and whether another request may be spent on one.  Pure."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._until_look = LEARN_COUNT
        self._allowance = 0.0
        self.late_s: float | None = None  # None: not known yet

    def note(self, answered_s: float) -> None:
        """An answer took so long; if it was asked for twice, from the first request on."""
        self._recent.append(answered_s)
        self._allowance = min(self._allowance + EXTRA_SHARE, EXTRA_MAX)
        self._until_look -= 1
        if self._until_look == 0:
            self._until_look = LOOK_EVERY
            self.late_s = max(sorted(self._recent)[int(len(self._recent) * LATE_SHARE)], LATE_MIN_S)

    def spend(self) -> bool:
        """Whether one more request may go out; it is counted then."""
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True


class _Race:
    """One read: a request by the task that wants it, and perhaps a second one by a task of its own."""

    __slots__ = ("answer", "ask", "first", "is_over", "late_at_s", "second", "second_ended")

    def __init__(self, ask: Callable[[], Awaitable[Answer]], late_at_s: float) -> None:
        self.ask = ask
        self.late_at_s = late_at_s
        self.answer: Answer | None = None  # of the second
        self.is_over = False
        self.first = trio.CancelScope()
        self.second: trio.CancelScope | None = None  # None: it was not asked for
        self.second_ended = trio.Event()

    async def run_first(self) -> Answer:
        try:
            with self.first:
                try:
                    return await self.ask()
                except StoreError:
                    if self.second is None:
                        raise
                    await self.second_ended.wait()
                    if self.answer is None:
                        raise
        finally:
            self.is_over = True
            if self.second is not None:
                self.second.cancel()
        assert self.answer is not None, "nobody else cancels the first"
        return self.answer

    async def run_second(self) -> None:
        assert self.second is not None
        try:
            with self.second, suppress(StoreError):  # the first may be answered yet, and else tells why not
                self.answer = await self.ask()
                self.first.cancel()
        finally:
            self.second_ended.set()


class HedgedReads:
    """Sends small reads through a pool, the late ones twice.

    One task watches all reads under way, so that a read that is not late costs no task and no timer.
    """

    def __init__(self, pool: HttpPool, nursery: trio.Nursery) -> None:
        self._pool = pool
        self._nursery = nursery
        self._times = ReadTimes()
        self._races: deque[_Race] = deque()  # in the order in which they will be late, or nearly so
        self._is_watching = False
        self.extra_count = 0

    async def request(
        self,
        method: str,
        url: str,
        target: str,
        *,
        headers: Headers = (),
        body: Body | None = None,
        response_size_max: int,
    ) -> Answer:
        """As `HttpPool.request`, for requests that change nothing.

        Raises: as that; when both requests failed, what the first one raised.
        """

        def ask() -> Awaitable[Answer]:
            return self._pool.request(
                method, url, target, headers=headers, body=body, response_size_max=response_size_max
            )

        started_s = trio.current_time()
        late_s = self._times.late_s
        if late_s is None:
            answer = await ask()
        else:
            race = _Race(ask, started_s + late_s)
            self._races.append(race)
            if not self._is_watching:
                self._is_watching = True
                self._nursery.start_soon(self._watch)
            answer = await race.run_first()
        self._times.note(trio.current_time() - started_s)
        return answer

    async def _watch(self) -> None:
        races = self._races
        try:
            while races:
                race = races[0]
                if not race.is_over and race.late_at_s > trio.current_time():
                    await trio.sleep_until(race.late_at_s)
                    continue
                races.popleft()
                if not race.is_over and self._times.spend():
                    self.extra_count += 1
                    race.second = trio.CancelScope()
                    self._nursery.start_soon(race.run_second)
        finally:
            self._is_watching = False
