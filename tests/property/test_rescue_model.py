"""A catalog that is lost again and again and made anew from its volumes, against a dict.

The catalog and the volumes are real, and this plays the master between them: puts, uploads with and without
manifests and parts, amendments, deletes and buckets in any order, clocks that disagree, tombstones that come late, compactions, sweeps.  At any moment the
catalog is lost.  What the volumes had been told by then (each deletion once, on any disk) is enough for the
new catalog to say what the old one said; what only waited to be told on an offline disk is not needed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from crc32c import crc32c
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import structs

from warehouse.catalog.records import PartRow, UploadEnd
from warehouse.catalog.sqlite.catalog import SqliteCatalog
from warehouse.catalog.sqlite.recount import check_counts
from warehouse.rescue.console import NoProgress
from warehouse.rescue.export import export
from warehouse.rescue.rebuild import Options, rebuild
from warehouse.storage.compaction.copying import Copy
from warehouse.storage.compaction.generation_switch import GenerationSwitch
from warehouse.storage.disk import OsDisk
from warehouse.storage.files import volume_directory
from warehouse.storage.format.needle import (
    ROLE_AMENDMENT,
    ROLE_MANIFEST,
    ROLE_PART,
    BucketRecord,
    NeedleMetadata,
)
from warehouse.storage.format.stamp import StampClock
from warehouse.storage.identity import load_identity
from warehouse.storage.volume import Volume
from warehouse.transport.messages import MANIFEST, MULTIPART, StoredNeedle
from warehouse.transport.messages.attributes import (
    MANIFEST_FORMAT,
    MANIFEST_INDEX,
    Manifest,
    ManifestChunk,
    ManifestPart,
    ObjectAttributes,
    decode_attributes,
    encode_attributes,
    encode_manifest,
    part_chunk_index,
)

CREATED_MS = 5
IDS_AT_ONCE = 1000
KEYS = st.sampled_from(["a", "a/b"])
BUCKETS = st.sampled_from(["photos", "photos", "films"])
VOLUMES = st.sampled_from([1, 2])
WALLS = st.integers(1, 30)  # what a clock that nobody sets says


NO_END = UploadEnd()


class Said(NamedTuple):
    """What the model knows of an object."""

    content: bytes
    attributes: bytes = b""
    parts: tuple[tuple[int, int, bytes], ...] = ()  # number, size, MD5


def of_part(upload_id: int, chunk_index: int) -> dict[str, Any]:
    return {"upload_id": upload_id, "chunk_index": chunk_index, "chunk_count": None, "role": ROLE_PART}


class RescueMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="rescue-model-"))
        self.path = self.folder / "master" / "catalog.sqlite3"
        self.path.parent.mkdir()
        self.disks: dict[int, OsDisk] = {}
        self.disk_ids: dict[int, str] = {}
        self.volumes: dict[int, Volume] = {}
        self.clocks = {0: StampClock(), 1: StampClock(), 2: StampClock()}  # 0: the master's
        self.is_closed = False
        self.content = 0
        self.model: dict[str, dict[str, Said]] = {}
        self.regions: dict[str, str] = {}
        self.configs: dict[str, dict[str, bytes]] = {}
        self.catalog = self.open_catalog()
        for number in (1, 2):
            self.make_disk(number)
        self.create_bucket("photos", 1)

    def make_disk(self, number: int) -> None:
        root = self.folder / f"disk-{number}"
        root.mkdir()
        disk_id = self.disk_ids[number] = load_identity(root, created_ms=CREATED_MS).disk_id
        uuid = f"0f14d0ab-9605-4a62-a9e4-5ed26688389{number}"
        self.disks[number] = disk = OsDisk(root)
        facts: dict[str, Any] = {"volume_id": number, "uuid": uuid, "capacity": 1 << 30}
        self.volumes[number] = Volume.create(disk, volume_directory(number), **facts, created_ms=CREATED_MS)
        self.do(lambda t: t.add_disk(disk_id, root.name, CREATED_MS))
        self.do(lambda t: t.add_volume(number, uuid, 1 << 30, disk_id, state="open"))
        self.do(lambda t: t.reserve_needle_ids(number, IDS_AT_ONCE))

    def open_catalog(self) -> SqliteCatalog:
        catalog = SqliteCatalog.open(self.path)
        catalog._writer.execute("PRAGMA synchronous = OFF")  # no power is cut here
        self.next_id = {volume.id: volume.needle_id_reserved + 1 for volume in catalog.volumes()} or {
            1: 1,
            2: 1,
        }
        self.clocks[0].observe(catalog.stamp_max())
        for volume_id in self.next_id if catalog.volumes() else ():
            with catalog.transaction() as transaction:
                transaction.reserve_needle_ids(volume_id, self.next_id[volume_id] + IDS_AT_ONCE)
        return catalog

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self.catalog.close()
            for volume in self.volumes.values():
                volume.close()

    def teardown(self) -> None:
        self.close()
        shutil.rmtree(self.folder)

    def do(self, work: Any) -> Any:
        with self.catalog.transaction() as transaction, transaction.savepoint():
            return work(transaction)

    # --- needles ----------------------------------------------------------------------------------

    def fresh_content(self) -> bytes:
        self.content += 1
        return b"%d" % self.content * (self.content % 5)

    def fresh_attributes(self, part_count: int | None = None) -> bytes:
        """An ETag that no other object has, and tags that nobody else gave."""
        self.content += 1
        md5, tags = self.content.to_bytes(16, "big"), (("n", str(self.content)),)
        return encode_attributes(ObjectAttributes(md5=md5, part_count=part_count, tags=tags))

    def write(
        self, volume_id: int, wall: int, bucket: str, key: str, content: bytes | None = None, **chunk: Any
    ) -> StoredNeedle:
        """Append a needle, as a volume actor does, and what it reports."""
        bucket_id = self.catalog.bucket(bucket).id
        needle_id = self.next_id[volume_id]
        content = self.fresh_content() if content is None else content
        self.next_id[volume_id] += 1
        stamp = self.clocks[volume_id].tick(wall)
        metadata = NeedleMetadata(
            bucket, bucket_id, key, CREATED_MS, "text/x", {"n": str(needle_id)}, **chunk
        )
        placed = self.volumes[volume_id].append(needle_id, metadata, content, stamp=stamp)
        self.volumes[volume_id].sync()
        return StoredNeedle(
            volume_id=volume_id,
            needle_id=needle_id,
            stamp=stamp,
            size=len(content),
            crc=crc32c(content),
            stored_size=placed.stored_size,
            bucket_id=bucket_id,
            key=key,
            created_ms=CREATED_MS,
            content_type="text/x",
            metadata={"n": str(needle_id)},
            upload_id=chunk.get("upload_id"),
            chunk_index=chunk.get("chunk_index", 0),
            attributes=chunk.get("attributes", b""),
            amends=chunk.get("target"),
        )

    def commit(self, needle: StoredNeedle) -> None:
        """Tell the catalog of a needle until it has taken it."""
        while True:
            result = self.do(lambda t: t.commit_needle(needle))  # noqa: B023
            if result.restamp_above is None:
                break
            stamp = self.restamp(needle.volume_id, needle.needle_id, result.restamp_above)
            needle = StoredNeedle(**{**_fields(needle), "stamp": stamp})
        assert result.error is None

    def fill_slot(self, needle: StoredNeedle) -> ManifestChunk:
        slot = (needle.chunk_index, needle.volume_id, needle.needle_id, needle.size)
        self.do(lambda t: t.set_slots(needle.upload_id, [slot]))
        self.commit(needle)
        return ManifestChunk(needle.volume_id, needle.needle_id, needle.size, needle.crc)

    def finish(self, upload_id: int, chunk_count: int, size: int, end: UploadEnd = NO_END) -> None:
        while (
            asked := self.do(lambda t: t.finish_upload(upload_id, chunk_count, size, end)).restamp
        ) is not None:
            stamp = self.restamp(asked.volume_id, asked.needle_id, asked.above)
            self.do(lambda t: t.set_stamp_of_chunk(upload_id, asked.chunk_index, stamp))  # noqa: B023

    def restamp(self, volume_id: int, needle_id: int, above: int) -> int:
        clock = self.clocks[volume_id]
        clock.observe(above)
        stamp = clock.tick(0)
        self.volumes[volume_id].restamp(needle_id, stamp=stamp)
        self.volumes[volume_id].sync()
        return stamp

    def read(self, volume_id: int, needle_id: int) -> bytes:
        return bytes(self.volumes[volume_id].read(needle_id).data)

    @precondition(lambda self: self.model)
    @rule(bucket=BUCKETS, key=KEYS, volume_id=VOLUMES, wall=WALLS, is_rich=st.booleans())
    def put(self, bucket: str, key: str, volume_id: int, wall: int, is_rich: bool) -> None:
        if bucket not in self.model:
            return
        attributes = self.fresh_attributes() if is_rich else b""
        needle = self.write(volume_id, wall, bucket, key, attributes=attributes)
        self.commit(needle)
        self.model[bucket][key] = Said(self.read(volume_id, needle.needle_id), attributes)

    @precondition(lambda self: self.model)
    @rule(bucket=BUCKETS, key=KEYS, volume_id=VOLUMES, wall=WALLS)
    def amend(self, bucket: str, key: str, volume_id: int, wall: int) -> None:
        """New tags for an object; the ETag stays."""
        if bucket not in self.model or key not in self.model[bucket]:
            return
        row = self.catalog.object(self.catalog.bucket(bucket).id, key)
        assert row is not None
        said = self.model[bucket][key]
        self.content += 1
        tags = (("tagged", str(self.content)),)
        attributes = encode_attributes(structs.replace(decode_attributes(said.attributes), tags=tags))
        target = row.volume_id, row.needle_id
        more: dict[str, Any] = {"role": ROLE_AMENDMENT, "target": target, "attributes": attributes}
        self.commit(self.write(volume_id, wall, bucket, key, b"", **more))
        self.model[bucket][key] = said._replace(attributes=attributes)

    @precondition(lambda self: "photos" in self.model)
    @rule(key=KEYS, volumes=st.tuples(VOLUMES, VOLUMES, VOLUMES), wall=WALLS)
    def amend_twice(self, key: str, volumes: tuple[int, int, int], wall: int) -> None:
        """Left to chance, both amendments of one version seldom lie there when the catalog is lost."""
        self.put("photos", key, volumes[0], wall, True)
        self.amend("photos", key, volumes[1], wall)
        self.amend("photos", key, volumes[2], wall)

    @precondition(lambda self: self.model)
    @rule(
        bucket=BUCKETS,
        key=KEYS,
        volumes=st.tuples(VOLUMES, VOLUMES, VOLUMES),
        wall=WALLS,
        count=st.integers(1, 2),
        is_finished=st.booleans(),
    )
    def upload_with_manifest(
        self,
        bucket: str,
        key: str,
        volumes: tuple[int, int, int],
        wall: int,
        count: int,
        is_finished: bool,
    ) -> None:
        if bucket not in self.model:
            return
        upload_id = self.begin(bucket, key, MANIFEST)
        chunks = [
            self.fill_slot(
                self.write(volumes[index], wall, bucket, key, **of_part(upload_id, index), content=None)
            )
            for index in range(count)
        ]
        if is_finished:
            self.end_with_manifest(bucket, key, upload_id, volumes[2], wall, chunks)

    @precondition(lambda self: self.model)
    @rule(
        bucket=BUCKETS,
        key=KEYS,
        volumes=st.tuples(VOLUMES, VOLUMES, VOLUMES),
        wall=WALLS,
        numbers=st.permutations([1, 3, 3, 10_000]),
        named=st.sets(st.sampled_from([1, 3, 10_000])),
    )
    def upload_in_parts(
        self,
        bucket: str,
        key: str,
        volumes: tuple[int, int, int],
        wall: int,
        numbers: list[int],
        named: set[int],
    ) -> None:
        """Parts in any order, one of them sent twice; without a name for any it is never completed."""
        if bucket not in self.model:
            return
        upload_id = self.begin(bucket, key, MULTIPART)
        parts: dict[int, tuple[ManifestChunk, ManifestPart]] = {}
        for attempt, number in enumerate(numbers):
            more = of_part(upload_id, part_chunk_index(number, attempt, 0))
            chunk = self.fill_slot(self.write(volumes[attempt % 2], wall, bucket, key, **more))
            md5 = (1000 * number + attempt).to_bytes(16, "big")
            row = PartRow(number, attempt, 1, chunk.size, md5, None, CREATED_MS)
            self.do(lambda t: t.finish_part(upload_id, row))  # noqa: B023
            parts[number] = chunk, ManifestPart(number, chunk.size, 1, md5, None, CREATED_MS)
        if named:
            chosen = [parts[number] for number in sorted(named)]
            chunks = [chunk for chunk, _ in chosen]
            self.end_with_manifest(
                bucket, key, upload_id, volumes[2], wall, chunks, [part for _, part in chosen]
            )

    def begin(self, bucket: str, key: str, style: str) -> int:
        bucket_id = self.catalog.bucket(bucket).id
        upload: int = self.do(
            lambda t: t.begin_upload(bucket_id, key, "text/x", {}, None, None, CREATED_MS, 10**6, style=style)
        )
        return upload

    def end_with_manifest(
        self,
        bucket: str,
        key: str,
        upload_id: int,
        volume_id: int,
        wall: int,
        chunks: list[ManifestChunk],
        parts: Sequence[ManifestPart] = (),
    ) -> None:
        attributes = self.fresh_attributes(len(parts) or None)
        size = sum(chunk.size for chunk in chunks)
        content = encode_manifest(Manifest(MANIFEST_FORMAT, size, attributes, chunks, list(parts)))
        more = {**of_part(upload_id, MANIFEST_INDEX), "role": ROLE_MANIFEST}
        self.fill_slot(self.write(volume_id, wall, bucket, key, content, **more))
        end = UploadEnd(attributes, [part.number for part in parts])
        self.finish(upload_id, len(chunks), size, end)
        self.model[bucket][key] = Said(
            b"".join(self.read(chunk.volume_id, chunk.needle_id) for chunk in chunks),
            attributes,
            tuple((part.number, part.size, part.md5) for part in parts),
        )

    @precondition(lambda self: self.model)
    @rule(bucket=BUCKETS, key=KEYS, volumes=st.tuples(VOLUMES, VOLUMES), wall=WALLS, is_known=st.booleans())
    def upload(self, bucket: str, key: str, volumes: tuple[int, int], wall: int, is_known: bool) -> None:
        if bucket not in self.model:
            return
        bucket_id = self.catalog.bucket(bucket).id
        upload_id = self.do(
            lambda t: t.begin_upload(bucket_id, key, "text/x", {}, None, None, CREATED_MS, 10**6)
        )
        needles = []
        for index, volume_id in enumerate(volumes):
            count = 2 if is_known or index == 1 else None
            chunk = {"upload_id": upload_id, "chunk_index": index, "chunk_count": count}
            needle = self.write(volume_id, wall, bucket, key, **chunk)
            self.fill_slot(needle)
            needles.append(needle)
        self.finish(upload_id, 2, sum(needle.size for needle in needles))
        self.model[bucket][key] = Said(b"".join(self.read(n.volume_id, n.needle_id) for n in needles))

    @precondition(lambda self: self.model)
    @rule(bucket=BUCKETS, key=KEYS, wall=WALLS)
    def delete(self, bucket: str, key: str, wall: int) -> None:
        if bucket in self.model:
            bucket_id, stamp = self.catalog.bucket(bucket).id, self.clocks[0].tick(wall)
            existed = self.do(lambda t: t.delete_objects(bucket_id, [key], stamp=stamp))
            assert existed == [self.model[bucket].pop(key, None) is not None]

    @precondition(lambda self: "photos" in self.model)
    @rule(key=KEYS, older=VOLUMES, newer=VOLUMES, wall=WALLS)
    def delete_what_an_offline_disk_has_as_well(self, key: str, older: int, newer: int, wall: int) -> None:
        """Left to chance, this comes too seldom: the only word of the deletion is what a compaction kept."""
        self.put("photos", key, older, wall, False)
        self.put("photos", key, newer, wall, True)
        self.delete("photos", key, wall)
        self.compact(newer, False)

    # --- buckets ----------------------------------------------------------------------------------

    @rule(name=BUCKETS, wall=WALLS)
    def create_bucket(self, name: str, wall: int) -> None:
        if name not in self.model:
            self.do(lambda t: t.create_bucket(name, wall, region=f"region-{wall}"))
            self.model[name], self.regions[name] = {}, f"region-{wall}"
            self.configs[name] = {}

    @precondition(lambda self: self.model)
    @rule(name=BUCKETS, wall=WALLS)
    def delete_bucket(self, name: str, wall: int) -> None:
        if name in self.model:
            stamp = self.clocks[0].tick(wall)
            self.do(lambda t: t.delete_bucket(name, force=True, stamp=stamp))
            while self.catalog.is_purge_left:
                self.do(lambda t: t.purge())
            del self.model[name]

    # --- what the master tells the volumes, by and by ---------------------------------------------

    @rule(volume_id=VOLUMES)
    def write_tombstones(self, volume_id: int) -> None:
        self.write_some_tombstones(volume_id, is_all=True)

    def write_some_tombstones(self, volume_id: int, *, is_all: bool) -> None:
        told = []
        for garbage in self.catalog.outbox(volume_id, 10_000):
            if is_all or garbage.object_deleted:
                self.volumes[volume_id].delete(
                    garbage.needle_id, stamp=garbage.stamp, object_deleted=garbage.object_deleted
                )
                told.append(garbage.needle_id)
        self.volumes[volume_id].sync()
        self.do(lambda t: t.clear_outbox(volume_id, told))

    @rule(volume_id=VOLUMES)
    def note_buckets(self, volume_id: int) -> None:
        notes = self.catalog.bucket_notes(self.disk_ids[volume_id], 1000)
        for note in notes:
            record = BucketRecord(
                note.bucket_id,
                note.name,
                note.created_ms,
                note.is_deleted,
                note.owner_id,
                note.is_lock_enabled,
                note.region,
                note.configs,
            )
            self.volumes[volume_id].record_bucket(record, stamp=note.stamp)
        self.volumes[volume_id].sync()
        self.do(lambda t: t.clear_bucket_notes(self.disk_ids[volume_id], notes))

    @rule(
        name=BUCKETS, kind=st.sampled_from(["cors", "tagging"]), document=st.sampled_from([b"", b"1", b"2"])
    )
    def configure(self, name: str, kind: str, document: bytes) -> None:
        if name not in self.model:
            return
        bucket_id = self.catalog.bucket(name).id
        self.do(lambda t: t.set_bucket_config(bucket_id, kind, document))
        self.configs[name].pop(kind, None)
        if document:
            self.configs[name][kind] = document

    @rule(volume_id=VOLUMES, is_told=st.booleans())
    def compact(self, volume_id: int, is_told: bool) -> None:
        """The copy has no needle any more of what was deleted, and must say so in another way."""
        self.write_some_tombstones(volume_id, is_all=is_told)
        volume, disk = self.volumes[volume_id], self.disks[volume_id]
        copy = Copy(
            disk,
            volume.directory,
            uuid=volume.uuid,
            generation=volume.generation,
            end_offset=volume.begin_compaction(),
            horizon=self.catalog.tombstone_horizon(),
        )
        while copy.step():
            pass
        copy.close()
        GenerationSwitch(volume, disk, generation=copy.generation, end_offset=copy.end_offset).switch()

    @rule(volume_id=VOLUMES)
    def sweep(self, volume_id: int) -> None:
        """A look at a volume that found nothing without a name; what is written later is stamped later."""
        stamp = max(clock.last for clock in self.clocks.values())
        for clock in self.clocks.values():
            clock.observe(stamp)
        self.do(lambda t: t.set_swept(volume_id, stamp))

    # --- the loss ---------------------------------------------------------------------------------

    @rule(online=VOLUMES, is_told=st.booleans(), with_indexes=st.booleans())
    def lose_the_catalog(self, online: int, is_told: bool, with_indexes: bool) -> None:
        """
        Args:
            online: the disk that has been told about buckets.
            is_told: volumes have been told of needles that were replaced, too, not only of deletions.
        """
        for volume_id in self.volumes:
            self.write_some_tombstones(volume_id, is_all=is_told)
        self.note_buckets(online)
        self.close()
        for name in os.listdir(self.path.parent):
            (self.path.parent / name).unlink()
        report = rebuild(Options(data=self.folder, indexes=with_indexes), NoProgress())
        assert report.damaged_count == 0
        assert check_counts(self.path) == []
        self.volumes = {
            number: Volume.open(disk, volume_directory(number)) for number, disk in self.disks.items()
        }
        self.catalog = self.open_catalog()
        self.is_closed = False

    @rule()
    def export(self) -> None:
        """Plain files say the same, when every deletion has reached a volume."""
        for volume_id in self.volumes:
            self.write_some_tombstones(volume_id, is_all=False)
        self.note_buckets(1)
        target = self.folder / "export"
        report = export(self.folder, target, NoProgress())
        files = [
            path.read_bytes() for path in target.rglob("*") if path.is_file() and path.suffix != ".jsonl"
        ]
        shutil.rmtree(target)
        contents = [said.content for objects in self.model.values() for said in objects.values()]
        assert report.whole == len(contents)
        assert sorted(files) == sorted(contents)

    @invariant()
    def the_catalog_says_what_the_model_says(self) -> None:
        found: dict[str, dict[str, Said]] = {}
        for bucket in self.catalog.buckets():
            objects = found[bucket.name] = {}
            assert bucket.region == self.regions[bucket.name]
            assert self.catalog.bucket_configs(bucket.id) == self.configs[bucket.name]
            for row in self.catalog.list_objects(bucket.id).objects:
                assert row.content_type == "text/x"
                whole = self.catalog.object(bucket.id, row.key)
                assert whole is not None
                assert whole.etag == row.etag
                stored = decode_attributes(whole.attributes)
                assert (whole.md5, whole.part_count) == (stored.md5, stored.part_count)
                parts: tuple[tuple[int, int, bytes], ...] = ()
                if row.part_count is not None:
                    assert row.upload_id is not None
                    parts = tuple(
                        (part.part_number, part.size, part.md5) for part in self.catalog.parts(row.upload_id)
                    )
                if row.chunk_count == 1:
                    content = self.read(row.volume_id, row.needle_id)
                else:
                    assert row.upload_id is not None
                    chunks = [
                        chunk
                        for chunk in self.catalog.chunks(row.upload_id)
                        if chunk.chunk_index < MANIFEST_INDEX
                    ]
                    content = b"".join(self.read(c.volume_id, c.needle_id) for c in chunks)
                objects[row.key] = Said(content, whole.attributes, parts)
        assert found == self.model


def _fields(needle: StoredNeedle) -> dict[str, Any]:
    return {name: getattr(needle, name) for name in needle.__struct_fields__}


TestRescue = RescueMachine.TestCase
TestRescue.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)


@pytest.mark.long
class TestRescueAtLength(RescueMachine.TestCase):  # type: ignore[misc, valid-type]
    settings = settings(max_examples=2000, stateful_step_count=60, deadline=None)
