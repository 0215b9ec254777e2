"""What the tests of the catalog share: a catalog of any engine with a disk and two volumes, and needles for it.

`Kit` knows the interface alone.  A new engine is one function that opens it, and one line in `ENGINES`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from warehouse.catalog.identities import ApiKeyRow
from warehouse.catalog.interface import Catalog, Transaction
from warehouse.catalog.records import ChunkRow, ObjectRow
from warehouse.catalog.sqlite.catalog import SqliteCatalog
from warehouse.transport.messages import StoredNeedle

CREATED_MS = 1_700_000_000_000
BASE_STAMP = CREATED_MS << 16
RESERVED = 1_000_000  # needle ids of each volume


def stamp(number: int) -> int:
    """The number-th millisecond of the test's time, as a stamp."""
    return BASE_STAMP + (number << 16)


class OpenCatalog(Protocol):
    """Opens the catalog that a folder holds, and makes it when there is none.

    What is not given (where ids come from, the wall clock) is the engine's own.
    """

    def __call__(self, folder: Path, **own: Callable[[], int]) -> Catalog: ...


def open_sqlite(folder: Path, **own: Callable[[], int]) -> SqliteCatalog:
    catalog = SqliteCatalog.open(folder / "catalog.sqlite3", **own)
    catalog._writer.execute("PRAGMA synchronous = OFF")  # what a test here asks does not depend on fsync
    return catalog


ENGINES: dict[str, OpenCatalog] = {
    "sqlite": open_sqlite,
}


def bits(bitmap: bytes, first_id: int = 1) -> list[int]:
    """The needle ids that a bitmap of the catalog has set."""
    return [first_id + index for index in range(8 * len(bitmap)) if bitmap[index >> 3] & 1 << (index & 7)]


