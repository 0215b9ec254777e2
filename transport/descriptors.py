"""Descriptors: how many files and sockets this process may have open, and who gets how many of them.

Every connection is a descriptor, and so is every file.  A process that has none left can neither open its
files nor accept those who have a right to be served.  So the limit is raised as far as the system lets us,
and strangers get a share of it: half is for files.
"""

from __future__ import annotations

import resource

WANTED = 65536  # more would be of no use here, and some systems refuse to name the most there can be
CONNECTIONS_SHARE = 6  # a server takes 2 descriptors for each of its `connections`, and 1 for the refused


def raise_limit() -> int:
    """Raise the soft limit as far as is allowed and useful; returns what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            return soft
        return wanted
    return WANTED if soft == resource.RLIM_INFINITY else soft


def connections_within(descriptors: int, wanted: int) -> int:
    """How many connections a server may keep for those with a token, so that half stays for files."""
    return max(1, min(wanted, descriptors // CONNECTIONS_SHARE))


def control_connections_within(descriptors: int) -> int:
    """How many connections the master's control port may have, next to its files and its HTTP port."""
    return max(16, descriptors // 3)
