"""warehouse sync: what has changed is copied, nothing else, and nothing is deleted in doubt."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

import client
from cli_kit import Run, runner
from client.places import UsageError
from client.syncing import Entry, Findings, Side, Verdict, compare
from client.transfers import Transfer
from client.walks import local_files
from errors import BadRequest, PermissionDenied
from fake_store import CREATED_MS, FakeStore, fake_store

CREATED_S = CREATED_MS / 1000


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FakeStore]:
    async with fake_store() as store:
        store.buckets |= {"photos": {}, "mirror": {}}
        store.profile.save(tmp_path / "profile.toml")
        yield store


@pytest.fixture
def run(store: FakeStore, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    return runner(tmp_path, capfd)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files that were changed before the fake store stored anything."""
    folder = tmp_path / "pictures"
    for name in ("a-b", "a.txt", "a/1", "a/2/x", "a0", "ü"):
        write(folder / name, name.encode())
    return folder


def write(path: Path, data: bytes, changed_s: float = CREATED_S - 100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (changed_s, changed_s))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


async def copied(run: Run, *words: str) -> set[str]:
    """The targets of a sync, without what they have in common."""
    ran = await run("sync", *words, "--json")
    return {event["target"].rpartition("pictures/")[2] for event in ran.objects if event["event"] == "copied"}


# --- comparing ------------------------------------------------------------------------------------


async def side_of(files: dict[str, tuple[int, int]]) -> Side:
    for name in sorted(files, key=str.encode):
        await trio.lowlevel.checkpoint()
        yield Entry(name, *files[name])


async def compared(
    ours: dict[str, tuple[int, int]], theirs: dict[str, tuple[int, int]]
) -> tuple[dict[str, Verdict], Findings]:
    async def run(progress: object) -> int:
        return 0

    verdicts: dict[str, Verdict] = {}

    def transfer_of(entry: Entry, there: Entry | None, verdict: Verdict) -> Transfer:
        verdicts[entry.name] = verdict
        assert (there is not None) == (entry.name in theirs)
        return Transfer(entry.name, "", entry.size, run)

    findings = Findings()
    found = compare(side_of(ours), side_of(theirs), findings, transfer_of)
    names = [one.source async for one in found if isinstance(one, Transfer)]
    assert sorted([*names, *findings.put_off]) == sorted(verdicts)
    return verdicts, findings


FILES = st.dictionaries(
    st.text(st.sampled_from("a/.0ü\U00010000"), min_size=1, max_size=4),
    st.tuples(st.integers(0, 2), st.integers(0, 2)),
    max_size=12,
)


@given(ours=FILES, theirs=FILES)
def test_two_sides_are_compared_as_two_dicts_would_be(
    ours: dict[str, tuple[int, int]], theirs: dict[str, tuple[int, int]]
) -> None:
    verdicts, findings = trio.run(compared, ours, theirs)
    copied = {name for name, (size, _) in ours.items() if name not in theirs or theirs[name][0] != size}
    looked_at = {name for name in ours.keys() - copied if theirs[name] != ours[name]}
    assert {name for name, verdict in verdicts.items() if verdict is Verdict.COPY} == copied
    assert {name for name, verdict in verdicts.items() if verdict is Verdict.LOOK} == looked_at
    assert findings.same_count == len(ours) - len(copied) - len(looked_at)
    assert {entry.name for entry in findings.surplus} == set(theirs) - set(ours)
    assert findings.source_count == len(ours)
    assert findings.kept_count == len(ours.keys() & theirs.keys())
    only_theirs = theirs.keys() - ours.keys()
    assert set(findings.put_off) == {
        name for name in ours.keys() - theirs.keys() if any(name.startswith(f"{it}/") for it in only_theirs)
    }


async def test_a_folder_is_walked_in_the_order_of_its_keys(folder: Path) -> None:
    names = [entry.path.relative_to(folder).as_posix() async for entry in local_files(folder)]
    assert names == sorted(names, key=str.encode) == ["a-b", "a.txt", "a/1", "a/2/x", "a0", "ü"]


# --- up, down, across -----------------------------------------------------------------------------


async def test_only_what_has_changed_goes_up(store: FakeStore, run: Run, folder: Path) -> None:
    assert await copied(run, str(folder), "wh://photos/pictures") == set(contents(folder))
    assert await copied(run, str(folder), "wh://photos/pictures") == set()
    write(folder / "a0", b"another size")
    write(folder / "a/1", b"A/1", CREATED_S + 1)  # the same size, later; the fake store's clock stands still
    write(folder / "new", b"new")
    assert await copied(run, str(folder), "wh://photos/pictures") == {"a0", "a/1", "new"}
    assert store.buckets["photos"]["pictures/a0"].size == 12
    os.utime(folder / "a/1", (CREATED_S, CREATED_S))
    assert "7 files already the same" in (await run("sync", str(folder), "wh://photos/pictures")).out


