"""Hub and Link over real loopback connections: asking both ways, deadlines, refusals, coming back."""

from __future__ import annotations

import pytest
import trio

from links_kit import (
    KEYS,
    Owner,
    free_endpoint,
    open_hub,
    open_link,
    until,
)
from warehouse.errors import (
    BadCredentials,
    BadRequest,
    BadSetting,
    DeadlineExceeded,
    LinkDown,
    NoSuchBucket,
    Overloaded,
    StoreError,
)
from warehouse.transport.messages import (
    Answer,
    Attach,
    Buckets,
    ClusterStatus,
    CreateBucket,
    DeleteBucket,
    Done,
    ListBuckets,
    NeedleRestamped,
    Request,
    RestampNeedle,
    StatObject,
)
from warehouse.transport.zeromq.curve import CurveKeys
from warehouse.transport.zeromq.limits import HubLimits
from warehouse.transport.zeromq.link import IN_FLIGHT_MAX, Link
from warehouse.transport.zeromq.peers import Peer


async def test_a_request_is_answered_at_once_or_by_a_task():
    owner = Owner()
    owner.release.set()
    async with open_hub(owner) as (hub, endpoint), open_link(endpoint) as link:
        assert await link.request(ListBuckets(), timeout_s=30) == Buckets(buckets=[])
        assert await link.request(CreateBucket(bucket="b"), timeout_s=30) == Done()
        (peer,) = hub.peers.values()
        assert peer.name == "tester"
        assert peer.user_id == KEYS.public.decode()
        assert hub.in_flight == 0


async def test_the_hub_asks_its_peers():
    async def answer(request: Request) -> Answer:
        assert isinstance(request, RestampNeedle)
        if request.needle_id == 404:
            raise NoSuchBucket("not here")
        return NeedleRestamped(stamp=request.restamp_above + 1)

    async with open_hub(Owner()) as (hub, endpoint), open_link(endpoint, answer=answer) as link:
        await link.request(ListBuckets(), timeout_s=30)
        (peer,) = hub.peers.values()
        ask = RestampNeedle(incarnation=1, volume_id=1, needle_id=2, restamp_above=10)
        assert await peer.request(ask, timeout_s=30) == NeedleRestamped(stamp=11)
        with pytest.raises(NoSuchBucket, match="not here"):
            await peer.request(
                RestampNeedle(incarnation=1, volume_id=1, needle_id=404, restamp_above=1), timeout_s=30
            )


async def test_thousands_of_requests_both_ways_at_once_are_all_answered():
    """Sends and receives of many tasks take each other's edges away: a lost one would stall this forever."""

    async def answer(request: Request) -> Answer:
        assert isinstance(request, RestampNeedle)
        return NeedleRestamped(stamp=request.restamp_above + 1)

    owner, answered = Owner(), 0
    owner.release.set()
    async with open_hub(owner) as (hub, endpoint), open_link(endpoint, answer=answer) as link:
        await link.request(ListBuckets(), timeout_s=30)
        (peer,) = hub.peers.values()

        async def ask_hub(number: int) -> None:
            nonlocal answered
            for _ in range(50):
                body = CreateBucket(bucket="b") if number % 3 == 0 else ListBuckets()
                await link.request(body, timeout_s=10)
                answered += 1

        async def ask_peer(number: int) -> None:
            nonlocal answered
            for step in range(50):
                ask = RestampNeedle(incarnation=1, volume_id=1, needle_id=number, restamp_above=step)
                assert await peer.request(ask, timeout_s=10) == NeedleRestamped(stamp=step + 1)
                answered += 1

        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                for number in range(50):
                    nursery.start_soon(ask_hub, number)
                    nursery.start_soon(ask_peer, number)
        assert answered == 5000


async def test_more_requests_than_turns_wait_for_theirs():
    owner = Owner()
    async with (
        open_hub(owner) as (hub, endpoint),
        open_link(endpoint) as link,
        trio.open_nursery() as nursery,
    ):
        for _ in range(IN_FLIGHT_MAX):
            nursery.start_soon(lambda: link.request(CreateBucket(bucket="b"), timeout_s=20))
        await until(lambda: hub.in_flight == IN_FLIGHT_MAX)
        with pytest.raises(DeadlineExceeded, match="was not sent"):
            await link.request(ListBuckets(), timeout_s=0.1)
        assert owner.answered.count(ListBuckets()) == 0
        with trio.move_on_after(0.05):
            await link.request(ListBuckets(), timeout_s=20)  # cancelled while it waits: it gives its place up
        owner.release.set()
        assert await link.request(ListBuckets(), timeout_s=20) == Buckets(buckets=[])


