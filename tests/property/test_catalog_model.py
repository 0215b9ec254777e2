"""The catalog against a model made of dictionaries.

Whatever is done in whatever order: objects, listings and figures are those of the model, every message
gets the answer that the model expects (also when it is repeated, late, or forged), and every needle that
was ever named is owned by exactly one object or upload, or is garbage, for the reason the model says.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec
import pytest
from crc32c import crc32c
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import warehouse.catalog.sqlite.deletion_stamps
import warehouse.catalog.sqlite.transaction
from catalog_kit import CREATED_MS, SqliteKit, name_of, stamp
from in_memory import make_folder
from warehouse.catalog.listing import common_prefix
from warehouse.catalog.records import PartRow, UploadEnd
from warehouse.catalog.sqlite.cross_check import names_on
from warehouse.errors import (
    BadRequest,
    BucketExists,
    BucketNotEmpty,
    NeedleVoid,
    NoSuchBucket,
    NoSuchObject,
    NoSuchUpload,
    PreconditionFailed,
    UploadIncomplete,
)
from warehouse.transport.messages import StoredNeedle, etag_of
from warehouse.transport.messages.attributes import (
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

BUCKETS = st.sampled_from(["photos", "films"])
KEYS = st.sampled_from(["a", "a/1", "a/2", "b/1/x", "b/2", "ü"])
VOLUMES = st.integers(1, 2)
PICK = st.integers(0, 2**16)
TAGS = st.sampled_from(["", "a", "b"])
ATTRIBUTES = st.sampled_from(
    [
        b"",
        b"",
        encode_attributes(ObjectAttributes(md5=bytes(range(16)))),
        encode_attributes(ObjectAttributes(tags=(("a", "v"),))),
    ]
)
Needle = tuple[int, int]


class Undo(Exception):
    """Makes a savepoint undo what a request did."""


@dataclass
class Version:
    needles: list[Needle]
    stamp: int
    size: int
    etag: str
    attributes: bytes = b""
    chunks: list[Needle] | None = None  # those of the needles that are data; None: all
    amendment: Needle | None = None  # one of the needles, too


@dataclass
class Upload:
    bucket_id: int
    key: str
    if_none_match: str | None
    has_manifest: bool = False
    slots: dict[int, StoredNeedle] = field(default_factory=dict)
    stored: set[int] = field(default_factory=set)


def _indexes(part: PartRow) -> list[int]:
    """Where the chunks of a part stand."""
    return [
        part_chunk_index(part.part_number, part.attempt, position) for position in range(part.chunk_count)
    ]


class CatalogMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = make_folder("catalog-model-")
        self.kit = SqliteKit(self.folder)
        self.now = 0
        self.names: dict[str, int] = {}  # live buckets
        self.objects: dict[int, dict[str, Version]] = {}  # of live buckets, by id
        self.uploads: dict[int, Upload] = {}  # unfinished, of live buckets
        self.finished: dict[int, tuple[int, int, str]] = {}  # upload id -> chunk count, size, etag
        self.fates: dict[Needle, str] = {}  # garbage -> reason
        self.amended: dict[Needle, str] = {}  # needles of amendments that counted -> ETag of the object
        self.told: list[StoredNeedle] = []  # every needle that was ever reported
        self.pending_deletions: dict[Needle, str] = {}  # of deleted buckets: garbage by and by
        self.deletions: dict[tuple[int, str], int] = {}  # (bucket id, key) -> stamp of the latest
        self.floor = 0  # a put above it is never sent back where there is no object
        self.stamps: dict[Needle, tuple[int, str, int]] = {}  # bucket id, key, stamp of what was visible
        self.notes: dict[str, dict[int, tuple[str, bool]]] = {"disk-1": {}}  # what disks have to write down
        self.kit.do(lambda t: [t.set_swept(volume_id, stamp(10**7)) for volume_id in (1, 2)])
        self.create_bucket("photos")  # most rules need one

    def teardown(self) -> None:
        self.kit.purge()
        self.purged()
        self.figures_and_owners_are_right()
        self.kit.assert_consistent()
        self.kit.close()
        shutil.rmtree(self.folder)

    # --- the model's own moves --------------------------------------------------------------------

    def tick(self) -> int:
        self.now += 1
        return self.now

    def discard(self, needles: list[Needle], reason: str) -> None:
        for needle in needles:
            assert needle not in self.fates
            self.fates[needle] = reason

    def drop_upload(self, upload_id: int, into: dict[Needle, str]) -> None:
        upload = self.uploads.pop(upload_id)
        into.update((name_of(needle), "aborted") for needle in upload.slots.values())

    def replace(self, bucket_id: int, key: str, version: Version) -> None:
        old = self.objects[bucket_id].get(key)
        if old is not None:
            self.discard(old.needles, "replaced")
        self.objects[bucket_id][key] = version
        self.stamps.update(dict.fromkeys(version.needles, (bucket_id, key, version.stamp)))

    def purged(self) -> None:
        """Nothing is left of deleted buckets: what they held is garbage now."""
        self.fates.update(self.pending_deletions)
        self.pending_deletions.clear()

    def owner_of(self, needle: Needle) -> str | None:
        for bucket_id, objects in self.objects.items():
            for key, version in objects.items():
                if needle in version.needles:
                    return f"object {bucket_id} {key}"
        for upload_id, upload in self.uploads.items():
            if needle in map(name_of, upload.slots.values()):
                return f"upload {upload_id}"
        return None

    def pick_bucket(self, name: str) -> int:
        """A live bucket's id, or one that was never there."""
        return self.names.get(name, 999)

    # --- buckets ----------------------------------------------------------------------------------

    @rule(name=BUCKETS)
    def create_bucket(self, name: str) -> None:
        if name in self.names:
            with pytest.raises(BucketExists):
                self.kit.bucket(name)
        else:
            bucket_id = self.kit.bucket(name)
            assert bucket_id not in self.objects
            self.names[name] = bucket_id
            self.objects[bucket_id] = {}
            for notes in self.notes.values():
                notes[bucket_id] = (name, False)

    @rule(name=BUCKETS, force=st.booleans())
    def delete_bucket(self, name: str, force: bool) -> None:
        def delete() -> None:
            self.kit.do(lambda t: t.delete_bucket(name, force=force, stamp=stamp(self.tick())))

        if name not in self.names:
            with pytest.raises(NoSuchBucket):
                delete()
            return
        bucket_id = self.names[name]
        if self.objects[bucket_id] and not force:
            with pytest.raises(BucketNotEmpty):
                delete()
            return
        delete()
        del self.names[name]
        for notes in self.notes.values():
            notes[bucket_id] = (name, True)
        for version in self.objects.pop(bucket_id).values():
            self.pending_deletions.update(dict.fromkeys(version.needles, "deleted"))
        for upload_id in [number for number, upload in self.uploads.items() if upload.bucket_id == bucket_id]:
            self.drop_upload(upload_id, self.pending_deletions)
        if not self.kit.catalog.is_purge_left:
            self.purged()

    @rule()
    def purge_a_piece(self) -> None:
        self.kit.do(lambda t: t.purge())
        if not self.kit.catalog.is_purge_left:
            self.purged()

    # --- puts and deletes -------------------------------------------------------------------------

    @rule(
        name=BUCKETS,
        key=KEYS,
        volume_id=VOLUMES,
        lag=st.integers(0, 5),
        condition=st.sampled_from(["", "", "", "new", "same", "other"]),
        size=st.integers(0, 9),
        attributes=ATTRIBUTES,
    )
    def put(
        self,
        name: str,
        key: str,
        volume_id: int,
        lag: int,
        condition: str,
        size: int,
        attributes: bytes = b"",
    ) -> None:
        bucket_id = self.pick_bucket(name)
        current = self.objects.get(bucket_id, {}).get(key)
        conditions = {
            "": {},
            "new": {"if_none_match": "*"},
            "same": {"if_match": current.etag if current else "1-1-1"},
            "other": {"if_match": "0-0-0"},
        }[condition]
        needle = self.kit.needle(
            bucket_id,
            key,
            at=max(0, self.tick() - lag),
            volume_id=volume_id,
            size=size,
            attributes=attributes,
            **conditions,
        )
        self.told.append(needle)
        result = self.kit.do(lambda t: t.commit_needle(needle))
        is_met = {"": True, "new": current is None, "same": current is not None, "other": False}[condition]
        if bucket_id == 999:
            assert isinstance(result.error, NoSuchBucket)
            self.discard([name_of(needle)], "void")
            return
        if not is_met:
            assert isinstance(result.error, PreconditionFailed)
            self.discard([name_of(needle)], "unmet")
            return
        above = self.require_stamp(needle.stamp, result.restamp_above, bucket_id, key)
        if above is not None:
            needle = msgspec.structs.replace(needle, stamp=above + 1)
            result = self.kit.do(lambda t: t.commit_needle(needle))
        etag = decode_attributes(attributes).etag or etag_of(volume_id, needle.needle_id, needle.crc)
        assert result.etag == etag
        self.replace(bucket_id, key, Version([name_of(needle)], needle.stamp, size, etag, attributes))

    @rule(name=BUCKETS, key=KEYS, volume_id=VOLUMES, lag=st.integers(0, 5), tag=TAGS, is_late=st.booleans())
    def amend(self, name: str, key: str, volume_id: int, lag: int, tag: str, is_late: bool) -> None:
        """Change the attributes of a version; a late one names a version that is not the current one."""
        bucket_id = self.pick_bucket(name)
        current = self.objects.get(bucket_id, {}).get(key)
        old = decode_attributes(current.attributes if current is not None else b"")
        attributes = encode_attributes(msgspec.structs.replace(old, tags=((tag, "v"),) if tag else ()))
        needle = self.kit.needle(
            bucket_id,
            key,
            at=max(0, self.tick() - lag),
            volume_id=volume_id,
            size=0,
            attributes=attributes,
            amends=(3, 1) if is_late or current is None else current.needles[0],
            if_match=None if current is None else current.etag,
        )
        self.told.append(needle)
        result = self.kit.do(lambda t: t.commit_needle(needle))
        if bucket_id == 999:
            assert isinstance(result.error, NoSuchBucket)
            self.discard([name_of(needle)], "void")
            return
        if current is None or is_late:
            assert isinstance(result.error, NoSuchObject if current is None else PreconditionFailed)
            self.discard([name_of(needle)], "unmet")
            return
        if result.restamp_above is not None:
            assert current.amendment is not None
            needle = msgspec.structs.replace(needle, stamp=result.restamp_above + 1)
            result = self.kit.do(lambda t: t.commit_needle(needle))
        assert result.etag == current.etag
        if current.amendment is not None:
            current.needles.remove(current.amendment)
            self.discard([current.amendment], "replaced")
        if current.chunks is None:
            current.chunks = list(current.needles)
        current.needles.append(name_of(needle))
        current.amendment, current.attributes = name_of(needle), attributes
        self.amended[name_of(needle)] = current.etag

    def require_stamp(self, own: int, above: int | None, bucket_id: int, key: str) -> int | None:
        """Is a version with the stamp `own` sent back to get a greater one when it must be, and only then?"""
        current = self.objects[bucket_id].get(key)
        if current is not None:
            assert above == (current.stamp if own <= current.stamp else None)
        elif above is None:
            assert own > self.deletions.get((bucket_id, key), -1), "a rebuild would take it for deleted"
        else:
            assert own <= above <= self.floor
            assert above >= self.deletions.get((bucket_id, key), -1)
        return above

    @rule(
        name=BUCKETS,
        keys=st.lists(KEYS, max_size=3),
        condition=st.sampled_from([None, None, "0-0-0", "*"]),
        lag=st.integers(0, 5),
    )
    def delete_objects(self, name: str, keys: list[str], condition: str | None, lag: int = 0) -> None:
        bucket_id = self.pick_bucket(name)
        objects = self.objects.get(bucket_id, {})
        at = stamp(max(0, self.tick() - lag))

        def delete() -> list[bool]:
            return self.kit.do(lambda t: t.delete_objects(bucket_id, keys, if_match=condition, stamp=at))

        if condition == "0-0-0" and any(key in objects for key in keys):
            with pytest.raises(PreconditionFailed):
                delete()
            return
        existed = []
        expected: dict[Needle, int] = {}
        for key in keys:
            version = objects.pop(key, None)
            existed.append(version is not None)
            if version is not None:
                self.discard(version.needles, "deleted")
                deleted_at = self.deletions[bucket_id, key] = max(at, version.stamp + 1)
                self.floor = max(self.floor, deleted_at)
                expected.update(dict.fromkeys(version.needles, deleted_at))
        assert delete() == existed
        with self.kit.raw() as execute:
            rows = execute("SELECT volume_id, needle_id, stamp FROM outbox").fetchall()
        stamps = {(volume_id, needle_id): deleted_at for volume_id, needle_id, deleted_at in rows}
        assert expected.items() <= stamps.items(), "tombstones carry the stamp of the deletion"

    @rule(
        name=BUCKETS, key=KEYS, lag=st.integers(0, 9), others=st.lists(KEYS, max_size=3), again=st.booleans()
    )
    def deletion_overtakes_a_put(self, name: str, key: str, lag: int, others: list[str], again: bool) -> None:
        """The put was stamped before the deletion and comes after it, perhaps after a start."""
        self.put(name, key, 1, 0, "", 5)
        self.delete_objects(name, [key, *others], None)
        if again:
            self.restart()
        self.put(name, key, 2, lag, "", 5)

    @precondition(lambda self: self.plain_uploads())
    @rule(pick=PICK, again=st.booleans())
    def deletion_overtakes_an_upload(self, pick: int, again: bool) -> None:
        upload_id = self.plain_uploads()[pick % len(self.plain_uploads())]
        upload = self.uploads[upload_id]
        name = next(name for name, bucket_id in self.names.items() if bucket_id == upload.bucket_id)
        self.put(name, upload.key, 1, 0, "", 5)
        self.delete_objects(name, [upload.key], None)
        if again:
            self.restart()
        self.finish_upload(pick, 0, 0)

    @rule(name=BUCKETS, key=KEYS)
    def undone_requests_change_nothing(self, name: str, key: str) -> None:
        bucket_id = self.pick_bucket(name)

        def do_much(t) -> None:
            t.commit_needle(self.kit.needle(bucket_id, key, at=10**6))
            t.delete_objects(bucket_id, ["a", "b/2"], stamp=stamp(10**6))
            for upload_id in self.uploads:
                t.abort_upload(upload_id, stamp(10**6))
            t.purge()
            raise Undo

        # Deletions that were undone may be remembered, each one stamp after what it deleted.
        objects = self.objects.get(bucket_id, {})
        deleted = [objects[key].stamp for key in ("a", "b/2") if key in objects]
        self.floor = max(self.floor, stamp(10**6) + 1, *(own + 1 for own in deleted))
        with self.kit.catalog.transaction() as transaction, pytest.raises(Undo), transaction.savepoint():
            do_much(transaction)  # the transaction itself is committed

    # --- late, repeated and forged messages -------------------------------------------------------

    @precondition(lambda self: self.told)
    @rule(pick=PICK)
    def repeat_a_message(self, pick: int) -> None:
        needle = self.told[pick % len(self.told)]
        name = name_of(needle)
        is_alive = needle.bucket_id in self.objects
        result = self.kit.do(lambda t: t.commit_needle(needle))
        reason = self.fates.get(name)
        if name in self.pending_deletions:
            # Garbage already or not yet: either way a needle that was visible once keeps its answer.
            if self.pending_deletions[name] == "deleted":
                assert result.etag is not None
            else:
                assert result.etag is not None or isinstance(result.error, NoSuchBucket)
        elif reason in ("replaced", "deleted") or reason is None:
            assert self.owner_of(name) is not None or reason is not None
            if needle.upload_id is None or reason is not None or needle.upload_id not in self.uploads:
                own = decode_attributes(needle.attributes).etag or etag_of(*name, needle.crc)
                assert result.etag == self.amended.get(name, own)
            else:
                upload = self.uploads[needle.upload_id]
                assert result.etag is not None
                upload.stored.add(needle.chunk_index)
        elif not is_alive:
            assert isinstance(result.error, NoSuchBucket)
        elif reason == "unmet":
            assert isinstance(result.error, PreconditionFailed)
        else:
            assert isinstance(result.error, NeedleVoid)

    @precondition(lambda self: self.told)
    @rule(pick=PICK, name=BUCKETS, key=KEYS)
    def resolve(self, pick: int, name: str, key: str) -> None:
        """Ask about a needle that was told of, for its own key or for any other."""
        needle = self.told[pick % len(self.told)]
        bucket_id = self.pick_bucket(name)

        def ask() -> bool:
            return self.kit.do(
                lambda t: t.resolve_needle(bucket_id, key, *name_of(needle), stamp(self.tick()))
            )

        reason = self.fates.get(name_of(needle))
        current = self.objects.get(bucket_id, {}).get(key)
        if current is not None and name_of(needle) in (current.needles[0], current.amendment):
            assert ask() is True  # perhaps the first chunk of an object that has several
        elif reason is not None:
            assert ask() is (reason in ("replaced", "deleted"))
        elif name_of(needle) in self.pending_deletions:
            with suppress(BadRequest):  # as long as it is not garbage yet, and still somebody's
                assert ask() is (self.pending_deletions[name_of(needle)] == "deleted")
        else:
            with pytest.raises(BadRequest):
                ask()

    @rule(name=BUCKETS, key=KEYS, volume_id=VOLUMES)
    def resolve_first(self, name: str, key: str, volume_id: int) -> None:
        """A client gives up on a needle before its volume tells of it."""
        bucket_id = self.pick_bucket(name)
        needle = self.kit.needle(bucket_id, key, at=self.tick(), volume_id=volume_id)
        self.told.append(needle)
        assert not self.kit.do(lambda t: t.resolve_needle(bucket_id, key, *name_of(needle), stamp(self.now)))
        self.discard([name_of(needle)], "void")

    # --- uploads ----------------------------------------------------------------------------------

    @rule(
        name=BUCKETS,
        key=KEYS,
        condition=st.sampled_from([None, None, "*"]),
        stored_count=st.integers(0, 3),
        empty_count=st.integers(0, 1),
    )
    def begin_upload(
        self, name: str, key: str, condition: str | None, stored_count: int, empty_count: int
    ) -> None:
        bucket_id = self.pick_bucket(name)
        if bucket_id == 999:
            with pytest.raises(NoSuchBucket):
                self.kit.begin(bucket_id, key)
            return
        upload_id = self.kit.begin(bucket_id, key, if_none_match=condition, expires_ms=CREATED_MS + 10**6)
        self.uploads[upload_id] = Upload(bucket_id, key, condition)
        for index in range(stored_count + empty_count):
            self.set_slot(upload_id, index, volume_id=1 + index % 2, size=index)
            if index < stored_count:
                self.store_chunk(self.uploads[upload_id], index)

    def plain_uploads(self) -> list[int]:
        return sorted(number for number, upload in self.uploads.items() if not upload.has_manifest)

    @precondition(lambda self: self.plain_uploads())
    @rule(pick=PICK, index=st.integers(0, 3), volume_id=VOLUMES, size=st.integers(0, 9))
    def ask_for_slot(self, pick: int, index: int, volume_id: int, size: int) -> None:
        self.set_slot(self.plain_uploads()[pick % len(self.plain_uploads())], index, volume_id, size)

    @rule(
        name=BUCKETS,
        key=KEYS,
        parts=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 2)), max_size=4),
        volume_id=VOLUMES,
        end=st.sampled_from(["finish", "finish", "finish", "forge", "leave"]),
        lag=st.integers(0, 3),
    )
    def upload_with_a_manifest(
        self, name: str, key: str, parts: list[tuple[int, int]], volume_id: int, end: str, lag: int
    ) -> None:
        """In parts, some of them sent twice and the greatest not named; without parts: in one piece."""
        bucket_id = self.pick_bucket(name)
        if bucket_id == 999:
            return
        style = "multipart" if parts else "manifest"
        upload_id = self.kit.do(
            lambda t: t.begin_upload(
                bucket_id, key, None, {}, None, None, CREATED_MS, CREATED_MS + 10**6, style=style
            )
        )
        upload = self.uploads[upload_id] = Upload(bucket_id, key, None, has_manifest=True)
        whole: dict[int, PartRow] = {}
        for attempt, (number, count) in enumerate(parts):
            for position in range(count):
                index = part_chunk_index(number, attempt, position)
                self.set_slot(upload_id, index, volume_id=volume_id, size=position + attempt)
                self.store_chunk(upload, index)
            size = sum(position + attempt for position in range(count))
            part = PartRow(number, attempt, count, size, bytes(16), None, CREATED_MS)
            self.kit.do(lambda t: t.finish_part(upload_id, part, stamp=stamp(self.now)))  # noqa: B023
            former = whole.get(number)
            whole[number] = part
            if former is not None:
                self.void_chunks(upload, former)
        for index in range(0 if parts else 2):
            self.set_slot(upload_id, index, volume_id=1 + index, size=index)
            self.store_chunk(upload, index)
        named = sorted(whole)[: max(1, len(whole) - 1)]
        chunks = [upload.slots[index] for number in named for index in _indexes(whole[number])]
        chunks = chunks or [upload.slots[index] for index in (0, 1)]
        attributes = encode_attributes(ObjectAttributes(md5=bytes(16), part_count=len(named) or None))
        size = sum(chunk.size for chunk in chunks)
        content = encode_manifest(
            Manifest(
                1,
                size,
                attributes,
                [ManifestChunk(c.volume_id, c.needle_id, c.size, c.crc) for c in chunks],
                [
                    ManifestPart(n, whole[n].size, whole[n].chunk_count, bytes(16), None, CREATED_MS)
                    for n in named
                ],
            )
        )
        self.set_slot(upload_id, MANIFEST_INDEX, volume_id, len(content), lag=lag)
        crc = crc32c(content) ^ (end == "forge")
        upload.slots[MANIFEST_INDEX] = msgspec.structs.replace(upload.slots[MANIFEST_INDEX], crc=crc)
        self.store_chunk(upload, MANIFEST_INDEX)
        if end == "leave":
            return
        told = UploadEnd(attributes, named)

        def finish():
            return self.kit.do(lambda t: t.finish_upload(upload_id, len(chunks), size, told))

        if end == "forge":
            with pytest.raises(BadRequest):
                finish()
            return
        manifest = upload.slots[MANIFEST_INDEX]
        current = self.objects[bucket_id].get(key)
        newest = manifest.stamp
        while (result := finish()).object is None:
            index, *place, above = result.restamp
            assert (index, tuple(place)) == (MANIFEST_INDEX, name_of(manifest))
            assert above >= newest
            newest = above + 1
            self.kit.do(lambda t: t.set_stamp_of_chunk(upload_id, MANIFEST_INDEX, newest))  # noqa: B023
        etag = decode_attributes(attributes).etag
        assert etag is not None
        assert (result.object.etag, result.object.size, result.object.stamp) == (etag, size, newest)
        assert newest > max(chunk.stamp for chunk in chunks)
        assert newest > (current.stamp if current is not None else self.deletions.get((bucket_id, key), -1))
        data = [name_of(chunk) for chunk in chunks]
        needles = [*data, name_of(manifest)]
        self.discard([n for n in map(name_of, upload.slots.values()) if n not in needles], "void")
        del self.uploads[upload_id]
        self.replace(bucket_id, key, Version(needles, newest, size, etag, attributes, data))
        self.finished[upload_id] = (len(chunks), size, etag)

    def void_chunks(self, upload: Upload, part: PartRow) -> None:
        for index in _indexes(part):
            self.discard([name_of(upload.slots.pop(index))], "void")
            upload.stored.discard(index)

    def set_slot(self, upload_id: int, index: int, volume_id: int, size: int, lag: int = 0) -> None:
        upload = self.uploads[upload_id]
        needle = self.kit.needle(
            upload.bucket_id,
            upload.key,
            at=max(0, self.tick() - lag),
            volume_id=volume_id,
            size=size,
            upload_id=upload_id,
            chunk_index=index,
        )
        self.kit.do(lambda t: t.set_slots(upload_id, [(index, volume_id, needle.needle_id, size)]))
        if index in upload.slots:
            self.discard([name_of(upload.slots[index])], "void")
        upload.slots[index] = needle
        upload.stored.discard(index)

    @precondition(lambda self: any(upload.slots for upload in self.uploads.values()))
    @rule(pick=PICK)
    def commit_chunk(self, pick: int) -> None:
        waiting = [(upload, index) for upload in self.uploads.values() for index in sorted(upload.slots)]
        self.store_chunk(*waiting[pick % len(waiting)])

    def store_chunk(self, upload: Upload, index: int) -> None:
        needle = upload.slots[index]
        self.told.append(needle)
        assert self.kit.do(lambda t: t.commit_needle(needle)).etag is not None
        upload.stored.add(index)

    @precondition(lambda self: self.plain_uploads())
    @rule(
        pick=PICK,
        size_error=st.sampled_from([0, 0, 0, 0, 0, 1]),
        count_error=st.sampled_from([0, 0, 0, 0, 0, -1, 1]),
    )
    def finish_upload(self, pick: int, size_error: int, count_error: int) -> None:
        upload_id = self.plain_uploads()[pick % len(self.plain_uploads())]
        upload = self.uploads[upload_id]
        count = max(1, max(upload.stored, default=0) + 1 + count_error)
        wanted = [upload.slots.get(index) for index in range(count)]
        size = sum(needle.size for needle in wanted if needle is not None) + size_error

        def finish():
            return self.kit.do(lambda t: t.finish_upload(upload_id, count, size))

        current = self.objects[upload.bucket_id].get(upload.key)
        bucket_id, key = upload.bucket_id, upload.key
        if size_error or upload.stored != set(range(count)):
            with pytest.raises(UploadIncomplete):
                finish()
            return
        if upload.if_none_match is not None and current is not None:
            with pytest.raises(PreconditionFailed):
                finish()
            return
        with self.kit.raw() as execute:
            stamps = dict(execute("SELECT chunk_index, stamp FROM chunks WHERE upload_id = ?", (upload_id,)))
        newest = max(stamps[index] for index in range(count))
        result = finish()
        above = None if result.restamp is None else result.restamp.above
        if self.require_stamp(newest, above, bucket_id, key) is not None:
            assert result.object is None
            assert result.restamp == (0, *name_of(wanted[0]), above)  # type: ignore[arg-type]
            newest = above + 1  # type: ignore[operator]
            self.kit.do(lambda t: t.set_stamp_of_chunk(upload_id, 0, newest))
            result = finish()
        etag = etag_of(*name_of(wanted[0]), wanted[0].crc, count)  # type: ignore[arg-type]
        assert (result.object.etag, result.object.size, result.object.stamp) == (etag, size, newest)
        unused = [name_of(needle) for index, needle in upload.slots.items() if index >= count]
        del self.uploads[upload_id]
        self.discard(unused, "void")
        self.replace(upload.bucket_id, upload.key, Version([name_of(n) for n in wanted], newest, size, etag))  # type: ignore[arg-type]
        self.finished[upload_id] = (count, size, etag)

    @precondition(lambda self: self.finished)
    @rule(pick=PICK)
    def finish_again(self, pick: int) -> None:
        upload_id = sorted(self.finished)[pick % len(self.finished)]
        count, size, etag = self.finished[upload_id]
        try:
            result = self.kit.do(lambda t: t.finish_upload(upload_id, count, size))
        except NoSuchUpload:
            with self.kit.raw() as execute:  # forgotten with its bucket
                assert execute("SELECT 1 FROM uploads WHERE id = ?", (upload_id,)).fetchone() is None
            del self.finished[upload_id]
        else:
            assert (result.object.etag, result.object.size) == (etag, size)

    @precondition(lambda self: self.uploads)
    @rule(pick=PICK)
    def abort_upload(self, pick: int) -> None:
        upload_id = sorted(self.uploads)[pick % len(self.uploads)]
        self.kit.do(lambda t: t.abort_upload(upload_id, stamp(self.tick())))
        self.drop_upload(upload_id, self.fates)

    @rule(limit=st.integers(1, 3))
    def expire_uploads(self, limit: int) -> None:
        expired = self.kit.do(lambda t: t.expire_uploads(CREATED_MS + 10**7, stamp(self.tick()), limit))
        known = [upload_id for upload_id in expired if upload_id in self.uploads]
        for upload_id in known:
            self.drop_upload(upload_id, self.fates)
        for upload_id in set(expired) - set(known):  # of a deleted bucket, before the purge came to it
            for needle in [name for name in self.pending_deletions if self.of_upload(name, upload_id)]:
                self.fates[needle] = self.pending_deletions.pop(needle)

    def of_upload(self, name: Needle, upload_id: int) -> bool:
        with self.kit.raw() as execute:
            garbage = execute("SELECT 1 FROM outbox WHERE volume_id = ? AND needle_id = ?", name).fetchone()
        return garbage is not None and self.pending_deletions[name] == "aborted"

    # --- garbage, restarts ------------------------------------------------------------------------

    @rule(volume_id=VOLUMES, limit=st.integers(1, 5))
    def write_tombstones(self, volume_id: int, limit: int) -> None:
        rows = self.kit.catalog.outbox(volume_id, limit)
        self.kit.do(lambda t: t.clear_outbox(volume_id, [needle_id for needle_id, _, _ in rows]))

    @rule(volume_id=VOLUMES, count=st.integers(1, 3), pick=PICK)
    def give_up_orphans(self, volume_id: int, count: int, pick: int) -> None:
        """A sweep found needles that nothing named; meanwhile something names some of them."""
        orphans = [self.kit.needle(999, volume_id=volume_id).needle_id for _ in range(count)]
        told = [needle.needle_id for needle in self.told if needle.volume_id == volume_id]
        others = told[pick % len(told) :][:5] if told else []
        found = self.kit.do(lambda t: t.void_orphans(volume_id, [*others, *orphans], stamp(self.tick())))
        assert found == orphans, "every needle that was told of has an owner, or is garbage"
        self.discard([(volume_id, needle_id) for needle_id in orphans], "void")

    @rule(disk_id=st.sampled_from(["disk-1", "disk-2", "disk-3"]))
    def add_disk(self, disk_id: str) -> None:
        self.kit.do(lambda t: t.add_disk(disk_id, "any", CREATED_MS))
        if disk_id not in self.notes:
            self.notes[disk_id] = {bucket_id: (name, False) for name, bucket_id in self.names.items()}

    @rule(disk_id=st.sampled_from(["disk-1", "disk-2", "disk-3"]), limit=st.integers(1, 3), by=st.booleans())
    def write_down(self, disk_id: str, limit: int, by: bool) -> None:
        notes = self.kit.catalog.bucket_notes(disk_id, limit)
        if by and self.names:  # a bucket goes while the disk writes
            self.delete_bucket(min(self.names), True)
        self.kit.do(lambda t: t.clear_bucket_notes(disk_id, notes))
        for note in notes:
            if self.notes[disk_id].get(note.bucket_id) == (note.name, note.is_deleted):
                del self.notes[disk_id][note.bucket_id]

    @rule()
    def restart(self) -> None:
        stamp_max = self.kit.catalog.stamp_max()
        self.kit.reopen()
        assert self.kit.catalog.stamp_max() == stamp_max
        self.floor = max(self.floor, stamp_max)

    # --- what must hold ---------------------------------------------------------------------------

    @rule(
        name=BUCKETS,
        prefix=st.sampled_from(["", "a", "a/", "b/", "x"]),
        by_folder=st.booleans(),
        limit=st.integers(1, 4),
    )
    def listings_are_those_of_the_model(self, name: str, prefix: str, by_folder: bool, limit: int) -> None:
        self.check_listing(self.pick_bucket(name), prefix, "/" if by_folder else None, limit)

    def check_listing(self, bucket_id: int, prefix: str, delimiter: str | None, limit: int) -> None:
        entries = {
            common_prefix(key, prefix, delimiter) or key
            for key in self.objects.get(bucket_id, {})
            if key.startswith(prefix)
        }
        listed: list[str] = []
        after: str | None = ""
        while after is not None:
            page = self.kit.catalog.list_objects(
                bucket_id, prefix=prefix, delimiter=delimiter, after=after, limit=limit
            )
            listed += sorted([row.key for row in page.objects] + page.prefixes)
            assert len(listed) <= len(entries)
            after = page.next_after
        assert listed == sorted(entries)

    @rule(volume_id=VOLUMES, first_id=st.integers(1, 20), count=st.sampled_from([1, 8, 9, 500]))
    def bitmaps_and_names_are_those_of_the_model(self, volume_id: int, first_id: int, count: int) -> None:
        def ids(bitmap: bytes) -> set[int]:
            assert len(bitmap) == (count + 7) // 8
            return {
                first_id + i for i in range(8 * len(bitmap)) if bitmap[i >> 3] & 1 << (i & 7)
            } - pending_deletions

        def expected(needles: dict[Needle, tuple[str, str]]) -> dict[int, tuple[str, str]]:
            asked = range(first_id, first_id + count)
            return {
                needle_id: name
                for (v, needle_id), name in needles.items()
                if v == volume_id and needle_id in asked
            }

        pending_deletions = {needle_id for v, needle_id in self.pending_deletions if v == volume_id}
        bucket_names = {bucket_id: name for name, bucket_id in self.names.items()}
        named, slots = {}, {}
        for bucket_id, objects in self.objects.items():
            for key, version in objects.items():
                named.update(dict.fromkeys(version.needles, (bucket_names[bucket_id], key)))
        for upload in self.uploads.values():
            for index, needle in upload.slots.items():
                target = named if index in upload.stored else slots
                target[name_of(needle)] = (bucket_names[upload.bucket_id], upload.key)
        catalog = self.kit.catalog
        assert ids(catalog.row_bitmap(volume_id, first_id, count)) == set(expected(named))
        known = {**named, **slots, **dict.fromkeys(self.fates, ("", ""))}
        assert ids(catalog.known_bitmap(volume_id, first_id, count)) == set(expected(known))
        with self.kit.raw() as execute:
            names = names_on(execute, volume_id, range(first_id, first_id + count))
        assert names == expected({**named, **slots})

    @invariant()
    def records_of_deletions_are_kept_as_long_as_they_hide_something(self) -> None:
        horizon = self.kit.catalog.tombstone_horizon()
        with self.kit.raw() as execute:
            waiting = execute("SELECT volume_id, needle_id FROM outbox").fetchall()
            uploads = execute(
                "SELECT upload_id, max(stamp) FROM chunks WHERE is_stored GROUP BY 1"
            ).fetchall()
        hidden = [self.stamps[needle] for needle in waiting if needle in self.stamps]
        for upload_id, newest in uploads:
            if upload_id in self.uploads:
                upload = self.uploads[upload_id]
                hidden.append((upload.bucket_id, upload.key, newest))
        for bucket_id, key, at in hidden:
            deleted_at = self.deletions.get((bucket_id, key), 0)
            assert not at < deleted_at < horizon, "without that record this version would come back"

    @invariant()
    def disks_are_told_what_they_have_not_written_down(self) -> None:
        for disk_id, notes in self.notes.items():
            waiting = self.kit.catalog.bucket_notes(disk_id, 1000)
            assert {note.bucket_id: (note.name, note.is_deleted) for note in waiting} == notes

    @invariant()
    def objects_are_those_of_the_model(self) -> None:
        for bucket_id, objects in self.objects.items():
            self.check_listing(bucket_id, "", "/", 2)
            rows = self.kit.catalog.list_objects(bucket_id).objects
            assert {row.key: (row.etag, row.size, row.stamp) for row in rows} == {
                key: (version.etag, version.size, version.stamp) for key, version in objects.items()
            }
            for row in rows:
                if row.chunk_count > 1:
                    chunks = self.kit.catalog.chunks(row.upload_id)  # type: ignore[arg-type]
                    version = objects[row.key]
                    expected = version.needles if version.chunks is None else version.chunks
                    assert [(c.volume_id, c.needle_id) for c in chunks] == expected
            found = self.kit.catalog.objects(bucket_id, list(objects))
            assert [row.attributes for row in found if row is not None] == [
                version.attributes for version in objects.values()
            ]

    @invariant()
    def figures_and_owners_are_right(self) -> None:
        figures = {row.name: (row.object_count, row.byte_count) for row in self.kit.catalog.buckets()}
        assert figures == {
            name: (len(self.objects[number]), sum(version.size for version in self.objects[number].values()))
            for name, number in self.names.items()
        }
        with self.kit.raw() as execute:
            owned = execute(
                "SELECT volume_id, needle_id FROM objects"
                " WHERE NOT EXISTS (SELECT 1 FROM chunks WHERE chunks.upload_id = objects.upload_id)"
                " UNION ALL SELECT volume_id, needle_id FROM chunks"
                " UNION ALL SELECT volume_id, needle_id FROM amendments"
            ).fetchall()
            garbage = execute(
                "SELECT volume_id, needle_id, reason FROM outbox"
                " UNION ALL SELECT volume_id, needle_id, reason FROM buried"
            ).fetchall()
            waiting = dict(execute("SELECT volume_id, count(*) FROM outbox GROUP BY volume_id").fetchall())
        assert self.kit.catalog.outbox_counts() == waiting
        everything = owned + [(volume_id, needle_id) for volume_id, needle_id, _ in garbage]
        assert len(set(everything)) == len(everything), "a needle has two owners"
        reasons = {(volume_id, needle_id): reason for volume_id, needle_id, reason in garbage}
        expected_owned = {
            *(
                needle
                for objects in self.objects.values()
                for version in objects.values()
                for needle in version.needles
            ),
            *(name_of(needle) for upload in self.uploads.values() for needle in upload.slots.values()),
        }
        assert set(owned) - set(self.pending_deletions) == expected_owned
        early = {needle: reason for needle, reason in reasons.items() if needle in self.pending_deletions}
        assert early.items() <= self.pending_deletions.items()
        assert {
            needle: reason for needle, reason in reasons.items() if needle not in self.pending_deletions
        } == self.fates
        assert set(self.pending_deletions) <= set(everything), "a needle of a deleted bucket was lost"


