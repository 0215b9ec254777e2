"""Server keys of a node: it hears from the master of the next one, and keeps its join file right.

A node that was told comes back on its own after the switch, and so does the next start from the same file.
"""

from __future__ import annotations

import logging
from pathlib import Path

import trio

from warehouse.conf.server_keys import are_server_keys, join_server_keys, read_server_keys, write_server_keys
from warehouse.errors import StoreError
from warehouse.transport.zeromq.link import Link

log = logging.getLogger(__name__)


class ServerKeys:
    """
    Args:
        keys: what the join file said when it was read.
        path: of that file; None: there is none to keep right.
    """

    def __init__(self, keys: str, path: Path | None) -> None:
        self._path = path
        self._kept = keys

    def read(self) -> bytes:
        """What the file says now.  Blocks.

        Raises:
            BadSetting: it cannot be read.
        """
        return b"" if self._path is None else read_server_keys(self._path).encode()

    async def heard(self, link: Link, following: str) -> None:
        """Take over what the master says of its next key.

        Args:
            following: "": it announces none; what it has announced may still come, until it is in use.
        """
        used = link.server_key.decode()
        if not following and used == self._kept.partition(" ")[0]:
            return
        text = join_server_keys(used, following)
        if text == self._kept:
            return
        if not are_server_keys(text):
            log.error("next server key refused: it is none")
            return
        link.expect_keys(following.encode() or None)
        self._kept = text
        if self._path is None:
            return
        try:
            if await trio.to_thread.run_sync(write_server_keys, self._path, text):
                log.info("server key written", extra={"path": str(self._path)})
        except StoreError as error:  # this process knows it; the next start from that file may not
            log.warning("server key not written", extra={"cause": error.message})
