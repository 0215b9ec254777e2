"""Master contact: how long a volume actor honours tokens while its master is silent."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from warehouse.actors.data.authorization import RequestAuthorizer
from warehouse.actors.data.master_contact import LOOK_S, MasterContact
from warehouse.auth.data_tokens import DataTokenVerifier
from warehouse.errors import MasterUnreachable, TokenInvalid
from warehouse.transport.zeromq.link import Link


async def test_tokens_count_again_as_soon_as_the_master_is_back(
    nursery: trio.Nursery, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    authorizer = RequestAuthorizer({}, {}, DataTokenVerifier("disk", {}))
    contact = MasterContact(authorizer, 900.0)
    link = SimpleNamespace(is_up=False)
    nursery.start_soon(contact.watch_forever, cast("Link", link))
    for is_up, wait_s, is_honoured, log_count in (
        (False, 899, True, 0),
        (False, 2, False, 1),
        (False, 3600, False, 1),
        (True, 2 * LOOK_S, True, 2),
        (True, 3600, True, 2),
        (False, 899, True, 2),
        (False, 2, False, 3),
    ):
        link.is_up = is_up
        await trio.sleep(wait_s)
        with pytest.raises(TokenInvalid if is_honoured else MasterUnreachable):
            authorizer.claims_of_token(b"a.b.c")
        assert (contact.unheard_s > 900) is not is_honoured
        assert len(caplog.records) == log_count
