"""Bucket names: the store's rules, in words and patterns that a page explains while somebody types.

The store decides; a test holds that both agree.
"""

from __future__ import annotations

from typing import NamedTuple


class Rule(NamedTuple):
    """One rule; `pattern` is a regular expression, as browsers and Python read it, of the whole name."""

    text: str
    pattern: str


_OCTET = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
RULES = (
    Rule("1 to 63 characters", ".{1,63}"),
    Rule("only a to z, 0 to 9, dots, hyphens and underscores", r"[a-z0-9._\-]*"),
    Rule("a letter or digit at both ends", r"[a-z0-9](.*[a-z0-9])?"),
    Rule("no IP address", rf"(?!({_OCTET}\.){{3}}{_OCTET}$).*"),
)
