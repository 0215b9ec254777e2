"""Handlers: which operations the gateway does, and whether the page about S3 tells of those that it does not."""

from __future__ import annotations

import re
from pathlib import Path

from warehouse.gateway.acls import Acls
from warehouse.gateway.attributes import Attributes
from warehouse.gateway.buckets import Buckets
from warehouse.gateway.completing import Completing
from warehouse.gateway.configs import Configs
from warehouse.gateway.copies import Copies
from warehouse.gateway.cors import Cors
from warehouse.gateway.forms import Forms
from warehouse.gateway.listings import Listings
from warehouse.gateway.multipart import Multipart
from warehouse.gateway.objects import Objects
from warehouse.gateway.tagging import Tagging
from warehouse.gateway.upload_lists import UploadLists
from warehouse.s3.operations import OPERATIONS, Served
from warehouse.s3.route import PREFLIGHT

PAGE = Path(__file__).resolve().parents[3] / "docs" / "s3.md"


async def no_rules(bucket: str) -> bytes:
    return b""


def test_the_page_names_every_operation_that_is_not_done_yet_and_no_other() -> None:
    objects = Objects()
    rooms = (
        Buckets(""),
        Configs(Cors(no_rules)),
        Listings(),
        Acls(),
        objects,
        Copies(),
        Tagging(),
        Attributes(),
        Multipart(),
        Completing(is_tls=False),
        UploadLists(),
        Forms(objects, is_tls=False),
    )
    handled = {name for room in rooms for name in room.handlers()} | {PREFLIGHT.name}
    served = {operation.name for operation in OPERATIONS if isinstance(operation.standing, Served)}
    assert handled <= served, "a handler for what the table does not serve"
    found = re.search("<!-- missing: begin -->(.*)<!-- missing: end -->", PAGE.read_text(), re.DOTALL)
    assert found is not None
    assert set(re.findall(r"`(\w+)`", found[1])) == served - handled