async def test_a_link_without_an_answer_function_refuses():
    async with open_hub(Owner()) as (hub, endpoint), open_link(endpoint) as link:
        await link.request(ListBuckets(), timeout_s=30)
        (peer,) = hub.peers.values()
        with pytest.raises(BadRequest, match="ListBuckets"):
            await peer.request(ListBuckets(), timeout_s=30)


@pytest.mark.parametrize(
    ("request_body", "expected"),
    [
        (DeleteBucket(bucket="nowhere"), NoSuchBucket),
        (StatObject(bucket="b", key="k"), NoSuchBucket),
        (StatObject(bucket="b", key="group"), NoSuchBucket),
        (StatObject(bucket="b", key="bug"), StoreError),
        (ClusterStatus(), StoreError),
    ],
)
async def test_a_failure_arrives_as_the_same_error(request_body, expected, caplog):
    async with open_hub(Owner()) as (_, endpoint), open_link(endpoint) as link:
        with pytest.raises(StoreError) as caught:
            await link.request(request_body, timeout_s=30)
        assert type(caught.value) is expected
        assert "bug" not in caught.value.message  # what a bug said is for the log alone
        assert (expected is StoreError) == ("a bug in" in caplog.text)
        assert await link.request(ListBuckets(), timeout_s=30) == Buckets(buckets=[])


async def test_a_slow_answer_does_not_hold_up_others_and_ends_with_its_budget():
    owner = Owner()
    async with (
        open_hub(owner) as (hub, endpoint),
        open_link(endpoint) as link,
        trio.open_nursery() as nursery,
    ):

        async def ask_slowly() -> None:
            with pytest.raises(DeadlineExceeded):
                await link.request(CreateBucket(bucket="slow"), timeout_s=2)

        await link.wait_up()
        nursery.start_soon(ask_slowly)
        await until(lambda: CreateBucket(bucket="slow") in owner.answered)
        assert await link.request(ListBuckets(), timeout_s=30) == Buckets(buckets=[])
        # Nobody releases the handler: what ends it is the budget that came with the request.
        await until(lambda: hub.in_flight == 0)


async def test_a_cancelled_request_leaves_nothing_behind():
    owner = Owner()
    async with open_hub(owner) as (hub, endpoint), open_link(endpoint) as link:
        await link.wait_up()
        with trio.move_on_after(0.05) as scope:
            await link.request(CreateBucket(bucket="b"), timeout_s=30)
        assert scope.cancelled_caught
        assert link._connection is not None
        assert link._connection.conversation.waiting_count == 0
        owner.release.set()
        await until(lambda: hub.in_flight == 0)
        assert await link.request(ListBuckets(), timeout_s=30) == Buckets(buckets=[])


async def test_more_than_in_flight_max_is_refused_as_overload():
    owner = Owner()
    async with (
        open_hub(owner, in_flight_max=3) as (hub, endpoint),
        open_link(endpoint) as link,
        trio.open_nursery() as nursery,
    ):
        for _ in range(3):
            nursery.start_soon(lambda: link.request(CreateBucket(bucket="b"), timeout_s=30))
        await until(lambda: hub.in_flight == 3)
        with pytest.raises(Overloaded):
            await link.request(CreateBucket(bucket="b"), timeout_s=30)
        owner.release.set()
    assert hub.counters.overloads == 1


async def test_one_peer_cannot_use_up_the_room_of_all():
    owner = Owner()
    async with (
        open_hub(owner, limits=HubLimits(peer_in_flight=2)) as (hub, endpoint),
        open_link(endpoint) as greedy,
        open_link(endpoint) as modest,
        trio.open_nursery() as nursery,
    ):
        for _ in range(2):
            nursery.start_soon(lambda: greedy.request(CreateBucket(bucket="b"), timeout_s=30))
        await until(lambda: hub.in_flight == 2)
        with pytest.raises(Overloaded):
            await greedy.request(CreateBucket(bucket="b"), timeout_s=30)
        owner.release.set()
        assert await modest.request(CreateBucket(bucket="b"), timeout_s=30) == Done()


async def test_without_a_hub_a_request_fails_with_link_down_when_its_time_is_over():
    async with open_link("tcp://127.0.0.1:1") as link:
        with pytest.raises(LinkDown, match="no connection"):
            await link.request(ListBuckets(), timeout_s=0.1)
        with pytest.raises(LinkDown):
            await link.ask_now(ListBuckets(), timeout_s=30)
        assert not link.is_up


