"""Event words: what an event of the store says in plain words, and what it is about.  Pure.

    told(Event(name="bucket_created", fields={"bucket": "photos"}))
    -> Told("Bucket photos created"), with a link at "photos"

Names of buckets, keys and disks are what people chose: they are pieces of their own, and stay text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from warehouse import Event
from warehouse.conf.formatting import format_size, format_span
from warehouse.webui.names import bucket_url, object_url

Value = str | int | float | bool | None
Fields = Mapping[str, Value]

KINDS = ("problems", "disks", "jobs", "buckets", "other")  # by which people filter

# {field} is the field's text; a field with a page of its own becomes a link.
_SENTENCES: dict[str, tuple[str, str, str]] = {
    # name: (kind of people's filter, colour, sentence)
    "disk_online": ("disks", "good", "{disk} is online"),
    "disk_offline": ("disks", "bad", "{disk} went offline"),
    "compactor_online": ("disks", "", "The compactor of {disk} is connected"),
    "compactor_offline": ("disks", "warn", "The compactor of {disk} has gone"),
    "volume_opened": ("disks", "", "Volume {volume_id} made on {disk}"),
    "volume_sealed": ("disks", "warn", "Volume {volume_id} on {disk} takes no more writes: {cause}"),
    "volume_not_made": ("disks", "warn", "No volume could be made on {disk}: {message}"),
    "volumes_missing": ("disks", "bad", "{message}"),
    "disk_in_doubt": ("disks", "bad", "{message}"),
    "compaction_started": ("jobs", "", "Compacting volume {volume_id} on {disk}"),
    "compaction_progress": ("jobs", "quiet", "Volume {volume_id} compacted by {share}"),
    "compaction_finished": ("jobs", "", "Volume {volume_id} compacted, {freed_bytes} free again"),
    "compaction_failed": ("jobs", "bad", "Volume {volume_id} not compacted: {message}"),
    "compaction_requeued": ("jobs", "warn", "Compaction of volume {volume_id} waits again: {message}"),
    "verification_started": ("jobs", "", "Verifying volume {volume_id} on {disk}"),
    "verification_progress": ("jobs", "quiet", "Volume {volume_id} verified by {share}"),
    "verification_finished": ("jobs", "", "Volume {volume_id} verified, {damaged}"),
    "verification_failed": ("jobs", "bad", "Volume {volume_id} not verified: {message}"),
    "verification_requeued": ("jobs", "warn", "Verification of volume {volume_id} waits again: {message}"),
    "job_stalled": ("jobs", "warn", "Job {job_id} on volume {volume_id} stands still: {message}"),
    "volume_unverified": ("jobs", "warn", "Volume {volume_id} could not be verified: {message}"),
    "jobs_paused": ("jobs", "warn", "Compaction and verification paused"),
    "jobs_resumed": ("jobs", "", "Compaction and verification resumed"),
    "damage_found": ("problems", "bad", "Damage found in volume {volume_id}: {object}{problem}"),
    "orphans_found": ("other", "", "{count} pieces without an object in volume {volume_id}, {kept}"),
    "orphans_kept": ("problems", "warn", "{message}"),
    "orphans_decided": ("other", "", "Pieces without an object: {decision}"),
    "uploads_expired": ("buckets", "", "{count} unfinished uploads ended"),
    "stamp_refused": ("problems", "bad", "{message}"),
    "disk_behind": ("problems", "bad", "{message}"),
    "disk_unknown": ("problems", "bad", "{message}"),
    "disk_twice": ("problems", "bad", "{message}"),
    "disk_pinned": ("problems", "bad", "{message}"),
    "disk_url_changed": ("problems", "warn", "{message}"),
    "not_promised": ("problems", "bad", "{message}"),
    "disk_confirmed": ("disks", "", "{disk} is at {url} now, says an operator"),
    "disk_removed": ("disks", "warn", "{disk} removed for good"),
    "node_joined": ("disks", "good", "{node} joined from {host}"),
    "node_removed": ("disks", "warn", "{node} removed"),
    "join_token_made": ("disks", "", "Join token {token_id} made"),
    "join_token_removed": ("disks", "", "Join token {token_id} removed"),
    "catalog_behind": ("problems", "bad", "{message}"),
    "clock_skew": ("problems", "warn", "{message}"),
    "catalog_unlinked": ("problems", "bad", "{message}"),
    "catalog_full": ("problems", "bad", "{message}"),
    "trouble_over": ("other", "good", "Over: {trouble}"),
    "logins_failed": ("problems", "warn", "Failed sign-ins within a minute: {count}, most from {address}"),
    "bucket_created": ("buckets", "", "Bucket {bucket} created"),
    "bucket_deleted": ("buckets", "", "Bucket {bucket} deleted"),
    "quota_set": ("buckets", "", "Quota of {bucket}: {quota}"),
    "master_unreachable": ("problems", "bad", "The store does not answer"),
    "master_reached": ("other", "good", "The store answers again"),
    "master_restarted": ("other", "warn", "The master was started again"),
    "events_missed": ("other", "warn", "{count} events were missed"),
}


@dataclass(frozen=True)
class Piece:
    """A piece of a sentence; with a path below the console's root, a link."""

    text: str
    path: str = ""


