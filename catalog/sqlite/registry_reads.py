"""Registry reads: disks, volumes, jobs, damage records and meta."""

from __future__ import annotations

import msgspec

from warehouse.catalog.records import DiskRow, JobRow, LostRow, VolumeRow
from warehouse.catalog.sqlite.columns import (
    BUCKET_CONFIGS,
    DAMAGE_COLUMNS,
    DISK_COLUMNS,
    JOB_COLUMNS,
    NOTE_COLUMNS,
    VOLUME_COLUMNS,
    bucket_note,
    needle_damage,
    volume_rows,
)
from warehouse.catalog.sqlite.cross_check import IS_FIRST
from warehouse.catalog.sqlite.reader import Reader
from warehouse.catalog.sqlite.registry import CATALOG_ID_META
from warehouse.transport.messages import BucketNote, NeedleDamage
from warehouse.transport.messages.attributes import MANIFEST_INDEX

NOTED_CONFIGS_MAX = 1024 * 1024  # bytes of configurations in one answer, which goes into one message

_BEGIN_THERE = (
    "SELECT needle_id, volume_id, needle_id, bucket_id, key, size FROM objects"
    " WHERE volume_id = ? AND needle_id > ? ORDER BY needle_id LIMIT ?"
)
_HAVE_CHUNKS_THERE = (
    "SELECT lost.needle_id, objects.volume_id, objects.needle_id, bucket_id, key, objects.size"
    " FROM chunks AS lost"
    f" LEFT JOIN chunks AS first ON first.upload_id = lost.upload_id AND {IS_FIRST}"
    " LEFT JOIN objects ON objects.volume_id = first.volume_id AND objects.needle_id = first.needle_id"
    " AND objects.upload_id = lost.upload_id"
    f" WHERE lost.volume_id = ? AND lost.needle_id > ? AND lost.chunk_index < {MANIFEST_INDEX}"
    " ORDER BY lost.needle_id LIMIT ?"
)


class RegistryReads(Reader):
    """Part of `SqliteCatalog`."""

    def disks(self) -> list[DiskRow]:
        rows = self._all(f"SELECT {DISK_COLUMNS} FROM disks ORDER BY added_ms, id")
        return [DiskRow(*columns) for columns in rows]

    def disk(self, disk_id: str) -> DiskRow | None:
        found = self._one(f"SELECT {DISK_COLUMNS} FROM disks WHERE id = ?", (disk_id,))
        return None if found is None else DiskRow(*found)

    def lost_objects(
        self, volume_id: int, *, in_chunks: bool, after_needle: int, limit: int
    ) -> list[LostRow]:
        sql = _HAVE_CHUNKS_THERE if in_chunks else _BEGIN_THERE
        return [
            LostRow(needle_id, None)
            if first_volume is None
            else LostRow(needle_id, (first_volume, first_needle), *rest)
            for needle_id, first_volume, first_needle, *rest in self._all(
                sql, (volume_id, after_needle, limit)
            )
        ]

    def volumes(self) -> list[VolumeRow]:
        return volume_rows(
            self._all(f"SELECT {VOLUME_COLUMNS} FROM volumes ORDER BY id"),
            self._all("SELECT volume_id, disk_id FROM copies ORDER BY volume_id, disk_id"),
        )

    def bucket_notes(self, disk_id: str, limit: int) -> list[BucketNote]:
        rows = self._all(
            f"SELECT {NOTE_COLUMNS} FROM bucket_notes WHERE disk_id = ? ORDER BY bucket_id LIMIT ?",
            (disk_id, limit),
        )
        notes, size = list[BucketNote](), 0
        for columns in rows:
            note = bucket_note(columns)
            if not note.is_deleted:
                note = msgspec.structs.replace(note, configs=self.bucket_configs(note.bucket_id))
            size += sum(map(len, note.configs.values()))
            if notes and size > NOTED_CONFIGS_MAX:
                break
            notes.append(note)
        return notes

    def bucket_configs(self, bucket_id: int) -> dict[str, bytes]:
        return dict(self._all(BUCKET_CONFIGS, (bucket_id,)))

    def jobs(self) -> list[JobRow]:
        return [JobRow(*columns) for columns in self._all(f"SELECT {JOB_COLUMNS} FROM jobs ORDER BY id")]

    def damage_records(self, limit: int) -> list[NeedleDamage]:
        rows = self._all(
            f"SELECT {DAMAGE_COLUMNS} FROM damages ORDER BY volume_id, needle_id, offset LIMIT ?", (limit,)
        )
        return [needle_damage(columns) for columns in rows]

    def damage_count(self) -> int:
        return int(self._one("SELECT count(*) FROM damages")[0])

    def meta(self, name: str, default: int = 0) -> int:
        found = self._one("SELECT value FROM facts WHERE name = ?", (name,))
        return default if found is None else int(found[0])

    @property
    def catalog_id(self) -> int:
        return self.meta(CATALOG_ID_META)
