"""Standing: how the store is, in a few words and a colour, and what is wrong with what to do.  Pure.

The first line of the overview answers "is the store well?".  `standing` finds all that is wrong, the worst
first; the first of it names the whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from warehouse import Status
from warehouse.conf.formatting import format_size

FULL_SHARE = 0.90  # of a disk in use; above, it is full soon
CATALOG_FREE_MIN = 1 << 30  # bytes

GOOD, WARN, BAD = "good", "warn", "bad"
_WORST_FIRST = {BAD: 0, WARN: 1, GOOD: 2}

# What the troubles of the master are called, and how bad they are.  Each brings its own advice.
_TROUBLES = {
    "catalog_behind": (BAD, "Catalog older than a disk"),
    "catalog_full": (BAD, "Catalog's disk full"),
    "catalog_unlinked": (BAD, "Catalog's files moved"),
    "certificate_refused": (WARN, "Certificate refused"),
    "clock_skew": (WARN, "Clocks apart"),
    "clock_spent": (BAD, "Clock out of range"),
    "stamp_refused": (BAD, "Clocks apart"),
    "disk_behind": (BAD, "Disk lacks objects"),
    "disk_in_doubt": (BAD, "Disk in doubt"),
    "disk_mismatch": (BAD, "Unknown disk"),
    "disk_pinned": (BAD, "Disk of another node"),
    "disk_removal_unfinished": (WARN, "Disk being removed"),
    "disk_twice": (BAD, "Disk claimed twice"),
    "disk_unknown": (BAD, "Unknown disk"),
    "disk_url_changed": (WARN, "Disk at another host"),
    "job_stalled": (WARN, "A job stands still"),
    "logins_failed": (WARN, "Many failed sign-ins"),
    "audit_failing": (BAD, "Audit log not written"),
    "not_promised": (BAD, "Unexpected objects on a disk"),
    "orphans_kept": (WARN, "A decision is wanted"),
    "volume_not_made": (WARN, "Volume not made"),
    "volume_unverified": (WARN, "Volume not verified"),
    "volumes_missing": (BAD, "Volumes missing"),
}


@dataclass(frozen=True)
class Concern:
    """Something that is wrong now.

    Attributes:
        kind: "warn" or "bad"; "good" stands for a store that is well.
        title: a few words, for the pill beside the heading.
        advice: what it means and what to do.
        path: of the page that shows more; "": there is none.
        since_ms: wall time; 0: unknown.
    """

    kind: str
    title: str
    advice: str = ""
    path: str = ""
    since_ms: int = 0


ALL_WELL = Concern(GOOD, "All well")


def standing(status: Status) -> list[Concern]:
    """All that is wrong, the worst first; `[ALL_WELL]` if nothing is."""
    found = [*_disks(status), *_damage(status), *_troubles(status), *_room(status), *_paused(status)]
    return sorted(found, key=lambda concern: _WORST_FIRST[concern.kind]) or [ALL_WELL]


def _disks(status: Status) -> Iterator[Concern]:
    disks = status.disks
    offline = [disk for disk in disks if not disk.is_online]
    if not disks:
        yield Concern(BAD, "No disk yet", "Nothing can be stored before a disk has joined.", "/volumes")
    elif len(offline) == len(disks):
        title = f"All {len(disks)} disks offline" if len(disks) > 1 else "The disk is offline"
        yield Concern(
            BAD,
            title,
            "Nothing can be read or stored. Look whether the machines run and reach the master.",
            "/volumes",
            min(disk.since_ms for disk in offline),
        )
    elif offline:
        yield Concern(
            WARN,
            f"{len(offline)} of {len(disks)} disks offline",
            f"Objects on {_named([disk.name for disk in offline])} cannot be read until it is back."
            " Look whether its machine runs and reaches the master.",
            "/volumes",
            min(disk.since_ms for disk in offline),
        )
    elif status.health == "down":
        yield Concern(BAD, "No disk takes writes", "Objects can be read, and none can be stored.", "/volumes")
    aside = [disk for disk in disks if disk.is_online and (disk.set_aside or disk.is_read_only)]
    for disk in aside[:3]:
        yield Concern(
            WARN, "Disk takes no writes", f"{disk.name}: {disk.set_aside or 'it is read-only'}", "/volumes"
        )


def _damage(status: Status) -> Iterator[Concern]:
    if status.damage_count:
        some = status.damages[0] if status.damages else None
        where = f" The first is in volume {some.volume_id}: {some.problem}." if some is not None else ""
        yield Concern(
            BAD,
            "Damage found",
            f"{status.damage_count:,} stored pieces cannot be read as they were written.{where}"
            " Store those objects again, or restore them from a backup.",
            "/volumes",
        )


def _troubles(status: Status) -> Iterator[Concern]:
    for trouble in status.troubles:
        kind, title = _TROUBLES.get(trouble.name, (WARN, trouble.name.replace("_", " ").capitalize()))
        text = trouble.message[:1].upper() + trouble.message[1:]
        yield Concern(kind, title, text if text.endswith(".") else f"{text}.", since_ms=trouble.since_ms)
    if (more := status.trouble_count - len(status.troubles)) > 0:
        yield Concern(WARN, f"{more:,} more troubles", "The command warehouse status counts all of them.")


def _room(status: Status) -> Iterator[Concern]:
    online = [disk for disk in status.disks if disk.is_online and disk.capacity > 0]
    full = [disk for disk in online if 1 - disk.free / disk.capacity >= FULL_SHARE]
    if full and len(full) == len(online):
        free = sum(disk.free for disk in online)
        yield Concern(
            WARN,
            "Full soon",
            f"{format_size(free)} are free on all disks. Add a disk, delete objects, or compact.",
            "/volumes",
        )
    elif full:
        names = _named([disk.name for disk in full])
        yield Concern(WARN, "A disk is full soon", f"{names}: new objects go to the other disks.", "/volumes")
    if status.catalog_free is not None and status.catalog_free < CATALOG_FREE_MIN:
        yield Concern(
            WARN,
            "Catalog's disk full soon",
            f"{format_size(status.catalog_free)} are free there. Nothing can be stored without room for the"
            " catalog.",
        )


def _paused(status: Status) -> Iterator[Concern]:
    if status.is_paused:
        yield Concern(
            WARN,
            "Upkeep is paused",
            "Disks are neither compacted nor verified until somebody resumes that.",
            "/activity/jobs",
        )


def _named(names: Sequence[str], most: int = 3) -> str:
    """Up to three names; the rest is counted."""
    rest = len(names) - most
    shown = [*names[:most], *([f"{rest} more"] if rest > 0 else [])]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
