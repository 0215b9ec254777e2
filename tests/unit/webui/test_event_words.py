"""Events in words: every event that the master documents has a sentence, and names stay what they are."""

from __future__ import annotations

import re

import pytest

import warehouse.actors.control.events
from warehouse import Event
from warehouse.webui.csv_lines import csv_line
from warehouse.webui.event_words import KINDS, Piece, told

DOCUMENTED = re.findall(r"^    ([a-z_]+) {2,}\S", warehouse.actors.control.events.__doc__ or "", re.MULTILINE)


def event(name: str, **fields: str | int | float | bool | None) -> Event:
    return Event(sequence=1, at_ms=1, name=name, fields=fields)


def test_every_event_of_the_master_has_a_sentence_of_its_own() -> None:
    documented = [name for name in DOCUMENTED if name != "name"]
    assert len(documented) > 40
    for name in documented:
        words = told(event(name, message="Words of the master."))
        assert words.text != name.replace("_", " ").capitalize(), name
        assert words.group in KINDS
        assert "{" not in words.text, name


def test_a_bucket_is_a_link_and_its_name_is_text() -> None:
    assert told(event("bucket_created", bucket="photos")).pieces == (
        Piece("Bucket "),
        Piece("photos", "/buckets/photos"),
        Piece(" created"),
    )


def test_damage_leads_to_the_object_whatever_its_key() -> None:
    pieces = told(
        event("damage_found", volume_id=3, problem="bad CRC", bucket="b", key="../<b> 100%.txt")
    ).pieces
    assert Piece("b/../<b> 100%.txt ", "/buckets/b/objects/?key=..%2F%3Cb%3E+100%25.txt") in pieces


def test_a_verification_that_found_damage_is_bad_and_a_cancelled_job_is_not() -> None:
    assert told(event("verification_finished", volume_id=1, damaged_count=2)).colour == "bad"
    assert told(event("verification_finished", volume_id=1)).colour == ""
    assert told(event("compaction_failed", volume_id=1, code="cancelled", message="")).colour == "warn"


def test_an_event_of_a_newer_master_is_told_by_its_fields() -> None:
    assert told(event("moon_risen", phase="full", count=2)).text == "Moon risen: phase full, count 2"


@pytest.mark.parametrize("begin", ["=", "+", "-", "@"])
def test_a_cell_that_a_spreadsheet_would_calculate_is_text(begin: str) -> None:
    assert csv_line([f"{begin}1+1", "plain"]) == f"'{begin}1+1,plain\r\n"
