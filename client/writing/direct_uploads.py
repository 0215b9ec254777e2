"""Direct uploads: a program begins and finishes an upload, and somebody else sends the bytes.

A browser, for one: it gets a slot for each chunk and sends the chunk straight to a volume actor.  Nothing of
the upload is kept here, so it can be continued from another process, or days later while it has not expired.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from warehouse.client.control import Control
from warehouse.client.writing.cutting import chunk_of, count_chunks
from warehouse.client.writing.uploads import SourceFailed, Upload
from warehouse.errors import BadRequest
from warehouse.transport.http.pool import HttpPool
from warehouse.transport.messages import (
    AbortUpload,
    Done,
    FinishUpload,
    ObjectWritten,
    RequestSlots,
    Slot,
    Slots,
    SlotWanted,
    UploadBegun,
)


@dataclass(frozen=True, slots=True)
class UploadSlot:
    """The place of one chunk of an upload: `PUT url`, with `Authorization: Bearer token` and `size` bytes.

    The volume actor answers 201 when the chunk is stored and known to the store.

    Attributes:
        volume_id: name it in `exclude_volumes` when the chunk could not be stored there.
        expires_in_s: the token works for so long.
    """

    chunk_index: int
    size: int
    volume_id: int
    url: str
    token: str
    expires_in_s: float


def check_sizes(size: int, chunk_size: int, chunk_size_max: int) -> None:
    """
    Raises:
        BadRequest: no upload has these sizes.
    """
    if size < 0 or not 1 <= chunk_size <= chunk_size_max:
        raise BadRequest(
            f"an upload has 0 or more bytes in chunks of 1 to {chunk_size_max} bytes,"
            f" not {size} in chunks of {chunk_size}"
        )


class DirectUpload:
    """An upload whose bytes somebody else sends; made by `Bucket.begin_upload` and `Bucket.resume_upload`.

    Attributes:
        upload_id: of the store; `Bucket.resume_upload` takes it.
        size: bytes of the whole object.
        chunk_size: bytes of each chunk but the last one.
        chunk_count: at least 1; an empty object has one empty chunk.
        expires_in_s: without another slot or chunk, the store gives the upload up after so long; None:
            unknown, because the upload was resumed.
    """

    def __init__(
        self,
        upload_id: int,
        size: int,
        chunk_size: int,
        control: Control,
        pool: HttpPool,
        expires_in_s: float | None = None,
    ) -> None:
        check_sizes(size, chunk_size, control.chunk_size)
        self.upload_id = upload_id
        self.size = size
        self.chunk_size = chunk_size
        self.chunk_count = count_chunks(size, chunk_size)
        self.expires_in_s = expires_in_s
        self._control = control
        self._pool = pool

    def chunk_length(self, index: int) -> int:
        """How many bytes chunk `index` has; it begins at `index * chunk_size`."""
        if not 0 <= index < self.chunk_count:
            raise BadRequest(f"the upload has chunks 0 to {self.chunk_count - 1}, not {index}")
        return chunk_of(self.size, self.chunk_size, index).size

    async def slots(self, indexes: Iterable[int], *, exclude_volumes: Sequence[int] = ()) -> list[UploadSlot]:
        """Places for some chunks, up to 64 at once, in the order of `indexes`.

        A new slot for an index voids the one before and what was stored there: ask only for chunks that are
        not stored.

        Raises:
            NoSuchUpload: the upload is finished, was aborted, or has expired.
            VolumeOffline, ClusterFull: no disk takes the chunks now.
            QuotaExceeded, PermissionDenied.
        """
        found = await self._slots(list(indexes), exclude_volumes)
        return [
            UploadSlot(
                chunk_index=slot.chunk_index,
                size=self.chunk_length(slot.chunk_index),
                volume_id=slot.volume_id,
                url=f"{slot.url}/v1/needles/{slot.volume_id}/{slot.needle_id}",
                token=slot.token,
                expires_in_s=slot.expires_in_s,
            )
            for slot in found
        ]

    async def _slots(self, indexes: list[int], exclude_volumes: Sequence[int]) -> list[Slot]:
        wanted = [self._wanted(index) for index in indexes]
        request = RequestSlots(upload_id=self.upload_id, slots=wanted, exclude_volumes=list(exclude_volumes))
        return (await self._control.ask(request, Slots)).slots

    def _wanted(self, index: int) -> SlotWanted:
        self.chunk_length(index)  # refuses what is no chunk of it
        return chunk_of(self.size, self.chunk_size, index)

    async def send(self, index: int, pieces: AsyncIterable[bytes]) -> int:
        """Send one chunk from here, once: for whoever cannot reach the volume actors.

        Args:
            pieces: exactly `chunk_length(index)` bytes.
        Returns:
            The CRC-32C of the chunk: of the bytes that came from `pieces`, and of those that are stored.
        Raises:
            NoSuchUpload, VolumeOffline, ClusterFull, QuotaExceeded: as `slots`.
            Unavailable: the chunk was not stored; send it again.
        """
        slot = (await self._slots([index], ()))[0]
        begun = UploadBegun(upload_id=self.upload_id, chunk_size=self.chunk_size, expires_in_s=0.0)
        upload = Upload(begun, f"upload {self.upload_id}", self._control, self._pool, None)

        @asynccontextmanager
        async def opened() -> AsyncIterator[AsyncIterable[bytes]]:
            yield pieces

        try:
            return await upload.send_once(self._wanted(index), opened, slot)
        except SourceFailed as failed:
            raise failed.error from None

    async def finish(self) -> ObjectWritten:
        """Make the object visible, when all its chunks are stored; safe to repeat.

        Raises:
            UploadIncomplete: chunks are missing.
            PreconditionFailed: the condition that the upload was begun with does not hold.
            NoSuchUpload: the upload was aborted or has expired, or was finished some time ago.
            LinkDown, DeadlineExceeded: no answer; the object may be visible or not, and `finish` tells when
                it is called again.
        """
        request = FinishUpload(upload_id=self.upload_id, chunk_count=self.chunk_count, object_size=self.size)
        return await self._control.ask(request, ObjectWritten)

    async def abort(self) -> None:
        """Give up the upload and what was stored of it.

        Raises:
            NoSuchUpload: it is gone already, or finished.
        """
        await self._control.ask(AbortUpload(upload_id=self.upload_id), Done)
