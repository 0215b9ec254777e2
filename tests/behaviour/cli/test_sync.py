"""warehouse sync: what has changed is copied, nothing else, and nothing is deleted in doubt."""

from __future__ import annotations

import fcntl
import io
import os
import random
import signal
import socket
import sys
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

import warehouse
from cli_kit import Run, command_of
from fake_store import CREATED_MS, FakeStore
from warehouse.cli.copying import deletions
from warehouse.cli.copying.differences import Entry, Findings, Side, Verdict, compare
from warehouse.cli.copying.transfers import Transfer
from warehouse.cli.copying.walks import local_files
from warehouse.cli.usage import UsageError
from warehouse.errors import BadRequest, DeletionRefused, NoSuchObject, PermissionDenied
from warehouse.transport.messages import Listing, ListObjects

CREATED_S = CREATED_MS / 1000


@pytest.fixture
def store(store: FakeStore) -> FakeStore:
    store.buckets |= {"photos": {}, "mirror": {}}
    return store


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
    async with warehouse.connect(store.profile) as client:
        await client.bucket("photos").put("pictures2/kept", b"not in the folder")
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


# --- a mistyped source ----------------------------------------------------------------------------


async def objects(store: FakeStore, bucket: str, *keys: str) -> None:
    async with warehouse.connect(store.profile) as client:
        for key in keys:
            await client.bucket(bucket).put(key, key.encode())


@pytest.mark.parametrize("options", [(), ("--yes",), ("--max-delete", "100%"), ("--exclude", "none")])
@pytest.mark.parametrize("source", ["wh://photos/mistyped", "wh://photos/pictures/", "wh://mirror", "empty"])
async def test_an_empty_source_never_empties_a_target(
    store: FakeStore, run: Run, folder: Path, tmp_path: Path, source: str, options: tuple[str, ...]
) -> None:
    await objects(store, "photos", "kept/1", "kept/2")
    (tmp_path / "empty").mkdir()
    is_local = source == "empty"
    words = (str(tmp_path / "empty"), "wh://photos/kept") if is_local else (source, str(folder))
    with pytest.raises(DeletionRefused, match="is empty, so --delete would delete"):
        await run("sync", "--delete", *options, *words)
    assert len(contents(folder)) == 6
    assert len(store.buckets["photos"]) == 2
    ran = await run("sync", "--delete", "--allow-empty-source", "--json", *words)
    assert ran.objects[-1]["deleted_count"] == (2 if is_local else 6)
    assert ran.status == 0


async def test_a_folder_of_the_store_that_is_not_there_is_an_error_without_delete_too(
    store: FakeStore, run: Run, tmp_path: Path
) -> None:
    with pytest.raises(NoSuchObject, match="nothing in wh://photos/mistyped"):
        await run("sync", "wh://photos/mistyped", str(tmp_path / "down"))
    assert (await run("sync", "wh://photos", str(tmp_path / "down"))).status == 0, "an empty bucket is there"


