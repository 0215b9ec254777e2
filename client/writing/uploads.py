"""Uploads: large puts, cut into chunks that go to several volumes side by side.

    BeginUpload -> RequestSlots -> PUT of each chunk, in any order -> FinishUpload

The object appears with FinishUpload and not a moment earlier; until then the old version stays readable.
A chunk that fails gets a new slot on another volume: replacing a slot voids its needle, so nothing needs to
be settled.  Whatever ends an upload before its end, an error or a cancellation, aborts it.

Bytes with a known size and place (memory, files, objects) are streamed from there and never buffered; the
volume's ETag tells the CRC of what it stored, and it is compared with the CRC of what left here.  A stream
of unknown length is buffered chunk by chunk, because a failed chunk must be sent again: chunks start small
and grow, so that short streams take little memory and long ones few chunks.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Self

import trio
from crc32c import crc32c

from warehouse.client.control import Control, back_off_s
from warehouse.client.headers import FAILURE_SIZE_MAX, PutOptions, crc_of_etag, read_failure, read_put_answer
from warehouse.client.nurseries import BoundedNursery, crew
from warehouse.client.patience import Patience, told
from warehouse.client.writing.in_doubt import Unsettled
from warehouse.client.writing.put import RIDE_OUT_S, Verdict, judge
from warehouse.client.writing.sources import MemorySource, Pieces, Source, as_bytes_view
from warehouse.errors import (
    DeadlineExceeded,
    LinkDown,
    MalformedMessage,
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
    FinishUpload,
    ObjectWritten,
    RequestSlots,
    Slot,
    Slots,
    SlotWanted,
    UploadBegun,
)

PARALLEL = 4  # chunks of one upload on their way at once; measured: docs/performance.md, "Chunks at once"
SLOT_GROUP = 8  # chunks that one RequestSlots makes room for
ABORT_S = 5.0
RIDE_OUT_LATER_S = 60.0  # once chunks are stored, which may have taken hours

STREAM_CHUNK_FIRST = 8 * 1024 * 1024
STREAM_CHUNK_MAX = 32 * 1024 * 1024
STREAM_CHUNKS_A_SIZE = 64  # after this many chunks, their size doubles
STREAM_PARALLEL = 2
STREAM_BUFFERED_MAX = 64 * 1024 * 1024  # chunks of a stream in memory, the one being filled included

# Called with the bytes sent so far; goes back when a chunk must be sent again.
Progress = Callable[[int], None]
Opener = Callable[[], AbstractAsyncContextManager[Pieces]]


class Uploader:
    """Makes uploads to one bucket."""

    def __init__(self, bucket: str, control: Control, pool: HttpPool, unsettled: Unsettled) -> None:
        self._bucket = bucket
        self._control = control
        self._pool = pool
        self._unsettled = unsettled

    async def put_source(
        self, key: str, source: Source, options: PutOptions, progress: Progress | None = None
    ) -> ObjectWritten:
        """Upload bytes of known size, `PARALLEL` chunks at once."""
        async with self._begun(key, source.size, options, progress) as upload, crew(PARALLEL) as members:
            chunk_size = upload.chunk_size
            chunk_count = count_chunks(source.size, chunk_size)
            slots: dict[int, Slot] = {}
            for index in range(chunk_count):
                await members.wait_room()
                if index not in slots:
                    group = range(index, min(index + SLOT_GROUP, chunk_count))
                    slots = await upload.request_slots(
                        [chunk_of(source.size, chunk_size, number) for number in group]
                    )
                wanted = chunk_of(source.size, chunk_size, index)
                opener = partial(source.open, index * chunk_size, wanted.size)
                members.start(partial(upload.send, wanted, opener, slots[index]))
            await members.wait_all()
            return await upload.finish(chunk_count, source.size)

    async def put_stream(
        self,
        key: str,
        pieces: AsyncIterable[bytes | bytearray | memoryview],
        options: PutOptions,
        put_small: Callable[[bytearray], Awaitable[ObjectWritten]],
        progress: Progress | None = None,
    ) -> ObjectWritten:
        """Upload a stream of unknown length; one that turns out to be short goes to `put_small` instead."""
        chunker = StreamChunker(pieces, self._control.chunk_size)
        # The crew opens before the first piece is asked for: a generator that holds a cancel scope while it
        # yields must not find another one opened in between.
        async with crew(1) as members:
            chunk = await chunker.next()
            if chunk.is_last and len(chunk.data) <= self._control.small_max:
                return await put_small(chunk.data)
            async with self._begun(key, None, options, progress) as upload:
                try:
                    await self._send_all(chunk, chunker, upload, members)
                except BaseException:
                    members.cancel()  # before the upload is aborted, or they would send chunks of nothing
                    raise
                return await upload.finish(chunker.count, chunker.size)

    async def _send_all(
        self, chunk: StreamChunk, chunker: StreamChunker, upload: Upload, members: BoundedNursery
    ) -> None:
        while True:
            members.size = stream_parallel(chunk.index)
            await members.wait_room()
            members.start(partial(upload.send_buffered, chunk, chunker.size))
            if chunk.is_last:
                await members.wait_all()
                return
            chunk = await chunker.next()

    @asynccontextmanager
    async def _begun(
        self, key: str, size: int | None, options: PutOptions, progress: Progress | None
    ) -> AsyncIterator[Upload]:
        request = BeginUpload(
            bucket=self._bucket,
            key=key,
            content_type=options.content_type,
            metadata=dict(options.metadata),
            if_match=options.if_match,
            if_none_match=options.if_none_match,
            byte_count=size,
        )
        if self._unsettled:
            await self._unsettled.wait(key)
        begun: UploadBegun | None = None
        # Shielded: cancelled between question and answer, we would never learn which upload to abort.
        with trio.CancelScope(shield=True, deadline=trio.current_time() + ABORT_S):
            begun = await self._control.ask(request, UploadBegun)
        if begun is None:
            begun = await self._control.ask(request, UploadBegun)
        upload = Upload(begun, f"{self._bucket}/{key}", self._control, self._pool, progress)
        try:
            yield upload
        except BaseException:
            # Without this the master would keep room and chunks until the upload expires; and the question to
            # finish may be on its way still.
            await self._unsettled.settle(key, upload.ask_to_abort, within_s=ABORT_S)
            raise


class Upload:
    """One upload under way."""

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
        self._stored_count = 0  # chunks

    async def request_slots(
        self, wanted: list[SlotWanted], exclude_volumes: Sequence[int] = ()
    ) -> dict[int, Slot]:
        request = RequestSlots(upload_id=self._id, slots=wanted, exclude_volumes=list(exclude_volumes))
        answer = await self._ask_for_slots(request)
        slots = {slot.chunk_index: slot for slot in answer.slots}
        if missing := [want.chunk_index for want in wanted if want.chunk_index not in slots]:
            raise MalformedMessage(f"asked for slots of chunks {missing}, the master answered without them")
        return slots

    async def _ask_for_slots(self, request: RequestSlots) -> Slots:
        """Ride out the seconds in which no volume takes writes, because an actor restarts."""
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

    async def send(self, wanted: SlotWanted, opener: Opener, slot: Slot | None = None) -> None:
        """Send one chunk until a volume has confirmed it, on another volume each time."""
        failed_volumes: set[int] = set()
        failure: StoreError = Unavailable("no attempt was made")
        patience = Patience(self.ride_out_s)
        while True:
            if slot is None:
                slot = await self._another_slot(wanted, failed_volumes)
            try:
                await self._send_once(wanted, opener, slot)
                self._stored_count += 1
                return
            except _SourceFailed as failed:
                raise failed.error from None
            except StoreError as error:
                if judge(error) is Verdict.GIVE_UP:
                    raise
                failure = error
            if not patience.goes_on(failure):
                raise told(failure)
            await patience.pause()
            if judge(failure) is not Verdict.LEASE_SPENT:
                failed_volumes.add(slot.volume_id)
            slot = None

    async def _another_slot(self, wanted: SlotWanted, failed_volumes: set[int]) -> Slot:
        try:
            slots = await self.request_slots([wanted], sorted(failed_volumes))
        except Unavailable:
            if not failed_volumes:
                raise
            # No other volume has room: one that failed a moment ago is better than none.
            slots = await self.request_slots([wanted])
        return slots[wanted.chunk_index]

    async def _send_once(self, wanted: SlotWanted, opener: Opener, slot: Slot) -> None:
        async with opener() as pieces:
            outgoing = _Outgoing(pieces, self._count)
            try:
                crc = await self._put(outgoing, wanted.size, slot)
            except Exception:
                self._count(-outgoing.size)
                if outgoing.source_error is not None:
                    raise _SourceFailed(outgoing.source_error) from None
                raise
        if crc != outgoing.crc:
            self._count(-outgoing.size)
            raise WriteFailed(
                f"chunk {wanted.chunk_index} of {self._name}: sent bytes with CRC {outgoing.crc:08x}, volume "
                f"{slot.volume_id} stored {'others' if crc is None else f'{crc:08x}'}"
            )

    async def _put(self, outgoing: _Outgoing, size: int, slot: Slot) -> int | None:
        """One request; returns the CRC that the volume says it stored."""
        async with self._pool.stream(
            "PUT",
            slot.url,
            f"/v1/needles/{slot.volume_id}/{slot.needle_id}",
            headers=[("Authorization", f"Bearer {slot.token}")],  # it says all there is to say
            body_length=size,
            body_pieces=outgoing,
        ) as response:
            body = await response.read(FAILURE_SIZE_MAX)
            if response.status != 201:
                raise read_failure(response.status, body)
        return crc_of_etag(read_put_answer(body).etag)

    @property
    def ride_out_s(self) -> float:
        """How long to wait for an actor that restarts: the more there is to lose, the longer."""
        return RIDE_OUT_LATER_S if self._stored_count else RIDE_OUT_S

    async def finish(self, chunk_count: int, size: int) -> ObjectWritten:
        """Make the object appear."""
        request = FinishUpload(upload_id=self._id, chunk_count=chunk_count, object_size=size)
        try:
            return await self._finish(request)
        except (LinkDown, DeadlineExceeded, NoSuchUpload, OutcomeUnknown) as error:
            # An abort that the master carries out proves that nothing was switched over; anything else
            # leaves it open, also an upload it does not know: finished, and replaced by another put since.
            if isinstance(error, NoSuchUpload) or not await self.abort():
                raise OutcomeUnknown(
                    f"{self._name} may or may not have been stored: {error.message}"
                ) from error
            raise

    async def _finish(self, request: FinishUpload) -> ObjectWritten:
        """Ask until it is done: all chunks are stored, and to give up would throw them all away.

        The master may have to stamp one of them anew, and for that its disk must be there.
        """
        give_up = trio.current_time() + self.ride_out_s
        attempt = 0
        while True:
            try:
                return await self._control.ask(request, ObjectWritten)
            except (LinkDown, DeadlineExceeded):
                raise  # the master itself was asked again and again
            except Unavailable:
                if trio.current_time() > give_up:
                    raise
            await trio.sleep(back_off_s(attempt))
            attempt += 1

    async def abort(self) -> bool:
        """Give up room and chunks; True when the master has done so."""
        try:
            await self.ask_to_abort()
        except StoreError:
            return False  # it expires by itself
        return True

    async def ask_to_abort(self) -> None:
        await self._control.ask(AbortUpload(upload_id=self._id), Done)

    def _count(self, delta: int) -> None:
        self._sent_count += delta
        if self._progress is not None:
            self._progress(self._sent_count)


class _SourceFailed(Exception):
    """The bytes could not be read: no other volume helps against that."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class _Outgoing:
    """The pieces of one attempt on their way out: counted, their CRC taken, errors of the source marked."""

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