@dataclass(frozen=True)
class Told:
    """An event in words.

    Attributes:
        group: one of KINDS; what is bad is also a problem.
        colour: "good", "warn", "bad", "quiet" or "".
    """

    sequence: int
    at_ms: int
    name: str
    group: str
    colour: str
    pieces: tuple[Piece, ...]

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    @property
    def groups(self) -> str:
        """The words by which a filter finds it."""
        return f"{self.group} problems" if self.colour in ("bad", "warn") else self.group

    @property
    def is_progress(self) -> bool:
        return self.colour == "quiet"

    def fits(self, find: str, group: str, *, has_progress: bool = True) -> bool:
        """Does it hold these words, whatever their case, and is it of this kind? "" and "": all."""
        return (
            find.lower() in self.text.lower()
            and (not group or group in self.groups.split())
            and (has_progress or not self.is_progress)
        )

    def fields(self) -> dict[str, object]:
        """For a message to a page."""
        return {
            "sequence": self.sequence,
            "at_ms": self.at_ms,
            "name": self.name,
            "groups": self.groups,
            "colour": self.colour,
            "pieces": [[piece.text, piece.path] for piece in self.pieces],
        }


def told(event: Event) -> Told:
    """The event in words; one of a newer release is told by its name and fields."""
    group, colour, sentence = _SENTENCES.get(event.name, ("other", "", ""))
    pieces = tuple(_pieces(sentence, event.fields)) if sentence else _unknown(event)
    if event.fields.get("damaged_count"):
        colour = "bad"
    elif event.fields.get("code") == "cancelled":
        colour = "warn"
    return Told(event.sequence, event.at_ms, event.name, group, colour, pieces)


def _unknown(event: Event) -> tuple[Piece, ...]:
    details = ", ".join(f"{name} {value}" for name, value in event.fields.items() if value is not None)
    words = event.name.replace("_", " ").capitalize()
    return (Piece(f"{words}: {details}" if details else words),)


def _pieces(sentence: str, fields: Fields) -> list[Piece]:
    found = []
    for literal, name in re.findall(r"([^{]*)(?:\{(\w+)\})?", sentence):
        if literal:
            found.append(Piece(literal))
        if name:
            found.append(_SPECIAL.get(name, _plain_of(name))(fields))
    return [piece for piece in found if piece.text]


def _plain_of(name: str) -> Callable[[Fields], Piece]:
    def plain(fields: Fields) -> Piece:
        value = fields.get(name)
        if value is None:
            return Piece("?")
        if isinstance(value, int) and not isinstance(value, bool):
            return Piece(format_size(value) if name.endswith("_bytes") else f"{value:,}")
        return Piece(str(value))

    return plain


def _disk(fields: Fields) -> Piece:
    return Piece(str(fields.get("disk") or fields.get("disk_id") or "a disk"), "/volumes")


def _volume(fields: Fields) -> Piece:
    return Piece(str(fields.get("volume_id", "?")), "/volumes")


def _bucket(fields: Fields) -> Piece:
    name = str(fields.get("bucket") or "")
    return Piece(name, bucket_url(name)) if name else Piece("of another account")


def _object(fields: Fields) -> Piece:
    bucket, key = fields.get("bucket"), fields.get("key")
    if isinstance(bucket, str) and isinstance(key, str):
        return Piece(f"{bucket}/{key} ", object_url(bucket, key))
    return Piece("")


def _share(fields: Fields) -> Piece:
    done, total = fields.get("done_bytes"), fields.get("total_bytes")
    if isinstance(done, int) and isinstance(total, int) and total > 0:
        return Piece(f"{min(100, 100 * done // total)} %")
    return Piece("a part")


def _damaged(fields: Fields) -> Piece:
    count = fields.get("damaged_count")
    return Piece(f"{count:,} damaged" if isinstance(count, int) and count else "no damage")


def _quota(fields: Fields) -> Piece:
    size, count = fields.get("quota_bytes"), fields.get("quota_objects")
    words = [format_size(size)] if isinstance(size, int) else []
    words += [f"{count:,} objects"] if isinstance(count, int) else []
    return Piece(" and ".join(words) or "none")


def _kept(fields: Fields) -> Piece:
    return Piece("kept" if fields.get("is_kept") else "to be removed")


def _trouble(fields: Fields) -> Piece:
    return Piece(str(fields.get("trouble", "a trouble")).replace("_", " "))


def _skew(fields: Fields) -> Piece:
    value = fields.get("skew_s")
    return Piece(format_span(abs(value)) if isinstance(value, int | float) else "?")


_SPECIAL: dict[str, Callable[[Fields], Piece]] = {
    "disk": _disk,
    "volume_id": _volume,
    "bucket": _bucket,
    "object": _object,
    "share": _share,
    "damaged": _damaged,
    "quota": _quota,
    "kept": _kept,
    "trouble": _trouble,
    "skew_s": _skew,
}
