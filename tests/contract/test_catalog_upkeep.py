"""Jobs, verification, sweeps, damages and switches in the catalog."""

import pytest

from catalog_kit import CREATED_MS, name_of, stamp
from warehouse.errors import NeedleVoid, NoSuchVolume
from warehouse.transport.messages import NeedleDamage

# --- jobs -----------------------------------------------------------------------------------------


def test_a_job_is_remembered_until_it_is_removed(kit):
    first = kit.do(lambda t: t.add_job("compact", 1, "operator", CREATED_MS))
    second = kit.do(lambda t: t.add_job("verify", 1, "policy", CREATED_MS + 1))
    kit.reopen()
    assert [(job.id, job.work, job.volume_id, job.origin, job.created_ms) for job in kit.catalog.jobs()] == [
        (first, "compact", 1, "operator", CREATED_MS),
        (second, "verify", 1, "policy", CREATED_MS + 1),
    ]
    for _ in range(2):
        kit.do(lambda t: t.remove_job(first))
    assert [job.id for job in kit.catalog.jobs()] == [second]


def test_a_volume_keeps_its_unfinished_job_of_the_same_work(kit):
    first = kit.do(lambda t: t.add_job("compact", 1, "operator", CREATED_MS))
    assert kit.do(lambda t: t.add_job("compact", 1, "policy", CREATED_MS + 9)) == first
    assert kit.do(lambda t: t.add_job("compact", 2, "policy", CREATED_MS + 9)) != first
    assert kit.catalog.jobs()[0].origin == "operator"


def test_the_id_of_a_job_is_never_given_to_another(kit):
    first = kit.do(lambda t: t.add_job("compact", 1, "operator", CREATED_MS))
    kit.do(lambda t: t.remove_job(first))
    kit.reopen()
    assert kit.do(lambda t: t.add_job("compact", 1, "operator", CREATED_MS)) > first


# --- verification and sweeps ----------------------------------------------------------------------


def volume(kit, volume_id=1):
    return kit.catalog.volumes()[volume_id - 1]


def test_a_new_volume_was_never_verified_nor_swept(kit):
    row = volume(kit)
    assert row.verified_ms is None
    assert (row.verify_started_ms, row.verify_generation, row.verify_offset, row.swept_stamp) == (0, 0, 0, 0)


def test_a_verification_goes_on_where_it_was_and_ends(kit):
    kit.do(lambda t: t.set_verify_progress(1, started_ms=CREATED_MS, generation=3, offset=1 << 34))
    kit.reopen()
    row = volume(kit)
    assert (row.verify_started_ms, row.verify_generation, row.verify_offset) == (CREATED_MS, 3, 1 << 34)
    assert row.verified_ms is None
    kit.do(lambda t: t.set_verified(1, CREATED_MS))
    row = volume(kit)
    assert row.verified_ms == CREATED_MS
    assert (row.verify_started_ms, row.verify_generation, row.verify_offset) == (0, 0, 0)
    assert volume(kit, 2).verified_ms is None


def test_a_sweep_never_goes_back(kit):
    for at in (5, 9, 7):
        kit.do(lambda t, at=at: t.set_swept(1, stamp(at)))
    assert volume(kit).swept_stamp == stamp(9)


def test_after_a_restart_no_clock_falls_behind_a_sweep(kit):
    """Else a needle could be written that is older than a sweep that has not seen it."""
    kit.do(lambda t: t.set_swept(1, stamp(9)))
    kit.reopen()
    assert kit.catalog.stamp_max() >= stamp(9)


def test_the_time_of_a_volume_is_what_it_says_itself(kit):
    new_id = kit.do(lambda t: t.add_volume(None, "new", 1 << 30, "disk-1", created_ms=CREATED_MS))
    assert volume(kit, new_id).created_ms == CREATED_MS
    kit.do(lambda t: t.set_volume_created(new_id, CREATED_MS + 5))
    assert volume(kit, new_id).created_ms == CREATED_MS + 5


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.set_verified(9, 1),
        lambda t: t.set_verify_progress(9, started_ms=1, generation=1, offset=1),
        lambda t: t.set_swept(9, 1),
        lambda t: t.set_volume_created(9, 1),
    ],
)
def test_an_unknown_volume_is_refused(kit, change):
    with pytest.raises(NoSuchVolume, match="no volume 9"):
        kit.do(change)


# --- orphans --------------------------------------------------------------------------------------


def test_only_needles_that_nothing_names_are_given_up(kit):
    bucket_id = kit.bucket()
    visible = kit.put(bucket_id, "a")
    waiting = kit.put(bucket_id, "b")
    tombstoned = kit.put(bucket_id, "c")
    for needle, key in ((tombstoned, "c"), (waiting, "b")):
        kit.do(lambda t, key=key: t.delete_objects(bucket_id, [key], stamp=stamp(3)))
        if needle is tombstoned:
            kit.do(lambda t: t.clear_outbox(1, [tombstoned.needle_id]))
    upload_id = kit.begin(bucket_id)
    stored = kit.send_chunk(upload_id, bucket_id, 0)
    slot = kit.needle(bucket_id)
    kit.do(lambda t: t.set_slots(upload_id, [(1, 1, slot.needle_id, 100)]))
    orphan = kit.needle(bucket_id, "lost")
    needles = [visible, waiting, tombstoned, stored, slot, orphan]
    given_up = kit.do(lambda t: t.void_orphans(1, [needle.needle_id for needle in needles], stamp(9)))
    assert given_up == [orphan.needle_id]
    assert kit.garbage() == {name_of(waiting): "deleted", name_of(orphan): "void"}
    assert kit.catalog.outbox_counts() == {1: 2}
    assert kit.do(lambda t: t.void_orphans(1, [orphan.needle_id], stamp(10))) == []


