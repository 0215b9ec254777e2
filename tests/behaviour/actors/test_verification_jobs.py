"""Verification as the master leads it, what becomes of damage, and the comparison of volumes with the catalog."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from master_kit import MIB, RunningMaster, open_master, settings_with, until
from warehouse.auth.rights import EVERYTHING, Permission
from warehouse.catalog.sqlite.catalog import SqliteCatalog
from warehouse.errors import DiskPinned, NodeUnknown, PermissionDenied, StaleIncarnation
from warehouse.transport.messages import (
    AbortUpload,
    Attach,
    BeginUpload,
    CancelJobs,
    ClusterStatus,
    CreateBucket,
    DeleteBucket,
    Deleted,
    DeleteNeedles,
    DeleteObjects,
    Done,
    Events,
    Jobs,
    ListEvents,
    ListJobs,
    ListLive,
    NeedleDamage,
    PauseJobs,
    PollTask,
    RecordBuckets,
    RegisterCompactor,
    RequestSlots,
    Slots,
    SlotWanted,
    StartCopy,
    StartJobs,
    StartVerify,
    StopTask,
    UploadBegun,
)
from warehouse.transport.zeromq.link import Link


async def start(master: RunningMaster, work: str = "verify") -> int:
    return (await master.ask(StartJobs(work=work, is_all=True), Jobs)).jobs[0].job_id


def damage(needle_id: int | None, offset: int = 4096) -> NeedleDamage:
    return NeedleDamage(volume_id=1, needle_id=needle_id, offset=offset, problem="a block fails its CRC")


async def stored(master: RunningMaster, *keys: str) -> None:
    """Objects of one needle each in volume 1: needle 1, 2, ..."""
    bucket_id = await master.create_bucket("photos")
    for needle_id, key in enumerate(keys, 1):
        commit = await master.disk.store(1, needle_id, bucket_id, key, stamp=needle_id)
        assert commit.etag is not None


# --- verification ---------------------------------------------------------------------------------


async def test_a_verification_by_hand_reads_the_volume_from_its_beginning(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        job = await master.job_over(await start(master))
        assert (job.state, job.damaged_count) == ("done", 0)
        (command,) = master.compactor.of(StartVerify)
        assert (command.generation, command.start) == (1, 0)
        status = await master.status()
        assert status.disks[0].volumes[0].verified_ms == job.started_ms
        assert status.unchecked_s < 60
        assert not master.compactor.of(StopTask)


async def test_what_was_never_read_again_is_as_old_as_its_volume(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        status = await master.status()
        assert status.disks[0].volumes[0].verified_ms is None
        assert status.unchecked_s > 86_400  # the scripted volume was created in 1970


@pytest.mark.parametrize("who", ["disk", "compactor", "master"])
async def test_a_verification_goes_on_where_it_was_after_a_restart(tmp_path: Path, who: str) -> None:
    async with open_master(tmp_path) as master:
        master.compactor.polls = 1_000_000
        job_id = await start(master)
        await until(lambda: len(master.compactor.of(PollTask)) > 10)
        if who == "master":
            await master.restart()
        else:
            script = getattr(master, who)
            script.disconnect()
            await master.job_when(job_id, lambda job: job.state == "queued")
        master.compactor.polls = 2
        if who == "disk":
            await master.connect_disk()
        if who == "compactor":
            await master.connect_compactor()
        assert (await master.job_over(job_id)).state == "done"
        first, *_, last = master.compactor.of(StartVerify)
        assert first.start == 0
        assert last.start >= 5 * MIB


async def test_an_operator_who_asks_again_gets_a_pass_of_the_whole_volume(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        master.compactor.polls = 1_000_000
        job_id = await start(master)
        await until(lambda: len(master.compactor.of(PollTask)) > 5)
        await master.ask(CancelJobs(job_ids=[job_id]), Jobs)
        master.compactor.polls = 2
        assert (await master.job_over(await start(master))).state == "done"
        assert [command.start for command in master.compactor.of(StartVerify)] == [0, 0]


async def test_a_cursor_in_a_generation_that_is_gone_means_nothing(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        master.compactor.polls = 1_000_000
        job_id = await start(master)
        await until(lambda: len(master.compactor.of(PollTask)) > 5)
        master.disk.disconnect()
        await master.job_when(job_id, lambda job: job.state == "queued")
        master.compactor.polls = 2
        master.disk.set(1, generation=2)
        await master.connect_disk()
        await master.job_over(job_id)
        assert [(command.generation, command.start) for command in master.compactor.of(StartVerify)] == [
            (1, 0),
            (2, 0),
        ]


async def test_a_verification_makes_way_for_a_compaction_and_goes_on_after_it(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        master.compactor.polls = 1_000_000
        verify = await start(master)
        await until(lambda: len(master.compactor.of(PollTask)) > 5)
        master.compactor.polls = 2
        master.disk.waste(1, 30 * MIB)
        await master.disk.report()
        release = master.compactor.hold(StartCopy)
        compact = await start(master, "compact")
        await until(lambda: master.compactor.of(StartCopy))
        assert (await master.job(verify)).state == "queued"
        release.set()
        assert (await master.job_over(compact)).state == "done"
        assert (await master.job_over(verify)).state == "done"


async def test_the_policy_verifies_what_is_old_at_a_pace_that_nobody_feels(tmp_path: Path) -> None:
    async with open_master(tmp_path, settings=settings_with(compaction={"automatic": "off"})) as master:
        await until(lambda: master.compactor.of(PollTask))
        assert master.compactor.of(StartVerify)[0].rate == 1 * MIB
        (job,) = await master.jobs()
        job = await master.job_over(job.job_id)
        assert (job.origin, job.state) == ("policy", "done")
        await trio.sleep(0.2)
        assert len(await master.jobs()) == 1


# --- damage ---------------------------------------------------------------------------------------


async def test_damage_that_a_verification_finds_is_told_with_its_name_and_once(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        await stored(master, "cat", "dog")
        master.compactor.damages = [damage(2), damage(None, offset=9000)]
        job = await master.job_over(await start(master))
        assert job.damaged_count == 2
        await master.job_over(await start(master))
        status = await master.status()
        assert (status.health, status.damage_count) == ("degraded", 2)
        named = {found.needle_id: (found.bucket, found.key) for found in status.damages}
        assert named == {2: ("photos", "dog"), None: (None, None)}
        events = await master.events("damage_found")
        assert [event.fields.get("key") for event in events] == ["dog", None]


async def test_a_whole_pass_replaces_what_was_known_of_its_volume(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        await stored(master, "cat", "dog")
        master.compactor.damages = [damage(1), damage(2)]
        await master.job_over(await start(master))
        master.compactor.damages = [damage(2)]
        await master.job_over(await start(master))
        assert [found.needle_id for found in (await master.status()).damages] == [2]
        master.compactor.damages = []
        await master.job_over(await start(master))
        status = await master.status()
        assert (status.health, status.damage_count) == ("ok", 0)


async def test_a_pass_of_a_part_takes_nothing_for_mended(tmp_path: Path) -> None:
    """What the first part has found is not forgotten because the rest was read after a restart."""
    async with open_master(tmp_path) as master:
        await stored(master, "cat")
        master.compactor.damages = [damage(1)]
        master.compactor.polls = 1_000_000
        job_id = await start(master)
        await until(lambda: len(master.compactor.of(PollTask)) > 5)
        await master.restart()
        master.compactor.damages, master.compactor.polls = [], 2
        assert (await master.job_over(job_id)).state == "done"
        assert [found.needle_id for found in (await master.status()).damages] == [1]


async def test_damage_that_a_reader_met_is_reported_and_over_when_the_object_is_deleted(
    tmp_path: Path,
) -> None:
    async with open_master(tmp_path) as master:
        await stored(master, "cat")
        master.disk.damages = [damage(1)]
        await master.disk.report()
        await until_damages(master, 1)
        await master.ask(DeleteObjects(bucket="photos", keys=["cat"]), Deleted)
        await until_damages(master, 0)
        await master.disk.report()  # an actor repeats what it met since it started
        await trio.sleep(0.2)
        assert (await master.status()).damage_count == 0
        assert len(await master.events("damage_found")) == 1


async def until_damages(master: RunningMaster, count: int) -> None:
    with trio.fail_after(30):
        while (await master.status()).damage_count != count:
            await trio.sleep(0.01)


# --- volumes and catalog --------------------------------------------------------------------------


async def test_a_needle_that_nothing_names_is_given_up_when_two_looks_agree(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        await stored(master, "cat")
        master.disk.live[1] |= {1, 5000}
        await reconnect(master)
        await until(lambda: 5000 not in master.disk.live[1])
        assert master.disk.live[1] == {1}
        with trio.fail_after(30):
            while not (found := await master.events("orphans_found")):
                await trio.sleep(0.01)
        assert found[0].fields == {"volume_id": 1, "count": 1, "is_kept": False}
        assert (await master.status()).orphan_count == 0


async def test_a_put_between_its_append_and_its_commit_is_not_taken_for_an_orphan(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        await stored(master, "cat")
        master.disk.live[1].add(5000)
        await reconnect(master)
        await until_orphans(master, 1)
        ((bucket,),) = master.read("SELECT id FROM buckets")
        commit = await master.disk.store(1, 5000, bucket, "late", stamp=9)
        assert commit.etag is not None
        await until_orphans(master, 0)
        await trio.sleep(0.3)
        assert 5000 in master.disk.live[1]
        assert not any(5000 in dict(command.needles) for command in master.disk.of(DeleteNeedles))


async def test_after_a_restore_orphans_are_kept_and_counted(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        master.disk.live[1].add(5000)
        await master.stop()
        master.disk.disconnect()
        catalog = SqliteCatalog.open(tmp_path / "catalog.sqlite3")
        with catalog.transaction() as transaction:
            transaction.set_meta("keep_orphans", 1)
        catalog.close()
        await master.start()
        await master.connect_disk()
        await until_orphans(master, 1)
        await trio.sleep(0.4)
        assert master.disk.live[1] == {5000}
        assert (await master.events("orphans_found"))[0].fields["is_kept"] is True


async def test_a_row_whose_volume_lacks_the_needle_is_damage_with_a_name(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        await stored(master, "cat", "dog")
        master.disk.live[1].remove(2)
        await reconnect(master)
        await until_damages(master, 1)
        (found,) = (await master.status()).damages
        assert (found.needle_id, found.offset, found.key) == (2, -1, "dog")
        assert found.problem == "the volume does not have it"
        job = await master.job_over(await start(master))
        assert job.damaged_count == 1  # a verification looks too, and does not take it for mended
        assert (await master.status()).damage_count == 1


async def test_deletions_need_no_record_once_all_volumes_are_swept(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        await stored(master, "cat", "dog")
        await master.ask(DeleteObjects(bucket="photos", keys=["cat"]), Deleted)
        await until(lambda: 1 not in master.disk.live[1])
        deleted_at = master.disk.of(DeleteNeedles)[0].needles[0][1]
        await reconnect(master)
        await until(lambda: master.read("SELECT swept_stamp FROM volumes")[0][0] > deleted_at)
        # Its answer tells how full the volume was; a real disk would say what it is now a second later.
        await until(lambda: not master.read("SELECT 1 FROM bucket_notes"))
        master.disk.waste(1, 30 * MIB)
        await master.disk.report()
        await start(master, "compact")
        await until(lambda: master.compactor.of(StartCopy))
        assert master.compactor.of(StartCopy)[0].horizon > deleted_at


async def test_a_put_that_was_under_way_at_a_look_does_not_make_the_next_one_count_less(
    tmp_path: Path,
) -> None:
    """The next look for its own sake is a day away."""
    async with open_master(tmp_path) as master:
        await stored(master, "cat")
        master.disk.live[1].add(99)
        await reconnect(master)
        with trio.fail_after(30):
            while (await master.status()).orphan_count == 0:
                await trio.sleep(0.01)
        master.disk.live[1].discard(99)
        await master.ask(DeleteObjects(bucket="photos", keys=["cat"]), Deleted)
        await until(lambda: 1 not in master.disk.live[1])
        deleted_at = master.disk.of(DeleteNeedles)[0].needles[0][1]
        await reconnect(master)
        await until(lambda: master.read("SELECT swept_stamp FROM volumes")[0][0] > deleted_at)


async def test_a_chunk_that_was_not_told_of_yet_keeps_its_volume_from_being_swept(tmp_path: Path) -> None:
    """Nobody knows its stamp: it may be older than a deletion whose record would go."""
    async with open_master(tmp_path) as master:
        await master.ask(CreateBucket(bucket="photos"), Done)
        begin = BeginUpload(bucket="photos", key="film", content_type=None, metadata={}, byte_count=3)
        upload_id = (await master.ask(begin, UploadBegun)).upload_id
        wanted = [SlotWanted(chunk_index=0, size=3, chunk_count=1, object_size=3)]
        (slot,) = (await master.ask(RequestSlots(upload_id=upload_id, slots=wanted), Slots)).slots

        def swept_stamp() -> int:
            return int(master.read("SELECT swept_stamp FROM volumes")[0][0])

        await until(lambda: swept_stamp() > 0)
        before = swept_stamp()
        master.disk.live[1].add(slot.needle_id)
        looks = len(master.disk.of(ListLive))
        await reconnect(master)
        await until(lambda: len(master.disk.of(ListLive)) >= looks + 2)  # it looks again soon
        assert swept_stamp() == before
        await master.ask(AbortUpload(upload_id=upload_id), Done)
        await until(lambda: swept_stamp() > before)


async def reconnect(master: RunningMaster) -> None:
    """A disk that comes back is compared with the catalog."""
    master.disk.disconnect()
    await master.connect_disk()


async def until_orphans(master: RunningMaster, count: int) -> None:
    with trio.fail_after(30):
        while (await master.status()).orphan_count != count:
            await trio.sleep(0.005)


async def test_disks_note_which_buckets_come_and_go(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        await master.ask(CreateBucket(bucket="photos"), Done)
        await until(lambda: master.disk.of(RecordBuckets))
        await master.ask(DeleteBucket(bucket="photos"), Done)
        await until(lambda: len(master.disk.of(RecordBuckets)) == 2)
        notes = [note for command in master.disk.of(RecordBuckets) for note in command.notes]
        assert [(note.name, note.is_deleted) for note in notes] == [("photos", False), ("photos", True)]
        assert notes[1].stamp > notes[0].stamp
        await until(lambda: not master.read("SELECT 1 FROM bucket_notes"))
        await reconnect(master)
        await until(lambda: master.disk.kinds()[-1] == "ListLive")
        assert len(master.disk.of(RecordBuckets)) == 2


# --- who may what ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("permissions", "may_look", "may_act"),
    [
        (EVERYTHING & ~(Permission.SEE_CLUSTER | Permission.MANAGE_CLUSTER), False, False),
        (Permission.SEE_CLUSTER, True, False),
        (Permission.SEE_CLUSTER | Permission.MANAGE_CLUSTER, True, True),
    ],
)
async def test_looking_and_acting_need_their_permissions(
    tmp_path: Path, permissions: Permission, may_look: bool, may_act: bool
) -> None:
    async with open_master(tmp_path) as master:
        link = await master.connect_with(int(permissions))
        looks = [ListJobs(), ClusterStatus()]
        acts = [StartJobs(work="verify", is_all=True), PauseJobs(is_paused=True), CancelJobs(job_ids=[])]
        for request, is_allowed in [*((look, may_look) for look in looks), *((act, may_act) for act in acts)]:
            if is_allowed:
                await link.request(request, timeout_s=30)  # type: ignore[arg-type]
            else:
                with pytest.raises(PermissionDenied):
                    await link.request(request, timeout_s=30)  # type: ignore[arg-type]


async def test_a_compactor_is_let_in_by_the_rules_of_volume_actors(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        stranger = await master.connect("stranger", None)
        await stranger.wait_up()
        link = await master.connect("another", None, keys=master.keys)
        await link.wait_up()

        async def register(link: Link = link, **changes: object) -> None:
            values = {
                "join_secret": "",
                "disk_id": "d" * 32,
                "disk_name": "disk-1",
                "incarnation": 99,
            }
            await link.request(RegisterCompactor(**{**values, **changes}), timeout_s=30)  # type: ignore[arg-type]

        with pytest.raises(NodeUnknown):
            await register(stranger, join_secret="guessed")
        with pytest.raises(DiskPinned):
            await register(disk_id="e" * 32)
        with pytest.raises(StaleIncarnation):
            await register(incarnation=0)
        await register()  # a newer one takes over
        with pytest.raises(PermissionDenied):
            await link.request(Attach(token=await master.token()), timeout_s=30)
        assert (await master.status()).compactors == ["disk-1"]


async def test_whoever_follows_the_events_hears_of_them_at_once(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        with trio.fail_after(30):
            while not await master.events("compactor_online") or not await master.events("volume_opened"):
                await trio.sleep(0.01)
        last = (await master.ask(ListEvents(after=-1), Events)).next_after
        async with trio.open_nursery() as nursery:

            async def create() -> None:
                await trio.sleep(0.05)
                await master.ask(CreateBucket(bucket="photos"), Done)

            nursery.start_soon(create)
            with trio.fail_after(40):
                answer = await master.ask(ListEvents(after=last, wait_s=30), Events)
        assert [event.name for event in answer.events] == ["bucket_created"]
        assert answer.events[0].fields == {"bucket": "photos"}
        assert answer.next_after == last + 1
        names = [event.name for event in await master.events()]
        assert {"disk_online", "volume_opened", "compactor_online"} <= set(names)
