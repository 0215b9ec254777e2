"""Activity: events as they happen, the audit log, jobs; filters, pause and exports."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
from playwright.sync_api import Page, expect

import warehouse
from console_kit import ConsoleStore

MARKUP = "<img src=x onerror=alert(1)>.txt"


def shown(page: Page, words: str) -> None:
    expect(page.get_by_role("listitem").filter(has_text=words).first).to_be_visible()


def test_an_event_appears_as_it_happens_and_leads_to_what_it_is_about(
    console: ConsoleStore, page: Page
) -> None:
    console.sign_in(page, path="/activity")
    expect(page.locator("html")).to_have_attribute("data-socket", "on")
    shown(page, "disk-1 is online")  # a past one
    console.put("from-elsewhere", {})
    shown(page, "Bucket from-elsewhere created")
    page.get_by_role("link", name="from-elsewhere").first.click()
    page.wait_for_url(console.url + "/buckets/from-elsewhere")


def test_events_are_filtered_while_somebody_types_and_held_during_a_pause(
    console: ConsoleStore, page: Page
) -> None:
    console.put("seldom-seen", {})
    console.sign_in(page, path="/activity")
    expect(page.locator("html")).to_have_attribute("data-socket", "on")
    page.get_by_label("Find in events").fill("SELDOM")
    expect(page.get_by_role("listitem")).to_have_text([re.compile("Bucket seldom-seen created")])
    page.get_by_label("Find in events").fill("")
    page.get_by_label("Kind of events").select_option("disks")
    expect(page.get_by_role("listitem").filter(has_text="seldom-seen")).to_have_count(0)
    page.get_by_label("Kind of events").select_option("")
    page.get_by_role("button", name="Pause").click()
    console.put("made-in-a-pause", {})
    expect(page.get_by_text(re.compile("Paused, [1-9]"))).to_be_visible()
    expect(page.get_by_role("listitem").filter(has_text="made-in-a-pause")).to_have_count(0)
    page.get_by_role("button", name="Go on").click()
    shown(page, "Bucket made-in-a-pause created")


def test_events_are_exported_as_they_are_filtered(console: ConsoleStore, page: Page) -> None:
    console.put("exported", {})
    console.sign_in(page, path="/activity")
    page.get_by_label("Find in events").fill("exported")
    with page.expect_download() as started:
        page.get_by_role("link", name="JSON lines").click()
    lines = [json.loads(line) for line in started.value.path().read_text().splitlines()]
    assert [(line["name"], line["words"]) for line in lines] == [
        ("bucket_created", "Bucket exported created")
    ]
    with page.expect_download() as started:
        page.get_by_role("link", name="CSV").click()
    rows = [*csv.reader(io.StringIO(started.value.path().read_text()))]
    assert rows[0] == ["time", "name", "words"]
    assert len(rows) == 2


def test_the_audit_log_is_filtered_by_action_and_words_and_shows_names_as_text(
    console: ConsoleStore, page: Page
) -> None:
    console.put("audited", {MARKUP: b"1"})

    async def delete(store: warehouse.Store) -> None:
        await store.bucket("audited").delete(MARKUP)

    console.ask(delete)
    console.sign_in(page, path="/activity/audit")
    page.get_by_label("Action").select_option("objects_deleted")
    rows = page.locator("#audit-lines tbody tr")
    expect(rows.first).to_contain_text("deleted objects in")
    expect(rows.first).to_contain_text(MARKUP)
    page.get_by_label("Find in the log").fill("no such words")
    expect(page.get_by_role("heading", name="No such lines")).to_be_visible()
    page.get_by_label("Find in the log").fill("audited")
    expect(rows).to_have_count(1)


def test_the_audit_log_is_paged_from_its_new_end(console: ConsoleStore, page: Page) -> None:
    async def sign(store: warehouse.Store) -> None:
        for number in range(130):
            await store.bucket("signed").presign_put(f"{number}")

    console.put("signed", {})
    console.ask(sign)
    console.sign_in(page, path="/activity/audit?action=url_signed")
    rows = page.locator("#audit-lines tbody tr")
    expect(rows).to_have_count(100)
    expect(rows.first).to_contain_text("signed/129")
    page.get_by_role("link", name="Older").click()
    expect(rows).to_have_count(30)
    expect(rows.last).to_contain_text("signed/0")


def test_the_audit_log_is_exported_as_a_stream(console: ConsoleStore, page: Page) -> None:
    console.put("streamed", {})
    console.sign_in(page, path="/activity/audit")
    answer = page.request.get(console.url + "/activity/audit.jsonl?find=streamed&since=all")
    assert [json.loads(line)["target"] for line in answer.text().splitlines()] == ["wh://streamed"]
    table = page.request.get(console.url + "/activity/audit.csv?find=streamed").text()
    assert [row[1] for row in csv.reader(io.StringIO(table))] == ["action", "bucket_created"]


def test_jobs_are_shown_paused_and_resumed(console: ConsoleStore, page: Page) -> None:
    console.put("verified", {"a": b"1"})

    async def verify(store: warehouse.Store) -> None:
        await store.wait_jobs(await store.verify())

    console.sign_in(page, path="/activity/jobs")
    expect(page.locator("html")).to_have_attribute("data-socket", "on")
    console.ask(verify)
    row = page.get_by_role("row").filter(has_text="Verify").first
    expect(row).to_contain_text("done")
    expect(row).to_contain_text("no damage")
    page.get_by_role("button", name="Pause all").click()
    expect(page.get_by_role("button", name="Resume all")).to_be_visible()
    page.get_by_role("button", name="Resume all").click()
    expect(page.get_by_role("button", name="Pause all")).to_be_visible()


@pytest.mark.parametrize("preset", ["reader", "upload-only"])
def test_a_key_without_the_rights_is_told_so_and_refused(
    console: ConsoleStore, page: Page, preset: str
) -> None:
    console.sign_in(page, console.make_key(f"hears-{preset}", preset=preset), path="/activity")
    expect(page.get_by_role("heading", name="Nothing to see with this key")).to_be_visible()
    csrf = page.evaluate("document.body.dataset.csrf")
    own = {"Origin": console.url}
    for path in ("/activity/events.jsonl", "/activity/audit", "/activity/audit.csv", "/activity/jobs"):
        assert page.request.get(console.url + path).status == 403, path
    for path in ("pause", "resume", "cancel"):
        url = f"{console.url}/jobs/{path}"
        assert page.request.post(url, form={"csrf": csrf, "job": "1"}, headers=own).status == 403, path
