"""Amendments: the part of a transaction that changes the attributes of a version.

The needle of such a change holds all attributes of the version from then on, and names the version by its
first needle.  The row of the object has them, too.  Of several changes of one version the latest counts; it
is garbage as soon as its version is.  Size, time, stamp and ETag of the object stay.
"""

from __future__ import annotations

from warehouse.catalog.records import CommitResult
from warehouse.catalog.sqlite.bookkeeping import WAS_COMMITTED, Bookkeeping, Current
from warehouse.catalog.sqlite.columns import AMENDMENT_COLUMNS, insert
from warehouse.errors import (
    BadMetadata,
    BadRequest,
    NeedleExists,
    NoSuchBucket,
    NoSuchObject,
    PreconditionFailed,
)
from warehouse.transport.http.conditions import require_conditions
from warehouse.transport.messages import StoredNeedle
from warehouse.transport.messages.attributes import decode_attributes

_LATEST = (
    "SELECT volume_id, needle_id, stamp FROM amendments WHERE target_volume_id = ? AND target_needle_id = ?"
)
_ATTRIBUTES = "SELECT attributes FROM objects WHERE bucket_id = ? AND key = ?"
_AMEND = "UPDATE objects SET attributes = ?, is_amended = 1 WHERE bucket_id = ? AND key = ?"
_INSERT = insert("amendments", AMENDMENT_COLUMNS)


class Amendments(Bookkeeping):
    """Mixed into `Transaction`."""

    def _amendment_of(self, version: Current) -> tuple[int, int] | None:
        """The needle that the attributes of a version are from; None: from the version's own."""
        found = self._one(_LATEST, version[:2]) if version.is_amended else None
        return None if found is None else (found[0], found[1])

    def _amend(self, needle: StoredNeedle, target: tuple[int, int]) -> CommitResult:
        place = needle.volume_id, needle.needle_id
        current = self._current(needle.bucket_id, needle.key)
        if current is not None and self._amendment_of(current) == place:
            return CommitResult(current.etag)
        reason = self._reason(*place)
        if reason is not None and WAS_COMMITTED[reason]:
            return CommitResult(_etag_told(needle))
        answer = self._answered_before(needle)
        if answer is not None:
            return answer
        if self._has_owner(*place):
            return CommitResult(
                error=NeedleExists(f"needle {place[1]} of volume {place[0]} belongs to another object")
            )
        if not self._is_live(needle.bucket_id):
            return self._refuse(needle, "void", NoSuchBucket("the bucket was deleted"))
        if current is None:
            return self._refuse(needle, "unmet", NoSuchObject(f"there is no object {needle.key!r}"))
        try:
            if current[:2] != target:
                raise PreconditionFailed(f"object {needle.key!r} is another version by now")
            require_conditions(needle.if_match, needle.if_none_match, current.etag)
        except PreconditionFailed as error:
            return self._refuse(needle, "unmet", error)
        try:
            self._require_amendable(needle, current)
        except (BadMetadata, BadRequest) as error:
            return self._refuse(needle, "void", error)
        former = self._one(_LATEST, target)
        if former is not None and needle.stamp <= former[2]:
            return CommitResult(restamp_above=former[2])
        self._discard(self._take_amendment(*target), needle.stamp, "replaced")
        self._execute(_INSERT, (*place, *target, needle.stamp))
        self._execute(_AMEND, (needle.attributes or None, needle.bucket_id, needle.key))
        self._see_stamp(needle.stamp)
        return CommitResult(current.etag)

    def _require_amendable(self, needle: StoredNeedle, current: Current) -> None:
        """
        Raises:
            BadMetadata: they cannot be read.
            BadRequest: they change what no amendment may change.
        """
        new = decode_attributes(needle.attributes)
        (encoded,) = self._one(_ATTRIBUTES, (needle.bucket_id, needle.key))
        old = decode_attributes(encoded or b"")
        if (new.md5, new.part_count) != (current.md5, current.part_count):
            raise BadRequest("the ETag of an object stays, whatever changes in its attributes")
        if new.owner_id != old.owner_id or new.version_id != old.version_id:
            raise BadRequest("the owner and the version id of an object stay, whatever else changes")


def _etag_told(needle: StoredNeedle) -> str:
    """The ETag of a version that is gone, as the needle that amended it tells."""
    stored = decode_attributes(needle.attributes).etag
    return stored or (needle.if_match or "").strip('"')
