"""One client process of `test_linearizability.py`: tasks that write, overwrite, delete and read a few shared keys.

    python linearizable_client.py PROFILE NAME SEED TASKS EPOCH_START   -> one JSON line for each operation

It goes on until its standard input is closed, and then finishes what is under way.  Each object says who wrote it, and all of its bytes follow from
that, so a read that mixes versions, or ends too early, shows by itself.
"""

from __future__ import annotations

import hashlib
import json
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trio

import warehouse
from warehouse.client.writing.put_many import Put
from warehouse.errors import (
    DataDamaged,
    NoSuchObject,
    ObjectReplaced,
    OutcomeUnknown,
    PreconditionFailed,
    StoreError,
)

BUCKET = "shared"
KEYS = 3
EPOCH_S = 8.0  # then other keys: the fewer operations a key has, the fewer orders there are to try
CANCELLED_SHARE = 0.02
STUCK_S = 120.0  # far beyond every deadline of the library: nothing takes that long
# Chunks have 64 KiB here, so the last four are uploads of two to five chunks.
SIZES = (60, 3_000, 4_096, 60_000, 65_536, 65_537, 100_000, 200_000, 300_000)


class Wrong(Exception):
    """What was read is no version of the object."""


def body_of(value: str) -> bytes:
    """All bytes of the object with this value, which ends with its size."""
    size = int(value.rpartition(".")[2])
    pattern = hashlib.sha256(value.encode()).digest() * (size // 32 + 1)
    return (f"{value}|".encode() + pattern)[:size]


def value_of(data: bytes) -> str:
    value = data.split(b"|", 1)[0].decode(errors="replace")
    if not value.rpartition(".")[2].isdigit() or data != body_of(value):
        raise Wrong(f"{len(data)} bytes that begin with {data[:60]!r}")
    return value


class Worker:
    """One task; it does one thing after the other."""

    def __init__(
        self, bucket: warehouse.Bucket, name: str, seed: str, epoch_start_s: float, folder: Path
    ) -> None:
        self._bucket = bucket
        self._name = name
        self._random = random.Random(seed)
        self._epoch_start_s = epoch_start_s
        self._count = 0
        self._file = folder / name
        self._etags: dict[str, str] = {}  # key -> the last one seen
        self.is_ending = False

    def _keys(self) -> list[str]:
        epoch = int((time.monotonic() - self._epoch_start_s) / EPOCH_S)
        return [f"epoch-{epoch}/key-{number}" for number in range(KEYS)]

    def _new_value(self) -> str:
        self._count += 1
        return f"{self._name}.{self._count}.{self._random.choice(SIZES)}"

    async def run(self) -> None:
        while not self.is_ending:
            await self._one()
            await trio.sleep(self._random.choice((0, 0, 0.001, 0.005)))

    async def _one(self) -> None:
        keys = self._keys()
        key = self._random.choice(keys)
        ways = [
            (12, self._get),
            (10, self._read_slowly),
            (8, self._read_a_range),
            (4, self._download),
            (4, self._stat),
            (4, self._list),
            (5, self._get_many),
            (16, self._put),
            (4, self._put_many),
            (9, self._put_if_absent),
            (13, self._put_if_match),
            (5, self._delete_if_match),
            (6, self._delete),
        ]
        (way,) = self._random.choices([way for _, way in ways], [weight for weight, _ in ways])
        is_cut = self._random.random() < CANCELLED_SHARE
        entries = [{"key": one} for one in (keys if way in (self._get_many, self._put_many) else [key])]
        called_s = time.monotonic()
        with trio.move_on_after(self._random.uniform(0.002, 0.2) if is_cut else STUCK_S) as scope:
            try:
                await way(entries)
            except PreconditionFailed:
                entries[0]["outcome"] = "unmet"
            except NoSuchObject:
                entries[0]["outcome"], entries[0]["value"] = "done", None  # type: ignore[assignment]
            except Wrong as error:
                entries[0]["wrong"] = str(error)
            except StoreError as error:
                _note_error(entries[0], error)
        for entry in entries:
            if scope.cancelled_caught and "outcome" not in entry and "error" not in entry:
                entry["error"] = "cancelled" if is_cut else "stuck"
            entry.update(called_s=called_s, returned_s=time.monotonic(), who=self._name)  # type: ignore[call-overload]
            sys.stdout.write(json.dumps(entry) + "\n")

    def _done(self, entry: dict[str, Any], etag: str | None = None, **fields: Any) -> None:
        entry.update(outcome="done", etag=etag, **fields)
        if etag is not None:
            self._etags[entry["key"]] = etag

    # --- reading ----------------------------------------------------------------------------------

    async def _get(self, entries: list[dict[str, Any]]) -> None:
        (entry,) = entries
        entry["kind"] = "read"
        self._done(entry, value=value_of(await self._bucket.get(entry["key"])))

    async def _read_slowly(self, entries: list[dict[str, Any]]) -> None:
        (entry,) = entries
        entry["kind"] = "read"
        async with self._bucket.open(entry["key"]) as stream:
            pieces = []
            async for piece in stream:
                pieces.append(piece)
                await trio.sleep(self._random.choice((0, 0.01, 0.1)))
            data = b"".join(pieces)
            if len(data) != stream.info.size:
                raise Wrong(f"{len(data)} bytes of {stream.info.size}")
            self._done(entry, stream.info.etag, value=value_of(data))

    async def _read_a_range(self, entries: list[dict[str, Any]]) -> None:
        (entry,) = entries
        entry["kind"] = "read"
        start, length = self._random.randrange(60), self._random.randrange(1, 150_000)
        async with self._bucket.open(entry["key"], start, length) as stream:
            data = await stream.read()
            value = stream.info.metadata["value"]
            if data != body_of(value)[start : start + length]:
                raise Wrong(f"{len(data)} bytes from {start} on that are not those of {value}")
            self._done(entry, stream.info.etag, value=value)

    async def _download(self, entries: list[dict[str, Any]]) -> None:
        (entry,) = entries
        entry["kind"] = "read"
        info = await self._bucket.download(entry["key"], self._file)
        self._done(entry, info.etag, value=value_of(self._file.read_bytes()))

    async def _stat(self, entries: list[dict[str, Any]]) -> None:
        (entry,) = entries
        entry["kind"] = "read"
        info = await self._bucket.stat(entry["key"])
        self._done(entry, info.etag, value=info.metadata["value"])

    async def _list(self, entries: list[dict[str, Any]]) -> None:
        (entry,) = entries
        entry["kind"] = "read"
        etag = None
        async for found in self._bucket.list(entry["key"]):
            etag = found.etag
        if etag is None:
            self._done(entry, value=None)
        else:
            self._done(entry, etag)  # whose value it is, the puts tell

    async def _get_many(self, entries: list[dict[str, Any]]) -> None:
        for entry in entries:
            entry["kind"] = "read"
        results = self._bucket.get_many([entry["key"] for entry in entries])
        position = 0
        async for result in results:
            entry = entries[position]
            position += 1
            if isinstance(result.error, NoSuchObject):
                self._done(entry, value=None)
            elif result.error is not None:
                _note_error(entry, result.error)
            else:
                try:
                    self._done(entry, value=value_of(result.data or b""))
                except Wrong as error:
                    entry["wrong"] = str(error)

    # --- writing ----------------------------------------------------------------------------------

    async def _store(self, entry: dict[str, Any], **conditions: Any) -> None:
        value = entry["value"] = self._new_value()
        written = await self._bucket.put(
            entry["key"], body_of(value), metadata={"value": value}, **conditions
        )
        self._done(entry, written.etag)

    async def _put(self, entries: list[dict[str, Any]]) -> None:
        entries[0]["kind"] = "put"
        await self._store(entries[0])

    async def _put_if_absent(self, entries: list[dict[str, Any]]) -> None:
        entries[0]["kind"] = "put_if_absent"
        await self._store(entries[0], if_none_match="*")

    async def _put_if_match(self, entries: list[dict[str, Any]]) -> None:
        (entry,) = entries
        etag = self._etags.get(entry["key"])
        if etag is None:
            await self._put(entries)
            return
        entry.update(kind="put_if_match", expected=etag)
        await self._store(entry, if_match=etag)

    async def _put_many(self, entries: list[dict[str, Any]]) -> None:
        puts = []
        for entry in entries:
            value = self._new_value()
            entry.update(kind="put", value=value)
            puts.append(Put(entry["key"], body_of(value), metadata={"value": value}))
        position = 0
        async for result in self._bucket.put_many(puts):
            entry = entries[position]
            position += 1
            if result.error is None:
                self._done(entry, result.etag)
            else:
                _note_error(entry, result.error)

    async def _delete(self, entries: list[dict[str, Any]]) -> None:
        (entry,) = entries
        entry["kind"] = "delete"
        self._done(entry, existed=await self._bucket.delete(entry["key"]))

    async def _delete_if_match(self, entries: list[dict[str, Any]]) -> None:
        (entry,) = entries
        etag = self._etags.get(entry["key"])
        if etag is None:
            await self._delete(entries)
            return
        entry.update(kind="delete_if_match", expected=etag)
        self._done(entry, existed=await self._bucket.delete(entry["key"], if_match=etag))


def _note_error(entry: dict[str, Any], error: StoreError) -> None:
    entry.update(error=error.code, message=error.message[:300])
    if isinstance(error, OutcomeUnknown):
        entry["outcome"] = "unknown"
    elif isinstance(error, DataDamaged) and not isinstance(error, ObjectReplaced):
        entry["wrong"] = f"{error.code}: {error.message[:300]}"  # nothing here damages anything


def show_tasks(*_: object) -> None:
    """Where every task waits, for who finds this process stuck."""
    root = trio.lowlevel.current_root_task()
    tasks = [] if root is None else [root]
    while tasks:
        task = tasks.pop()
        print("task", task.name, file=sys.stderr)
        for frame, line in task.iter_await_frames():
            print(f"    {frame.f_code.co_filename}:{line} {frame.f_code.co_name}", file=sys.stderr)
        for nursery in task.child_nurseries:
            tasks += nursery.child_tasks
    sys.stderr.flush()


async def main(arguments: Sequence[str]) -> None:
    signal.signal(signal.SIGUSR1, show_tasks)
    profile, name, seed, tasks, epoch_start_s = arguments
    with TemporaryDirectory() as folder:
        async with warehouse.connect(profile) as client, trio.open_nursery() as nursery:
            bucket = client.bucket(BUCKET)
            workers = [
                Worker(
                    bucket, f"{name}-{number}", f"{seed}/{name}/{number}", float(epoch_start_s), Path(folder)
                )
                for number in range(int(tasks))
            ]
            for worker in workers:
                nursery.start_soon(worker.run)
            await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
            for worker in workers:
                worker.is_ending = True
    sys.stdout.flush()


if __name__ == "__main__":
    trio.run(main, sys.argv[1:])
