"""Messages about changes: a client hears at once that something that it sees has changed.

Both questions are long polls.  The first one, with `after` -1, is answered at once with where the changes
are; each of the next ones names the `next_after` of the one before.
"""

from __future__ import annotations

from typing import Annotated

from warehouse.transport.messages.base import Message
from warehouse.transport.messages.numbers import Signed, Whole
from warehouse.transport.messages.texts import Few, Key, Many, Name, Url, Word


class WatchBucket(Message, frozen=True, tag="watch_bucket"):
    """Which objects below a prefix were stored, replaced or deleted; if none, wait at most `wait_s`."""

    bucket: Name
    prefix: Key = ""
    after: Signed = -1
    wait_s: float = 0.0


class BucketChanged(Message, frozen=True, tag="bucket_changed"):
    next_after: Signed
    count: Whole = 0  # keys that changed; 0: none did
    keys: Annotated[list[Key], Few] = []  # some of them, the latest first
    is_missed: bool = False  # the master does not know what changed after `after`: look again


class WatchStore(Message, frozen=True, tag="watch_store"):
    """Whether the buckets that the asker sees, or API keys, have changed; if not, wait at most `wait_s`."""

    after: Signed = -1
    wait_s: float = 0.0
    subjects: Annotated[list[Word], Few] = []  # only these; none: those that need not be asked for


class StoreChanged(Message, frozen=True, tag="store_changed"):
    next_after: Signed
    # "buckets", "key" (the asker's own), "keys"; to those who ask for them, "disks", "nodes", "jobs".
    subjects: Annotated[list[Word], Few] = []
    buckets: Annotated[list[Name], Few] = []  # names of some of those buckets, the latest first
    is_missed: bool = False  # as in `BucketChanged`


class ListDataUrls(Message, frozen=True, tag="list_data_urls"):
    """Where are the data ports of the disks that are online?"""


class DataUrls(Message, frozen=True, tag="data_urls"):
    urls: Annotated[list[Url], Many]
    s3_urls: Annotated[list[Url], Many] = []  # of the gateways that are connected
