"""Changes: what can be done to buckets and objects in one transaction of the catalog.

Plain synchronous Python on SQLite: stamps and times are arguments.  A method either takes effect as a
whole or raises and leaves its traces to the savepoint around it.  Refusals that must leave something
behind (a refused needle is garbage from then on) are returned instead of raised.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from catalog.bookkeeping import WAS_COMMITTED, condition_names
from catalog.names import check_bucket_name
from catalog.registry import Registry
from catalog.rows import OBJECT_COLUMNS, BucketRow, CommitResult, ObjectRow, object_row, pack_map, unpack_map
from catalog.upkeep import Upkeep
from catalog.uploads import STAMP_MS_SHIFT, Uploads
from errors import (
    BadRequest,
    BucketExists,
    BucketNotEmpty,
    NeedleExists,
    NoSuchBucket,
    NoSuchVolume,
    PreconditionFailed,
)
from transport.messages import BucketNote, StoredNeedle, etag_of

PURGE_AT_ONCE = 500  # objects of a deleted bucket: a few milliseconds, so that puts need not wait for more


class Transaction(Uploads, Registry, Upkeep):
    """Everything between BEGIN IMMEDIATE and COMMIT.  Get one from `Catalog.transaction()`."""

    # --- buckets ----------------------------------------------------------------------------------

    def create_bucket(self, name: str, created_ms: int) -> BucketRow:
        check_bucket_name(name)
        if self._one("SELECT 1 FROM buckets WHERE name = ?", (name,)) is not None:
            raise BucketExists(f"bucket {name!r} exists already")
        cursor = self._execute("INSERT INTO buckets (name, created_ms) VALUES (?, ?)", (name, created_ms))
        assert cursor.lastrowid is not None
        stamp = created_ms << STAMP_MS_SHIFT
        self._note_bucket(BucketNote(cursor.lastrowid, name, created_ms, False, stamp))
        return BucketRow(cursor.lastrowid, name, created_ms, 0, 0)

    def delete_bucket(self, name: str, *, force: bool, stamp: int) -> None:
        """Make a bucket and all in it disappear at once; its needles become garbage piece by piece.

        Rights that API keys have on the bucket go with it: a later bucket of that name is another one.
        """
        found = self._one("SELECT id, created_ms FROM buckets WHERE name = ?", (name,))
        if found is None:
            raise NoSuchBucket(f"there is no bucket {name!r}")
        bucket_id, created_ms = found
        if not force and self._one("SELECT 1 FROM objects WHERE bucket_id = ? LIMIT 1", (bucket_id,)):
            raise BucketNotEmpty(f"bucket {name!r} holds objects: delete them first, or force it")
        self._execute("UPDATE buckets SET name = NULL WHERE id = ?", (bucket_id,))
        self._note_bucket(BucketNote(bucket_id, name, created_ms, True, stamp))
        self._live_buckets.clear()
        self._take_rights_on(name)
        self.purge(stamp=stamp)

    def purge(self, *, stamp: int | None = None) -> bool:
        """Turn one piece of what deleted buckets held into garbage; return whether there is more to do."""
        stamp = self.stamp_max if stamp is None else stamp
        doomed = self._one("SELECT id FROM buckets WHERE name IS NULL LIMIT 1")
        if doomed is not None:
            objects = self._execute(
                f"SELECT {OBJECT_COLUMNS} FROM objects WHERE bucket_id = ? ORDER BY key LIMIT ?",
                (*doomed, PURGE_AT_ONCE),
            ).fetchall()
            for row in map(object_row, objects):
                # Its disk's clock may be ahead of the one that the deletion got its stamp from.
                self._delete_object(row, max(stamp, row.stamp + 1))
            uploads = self._execute(
                "SELECT id FROM uploads WHERE bucket_id = ? LIMIT ?", (*doomed, PURGE_AT_ONCE)
            ).fetchall()
            for (upload_id,) in uploads:
                self._drop_upload(upload_id, stamp)
            if len(objects) < PURGE_AT_ONCE and len(uploads) < PURGE_AT_ONCE:
                self._execute("DELETE FROM buckets WHERE id = ?", doomed)
        self.is_purge_left = self._one("SELECT 1 FROM buckets WHERE name IS NULL LIMIT 1") is not None
        return self.is_purge_left

    def _take_rights_on(self, bucket: str) -> None:
        rows = self._execute("SELECT id, buckets FROM api_keys WHERE buckets IS NOT NULL").fetchall()
        for key_id, packed in rows:
            buckets = unpack_map(packed) or {}
            if buckets.pop(bucket, None) is not None:
                self._execute(
                    "UPDATE api_keys SET buckets = ?, epoch = epoch + 1 WHERE id = ?",
                    (pack_map(buckets), key_id),
                )

    # --- objects ----------------------------------------------------------------------------------

    def commit_needle(self, needle: StoredNeedle) -> CommitResult:
        """Make a durable needle visible, or say why not; repeating it gets the same answer.

        The needle of a single put becomes its object's current version at once, the chunk of an upload
        when the upload is finished.  A needle that is refused is garbage from here on.
        """
        if needle.upload_id is not None:
            return self._commit_chunk(needle)
        volume_id, needle_id = needle.volume_id, needle.needle_id
        current = self._current(needle.bucket_id, needle.key)
        if current is not None and current[0] == volume_id and current[1] == needle_id:
            return CommitResult(etag_of(volume_id, needle_id, needle.crc))
        answer = self._answered_before(needle)
        if answer is not None:
            return answer
        row = ObjectRow(
            needle.bucket_id,
            needle.key,
            needle.size,
            needle.stamp,
            needle.created_ms,
            needle.content_type,
            volume_id,
            needle_id,
            needle.crc,
            1,
            None,
            needle.metadata,
        )
        try:
            above = self._make_visible(row, current, needle.if_match, needle.if_none_match)
        except NoSuchBucket as error:
            return self._refuse(needle, "void", error)
        except PreconditionFailed as error:
            return self._refuse(needle, "unmet", error)
        except sqlite3.IntegrityError:  # the index of needles: nothing was changed
            return CommitResult(
                error=NeedleExists(f"needle {needle_id} of volume {volume_id} belongs to another object")
            )
        if above is not None:
            return CommitResult(restamp_above=above)
        return CommitResult(etag_of(volume_id, needle_id, needle.crc))

    def settle_needle(self, bucket_id: int, key: str, volume_id: int, needle_id: int, stamp: int) -> bool:
        """Was this needle of a single put committed?  If not, it never will be.

        Raises:
            NoSuchVolume, BadRequest: a needle that was never handed out, or that another key or an upload
                owns: nobody may turn that into garbage by asking for this key.
        """
        current = self._current(bucket_id, key)
        if current is not None and current[0] == volume_id and current[1] == needle_id:
            return True
        reason = self._reason(volume_id, needle_id)
        if reason is not None:
            return WAS_COMMITTED[reason]
        self._require_handed_out(volume_id, needle_id)
        if self._has_owner(volume_id, needle_id):
            raise BadRequest(f"needle {needle_id} of volume {volume_id} was not written for this key")
        self._discard([(volume_id, needle_id)], stamp, "void")
        return False

    def delete_objects(
        self, bucket_id: int, keys: Sequence[str], *, if_match: str | None = None, stamp: int
    ) -> list[bool]:
        """Delete objects; tell for each key whether there was one.

        Raises:
            PreconditionFailed: an object is there with another ETag than `if_match`.
        """
        existed = []
        for key in keys:
            found = self._one(
                f"SELECT {OBJECT_COLUMNS} FROM objects WHERE bucket_id = ? AND key = ?", (bucket_id, key)
            )
            existed.append(found is not None)
            if found is not None:
                row = object_row(found)
                if if_match is not None and not condition_names(if_match, row.etag):
                    raise PreconditionFailed(f"object {key!r} has the ETag {row.etag}, not {if_match}")
                # The request may have got its stamp before the version that it deletes was committed.
                deleted_at = max(stamp, row.stamp + 1)
                self._graves.dig(bucket_id, key, deleted_at)
                self._delete_object(row, deleted_at)
        return existed

    def _require_handed_out(self, volume_id: int, needle_id: int) -> None:
        found = self._one("SELECT needle_id_reserved FROM volumes WHERE id = ?", (volume_id,))
        if found is None:
            raise NoSuchVolume(f"there is no volume {volume_id}")
        if not 1 <= needle_id <= found[0]:
            raise BadRequest(f"needle {needle_id} of volume {volume_id} was never handed out")
