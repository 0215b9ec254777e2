"""Uploads: the part of a transaction that turns chunks into objects.

    begin_upload -> set_slots -> (commit_needle of each chunk) -> finish_upload
                                                              \\-> abort_upload, expire_uploads

An upload shows nothing until it is finished; then all its chunks become visible in one step.  A finished
upload is remembered for a while, so that a client whose answer was lost can ask again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from warehouse.catalog.interface import FINISHED_KEPT_MS
from warehouse.catalog.records import (
    ChunkRow,
    CommitResult,
    FinishResult,
    ObjectRow,
    Restamp,
    UploadEnd,
    UploadRow,
    needle_etag,
)
from warehouse.catalog.sqlite.bookkeeping import STAMP_MS_SHIFT
from warehouse.catalog.sqlite.columns import (
    CHUNK_COLUMNS,
    UPLOAD_COLUMNS,
    chunk_row,
    insert,
    pack_map,
    upload_row,
)
from warehouse.catalog.sqlite.manifests import Manifests
from warehouse.errors import (
    BadRequest,
    LengthMismatch,
    NeedleExists,
    NeedleVoid,
    NoSuchBucket,
    NoSuchUpload,
    UploadIncomplete,
)
from warehouse.transport.messages import MULTIPART, StoredNeedle
from warehouse.transport.messages.attributes import MANIFEST_INDEX

AHEAD_MS_MAX = 24 * 3600 * 1000  # an upload that expires this much too late was set by a wrong clock
CHUNKS_AT_ONCE = 500  # of uploads that are dropped in one transaction: an upload may have ten thousand
NO_END = UploadEnd()
_NAMED_MAX = 10  # chunk indexes in a message


class Uploads(Manifests):
    """Mixed into `Transaction`."""

    # --- life of an upload ------------------------------------------------------------------------

    def begin_upload(
        self,
        bucket_id: int,
        key: str,
        content_type: str | None,
        metadata: Mapping[str, str],
        if_match: str | None,
        if_none_match: str | None,
        created_ms: int,
        expires_ms: int,
        key_id: str = "",
        *,
        style: str = "",
        attributes: bytes = b"",
        owner_id: str = "",
        initiator_id: str = "",
    ) -> int:
        if not self._is_live(bucket_id):
            raise NoSuchBucket("the bucket was deleted")
        upload_id = self._random_id()
        self._execute(
            insert("uploads", UPLOAD_COLUMNS),
            (
                upload_id,
                bucket_id,
                key,
                content_type,
                if_match,
                if_none_match,
                created_ms,
                expires_ms,
                expires_ms - created_ms,
                False,
                pack_map(dict(metadata)) if metadata else None,
                key_id,
                style,
                attributes or None,
                owner_id,
                initiator_id,
            ),
        )
        return upload_id

    def set_slots(
        self,
        upload_id: int,
        slots: Sequence[tuple[int, int, int, int]],
        *,
        stamp: int = 0,
        knows_sizes: bool = True,
    ) -> list[tuple[int, int]]:
        upload = self._open_upload(upload_id)
        replaced: list[tuple[int, int]] = []
        for chunk_index, volume_id, needle_id, size in slots:
            if self._reason(volume_id, needle_id) is not None:
                raise NeedleVoid(f"needle {needle_id} of volume {volume_id} was given up before it was used")
            old = self._execute(
                "DELETE FROM chunks WHERE upload_id = ? AND chunk_index = ? RETURNING volume_id, needle_id",
                (upload_id, chunk_index),
            ).fetchall()
            if old != [(volume_id, needle_id)]:
                self._discard(old, stamp, "void")
                replaced += old
            try:
                self._execute(
                    "INSERT INTO chunks (upload_id, chunk_index, volume_id, needle_id, size)"
                    " VALUES (?, ?, ?, ?, ?)",
                    (upload_id, chunk_index, volume_id, needle_id, size),
                )
            except sqlite3.IntegrityError as error:
                raise NeedleExists(f"needle {needle_id} of volume {volume_id} has a chunk already") from error
        self._require_room_for_slots(upload, knows_sizes=knows_sizes)
        return replaced

    def _require_room_for_slots(self, upload: UploadRow, *, knows_sizes: bool) -> None:
        """Refuse slots for more bytes than the bucket has room for now.

        The end of the upload decides; this only keeps bytes from being sent in vain.

        Raises:
            QuotaExceeded
        """
        if not self._is_live(upload.bucket_id) or upload.bucket_id not in self._quotas:
            return
        if upload.style == MULTIPART:
            return  # a part that was sent again counts once, and whoever completes may leave parts out
        (size,) = self._one(
            "SELECT coalesce(sum(size), 0) FROM chunks WHERE upload_id = ? AND chunk_index < ?",
            (upload.id, MANIFEST_INDEX),
        )
        current = self._current(upload.bucket_id, upload.key)
        if not knows_sizes:
            self._require_room_unseen(upload.bucket_id, is_new=current is None, size=size)
            return
        object_count, before = (1, 0) if current is None else (0, current.size)
        self._require_room(upload.bucket_id, object_count, size - before)

    def touch_upload(self, upload_id: int, expires_ms: int) -> None:
        self._execute(
            "UPDATE uploads SET expires_ms = max(expires_ms, min(?, ? + lifetime_ms))"
            " WHERE id = ? AND NOT is_finished",
            (expires_ms, self._now_ms(), upload_id),
        )

    def _time_of(self, stamp: int) -> int:
        """When a stamp was made, in wall time.

        Stamps only grow.  After a clock was ahead once, they stay ahead of the wall clock, perhaps for a
        year, and whatever expires by the wall clock would live as long.
        """
        return min(stamp >> STAMP_MS_SHIFT, self._now_ms())

    def abort_upload(self, upload_id: int, stamp: int) -> None:
        self._open_upload(upload_id)
        self._drop_upload(upload_id, stamp)

    def expire_uploads(self, now_ms: int, stamp: int, limit: int) -> list[int]:
        # A release that counted from stamps, or a wall clock that was ahead, may have set a later time.  No
        # upload lives longer than its lifetime from now on.
        self._execute(
            "UPDATE uploads SET expires_ms = ?1 + lifetime_ms"
            " WHERE NOT is_finished AND expires_ms > ?1 + lifetime_ms + ?2",
            (now_ms, AHEAD_MS_MAX),
        )
        expired = self._drop_uploads(self._expired(is_finished=0, now_ms=now_ms, limit=limit), stamp)
        self._forget_finished(now_ms, limit)
        return expired

    def _forget_finished(self, now_ms: int, limit: int) -> None:
        for upload_id in self._expired(is_finished=1, now_ms=now_ms, limit=limit):
            self._execute("DELETE FROM uploads WHERE id = ?", (upload_id,))

    def _expired(self, *, is_finished: int, now_ms: int, limit: int) -> list[int]:
        rows = self._execute(
            "SELECT id FROM uploads WHERE is_finished = ? AND expires_ms <= ? ORDER BY expires_ms LIMIT ?",
            (is_finished, now_ms, limit),
        )
        return [upload_id for (upload_id,) in rows.fetchall()]

    def _drop_uploads(self, upload_ids: list[int], stamp: int) -> list[int]:
        """Forget uploads, until they have had many chunks together; return those that are forgotten."""
        chunk_count = 0
        for done, upload_id in enumerate(upload_ids):
            if chunk_count >= CHUNKS_AT_ONCE:
                return upload_ids[:done]
            chunk_count += self._drop_upload(upload_id, stamp)
        return upload_ids

    def _drop_upload(self, upload_id: int, stamp: int) -> int:
        """Forget an upload; if it is not finished, its chunks become garbage.

        Returns:
            How many these are.
        """
        found = self._one("DELETE FROM uploads WHERE id = ? RETURNING is_finished", (upload_id,))
        if found is None or found[0]:
            return 0
        chunks = self._take_chunks(upload_id)
        self._discard(chunks, stamp, "aborted")
        self._forget_parts(upload_id)
        return len(chunks)

    def _open_upload(self, upload_id: int) -> UploadRow:
        upload = self._upload_row(upload_id)
        if upload.is_finished:
            raise NoSuchUpload(f"upload {upload_id} is finished")
        return upload

    def _upload_row(self, upload_id: int) -> UploadRow:
        upload = self._upload(upload_id)
        if upload is None:
            raise NoSuchUpload(f"there is no upload {upload_id}: it was aborted, or it expired")
        return upload

    def _upload(self, upload_id: int) -> UploadRow | None:
        found = self._one(f"SELECT {UPLOAD_COLUMNS} FROM uploads WHERE id = ?", (upload_id,))
        return None if found is None else upload_row(found)

    # --- chunks -----------------------------------------------------------------------------------

    def set_stamp_of_chunk(self, upload_id: int, chunk_index: int, stamp: int) -> None:
        self._execute(
            "UPDATE chunks SET stamp = max(stamp, ?) WHERE upload_id = ? AND chunk_index = ?",
            (stamp, upload_id, chunk_index),
        )
        self._see_stamp(stamp)

    def _commit_chunk(self, needle: StoredNeedle) -> CommitResult:
        assert needle.upload_id is not None
        slot = self._one(
            "SELECT volume_id, needle_id, size FROM chunks WHERE upload_id = ? AND chunk_index = ?",
            (needle.upload_id, needle.chunk_index),
        )
        if slot is None or slot[0] != needle.volume_id or slot[1] != needle.needle_id:
            return self._chunk_without_slot(needle)
        if slot[2] != needle.size:
            return CommitResult(
                error=LengthMismatch(
                    f"chunk {needle.chunk_index} of upload {needle.upload_id} must have {slot[2]} bytes,"
                    f" not {needle.size}"
                )
            )
        if not self._is_live(needle.bucket_id):
            # The purge drops the uploads of the bucket piece by piece, each with its chunks.
            self._see_stamp(needle.stamp)
            return CommitResult(error=NoSuchBucket("the bucket was deleted"))
        self._execute(
            "UPDATE chunks SET crc = ?, stamp = max(stamp, ?), is_stored = 1"
            " WHERE upload_id = ? AND chunk_index = ?",
            (needle.crc, needle.stamp, needle.upload_id, needle.chunk_index),
        )
        self._execute(
            "UPDATE uploads SET expires_ms = max(expires_ms, ? + lifetime_ms)"
            " WHERE id = ? AND NOT is_finished",
            (self._time_of(needle.stamp), needle.upload_id),
        )
        self._see_stamp(needle.stamp)
        return CommitResult(needle_etag(needle))

    def _chunk_without_slot(self, needle: StoredNeedle) -> CommitResult:
        """Answer a late message: the upload was finished with this needle, or the needle was given up."""
        answer = self._answered_before(needle)
        if answer is not None:
            return answer
        # Uploads of one chunk end as plain objects, without a row of chunks.
        current = self._current(needle.bucket_id, needle.key)
        if current is not None and current[:2] == (needle.volume_id, needle.needle_id):
            return CommitResult(needle_etag(needle))
        return self._refuse(
            needle, "void", NoSuchUpload(f"upload {needle.upload_id} has no slot for this needle")
        )

    # --- finishing --------------------------------------------------------------------------------

    def finish_upload(
        self, upload_id: int, chunk_count: int, object_size: int, end: UploadEnd = NO_END
    ) -> FinishResult:
        upload = self._upload_row(upload_id)
        if upload.is_finished:
            return FinishResult(self._finished_object(upload))
        if upload.style:
            return self._finish_with_manifest(upload, chunk_count, object_size, end)
        chunks = self._complete_chunks(upload_id, chunk_count, object_size)
        first = chunks[0]
        row = ObjectRow(
            upload.bucket_id,
            upload.key,
            object_size,
            max(chunk.stamp for chunk in chunks),
            upload.created_ms,
            upload.content_type,
            first.volume_id,
            first.needle_id,
            first.crc,
            chunk_count,
            upload_id,
            upload.metadata,
        )
        current = self._current(upload.bucket_id, upload.key)
        above = self._make_visible(row, current, upload.if_match, upload.if_none_match)
        if above is not None:
            return FinishResult(restamp=Restamp(0, first.volume_id, first.needle_id, above))
        self._drop_empty_slots(upload_id, chunk_count)
        self._mark_finished(upload_id, row)
        return FinishResult(row)

    def _complete_chunks(self, upload_id: int, chunk_count: int, object_size: int) -> list[ChunkRow]:
        if chunk_count < 1 or object_size < 0:
            raise BadRequest(
                f"an object has at least one chunk and a size of 0 or more; this one has {chunk_count} chunks"
                f" and {object_size} bytes"
            )
        rows = self._execute(
            f"SELECT {CHUNK_COLUMNS} FROM chunks WHERE upload_id = ? AND chunk_index < ?"
            " ORDER BY chunk_index",
            (upload_id, MANIFEST_INDEX),
        )
        chunks = [chunk_row(columns) for columns in rows.fetchall()]
        stored = {chunk.chunk_index for chunk in chunks if chunk.is_stored}
        missing = [
            index for index in range(min(chunk_count, len(stored) + _NAMED_MAX + 1)) if index not in stored
        ]
        if missing or len(stored) < chunk_count:
            raise UploadIncomplete(f"upload {upload_id} lacks chunks: {_some(missing)}")
        surplus = sorted(index for index in stored if index >= chunk_count)
        if surplus:
            raise UploadIncomplete(
                f"upload {upload_id} has stored chunks beyond its {chunk_count}: {_some(surplus)}"
            )
        wanted = chunks[:chunk_count]
        total = sum(chunk.size for chunk in wanted)
        if total != object_size:
            raise UploadIncomplete(f"the chunks of upload {upload_id} have {total} bytes, not {object_size}")
        return wanted

    def _drop_empty_slots(self, upload_id: int, chunk_count: int) -> None:
        """Give up slots that were never filled; no needle may be committed into them any more."""
        if chunk_count == 1:  # the row of the object names its needle
            self._execute("DELETE FROM chunks WHERE upload_id = ? AND chunk_index = 0", (upload_id,))
        unused = self._execute(
            "DELETE FROM chunks WHERE upload_id = ? AND chunk_index >= ? RETURNING volume_id, needle_id",
            (upload_id, chunk_count),
        ).fetchall()
        self._discard(unused, 0, "void")

    def _mark_finished(self, upload_id: int, row: ObjectRow) -> None:
        now_ms = self._time_of(row.stamp)
        self._execute(
            "UPDATE uploads SET is_finished = 1, expires_ms = ?, finished_size = ?, finished_stamp = ?,"
            " finished_volume_id = ?, finished_needle_id = ?, finished_crc = ?, finished_chunk_count = ?,"
            " finished_md5 = ?, finished_part_count = ? WHERE id = ?",
            (
                now_ms + FINISHED_KEPT_MS,
                row.size,
                row.stamp,
                row.volume_id,
                row.needle_id,
                row.crc,
                row.chunk_count,
                row.md5,
                row.part_count,
                upload_id,
            ),
        )
        self._forget_finished(now_ms, 2)  # two go for each one that comes, so they never pile up

    def _finished_object(self, upload: UploadRow) -> ObjectRow:
        """What the first finish answered, even if the object was replaced since then."""
        found = self._one(
            "SELECT finished_size, finished_stamp, finished_volume_id, finished_needle_id, finished_crc,"
            " finished_chunk_count, finished_md5, finished_part_count FROM uploads WHERE id = ?",
            (upload.id,),
        )
        assert found is not None
        size, stamp, volume_id, needle_id, crc, chunk_count, md5, part_count = found
        return ObjectRow(
            upload.bucket_id,
            upload.key,
            size,
            stamp,
            upload.created_ms,
            upload.content_type,
            volume_id,
            needle_id,
            crc,
            chunk_count,
            upload.id,
            upload.metadata,
            md5,
            part_count,
        )


def _some(indexes: Sequence[int]) -> str:
    named = ", ".join(str(index) for index in indexes[:_NAMED_MAX])
    return named + (" and more" if len(indexes) > _NAMED_MAX else "")
