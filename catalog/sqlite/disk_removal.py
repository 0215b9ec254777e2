"""Disk removal: the part of a transaction that forgets a disk which is gone for good.

A piece at a time: first the objects and uploads that need a needle of a volume, then its garbage, then the
volume itself; after the last volume the disk.  What a piece leaves is a sound catalog, and the fact that the
removal has begun is in it from the first one on.  So it can go on after a crash, and the disk is refused.

An object does not need its manifest to be read: the catalog has all that it says.  So an object that loses
its manifest alone stays.  A rebuild from the disks would not find it, so it is counted.
"""

from __future__ import annotations

from warehouse.catalog.records import REMOVED_DISK_META, DiskRemoval
from warehouse.catalog.sqlite.bookkeeping import Bookkeeping
from warehouse.catalog.sqlite.cross_check import IS_FIRST
from warehouse.transport.messages.attributes import MANIFEST_INDEX

PIECE = 500  # objects, or needles of them, in one transaction: as many as in one piece of a bucket
_ROWS = 5000  # rows that name no object
_VOLUME_COST = 10  # of an empty volume, in objects

_OBJECTS = (
    "SELECT bucket_id, key, size, chunk_count FROM objects WHERE volume_id = ? ORDER BY needle_id LIMIT ?"
)
_OBJECT_OF_CHUNKS = (
    "SELECT objects.bucket_id, objects.key, objects.size FROM chunks AS first"
    " JOIN objects ON objects.volume_id = first.volume_id AND objects.needle_id = first.needle_id"
    f" WHERE first.upload_id = ?1 AND {IS_FIRST} AND objects.upload_id = ?1"
)
_HAS_CHUNKS_ON = (
    "SELECT 1 FROM chunks JOIN copies USING (volume_id) WHERE upload_id = ? AND disk_id = ? LIMIT 1"
)

_FORGET_MANIFEST = f"DELETE FROM chunks WHERE upload_id = ? AND chunk_index = {MANIFEST_INDEX}"


