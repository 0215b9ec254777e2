"""Disk lines: how full a disk is, by what, and how it is."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from warehouse.transport.messages import DiskStatus
from warehouse.webui.disk_lines import DiskLine

GIB = 1 << 30
DISK = DiskStatus(
    disk_id="d",
    name="disk-1",
    url="http://stor-b.example:7410",
    is_online=True,
    since_ms=1,
    capacity=100 * GIB,
    free=40 * GIB,
    is_read_only=False,
    volumes=[],
    live_bytes=20 * GIB,
    dead_bytes=10 * GIB,
)


def line(**changes: Any) -> DiskLine:
    return DiskLine(msgspec.structs.replace(DISK, **changes))


def test_what_fills_a_disk_is_told_apart() -> None:
    shares = line()
    assert (shares.own, shares.wasted, shares.others) == (20.0, 10.0, 30.0)
    assert (shares.host, shares.other_bytes) == ("stor-b.example", 30 * GIB)
    assert shares.words == "disk-1: 20.0 GiB stored, 10.0 GiB wasted, 30.0 GiB in other files, 40.0 GiB free"


def test_a_little_beyond_our_volumes_is_not_called_others() -> None:
    little = line(free=69 * GIB + GIB // 2)
    assert (little.other_bytes, little.others) == (0, 0.0)
    assert "other files" not in little.words


def test_more_of_ours_than_the_disk_has_told_is_no_negative_share() -> None:
    assert line(live_bytes=70 * GIB).others == 0.0  # its free space is from an older report


def test_a_disk_that_has_not_told_its_size_has_no_shares() -> None:
    unknown = line(capacity=0, free=0, is_online=False)
    assert not unknown.is_known
    assert not unknown.is_full
    assert (unknown.own, unknown.wasted, unknown.others) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(("free", "is_full"), [(9, True), (10, True), (11, False)])
def test_others_fill_a_disk_too(free: int, is_full: bool) -> None:
    assert line(free=free * GIB).is_full == is_full


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, ("good", "online")),
        ({"is_read_only": True}, ("warn", "takes no writes")),
        ({"set_aside": "its clock is wrong"}, ("warn", "takes no writes")),
        ({"is_read_only": True, "is_online": False}, ("bad", "offline")),
    ],
)
def test_the_worst_of_a_disk_is_its_state(changes: dict[str, Any], state: tuple[str, str]) -> None:
    assert line(**changes).state == state
