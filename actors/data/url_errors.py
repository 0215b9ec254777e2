"""URL words: what a refusal says to somebody who holds a URL and knows nothing of needles and volumes.

Code and status stay what they are; only the sentence is another.  It says what became of the URL, and what
to do.
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
    StoreError,
    TokenExpired,
    TokenInvalid,
    VolumeFull,
    VolumeOffline,
    VolumeSealed,
    WriteFailed,
)

ASK = "ask whoever made it for a new one"
_MOVED = f"the place that this URL was made for takes no more data: {ASK}"
_FULL = f"the place that this URL was made for is full: {ASK}"

_SENTENCES: dict[type[StoreError], str] = {
    NeedleExists: "this URL was used already: a URL for storing stores once, and what it stored stays. To"
    f" store something else, {ASK}",
    NeedleVoid: f"this URL was used or given up, and what it was for is deleted: {ASK}",
    NoSuchNeedle: f"the object was replaced or deleted after this URL was made: {ASK}",
    NoSuchObject: f"the object was replaced or deleted after this URL was made: {ASK}",
    NoSuchVolume: f"what this URL leads to is not on this server: {ASK}",
    TokenInvalid: "this URL was not made for this server, or was changed: use it exactly as it was given,"
    f" with its host and port, or {ASK}",
    VolumeFull: _FULL,
    DiskFull: _FULL,
    LeaseExhausted: f"this URL was begun with too often: {ASK}",
    VolumeSealed: _MOVED,
    VolumeOffline: "part of this object is on a machine that is offline now: try again later",
    WriteFailed: f"the server could not write what came: try again, or {ASK}",
}


def for_url_holder(error: StoreError) -> StoreError:
    """The same refusal, for a request that showed its token in the URL."""
    if isinstance(error, TokenExpired):
        ago = str(error).partition("expired ")[2] or "some time ago"
        return TokenExpired(f"this URL expired {ago}: {ASK}")
    sentence = _SENTENCES.get(type(error))
    return error if sentence is None else type(error)(sentence)