async def test_waiting_requests_fail_at_once_when_the_hub_goes_and_the_link_greets_its_successor():
    greetings = 0

    async def greet(link: Link) -> None:
        nonlocal greetings
        await link.ask_now(Attach(token="good"), timeout_s=30)
        greetings += 1

    owner, endpoint, failed_after_s = Owner(), free_endpoint(), []

    async def ask(link: Link) -> None:
        started = trio.current_time()
        with pytest.raises(LinkDown):
            await link.request(CreateBucket(bucket="b"), timeout_s=30)
        failed_after_s.append(trio.current_time() - started)

    async with open_link(endpoint, greet=greet) as link:
        async with trio.open_nursery() as nursery:
            async with open_hub(owner, endpoint) as (hub, _):
                for _ in range(10):
                    nursery.start_soon(ask, link)
                await until(lambda: hub.in_flight == 10)
            await until(lambda: len(failed_after_s) == 10)
        with trio.fail_after(30):
            await link.wait_down()
        switch = Owner()
        async with open_hub(switch, endpoint) as (hub, _):
            assert await link.request(ListBuckets(), timeout_s=30) == Buckets(buckets=[])
            assert greetings == link.connect_count == 2
            assert [peer.session for peer in hub.peers.values()] == ["good"]
    # Nothing that was meant for the first hub came to the second.
    assert switch.answered == [ListBuckets()]


async def test_a_request_of_the_hub_fails_at_once_when_its_peer_goes():
    async def never(request: Request) -> Answer:
        await trio.sleep_forever()
        raise AssertionError

    owner = Owner()
    async with open_hub(owner) as (hub, endpoint), trio.open_nursery() as nursery:
        outcome: list[type] = []

        async def ask(peer: Peer) -> None:
            try:
                await peer.request(ListBuckets(), timeout_s=30)
            except StoreError as error:
                outcome.append(type(error))

        async with open_link(endpoint, answer=never) as link:
            await link.request(ListBuckets(), timeout_s=30)
            (peer,) = hub.peers.values()
            nursery.start_soon(ask, peer)
            await trio.sleep(0.02)
        await until(lambda: outcome == [LinkDown])
        assert owner.gone == [peer]
        assert peer.is_gone
        assert not hub.peers
        with pytest.raises(LinkDown):
            await peer.request(ListBuckets(), timeout_s=30)


async def test_a_refused_greeting_reaches_whoever_waits_and_is_tried_again():
    token = "bad"

    async def greet(link: Link) -> None:
        await link.ask_now(Attach(token=token), timeout_s=30)

    async with open_hub(Owner()) as (_, endpoint), open_link(endpoint, greet=greet) as link:
        with pytest.raises(BadCredentials):
            await link.request(ListBuckets(), timeout_s=30)
        assert isinstance(link.refusal, BadCredentials)
        token = "good"
        await until(lambda: link.is_up)
        assert link.refusal is None
        assert await link.request(ListBuckets(), timeout_s=30) == Buckets(buckets=[])


async def test_what_the_hub_asks_during_the_greeting_is_answered_after_it():
    order = []

    async def greet(link: Link) -> None:
        await link.ask_now(ListBuckets(), timeout_s=30)
        await trio.sleep(0.05)
        order.append("greeted")

    async def answer(request: Request) -> Answer:
        order.append("answered")
        return Done()

    owner = Owner()
    async with open_hub(owner) as (hub, endpoint), open_link(endpoint, greet=greet, answer=answer):
        await until(lambda: bool(owner.answered))
        (peer,) = hub.peers.values()
        assert await peer.request(ClusterStatus(), timeout_s=30) == Done()
    assert order == ["greeted", "answered"]


async def test_a_wrong_server_key_never_comes_up():
    stranger = CurveKeys.generate().public
    async with open_hub(Owner()) as (hub, endpoint), open_link(endpoint, server_key=stranger) as link:
        with pytest.raises(LinkDown):
            await link.request(ListBuckets(), timeout_s=0.4)
        assert not hub.peers


async def test_a_taken_port_is_a_bad_setting():
    async with open_hub(Owner()) as (_, endpoint):
        with pytest.RaisesGroup(pytest.RaisesExc(BadSetting, match="cannot listen"), allow_unwrapped=True):
            async with open_hub(Owner(), endpoint):
                pass


async def test_an_endpoint_that_cannot_work_is_a_bad_setting():
    with pytest.RaisesGroup(pytest.RaisesExc(BadSetting, match="nonsense"), flatten_subgroups=True):
        async with open_link("nonsense") as link:
            await link.wait_down()
            await trio.sleep(1)
