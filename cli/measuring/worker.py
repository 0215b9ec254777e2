"""Bench worker: one client that measures a store through the library.

Each `Worker` has its own keys in a shared bucket, so workers of one or several processes do not meet.  A
worker first prepares objects, then repeats one kind of request for some seconds from a number of parallel
tasks, and returns the result.

    put      small objects, each under a new key
    get      small objects, chosen at random from the prepared ones
    list     a page of up to 1,000 keys, from a random key on
    delete   objects that the put test wrote, or that were prepared for it
    mixed    45 % get, 30 % stat, 15 % put, 10 % delete of objects that the same test put
    large-put, large-get   objects of many MiB, piece by piece
"""

from __future__ import annotations

import os
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator

import msgspec
import trio

from warehouse.cli.measuring.latencies import BenchResult
from warehouse.client.bucket import Bucket
from warehouse.client.nurseries import background, bounded_nursery
from warehouse.errors import StoreError

TESTS = ("put", "get", "list", "delete", "mixed", "large-put", "large-get")
LIST_PAGE = 1000
LARGE_OBJECTS = 2  # a worker reads them in turn; more would only fill the disk
FAILURE_PAUSE_S = 0.05  # do not ask a store that refuses everything a hundred thousand times
TICK_S = 0.25

GET_SHARE, STAT_SHARE, PUT_SHARE = 0.45, 0.75, 0.90  # of a mixed test, cumulative


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker must know before it starts."""

    bucket: str
    worker: int
    size: int
    large_size: int


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to do: a test, or "prepare", "prepare-delete" and "prepare-large"."""

    test: str
    tasks: int  # in parallel
    seconds: float = 0.0
    count: int = 0  # prepare: objects that must exist


class NothingLeft(Exception):
    """A delete test has deleted every object."""


Tick = Callable[[BenchResult], Awaitable[None]]
Request = Callable[[BenchResult], Awaitable[None]]


