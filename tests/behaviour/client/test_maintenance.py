"""The library's view of jobs and events, against a fake store whose master comes and goes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

import warehouse
from fake_jobs import MIB, TOTAL
from fake_store import FakeStore
from warehouse.errors import NoRoomToCompact, NoSuchJob, NoSuchVolume, Overloaded, PermissionDenied
from warehouse.transport.messages import Jobs, ListEvents, ListJobs, StartJobs


@pytest.fixture
async def client(store: FakeStore) -> AsyncIterator[warehouse.Store]:
    async with warehouse.connect(store.profile, timeout_s=30) as client:
        yield client


# --- jobs -----------------------------------------------------------------------------------------


async def test_a_compaction_is_followed_to_its_end(store: FakeStore, client: warehouse.Store) -> None:
    seen: list[Jobs] = []
    started = await client.compact([2])
    assert [(job.work, job.volume_id, job.state) for job in started] == [("compact", 2, "queued")]
    (ended,) = await client.wait_jobs(started, progress=seen.append)
    assert (ended.state, ended.freed_bytes, ended.pause_ms) == ("done", 150 * MIB, 12.4)
    shares = [answer.jobs[0].done_bytes / TOTAL for answer in seen]
    assert shares == sorted(shares)
    assert [answer.jobs[0].state for answer in seen][-2:] == ["switching", "done"]
    assert await client.jobs([ended.job_id]) == [ended]


async def test_all_volumes_are_meant_when_none_is_named(store: FakeStore, client: warehouse.Store) -> None:
    assert [job.volume_id for job in await client.verify()] == [1, 2]
    assert await client.compact([]) == []  # nothing is asked: to a master, no volume is a mistake
    asked = [request for request in store.asked if isinstance(request, StartJobs)]
    assert [(request.work, request.is_all) for request in asked] == [("verify", True)]


async def test_a_volume_keeps_the_job_that_it_has(client: warehouse.Store) -> None:
    first = await client.compact([1])
    again = await client.compact([1, 2])
    assert again[0].job_id == first[0].job_id
    assert again[1].job_id != first[0].job_id


async def test_starting_survives_a_lost_answer(store: FakeStore, client: warehouse.Store) -> None:
    store.faults.answer_lost["StartJobs"] = 1
    (job,) = await client.compact([1])
    assert [*store.upkeep.jobs] == [job.job_id]


async def test_a_job_that_fails_says_why_and_raises_nothing(
    store: FakeStore, client: warehouse.Store
) -> None:
    store.upkeep.failures[1] = NoRoomToCompact("volume 1 needs 3 GiB, disk-1 has 1 GiB")
    failed, done = await client.wait_jobs(await client.compact())
    assert (failed.state, failed.code) == ("failed", "no_room_to_compact")
    assert failed.message == "volume 1 needs 3 GiB, disk-1 has 1 GiB"
    assert done.state == "done"


async def test_what_is_refused_is_raised(store: FakeStore, client: warehouse.Store) -> None:
    with pytest.raises(NoSuchVolume, match="9"):
        await client.compact([1, 9])
    assert store.upkeep.jobs == {}
    with pytest.raises(NoSuchJob):
        await client.jobs([5])
    store.faults.refused["PauseJobs"] = [PermissionDenied("no")]
    with pytest.raises(PermissionDenied):
        await client.pause_jobs()


async def test_a_cancelled_job_is_over(store: FakeStore, client: warehouse.Store) -> None:
    store.upkeep.stops_at = MIB
    (job,) = await client.compact([1])
    assert [one.state for one in await client.cancel_jobs([job.job_id])] == ["cancelled"]
    assert (await client.wait_jobs([job]))[0].state == "cancelled"


async def test_a_pause_holds_jobs_until_it_ends(store: FakeStore, client: warehouse.Store) -> None:
    jobs = await client.compact([1])
    assert await client.pause_jobs() == jobs
    pauses: list[bool] = []

    def look(answer: Jobs) -> None:
        pauses.append(answer.is_paused)
        if len(pauses) == 5:
            store.upkeep.is_paused = False

    (ended,) = await client.wait_jobs(jobs, progress=look)
    assert ended.state == "done"
    assert pauses[:5] == [True] * 5
    assert not any(pauses[5:])


async def test_waiting_survives_a_restart_of_the_master(store: FakeStore, client: warehouse.Store) -> None:
    jobs = await client.compact()
    await client.wait_jobs(jobs[:1])
    # The first job is over and will be forgotten; this waiter has not heard of its end.
    await store.restart_master()
    with trio.fail_after(40):
        forgotten, done = await client.wait_jobs(jobs)
    assert (forgotten.state, forgotten.code) == ("failed", "no_such_job")
    assert done.state == "done"


async def test_leaving_early_leaves_the_job_running(store: FakeStore, client: warehouse.Store) -> None:
    store.upkeep.stops_at = MIB
    jobs = await client.compact([1])
    with trio.move_on_after(0.5) as scope:
        await client.wait_jobs(jobs)
    assert scope.cancelled_caught
    assert not store.upkeep.jobs[jobs[0].job_id].is_finished


async def test_nothing_is_asked_about_jobs_that_are_over(store: FakeStore, client: warehouse.Store) -> None:
    jobs = await client.wait_jobs(await client.compact([1]))
    asked_count = store.count(ListJobs)
    assert await client.wait_jobs(jobs) == jobs
    assert await client.wait_jobs([]) == []
    assert store.count(ListJobs) == asked_count


# --- events ---------------------------------------------------------------------------------------


async def test_events_come_as_they_happen(store: FakeStore, client: warehouse.Store) -> None:
    store.upkeep.happen("disk_online", disk="disk-1")
    events = client.events()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def cause() -> None:
                while store.count(ListEvents) < 2:  # it knows where it is, and waits
                    await trio.sleep(0.01)
                store.upkeep.happen("damage_found", volume_id=1)

            event = await anext(events)
    assert (event.sequence, event.name, event.fields) == (2, "damage_found", {"volume_id": 1})
    assert store.count(ListEvents) <= 3  # a long poll, not a busy one


async def test_events_of_the_past_come_first_when_they_are_wanted(
    store: FakeStore, client: warehouse.Store
) -> None:
    for name in ("one", "two", "three"):
        store.upkeep.happen(name)
    events = client.events(after=1)
    assert [(await anext(events)).name for _ in range(2)] == ["two", "three"]


async def test_a_broken_connection_loses_no_event(store: FakeStore, client: warehouse.Store) -> None:
    store.upkeep.happen("one")
    events = client.events(after=0)
    assert (await anext(events)).name == "one"
    with trio.fail_after(40):
        for number in range(2, 5):
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def cut(number: int = number) -> None:
                    for peer in [*store._peers]:
                        await store._cut(peer)
                    store.upkeep.happen(str(number))

                assert (await anext(events)).name == str(number)


async def test_a_restarted_master_counts_anew_and_that_is_said(
    store: FakeStore, client: warehouse.Store
) -> None:
    for number in range(5):
        store.upkeep.happen(f"old {number}")
    events = client.events(after=0)
    for _ in range(5):
        await anext(events)
    await store.restart_master()
    store.upkeep.happen("new")
    with trio.fail_after(30):  # much less than a long poll for event 6 would take
        restarted, new = await anext(events), await anext(events)
    assert (restarted.sequence, restarted.name) == (0, "master_restarted")
    assert (new.sequence, new.name) == (1, "new")


async def test_events_that_were_forgotten_are_counted(store: FakeStore, client: warehouse.Store) -> None:
    for number in range(10):
        store.upkeep.happen(str(number))
    del store.upkeep.ring[:7]
    events = client.events(after=2)
    missed = await anext(events)
    assert (missed.name, missed.fields) == ("events_missed", {"count": 5})
    assert (await anext(events)).sequence == 8
    assert (await anext(client.events(after=0))).sequence == 8  # all that there are: none is missed


async def test_a_long_absence_is_told_once(store: FakeStore, client: warehouse.Store) -> None:
    store.faults.refused["ListEvents"] = [Overloaded("not now") for _ in range(3)]
    client._control.timeout_s = 0.05  # no time for repeats
    store.upkeep.happen("one")
    events = client.events(after=0)
    with trio.fail_after(40):
        assert [(await anext(events)).name for _ in range(3)] == [
            "master_unreachable",
            "master_reached",
            "one",
        ]
