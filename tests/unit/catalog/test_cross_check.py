"""Names of needles while the purge of their bucket has not begun."""

import pytest

from catalog_kit import SqliteKit
from warehouse.transport.messages import NeedleDamage


@pytest.fixture
def kit(tmp_path):
    kit = SqliteKit(tmp_path)
    yield kit
    kit.assert_consistent()
    kit.close()


def names_of(kit, volume_id, needle_ids):
    """What a damage report about each needle would be told."""
    asked = [NeedleDamage(volume_id=volume_id, offset=0, problem="", needle_id=n) for n in needle_ids]
    found = kit.do(lambda t: t.add_damage_records(volume_id, asked))
    return {damage.needle_id: (damage.bucket, damage.key) for damage in found if damage.key is not None}


def test_needles_of_a_deleted_bucket_have_no_names(kit):
    needle = kit.put(kit.bucket())
    upload_id = kit.begin(1, "big")
    chunk = kit.send_chunk(upload_id, 1, 0)
    kit.do(lambda t: t._execute("UPDATE buckets SET name = NULL"))  # its purge has not begun
    assert names_of(kit, 1, [needle.needle_id, chunk.needle_id]) == {}
    kit.do(lambda t: t._execute("DELETE FROM bucket_notes"))
