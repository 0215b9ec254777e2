"""URL errors: refusals in the words of somebody who holds a URL and knows nothing of needles and volumes.

Code and status stay the same; only the message changes.  It says what became of the URL, and what to do.
"""

from __future__ import annotations

from warehouse.errors import (
    DiskFull,
    LeaseExhausted,
    NeedleExists,
    NeedleVoid,
    NoSuchNeedle,
    NoSuchObject,
    NoSuchVolume,
    QuotaExceeded,
    StoreError,
    TokenExpired,
    TokenInvalid,
    TokenRevoked,
    TokenUsed,
    VolumeFull,
    VolumeOffline,
    VolumeSealed,
    WriteFailed,
)

ASK = "ask whoever made it for a new one"
_MOVED = f"the place that this URL leads to takes no more data: {ASK}"
_FULL = f"the place that this URL leads to is full: {ASK}"

_SENTENCES: dict[type[StoreError], str] = {
    NeedleExists: "this URL was used already: a URL stores once, and what it stored stays. To store"
    f" something else, {ASK}",
    NeedleVoid: f"this URL was used or given up, and its object was deleted: {ASK}",
    NoSuchNeedle: f"the object was replaced or deleted after this URL was made: {ASK}",
    NoSuchObject: f"the object was replaced or deleted after this URL was made: {ASK}",
    NoSuchVolume: f"the data of this URL is not on this server: {ASK}",
    TokenInvalid: "this URL was made for another server, or was changed: use it exactly as you got it,"
    f" with its host and port, or {ASK}",
    TokenRevoked: f"this URL is no longer good: its key has lost rights since it was made; {ASK}",
    TokenUsed: f"this URL works once, and was used, or its server was restarted: {ASK}",
    QuotaExceeded: _FULL,
    VolumeFull: _FULL,
    DiskFull: _FULL,
    LeaseExhausted: f"too many uploads were started with this URL: {ASK}",
    VolumeSealed: _MOVED,
    VolumeOffline: "part of this object is on a machine that is offline now: try again later",
    WriteFailed: f"the server could not write the data: try again, or {ASK}",
}


def for_url_holder(error: StoreError) -> StoreError:
    """The same refusal, for a request that carried its token in the URL."""
    if isinstance(error, TokenExpired):
        ago = str(error).partition("expired ")[2] or "some time ago"
        return TokenExpired(f"this URL expired {ago}: {ASK}")
    sentence = _SENTENCES.get(type(error))
    return error if sentence is None else type(error)(sentence)