async def test_what_comes_down_is_not_sent_up_again(
    store: FakeStore, run: Run, folder: Path, tmp_path: Path
) -> None:
    write(folder / "large", random.Random(1).randbytes(2 * 1024 * 1024))
    await run("sync", str(folder), "wh://photos/pictures")
    down = tmp_path / "down" / "pictures"
    assert await copied(run, "wh://photos/pictures", str(down)) == set(contents(folder))
    assert contents(down) == contents(folder)
    assert {path.stat().st_mtime for path in down.rglob("*") if path.name != "large"} >= {CREATED_S - 100}
    assert {name: (folder / name).stat().st_mtime_ns for name in contents(folder)} == {
        name: (down / name).stat().st_mtime_ns for name in contents(down)
    }
    assert await copied(run, "wh://photos/pictures", str(down)) == set()
    assert await copied(run, str(down), "wh://photos/pictures") == set()
    write(down / "a0", b"changed here, and older")
    assert await copied(run, "wh://photos/pictures", str(down)) == {"a0"}
    assert (down / "a0").read_bytes() == b"a0"


async def test_buckets_are_mirrored(store: FakeStore, run: Run, folder: Path) -> None:
    await run("sync", str(folder), "wh://photos/pictures")
    assert await copied(run, "wh://photos", "wh://mirror") == {*contents(folder)}
    assert await copied(run, "wh://photos", "wh://mirror") == set()
    assert set(store.buckets["mirror"]) == {f"pictures/{name}" for name in contents(folder)}


# --- deleting -------------------------------------------------------------------------------------


async def test_what_only_the_target_has_is_deleted_if_asked_for(
    store: FakeStore, run: Run, folder: Path, tmp_path: Path
) -> None:
    await run("sync", str(folder), "wh://photos/pictures")
    down = tmp_path / "down"
    await run("sync", "wh://photos/pictures", str(down))
    (folder / "a.txt").unlink()
    (folder / "a/2/x").unlink()
    async with client.connect(store.profile) as warehouse:
        await warehouse.bucket("photos").put("pictures2/kept", b"not in the folder")
    await run("sync", str(folder), "wh://photos/pictures")
    assert "pictures/a.txt" in store.buckets["photos"]
    ran = await run("sync", str(folder), "wh://photos/pictures", "--delete", "--json")
    assert ran.objects[-1]["deleted_count"] == 2
    assert set(store.buckets["photos"]) == {"pictures2/kept"} | {
        f"pictures/{name}" for name in contents(folder)
    }
    (tmp_path / "elsewhere").write_bytes(b"kept")
    (down / "link").symlink_to(tmp_path / "elsewhere")
    ran = await run("sync", "wh://photos/pictures", str(down), "--delete")
    assert "3 deleted" in ran.out
    assert contents(down) == contents(folder)
    assert (tmp_path / "elsewhere").read_bytes() == b"kept"


@pytest.mark.parametrize("trouble", ["a name that is no text", "a link that shall fail", "a refused put"])
async def test_nothing_is_deleted_when_something_failed(
    store: FakeStore, run: Run, folder: Path, trouble: str
) -> None:
    await run("sync", str(folder), "wh://photos/pictures")
    (folder / "a.txt").unlink()
    options: tuple[str, ...] = ()
    if trouble == "a name that is no text":
        (folder / os.fsdecode(b"not-utf8-\xff")).write_bytes(b"")
    elif trouble == "a link that shall fail":
        (folder / "loop").symlink_to(folder)
        options = ("--links", "fail")
    else:
        write(folder / "new", b"new")
        store.faults.put_error_before_commit = [BadRequest("no")]
    ran = await run("sync", "--delete", *options, str(folder), "wh://photos/pictures")
    assert ran.status == 1
    assert "nothing was deleted" in ran.out
    assert "pictures/a.txt" in store.buckets["photos"]


async def test_a_source_that_cannot_be_listed_deletes_nothing(
    store: FakeStore, run: Run, folder: Path
) -> None:
    store.faults.refused["ListObjects"] = [PermissionDenied("no")]
    with pytest.raises(PermissionDenied):
        await run("sync", "--delete", "wh://photos/pictures", str(folder))
    assert len(contents(folder)) == 6


@pytest.mark.parametrize(
    "words",
    [
        ("nowhere", "wh://photos"),
        ("-", "wh://photos"),
        ("wh://photos", "-"),
        ("wh://photos/a", "wh://photos/a/b"),
        ("wh://photos", "wh://photos/a"),
        ("wh://photos/a/b", "wh://photos/a"),
        (".", "."),
    ],
)
async def test_what_makes_no_sense_is_refused_before_anything_is_asked(
    store: FakeStore, run: Run, words: tuple[str, str]
) -> None:
    with pytest.raises(UsageError):
        await run("sync", *words)
    assert store.asked == []
