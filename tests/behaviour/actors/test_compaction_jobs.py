"""Compaction as the master leads it: what it asks of whom, and that any actor may be restarted at any step."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from master_kit import GIB, MIB, RunningMaster, open_master, settings_with, until
from warehouse.errors import NoSuchJob, NoSuchVolume, ReadFailed, WriteFailed
from warehouse.transport.messages import (
    BeginCompaction,
    CancelJobs,
    DeleteNeedles,
    Jobs,
    PauseJobs,
    PollTask,
    StartCopy,
    StartJobs,
    StopTask,
    SwitchGeneration,
)


async def start(master: RunningMaster, *volume_ids: int, work: str = "compact") -> int:
    answer = await master.ask(StartJobs(work=work, volume_ids=list(volume_ids) or [1]), Jobs)
    return answer.jobs[0].job_id


async def test_a_compaction_by_hand_is_led_from_begin_to_switch(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        master.disk.waste(1, 30 * MIB)
        await master.disk.report()
        job = await master.job_over(await start(master))
        assert (job.state, job.code, job.origin) == ("done", None, "operator")
        assert (job.freed_bytes, job.pause_ms) == (30 * MIB, 1.5)
        orders = [kind for kind in master.disk.kinds() if kind.endswith(("Compaction", "Generation"))]
        assert orders == ["DropGeneration", "BeginCompaction", "SwitchGeneration"]
        (copy,) = master.compactor.of(StartCopy)
        (switch,) = master.disk.of(SwitchGeneration)
        assert (copy.generation, copy.end_offset) == (1, 40 * MIB + 4096)
        assert (switch.generation, switch.end_offset) == (2, 2 * MIB)
        volume = (await master.status()).disks[0].volumes[0]
        assert volume.report.generation == 2
        assert volume.verified_ms == job.started_ms  # the copy has read and checked all that is live
        names = [event.name for event in await master.events() if event.name.startswith("compaction")]
        assert (names[0], names[-1]) == ("compaction_started", "compaction_finished")
        assert not master.compactor.of(StopTask)  # it would remove what is the present generation now


async def test_a_volume_without_garbage_is_left_as_it_is(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        job = await master.job_over(await start(master))
        assert (job.state, job.message) == ("done", "there is nothing to give back")
        assert not master.disk.of(BeginCompaction)


async def test_of_all_volumes_one_that_would_give_next_to_nothing_back_is_left_alone(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        master.disk.waste(1, MIB // 16)
        await master.disk.report()
        answer = await master.ask(StartJobs(work="compact", is_all=True), Jobs)
        job = await master.job_over(answer.jobs[0].job_id)
        assert (job.state, job.freed_bytes) == ("done", 0)
        assert job.message.startswith("left alone: it would give back")
        assert not master.disk.of(BeginCompaction)
        answer = await master.ask(StartJobs(work="compact", is_all=True, is_forced=True), Jobs)
        job = await master.job_over(answer.jobs[0].job_id)
        assert (job.state, job.message, job.freed_bytes) == ("done", "", MIB // 16)
        master.disk.waste(1, MIB // 16)
        await master.disk.report()
        job = await master.job_over(await start(master, 1))
        assert (job.message, job.freed_bytes) == ("", MIB // 16), "it was named"


async def test_a_switch_of_several_steps_is_asked_for_until_it_is_done(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        master.disk.waste(1, 30 * MIB)
        master.disk.switch_steps = 3
        await master.disk.report()
        assert (await master.job_over(await start(master))).state == "done"
        assert len(master.disk.of(SwitchGeneration)) == 3


@pytest.mark.parametrize("who", ["disk", "compactor", "master"])
@pytest.mark.parametrize("step", [BeginCompaction, StartCopy, PollTask, SwitchGeneration])
async def test_whoever_is_restarted_at_whatever_step_the_compaction_is_done_in_the_end(
    tmp_path: Path, who: str, step: type
) -> None:
    async with open_master(tmp_path) as master:
        master.disk.waste(1, 30 * MIB)
        await master.disk.report()
        asked = master.disk if step in (BeginCompaction, SwitchGeneration) else master.compactor
        release = asked.hold(step)
        job_id = await start(master)
        await until(lambda: asked.of(step))
        if who == "master":
            await master.restart()
        else:
            restarted = getattr(master, who)
            restarted.disconnect()
            await until_offline(master, who)
        release.set()
        del asked.holds[step]
        if who == "disk":
            await master.connect_disk()
        if who == "compactor":
            await master.connect_compactor()
        job = await master.job_over(job_id)
        assert job.state == "done"
        assert master.disk.reports[1].generation == 2
        assert master.disk.reports[1].dead_bytes == 0
        if (who, step) == ("master", SwitchGeneration):
            return  # the volume actor did what it was told by the old one
        assert job.freed_bytes == 30 * MIB
        # The second attempt throws away what the first one left; a switch does not need the compactor.
        attempts = 1 if (who, step) == ("compactor", SwitchGeneration) else 2
        begins = [kind for kind in master.disk.kinds() if kind in ("DropGeneration", "BeginCompaction")]
        assert begins[-2:] == ["DropGeneration", "BeginCompaction"]
        assert begins.count("BeginCompaction") == attempts
        if who != "master":
            assert len(await master.events("compaction_requeued")) == attempts - 1


async def until_offline(master: RunningMaster, who: str) -> None:
    with trio.fail_after(30):
        while True:
            status = await master.status()
            if not (status.disks[0].is_online if who == "disk" else status.compactors):
                return
            await trio.sleep(0.01)


async def test_a_switch_whose_answer_was_lost_is_not_done_twice(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        master.disk.waste(1, 30 * MIB)
        await master.disk.report()
        master.disk.failures[SwitchGeneration] = WriteFailed("the answer is lost")
        release = master.disk.hold(SwitchGeneration)
        job_id = await start(master)
        await until(lambda: master.disk.of(SwitchGeneration))
        master.disk.disconnect()
        await until_offline(master, "disk")
        release.set()
        master.disk.set(1, generation=2, dead_bytes=0, file_size=10 * MIB + 4096)
        await master.connect_disk()
        job = await master.job_over(job_id)
        assert (job.state, job.freed_bytes) == ("done", 30 * MIB)
        assert len(master.disk.of(BeginCompaction)) == 1
        assert not master.compactor.of(StopTask)


async def test_a_copy_that_does_not_fit_is_refused_with_both_numbers(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        master.disk.waste(1, 30 * MIB, live_bytes=2 * GIB)
        master.disk.free = 1 * GIB
        await master.disk.report()
        job = await master.job_over(await start(master))
        assert (job.state, job.code) == ("failed", "no_room_to_compact")
        assert "needs 2.0 GiB" in job.message, "what lives, 1 % and 16 MiB"
        assert "1.0 GiB free" in job.message
        assert not master.compactor.of(StartCopy)


async def test_a_copy_that_fails_is_tried_again_but_not_forever(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        master.disk.waste(1, 30 * MIB)
        await master.disk.report()
        master.compactor.task_failure = ReadFailed("the disk answers with an error")
        job = await master.job_over(await start(master))
        assert (job.state, job.code) == ("failed", "read_failed")
        assert len(master.compactor.of(StartCopy)) == 5
        assert len(master.compactor.of(StopTask)) == 5
        assert master.disk.kinds()[-1] == "DropGeneration"
        assert (await master.events("compaction_failed"))[0].fields["code"] == "read_failed"


async def test_a_compactor_that_was_only_out_of_reach_is_told_to_stop_what_it_was_doing(
    tmp_path: Path,
) -> None:
    async with open_master(tmp_path) as master:
        master.disk.waste(1, 30 * MIB)
        await master.disk.report()
        master.compactor.polls = 1_000_000
        job_id = await start(master)
        await until(lambda: master.compactor.of(PollTask))
        master.compactor.disconnect()
        await until_offline(master, "compactor")
        master.compactor.polls = 2
        await master.connect_compactor()
        assert (await master.job_over(job_id)).state == "done"
        kinds = [kind for kind in master.compactor.kinds() if kind != "PollTask"]
        assert kinds == ["StartCopy", "StopTask", "StartCopy"]
        assert master.compactor.of(StopTask)[0].task_id == master.compactor.of(StartCopy)[0].task_id


async def test_a_cancelled_copy_is_removed_and_does_not_come_back(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        master.disk.waste(1, 30 * MIB)
        await master.disk.report()
        master.compactor.polls = 1_000_000
        job_id = await start(master)
        await until(lambda: master.compactor.of(PollTask))
        (job,) = (await master.ask(CancelJobs(job_ids=[job_id]), Jobs)).jobs
        assert job.state == "cancelled"
        assert len(master.compactor.of(StopTask)) == 1
        # The upkeep may have asked for something else since.
        assert [kind for kind in master.disk.kinds() if kind != "ListLive"][-1] == "DropGeneration"
        await master.restart()
        assert await master.jobs() == []


async def test_a_queued_job_can_be_cancelled(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        job_id = await start(master)
        (job,) = (await master.ask(CancelJobs(job_ids=[job_id]), Jobs)).jobs
        assert job.state == "cancelled"
        with pytest.raises(NoSuchJob):
            await master.ask(CancelJobs(job_ids=[job_id, 4711]), Jobs)


async def test_a_job_says_what_it_waits_for_and_starts_when_it_is_there(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        master.disk.waste(1, 30 * MIB)
        await master.disk.report()
        job_id = await start(master)
        await master.job_when(job_id, lambda job: job.code == "compactor_offline")
        master.disk.set(1, sealed_cause="fsync failed")
        await master.disk.report()
        await master.connect_compactor()
        await master.job_when(job_id, lambda job: job.code == "volume_sealed")
        assert [event.fields["cause"] for event in await master.events("volume_sealed")] == ["fsync failed"]
        master.disk.set(1, sealed_cause=None)
        await master.disk.report()
        assert (await master.job_over(job_id)).state == "done"


async def test_a_volume_keeps_the_job_that_it_has(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        first = await start(master)
        assert await start(master) == first
        assert await start(master, work="verify") != first
        with pytest.raises(NoSuchVolume):
            await start(master, 1, 99)


async def test_paused_jobs_hold_where_they_are_also_over_a_restart(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        master.disk.waste(1, 30 * MIB)
        await master.disk.report()
        release = master.compactor.hold(StartCopy)
        job_id = await start(master)
        await until(lambda: master.compactor.of(StartCopy))
        assert (await master.ask(PauseJobs(is_paused=True), Jobs)).is_paused
        release.set()
        await until(lambda: len(master.compactor.of(PollTask)) > 5)
        assert {poll.rate for poll in master.compactor.of(PollTask)} == {0}
        await master.restart()
        await master.job_when(job_id, lambda job: job.message == "jobs are paused")
        assert (await master.status()).is_paused
        await master.ask(PauseJobs(is_paused=False), Jobs)
        assert (await master.job_over(job_id)).state == "done"
        assert [event.name for event in await master.events("jobs_resumed")] == ["jobs_resumed"]


async def test_a_copy_that_is_done_waits_for_its_switch_while_jobs_are_paused(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        master.disk.waste(1, 30 * MIB)
        await master.disk.report()
        master.compactor.polls = 0
        release = master.compactor.hold(StartCopy)
        job_id = await start(master)
        await until(lambda: master.compactor.of(StartCopy))
        await master.ask(PauseJobs(is_paused=True), Jobs)
        release.set()
        await until(lambda: len(master.compactor.of(PollTask)) > 5)
        assert not master.disk.of(SwitchGeneration)
        await master.ask(PauseJobs(is_paused=False), Jobs)
        assert (await master.job_over(job_id)).state == "done"


async def test_while_clients_use_the_disk_a_copy_keeps_to_its_rate(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        master.disk.waste(1, 30 * MIB)
        await master.disk.report()
        master.compactor.polls = 1_000_000
        await start(master)
        await until(lambda: master.compactor.of(PollTask))
        assert master.compactor.of(PollTask)[-1].rate is None
        master.disk.request_count = 1000
        await master.disk.report()
        await until(lambda: master.compactor.of(PollTask)[-1].rate == 32 * MIB)


async def test_the_policy_compacts_by_itself_and_stops_when_it_is_in_vain(tmp_path: Path) -> None:
    settings = settings_with(verification={"automatic": "off"})
    async with open_master(tmp_path, settings=settings) as master:
        master.disk.waste(1, 100 * MIB)
        await master.disk.report()
        await until(lambda: master.disk.reports[1].generation == 2)
        (job,) = await master.jobs()
        job = await master.job_over(job.job_id)
        assert (job.origin, job.state) == ("policy", "done")
        master.compactor.task_failure = ReadFailed("the disk answers with an error")
        master.disk.waste(1, 100 * MIB)
        await master.disk.report()
        await until(lambda: len(master.compactor.of(StartCopy)) == 1 + 5)
        await trio.sleep(0.3)
        assert [job.state for job in await master.jobs()] == ["done", "failed"]


async def test_garbage_is_on_disk_before_the_copy_begins(tmp_path: Path) -> None:
    """Otherwise what was deleted a moment ago would be copied once more."""
    async with open_master(tmp_path) as master:
        master.disk.waste(1, 30 * MIB)
        await master.disk.report()
        bucket_id = await master.create_bucket("photos")
        for needle_id in (1, 2):
            await master.disk.store(1, needle_id, bucket_id, "cat", stamp=needle_id)
        release = master.disk.hold(DeleteNeedles)  # the first needle's tombstone
        await start(master)
        await trio.sleep(0.1)
        assert not master.disk.of(BeginCompaction)
        release.set()
        await until(lambda: master.disk.of(BeginCompaction))
        assert master.disk.of(DeleteNeedles)[0].needles[0][0] == 1
