"""Reports of a disk: they name what changed, and say nothing while nothing does."""

from __future__ import annotations

from typing import Any

from warehouse.actors.data.reporting import REPEAT_S, WHOLE_S, Reporting
from warehouse.transport.messages import DiskReport, NeedleDamage, VolumeReport


def volume(volume_id: int, file_size: int = 0) -> VolumeReport:
    return VolumeReport(
        volume_id=volume_id,
        uuid=f"uuid-{volume_id}",
        generation=1,
        capacity=1000,
        file_size=file_size,
        live_count=0,
        live_bytes=0,
        dead_bytes=0,
        needle_id_max=0,
        stamp_max=0,
    )


def whole(*volumes: VolumeReport, **changes: Any) -> DiskReport:
    return DiskReport(volumes=list(volumes), **{"disk_free": 100, **changes})


def registered(*volumes: VolumeReport) -> Reporting:
    reporting = Reporting()
    reporting.registered(volumes, now=0)
    first = whole(*volumes)
    report = reporting.due(first, now=0)
    assert report is not None
    assert report.volumes == [], "the registration has named them"
    reporting.delivered(report, first, now=0)
    return reporting


def test_nothing_is_said_while_nothing_changes() -> None:
    reporting = registered(volume(1), volume(2))
    assert reporting.due(whole(volume(1), volume(2)), now=1) is None


def test_a_report_names_the_volume_that_changed_and_no_other() -> None:
    reporting = registered(volume(1), volume(2))
    changed = whole(volume(1), volume(2, 50))
    report = reporting.due(changed, now=1)
    assert report is not None
    assert report.volumes == [volume(2, 50)]
    reporting.delivered(report, changed, now=1)
    assert reporting.due(changed, now=2) is None


def test_what_was_not_delivered_is_named_again() -> None:
    reporting = registered(volume(1))
    assert reporting.due(whole(volume(1, 50)), now=1) == whole(volume(1, 50))
    assert reporting.due(whole(volume(1, 50)), now=2) == whole(volume(1, 50))


def test_a_volume_that_changed_is_named_once_more_a_little_later() -> None:
    reporting = registered(volume(1), volume(2))
    changed = whole(volume(1, 50), volume(2))
    report = reporting.due(changed, now=1)
    assert report is not None
    reporting.delivered(report, changed, now=1)
    later = reporting.due(changed, now=1 + REPEAT_S)
    assert later is not None
    assert later.volumes == [volume(1, 50)]
    reporting.delivered(later, changed, now=1 + REPEAT_S)
    last = reporting.due(changed, now=2 + 2 * REPEAT_S)
    assert last is not None
    assert last.volumes == []


def test_all_volumes_are_named_now_and_then() -> None:
    reporting = registered(volume(1), volume(2))
    assert reporting.due(whole(volume(1), volume(2)), now=WHOLE_S) == whole(volume(1), volume(2))


def test_a_master_that_was_registered_with_anew_is_told_everything_again() -> None:
    damage = NeedleDamage(volume_id=1, offset=0, problem="torn")
    reporting = registered(volume(1))
    damaged = whole(volume(1), damages=[damage])
    report = reporting.due(damaged, now=1)
    assert report == whole(damages=[damage])
    reporting.delivered(report, damaged, now=1)
    busy = whole(volume(1), damages=[damage], request_count=5)
    assert reporting.due(busy, now=2) == whole(request_count=5)
    reporting.registered([volume(1)], now=3)
    assert reporting.due(damaged, now=3) == whole(damages=[damage])