class SmallPieces(CatalogMachine):
    """Little at a time: everything else meets half-purged buckets, and deletions are soon forgotten."""

    def __init__(self) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(warehouse.catalog.sqlite.transaction, "PURGE_AT_ONCE", 1)
        self.patch.setattr(warehouse.catalog.sqlite.deletion_stamps, "DELETION_STAMPS_MAX", 2)
        super().__init__()

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            self.patch.undo()


def test_an_undone_deletion_is_remembered_with_its_stamp() -> None:
    """Even of a version that is later than the clock, and when later deletions make it be forgotten."""
    state = SmallPieces()
    state.create_bucket("films")
    for name, key, again in (("photos", "a", True), ("photos", "a", False)):
        state.deletion_overtakes_a_put(name, key, lag=0, others=[], again=again)
    state.undone_requests_change_nothing("photos", "a")
    for name, key in (("films", "a/1"), ("photos", "a/1"), ("films", "a")):
        state.deletion_overtakes_a_put(name, key, lag=0, others=[], again=False)
    state.teardown()


TestCatalog = CatalogMachine.TestCase
TestCatalog.settings = settings(max_examples=50, stateful_step_count=50, deadline=None)
TestCatalogInSmallPieces = SmallPieces.TestCase
TestCatalogInSmallPieces.settings = settings(max_examples=50, stateful_step_count=50, deadline=None)
