"""Local gateway: the S3 gateways of this machine have one key and one folder, before any actor runs.

DIR/gateway/node.key    the key of their node

All of them are one node: they serve the same port, and their number may change with each start.
"""

from __future__ import annotations

import logging
from pathlib import Path

from warehouse.actors.node_key import NODE_KEY_NAME, load_or_make_node_key
from warehouse.conf.settings import Settings
from warehouse.errors import SetupError, StoreError

log = logging.getLogger(__name__)

GATEWAY_FOLDER = "gateway"


def gateway_key(folder: Path) -> str | None:
    """The public key (Z85) of the gateways whose folder that is; made where there is none.

    Returns:
        None: something is wrong, and the gateways will say what.
    """
    try:
        _make(folder)
        return load_or_make_node_key(folder / NODE_KEY_NAME).public.decode()
    except StoreError as error:
        log.error("the gateways have no key", extra={"folder": str(folder), "cause": error.message})
        return None


def s3_hosts(host: str, settings: Settings) -> list[str]:
    """What the certificate of the gateways is good for: `host`, and every bucket below `s3.domains`."""
    domains = settings.s3.domains
    return list(dict.fromkeys([host, *domains, *(f"*.{domain}" for domain in domains)]))


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise SetupError(f"cannot make the folder {folder}: {error.strerror}") from error
