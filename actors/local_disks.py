"""Local disks: the disk folders of this machine, with the keys of their nodes, before any actor runs.

DIR/disk-1/node.key         the key of a disk's node
DIR/node-keys/disk-1.key    the same for a disk that nobody can write to
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

from warehouse.actors.ballast import make_way
from warehouse.actors.control.joining import LocalDisk
from warehouse.actors.data.disk_space import BALLAST_NAME
from warehouse.actors.node_key import load_or_make_node_key, node_key_path
from warehouse.errors import BadSetting, SetupError, StoreError
from warehouse.storage.identity import read_identity
from warehouse.transport.zeromq.curve import CurveKeys

log = logging.getLogger(__name__)

SPARE_FOLDER = "node-keys"


class KeyedDisk(NamedTuple):
    """
    Attributes:
        key_file: where its key is, if not in its folder.
    """

    disk: LocalDisk
    key_file: Path | None


def keyed_disk(folder: Path, url: str) -> KeyedDisk | None:
    """A disk folder with its key, which is made where there is none.

    Args:
        url: where clients will find the disk.
    Returns:
        None: something is wrong, and the actor of the disk will say what.
    """
    try:
        keys, key_file = _keys_of(folder)
        return KeyedDisk(LocalDisk(folder.name, keys.public.decode(), _id_of(folder), url), key_file)
    except (StoreError, OSError) as error:
        log.error("a disk has no key", extra={"disk": str(folder), "cause": str(error)})
        return None


def _keys_of(folder: Path) -> tuple[CurveKeys, Path | None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        make_way(folder / BALLAST_NAME)
        _put_key_of_lost_disk_aside(folder)
        return load_or_make_node_key(node_key_path(folder, None)), None
    except BadSetting:
        raise
    except (SetupError, OSError):  # nobody can write there
        spare = folder.parent / SPARE_FOLDER / f"{folder.name}.key"
        spare.parent.mkdir(mode=0o700, exist_ok=True)
        return load_or_make_node_key(spare), spare


def _put_key_of_lost_disk_aside(folder: Path) -> None:
    """A folder that has lost its identity becomes a new disk: the old one's key does not open that one."""
    path = node_key_path(folder, None)
    try:
        is_lost = path.exists() and read_identity(folder, is_copy_ok=True) is None
    except StoreError:  # it is there, and wrong: the actor of the disk will say what
        is_lost = False
    if is_lost:
        aside = path.with_name(f"{path.name}.before")
        path.replace(aside)
        log.warning("the identity of a disk is gone: its key was put aside", extra={"key": str(aside)})


def _id_of(folder: Path) -> str | None:
    try:
        identity = read_identity(folder, is_copy_ok=True)
    except (StoreError, OSError):
        return None
    return None if identity is None else identity.disk_id