# --- cutting --------------------------------------------------------------------------------------


def count_chunks(object_size: int, chunk_size: int) -> int:
    return max(1, -(-object_size // chunk_size))  # an empty object has one chunk, an empty one


def chunk_of(object_size: int, chunk_size: int, index: int) -> SlotWanted:
    """Chunk `index` of an object of known size: all of `chunk_size`, the last one of what is left."""
    return SlotWanted(
        chunk_index=index,
        size=min(chunk_size, object_size - index * chunk_size),
        chunk_count=count_chunks(object_size, chunk_size),
        object_size=object_size,
    )


def stream_chunk_size(index: int) -> int:
    """Bytes of chunk `index` of a stream: small at first, because the stream may be short."""
    return min(STREAM_CHUNK_FIRST << (index // STREAM_CHUNKS_A_SIZE), STREAM_CHUNK_MAX)


def stream_parallel(index: int) -> int:
    """How many chunks of that size may be on their way while one more is filled."""
    return max(1, min(STREAM_PARALLEL, STREAM_BUFFERED_MAX // stream_chunk_size(index) - 1))


@dataclass(frozen=True, slots=True)
class StreamChunk:
    index: int
    data: bytearray
    is_last: bool


class StreamChunker:
    """Cuts a stream into chunks, and knows with each whether it is the last."""

    def __init__(self, pieces: AsyncIterable[bytes | bytearray | memoryview], chunk_size: int) -> None:
        self._chunk_size = chunk_size  # what the store takes
        self.size = 0  # bytes of all chunks so far
        self.count = 0
        self._pieces = aiter(pieces)
        self._rest = memoryview(b"")

    async def next(self) -> StreamChunk:
        """The next chunk; not to be called after the last one."""
        size_max = min(stream_chunk_size(self.count), self._chunk_size)
        # All of it at once: the kernel gives memory as it is filled, and a buffer that grows is copied and
        # takes more than it needs.
        data = bytearray(size_max)
        filled = 0
        while not self._rest or filled < size_max:
            taken = self._rest[: size_max - filled]
            data[filled : filled + len(taken)] = taken
            filled += len(taken)
            self._rest = self._rest[len(taken) :]
            if self._rest:
                break  # the chunk is full, and more follows
            piece = await anext(self._pieces, None)
            if piece is None:
                del data[filled:]
                return self._cut(data, is_last=True)
            self._rest = as_bytes_view(piece)
        return self._cut(data, is_last=False)

    def _cut(self, data: bytearray, *, is_last: bool) -> StreamChunk:
        chunk = StreamChunk(self.count, data, is_last)
        self.count += 1
        self.size += len(data)
        return chunk
