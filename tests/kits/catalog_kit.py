"""What the tests of the catalog share: a catalog with one bucket and two volumes, and needles for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from warehouse.catalog.sqlite.catalog import SqliteCatalog
from warehouse.catalog.sqlite.transaction import SqliteTransaction
from warehouse.transport.messages import StoredNeedle

CREATED_MS = 1_700_000_000_000
BASE_STAMP = CREATED_MS << 16
RESERVED = 1_000_000  # needle ids of each volume


def stamp(number: int) -> int:
    """The number-th millisecond of the test's time, as a stamp."""
    return BASE_STAMP + (number << 16)


class Kit:
    """A catalog and what a master knows beside it: which needle id comes next."""

    def __init__(self, path: Path, *, volume_count: int = 2) -> None:
        self.path = path / "catalog.sqlite3"
        self._ids = iter(range(1, 2**53))
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

    def _open(self) -> SqliteCatalog:
        catalog = SqliteCatalog.open(self.path, random_id=self._next_id)
        catalog._writer.execute("PRAGMA synchronous = OFF")  # what a test here asks does not depend on fsync
        return catalog

    def close(self) -> None:
        self.catalog.close()

    def reopen(self) -> None:
        self.catalog.close()
        self.catalog = self._open()

    def do(self, work: Callable[[SqliteTransaction], Any]) -> Any:
        """One request in a transaction of its own, as the writer runs it."""
        with self.catalog.transaction() as transaction, transaction.savepoint():
            return work(transaction)

    def bucket(self, name: str = "photos") -> int:
        return self.do(lambda t: t.create_bucket(name, CREATED_MS)).id

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
        values = {"content_type": None, "metadata": {}, "if_match": None, "if_none_match": None, **options}
        return self.do(
            lambda t: t.begin_upload(bucket_id, key, *values.values(), CREATED_MS, expires_ms)  # type: ignore[arg-type]
        )

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

    def garbage(self) -> dict[tuple[int, int], str]:
        """The outbox: needle -> reason."""
        with self.raw() as execute:
            rows = execute("SELECT volume_id, needle_id, reason FROM outbox").fetchall()
        return {(volume_id, needle_id): reason for volume_id, needle_id, reason in rows}

    @contextmanager
    def raw(self) -> Iterator[Callable[..., Any]]:
        yield self.catalog._reader.execute

    def purge(self) -> None:
        while self.catalog.is_purge_left:
            self.do(lambda t: t.purge())

    def assert_consistent(self) -> None:
        assert self.catalog.check_counts() == []


def name_of(needle: StoredNeedle) -> tuple[int, int]:
    return (needle.volume_id, needle.needle_id)