def test_an_orphan_that_was_given_up_never_becomes_visible(kit):
    bucket_id = kit.bucket()
    late = kit.needle(bucket_id)
    kit.do(lambda t: t.void_orphans(1, [late.needle_id], stamp(9)))
    assert isinstance(kit.do(lambda t: t.commit_needle(late)).error, NeedleVoid)


def test_an_orphan_is_of_one_volume(kit):
    bucket_id = kit.bucket()
    needle = kit.put(bucket_id, volume_id=1)
    assert kit.do(lambda t: t.void_orphans(2, [needle.needle_id], stamp(9))) == [needle.needle_id]
    assert kit.garbage() == {(2, needle.needle_id): "void"}


# --- damages --------------------------------------------------------------------------------------


def damage(needle_id=None, offset=4096, problem="CRC mismatch", volume_id=1, **fields):
    return NeedleDamage(volume_id=volume_id, needle_id=needle_id, offset=offset, problem=problem, **fields)


def test_a_damage_is_kept_with_the_names_that_the_catalog_knows(kit):
    bucket_id = kit.bucket()
    needle = kit.put(bucket_id, "a/ü")
    found = [damage(needle.needle_id, found_ms=5), damage(None, 8192, found_ms=6), damage(77, found_ms=7)]
    expected = [
        damage(None, 8192, found_ms=6),
        damage(needle.needle_id, found_ms=5, bucket="photos", key="a/ü"),
        damage(77, found_ms=7),
    ]
    added = kit.do(lambda t: t.add_damage_records(1, found))
    assert added == [expected[1], expected[0], expected[2]]
    kit.reopen()
    assert kit.catalog.damage_records(10) == expected
    assert kit.catalog.damage_records(2) == expected[:2]
    assert kit.catalog.damage_count() == 3


def test_a_known_damage_keeps_the_time_when_it_was_found_and_is_not_news(kit):
    kit.do(lambda t: t.add_damage_records(1, [damage(3, found_ms=5)]))
    again = [damage(3, found_ms=9, problem="not there"), damage(4, found_ms=9)]
    assert kit.do(lambda t: t.add_damage_records(1, again)) == [damage(4, found_ms=9)]
    assert kit.catalog.damage_records(10) == [
        damage(3, found_ms=5, problem="not there"),
        damage(4, found_ms=9),
    ]


def test_a_name_that_was_known_once_stays(kit):
    bucket_id = kit.bucket()
    needle = kit.put(bucket_id)
    kit.do(lambda t: t.add_damage_records(1, [damage(needle.needle_id)]))
    kit.do(lambda t: t.delete_objects(bucket_id, ["a"], stamp=stamp(3)))
    kit.do(lambda t: t.add_damage_records(1, [damage(needle.needle_id)]))
    assert kit.catalog.damage_records(10) == [damage(needle.needle_id, bucket="photos", key="a")]


def test_one_damage_told_twice_in_a_message_is_one(kit):
    assert len(kit.do(lambda t: t.add_damage_records(1, [damage(3), damage(3)]))) == 1
    assert kit.catalog.damage_count() == 1


def test_what_a_verification_did_not_meet_is_forgotten(kit):
    kit.do(lambda t: t.add_damage_records(1, [damage(3), damage(3, 8192), damage(None, 4096), damage(5, -1)]))
    kit.do(lambda t: t.add_damage_records(2, [damage(4, volume_id=2)]))
    kit.do(lambda t: t.clear_damage_records(1, {(3, 8192), (0, 4096), (9, 9)}))
    assert [(row.volume_id, row.needle_id, row.offset) for row in kit.catalog.damage_records(10)] == [
        (1, None, 4096),
        (1, 3, 8192),
        (2, 4, 4096),
    ]
    kit.do(lambda t: t.clear_damage_records(1, []))
    assert [row.volume_id for row in kit.catalog.damage_records(10)] == [2]


def test_damages_of_needles_that_nobody_will_ask_for_are_forgotten(kit):
    bucket_id = kit.bucket()
    kept, gone = kit.put(bucket_id, "kept"), kit.put(bucket_id, "gone")
    upload_id = kit.begin(bucket_id)
    chunk = kit.send_chunk(upload_id, bucket_id, 0)
    found = [damage(needle.needle_id) for needle in (kept, gone, chunk)]
    kit.do(lambda t: t.add_damage_records(1, [*found, damage(None, 9000)]))
    kit.do(lambda t: t.delete_objects(bucket_id, ["gone"], stamp=stamp(3)))
    kit.do(lambda t: t.forget_dead_damage_records(1))
    assert [row.needle_id for row in kit.catalog.damage_records(10)] == [
        None,
        kept.needle_id,
        chunk.needle_id,
    ]


# --- meta -----------------------------------------------------------------------------------------


def test_meta_is_what_it_was_last_set_to(kit):
    assert kit.catalog.meta("is_paused") == 0
    assert kit.catalog.meta("is_paused", 7) == 7
    for value in (1, 0, 1):
        kit.do(lambda t, value=value: t.set_meta("is_paused", value))
        assert kit.catalog.meta("is_paused", 7) == value
    kit.reopen()
    assert kit.catalog.meta("is_paused") == 1
