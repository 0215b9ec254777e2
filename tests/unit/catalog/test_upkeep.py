"""Upkeep: what only the SQLite engine bounds or asserts."""

import pytest

from catalog_kit import SqliteKit
from warehouse.catalog.sqlite import upkeep
from warehouse.transport.messages import NeedleDamage


@pytest.fixture
def kit(tmp_path):
    kit = SqliteKit(tmp_path)
    yield kit
    kit.assert_consistent()
    kit.close()


def damage(needle_id=None, offset=4096, problem="CRC mismatch", volume_id=1, **fields):
    return NeedleDamage(volume_id=volume_id, needle_id=needle_id, offset=offset, problem=problem, **fields)


def test_the_damages_of_one_volume_are_bounded(kit, monkeypatch):
    monkeypatch.setattr(upkeep, "DAMAGE_RECORDS_MAX", 3)
    added = kit.do(lambda t: t.add_damage_records(1, [damage(number) for number in range(1, 6)]))
    assert [row.needle_id for row in added] == [1, 2, 3]
    assert kit.do(lambda t: t.add_damage_records(1, [damage(2, problem="worse"), damage(9)])) == []
    assert kit.catalog.damage_records(10)[1].problem == "worse"
    assert len(kit.do(lambda t: t.add_damage_records(2, [damage(1, volume_id=2)]))) == 1


def test_nobody_but_the_catalog_sets_the_greatest_stamp(kit):
    with pytest.raises(AssertionError):
        kit.do(lambda t: t.set_meta("stamp_max", 0))
