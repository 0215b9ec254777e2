"""The pages of disks and nodes: volumes, jobs, joining, removing; who is shown what."""

from __future__ import annotations

import os
import signal
import tomllib

import pytest
from playwright.sync_api import Page, expect

import warehouse
from console_kit import ConsoleStore

POST = """async ([path, form]) => {
  const body = new URLSearchParams({ ...form, csrf: document.body.dataset.csrf });
  return (await fetch(path, { method: "POST", body, headers: { Accept: "application/json" } })).status;
}"""


def filled(console: ConsoleStore, bucket: str) -> None:
    """Objects, half of them deleted again."""
    console.put(bucket, {f"{number}": b"x" * 100_000 for number in range(60)})

    async def delete(store: warehouse.Store) -> None:
        await store.bucket(bucket).delete_many(f"{number}" for number in range(40))

    console.ask(delete)


def test_the_volumes_of_a_disk_open_below_it(console: ConsoleStore, page: Page) -> None:
    filled(console, "opens")
    console.sign_in(page, path="/volumes")
    expect(page.get_by_text("all online")).to_be_visible()
    disk = page.get_by_role("region", name="disk-1")
    expect(disk.get_by_role("img")).to_be_visible()
    disk.get_by_role("link", name="volume").click()
    expect(disk.get_by_role("columnheader", name="Last verified")).to_be_visible()
    page.reload()
    expect(disk.get_by_role("columnheader", name="Last verified")).to_be_visible()
    disk.get_by_role("link", name="volume").click()
    expect(disk.get_by_role("columnheader", name="Last verified")).to_have_count(0)


def test_a_compaction_and_a_verification_run_to_their_ends(console: ConsoleStore, page: Page) -> None:
    filled(console, "runs")
    console.sign_in(page, path="/volumes")
    disk, jobs = (
        page.get_by_role("region", name="disk-1"),
        page.get_by_role("region", name="Compaction and verification"),
    )
    disk.get_by_role("link", name="volume").click()
    expect(page.get_by_role("cell", name="never").first).to_be_visible()
    page.get_by_role("button", name="Compact all").click()
    expect(jobs).to_contain_text("compacted")
    page.get_by_role("button", name="Verify disk-1").click()
    expect(page.get_by_text("Verification of")).to_be_visible()
    expect(jobs).to_contain_text("no damage")
    disk.get_by_role("link", name="volume").click()
    expect(page.get_by_role("cell", name="never")).to_have_count(0)
    disk.get_by_role("button", name="Verify volume").first.click()
    expect(disk.get_by_role("columnheader", name="Last verified")).to_be_visible()  # it stays open


def test_jobs_are_paused_resumed_and_cancelled(console: ConsoleStore, page: Page) -> None:
    filled(console, "pauses")
    console.ask(lambda store: store.pause_jobs())
    console.sign_in(page, path="/volumes")
    jobs = page.get_by_role("region", name="Compaction and verification")
    page.get_by_role("button", name="Verify all").click()
    expect(jobs.get_by_role("button", name="Cancel: volume").first).to_be_visible()
    expect(jobs).to_contain_text("paused")
    jobs.get_by_role("button", name="Cancel: volume").first.click()
    expect(jobs).to_contain_text("cancelled")
    jobs.get_by_role("button", name="Resume").click()
    expect(jobs).not_to_contain_text("paused")


