"""Server keys: a link hears from its hub of the next key, and has it kept.

A process that was told comes back on its own after the switch, and so does the next start from the same file.
"""

from __future__ import annotations

import logging
from typing import Protocol

import trio

from warehouse.errors import StoreError
from warehouse.transport.zeromq.link import Link

log = logging.getLogger(__name__)


class KeptServerKeys(Protocol):
    """The keys that a process knows, in their file: see `conf/server_keys.py`."""

    def take(self, used: str, following: str) -> bool: ...

    def write(self) -> bool: ...


async def hear_next_key(
    link: Link, keys: KeptServerKeys, following: str, *, unwritten_level: int = logging.WARNING
) -> None:
    """Take over what the hub says of its next key, over the connection of now.

    Args:
        following: "": it announces none.
        unwritten_level: of the line in the log when `keys` cannot be written.
    """
    try:
        if not keys.take(link.server_key.decode(), following):
            return
    except StoreError as error:
        log.error("next server key refused", extra={"cause": error.message})
        return
    link.expect_keys(following.encode() or None)
    try:
        if await trio.to_thread.run_sync(keys.write):
            log.info("server key written", extra={"endpoint": link.endpoint})
    except StoreError as error:  # this process knows it; the next start from that file may not
        log.log(unwritten_level, "server key not written", extra={"cause": error.message})
