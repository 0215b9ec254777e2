"""Key lines: what tables say of an API key: what it may do, where, and whether it works."""

from __future__ import annotations

from dataclasses import dataclass

import warehouse
from warehouse.webui import here
from warehouse.webui.key_rights import GRANT_FLAGS, in_words, is_within


@dataclass(frozen=True)
class Line:
    """A key in the table.

    Attributes:
        is_ours: the signed-in key may change it.
    """

    key: warehouse.KeyInfo
    can: str
    where: str
    state: tuple[str, str]
    is_ours: bool


def line_of(key: warehouse.KeyInfo, now_ms: float) -> Line:
    return Line(
        key, in_words(key.permissions), _where(key), _state(key, now_ms), is_within(here.opened().info, key)
    )


def _where(key: warehouse.KeyInfo) -> str:
    if not set(key.permissions) & set(GRANT_FLAGS):
        return ""
    if key.grants is None:
        return "every bucket"
    places = [f"{grant.bucket}/{grant.prefix}*" if grant.prefix else grant.bucket for grant in key.grants[:2]]
    left = len(key.grants) - len(places) + key.hidden_grant_count
    return ", ".join(places + ([f"{left} more"] if left else [])) or "no bucket"


def _state(key: warehouse.KeyInfo, now_ms: float) -> tuple[str, str]:
    """A kind of pill, and its word."""
    if not key.is_enabled:
        return "warn", "disabled"
    if key.expires_ms is not None and key.expires_ms <= now_ms:
        return "bad", "expired"
    return "good", "enabled"
