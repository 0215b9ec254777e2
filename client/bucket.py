"""Buckets: what a program does with the objects of one bucket.

`Bucket` turns arguments into requests and chooses the way: a small put or an upload, one request or a stream.
The work is done in `writing/` and `reading/`.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import islice
from pathlib import Path
from typing import overload

import trio

from warehouse.client.control import Control
from warehouse.client.files import replaced_file
from warehouse.client.headers import PutOptions, check_condition, key_size, put_options
from warehouse.client.listing import Entries, Prefix
from warehouse.client.ordered_batches import Results
from warehouse.client.reading.get_many import GetBatches, GetItem, GetResult
from warehouse.client.reading.streams import BucketReader, ObjectStream, SpanBuffers
from warehouse.client.writing.coalesced_puts import CoalescedPuts
from warehouse.client.writing.put import BucketWriter
from warehouse.client.writing.put_many import PutBatches, PutItem, PutResult
from warehouse.client.writing.sources import MemorySource, ObjectSource, as_bytes_view, opened_file
from warehouse.client.writing.uploads import Progress, Uploader
from warehouse.errors import BadRequest, ObjectReplaced
from warehouse.transport.http.header_text import check_content_type
from warehouse.transport.http.pool import HttpPool
from warehouse.transport.messages import (
    Deleted,
    DeleteObjects,
    ObjectFound,
    ObjectInfo,
    ObjectWritten,
    Presign,
    Presigned,
    StatObject,
)

# Names and user metadata travel in a header up to this; more takes the way of an upload, in a message.
NAMES_SIZE_MAX = 4 * 1024
DELETE_BATCH = 1000
DOWNLOAD_ATTEMPTS = 5

Bytes = bytes | bytearray | memoryview
PutSource = Bytes | str | os.PathLike[str] | AsyncIterable[bytes | bytearray | memoryview]


class Session:
    """What a connection's objects share."""

    def __init__(
        self,
        control: Control,
        read_pool: HttpPool,
        write_pool: HttpPool,
        nursery: trio.Nursery,
        batch_nursery: trio.Nursery,
    ) -> None:
        self.control = control
        self.read_pool = read_pool
        self.write_pool = write_pool
        self.nursery = nursery
        self.batch_nursery = batch_nursery
        self.buffers = SpanBuffers()
        self._buckets: dict[str, Bucket] = {}

    def bucket(self, name: str) -> Bucket:
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = Bucket(name, self)
        return bucket

    def forget_bucket(self, name: str) -> None:
        self._buckets.pop(name, None)


