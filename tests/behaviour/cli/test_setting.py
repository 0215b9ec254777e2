"""`warehouse set`: type and metadata change, everything else stays."""

from __future__ import annotations

from pathlib import Path

import pytest

import warehouse
from cli_kit import Run, process
from fake_store import FakeStore

KEYS = ("2026/1", "2026/in/2", "a", "b*c")


@pytest.fixture
async def store(store: FakeStore) -> FakeStore:
    store.buckets |= {"photos": {}}
    async with warehouse.connect(store.profile) as client:
        for key in KEYS:
            await client.bucket("photos").put(key, key.encode(), "text/x", {"mtime": "5", "of": key})
    return store


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        ("wh://photos/a", "a"),
        ("wh://photos/b*c", "b*c"),
        ("wh://photos/2026/*", "2026/1"),
        ("wh://photos/a wh://photos/2026/1", "2026/1 a"),
        ("-r wh://photos/2026", "2026/1 2026/in/2"),
        ("-r wh://photos", " ".join(KEYS)),
    ],
)
async def test_what_is_named_changes_and_nothing_else(
    store: FakeStore, run: Run, words: str, changed: str
) -> None:
    before = dict(store.buckets["photos"])
    options = ["--content-type", "image/png", "--metadata", "x=1=2", "--unset", "of"]
    assert (await run("set", *options, *words.split())).status == 0
    assert {key for key, info in store.buckets["photos"].items() if info != before[key]} == set(
        changed.split()
    )
    async with warehouse.connect(store.profile) as client:
        for key in changed.split():
            info = await client.bucket("photos").stat(key)
            assert (info.content_type, info.metadata) == ("image/png", {"mtime": "5", "x": "1=2"})
            assert await client.bucket("photos").get(key) == key.encode()
    again = await run("set", *options, *words.split(), "--json")  # nothing is left to do
    assert (again.objects[-1]["file_count"], again.objects[-1]["same_count"]) == (0, len(changed.split()))


async def test_what_somebody_stores_meanwhile_stays(
    store: FakeStore, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = warehouse.Bucket.copy

    async def late(bucket: warehouse.Bucket, key: str, *words: object, **more: object) -> object:
        await bucket.put(key, b"newer")
        return await copy(bucket, key, *words, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(warehouse.Bucket, "copy", late)
    ran = await run("set", "--metadata", "x=1", "wh://photos/a")
    assert (ran.status, "(precondition_failed)" in ran.err) == (1, True)
    assert store.buckets["photos"]["a"].size == 5
    assert store.buckets["photos"]["a"].metadata == {}


async def test_a_folder_is_said_to_be_one(store: FakeStore, tmp_path: Path) -> None:
    ran = await process(tmp_path, "set", "--metadata", "x=1", "wh://photos/2026", "--json")
    assert (ran.status, ran.objects[-1]["code"]) == (1, "no_such_object")
    assert "is a folder: change what is in it with -r" in ran.err
