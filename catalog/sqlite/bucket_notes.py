"""Bucket notes: what each disk has still to write down about buckets.

A rebuild reads the volumes alone, and needles name only buckets that hold something.  So every disk keeps
a record of every bucket, and of its deletion, in one of its volumes.  Until it does, a note waits here.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from warehouse.catalog.sqlite.bookkeeping import STAMP_MS_SHIFT, Bookkeeping
from warehouse.catalog.sqlite.columns import BUCKET_CONFIGS, NOTE_COLUMNS, marks
from warehouse.errors import BadRequest, NoSuchBucket
from warehouse.transport.messages import CONFIGS_SIZE_MAX, BucketNote

# One bucket to all disks, and all buckets to one disk.
_MARKS = marks(NOTE_COLUMNS)
NOTE = f"INSERT OR REPLACE INTO bucket_notes (disk_id, {NOTE_COLUMNS}) SELECT id, {_MARKS} FROM disks"
NOTE_ALL = (
    f"INSERT INTO bucket_notes (disk_id, {NOTE_COLUMNS})"
    " SELECT ?, id, name, created_ms, 0, max(created_ms << 16, config_epoch), owner_id, region,"
    " is_lock_enabled"
    " FROM buckets WHERE name IS NOT NULL"
)
_NOTE_NOW = (
    f"INSERT OR REPLACE INTO bucket_notes (disk_id, {NOTE_COLUMNS})"
    " SELECT disks.id, buckets.id, buckets.name, created_ms, 0, ?, owner_id, region, is_lock_enabled"
    " FROM buckets, disks WHERE buckets.id = ? AND buckets.name IS NOT NULL"
)
_CLEAR = f"DELETE FROM bucket_notes WHERE (disk_id, {NOTE_COLUMNS}) = (?, {_MARKS})"


class BucketNotes(Bookkeeping):
    """Mixed into `Transaction`."""

    def clear_bucket_notes(self, disk_id: str, notes: Sequence[BucketNote]) -> None:
        for note in notes:
            self._execute(_CLEAR, (disk_id, *_row_of(note)))

    def _note_bucket(self, note: BucketNote) -> None:
        """Every disk is to write this down, instead of what it had still to write about this bucket."""
        self._execute(NOTE, _row_of(note))

    def _note_change_of_bucket(self, bucket_id: int) -> None:
        """Every disk is to write down what a live bucket is now, later than all that it has written."""
        self._see_stamp(max(self.stamp_max + 1, self._now_ms() << STAMP_MS_SHIFT))
        # A disk that is added later writes it down with the same stamp: no older record may seem the newer.
        self._execute("UPDATE buckets SET config_epoch = ? WHERE id = ?", (self.stamp_max, bucket_id))
        self._execute(_NOTE_NOW, (self.stamp_max, bucket_id))

    def set_bucket_config(self, bucket_id: int, kind: str, document: bytes) -> None:
        if not self._is_live(bucket_id):
            raise NoSuchBucket("the bucket was deleted")
        present = dict(self._execute(BUCKET_CONFIGS, (bucket_id,)).fetchall())
        if present.get(kind, b"") == document:
            return
        others = sum(len(other) for name, other in present.items() if name != kind)
        if others + len(document) > CONFIGS_SIZE_MAX:
            raise BadRequest(
                f"the configurations of a bucket have at most {CONFIGS_SIZE_MAX} bytes together; {others} are"
                f" used, and {len(document)} more are asked for"
            )
        if document:
            self._execute(
                "INSERT OR REPLACE INTO bucket_configs (bucket_id, kind, document) VALUES (?, ?, ?)",
                (bucket_id, kind, document),
            )
        else:
            self._execute("DELETE FROM bucket_configs WHERE bucket_id = ? AND kind = ?", (bucket_id, kind))
        self._note_change_of_bucket(bucket_id)

    def _note_buckets_for(self, disk_id: str) -> None:
        """A new disk is to write down all buckets."""
        self._execute(NOTE_ALL, (disk_id,))


def _row_of(note: BucketNote) -> tuple[object, ...]:
    """The fields of a note that have a column: a message may have learned of more than this catalog."""
    return msgspec.structs.astuple(note)[: NOTE_COLUMNS.count(",") + 1]
