"""Event subjects: who has to look again after an event."""

from __future__ import annotations

import re

import pytest

from warehouse.actors.control import events
from warehouse.actors.control.event_subjects import SUBJECTS, subjects_of


@pytest.mark.parametrize(
    ("event", "subjects"),
    [
        ("disk_online", ("disks", "nodes")),
        ("compactor_offline", ("nodes",)),
        ("join_token_made", ("nodes",)),
        ("compaction_finished", ("jobs",)),
        ("verification_requeued", ("jobs",)),
        ("jobs_paused", ("jobs",)),
        ("compaction_progress", ()),
        ("bucket_created", ()),
        ("volume_opened", ("disks",)),
        ("trouble_over", ("disks",)),
    ],
)
def test_an_event_is_about_what_it_has_changed(event: str, subjects: tuple[str, ...]) -> None:
    assert subjects_of(event) == subjects


def test_every_event_that_is_listed_is_about_subjects_that_exist() -> None:
    names = re.findall(r"^    ([a-z]+_[a-z_]+)  ", events.__doc__ or "", re.MULTILINE)
    assert len(names) > 40
    assert {subject for name in names for subject in subjects_of(name)} == {*SUBJECTS}