class DiskRemovals(Bookkeeping):
    """Mixed into `Transaction`."""

    def remove_disk(self, disk_id: str, *, removed_ms: int, stamp: int) -> DiskRemoval:
        self._execute(
            "INSERT OR IGNORE INTO facts (name, value) VALUES (?, ?)",
            (REMOVED_DISK_META + disk_id, removed_ms),
        )
        done = DiskRemoval()
        cost = 0
        while cost < PIECE:
            volume = self._one("SELECT volume_id FROM copies WHERE disk_id = ? LIMIT 1", (disk_id,))
            if volume is None:
                done.is_done = self._forget_disk(disk_id, removed_ms)
                break
            if not self._empty_volume(volume[0], disk_id, stamp, done):
                break
            cost += _VOLUME_COST + done.object_count
        return done

    def _empty_volume(self, volume_id: int, disk_id: str, stamp: int, done: DiskRemoval) -> bool:
        """Do a piece of what is left in a volume; return whether nothing was left, and it is forgotten."""
        copies = self._one("SELECT count(*) FROM copies WHERE volume_id = ?", (volume_id,))
        if copies[0] > 1:  # another disk has all of it
            self._execute("DELETE FROM copies WHERE volume_id = ? AND disk_id = ?", (volume_id, disk_id))
            return True
        if self._lose_objects(volume_id, stamp, done):
            return False
        if self._lose_chunks(volume_id, disk_id, stamp, done):
            return False
        if self._forget_garbage(volume_id):
            return False
        if self._lose_amendments(volume_id):
            return False
        for table, column in (("damages", "volume_id"), ("jobs", "volume_id"), ("copies", "volume_id")):
            self._execute(f"DELETE FROM {table} WHERE {column} = ?", (volume_id,))
        self._execute("DELETE FROM volumes WHERE id = ?", (volume_id,))
        return True

    def _lose_objects(self, volume_id: int, stamp: int, done: DiskRemoval) -> bool:
        """Delete some objects that begin in a volume; return whether there were any."""
        needles = 0
        found = self._execute(_OBJECTS, (volume_id, PIECE)).fetchall()
        for bucket_id, key, size, chunk_count in found:
            self._lose(bucket_id, key, size, stamp, done)
            needles += chunk_count
            if needles >= PIECE:
                break
        return bool(found)

    def _lose_chunks(self, volume_id: int, disk_id: str, stamp: int, done: DiskRemoval) -> bool:
        """Give up some objects and uploads with chunks in a volume; return whether there were any.

        What has but its manifest there stays: an unfinished upload can be finished with another one.
        """
        rows = self._execute(
            "SELECT upload_id, chunk_index FROM chunks WHERE volume_id = ? ORDER BY needle_id LIMIT ?",
            (volume_id, PIECE),
        ).fetchall()
        manifests = [(upload_id,) for upload_id, chunk_index in rows if chunk_index == MANIFEST_INDEX]
        self._executemany(_FORGET_MANIFEST, manifests)
        for (upload_id,) in manifests:
            self._count_if_whole(upload_id, disk_id, done)
        needles = len(manifests)
        for upload_id in dict.fromkeys(upload_id for upload_id, index in rows if index != MANIFEST_INDEX):
            if needles >= PIECE:
                break
            needles += self._one("SELECT count(*) FROM chunks WHERE upload_id = ?", (upload_id,))[0]
            self._lose_upload(upload_id, stamp, done)
        return bool(rows)

    def _count_if_whole(self, upload_id: int, disk_id: str, done: DiskRemoval) -> None:
        """Count an object that has lost its manifest, unless it is about to be lost with a chunk."""
        if self._one(_HAS_CHUNKS_ON, (upload_id, disk_id)) is not None:
            return
        if self._one(_OBJECT_OF_CHUNKS, (upload_id,)) is not None:
            done.manifest_count += 1

    def _lose_amendments(self, volume_id: int) -> bool:
        """Forget some amendments in a volume; return whether there were any.

        Objects keep their attributes; a rebuild finds those that they were put with.
        """
        targets = self._execute(
            "DELETE FROM amendments WHERE volume_id = ?1 AND needle_id IN"
            " (SELECT needle_id FROM amendments WHERE volume_id = ?1 LIMIT ?2)"
            " RETURNING target_volume_id, target_needle_id",
            (volume_id, PIECE),
        ).fetchall()
        self._executemany("UPDATE objects SET is_amended = 0 WHERE volume_id = ? AND needle_id = ?", targets)
        return bool(targets)

    def _lose_upload(self, upload_id: int, stamp: int, done: DiskRemoval) -> None:
        found = self._one(_OBJECT_OF_CHUNKS, (upload_id,))
        if found is not None:
            bucket_id, key, size = found
            self._lose(bucket_id, key, size, stamp, done)
            return
        if self._one("DELETE FROM uploads WHERE id = ? RETURNING id", (upload_id,)) is not None:
            done.upload_ids.append(upload_id)
        self._discard(self._take_chunks(upload_id), stamp, "aborted")
        self._forget_parts(upload_id)

    def _lose(self, bucket_id: int, key: str, size: int, stamp: int, done: DiskRemoval) -> None:
        deleted_at = self._delete_object(bucket_id, key, stamp)
        if deleted_at is None:
            return
        self._deletion_stamps.remember(bucket_id, key, deleted_at)
        if self._is_live(bucket_id):
            done.object_count += 1
            done.byte_count += size

    def _forget_garbage(self, volume_id: int) -> bool:
        """Forget some garbage of a volume, that waits or is tombstoned; return whether there was any."""
        cleared = self._execute(
            "DELETE FROM outbox WHERE volume_id = ?1 AND needle_id IN"
            " (SELECT needle_id FROM outbox WHERE volume_id = ?1 LIMIT ?2)",
            (volume_id, _ROWS),
        ).rowcount
        self._garbage_deltas[volume_id] = self._garbage_deltas.get(volume_id, 0) - cleared
        forgotten = self._execute(
            "DELETE FROM buried WHERE volume_id = ?1 AND needle_id IN"
            " (SELECT needle_id FROM buried WHERE volume_id = ?1 LIMIT ?2)",
            (volume_id, _ROWS),
        ).rowcount
        return cleared + forgotten >= _ROWS

    def _forget_disk(self, disk_id: str, removed_ms: int) -> bool:
        """Forget a disk without volumes, or a piece of its notes; return whether it is forgotten."""
        notes = self._execute(
            "DELETE FROM bucket_notes WHERE disk_id = ?1 AND bucket_id IN"
            " (SELECT bucket_id FROM bucket_notes WHERE disk_id = ?1 LIMIT ?2)",
            (disk_id, _ROWS),
        ).rowcount
        if notes >= _ROWS:
            return False
        found = self._one("DELETE FROM disks WHERE id = ? RETURNING node_key", (disk_id,))
        self._execute(
            "UPDATE nodes SET removed_ms = ? WHERE removed_ms IS NULL AND (key = ? OR disk_id = ?)"
            " AND NOT EXISTS (SELECT 1 FROM disks WHERE node_key = nodes.key)",
            (removed_ms, None if found is None else found[0], disk_id),
        )
        return True
