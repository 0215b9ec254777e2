"""Packed grants: those on a bucket are found by the bytes of its number, whatever its length."""

import pytest

from warehouse.auth.rights import BUCKET_ID_MAX, Grant, Permission
from warehouse.catalog.sqlite.key_columns import mark_of_bucket, pack_grants

FLAGS = (int(Permission.READ), int(Permission.MANAGE_BUCKETS | Permission.SIGN))
NUMBERS = (1, 2, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, BUCKET_ID_MAX)


@pytest.mark.parametrize("bucket_id", NUMBERS)
def test_the_mark_of_a_bucket_is_in_every_grant_on_it(bucket_id: int) -> None:
    others = tuple(Grant(FLAGS[0], one, None, "a/") for one in NUMBERS if one != bucket_id)
    for flags in FLAGS:
        for prefix in ("", "a/", "\xcc\xc0"):
            packed = pack_grants((*others, Grant(flags, bucket_id, None, prefix)))
            assert packed is not None
            assert mark_of_bucket(bucket_id) in packed
    packed = pack_grants((*others, Grant(FLAGS[1], bucket_prefix="photos")))
    assert packed is not None
    assert mark_of_bucket(bucket_id) not in packed, "keys without such a grant are not decoded for nothing"