def test_a_machine_gets_a_token_and_what_to_paste_once(console: ConsoleStore, page: Page) -> None:
    console.sign_in(page, path="/volumes")
    page.get_by_role("link", name="Add a disk").click()
    page.get_by_label("Folder of the disk").fill("/srv/with space")
    page.get_by_label("Address of that machine").fill("stor-b.example")
    page.get_by_label("The token is good for").select_option("1 hour")
    page.get_by_role("button", name="Make a token").click()
    token = page.get_by_role("button", name="Copy the token").get_attribute("data-copies")
    copied = page.get_by_role("button", name="Copy: Write the join file").get_attribute("data-copies") or ""
    assert tomllib.loads(copied.partition("'JOIN'\n")[2].partition("\nJOIN")[0])["token"] == token
    start = page.get_by_role("button", name="Copy: Start the disk").get_attribute("data-copies") or ""
    assert "--disk '/srv/with space' --join join.toml" in start
    assert "://stor-b.example:7410" in start
    assert str(token) not in page.url
    page.reload()
    expect(page.get_by_role("heading", name="The token was shown already")).to_be_visible()
    assert str(token) not in page.content()
    token_id = page.url.rpartition("/")[2]
    page.goto(console.url + "/nodes")
    page.get_by_role("link", name=f"Revoke {token_id}").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(page.get_by_role("link", name=f"Revoke {token_id}")).to_have_count(0)


def test_a_disk_that_is_online_is_not_removed(console: ConsoleStore, page: Page) -> None:
    console.sign_in(page, path="/volumes")
    expect(page.get_by_role("link", name="Remove")).to_have_count(0)
    disk = console.ask(lambda store: store.status()).disks[0]
    page.goto(f"{console.url}/volumes/disks/{disk.disk_id}/remove")
    expect(page.get_by_role("heading", name="This disk is online")).to_be_visible()
    assert page.evaluate(POST, [f"/volumes/disks/{disk.disk_id}/remove", {"typed": disk.name}]) == 409


def test_a_reader_of_the_store_sees_disks_and_no_button(console: ConsoleStore, page: Page) -> None:
    console.sign_in(page, console.make_key("looks", preset="read-only"), "/volumes")
    expect(page.get_by_role("region", name="disk-1")).to_be_visible()
    for name in ("Compact", "Verify", "Add a disk", "Pause"):
        expect(page.get_by_role("button", name=name)).to_have_count(0)
    for path in (
        "/jobs/start",
        "/jobs/pause",
        "/jobs/cancel",
        "/volumes/add",
        "/nodes/remove",
    ):
        form = {"work": "compact", "folder": "/x", "job": "1"}
        assert page.evaluate(POST, [path, form]) == 403, path


@pytest.mark.parametrize(
    "wish", [{"preset": "reader"}, {"preset": "upload-only"}, {"grants": ["nowhere-*:read"]}]
)
def test_who_may_not_see_the_store_is_refused(
    console: ConsoleStore, page: Page, wish: dict[str, object]
) -> None:
    console.sign_in(page, console.make_key("sees nothing", **wish), "/buckets")
    expect(page.get_by_role("link", name="Disks")).to_have_count(0)
    for path in ("/volumes", "/nodes", "/volumes/add", "/volumes/jobs"):
        answer = page.goto(console.url + path)
        assert answer is not None
        assert answer.status == 403, path


def test_a_disk_that_is_gone_says_what_is_lost_and_wants_its_name_typed(
    console: ConsoleStore, page: Page
) -> None:
    async def leave_this_alone(store: warehouse.Store) -> None:
        for bucket in await store.buckets():  # the page lists the first of what is lost
            await store.delete_bucket(bucket.name, force=True)

    console.ask(leave_this_alone)
    console.put("goes", {"<b>lost</b>.txt": b"x" * 2048})
    console.sign_in(page, path="/volumes")
    expect(page.get_by_text("all online")).to_be_visible()
    stopped = [pid for name, pid in console.store.pids().items() if name in ("disk-1", "compactor-1")]
    assert stopped
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        page.get_by_role("link", name="Remove").click(timeout=60_000)  # it comes by itself
        expect(page.get_by_role("heading", name="are lost")).to_be_visible()
        expect(page.get_by_role("cell", name="goes/<b>lost</b>.txt")).to_be_visible()
        page.get_by_label("Type disk-1 to confirm").fill("disk-2")
        page.get_by_role("button", name="Remove disk-1").click()
        expect(page.get_by_role("alert")).to_contain_text("Type disk-1 to remove it")
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    page.goto(console.url + "/volumes")
    expect(page.get_by_role("region", name="disk-1").get_by_text("online", exact=True)).to_be_visible()
