"""Disks, nodes and jobs: what pages show of them, what a person does there, and what open pages hear."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import warehouse
from console_http import Socket, Visitor
from console_kit import ConsoleStore
from s3_kit import RunningGateway

JOB_PAGES = ("/volumes", "/activity/jobs")


def hears(live: Socket, topic: str) -> None:
    while not any(message["topic"] == topic for message in live.messages()):
        pass


def jobs_part(page: str) -> str:
    found = re.search(
        r'<section id="jobs".*?</section>|<section class="sheet" id="jobs".*?</section>', page, re.S
    )
    assert found is not None
    return found[0]


async def verify_all(store: warehouse.Store) -> None:
    await store.wait_jobs(await store.verify())


@pytest.mark.parametrize("path", JOB_PAGES)
def test_jobs_are_held_cancelled_and_let_go_on_from_each_page_that_shows_them(
    console: ConsoleStore, root: Visitor, path: str
) -> None:
    answer = root.post("/jobs/pause", {"back": path})
    assert (answer.status, answer.headers["location"]) == (303, path)
    assert root.post("/jobs/start", {"work": "verify", "back": path}).status == 303
    page = root.get(path).text
    assert "Verification of 1 volume waits: jobs are paused" in page
    shown = jobs_part(page)
    assert "paused" in shown
    found = re.search(r'name="job" value="(\d+)"', shown)
    assert found is not None
    assert root.post("/jobs/cancel", {"job": found[1], "back": path}).headers["location"] == path
    assert "cancelled" in jobs_part(root.get(path).text)
    assert root.post("/jobs/resume", {"back": path}).headers["location"] == path
    shown = jobs_part(root.get(path).text)
    assert "Pause all" in shown
    assert "Resume all" not in shown


def test_a_page_that_is_not_one_of_ours_is_nothing_to_go_back_to(root: Visitor) -> None:
    for back in ("//elsewhere.example", "https://elsewhere.example", "/sign-out"):
        assert root.post("/jobs/resume", {"back": back}).status == 400
    answer = root.post("/jobs/start", {"work": "verify", "back": "/volumes", "open": '"><script>'})
    assert answer.headers["location"] == "/volumes"


def test_jobs_of_a_disk_are_started_and_the_disk_stays_open(console: ConsoleStore, root: Visitor) -> None:
    disk_id = console.ask(lambda store: store.disks())[0].disk_id
    form = {"work": "verify", "what": "disk", "disk": disk_id, "back": "/volumes", "open": disk_id}
    assert root.post("/jobs/start", form).headers["location"] == f"/volumes?disk={disk_id}"
    assert (
        root.post("/jobs/start", {**form, "disk": "gone"}, {"Accept": "application/json"}).code
        == "no_such_disk"
    )


def test_who_may_not_manage_the_store_changes_no_job(console: ConsoleStore) -> None:
    reader = Visitor(console.url).sign_in(console.make_key("only looks", preset="read-only"))
    for path, form in (
        ("start", {"work": "verify"}),
        ("pause", {}),
        ("resume", {}),
        ("cancel", {"job": "1"}),
    ):
        assert reader.post(f"/jobs/{path}", form).status == 403, path
    for page in JOB_PAGES:
        assert "<button" not in jobs_part(reader.get(page).text)
    stranger = Visitor(console.url).sign_in(console.make_key("sees nothing", preset="reader"))
    for page in (*JOB_PAGES, "/volumes/jobs", "/nodes"):
        refused = stranger.get(page)
        assert refused.status == 403, page
        assert "This key may not " in refused.text, page
        assert "see_cluster" not in refused.text, page
        assert "manage_cluster" not in refused.text, page


def test_open_pages_hear_of_jobs_and_of_what_they_changed(console: ConsoleStore, root: Visitor) -> None:
    with Socket(root) as live:
        live.watch("jobs", "volumes")
        hears(live, "jobs")
        console.ask(verify_all)
        hears(live, "jobs")
        hears(live, "volumes")


def test_open_pages_hear_of_a_join_token(console: ConsoleStore, root: Visitor) -> None:
    with Socket(root) as live:
        live.watch("nodes")
        hears(live, "nodes")
        made = console.ask(lambda store: store.create_join_token())
        hears(live, "nodes")
        assert f"token-{made.token_id}" in root.get("/nodes").text


def test_a_disk_shows_its_sums_and_its_volumes_when_it_is_open(console: ConsoleStore, root: Visitor) -> None:
    console.put("sums", {"a": b"x" * 5000, "b": b"y" * 5000})
    disk_id = console.ask(lambda store: store.disks())[0].disk_id
    closed, opened = root.get("/volumes").text, root.get(f"/volumes?disk={disk_id}").text
    assert 'id="volume-' not in closed
    assert len(re.findall('id="volume-', opened)) >= 1
    count = len(console.ask(lambda store: store.status()).disks[0].volumes)
    assert re.search(rf">{count} volumes?</a>", closed)
    assert re.search(r"disk-1: [\d.]+ \w+ stored, ", closed)


def test_an_object_says_on_which_disk_it_lies(console: ConsoleStore, root: Visitor) -> None:
    console.put("placed", {"here.txt": b"text"})
    assert "disk-1" in root.get("/buckets/placed/objects/here.txt").text


def test_keys_and_accounts_are_paged_the_same_way(console: ConsoleStore, root: Visitor) -> None:
    async def make(store: warehouse.Store) -> None:
        for number in range(101):
            await store.create_account(f"paged-{number:03}")

    console.ask(make)
    first = root.get("/accounts").text
    assert "Next page" in first
    assert "First page" not in first
    found = re.search(r'href="(/accounts\?start=\d+)">Next page', first)
    assert found is not None
    last = root.get(found[1]).text
    assert 'href="/accounts">First page' in last
    assert "Next page" not in last
    assert root.get("/keys?start=nowhere").status == 400


def test_a_gateway_is_shown_as_such_and_where_it_is(
    console: ConsoleStore, root: Visitor, tmp_path: Path
) -> None:
    assert "Copy the S3 endpoint" not in root.get("/").text
    with RunningGateway(console.store, tmp_path) as gateway:
        page = root.get("/").text
        assert "Copy the S3 endpoint" in page
        assert gateway.url in page
        assert "S3 gateway" in root.get("/nodes").text
        status = console.ask(lambda store: store.status())
        assert [name.partition("@")[0] for name in status.gateways] == ["gateway"]
        assert console.ask(lambda store: store.s3_urls()) == [gateway.url]
