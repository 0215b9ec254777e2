"""Doors: every request that reaches a master is in the table that says what it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from message_samples import SAMPLES
from warehouse.actors.control import doors
from warehouse.auth.rights import EVERYTHING, Permission
from warehouse.transport.messages import (
    ClientRequest,
    CompactorRequest,
    DeleteBucket,
    GatewayRequest,
    LeaseNeedles,
    ListBuckets,
    ListObjects,
    Login,
    Message,
    Presign,
    VolumeRequest,
)


def members(kinds: Any) -> tuple[type[Message], ...]:
    return get_args(kinds) or (kinds,)


REQUESTS = {
    *members(ClientRequest),
    *members(VolumeRequest),
    *members(CompactorRequest),
    *members(GatewayRequest),
}

# As early as this, so that a request without its permission does not even get collected.
doors.require_known(REQUESTS)


def test_the_table_has_no_kind_twice_and_none_that_nobody_sends() -> None:
    assert not doors.DOORS.keys() & doors.OTHERS.keys()
    assert doors.DOORS.keys() | doors.OTHERS.keys() == REQUESTS


def test_a_kind_that_is_not_in_the_table_is_named() -> None:
    class Unheard(Message, frozen=True, tag="unheard"):
        pass

    with pytest.raises(AssertionError, match=r"no door for Unheard: see actors/control/doors\.py"):
        doors.require_known([ListBuckets, Unheard])


def test_every_permission_opens_something() -> None:
    opened = Permission(0)
    for door in doors.DOORS.values():
        for need in door.needs:
            opened |= need.permission
    assert opened == EVERYTHING


@pytest.mark.parametrize("kind", list(doors.DOORS))
def test_what_is_asked_at_the_door_is_what_the_table_says(kind: type[Message]) -> None:
    request = SAMPLES[str(kind.__struct_config__.tag)]
    flags = Permission(0)
    for need in doors.needs_of(request):
        flags |= Permission(0) if need.is_any else need.permission
    assert doors.needed(request) == flags
    assert flags or any(need.is_any for need in doors.needs_of(request))


def test_what_a_request_says_of_itself_adds_to_what_it_needs() -> None:
    listing = ListObjects(bucket="b")
    assert doors.needed(listing) == Permission.LIST
    located = msgspec.structs.replace(listing, with_locations=True)
    assert doors.needed(located) == Permission.LIST | Permission.READ
    assert doors.needed(DeleteBucket(bucket="b")) == Permission.MANAGE_BUCKETS
    assert doors.needed(DeleteBucket(bucket="b", force=True)) == Permission.MANAGE_BUCKETS | Permission.DELETE
    for method, flag in (("GET", Permission.READ), ("PUT", Permission.WRITE), ("HEAD", Permission.WRITE)):
        request = Presign(bucket="b", key="k", method=method, expires_in_s=1.0)
        assert doors.needed(request) == Permission.SIGN | flag
    assert doors.needed(LeaseNeedles(bucket="b", needle_count=1, byte_count=1)) == Permission.WRITE
    assert doors.needed(Login(key_id="k", secret="s")) == Permission(0)


def test_the_page_has_the_tables_as_the_code_has_them() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "security.md").read_text()
    assert doors.with_tables(page) == page, (
        "write them anew: python -m warehouse.actors.control.doors docs/security.md"
    )
