"""Asyncio face: the library for programs on asyncio.

    async with warehouse.aio.connect() as store:
        await store.bucket("photos").put("cat.jpg", Path("cat.jpg"))

Many tasks may use the same objects.  They belong to the event loop that opened the connection.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Generic, Self, TypeVar, overload

import trio

from warehouse.client import bucket as trio_bucket
from warehouse.client import store as trio_store
from warehouse.client.changes import BucketChange, StoreChange
from warehouse.client.control import TIMEOUT_S
from warehouse.client.faces.aio_link import Link
from warehouse.client.faces.aio_methods import BucketMethods, StoreMethods, UploadMethods
from warehouse.client.faces.exchange import AHEAD, BLOCK, BLOCK_BYTES, BLOCK_S, Exchange, size_of
from warehouse.client.faces.held import Held
from warehouse.client.headers import GivenAttributes
from warehouse.client.listing import PAGE_SIZE, Prefix
from warehouse.client.ordered_batches import Results as TrioResults
from warehouse.client.reading.get_many import GetItem, GetResult
from warehouse.client.reading.streams import ObjectStream as TrioStream
from warehouse.client.writing import direct_uploads
from warehouse.client.writing.put_many import PutItem, PutResult
from warehouse.conf.profile import Profile
from warehouse.transport.messages import AuditEntry, Event, LostObject, ObjectInfo, ObjectWritten

__all__ = ["Bucket", "DirectUpload", "ObjectStream", "Pages", "Results", "Store", "connect"]

T = TypeVar("T")
Item = TypeVar("Item")
Result = TypeVar("Result")
Data = bytes | bytearray | memoryview
PutSource = Data | str | os.PathLike[str] | AsyncIterable[Data]


@asynccontextmanager
async def connect(
    profile: Profile | str | os.PathLike[str] | None = None, *, timeout_s: float = TIMEOUT_S
) -> AsyncIterator[Store]:
    """Connect to a cluster until the block ends; arguments and errors as of `warehouse.connect`."""
    link = Link(profile, timeout_s)
    await link.open()
    try:
        yield Store(link.loop.store, link)
    finally:
        await link.close()


class Pages(Generic[T]):
    """What the library iterates over, several at a time; it may be left at any time."""

    def __init__(self, link: Link, begin: Callable[[], AsyncIterator[T]], size: int = 1) -> None:
        self._link = link
        self._pages = _Pages(begin, size)
        self._page: Iterator[T] = iter(())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        for entry in self._page:
            return entry
        page = await self._link.call(self._pages.turn)
        if not page:
            raise StopAsyncIteration
        self._page = iter(page)
        return next(self._page)


class _Pages(Generic[T]):
    """In the loop."""

    def __init__(self, begin: Callable[[], AsyncIterator[T]], size: int) -> None:
        self._begin = begin
        self._entries: AsyncIterator[T] | None = None
        self._size = size
        self._error: Exception | None = None

    async def turn(self) -> list[T]:
        """The next entries; none: there are no more."""
        if self._error is not None:
            raise self._error
        if self._entries is None:
            self._entries = self._begin()
        page: list[T] = []
        try:
            while len(page) < self._size:
                page.append(await anext(self._entries))
        except StopAsyncIteration:
            pass
        except Exception as error:
            if not page:
                raise
            self._error = error  # behind the entries before it
        return page


class Results(Generic[Item, Result]):
    """An asynchronous iterator over results, in the order of the items.

    `aclose` (or `contextlib.aclosing`) waits until the outcome of every item that was taken is known.
    """

    def __init__(
        self,
        link: Link,
        source: Iterable[Item] | AsyncIterable[Item],
        begin: Callable[[Exchange[Item, Result]], TrioResults[Result]],
    ) -> None:
        self._is_ended = True  # should there be no iterator
        self._link = link
        self._source = aiter(source) if isinstance(source, AsyncIterable) else iter(source)
        self._exchange = Exchange(begin)
        self._found: Iterator[Result] = iter(())
        self._gathered: list[Item] = []
        self._gathering: asyncio.Task[bool] | None = None
        self._open_count = 0
        self._is_fed = False
        self._is_ended = False
        self._error: Exception | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Result:
        while True:
            for result in self._found:
                return result
            if self._is_ended:
                error, self._error = self._error, None
                if error is not None:
                    raise error
                raise StopAsyncIteration
            try:
                await self._trade()
            except asyncio.CancelledError:
                await self.aclose()
                raise

    async def _trade(self) -> None:
        items: list[Item] = []
        if not self._is_fed and self._open_count + BLOCK <= AHEAD:
            items = await self._take()
        waits = self._is_fed or self._open_count + BLOCK > AHEAD
        is_last = self._is_fed
        found, self._is_ended = await self._link.call(
            lambda: self._exchange.trade(items, is_last=is_last, waits=waits)
        )
        self._open_count -= len(found)
        self._found = iter(found)

    async def _take(self) -> list[Item]:
        """Items of the source: a block, or what came within a moment."""
        if self._gathering is None:
            self._gathering = asyncio.ensure_future(self._gather())
        gathering = self._gathering
        await asyncio.wait([gathering], timeout=BLOCK_S)  # a slow source does not delay results
        if gathering.done():
            self._gathering = None
            try:
                self._is_fed = gathering.result()
            except Exception as error:  # of the source: raised behind the results of all that it yielded
                self._error, self._is_fed = error, True
        items, self._gathered = self._gathered, []
        self._open_count += len(items)
        return items

    async def _gather(self) -> bool:
        """Gather a block; return whether it was the last."""
        count = size = 0
        while count < BLOCK and size < BLOCK_BYTES:
            try:
                if isinstance(self._source, AsyncIterator):
                    item = await anext(self._source)
                else:
                    item = next(self._source)
            except (StopAsyncIteration, StopIteration):
                return True
            self._gathered.append(item)
            count += 1
            size += size_of(item)
        return False

    async def aclose(self) -> None:
        """Take no more items; wait until each item in flight is stored, or never will be."""
        self._is_ended = self._is_fed = True
        self._found = iter(())
        gathering, self._gathering = self._gathering, None
        if gathering is not None:
            gathering.cancel()
            await asyncio.wait([gathering])
        if isinstance(self._source, AsyncGenerator):
            await self._source.aclose()
        await self._link.call(self._exchange.close)

    def __del__(self) -> None:
        if not self._is_ended:
            self._link.loop.soon(self._exchange.abandon)


class ObjectStream:
    """The bytes of one object, or of a range of it, in order: `async for piece in stream`.

    Attributes:
        info: size, ETag, type and metadata of the object.
        size: bytes of this stream.
    """

    def __init__(self, inner: TrioStream, link: Link) -> None:
        self.info = inner.info
        self.size = inner.size
        self._inner = inner
        self._link = link

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._link.call(lambda: anext(self._inner, None))
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def read(self) -> bytes:
        """The rest in one piece, for objects that fit in memory."""
        return await self._link.call(self._inner.read)


class DirectUpload(UploadMethods):
    """As `warehouse.DirectUpload`."""

    def __init__(self, inner: direct_uploads.DirectUpload, link: Link) -> None:
        self._inner = inner
        self._link = link
        self.upload_id = inner.upload_id
        self.size = inner.size
        self.chunk_size = inner.chunk_size
        self.chunk_count = inner.chunk_count
        self.expires_in_s = inner.expires_in_s

    def chunk_length(self, index: int) -> int:
        """As `warehouse.DirectUpload.chunk_length`."""
        return self._inner.chunk_length(index)

    async def send(self, index: int, pieces: AsyncIterable[bytes]) -> int:
        """As `warehouse.DirectUpload.send`."""
        asked: list[_Asked[bytes]] = []

        def begin(ask: Callable[[Callable[[], None]], None]) -> Awaitable[int]:
            return self._inner.send(index, _asked(pieces, ask, asked))

        try:
            return await self._link.call_asking(begin)
        finally:
            for one in asked:
                await one.close()


class _Asked(Generic[T]):
    """In the loop: an iterator whose steps run in the event loop of the caller, one at a time."""

    def __init__(self, source: AsyncIterable[T], ask: Callable[[Callable[[], None]], None]) -> None:
        self._source = aiter(source)
        self._ask = ask
        self._step: asyncio.Task[None] | None = None
        self._found: list[T] = []
        self._error: Exception | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        came, token = trio.Event(), trio.lowlevel.current_trio_token()

        async def step() -> None:
            try:
                self._found.append(await anext(self._source))
            except StopAsyncIteration:
                pass
            except Exception as error:
                self._error = error
            token.run_sync_soon(came.set)

        def begin() -> None:
            self._step = asyncio.ensure_future(step())

        self._ask(begin)
        await came.wait()
        if self._error is not None:
            raise self._error
        if not self._found:
            raise StopAsyncIteration
        return self._found.pop()

    async def close(self) -> None:
        """In the event loop of the caller, when nobody asks any more."""
        if self._step is not None and not self._step.done():
            self._step.cancel()
            await asyncio.wait([self._step])


def _asked(
    source: AsyncIterable[T], ask: Callable[[Callable[[], None]], None], kept: list[_Asked[T]]
) -> _Asked[T]:
    one = _Asked(source, ask)
    kept.append(one)
    return one


class Bucket(BucketMethods):
    """One bucket; made by `Store.bucket`.  As `warehouse.Bucket`, without what gateways alone need."""

    def __init__(self, inner: trio_bucket.Bucket, link: Link) -> None:
        self.name = inner.name
        self._inner = inner
        self._link = link

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
    ) -> ObjectWritten:
        """As `warehouse.Bucket.put`; a stream is an async iterable of bytes."""
        options = (content_type, metadata, if_match, if_none_match)
        if isinstance(source, bytes | bytearray | memoryview | str | os.PathLike):
            whole = source
            return await self._link.call(lambda: self._inner.put(key, whole, *options, attributes=attributes))
        asked: list[_Asked[Data]] = []
        stream = source

        def begin(ask: Callable[[Callable[[], None]], None]) -> Awaitable[ObjectWritten]:
            pieces = _asked(stream, ask, asked)
            return self._inner.put(key, pieces, *options, attributes=attributes)

        try:
            return await self._link.call_asking(begin)
        finally:
            for one in asked:
                await one.close()

    def put_many(self, items: Iterable[PutItem] | AsyncIterable[PutItem]) -> Results[PutItem, PutResult]:
        """As `warehouse.Bucket.put_many`."""
        return Results(self._link, items, self._inner.put_many)

    def get_many(
        self, keys: Iterable[GetItem] | AsyncIterable[GetItem], size_max: int | None = None
    ) -> Results[GetItem, GetResult]:
        """As `warehouse.Bucket.get_many`."""
        return Results(self._link, keys, lambda source: self._inner.get_many(source, size_max))

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
        """As `warehouse.Bucket.begin_upload`."""
        begun = await self._link.call(
            lambda: self._inner.begin_upload(
                key,
                size,
                chunk_size=chunk_size,
                content_type=content_type,
                metadata=metadata,
                if_match=if_match,
                if_none_match=if_none_match,
            )
        )
        return DirectUpload(begun, self._link)

    def resume_upload(self, upload_id: int, size: int, chunk_size: int) -> DirectUpload:
        """As `warehouse.Bucket.resume_upload`."""
        return DirectUpload(self._inner.resume_upload(upload_id, size, chunk_size), self._link)

    @asynccontextmanager
    async def open(self, key: str, start: int = 0, length: int | None = None) -> AsyncIterator[ObjectStream]:
        """As `warehouse.Bucket.open`."""
        held = Held(lambda: self._inner.open(key, start, length))
        try:
            stream = await self._link.call(lambda: held.open(self._link.loop))
            yield ObjectStream(stream, self._link)
        finally:
            self._link.loop.soon(held.close)

    @overload
    def list(
        self,
        prefix: str = "",
        delimiter: None = None,
        *,
        after: str = "",
        limit: int | None = None,
        with_locations: bool = False,
    ) -> Pages[ObjectInfo]: ...

    @overload
    def list(
        self,
        prefix: str = "",
        *,
        delimiter: str,
        after: str = "",
        limit: int | None = None,
        with_locations: bool = False,
    ) -> Pages[ObjectInfo | Prefix]: ...

    @overload
    def list(
        self,
        prefix: str,
        delimiter: str,
        *,
        after: str = "",
        limit: int | None = None,
        with_locations: bool = False,
    ) -> Pages[ObjectInfo | Prefix]: ...

    def list(
        self,
        prefix: str = "",
        delimiter: str | None = None,
        *,
        after: str = "",
        limit: int | None = None,
        with_locations: bool = False,
    ) -> Pages[ObjectInfo] | Pages[ObjectInfo | Prefix]:
        """As `warehouse.Bucket.list`."""
        if delimiter is None:
            return Pages(
                self._link,
                lambda: self._inner.list(prefix, after=after, limit=limit, with_locations=with_locations),
                PAGE_SIZE,
            )
        return Pages(
            self._link,
            lambda: self._inner.list(
                prefix, delimiter, after=after, limit=limit, with_locations=with_locations
            ),
            PAGE_SIZE,
        )

    def changes(self, prefix: str = "") -> Pages[BucketChange]:
        """As `warehouse.Bucket.changes`."""
        return Pages(self._link, lambda: self._inner.changes(prefix))


class Store(StoreMethods):
    """A connection to a cluster; made by `connect`.  As `warehouse.Store`."""

    def __init__(self, inner: trio_store.Store, link: Link) -> None:
        self._inner = inner
        self._link = link

    def bucket(self, name: str) -> Bucket:
        """The bucket of that name.  This sends no request, so the bucket may not exist."""
        return Bucket(self._inner.bucket(name), self._link)

    async def create_bucket(self, name: str, *, region: str = "") -> Bucket:
        """As `warehouse.Store.create_bucket`."""
        made = await self._link.call(lambda: self._inner.create_bucket(name, region=region))
        return Bucket(made, self._link)

    def changes(self, only: Collection[str] = ()) -> Pages[StoreChange]:
        """As `warehouse.Store.changes`."""
        return Pages(self._link, lambda: self._inner.changes(only))

    def events(self, after: int | None = None) -> Pages[Event]:
        """As `warehouse.Store.events`."""
        return Pages(self._link, lambda: self._inner.events(after))

    def audit(
        self, *, since: datetime | None = None, key: str = "", action: str = "", follow: bool = False
    ) -> Pages[AuditEntry]:
        """As `warehouse.Store.audit`."""
        return Pages(
            self._link, lambda: self._inner.audit(since=since, key=key, action=action, follow=follow)
        )

    def lost_objects(self, disk: str) -> Pages[LostObject]:
        """As `warehouse.Store.lost_objects`."""
        return Pages(self._link, lambda: self._inner.lost_objects(disk))
