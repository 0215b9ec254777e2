"""Placement: only where there is room, spread over disks, in proportion to room, repeatable."""

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from warehouse.catalog.placement import Candidate, Places

candidates = st.lists(
    st.tuples(st.integers(1, 40), st.sampled_from(["d1", "d2", "d3"]), st.integers(0, 1000)),
    unique_by=lambda c: c[0],
).map(lambda rows: [Candidate(*row) for row in rows])


def places_of(found):
    places = Places()
    for candidate in found:
        places.set_volume(candidate.disk_id, candidate.volume_id, candidate.room)
        places.set_disk(candidate.disk_id, 10**9)
    return places


def choose(found, *, size=1, count=1, exclude=(), seed=1):
    return places_of(found).choose(size=size, count=count, exclude=exclude, random=Random(seed))


@given(candidates, st.integers(0, 1000), st.integers(1, 10), st.sets(st.integers(1, 40)), st.integers())
def test_the_chosen_are_different_have_room_and_are_as_many_as_can_be(found, size, count, exclude, seed):
    chosen = choose(found, size=size, count=count, exclude=exclude, seed=seed)
    possible = {c.volume_id for c in found if c.room >= size} - exclude
    assert set(chosen) <= possible
    assert len(chosen) == len(set(chosen)) == min(count, len(possible))


@given(candidates, st.integers(1, 10), st.integers())
def test_no_disk_is_used_twice_before_all_are_used_once(found, count, seed):
    chosen = choose(found, count=count, seed=seed)
    disk_of = {c.volume_id: c.disk_id for c in found}
    volumes_of = Counter(c.disk_id for c in found if c.room >= 1)
    uses = Counter(disk_of[volume_id] for volume_id in chosen)
    for disk, volume_count in volumes_of.items():
        if uses[disk] < volume_count:  # it had one more to give, so no other may be two ahead
            assert max(uses.values(), default=0) <= uses[disk] + 1


@given(candidates, st.integers(1, 10), st.integers())
def test_the_same_seed_chooses_the_same(found, count, seed):
    assert choose(found, count=count, seed=seed) == choose(found, count=count, seed=seed)


def test_choices_are_in_proportion_to_room():
    found = [Candidate(1, "d1", 300), Candidate(2, "d2", 100)]
    random, places = Random(7), places_of(found)
    picks = Counter(places.choose(size=1, count=1, random=random)[0] for _ in range(4000))
    assert 2.5 < picks[1] / picks[2] < 3.5


def test_a_volume_exactly_full_enough_is_chosen():
    found = [Candidate(1, "d1", 100)]
    assert choose(found, size=100) == [1]
    assert choose(found, size=101) == []


def test_nothing_to_choose_from_chooses_nothing():
    assert choose([]) == []
    assert choose([Candidate(1, "d1", 5)], exclude=[1]) == []
    assert choose([Candidate(1, "d1", 0)], size=0) == [1]
