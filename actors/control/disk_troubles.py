"""Disk troubles: what the master tells operators about a disk when the disk registers or reports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from warehouse.actors.control.events import EventLog
from warehouse.actors.control.fleet_state import DiskState, VolumeState
from warehouse.actors.control.troubles import Troubles

NAMED_MAX = 5  # volumes in one sentence


def tell_whether_in_doubt(troubles: Troubles, disk: DiskState) -> None:
    """A disk has reported: tell operators when it takes no more writes."""
    if not disk.is_in_doubt:
        troubles.over("disk_in_doubt", disk.disk_id)
    elif ("disk_in_doubt", disk.disk_id) not in troubles:
        troubles.tell(
            "disk_in_doubt",
            disk.disk_id,
            f"disk {disk.name} takes no more writes: {disk.cause}. Its objects can still be read. Check the"
            " disk, and restart its volume actor when the disk is sound",
            disk=disk.name,
        )


def tell_missing(troubles: Troubles, disk: DiskState, broken: Mapping[int, str]) -> None:
    """A disk has registered: tell operators which of its volumes cannot be read.

    Args:
        broken: volumes that the actor could not open, and why.
    """
    missing = sorted(
        volume.volume_id
        for volume in disk.volumes.values()
        if volume.report is None and volume.is_open_in_catalog
    )
    if not missing:
        troubles.over("volumes_missing", disk.disk_id)
        return
    named = [f"volume {number} ({broken.get(number, 'it is not there')})" for number in missing[:NAMED_MAX]]
    more = f" and {len(missing) - NAMED_MAX} more" if len(missing) > NAMED_MAX else ""
    troubles.tell(
        "volumes_missing",
        disk.disk_id,
        f"disk {disk.name} cannot open {', '.join(named)}{more}: the objects in there cannot be read. The"
        " disk serves its other volumes",
        disk=disk.name,
    )


def tell_certificate_refused(troubles: Troubles, subject: str, whose: str, refusal: str) -> None:
    """An actor with a certificate of the operator's has looked at its files: tell whether it refuses them.

    Args:
        whose: the actor, in words.
        refusal: why; "": it shows what is there.
    """
    if not refusal:
        troubles.over("certificate_refused", subject)
        return
    troubles.tell(
        "certificate_refused",
        subject,
        f"{whose} refuses the certificate in tls.certificate as it is now, and shows the one before until"
        f" that ends: {refusal}. Put a good pair in its place; it is read again by itself",
        whose=whose,
    )


class SealedVolumes:
    """Records one event when a volume is sealed."""

    def __init__(self, events: EventLog) -> None:
        self._events = events
        self._told: set[int] = set()

    def tell(self, disk: DiskState, volumes: Iterable[VolumeState]) -> None:
        for volume in volumes:
            cause = volume.report.sealed_cause if volume.report is not None else None
            if cause is None:
                self._told.discard(volume.volume_id)
            elif volume.volume_id not in self._told:
                self._told.add(volume.volume_id)
                self._events.record("volume_sealed", volume_id=volume.volume_id, disk=disk.name, cause=cause)
