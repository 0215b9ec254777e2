"""`warehouse mv`: nothing is lost, whatever happens in between."""

from __future__ import annotations

from pathlib import Path

import pytest

import warehouse
from cli_kit import Run, process
from fake_store import FakeStore
from warehouse.cli.usage import UsageError
from warehouse.errors import NoSuchObject, VolumeOffline

KEYS = ("2026/1.jpg", "2026/in/2.jpg", "2026/note.txt", "a.jpg", "b.jpg")


@pytest.fixture
async def store(store: FakeStore) -> FakeStore:
    store.buckets |= {"photos": {}, "archive": {}}
    async with warehouse.connect(store.profile) as client:
        for key in KEYS:
            await client.bucket("photos").put(key, key.encode(), metadata={"of": key})
    return store


@pytest.mark.parametrize(
    ("words", "photos", "archive"),
    [
        ("wh://photos/a.jpg wh://photos/c.jpg", "2026/1.jpg 2026/in/2.jpg 2026/note.txt b.jpg c.jpg", ""),
        (
            "wh://photos/a.jpg wh://photos/b.jpg wh://archive",
            "2026/1.jpg 2026/in/2.jpg 2026/note.txt",
            "a.jpg b.jpg",
        ),
        ("wh://photos/*.jpg wh://archive/x/", "2026/1.jpg 2026/in/2.jpg 2026/note.txt", "x/a.jpg x/b.jpg"),
        (
            "wh://photos/*.jpg wh://photos/2026/",
            "2026/1.jpg 2026/a.jpg 2026/b.jpg 2026/in/2.jpg 2026/note.txt",
            "",
        ),
        ("-r wh://photos/2026 wh://archive/26", "a.jpg b.jpg", "26/1.jpg 26/in/2.jpg 26/note.txt"),
        ("-r --exclude *.txt wh://photos/2026 wh://archive/", "2026/note.txt a.jpg b.jpg", "1.jpg in/2.jpg"),
        ("-r wh://photos wh://archive", "", " ".join(KEYS)),
    ],
)
async def test_what_is_moved_is_at_its_new_place_and_not_at_its_old(
    store: FakeStore, run: Run, words: str, photos: str, archive: str
) -> None:
    ran = await run("mv", *words.split(), "--json")
    assert ran.status == 0
    assert {one["event"] for one in ran.objects} == {"moved", "summary"}
    assert sorted(store.buckets["photos"]) == photos.split()
    assert sorted(store.buckets["archive"]) == archive.split()
    for bucket in ("photos", "archive"):
        for info in store.buckets[bucket].values():
            assert info.metadata["of"].rpartition("/")[2][-4:] == info.key[-4:]
            assert info.size == len(info.metadata["of"])


async def test_an_object_that_is_replaced_meanwhile_stays(
    store: FakeStore, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = warehouse.Bucket.copy

    async def replacing(bucket: warehouse.Bucket, key: str, *words: object) -> object:
        written = await copy(bucket, key, *words)  # type: ignore[arg-type]
        if key == "a.jpg":
            await bucket.put(key, b"newer")
        return written

    monkeypatch.setattr(warehouse.Bucket, "copy", replacing)
    ran = await run("mv", "wh://photos/*.jpg", "wh://archive/")
    assert ran.status == 1
    assert "it stays, and a copy is at wh://archive/a.jpg (precondition_failed)" in ran.err
    assert store.buckets["photos"]["a.jpg"].size == 5
    assert "b.jpg" not in store.buckets["photos"]


async def test_a_name_with_wildcards_is_never_moved_onto_itself(store: FakeStore, run: Run) -> None:
    async with warehouse.connect(store.profile) as client:
        await client.bucket("photos").put("a*b", b"1")
    with pytest.raises(UsageError, match="onto itself"):
        await run("mv", "wh://photos/a*b", "wh://photos/a*b")
    assert "a*b" in store.buckets["photos"]
    assert (await run("mv", "wh://photos/a*b", "wh://archive/a*b")).status == 0
    assert sorted(store.buckets["archive"]) == ["a*b"]


async def test_an_object_that_cannot_be_copied_stays(
    store: FakeStore, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(*words: object) -> object:
        raise VolumeOffline("the disk is away")

    monkeypatch.setattr(warehouse.Bucket, "copy", failing)
    before = dict(store.buckets["photos"])
    assert (await run("mv", "-r", "wh://photos", "wh://archive")).status == 1
    assert store.buckets == {"photos": before, "archive": {}}


async def test_a_place_that_is_not_there_is_no_empty_one(store: FakeStore, run: Run, tmp_path: Path) -> None:
    for words in (["wh://photos/z", "wh://archive/"], ["-r", "wh://photos/z", "wh://archive"]):
        with pytest.raises(NoSuchObject):
            await run("mv", *words)
    ran = await process(tmp_path, "mv", "wh://photos/2026", "wh://archive/", "--json")
    assert (ran.status, ran.objects[-1]["code"]) == (1, "no_such_object")
    assert "is a folder: move it with -r" in ran.err