class Worker:
    """One client: its keys, and what it does with them.

    Args:
        bucket: of the running store; other workers may use it as well.
    """

    def __init__(self, plan: Plan, bucket: Bucket) -> None:
        self._plan = plan
        self._bucket = bucket
        self._body = os.urandom(plan.size)
        self._large_body = b""
        self._prepared_count = self._large_count = self._put_count = 0
        self._deletable: deque[str] = deque()
        self._requests: dict[str, Request] = {
            "put": self._put,
            "get": self._get,
            "list": self._list,
            "delete": self._delete,
            "mixed": self._mixed,
            "large-put": self._large_put,
            "large-get": self._large_get,
        }

    async def do(self, step: Step, tick: Tick) -> BenchResult:
        """Do one step; `tick` is called with the result so far, a few times a second.

        Raises:
            StoreError: preparing failed, or no request of a test succeeded.
        """
        if step.tasks == 0:
            return BenchResult()
        if step.test == "prepare-large":
            return await self._prepare_large()
        if step.test.startswith("prepare"):
            return await self._prepare(step, tick)
        return await self._measure(step, tick)

    # --- preparing --------------------------------------------------------------------------------

    async def _prepare(self, step: Step, tick: Tick) -> BenchResult:
        result = BenchResult()
        started = time.perf_counter()
        next_tick = started + TICK_S
        keys = self._missing(step)

        async def put_some() -> None:
            nonlocal next_tick
            for key in keys:
                before = time.perf_counter()
                await self._bucket.put(key, self._body)
                now = time.perf_counter()
                result.latencies.add(now - before)
                if now > next_tick:
                    next_tick = now + TICK_S
                    result.elapsed_s = now - started
                    await tick(result)

        async with bounded_nursery(step.tasks) as tasks:
            for _ in range(step.tasks):
                tasks.start(put_some)
        result.elapsed_s = time.perf_counter() - started
        return result

    def _missing(self, step: Step) -> Iterator[str]:
        """Keys to put until as many exist as the step needs; tasks share this iterator."""
        if step.test == "prepare-delete":
            while len(self._deletable) < step.count:
                self._deletable.append(self._new_key())
                yield self._deletable[-1]
        while step.test == "prepare" and self._prepared_count < step.count:
            self._prepared_count += 1
            yield self._key_of(self._prepared_count - 1)

    async def _prepare_large(self) -> BenchResult:
        self._make_large_body()
        while self._large_count < LARGE_OBJECTS:
            await self._bucket.put(self._large_key_of(self._large_count), self._large_body)
            self._large_count += 1
        return BenchResult()

    def _make_large_body(self) -> None:
        piece = os.urandom(min(self._plan.large_size, 1 << 20))
        self._large_body = (piece * -(-self._plan.large_size // len(piece)))[: self._plan.large_size]

    # --- measuring --------------------------------------------------------------------------------

    async def _measure(self, step: Step, tick: Tick) -> BenchResult:
        result = BenchResult()
        request = self._requests[step.test]
        last_failure: list[StoreError] = []
        if step.test == "large-put" and not self._large_body:
            self._make_large_body()
        started = time.perf_counter()
        cpu_before = time.process_time()
        deadline = started + step.seconds

        async def repeat() -> None:
            while (before := time.perf_counter()) < deadline:
                try:
                    await request(result)
                except StoreError as error:
                    last_failure[:] = [error]
                    result.failures[error.code] = result.failures.get(error.code, 0) + 1
                    await trio.sleep(FAILURE_PAUSE_S)
                except NothingLeft:
                    return
                else:
                    result.latencies.add(time.perf_counter() - before)

        async def tell() -> None:
            while True:
                await trio.sleep(TICK_S)
                result.elapsed_s = time.perf_counter() - started
                await tick(result)

        async with background() as nursery:
            nursery.start_soon(tell)
            async with bounded_nursery(step.tasks) as tasks:
                for _ in range(step.tasks):
                    tasks.start(repeat)
            result.elapsed_s = time.perf_counter() - started
        result.cpu_s = time.process_time() - cpu_before
        result.cpu_share_max = result.cpu_s / result.elapsed_s
        if last_failure and not result.latencies.count:
            raise last_failure[0]
        return result

    # --- requests ---------------------------------------------------------------------------------

    async def _put(self, result: BenchResult) -> None:
        key = self._new_key()
        await self._bucket.put(key, self._body)
        result.byte_count += len(self._body)
        self._deletable.append(key)

    async def _get(self, result: BenchResult) -> None:
        data = await self._bucket.get(self._random_key())
        result.byte_count += len(data)

    async def _stat(self, result: BenchResult) -> None:
        await self._bucket.stat(self._random_key())

    async def _list(self, result: BenchResult) -> None:
        prefix = f"get/{self._plan.worker:03}/"
        first_max = max(self._prepared_count - LIST_PAGE, 0)
        after = f"{prefix}{random.randint(0, first_max):09}"  # noqa: S311
        async for _ in self._bucket.list(prefix, after=after, limit=LIST_PAGE):
            result.entry_count += 1

    async def _delete(self, result: BenchResult) -> None:
        if not self._deletable:
            raise NothingLeft
        await self._bucket.delete(self._deletable.popleft())

    async def _mixed(self, result: BenchResult) -> None:
        dice = random.random()  # noqa: S311
        if dice < GET_SHARE:
            await self._get(result)
        elif dice < STAT_SHARE:
            await self._stat(result)
        elif dice < PUT_SHARE or not self._deletable:
            await self._put(result)
        else:
            await self._delete(result)

    async def _large_put(self, result: BenchResult) -> None:
        # Overwrite a few keys again and again: the disk still fills, but the bucket stays small.
        number = random.randrange(LARGE_OBJECTS)  # noqa: S311
        await self._bucket.put(f"large-put/{self._plan.worker:03}/{number}", self._large_body)
        result.byte_count += len(self._large_body)

    async def _large_get(self, result: BenchResult) -> None:
        number = random.randrange(self._large_count)  # noqa: S311
        async with self._bucket.open(self._large_key_of(number)) as stream:
            while (view := await stream.next_view()) is not None:
                result.byte_count += len(view)

    def _new_key(self) -> str:
        self._put_count += 1
        return f"put/{self._plan.worker:03}/{self._put_count:09}"

    def _random_key(self) -> str:
        return self._key_of(random.randrange(self._prepared_count))  # noqa: S311

    def _key_of(self, number: int) -> str:
        return f"get/{self._plan.worker:03}/{number:09}"

    def _large_key_of(self, number: int) -> str:
        return f"large-get/{self._plan.worker:03}/{number}"
