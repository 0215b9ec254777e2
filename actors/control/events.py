"""Events: what happened lately that an operator may want to know of.

The log is a ring of the latest events, which each start of the master numbers from 1.  A follower asks for
the events after the last number that it saw, and waits.  Names and fields are stable; an event omits the
fields that are not known.

    name                     fields
    disk_online              disk, disk_id, url
    disk_offline             disk, disk_id
    compactor_online         disk, disk_id
    compactor_offline        disk, disk_id
    volume_opened            volume_id, disk
    volume_sealed            volume_id, disk, cause
    volume_not_made          disk, message
    volumes_missing          disk, message
    disk_in_doubt            disk, message
    compaction_started       job_id, volume_id, disk, origin, total_bytes
    compaction_progress      job_id, volume_id, disk, state, done_bytes, total_bytes, bytes_per_s
    compaction_finished      job_id, volume_id, disk, freed_bytes, pause_ms, damaged_count
    compaction_failed        job_id, volume_id, disk, code, message; a cancelled one has the code "cancelled"
    compaction_requeued      job_id, volume_id, disk, code, message
    verification_started     as compaction_started
    verification_progress    as compaction_progress
    verification_finished    job_id, volume_id, disk, damaged_count
    verification_failed      as compaction_failed
    verification_requeued    as compaction_requeued
    job_stalled              job_id, volume_id, disk, state, message
    volume_unverified        job_id, volume_id, disk, message
    damage_found             volume_id, offset, problem, needle_id, bucket, key
    orphans_found            volume_id, count, is_kept
    uploads_expired          count
    jobs_paused              (none)
    jobs_resumed             (none)
    stamp_refused            disk, disk_id, message: a disk sent a stamp that no sound clock can show
    disk_behind              disk, disk_id, url, message: refused, it lacks acknowledged needles
    disk_unknown             disk, disk_id, url, message: refused, it was registered with another catalog
    disk_twice               disk, disk_id, url, message: two actors claim to be one disk
    disk_pinned              disk, disk_id, url, message: refused, the disk belongs to another node's key
    disk_url_changed         disk, disk_id, url, message: refused, it says to be at another host than before
    not_promised             disk, disk_id, count, cause, message: needles that nobody was promised
    disk_confirmed           disk, disk_id, url, key_id: an operator says that the disk is there
    disk_removed             disk, disk_id, key_id: it was gone for good, and is forgotten with what was on it
    node_joined              node, key, host, disk_id
    node_removed             node, key, key_id
    join_token_made          token_id, role, key_id
    join_token_removed       token_id, key_id
    catalog_behind           disk, disk_id, message: the catalog is older than a disk; nothing is written
    clock_skew               disk, disk_id, skew_s, message
    orphans_kept             volume_id, count, message: too many for a crash, so an operator has to decide
    orphans_decided          decision
    catalog_unlinked         message: the catalog's files are not where the next start would look for them
    trouble_over             trouble, subject: the trouble that an event of that name told of is over
    catalog_full             free, message
    logins_failed            count, address: in the last minute; the address with the most
    bucket_created           bucket
    bucket_deleted           bucket
    quota_set                bucket, quota_objects, quota_bytes; missing: any amount
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import trio

from warehouse.auth.rights import BucketLike
from warehouse.transport.messages import Event

REMEMBERED_MAX = 1000
LISTED_MAX = 1000
WAIT_S_MAX = 60.0  # a longer wait is cut to this; a follower asks again

Field = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Entry:
    """An event as the master keeps it.

    Attributes:
        bucket: the one that the event names; a later bucket of that name is another one.
    """

    event: Event
    bucket: BucketLike | None = None


class EventLog:
    """
    Attributes:
        on_record: called with the name of each event.
    """

    def __init__(self, *, remembered_max: int = REMEMBERED_MAX) -> None:
        self._ring: deque[Entry] = deque(maxlen=remembered_max)
        self._last = 0
        self._news = trio.Event()
        self.on_record: list[Callable[[str], None]] = []

    @property
    def last(self) -> int:
        """The number of the latest event, 0 before the first."""
        return self._last

    def record(self, name: str, of_bucket: BucketLike | None = None, /, **fields: Field) -> None:
        """
        Args:
            of_bucket: the bucket whose name, and whose keys, are among the fields.  Only who sees that bucket
                is shown them (`sight.py`).
        """
        self._last += 1
        known: dict[str, Field] = {field: value for field, value in fields.items() if value is not None}
        event = Event(sequence=self._last, at_ms=time.time_ns() // 1_000_000, name=name, fields=known)
        self._ring.append(Entry(event, of_bucket))
        self._news.set()
        self._news = trio.Event()
        for tell in self.on_record:
            tell(name)

    def after(self, sequence: int, limit: int) -> list[Entry]:
        """Up to `limit` remembered events after number `sequence`, oldest first.

        A number that this master has not reached comes from an earlier one: that follower has seen no event
        of this master.
        """
        if sequence > self._last:
            sequence = 0
        skipped = max(0, sequence - (self._last - len(self._ring)))
        return list(islice(self._ring, skipped, skipped + max(1, min(limit, LISTED_MAX))))

    async def wait_after(self, sequence: int, limit: int, wait_s: float) -> list[Entry]:
        """As `after`, but wait up to `wait_s` seconds for the first event."""
        with trio.move_on_after(max(0.0, min(wait_s, WAIT_S_MAX))):
            while not (found := self.after(sequence, limit)):
                await self._news.wait()
            return found
        return []
