"""The pages of API keys: making, editing, rotating, ending, importing; who is shown what."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

import warehouse
from console_kit import ConsoleStore, watched_context
from warehouse.conf.profile import Profile

POST = """async ([path, form]) => {
  const body = new URLSearchParams({ ...form, csrf: document.body.dataset.csrf });
  return (await fetch(path, { method: "POST", body, headers: { Accept: "application/json" } })).status;
}"""


def key_named(console: ConsoleStore, name: str) -> warehouse.KeyInfo:
    async def find(store: warehouse.Store) -> warehouse.KeyInfo:
        return next(key for key in await store.keys() if key.name == name)

    return console.ask(find)


def test_a_key_is_made_and_its_secret_works_and_is_shown_once(
    console: ConsoleStore, page: Page, tmp_path: Path
) -> None:
    console.put("photos", {"2026/a": b"1"})
    console.sign_in(page, path="/keys")
    page.get_by_role("link", name="Create key").click()
    page.get_by_label("Name", exact=True).fill("thumbnails")
    page.get_by_role("radio", name="Only these").check()
    grant = page.get_by_role("group", name="Grant 1")
    grant.get_by_role("combobox", name="Bucket").fill("photos")
    grant.get_by_label("Names that begin with").fill("2026/")
    told = page.get_by_role("complementary", name="What it comes to")
    expect(told).to_contain_text("can read and list photos/2026/*")
    expect(told).to_contain_text(
        "warehouse keys create thumbnails --preset reader --grant 'photos/2026/*:read,list'"
    )
    page.get_by_role("button", name="Create", exact=True).click()
    expect(page.get_by_role("heading", name="Its secret, shown this once")).to_be_visible()
    assert "?" not in page.url
    with page.expect_download() as downloading:
        page.get_by_role("button", name="Download the profile").click()
    saved = tmp_path / "profile.toml"
    downloading.value.save_as(saved)
    saved.chmod(0o600)
    profile = Profile.load(saved)
    assert tomllib.loads(saved.read_text())["secret"] not in page.url
    assert console.ask(lambda store: store.bucket("photos").get("2026/a"), profile) == b"1"
    page.reload()
    expect(page.get_by_role("heading", name="The secret was shown already")).to_be_visible()
    assert profile.secret not in page.content()


def test_a_form_follows_its_presets_and_rows(console: ConsoleStore, page: Page) -> None:
    console.sign_in(page, path="/keys/new")
    told = page.get_by_role("complementary", name="What it comes to")
    expect(told).to_contain_text("can read and list every bucket")
    page.get_by_role("button", name="upload-only").click()
    expect(told).to_contain_text("can write every bucket")
    expect(page.get_by_role("checkbox", name="Read objects")).not_to_be_checked()
    page.get_by_role("checkbox", name="Read objects").check()
    expect(told).to_contain_text("can read and write every bucket")
    page.get_by_role("radio", name="Only these").check()
    page.get_by_role("group", name="Grant 1").get_by_role("combobox", name="Bucket").fill("a-*")
    page.get_by_role("button", name="Add a bucket or folder").click()
    page.get_by_role("group", name="Grant 2").get_by_role("combobox", name="Bucket").fill("b-*")
    expect(told).to_contain_text("can read and write buckets named b-*")
    page.get_by_role("button", name="Remove grant 1").click()
    expect(page.get_by_role("group", name="Grant 1").get_by_role("combobox", name="Bucket")).to_have_value(
        "b-*"
    )
    expect(told).not_to_contain_text("a-*")


def test_a_form_works_without_scripts(console: ConsoleStore, browser: Browser) -> None:
    with watched_context(browser, java_script_enabled=False) as plain:
        page = plain.context.new_page()
        console.sign_in(page, path="/keys/new")
        page.get_by_label("Name", exact=True).fill("plain form")
        page.get_by_role("radio", name="Only these").check()
        page.get_by_role("button", name="Add a bucket or folder").click()
        page.get_by_role("group", name="Grant 1").get_by_role("combobox", name="Bucket").fill("plain-*")
        page.get_by_role("button", name="Create", exact=True).click()
        expect(page.get_by_role("heading", name="Its secret, shown this once")).to_be_visible()
    key = key_named(console, "plain form")
    assert [(grant.bucket, grant.permissions) for grant in key.grants or ()] == [
        ("plain-*", ["read", "list"])
    ]


def test_a_key_is_edited_disabled_enabled_rotated_and_deleted(console: ConsoleStore, page: Page) -> None:
    before = console.make_key("to change", preset="writer")
    console.sign_in(page, path="/keys")
    page.get_by_role("link", name="to change").click()
    page.get_by_label("Name", exact=True).fill("<b>changed</b>")
    page.get_by_role("checkbox", name="Delete objects").uncheck()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Key <b>changed</b> changed")).to_be_visible()
    assert "delete" not in key_named(console, "<b>changed</b>").permissions
    row = page.get_by_role("row", name="<b>changed</b>")
    row.get_by_role("link", name="Disable").click()
    page.get_by_role("dialog").get_by_role("button", name="Disable <b>changed</b>").click()
    expect(row).to_contain_text("disabled")
    row.get_by_role("button", name="Enable").click()
    expect(row).to_contain_text("enabled")
    row.get_by_role("link", name="Rotate").click()
    page.get_by_role("dialog").get_by_label("The present secret").select_option("ends at once")
    page.get_by_role("dialog").get_by_role("button", name="Rotate <b>changed</b>").click()
    secret = page.get_by_role("button", name="Copy the secret").get_attribute("data-copies")
    assert secret is not None
    assert secret != before.secret
    page.get_by_role("link", name="I have it").click()
    row.get_by_role("link", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete <b>changed</b>").click()
    expect(page.get_by_role("link", name="<b>changed</b>")).to_have_count(0)


def test_a_key_is_imported_with_the_secret_that_people_have(console: ConsoleStore, page: Page) -> None:
    console.sign_in(page, path="/keys/import")
    page.get_by_label("Key id").fill("OLD-PROGRAM.1")
    page.get_by_label("Secret").fill("Zk3vQ9xW7rT2mB8nLp")
    page.get_by_label("Name", exact=True).fill("old program")
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.get_by_text("Key old program imported")).to_be_visible()
    old = Profile(console.root.master, console.root.server_key, "OLD-PROGRAM.1", "Zk3vQ9xW7rT2mB8nLp")
    assert console.ask(lambda store: store.key(), old).name == "old program"


def test_nobody_loses_their_own_key_unawares(console: ConsoleStore, page: Page) -> None:
    own = console.make_key("my own", preset="admin")
    console.sign_in(page, own, f"/keys/id/{own.key_id}")
    page.get_by_role("checkbox", name="Manage API keys and accounts").uncheck()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("You are signed in with this key")
    assert "manage_keys" in key_named(console, "my own").permissions
    page.goto(console.url + "/keys")
    page.get_by_role("row", name="my own").get_by_role("link", name="Disable").click()
    expect(page.get_by_role("dialog")).to_contain_text("You will be signed out")
    page.get_by_role("dialog").get_by_role("button", name="Disable my own").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()


def test_whoever_rotates_their_own_key_sees_its_secret(console: ConsoleStore, page: Page) -> None:
    own = console.make_key("rotates itself", preset="admin")
    console.sign_in(page, own, "/keys")
    page.get_by_role("row", name="rotates itself").get_by_role("link", name="Rotate", exact=True).click()
    page.get_by_role("dialog").get_by_label("The present secret").select_option("ends at once")
    page.get_by_role("dialog").get_by_role("button", name="Rotate rotates itself").click()
    expect(page.get_by_role("button", name="Copy the secret")).to_be_visible()
    page.get_by_role("link", name="I have it").click()
    expect(page.get_by_role("heading", name="Keys", exact=True)).to_be_visible()


def test_two_browsers_see_each_others_keys(console: ConsoleStore, page: Page) -> None:
    console.sign_in(page, path="/keys")
    expect(page.get_by_role("link", name="root", exact=True)).to_be_visible()
    console.make_key("from elsewhere", preset="reader")
    expect(page.get_by_role("link", name="from elsewhere")).to_be_visible()


def test_the_navigation_follows_what_the_own_key_may(console: ConsoleStore, page: Page) -> None:
    profile = console.make_key("grows", preset="reader")
    console.sign_in(page, profile, "/buckets")
    expect(page.get_by_role("link", name="Buckets")).to_be_visible()
    expect(page.get_by_role("link", name="Disks")).to_have_count(0)
    console.ask(lambda store: store.edit_key(profile.key_id, preset="read-only"))
    expect(page.get_by_role("link", name="Disks")).to_be_visible()


def test_nobody_is_offered_what_they_cannot_give(console: ConsoleStore, page: Page) -> None:
    console.put("team-a", {})
    lead = console.make_key(
        "team lead", permissions=["read", "list", "manage_keys"], grants=["team-a:read,list"]
    )
    console.sign_in(page, lead, "/keys/new")
    expect(page.get_by_role("checkbox", name="Read objects")).to_be_visible()
    for name in ("Delete objects", "Manage disks"):
        expect(page.get_by_role("checkbox", name=name)).to_have_count(0)
    expect(page.get_by_role("radio", name="Every bucket")).to_have_count(0)
    page.get_by_label("Name", exact=True).fill("beyond")
    page.get_by_role("group", name="Grant 1").get_by_role("combobox", name="Bucket").fill("team-*")
    page.get_by_role("button", name="Create", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("grant_exceeds")
    expect(page.get_by_label("Name", exact=True)).to_have_value("beyond")
    page.goto(console.url + "/keys")
    expect(page.get_by_role("row", name="root")).to_contain_text("beyond yours")


@pytest.mark.parametrize(
    "wish", [{"preset": "reader"}, {"preset": "upload-only"}, {"grants": ["nowhere-*:read"]}]
)
def test_who_may_not_manage_keys_is_refused(
    console: ConsoleStore, page: Page, wish: dict[str, object]
) -> None:
    console.sign_in(page, console.make_key("not a manager", **wish), "/buckets")
    expect(page.get_by_role("link", name="Keys")).to_have_count(0)
    other = key_named(console, "root").key_id
    for path in ("/keys/new", "/keys/import", f"/keys/id/{other}", "/keys/preview", "/accounts", *(
        f"/keys/id/{other}/{action}" for action in ("rotate", "disable", "enable", "delete")
    )):  # fmt: skip
        assert page.evaluate(POST, [path, {"name": "forced"}]) == 403, path
    for path in ("/keys", "/accounts", "/keys/new", f"/keys/id/{other}"):
        answer = page.goto(console.url + path)
        assert answer is not None
        assert answer.status == 403, path
        expect(page.get_by_role("alert")).to_contain_text("permission_denied")


def test_an_account_is_made_changed_and_deleted(console: ConsoleStore, page: Page) -> None:
    console.sign_in(page, path="/accounts")
    page.get_by_role("button", name="Create account").click()
    page.get_by_role("dialog").get_by_label("Name").fill("research")
    page.get_by_role("dialog").get_by_role("button", name="Create").click()
    page.get_by_role("link", name="research").click()
    expect(page.get_by_role("heading", name="0 keys")).to_be_visible()
    page.get_by_label("Name", exact=True).fill("<i>research</i>")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Account <i>research</i> changed")).to_be_visible()
    console.make_key("of research", preset="reader", account="<i>research</i>")
    expect(page.get_by_role("row", name="<i>research</i>").get_by_role("cell", name="1")).to_be_visible()
    key = key_named(console, "of research")
    console.ask(lambda store: store.delete_key(key.key_id))
    page.get_by_role("link", name="<i>research</i>").click()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete <i>research</i>").click()
    expect(page.get_by_text("Account <i>research</i> deleted")).to_be_visible()
