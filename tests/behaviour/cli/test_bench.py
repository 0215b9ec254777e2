"""`warehouse bench` against a fake store: what it does there, what it prints, what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
import trio

from cli_kit import Run, command_of, process
from fake_store import FakeStore
from warehouse.cli import main as cli
from warehouse.cli.measuring.worker import TICK_S
from warehouse.cli.usage import UsageError
from warehouse.errors import BucketExists, ClusterFull, NoSuchObject
from warehouse.transport.messages import DeleteBucket, DeleteObjects, LeaseNeedles, ListObjects, LocateObjects

SHORT = ("--seconds", "0.1", "--objects", "40", "--large-size", "5MiB")


async def test_every_test_is_measured_when_none_is_named(store: FakeStore, run: Run) -> None:
    ran = await run("bench", *SHORT, "--concurrency", "4", "--json")
    assert [one["test"] for one in ran.objects] == [
        "put",
        "get",
        "list",
        "delete",
        "mixed",
        "large-put",
        "large-get",
    ]
    for one in ran.objects:
        assert one["request_count"] > 0, one["test"]
        assert one["failed_count"] == 0
        assert 0 < one["p50_ms"] <= one["p99_ms"] <= one["max_ms"]
    sizes = {one["test"]: one["size"] for one in ran.objects}
    assert (sizes["put"], sizes["list"], sizes["large-get"]) == (4096, 0, 5 * 1024 * 1024)
    assert ran.status == 0
    assert store.buckets == {}, "its bucket is gone"


async def test_every_concurrency_is_measured_and_large_objects_at_most_four_at_once(run: Run) -> None:
    ran = await run("bench", "put", "large", *SHORT, "--concurrency", "1,8,16", "--json")
    found = [(one["test"], one["concurrency"]) for one in ran.objects]
    assert found == [
        ("put", 1),
        ("put", 8),
        ("put", 16),
        ("large-put", 1),
        ("large-get", 1),
        ("large-put", 4),
        ("large-get", 4),
    ]


async def test_no_more_objects_are_under_way_than_were_asked_for(store: FakeStore, run: Run) -> None:
    store.faults.put_delay_s = 0.01
    await run("bench", "put", *SHORT, "--concurrency", "3")
    assert store.puts_in_flight_max == 3


async def test_gets_read_what_was_prepared_and_lists_a_page_of_it(store: FakeStore, run: Run) -> None:
    ran = await run("bench", "list", "get", *SHORT, "--size", "100", "--json")
    get, listing = ran.objects
    assert get["byte_rate"] == pytest.approx(get["rate"] * 100, rel=0.01)
    assert 0 < listing["entry_count"] <= 40 * listing["request_count"]
    keys = {key for asked in store.asked if isinstance(asked, LocateObjects) for key in asked.keys}
    assert 20 < len(keys) <= 40, "at random among all of them"
    assert store.count(ListObjects) == listing["request_count"]


async def test_a_delete_test_ends_when_nothing_is_left(store: FakeStore, run: Run) -> None:
    ran = await run("bench", "delete", "--objects", "25", "--seconds", "60", "--json")
    assert ran.objects[0]["request_count"] == 25
    assert store.count(DeleteObjects) == 25


async def test_people_get_a_table_and_a_histogram(run: Run) -> None:
    ran = await run("bench", "put", "get", *SHORT)
    header, put, get, blank, titles, *bars = ran.out.splitlines()
    assert header.split() == (
        ["test", "size", "at", "once", "requests", "a", "second", "bytes/s"]
        + ["p50", "p90", "p99", "p99.9", "max"]
    )
    assert put.split()[:4] == ["put", "4.0", "KiB", "32"]
    assert get.split()[:4] == ["get", "4.0", "KiB", "32"]
    assert not blank
    assert "put 4.0 KiB, 32 at once" in titles
    assert any("█" in bar and "%" in bar for bar in bars)
    assert "put 4.0 KiB, 32 at once" in ran.err, "each result is told when it is there"


async def test_tests_may_be_named_with_commas(run: Run) -> None:
    ran = await run("bench", "put,get", *SHORT, "--json")
    assert [one["test"] for one in ran.objects] == ["put", "get"]
    assert all(one["is_whole"] for one in ran.objects)


async def test_failures_are_counted_and_the_others_count(store: FakeStore, run: Run) -> None:
    store.faults.get_error = [NoSuchObject("gone") for _ in range(3)]
    # Too large to share a request: what fails in a shared one is read once more.
    ran = await run("bench", "get", *SHORT, "--size", "70000", "--json")
    assert ran.objects[0]["failures"] == {"no_such_object": 3}
    assert ran.objects[0]["request_count"] > 0


async def test_a_store_that_takes_nothing_fails_the_benchmark(store: FakeStore, run: Run) -> None:
    store.faults.refused["LeaseNeedles"] = [ClusterFull("no room") for _ in range(1000)]
    with pytest.raises(ClusterFull):
        await run("bench", "put", *SHORT)
    assert store.buckets == {}


async def test_several_processes_share_the_requests(store: FakeStore, tmp_path: Path) -> None:
    words = ("bench", "put", "get", "--seconds", "0.5", "--objects", "40", "--concurrency", "4", "--json")
    ran = await process(tmp_path, *words, "--processes", "2")
    assert (ran.status, ran.err) == (0, "")
    put, get = ran.objects
    assert put["request_count"] > 0
    assert get["failed_count"] == 0
    prepared = {key for asked in store.asked if isinstance(asked, LocateObjects) for key in asked.keys}
    assert {key.split("/")[1] for key in prepared} == {"000", "001"}, "each has keys of its own"
    assert store.buckets == {}


async def test_results_go_to_a_file_while_progress_is_shown_on_a_terminal(
    store: FakeStore, tmp_path: Path
) -> None:
    command, environment = command_of(tmp_path, "bench", "put", *SHORT, "--json")
    ours, theirs = os.openpty()
    try:
        with (tmp_path / "out.json").open("wb") as out:
            running = await trio.lowlevel.open_process(
                command, env=environment | {"TERM": "xterm"}, stdout=out, stderr=theirs
            )
            with trio.fail_after(30):
                assert await running.wait() == 0
    finally:
        os.close(ours)
        os.close(theirs)
    [line] = (tmp_path / "out.json").read_text().splitlines()
    assert json.loads(line)["request_count"] > 0


async def test_what_fails_in_a_process_fails_the_benchmark(store: FakeStore, tmp_path: Path) -> None:
    store.faults.refused["LeaseNeedles"] = [ClusterFull("no room") for _ in range(1000)]
    ran = await process(tmp_path, "bench", "put", *SHORT, "--processes", "2")
    assert ran.status == 1
    assert ran.err.endswith("warehouse: no room (cluster_full)\n")
    assert store.buckets == {}


async def interrupt(running: trio.Process) -> bytes:
    """Ctrl-C; returns what it still says on standard output."""
    assert running.stdout is not None
    assert running.stderr is not None
    running.send_signal(signal.SIGINT)
    shown = b"".join([piece async for piece in running.stdout])
    await running.wait()
    async for _ in running.stderr:
        pass
    assert running.returncode == 130
    return shown


@pytest.mark.parametrize("process_count", ["1", "2"])
async def test_ctrl_c_in_a_measurement_shows_what_it_has_so_far(
    store: FakeStore, tmp_path: Path, process_count: str
) -> None:
    words = ("bench", "put", "--seconds", "60", "--concurrency", "4", "--processes", process_count, "--json")
    command, environment = command_of(tmp_path, *words)
    running = await trio.lowlevel.open_process(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with trio.fail_after(30):
        while not store.count(LeaseNeedles):
            await trio.sleep(0.01)
        await trio.sleep(4 * TICK_S)
        shown = await interrupt(running)
    [told] = [json.loads(line) for line in shown.splitlines()]
    assert (told["test"], told["is_whole"]) == ("put", False)
    assert told["request_count"] > 0
    assert 0 < told["elapsed_s"] < 30
    assert store.buckets == {}


@pytest.mark.parametrize("process_count", ["1", "2"])
async def test_ctrl_c_shows_what_there_is_and_removes_the_bucket(
    store: FakeStore, tmp_path: Path, process_count: str
) -> None:
    words = ("bench", "put", "--seconds", "0.3", "--concurrency", "2,3000", "--processes", process_count)
    store.faults.put_delay_s = 0.05
    command, environment = command_of(tmp_path, *words)
    running = await trio.lowlevel.open_process(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert running.stderr is not None
    said = b""
    with trio.fail_after(30):
        while b"2 at once" not in said:
            said += await running.stderr.receive_some()
        shown = await interrupt(running)
    assert shown.decode().splitlines()[1].split()[:4] == ["put", "4.0", "KiB", "2"]
    assert store.buckets == {}


async def test_a_bucket_that_cannot_be_removed_is_named(store: FakeStore, tmp_path: Path) -> None:
    store.faults.refused["DeleteBucket"] = [BucketExists("it stays")]
    ran = await process(tmp_path, "bench", "put", *SHORT)
    (left,) = store.buckets
    assert f"warehouse rb --force {left}" in ran.err
    assert ran.status == 1
    assert store.count(DeleteBucket) == 1


@pytest.mark.parametrize(
    ("words", "about"),
    [
        (("pit",), "'pit'"),
        (("--concurrency", "1,x"), "--concurrency"),
        (("--concurrency", "0"), "--concurrency"),
        (("--processes", "0"), "--processes"),
        (("--objects", "0"), "--objects"),
        (("--seconds", "0"), "--seconds"),
        (("--size", "0"), "--size"),
        (("--size", "many"), "'many'"),
    ],
)
async def test_wrong_usage_is_told_before_anything_is_asked(
    store: FakeStore, run: Run, words: tuple[str, ...], about: str
) -> None:
    with pytest.raises(UsageError, match=about):
        await run("bench", *words)
    assert store.asked == []


def test_the_help_says_why_there_are_processes(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "--help"]) == 0
    assert "at most one core" in " ".join(capsys.readouterr().out.split())
