"""The command line against a fake store: what it prints, what it writes, how it ends.

Most commands run in this process, as `main` runs them; signals, pipes and exit statuses need a process of
their own.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
import trio
from cyclopts import App

import warehouse
from bodies import noise
from cli_kit import Run, command_of, process
from fake_store import FakeStore
from warehouse.cli import main as cli
from warehouse.cli.copying import small_files
from warehouse.cli.usage import UsageError
from warehouse.conf.programs import module_command
from warehouse.errors import (
    BadRequest,
    BucketExists,
    BucketNotEmpty,
    DeletionRefused,
    NoSuchBucket,
    NoSuchObject,
    OutcomeUnknown,
    StoreError,
)
from warehouse.transport.messages import DeleteObjects, LocateObjects, Presign

MIB = 1024 * 1024


@pytest.fixture
def store(store: FakeStore) -> FakeStore:
    store.buckets["photos"] = {}
    return store


@pytest.fixture
async def photos(store: FakeStore) -> AsyncIterator[warehouse.Bucket]:
    async with warehouse.connect(store.profile) as client:
        yield client.bucket("photos")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A local folder with a file of each interesting kind."""
    folder = tmp_path / "pictures"
    (folder / "cats" / "old").mkdir(parents=True)
    (folder / "hello.txt").write_bytes(b"hello")
    (folder / "empty").write_bytes(b"")
    (folder / "cats" / "mimi é.jpg").write_bytes(noise(1000))
    (folder / "cats" / "old" / "film.mp4").write_bytes(noise(9 * MIB))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


# --- buckets and listings -------------------------------------------------------------------------


async def test_buckets_come_and_go(store: FakeStore, run: Run) -> None:
    assert (await run("mb", "wh://films", "music")).out == "made wh://films\nmade wh://music\n"
    with pytest.raises(BucketExists):
        await run("mb", "films")
    assert (await run("ls")).out == "wh://films\nwh://music\nwh://photos\n"
    assert (await run("rb", "films", "--json")).objects == [{"event": "deleted", "bucket": "films"}]
    await run("mb", "films", "--json")
    store.buckets["films"]["a"] = warehouse.ObjectInfo(key="a", size=5, etag="e", created_ms=0)
    with pytest.raises(BucketNotEmpty):
        await run("rb", "films")
    await run("rb", "--force", "films")
    assert "films" not in store.buckets


async def test_ls_shows_folders_and_what_is_in_them(run: Run, photos: warehouse.Bucket) -> None:
    for key in ("a.txt", "b/1.txt", "b/c/2.txt", "b"):
        await photos.put(key, b"x" * 1536)
    assert (await run("ls", "wh://photos")).out == "a.txt\nb\nb/\n"
    assert (await run("ls", "wh://photos/b/")).out == "1.txt\nc/\n"
    assert (await run("ls", "wh://photos/b")).out == "b\n1.txt\nc/\n"
    assert (await run("ls", "-r", "wh://photos/b/")).out == "1.txt\nc/2.txt\n"
    long = (await run("ls", "-l", "wh://photos")).out.splitlines()
    assert long[0].split()[:2] == ["1.5", "KiB"]
    assert long[0].endswith("  a.txt")
    assert long[2].split() == ["-", "b/"]
    entries = (await run("ls", "wh://photos", "--json")).objects
    assert entries[0]["key"] == "a.txt"
    assert entries[0]["size"] == 1536
    assert entries[2] == {"prefix": "b/"}
    with pytest.raises(NoSuchObject, match="wh://photos/none"):
        await run("ls", "wh://photos/none")
    with pytest.raises(NoSuchBucket):
        await run("ls", "wh://nowhere")


async def test_a_key_cannot_repaint_the_terminal(run: Run, photos: warehouse.Bucket) -> None:
    await photos.put("\x1b[2J\x07 evil\n", b"")
    assert (await run("ls", "wh://photos")).out == "\\x1b[2J\\x07 evil\\n\n"
    assert (await run("ls", "wh://photos", "--json")).objects[0]["key"] == "\x1b[2J\x07 evil\n"


