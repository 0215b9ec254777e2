"""Disks, volumes and API keys in the catalog."""

import pytest

from catalog_kit import CREATED_MS, Kit
from warehouse.errors import BadRequest, NoSuchVolume


@pytest.fixture
def kit(tmp_path, open_catalog):
    kit = Kit(tmp_path, volume_count=0, open_catalog=open_catalog)
    yield kit
    kit.close()


def add_volume(kit, volume_id=None, uuid="u", **options):
    return kit.do(lambda t: t.add_volume(volume_id, uuid, 1 << 35, "disk-1", **options))


def test_a_disk_keeps_its_first_date_and_takes_a_new_name(kit):
    kit.do(lambda t: t.add_disk("disk-2", "old name", CREATED_MS + 5))
    kit.do(lambda t: t.add_disk("disk-2", "new name", CREATED_MS + 9))
    assert [(row.id, row.name, row.added_ms) for row in kit.catalog.disks()] == [
        ("disk-1", "first", CREATED_MS),
        ("disk-2", "new name", CREATED_MS + 5),
    ]


def test_a_volume_is_remembered_with_the_disk_that_holds_it(kit):
    volume_id = add_volume(kit)
    (row,) = kit.catalog.volumes()
    assert (row.id, row.uuid, row.capacity, row.needle_id_reserved, row.state, row.disk_ids) == (
        volume_id,
        "u",
        1 << 35,
        0,
        "creating",
        ["disk-1"],
    )
    kit.do(lambda t: t.set_volume_state(volume_id, "open"))
    assert kit.catalog.volumes()[0].state == "open"


def test_volume_ids_are_dense_from_1_and_never_used_again(kit):
    assert [add_volume(kit, uuid=str(number)) for number in range(3)] == [1, 2, 3]
    assert kit.do(lambda t: t.drop_unmade_volume(3)) is True
    assert kit.do(lambda t: t.drop_unmade_volume(3)) is False
    assert add_volume(kit, uuid="next") == 4


def test_a_volume_that_exists_on_a_disk_keeps_its_id(kit):
    assert add_volume(kit, 77, state="open") == 77
    assert add_volume(kit, uuid="new") == 78
    assert add_volume(kit, 5, uuid="found later") == 5
    assert add_volume(kit, uuid="newer") == 79


@pytest.mark.parametrize(("volume_id", "uuid"), [(1, "other"), (None, "u"), (1, "u")])
def test_a_volume_is_known_once(kit, volume_id, uuid):
    add_volume(kit)
    with pytest.raises(BadRequest, match="already known"):
        add_volume(kit, volume_id, uuid)
    assert len(kit.catalog.volumes()) == 1


@pytest.mark.parametrize("volume_id", [0, -1, 2**32])
def test_volume_ids_have_32_bits(kit, volume_id):
    with pytest.raises(BadRequest, match="is from 1 to"):
        add_volume(kit, volume_id)


def test_reserved_needle_ids_only_grow_and_survive(kit):
    volume_id = add_volume(kit)
    for upto in (1000, 500, 2000):
        kit.do(lambda t, upto=upto: t.reserve_needle_ids(volume_id, upto))
    kit.reopen()
    assert kit.catalog.volumes()[0].needle_id_reserved == 2000
    for wrong in (-1, 2**32):
        with pytest.raises(BadRequest):
            kit.do(lambda t, wrong=wrong: t.reserve_needle_ids(volume_id, wrong))


def test_changes_of_an_unknown_volume_are_refused(kit):
    for change in (lambda t: t.set_volume_state(9, "open"), lambda t: t.reserve_needle_ids(9, 1)):
        with pytest.raises(NoSuchVolume, match="no volume 9"):
            kit.do(change)
