"""Registry: the part of a transaction that deals with disks and volumes."""

from __future__ import annotations

import secrets
import sqlite3

from warehouse.catalog.records import NEEDLE_ID_MAX, VOLUME_ID_MAX
from warehouse.catalog.sqlite.bucket_notes import BucketNotes
from warehouse.errors import BadRequest

CATALOG_ID_BITS = 62
CATALOG_ID_META = "catalog_id"
VOLUME_IDS_SKIPPED = 1000  # a later, lost state of this catalog may have given these out


class Registry(BucketNotes):
    """Mixed into `Transaction`."""

    # --- disks and volumes ------------------------------------------------------------------------

    def add_disk(self, disk_id: str, name: str, added_ms: int) -> None:
        if self._execute("UPDATE disks SET name = ? WHERE id = ?", (name, disk_id)).rowcount == 0:
            self._execute(
                "INSERT INTO disks (id, name, added_ms) VALUES (?, ?, ?)", (disk_id, name, added_ms)
            )
            self._note_buckets_for(disk_id)

    def set_disk_epoch(
        self, disk_id: str, before: tuple[int, int], after: tuple[int, int], *, catalog_id: int = 0
    ) -> bool:
        changed = self._execute(
            "UPDATE disks SET epoch = ?, mark = ?, catalog_id = ? WHERE id = ? AND epoch = ? AND mark = ?",
            (*after, catalog_id, disk_id, *before),
        )
        return changed.rowcount == 1

    def begin_lineage(self) -> None:
        self._execute(
            "UPDATE disks SET catalog_id = coalesce((SELECT value FROM facts WHERE name = ?), 0)"
            " WHERE catalog_id = 0",
            (CATALOG_ID_META,),
        )
        self._execute(
            "INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)",
            (CATALOG_ID_META, secrets.randbits(CATALOG_ID_BITS) | 1),
        )

    def add_volume(
        self,
        volume_id: int | None,
        uuid: str,
        capacity: int,
        disk_id: str,
        *,
        state: str = "creating",
        created_ms: int = 0,
    ) -> int:
        if volume_id is not None and not 1 <= volume_id <= VOLUME_ID_MAX:
            raise BadRequest(f"a volume id is from 1 to {VOLUME_ID_MAX}, not {volume_id}")
        if volume_id is None:
            volume_id = self._id_below_the_end()
        try:
            cursor = self._execute(
                "INSERT INTO volumes (id, uuid, capacity, state, created_ms) VALUES (?, ?, ?, ?, ?)",
                (volume_id, uuid, capacity, state, created_ms),
            )
        except sqlite3.IntegrityError as error:
            raise BadRequest(f"volume {volume_id} or its uuid {uuid} is already known") from error
        new_id = cursor.lastrowid
        assert new_id is not None
        self._execute("INSERT INTO copies (volume_id, disk_id) VALUES (?, ?)", (new_id, disk_id))
        return new_id

    def _id_below_the_end(self) -> int | None:
        """The id of the next volume if the ids have reached their end; None if they have not.

        A rebuild keeps the ids that it finds.  One disk with a volume of the greatest id must not keep the
        store from making new volumes forever.
        """
        last = self._one("SELECT seq FROM sqlite_sequence WHERE name = 'volumes'")
        if last is None or last[0] < VOLUME_ID_MAX:
            return None
        for below in (2**31, 2**31 + 2**30, VOLUME_ID_MAX):
            (highest,) = self._one("SELECT max(id) FROM volumes WHERE id < ?", (below,))
            if (highest or 0) + VOLUME_IDS_SKIPPED < below:
                return int(highest or 0) + VOLUME_IDS_SKIPPED
        raise BadRequest(f"no volume id up to {VOLUME_ID_MAX} is left")

    def drop_unmade_volume(self, volume_id: int) -> bool:
        dropped = self._execute("DELETE FROM volumes WHERE id = ? AND state = 'creating'", (volume_id,))
        if dropped.rowcount == 0:
            return False
        self._execute("DELETE FROM copies WHERE volume_id = ?", (volume_id,))
        return True

    def set_volume_state(self, volume_id: int, state: str) -> None:
        self._change_volume("UPDATE volumes SET state = ? WHERE id = ?", state, volume_id)

    def reserve_needle_ids(self, volume_id: int, last_id: int) -> None:
        if not 0 <= last_id <= NEEDLE_ID_MAX:
            raise BadRequest(f"needle ids go up to {NEEDLE_ID_MAX}, not {last_id}")
        self._change_volume(
            "UPDATE volumes SET needle_id_reserved = max(needle_id_reserved, ?) WHERE id = ?",
            last_id,
            volume_id,
        )

    def set_volume_created(self, volume_id: int, created_ms: int) -> None:
        self._change_volume("UPDATE volumes SET created_ms = ? WHERE id = ?", created_ms, volume_id)

    def skip_ids(self, *, buckets_to: int, volumes: int) -> None:
        for table, seq, value in (("buckets", "max(seq, ?)", buckets_to), ("volumes", "seq + ?", volumes)):
            sql = f"UPDATE sqlite_sequence SET seq = {seq} WHERE name = ?"
            if self._execute(sql, (value, table)).rowcount == 0:
                self._execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, value))
