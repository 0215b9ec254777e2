"""The fleet: what the master believes about disks and volumes, from what they said last."""

from __future__ import annotations

from typing import Any

import pytest

from actors.fleet import DiskState, Fleet, VolumeState
from actors.ledger import Ledger
from transport.messages import DiskReport, Register, VolumeReport

GIB = 1024**3


class FakePeer:
    """Stands where a connection stands; the fleet only compares it."""

    session: Any = None
    is_gone = False


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


def fleet_of(*volume_ids: int) -> tuple[Fleet, Ledger, DiskState]:
    ledger = Ledger()
    fleet = Fleet(ledger, disk_reserve=1 * GIB)
    disk = fleet.add_disk(DiskState("d", "disk-1"))
    for volume_id in volume_ids:
        fleet.add_volume(VolumeState(volume_id, f"uuid-{volume_id}", 10 * GIB, "d", True, 1, 65_536))
    return fleet, ledger, disk


def test_an_offline_disk_has_no_room() -> None:
    fleet, _, _ = fleet_of(1)
    assert fleet.candidates() == []
    assert fleet.health() == "down"


def test_room_is_what_the_volume_has_left() -> None:
    fleet, _, _ = fleet_of(1)
    fleet.came(register(report()), FakePeer(), now_ms=1)  # type: ignore[arg-type]
    assert [candidate.room for candidate in fleet.candidates()] == [9 * GIB]
    assert fleet.health() == "ok"


def test_room_is_bounded_by_the_disk_less_its_reserve() -> None:
    fleet, _, _ = fleet_of(1)
    fleet.came(register(report(), free=3 * GIB), FakePeer(), now_ms=1)  # type: ignore[arg-type]
    assert fleet.candidates()[0].room == 2 * GIB


def test_promises_of_one_volume_shrink_the_room_of_its_neighbours_on_the_disk() -> None:
    fleet, ledger, _ = fleet_of(1, 2)
    fleet.came(register(report(1), report(2), free=3 * GIB), FakePeer(), now_ms=1)  # type: ignore[arg-type]
    ledger.promise("lease", 1, GIB, expires_at=10)
    assert {candidate.volume_id: candidate.room for candidate in fleet.candidates()} == {1: GIB, 2: GIB}


def test_committed_bytes_count_until_the_next_report() -> None:
    fleet, _, disk = fleet_of(1)
    fleet.came(register(report()), FakePeer(), now_ms=1)  # type: ignore[arg-type]
    fleet.volumes[1].written_since_report = GIB
    assert fleet.candidates()[0].room == 8 * GIB
    fleet.reported(disk, DiskReport(volumes=[report(file_size=2 * GIB)], disk_free=99 * GIB))
    assert fleet.candidates()[0].room == 8 * GIB


@pytest.mark.parametrize(
    "changes",
    [{"sealed_cause": "fsync failed"}, {"file_size": 10 * GIB}],
    ids=["sealed", "full"],
)
def test_a_volume_that_takes_no_writes_is_no_candidate(changes: dict[str, Any]) -> None:
    fleet, _, _ = fleet_of(1)
    fleet.came(register(report(**changes)), FakePeer(), now_ms=1)  # type: ignore[arg-type]
    assert fleet.candidates() == []


def test_a_read_only_disk_takes_no_writes_and_gets_no_volume() -> None:
    fleet, _, disk = fleet_of(1)
    fleet.came(register(report(), is_read_only=True), FakePeer(), now_ms=1)  # type: ignore[arg-type]
    assert fleet.candidates() == []
    assert not fleet.needs_volume(disk, room_wanted=GIB)


def test_a_volume_that_the_disk_does_not_name_any_more_is_missing() -> None:
    fleet, _, _ = fleet_of(1, 2)
    fleet.came(register(report(1)), FakePeer(), now_ms=1)  # type: ignore[arg-type]
    states = {volume.report.volume_id: volume.state for volume in fleet.status({}, now_ms=0)[0].volumes}
    assert states == {1: "open", 2: "missing"}
    assert fleet.health() == "degraded"


def test_a_volume_that_the_catalog_does_not_know_is_left_alone() -> None:
    fleet, _, _ = fleet_of(1)
    assert fleet.came(register(report(1), report(9)), FakePeer(), now_ms=1) == [9]  # type: ignore[arg-type]
    assert 9 not in fleet.volumes


def test_a_volume_of_another_uuid_is_not_ours() -> None:
    fleet, _, _ = fleet_of(1)
    assert fleet.came(register(report(1, uuid="copied")), FakePeer(), now_ms=1) == [1]  # type: ignore[arg-type]
    assert fleet.candidates() == []


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
    assert fleet.needs_volume(disk, room_wanted=GIB)
    fleet.add_volume(VolumeState(1, "uuid-1", 10 * GIB, "d", True, 1, 65_536))
    fleet.reported(disk, DiskReport(volumes=[report()], disk_free=2 * GIB))
    assert not fleet.needs_volume(disk, room_wanted=GIB)


def test_a_nearly_full_volume_on_a_roomy_disk_calls_for_the_next() -> None:
    fleet, _, disk = fleet_of(1)
    fleet.came(register(report(file_size=10 * GIB - 1)), FakePeer(), now_ms=1)  # type: ignore[arg-type]
    assert fleet.needs_volume(disk, room_wanted=GIB)


def test_a_disk_on_which_an_fsync_failed_gets_no_new_volume() -> None:
    fleet, _, disk = fleet_of(1)
    fleet.came(register(report(sealed_cause="fsync failed")), FakePeer(), now_ms=1)  # type: ignore[arg-type]
    assert not fleet.needs_volume(disk, room_wanted=GIB)
