"""Reporting: which of a disk's figures its master has to be told next.

Pure: the figures of this moment and the time go in, a report comes out, or None when there is nothing to
say.  A report names only the volumes that changed, so what it costs both sides does not grow with their
number.  A volume that changed is named once more a little later, and all of them now and then: should the
two sides ever differ, they agree again.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from warehouse.transport.messages import DiskReport, VolumeReport

REPEAT_S = 10.0  # after its latest change a volume is named once more; a report is due at least this often
WHOLE_S = 300.0  # between reports that name all volumes


class Reporting:
    def __init__(self) -> None:
        self._told: dict[int, VolumeReport] = {}
        self._repeats: dict[int, float] = {}  # volume -> when to name it once more
        self._latest: DiskReport | None = None  # that was delivered, with all volumes
        self._told_at = self._whole_at = float("-inf")

    def registered(self, volumes: Iterable[VolumeReport], *, now: float) -> None:
        """A master has been told of these volumes, and knows nothing else of this disk."""
        self._told = {report.volume_id: report for report in volumes}
        self._repeats.clear()
        self._latest = None
        self._whole_at = now

    def due(self, whole: DiskReport, *, now: float) -> DiskReport | None:
        """
        Args:
            whole: everything as it is now.
        Returns:
            What of it is to be sent; None: nothing has changed, and the latest report is not old.
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
        """The master has answered this report, which was made of `whole`."""
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
    """What a report says of the disk itself."""
    return msgspec.structs.replace(report, volumes=[], damages=[])
