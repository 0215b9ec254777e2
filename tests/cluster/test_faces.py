"""The sync and asyncio faces on real processes: every method once, and what ends a call or a connection."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import pytest

import warehouse
from harness import RunningStore
from warehouse.errors import LinkDown, NoSuchObject, StoreError
from warehouse.transport.messages.attributes import ObjectAttributes

MIB = 1024 * 1024
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStore]:
    with RunningStore(tmp_path_factory.mktemp("faces") / "store", volumes=1) as store:
        with warehouse.sync.connect(store.profile) as client:
            client.create_bucket("photos")
        yield store


class Blocking:
    """The asyncio face, driven like the sync one, so that one test uses both."""

    def __init__(self, inner: Any, runner: asyncio.Runner) -> None:
        self._inner = inner
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if not callable(value):
            return value

        def call(*given: Any, **named: Any) -> Any:
            async def begin() -> Any:
                result = value(*given, **named)
                return await result if asyncio.iscoroutine(result) else result

            return self._wrapped(self._runner.run(begin()))

        return call

    def _wrapped(self, value: Any) -> Any:
        own = type(value).__module__.startswith("warehouse.client.faces")
        return Blocking(value, self._runner) if own or hasattr(value, "__aenter__") else value

    def __iter__(self) -> Iterator[Any]:
        async def step() -> list[Any]:
            return [entry async for entry in one_of(self._inner)]

        while found := self._runner.run(step()):
            yield found[0]

    def __enter__(self) -> Any:
        return self._wrapped(self._runner.run(self._inner.__aenter__()))

    def __exit__(self, *error: Any) -> None:
        self._runner.run(self._inner.__aexit__(*error))


async def one_of(source: Any) -> AsyncIterator[Any]:
    try:
        yield await anext(source)
    except StopAsyncIteration:
        return


def streamed(face: str, pieces: list[bytes]) -> Any:
    async def each() -> AsyncIterator[bytes]:
        for piece in pieces:
            await asyncio.sleep(0)
            yield piece

    return iter(pieces) if face == "sync" else each()


@pytest.fixture(params=["sync", "aio"])
def face(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def store(running: RunningStore, face: str) -> Iterator[Any]:
    if face == "sync":
        with warehouse.sync.connect(running.profile) as client:
            yield client
        return
    with asyncio.Runner() as runner:
        connecting = Blocking(warehouse.aio.connect(running.profile), runner)
        with connecting as client:
            yield client


def test_objects(store: Any, face: str, tmp_path: Path) -> None:
    photos = store.bucket("photos")
    written = photos.put("a.txt", b"hello", metadata={"mood": "fine"})
    assert photos.get("a.txt") == b"hello"
    assert photos.stat("a.txt").etag == photos.chunks("a.txt").etag == written.etag
    photos.amend(photos.chunks("a.txt"), ObjectAttributes(tags=(("kind", "text"),)))
    pieces = [bytes([number]) * MIB for number in range(5)]
    assert photos.put("stream", streamed(face, pieces)).size == 5 * MIB
    with photos.open("stream", start=MIB, length=2 * MIB) as stream:
        assert stream.size == 2 * MIB
        assert b"".join(stream) == pieces[1] + pieces[2]
    with photos.open("stream") as stream:
        assert stream.read() == b"".join(pieces)
    told: list[int] = []
    (tmp_path / "up").write_bytes(pieces[3])
    photos.upload("up", tmp_path / "up", told.append)
    assert told[-1] == MIB
    photos.download("up", tmp_path / "down", progress=told.append)
    assert (tmp_path / "down").read_bytes() == pieces[3]
    photos.copy("up", "copy", progress=told.append)
    assert photos.presign_get("up").startswith("http")
    assert photos.presign_put("new").startswith("http")
    assert photos.find(contains="cop").objects[0].key == "copy"
    assert [entry.key for entry in photos.list("up")] == ["up"]
    assert photos.list_page("up").objects[0].key == "up"
    assert next(iter(photos.changes())).is_missed
    assert photos.delete("copy")
    assert not any(photos.delete_many(["copy", "absent"]))
    with pytest.raises(NoSuchObject):
        photos.get("copy")
    upload = photos.begin_upload("direct", 10)
    again = photos.resume_upload(upload.upload_id, upload.size, upload.chunk_size)
    assert again.chunk_length(0) == 10
    assert again.slots([0])[0].size == 10
    again.send(0, streamed(face, [b"01234", b"56789"]))
    assert again.finish().size == 10
    photos.begin_upload("gone", 10).abort()
    assert photos.info().object_count > 2
    photos.set_quota(byte_count=None)
    assert photos.history()
    photos.set_config("tagging", b"<x/>")
    assert photos.config("tagging") == b"<x/>"


def test_many(store: Any, face: str) -> None:
    photos = store.bucket("photos")
    items = [(f"many/{number:05}", b"%d" % number) for number in range(6000)]
    assert [result.key for result in photos.put_many(items) if result.error is None] == [k for k, _ in items]
    got = list(photos.get_many(key for key, _ in items))
    assert [(result.key, result.data) for result in got] == items
    listed = photos.list("many/", with_locations=True)
    source = listed if face == "sync" else listed._inner
    assert [result.data for result in photos.get_many(source)] == [data for _, data in items]

    def failing() -> Iterator[tuple[str, bytes]]:
        yield from items[:700]
        raise ZeroDivisionError

    seen = []
    with pytest.raises(ZeroDivisionError):
        for result in photos.put_many(failing()):
            seen.append(result.key)
    assert len(seen) == 700


def test_the_store(store: Any) -> None:
    made = store.create_bucket("films")
    assert made.name == "films"
    assert {one.name for one in store.buckets()} == {"films", "photos"}
    store.delete_bucket("films")
    status = store.status()
    (disk,) = status.disks
    assert store.volumes(disk.disk_id).volumes
    assert store.disks_of([1]) == {1: disk.disk_id}
    assert store.figures().health
    store.history()
    assert store.data_urls()
    store.s3_urls()
    jobs = store.wait_jobs(store.verify([1]), progress=lambda jobs: None)
    assert store.jobs([jobs[0].job_id])[0].state == "done"
    store.compact([])
    store.jobs_and_pause()
    store.pause_jobs()
    assert store.are_jobs_paused()
    store.resume_jobs()
    store.cancel_jobs([jobs[0].job_id])
    store.keep_orphans()
    store.drop_orphans()
    store.rotate_secret("data")
    token = store.create_join_token()
    assert token.token_id in {one.token_id for one in store.join_tokens()}
    store.remove_join_token(token.token_id)
    store.nodes()
    assert store.disks()
    for refused in (
        lambda: store.remove_node("absent"),
        lambda: store.confirm_disk("absent", "http://127.0.0.1:1"),
        lambda: list(store.lost_objects("absent")),
        lambda: store.remove_disk("absent"),
    ):
        with pytest.raises(StoreError):
            refused()
    assert next(iter(store.changes())).is_missed
    assert next(iter(store.events(after=0))).name
    assert next(iter(store.audit())).action
    key = store.create_key("thumbs", preset="reader").key
    assert store.key(key.key_id).name == "thumbs"
    assert len(store.keys()) >= 2
    store.edit_key(key.key_id, name="other")
    store.disable_key(key.key_id)
    store.enable_key(key.key_id)
    store.rotate_key(key.key_id)
    store.delete_key(key.key_id)
    name = f"AKIA{os.urandom(8).hex().upper()}"
    store.delete_key(store.import_key(name, os.urandom(20).hex(), "old", preset="reader").key_id)
    account = store.create_account("family")
    store.edit_account("family", email="a@example.org")
    assert account.account_id in {one.account_id for one in store.accounts()}
    store.give_bucket("photos", "main")
    store.delete_account("family")


def test_many_threads_use_one_connection(running: RunningStore) -> None:
    with warehouse.sync.connect(running.profile) as store:
        photos, errors = store.bucket("photos"), []

        def work(number: int) -> None:
            try:
                for step in range(20):
                    photos.put(f"thread/{number}/{step}", b"%d" % number)
                    assert photos.get(f"thread/{number}/{step}") == b"%d" % number
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors


def test_use_after_close_half_read_iterators_and_callers_that_wait(running: RunningStore) -> None:
    raised: list[BaseException] = []
    with warehouse.sync.connect(running.profile) as store:
        photos = store.bucket("photos")
        list(photos.put_many((f"half/{number:04}", b"x") for number in range(3000)))
        results, listing = photos.get_many(f"half/{number:04}" for number in range(3000)), photos.list()
        next(results)
        next(listing)
        with closing(photos.put_many((f"half/{number:04}", b"y") for number in range(3000))) as puts:
            next(puts)
        assert list(puts) == []
        forgotten = photos.get_many(f"half/{number:04}" for number in range(3000))
        next(forgotten)
        del forgotten
        gc.collect()

        def wait() -> None:
            changes = store.changes()
            with pytest.raises(LinkDown) as caught:
                while True:
                    next(changes)
            raised.append(caught.value)

        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(0.5)
    waiting.join(20)
    assert len(raised) == 1
    for late in (lambda: photos.get("a"), lambda: list(results), lambda: store.status()):
        with pytest.raises(LinkDown):
            late()
    assert not [thread for thread in threading.enumerate() if thread.name == "warehouse"]


def test_a_deadline_and_an_error_of_the_caller_end_a_call(running: RunningStore) -> None:
    with warehouse.sync.connect(running.profile) as store:
        photos = store.bucket("photos")
        changes = photos.changes()
        next(changes)
        started = time.monotonic()
        with pytest.raises(TimeoutError), warehouse.sync.fail_after(60), warehouse.sync.fail_after(0.5):
            next(changes)
        assert time.monotonic() - started < 10

        def pieces() -> Iterator[bytes]:
            yield bytes(2 * MIB)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            photos.put("never", pieces())
        with pytest.raises(NoSuchObject):
            photos.stat("never")


async def of_asyncio(running: RunningStore) -> None:
    async with warehouse.aio.connect(running.profile) as store:
        photos = store.bucket("photos")
        changes = photos.changes()
        await anext(changes)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await anext(changes)
        started, ended = asyncio.Event(), asyncio.Event()

        async def endless() -> AsyncIterator[bytes]:
            try:
                yield b"x"
                started.set()
                await asyncio.sleep(3600)
            finally:
                ended.set()

        put = asyncio.create_task(photos.put("never", endless()))
        await started.wait()
        put.cancel()
        with pytest.raises(asyncio.CancelledError):
            await put
        assert ended.is_set()

        async def slow() -> AsyncIterator[tuple[str, bytes]]:
            yield "slow/1", b"1"
            await asyncio.sleep(3600)

        async with asyncio.timeout(30), aclosing(photos.put_many(slow())) as results:
            assert (await anext(results)).key == "slow/1"
        await asyncio.gather(*(photos.put(f"task/{number}", b"x") for number in range(100)))
        assert len([entry async for entry in photos.list("task/")]) == 100
    with pytest.raises(LinkDown):
        await photos.get("task/1")


def test_cancelled_tasks_and_slow_sources_of_asyncio(running: RunningStore) -> None:
    asyncio.run(of_asyncio(running))


PROGRAM = """
import os, signal, sys, threading, time
import warehouse
from warehouse.errors import LinkDown
opening = warehouse.sync.connect(sys.argv[1])
store = opening.__enter__()
photos = store.bucket("photos")
photos.put("program", b"x")
if os.fork() == 0:
    try:
        photos.get("program")
    except LinkDown:
        os._exit(7)
    os._exit(8)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
changes = photos.changes()
next(changes)
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    while True:
        next(changes)
except KeyboardInterrupt:
    assert photos.get("program") == b"x"
    print("interrupted")
"""


def test_an_interrupt_a_fork_and_an_end_without_closing(running: RunningStore) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(running.profile)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr
