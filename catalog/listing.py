"""Listing: where in the order of keys a page begins, and what hides behind a common prefix.

Keys are ordered by their UTF-8 bytes, which is the order of their code points and so of Python's strings.
"""

from __future__ import annotations

from collections.abc import Iterable

_LAST = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)  # no key holds one


def key_after_prefix(prefix: str) -> str | None:
    """The smallest string greater than every string that begins with `prefix`; None: no string is."""
    stem = prefix.rstrip(chr(_LAST))
    if not stem:
        return None
    following = ord(stem[-1]) + 1
    if following in _SURROGATES:
        following = _SURROGATES.stop
    return stem[:-1] + chr(following)


def spans(prefix: str, within: Iterable[str] | None) -> list[tuple[str, str | None]]:
    """The keys that begin with `prefix`, and with one of `within` where that is given; as spans, in order.

    Returns:
        First key and the one after the last of each; None: there is no key after the last.
    """
    stems = [prefix] if within is None else sorted(_narrowed(prefix, within))
    found: list[tuple[str, str | None]] = []
    for stem in stems:
        if not found or not stem.startswith(found[-1][0]):
            found.append((stem, key_after_prefix(stem)))
    return found


def _narrowed(prefix: str, within: Iterable[str]) -> set[str]:
    """The longer one of `prefix` and each of `within`, if that begins with the other."""
    return {max(prefix, one, key=len) for one in within if one.startswith(prefix) or prefix.startswith(one)}


def common_prefix(key: str, prefix: str, delimiter: str | None) -> str | None:
    """What a listing shows instead of `key`; None if it shows the key itself."""
    if not delimiter:
        return None
    found = key.find(delimiter, len(prefix))
    return None if found < 0 else key[: found + len(delimiter)]


def first_key(prefix: str, delimiter: str | None, after: str) -> str | None:
    """The smallest key whose entry can be on a page of entries greater than `after`; None: no key can."""
    if after < prefix:
        return prefix
    if not after.startswith(prefix):
        return None  # greater than every key with the prefix
    common = common_prefix(after, prefix, delimiter)
    # A common prefix at the start of `after` is not greater than `after`, so its keys are not shown.
    return after + "\0" if common is None else key_after_prefix(common)
