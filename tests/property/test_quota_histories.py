"""Quotas through histories with crashes: never passed, never refused while there is room, exact after a rebuild.

Each history is a number: the seed of everything in it.  Puts, batches, overwrites, deletes and uploads in a
bucket that is nearly full; disks whose actors end at any point, with their page cache or without; masters that
restart; quotas that change; catalogs that are lost and made anew.  What the catalog holds is counted from its
rows before each request, so every answer is known beforehand.

    WAREHOUSE_QUOTA_HISTORIES=5000 pytest -n 0 tests/property/test_quota_histories.py     # hours
"""

from __future__ import annotations

import os
from collections.abc import Callable
from random import Random

import pytest

from mini_store import UPLOAD_MS, Crash, Fuse, MiniStore
from warehouse.catalog.records import BucketRow, CommitResult
from warehouse.errors import NeedleVoid, NoSuchUpload, QuotaExceeded, StoreError
from warehouse.storage.format.needle import NeedleMetadata
from warehouse.transport.messages import StoredNeedle

HISTORIES = int(os.environ.get("WAREHOUSE_QUOTA_HISTORIES", "64"))
PARTS = 4  # the histories are so many tests
STEPS = 40
KEYS = [f"k{number}" for number in range(9)]
SIZES = (0, 1, 60, 61, 150, 600)
BUCKET = "photos"


