"""The fleet: what the master believes about disks and volumes, from what they said last."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.actors.control import fleet_room
from warehouse.actors.control.fleet import Fleet
from warehouse.actors.control.fleet_room import VOLUMES_MAX, Outlook
from warehouse.actors.control.fleet_state import NEEDLE_ID_MAX, SEALED_MAX, DiskState, VolumeState
from warehouse.actors.control.reservations import Reservations
from warehouse.transport.messages import FRAME_SIZE_MAX, DiskReport, Register, VolumeReport

GIB = 1024**3


class FakePeer:
    """Stands where a connection stands; the fleet only compares it."""

    session: Any = None
    is_gone = False


PEER: Any = FakePeer()


def report(volume_id: int = 1, **changes: Any) -> VolumeReport:
    values: dict[str, Any] = {
        "volume_id": volume_id,
        "uuid": f"uuid-{volume_id}",
        "generation": 1,
        "capacity": 10 * GIB,
        "file_size": 1 * GIB,
        "live_count": 1,
        "live_bytes": 1,
        "dead_bytes": 0,
        "needle_id_max": 10,
        "stamp_max": 0,
    }
    return VolumeReport(**{**values, **changes})


def register(*reports: VolumeReport, free: int = 100 * GIB, is_read_only: bool = False) -> Register:
    return Register(
        join_secret="",
        disk_id="d",
        disk_name="disk-1",
        incarnation=1,
        url="http://127.0.0.1:1",
        volumes=list(reports),
        disk_capacity=200 * GIB,
        disk_free=free,
        is_read_only=is_read_only,
    )


def fleet_of(*volume_ids: int) -> tuple[Fleet, Reservations, DiskState]:
    reservations = Reservations()
    fleet = Fleet(reservations, disk_reserve=1 * GIB)
    disk = fleet.add_disk(DiskState("d", "disk-1"))
    for volume_id in volume_ids:
        fleet.add_volume(VolumeState(volume_id, f"uuid-{volume_id}", 10 * GIB, "d", True, 1, 65_536))
    return fleet, reservations, disk


def test_an_offline_disk_has_no_room() -> None:
    fleet, _, _ = fleet_of(1)
    assert fleet.room.candidates() == []
    assert fleet.health() == "down"


def test_room_is_what_the_volume_has_left() -> None:
    fleet, _, _ = fleet_of(1)
    fleet.came(register(report()), FakePeer(), now_ms=1)  # type: ignore[arg-type]
    assert [candidate.room for candidate in fleet.room.candidates()] == [9 * GIB]
    assert fleet.health() == "ok"


def test_room_is_bounded_by_the_disk_less_its_reserve() -> None:
    fleet, _, _ = fleet_of(1)
    fleet.came(register(report(), free=3 * GIB), FakePeer(), now_ms=1)  # type: ignore[arg-type]
    assert fleet.room.candidates()[0].room == 2 * GIB


def test_reservations_of_one_volume_shrink_the_room_of_its_neighbours_on_the_disk() -> None:
    fleet, reservations, _ = fleet_of(1, 2)
    fleet.came(register(report(1), report(2), free=3 * GIB), FakePeer(), now_ms=1)  # type: ignore[arg-type]
    reservations.reserve("lease", 1, GIB, expires_at=10)
    assert {candidate.volume_id: candidate.room for candidate in fleet.room.candidates()} == {1: GIB, 2: GIB}


def test_committed_bytes_count_until_the_next_report() -> None:
    fleet, _, disk = fleet_of(1)
    fleet.came(register(report()), FakePeer(), now_ms=1)  # type: ignore[arg-type]
    fleet.wrote(fleet.volumes[1], GIB)
    assert fleet.room.candidates()[0].room == 8 * GIB
    fleet.reported(disk, DiskReport(volumes=[report(file_size=2 * GIB)], disk_free=99 * GIB))
    assert fleet.room.candidates()[0].room == 8 * GIB


@pytest.mark.parametrize(
    "changes",
    [{"sealed_cause": "fsync failed"}, {"file_size": 10 * GIB}],
    ids=["sealed", "full"],
)
def test_a_volume_that_takes_no_writes_is_no_candidate(changes: dict[str, Any]) -> None:
    fleet, _, _ = fleet_of(1)
    fleet.came(register(report(**changes)), FakePeer(), now_ms=1)  # type: ignore[arg-type]
    assert fleet.room.candidates() == []


def test_a_read_only_disk_takes_no_writes_and_gets_no_volume() -> None:
    fleet, _, disk = fleet_of(1)
    fleet.came(register(report(), is_read_only=True), FakePeer(), now_ms=1)  # type: ignore[arg-type]
    assert fleet.room.candidates() == []
    assert not fleet.room.needs_volume(disk, room_wanted=GIB)


def test_a_volume_that_the_disk_does_not_name_any_more_is_missing() -> None:
    fleet, _, _ = fleet_of(1, 2)
    fleet.came(register(report(1)), FakePeer(), now_ms=1)  # type: ignore[arg-type]
    states = {volume.report.volume_id: volume.state for volume in fleet.status({}, now_ms=0)[0][0].volumes}
    assert states == {1: "open", 2: "missing"}
    assert fleet.health() == "degraded"


def test_a_volume_that_the_catalog_does_not_know_is_left_alone() -> None:
    fleet, _, _ = fleet_of(1)
    assert fleet.came(register(report(1), report(9)), FakePeer(), now_ms=1) == [9]  # type: ignore[arg-type]
    assert 9 not in fleet.volumes


def test_a_volume_of_another_uuid_is_not_ours() -> None:
    fleet, _, _ = fleet_of(1)
    assert fleet.came(register(report(1, uuid="copied")), FakePeer(), now_ms=1) == [1]  # type: ignore[arg-type]
    assert fleet.room.candidates() == []


def test_needle_ids_that_the_disk_has_seen_are_never_handed_out_again() -> None:
    fleet, _, _ = fleet_of(1)
    fleet.came(register(report(needle_id_max=5000)), FakePeer(), now_ms=1)  # type: ignore[arg-type]
    assert fleet.volumes[1].next_needle_id == 5001


def test_only_the_connection_that_serves_a_disk_takes_it_offline() -> None:
    fleet, _, disk = fleet_of(1)
    old, new = FakePeer(), FakePeer()
    fleet.came(register(report()), old, now_ms=1)  # type: ignore[arg-type]
    fleet.came(register(report()), new, now_ms=2)  # type: ignore[arg-type]
    assert fleet.went(old, now_ms=3) is None  # type: ignore[arg-type]
    assert disk.is_online
    assert fleet.went(new, now_ms=4) is disk  # type: ignore[arg-type]
    assert not disk.is_online


def test_a_disk_without_volumes_needs_one_and_a_full_disk_does_not_get_a_second() -> None:
    fleet, _, disk = fleet_of()
    fleet.came(register(free=2 * GIB), FakePeer(), now_ms=1)  # type: ignore[arg-type]
    assert fleet.room.needs_volume(disk, room_wanted=GIB)
    fleet.add_volume(VolumeState(1, "uuid-1", 10 * GIB, "d", True, 1, 65_536))
    fleet.reported(disk, DiskReport(volumes=[report()], disk_free=2 * GIB))
    assert not fleet.room.needs_volume(disk, room_wanted=GIB)


def test_a_nearly_full_volume_on_a_roomy_disk_calls_for_the_next() -> None:
    fleet, _, disk = fleet_of(1)
    fleet.came(register(report(file_size=10 * GIB - 1)), FakePeer(), now_ms=1)  # type: ignore[arg-type]
    assert fleet.room.needs_volume(disk, room_wanted=GIB)


def test_one_sealed_volume_does_not_stop_its_disk_and_three_do() -> None:
    fleet, _, disk = fleet_of(1, 2, 3, 4)
    sealed = [report(number, sealed_cause="fsync failed") for number in (1, 2, 3)]
    fleet.came(register(sealed[0], report(2), report(3), report(4)), PEER, now_ms=1)
    assert {candidate.volume_id for candidate in fleet.room.candidates()} == {2, 3, 4}
    fleet.reported(disk, DiskReport(volumes=sealed[:2], disk_free=100 * GIB))
    assert fleet.room.needs_volume(disk, room_wanted=20 * GIB), "the next volume may well be written"
    fleet.reported(disk, DiskReport(volumes=sealed, disk_free=100 * GIB))
    assert not fleet.room.needs_volume(disk, room_wanted=20 * GIB)
    assert fleet.room.candidates() == [], "this disk is in doubt: a person should look at it"
    assert fleet.health() == "down"


def test_a_volume_that_its_disk_does_not_have_is_no_room() -> None:
    fleet, _, disk = fleet_of(1)
    fleet.came(register(), PEER, now_ms=1)
    assert fleet.room.candidates() == []
    assert fleet.room.needs_volume(disk, room_wanted=GIB)


def test_a_volume_whose_needle_ids_are_used_up_is_no_room() -> None:
    fleet, _, disk = fleet_of(1)
    fleet.came(register(report(needle_id_max=NEEDLE_ID_MAX)), PEER, now_ms=1)
    assert fleet.room.candidates() == []
    assert fleet.room.needs_volume(disk, room_wanted=GIB)
    assert not disk.short_of_ids


def test_the_next_volume_is_wanted_while_the_present_one_still_has_needle_ids() -> None:
    fleet, _, disk = fleet_of(1)
    last_id = NEEDLE_ID_MAX - 1000
    fleet.came(register(report(needle_id_max=last_id)), PEER, now_ms=1)
    fleet.ids_reserved(fleet.volumes[1], NEEDLE_ID_MAX)
    assert [candidate.volume_id for candidate in fleet.room.candidates()] == [1]
    assert fleet.room.needs_volume(disk, room_wanted=GIB)


def test_a_commit_that_the_latest_report_has_seen_is_not_counted_twice() -> None:
    fleet, _, _ = fleet_of(1)
    fleet.came(register(report(stamp_max=50)), PEER, now_ms=1)
    fleet.wrote(fleet.volumes[1], GIB, stamp=50)
    assert fleet.room.candidates()[0].room == 9 * GIB
    fleet.wrote(fleet.volumes[1], GIB, stamp=51)
    assert fleet.room.candidates()[0].room == 8 * GIB


def test_status_counts_what_was_committed_since_the_latest_report() -> None:
    fleet, _, _ = fleet_of(1)
    fleet.came(register(report(stamp_max=50)), PEER, now_ms=1)
    fleet.wrote(fleet.volumes[1], GIB, stamp=51)
    (disk,), following = fleet.status({}, now_ms=1)
    assert following is None
    (volume,) = disk.volumes
    assert (volume.report.file_size, volume.report.live_count) == (2 * GIB, 2)
    assert disk.free == 99 * GIB


def test_a_disk_has_no_more_volumes_than_its_actor_can_name_in_one_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fleet_room, "VOLUMES_MAX", 2)
    for count, needs, kind in ((1, True, Outlook.COMING), (2, False, Outlook.FULL)):
        volume_ids = range(1, count + 1)
        fleet, _, disk = fleet_of(*volume_ids)
        reports = [report(volume_id, file_size=10 * GIB) for volume_id in volume_ids]
        fleet.came(register(*reports), PEER, now_ms=1)
        assert fleet.room.needs_volume(disk, room_wanted=GIB) is needs
        assert fleet.room.outlook(disk, GIB)[0] is kind
        assert (fleet.room.takes_at_most > 0) is needs
    assert "2 volumes, as many as a disk may have" in fleet.room.outlook(disk, GIB)[1]


def test_later_volumes_of_a_disk_with_very_many_are_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_room, "VOLUMES_MAX", 10)
    for count, capacity in ((4, GIB), (5, 20 * GIB), (9, 100 * GIB)):
        reservations = Reservations()
        fleet = Fleet(reservations, disk_reserve=GIB, volume_size=GIB)
        disk = fleet.add_disk(DiskState("d", "disk-1"))
        for volume_id in range(1, count + 1):
            fleet.add_volume(VolumeState(volume_id, f"uuid-{volume_id}", GIB, "d", True, 1, 65_536))
        fleet.came(register(*map(report, range(1, count + 1)), free=100 * GIB), PEER, now_ms=1)
        assert fleet.room.capacity_for(disk) == capacity


def test_all_volumes_of_a_disk_fit_into_its_registration() -> None:
    worst = report(2**32 - 1, uuid="f" * 32, sealed_cause="c" * 200, dead_bytes=2**44, live_bytes=2**44)
    volumes = [worst] * VOLUMES_MAX
    assert len(msgspec.msgpack.encode(register(*volumes))) < FRAME_SIZE_MAX
    bounds = msgspec.json.schema(Register)["$defs"]["Register"]["properties"]["volumes"]
    assert bounds["maxItems"] >= VOLUMES_MAX


# --- sums against a recount -----------------------------------------------------------------------

DISKS, VOLUMES = ("a", "b"), range(1, 7)
fleet_steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("came"), st.sampled_from(DISKS), st.sets(st.sampled_from(VOLUMES)), st.integers(0, 40)
        ),
        st.tuples(st.just("went"), st.sampled_from(DISKS)),
        st.tuples(
            st.just("report"), st.sampled_from(VOLUMES), st.integers(0, 12), st.booleans(), st.integers(0, 40)
        ),
        st.tuples(st.just("wrote"), st.sampled_from(VOLUMES), st.integers(0, 5)),
        st.tuples(st.just("reserve"), st.integers(0, 5), st.sampled_from(VOLUMES), st.integers(0, 5)),
        st.tuples(st.just("use"), st.integers(0, 5), st.integers(0, 5)),
        st.tuples(st.just("release"), st.integers(0, 5)),
        st.tuples(st.just("ids"), st.sampled_from(VOLUMES), st.integers(1, 50)),
    ),
    max_size=40,
)


@given(fleet_steps)
def test_room_kept_in_sums_equals_room_counted_again(steps: list[tuple[Any, ...]]) -> None:
    reservations = Reservations()
    fleet = Fleet(reservations, disk_reserve=3)
    for disk_id in DISKS:
        fleet.add_disk(DiskState(disk_id, f"disk-{disk_id}"))
    for number in VOLUMES:
        fleet.add_volume(VolumeState(number, f"uuid-{number}", 10, DISKS[number % 2], True, 1, 60))
    for step in steps:
        _take_step(fleet, reservations, step)
        expected = {number: _room_recounted(fleet, reservations, number) for number in VOLUMES}
        found = {candidate.volume_id: candidate.room for candidate in fleet.room.candidates()}
        assert found == {number: room for number, room in expected.items() if room > 0}
        assert fleet.room.largest == max(expected.values())
        assert fleet.room.writable_count() == sum(
            fleet.room.is_writable(fleet.volumes[number]) for number in VOLUMES
        )
        for number in VOLUMES:
            assert fleet.room.of(fleet.volumes[number]) == expected[number]


def _take_step(fleet: Fleet, reservations: Reservations, step: tuple[Any, ...]) -> None:
    match step:
        case ("came", disk_id, numbers, free):
            reports = [
                _small_report(number) for number in numbers if fleet.volumes[number].disk_id == disk_id
            ]
            came = msgspec.structs.replace(register(*reports, free=free), disk_id=disk_id)
            fleet.came(came, FakePeer(), now_ms=1)  # type: ignore[arg-type]
        case ("went", disk_id):
            peer = fleet.disks[disk_id].peer
            if peer is not None:
                fleet.went(peer, now_ms=2)
        case ("report", number, file_size, is_sealed, free):
            disk = fleet.disks[fleet.volumes[number].disk_id]
            cause = "fsync failed" if is_sealed else None
            reports = [_small_report(number, file_size=file_size, sealed_cause=cause)]
            fleet.reported(disk, DiskReport(volumes=reports, disk_free=free))
        case ("wrote", number, size):
            fleet.wrote(fleet.volumes[number], size)
        case ("reserve", name, number, size):
            reservations.reserve(name, number, size, expires_at=1)
        case ("use", name, size):
            reservations.use(name, size)
        case ("release", name):
            reservations.release(name)
        case ("ids", number, count):
            volume = fleet.volumes[number]
            fleet.take_ids(volume, min(count, max(volume.ids_left, 0)))


def _small_report(number: int, **changes: Any) -> VolumeReport:
    return report(number, **{"capacity": 10, "file_size": 2, "needle_id_max": 0, **changes})


def _room_recounted(fleet: Fleet, reservations: Reservations, number: int) -> int:
    volume = fleet.volumes[number]
    disk = fleet.disks[volume.disk_id]
    if disk.peer is None or disk.is_read_only or volume.report is None or volume.report.sealed_cause:
        return 0
    if volume.ids_left <= 0:
        return 0
    sealed = [other for other in disk.volumes.values() if other.report and other.report.sealed_cause]
    if len(sealed) >= SEALED_MAX:
        return 0
    reserved = sum(reservations.reserved(other) for other in disk.volumes)
    written = sum(other.written_since_report for other in disk.volumes.values())
    in_volume = volume.capacity - volume.file_size - reservations.reserved(number)
    return max(0, min(in_volume, disk.free - 3 - reserved - written))


# --- what a step costs ----------------------------------------------------------------------------


def fleet_of_many(disk_count: int, volumes_each: int) -> tuple[Fleet, Reservations]:
    reservations = Reservations()
    fleet = Fleet(reservations, disk_reserve=GIB)
    for disk_number in range(disk_count):
        disk_id = f"disk-{disk_number}"
        fleet.add_disk(DiskState(disk_id, disk_id))
        numbers = range(1 + disk_number * volumes_each, 1 + (disk_number + 1) * volumes_each)
        for number in numbers:
            fleet.add_volume(VolumeState(number, f"uuid-{number}", 10 * GIB, disk_id, True, 1, 65_536))
        came = msgspec.structs.replace(register(*map(report, numbers), free=5000 * GIB), disk_id=disk_id)
        fleet.came(came, FakePeer(), now_ms=1)  # type: ignore[arg-type]
    return fleet, reservations


def test_choosing_volumes_costs_the_logarithm_of_their_number() -> None:
    steps = {}
    for disk_count, volumes_each in ((4, 4), (16, 64)):
        fleet, reservations = fleet_of_many(disk_count, volumes_each)
        random = Random(1)
        before = fleet.room.step_count
        for number in range(100):
            for volume in fleet.room.choose(size=GIB // 1024, count=4, random=random):
                reservations.reserve((number, volume.volume_id), volume.volume_id, GIB // 1024, expires_at=1)
                fleet.wrote(volume, 1)
        steps[disk_count * volumes_each] = (fleet.room.step_count - before) / 100
    assert steps[16 * 64] < 400, "4 volumes: a handful of ways up and down two trees"
    assert steps[16 * 64] < 4 * steps[4 * 4], "64 times the volumes, and no 64 times the steps"


def test_a_report_of_one_volume_costs_nothing_for_the_others() -> None:
    fleet, _ = fleet_of_many(2, 512)
    disk = fleet.disks["disk-0"]
    fleet.room.largest  # noqa: B018 - brings the trees up to date
    before = fleet.room.step_count
    fleet.reported(disk, DiskReport(volumes=[report(1, file_size=2 * GIB)], disk_free=4000 * GIB))
    assert fleet.room.step_count - before < 40
