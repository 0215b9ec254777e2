"""Uploads: large puts, cut into chunks that are sent to several volumes in parallel.

    BeginUpload -> RequestSlots -> PUT of each chunk, in any order -> FinishUpload

FinishUpload makes the object visible, in one step; until then the old version stays readable.  A chunk that
fails gets a new slot on another volume.  A new slot voids the needle of the old one, so no chunk is ever in
doubt.  An error or a cancellation before the end aborts the upload.

Bytes of known size and place (memory, files, objects) are streamed from there and never buffered.  The ETag
in the volume's answer contains the CRC of the stored bytes, which is compared with the CRC of the sent bytes.
A stream of unknown length is buffered chunk by chunk, because a failed chunk must be sent again.  One of
known length that its sender can repeat (`OnceSource`) is not buffered either: its chunks follow each other,
and one is sent while a volume syncs the one before.

An object with attributes ends with a manifest: one more needle that says what the object is, written when all
bytes have passed, because only then some attributes are known (the MD5, for example).
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Self, TypeVar

import trio
from crc32c import crc32c

from warehouse.client.control import Control, back_off_s
from warehouse.client.headers import FAILURE_SIZE_MAX, PutOptions, crc_of_etag, read_failure, read_put_answer
from warehouse.client.nurseries import BoundedNursery, bounded_nursery
from warehouse.client.patience import Patience, told
from warehouse.client.writing.cutting import (
    StreamChunk,
    StreamChunker,
    chunk_of,
    count_chunks,
    stream_parallel,
)
from warehouse.client.writing.in_doubt import InDoubt
from warehouse.client.writing.lease_supply import RIDE_OUT_S
from warehouse.client.writing.put import Verdict, judge
from warehouse.client.writing.sources import MemorySource, OnceSource, Pieces, Source, as_bytes_view
from warehouse.errors import (
    DeadlineExceeded,
    LinkDown,
    MalformedMessage,
    NeedleVoid,
    NoSuchUpload,
    OutcomeUnknown,
    Overloaded,
    StoreError,
    Unavailable,
    VolumeOffline,
    WriteFailed,
)
from warehouse.transport.http.pool import HttpPool
from warehouse.transport.messages import (
    AbortUpload,
    BeginUpload,
    Done,
    FinishPart,
    FinishUpload,
    ObjectWritten,
    PartFinished,
    RequestSlots,
    Slot,
    Slots,
    SlotWanted,
    UploadBegun,
)
from warehouse.transport.messages.attributes import (
    MANIFEST_FORMAT,
    MANIFEST_INDEX,
    Manifest,
    ManifestChunk,
    encode_manifest,
)

PARALLEL = 4  # chunks of one upload in flight; measured: docs/performance.md, "Chunks at once"
ONCE_PARALLEL = 2  # chunks of a stream that is not kept: one is sent, one is synced
SLOT_GROUP = 8  # chunks that one RequestSlots reserves room for
ABORT_S = 5.0
MANIFEST_STYLE = "manifest"
RIDE_OUT_LATER_S = 60.0  # when chunks are stored already, which may have taken hours

# Called with the bytes sent so far; the number decreases when a chunk must be sent again.
Progress = Callable[[int], None]
Answer = TypeVar("Answer", ObjectWritten, PartFinished)
Opener = Callable[[], AbstractAsyncContextManager[Pieces]]


class Uploader:
    """Makes uploads to one bucket."""

    def __init__(self, bucket: str, control: Control, pool: HttpPool, in_doubt: InDoubt) -> None:
        self._bucket = bucket
        self._control = control
        self._pool = pool
        self._in_doubt = in_doubt

    async def put_source(
        self, key: str, source: Source, options: PutOptions, progress: Progress | None = None
    ) -> ObjectWritten:
        """Upload bytes of known size, up to `PARALLEL` chunks in parallel."""
        async with (
            self._begun(key, source.size, options, progress) as upload,
            bounded_nursery(PARALLEL) as tasks,
        ):
            chunk_size = upload.chunk_size
            chunk_count = count_chunks(source.size, chunk_size)
            slots: dict[int, Slot] = {}
            for index in range(chunk_count):
                await tasks.wait_room()
                if index not in slots:
                    group = range(index, min(index + SLOT_GROUP, chunk_count))
                    slots = await upload.request_slots(
                        [chunk_of(source.size, chunk_size, number) for number in group]
                    )
                wanted = chunk_of(source.size, chunk_size, index)
                opener = partial(source.open, index * chunk_size, wanted.size)
                tasks.start(partial(upload.send, wanted, opener, slots[index]))
            await tasks.wait_all()
            return await upload.finish(chunk_count, source.size, options)

    async def put_once(self, key: str, source: OnceSource, options: PutOptions) -> ObjectWritten:
        """Upload a stream of known length without keeping any of it.

        Raises:
            Unavailable: a chunk failed on its way; the caller can put the whole stream again.
        """
        async with self._begun(key, source.size, options, None) as upload:
            chunk_count = count_chunks(source.size, upload.chunk_size)
            chunks = [chunk_of(source.size, upload.chunk_size, index) for index in range(chunk_count)]
            await upload.send_through(source, chunks)
            return await upload.finish(chunk_count, source.size, options)

    async def put_stream(
        self,
        key: str,
        pieces: AsyncIterable[bytes | bytearray | memoryview],
        options: PutOptions,
        put_small: Callable[[bytearray], Awaitable[ObjectWritten]],
        progress: Progress | None = None,
    ) -> ObjectWritten:
        """Upload a stream of unknown length; hand a short one to `put_small` instead."""
        chunker = StreamChunker(pieces, self._control.chunk_size)
        # Open the nursery before the first piece is asked for: a generator that holds a cancel scope while it
        # yields must not find another scope opened in between.
        async with bounded_nursery(1) as tasks:
            chunk = await chunker.next()
            if chunk.is_last and len(chunk.data) <= self._control.small_max:
                return await put_small(chunk.data)
            async with self._begun(key, None, options, progress) as upload:
                try:
                    await self._send_all(chunk, chunker, upload, tasks)
                except BaseException:
                    tasks.cancel()  # before the abort, or they would send chunks of an upload that is gone
                    raise
                return await upload.finish(chunker.count, chunker.size, options)

    async def _send_all(
        self, chunk: StreamChunk, chunker: StreamChunker, upload: Upload, tasks: BoundedNursery
    ) -> None:
        while True:
            tasks.size = stream_parallel(chunk.index)
            await tasks.wait_room()
            tasks.start(partial(upload.send_buffered, chunk, chunker.size))
            if chunk.is_last:
                await tasks.wait_all()
                return
            chunk = await chunker.next()

    async def begin(
        self, key: str, size: int | None, options: PutOptions, *, style: str | None = None
    ) -> UploadBegun:
        """Have the master begin an upload; a cancellation leaves none that nobody knows.

        Args:
            style: as `messages.BeginUpload`; None: that of a put with these options.
        """
        if style is None:
            style = MANIFEST_STYLE if options.has_attributes else ""
        request = BeginUpload(
            bucket=self._bucket,
            key=key,
            content_type=options.content_type,
            metadata=dict(options.metadata),
            if_match=options.if_match,
            if_none_match=options.if_none_match,
            byte_count=size,
            style=style,
            attributes=options.attributes,
        )
        if self._in_doubt:
            await self._in_doubt.wait(key)
        begun: UploadBegun | None = None
        # Shielded: cancelled between request and answer, we would never learn which upload to abort.
        with trio.CancelScope(shield=True, deadline=trio.current_time() + ABORT_S):
            begun = await self._control.ask(request, UploadBegun)
        if begun is None:
            begun = await self._control.ask(request, UploadBegun)
        return begun

    @asynccontextmanager
    async def _begun(
        self, key: str, size: int | None, options: PutOptions, progress: Progress | None
    ) -> AsyncIterator[Upload]:
        begun = await self.begin(key, size, options)
        upload = Upload(begun, f"{self._bucket}/{key}", self._control, self._pool, progress)
        upload.ends_with_manifest = options.has_attributes
        try:
            yield upload
        except BaseException as error:
            # Without an abort the master would keep room and chunks until the upload expires, and a
            # FinishUpload may still be travelling.
            await self._in_doubt.resolve(key, upload.ask_to_abort, within_s=ABORT_S)
            if isinstance(error, NeedleVoid | NoSuchUpload):  # nobody but us knows that a put is an upload
                raise Unavailable(
                    f"the put of {self._bucket}/{key} was given up meanwhile, perhaps with its bucket: "
                    f"{error.message}"
                ) from error
            raise


class Upload:
    """One upload in progress."""

    def __init__(
        self,
        begun: UploadBegun,
        name: str,
        control: Control,
        pool: HttpPool,
        progress: Progress | None,
    ) -> None:
        self.chunk_size = begun.chunk_size
        self._id = begun.upload_id
        self._name = name
        self._control = control
        self._pool = pool
        self._progress = progress
        self._sent_count = 0
        self._stored: dict[int, ManifestChunk] = {}
        self.ends_with_manifest = False

    async def request_slots(
        self, wanted: list[SlotWanted], exclude_volumes: Sequence[int] = ()
    ) -> dict[int, Slot]:
        asked = wanted
        if self.ends_with_manifest:  # it says at the end how many chunks there are
            asked = [SlotWanted(chunk_index=one.chunk_index, size=one.size) for one in wanted]
        request = RequestSlots(upload_id=self._id, slots=asked, exclude_volumes=list(exclude_volumes))
        answer = await self._ask_for_slots(request)
        slots = {slot.chunk_index: slot for slot in answer.slots}
        if missing := [want.chunk_index for want in wanted if want.chunk_index not in slots]:
            raise MalformedMessage(f"the master's answer lacks the slots of chunks {missing}")
        return slots

    async def _ask_for_slots(self, request: RequestSlots) -> Slots:
        """Ask until a volume accepts writes: a restarting actor takes seconds."""
        give_up = trio.current_time() + self.ride_out_s
        attempt = 0
        while True:
            try:
                return await self._control.ask(request, Slots)
            except (VolumeOffline, Overloaded):
                if trio.current_time() > give_up:
                    raise
            await trio.sleep(back_off_s(attempt))
            attempt += 1

    async def send_buffered(self, chunk: StreamChunk, size_so_far: int) -> None:
        wanted = SlotWanted(
            chunk_index=chunk.index,
            size=len(chunk.data),
            chunk_count=chunk.index + 1 if chunk.is_last else None,
            object_size=size_so_far if chunk.is_last else None,
        )
        source = MemorySource(as_bytes_view(chunk.data))
        await self.send(wanted, partial(source.open, 0, source.size))

    async def send_through(self, source: OnceSource, chunks: Iterable[SlotWanted]) -> None:
        """Send a stream that is not kept: a chunk is sent while a volume syncs the one before.

        Raises:
            BadRequest: the stream is longer than its chunks.
            Unavailable: a chunk failed on its way.
        """
        async with bounded_nursery(ONCE_PARALLEL) as tasks:
            start = source.position
            for wanted in chunks:
                await source.wait_passed(start)
                await tasks.wait_room()
                is_whole = partial(source.is_at, start)
                opener = partial(source.open, wanted.size)
                tasks.start(partial(self.send, wanted, opener, is_whole=is_whole))
                start += wanted.size
            await tasks.wait_all()
        await source.require_end()

    async def send(
        self,
        wanted: SlotWanted,
        opener: Opener,
        slot: Slot | None = None,
        *,
        is_whole: Callable[[], bool] = lambda: True,
    ) -> None:
        """Send one chunk until a volume has confirmed it; each attempt uses another volume.

        Args:
            is_whole: whether all bytes of the chunk can still be sent.
        """
        failed_volumes: set[int] = set()
        failure: StoreError = Unavailable("no attempt was made")
        patience = Patience(self.ride_out_s)
        while True:
            if slot is None:
                slot = await self._another_slot(wanted, failed_volumes)
            try:
                crc = await self.send_once(wanted, opener, slot)
                self._stored[wanted.chunk_index] = ManifestChunk(
                    slot.volume_id, slot.needle_id, wanted.size, crc
                )
                return
            except SourceFailed as failed:
                raise failed.error from None
            except StoreError as error:
                if judge(error) is Verdict.GIVE_UP or not is_whole():
                    raise told(error) from error.__cause__
                failure = error
            if not patience.goes_on(failure):
                raise told(failure)
            await patience.pause(failure)
            if judge(failure) not in (Verdict.LEASE_SPENT, Verdict.NOTHING_DONE):
                failed_volumes.add(slot.volume_id)
            slot = None

    async def _another_slot(self, wanted: SlotWanted, failed_volumes: set[int]) -> Slot:
        try:
            slots = await self.request_slots([wanted], sorted(failed_volumes))
        except Unavailable:
            if not failed_volumes:
                raise
            # No other volume has room: a volume that failed a moment ago is better than none.
            slots = await self.request_slots([wanted])
        return slots[wanted.chunk_index]

    async def send_once(self, wanted: SlotWanted, opener: Opener, slot: Slot) -> int:
        """Send one chunk with one request; return the CRC of what was sent, which is what is stored.

        Raises:
            SourceFailed: the source could not be read.
            StoreError: the volume did not store the chunk, or nobody knows.
        """
        count = self._count if wanted.chunk_index != MANIFEST_INDEX else _count_nothing
        async with opener() as pieces:
            outgoing = _Outgoing(pieces, count)
            try:
                crc = await self._put(outgoing, wanted.size, slot)
            except Exception:
                count(-outgoing.size)
                if outgoing.source_error is not None:
                    raise SourceFailed(outgoing.source_error) from None
                raise
        if crc != outgoing.crc:
            count(-outgoing.size)
            raise WriteFailed(
                f"chunk {wanted.chunk_index} of {self._name}: sent bytes with CRC {outgoing.crc:08x}, volume "
                f"{slot.volume_id} stored {'other bytes' if crc is None else f'{crc:08x}'}"
            )
        return crc

    async def _put(self, outgoing: _Outgoing, size: int, slot: Slot) -> int | None:
        """Send one request; return the CRC of the stored bytes, as the volume reports it."""
        async with self._pool.stream(
            "PUT",
            slot.url,
            f"/v1/needles/{slot.volume_id}/{slot.needle_id}",
            headers=[("Authorization", f"Bearer {slot.token}")],  # the token names object, chunk and sizes
            body_length=size,
            body_pieces=outgoing,
        ) as response:
            body = await response.read(FAILURE_SIZE_MAX)
            if response.status != 201:
                raise read_failure(response.status, body)
        return crc_of_etag(read_put_answer(body).etag)

    @property
    def ride_out_s(self) -> float:
        """How long to wait for a restarting actor: longer when chunks are stored already."""
        return RIDE_OUT_LATER_S if self._stored else RIDE_OUT_S

    async def finish(self, chunk_count: int, size: int, options: PutOptions | None = None) -> ObjectWritten:
        """Make the object visible.

        Args:
            options: with the attributes of an object that ends with a manifest.
        """
        attributes = b""
        if self.ends_with_manifest and options is not None:
            attributes = options.settled().attributes
            await self._send_manifest(chunk_count, size, attributes)
        request = FinishUpload(
            upload_id=self._id, chunk_count=chunk_count, object_size=size, attributes=attributes
        )
        try:
            return await self.ask(request, ObjectWritten)
        except (LinkDown, DeadlineExceeded, NoSuchUpload, OutcomeUnknown) as error:
            # An abort that the master carries out proves that the object did not become visible.  Any other
            # answer proves nothing, not even an unknown upload: it may be finished and replaced since.
            if isinstance(error, NoSuchUpload) or not await self.abort():
                raise OutcomeUnknown(f"{self._name} may or may not be stored: {error.message}") from error
            raise

    async def _send_manifest(self, chunk_count: int, size: int, attributes: bytes) -> None:
        chunks = [self._stored[index] for index in range(chunk_count)]
        content = encode_manifest(Manifest(MANIFEST_FORMAT, size, attributes, chunks))
        source = MemorySource(memoryview(content))
        wanted = SlotWanted(chunk_index=MANIFEST_INDEX, size=source.size)
        await self.send(wanted, partial(source.open, 0, source.size))

    async def ask(self, request: FinishPart | FinishUpload, answer_type: type[Answer]) -> Answer:
        """Ask until the upload or part is finished: giving up would discard all its stored chunks.

        The master may have to restamp a chunk, which needs the chunk's disk to be online.
        """
        give_up = trio.current_time() + self.ride_out_s
        attempt = 0
        while True:
            try:
                return await self._control.ask(request, answer_type)
            except (LinkDown, DeadlineExceeded):
                raise  # `ask` has already repeated the request until its timeout
            except Unavailable:
                if trio.current_time() > give_up:
                    raise
            await trio.sleep(back_off_s(attempt))
            attempt += 1

    async def abort(self) -> bool:
        """Give up room and chunks; True when the master has confirmed it."""
        try:
            await self.ask_to_abort()
        except StoreError:
            return False  # the upload expires automatically
        return True

    async def ask_to_abort(self) -> None:
        await self._control.ask(AbortUpload(upload_id=self._id), Done)

    def _count(self, delta: int) -> None:
        self._sent_count += delta
        if self._progress is not None:
            self._progress(self._sent_count)


def _count_nothing(_: int) -> None:
    """A manifest is none of the object's bytes."""


class SourceFailed(Exception):
    """The source could not be read, so another volume does not help."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class _Outgoing:
    """The pieces of one attempt: counts them, computes their CRC, keeps an error of the source."""

    def __init__(self, pieces: Pieces, count: Callable[[int], None]) -> None:
        self.size = 0
        self.crc = 0
        self.source_error: Exception | None = None
        self._pieces = aiter(pieces)
        self._count = count

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes | memoryview:
        try:
            piece = await anext(self._pieces)
        except StopAsyncIteration:
            raise
        except Exception as error:
            self.source_error = error
            raise
        self.crc = crc32c(piece, self.crc)
        self.size += len(piece)
        self._count(len(piece))
        return piece