class Kit:
    """A catalog, and what a master knows besides: which needle id comes next."""

    def __init__(
        self, folder: Path, *, volume_count: int = 2, open_catalog: OpenCatalog = open_sqlite
    ) -> None:
        self._folder = folder
        self._open_catalog = open_catalog
        self._ids = iter(range(1, 2**53))
        self.now_ms: int | None = None  # the wall clock, where a test stops it
        self.catalog = self._open()
        self.next_needle = dict.fromkeys(range(1, volume_count + 1), 1)
        if not self.catalog.disks():
            with self.catalog.transaction() as transaction:
                transaction.add_disk("disk-1", "first", CREATED_MS)
                for number in range(volume_count):
                    volume_id = transaction.add_volume(None, f"uuid-{number + 1}", 1 << 30, "disk-1")
                    transaction.reserve_needle_ids(volume_id, RESERVED)

    def _next_id(self) -> int:
        return next(self._ids)

    def _wall_ms(self) -> int:
        return time.time_ns() // 1_000_000 if self.now_ms is None else self.now_ms

    def _open(self) -> Catalog:
        return self._open_catalog(self._folder, random_id=self._next_id, now_ms=self._wall_ms)

    def close(self) -> None:
        self.catalog.close()

    def reopen(self) -> None:
        self.catalog.close()
        self.catalog = self._open()

    def do(self, work: Callable[[Transaction], Any]) -> Any:
        """One request in a transaction of its own, as the writer runs it."""
        with self.catalog.transaction() as transaction, transaction.savepoint():
            return work(transaction)

    def bucket(self, name: str = "photos") -> int:
        return self.do(lambda t: t.create_bucket(name, CREATED_MS)).id

    def add_key(
        self, key_id: str = "KEY", *, permissions: int = 3, created_ms: int = CREATED_MS, **columns: Any
    ) -> ApiKeyRow:
        row = ApiKeyRow(id=key_id, permissions=permissions, created_ms=created_ms, **columns)
        return self.do(lambda t: t.add_api_key(row))

    def needle(
        self, bucket_id: int, key: str = "a", *, at: int = 1, volume_id: int = 1, **changes: Any
    ) -> StoredNeedle:
        """A fresh needle, stamped at `at`."""
        needle_id = self.next_needle[volume_id]
        self.next_needle[volume_id] += 1
        values = {
            "volume_id": volume_id,
            "needle_id": needle_id,
            "stamp": stamp(at),
            "size": 100,
            "crc": needle_id * 7919,
            "stored_size": 200,
            "bucket_id": bucket_id,
            "key": key,
            "created_ms": CREATED_MS + at,
        }
        return StoredNeedle(**{**values, **changes})

    def put(self, bucket_id: int, key: str = "a", **changes: Any) -> StoredNeedle:
        """Commit a fresh needle, which must succeed."""
        needle = self.needle(bucket_id, key, **changes)
        result = self.do(lambda t: t.commit_needle(needle))
        assert result.etag is not None, result
        return needle

    def begin(
        self, bucket_id: int, key: str = "big", *, expires_ms: int = CREATED_MS + 1000, **options: Any
    ) -> int:
        values: dict[str, Any] = {
            "content_type": None,
            "metadata": {},
            "if_match": None,
            "if_none_match": None,
        }
        values |= {"created_ms": CREATED_MS, "expires_ms": expires_ms, **options}
        return self.do(lambda t: t.begin_upload(bucket_id, key, **values))

    def send_chunk(
        self,
        upload_id: int,
        bucket_id: int,
        index: int,
        *,
        key: str = "big",
        at: int = 1,
        size: int = 100,
        volume_id: int = 1,
    ) -> StoredNeedle:
        """Ask for a slot and fill it, which must succeed."""
        needle = self.needle(
            bucket_id, key, at=at, size=size, volume_id=volume_id, upload_id=upload_id, chunk_index=index
        )
        self.do(lambda t: t.set_slots(upload_id, [(index, volume_id, needle.needle_id, size)]))
        assert self.do(lambda t: t.commit_needle(needle)).etag is not None
        return needle

    # --- looking ----------------------------------------------------------------------------------

    def object(self, bucket_id: int, key: str) -> ObjectRow | None:
        """An object by the id of its bucket; its key is the first of those that begin with it."""
        found = self.catalog.list_objects(bucket_id, prefix=key, limit=1).objects
        return found[0] if found and found[0].key == key else None

    def chunks(self, bucket: str, key: str) -> list[ChunkRow]:
        """The chunks of an object that is there; none when it has just the one needle."""
        _, (found,) = self.catalog.locate(bucket, [key], chunk_limit=1000)
        assert found is not None
        return found[1]

    def garbage(self) -> dict[tuple[int, int], str]:
        """The outbox: needle -> reason."""
        return {
            (volume_id, garbage.needle_id): garbage.reason
            for volume_id, count in self.catalog.outbox_counts().items()
            for garbage in self.catalog.outbox(volume_id, count + 1)
        }

    def stored(self, volume_id: int = 1) -> list[int]:
        """The needles of a volume that something names as stored."""
        return bits(self.catalog.row_bitmap(volume_id, 1, 1024))

    def slots(self, volume_id: int = 1) -> list[int]:
        """The needles of a volume that have a slot which nobody has reported as filled."""
        return bits(self.catalog.slot_bitmap(volume_id, 1, 1024))

    def purge(self) -> None:
        while self.catalog.is_purge_left:
            self.do(lambda t: t.purge())

    def assert_consistent(self) -> None:
        assert self.catalog.check_counts() == []


def name_of(needle: StoredNeedle) -> tuple[int, int]:
    return (needle.volume_id, needle.needle_id)


class SqliteKit(Kit):
    """The same on SQLite, for tests that look into the file."""

    catalog: SqliteCatalog

    @property
    def path(self) -> Path:
        return self._folder / "catalog.sqlite3"

    @contextmanager
    def raw(self) -> Iterator[Callable[..., Any]]:
        yield self.catalog._reader.execute
