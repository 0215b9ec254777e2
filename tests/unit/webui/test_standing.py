"""The first line of the overview names the worst of what is wrong, and each concern says what to do."""

from __future__ import annotations

import msgspec
import pytest

from warehouse import Status
from warehouse.transport.messages import DiskStatus, NeedleDamage, Trouble
from warehouse.webui.standing import standing

GIB = 1 << 30


def disk(name: str, **fields: object) -> DiskStatus:
    values = {
        "disk_id": name,
        "name": name,
        "url": "http://disk",
        "is_online": True,
        "since_ms": 1,
        "capacity": 100 * GIB,
        "free": 50 * GIB,
        "is_read_only": False,
        "volumes": [],
    }
    return msgspec.convert(values | fields, DiskStatus)


def status(*disks: DiskStatus, **fields: object) -> Status:
    whole = Status(
        version="1",
        incarnation=1,
        uptime_s=1.0,
        health="ok",
        disks=[*disks],
        bucket_count=0,
        object_count=0,
        byte_count=0,
        garbage_count=0,
        upload_count=0,
        client_count=0,
    )
    return msgspec.structs.replace(whole, **fields)


def trouble(name: str) -> Trouble:
    return Trouble(name=name, subject="disk-1", message="the clock of disk-1 is 9 s ahead", since_ms=5)


def first(found: Status) -> tuple[str, str]:
    return standing(found)[0].kind, standing(found)[0].title


def test_a_store_without_concern_is_well() -> None:
    assert first(status(disk("a"), disk("b"))) == ("good", "All well")


@pytest.mark.parametrize(
    ("offline", "words"),
    [
        ("a", ("warn", "1 of 3 disks offline")),
        ("ab", ("warn", "2 of 3 disks offline")),
        ("abc", ("bad", "All 3 disks offline")),
    ],
)
def test_offline_disks_are_counted_and_named(offline: str, words: tuple[str, str]) -> None:
    found = status(*(disk(name, is_online=name not in offline) for name in "abc"))
    assert first(found) == words
    if len(offline) == 1:
        assert "Objects on a cannot be read" in standing(found)[0].advice


def test_damage_comes_before_a_disk_that_is_full() -> None:
    damage = NeedleDamage(volume_id=7, offset=0, problem="bad CRC", needle_id=1)
    found = status(disk("a", free=GIB), damages=[damage], damage_count=1)
    assert [concern.title for concern in standing(found)] == ["Damage found", "Full soon"]


def test_one_full_disk_of_two_is_not_a_full_store() -> None:
    assert first(status(disk("a", free=GIB), disk("b"))) == ("warn", "A disk is full soon")


def test_clocks_apart_are_called_so_with_the_masters_advice() -> None:
    found = status(disk("a"), troubles=[trouble("clock_skew")], trouble_count=1, health="degraded")
    assert first(found) == ("warn", "Clocks apart")
    assert standing(found)[0].advice == "The clock of disk-1 is 9 s ahead."


def test_a_trouble_of_a_newer_master_is_told_by_its_name() -> None:
    found = status(disk("a"), troubles=[trouble("moon_too_full")], trouble_count=1)
    assert first(found) == ("warn", "Moon too full")


def test_a_store_without_disks_says_that_one_has_to_join() -> None:
    assert first(status()) == ("bad", "No disk yet")
