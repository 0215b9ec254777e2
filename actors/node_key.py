"""Node key: who the actors of a disk are, to the master.

The key pair is made at the first start of a disk's volume actor and stays with the disk, in `node.key`.  The
volume actor and the compactor of the disk both use it.  For a disk that nobody can write to, the operator
names a file elsewhere (`--node-key FILE`).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import trio

from warehouse.conf.join import Join as JoinFile
from warehouse.errors import NodeUnknown, SecretMissing, SetupError
from warehouse.transport.messages import Join
from warehouse.transport.zeromq.curve import CurveKeys
from warehouse.transport.zeromq.link import Link

log = logging.getLogger(__name__)

NODE_KEY_NAME = "node.key"
JOIN_S = 10.0
Role = Literal["volume", "compactor", "gateway"]
LOOK_S = 0.2  # between looks of a compactor for the key, which its volume actor makes


def node_key_path(disk: Path, chosen: Path | None) -> Path:
    """
    Args:
        disk: the folder of a disk.
        chosen: the file that an operator named.
    """
    return disk / NODE_KEY_NAME if chosen is None else chosen


def load_or_make_node_key(path: Path) -> CurveKeys:
    """For the owner of a disk, who holds its lock.

    Raises:
        BadSetting: the file is not a key file, or others may read it.
        SetupError: there is none, and it cannot be made.
    """
    try:
        return CurveKeys.load_or_make(path)
    except OSError as error:
        raise SetupError(
            f"cannot make the key {path} of this disk: {error.strerror}; name another file with --node-key"
        ) from error


async def wait_for_node_key(path: Path) -> CurveKeys:
    """For the compactor of a disk: wait until its volume actor has made the key.

    Raises:
        BadSetting: as `load_or_make_node_key`.
    """
    while True:
        try:
            return await trio.to_thread.run_sync(CurveKeys.load, path)
        except SecretMissing:
            await trio.sleep(LOOK_S)


async def join_with_token(
    link: Link,
    file: JoinFile,
    *,
    disk_id: str,
    disk_name: str,
    role: Literal["volume", "compactor", "gateway"],
) -> None:
    """Have the master take our key for that of a node; while the link greets.

    Raises:
        NodeUnknown: the join file has no token.
        RequestRefused: the master does not take the token, or the disk is another node's.
    """
    if not file.token:
        what, option = ("gateway", "--role gateway ") if role == "gateway" else ("disk", "")
        raise NodeUnknown(
            f"the master does not know the key of this {what}, and the join file has no token: make one with"
            f" `warehouse join-token create {option}--output join.toml`, and start this actor with that file"
        )
    request = Join(token=file.token, disk_id=disk_id, disk_name=disk_name, role=role)
    await link.ask_now(request, timeout_s=JOIN_S)
    log.info("joined with a token", extra={"master": file.master})
