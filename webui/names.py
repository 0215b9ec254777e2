"""Names in URLs: links to buckets, folders and objects.

The key of an object stands in the path where a browser leaves it as it is.  A browser takes segments `.` and
`..` out of a path, also when they are encoded, and servers in between may join slashes: such a key stands in
the query.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import quote, unquote, urlencode

_SAFE_IN_PATH = "/-_.~!$'()*,:@"


def bucket_url(bucket: str, prefix: str = "") -> str:
    """The list of a bucket, or of one folder of it; like all of these without the root."""
    query = "?" + urlencode({"prefix": prefix}) if prefix else ""
    return f"/buckets/{quote(bucket, safe='')}{query}"


def object_url(bucket: str, key: str, action: str = "objects") -> str:
    """The page of an object.

    Args:
        action: "objects": its details; other words are other pages of one object, such as "download".
    """
    base = f"/buckets/{quote(bucket, safe='')}/{action}/"
    segments = key.split("/")
    if all(segment not in ("", ".", "..") for segment in segments) and not any(ord(c) < 32 for c in key):
        return base + quote(key, safe=_SAFE_IN_PATH)
    return base + "?" + urlencode({"key": key})


def last_part(key: str) -> str:
    """What is shown of a key, or of a folder, which ends with a slash: all after the slash before."""
    return key[key.rfind("/", 0, -1) + 1 :]


def visible(text: str) -> str:
    """The text with pictures for what a page cannot hold: control characters but newline and tab.

    Half a character, which JSON can write, is none: it is shown as U+FFFD.
    """
    return text.translate(_PICTURES)


_PICTURES = {code: 0x2400 + code for code in range(32) if code not in (9, 10)} | {127: 0x2421}
_PICTURES |= dict.fromkeys(range(0xD800, 0xE000), 0xFFFD)


def folders_of(prefix: str) -> list[tuple[str, str]]:
    """The folders that lead to a prefix, outermost first: (what is shown, its own prefix)."""
    found = []
    start = 0
    while (end := prefix.find("/", start)) >= 0:
        found.append((prefix[start:end] or "/", prefix[: end + 1]))
        start = end + 1
    return found


def safe_next(wanted: str | None, root: str) -> str:
    """Where to go after signing in: a page of this console, whatever the URL says."""
    home = f"{root}/"
    if not wanted or len(wanted) > 4096 or not wanted.startswith(home):
        return home
    if wanted.startswith(("//", "/\\")) or any(ord(letter) <= 32 or letter == "\\" for letter in wanted):
        return home
    path = unquote(wanted.partition("?")[0].partition("#")[0])
    if any(segment in (".", "..") for segment in path.split("/")):  # a browser would leave the root by these
        return home
    return wanted


def is_download(path: str, root: str) -> bool:
    """Does this page of the console lead on to a volume actor, which saves an object?"""
    parts = path.removeprefix(root).partition("?")[0].split("/")
    return len(parts) > 4 and (parts[1], parts[3]) == ("buckets", "download")


def is_loopback(host: str) -> bool:
    """Whether only programs of the same machine reach it."""
    if host in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
