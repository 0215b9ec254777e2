"""Quotas: what is refused early is refused at the commit, too, and no size of another object shows in it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from warehouse.catalog.quotas import Quota

SMALL = st.integers(0, 20)
LIMIT = st.none() | SMALL


@given(object_max=LIMIT, byte_max=LIMIT, sizes=st.lists(SMALL, max_size=4), size=SMALL, place=SMALL)
def test_what_is_refused_unseen_has_no_room_whatever_it_replaces(
    object_max: int | None, byte_max: int | None, sizes: list[int], size: int, place: int
) -> None:
    quota = Quota("photos", len(sizes), sum(sizes), object_max, byte_max)
    held = len(sizes), sum(sizes)
    before = sizes[place % len(sizes)] if sizes and place % 2 else None
    early = quota.early_refusal_unseen(*held, is_new=before is None, size=size)
    decided = quota.refusal(*held, *((1, size) if before is None else (0, size - before)))
    assert early is None or decided is not None


@given(byte_max=SMALL, total=SMALL, size=SMALL)
def test_the_size_of_the_object_in_the_way_does_not_show_early(byte_max: int, total: int, size: int) -> None:
    """The answer about an overwrite follows from the sums of the bucket alone."""
    quota = Quota("photos", 2, total, None, byte_max)
    early = quota.early_refusal_unseen(2, total, is_new=False, size=size)
    assert (early is not None) == (total <= byte_max < size)