async def test_stat_tells_all_that_is_known(run: Run, photos: warehouse.Bucket) -> None:
    await photos.put("a.txt", b"12345", metadata={"who": "me"})
    out = (await run("stat", "wh://photos/a.txt")).out
    for expected in ("5 B (5 bytes)", "text/plain", "who", "me"):
        assert expected in out
    (fields,) = (await run("stat", "wh://photos/a.txt", "--json")).objects
    assert (fields["size"], fields["metadata"]) == (5, {"who": "me"})
    assert "1 object" in (await run("stat", "wh://photos")).out
    with pytest.raises(NoSuchBucket):
        await run("stat", "wh://nowhere")


async def test_who_is_not_told_what_is_in_a_bucket_is_asked_all_the_same(
    store: FakeStore, run: Run, photos: warehouse.Bucket
) -> None:
    await photos.put("a", b"1")
    store.is_counted = False
    assert (await run("ls", "--json")).objects[-1]["object_count"] is None
    assert (await run("ls", "-l")).out.split()[0] == "-"
    assert (await run("du")).out.split() == ["-", "-", "wh://photos"]
    with pytest.raises(DeletionRefused, match="Delete all objects of wh://photos"):
        await run("rm", "-r", "wh://photos")
    assert (await run("rm", "-r", "--yes", "wh://photos")).out == "deleted 1 object\n"


async def test_du_sums_up(run: Run, photos: warehouse.Bucket) -> None:
    for key in ("a/1", "a/2", "b"):
        await photos.put(key, b"x" * 1024)
    assert (await run("du", "wh://photos/a", "wh://photos", "--json")).objects == [
        {"place": "wh://photos/a", "byte_count": 2048, "object_count": 2},
        {"place": "wh://photos", "byte_count": 3072, "object_count": 3},
    ]
    assert (await run("du")).out.split() == ["3.0", "KiB", "3", "objects", "wh://photos"]
    with pytest.raises(NoSuchObject):
        await run("du", "wh://photos/none")


async def test_status_names_what_is_offline(store: FakeStore, run: Run) -> None:
    out = (await run("status")).out
    assert "warehouse is ok, up 1 h 1 min" in out
    assert "25%" in out
    store.faults.offline = {2}
    out = (await run("status")).out
    assert "degraded" in out
    assert "disk-2  OFFLINE since" in out
    (fields,) = (await run("status", "--json")).objects
    assert [disk["is_online"] for disk in fields["disks"]] == [True, False]


async def test_presign_hands_its_wishes_on(store: FakeStore, run: Run) -> None:
    assert (await run("presign", "wh://photos/a")).out == "http://fake/photos/a?GET\n"
    await run("presign", "--put", "--expires", "7d", "--size-max", "5MiB", "wh://photos/a", "--json")
    asked = [request for request in store.asked if isinstance(request, Presign)]
    assert (asked[0].method, asked[0].expires_in_s) == ("GET", 3600)
    assert (asked[1].method, asked[1].expires_in_s, asked[1].size_max) == ("PUT", 7 * 86_400, 5 * MIB)
    with pytest.raises(UsageError):
        await run("presign", "--size-max", "5", "wh://photos/a")
    with pytest.raises(UsageError):
        await run("presign", "--expires", "soon", "wh://photos/a")


async def test_presign_fixes_the_terms_of_a_url(store: FakeStore, run: Run) -> None:
    words = ("--once", "--inline", "--file-name", "b.txt", "--cache-control", "public")
    await run("presign", *words, "wh://photos/a")
    await run("presign", "--put", "--size-min", "1KiB", "--no-overwrite", "wh://photos/a")
    get, put = [request for request in store.asked if isinstance(request, Presign)]
    assert (get.is_once, get.disposition, get.file_name, get.cache_control) == (
        True,
        "inline",
        "b.txt",
        "public",
    )
    assert (put.size_min, put.if_none_match, put.is_once) == (1024, "*", False)
    for wrong in (("--put", *words), ("--no-overwrite",), ("--size-min", "5")):
        with pytest.raises(UsageError):
            await run("presign", *wrong, "wh://photos/a")


