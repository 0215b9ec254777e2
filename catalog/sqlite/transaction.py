"""SQLite transaction: what can be done to buckets and objects.

Plain synchronous Python on SQLite: stamps and times are arguments.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from types import EllipsisType

from warehouse.catalog.names import check_bucket_name
from warehouse.catalog.records import BucketRow, CommitResult, ObjectRow
from warehouse.catalog.sqlite.amendments import Amendments
from warehouse.catalog.sqlite.bookkeeping import (
    INSERT_NEW,
    INSERT_NEW_PLAIN,
    STAMP_MS_SHIFT,
    WAS_COMMITTED,
)
from warehouse.catalog.sqlite.columns import (
    NO_ATTRIBUTES,
    MoreColumns,
    PlainColumns,
    pack_content_type,
    pack_map,
)
from warehouse.catalog.sqlite.disk_removal import DiskRemovals
from warehouse.catalog.sqlite.identities import Identities
from warehouse.catalog.sqlite.nodes import Nodes
from warehouse.catalog.sqlite.plausibility import WHOLE_MAX
from warehouse.catalog.sqlite.registry import Registry
from warehouse.catalog.sqlite.upkeep import Upkeep
from warehouse.catalog.sqlite.uploads import Uploads
from warehouse.errors import (
    BadMetadata,
    BadRequest,
    BucketExists,
    BucketNotEmpty,
    NeedleExists,
    NoSuchBucket,
    NoSuchVolume,
    OutcomeUnknown,
    PreconditionFailed,
    QuotaExceeded,
)
from warehouse.transport.http.conditions import require_conditions
from warehouse.transport.messages import BucketNote, StoredNeedle, etag_of
from warehouse.transport.messages.attributes import decode_attributes, etag_of_md5

PURGE_AT_ONCE = 500  # objects of a deleted bucket, or needles: puts wait a few milliseconds, and no longer


class SqliteTransaction(Uploads, Amendments, Registry, Identities, Nodes, DiskRemovals, Upkeep):
    """Everything between BEGIN IMMEDIATE and COMMIT.

    Satisfies `interface.Transaction`, where what each method promises is written.
    """

    # --- buckets ----------------------------------------------------------------------------------

    def create_bucket(self, name: str, created_ms: int, owner_id: str = "", *, region: str = "") -> BucketRow:
        check_bucket_name(name)
        if self._one("SELECT 1 FROM buckets WHERE name = ?", (name,)) is not None:
            raise BucketExists(f"bucket {name!r} exists already")
        owner_id = owner_id or self._first_account()
        cursor = self._execute(
            "INSERT INTO buckets (name, created_ms, owner_id, region) VALUES (?, ?, ?, ?)",
            (name, created_ms, owner_id, region),
        )
        assert cursor.lastrowid is not None
        stamp = created_ms << STAMP_MS_SHIFT
        self._note_bucket(BucketNote(cursor.lastrowid, name, created_ms, False, stamp, owner_id, region))
        return BucketRow(cursor.lastrowid, name, created_ms, 0, 0, owner_id, region=region)

    def delete_bucket(self, name: str, expected_id: int | None = None, *, force: bool, stamp: int) -> None:
        found = self._one("SELECT id, created_ms FROM buckets WHERE name = ?", (name,))
        if found is None or expected_id not in (None, found[0]):
            raise NoSuchBucket(f"there is no bucket {name!r}")
        bucket_id, created_ms = found
        if not force and self._one("SELECT 1 FROM objects WHERE bucket_id = ? LIMIT 1", (bucket_id,)):
            raise BucketNotEmpty(f"bucket {name!r} holds objects: delete them first, or delete it with force")
        self._execute("UPDATE buckets SET name = NULL WHERE id = ?", (bucket_id,))
        self._execute("DELETE FROM bucket_configs WHERE bucket_id = ?", (bucket_id,))
        self._note_bucket(BucketNote(bucket_id, name, created_ms, True, stamp))
        self._forget_buckets()
        self._take_grants_on(bucket_id)
        self.purge(stamp=stamp)

    def set_quota(
        self,
        bucket_id: int,
        *,
        byte_count: int | EllipsisType | None = ...,
        object_count: int | EllipsisType | None = ...,
    ) -> None:
        if not self._is_live(bucket_id):
            raise NoSuchBucket("the bucket was deleted")
        for column, count in (("quota_bytes", byte_count), ("quota_objects", object_count)):
            if isinstance(count, EllipsisType):
                continue
            if count is not None and not 0 <= count <= WHOLE_MAX:
                raise BadRequest(f"a quota is from 0 to {WHOLE_MAX}, not {count}")
            self._execute(f"UPDATE buckets SET {column} = ? WHERE id = ?", (count, bucket_id))
        self._forget_buckets()

    def purge(self, *, stamp: int | None = None) -> bool:
        stamp = self.stamp_max if stamp is None else stamp
        found = self._one("SELECT id FROM buckets WHERE name IS NULL LIMIT 1")
        if found is not None:
            bucket_id = int(found[0])
            if self._purge_objects(bucket_id, stamp) and self._purge_uploads(bucket_id, stamp):
                self._execute("DELETE FROM buckets WHERE id = ?", (bucket_id,))
        self.is_purge_left = self._one("SELECT 1 FROM buckets WHERE name IS NULL LIMIT 1") is not None
        return self.is_purge_left

    def _purge_objects(self, bucket_id: int, stamp: int) -> bool:
        """Delete some objects of a deleted bucket; return whether there are no others."""
        found = self._execute(
            "SELECT key, chunk_count FROM objects WHERE bucket_id = ? ORDER BY key LIMIT ?",
            (bucket_id, PURGE_AT_ONCE),
        ).fetchall()
        needle_count = 0
        for key, chunk_count in found:
            if needle_count >= PURGE_AT_ONCE:
                return False
            self._delete_object(bucket_id, key, stamp)
            needle_count += chunk_count
        return len(found) < PURGE_AT_ONCE

    def _purge_uploads(self, bucket_id: int, stamp: int) -> bool:
        """The same of its uploads."""
        found = self._execute(
            "SELECT id FROM uploads WHERE bucket_id = ? LIMIT ?", (bucket_id, PURGE_AT_ONCE)
        ).fetchall()
        return len(self._drop_uploads([each for (each,) in found], stamp)) == len(found) < PURGE_AT_ONCE

    # --- objects ----------------------------------------------------------------------------------

    def commit_needle(self, needle: StoredNeedle) -> CommitResult:
        if needle.upload_id is not None:
            return self._commit_chunk(needle)
        if needle.amends is not None:
            return self._amend(needle, needle.amends)
        volume_id, needle_id = needle.volume_id, needle.needle_id
        current = self._current(needle.bucket_id, needle.key)
        more = NO_ATTRIBUTES
        if needle.attributes:
            try:
                more = self._attribute_columns(needle)
            except (BadMetadata, BadRequest) as error:
                return self._answered_before(needle) or self._refuse(needle, "void", error)
        if more[0] is None:
            committed = CommitResult(etag_of(volume_id, needle_id, needle.crc))
        else:
            committed = CommitResult(etag_of_md5(more[0], more[1]))
        if current is None and needle.if_match is None and self._commit_new(needle, more):
            return committed
        if current is not None and current.volume_id == volume_id and current.needle_id == needle_id:
            return committed
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
            *more[:4],
            needle.attributes,
        )
        try:
            above = self._make_visible(row, current, needle.if_match, needle.if_none_match)
        except NoSuchBucket as error:
            return self._refuse(needle, "void", error)
        except PreconditionFailed as error:
            return self._refuse(needle, "unmet", error)
        except QuotaExceeded as error:
            return self._refuse(needle, "over_quota", error)
        except sqlite3.IntegrityError:  # the index of needles: nothing was changed
            return CommitResult(
                error=NeedleExists(f"needle {needle_id} of volume {volume_id} belongs to another object")
            )
        if above is not None:
            return CommitResult(restamp_above=above)
        return committed

    def _attribute_columns(self, needle: StoredNeedle) -> MoreColumns:
        """
        Raises:
            BadMetadata: the attributes of this needle cannot be read.
            BadRequest: they name an owner that is not whose key the put was made with.
        """
        attributes = decode_attributes(needle.attributes)
        owner_id = attributes.owner_id
        if owner_id and owner_id != self._account_of_key(needle.key_id):
            raise BadRequest("an object belongs to the account of the key that puts it, or to nobody")
        return (
            attributes.md5,
            attributes.part_count,
            self._owner_column(needle.bucket_id, owner_id),
            attributes.version_id,
            needle.attributes,
            False,
        )

    def _commit_new(self, needle: StoredNeedle, more: MoreColumns) -> bool:
        """Make the needle visible in one statement, if it is the usual case: an object that did not exist.

        Returns:
            Whether it is visible now.  If not, nothing was changed, and the caller finds out why.
        """
        bucket_id, key, stamp = needle.bucket_id, needle.key, needle.stamp
        if stamp <= self._deletion_stamps.bound(bucket_id, key) or not self._is_live(bucket_id):
            return False
        if self._quotas and not self._has_room(bucket_id, 1, needle.size):
            return False
        columns: PlainColumns = (
            bucket_id,
            key,
            needle.size,
            stamp,
            needle.created_ms,
            pack_content_type(needle.content_type),
            needle.volume_id,
            needle.needle_id,
            needle.crc,
            1,
            None,
            pack_map(needle.metadata) if needle.metadata else None,
        )
        if more is NO_ATTRIBUTES:
            inserted = self._execute(INSERT_NEW_PLAIN, columns)
        else:
            inserted = self._execute(INSERT_NEW, columns + more)
        if inserted.rowcount == 0:
            return False
        self._count(bucket_id, 1, needle.size)
        self._see_stamp(stamp)
        return True

    def resolve_needle(
        self,
        bucket_id: int,
        key: str,
        volume_id: int,
        needle_id: int,
        stamp: int,
        issued_ms: int | None = None,
    ) -> bool:
        current = self._current(bucket_id, key)
        if current is not None and (volume_id, needle_id) in (current[:2], self._amendment_of(current)):
            return True
        reason = self._reason(volume_id, needle_id)
        if reason is not None:
            return WAS_COMMITTED[reason]
        self._require_handed_out(volume_id, needle_id)
        if self._has_owner(volume_id, needle_id):
            raise BadRequest(f"needle {needle_id} of volume {volume_id} was not written for this key")
        if issued_ms is not None and self._may_be_forgotten(issued_ms):
            raise OutcomeUnknown(
                f"needle {needle_id} of volume {volume_id} was handed out too long ago: the catalog has"
                " forgotten whether it was ever visible; it is not visible now"
            )
        self._discard([(volume_id, needle_id)], stamp, "void")
        return False

    def delete_objects(
        self, bucket_id: int, keys: Sequence[str], *, if_match: str | None = None, stamp: int
    ) -> list[bool]:
        existed = []
        for key in keys:
            if if_match is not None:
                self._require_match(bucket_id, key, if_match)
            deleted_at = self._delete_object(bucket_id, key, stamp)
            existed.append(deleted_at is not None)
            if deleted_at is not None:
                self._deletion_stamps.remember(bucket_id, key, deleted_at)
        return existed

    def _require_match(self, bucket_id: int, key: str, if_match: str) -> None:
        current = self._current(bucket_id, key)
        if current is not None:
            try:
                require_conditions(if_match, None, current.etag)
            except PreconditionFailed as error:
                raise PreconditionFailed(f"object {key!r}: {error.message}") from error

    def _require_handed_out(self, volume_id: int, needle_id: int) -> None:
        found = self._one("SELECT needle_id_reserved FROM volumes WHERE id = ?", (volume_id,))
        if found is None:
            raise NoSuchVolume(f"there is no volume {volume_id}")
        if not 1 <= needle_id <= found[0]:
            raise BadRequest(f"needle {needle_id} of volume {volume_id} was never handed out")
