"""Reporting: what a disk reports to its master next.

Pure: the present state and the time go in; a report comes out, or None when there is nothing to say.  A
report contains only the volumes that changed, so its cost does not grow with their number.  A changed volume
is reported once more a little later, and all volumes from time to time, so that two sides that differ agree
again.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from warehouse.transport.messages import DiskReport, VolumeReport

REPEAT_S = (
    10.0  # after its latest change a volume is reported once more; also the longest pause between reports
)
WHOLE_S = 300.0  # between reports of all volumes


class Reporting:
    def __init__(self) -> None:
        self._told: dict[int, VolumeReport] = {}
        self._repeats: dict[int, float] = {}  # volume -> when to report it once more
        self._latest: DiskReport | None = None  # the latest that was delivered, with all volumes
        self._told_at = self._whole_at = float("-inf")

    def registered(self, volumes: Iterable[VolumeReport], *, now: float) -> None:
        """A master knows these volumes of this disk from the registration, and nothing else."""
        self._told = {report.volume_id: report for report in volumes}
        self._repeats.clear()
        self._latest = None
        self._whole_at = now

    def due(self, whole: DiskReport, *, now: float) -> DiskReport | None:
        """
        Args:
            whole: the disk as it is now.
        Returns:
            The part of it to send; None: nothing has changed, and the latest report is recent.
        """
        if now - self._whole_at >= WHOLE_S:
            return whole
        named = [
            report
            for report in whole.volumes
            if report != self._told.get(report.volume_id)
            or self._repeats.get(report.volume_id, now + 1) <= now
        ]
        latest = self._latest
        has_new_damages = latest is None or whole.damages != latest.damages
        is_changed = named or has_new_damages or latest is None or _head(whole) != _head(latest)
        if not is_changed and now - self._told_at < REPEAT_S:
            return None
        damages = whole.damages if has_new_damages else []
        return msgspec.structs.replace(whole, volumes=named, damages=damages)

    def delivered(self, report: DiskReport, whole: DiskReport, *, now: float) -> None:
        """The master has answered this report, which `due` made from `whole`."""
        for volume in report.volumes:
            if volume == self._told.get(volume.volume_id):
                self._repeats.pop(volume.volume_id, None)
            else:
                self._told[volume.volume_id] = volume
                self._repeats[volume.volume_id] = now + REPEAT_S
        if len(report.volumes) == len(whole.volumes):
            self._whole_at = now
        self._latest, self._told_at = whole, now


def _head(report: DiskReport) -> DiskReport:
    """The report without its volumes: what it says of the disk itself."""
    return msgspec.structs.replace(report, volumes=[], damages=[])
