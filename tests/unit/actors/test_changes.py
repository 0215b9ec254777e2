"""Changes: what is remembered of buckets that are watched, and for whom."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
import trio
import trio.testing

from warehouse.actors.control import changes as module
from warehouse.actors.control.changes import Changes
from warehouse.auth.rights import BucketName
from warehouse.errors import Busy


def everything(key: str) -> bool:
    return True


def begun(changes: Changes, bucket_id: int = 1) -> int:
    """Where a new follower begins."""
    told = changes.of_bucket(bucket_id, -1, everything)
    assert told.is_missed
    return told.last


def test_nothing_is_remembered_of_a_bucket_that_nobody_watches() -> None:
    changes = Changes()
    changes.objects_changed(1, ["a"])
    assert not changes.is_watched
    after = begun(changes)
    assert changes.is_watched
    changes.objects_changed(2, ["b"])
    assert not changes.of_bucket(1, after, everything).is_news


def test_a_follower_hears_of_each_key_once_the_latest_first() -> None:
    changes = Changes()
    after = begun(changes)
    changes.objects_changed(1, ["a", "b", "a", "c"])
    told = changes.of_bucket(1, after, everything)
    assert (told.count, told.keys, told.is_missed) == (3, ["c", "a", "b"], False)
    assert not changes.of_bucket(1, told.last, everything).is_news
    assert changes.of_bucket(1, after, lambda key: key == "b").keys == ["b"]


def test_many_changes_are_counted_and_some_are_named() -> None:
    changes = Changes()
    after = begun(changes)
    changes.objects_changed(1, [f"{n}" for n in range(1000)])
    told = changes.of_bucket(1, after, everything)
    assert (told.count, len(told.keys), told.keys[0]) == (1000, module.TOLD_MAX, "999")


def test_what_is_more_than_the_memory_holds_was_missed() -> None:
    changes = Changes()
    after = begun(changes)
    changes.objects_changed(1, [f"{n}" for n in range(module.KEYS_OF_BUCKET_MAX)])
    assert not changes.of_bucket(1, after, everything).is_missed
    changes.objects_changed(1, ["one more"])
    assert changes.of_bucket(1, after, everything).is_missed


def test_the_memory_of_all_buckets_together_is_bounded() -> None:
    changes = Changes()
    for bucket_id in range(module.BUCKETS_MAX):
        begun(changes, bucket_id)
    for bucket_id in range(module.BUCKETS_MAX):
        changes.objects_changed(bucket_id, [f"{n}" for n in range(1000)])
    kept = sum(len(watched.keys) for watched in changes._watched.values())
    assert kept <= module.KEYS_MAX
    with pytest.raises(Busy):
        begun(changes, module.BUCKETS_MAX)


def test_numbers_of_an_earlier_master_and_of_a_later_one_are_missed() -> None:
    earlier = Changes()
    after = begun(earlier)
    later = Changes()
    begun(later)
    assert later.of_bucket(1, after, everything).is_missed
    assert later.news_after(after)[1]
    assert later.of_bucket(1, later.last + 1, everything).is_missed


def test_a_bucket_that_nobody_asks_about_is_given_up() -> None:
    now = [0.0]
    changes = Changes(clock=lambda: now[0])
    after = begun(changes)
    now[0] = module.IDLE_S - 1
    changes.forget_idle()
    assert changes.is_watched
    now[0] = module.IDLE_S + 1
    changes.forget_idle()
    assert not changes.is_watched
    assert changes.of_bucket(1, after, everything).is_missed


def test_one_key_and_all_keys_together_may_have_so_many_followers() -> None:
    changes = Changes()
    with ExitStack() as stack:
        for _ in range(module.FOLLOWERS_OF_KEY_MAX):
            stack.enter_context(changes.follower("a"))
        with pytest.raises(Busy, match="this key"):
            stack.enter_context(changes.follower("a"))
        for number in range(module.FOLLOWERS_OF_KEY_MAX, module.FOLLOWERS_MAX):
            stack.enter_context(changes.follower(f"{number}"))
        with pytest.raises(Busy, match="too many"):
            stack.enter_context(changes.follower("b"))
    with changes.follower("a"):
        assert changes._followers == {"a": 1}


def test_news_that_were_forgotten_are_missed() -> None:
    changes = Changes()
    after = changes.last
    for _ in range(module.NEWS_MAX):
        changes.account_changed()
    found, is_missed = changes.news_after(after)
    assert (len(found), is_missed) == (module.NEWS_MAX, False)
    changes.account_changed()
    assert changes.news_after(after)[1]


async def test_a_wait_ends_with_a_change_that_is_wanted_and_with_no_other() -> None:
    changes = Changes()
    after = begun(changes)
    told = []

    async def follow() -> None:
        told.append(await changes.wait_bucket(1, after, lambda key: key.startswith("b"), 30.0))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            await trio.testing.wait_all_tasks_blocked()
            changes.objects_changed(1, ["a"])
            await trio.testing.wait_all_tasks_blocked(0.1)
            assert not told
            changes.objects_changed(1, ["b1"])
            changes.objects_changed(1, ["b2"])
    assert (told[0].count, told[0].keys) == (2, ["b2", "b1"])


async def test_a_wait_ends_when_the_bucket_is_deleted_or_track_was_lost(autojump_clock: object) -> None:
    for lose in (
        lambda changes: changes.bucket_changed(BucketName("b", 1), is_gone=True),
        lambda changes: changes.lost_track(),
    ):
        changes = Changes()
        after = begun(changes)
        told = []

        async def follow(changes: Changes = changes, after: int = after, told: list = told) -> None:
            told.append(await changes.wait_bucket(1, after, everything, 30.0))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            await trio.testing.wait_all_tasks_blocked()
            lose(changes)
        assert told[0].is_gone or told[0].is_missed


async def test_a_wait_without_a_change_ends_and_goes_on_from_there(autojump_clock: object) -> None:
    changes = Changes()
    after = begun(changes)
    told = await changes.wait_bucket(1, after, everything, 5.0)
    assert not told.is_news
    changes.objects_changed(1, ["a"])
    assert changes.of_bucket(1, told.last, everything).keys == ["a"]