class Bucket:
    """One bucket; made by `Warehouse.bucket`."""

    def __init__(self, name: str, session: Session) -> None:
        self.name = name
        self._session = session
        self._control = session.control
        self._reader = BucketReader(
            name, session.control, session.read_pool, session.buffers, session.nursery
        )
        self._writer = BucketWriter(name, session.control, session.write_pool, session.nursery)
        self._puts = CoalescedPuts(self._writer, session.write_pool, session.batch_nursery)
        self._uploader = Uploader(name, session.control, session.write_pool, self._writer.in_doubt)

    # --- writing ----------------------------------------------------------------------------------

    async def put(
        self,
        key: str,
        source: PutSource,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> ObjectWritten:
        """Store an object; when this returns, it is on disk, in the catalog and visible to everybody.

        Args:
            key: 1 to 1024 bytes of UTF-8, opaque.
            source: bytes; or a path (`str` or `Path`); or an async iterable of bytes of any length.
            content_type: guessed from the key's ending when not given.
            metadata: names and values of your own, 8 KiB together.
            if_match: store only if the object has this ETag now.
            if_none_match: store only if the object has not this ETag; "*": only if there is no object.
        Returns:
            ETag, size, and when the store took it (`created_ms`).
        Raises:
            PreconditionFailed: a condition did not hold; nothing was changed.
            NoSuchBucket, PermissionDenied, BadKey, BadMetadata, ClusterFull.
            OutcomeUnknown: the connection broke, and the master could not be asked what became of the put.
        """
        options = put_options(key, content_type, metadata, if_match, if_none_match)
        if isinstance(source, bytes | bytearray | memoryview):
            return await self._put_bytes(key, source, options)
        if isinstance(source, str | os.PathLike):
            return await self._put_path(key, source, options, None)

        if not hasattr(source, "__aiter__"):
            kind = type(source).__name__
            raise BadRequest(f"what is put is bytes, a path, or an async iterable of bytes, not {kind}")

        async def put_small(data: bytearray) -> ObjectWritten:
            return await self._put_bytes(key, data, options)

        return await self._uploader.put_stream(key, source, options, put_small)

    def put_many(self, items: Iterable[PutItem] | AsyncIterable[PutItem]) -> Results[PutResult]:
        """Store many objects, hundreds in one request: `async for result in bucket.put_many(items)`.

        Results come in the order of the items, each with its own `error` or None; an object without one is on
        disk, in the catalog and visible, as after `put`.  One that fails leaves the others alone.  Items are
        taken as results are, so any number of them needs bounded memory.  Of several items with the same key
        any may be the last.

        Leaving the loop early, or being cancelled, leaves each item that was taken stored or not stored.

        Args:
            items: `(key, bytes)` pairs, or `Put`s; a list, a generator, an asynchronous one.
        """
        batches = PutBatches(
            items, self._writer, self._session.write_pool, self._control.small_max, self._put_bytes
        )
        return Results(batches, self._session.batch_nursery, PutResult)

    async def upload(
        self,
        key: str,
        path: str | os.PathLike[str],
        progress: Progress | None = None,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> ObjectWritten:
        """Store a file; `progress` is called with the bytes sent so far.  Otherwise as `put`."""
        options = put_options(key, content_type, metadata, if_match, if_none_match)
        return await self._put_path(key, path, options, progress)

    async def copy(
        self,
        key: str,
        to_key: str,
        to_bucket: str | None = None,
        progress: Progress | None = None,
        content_type: str | None = None,
    ) -> ObjectWritten:
        """Copy an object with its type and metadata, in this bucket or to another.

        The bytes pass through this process, in bounded pieces.

        Args:
            content_type: the type that the copy gets; None: that of the object.
        Raises:
            NoSuchObject: there is nothing to copy.
            ObjectReplaced: the object changed while it was copied; nothing was stored.
        """
        target = self if to_bucket is None else self._session.bucket(to_bucket)
        located = await self._reader.locate(key)
        info = located.info
        options = put_options(to_key, content_type or info.content_type, info.metadata, None, None)
        if info.size > self._control.small_max:
            source = ObjectSource(self._reader, located)
            return await target._uploader.put_source(to_key, source, options, progress)
        async with self._reader.stream(located) as stream:
            data = await stream.read()
        written = await target._put_bytes(to_key, data, options)
        if progress is not None:
            progress(written.size)
        return written

    async def delete(self, key: str, if_match: str | None = None) -> bool:
        """Delete an object; False when there was none.

        Raises:
            PreconditionFailed: the object has another ETag than `if_match`.
            OutcomeUnknown: the connection broke before the answer.
        """
        key_size(key)
        request = DeleteObjects(bucket=self.name, keys=[key], if_match=check_condition(if_match))
        if self._writer.in_doubt:
            await self._writer.in_doubt.wait(key)
        return (await self._control.ask(request, Deleted, is_repeatable=False)).existed[0]

    async def delete_many(self, keys: Iterable[str]) -> Sequence[bool]:
        """Delete objects, a thousand at a time; tells of each, in order, whether it was there."""
        if isinstance(keys, str | bytes):
            raise TypeError("delete_many takes several keys; for one there is delete")
        existed: Sequence[bool] = []
        remaining = iter(keys)
        while batch := [*islice(remaining, DELETE_BATCH)]:
            request = DeleteObjects(bucket=self.name, keys=batch)
            if self._writer.in_doubt:
                await self._writer.in_doubt.wait(*batch)
            existed = [*existed, *(await self._control.ask(request, Deleted, is_repeatable=False)).existed]
        return existed

    # --- reading ----------------------------------------------------------------------------------

    async def get(self, key: str) -> bytes:
        """The bytes of an object, checked against its CRC; for objects that fit in memory.

        Raises:
            NoSuchObject: there is none.
            VolumeOffline: the disk that holds it is offline; the message names it.
            DataDamaged: what the disk holds is not what was stored.
        """
        return await self._reader.get(key)

    def get_many(
        self, keys: Iterable[GetItem] | AsyncIterable[GetItem], size_max: int | None = None
    ) -> Results[GetResult]:
        """The bytes of many objects, hundreds in one request: `async for result in bucket.get_many(keys)`.

        Results come in the order of the keys, each with `data` or with the `error` that `get` would have
        raised.  Keys are taken as results are; up to 32 MiB are fetched ahead.

        Args:
            keys: a list, a generator, an asynchronous one; also entries of `list(with_locations=True)`, which
                are fetched as they were listed, without asking where they are.
            size_max: larger objects get the error `BodyTooLarge`, so that they can be read with `open`.
        """
        return Results(GetBatches(keys, self._reader, size_max), self._session.batch_nursery, GetResult)

    def open(
        self, key: str, start: int = 0, length: int | None = None
    ) -> AbstractAsyncContextManager[ObjectStream]:
        """Read an object, or a range of it, piece by piece, with bounded memory.

            async with bucket.open("film.mp4", start=1_000_000) as stream:
                print(stream.info.content_type)
                async for piece in stream:
                    ...

        All pieces are of one version.  Whole chunks are checked end to end against their CRC, before the
        last piece of each is handed out; a range that cuts a chunk rests on the check of the volume.

        Args:
            length: bytes from `start` on; None, or more than there are: up to the end.
        Raises (on entering, and while reading):
            RangeNotSatisfiable: `start` is beyond the end.
            ObjectReplaced: another version took its place while this one was read.
            NoSuchObject, VolumeOffline, DataDamaged: as `get`.
        """
        return self._reader.open(key, start, length)

    async def download(
        self, key: str, path: str | os.PathLike[str], progress: Progress | None = None
    ) -> ObjectInfo:
        """Write an object to a file, which appears under its name when it is whole, checked and on disk.

        `progress` is called with the bytes written so far.  Starts again when the object is replaced
        meanwhile.  On failure nothing is left, and an older file of that name stays as it was.

        Raises:
            BadRequest: the path names something that is not a regular file.
            OSError: the file cannot be written.
            NoSuchObject, VolumeOffline, DataDamaged: as `get`.
        """
        for attempt in range(DOWNLOAD_ATTEMPTS):
            try:
                return await self._download(key, Path(path), progress)
            except ObjectReplaced:
                if attempt + 1 == DOWNLOAD_ATTEMPTS:
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def _download(self, key: str, path: Path, progress: Progress | None) -> ObjectInfo:
        async with self.open(key) as stream, replaced_file(path) as file:
            written_count = 0
            while (view := await stream.next_view()) is not None:
                await file.write(view)
                written_count += len(view)
                if progress is not None:
                    progress(written_count)
            return stream.info

    async def stat(self, key: str) -> ObjectInfo:
        """Size, ETag, type, metadata and time of an object.

        Raises:
            NoSuchObject: there is none.
        """
        key_size(key)
        return (await self._control.ask(StatObject(bucket=self.name, key=key), ObjectFound)).object

    async def chunks(self, key: str) -> ObjectInfo:
        """As `stat`, and with the size and CRC-32C of each chunk; this needs the right to read.

        Raises:
            NoSuchObject: there is none.
        """
        key_size(key)
        return (await self._reader.locate(key)).info

    async def presign_get(self, key: str, expires_s: float = 3600.0) -> str:
        """A URL from which anybody can read this version of the object until it expires."""
        return await self._presign(key, "GET", expires_s, None, None)

    async def presign_put(
        self,
        key: str,
        expires_s: float = 3600.0,
        size_max: int | None = None,
        content_type: str | None = None,
    ) -> str:
        """A URL to which anybody can PUT this object, once, until it expires.

        Args:
            size_max: the largest body, bytes; at most one chunk (80 MiB unless set otherwise).
        """
        if content_type is not None:
            check_content_type(content_type)
        return await self._presign(key, "PUT", expires_s, size_max, content_type)

    async def _presign(
        self, key: str, method: str, expires_s: float, size_max: int | None, content_type: str | None
    ) -> str:
        key_size(key)
        request = Presign(
            bucket=self.name,
            key=key,
            method=method,
            expires_in_s=expires_s,
            size_max=size_max,
            content_type=content_type,
        )
        return (await self._control.ask(request, Presigned)).url

    @overload
    def list(
        self,
        prefix: str = "",
        delimiter: None = None,
        *,
        after: str = "",
        limit: int | None = None,
        with_locations: bool = False,
    ) -> AsyncIterator[ObjectInfo]: ...

    @overload
    def list(
        self,
        prefix: str = "",
        *,
        delimiter: str,
        after: str = "",
        limit: int | None = None,
        with_locations: bool = False,
    ) -> AsyncIterator[ObjectInfo | Prefix]: ...

    @overload
    def list(
        self,
        prefix: str,
        delimiter: str,
        *,
        after: str = "",
        limit: int | None = None,
        with_locations: bool = False,
    ) -> AsyncIterator[ObjectInfo | Prefix]: ...

    def list(
        self,
        prefix: str = "",
        delimiter: str | None = None,
        *,
        after: str = "",
        limit: int | None = None,
        with_locations: bool = False,
    ) -> AsyncIterator[ObjectInfo | Prefix]:
        """The objects of the bucket, in the order of their keys' UTF-8 bytes.

        Args:
            prefix: only keys that begin with it.
            delimiter: keys that have it after the prefix are summed up as one `Prefix` each; with "/" this
                lists one folder.
            after: only entries greater than this one, to go on where an earlier listing stopped.
            limit: stop after so many entries.
            with_locations: entries know where their bytes are, so that `get_many` takes them without asking;
                this needs the right to read.
        """
        if limit is not None and limit < 0:
            raise BadRequest(f"a limit is 0 or more entries, or None for all, not {limit}")
        learn = self._reader.learn if with_locations else None
        return Entries(self._control, self.name, prefix, delimiter, after, limit, learn)

    # --- inside -----------------------------------------------------------------------------------

    async def _put_bytes(self, key: str, source: Bytes, options: PutOptions) -> ObjectWritten:
        data = as_bytes_view(source) if isinstance(source, memoryview) else source
        if len(data) > self._control.small_max or options.names_size > NAMES_SIZE_MAX:
            return await self._uploader.put_source(key, MemorySource(as_bytes_view(data)), options)
        return await self._puts.put(key, data, options)

    async def _put_path(
        self, key: str, path: str | os.PathLike[str], options: PutOptions, progress: Progress | None
    ) -> ObjectWritten:
        with opened_file(path) as file:
            if file.size > self._control.small_max or options.names_size > NAMES_SIZE_MAX:
                return await self._uploader.put_source(key, file, options, progress)
            written = await self._puts.put(key, await file.read(), options)
        if progress is not None:
            progress(written.size)
        return written
