"""The whole store against a plain dict: nothing lost, nothing resurrected, nothing wrong.

Puts, conditional puts, deletes, uploads, buckets that come and go and come again, compactions taken step by
step, sweeps, verifications; disks that go offline, actors that are killed or lose their power between any
two changes on their disk, indexes that are lost, masters that restart, clocks that are wrong; and the loss
of the whole catalog, which is then made anew from the volumes.

What the users know is a dict: per bucket and key the version that was acknowledged, or none.  An operation
whose answer was lost has happened or not, and what is found then holds from there on.

A rebuild has the volumes alone, so the rules for it are exact (`check_rebuilt`):

- every acknowledged version is there, unless a version takes its place that nobody had the last word on:
  a put or upload whose end its user never learned, or was told "no" or gave up, whose needles have no tombstones
  yet, and whose stamp is the greater one;
- an acknowledged deletion may be undone only while none of its tombstones is on a disk, and then only what
  was deleted last comes back; versions that were overwritten never do;
- buckets: a creation or deletion may be undone only while no disk has its record.

Where the old catalog can still be read, what it had given up counts as tombstoned.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import wraps
from random import Random
from typing import Any

import msgspec
import pytest
from crc32c import crc32c
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

import warehouse.catalog.sqlite.deletion_stamps
import warehouse.catalog.sqlite.transaction
import warehouse.rescue.rebuild
from mini_store import ORPHAN_MS, UPLOAD_MS, Crash, Fuse, Key, MiniDisk, MiniStore, Name, Written
from warehouse.catalog.records import BucketRow, ObjectRow
from warehouse.catalog.sqlite.salvage import PendingDeletion
from warehouse.errors import (
    BucketExists,
    BucketNotEmpty,
    NeedleVoid,
    NoSuchBucket,
    NoSuchNeedle,
    PreconditionFailed,
    UploadIncomplete,
)
from warehouse.storage.extent import Extent
from warehouse.storage.format.needle import NeedleMetadata
from warehouse.transport.messages import StoredNeedle, etag_of

# Few names, so that things happen to the same ones.
BUCKETS = st.sampled_from(["photos", "photos", "photos", "films"])
KEYS = st.sampled_from(["a", "a", "a", "b"])
VOLUMES = st.sampled_from([1, 2, 3])
PICK = st.integers(0, 50)
SIZES = st.sampled_from([0, 9, 600, 5000])
# What users do in a row: mostly to the same key, on whichever disk.
WORK = st.lists(
    st.tuples(
        st.sampled_from(
            ["put", "put", "put", "begin", "go on", "delete", "delete and tombstone", "upload", "compact"]
            + ["look", "look later", "restart", "tombstones"]
        ),
        KEYS,
        VOLUMES,
    ),
    min_size=3,
    max_size=6,
)
CONDITIONS = st.sampled_from(["", "", "", "", "new", "same", "other"])


@dataclass
class Version:
    """A version of an object, as its user knows it."""

    names: list[Name]  # its needles, in order
    data: list[bytes]
    content_type: str | None
    metadata: dict[str, str]
    etag: str
    stamp: int
    created_ms: int


@dataclass
class Put:
    """A needle on its way to its answer."""

    name: Name
    extent: Extent | None = None  # while its bytes are coming
    needle: StoredNeedle | None = None
    is_synced: bool = False
    condition: dict[str, str] = field(default_factory=dict)


@dataclass
class Upload:
    """An upload that is not finished."""

    upload_id: int
    bucket_id: int
    bucket: str
    key: str
    data: list[bytes]
    is_count_known: bool
    content_type: str | None
    metadata: dict[str, str]
    condition: dict[str, str]
    created_ms: int
    slots: dict[int, Name] = field(default_factory=dict)
    stored: set[int] = field(default_factory=set)


def survives_a_crash(step: Callable[..., None]) -> Callable[..., None]:
    """A rule in which the actor of a disk may end."""

    @wraps(step)
    def run(self: StoreModel, *args: Any, **kwargs: Any) -> None:
        try:
            step(self, *args, **kwargs)
        except Crash as crash:
            self.crashed(crash.disk, has_power=crash.has_power)

    return run


class StoreModel(RuleBasedStateMachine):
    """The users, and what they know."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        # Small numbers, so that little work meets every edge.
        self.patch.setattr(warehouse.rescue.rebuild, "NEEDLE_IDS_SKIPPED", 64)
        self.store = MiniStore()
        self.counter = itertools.count(1)
        self.names: dict[str, int] = {}  # living buckets
        self.objects: dict[int, dict[str, Version]] = {}  # by bucket id: also what was in deleted ones
        self.bucket_names: dict[int, tuple[str, int]] = {}  # of all there ever were: name, created_ms
        self.deleted: dict[Key, Version] = {}  # what each key that is gone had last
        self.puts: list[Put] = []
        self.uploads: dict[int, Upload] = {}
        self.is_open: set[Name] = set()  # needles whose users have no last word, or were told that it is no
        self.refused: set[Name] = set()  # of those, the ones that can never count any more
        self.lost: list[StoredNeedle] = []  # whose users never got an answer
        self.held: list[tuple[Name, int, str, str]] = []  # ids that were handed out and not used yet

    @initialize(
        seed=st.integers(0, 2**32),
        skews=st.tuples(*[st.sampled_from([0, 0, 4_000, -4_000, 600_000])] * 3),
        stamps_kept=st.sampled_from([1, 1000]),
        purged=st.sampled_from([1, 500]),
    )
    def set_out(self, seed: int, skews: tuple[int, int, int], stamps_kept: int, purged: int) -> None:
        self.store.chance = Random(seed)
        self.store.skew_ms = skews[0]
        for disk, skew_ms in zip(self.store.disks, skews[1:], strict=True):
            disk.skew_ms = skew_ms
        self.patch.setattr(warehouse.catalog.sqlite.deletion_stamps, "DELETION_STAMPS_MAX", stamps_kept)
        self.patch.setattr(warehouse.catalog.sqlite.transaction, "PURGE_AT_ONCE", purged)
        self.create_bucket("photos")
        self.create_bucket("films")

    def teardown(self) -> None:
        try:
            if self.bucket_names and sys.exception() is None:  # what has failed cannot be settled
                self.store.fuse = None
                self.settle_down()
        finally:
            self.store.close()
            self.patch.undo()

    # --- small things -----------------------------------------------------------------------------

    def wait(self) -> None:
        self.store.now_ms += 7

    def disk(self, volume_id: int) -> MiniDisk:
        return self.store.disk_of(volume_id)

    def pick_volume(self, volume_id: int) -> int:
        """A volume that takes writes: this one, or another; users wait until there is one."""
        if not any(disk.is_online for disk in self.store.disks):
            self.be_back()
        order = (volume_id, volume_id % 3 + 1, (volume_id + 1) % 3 + 1)
        return next(candidate for candidate in order if self.disk(candidate).is_online)

    def be_back(self) -> None:
        for disk in self.store.disks:
            if not disk.is_running:
                self.start_disk(disk)
            if not disk.is_online:
                self.store.connect(disk)

    def payload(self, size: int) -> bytes:
        start = b"%d:" % next(self.counter)
        return (start * (size // len(start) + 1))[:size] if size >= len(start) else start

    def conditions(self, bucket_id: int, key: str, condition: str) -> dict[str, str]:
        current = self.objects.get(bucket_id, {}).get(key)
        return {
            "": {},
            "new": {"if_none_match": "*"},
            "same": {"if_match": current.etag if current else "1-1-1"},
            "other": {"if_match": "0-0-0"},
        }[condition]

    def is_met(self, condition: dict[str, str], current: Version | None) -> bool:
        if "if_none_match" in condition:
            return current is None
        return "if_match" not in condition or (current is not None and current.etag == condition["if_match"])

    def crashed(self, disk: MiniDisk, *, has_power: bool) -> None:
        """Whoever waits for an answer from this disk does not get one."""
        self.store.end(disk, has_power=has_power)
        for put in [put for put in self.puts if put.name[0] in disk.volume_ids]:
            self.puts.remove(put)
            if put.needle is not None:
                self.lost.append(put.needle)
                self.find_out(put.needle)

    def find_out(self, needle: StoredNeedle) -> None:
        """The answer was lost, but the catalog knows whether the needle became visible."""
        name = needle.volume_id, needle.needle_id
        if needle.upload_id is not None:
            upload = self.uploads.get(needle.upload_id)
            if upload is not None and upload.slots.get(needle.chunk_index) == name:
                stored = {
                    chunk.chunk_index
                    for chunk in self.store.catalog.chunks(upload.upload_id)
                    if chunk.is_stored
                }
                if needle.chunk_index in stored:
                    upload.stored.add(needle.chunk_index)
            return
        row = None
        if self.names.get(self.bucket_names[needle.bucket_id][0]) == needle.bucket_id:
            row = self.store.catalog.object(needle.bucket_id, needle.key)
        if name in self.is_open and row is not None and (row.volume_id, row.needle_id) == name:
            self.acknowledge(needle.bucket_id, needle.key, self.version_of(needle, row.etag))

    def version_of(self, needle: StoredNeedle, etag: str) -> Version:
        name = needle.volume_id, needle.needle_id
        data = self.store.written[name].data
        return Version(
            [name], [data], needle.content_type, needle.metadata, etag, needle.stamp, needle.created_ms
        )

    def acknowledge(self, bucket_id: int, key: str, version: Version) -> None:
        """From now on this is the version of the key; what was there before can never be seen again."""
        self.objects[bucket_id][key] = version
        self.deleted.pop((bucket_id, key), None)
        self.is_open.difference_update(version.names)
        self.check_key(bucket_id, key)

    def check_key(self, bucket_id: int, key: str) -> None:
        """What is answered about a key is its version, byte for byte; nothing, where there is none."""
        row, version = self.store.catalog.object(bucket_id, key), self.objects[bucket_id].get(key)
        if version is None:
            assert row is None, f"{key} came back"
            return
        assert row is not None, f"{key} was lost"
        assert (row.etag, row.size, row.stamp) == (version.etag, sum(map(len, version.data)), version.stamp)
        assert (row.content_type, row.metadata) == (version.content_type, version.metadata)
        assert row.created_ms == version.created_ms
        assert self.names_of(row) == version.names
        for name, data in zip(version.names, version.data, strict=True):
            if self.disk(name[0]).is_running:
                assert self.store.read(name) == data, f"needle {name} of {key}"

    def names_of(self, row: ObjectRow) -> list[Name]:
        if row.chunk_count == 1:
            return [(row.volume_id, row.needle_id)]
        assert row.upload_id is not None
        return [(chunk.volume_id, chunk.needle_id) for chunk in self.store.catalog.chunks(row.upload_id)]

    def check_everything(self) -> None:
        assert {row.name: row.id for row in self.store.catalog.buckets()} == self.names
        for bucket_id in self.names.values():
            listed = [row.key for row in self.store.catalog.list_objects(bucket_id).objects]
            assert listed == sorted(self.objects[bucket_id])
            for key in listed:
                self.check_key(bucket_id, key)

    def refuse(self, names: list[Name]) -> None:
        self.is_open.update(names)
        self.refused.update(names)

    # --- buckets ----------------------------------------------------------------------------------

    def create_bucket(self, name: str) -> None:
        self.wait()
        created_ms = self.store.wall_ms
        if name in self.names:
            with pytest.raises(BucketExists):
                self.store.do(lambda t: t.create_bucket(name, created_ms))
            return
        row = self.store.do(lambda t: t.create_bucket(name, created_ms))
        assert row.id not in self.bucket_names
        self.names[name] = row.id
        self.bucket_names[row.id] = name, created_ms
        self.objects[row.id] = {}

    @rule(name=BUCKETS, what=st.sampled_from(["make", "make", "delete", "force", "make anew"]))
    def change_a_bucket(self, name: str, what: str) -> None:
        if what == "make":
            self.create_bucket(name)
        else:
            self.delete_bucket(name, force=what != "delete")
            if what == "make anew":
                self.create_bucket(name)

    def delete_bucket(self, name: str, *, force: bool) -> None:
        self.wait()
        stamp = self.store.stamp()

        def delete() -> None:
            self.store.do(lambda t: t.delete_bucket(name, force=force, stamp=stamp))

        bucket_id = self.names.get(name)
        if bucket_id is None:
            with pytest.raises(NoSuchBucket):
                delete()
            return
        if self.objects[bucket_id] and not force:
            with pytest.raises(BucketNotEmpty):
                delete()
            return
        delete()
        del self.names[name]
        for key, version in self.objects[bucket_id].items():
            self.deleted[bucket_id, key] = version
        self.objects[bucket_id] = {}
        for upload in [upload for upload in self.uploads.values() if upload.bucket_id == bucket_id]:
            self.drop_upload(upload)

    # --- puts and deletes -------------------------------------------------------------------------

    def start_put(
        self,
        name: Name,
        bucket: tuple[str, int],
        key: str,
        data: bytes,
        condition: dict[str, str],
        *,
        is_streamed: bool,
    ) -> Put | None:
        """A needle arrives at its volume; None: refused, because its id is gone for good."""
        number = next(self.counter)
        metadata = NeedleMetadata(
            *bucket,
            key,
            self.store.now_ms + self.disk(name[0]).skew_ms,
            "text/plain" if number % 2 else None,
            {"n": str(number)} if number % 3 else {},
        )
        return self.write(name, metadata, data, condition, is_streamed=is_streamed)

    def write(
        self,
        name: Name,
        metadata: NeedleMetadata,
        data: bytes,
        condition: dict[str, str],
        *,
        is_streamed: bool = False,
    ) -> Put | None:
        self.is_open.add(name)
        put = Put(name, condition=condition)
        try:
            if is_streamed:
                put.extent = self.store.reserve(name, metadata, data)
            else:
                put.needle = msgspec.structs.replace(self.store.append(name, metadata, data), **condition)
        except NeedleVoid:
            assert self.store.is_void(name)
            assert name in self.refused
            return None
        self.puts.append(put)
        return put

    def begin(
        self, name: str, key: str, volume_id: int, size: int, condition: str, *, is_streamed: bool
    ) -> Put | None:
        self.wait()
        chosen = self.pick_volume(volume_id)
        if name not in self.names:
            self.create_bucket(name)
        bucket_id = self.names[name]
        needle = chosen, self.store.take_id(chosen)
        put = self.start_put(
            needle,
            (name, bucket_id),
            key,
            self.payload(size),
            self.conditions(bucket_id, key, condition),
            is_streamed=is_streamed,
        )
        assert put is not None
        return put

    def go_on(self, put: Put) -> None:
        """The next step of a put whose disk is online."""
        if put.extent is not None:
            self.receive(put, put.extent)
        elif not put.is_synced:
            self.store.sync(put.name[0])
            for other in self.puts:
                other.is_synced |= other.name[0] == put.name[0] and other.extent is None
        else:
            self.confirm(put)

    def receive(self, put: Put, extent: Extent) -> None:
        data = self.store.written[put.name].data
        if extent.written < len(data) // 2:
            extent.write(data[: len(data) // 2])
            return
        try:
            put.needle = msgspec.structs.replace(self.store.finish(put.name, extent), **put.condition)
        except NeedleVoid:
            assert put.name in self.refused
            self.store.forget(put.name)
            self.puts.remove(put)
        put.extent = None

    def confirm(self, put: Put) -> None:
        needle = put.needle
        assert needle is not None
        (result,) = self.store.tell_master(self.disk(put.name[0]), [needle])
        if result.restamp_above is not None:
            self.stamp_anew(put, needle, result.restamp_above)
            return
        self.puts.remove(put)
        if needle.upload_id is not None:
            self.chunk_confirmed(needle, is_stored=result.etag is not None)
            return
        bucket, bucket_id = self.bucket_names[needle.bucket_id][0], needle.bucket_id
        is_living, current = self.names.get(bucket) == bucket_id, self.objects[bucket_id].get(needle.key)
        is_met = self.is_met(put.condition, current)
        if result.etag is not None:
            assert is_living
            assert is_met
            assert put.name not in self.refused
            assert current is None or needle.stamp > current.stamp
            assert result.etag == etag_of(*put.name, needle.crc)
            self.acknowledge(bucket_id, needle.key, self.version_of(needle, result.etag))
            return
        if put.name in self.refused:
            assert isinstance(result.error, NeedleVoid | NoSuchBucket)
        elif not is_living:
            assert isinstance(result.error, NoSuchBucket)
        else:
            assert isinstance(result.error, PreconditionFailed)
            assert not is_met
        self.refuse([put.name])

    def stamp_anew(self, put: Put, needle: StoredNeedle, above: int) -> None:
        current = self.objects[needle.bucket_id].get(needle.key)
        assert needle.stamp <= above
        assert current is None or current.stamp == above
        try:
            stamp = self.store.restamp(put.name, above)
        except NoSuchNeedle:
            assert put.name in self.refused
            self.puts.remove(put)
            return
        assert stamp > above
        put.needle, put.is_synced = msgspec.structs.replace(needle, stamp=stamp), False

    @rule(
        name=BUCKETS,
        key=KEYS,
        volume_id=VOLUMES,
        size=SIZES,
        condition=CONDITIONS,
        how=st.sampled_from(["whole", "whole", "whole", "begun", "streamed"]),
    )
    @survives_a_crash
    def put(self, name: str, key: str, volume_id: int, size: int, condition: str, how: str) -> None:
        put = self.begin(name, key, volume_id, size, condition, is_streamed=how == "streamed")
        while how == "whole" and put in self.puts:
            self.go_on(put)

    @rule(name=BUCKETS, work=WORK)
    @survives_a_crash
    def work(self, name: str, work: list[tuple[str, str, int]]) -> None:
        for what, key, volume_id in work:
            self.work_once(name, what, key, volume_id)

    def put_here(self, name: str, key: str, volume_id: int) -> None:
        """A put that may end its actor, and the caller with it."""
        put = self.begin(name, key, volume_id, 9, "", is_streamed=False)
        while put in self.puts:
            self.go_on(put)

    def begin_put_and_crash(self, name: str, key: str, volume_id: int) -> None:
        """A needle that nobody ever confirms."""
        self.begin(name, key, volume_id, 9, "", is_streamed=False)
        self.crash_and_be_back(volume_id)

    def crash_and_be_back(self, volume_id: int) -> None:
        self.crashed(self.disk(volume_id), has_power=True)
        self.be_back()

    def work_once(self, name: str, what: str, key: str, volume_id: int) -> None:
        if what == "put":
            self.put_here(name, key, volume_id)
        elif what == "begin":
            self.begin(name, key, volume_id, 9, "", is_streamed=False)
        elif what == "go on":
            for put in self.puts[:1]:
                while put in self.puts and self.disk(put.name[0]).is_online:
                    self.go_on(put)
        elif what == "upload":
            self.upload(name, key, [9, 600], "", volume_id % 2 == 0, "whole", volume_id)
        elif what == "compact":
            self.compact_now(volume_id)
        elif what == "restart":
            self.store.restart_master()
        elif what == "tombstones":
            if self.disk(volume_id).is_online:
                self.store.write_tombstones(volume_id)
        elif what in ("look", "look later"):
            self.look_everywhere(is_late=what == "look later")
        else:
            self.delete_object(name, key, "", 0)
            if what == "delete and tombstone":
                self.drain()

    @rule(
        number=st.integers(0, 1),
        name=BUCKETS,
        before=WORK,
        work=WORK,
        end=st.sampled_from(
            ["away", "back", "killed", "catalog lost", "looked at, and lost", "killed, looked at, and lost"]
        ),
    )
    @survives_a_crash
    def work_while_a_disk_is_away(
        self,
        number: int,
        name: str,
        before: list[tuple[str, str, int]],
        work: list[tuple[str, str, int]],
        end: str,
    ) -> None:
        """What is replaced or deleted meanwhile has needles that nobody can write tombstones for."""
        disk = self.store.disks[number]
        for what, key, _ in before:
            self.work_once(name, what, key, disk.volume_ids[0])
        disk.is_online = False
        if end.startswith("killed") and disk.is_running:
            self.crashed(disk, has_power=True)
        for what, key, volume_id in work:
            self.work_once(name, what, key, volume_id)
        if end == "back" and disk.is_running:
            self.store.connect(disk)
        elif end == "catalog lost":
            self.lose_everything_but_disks(has_power=True)
        elif end.endswith("looked at, and lost"):
            # Compared with the catalog, but its garbage without tombstones yet when others forget what they can.
            self.be_back()
            for is_late in (False, True):
                for volume_id in (1, 2, 3):
                    self.look(volume_id, is_late=is_late)
            for other in self.store.disks:
                if other is not disk:
                    for volume_id in other.volume_ids:
                        self.compact_now(volume_id)
            self.lose_everything_but_disks(has_power=False)

    @rule(
        name=BUCKETS,
        key=KEYS,
        volume_id=VOLUMES,
        meanwhile=st.sampled_from(["nothing", "a restart", "other deletions"]),
    )
    @survives_a_crash
    def overtake_a_put(self, name: str, key: str, volume_id: int, meanwhile: str) -> None:
        """A version that came after this put was written is deleted before the put is committed."""
        late = self.begin(name, key, volume_id, 9, "", is_streamed=False)
        self.put_here(name, key, volume_id % 3 + 1)
        self.delete_object(name, key, "", 0)
        if meanwhile == "a restart":
            self.store.restart_master()
        elif meanwhile == "other deletions":
            self.put_here(name, "c", volume_id)
            self.delete_object(name, "c", "", 0)
        while late in self.puts and self.disk(late.name[0]).is_online:
            self.go_on(late)

    @precondition(lambda self: self.puts)
    @rule(pick=PICK, count=st.integers(1, 3))
    @survives_a_crash
    def go_on_with_a_put(self, pick: int, count: int) -> None:
        put = self.puts[pick % len(self.puts)]
        for _ in range(count):
            if put in self.puts and self.disk(put.name[0]).is_online:
                self.go_on(put)

    def hold_an_id(self, name: str, key: str, volume_id: int) -> None:
        """A client leases an id and takes its time."""
        if name in self.names:
            self.held.append(((volume_id, self.store.take_id(volume_id)), self.names[name], name, key))

    def put_at_last(self, pick: int, size: int) -> None:
        if not self.held:
            return
        needle, bucket_id, name, key = self.held[pick % len(self.held)]
        if self.disk(needle[0]).is_online:
            self.held.remove((needle, bucket_id, name, key))
            self.wait()
            self.start_put(needle, (name, bucket_id), key, self.payload(size), {}, is_streamed=False)

    def resolve(self, pick: int) -> None:
        """A client gives up waiting: either its put was committed, or it never will be."""
        asked = [(name, bucket_id, key) for name, bucket_id, _, key in self.held]
        flying = [put.needle for put in self.puts if put.needle is not None]
        for needle in (*self.lost, *flying):
            if needle.upload_id is None:
                asked.append(((needle.volume_id, needle.needle_id), needle.bucket_id, needle.key))
        if not asked:
            return
        name, bucket_id, key = asked[pick % len(asked)]
        if bucket_id not in self.names.values():
            return
        is_committed = self.store.do(lambda t: t.resolve_needle(bucket_id, key, *name, self.store.stamp()))
        was_acknowledged = name in self.store.written and name not in self.is_open
        assert is_committed is was_acknowledged
        if not is_committed:
            self.refuse([name])

    @rule(
        name=BUCKETS,
        key=KEYS,
        condition=CONDITIONS,
        lag_ms=st.sampled_from([0, 0, 5000]),
        is_tombstoned=st.booleans(),
    )
    @survives_a_crash
    def delete(self, name: str, key: str, condition: str, lag_ms: int, is_tombstoned: bool) -> None:
        self.delete_object(name, key, condition, lag_ms)
        if is_tombstoned:
            self.drain()

    def delete_object(self, name: str, key: str, condition: str, lag_ms: int) -> None:
        self.wait()
        bucket_id = self.names.get(name)
        if bucket_id is None:
            return
        current, stamp = self.objects[bucket_id].get(key), self.store.stamp() - (lag_ms << 16)
        if_match = self.conditions(bucket_id, key, condition).get("if_match")

        def delete() -> list[bool]:
            return self.store.do(lambda t: t.delete_objects(bucket_id, [key], if_match=if_match, stamp=stamp))

        if current is not None and if_match not in (None, current.etag):
            with pytest.raises(PreconditionFailed):
                delete()
            return
        assert delete() == [current is not None]
        if current is not None:
            self.deleted[bucket_id, key] = self.objects[bucket_id].pop(key)
        self.check_key(bucket_id, key)

    # --- uploads ----------------------------------------------------------------------------------

    @rule(
        name=BUCKETS,
        key=KEYS,
        sizes=st.lists(SIZES, min_size=1, max_size=3),
        condition=CONDITIONS,
        is_count_known=st.booleans(),
        how=st.sampled_from(["whole", "whole", "sent", "begun"]),
        volume_id=VOLUMES,
    )
    @survives_a_crash
    def begin_upload(
        self,
        name: str,
        key: str,
        sizes: list[int],
        condition: str,
        is_count_known: bool,
        how: str,
        volume_id: int,
    ) -> None:
        self.upload(name, key, sizes, condition, is_count_known, how, volume_id)

    def upload(
        self,
        name: str,
        key: str,
        sizes: list[int],
        condition: str,
        is_count_known: bool,
        how: str,
        volume_id: int,
    ) -> None:
        self.wait()
        if name not in self.names:
            self.create_bucket(name)
        bucket_id = self.names[name]
        number, now_ms = next(self.counter), self.store.wall_ms
        content_type, metadata = "video/mp4" if number % 2 else None, {"n": str(number)} if number % 3 else {}
        conditions = self.conditions(bucket_id, key, condition)
        upload_id = self.store.do(
            lambda t: t.begin_upload(
                bucket_id,
                key,
                content_type,
                metadata,
                conditions.get("if_match"),
                conditions.get("if_none_match"),
                now_ms,
                now_ms + UPLOAD_MS,
            )
        )
        data = [self.payload(size) for size in sizes]
        upload = Upload(
            upload_id, bucket_id, name, key, data, is_count_known, content_type, metadata, conditions, now_ms
        )
        self.uploads[upload_id] = upload
        for index in range(len(data)):
            put = self.send_chunk(upload, index, volume_id + index) if how != "begun" else None
            while put is not None and put in self.puts:
                self.go_on(put)
        if how == "whole":
            self.finish_upload(upload)

    @precondition(lambda self: self.uploads)
    @rule(
        pick=PICK,
        volume_id=VOLUMES,
        what=st.sampled_from(["chunk", "chunk", "slot", "finish", "finish", "abort", "expire"]),
    )
    @survives_a_crash
    def go_on_with_an_upload(self, pick: int, volume_id: int, what: str) -> None:
        """A slot for a chunk may be one anew, and perhaps nothing comes."""
        self.wait()
        upload = self.uploads[sorted(self.uploads)[pick % len(self.uploads)]]
        if what == "finish":
            self.finish_upload(upload)
        elif what == "abort":
            self.store.do(lambda t: t.abort_upload(upload.upload_id, self.store.stamp()))
            self.drop_upload(upload)
        elif what == "expire":
            self.expire_uploads()
        else:
            self.send_chunk(upload, pick % len(upload.data), volume_id, is_sent=what == "chunk")

    def send_chunk(self, upload: Upload, index: int, volume_id: int, *, is_sent: bool = True) -> Put | None:
        chosen = self.pick_volume((volume_id - 1) % 3 + 1)
        name, data = (chosen, self.store.take_id(chosen)), upload.data[index]
        stamp = self.store.stamp()
        self.store.do(lambda t: t.set_slots(upload.upload_id, [(index, *name, len(data))], stamp=stamp))
        if index in upload.slots:
            self.refuse([upload.slots[index]])
            upload.stored.discard(index)
        upload.slots[index] = name
        self.is_open.add(name)
        if not is_sent:
            return None
        is_told = upload.is_count_known or index == len(upload.data) - 1
        metadata = NeedleMetadata(
            upload.bucket,
            upload.bucket_id,
            upload.key,
            self.store.now_ms + self.disk(chosen).skew_ms,
            upload.content_type,
            upload.metadata if index == 0 else {},
            upload.upload_id,
            index,
            len(upload.data) if is_told else None,
            sum(map(len, upload.data)) if is_told else None,
        )
        return self.write(name, metadata, data, {})

    def chunk_confirmed(self, needle: StoredNeedle, *, is_stored: bool) -> None:
        assert needle.upload_id is not None
        name, upload = (needle.volume_id, needle.needle_id), self.uploads.get(needle.upload_id)
        assert is_stored is (upload is not None and upload.slots.get(needle.chunk_index) == name)
        if upload is not None and is_stored:
            upload.stored.add(needle.chunk_index)
        else:
            self.refuse([name])

    def finish_upload(self, upload: Upload) -> None:
        count, size = len(upload.data), sum(map(len, upload.data))
        if upload.stored != set(range(count)):
            with pytest.raises(UploadIncomplete):
                self.store.do(lambda t: t.finish_upload(upload.upload_id, count, size))
            return
        while True:
            current = self.objects[upload.bucket_id].get(upload.key)
            if not self.is_met(upload.condition, current):
                with pytest.raises(PreconditionFailed):
                    self.store.do(lambda t: t.finish_upload(upload.upload_id, count, size))
                return
            result = self.store.do(lambda t: t.finish_upload(upload.upload_id, count, size))
            if result.restamp is None:
                break
            index, *name, above = result.restamp
            disk = self.disk(name[0])
            if not disk.is_online:
                return
            stamp = self.store.restamp((name[0], name[1]), above)
            self.store.sync(name[0])
            self.store.point(disk)
            self.store.clock.observe(stamp)
            self.store.do(lambda t: t.set_stamp_of_chunk(upload.upload_id, index, stamp))  # noqa: B023
        row = result.object
        names = [upload.slots[index] for index in range(count)]
        crc = (
            self.store.volume(names[0][0]).find(names[0][1]).crc
            if self.disk(names[0][0]).is_running
            else row.crc
        )
        assert row.etag == etag_of(*names[0], crc, count)
        assert current is None or row.stamp > current.stamp
        del self.uploads[upload.upload_id]
        version = Version(
            names, upload.data, upload.content_type, upload.metadata, row.etag, row.stamp, upload.created_ms
        )
        self.acknowledge(upload.bucket_id, upload.key, version)

    def expire_uploads(self) -> None:
        self.store.now_ms += 2 * UPLOAD_MS
        now_ms, stamp = self.store.wall_ms, self.store.stamp()
        for upload_id in self.store.do(lambda t: t.expire_uploads(now_ms, stamp, 100)):
            if upload_id in self.uploads:  # those of deleted buckets are forgotten already
                self.drop_upload(self.uploads[upload_id])

    def drop_upload(self, upload: Upload) -> None:
        del self.uploads[upload.upload_id]
        self.refuse(list(upload.slots.values()))

    # --- garbage ----------------------------------------------------------------------------------

    @rule(volume_id=VOLUMES, what=st.sampled_from(["one needle", "a volume", "buckets", "all", "all"]))
    @survives_a_crash
    def write_tombstones(self, volume_id: int, what: str) -> None:
        disk = self.disk(volume_id)
        if what == "all":
            self.drain()
        elif disk.is_online and what == "buckets":
            self.store.record_buckets(disk, 1)
        elif disk.is_online:
            self.store.write_tombstones(volume_id, 1 if what == "one needle" else 1000)

    def drain(self) -> None:
        """What a store does all the time: tombstones are written, buckets are written down."""
        for disk in self.store.disks:
            if disk.is_online:
                for volume_id in disk.volume_ids:
                    self.store.write_tombstones(volume_id)
                self.store.record_buckets(disk)

    def look(self, volume_id: int, *, is_late: bool) -> None:
        """A sweep: what nothing names twice, with time between, is garbage."""
        self.store.now_ms += ORPHAN_MS * is_late
        if self.disk(volume_id).is_online:
            given_up = self.store.look(volume_id, meanwhile=self.go_on_with_the_first_put)
            orphans = [(volume_id, needle_id) for needle_id in given_up]
            assert self.is_open.issuperset(orphans), "needles of objects were given up"
            self.refuse(orphans)

    def go_on_with_the_first_put(self) -> None:
        for put in self.puts[:1]:
            if self.disk(put.name[0]).is_online:
                self.go_on(put)

    @rule(volume_id=VOLUMES, what=st.sampled_from(["one", "one, later", "all", "all twice"]))
    @survives_a_crash
    def compare(self, volume_id: int, what: str) -> None:
        """Sweeps: catalog and volumes are compared."""
        if what in ("one", "one, later"):
            self.look(volume_id, is_late=what == "one, later")
            return
        self.look_everywhere(is_late=False)
        if what == "all twice":
            self.look_everywhere(is_late=True)

    def look_everywhere(self, *, is_late: bool) -> None:
        for volume_id in (1, 2, 3):
            self.look(volume_id, is_late=is_late)

    # --- compaction, verification -----------------------------------------------------------------

    @rule(
        volume_id=VOLUMES, pick=PICK, what=st.sampled_from(["next", "next", "next", "next", "again", "drop"])
    )
    @survives_a_crash
    def compact_in_steps(self, volume_id: int, pick: int, what: str) -> None:
        if not self.store.compactions:
            if self.disk(volume_id).is_online:
                self.store.begin_copy(volume_id)
            return
        volume_id = sorted(self.store.compactions)[pick % len(self.store.compactions)]
        compaction = self.store.compactions[volume_id]
        if what == "drop":
            self.store.drop_compaction(volume_id)
        elif not compaction.is_copied:
            self.store.step_copy(volume_id)
        elif compaction.switch is None or what == "again":
            self.store.catch_up(volume_id, is_flushed=pick % 2 == 0)
        else:
            self.store.switch(volume_id)
            self.check_everything()

    @rule(volume_id=VOLUMES, fuse=st.just(0) | st.integers(1, 60), has_power=st.booleans())
    @survives_a_crash
    def compact(self, volume_id: int, fuse: int, has_power: bool) -> None:
        """A whole compaction, or one that is cut off after any change that it makes."""
        self.compact_now(volume_id, Fuse(fuse, has_power) if fuse else None)

    def compact_now(self, volume_id: int, fuse: Fuse | None = None) -> None:
        chosen = self.pick_volume(volume_id)
        if chosen not in self.store.compactions:
            self.store.fuse = fuse or self.store.fuse
            self.store.compact(chosen)
            self.store.fuse = None
            self.check_everything()

    # --- what goes wrong --------------------------------------------------------------------------

    @rule(volume_id=VOLUMES, has_power=st.booleans(), is_back=st.sampled_from([True, True, False]))
    @survives_a_crash
    def kill(self, volume_id: int, has_power: bool, is_back: bool) -> None:
        if self.disk(volume_id).is_running:
            self.crashed(self.disk(volume_id), has_power=has_power)
            if is_back:
                self.start_disk(self.disk(volume_id))

    @precondition(lambda self: not all(disk.is_running for disk in self.store.disks))
    @rule(is_index_lost=st.booleans())
    @survives_a_crash
    def start(self, is_index_lost: bool) -> None:
        for disk in self.store.disks:
            if not disk.is_running:
                self.start_disk(disk, is_index_lost=is_index_lost)

    def start_disk(self, disk: MiniDisk, *, is_index_lost: bool = False) -> None:
        if is_index_lost and not disk.was_cut:
            self.store.lose_index(disk.volume_ids[0])
        self.store.start(disk)
        self.check_everything()

    @rule(number=st.integers(0, 1))
    def change_the_link(self, number: int) -> None:
        """A disk goes offline, though its actor goes on, or is back."""
        disk = self.store.disks[number]
        if disk.is_running:
            if disk.is_online:
                disk.is_online = False
            else:
                self.store.connect(disk)

    @rule(
        what=st.sampled_from(
            ["restart", "restart", "clock", "clock", "fuse", "fuse", "hold", "late", "resolve", "resolve"]
            + ["purge", "verify", "checkpoint"]
        ),
        name=BUCKETS,
        key=KEYS,
        volume_id=VOLUMES,
        pick=PICK,
        has_power=st.booleans(),
    )
    @survives_a_crash
    def do_something_rare(
        self, what: str, name: str, key: str, volume_id: int, pick: int, has_power: bool
    ) -> None:
        disk = self.disk(volume_id)
        if what == "restart":
            self.store.restart_master()
            self.check_everything()
        elif what == "clock":
            skew_ms = (0, 4_000, -4_000, 600_000, -600_000)[pick % 5]
            if volume_id == 2:
                self.store.skew_ms = skew_ms
            else:
                disk.skew_ms = skew_ms
        elif what == "fuse":  # some actor ends soon, in the middle of whatever it does then
            self.store.fuse = Fuse(pick % 12 + 1, has_power)
        elif what == "hold":
            self.hold_an_id(name, key, volume_id)
        elif what == "late":
            self.put_at_last(pick, 9)
        elif what == "resolve":
            self.resolve(pick)
        elif what == "purge":
            self.store.do(lambda t: t.purge())
        elif disk.is_running and what == "verify":
            self.store.scrub(volume_id)
        elif disk.is_running:
            self.store.checkpoint(volume_id)

    # --- the loss of the catalog ------------------------------------------------------------------

    @rule(has_power=st.booleans(), is_readable=st.booleans())
    def lose_the_catalog(self, has_power: bool, is_readable: bool = False) -> None:
        self.lose_everything_but_disks(has_power=has_power, is_readable=is_readable)

    def lose_everything_but_disks(self, *, has_power: bool, is_readable: bool = False) -> None:
        self.store.fuse = None
        for disk in self.store.disks:
            if disk.is_running:
                self.crashed(disk, has_power=has_power)
        self.check_rebuilt(self.store.lose_catalog(is_readable=is_readable))

    def check_rebuilt(self, pending_deletions: dict[Name, PendingDeletion]) -> None:
        """Hold a rebuilt catalog to the rules above; what it says holds from here on.

        Args:
            pending_deletions: what the old one knew to be garbage: that counts as tombstoned, though no disk
                has heard of it.
        """
        store = self.store
        live = {name: written for name, written in store.written.items() if store.is_live(name)}
        for bucket_id in self.names.values():
            for key, version in self.objects[bucket_id].items():
                assert live.keys() >= set(version.names), f"{key} was lost"
                assert pending_deletions.keys().isdisjoint(version.names)
        rows = {row.id: row for row in store.catalog.buckets()}
        self.check_buckets(rows, {written.metadata.bucket_id for written in live.values()})
        kills = dict(store.kills)
        for name, needle in pending_deletions.items():
            if name in live and needle.reason == "deleted":
                key = live[name].metadata.bucket_id, live[name].metadata.key  # type: ignore[assignment]
                kills[key] = max(needle.stamp, kills.get(key, 0))  # type: ignore[call-overload, index]
        counting = {name: written for name, written in live.items() if name not in pending_deletions}
        best = self.newest_versions(counting, kills)
        found: dict[int, dict[str, Version]] = {bucket_id: {} for bucket_id in self.objects}
        for bucket_id in rows:
            objects = {row.key: row for row in store.catalog.list_objects(bucket_id).objects}
            for key in objects.keys() | {key for number, key in best if number == bucket_id}:
                version = self.check_choice(bucket_id, key, objects.get(key), best.get((bucket_id, key), []))  # type: ignore[assignment]
                if version is not None:
                    found[bucket_id][key] = version
        self.bucket_names.update({row.id: (row.name, row.created_ms) for row in rows.values()})
        self.adopt({row.name: row.id for row in rows.values()}, found)
        self.check_everything()
        assert store.catalog.check_counts() == []

    def check_buckets(self, rows: dict[int, BucketRow], inhabited: set[int]) -> None:
        for bucket_id in self.names.values():
            is_evident = (bucket_id, False) in self.store.recorded or self.objects[bucket_id]
            assert bucket_id in rows or not is_evident, f"bucket {bucket_id} was lost"
        for row in rows.values():
            name, created_ms = self.bucket_names[row.id]
            assert row.name == name
            if (row.id, False) in self.store.recorded:
                assert row.created_ms == created_ms
            if row.id not in self.names.values():
                later = [
                    number
                    for number, (other, _) in self.bucket_names.items()
                    if other == name and number > row.id
                ]
                recorded = {number for number, _ in self.store.recorded} | inhabited
                assert (row.id, True) not in self.store.recorded, f"bucket {row.id} came back"
                assert not recorded.intersection(later), (
                    f"bucket {row.id} came back under a name that was used again"
                )

    def newest_versions(
        self, live: dict[Name, Written], kills: dict[Key, int]
    ) -> dict[Key, list[list[Name]]]:
        """By key: what is complete, and newer than all else and than each deletion that a disk has heard of.

        Several, when they have the same stamp.
        """
        versions: dict[Key, list[tuple[int, list[Name]]]] = {}
        chunks: dict[int, dict[int, list[Name]]] = {}
        for name, written in live.items():
            metadata = written.metadata
            if metadata.upload_id is None or metadata.chunk_count == 1:
                versions.setdefault((metadata.bucket_id, metadata.key), []).append((written.stamp, [name]))
            else:
                chunks.setdefault(metadata.upload_id, {}).setdefault(metadata.chunk_index, []).append(name)
        for slots in chunks.values():
            slots = {index: _newest(names, live) for index, names in sorted(slots.items())}
            for names in map(list, itertools.product(*slots.values())):
                known = [live[name].metadata for name in names]
                if {metadata.chunk_count for metadata in known} - {None} == {len(slots)} and max(slots) < len(
                    slots
                ):
                    stamp = max(live[name].stamp for name in names)
                    versions.setdefault((known[0].bucket_id, known[0].key), []).append((stamp, names))
        best = {}
        for key, candidates in versions.items():
            newest = max(stamp for stamp, _ in candidates)
            if newest > kills.get(key, -1):
                best[key] = [names for stamp, names in candidates if stamp == newest]
        return best

    def check_choice(
        self, bucket_id: int, key: str, row: ObjectRow | None, best: list[list[Name]]
    ) -> Version | None:
        """Judge what a rebuild says about one key."""
        current = self.objects[bucket_id].get(key)
        if row is None:
            assert current is None, f"{key} was lost"
            assert best == [], f"{key} should be there"
            return None
        names = self.names_of(row)
        assert names in best, f"{key} is not the newest version"
        if current is not None and names == current.names:
            created_ms = self.store.written[names[0]].metadata.created_ms
            return replace(current, created_ms=created_ms, stamp=row.stamp)
        if self.is_open.isdisjoint(names):
            last = self.deleted.get((bucket_id, key))
            assert current is None, f"{key} is back in a version that was overwritten"
            assert last is not None, f"{key} came out of nowhere"
            assert last.names == names, f"{key} is back, and not even in its last version"
        first = self.store.written[names[0]].metadata
        data = [self.store.written[name].data for name in names]
        crc = crc32c(data[0])
        return Version(
            names,
            data,
            first.content_type,
            first.metadata,
            etag_of(*names[0], crc, len(names)),
            row.stamp,
            first.created_ms,
        )

    def adopt(self, names: dict[str, int], found: dict[int, dict[str, Version]]) -> None:
        for bucket_id, objects in found.items():
            for key, version in objects.items():
                self.deleted.pop((bucket_id, key), None)
                self.is_open.difference_update(version.names)
        self.names, self.objects = names, found
        for bucket_id in self.objects.keys() - self.traced_buckets():
            # No disk has ever heard of it, so its id may be given out once more.
            del self.objects[bucket_id], self.bucket_names[bucket_id]
        self.held = [held for held in self.held if held[1] in self.objects]
        self.uploads.clear()
        self.lost.clear()
        # A client may still come with a token of before; ids that were given up are known as such only
        # where a disk has heard of it.
        self.held = [held for held in self.held if self.store.was_handed_out(held[0])]
        self.refused = {name for name in self.refused if self.store.is_void(name)}

    def traced_buckets(self) -> set[int]:
        """Buckets that some disk knows, dead or alive."""
        needles = {written.metadata.bucket_id for written in self.store.written.values()}
        return {bucket_id for bucket_id, _ in self.store.recorded} | needles

    # --- the end ----------------------------------------------------------------------------------

    def settle_down(self) -> None:
        """Let everything come to its end; then all figures are exact, and a rebuild changes nothing."""
        store = self.store
        for disk in store.disks:
            if not disk.is_running:
                store.start(disk)
            store.connect(disk)
        while self.puts:
            self.go_on(self.puts[0])
        for upload in list(self.uploads.values()):
            self.store.do(lambda t: t.abort_upload(upload.upload_id, store.stamp()))  # noqa: B023
            self.drop_upload(upload)
        for volume_id in list(store.compactions):
            while not store.compactions[volume_id].is_copied:
                store.step_copy(volume_id)
            store.switch(volume_id)
        while store.do(lambda t: t.purge()):
            pass
        for _ in range(4):  # a look may be open that has not seen all strangers: then two more are needed
            self.look_everywhere(is_late=True)
        self.drain()
        self.look_everywhere(is_late=True)
        self.check_settled()
        for volume_id in (1, 2, 3):
            store.compact(volume_id)
            stats = store.volume(volume_id).stats()
            assert (stats.dead_bytes, stats.dead_count) == (0, 0)
            store.scrub(volume_id)
        self.check_settled()
        before = {
            bucket_id: {key: version.names for key, version in objects.items()}
            for bucket_id, objects in self.objects.items()
        }
        names = dict(self.names)
        self.lose_everything_but_disks(has_power=False)
        assert self.names == names
        assert before == {
            bucket_id: {key: version.names for key, version in objects.items()}
            for bucket_id, objects in self.objects.items()
        }

    def check_settled(self) -> None:
        store = self.store
        assert store.catalog.check_counts() == []
        assert store.catalog.outbox_counts() == {}
        assert not any(store.catalog.bucket_notes(disk.disk_id, 1) for disk in store.disks)
        self.check_everything()
        named = {
            name
            for bucket_id in self.names.values()
            for version in self.objects[bucket_id].values()
            for name in version.names
        }
        assert {name for name in store.written if store.is_live(name)} == named
        assert sum(store.volume(volume_id).stats().live_count for volume_id in (1, 2, 3)) == len(named)
        for volume_id in (1, 2, 3):
            store.check_figures(volume_id)


def _newest(names: list[Name], live: dict[Name, Written]) -> list[Name]:
    stamp = max(live[name].stamp for name in names)
    return [name for name in names if live[name].stamp == stamp]


common = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    print_blob=True,
    stateful_step_count=20,
)


@pytest.mark.parametrize("ends_with", ["start", "rebuild"])
@pytest.mark.parametrize("has_power", [True, False], ids=["killed", "cut"])
def test_an_actor_may_end_after_any_change_that_a_compaction_makes(has_power: bool, ends_with: str) -> None:
    crashes = 0
    while crash_in_a_compaction(Fuse(crashes + 1, has_power), Random(crashes), ends_with):
        crashes += 1
    assert crashes > 30


def crash_in_a_compaction(fuse: Fuse, chance: Random, ends_with: str) -> bool:
    """Whether the fuse was short enough."""
    model = StoreModel()
    try:
        model.set_out(seed=0, skews=(0, 4_000, -4_000), stamps_kept=1000, purged=500)
        model.store.chance = chance
        for key in ("a", "b", "c", "d", "a"):
            model.put("photos", key, 1, 600, "", "whole")
        model.put("films", "a", 2, 9, "", "whole")
        model.begin_upload("photos", "e", [600, 9], "", True, "whole", 1)
        model.put("films", "a", 3, 9, "", "whole")  # a version that waits on another disk for its tombstone
        for key in ("a", "b"):
            model.delete("photos", key, "", 0, True)
        model.change_a_bucket("films", "force")
        model.put("photos", "f", 1, 5000, "", "streamed")
        model.go_on_with_a_put(0, 1)
        model.store.begin_copy(1)
        model.delete("photos", "c", "", 0, True)
        model.put("photos", "d", 1, 9, "", "whole")
        model.store.drop_compaction(1)
        ended: list[Crash] = []
        model.store.fuse = fuse
        try:
            model.store.begin_copy(1)
            model.put_here("photos", "b", 1)
            while model.store.step_copy(1):
                pass
            model.put_here("photos", "g", 1)
            model.store.catch_up(1, is_flushed=True)
            model.put_here("photos", "g", 1)
            model.store.switch(1)
        except Crash as crash:
            ended.append(crash)
            model.crashed(crash.disk, has_power=crash.has_power)
            model.be_back()
        model.store.fuse = None
        model.check_everything()
        if ends_with == "rebuild":
            model.lose_the_catalog(has_power=True)
        return bool(ended)
    finally:
        model.teardown()


def test_a_catalog_that_is_lost_twice_gives_no_bucket_id_out_again() -> None:
    """What was made in between left no trace on the disks; its deletion may wait on one that is away."""
    model = StoreModel()
    try:
        model.set_out(seed=0, skews=(0, 0, 0), stamps_kept=1, purged=1)
        model.lose_the_catalog(has_power=True)
        model.change_a_bucket("films", "make")
        first = model.names["films"]
        model.lose_the_catalog(has_power=True)
        model.change_a_bucket("films", "make")
        assert model.names["films"] > first
    finally:
        model.teardown()


def test_a_chunk_is_refused_though_its_upload_waits_to_be_dropped_with_its_bucket() -> None:
    model = StoreModel()
    try:
        model.set_out(seed=0, skews=(0, 0, 0), stamps_kept=1, purged=1)
        model.change_a_bucket("photos", "make")
        model.begin_upload("photos", "a", [0], "", False, "whole", 1)
        model.begin_upload("photos", "a", [0], "", False, "sent", 1)
        model.go_on_with_an_upload(pick=0, volume_id=1, what="chunk")
        model.change_a_bucket("photos", "force")
    finally:
        model.teardown()  # confirms what is under way


TestStoreModel = pytest.mark.timeout(900)(StoreModel.TestCase)
TestStoreModel.settings = settings(common, max_examples=250)


class LongStoreModel(StoreModel):
    """The same, for an afternoon."""


TestLongStoreModel = pytest.mark.long(pytest.mark.timeout(6 * 3600)(LongStoreModel.TestCase))
TestLongStoreModel.settings = settings(common, max_examples=20_000)