async def test_presign_reads_many_places_and_keeps_their_order(
    store: FakeStore, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = "".join(f"wh://photos/{number}\n" for number in range(600))
    monkeypatch.setattr("sys.stdin", io.StringIO(lines + "\n"))
    done = await run("presign", "--json")
    assert [fields["place"] for fields in done.objects] == lines.split()
    assert [fields["url"] for fields in done.objects] == [
        f"http://fake/photos/{number}?GET" for number in range(600)
    ]
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(UsageError, match="name an object"):
        await run("presign")


async def test_presign_says_of_each_place_why_it_has_no_url(store: FakeStore, run: Run) -> None:
    store.faults.refused["Presign"] = [BadRequest("too long"), BadRequest("too long, too")]
    with pytest.raises(BadRequest, match="too long"):
        await run("presign", "wh://photos/a", "wh://photos/b", "wh://photos/c")


async def test_presign_gives_a_program_a_line_for_each_place(
    store: FakeStore, run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    store.faults.refused["Presign"] = [BadRequest("too long")]
    with pytest.raises(BadRequest):
        await run("presign", "--json", "wh://photos/a", "wh://photos/b")
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [line["place"] for line in lines] == ["wh://photos/a", "wh://photos/b"]
    refused, signed = sorted(lines, key=lambda line: line["url"] is not None)
    assert (refused["url"], refused["code"], refused["message"]) == (None, "bad_request", "too long")
    assert signed["url"].startswith("http://fake/photos/")


# --- copying --------------------------------------------------------------------------------------


async def test_a_folder_goes_up_and_comes_down_again(run: Run, folder: Path, tmp_path: Path) -> None:
    up = await run("cp", "-r", str(folder), "wh://photos/2026")
    assert up.out.startswith("copied 4 files, 9.0 MiB, in ")
    keys = (await run("ls", "-r", "wh://photos/2026")).out.splitlines()
    assert keys == ["cats/mimi é.jpg", "cats/old/film.mp4", "empty", "hello.txt"]
    await run("cp", "-r", "wh://photos/2026/", str(tmp_path / "back"))
    assert contents(tmp_path / "back") == contents(folder)


async def test_a_bucket_comes_down_and_goes_across(
    store: FakeStore, run: Run, folder: Path, tmp_path: Path
) -> None:
    store.buckets["archive"] = {}
    await run("cp", "-r", str(folder), "wh://photos")
    copied = await run("cp", "-r", "wh://photos", "wh://archive/copy", "--json")
    assert copied.objects[-1]["file_count"] == 4
    assert {fields["event"] for fields in copied.objects[:-1]} == {"copied"}
    await run("cp", "-r", "wh://archive/copy", str(tmp_path / "back"))
    assert contents(tmp_path / "back") == contents(folder)


async def test_small_files_travel_many_in_one_request(store: FakeStore, run: Run, tmp_path: Path) -> None:
    source = tmp_path / "many"
    for number in range(600):
        path = source / f"{number % 7}" / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number)
    (source / "large.bin").write_bytes(noise(2 * MIB))
    ran = await run("cp", "-r", str(source), "wh://photos/many", "--json")
    assert ran.objects[-1]["file_count"] == 601
    assert {event["target"] for event in ran.objects[:-1]} == {
        f"wh://photos/many/{key}" for key in contents(source)
    }
    assert store.http["PUT"] == 1, "the large one"
    assert sum(store.batches) == 600
    assert len(store.batches) < 200, "files are found more slowly than this store answers"
    assert store.buckets["photos"]["many/1/1.txt"].content_type == "text/plain"
    before = len(store.batches)
    await run("cp", "-r", "wh://photos/many", str(tmp_path / "down"))
    assert contents(tmp_path / "down") == contents(source)
    assert len(store.batches) - before < 200
    assert store.count(LocateObjects) == 1, "of the large one: the listing tells of the others"


async def test_cat_writes_small_and_large_objects_in_order(
    store: FakeStore, photos: warehouse.Bucket, tmp_path: Path
) -> None:
    large = b"large" * MIB
    for key, data in (("a", b"first "), ("b", large), ("c", b" last")):
        await photos.put(key, data)
    ran = await process(tmp_path, "cat", "wh://photos/a", "wh://photos/b", "wh://photos/c", "wh://photos/a")
    assert (ran.status, ran.out) == (0, f"first {large.decode()} lastfirst ")
    ran = await process(tmp_path, "cat", "wh://photos/a", "wh://photos/none", "wh://photos/c")
    assert (ran.status, ran.out) == (1, "first ")
    assert "no_such_object" in ran.err


async def test_a_file_that_has_grown_or_gone_since_it_was_found_is_treated_as_it_is(
    store: FakeStore, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("a", "b", "c", "d"):
        (source / name).write_bytes(name.encode())
    read_all = small_files._read_all

    def later(paths: Sequence[Path]) -> object:
        if (source / "b").stat().st_size == 1:  # once: files may be read in several groups
            (source / "b").write_bytes(noise(2 * MIB))
        (source / "c").unlink(missing_ok=True)
        return read_all(paths)

    monkeypatch.setattr(small_files, "_read_all", later)
    ran = await run("cp", "-r", str(source), "wh://photos/")
    assert ran.status == 1
    assert f"{source / 'c'}: No such file or directory" in ran.err
    assert {key: info.size for key, info in store.buckets["photos"].items()} == {"a": 1, "b": 2 * MIB, "d": 1}


async def test_an_object_that_has_grown_since_it_was_listed_comes_down_whole(
    store: FakeStore, run: Run, photos: warehouse.Bucket, tmp_path: Path
) -> None:
    await photos.put("a", b"a")
    await photos.put("b", b"b")

    def grow(volume_id: int, needle_id: int) -> None:
        store.before_get = None
        large = store.buckets["photos"].pop("large")
        old = store.buckets["photos"]["b"].chunks[0]
        store.needles[old.volume_id, old.needle_id].is_deleted = True
        store.buckets["photos"]["b"] = msgspec.structs.replace(large, key="b")

    await photos.put("large", noise(9 * MIB))
    store.before_get = grow
    await run("cp", "-r", "wh://photos", str(tmp_path / "down"))
    assert (tmp_path / "down" / "b").read_bytes() == noise(9 * MIB)
    assert (tmp_path / "down" / "a").read_bytes() == b"a"


async def test_one_file_keeps_its_name_in_a_folder_and_takes_another_elsewhere(
    store: FakeStore, run: Run, folder: Path, tmp_path: Path
) -> None:
    hello = str(folder / "hello.txt")
    for target in ("wh://photos", "wh://photos/x/", "wh://photos/y.txt"):
        assert (await run("cp", hello, target)).status == 0
    assert set(store.buckets["photos"]) == {"hello.txt", "x/hello.txt", "y.txt"}
    for target in (tmp_path, tmp_path / "z.txt"):  # type: ignore[assignment]
        await run("cp", "wh://photos/y.txt", str(target))
    assert (tmp_path / "y.txt").read_bytes() == (tmp_path / "z.txt").read_bytes() == b"hello"
    await run("cp", "wh://photos/x/hello.txt", "wh://photos/w/")
    assert store.buckets["photos"]["w/hello.txt"].size == 5


async def test_several_files_need_a_folder(store: FakeStore, run: Run, folder: Path) -> None:
    files = [str(folder / "hello.txt"), str(folder / "empty")]
    assert (await run("cp", *files, "wh://photos/in/")).status == 0
    assert set(store.buckets["photos"]) == {"in/hello.txt", "in/empty"}
    with pytest.raises(UsageError, match="need a folder"):
        await run("cp", *files, "wh://photos/in")


async def test_the_content_type_can_be_given(store: FakeStore, run: Run, folder: Path) -> None:
    await run("cp", str(folder / "empty"), "wh://photos/e", "--content-type", "text/x-none")
    assert store.buckets["photos"]["e"].content_type == "text/x-none"


async def test_one_failure_does_not_stop_the_others(
    store: FakeStore, run: Run, folder: Path, tmp_path: Path
) -> None:
    (folder / "link-to-folder").symlink_to(folder / "cats")
    (folder / "dangling").symlink_to(folder / "nothing")
    (folder / "link.txt").symlink_to(folder / "hello.txt")
    os.mkfifo(folder / "pipe")
    (folder / os.fsdecode(b"not-utf8-\xff")).write_bytes(b"")
    ran = await run("cp", "-r", str(folder), "wh://photos/x", "--json")
    assert ran.status == 1
    failed = {Path(fields["source"]).name for fields in ran.objects if fields["event"] == "failed"}
    assert failed == {"not-utf8-\\xff"}
    left_out = {Path(fields["source"]).name for fields in ran.objects if fields["event"] == "left_out"}
    assert left_out == {"link-to-folder", "dangling", "pipe"}
    assert len(ran.err.splitlines()) == 4
    assert ran.objects[-1]["file_count"] == 5
    assert ran.objects[-1]["failed_count"] == 1
    assert ran.objects[-1]["left_out_count"] == 3
    assert "x/link.txt" in store.buckets["photos"]


async def test_what_fails_all_copies_is_said_once(store: FakeStore, run: Run, folder: Path) -> None:
    with pytest.raises(NoSuchBucket, match="nowhere"):
        await run("cp", "-r", str(folder), "wh://nowhere")
    assert store.http["PUT"] == 0


async def test_keys_never_lead_out_of_the_target_folder(
    store: FakeStore, run: Run, photos: warehouse.Bucket, tmp_path: Path
) -> None:
    evil = [
        "/etc/passwd",
        "../up",
        "a/../../up",
        "a//b",
        "a/",
        "./x",
        "x/.",
        "nul\0",
        "link/inside",
        "..",
        "f/x",
    ]
    for key in ("good", "f", "deep/er/good", *evil):
        await photos.put(f"in/{key}", b"data")
    target, outside = tmp_path / "target", tmp_path / "outside"
    target.mkdir()
    outside.mkdir()
    (target / "link").symlink_to(outside)
    before = set(tmp_path.iterdir())
    ran = await run("cp", "-r", "wh://photos/in", str(target))
    assert ran.status == 1
    assert set(contents(target)) - {"f", "f/x"} == {"good", "deep/er/good"}
    assert len(contents(target)) == 3  # f can be a file or a folder; the other one fails
    assert [*outside.iterdir()] == []
    assert set(tmp_path.iterdir()) == before
    assert len(ran.err.splitlines()) == len(evil)
    assert all(line.startswith("warehouse: wh://photos/in/") for line in ran.err.splitlines())


async def test_one_download_into_a_folder_is_as_careful(
    run: Run, photos: warehouse.Bucket, tmp_path: Path
) -> None:
    await photos.put("a/..", b"data")
    with pytest.raises(StoreError, match=r"'\.\.'"):
        await run("cp", "wh://photos/a/..", str(tmp_path))


async def test_an_existing_file_survives_a_failed_download(
    store: FakeStore, run: Run, photos: warehouse.Bucket, tmp_path: Path
) -> None:
    await photos.put("a", noise(1000))
    (tmp_path / "a").write_bytes(b"older")
    store.faults.get_garbled = 1
    ran = await run("cp", "wh://photos/a", str(tmp_path / "a"))
    assert ran.status == 1
    assert "(needle_corrupt)" in ran.err
    assert (tmp_path / "a").read_bytes() == b"older"
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cp", "a"], "needs a source and a target"),
        (["cp", "a", "b"], "must be wh://"),
        (["cp", "-", "wh://photos/x/"], "full name"),
        (["cp", "wh://photos/x/", "."], "copy it with -r"),
        (["cp", "wh://photos", "-"], "copy it with -r"),
        (["cp", ".", "wh://photos"], "copy it with -r"),
        (["cp", "-r", "wh://photos/a", "wh://photos/a/b"], "never end"),
        (["cp", "-r", "wh://photos", "wh://photos"], "never end"),
        (["cp", "wh://photos/a", "wh://photos/a"], "onto itself"),
        (["cp", "-r", "a", "b", "wh://photos"], "one source folder"),
        (["cp", "--bogus", "wh://photos/a", "."], "no option --bogus"),
        (["cp", "wh://", "."], "no bucket"),
        (["ls", "photos"], "expected wh://"),
        (["mb"], "name a bucket"),
        (["mb", "wh://a/b"], "names an object"),
        (["rm", "wh://photos"], "name an object"),
        (["cat"], "name an object"),
        (["compact"], "name a volume, or give --all"),
        (["compact", "1", "--all"], "or give --all"),
        (["compact", "--cancel"], "name a volume, or give --all"),
        (["compact", "--pause", "--resume"], "one of --cancel, --pause and --resume"),
        (["compact", "--pause", "1"], "name no volumes"),
        (["verify", "1", "--all"], "or give --all"),
        (["verify", "--cancel"], "name a volume, or give --all"),
        (["watch", "--since", "-1"], "numbered from 1"),
    ],
)
async def test_what_makes_no_sense_is_said_before_anything_is_asked(
    store: FakeStore, run: Run, words: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        await run(*words)
    assert store.asked == []


async def test_missing_things_are_named(run: Run, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await run("cp", str(tmp_path / "missing"), "wh://photos/x")
    with pytest.raises(NoSuchObject):
        await run("cp", "wh://photos/missing", str(tmp_path / "x"))
    with pytest.raises(NoSuchObject, match="nothing in wh://photos/missing"):
        await run("cp", "-r", "wh://photos/missing", str(tmp_path / "x"))
    assert (
        await run("cp", "-r", "wh://photos", str(tmp_path / "x"))
    ).status == 0  # an empty bucket is no error


# --- deleting -------------------------------------------------------------------------------------


async def test_rm_deletes_objects_folders_and_all(
    store: FakeStore, run: Run, photos: warehouse.Bucket
) -> None:
    for key in ("a", "ab", "a/1", "a/2/3", "b", "c"):
        await photos.put(key, b"")
    assert (await run("rm", "wh://photos/b")).out == "deleted 1 object\n"
    with pytest.raises(NoSuchObject):
        await run("rm", "wh://photos/b")
    deleted = (await run("rm", "-r", "wh://photos/a", "--json")).objects
    assert [fields["key"] for fields in deleted] == ["a", "a/1", "a/2/3"]
    assert set(store.buckets["photos"]) == {"ab", "c"}  # "a" is a folder, not a beginning
    with pytest.raises(DeletionRefused, match="all 2 objects of wh://photos"):
        await run("rm", "-r", "wh://photos")
    assert (await run("rm", "-r", "--yes", "wh://photos")).out == "deleted 2 objects\n"
    assert (await run("rm", "-r", "wh://photos")).out == "deleted 0 objects\n"
    with pytest.raises(NoSuchObject):
        await run("rm", "-r", "wh://photos/a")


async def test_rm_goes_over_many_pages(store: FakeStore, run: Run) -> None:
    for number in range(2500):
        store.buckets["photos"][f"{number:04}"] = warehouse.ObjectInfo(key="", size=1, etag="", created_ms=0)
    assert (await run("rm", "-r", "--yes", "wh://photos")).out == "deleted 2,500 objects\n"
    assert store.count(DeleteObjects) == 3


async def test_rm_asks_again_after_a_lost_answer(
    store: FakeStore, run: Run, photos: warehouse.Bucket
) -> None:
    await photos.put("a", b"")
    await photos.put("a/b", b"")
    store.faults.refused["DeleteObjects"] = [OutcomeUnknown("lost")]
    await run("rm", "-r", "wh://photos/a")
    assert store.buckets["photos"] == {}


# --- whole processes ------------------------------------------------------------------------------


async def test_streams_go_through_pipes(store: FakeStore, tmp_path: Path) -> None:
    text = "".join(f"line {number}\n" for number in range(200_000))
    ran = await process(tmp_path, "cp", "-", "wh://photos/lines.txt", stdin=text.encode())
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.startswith("copied 1 file, 2.")
    for words in (["cat", "wh://photos/lines.txt"], ["cp", "wh://photos/lines.txt", "-"]):
        ran = await process(tmp_path, *words)
        assert (ran.status, ran.err) == (0, "")
        assert ran.out == text


async def test_failures_end_with_one_line_and_their_code(store: FakeStore, tmp_path: Path) -> None:
    ran = await process(tmp_path, "cat", "wh://photos/missing")
    assert (ran.status, ran.out) == (1, "")
    assert ran.err == "warehouse: bucket 'photos' has no object 'missing' (no_such_object)\n"
    ran = await process(tmp_path, "cp", str(tmp_path / "no\x1bthing"), "wh://photos/a")
    assert ran.status == 1
    assert ran.err == f"warehouse: {tmp_path}/no\\x1bthing: No such file or directory (os_error)\n"
    store.secret = "another"
    ran = await process(tmp_path, "ls")
    assert (ran.status, ran.err) == (1, "warehouse: this API key is unknown (bad_credentials)\n")


async def test_wrong_usage_ends_with_2_and_a_hint(store: FakeStore, tmp_path: Path) -> None:
    for words, hint in (
        (["gibberish"], "there is no command 'gibberish' (see: warehouse --help)"),
        (["cp", "a"], "cp needs a source and a target (see: warehouse cp --help)"),
        (["ls", "--bogus"], "(see: warehouse ls --help)"),
        (["status", "--profile", "x", "--data", "y"], "give one of them (see: warehouse status --help)"),
    ):
        ran = await process(tmp_path, *words)
        assert (ran.status, ran.out) == (2, ""), words
        assert ran.err.startswith("warehouse: ")
        assert ran.err.endswith(f"{hint}\n")
        assert ran.err.count("\n") == 1


async def test_a_reader_that_has_seen_enough_is_no_error_to_talk_about(
    store: FakeStore, tmp_path: Path, photos: warehouse.Bucket
) -> None:
    await photos.put("large", noise(12 * MIB))
    command, environment = command_of(tmp_path, "cat", "wh://photos/large")
    async with trio.open_nursery() as nursery:
        cat = await nursery.start(
            lambda task_status: trio.run_process(
                command,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                check=False,
                task_status=task_status,
            )
        )
        assert len(await cat.stdout.receive_some(100)) == 100
        await cat.stdout.aclose()
        assert await cat.stderr.receive_some() == b""
        assert await cat.wait() == 141


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_an_interrupted_upload_is_aborted(
    store: FakeStore, tmp_path: Path, number: int, status: int
) -> None:
    store.faults.put_delay_s = 30
    (tmp_path / "large").write_bytes(noise(9 * MIB))
    command, environment = command_of(tmp_path, "cp", str(tmp_path / "large"), "wh://photos/large")
    process = await trio.lowlevel.open_process(command, env=environment, stderr=subprocess.PIPE)
    with trio.fail_after(60):
        while store.http["PUT"] < 3:
            await trio.sleep(0.02)
        process.send_signal(number)
        assert await process.wait() == status
    assert process.stderr is not None
    assert await process.stderr.receive_some() == b""
    await process.stderr.aclose()
    assert len(store.aborted) == 1


async def test_an_interrupted_download_leaves_nothing(
    store: FakeStore, tmp_path: Path, photos: warehouse.Bucket
) -> None:
    await photos.put("large", noise(9 * MIB))
    (tmp_path / "in").mkdir()

    asked: list[int] = []

    def interrupt_once(volume_id: int, needle_id: int) -> None:
        if not asked:  # several spans are asked for; a second Ctrl-C would cut the clean-up short
            process.send_signal(signal.SIGINT)  # type: ignore[attr-defined]
        asked.append(needle_id)

    store.before_get = interrupt_once
    command, environment = command_of(tmp_path, "cp", "wh://photos/large", str(tmp_path / "in"))
    process = await trio.lowlevel.open_process(command, env=environment)
    with trio.fail_after(60):
        assert await process.wait() == 130
    assert [*(tmp_path / "in").iterdir()] == []


def executions(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    executed: list[list[str]] = []

    def execute(path: str, words: list[str], environment: dict[str, str]) -> None:
        assert environment["PYTHONSAFEPATH"] == "1"
        executed.append(words)

    monkeypatch.setattr(os, "execve", execute)
    return executed


async def test_up_becomes_the_cluster_with_the_same_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    executed = executions(monkeypatch)
    assert cli.main(["up", "--data", "d", "--volumes", "3", "--json", "--host", "0.0.0.0"]) == 0
    assert cli.main(["up"]) == 0
    python = module_command("warehouse.actors.cluster", title="warehouse up")
    assert executed == [
        [*python, "--data", "d", "--volumes", "3", "--json", "--host", "0.0.0.0"],
        python,
    ]


@pytest.mark.parametrize(
    ("words", "becomes"),
    [
        (["rebuild", "--data", "d", "--json"], ["warehouse.rescue.rebuild", "--data", "d", "--json"]),
        (
            ["rebuild", "--disk", "a", "--disk", "b", "--replace", "--partial", "--indexes", "--backup", "f"],
            [
                *["warehouse.rescue.rebuild", "--disk", "a", "--disk", "b", "--backup", "f"],
                *["--replace", "--partial", "--indexes"],
            ],
        ),
        (["rebuild", "--log-level", "debug"], ["warehouse.rescue.rebuild", "--log-level", "debug"]),
        (
            ["export", "--to", "t", "--resume", "--disk", "d", "--disk", "e"],
            ["warehouse.rescue.export", "--disk", "d", "--disk", "e", "--to", "t", "--resume"],
        ),
        (["backup", "f", "--data", "d", "--json"], ["warehouse.rescue.backup", "--data", "d", "--json", "f"]),
        (
            ["backup", "f", "--passphrase-file", "p", "--unencrypted"],
            ["warehouse.rescue.backup", "--passphrase-file", "p", "--unencrypted", "f"],
        ),
        (["restore", "f", "--key-file", "k"], ["warehouse.rescue.restore", "--key-file", "k", "f"]),
        (["restore", "f", "--exact"], ["warehouse.rescue.restore", "--exact", "f"]),
        (["restore"], ["warehouse.rescue.restore"]),  # which says what is missing
    ],
)
def test_a_rescue_becomes_another_program_with_the_same_words(
    monkeypatch: pytest.MonkeyPatch, words: list[str], becomes: list[str]
) -> None:
    executed = executions(monkeypatch)
    assert cli.main(words) == 0
    assert executed == [module_command(*becomes)]


PROGRAMS = (
    "master",
    "volume",
    "compactor",
    "console",
    "gateway",
)  # these explain themselves in a process of their own


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("words", [[], ["--help"], ["--data", "d", "--json", "x"]])
def test_an_actor_becomes_its_program_with_the_same_words(
    monkeypatch: pytest.MonkeyPatch, program: str, words: list[str]
) -> None:
    executed = executions(monkeypatch)
    assert cli.main([program, *words]) == 0
    rooms = {"console": "warehouse.webui", "gateway": "warehouse.gateway"}
    module = rooms.get(program, f"warehouse.actors.{program}")
    python = module_command(module, title=f"warehouse {program}")
    assert executed == [[*python, *words]]


def commands_of(app: App, *before: str) -> Iterator[str]:
    """The words of every command, also of those in groups."""
    for name in app:
        if name[0] == "-" or name in PROGRAMS:
            continue
        if list(commands_of(app[name])):
            yield from commands_of(app[name], *before, name)
        else:
            yield " ".join([*before, name])


@pytest.mark.parametrize("command", list(commands_of(cli.app)))
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*command.split(), "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"Usage: warehouse {command}")
    assert "--json" in out


async def test_a_data_folder_names_its_profile(store: FakeStore, tmp_path: Path) -> None:
    ran = await process(tmp_path, "ls", "--data", str(tmp_path))
    assert (ran.status, ran.out) == (0, "wh://photos\n")


async def test_a_folder_is_not_a_bucket_name(store: FakeStore, run: Run) -> None:
    store.faults.refused["CreateBucket"] = [BadRequest("no")]
    with pytest.raises(BadRequest):
        await run("mb", "x")
