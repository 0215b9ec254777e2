"""Times: how a program names the moment since which it wants to know something.  Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def since_ms(since: datetime | timedelta | None) -> int:
    """Milliseconds since 1970.

    Args:
        since: a moment, local without a zone; or how long ago.  None: long ago.
    """
    if since is None:
        return 0
    moment = datetime.now(UTC) - since if isinstance(since, timedelta) else since
    return max(0, int(moment.timestamp() * 1000))