async def test_another_folder_in_place_of_the_source_is_asked_about(
    store: FakeStore, run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await objects(store, "photos", "other/1")
    with pytest.raises(DeletionRefused, match=r"all 6 files of .*--yes.*nothing was copied or deleted"):
        await run("sync", "--delete", "wh://photos/other", str(folder))
    assert len(contents(folder)) == 6
    monkeypatch.setattr(deletions, "is_terminal", lambda: True)
    monkeypatch.setattr(sys, "stdin", io.StringIO("no\nyes\n"))
    with pytest.raises(DeletionRefused, match="the answer was no"):
        await run("sync", "--delete", "wh://photos/other", str(folder))
    assert len(contents(folder)) == 6
    ran = await run("sync", "--delete", "wh://photos/other", str(folder))
    assert "Delete all 6 files of" in ran.err
    assert set(contents(folder)) == {"1"}


@pytest.mark.parametrize("direction", ["up", "down", "across"])
async def test_a_wrong_source_that_was_refused_is_refused_again_and_never_mixed_in(
    store: FakeStore, run: Run, folder: Path, tmp_path: Path, direction: str
) -> None:
    wrong = [f"other/{number}" for number in range(8)]
    await objects(store, "photos", *wrong)
    await run("cp", "-r", "wh://photos/other", str(tmp_path / "other"))
    await run("cp", "-r", str(folder), "wh://mirror")
    source, target = {
        "up": (str(tmp_path / "other"), "wh://mirror"),
        "down": ("wh://photos/other", str(folder)),
        "across": ("wh://photos/other", "wh://mirror"),
    }[direction]
    before = contents(folder), dict(store.buckets["mirror"])
    for _ in range(3):
        with pytest.raises(DeletionRefused, match="all 6 files"):
            await run("sync", "--delete", source, target)
        assert (contents(folder), dict(store.buckets["mirror"])) == before
    assert (await run("sync", "--delete", "--yes", source, target)).status == 0
    there = contents(folder) if direction == "down" else store.buckets["mirror"]
    assert set(there) == {str(number) for number in range(8)}


async def test_a_source_whose_listing_ends_half_way_deletes_nothing(store: FakeStore, run: Run) -> None:
    for number in range(1500):
        info = warehouse.ObjectInfo(key="", size=1, etag="1-1-00000007", created_ms=0)
        store.buckets["photos"][f"{number:04}"] = store.buckets["mirror"][f"{number:04}"] = info
    store.buckets["mirror"]["9999"] = info
    whole = store._list

    def half(request: ListObjects) -> Listing:
        if request.bucket == "photos" and request.after:
            raise PermissionDenied("no more")
        return whole(request)

    store._list = half  # type: ignore[method-assign]
    with pytest.raises(PermissionDenied):
        await run("sync", "--delete", "wh://photos", "wh://mirror")
    assert len(store.buckets["mirror"]) == 1501
    store._list = whole  # type: ignore[method-assign]
    assert "1 deleted" in (await run("sync", "--delete", "wh://photos", "wh://mirror")).out


async def test_no_more_is_deleted_than_was_allowed(store: FakeStore, run: Run, folder: Path) -> None:
    await run("sync", str(folder), "wh://photos/pictures")
    (folder / "a0").unlink()
    (folder / "ü").unlink()
    for limit in ("1", "30%"):
        with pytest.raises(DeletionRefused, match="2 of 6 files"):
            await run("sync", "--delete", "--max-delete", limit, str(folder), "wh://photos/pictures")
    assert len(store.buckets["photos"]) == 6
    ran = await run("sync", "--delete", "--max-delete", "34%", str(folder), "wh://photos/pictures")
    assert ran.status == 0
    assert len(store.buckets["photos"]) == 4


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_dry_run_tells_and_changes_nothing(
    store: FakeStore, run: Run, folder: Path, tmp_path: Path, direction: str
) -> None:
    await run("sync", str(folder), "wh://photos/pictures")
    down = tmp_path / "down"
    await run("sync", "wh://photos/pictures", str(down))
    ours, theirs = (folder, "wh://photos/pictures") if direction == "up" else ("wh://photos/pictures", down)
    write((folder if direction == "up" else down) / "a0", b"A0", CREATED_S + 5)
    if direction == "up":
        (folder / "ü").unlink()
    else:
        write(down / "extra", b"")
    before = dict(store.buckets["photos"]), contents(down), (down / "a0").stat().st_mtime_ns
    ran = await run("sync", "--delete", "--dry-run", str(ours), str(theirs), "--json")
    events = [(event["event"], event["target"].rpartition("/")[2]) for event in ran.objects[:-1]]
    assert events == [("would_copy", "a0"), ("would_delete", "ü" if direction == "up" else "extra")]
    assert (dict(store.buckets["photos"]), contents(down), (down / "a0").stat().st_mtime_ns) == before
    ran = await run("sync", "--delete", "--dry-run", str(ours), str(theirs))
    assert "would copy 1 file" in ran.out
    assert "1 would be deleted" in ran.out


async def test_a_dry_run_says_why(store: FakeStore, run: Run, folder: Path) -> None:
    await run("sync", str(folder), "wh://photos/pictures")
    write(folder / "a0", b"longer")
    write(folder / "a/1", b"A/1", CREATED_S)
    write(folder / "new", b"")
    (folder / "ü").unlink()
    words = ("sync", "--delete", "--dry-run", str(folder), "wh://photos/pictures")
    wanted = {"a0": "6 bytes, not 2", "a/1": "other contents", "new": "new"}
    events = (await run(*words, "--json")).objects
    told = {event["target"]: event["cause"] for event in events if event["event"] == "would_copy"}
    assert told == {f"wh://photos/pictures/{name}": why for name, why in wanted.items()}
    lines = (await run(*words)).out.splitlines()
    for name, why in wanted.items():
        assert f"would copy {folder / name} to wh://photos/pictures/{name} ({why})" in lines
    assert "would delete wh://photos/pictures/ü (not in the source)" in lines
    events = (await run(*words, "--json", "--exact-times")).objects
    assert {"another time"} == {event["cause"] for event in events if event.get("target", "").endswith("a/1")}


async def test_the_data_of_a_store_is_neither_copied_nor_deleted(
    store: FakeStore, run: Run, folder: Path
) -> None:
    await run("sync", str(folder), "wh://photos/pictures")
    for name in ("data/master/catalog.sqlite3", "data/disk-1/volumes/1/g1.vol", "alone/disk.json"):
        write(folder / name, b"precious")
    (folder / "alone" / "volumes").mkdir()
    ran = await run("sync", "--delete", "wh://photos/pictures", str(folder))
    assert ran.status == 0
    assert (folder / "data/disk-1/volumes/1/g1.vol").exists()
    ran = await run("sync", str(folder), "wh://photos/pictures")
    assert ran.err.count("the data folder of a store") == 2
    assert len(store.buckets["photos"]) == 6
    for target in (folder / "data", folder / "data" / "disk-1" / "deeper"):
        with pytest.raises(UsageError, match="the data folder of a store"):
            await run("sync", "--delete", "wh://photos/pictures", str(target))


# --- what is the same -----------------------------------------------------------------------------


async def test_other_contents_of_the_same_size_are_noticed_whatever_their_date(
    store: FakeStore, run: Run, folder: Path, tmp_path: Path
) -> None:
    await run("sync", str(folder), "wh://photos/pictures")
    write(folder / "a0", b"A0", CREATED_S - 1_000_000)  # brought back from a backup
    assert await copied(run, str(folder), "wh://photos/pictures") == {"a0"}
    down = tmp_path / "down" / "pictures"
    await run("sync", "wh://photos/pictures", str(down))
    write(down / "a0", b"xx", CREATED_S - 2_000_000)
    assert await copied(run, "wh://photos/pictures", str(down)) == {"a0"}
    assert (down / "a0").read_bytes() == b"A0"


async def test_the_same_contents_with_another_time_are_not_sent(
    store: FakeStore, run: Run, folder: Path, tmp_path: Path
) -> None:
    write(folder / "large", random.Random(1).randbytes(9 * 1024 * 1024))
    await run("sync", str(folder), "wh://photos/pictures")
    assert store.buckets["photos"]["pictures/large"].chunk_count > 1
    for name in ("a0", "large"):
        os.utime(folder / name, (CREATED_S + 7, CREATED_S + 7))
    assert await copied(run, str(folder), "wh://photos/pictures") == set()
    assert await copied(run, "--exact", str(folder), "wh://photos/pictures") == {"a0", "large"}
    assert await copied(run, "--exact", str(folder), "wh://photos/pictures") == set()
    down = tmp_path / "down" / "pictures"
    await run("cp", "-r", "wh://photos/pictures", str(down))  # these files have the time of now
    assert await copied(run, "wh://photos/pictures", str(down)) == set()
    assert (down / "large").stat().st_mtime == CREATED_S + 7, "the next run need not read it again"


async def test_each_rule_compares_what_it_says(store: FakeStore, run: Run, folder: Path) -> None:
    await run("sync", str(folder), "wh://photos/pictures")
    write(folder / "a0", b"A0")  # neither size nor time tell
    write(folder / "ü", "Ü".encode(), CREATED_S)
    assert await copied(run, "--size-only", str(folder), "wh://photos/pictures") == set()
    assert await copied(run, "--dry-run", str(folder), "wh://photos/pictures") == set()
    assert await copied(run, str(folder), "wh://photos/pictures") == {"ü"}
    assert await copied(run, "--checksum", str(folder), "wh://photos/pictures") == {"a0"}


async def test_objects_without_a_time_of_their_source_are_compared_by_contents(
    store: FakeStore, run: Run, folder: Path
) -> None:
    await objects(store, "photos", *(f"pictures/{name}" for name in contents(folder)))  # other bytes
    assert await copied(run, str(folder), "wh://photos/pictures") == set(contents(folder))
    async with warehouse.connect(store.profile) as client:
        for name, data in contents(folder).items():
            await client.bucket("photos").put(f"pictures/{name}", data)
    assert await copied(run, str(folder), "wh://photos/pictures") == set()


async def test_patterns_leave_files_alone_on_both_sides(
    store: FakeStore, run: Run, folder: Path, tmp_path: Path
) -> None:
    await objects(store, "photos", "pictures/x.tmp", "pictures/a/y.tmp")
    write(folder / "z.tmp", b"")
    ran = await run("sync", "--delete", "--exclude", "*.tmp", str(folder), "wh://photos/pictures")
    assert ran.status == 0
    assert set(store.buckets["photos"]) == {
        *(f"pictures/{name}" for name in contents(folder) if name != "z.tmp"),
        "pictures/x.tmp",
        "pictures/a/y.tmp",
    }
    down = tmp_path / "down"
    write(down / "local.tmp", b"")
    await run("sync", "--delete", "--exclude", "*.tmp", "wh://photos/pictures", str(down))
    assert "local.tmp" in contents(down)
    assert "x.tmp" not in contents(down)


# --- links, leftovers, and what is in the way -----------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with one of everything that is no file."""
    tree = tmp_path / "tree"
    write(tree / "d" / "inside", b"inside")
    write(tree / "file", b"file")
    (tree / "to-file").symlink_to("file")
    (tree / "to-folder").symlink_to("d")
    (tree / "d" / "up").symlink_to("..")
    (tree / "dangling").symlink_to("nothing")
    (tree / "self").symlink_to("self")
    os.mkfifo(tree / "pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        working = os.getcwd()
        os.chdir(tree)  # a socket's name is short
        try:
            bound.bind("socket")
        finally:
            os.chdir(working)
    return tree


UNUSUAL = {"to-folder", "up", "dangling", "self", "pipe", "socket"}


@pytest.mark.parametrize("command", ["cp", "sync"])
@pytest.mark.parametrize(
    ("how", "stored", "left_out", "failed"),
    [
        (None, {"d/inside", "file", "to-file"}, UNUSUAL, set()),
        ("files", {"d/inside", "file", "to-file"}, UNUSUAL, set()),
        ("skip", {"d/inside", "file"}, UNUSUAL | {"to-file"}, set()),
        ("follow", {"d/inside", "file", "to-file", "to-folder/inside"}, UNUSUAL - {"to-folder"}, set()),
        ("fail", {"d/inside", "file", "to-file"}, set(), UNUSUAL),
    ],
)
async def test_links_and_special_files_are_treated_as_was_said(
    store: FakeStore,
    run: Run,
    tree: Path,
    command: str,
    how: str | None,
    stored: set[str],
    left_out: set[str],
    failed: set[str],
) -> None:
    options = ("--links", how) if how is not None else ()
    words = ("cp", "-r") if command == "cp" else ("sync",)
    ran = await run(*words, *options, str(tree), "wh://photos", "--json")
    assert set(store.buckets["photos"]) == stored
    told = {
        name: {Path(event["source"]).name for event in ran.objects if event["event"] == name}
        for name in ("left_out", "failed")
    }
    assert told == {"left_out": left_out, "failed": failed}
    assert ran.objects[-1]["left_out_count"] == len([e for e in ran.objects if e["event"] == "left_out"])
    assert ran.status == bool(failed)


async def test_what_is_left_out_does_not_stop_deletions_and_is_not_deleted(
    store: FakeStore, run: Run, tree: Path
) -> None:
    await objects(store, "photos", "file", "gone", "dangling", "to-folder/inside", "to-folders")
    ran = await run("sync", "--delete", str(tree), "wh://photos")
    assert ran.status == 0
    assert set(store.buckets["photos"]) == {"d/inside", "file", "to-file", "dangling", "to-folder/inside"}


async def test_what_a_killed_download_left_behind_is_never_stored_and_goes_with_the_next(
    store: FakeStore, run: Run, folder: Path, tmp_path: Path
) -> None:
    left, under_way = (folder / f".warehouse-{digit * 16}.part" for digit in "0f")
    write(left, b"left behind")
    write(under_way, b"being written")
    with under_way.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        for words in (("cp", "-r"), ("sync",)):
            ran = await run(*words, str(folder), "wh://photos/pictures")
            assert ran.status == 0
        assert len(store.buckets["photos"]) == 6
        ran = await run("sync", "--delete", "wh://photos/pictures", str(folder))
        assert ran.status == 0
        await run("cp", "wh://photos/pictures/a0", str(folder / "new"))
        assert not left.exists()
        assert under_way.exists()
    await run("cp", "-r", "wh://photos/pictures", str(folder))
    assert not under_way.exists()


async def test_a_download_that_is_killed_is_cleaned_up_by_the_next_into_its_folder(
    store: FakeStore, tmp_path: Path
) -> None:
    await objects(store, "photos", "small")
    async with warehouse.connect(store.profile) as client:
        await client.bucket("photos").put("large", bytes(40 * 1024 * 1024))
    down = tmp_path / "down"
    down.mkdir()

    def kill_when_it_writes(volume_id: int, needle_id: int) -> None:
        if [*down.iterdir()]:
            process.kill()

    store.before_get = kill_when_it_writes
    command, environment = command_of(tmp_path, "cp", "wh://photos/large", str(down / "large"))
    process = await trio.lowlevel.open_process(command, env=environment)
    assert await process.wait() == -signal.SIGKILL
    assert [path.suffix for path in down.iterdir()] == [".part"]
    store.before_get = None
    command, environment = command_of(tmp_path, "cp", "wh://photos/small", str(down / "small"))
    await trio.run_process(command, env=environment, capture_stdout=True)
    assert set(contents(down)) == {"small"}


@pytest.mark.parametrize("is_file_here", [True, False])
async def test_a_file_and_a_folder_of_one_name_take_each_others_place_with_delete(
    store: FakeStore, run: Run, tmp_path: Path, is_file_here: bool
) -> None:
    await objects(store, "photos", "s/a/b/c" if is_file_here else "s/a", "s/same")
    down = tmp_path / "down"
    write(down / ("a" if is_file_here else "a/b/c"), b"other")
    (down / "empty").mkdir()
    await objects(store, "photos", "s/empty")
    ran = await run("sync", "wh://photos/s", str(down))
    assert ran.status == 1
    assert "sync --delete replaces it" in ran.err
    assert str(down / "a") in ran.err
    ran = await run("sync", "--delete", "wh://photos/s", str(down), "--json")
    assert ran.status == 0
    assert set(contents(down)) == {"a/b/c" if is_file_here else "a", "same", "empty"}
    assert ran.objects[-1]["file_count"] == 2
    other = tmp_path / "other"
    write(other / ("a" if is_file_here else "a/b/c"), b"other")
    write(other / "same", b"s/same")
    await run("sync", "--delete", str(other), "wh://photos/s")
    assert set(store.buckets["photos"]) == {"s/a" if is_file_here else "s/a/b/c", "s/same"}


async def test_what_is_in_the_way_stays_when_something_else_is_in_it_or_failed(
    store: FakeStore, run: Run, tmp_path: Path
) -> None:
    await objects(store, "photos", "s/a", "s/b")
    down, outside = tmp_path / "down", tmp_path / "outside"
    write(down / "a" / "kept.tmp", b"kept")
    write(outside / "x", b"outside")
    (down / "b").symlink_to(outside)
    ran = await run("sync", "--delete", "--exclude", "*.tmp", "wh://photos/s", str(down))
    assert ran.status == 1
    assert (down / "a" / "kept.tmp").read_bytes() == b"kept"
    assert (outside / "x").read_bytes() == b"outside"
