"""Measuring: `warehouse bench`, run from the console."""

from __future__ import annotations

from warehouse.webui.abilities import Abilities

NEEDED = ("read", "write", "list", "delete", "manage_buckets")
BUCKET = "bench-00000000"  # like those that the command makes, and removes in the end


def may_measure(can: Abilities) -> bool:
    """May the key do all that a measurement does?"""
    return all(can.may(permission, BUCKET) for permission in NEEDED)
