"""What a newcomer types first, and what the command line says to it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import threading
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import trio

import warehouse
from cli_kit import Run, command_of, process
from fake_store import FakeStore
from warehouse.cli import main as cli
from warehouse.cli.commands import copy
from warehouse.cli.copying.transfers import Found, Transfer, run_transfers
from warehouse.cli.output.formats import shortened
from warehouse.cli.output.objects import CopyReport, failure_line
from warehouse.cli.usage import UsageError
from warehouse.client.files import replace_file
from warehouse.errors import BadRequest, NoSuchBucket, NoSuchObject, StoreError

KEYS = ("2026/1.jpg", "2026/2.jpg", "2026/note.txt", "2027/1.jpg", "20.txt", "a*b", "axb")


@pytest.fixture
async def store(store: FakeStore) -> FakeStore:
    store.buckets |= {"photos": {}, "empty": {}}
    async with warehouse.connect(store.profile) as client:
        for key in KEYS:
            await client.bucket("photos").put(key, key.encode())
    return store


# --- folders, beginnings, wildcards ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rm", "wh://photos/2026"], "wh://photos/2026 is a folder: delete it with -r"),
        (["cp", "wh://photos/2026", "."], "is a folder: copy it with -r"),
        (["cp", "wh://photos/2026", "wh://empty/"], "is a folder: copy it with -r"),
        (["cp", "wh://photos/2026", "-"], "is a folder: copy it with -r"),
        (["stat", "wh://photos/2026"], "is a folder: list it with"),
        (["presign", "wh://photos/2026"], "is a folder: a URL is for one object"),
        (["cat", "wh://photos/2026"], "is a folder: list it with"),
        (["cat", "wh://photos/20.txt", "wh://photos/2026/"], "is a folder: list it with"),
        (["cat", "wh://photos/202"], "other keys begin with it, such as wh://photos/2026/1.jpg"),
        (["rm", "wh://photos/202"], "other keys begin with it, such as wh://photos/2026/1.jpg"),
        (["rm", "-r", "wh://photos/202"], "other keys begin with it"),
        (["stat", "wh://photos/20"], "other keys begin with it, such as wh://photos/20.txt"),
        (["stat", "wh://photos/z*"], "take wildcards"),
        (["cp", "wh://photos/z*", "."], "nothing that matches"),
        (["rm", "wh://photos/z*"], "nothing at"),
        (["ls", "wh://photos/z"], "nothing at wh://photos/z"),
    ],
)
async def test_what_is_missing_is_told_with_what_is_there(
    store: FakeStore,
    run: Run,
    words: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = dict(store.buckets["photos"])
    store.faults.refused["Presign"] = [NoSuchObject("there is none")]  # this store would sign anything
    with pytest.raises(NoSuchObject) as caught:
        await run(*words)
    assert message in caught.value.message
    assert store.buckets["photos"] == before


async def test_a_beginning_of_keys_is_listed_where_there_is_no_folder_of_that_name(run: Run) -> None:
    assert (await run("ls", "wh://photos/20")).out == "20.txt\n2026/\n2027/\n"
    assert (await run("ls", "wh://photos/2026/n")).out == "note.txt\n"
    assert (await run("ls", "-r", "wh://photos/202")).out.splitlines()[-1] == "2027/1.jpg"
    assert (await run("ls", "wh://photos/2026")).out == "1.jpg\n2.jpg\nnote.txt\n"
    assert "4 objects  wh://photos/202*" in (await run("du", "wh://photos/202")).out
    assert "3 objects  wh://photos/2026" in (await run("du", "wh://photos/2026")).out
    assert "1 object  wh://photos/20.txt" in (await run("du", "wh://photos/20.txt")).out


async def test_a_download_into_a_folder_that_is_not_there_names_the_folder(run: Run, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    for words in (["--json"], []):
        ran = await run("cp", "wh://photos/20.txt", str(missing / "x"), *words)
        assert ran.status == 1
        assert ".part" not in ran.out + ran.err
    assert f"warehouse: {missing}: No such file or directory" in ran.err


async def test_wildcards_name_what_they_match(store: FakeStore, run: Run, tmp_path: Path) -> None:
    assert (await run("ls", "wh://photos/2026/*.jpg")).out == "1.jpg\n2.jpg\n"
    assert (await run("ls", "wh://photos/202?")).out == "2026/\n2027/\n"
    assert (await run("ls", "-r", "wh://photos/*/1.jpg")).out == "2026/1.jpg\n2027/1.jpg\n"
    assert "2 objects" in (await run("du", "wh://photos/2026/?.jpg")).out
    assert (await run("cat", "wh://photos/202*/1.jpg")).out == "2026/1.jpg2027/1.jpg"
    await run("cp", "wh://photos/**/1.jpg", str(tmp_path / "in") + "/")
    assert sorted(path.relative_to(tmp_path).as_posix() for path in (tmp_path / "in").rglob("*.jpg")) == [
        "in/2026/1.jpg",
        "in/2027/1.jpg",
    ]
    await run("cp", "-r", "wh://photos/202*", "wh://empty/")
    assert set(store.buckets["empty"]) == {key for key in KEYS if key.startswith("202")}
    assert (await run("rm", "wh://photos/202*/1.jpg")).out == "deleted 2 objects\n"
    assert (await run("rm", "-r", "wh://photos/202*")).out == "deleted 2 objects\n"
    assert set(store.buckets["photos"]) == {"20.txt", "a*b", "axb"}


async def test_an_object_whose_key_has_a_wildcard_is_the_one_that_is_meant(
    store: FakeStore, run: Run, tmp_path: Path
) -> None:
    assert (await run("cat", "wh://photos/a*b")).out == "a*b"
    assert (await run("ls", "wh://photos/a*b")).out == "a*b\n"
    await run("cp", "wh://photos/a*b", str(tmp_path / "one"))
    assert (tmp_path / "one").read_bytes() == b"a*b"
    await run("cp", "wh://photos/a*b", "wh://empty/a*c")
    assert set(store.buckets["empty"]) == {"a*c"}
    assert (await run("rm", "wh://photos/a*b")).out == "deleted 1 object\n"
    assert "axb" in store.buckets["photos"]
    with pytest.raises(NoSuchObject):
        await run("rm", "--no-glob", "wh://photos/a*b")
    assert (await run("rm", "wh://photos/a*b")).out == "deleted 1 object\n"
    assert "axb" not in store.buckets["photos"]


@pytest.mark.parametrize("place", ["wh://photos/*", "wh://photos/**", "wh://photos"])
async def test_a_whole_bucket_is_deleted_only_after_a_yes(store: FakeStore, run: Run, place: str) -> None:
    before = dict(store.buckets["photos"])
    with pytest.raises(StoreError, match=r"--yes") as caught:
        await run("rm", "-r", place)
    assert caught.value.code == "deletion_refused"
    assert store.buckets["photos"] == before
    await run("rm", "-r", "--yes", place)
    assert store.buckets["photos"] == {}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ls", "photos"], "did you mean wh://photos?"),
        (["ls", "s3://photos/2026"], "did you mean wh://photos/2026?"),
        (["cp", "s3://photos/a", "."], "did you mean wh://photos/a?"),
        (["rm", "photos/a"], "did you mean wh://photos/a?"),
        (["rm", "WH://photos/a"], "did you mean wh://photos/a?"),
        (["rm", "wh:/photos/a"], "did you mean wh://photos/a?"),
        (["ls", "wh:///photos/a"], "names no bucket: expected wh://bucket/key; did you mean wh://photos/a?"),
        (["cp", "a/x", "photos/2026/"], "did you mean wh://photos/2026/ by photos/2026/?"),
        (["cp", "/photos/x", "a/x"], "did you mean wh://photos/x by /photos/x?"),
        (["rm", "wh:photos/a://b"], "did you mean wh://photos/a://b?"),
        (["sync", "--bogus", "a", "wh://b"], "there is no option --bogus"),
        (["sync", "a"], "one source to one target"),
        (["sync", "a", "b", "wh://c"], "one source to one target"),
        (["cp", "a/x", "b/x", "wh://photos/"], "both become wh://photos/x"),
        (["cp", "-r", "wh://photos/*", "wh://photos/new/"], "never end"),
        (["cp", "wh://photos/**", "wh://photos/new/"], "never end"),
        (["cp", "dangling", "wh://photos/"], "is a link to nothing"),
        (["sync", "dangling", "wh://photos"], "is a link to nothing"),
        (["sync", "a/x", "wh://photos"], "is not a folder; cp copies"),
        (["sync", "wh://photos", "a/x"], "is not a folder"),
        (["cp", "fifo", "wh://photos/"], "needs a full name"),
    ],
)
async def test_wrong_words_are_answered_with_right_ones(
    store: FakeStore,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_bytes(b"")
    (tmp_path / "dangling").symlink_to("nothing")
    os.mkfifo(tmp_path / "fifo")
    asked = len(store.asked)
    with pytest.raises(UsageError) as caught:
        await run(*words)
    assert message in caught.value.message
    assert len(store.asked) == asked


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ls", "--bogus"], "there is no option --bogus"),
        (["stat", "a", "b"], "'b' is one word too many"),
        (["presign", "--expire", "1h", "wh://b/k"], "there is no option --expire; did you mean --expires?"),
        (["sink"], "there is no command 'sink'"),
        (["sync", "--dryrun", "a", "wh://b"], "no option --dryrun; did you mean --dry-run?"),
        (["sync", "--check", "a", "wh://b"], "no option --check; did you mean --checksum?"),
        (["rm", "-R", "wh://b"], "no option -R; did you mean --recursive?"),
        (["du", "--max-depth=1", "wh://b"], "did you mean --depth?"),
        (["find", "wh://b", "--older-than", "7d"], "no option --older-than; did you mean --older?"),
        (["profile", "add", "x", "--forec"], "no option --forec; did you mean --force?"),
        (["ls", "--zzzzzz", "wh://b"], "there is no option --zzzzzz (see"),
        (["lss"], "there is no command 'lss'; did you mean ls?"),
        (["put", "a", "wh://b"], "there is no command 'put'; did you mean cp?"),
        (["serve"], "there is no command 'serve'; did you mean up?"),
        (["help", "cp"], "there is no command 'help'; did you mean --help?"),
        (["-v"], "did you mean --version?"),
        (["--json", "status"], "there is no option --json in front of the command: options follow it"),
    ],
)
def test_words_that_a_command_does_not_know_are_named(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 2
    assert message in capsys.readouterr().err


# --- failures and events --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["ls"],
        ["status"],
        ["volumes"],
        ["mb", "x"],
        ["rb", "x"],
        ["rm", "wh://b/k"],
        ["cp", "{here}", "wh://b/k"],
        ["cp", "wh://b/k", "-"],
        ["cat", "wh://b/k"],
        ["sync", "{here}", "wh://b"],
        ["stat", "wh://b/k"],
        ["du"],
        ["presign", "wh://b/k"],
        ["compact", "--all"],
        ["verify"],
        ["watch"],
        ["bench"],
        ["stat"],
        ["cp", "x"],
        ["nonsense"],
    ],
)
def test_a_failure_is_an_event_where_events_are_wanted(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word.format(here=tmp_path) for word in words]
    if words[0] == "cp" and words[1] == str(tmp_path):
        words.insert(1, "-r")
    status = cli.main([*words, "--json", "--profile", str(tmp_path / "none.toml")])
    ran = capsys.readouterr()
    bytes_go_out = words[0] == "cat" or words[-1] == "-"
    events = [
        json.loads(line) for line in (ran.err if bytes_go_out else ran.out).splitlines() if line[0] == "{"
    ]
    assert events[-1]["event"] == "failed"
    assert events[-1]["code"] == ("bad_setting" if status == 1 else "wrong_usage")
    assert events[-1]["message"]
    assert ran.err.splitlines()[-1].startswith("warehouse: ")


async def test_a_bucket_that_is_there_does_not_keep_others_from_being_made(
    store: FakeStore, tmp_path: Path
) -> None:
    ran = await process(tmp_path, "mb", "photos", "wh://new", "empty", "newer")
    assert ran.status == 1
    assert ran.out == "made wh://new\nmade wh://newer\n"
    assert [line.rpartition(" ")[2] for line in ran.err.splitlines()] == [
        "(bucket_exists)",
        "(bucket_exists)",
    ]
    ran = await process(tmp_path, "rb", "none", "new", "--json")
    assert ran.status == 1
    assert [one["event"] for one in ran.objects] == ["deleted", "failed"]
    assert "new" not in store.buckets


async def test_a_file_whose_name_cannot_be_a_key_is_named(store: FakeStore, tmp_path: Path) -> None:
    file = os.fsencode(tmp_path) + b"/bad\xff"
    with open(file, "wb"):
        pass
    ran = await process(tmp_path, "cp", os.fsdecode(file), "wh://photos/")
    assert ran.status == 1
    assert "bad\\xff: the file's name is not UTF-8" in ran.err


async def test_events_of_a_copy_to_standard_output_are_on_standard_error(store: FakeStore, run: Run) -> None:
    ran = await run("cp", "--json", "wh://photos/20.txt", "-")
    assert ran.out == "20.txt"
    assert [json.loads(line)["event"] for line in ran.err.splitlines()] == ["copied", "summary"]


def test_a_long_key_is_cut_in_its_middle() -> None:
    key = "begin" + "k" * 1000 + "end"
    line = failure_line(NoSuchBucket(f"bucket 'b' has no object {key!r}, as it seems"), f"wh://b/{key}")
    assert len(line) < 500
    for part in ("begin", "end'", "as it seems", "no_such_bucket"):
        assert part in line
    assert shortened("short", 10) == "short"


async def test_an_interrupted_copy_of_many_says_how_far_it_came(store: FakeStore, tmp_path: Path) -> None:
    source = tmp_path / "many"
    source.mkdir()
    for number in range(3):
        (source / f"{number}").write_bytes(b"small")
    (source / "large").write_bytes(random.Random(1).randbytes(9 * 1024 * 1024))
    command, environment = command_of(tmp_path, "cp", "-r", str(source), "wh://photos/many")
    store.faults.put_delay_s = 30
    running = await trio.lowlevel.open_process(command, env=environment, stderr=subprocess.PIPE)
    with trio.fail_after(30):
        while not store.uploads:
            await trio.sleep(0.02)
        running.send_signal(signal.SIGINT)
        assert await running.wait() == 130
    assert running.stderr is not None
    told = (await running.stderr.receive_some()).decode()
    await running.stderr.aclose()
    assert " of 4 files were copied; the same command copies them again" in told
    assert told.startswith("warehouse: interrupted after ")


async def test_a_copy_that_cannot_go_on_closes_what_looks_for_files() -> None:
    """What is left to the garbage collector would end at any moment, with a warning of its own."""
    closed: list[str] = []

    async def refuse(_: object) -> int:
        raise NoSuchBucket("there is none")

    async def look() -> AsyncGenerator[Found, None]:
        try:
            while True:
                yield Transfer("a", "wh://b/a", 1, refuse)
        finally:
            closed.append("looking")

    looking = look()  # held on to, so that no collector closes it
    found = copy._found_by([copy._Plan(lambda _: looking)], None)  # type: ignore[arg-type]
    with pytest.raises(NoSuchBucket):
        await run_transfers(found, CopyReport(is_json=False))
    assert closed == ["looking"]


# --- streams --------------------------------------------------------------------------------------


async def test_a_pipe_by_name_is_copied_to_its_end(store: FakeStore, run: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    data = random.Random(2).randbytes(300_000)
    writer = threading.Thread(target=(tmp_path / "fifo").write_bytes, args=(data,))
    writer.start()
    assert (await run("cp", str(tmp_path / "fifo"), "wh://photos/piped")).status == 0
    writer.join()
    async with warehouse.connect(store.profile) as client:
        assert await client.bucket("photos").get("piped") == data


async def test_standard_input_by_another_name_is_standard_input(store: FakeStore, tmp_path: Path) -> None:
    for name in ("/dev/stdin", "/dev/fd/0"):
        ran = await process(tmp_path, "cp", name, "wh://photos/in", stdin=name.encode())
        assert (ran.status, ran.err) == (0, "")
        assert store.buckets["photos"]["in"].size == len(name)


@pytest.mark.parametrize(
    ("words", "closed", "message"),
    [
        ("cp - wh://photos/x", "<&-", "standard input is closed"),
        ("cp /dev/stdin wh://photos/x", "<&-", "standard input is closed"),
        ("cp wh://photos/20.txt -", ">&-", "standard output is closed"),
        ("cat wh://photos/20.txt", ">&-", "standard output is closed"),
    ],
)
async def test_a_closed_stream_is_named_and_nothing_takes_its_place(
    store: FakeStore, tmp_path: Path, words: str, closed: str, message: str
) -> None:
    command, environment = command_of(tmp_path, *words.split())
    ran = await trio.run_process(
        ["sh", "-c", f'"$@" {closed}', "sh", *command], env=environment, capture_stderr=True, check=False
    )
    assert ran.returncode == 2
    assert message in ran.stderr.decode()
    assert "x" not in store.buckets["photos"]


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/fd/1"])
async def test_standard_output_by_any_name_gets_the_bytes_and_nothing_else(
    store: FakeStore, tmp_path: Path, name: str
) -> None:
    ran = await process(tmp_path, "cp", "wh://photos/20.txt", name)
    assert (ran.status, ran.out, ran.err) == (0, "20.txt", "")
    command, environment = command_of(tmp_path, "cp", "wh://photos/20.txt", name)
    with (tmp_path / "out").open("wb") as out:
        await trio.run_process(command, env=environment, stdout=out)
    assert (tmp_path / "out").read_bytes() == b"20.txt"


def test_a_link_to_an_open_file_is_not_replaced_by_a_download(tmp_path: Path) -> None:
    """As root, a download to `/dev/stdout` would else put a file there, for every program of the machine."""
    with (tmp_path / "open").open("wb") as file:
        link = tmp_path / "stdout"
        link.symlink_to(f"/proc/self/fd/{file.fileno()}")
        with pytest.raises(BadRequest, match="is a link to a stream"):
            replace_file(link, b"data")
        assert link.is_symlink()
    assert {path.name for path in tmp_path.iterdir()} == {"open", "stdout"}


@pytest.mark.parametrize(
    "words",
    [
        "--help",
        "ls --help",
        "--version",
        "ls -r wh://photos",
        "cat wh://photos/20.txt",
        "status",
        "watch --since 0",
    ],
)
async def test_nobody_who_reads_the_output_is_an_exit_status_of_its_own(
    store: FakeStore, tmp_path: Path, words: str
) -> None:
    store.upkeep.happen("disk_online", disk="disk-1")
    command, environment = command_of(tmp_path, *words.split())
    environment.pop("PYTHONUNBUFFERED", None)
    reading, writing = os.pipe()
    os.close(reading)
    try:
        with trio.fail_after(60):
            ran = await trio.run_process(
                command, env=environment, stdout=writing, capture_stderr=True, check=False
            )
    finally:
        os.close(writing)
    assert (ran.returncode, ran.stderr) == (141, b"")


@pytest.mark.parametrize("words", ["--help", "ls", "cat wh://photos/20.txt"])
async def test_output_that_finds_no_room_is_a_failure_told_once(
    store: FakeStore, tmp_path: Path, words: str
) -> None:
    command, environment = command_of(tmp_path, *words.split())
    environment.pop("PYTHONUNBUFFERED", None)  # what is buffered is written when the command ends
    with open("/dev/full", "wb") as full:
        ran = await trio.run_process(command, env=environment, stdout=full, capture_stderr=True, check=False)
    assert ran.returncode == 1
    assert len(ran.stderr.splitlines()) == 1
    assert b"No space left on device" in ran.stderr
