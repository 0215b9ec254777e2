"""Descriptors: how many files and sockets this process may have open, and how many of them are connections.

Every connection is a descriptor, and so is every file.  A process without a free descriptor can neither open
its files nor accept clients that have a right to be served.  So each process raises its limit as far as the
system allows, and keeps half of the descriptors for files.
"""

from __future__ import annotations

import resource

WANTED = 65536  # more would be of no use, and some systems do not say how many they allow
CONNECTIONS_SHARE = 6  # half for files; per `connections`: a holder, a stranger, and one being refused


def raise_limit() -> int:
    """Raise the soft limit as far as is allowed and useful; return the new limit."""
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
    """Return how many connections with a token a server may keep, so that half stays for files."""
    return max(1, min(wanted, descriptors // CONNECTIONS_SHARE))


def control_connections_within(descriptors: int) -> int:
    """Return how many connections the control port of the master may have, next to files and HTTP port."""
    return max(16, descriptors // 3)
