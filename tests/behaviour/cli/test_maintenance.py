"""Commands about space and damage, against a fake store: what they print, and how they end."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import trio

from cli_kit import Run, command_of, process
from fake_jobs import MIB, TOTAL
from fake_store import FakeStore
from warehouse.cli.commands import orphans
from warehouse.cli.copying import deletions
from warehouse.errors import DeletionRefused, NoRoomToCompact, NoSuchVolume
from warehouse.transport.messages import Job, ListEvents, ListJobs, NeedleDamage, PauseJobs, VolumeReport

DAMAGES = [
    NeedleDamage(
        volume_id=2,
        offset=4096,
        needle_id=17,
        problem="the data does not match its CRC",
        bucket="photos",
        key="2026/\x1b[2Jcat.jpg",
    ),
    NeedleDamage(volume_id=2, offset=81_920, problem="this is no needle"),
]


# --- volumes and status ---------------------------------------------------------------------------


async def test_volumes_shows_what_is_wasted_and_what_is_under_way(store: FakeStore, run: Run) -> None:
    store.reports[1] = msgspec.structs.replace(store.reports[1], dead_count=2345, dead_bytes=100)
    await run("compact", "--no-wait", "1")
    store.upkeep.list([1])
    store.upkeep.list([1])
    out = (await run("volumes")).out
    header, first, second, total, _, job = out.splitlines()
    names = ["volume", "disk", "gen", "state", "filled", "needles", "live", "dead", "wasted", "verified"]
    assert header.split() == names
    assert first.split()[:4] == ["1", "disk-1", "1", "open"]
    assert first.split()[5:-3] == ["25%", "1", "200", "B", "2,345", "100", "B", "40%"]
    assert first.rstrip().endswith(" ago")
    assert second.rstrip().endswith("never")
    assert total == "2 volumes, 500 B on disk, 150 B wasted (30%)"
    assert "compacting" in job
    assert "100.0 MiB of 400.0 MiB  80.0 MiB/s  3 s left" in job


async def test_volumes_has_every_figure_of_the_report_in_json(store: FakeStore, run: Run) -> None:
    await run("verify", "--no-wait", "2")
    first, second = (await run("volumes", "--json")).objects
    assert set(VolumeReport.__struct_fields__) < set(first)
    assert (first["volume_id"], first["disk"], first["state"], first["dead_count"]) == (
        1,
        "disk-1",
        "open",
        0,
    )
    assert first["job"] is None
    assert set(second["job"]) == set(Job.__struct_fields__)
    assert second["verified_ms"] is None
    store.upkeep.damages = DAMAGES
    assert [fields["damaged_count"] for fields in (await run("volumes", "--json")).objects] == [0, 2]
    header, _, second, *_ = (await run("volumes")).out.splitlines()
    assert header.split()[-2:] == ["damaged", "verified"]
    assert second.split()[-2:] == ["2", "never"]


async def test_status_names_damage_and_what_holds_upkeep_back(store: FakeStore, run: Run) -> None:
    quiet = (await run("status")).out
    assert "written or checked within the last 3 d\n" in quiet
    for word in ("damaged", "paused", "no compactor", "no object"):
        assert word not in quiet
    store.upkeep.damages = [*DAMAGES, *(DAMAGES[1:] * 8)]
    store.orphan_count = 12
    store.without_compactor = {2}
    await run("compact", "--pause")
    out = (await run("status")).out
    assert "10 damaged needles\n" in out
    name = "  volume 2, needle 17, wh://photos/2026/\\x1b[2Jcat.jpg: the data does not match its CRC\n"
    assert name in out
    assert "  volume 2, offset 81,920, no object is known: this is no needle\n" in out
    assert "  and 5 more" in out
    assert "12 needles that no object names" in out
    assert "paused; warehouse compact --resume" in out
    assert out.count("no compactor") == 1
    assert "disk-2  online  no compactor" in out
    assert "open, 10 damaged" in out  # the volume actor itself has met none of it


async def test_orphans_are_not_dropped_at_a_terminal_without_a_yes(
    store: FakeStore, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (orphans, deletions):
        monkeypatch.setattr(module, "is_terminal", lambda: True)
    monkeypatch.setattr(sys, "stdin", io.StringIO("no\nyes\n"))
    store.orphan_count = 12
    with pytest.raises(DeletionRefused, match="12 needles that no object names: the answer was no"):
        await run("orphans", "--drop")
    assert store.orphan_count == 12
    await run("orphans", "--drop")
    assert store.orphan_count == 0
    store.orphan_count = 12
    await run("orphans", "--drop", "--yes")
    assert store.orphan_count == 0


# --- compact --------------------------------------------------------------------------------------


async def test_compact_ends_with_what_was_freed(store: FakeStore, run: Run) -> None:
    ran = await run("compact", "2")
    assert ran.status == 0
    assert ran.out == "volume 2  compacted, 150.0 MiB freed, writes paused for 12 ms, took 5.0 s\n"
    assert ran.err.splitlines() == [
        "volume 2  compacting, 0% of 400.0 MiB",
        "volume 2  switching, 100% of 400.0 MiB",
    ]
    ran = await run("compact", "--all")
    assert ran.out.splitlines()[-1] == "compacted 2 volumes, 300.0 MiB freed"


async def test_a_volume_that_wastes_nothing_says_so(store: FakeStore, run: Run) -> None:
    store.upkeep.idle = {1}
    ran = await run("compact", "1")
    assert (ran.status, ran.out) == (0, "volume 1  there is nothing to give back\n")


async def test_a_volume_named_twice_is_compacted_once(store: FakeStore, run: Run) -> None:
    assert len((await run("compact", "1", "1")).out.splitlines()) == 1


async def test_compact_tells_programs_every_step(store: FakeStore, run: Run) -> None:
    ran = await run("compact", "--all", "--json")
    started, progress, finished = (
        [fields for fields in ran.objects if fields["event"] == event]
        for event in ("started", "progress", "finished")
    )
    assert [fields["volume_id"] for fields in started] == [1, 2]
    assert [fields["freed_bytes"] for fields in finished] == [150 * MIB] * 2
    for fields in (*started, *progress, *finished):
        assert set(Job.__struct_fields__) < set(fields)
    for volume_id in (1, 2):
        done = [fields["done_bytes"] for fields in progress if fields["volume_id"] == volume_id]
        assert 1 <= len(done) <= 4  # at most one a second
        assert done == sorted(done)
    assert ran.objects[-1] == {
        "event": "summary",
        "work": "compact",
        "done_count": 2,
        "failed_count": 0,
        "cancelled_count": 0,
        "total_bytes": 2 * TOTAL,
        "freed_bytes": 300 * MIB,
        "damaged_count": 0,
    }
    assert ran.err == ""


async def test_a_volume_that_cannot_be_compacted_is_named_with_its_cause(store: FakeStore, run: Run) -> None:
    cause = NoRoomToCompact("the copy of volume 1 needs 3.0 GiB, disk-1 has 1.0 GiB free")
    store.upkeep.failures[1] = cause
    ran = await run("compact", "--all")
    assert ran.status == 1
    assert f"warehouse: volume 1: {cause.message} (no_room_to_compact)\n" in ran.err
    assert ran.out.splitlines()[-1] == "compacted 1 volume, 150.0 MiB freed, 1 failed"
    store.upkeep.failures[1] = cause
    ran = await run("compact", "1", "--json")
    assert ran.status == 1
    assert [fields["code"] for fields in ran.objects if fields["event"] == "failed"] == ["no_room_to_compact"]
    with pytest.raises(NoSuchVolume, match="9"):
        await run("compact", "9")


async def test_what_is_not_waited_for_goes_on(store: FakeStore, run: Run) -> None:
    ran = await run("compact", "--all", "--no-wait")
    assert ran.out == "volume 1  compaction queued, as job 1\nvolume 2  compaction queued, as job 2\n"
    assert (ran.status, ran.err, store.count(ListJobs)) == (0, "", 0)
    ran = await run("verify", "1", "--no-wait", "--json")
    assert [(fields["event"], fields["job_id"]) for fields in ran.objects] == [("started", 3)]


async def test_a_compaction_can_be_cancelled(store: FakeStore, run: Run) -> None:
    store.upkeep.stops_at = MIB
    await run("compact", "--all", "--no-wait")
    await run("verify", "1", "--no-wait")
    assert (await run("compact", "--cancel", "2")).out == "volume 2  compaction cancelled\n"
    assert [job.state == "cancelled" for job in store.upkeep.jobs.values()] == [False, True, False]
    ran = await run("compact", "--cancel", "--all", "--json")
    assert [(fields["event"], fields["volume_id"]) for fields in ran.objects] == [("cancelled", 1)]
    assert (await run("compact", "--cancel", "--all")).out == "no job to cancel\n"
    assert (await run("verify", "--cancel", "--all")).out == "volume 1  verification cancelled\n"


async def test_somebody_elses_cancellation_is_told_to_whoever_waits(store: FakeStore, run: Run) -> None:
    store.upkeep.on_poll = lambda: store.upkeep.cancel([1])  # type: ignore[assignment]
    ran = await run("compact", "1")
    assert (ran.status, ran.out) == (1, "volume 1  compaction cancelled\n")


async def test_a_pause_is_for_the_whole_store(store: FakeStore, run: Run) -> None:
    assert (await run("compact", "--pause")).out == "compaction and verification paused\n"
    await run("compact", "1", "--no-wait")
    ran = await run("compact", "--resume")
    assert ran.out == "compaction and verification resumed, 1 job continuing\n"
    (fields,) = (await run("compact", "--pause", "--json")).objects
    assert (fields["event"], fields["jobs"][0]["volume_id"]) == ("paused", 1)
    asked = [request.is_paused for request in store.asked if isinstance(request, PauseJobs)]
    assert asked == [True, False, True]


async def test_whoever_waits_is_told_of_a_pause(store: FakeStore, run: Run) -> None:
    store.upkeep.is_paused = True
    polls: list[None] = []

    def end_the_pause() -> None:
        polls.append(None)
        store.upkeep.is_paused = len(polls) < 3

    store.upkeep.on_poll = end_the_pause
    ran = await run("compact", "1")
    assert (ran.status, ran.err.splitlines()[0]) == (0, "volume 1  paused until warehouse compact --resume")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_an_interruption_leaves_the_jobs_running_and_says_so(
    store: FakeStore, tmp_path: Path, number: int, status: int
) -> None:
    store.upkeep.stops_at = MIB
    command, environment = command_of(tmp_path, "compact", "--all")
    process = await trio.lowlevel.open_process(command, env=environment, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = b""
    with trio.fail_after(60):
        while b"compacting" not in said:
            said += await process.stderr.receive_some()
        process.send_signal(number)
        async for piece in process.stderr:
            said += piece
        assert await process.wait() == status
    assert said.decode().endswith(
        "warehouse: compaction continues in the store: volumes 1, 2\n"
        "           stop it with: warehouse compact --cancel 1 2\n"
    )
    assert not any(job.is_finished for job in store.upkeep.jobs.values())


# --- verify ---------------------------------------------------------------------------------------


async def test_verify_means_all_volumes_when_none_is_named(store: FakeStore, run: Run) -> None:
    ran = await run("verify")
    assert ran.status == 0
    assert ran.out.splitlines() == [
        "volume 1  verified, 400.0 MiB checked, no damage, took 5.0 s",
        "volume 2  verified, 400.0 MiB checked, no damage, took 5.0 s",
        "verified 2 volumes, 800.0 MiB checked, no damage",
    ]


async def test_verify_lists_what_is_damaged(store: FakeStore, run: Run) -> None:
    store.upkeep.findings[2] = DAMAGES
    ran = await run("verify", "2")
    assert ran.status == 1
    assert ran.out.splitlines() == [
        "volume 2  verified, 400.0 MiB checked, 2 damaged needles, took 5.0 s",
        "2 damaged needles",
        "  volume 2, needle 17, wh://photos/2026/\\x1b[2Jcat.jpg: the data does not match its CRC",
        "  volume 2, offset 81,920, no object is known: this is no needle",
    ]
    assert (await run("verify", "1")).status == 0  # what is wrong elsewhere is not its business
    ran = await run("verify", "2", "--json")
    assert ran.status == 1  # it is still damaged
    damages = [fields for fields in ran.objects if fields["event"] == "damage"]
    assert [fields["needle_id"] for fields in damages] == [17, None]
    assert damages[0]["key"] == "2026/\x1b[2Jcat.jpg"
    assert set(NeedleDamage.__struct_fields__) < set(damages[1])
    assert ran.objects[-1]["event"] == "summary"


# --- watch ----------------------------------------------------------------------------------------


async def test_watch_prints_events_until_it_is_interrupted(store: FakeStore, tmp_path: Path) -> None:
    store.upkeep.happen("compaction_finished", volume_id=3, freed_bytes=1536, pause_ms=12.3456, code=None)
    store.upkeep.happen("damage_found", bucket="photos", key="\x1b[2J")
    for words, expected in (
        (
            ["watch", "--since", "0"],
            [
                "compaction_finished     volume_id=3  freed_bytes=1.5 KiB  pause_ms=12.35",
                "damage_found            bucket=photos  key=\\x1b[2J",
            ],
        ),
        (["watch", "--since", "1"], ["damage_found            bucket=photos  key=\\x1b[2J"]),
    ):
        command, environment = command_of(tmp_path, *words)
        process = await trio.lowlevel.open_process(command, env=environment, stdout=subprocess.PIPE)
        assert process.stdout is not None
        said = b""
        with trio.fail_after(60):
            while said.count(b"\n") < len(expected):  # through a pipe, and at once
                said += await process.stdout.receive_some()
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 130
        await process.stdout.aclose()
        assert [line[21:] for line in said.decode().splitlines()] == expected


async def test_watch_begins_now_unless_told_otherwise(store: FakeStore, tmp_path: Path) -> None:
    store.upkeep.happen("old")
    command, environment = command_of(tmp_path, "watch", "--json")
    process = await trio.lowlevel.open_process(command, env=environment, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with trio.fail_after(60):
        while store.count(ListEvents) < 2:
            await trio.sleep(0.01)
        store.upkeep.happen("disk_offline", disk="disk-1")
        line = await process.stdout.receive_some()
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130
    await process.stdout.aclose()
    fields = json.loads(line)
    assert (fields["event"], fields["sequence"], fields["fields"]) == ("disk_offline", 2, {"disk": "disk-1"})


async def test_a_number_that_is_none_is_wrong_usage(store: FakeStore, tmp_path: Path) -> None:
    ran = await process(tmp_path, "compact", "one")
    assert (ran.status, ran.out) == (2, "")
    assert "one" in ran.err
    assert ran.err.endswith("(see: warehouse compact --help)\n")
