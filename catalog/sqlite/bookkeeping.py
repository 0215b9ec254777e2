"""Bookkeeping: what every change of the catalog has to keep straight.

An object comes from a put or an upload, and goes by a delete, by an overwrite or with its bucket.  In every
case its needles change hands as a whole, the sums of its bucket follow, and needles that nothing names any
more wait in the outbox.  All three live here, so that no caller can forget one.

The sums (objects and bytes of a bucket, garbage of a volume, the greatest stamp) are collected in memory
and written once, just before the commit.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from warehouse.catalog.interface import TransactionBroken
from warehouse.catalog.quotas import Quota
from warehouse.catalog.records import CommitResult, ObjectRow, needle_etag, version_etag
from warehouse.catalog.sqlite import recent_tombstones
from warehouse.catalog.sqlite.columns import (
    GARBAGE_COLUMNS,
    OBJECT_COLUMNS,
    PLAIN_COLUMNS,
    insert,
    marks,
    names_of,
    object_columns,
    plain_columns,
)
from warehouse.catalog.sqlite.deletion_stamps import DeletionStamps
from warehouse.catalog.sqlite.recent_tombstones import RecentTombstones
from warehouse.errors import (
    BadRequest,
    NeedleExists,
    NeedleVoid,
    NoSuchBucket,
    NoSuchVolume,
    PreconditionFailed,
    QuotaExceeded,
    StoreError,
)
from warehouse.transport.http.conditions import require_conditions
from warehouse.transport.messages import StoredNeedle

STAMP_MS_SHIFT = 16  # a stamp is milliseconds and a counter of 16 bits
FORGOTTEN_META = "buried_forgotten_ms"  # needles tombstoned up to then may be forgotten
_FORGOTTEN = (
    "INSERT INTO facts (name, value) VALUES (?, ?)"
    " ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)"
)

# Reasons of garbage: was the needle visible once?
WAS_COMMITTED = {
    **dict.fromkeys(("replaced", "deleted"), True),
    **dict.fromkeys(("void", "unmet", "over_quota", "aborted"), False),
}

# What replacing a version needs to know of it.
_CURRENT_COLUMNS = (
    "volume_id, needle_id, stamp, size, crc, chunk_count, upload_id, md5, part_count, is_amended,"
    " attributes IS NOT NULL"
)
_CURRENT = f"SELECT {_CURRENT_COLUMNS} FROM objects WHERE bucket_id = ? AND key = ?"


class Current(NamedTuple):
    """The visible version of a key."""

    volume_id: int
    needle_id: int
    stamp: int
    size: int
    crc: int
    chunk_count: int
    upload_id: int | None
    md5: bytes | None
    part_count: int | None
    is_amended: int
    has_attributes: int

    @property
    def etag(self) -> str:
        place = self.volume_id, self.needle_id, self.crc
        return version_etag(self.md5, self.part_count, *place, self.chunk_count)


_BUCKET = (
    "SELECT name, object_count, byte_count, quota_objects, quota_bytes, owner_id FROM buckets"
    " WHERE id = ? AND name IS NOT NULL"
)
_FATE = (
    "SELECT reason FROM outbox WHERE volume_id = ?1 AND needle_id = ?2"
    " UNION ALL SELECT reason FROM buried WHERE volume_id = ?1 AND needle_id = ?2"
)
_OWNER = " UNION ALL ".join(
    f"SELECT 1 FROM {table} WHERE volume_id = ?1 AND needle_id = ?2"
    for table in ("objects", "chunks", "amendments")
)
_INSERT = insert("objects", OBJECT_COLUMNS)


def _insert_new(columns: str) -> str:
    places = {name: f"?{number}" for number, name in enumerate(names_of(columns), 1)}
    needle = f"volume_id = {places['volume_id']} AND needle_id = {places['needle_id']}"
    return (
        f"INSERT OR IGNORE INTO objects ({columns}) SELECT {', '.join(places.values())}"
        f" WHERE NOT EXISTS (SELECT 1 FROM outbox WHERE {needle})"
        f" AND NOT EXISTS (SELECT 1 FROM buried WHERE {needle})"
    )


# The same for the usual case: no object has that name, and the needle is free: no object's, and not garbage.
INSERT_NEW = _insert_new(OBJECT_COLUMNS)
INSERT_NEW_PLAIN = _insert_new(PLAIN_COLUMNS)
_NAME_COLUMNS = "bucket_id, key, "


def _update(columns: str) -> str:
    version = columns.removeprefix(_NAME_COLUMNS)
    return f"UPDATE objects SET ({version}) = ({marks(version)}) WHERE bucket_id = ? AND key = ?"


_UPDATE = _update(OBJECT_COLUMNS)
_UPDATE_PLAIN = _update(PLAIN_COLUMNS)  # neither of the versions has attributes
_DELETE = f"DELETE FROM objects WHERE bucket_id = ? AND key = ? RETURNING {_CURRENT_COLUMNS}"
_REMEMBER = (
    "INSERT OR REPLACE INTO buried (volume_id, needle_id, reason)"
    " SELECT volume_id, needle_id, reason FROM outbox WHERE volume_id = ? AND needle_id = ?"
)
_CLEAR = "DELETE FROM outbox WHERE volume_id = ? AND needle_id = ?"
DISCARD = insert("outbox", GARBAGE_COLUMNS) + " ON CONFLICT DO NOTHING"


class Bookkeeping:
    """Base of `Transaction`; everything here happens between BEGIN and COMMIT."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        random_id: Callable[[], int],
        now_ms: Callable[[], int],
        stamp_max: int,
        deletion_stamps: DeletionStamps,
        recent_tombstones: RecentTombstones,
    ) -> None:
        self._execute = connection.execute
        self._executemany = connection.executemany
        self._random_id = random_id
        self._now_ms = now_ms
        self._deletion_stamps = deletion_stamps
        self._recent_tombstones = recent_tombstones
        self._bucket_deltas: dict[int, tuple[int, int]] = {}  # bucket id -> objects, bytes
        self._garbage_deltas: dict[int, int] = {}  # volume id -> needles
        self._live_buckets: dict[int, bool] = {}
        self._quotas: dict[int, Quota] = {}  # of live buckets that have one
        self._owners: dict[int, str] = {}  # account ids of live buckets
        self._accounts: dict[str, str] = {}  # account ids of API keys
        self.garbage_in: set[int] = set()
        self.stamp_max = stamp_max
        self.is_purge_left: bool | None = None  # None: this transaction has not looked

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        before = (self._bucket_deltas.copy(), self._garbage_deltas.copy(), self.stamp_max)
        try:
            self._execute("SAVEPOINT request")
            try:
                yield
            except BaseException as error:
                # A broken constraint is the fault of this one request; SQLite has undone that statement
                # alone.  After any other error of its own SQLite may have rolled back everything.
                if isinstance(error, sqlite3.Error) and not isinstance(error, sqlite3.IntegrityError):
                    raise
                self._execute("ROLLBACK TO request")
                self._execute("RELEASE request")
                self._bucket_deltas, self._garbage_deltas, self.stamp_max = before
                self._forget_buckets()
                self.is_purge_left = True  # perhaps; looking once too often costs nothing
                if isinstance(error, OverflowError):
                    raise BadRequest("a number in this request does not fit into 64 bits") from error
                if isinstance(error, sqlite3.IntegrityError):
                    raise BadRequest(f"this request contradicts what is in the catalog: {error}") from error
                raise
            self._execute("RELEASE request")
        except sqlite3.Error as error:  # also of the savepoint's own statements
            raise TransactionBroken from error

    def flush(self) -> None:
        """Write the sums; the last step before COMMIT."""
        for bucket_id, (object_count, byte_count) in self._bucket_deltas.items():
            self._execute(
                "UPDATE buckets SET object_count = object_count + ?, byte_count = byte_count + ?"
                " WHERE id = ?",
                (object_count, byte_count, bucket_id),
            )
        for volume_id, count in self._garbage_deltas.items():
            self._execute(
                "UPDATE volumes SET garbage_count = garbage_count + ? WHERE id = ?", (count, volume_id)
            )
        self._execute(
            "UPDATE facts SET value = ?1 WHERE name = 'stamp_max' AND value < ?1", (self.stamp_max,)
        )
        self._bucket_deltas.clear()
        self._garbage_deltas.clear()

    def _one(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """The only row of a query, or None."""
        return self._execute(sql, parameters).fetchone()

    def _count(self, bucket_id: int, object_count: int, byte_count: int) -> None:
        objects, size = self._bucket_deltas.get(bucket_id, (0, 0))
        self._bucket_deltas[bucket_id] = (objects + object_count, size + byte_count)

    def _see_stamp(self, stamp: int) -> None:
        if stamp > self.stamp_max:
            self.stamp_max = stamp

    def _is_live(self, bucket_id: int) -> bool:
        """Does this bucket exist, and is it not being deleted?  Asked once for each transaction."""
        known = self._live_buckets.get(bucket_id)
        if known is None:
            found = self._one(_BUCKET, (bucket_id,))
            known = self._live_buckets[bucket_id] = found is not None
            if found is not None:
                *quota, self._owners[bucket_id] = found
                if quota[3:] != [None, None]:
                    self._quotas[bucket_id] = Quota(*quota)
        return known

    def _forget_buckets(self) -> None:
        """What was read of buckets may not be so any more."""
        self._live_buckets.clear()
        self._quotas.clear()
        self._owners.clear()
        self._accounts.clear()

    # --- quotas -----------------------------------------------------------------------------------

    def _has_room(self, bucket_id: int, object_count: int, byte_count: int) -> bool:
        """May this live bucket (see `_is_live`) grow by that much?"""
        return self._over_quota(bucket_id, object_count, byte_count) is None

    def _require_room(self, bucket_id: int, object_count: int, byte_count: int) -> None:
        """
        Raises:
            QuotaExceeded
        """
        if (why := self._over_quota(bucket_id, object_count, byte_count)) is not None:
            raise QuotaExceeded(why)

    def _require_room_unseen(self, bucket_id: int, *, is_new: bool, size: int) -> None:
        """As `Quota.early_refusal_unseen`, for this live bucket.

        Raises:
            QuotaExceeded
        """
        quota = self._quotas.get(bucket_id)
        if quota is None:
            return
        why = quota.early_refusal_unseen(*self._held(bucket_id, quota), is_new=is_new, size=size)
        if why is not None:
            raise QuotaExceeded(why)

    def _over_quota(self, bucket_id: int, object_count: int, byte_count: int) -> str | None:
        """Why this live bucket may not grow by that much; None: it may.

        What this transaction has changed so far counts, as its sums are written at its end.
        """
        quota = self._quotas.get(bucket_id)
        if quota is None:
            return None
        return quota.refusal(*self._held(bucket_id, quota), object_count, byte_count)

    def _held(self, bucket_id: int, quota: Quota) -> tuple[int, int]:
        """How many objects and bytes the bucket holds now."""
        objects, size = self._bucket_deltas.get(bucket_id, (0, 0))
        return quota.object_count + objects, quota.byte_count + size

    def _change_volume(self, sql: str, *values: int | str) -> None:
        """Run an UPDATE whose last parameter is a volume's id."""
        if self._execute(sql, values).rowcount == 0:
            raise NoSuchVolume(f"there is no volume {values[-1]}")

    # --- owners -----------------------------------------------------------------------------------

    def _account_of_key(self, key_id: str) -> str:
        """The account of an API key; "": there is no such key.  Asked once for each transaction."""
        known = self._accounts.get(key_id)
        if known is None:
            found = self._one("SELECT account_id FROM api_keys WHERE id = ?", (key_id,))
            known = self._accounts[key_id] = "" if found is None else str(found[0])
        return known

    def _owner_column(self, bucket_id: int, owner_id: str) -> str | None:
        """What the row of an object says of its owner: nothing, if the bucket says it."""
        return (
            owner_id
            if owner_id and self._is_live(bucket_id) and owner_id != self._owners[bucket_id]
            else None
        )

    # --- versions ---------------------------------------------------------------------------------

    def _current(self, bucket_id: int, key: str) -> Current | None:
        found = self._one(_CURRENT, (bucket_id, key))
        return None if found is None else Current._make(found)

    def _make_visible(
        self, row: ObjectRow, current: Current | None, if_match: str | None, if_none_match: str | None
    ) -> int | None:
        """Put `row` in the place of `current`, whose needles become garbage.

        Returns:
            None; or the stamp that the new version must exceed first, and then nothing was changed.
        Raises:
            NoSuchBucket, PreconditionFailed, QuotaExceeded: it may not become visible.
        """
        if not self._is_live(row.bucket_id):
            raise NoSuchBucket("the bucket was deleted")
        if if_match is not None or if_none_match is not None:
            _require_conditions(if_match, if_none_match, current)
        if current is None:
            bound = self._deletion_stamps.bound(row.bucket_id, row.key)
            if row.stamp <= bound:
                return bound
            self._require_room(row.bucket_id, 1, row.size)
            self._execute(_INSERT, object_columns(row))
            self._count(row.bucket_id, 1, row.size)
        elif row.stamp <= current.stamp:
            return current.stamp
        else:
            self._require_room(row.bucket_id, 0, row.size - current.size)
            if row.attributes or current.has_attributes or current.is_amended:
                bucket_id, key, *version = object_columns(row)
                self._execute(_UPDATE, (*version, bucket_id, key))
            else:
                bucket_id, key, *version = plain_columns(row)
                self._execute(_UPDATE_PLAIN, (*version, bucket_id, key))
            self._count(row.bucket_id, 0, row.size - current.size)
            self._discard(self._take_needles(current), row.stamp, "replaced")
        self._see_stamp(row.stamp)
        return None

    def _delete_object(self, bucket_id: int, key: str, stamp: int) -> int | None:
        """Take an object away, with a greater stamp than its own and at least `stamp`.

        Returns:
            The stamp that the deletion got; None if there was no such object.
        """
        found = self._one(_DELETE, (bucket_id, key))
        if found is None:
            return None
        version = Current._make(found)
        # The version may have been committed after the request got its stamp, or have it from a clock that
        # was ahead.
        deleted_at: int = max(stamp, version.stamp + 1)
        self._count(bucket_id, -1, -version.size)
        self._discard(self._take_needles(version), deleted_at, "deleted")
        return deleted_at

    def _take_needles(self, version: Current) -> list[tuple[int, int]]:
        """All needles of one version; its rows in other tables are gone afterwards."""
        first = version.volume_id, version.needle_id
        needles = [] if version.upload_id is None else self._take_chunks(version.upload_id)
        if not needles:  # the rows of chunks name the first one, too
            needles = [first]
        if version.part_count is not None and version.upload_id is not None:
            self._forget_parts(version.upload_id)
        if version.is_amended:
            needles += self._take_amendment(*first)
        return needles

    def _take_amendment(self, volume_id: int, needle_id: int) -> list[tuple[int, int]]:
        """The needle that changed the attributes of the version with this first needle; its row is gone."""
        return self._execute(
            "DELETE FROM amendments WHERE target_volume_id = ? AND target_needle_id = ?"
            " RETURNING volume_id, needle_id",
            (volume_id, needle_id),
        ).fetchall()

    def _forget_parts(self, upload_id: int) -> None:
        self._execute("DELETE FROM parts WHERE upload_id = ?", (upload_id,))

    def _take_chunks(self, upload_id: int) -> list[tuple[int, int]]:
        taken = self._execute(
            "DELETE FROM chunks WHERE upload_id = ? RETURNING volume_id, needle_id", (upload_id,)
        )
        return taken.fetchall()

    # --- garbage ----------------------------------------------------------------------------------

    def clear_outbox(
        self, volume_id: int, needle_ids: Sequence[int], *, now_s: float = 0.0, now_ms: int = 0
    ) -> None:
        needles = [(volume_id, needle_id) for needle_id in needle_ids]
        if self._executemany(_REMEMBER, needles).rowcount > 0:
            cleared = self._executemany(_CLEAR, needles).rowcount
            self._garbage_deltas[volume_id] = self._garbage_deltas.get(volume_id, 0) - cleared
            (sequence,) = self._one("SELECT max(sequence) FROM buried")
            self._recent_tombstones.note(sequence, now_s)
            self._forget_tombstoned(sequence, now_s, now_ms)

    def _forget_tombstoned(self, sequence: int, now_s: float, now_ms: int) -> None:
        """Forget the oldest of many tombstoned needles, and note how far the memory reaches back."""
        old = min(sequence - recent_tombstones.TOMBSTONED_MAX, self._recent_tombstones.old(now_s))
        last = max(old, sequence - recent_tombstones.TOMBSTONED_LIMIT)
        if last > 0 and self._execute("DELETE FROM buried WHERE sequence <= ?", (last,)).rowcount > 0:
            forgotten_ms = now_ms - (int(recent_tombstones.TOMBSTONED_S * 1000) if last == old else 0)
            self._execute(_FORGOTTEN, (FORGOTTEN_META, forgotten_ms))

    def _may_be_forgotten(self, issued_ms: int) -> bool:
        """Whether a needle handed out at that time may have been tombstoned and forgotten since then."""
        found = self._one("SELECT value FROM facts WHERE name = ?", (FORGOTTEN_META,))
        return found is not None and issued_ms <= found[0]

    def _discard(self, needles: Iterable[tuple[int, int]], stamp: int, reason: str) -> None:
        for volume_id, needle_id in needles:
            added = self._execute(DISCARD, (volume_id, needle_id, stamp, reason)).rowcount
            self._garbage_deltas[volume_id] = self._garbage_deltas.get(volume_id, 0) + added
            self.garbage_in.add(volume_id)
        self._see_stamp(stamp)

    def _reason(self, volume_id: int, needle_id: int) -> str | None:
        """Why a needle is garbage; None: it is not, or that was forgotten."""
        found = self._one(_FATE, (volume_id, needle_id))
        return None if found is None else str(found[0])

    def _has_owner(self, volume_id: int, needle_id: int) -> bool:
        return self._one(_OWNER, (volume_id, needle_id)) is not None

    # --- answers about one reported needle --------------------------------------------------------

    def _answered_before(self, needle: StoredNeedle) -> CommitResult | None:
        """The answer that this needle got when it became garbage; None: it is not garbage."""
        reason = self._reason(needle.volume_id, needle.needle_id)
        if reason is None:
            return None
        if WAS_COMMITTED[reason]:
            return CommitResult(needle_etag(needle))
        if not self._is_live(needle.bucket_id):
            return CommitResult(error=NoSuchBucket("the bucket was deleted"))
        if reason == "unmet":
            return CommitResult(error=PreconditionFailed("the condition of this put was not met"))
        if reason == "over_quota":
            return CommitResult(error=QuotaExceeded("the bucket had no room for this object"))
        return CommitResult(
            error=NeedleVoid(f"needle {needle.needle_id} of volume {needle.volume_id} was given up")
        )

    def _refuse(self, needle: StoredNeedle, reason: str, error: StoreError) -> CommitResult:
        """Make garbage of a needle that may not become visible, unless another object owns it."""
        if self._has_owner(needle.volume_id, needle.needle_id):
            error = NeedleExists(
                f"needle {needle.needle_id} of volume {needle.volume_id} belongs to another object"
            )
        else:
            self._discard([(needle.volume_id, needle.needle_id)], needle.stamp, reason)
        return CommitResult(error=error)


def _require_conditions(if_match: str | None, if_none_match: str | None, current: Current | None) -> None:
    require_conditions(if_match, if_none_match, None if current is None else current.etag)
