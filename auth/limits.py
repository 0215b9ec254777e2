"""Limits: how much a key may ask of the store at once, and a second."""

from __future__ import annotations

import msgspec


class KeyLimits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Limits of one API key; None: no limit of its own."""

    requests_per_s: float | None = None
    bytes_per_s: float | None = None  # bodies of objects, both directions together
    requests_at_once: int | None = None
    open_uploads: int | None = None
    lease_bytes: int | None = None  # room under lease


NO_LIMITS = KeyLimits()