class History:
    """One history: the store, and what is wanted of it."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.store = MiniStore(chance=Random(seed))
        self.bucket_id: int = self.store.do(lambda t: t.create_bucket(BUCKET, self.store.now_ms)).id
        for disk in self.store.disks:
            self.store.record_buckets(disk)
        self.told: list[StoredNeedle] = []
        self.refused: set[tuple[int, int]] = set()  # needles that were over the quota
        self.refusal_count = self.rebuild_count = self.crash_count = 0
        self.ceiling: tuple[int, int] = (0, 0)
        self.set_quota()

    # --- what is there ----------------------------------------------------------------------------

    @property
    def row(self) -> BucketRow:
        return self.store.catalog.bucket(BUCKET)

    def sizes(self) -> dict[str, int]:
        """What the rows of the objects say, whatever the sums say."""
        page = self.store.catalog.list_objects(self.bucket_id)
        return {row.key: row.size for row in page.objects}

    def fits(self, sizes: dict[str, int], key: str, size: int) -> bool:
        """Has the bucket room for this version?"""
        row, more = self.row, size - sizes.get(key, 0)
        objects_fit = key in sizes or row.quota_objects is None or len(sizes) < row.quota_objects
        bytes_fit = more <= 0 or row.quota_bytes is None or sum(sizes.values()) + more <= row.quota_bytes
        return objects_fit and bytes_fit

    def check(self) -> None:
        """The sums are exact, and no quota was passed."""
        row, sizes = self.row, self.sizes()
        assert self.store.catalog.check_counts() == []
        assert (row.object_count, row.byte_count) == (len(sizes), sum(sizes.values()))
        # Above a quota is only what was there when it was set, or came back with a rebuild; it only shrinks.
        assert row.object_count <= self.ceiling[0], "the quota of objects was passed"
        assert row.byte_count <= self.ceiling[1], "the quota of bytes was passed"
        self.lower_ceiling()

    def raise_ceiling(self) -> None:
        """What is there now, or as much as is allowed."""
        row = self.row
        self.ceiling = (
            10**9 if row.quota_objects is None else max(row.quota_objects, row.object_count),
            10**9 if row.quota_bytes is None else max(row.quota_bytes, row.byte_count),
        )

    def lower_ceiling(self) -> None:
        before = self.ceiling
        self.raise_ceiling()
        self.ceiling = min(before[0], self.ceiling[0]), min(before[1], self.ceiling[1])

    # --- steps ------------------------------------------------------------------------------------

    def set_quota(self) -> None:
        objects = self.random.choice((None, 0, 3, 4, 5))
        size = self.random.choice((None, 100, 300, 600, 601))
        self.store.do(lambda t: t.set_quota(self.bucket_id, byte_count=size, object_count=objects))
        self.raise_ceiling()

    def volume(self) -> int:
        return self.random.choice([number for disk in self.store.disks for number in disk.volumes])

    def write(self, key: str, size: int, volume_id: int, **upload: int | None) -> StoredNeedle:
        name = volume_id, self.store.take_id(volume_id)
        return self.write_at(name, key, size, **upload)

    def write_at(self, name: tuple[int, int], key: str, size: int, **upload: int | None) -> StoredNeedle:
        metadata = NeedleMetadata(BUCKET, self.bucket_id, key, self.store.now_ms, None, {}, **upload)  # type: ignore[arg-type]
        return self.store.append(name, metadata, bytes(size))

    def put_several(self) -> None:
        """A batch of one volume: one transaction."""
        volume_id = self.volume()
        count = self.random.choice((1, 1, 1, 2, 5))
        needles = [
            self.write(self.random.choice(KEYS), self.random.choice(SIZES), volume_id) for _ in range(count)
        ]
        self.store.sync(volume_id)
        self.told += needles
        self.commit(needles)

    def commit(self, needles: list[StoredNeedle]) -> None:
        """Have needles made visible; every answer is the one that it must be."""
        disk = self.store.disk_of(needles[0].volume_id)
        sizes = self.sizes()
        results = self.store.tell_master(disk, needles)
        late: list[StoredNeedle] = []
        for needle, result in zip(needles, results, strict=True):
            if result.restamp_above is not None:
                late.append(self.restamped(needle, result.restamp_above))
                continue
            self.judge(needle, result, self.fits(sizes, needle.key, needle.size))
            if result.etag is not None:
                sizes[needle.key] = needle.size
        assert self.sizes() == sizes
        if late:
            self.store.sync(late[0].volume_id)
            self.commit(late)

    def judge(self, needle: StoredNeedle, result: CommitResult, is_allowed: bool) -> None:
        if is_allowed:
            assert result.error is None, f"refused while there was room: {result.error}"
            return
        assert isinstance(result.error, QuotaExceeded), "the quota was passed"
        self.refusal_count += 1
        self.refused.add((needle.volume_id, needle.needle_id))

    def restamped(self, needle: StoredNeedle, above: int) -> StoredNeedle:
        name = needle.volume_id, needle.needle_id
        stamp = self.store.restamp(name, above)
        fields = {field: getattr(needle, field) for field in needle.__struct_fields__}
        return StoredNeedle(**{**fields, "stamp": stamp})

    def repeat(self) -> None:
        """A message whose answer was lost comes again: it changes nothing any more."""
        online = {number for disk in self.store.disks for number in disk.volumes}
        old = [needle for needle in self.told if needle.volume_id in online]
        if not old:
            return
        needle, before = self.random.choice(old), self.sizes()
        name = needle.volume_id, needle.needle_id
        (result,) = self.store.tell_master(self.store.disk_of(needle.volume_id), [needle])
        if name in self.refused:
            assert isinstance(result.error, QuotaExceeded | NeedleVoid)
        if result.etag is None:
            assert self.sizes() == before

    def delete(self) -> None:
        keys, stamp = self.random.sample(KEYS, self.random.choice((1, 1, 3))), self.store.stamp()
        self.store.do(lambda t: t.delete_objects(self.bucket_id, keys, stamp=stamp))

    def upload(self) -> None:
        key, parts = self.random.choice(KEYS), [self.random.choice(SIZES) for _ in range(2)]
        now_ms = self.store.now_ms
        upload_id = self.store.do(
            lambda t: t.begin_upload(self.bucket_id, key, None, {}, None, None, now_ms, now_ms + UPLOAD_MS)
        )
        try:
            self.send_parts(upload_id, key, parts)
            self.finish(upload_id, key, parts)
        except QuotaExceeded:
            self.refusal_count += 1
            assert not self.fits(self.sizes(), key, sum(parts)), "refused while there was room"
        except NoSuchUpload:
            pass

    def send_parts(self, upload_id: int, key: str, parts: list[int]) -> None:
        for index, size in enumerate(parts):
            volume_id = self.volume()
            name = volume_id, self.store.take_id(volume_id)
            stamp = self.store.stamp()
            self.store.do(lambda t: t.set_slots(upload_id, [(index, *name, size)], stamp=stamp))  # noqa: B023
            needle = self.write_at(name, key, size, upload_id=upload_id, chunk_index=index, chunk_count=None)
            self.store.sync(volume_id)
            (result,) = self.store.tell_master(self.store.disk_of(volume_id), [needle])
            assert result.error is None

    def finish(self, upload_id: int, key: str, parts: list[int]) -> None:
        for _ in range(5):
            is_allowed = self.fits(self.sizes(), key, sum(parts))
            done = self.store.do(lambda t: t.finish_upload(upload_id, len(parts), sum(parts)))
            if done.restamp is None:
                assert is_allowed, "the quota was passed"
                return
            chunk = done.restamp
            stamp = self.store.restamp((chunk.volume_id, chunk.needle_id), chunk.above)
            self.store.sync(chunk.volume_id)
            self.store.do(lambda t: t.set_stamp_of_chunk(upload_id, chunk.chunk_index, stamp))  # noqa: B023

    def tombstones(self) -> None:
        self.store.write_tombstones(self.volume())

    def compact(self) -> None:
        self.store.compact(self.volume())

    def restart_master(self) -> None:
        self.store.restart_master()

    def lose_catalog(self) -> None:
        """Everything ends, and the catalog is made anew from the disks."""
        before, is_readable = self.row, self.random.random() < 0.5
        for disk in self.store.disks:
            if disk.is_running:
                self.store.end(disk, has_power=self.random.random() < 0.5)
        self.store.lose_catalog(is_readable=is_readable)
        after = self.row
        if is_readable:
            assert (after.quota_objects, after.quota_bytes) == (before.quota_objects, before.quota_bytes)
        else:
            assert (after.quota_objects, after.quota_bytes) == (None, None)
        self.told.clear()  # all actors have ended: nobody repeats anything
        self.raise_ceiling()
        self.rebuild_count += 1

    # --- the run ----------------------------------------------------------------------------------

    STEPS: tuple[tuple[Callable[[History], None], int], ...] = (
        (put_several, 12),
        (delete, 4),
        (upload, 4),
        (repeat, 3),
        (tombstones, 2),
        (compact, 1),
        (restart_master, 1),
        (set_quota, 2),
        (lose_catalog, 1),
    )

    def run(self) -> None:
        steps, weights = zip(*self.STEPS, strict=True)
        for _ in range(STEPS):
            self.store.now_ms += 7
            if self.random.random() < 0.25:
                has_power = self.random.random() < 0.5
                self.store.fuse = Fuse(self.random.randrange(1, 12), has_power)
            try:
                self.random.choices(steps, weights)[0](self)
            except Crash as crash:
                self.crash_count += 1
                self.store.end(crash.disk, has_power=crash.has_power)
                gone = crash.disk.volume_ids  # an actor that starts again repeats nothing
                self.told = [needle for needle in self.told if needle.volume_id not in gone]
            self.store.fuse = None
            for disk in self.store.disks:
                if not disk.is_running:
                    self.store.start(disk)
            self.check()


def histories(part: int) -> range:
    return range(part, HISTORIES, PARTS)


@pytest.mark.timeout(3600 if HISTORIES > 64 else 600)
@pytest.mark.parametrize("part", range(PARTS))
def test_no_history_passes_a_quota_or_is_refused_room(part: int) -> None:
    refusals = rebuilds = crashes = 0
    for seed in histories(part):
        history = History(seed)
        try:
            history.run()
        except (AssertionError, StoreError) as error:
            raise AssertionError(f"history {seed}: {error}") from error
        finally:
            history.store.close()
        refusals += history.refusal_count
        rebuilds += history.rebuild_count
        crashes += history.crash_count
    assert refusals, "no history came to its quota: nothing was tested"
    assert rebuilds
    assert crashes
