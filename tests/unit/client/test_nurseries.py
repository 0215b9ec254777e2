from __future__ import annotations

from functools import partial

import pytest
import trio

from warehouse.client.nurseries import background, bounded_nursery, is_cancellation, single_error


async def fail(message: str, after_s: float = 0) -> None:
    await trio.sleep(after_s)
    raise ValueError(message)


async def test_errors_of_a_body_leave_plain_and_end_its_tasks(autojump_clock: trio.testing.MockClock) -> None:
    async def fail_in_body() -> None:
        async with background() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await fail_in_body()


async def test_errors_of_a_task_end_the_body_and_leave_plain(autojump_clock: trio.testing.MockClock) -> None:
    async def fail_in_task() -> None:
        async with background() as nursery:
            nursery.start_soon(fail, "task", 1)
            await trio.sleep_forever()

    with pytest.raises(ValueError, match="task"):
        await fail_in_task()


async def test_a_body_that_ends_ends_its_tasks(autojump_clock: trio.testing.MockClock) -> None:
    async with background() as nursery:
        nursery.start_soon(trio.sleep_forever)


async def test_cancelling_the_nursery_of_a_body_ends_it_quietly(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with background() as outer:
        async with background() as inner:
            inner.start_soon(trio.sleep_forever)
            outer.cancel_scope.cancel()
            await trio.sleep_forever()
        pytest.fail("the inner body went on")
    assert outer.cancel_scope.cancelled_caught


async def test_cancellation_from_outside_passes_through(autojump_clock: trio.testing.MockClock) -> None:
    with trio.move_on_after(1) as scope:
        async with background() as nursery, bounded_nursery(2) as tasks:
            nursery.start_soon(trio.sleep_forever)
            tasks.start(trio.sleep_forever)
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_a_crew_is_waited_for_and_keeps_its_size(autojump_clock: trio.testing.MockClock) -> None:
    done: list[int] = []
    busiest = 0

    async def work(number: int) -> None:
        nonlocal busiest
        busiest = max(busiest, tasks.running_count)
        await trio.sleep(1)
        done.append(number)

    async with bounded_nursery(3) as tasks:
        for number in range(10):
            await tasks.wait_room()
            tasks.start(partial(work, number))
    assert sorted(done) == [*range(10)]
    assert busiest == 3


async def test_wait_all_waits_for_all(autojump_clock: trio.testing.MockClock) -> None:
    async with bounded_nursery(5) as tasks:
        for _ in range(5):
            tasks.start(partial(trio.sleep, 3))
        start = trio.current_time()
        await tasks.wait_all()
        assert trio.current_time() - start == pytest.approx(3)
        await tasks.wait_all()


async def test_the_first_error_of_a_crew_wins(autojump_clock: trio.testing.MockClock) -> None:
    async def fail_in_members() -> None:
        async with bounded_nursery(5) as tasks:
            tasks.start(partial(fail, "second", 2))
            tasks.start(partial(fail, "first", 1))
            await trio.sleep_forever()

    async def fail_in_body() -> None:
        async with bounded_nursery(5) as tasks:
            tasks.start(partial(fail, "member", 1))
            raise ValueError("body")

    with pytest.raises(ValueError, match="first"):
        await fail_in_members()
    with pytest.raises(ValueError, match="body"):
        await fail_in_body()


async def test_errors_and_cancellations_are_told_apart() -> None:
    cancelled: list[BaseException] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as error:
            cancelled.append(error)
            raise
    group = BaseExceptionGroup("", [*cancelled, BaseExceptionGroup("", [ValueError("x")])])
    assert is_cancellation(cancelled[0])
    assert is_cancellation(group)
    assert not is_cancellation(ExceptionGroup("", [ValueError("x")]))
    assert str(single_error(group)) == "x"
