"""Buckets: the objects of one bucket, for a program.

`Bucket` checks arguments and decides how an object travels: as a small put or an upload, in one request or as
a stream.  `writing/` and `reading/` do the work.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from types import EllipsisType
from typing import Any, Literal, overload

import trio

from warehouse.client.attributes import attributes_of_copy
from warehouse.client.changes import BucketChanges
from warehouse.client.control import Control
from warehouse.client.files import replaced_file
from warehouse.client.finding import FoundPage, Order, find_page
from warehouse.client.headers import (
    GivenAttributes,
    PutOptions,
    amend_options,
    check_condition,
    key_size,
    put_options,
)
from warehouse.client.listing import PAGE_SIZE, Entries, ListedPage, Prefix, read_page
from warehouse.client.ordered_batches import Results
from warehouse.client.reading.get_many import GetBatches, GetItem, GetResult
from warehouse.client.reading.streams import BucketReader, ObjectStream, SpanBuffers
from warehouse.client.times import since_ms
from warehouse.client.writing.coalesced_puts import CoalescedPuts, Wait
from warehouse.client.writing.direct_uploads import DirectUpload, check_sizes
from warehouse.client.writing.multipart import Multipart
from warehouse.client.writing.put import BucketWriter
from warehouse.client.writing.put_many import PutBatches, PutItem, PutResult
from warehouse.client.writing.sources import (
    MemorySource,
    ObjectSource,
    OnceSource,
    as_bytes_view,
    opened_file,
)
from warehouse.client.writing.uploads import Progress, Uploader
from warehouse.errors import BadRequest, ObjectReplaced
from warehouse.transport.http.header_text import check_content_type
from warehouse.transport.http.pool import HttpPool
from warehouse.transport.messages import (
    BucketConfigFound,
    BucketFound,
    BucketGrowth,
    BucketHistory,
    BucketInfo,
    BucketPoint,
    Deleted,
    DeleteObjects,
    Done,
    ObjectFound,
    ObjectInfo,
    ObjectWritten,
    Presign,
    Presigned,
    ReadBucketConfig,
    SetBucketConfig,
    SetQuota,
    StatBucket,
    StatObject,
)
from warehouse.transport.messages.attributes import ObjectAttributes

# Names and user metadata up to this size travel in a header; longer ones travel in a message, as an upload.
NAMES_SIZE_MAX = 4 * 1024
DELETE_BATCH = 1000
DOWNLOAD_ATTEMPTS = 5

Bytes = bytes | bytearray | memoryview
PutSource = Bytes | str | os.PathLike[str] | AsyncIterable[bytes | bytearray | memoryview] | OnceSource


class Session:
    """What the buckets of one connection share."""

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
    """One bucket; made by `Store.bucket`.

    Attributes:
        multipart: its uploads in parts, as gateways make them.
        reads: its reads in steps, as gateways take them.
    """

    def __init__(self, name: str, session: Session) -> None:
        self.name = name
        self._session = session
        self._control = session.control
        self.reads = BucketReader(name, session.control, session.read_pool, session.buffers, session.nursery)
        self._writer = BucketWriter(name, session.control, session.write_pool, session.nursery)
        self._puts = CoalescedPuts(self._writer, session.write_pool, session.batch_nursery)
        self._uploader = Uploader(name, session.control, session.write_pool, self._writer.in_doubt)
        self.multipart = Multipart(name, session.control, session.write_pool, self._uploader)

    # --- the bucket itself ------------------------------------------------------------------------

    async def info(self) -> BucketInfo:
        """How many objects and bytes the bucket holds, and how many it may hold.

        Raises:
            NoSuchBucket.
        """
        return (await self._control.ask(StatBucket(bucket=self.name), BucketFound)).bucket

    async def history(
        self, *, since: datetime | timedelta | None = None, points_max: int = 500
    ) -> list[BucketPoint]:
        """How the bucket has grown, oldest first: a point where it had changed within an hour, and now.

        The store notes this for its 1,000 largest buckets, and keeps it for 30 days.

        Args:
            since, points_max: as `Store.history`.
        Raises:
            PermissionDenied: it takes the permission to list the whole bucket.
            NoSuchBucket.
        """
        request = BucketHistory(bucket=self.name, since_ms=since_ms(since), points_max=points_max)
        return (await self._control.ask(request, BucketGrowth)).points

    async def set_quota(
        self, *, byte_count: int | EllipsisType | None = ..., object_count: int | EllipsisType | None = ...
    ) -> BucketInfo:
        """Set how many bytes and objects the bucket may hold; None: any amount; `...`: as it was.

        A put that would make the bucket hold more is refused with `QuotaExceeded`.  A bucket that holds more
        already keeps what it has, and takes only what does not make it grow.

        Returns:
            The bucket with its quota; see `BucketInfo.is_over_quota`.
        Raises:
            NoSuchBucket, PermissionDenied: it takes the permission manage_buckets.
            BadRequest: a negative number, or one beyond 2^62 - 1.
        """
        for count in (byte_count, object_count):
            if not isinstance(count, EllipsisType) and count is not None and not 0 <= count < 1 << 62:
                raise BadRequest(f"a quota is from 0 to {(1 << 62) - 1}, not {count}")
        request = SetQuota(
            bucket=self.name,
            sets_bytes=byte_count is not ...,
            quota_bytes=None if isinstance(byte_count, EllipsisType) else byte_count,
            sets_objects=object_count is not ...,
            quota_objects=None if isinstance(object_count, EllipsisType) else object_count,
        )
        return (await self._control.ask(request, BucketFound)).bucket

    async def config(self, kind: Literal["cors", "tagging"]) -> bytes:
        """A document that says how the bucket behaves over S3, as a gateway has put it; empty: there is none.

        Raises:
            NoSuchBucket.
        """
        request = ReadBucketConfig(bucket=self.name, config=kind)
        return (await self._control.ask(request, BucketConfigFound)).document

    async def set_config(self, kind: Literal["cors", "tagging"], document: bytes) -> None:
        """Replace that document; an empty one takes it away.

        Raises:
            NoSuchBucket, PermissionDenied: it takes the permission manage_buckets.
            BadRequest: the documents of the bucket have more than 60 KiB together.
        """
        await self._control.ask(SetBucketConfig(bucket=self.name, config=kind, document=document), Done)

    # --- writing ----------------------------------------------------------------------------------

    async def put(
        self,
        key: str,
        source: PutSource,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
        *,
        attributes: GivenAttributes | None = None,
        wait: Wait | None = None,
    ) -> ObjectWritten:
        """Store an object; when this returns, the object is on disk, in the catalog and visible to everybody.

        Args:
            key: 1 to 1024 bytes of UTF-8, opaque.
            source: bytes; or a path (`str` or `Path`); or an async iterable of bytes of any length.
            content_type: None: guessed from the key's ending.
            metadata: your own names and values, up to 8 KiB together.
            if_match: store only if the object has this ETag.
            if_none_match: store only if the object does not have this ETag; "*": only if no object exists.
            attributes: what a gateway stores beside the bytes, the MD5 that becomes the ETag for example; or
                a function that tells it when all bytes of `source` have passed.
            wait: how a server waits for the outcome of a small put; see `Exchange.wait_for`.
        Returns:
            ETag, size, and the time at which the store committed it (`created_ms`).
        Raises:
            PreconditionFailed: a condition does not hold; nothing was changed.
            NoSuchBucket, PermissionDenied, BadKey, BadMetadata, QuotaExceeded, ClusterFull.
            OutcomeUnknown: the connection broke, and the master could not be asked for the outcome.
        """
        options = put_options(key, content_type, metadata, if_match, if_none_match, attributes)
        if isinstance(source, bytes | bytearray | memoryview):
            return await self._put_bytes(key, source, options, wait)
        if isinstance(source, str | os.PathLike):
            return await self._put_path(key, source, options, None)

        if not isinstance(source, OnceSource) and not hasattr(source, "__aiter__"):
            kind = type(source).__name__
            raise BadRequest(f"source must be bytes, a path or an async iterable of bytes, not {kind}")

        async def put_small(data: bytearray) -> ObjectWritten:
            return await self._put_bytes(key, data, options)

        if not isinstance(source, OnceSource):
            return await self._uploader.put_stream(key, source, options, put_small)
        if source.size <= self._control.small_max:
            return await self._uploader.put_stream(key, source.pieces, options, put_small)
        return await self._uploader.put_once(key, source, options)

    def put_many(self, items: Iterable[PutItem] | AsyncIterable[PutItem]) -> Results[PutResult]:
        """Store many objects, hundreds in one request: `async for result in bucket.put_many(items)`.

        Results arrive in the order of the items, each with an `error` or None.  An object without an error is
        on disk, in the catalog and visible, as after `put`.  A failed item does not affect the others.  The
        bucket takes items as you take results, so any number of items needs bounded memory.  Of several items
        with the same key, any may be stored last.

        If you leave the loop early, or are cancelled, each item that was taken is stored or not stored.

        Args:
            items: `(key, bytes)` pairs or `Put`s: a list, a generator or an async generator.
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
        """Store a file as `put` does; `progress` is called with the bytes sent so far."""
        options = put_options(key, content_type, metadata, if_match, if_none_match)
        return await self._put_path(key, path, options, progress)

    async def begin_upload(
        self,
        key: str,
        size: int,
        *,
        chunk_size: int | None = None,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> DirectUpload:
        """Begin an upload whose bytes somebody else sends, such as a browser: straight to the volume actors.

        The caller gets slots for its chunks, and finishes or aborts it.  The object is visible when it is
        finished, not before.

        Args:
            size: bytes of the whole object.
            chunk_size: bytes of each chunk but the last one; None, or more: the largest that the store takes.
            content_type, metadata, if_match, if_none_match: as `put`; conditions are decided at the end.
        Raises:
            NoSuchBucket, PermissionDenied, BadKey, BadMetadata, QuotaExceeded, ClusterFull.
        """
        options = put_options(key, content_type, metadata, if_match, if_none_match)
        largest = self._control.chunk_size
        taken = largest if chunk_size is None else min(chunk_size, largest)
        check_sizes(size, taken, largest)
        begun = await self._uploader.begin(key, size, options)
        return DirectUpload(
            begun.upload_id, size, taken, self._control, self._session.write_pool, begun.expires_in_s
        )

    def resume_upload(self, upload_id: int, size: int, chunk_size: int) -> DirectUpload:
        """An upload that `begin_upload` has begun, with the same sizes.  This sends no request.

        Raises:
            BadRequest: no upload of this store has these sizes.
        """
        return DirectUpload(upload_id, size, chunk_size, self._control, self._session.write_pool)

    async def copy(
        self,
        key: str,
        to_key: str,
        to_bucket: str | None = None,
        progress: Progress | None = None,
        content_type: str | None = None,
        if_none_match: str | None = None,
        *,
        metadata: Mapping[str, str] | None = None,
        if_match: str | None = None,
    ) -> ObjectWritten:
        """Copy an object with its type, metadata, headers and tags, in this bucket or to another.

        The ETag of the copy is its own, unless it is the MD5 of all bytes, for these are the same.  The bytes
        pass through this process in bounded pieces.  A copy onto itself changes type and metadata:

            info = await bucket.stat("a.txt")
            await bucket.copy("a.txt", "a.txt", metadata={"mood": "fine"}, if_match=info.etag)

        Args:
            content_type: of the copy; None: that of the object.
            if_none_match: as in `put`; "*": only if there is no object of the new name.
            metadata: of the copy, all of it; None: that of the object.
            if_match: as in `put`: only if the object of the new name has this ETag.
        Raises:
            NoSuchObject: the object does not exist.
            ObjectReplaced: the object changed during the copy; nothing was stored.
            PreconditionFailed: a condition does not hold; nothing was stored.
        """
        target = self if to_bucket is None else self._session.bucket(to_bucket)
        located = await self.reads.locate(key)
        info = located.info
        kept = info.metadata if metadata is None else metadata
        options = put_options(
            to_key,
            content_type or info.content_type,
            kept,
            if_match,
            if_none_match,
            attributes_of_copy(info.attributes, keeps_metadata=metadata is None),
        )
        if info.size > self._control.small_max:
            source = ObjectSource(self.reads, located)
            return await target._uploader.put_source(to_key, source, options, progress)
        async with self.reads.stream(located) as stream:
            data = await stream.read()
        written = await target._put_bytes(to_key, data, options)
        if progress is not None:
            progress(written.size)
        return written

    async def amend(self, info: ObjectInfo, attributes: ObjectAttributes) -> None:
        """Replace the attributes of one version of an object; its bytes, ETag and time stay.

        Args:
            info: of that version, from `chunks`.
            attributes: all of them from now on, with the same MD5.
        Raises:
            PreconditionFailed, NoSuchObject: it is not the present version any more; nothing was changed.
        """
        first = info.chunks[0]
        options = amend_options(info.etag, (first.volume_id, first.needle_id), attributes)
        await self._puts.put(info.key, b"", options)

    async def delete(self, key: str, if_match: str | None = None) -> bool:
        """Delete an object; return whether it existed.

        Raises:
            PreconditionFailed: the object has another ETag than `if_match`.
            OutcomeUnknown: the connection broke before the answer arrived.
        """
        key_size(key)
        request = DeleteObjects(bucket=self.name, keys=[key], if_match=check_condition(if_match))
        if self._writer.in_doubt:
            await self._writer.in_doubt.wait(key)
        return (await self._control.ask(request, Deleted, is_repeatable=False)).existed[0]

    async def delete_many(self, keys: Iterable[str]) -> Sequence[bool]:
        """Delete objects, a thousand per request; return for each, in order, whether it existed."""
        if isinstance(keys, str | bytes):
            raise TypeError("delete_many takes several keys; use delete for one key")
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
            NoSuchObject: the object does not exist.
            VolumeOffline: the object's disk is offline; the message names the disk.
            DataDamaged: the bytes on disk are not those that were stored.
        """
        return await self.reads.get(key)

    def get_many(
        self, keys: Iterable[GetItem] | AsyncIterable[GetItem], size_max: int | None = None
    ) -> Results[GetResult]:
        """The bytes of many objects, hundreds in one request: `async for result in bucket.get_many(keys)`.

        Results arrive in the order of the keys, each with `data` or with the `error` that `get` would raise.
        The bucket takes keys as you take results, and fetches up to 32 MiB ahead.

        Args:
            keys: a list, a generator or an async generator.  Entries of `list(with_locations=True)` are
                fetched as they were listed, without asking the master where they are.
            size_max: larger objects get the error `BodyTooLarge`; read them with `open`.
        """
        return Results(GetBatches(keys, self.reads, size_max), self._session.batch_nursery, GetResult)

    def open(
        self, key: str, start: int = 0, length: int | None = None
    ) -> AbstractAsyncContextManager[ObjectStream]:
        """Read an object, or a range of it, piece by piece in bounded memory.

            async with bucket.open("film.mp4", start=1_000_000) as stream:
                print(stream.info.content_type)
                async for piece in stream:
                    ...

        All pieces belong to one version.  Each whole chunk is checked end to end against its CRC before its
        last piece is handed out.  For a range that cuts a chunk, only the volume actor checks the bytes.

        Args:
            length: bytes from `start` on; None, or more than the rest: up to the end.
        Raises (on entering, and while reading):
            RangeNotSatisfiable: `start` is beyond the end.
            ObjectReplaced: another version replaced the object while it was read.
            NoSuchObject, VolumeOffline, DataDamaged: as `get`.
        """
        return self.reads.open(key, start, length)

    async def download(
        self, key: str, path: str | os.PathLike[str], progress: Progress | None = None
    ) -> ObjectInfo:
        """Write an object to a file, which appears under its name when it is whole, checked and on disk.

        `progress` is called with the bytes written so far.  When the object is replaced during the download,
        the download starts again.  A failure leaves nothing behind, and an older file stays unchanged.

        Raises:
            BadRequest: the path exists and is not a regular file.
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
            NoSuchObject: the object does not exist.
        """
        key_size(key)
        return (await self._control.ask(StatObject(bucket=self.name, key=key), ObjectFound)).object

    async def chunks(self, key: str) -> ObjectInfo:
        """As `stat`, with size and CRC-32C of each chunk; this needs the right to read.

        Raises:
            NoSuchObject: the object does not exist.
        """
        key_size(key)
        return (await self.reads.locate(key)).info

    async def presign_get(
        self,
        key: str,
        expires_s: float = 3600.0,
        *,
        disposition: Literal["inline", "attachment"] | None = None,
        file_name: str | None = None,
        cache_control: str | None = None,
        content_type: str | None = None,
        once: bool = False,
    ) -> str:
        """A URL from which anybody can read this version of the object, until the URL expires.

        It ends earlier if the API key loses rights.

        Args:
            disposition: whether a browser shows the object ("inline") or saves it, which is the default.
            file_name: under which it saves it; None: the end of the key.
            cache_control: the answer's Cache-Control; None: nobody keeps a copy.
            content_type: the answer's Content-Type; None: that of the object.
            once: the URL works for one GET; what HEAD and a 304 answer is free.
        Raises:
            BadRequest: a term is not one, or the life is longer than this API key may give.
            BadMetadata: the content type is none.
        """
        if content_type is not None:
            check_content_type(content_type)
        return await self._presign(
            key,
            expires_s,
            method="GET",
            disposition=disposition,
            file_name=file_name,
            cache_control=cache_control,
            content_type=content_type,
            is_once=once,
        )

    async def presign_put(
        self,
        key: str,
        expires_s: float = 3600.0,
        size_max: int | None = None,
        content_type: str | None = None,
        *,
        size_min: int = 0,
        if_none_match: Literal["*"] | None = None,
    ) -> str:
        """A URL to which anybody can PUT this object, once, until the URL expires.

        It ends earlier if the API key loses rights.

        Args:
            size_max: of the body, bytes; at most one chunk (80 MiB by default).
            size_min: of the body, bytes.
            if_none_match: "*": the PUT is refused if the object exists by then.
        Raises:
            BadRequest: as `presign_get`.
        """
        if content_type is not None:
            check_content_type(content_type)
        return await self._presign(
            key,
            expires_s,
            method="PUT",
            size_max=size_max,
            content_type=content_type,
            size_min=size_min,
            if_none_match=if_none_match,
        )

    async def _presign(self, key: str, expires_s: float, **terms: Any) -> str:
        key_size(key)
        request = Presign(bucket=self.name, key=key, expires_in_s=expires_s, **terms)
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
            delimiter: keys that contain it after the prefix are summed up, one `Prefix` for each common
                beginning; "/" lists one folder.
            after: only entries greater than this one, to continue an earlier listing.
            limit: the largest number of entries; None: all.
            with_locations: entries know where their bytes are, so that `get_many` need not ask for them;
                this needs the right to read.
        """
        if limit is not None and limit < 0:
            raise BadRequest(f"limit must be 0 or more entries, or None for all, not {limit}")
        learn = self.reads.learn if with_locations else None
        return Entries(self._control, self.name, prefix, delimiter, after, limit, learn)

    async def list_page(
        self, prefix: str = "", delimiter: str | None = None, *, after: str = "", limit: int = 1000
    ) -> ListedPage:
        """One page of a listing, for whoever shows pages; `list` goes through all of them.

        Args:
            prefix, delimiter, after: as `list`.
            limit: the largest number of objects and prefixes together, 1 to 1000.
        """
        if not 1 <= limit <= PAGE_SIZE:
            raise BadRequest(f"a page has 1 to {PAGE_SIZE} entries, not {limit}")
        return await read_page(self._control, self.name, prefix, delimiter, after, limit)

    async def find(
        self,
        prefix: str = "",
        *,
        contains: str = "",
        order: Order = "name",
        descending: bool = False,
        delimiter: str | None = None,
        limit: int = 100,
        cursor: str = "",
    ) -> FoundPage:
        """A page of the objects below a prefix, by a part of their name, in order of name, size or time.

        The answer takes about a twentieth of a second at most, whatever has to be looked at: it may have only
        what was found so far (`FoundPage.is_complete`), with a cursor to go on.  Pages in order of name are
        cheap wherever they lie.  In order of size or time, all keys below the prefix are looked at for the
        first page, and the next ones are cheap; they show the order as it was then.

        Args:
            prefix: only keys that begin with it.
            contains: only entries with this text in what follows the prefix; "A" to "Z" are like "a" to "z",
                all other letters have to be the same.
            order: "name" (the keys' UTF-8 bytes), "size", or "time" (of the put).  What is equal comes in
                order of name.
            descending: the other way round: the last names, the largest or the newest first.
            delimiter: as in `list`; objects that contain it after the prefix are shown as `prefixes` only.
            limit: of entries, objects and prefixes together (in order of size and time: of objects), 1 to
                1,000; objects with much metadata may be fewer.
            cursor: of a page of the same question.
        Raises:
            BadRequest: a limit, an order or a text that is none, or the cursor of another question.
            NoSuchBucket, PermissionDenied: it takes the permission list.
        """
        return await find_page(
            self._control,
            self.name,
            prefix=prefix,
            contains=contains,
            order=order,
            descending=descending,
            delimiter=delimiter,
            limit=limit,
            cursor=cursor,
        )

    def changes(self, prefix: str = "") -> BucketChanges:
        """Tells at once when objects below a prefix were stored, replaced or deleted, whoever did it.

            async for change in bucket.changes("2026/"):
                print(change.count, change.keys, change.is_missed)

        The iterator never ends and needs no closing.  It begins with a change that only says `is_missed`:
        whatever you have read before that may be out of date.  It tells at most four changes a second, and
        what happens in between together.  While no master can be reached it waits, without a limit.

        Raises (by the iterator):
            NoSuchBucket: there is no such bucket, or it was deleted.
            PermissionDenied: it takes the permission list, for a part of the keys below the prefix.
            BadCredentials: the API key was disabled, or has expired.
        """
        return BucketChanges(self._control, self.name, prefix)

    # --- inside -----------------------------------------------------------------------------------

    async def _put_bytes(
        self, key: str, source: Bytes, options: PutOptions, wait: Wait | None = None
    ) -> ObjectWritten:
        data = as_bytes_view(source) if isinstance(source, memoryview) else source
        options = options.settled()
        if len(data) > self._control.small_max or not _fits_request(options):
            return await self._uploader.put_source(key, MemorySource(as_bytes_view(data)), options)
        return await self._puts.put(key, data, options, wait)

    async def _put_path(
        self, key: str, path: str | os.PathLike[str], options: PutOptions, progress: Progress | None
    ) -> ObjectWritten:
        with opened_file(path) as file:
            if file.size > self._control.small_max or not _fits_request(options):
                return await self._uploader.put_source(key, file, options, progress)
            written = await self._puts.put(key, await file.read(), options.settled())
        if progress is not None:
            progress(written.size)
        return written


def _fits_request(options: PutOptions) -> bool:
    """Whether what a put says fits beside its bytes; attributes travel in the body, where there is room."""
    return options.has_attributes or options.names_size <= NAMES_SIZE_MAX
