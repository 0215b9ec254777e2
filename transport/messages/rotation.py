"""Messages about the rotation of the store's own secrets: clients ask for it, volume actors are told."""

from __future__ import annotations

from typing import Annotated

from warehouse.transport.messages.base import Message
from warehouse.transport.messages.numbers import Boot, Whole
from warehouse.transport.messages.texts import Few, Name, Word


class RotateSecret(Message, frozen=True, tag="rotate_secret"):
    """Replace a secret by a new one; what the old one signed stays valid for an overlap."""

    what: Word  # "access", "data", "curve", "authority", "seal"
    overlap_s: Whole | None = None  # 0: it is void at once; None: as long as the store thinks best


class SecretRotated(Message, frozen=True, tag="secret_rotated"):
    until_ms: Whole = 0  # what the old secret signed stays valid until then; 0: it is void
    unreached: Annotated[list[Name], Few] = []  # names of disks that do not know the new secret yet
    resealed_count: Whole = 0  # API keys whose secrets were sealed anew


class ReplaceTokenKeys(Message, frozen=True, tag="replace_token_keys"):
    """For a volume actor: from now on only tokens signed with these keys count."""

    incarnation: Boot
    # As in Welcome.
    token_keys: Annotated[dict[Name, Annotated[bytes, Few]], Few]
