"""Routes: each request that a role may send has exactly one handler."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import msgspec
import pytest

from warehouse.actors.control.first_start import CATALOG_NAME, initialize
from warehouse.actors.control.routes import Routes
from warehouse.actors.master import Master
from warehouse.actors.process import Announcer
from warehouse.catalog.sqlite.catalog import SqliteCatalog
from warehouse.conf.settings import Settings
from warehouse.errors import BadRequest, MalformedMessage, NodeUnknown, NotAuthenticated
from warehouse.transport.messages import (
    Answer,
    ClientRequest,
    CompactorRequest,
    Done,
    GatewayRequest,
    ListBuckets,
    LocateObjects,
    PollTask,
    Request,
    StatObject,
    VolumeRequest,
)
from warehouse.transport.zeromq import roles
from warehouse.transport.zeromq.roles import Role

REQUESTS = frozenset(get_args(Request))
ROLES = (roles.CLIENT, roles.VOLUME, roles.COMPACTOR, roles.GATEWAY, roles.NODE, roles.nobody())
PEER: Any = None  # no handler here looks at it


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Routes]:
    """The routes of a real master."""
    folder = tmp_path_factory.mktemp("master")
    keyring = initialize(folder).keyring
    catalog = SqliteCatalog.open(folder / CATALOG_NAME)
    yield Master(
        catalog=catalog, keyring=keyring, settings=Settings(), announcer=Announcer(is_json=True)
    ).routes
    catalog.close()


def requests_of(role: Role) -> set[type]:
    """What a peer in this role may ask: its decoder refuses any other kind by its name."""
    allowed = set()
    for kind in REQUESTS:
        frame = msgspec.msgpack.encode([1, 1, 1000, {"kind": kind.__struct_config__.tag}])
        try:
            role.decode(frame)
        except (BadRequest, NodeUnknown, NotAuthenticated):
            continue
        except MalformedMessage:
            pass  # fields are missing: the kind itself is welcome
        allowed.add(kind)
    return allowed


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_every_request_of_a_role_has_a_handler(table: Routes, role: Role) -> None:
    allowed = requests_of(role)
    assert allowed, "no request at all: has the way to find them gone stale?"
    assert {kind.__name__ for kind in allowed - table.kinds} == set()


def test_every_handler_is_for_a_request_that_some_role_may_send(table: Routes) -> None:
    assert table.kinds == set().union(*map(requests_of, ROLES))
    of_actors = {*get_args(VolumeRequest), CompactorRequest, *get_args(GatewayRequest)}
    assert table.kinds == {*get_args(ClientRequest), *of_actors}


async def test_a_command_of_the_master_has_no_handler_in_the_master(table: Routes) -> None:
    request = PollTask(incarnation=1, task_id=1, rate=None)
    assert table.answer_now(PEER, request) is None
    with pytest.raises(BadRequest, match="does not answer PollTask"):
        await table.answer(PEER, request)


# --- the table itself -----------------------------------------------------------------------------


def at_once(peer: object, request: object) -> Done:
    return Done()


def only_later(peer: object, request: object) -> Answer | None:
    return None


async def in_a_while(peer: object, request: object) -> Done:
    return Done()


def test_a_request_cannot_have_two_handlers() -> None:
    with pytest.raises(AssertionError, match="StatObject has two handlers"):
        Routes().now(StatObject, at_once).now(StatObject, at_once)
    with pytest.raises(AssertionError, match="StatObject has two handlers"):
        Routes().now(StatObject, at_once).later(StatObject, in_a_while)
    with pytest.raises(AssertionError, match="StatObject has two handlers"):
        Routes().now(StatObject, at_once).include(Routes().later(StatObject, in_a_while))


async def test_a_table_answers_at_once_or_later_as_each_request_was_registered() -> None:
    table = Routes().include(
        Routes().now(StatObject, at_once).later(ListBuckets, in_a_while),
        Routes().now_or_later(LocateObjects, only_later, in_a_while),
    )
    assert table.kinds == {StatObject, ListBuckets, LocateObjects}
    assert table.answer_now(PEER, StatObject(bucket="b", key="k")) == Done()
    for request in (ListBuckets(), LocateObjects(bucket="b", keys=["k"])):
        assert table.answer_now(PEER, request) is None
        assert await table.answer(PEER, request) == Done()
